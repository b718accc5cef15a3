/* The copy: one native rsync per node, driven by GNU parallel, over the masters.
 */
#ifndef CLOUDPLAN_SYNC_H
#define CLOUDPLAN_SYNC_H

#include "base/error.h"
#include "copy/spec.h"
#include "link/master.h"
#include "nodes/node.h"

/* 0: every ready node that is not local holds the tree, the others have become NODE_FAILED with rsync's words, or with
 * the first difference.
 * -1 and *err: STATUS_TOOL (no rsync, no GNU parallel), STATUS_USAGE (a bad --rsyncdir), STATUS_SYSTEM,
 * STATUS_SYNC where no node is left, STATUS_SIGNAL+N. */
int sync_run(struct node_list *list, struct masters *masters, const struct sync_params *params,
             struct error *err);

/* Checks that the tools are there, before anything is started: STATUS_TOOL with the package to install. */
int sync_check_tools(struct error *err);

#endif
