/* --cloud-adopt: whether a directory on a node that cloudplan did not make may be used for the copy, and so be marked.
 *
 * An old pytest-cloud, or a --tx of one's own, has left a copy there; or it is something else altogether, in which the sync would
 * delete what is not in the project.  rsync itself tells, with the very filters of the sync, what that would be.  It may be
 * caches (rsync_is_cache() in syncout.h) and directories that hold nothing else.  A file that the project has, too, would be
 * overwritten and not deleted: it speaks for a copy.
 */
#ifndef CLOUDPLAN_ADOPT_H
#define CLOUDPLAN_ADOPT_H

#include "base/error.h"
#include "copy/spec.h"
#include "nodes/node.h"

/* Ready nodes that are unmarked (masters_open()) and must not be used become NODE_UNFIT, with a reason that names what would be
 * deleted, or NODE_FAILED where that could not be found out.  The others are as they were: masters_adopt() has them marked.
 * Nothing is changed on any node.  0, or -1 and *err: STATUS_TOOL, STATUS_USAGE (a bad --rsyncdir), STATUS_SYSTEM,
 * STATUS_SIGNAL+N. */
int adopt_judge(struct node_list *list, const char *ssh_config, const struct sync_params *params,
                struct error *err);

#endif
