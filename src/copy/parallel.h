/* GNU parallel runs one command for each of many nodes, some or all at once.
 *
 * Each job is a whole command line in the data (`parallel -0 -a FILE` without a command): a template would have
 * GNU parallel look for replacement strings in the user's paths.
 */
#ifndef CLOUDPLAN_PARALLEL_H
#define CLOUDPLAN_PARALLEL_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct parallel_params {
    const char *rundir;
    uint32_t max_processes; /* 0: all at once */
    const char *doing;      /* "copying": for the error of a signal */
    /* Called now and then with the exit statuses so far (-1: not ended), and at the end; may be NULL. */
    void (*tick)(void *arg, const int *statuses, size_t count);
    void *tick_arg;
};

/* Runs commands, which are text for sh; statuses gets each one's exit status, -1 where GNU parallel tells none.
 * 0, or -1 and *err: STATUS_TOOL, STATUS_SYSTEM (GNU parallel itself failed), STATUS_SIGNAL+N. */
int parallel_run(const struct parallel_params *params, char *const *commands, size_t count, int *statuses,
                 struct error *err);

/* Is it there, and GNU's?  STATUS_TOOL with the package to install. */
int parallel_check(struct error *err);

#endif
