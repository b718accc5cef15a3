/* inotify over a whole tree.
 *
 * A directory is watched first and read then, so that nothing made in it in between is missed; what is found in a new
 * directory counts as changed.  A directory that is moved is forgotten with all below it and taken up anew where it
 * arrives: its descriptors would go on to report under the old path.  What is lost meanwhile does not matter, since the move
 * itself has been noted, and the sync comes after it.  After a queue overflow (also the removals of watches are
 * lost) everything is begun anew with a new descriptor.
 *
 * IN_CLOSE_WRITE is not asked for: it comes, too, where nothing was written (a database that is opened and closed).
 */
#include "watch/watch_inotify.h"

#include <stdio.h>

#ifdef HAVE_SYS_INOTIFY_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/vfs.h>
#endif

#define EVENTS                                                                                                     \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_ONLYDIR | IN_EXCL_UNLINK)
#define ROOT_EVENTS (IN_DELETE_SELF | IN_MOVE_SELF) /* noted by nobody: they end the wait, and the roots are looked at */

struct directory {
    int wd;
    char *path; /* relative to the copy */
};

struct watch_inotify {
    const struct watch_tree *tree;
    int fd;
    struct directory *dirs; /* sorted by wd */
    size_t count, room;
    int error;               /* errno of the limit that was reached */
    struct watch_seen *seen; /* where what is found in new directories goes; NULL: nowhere */
};

static const char limit[] = "the limit of %s is reached (sysctl fs.inotify.%s)";

static int not_here(int error, char *why, size_t size)
{
    if (error == ENOSPC)
        snprintf(why, size, limit, "directories that can be watched", "max_user_watches");
    else if (error == EMFILE)
        snprintf(why, size, limit, "inotify instances", "max_user_instances");
    else
        snprintf(why, size, "inotify: %s", strerror(error));
    return WATCH_INOTIFY_NOT_HERE;
}

bool watch_inotify_misses(unsigned long fs_type)
{
    /* NFS, SMB, CIFS, SMB2, 9P (WSL), FUSE (sshfs, virtiofs), Ceph, AFS (two of them), VirtualBox's shared folders, Coda */
    static const unsigned long types[] = {0x6969,     0x517b,     0xff534d42, 0xfe534d42, 0x01021997, 0x65735546,
                                          0x00c36400, 0x5346414f, 0x6b414653, 0x786f4256, 0x73757245};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((fs_type & 0xffffffff) == types[i])
            return true;
    return false;
}

