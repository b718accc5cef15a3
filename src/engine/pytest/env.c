/* The plugin's files and its environment.  The directory comes first in PYTHONPATH, so that the files that
 * belong to this binary win over those of another version that is installed. */
#include "engine/pytest/env.h"

#include "base/embedded.h"
#include "base/path.h"
#include "base/rundir.h"
#include "base/strv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PACKAGE_DIR "pytest_cloudplan/"

static int make_directory(const char *dir, struct error *err)
{
    return mkdir(dir, 0700) && errno != EEXIST ? error_errno(err, dir) : 0;
}

int plugin_write(const char *rundir, struct error *err)
{
    char *dir = path_join(rundir, "plugin"), *package = dir ? path_join(dir, PACKAGE_DIR) : NULL;
    int result = !package                                                   ? error_errno(err, rundir)
                 : make_directory(dir, err) || make_directory(package, err) ? -1
                                                                            : 0;
    for (const struct embedded_file *file = embedded_files; result == 0 && file->name; file++)
        if (!strncmp(file->name, PACKAGE_DIR, strlen(PACKAGE_DIR)))
            result = rundir_write(dir, file->name, file->text, file->len, err);
    free(package);
    free(dir);
    return result;
}

/* Adds "NAME=FIRST[SEP SECOND]"; an empty part counts as none. */
static int add_variable(char ***env, const char *name, const char *first, char separator, const char *second,
                        struct error *err)
{
    char *text = NULL;
    int len = !*first    ? asprintf(&text, "%s=%s", name, second)
              : !*second ? asprintf(&text, "%s=%s", name, first)
                         : asprintf(&text, "%s=%s%c%s", name, first, separator, second);
    if (len < 0)
        return error_errno(err, "environment");
    int result = strings_add(env, text, err);
    free(text);
    return result;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

char **plugin_environment(const char *rundir, const char *run_id, const char *plugins,
                          const char *const *more, struct error *err)
{
    char **env = calloc(1, sizeof *env);
    char *dir = path_join(rundir, "plugin");
    int result = -1;
    if (!env || !dir) {
        error_errno(err, "environment");
        goto out;
    }
    if (add_variable(&env, "PYTHONPATH", dir, ':', environment("PYTHONPATH"), err) ||
        add_variable(&env, "PYTEST_PLUGINS", environment("PYTEST_PLUGINS"), ',', plugins, err) ||
        add_variable(&env, "CLOUDPLAN_CONTROLLER", run_id, ' ', "", err) ||
        strings_add(&env, "_CLOUDPLAN_ENGINE=1", err))
        goto out;
    for (size_t i = 0; more && more[i]; i++)
        if (strings_add(&env, more[i], err))
            goto out;
    result = 0;
out:
    free(dir);
    if (result) {
        strings_free(env);
        env = NULL;
    }
    return env;
}

char *plugin_env_items(const char *const *items, size_t typed, struct error *err)
{
    char *text = NULL;
    size_t len, count = strings_count((char *const *)items);
    FILE *out = open_memstream(&text, &len);
    if (out) {
        fputs("_CLOUDPLAN_ENV=", out);
        for (size_t i = 0; i < count; i++) {
            const char *item = items[(typed + i) % count];
            fprintf(out, "%zu:%s", strlen(item), item);
        }
    }
    if (out && fclose(out) == 0)
        return text;
    free(text);
    error_errno(err, "environment");
    return NULL;
}
