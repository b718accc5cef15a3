/* Linux's inotify over a whole tree: one watch for each directory. */
#ifndef CLOUDPLAN_WATCH_INOTIFY_H
#define CLOUDPLAN_WATCH_INOTIFY_H

#include "base/error.h"
#include "watch/watch_tree.h"

struct watch_inotify;

/* What the functions return when the system cannot tell of changes here (any more): look through the tree instead.  No error. */
#define WATCH_INOTIFY_NOT_HERE 2

/* Whether a file system (statfs(2), f_type) can be changed by others without inotify's knowing. */
bool watch_inotify_misses(unsigned long fs_type);

/* tree is borrowed.  0; WATCH_INOTIFY_NOT_HERE with a line in why[size]; or -1 and *err: STATUS_SYSTEM. */
int watch_inotify_create(struct watch_inotify **inotify, const struct watch_tree *tree, char *why, size_t size, struct error *err);
void watch_inotify_destroy(struct watch_inotify *inotify);
/* Readable when there is something to look at.  Another one after each watch_inotify_look(). */
int watch_inotify_fd(const struct watch_inotify *inotify);
/* Notes what was changed up to now, without waiting, and goes on with new directories.  Results as above. */
int watch_inotify_look(struct watch_inotify *inotify, struct watch_seen *seen, char *why, size_t size, struct error *err);

#endif
