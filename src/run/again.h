/* --watch: the engine is run again after each change. */
#ifndef CLOUDPLAN_AGAIN_H
#define CLOUDPLAN_AGAIN_H

#include "run/state.h"

/* With --watch: begins to look for changes of what is copied.  To be called before the copy, so that none is missed. */
int stage_watch(struct run *run, struct error *err);
/* Runs the engine, with --watch again and again.  *status is its exit status. */
int stage_engine(struct run *run, int *status, struct error *err);

#endif
