/* The tree that --watch looks at, and snapshots of it. */
#ifndef CLOUDPLAN_WATCH_TREE_H
#define CLOUDPLAN_WATCH_TREE_H

#include "base/error.h"
#include "watch/watch_rules.h"

#include <stdbool.h>
#include <stddef.h>

/* What is copied, as it will be in the copy.  All borrowed. */
struct watch_tree {
    const char *root;           /* absolute, physical */
    const char *const *ignores; /* NULL-terminated, or NULL */
    /* As in struct rsync_places: physical directories, NULL-terminated; NULL: none.  Those outside of the root are in the tree
     * under their own names, and nothing in the root has such a name.  Of the root, those inside are all there is with `part`. */
    char *const *dirs;
    bool part;
};

/* Whether path, relative to the copy, is copied, or leads to what is. */
bool watch_wanted(const struct watch_tree *tree, const char *path, bool directory);
/* Where path really is.  False where that is too long for a path. */
bool watch_place(char buf[PATH_MAX], const struct watch_tree *tree, const char *path);
/* The next directory from outside, counted by *i from 0 on; NULL: there is no more. */
const char *watch_outside(const struct watch_tree *tree, size_t *i);

/* Told of a directory, relative to the copy, before it is read. */
typedef void watch_enter(void *arg, const char *path);

struct snapshot;

/* All files, links and directories; ignored things, and directories that cannot be read, are left out; links are not followed.
 * enter: NULL, or whom to tell.  NULL and *err: STATUS_SYSTEM. */
struct snapshot *snapshot_make(const struct watch_tree *tree, watch_enter *enter, void *arg,
                               struct error *err);
void snapshot_destroy(struct snapshot *snapshot);
/* Notes every path that is in one of the two only, or differs; of source files alone if asked. */
void snapshot_compare(const struct snapshot *old, const struct snapshot *new, bool sources_only,
                      struct watch_seen *seen);

#endif
