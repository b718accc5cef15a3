/* Ends what the engine has left on this machine, and removes the private directory: also when cloudplan itself no longer can,
 * after SIGKILL, a crash, the out-of-memory killer.
 *
 * A small shell waits for the end of its standard input, which the kernel brings about when we are no more.
 */
#ifndef CLOUDPLAN_JANITOR_H
#define CLOUDPLAN_JANITOR_H

#include "base/child.h"
#include "base/error.h"

/* The run's processes are those with CLOUDPLAN_CONTROLLER=run_id in their environment: janitor_mark() puts it there for all that this
 * process starts afterwards, but what is given child_unmarked.
 * 0, or -1 and *err: STATUS_TOOL, STATUS_SYSTEM. */
int janitor_start(struct child *janitor, const char *dir, const char *run_id, struct error *err);
int janitor_mark(const char *run_id, struct error *err);
/* Tells it to go, and waits for that, some seconds at most; the directory should be gone already.  Where it has ended without
 * being told to, another one does its work.  dir is NULL where no janitor was started: safe on CHILD_INIT. */
void janitor_end(struct child *janitor, const char *dir, const char *run_id);

#endif
