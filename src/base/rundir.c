/* The run's private directory.
 *
 * Its path ends up in a ControlPath, in an ssh_config and in an xspec, so a base directory counts only if
 * the sockets fit and if none of the three would read anything into it ("%", blanks, "//"); TMPDIR of a CI
 * job is often too long, and then the next base is taken rather than an error made.  Nor does one count in which anybody
 * could put a directory or a symbolic link of their own into the place of ours, or into that of a directory above
 * (private_dir.h).  A link in a base's path is resolved: where it leads to counts, and is what is used.  Removal goes by
 * descriptors and never through a link: what a link in here leads to is not ours.
 */
#include "base/rundir.h"

#include "base/file.h"
#include "base/path.h"
#include "base/private_dir.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TEMPLATE "/cloudplan.XXXXXX"
#define SOCKET_NAME_MAX 40    /* OpenSSH's %C */
#define SOCKET_BIND_SUFFIX 17 /* "." and 16 characters while OpenSSH binds it */
/* sun_path without its NUL must hold BASE TEMPLATE "/" NAME SUFFIX. */
#define BASE_MAX                                                                                             \
    (sizeof((struct sockaddr_un *)0)->sun_path - 1 - (sizeof TEMPLATE - 1) - 1 - SOCKET_NAME_MAX -           \
     SOCKET_BIND_SUFFIX)

#define TRIES 100 /* names that somebody else has already */

/* Nothing in here makes directories deeper than a few levels. */
#define DEPTH_MAX 32

/* What keeps base, a physical path, from being used; NULL: nothing yet. */
static const char *unusable(const char *base)
{
    if (!strcmp(base, "/"))
        return "is the root directory";
    if (base[strspn(base, TEXT_ALNUM "._/+@,:=-")])
        return "its path has special characters";
    return strlen(base) > BASE_MAX ? "its path is too long" : NULL;
}

/* A new directory in the one behind fd; its name goes into the end of path, which is TEMPLATE. */
static int make_in(int fd, char *path)
{
    static const char letters[] = TEXT_ALNUM;
    char *name = strrchr(path, '/') + 1, *random = strrchr(path, '.') + 1;
    for (int i = 0; i < TRIES; i++) {
        unsigned char bytes[6];
        if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
            return -1;
        for (size_t k = 0; k < sizeof bytes; k++)
            random[k] = letters[bytes[k] % (sizeof letters - 1)];
        if (mkdirat(fd, name, 0700) == 0)
            return 0;
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

/* The directory in one base: its path, owned by the caller; NULL and what is wrong with that base, or without memory "". */
static char *create_in(const char *base, char fault[PRIVATE_DIR_FAULT_MAX])
{
    char *path = NULL, *real = NULL;
    int fd = -1;
    *fault = '\0';
    if (*base != '/') {
        snprintf(fault, PRIVATE_DIR_FAULT_MAX, "is not an absolute path");
        return NULL;
    }
    real = realpath(base, NULL);
    const char *why = real ? unusable(real) : errno == ENOMEM ? "" : strerror(errno);
    if (why) {
        snprintf(fault, PRIVATE_DIR_FAULT_MAX, "%s", why);
        goto out;
    }
    if ((fd = private_dir_open(real, fault)) < 0 || asprintf(&path, "%s" TEMPLATE, real) < 0) {
        path = NULL;
        goto out;
    }
    if (make_in(fd, path)) {
        snprintf(fault, PRIVATE_DIR_FAULT_MAX, "%s", strerror(errno));
        free(path);
        path = NULL;
    }
out:
    if (fd >= 0)
        close(fd);
    free(real);
    return path;
}

char *rundir_create(struct error *err)
{
    const struct passwd *user = getpwuid(geteuid());
    char cache[BASE_MAX + 64], faults[ERROR_TEXT_MAX] = "", fault[PRIVATE_DIR_FAULT_MAX];
    snprintf(cache, sizeof cache, "%.80s/.cache", user ? user->pw_dir : "");
    const struct {
        const char *name, *path;
    } bases[] = {{"XDG_RUNTIME_DIR", getenv("XDG_RUNTIME_DIR")},
                 {"TMPDIR", getenv("TMPDIR")},
                 {"/tmp", "/tmp"},
                 {"/var/tmp", "/var/tmp"},
                 {"~/.cache", user ? cache : NULL}};
    size_t len = 0;
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        if (!bases[i].path || !*bases[i].path)
            continue;
        char *path = create_in(bases[i].path, fault);
        if (path)
            return path;
        if (!*fault) {
            errno = ENOMEM;
            error_errno(err, "private directory");
            return NULL;
        }
        /* Each has its share of the line. */
        len += (size_t)snprintf(faults + len, sizeof faults - len, "%s%s: %.62s", len ? "; " : "",
                                bases[i].name, fault);
    }
    error_set(err, STATUS_SYSTEM,
              "no private directory can be made: set TMPDIR to a directory of your own, with a path of at "
              "most %zu plain "
              "characters (%s)",
              BASE_MAX, faults);
    return NULL;
}

/* Empties the directory behind fd, and closes it. */
static void empty_directory(int fd, unsigned depth)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (unlinkat(fd, name, 0) == 0 || depth == 0)
            continue;
        int sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub < 0)
            continue;
        empty_directory(sub, depth - 1);
        unlinkat(fd, name, AT_REMOVEDIR);
    }
    closedir(dir);
}

void rundir_remove(const char *path)
{
    int saved = errno;
    int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd >= 0) {
        empty_directory(fd, DEPTH_MAX);
        rmdir(path);
    }
    errno = saved;
}

int rundir_write(const char *dir, const char *name, const char *text, size_t len, struct error *err)
{
    int result = -1;
    int fd = -1;
    bool made = false;
    char *path = path_join(dir, name);
    if (!path) {
        errno = ENOMEM;
        return error_errno(err, name);
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    made = fd >= 0;
    if (!made)
        goto out;
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            goto out;
        text += n;
        len -= (size_t)n;
    }
    /* a file system may tell of a full disk only here */
    result = close(fd);
    fd = -1;
out:
    if (result < 0)
        error_errno(err, path);
    struct stat st;
    bool device = made && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode);
    if (made)
        close(fd);
    if (made && result < 0 && !device) /* half a file is none */
        unlink(path);
    free(path);
    return result;
}

char *rundir_tail(const char *path, size_t max, size_t *len)
{
    int fd = file_open(path);
    char *text = NULL;
    if (fd < 0)
        return NULL;
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > (off_t)max ? size - (off_t)max : 0;
    if (size >= 0 && lseek(fd, from, SEEK_SET) >= 0 && (text = malloc(max + 1))) {
        int failure = file_read(fd, text, max, len);
        text[*len] = '\0';
        if (failure) { /* a part would be taken for the whole */
            int failed = errno;
            free(text);
            text = NULL;
            *len = 0;
            errno = failed;
        }
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return text;
}
