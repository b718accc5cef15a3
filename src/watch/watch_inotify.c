/* inotify over a whole tree, as a bell: what has changed is found by looking (watch_tree.h).
 *
 * So it does not matter under which name a directory is watched, or whether it has moved: one that is looked at is watched, under one number
 * for each inode, and the system forgets those that are gone.  Events that were lost do not matter, either.
 *
 * IN_CLOSE_WRITE is not asked for: it comes, too, where nothing was written (a database that is opened and closed).
 */
#include "watch/watch_inotify.h"

#include <stdio.h>

#ifdef HAVE_SYS_INOTIFY_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/vfs.h>
#endif

#define EVENTS                                                                                               \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_ONLYDIR |              \
     IN_EXCL_UNLINK | IN_DELETE_SELF | IN_MOVE_SELF)

struct watch_inotify {
    const struct watch_tree *tree;
    int fd;
    int error; /* errno of the limit that was reached; 0: none */
};

static const char limit[] = "the limit of %s is reached (sysctl fs.inotify.%s)";

static void not_here(int error, char *why, size_t size)
{
    if (error == ENOSPC)
        snprintf(why, size, limit, "directories that can be watched", "max_user_watches");
    else if (error == EMFILE)
        snprintf(why, size, limit, "inotify instances", "max_user_instances");
    else
        snprintf(why, size, "inotify: %s", strerror(error));
}

bool watch_inotify_misses(unsigned long fs_type)
{
    /* NFS, SMB, CIFS, SMB2, 9P (WSL), FUSE (sshfs, virtiofs), Ceph, AFS (two of them), VirtualBox's shared folders, Coda */
    static const unsigned long types[] = {0x6969,     0x517b,     0xff534d42, 0xfe534d42,
                                          0x01021997, 0x65735546, 0x00c36400, 0x5346414f,
                                          0x6b414653, 0x786f4256, 0x73757245};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((fs_type & 0xffffffff) == types[i])
            return true;
    return false;
}

int watch_inotify_create(struct watch_inotify **inotify, const struct watch_tree *tree, char *why,
                         size_t size, struct error *err)
{
    *inotify = NULL;
#ifdef __linux__
    size_t i = 0;
    for (const char *dir = tree->root; dir; dir = watch_outside(tree, &i)) {
        struct statfs fs;
        if (!statfs(dir, &fs) && watch_inotify_misses((unsigned long)fs.f_type)) {
            snprintf(why, size,
                     "the project is on a file system that does not tell of changes made elsewhere");
            return 0;
        }
    }
#endif
    struct watch_inotify *in = calloc(1, sizeof *in);
    if (!in)
        return error_errno(err, "watching");
    in->tree = tree;
    in->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (in->fd >= 0) {
        *inotify = in;
        return 0;
    }
    not_here(errno, why, size);
    free(in);
    return 0;
}

void watch_inotify_destroy(struct watch_inotify *in)
{
    if (!in)
        return;
    int saved = errno;
    close(in->fd);
    free(in);
    errno = saved;
}

int watch_inotify_fd(const struct watch_inotify *in)
{
    return in->fd;
}

void watch_inotify_enter(void *inotify, const char *path)
{
    struct watch_inotify *in = inotify;
    char whole[PATH_MAX];
    if (in->error || !watch_place(whole, in->tree, path))
        return;
    if (inotify_add_watch(in->fd, whole, EVENTS | (*path ? IN_DONT_FOLLOW : 0)) < 0 &&
        (errno == ENOSPC || errno == ENOMEM))
        in->error = errno; /* else: gone again, or not to be read */
}

bool watch_inotify_works(const struct watch_inotify *in, char *why, size_t size)
{
    if (in->error)
        not_here(in->error, why, size);
    return !in->error;
}

bool watch_inotify_woken(struct watch_inotify *in)
{
    char buf[16384];
    int queued = 0;
    ssize_t n = 1;
    /* What comes while this is read is left for the next time: it may never end. */
    if (ioctl(in->fd, FIONREAD, &queued))
        return true;
    for (int left = queued; left > 0 && n > 0; left -= (int)n)
        n = read(in->fd, buf, sizeof buf);
    return queued > 0;
}

#else

bool watch_inotify_misses(unsigned long fs_type)
{
    (void)fs_type;
    return true;
}

int watch_inotify_create(struct watch_inotify **inotify, const struct watch_tree *tree, char *why,
                         size_t size, struct error *err)
{
    (void)tree;
    (void)err;
    *inotify = NULL;
    snprintf(why, size, "this system has no inotify");
    return 0;
}

void watch_inotify_destroy(struct watch_inotify *inotify)
{
    (void)inotify;
}

int watch_inotify_fd(const struct watch_inotify *inotify)
{
    (void)inotify;
    return -1;
}

void watch_inotify_enter(void *inotify, const char *path)
{
    (void)inotify;
    (void)path;
}

bool watch_inotify_works(const struct watch_inotify *inotify, char *why, size_t size)
{
    (void)inotify;
    (void)why;
    (void)size;
    return false;
}

bool watch_inotify_woken(struct watch_inotify *inotify)
{
    (void)inotify;
    return false;
}

#endif
