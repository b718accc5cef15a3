/* What each stage needs of the options and of the former stages.  No stage's work is done here: the rooms do it. */
#include "stages.h"

#include "child.h"
#include "disk_room.h"
#include "engine.h"
#include "janitor.h"
#include "probe.h"
#include "rerun.h"
#include "rundir.h"
#include "sync.h"
#include "xspec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* pytest's exit statuses where a test that was named does not exist. */
#define PYTEST_USAGE 4
#define PYTEST_NO_TESTS 5

#define PREPARE_TIMEOUT_MS 300000 /* pip may have to build */

bool stage_any_remote(const struct run *run)
{
    const struct node_list *list = &run->list;
    for (size_t i = 0; i < list->count; i++)
        if (!list->nodes[i].local && (list->nodes[i].state == NODE_READY || list->nodes[i].state == NODE_PENDING))
            return true;
    return false;
}

/* --- probe --- */

/* What --dist=each runs here: what was named, or else the engine's own. */
static const char *const *local_pythons(const struct run *run)
{
    return (const char *const *)(run->options.pythons[0] ? run->project.local_pythons : run->project.engine_pythons);
}

static void fill_probe(const struct run *run, struct probe_params *params)
{
    bool asked = run->options.command == COMMAND_RUN && !run->project.venv_used && run->settings && *run->settings->modules;
    params->timeout_ms = (int)run->options.probe_timeout * 1000;
    params->chdir = run->project.chdir;
    params->adopt = run->options.adopt;
    params->local_pythons = run->options.policy.each ? local_pythons(run) : NULL;
    params->pythons = (const char *const *)run->project.probe_pythons;
    params->python_version = run->project.venv_used ? run->project.venv_version : NULL;
    params->modules = asked ? run->settings->modules : NULL;
}

/* Nodes are being connected to; what they will be asked is known once pytest has answered. */
static int probe_ready(void *arg, struct probe_params *params, struct error *err)
{
    struct run *run = arg;
    if (!run->settled) {
        if (!settings_answered(run->query))
            return 0;
        if (stage_settle(run, err))
            return -1;
    }
    fill_probe(run, params);
    return 1;
}

int stage_probe(struct run *run, struct error *err)
{
    struct probe_params params = {
        .nonce = run->id,
        .ready = probe_ready,
        .ready_arg = run,
        .progress = run->wait_note ? NULL : report_probe_progress, /* once is enough */
        .progress_arg = run->report,
    };
    fill_probe(run, &params);
    /* Not again when it is asked once more. */
    if (!run->conf && stage_any_remote(run) && !(run->conf = sshconf_ask(&run->list, err)))
        return -1;
    int result = probe_run(&run->list, &params, err);
    report_progress_end(run->report);
    /* Where no node could be connected to, nobody has waited for pytest's answer. */
    return result == 0 && !run->settled ? stage_settle(run, err) : result;
}

/* --- copy --- */

struct sync_params stage_what_to_copy(struct run *run)
{
    return (struct sync_params){
        .rundir = run->rundir,
        .root = run->project.root,
        .chdir = run->project.chdir,
        .dirs = run->options.rsyncdirs,
        .ignores = run->options.rsyncignores,
        .venv = run->project.venv,
        .site = run->site,
        .verify = run->options.verify,
        .bwlimit = run->options.bwlimit,
        .max_processes = run->options.rsync_max,
        .progress = report_sync_progress,
        .progress_arg = run->report,
    };
}

int stage_disks(struct run *run, struct error *err)
{
    const struct sync_params params = stage_what_to_copy(run);
    return disk_room_check(&run->list, &params, err);
}

/* Copies what has changed, and makes it fit for use where it is now. */
static int copy(struct run *run, struct error *err)
{
    const struct sync_params params = stage_what_to_copy(run);
    int result = sync_run(&run->list, run->masters, &params, err);
    report_progress_end(run->report);
    report_copied(run->report);
    /* One that has broken since the sync: nothing is half done there yet, and without its guard nothing holds the lease. */
    if (result == 0 && (result = masters_reopen(run->masters, err)) == 0 &&
        (result = masters_prepare(run->masters, PREPARE_TIMEOUT_MS, err)) == 0 && node_list_ready(&run->list) == 0) {
        struct error why = ERROR_INIT;
        node_list_unusable(&run->list, &why);
        result = error_set(err, STATUS_SYNC, "the copy could not be prepared on any node; %s", why.text);
    }
    return result;
}

/* Everything that a run takes is on the nodes after this. */
static int transfer(struct run *run, struct error *err)
{
    /* Guards that were opened anew meanwhile have no lease yet. */
    if ((stage_any_remote(run) && copy(run, err)) || stage_lease(run, err))
        return -1;
    uint64_t left = node_list_processes(&run->list);
    if (left < run->options.policy.min_processes)
        return error_set(err, STATUS_CAPACITY, "after the sync room for %llu of the %u processes that --cloud-min-processes asks for",
                         (unsigned long long)left, run->options.policy.min_processes);
    return 0;
}

static int watch(struct run *run, struct error *err)
{
    struct sync_params params = stage_what_to_copy(run);
    params.site = NULL; /* is as it is */
    if (rsync_places_find(&run->watched, &params, err))
        return -1;
    const struct watch_tree tree = {
        .root = run->project.root,
        .ignores = run->options.rsyncignores,
        .dirs = run->watched.dirs,
        .part = !run->watched.whole,
    };
    run->watch = watch_create(&tree, err);
    if (!run->watch || watch_begin_run(run->watch, err))
        return -1;
    if (watch_polls(run->watch))
        report_note(run->report, "looking for changes every 2 s: %s", watch_polls(run->watch));
    return 0;
}

