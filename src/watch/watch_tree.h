/* The tree that --watch looks at: a walk through it, and snapshots of it. */
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

/* dir/name into buf; dir "" is the root itself.  False where that is too long for a path. */
bool watch_join(char buf[PATH_MAX], const char *dir, const char *name);

struct walk_entry {
    const char *path; /* relative to the copy */
    const char *name;
    int dirfd;      /* the directory that holds name */
    bool directory; /* no link to one */
};

/* Each returns 0 to go on; anything else ends the walk and is its result, but for WALK_SKIP. */
#define WALK_SKIP 1
struct walk_ops {
    int (*enter)(void *arg, const char *path, struct error *err);               /* before a directory is read; WALK_SKIP: do not */
    int (*entry)(void *arg, const struct walk_entry *entry, struct error *err); /* for what is in it, in no order */
};

/* Through the directory from ("": the root) and all below it; ignored things, and directories that cannot be
 * read, are left out; links are not followed.  One descriptor at a time, however deep the tree.  0, what an op returned, or -1 and
 * *err: STATUS_SYSTEM. */
int watch_walk(const struct watch_tree *tree, const char *from, const struct walk_ops *ops, void *arg, struct error *err);

struct snapshot;

/* All files, links and directories, or the source files alone.  NULL and *err: STATUS_SYSTEM. */
struct snapshot *snapshot_make(const struct watch_tree *tree, bool sources_only, struct error *err);
void snapshot_destroy(struct snapshot *snapshot);
/* Notes every path that is in one of the two only, or differs; of source files alone if asked. */
void snapshot_compare(const struct snapshot *old, const struct snapshot *new, bool sources_only, struct watch_seen *seen);

#endif
