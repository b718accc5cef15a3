/* Whether a node's disk has room for the copy, before the copying begins.
 *
 * Only where there is no copy yet: what an existing one needs more is for rsync to find out, whose words are shown.
 * What the copy takes is counted by rsync itself, with the very filters of the sync; what is counted is the bytes in files,
 * the least that it can be.
 */
#ifndef CLOUDPLAN_DISK_ROOM_H
#define CLOUDPLAN_DISK_ROOM_H

#include "base/error.h"
#include "copy/spec.h"
#include "nodes/node.h"

/* Ready nodes without a copy and with less free than it takes become NODE_FAILED.  Nothing is started where no node lacks a
 * copy.  0, or -1 and *err: STATUS_SYNC where no node is left, STATUS_USAGE (a bad --rsyncdir), STATUS_SYSTEM,
 * STATUS_SIGNAL+N. */
int disk_room_check(struct node_list *list, const struct sync_params *params, struct error *err);

#endif