int stage_copy(struct run *run, struct error *err)
{
    return stage_rundir(run, err) || (run->options.watch && watch(run, err)) ? -1 : transfer(run, err);
}

int stage_here(struct run *run, struct error *err)
{
    if (run->options.source_count)
        report_note(run->report, "%s: pytest runs on this machine alone, and no node is used", run->here);
    node_list_clear(&run->list);
    run->tx = calloc(1, sizeof *run->tx);
    if (!run->tx)
        return error_errno(err, "engine");
    return run->options.watch ? watch(run, err) : 0;
}

/* --- report --- */

static int specify(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    const struct xspec_params params = {
        .chdir = run->project.chdir,
        .pythons = (const char *const *)run->project.remote_pythons,
        .local_pythons = o->policy.each && o->pythons[0] ? (const char *const *)run->project.local_pythons
                         : run->project.venv             ? (const char *const *)run->project.engine_pythons
                                                         : NULL,
        .ssh_config = run->masters && o->command == COMMAND_RUN ? masters_ssh_config(run->masters) : NULL,
        .each = o->policy.each > 0,
    };
    strings_free(run->tx);
    run->tx = xspec_tx(&run->list, &params, err);
    if (!run->tx)
        return -1;
    /* What the user asked for beside the plan. */
    for (size_t i = 0; o->tx[i]; i++)
        if (strings_add(&run->tx, o->tx[i], err))
            return -1;
    char local[32];
    snprintf(local, sizeof local, "%u*popen", o->numprocesses);
    return o->numprocesses ? strings_add(&run->tx, local, err) : 0;
}

/* xspecs are made whatever is shown, since what cannot be one is no plan for a run.  Logins only where they are asked for: GNU
 * parallel takes fewer names than ssh. */
static int specify_as_asked(struct run *run, bool planned, struct error *err)
{
    if (run->options.command == COMMAND_RUN || run->options.format != FORMAT_SSHLOGIN)
        return specify(run, err);
    return planned && !(run->logins = xspec_sshlogin(&run->list, err)) ? -1 : 0;
}

int stage_report(struct run *run, bool planned, struct error *err)
{
    int result = specify_as_asked(run, planned, err);
    if (result == 0)
        result = report_nodes(run->report, &run->list, run->tx, run->logins, run->options.command == COMMAND_RUN, err);
    report_dropped(run->report, &run->list);
    return result;
}

/* --- engine --- */

static int run_engine(struct run *run, char *const *args, int *status, struct error *err)
{
    const struct engine_params params = {
        .rundir = run->rundir,
        .run_id = run->id,
        .root = run->project.root,
        .python = run->project.local_python,
        .tx = run->tx,
        .dist = run->options.dist,
        .args = args,
        .failed = run->failed,
    };
    return engine_pytest.run(&params, status, err);
}

/* Waits for a change, and brings it to the nodes.  1: there was one; 0: a signal came; -1 and *err. */
static int wait_for_change(struct run *run, size_t failed, struct error *err)
{
    const char *changed = NULL;
    if (watch_end_run(run->watch, err))
        return -1;
    if (failed)
        report_note(run->report, "%zu failed; waiting for a change in %s (^C ends)", failed, run->project.root);
    else
        report_note(run->report, "waiting for a change in %s (^C ends)", run->project.root);
    int result = watch_wait(run->watch, &changed, err);
    if (result <= 0)
        return result;
    report_note(run->report, "%s has changed", changed);
    if (watch_begin_run(run->watch, err) || (!run->here && (transfer(run, err) || specify(run, err))))
        return -1;
    report_dropped(run->report, &run->list);
    return 1;
}

/* What failed is run again after each change; when it passes, or can no longer be run, everything at once. */
static int run_and_watch(struct run *run, int *status, struct error *err)
{
    char **again = NULL;
    int result;
    if (!(run->failed = path_join(run->rundir, "failed.json")))
        return error_errno(err, "watch");
    for (;;) {
        size_t failed;
        unlink(run->failed);
        result = run_engine(run, again ? again : run->settings->args, status, err);
        if (result || child_signal() || (result = rerun_count(run->failed, &failed, err)))
            break;
        bool passes = again && *status == 0, gone = again && (*status == PYTEST_USAGE || *status == PYTEST_NO_TESTS);
        strings_free(again);
        again = NULL;
        if (passes || gone) {
            report_note(run->report, "what had failed %s: running everything", passes ? "passes" : "can no longer be run");
            continue;
        }
        result = wait_for_change(run, failed, err);
        if (result <= 0 || (result = rerun_args(run->failed, run->settings->options_only, &again, err)))
            break;
    }
    strings_free(again);
    return result;
}

int stage_engine(struct run *run, int *status, struct error *err)
{
    return run->options.watch ? run_and_watch(run, status, err) : run_engine(run, run->settings->args, status, err);
}

void stages_clear(struct run *run)
{
    /* A second signal ends everything at once. */
    masters_close(run->masters, child_signal_count() > 1 ? 0 : GUARD_GRACE_MS);
    settings_destroy(run->query);
    watch_destroy(run->watch);
    rsync_places_clear(&run->watched);
    rundir_remove(run->rundir);
    janitor_end(&run->janitor, run->rundir, run->id);
    free(run->rundir);
    free(run->failed);
    strings_free(run->eggs);
    strings_free(run->tx);
    strings_free(run->logins);
    sshconf_destroy(run->conf);
    node_list_clear(&run->list);
    project_clear(&run->project);
    report_destroy(run->report);
    options_clear(&run->options);
    *run = (struct run)RUN_INIT;
}
