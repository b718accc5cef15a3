#include "fault.h"

#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct fault now;
static size_t countdown;
static bool failing;
static const char *happened;
static pid_t owner;

void fault_at(const struct fault *fault, size_t nth)
{
    countdown = nth;
    failing = false;
    owner = getpid();
    if (nth) {
        now = *fault;
        happened = NULL;
    }
}

const char *fault_happened(void)
{
    return happened;
}

static bool counts(const char *name)
{
    char word[40];
    snprintf(word, sizeof word, " %s ", name);
    return !now.calls || strstr(now.calls, word);
}

/* Whether this call is to fail, with errno set; FAULT_SHORT is for who can do less than asked. */
static bool strikes(const char *name, bool can_be_short)
{
    if ((!countdown && !failing) || !counts(name) || getpid() != owner ||
        (now.error == FAULT_SHORT && !can_be_short))
        return false;
    if (!failing && --countdown)
        return false;
    failing = now.from_then_on;
    if (!happened)
        happened = name;
    errno = now.error == FAULT_SHORT ? errno : now.error;
    return true;
}

static bool fails(const char *name)
{
    return strikes(name, false);
}

/* A call of the library's that fails returns `bad`. */
#define WRAP(type, name, bad, parameters, ...)                                                               \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters                                                                            \
    {                                                                                                        \
        return fails(#name) ? (bad) : __real_##name(__VA_ARGS__);                                            \
    }

WRAP(pid_t, fork, -1, (void))
WRAP(int, pipe2, -1, (int fds[2], int flags), fds, flags)
WRAP(int, dup2, -1, (int from, int to), from, to)
WRAP(int, fstat, -1, (int fd, struct stat *st), fd, st)
WRAP(int, stat, -1, (const char *path, struct stat *st), path, st)
WRAP(int, lstat, -1, (const char *path, struct stat *st), path, st)
WRAP(int, fstatat, -1, (int fd, const char *path, struct stat *st, int flags), fd, path, st, flags)
WRAP(DIR *, fdopendir, NULL, (int fd), fd)
WRAP(struct dirent *, readdir, NULL, (DIR * dir), dir)
WRAP(char *, realpath, NULL, (const char *path, char *resolved), path, resolved)
WRAP(int, mkdir, -1, (const char *path, mode_t mode), path, mode)
WRAP(int, mkdirat, -1, (int dir, const char *path, mode_t mode), dir, path, mode)
WRAP(int, unlink, -1, (const char *path), path)
WRAP(int, unlinkat, -1, (int fd, const char *path, int flags), fd, path, flags)
WRAP(int, rmdir, -1, (const char *path), path)
WRAP(int, rename, -1, (const char *from, const char *to), from, to)
WRAP(off_t, lseek, -1, (int fd, off_t offset, int whence), fd, offset, whence)
WRAP(int, access, -1, (const char *path, int mode), path, mode)
WRAP(int, poll, -1, (struct pollfd * fds, nfds_t count, int timeout), fds, count, timeout)
WRAP(int, socket, -1, (int domain, int type, int protocol), domain, type, protocol)
WRAP(int, connect, -1, (int fd, const struct sockaddr *address, socklen_t len), fd, address, len)
WRAP(ssize_t, getrandom, -1, (void *buf, size_t len, unsigned flags), buf, len, flags)
WRAP(FILE *, fopen, NULL, (const char *path, const char *mode), path, mode)
WRAP(struct passwd *, getpwuid, NULL, (uid_t uid), uid)
WRAP(int, inotify_init1, -1, (int flags), flags)
WRAP(int, inotify_add_watch, -1, (int fd, const char *path, uint32_t mask), fd, path, mask)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __real_close(int fd);
int __wrap_close(int fd);
ssize_t __real_read(int fd, void *buf, size_t len);
ssize_t __wrap_read(int fd, void *buf, size_t len);
ssize_t __real_write(int fd, const void *buf, size_t len);
ssize_t __wrap_write(int fd, const void *buf, size_t len);
size_t __real_fread(void *buf, size_t size, size_t count, FILE *file);
size_t __wrap_fread(void *buf, size_t size, size_t count, FILE *file);
ssize_t __real___getdelim(char **line, size_t *size, int delimiter, FILE *file);
ssize_t __wrap___getdelim(char **line, size_t *size, int delimiter, FILE *file);
ssize_t __real_getline(char **line, size_t *size, FILE *file);
ssize_t __wrap_getline(char **line, size_t *size, FILE *file);

int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return fails("open") ? -1 : __real_open(path, flags, mode);
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return fails("openat") ? -1 : __real_openat(dir, path, flags, mode);
}

