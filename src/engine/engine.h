/* How an engine is called, and what its exit status means.
 *
 * An engine runs in the foreground, in the current directory (which is the project's root), with our
 * streams, our terminal and our process group; the user's arguments reach it as they were typed, each an
 * element of argv.
 */
#ifndef CLOUDPLAN_ENGINE_H
#define CLOUDPLAN_ENGINE_H

#include "base/error.h"

struct engine_params {
    const char *rundir; /* plugin_write() was there */
    const char *run_id; /* [a-z0-9]+: in the environment of all that it starts here */
    const char *root;
    const char *python; /* the controller's interpreter */
    char *const *tx;    /* xspecs, NULL-terminated */
    const char *dist;   /* NULL: what args or else the project's addopts say, or else load */
    char *const *args;  /* in the order in which they were typed */
    const char *failed; /* a path: a JSON list of the tests that failed goes there; NULL: nowhere */
};

struct engine_ops {
    /* Is it there, can it work?  0, or -1 and *err: STATUS_TOOL with the remedy, or as child_capture(). */
    int (*check)(const char *python, struct error *err);
    /* The same where the versions are known; NULL: missing. */
    int (*check_versions)(const char *python, const char *pytest, const char *xdist, const char *execnet, struct error *err);
    /* Runs it to its end.  *status is the exit status that cloudplan hands on: the engine's own, but
     * 128 + N where signal N came to cloudplan.  The first signal is passed on so that the engine
     * reports what it has; a second one, or 20 s without an end, kills it.
     * 0, or -1 and *err: STATUS_SYSTEM, STATUS_TOOL, 128 + N where signal N has ended the engine, STATUS_BUG where it ended with
     * status 0 and has not told of every test that was collected. */
    int (*run)(const struct engine_params *params, int *status, struct error *err);
};

extern const struct engine_ops engine_pytest;

#endif
