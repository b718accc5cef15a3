/* The planner: pure arithmetic, facts and policy in, processes and the reason out.
 * No clock, no environment, no socket, no printing.
 *
 *   processes = min(cores - leased cores,
 *                   floor((mem_available - leased memory - reserve) / mem_per_process),
 *                   max_processes)
 *
 * Leased is what other runs hold; with policy.no_lease that is nothing.
 *
 * Below 1 the node becomes NODE_UNFIT, with the reason.  Nodes with the same
 * (non-empty) boot_id are one machine and share its cores_online and its
 * mem_machine - reserve, less what is leased, which is the same for all of them:
 * processes are dealt to them in turn, one each, in list order, while the machine
 * has room, so that together they never get more than it holds; where their answers about the machine differ, the least counts.  Two
 * nodes with the same boot_id and (non-empty) login_id are the very same login: the
 * later one becomes NODE_UNFIT and the reason names the first.
 * limited_by names the term that decided: lease, where the node would have more processes if nobody else had
 * a lease (facts.lease_holder says whose it is); of others that tie, the first of cores, memory,
 * max-processes, machine.  It is set too where that term left nothing.
 *
 * With policy.each a node gets exactly so many processes, and limited_by is each.  Where the formula, or
 * what is left of its machine, leaves fewer it becomes NODE_UNFIT, limited_by the term that
 * left too few.  A machine's nodes are then served whole, in list order.
 */
#ifndef CLOUDPLAN_PLAN_H
#define CLOUDPLAN_PLAN_H

#include "nodes/node.h"

struct policy {
    uint64_t mem_per_process; /* bytes; 0: memory sets no limit */
    uint64_t mem_reserve;     /* bytes kept free on every machine */
    uint32_t max_processes;   /* per node; 0: no limit */
    uint32_t min_processes;   /* in all; 0: any */
    uint32_t each; /* --dist=each: how many interpreters there are; 0: another way to deal out tests */
    bool no_lease; /* other runs' leases do not count */
};

/* Plans every node that is NODE_READY and has facts.  0, or -1 and *err:
 * STATUS_UNAVAILABLE where no node is left (the first node's reason is named),
 * STATUS_CAPACITY where the sum is below min_processes, STATUS_SYSTEM without
 * memory.  On UNAVAILABLE and CAPACITY the nodes are planned all the same, for
 * the report. */
int plan_make(struct node_list *list, const struct policy *policy, struct error *err);

/* Plans one node of a plan again, after facts_set_lease(): it gets no more than it has now.  0, or -1 where nothing is
 * left and it has become NODE_UNFIT. */
int plan_node(struct node *node, const struct policy *policy);

/* Whether the plan is enough to go on, as plan_make() judges it: to be asked again after plan_node(). */
int plan_judge(const struct node_list *list, const struct policy *policy, struct error *err);

#endif
