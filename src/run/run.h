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
/* Puts the nodes that are ready now into the engine's words. */
int stage_specify(struct run *run, struct error *err);
/* In the place of the stages from the plan to the report, where settled.here says that the engine takes no node. */
int stage_here(struct run *run, struct error *err);
/* Starts the engine and waits for its end.  failed_only: for what failed the last time.  *status is its exit status. */
int stage_engine_once(struct run *run, bool failed_only, int *status, struct error *err);

#endif
