/* How many nodes and workers the limit of open files has room for.
 *
 * Each remote node costs descriptors here (its master's pipes), in the master (its workers' sessions) and, for each worker, in
 * the engine.  What does not fit is planned away before it is started: running into the limit in the middle would
 * take whatever came last, a test's own files included.
 */
#ifndef CLOUDPLAN_DESCRIPTORS_H
#define CLOUDPLAN_DESCRIPTORS_H

#include "base/error.h"
#include "nodes/node.h"

#include <stdint.h>

/* What a process may open: the soft limit, which is raised to the hard one first.  UINT64_MAX: no limit. */
uint64_t descriptors_limit(void);

/* The soft limit that cloudplan was started with, where descriptors_limit() has raised it; else 0.  Tests get it back. */
uint64_t descriptors_given(void);

/* What an engine costs on this machine.  Worst cases rather than usual ones: what is left over is the tests' own. */
struct descriptors_cost {
    unsigned base;   /* whatever it does */
    unsigned worker; /* for each process on a node */
    unsigned start;  /* more, for each one that is being started */
    unsigned starts; /* at most so many start at once */
};

/* Takes processes off ready nodes, as evenly as can be (limited_by becomes TERM_FILES), and nodes out (NODE_UNFIT, the
 * later ones first), until all fit into the limit.  each: a node has exactly so many processes or is out; 0: any number.  engine: what each process costs.
 * Call after plan_make().  0, or -1 and *err: STATUS_UNAVAILABLE where no node is left. */
int descriptors_fit(struct node_list *list, uint64_t limit, uint32_t each,
                    const struct descriptors_cost *engine, struct error *err);

#endif
