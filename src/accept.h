/* Whether a node that has answered can be used at all: what it must have for anything to run on it.
 *
 * In this order: every interpreter asked for, the first in the right version; rsync, and a --cloud-chdir that is cloudplan's own; every module
 * asked for, in every interpreter.  This machine, ":", gets no copy and needs only the interpreters; its modules count where
 * there are several interpreters, as a single one is the engine's, which is checked by itself.
 */
#ifndef CLOUDPLAN_ACCEPT_H
#define CLOUDPLAN_ACCEPT_H

#include "probe.h"

/* The node has its facts; it becomes NODE_READY, or NODE_UNFIT with a reason that says what is missing and what can be
 * done about it. */
void accept_facts(struct node *node, const struct probe_params *params);

#endif