/* Where wd is in dirs, or has to be put. */
static size_t place(const struct watch_inotify *in, int wd)
{
    size_t low = 0, high = in->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (in->dirs[middle].wd < wd)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct directory *find_watch(const struct watch_inotify *in, int wd)
{
    size_t at = place(in, wd);
    return at < in->count && in->dirs[at].wd == wd ? &in->dirs[at] : NULL;
}

/* WALK_SKIP where that is known already, and everything below it therefore, too. */
static int remember(struct watch_inotify *in, int wd, const char *path, struct error *err)
{
    struct directory *known = find_watch(in, wd);
    if (known && !strcmp(known->path, path))
        return WALK_SKIP;
    if (!known && in->count == in->room) {
        size_t room = in->room ? in->room * 2 : 64;
        struct directory *dirs = realloc(in->dirs, room * sizeof *dirs);
        if (!dirs)
            return error_errno(err, "watching");
        in->dirs = dirs;
        in->room = room;
    }
    char *copy = strdup(path);
    if (!copy)
        return error_errno(err, "watching");
    if (known) {
        free(known->path);
        known->path = copy;
        return 0;
    }
    size_t at = place(in, wd);
    memmove(&in->dirs[at + 1], &in->dirs[at], (in->count++ - at) * sizeof *in->dirs);
    in->dirs[at] = (struct directory){wd, copy};
    return 0;
}

/* The system has ended a watch. */
static void forget_watch(struct watch_inotify *in, struct directory *dir)
{
    free(dir->path);
    in->count--;
    memmove(dir, dir + 1, (size_t)(in->dirs + in->count - dir) * sizeof *dir);
}

/* Ends the watches of a directory and of all below it. */
static void forget_tree(struct watch_inotify *in, const char *path)
{
    size_t len = strlen(path), kept = 0;
    for (size_t i = 0; i < in->count; i++) {
        struct directory *dir = &in->dirs[i];
        if (strncmp(dir->path, path, len) || (dir->path[len] && dir->path[len] != '/')) {
            in->dirs[kept++] = *dir;
            continue;
        }
        inotify_rm_watch(in->fd, dir->wd);
        free(dir->path);
    }
    in->count = kept;
}

static int enter_directory(void *arg, const char *path, struct error *err)
{
    struct watch_inotify *in = arg;
    char whole[PATH_MAX];
    if (!watch_place(whole, in->tree, path))
        return WALK_SKIP;
    int wd = inotify_add_watch(in->fd, whole, EVENTS | ROOT_EVENTS | (*path ? IN_DONT_FOLLOW : 0));
    if (wd >= 0)
        return remember(in, wd, path, err);
    if (errno == ENOSPC || errno == ENOMEM) {
        in->error = errno;
        return WATCH_INOTIFY_NOT_HERE;
    }
    return WALK_SKIP; /* gone again, or not to be read */
}

static int found(void *arg, const struct walk_entry *entry, struct error *err)
{
    struct watch_inotify *in = arg;
    (void)err;
    if (in->seen)
        watch_note(in->seen, entry->path);
    return 0;
}

/* Watches a directory and all below it, where they are not watched already. */
static int add_tree(struct watch_inotify *in, const char *path, struct watch_seen *seen, struct error *err)
{
    static const struct walk_ops ops = {enter_directory, found};
    in->seen = seen;
    return watch_walk(in->tree, path, &ops, in, err);
}

static void clear_watches(struct watch_inotify *in)
{
    if (in->fd >= 0)
        close(in->fd);
    in->fd = -1;
    for (size_t i = 0; i < in->count; i++)
        free(in->dirs[i].path);
    in->count = 0;
}

/* Everything, from the beginning. */
static int start_inotify(struct watch_inotify *in, struct error *err)
{
    clear_watches(in);
    in->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (in->fd < 0) {
        in->error = errno;
        return WATCH_INOTIFY_NOT_HERE;
    }
    return add_tree(in, "", NULL, err);
}

int watch_inotify_create(struct watch_inotify **inotify, const struct watch_tree *tree, char *why, size_t size, struct error *err)
{
    *inotify = NULL;
#ifdef __linux__
    size_t i = 0;
    for (const char *dir = tree->root; dir; dir = watch_outside(tree, &i)) {
        struct statfs fs;
        if (!statfs(dir, &fs) && watch_inotify_misses((unsigned long)fs.f_type)) {
            snprintf(why, size, "the project is on a file system that does not tell of changes made elsewhere");
            return WATCH_INOTIFY_NOT_HERE;
        }
    }
#endif
    struct watch_inotify *in = calloc(1, sizeof *in);
    if (!in)
        return error_errno(err, "watching");
    in->tree = tree;
    in->fd = -1;
    int result = start_inotify(in, err);
    if (result == 0) {
        *inotify = in;
        return 0;
    }
    int error = in->error;
    watch_inotify_destroy(in);
    return result == WATCH_INOTIFY_NOT_HERE ? not_here(error, why, size) : result;
}

void watch_inotify_destroy(struct watch_inotify *in)
{
    if (!in)
        return;
    int saved = errno;
    clear_watches(in);
    free(in->dirs);
    free(in);
    errno = saved;
}

int watch_inotify_fd(const struct watch_inotify *in)
{
    return in->fd;
}

/* A socket, a pipe or a device, which the sync does not copy. */
static bool is_special(const struct watch_inotify *in, const char *path)
{
    char whole[PATH_MAX];
    struct stat st;
    return watch_place(whole, in->tree, path) && !lstat(whole, &st) && !S_ISREG(st.st_mode) &&
           !S_ISLNK(st.st_mode) && !S_ISDIR(st.st_mode);
}

static int directory_event(struct watch_inotify *in, const char *path, uint32_t mask, struct watch_seen *seen,
                           struct error *err)
{
    if (mask & IN_ATTRIB)
        /* It may have become readable; in itself that is nothing to copy. */
        return add_tree(in, path, seen, err);
    watch_note(seen, path);
    if (mask & IN_MOVED_FROM)
        forget_tree(in, path);
    return mask & (IN_CREATE | IN_MOVED_TO) ? add_tree(in, path, seen, err) : 0;
}

static int handle(struct watch_inotify *in, const struct inotify_event *event, struct watch_seen *seen, struct error *err)
{
    char path[PATH_MAX];
    struct directory *dir = find_watch(in, event->wd);
    bool is_dir = event->mask & IN_ISDIR;
    if (dir && event->mask & IN_IGNORED)
        forget_watch(in, dir);
    else if (dir && event->len > 0 && watch_join(path, dir->path, event->name) &&
             watch_wanted(in->tree, path, is_dir)) {
        if (is_dir)
            return directory_event(in, path, event->mask, seen, err);
        if (!is_special(in, path))
            watch_note(seen, path);
    }
    return 0;
}

/* *queued: the bytes that were there at the beginning; what comes while they are read is left for the next time. */
static int read_events(struct watch_inotify *in, int *queued, struct watch_seen *seen, struct error *err)
{
    char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(in->fd, buf, sizeof buf);
    if (n <= 0) {
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return error_errno(err, "inotify");
        *queued = errno == EINTR && n < 0 ? *queued : 0;
        return 0;
    }
    *queued -= (int)n;
    for (const char *p = buf; p < buf + n;) {
        const struct inotify_event *event = (const void *)p;
        p += sizeof *event + event->len;
        if (event->mask & IN_Q_OVERFLOW) {
            watch_note(seen, ".");
            *queued = 0;
            return start_inotify(in, err);
        }
        int result = handle(in, event, seen, err);
        if (result)
            return result;
    }
    return 0;
}

int watch_inotify_look(struct watch_inotify *in, struct watch_seen *seen, char *why, size_t size, struct error *err)
{
    int queued = 0, result = 0;
    if (ioctl(in->fd, FIONREAD, &queued))
        return error_errno(err, "inotify");
    while (result == 0 && queued > 0)
        result = read_events(in, &queued, seen, err);
    return result == WATCH_INOTIFY_NOT_HERE ? not_here(in->error, why, size) : result;
}

#else

bool watch_inotify_misses(unsigned long fs_type)
{
    (void)fs_type;
    return true;
}

int watch_inotify_create(struct watch_inotify **inotify, const struct watch_tree *tree, char *why, size_t size, struct error *err)
{
    (void)tree;
    (void)err;
    *inotify = NULL;
    snprintf(why, size, "this system has no inotify");
    return WATCH_INOTIFY_NOT_HERE;
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

int watch_inotify_look(struct watch_inotify *inotify, struct watch_seen *seen, char *why, size_t size, struct error *err)
{
    (void)inotify;
    (void)seen;
    (void)err;
    snprintf(why, size, "this system has no inotify");
    return WATCH_INOTIFY_NOT_HERE;
}

#endif
