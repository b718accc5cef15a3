/* Paths as text. */
#include "base/path.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *path_join(const char *dir, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

char *path_expand(const char *path)
{
    size_t len = *path == '~' ? strcspn(path, "/") : 0;
    const char *home = len == 1 ? getenv("HOME") : NULL;
    const struct passwd *user = NULL;
    if (len == 1 && !home) {
        user = getpwuid(geteuid());
    } else if (len > 1) {
        char *name = strndup(path + 1, len - 1);
        if (!name)
            return NULL;
        user = getpwnam(name);
        free(name);
    }
    home = user ? user->pw_dir : home;
    char *expanded;
    if (!home || !*home)
        return strdup(path);
    return asprintf(&expanded, "%s%s", home, path + len) < 0 ? NULL : expanded;
}

const char *path_below(const char *dir, const char *path)
{
    size_t len = strcmp(dir, "/") ? strlen(dir) : 0;
    if (strncmp(dir, path, len) || (path[len] && path[len] != '/'))
        return NULL;
    return path[len] ? path + len + 1 : path + len;
}
