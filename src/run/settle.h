/* The beginning: the project, the nodes that are named, and what the engine makes of the options. */
#ifndef CLOUDPLAN_SETTLE_H
#define CLOUDPLAN_SETTLE_H

#include "run/state.h"

/* Finds the project and the nodes that were named, and has the engine begin to find out what its configuration says. */
int stage_begin(struct run *run, struct error *err);
/* Nodes that were named nowhere else come from the engine's answer; are the tools there that they take?  Nothing where
 * settled.here is known already. */
int stage_nodes(struct run *run, struct error *err);
/* Once, when all that can be known of the options is known: waits for the engine's answer. */
int stage_settle(struct run *run, struct error *err);

#endif
