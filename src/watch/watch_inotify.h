/* Linux's inotify over a whole tree: one watch for each directory.  It says that something may have changed, not what. */
#ifndef CLOUDPLAN_WATCH_INOTIFY_H
#define CLOUDPLAN_WATCH_INOTIFY_H

#include "base/error.h"
#include "watch/watch_tree.h"

struct watch_inotify;

/* Whether a file system (statfs(2), f_type) can be changed by others without inotify's knowing. */
bool watch_inotify_misses(unsigned long fs_type);

/* tree is borrowed.  *inotify: NULL with a line in why[size] where the system cannot tell of changes here: look through the tree now and
 * then instead.  0, or -1 and *err: STATUS_SYSTEM without memory. */
int watch_inotify_create(struct watch_inotify **inotify, const struct watch_tree *tree, char *why,
                         size_t size, struct error *err);
void watch_inotify_destroy(struct watch_inotify *inotify);
/* Watches a directory, relative to the copy, if it is not watched already: a watch_enter for snapshot_make(). */
void watch_inotify_enter(void *inotify, const char *path);
/* False with a line in why[size] where a limit has been reached: not all directories are watched. */
bool watch_inotify_works(const struct watch_inotify *inotify, char *why, size_t size);
/* Readable when something may have changed. */
int watch_inotify_fd(const struct watch_inotify *inotify);
/* Whether something may have changed since it was asked the last time; never waits. */
bool watch_inotify_woken(struct watch_inotify *inotify);

#endif
