/* Symbolic links in what is copied that mean another thing in the copy, or nothing.
 *
 * What is not copied is not looked at, nor are node_modules and the programs of a virtualenv, whose links name the node's own interpreter;
 * neither are links that lead nowhere here, and those to /dev, /proc and /sys, which are the node's everywhere.  A link is not followed.
 */
#ifndef CLOUDPLAN_LINKS_H
#define CLOUDPLAN_LINKS_H

#include "base/error.h"
#include "watch/watch_tree.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define LINKS_SHOWN 3
#define LINKS_LOOKED_AT 200000 /* entries of directories: after so many nothing more is said */

struct links {
    size_t out;                        /* lead out of what is copied */
    char shown[LINKS_SHOWN * 200 + 1]; /* the first of them: "PATH -> TARGET, PATH -> TARGET" */
    bool absolute; /* some name a place of the copy by its path here, or that is not known */
    char endless
        [PATH_MAX]; /* relative to the copy: the first one of these that leads to a directory above itself; "" */
};

/* Whether an absolute path, as text, names something that is copied, so that it can be made to name the copy's. */
bool links_copied(const struct watch_tree *tree, const char *path);
/* 0, or -1 and *err: STATUS_SYSTEM. */
int links_find(const struct watch_tree *tree, struct links *links, struct error *err);

#endif
