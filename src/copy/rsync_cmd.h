/* The rsync command for one node, as shell text: what is copied, what is left out, what is deleted there.
 *
 * One transfer whose root is the node's directory: the project's root, and any directory from
 * outside it under its own name.  With --rsyncdir everything of the root that is not named is hidden, so that what was
 * copied once and is no longer asked for is deleted there (rsync(1), FILTER RULES).
 */
#ifndef CLOUDPLAN_RSYNC_CMD_H
#define CLOUDPLAN_RSYNC_CMD_H

#include "base/error.h"
#include "copy/spec.h"
#include "nodes/node.h"

/* What is never copied, wherever it is in the project: rsync's patterns, NULL-terminated. */
extern const char *const rsync_left_out[];

/* Where the copy comes from: the whole root, or only what of dirs lies in it; besides, each of dirs that lies outside, under
 * its own name. */
struct rsync_places {
    bool whole;
    char **dirs; /* physical, NULL-terminated, owned */
};

/* -1 and *err: STATUS_USAGE for a --rsyncdir that is not a directory; STATUS_SYSTEM.  rsync_places_clear() is needed in
 * both cases. */
int rsync_places_find(struct rsync_places *places, const struct sync_params *params, struct error *err);
void rsync_places_clear(struct rsync_places *places);
/* The place of one of dirs in the copy, relative to it; "" for the root itself. */
const char *rsync_place(const char *root, const char *dir);

/* Whether a path relative to the copy lies below one of rsync_left_out[], or is one. */
bool rsync_is_left_out(const char *path);
/* Adds the links in a virtualenv's bin that lead out of it, as that to the interpreter: name, target, ...  With copy_links they are left out,
 * to be made on the node.  0, or -1 and *err: STATUS_SYSTEM. */
int rsync_programs(const char *venv, char ***programs, struct error *err);

struct rsync_rules; /* the same for all nodes */

/* Works out sources and filters.  NULL and *err: STATUS_USAGE for a --rsyncdir that is not a
 * directory, or whose name clashes with one inside the root; STATUS_SYSTEM. */
struct rsync_rules *rsync_rules_make(const struct sync_params *params, struct error *err);
void rsync_rules_destroy(struct rsync_rules *rules);

enum rsync_mode {
    RSYNC_COPY, /* OUT gets progress records */
    RSYNC_ADOPT, /* changes nothing: OUT gets "deleting NAME" for all that a copy would delete, and nothing else */
    RSYNC_VERIFY /* changes nothing: OUT gets a line for each thing that would have to change */
};

/* In a copy: what has come of a file when the connection broke.  The next try begins with it, and removes it with all else that is not
 * here: at its end, for which --delete-delay stands.  Only where the copy's path is absolute. */
#define RSYNC_PARTIAL ".cloudplan-partial"

/* No output of an rsync gets larger than this (bytes): a node has a say in what it prints, and the disk is not the node's. */
#define RSYNC_OUTPUT_MAX (4 * 1024 * 1024)

/* A command line for sh that execs rsync with its output in OUT and ERR.  NULL without memory. */
char *rsync_command(const struct rsync_rules *rules, const struct sync_params *params, enum rsync_mode mode,
                    const struct node *node, const char *ssh_config, const char *out, const char *errors);

/* A command line for sh that tells, with rsync's statistics on stdout, what a copy would hold; it changes nothing.  NULL
 * without memory. */
char *rsync_count_command(const struct rsync_rules *rules, const struct sync_params *params);

#endif
