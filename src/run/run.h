/* The copy, the plan as text, and one run of the engine. */
#ifndef CLOUDPLAN_RUN_H
#define CLOUDPLAN_RUN_H

#include "run/state.h"

/* Copies, prepares. */
int stage_copy(struct run *run, struct error *err);
/* The same for what has changed since: everything that a run takes is on the nodes after this, and leased. */
int stage_transfer(struct run *run, struct error *err);
/* The plan as text: results on stdout, or for run on stderr.  planned: the command has got what it asked for; if not, there are no
 * logins: whoever hands them on may not see the status. */
int stage_report(struct run *run, bool planned, struct error *err);
/* Makes the xspecs of the nodes that are ready now. */
int stage_specify(struct run *run, struct error *err);
/* In the place of the stages from the plan to the report, where run->here says that the engine takes no node. */
int stage_here(struct run *run, struct error *err);
/* Starts the engine with args and waits for its end.  *status is its exit status. */
int stage_engine_once(struct run *run, char *const *args, int *status, struct error *err);

#endif
