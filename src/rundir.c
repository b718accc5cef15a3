/* The run's private directory.
 *
 * Its path ends up in a ControlPath, in an ssh_config and in an xspec, so a base directory counts only if
 * the sockets fit and if none of the three would read anything into it ("%", blanks, "//"); TMPDIR of a CI
 * job is often too long, and then the next base is taken rather than an error made.  Nor does one count in which anybody
 * could put a directory or a symbolic link of their own into the place of ours.  Removal goes by
 * descriptors and never through a link: what a link in here leads to is not ours.
 */
#include "rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Nothing in here makes directories deeper than a few levels. */
#define DEPTH_MAX 32

char *path_join(const char *dir, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* Length of base without slashes at its end, or 0 where it cannot be used. */
static size_t usable(const char *base)
{
    if (!base || *base != '/' || strstr(base, "//") ||
        base[strspn(base, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+@,:=-")])
        return 0;
    size_t len = strlen(base);
    if (base[len - 1] == '/')
        len--;
    return len <= BASE_MAX ? len : 0;
}

/* Whether others can rename what is in a directory, whosever it is. */
static bool others_may_rename(const char *base)
{
    struct stat st;
    return stat(base, &st) == 0 && (st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX);
}

char *rundir_create(struct error *err)
{
    const char *const bases[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    const char *why = "";
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        size_t len = usable(bases[i]);
        if (len == 0)
            continue;
        if (others_may_rename(bases[i])) {
            why = "others can change what is in it, which has no sticky bit";
            continue;
        }
        char *path;
        if (asprintf(&path, "%.*s" TEMPLATE, (int)len, bases[i]) < 0) {
            errno = ENOMEM;
            error_errno(err, "private directory");
            return NULL;
        }
        if (mkdtemp(path))
            return path;
        why = strerror(errno);
        free(path);
    }
    error_set(
        err, STATUS_SYSTEM,
        "no private directory can be made in XDG_RUNTIME_DIR, TMPDIR or /tmp: %s; set TMPDIR to a writable "
        "directory whose path has at most %zu plain characters",
        why, BASE_MAX);
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
    if (fd >= 0)
        close(fd);
    if (made && result < 0) /* half a file is none */
        unlink(path);
    free(path);
    return result;
}

char *rundir_tail(const char *path, size_t max, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    if (fd < 0)
        return NULL;
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > (off_t)max ? size - (off_t)max : 0;
    if (size >= 0 && lseek(fd, from, SEEK_SET) >= 0 && (text = malloc(max + 1))) {
        *len = 0;
        ssize_t n = 0;
        while (*len < max && ((n = read(fd, text + *len, max - *len)) > 0 || (n < 0 && errno == EINTR)))
            *len += n > 0 ? (size_t)n : 0;
        text[*len] = '\0';
        if (n < 0) { /* a part would be taken for the whole */
            int failed = errno;
            free(text);
            text = NULL;
            errno = failed;
        }
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return text;
}
