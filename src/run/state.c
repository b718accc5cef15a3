/* What several stages need. */
#include "run/state.h"

#include "base/janitor.h"
#include "base/rundir.h"
#include "base/strv.h"

#include <stdlib.h>

bool stage_any_remote(const struct run *run)
{
    const struct node_list *list = &run->list;
    for (size_t i = 0; i < list->count; i++)
        if (!list->nodes[i].local &&
            (list->nodes[i].state == NODE_READY || list->nodes[i].state == NODE_PENDING))
            return true;
    return false;
}

struct sync_params stage_what_to_copy(struct run *run)
{
    return (struct sync_params){
        .rundir = run->rundir,
        .root = run->project.root,
        .chdir = run->project.chdir,
        .dirs = run->options.rsyncdirs,
        .ignores = run->options.rsyncignores,
        .venv = run->project.venv,
        .site = run->settled.site,
        .copy_links = run->options.copy_links,
        .verify = run->options.verify,
        .bwlimit = run->options.bwlimit,
        .max_processes = run->options.rsync_max,
        .progress = report_sync_progress,
        .progress_arg = run->report,
    };
}

int stage_rundir(struct run *run, struct error *err)
{
    if (run->rundir)
        return 0;
    run->rundir = rundir_create(err);
    return run->rundir && janitor_start(&run->janitor, run->rundir, run->id, err) == 0
               ? janitor_mark(run->id, err)
               : -1;
}

void stages_clear(struct run *run)
{
    /* A second signal ends everything at once. */
    masters_close(run->masters, child_signal_count() > 1 ? 0 : GUARD_GRACE_MS);
    if (run->options.engine)
        run->options.engine->destroy(run->work);
    watch_destroy(run->watch);
    rsync_places_clear(&run->watched);
    rundir_remove(run->rundir);
    janitor_end(&run->janitor, run->rundir, run->id);
    free(run->rundir);
    strings_free(run->eggs);
    strings_free(run->outside);
    strings_free(run->programs);
    strings_free(run->words);
    strings_free(run->logins);
    sshconf_destroy(run->conf);
    node_list_clear(&run->list);
    project_clear(&run->project);
    report_destroy(run->report);
    options_clear(&run->options);
    *run = (struct run)RUN_INIT;
}
