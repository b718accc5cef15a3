/* The watch's loop: a run, a change, the copy of what has changed, a run of what had failed. */
#include "run/again.h"

#include "run/run.h"

int stage_watch(struct run *run, struct error *err)
{
    if (!run->options.watch)
        return 0;
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

/* Waits for a change, and brings it to the nodes.  1: there was one; 0: a signal came; -1 and *err. */
static int wait_for_change(struct run *run, size_t failed, struct error *err)
{
    const char *changed = NULL;
    if (watch_end_run(run->watch, err))
        return -1;
    if (failed)
        report_note(run->report, "%zu failed; waiting for a change in %s (^C ends)", failed,
                    run->project.root);
    else
        report_note(run->report, "waiting for a change in %s (^C ends)", run->project.root);
    int result = watch_wait(run->watch, &changed, err);
    if (result <= 0)
        return result;
    report_note(run->report, "%s has changed", changed);
    if (watch_begin_run(run->watch, err) ||
        (!run->settled.here && (stage_transfer(run, err) || stage_specify(run, err))))
        return -1;
    report_dropped(run->report, &run->list);
    return 1;
}

/* What failed is run again after each change; when it passes, or can no longer be run, everything at once. */
static int run_and_watch(struct run *run, int *status, struct error *err)
{
    const struct engine *engine = run->options.engine;
    bool failed_only = false, alone;
    for (;;) {
        size_t failed;
        if (stage_engine_once(run, failed_only, status, err))
            return -1;
        if (child_signal())
            return 0;
        if (engine->failed(run->work, &failed, &alone, err))
            return -1;
        bool passes = failed_only && *status == 0, gone = failed_only && engine->found_nothing(*status);
        failed_only = false;
        if (passes || gone) {
            report_note(run->report, "what had failed %s: running everything",
                        passes ? "passes" : "can no longer be run");
            continue;
        }
        int result = wait_for_change(run, failed, err);
        if (result <= 0)
            return result;
        failed_only = alone;
    }
}

int stage_engine(struct run *run, int *status, struct error *err)
{
    return run->options.watch ? run_and_watch(run, status, err) : stage_engine_once(run, false, status, err);
}
