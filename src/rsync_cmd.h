/* The rsync command for one node, as shell text: what is copied, what is left out, what is deleted there.
 *
 * One transfer whose root is the node's directory: the project's root, and any directory from
 * outside it under its own name.  With --rsyncdir everything of the root that is not named is hidden, so that what was
 * copied once and is no longer asked for is deleted there (rsync(1), FILTER RULES).
 */
#ifndef CLOUDPLAN_RSYNC_CMD_H
#define CLOUDPLAN_RSYNC_CMD_H

#include "error.h"
#include "node.h"
#include "sync.h"

struct rsync_rules; /* the same for all nodes */

/* Works out sources and filters.  NULL and *err: STATUS_USAGE for a --rsyncdir that is not a
 * directory, or whose name clashes with one inside the root; STATUS_SYSTEM. */
struct rsync_rules *rsync_rules_make(const struct sync_params *params, struct error *err);
void rsync_rules_destroy(struct rsync_rules *rules);

/* A command line for sh that execs rsync with its output in OUT and ERR.  NULL without memory. */
char *rsync_command(const struct rsync_rules *rules, const struct sync_params *params, const struct node *node,
                    const char *ssh_config, const char *out, const char *errors);

#endif
