/* The planner: pure arithmetic, facts and policy in, processes and the reason out.
 * No clock, no environment, no socket, no printing.
 *
 *   processes = min(cores,
 *                   floor((mem_available - reserve) / mem_per_process),
 *                   max_processes)
 *
 * Below 1 the node becomes NODE_UNFIT, with the reason.  Nodes with the same
 * (non-empty) boot_id are one machine and share its cores_online and its
 * mem_machine - reserve: processes are dealt to them in turn, one each, in list
 * order, while the machine has room, so that together they never get more than
 * it holds; where their answers about the machine differ, the least counts.  Two
 * nodes with the same boot_id and (non-empty) login_id are the very same login: the
 * later one becomes NODE_UNFIT and the reason names the first.
 * limited_by names the term that decided; of several that tie, the first of
 * cores, memory, max-processes, machine; it is set too where that term left
 * nothing.
 */
#ifndef CLOUDPLAN_PLAN_H
#define CLOUDPLAN_PLAN_H

#include "node.h"

struct policy {
    uint64_t mem_per_process; /* bytes; 0: memory sets no limit */
    uint64_t mem_reserve;     /* bytes kept free on every machine */
    uint32_t max_processes;   /* per node; 0: no limit */
    uint32_t min_processes;   /* in all; 0: any */
};

/* Plans every node that is NODE_READY and has facts.  0, or -1 and *err:
 * STATUS_UNAVAILABLE where no node is left (the first node's reason is named),
 * STATUS_CAPACITY where the sum is below min_processes, STATUS_SYSTEM without
 * memory.  On UNAVAILABLE and CAPACITY the nodes are planned all the same, for
 * the report. */
int plan_make(struct node_list *list, const struct policy *policy, struct error *err);

#endif
