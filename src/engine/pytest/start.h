/* pytest, from its start to its end. */
#ifndef CLOUDPLAN_PYTEST_START_H
#define CLOUDPLAN_PYTEST_START_H

#include "base/error.h"

#include <stddef.h>

struct pytest_start {
    const char *rundir; /* plugin_write() was there */
    const char *run_id; /* [a-z0-9]+: in the environment of all that it starts here */
    const char *python; /* the controller's interpreter */
    char *const *tx;    /* xspecs, NULL-terminated */
    const char *dist;   /* NULL: what args or else the project's addopts say, or else load */
    const char *const
        *env; /* --cloud-env: the first typed_env were given to us and count more than the rest */
    size_t typed_env;
    char *const *args;  /* in the order in which they were typed */
    const char *failed; /* a path: a JSON list of the tests that failed goes there; NULL: nowhere */
};

/* Runs it to its end.  *status is the exit status that cloudplan hands on: the engine's own, but 128 + N where signal N came to
 * cloudplan.  The first signal is passed on so that pytest reports what it has; a second one, or 20 s without an end, kills it.
 * 0, or -1 and *err: STATUS_SYSTEM, STATUS_TOOL, 128 + N where signal N has ended pytest, STATUS_BUG where it ended with
 * status 0 and has not told of every test that was collected. */
int pytest_run(const struct pytest_start *params, int *status, struct error *err);

#endif