int __wrap_fcntl(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    long value = va_arg(ap, long);
    va_end(ap);
    return fails("fcntl") ? -1 : __real_fcntl(fd, command, value);
}

/* The descriptor is gone all the same, as on Linux. */
int __wrap_close(int fd)
{
    int result = __real_close(fd);
    return fails("close") ? -1 : result;
}

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
    if (!strikes("read", true))
        return __real_read(fd, buf, len);
    return now.error == FAULT_SHORT ? __real_read(fd, buf, len > 0) : -1;
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
    if (!strikes("write", true))
        return __real_write(fd, buf, len);
    return now.error == FAULT_SHORT ? __real_write(fd, buf, len > 0) : -1;
}

/* ferror() tells of a failed read afterwards: one of a file that is not open for reading is such a read. */
static void spoil(FILE *file)
{
    int error = errno, fd = fileno(file), saved = dup(fd),
        other = __real_open("/dev/null", O_WRONLY | O_CLOEXEC);
    __real_close(fd);
    if (fcntl(other, F_DUPFD_CLOEXEC, fd) != fd)
        abort();
    __fpurge(file);
    (void)getc(file);
    __real_close(fd);
    if (fcntl(saved, F_DUPFD_CLOEXEC, fd) != fd)
        abort();
    __real_close(saved);
    __real_close(other);
    errno = error;
}

size_t __wrap_fread(void *buf, size_t size, size_t count, FILE *file)
{
    if (!strikes("fread", false))
        return __real_fread(buf, size, count, file);
    spoil(file);
    return 0;
}

ssize_t __wrap___getdelim(char **line, size_t *size, int delimiter, FILE *file)
{
    if (!strikes("getline", false))
        return __real___getdelim(line, size, delimiter, file);
    spoil(file);
    return -1;
}

ssize_t __wrap_getline(char **line, size_t *size, FILE *file)
{
    if (!strikes("getline", false))
        return __real_getline(line, size, file);
    spoil(file);
    return -1;
}

/* --- the loop --- */

/* "0 1 2 5": the open descriptors. */
static void open_descriptors(char *text, size_t size)
{
    size_t len = 0;
    text[0] = '\0';
    for (int fd = 0; fd < 256 && len + 8 < size; fd++)
        if (__real_fcntl(fd, F_GETFD, 0) >= 0)
            len += (size_t)snprintf(text + len, size - len, "%d ", fd);
}

/* How many files there are below a directory. */
static size_t found;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)type;
    (void)ftw;
    found++;
    return 0;
}

static size_t files(const char *dir)
{
    found = 0;
    if (dir && nftw(dir, count_file, 16, FTW_PHYS))
        found = SIZE_MAX;
    return found;
}

static bool is_allowed(int status, const int *allowed)
{
    while (*allowed && *allowed != status)
        allowed++;
    return *allowed != 0;
}

size_t fault_each(const struct fault *fault, fault_call *call, void *arg, const int *allowed, const char *dir,
                  size_t max)
{
    char before[1024], after[1024];
    struct error err = ERROR_INIT;
    if (call(arg, &err))
        fail_msg("without a fault it fails: %s", err.text);
    size_t there = files(dir), n;
    open_descriptors(before, sizeof before);
    for (n = 1;; n++) {
        if (n > max)
            fail_msg("no end after %zu calls, the last one was %s", max, happened);
        err = (struct error)ERROR_INIT;
        fault_at(fault, n);
        int result = call(arg, &err);
        fault_at(NULL, 0);
        if (!happened)
            break;
        if (result && (!err.status || !*err.text))
            fail_msg("%s, call %zu: it fails without a reason", happened, n);
        if (result && !is_allowed(err.status, allowed))
            fail_msg("%s, call %zu: status %d is not documented: %s", happened, n, err.status, err.text);
        if (!result && err.status)
            fail_msg("%s, call %zu: success, with an error: %s", happened, n, err.text);
        open_descriptors(after, sizeof after);
        if (strcmp(before, after))
            fail_msg("%s, call %zu: descriptors were %s and are %s", happened, n, before, after);
        if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
            fail_msg("%s, call %zu: a child is left", happened, n);
        if (files(dir) != there)
            fail_msg("%s, call %zu: %zu files were in %s, and are %zu", happened, n, there, dir, files(dir));
    }
    return n - 1;
}
