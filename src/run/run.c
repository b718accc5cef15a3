/* What the copy, the report and the engine need of the options and of the former stages.  Their own work is done in src/copy,
 * src/report and src/engine. */
#include "run/run.h"

#include "base/strv.h"
#include "copy/sync.h"
#include "engine/sshlogin.h"
#include "run/room.h"

#include <stdio.h>
#include <stdlib.h>

#define PREPARE_TIMEOUT_MS 300000 /* pip may have to build */

/* --- copy --- */

/* Copies what has changed, and makes it fit for use where it is now. */
static int copy(struct run *run, struct error *err)
{
    const struct sync_params params = stage_what_to_copy(run);
    int result = sync_run(&run->list, run->masters, &params, err);
    report_progress_end(run->report);
    report_copied(run->report);
    /* One that has broken since the sync: nothing is half done there yet, and without its guard nothing holds the lease. */
    if (result == 0 && (result = masters_reopen(run->masters, err)) == 0 &&
        (result = masters_prepare(run->masters, PREPARE_TIMEOUT_MS, err)) == 0 &&
        node_list_ready(&run->list) == 0) {
        struct error why = ERROR_INIT;
        node_list_unusable(&run->list, &why);
        result = error_set(err, STATUS_SYNC, "the copy could not be prepared on any node; %s", why.text);
    }
    return result;
}

int stage_transfer(struct run *run, struct error *err)
{
    /* Guards that were opened anew meanwhile have no lease yet. */
    if ((stage_any_remote(run) && copy(run, err)) || stage_lease(run, err))
        return -1;
    uint64_t left = node_list_processes(&run->list);
    if (left < run->policy.min_processes)
        return error_set(
            err, STATUS_CAPACITY,
            "after the sync room for %llu of the %u processes that --cloud-min-processes asks for",
            (unsigned long long)left, run->policy.min_processes);
    return 0;
}

int stage_copy(struct run *run, struct error *err)
{
    return stage_rundir(run, err) || stage_transfer(run, err) ? -1 : 0;
}

int stage_here(struct run *run, struct error *err)
{
    if (run->options.source_count)
        report_note(run->report, "%s: %s runs on this machine alone, and no node is used", run->settled.here,
                    run->options.engine->name);
    node_list_clear(&run->list);
    run->words = calloc(1, sizeof *run->words);
    if (!run->words)
        return error_errno(err, "engine");
    return 0;
}

/* --- report --- */

int stage_specify(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    const struct engine_nodes nodes = {
        .list = &run->list,
        .chdir = run->project.chdir,
        .pythons = (const char *const *)run->project.remote_pythons,
        .local_pythons = run->settled.each && o->pythons[0] ? (const char *const *)run->project.local_pythons
                         : run->project.venv                ? (const char *const *)run->project.engine_pythons
                                                            : NULL,
        .ssh_config = run->masters && o->command == COMMAND_RUN ? masters_ssh_config(run->masters) : NULL,
    };
    strings_free(run->words);
    run->words = NULL;
    return o->engine->specify(run->work, &nodes, &run->words, err);
}

/* The engine's words are made whatever is shown, since what cannot be one is no plan for a run.  Logins only where they are asked for: GNU
 * parallel takes fewer names than ssh. */
static int specify_as_asked(struct run *run, bool planned, struct error *err)
{
    if (run->options.command == COMMAND_RUN || run->options.format != FORMAT_SSHLOGIN)
        return stage_specify(run, err);
    return planned && !(run->logins = sshlogin_list(&run->list, err)) ? -1 : 0;
}

int stage_report(struct run *run, bool planned, struct error *err)
{
    int result = specify_as_asked(run, planned, err);
    if (result == 0)
        result = report_nodes(run->report, &run->list, run->words, run->logins,
                              run->options.command == COMMAND_RUN, err);
    report_dropped(run->report, &run->list);
    return result;
}

/* --- engine --- */

int stage_engine_once(struct run *run, bool failed_only, int *status, struct error *err)
{
    const struct engine_start start = {
        .rundir = run->rundir, .words = run->words, .watch = run->options.watch, .failed_only = failed_only};
    return run->options.engine->run(run->work, &start, status, err);
}
