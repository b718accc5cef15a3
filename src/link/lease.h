/* A run's leases: the part of each node that it has been given, held there by its guard (scripts/node/lease.sh), so that
 * two runs never overcommit a node.
 */
#ifndef CLOUDPLAN_LEASE_H
#define CLOUDPLAN_LEASE_H

#include "link/master.h"
#include "nodes/node.h"
#include "plan/plan.h"

struct lease_outcome {
    size_t without;           /* nodes where no lease is possible: they are used all the same */
    char name[NODE_NAME_MAX]; /* the first of them */
    char why[ERROR_TEXT_MAX]; /* clean */
};

#define LEASE_OUTCOME_INIT                                                                                   \
    {                                                                                                        \
        0, "", ""                                                                                            \
    }

/* Takes leases of what was planned, on all ready nodes at once, where the guard has none yet.  A node of which others have taken a
 * part since it was asked for facts is planned again; where nothing is left it becomes NODE_UNFIT with whose it is.
 * *outcome is added to.  0, or -1 and *err: STATUS_SYSTEM, STATUS_SIGNAL+N; plan_judge() tells whether what is left is
 * enough. */
int lease_all(struct masters *masters, const struct policy *policy, struct lease_outcome *outcome,
              struct error *err);

#endif
