/* Capacity on the nodes: planned, leased, waited for. */
#ifndef CLOUDPLAN_ROOM_H
#define CLOUDPLAN_ROOM_H

#include "run/state.h"

/* How many processes; for the command probe only whether there is a usable node.  With --cloud-wait it asks again until there is
 * room. */
int stage_plan(struct run *run, struct error *err);
/* Opens the connections, and leases what was planned; where that is gone it is as in stage_plan(). */
int stage_open(struct run *run, struct error *err);
/* Leaves out nodes whose disk has no room for a first copy: before anything is made there. */
int stage_disks(struct run *run, struct error *err);
/* Leases where there are none yet. */
int stage_lease(struct run *run, struct error *err);

#endif
