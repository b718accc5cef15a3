/* The order of the stages: each takes the former one's result; none reaches back. */
#include "child.h"
#include "engine.h"
#include "inventory.h"
#include "options.h"
#include "plan.h"
#include "probe.h"
#include "project.h"
#include "report.h"
#include "rundir.h"
#include "sshconf.h"
#include "sync.h"
#include "xspec.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MASTER_TIMEOUT_MS 20000
#define GUARD_GRACE_MS 8000 /* for the nodes to end what a run left behind */

struct run {
    struct options options;
    struct report *report;
    struct node_list list;
    struct project project;
    char id[33];
    struct sshconf_set *conf;
    char *rundir;
    struct masters *masters;
    char **tx, **logins;
};

static int name_nodes(struct run *run, struct error *err)
{
    for (size_t i = 0; i < run->options.source_count; i++) {
        const struct source *source = &run->options.sources[i];
        int (*add)(struct node_list *, const char *, struct error *) = source->kind == SOURCE_NODE    ? node_list_add
                                                                      : source->kind == SOURCE_NODES ? node_list_add_words
                                                                                                     : inventory_read;
        if (add(&run->list, source->text, err))
            return -1;
    }
    if (run->list.duplicates)
        report_note(run->report, "%s was named more than once: %zu duplicate%s dropped", run->list.duplicate,
                    run->list.duplicates, run->list.duplicates == 1 ? "" : "s");
    return run->options.source_count ? 0 : node_list_add(&run->list, ":", err);
}

static bool any_remote(const struct node_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (!list->nodes[i].local && (list->nodes[i].state == NODE_READY || list->nodes[i].state == NODE_PENDING))
            return true;
    return false;
}

static int make_id(struct run *run, struct error *err)
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return error_errno(err, "random numbers");
    for (size_t i = 0; i < sizeof bytes; i++)
        sprintf(run->id + 2 * i, "%02x", bytes[i]);
    return 0;
}

/* What can be wrong here is found out before any node is asked. */
static int check(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    if (project_find(&run->project, o->chdir, o->virtualenv, o->python, err) || make_id(run, err))
        return -1;
    if (o->command >= COMMAND_SYNC && any_remote(&run->list) && sync_check_tools(err))
        return -1;
    return o->command == COMMAND_RUN ? engine_pytest.check(run->project.local_python, err) : 0;
}

static int probe(struct run *run, struct error *err)
{
    const struct probe_params params = {
        .timeout_ms = (int)run->options.probe_timeout * 1000,
        .chdir = run->project.chdir,
        .python = run->project.probe_python,
        .nonce = run->id,
        .progress = report_probe_progress,
        .progress_arg = run->report,
    };
    if (any_remote(&run->list) && !(run->conf = sshconf_ask(&run->list, err)))
        return -1;
    int result = probe_run(&run->list, &params, err);
    report_progress_end(run->report);
    return result;
}

static int copy(struct run *run, struct error *err)
{
    const struct master_params master = {
        .rundir = run->rundir,
        .chdir = run->project.chdir,
        .run_id = run->id,
        .cipher = run->options.cipher,
        .timeout_ms = MASTER_TIMEOUT_MS,
    };
    const struct sync_params params = {
        .rundir = run->rundir,
        .root = run->project.root,
        .chdir = run->project.chdir,
        .dirs = run->options.rsyncdirs,
        .ignores = run->options.rsyncignores,
        .venv = run->project.venv,
        .bwlimit = run->options.bwlimit,
        .max_processes = run->options.rsync_max,
        .progress = report_sync_progress,
        .progress_arg = run->report,
    };
    if (!any_remote(&run->list))
        return 0;
    if (!(run->masters = masters_open(&run->list, &master, err)))
        return -1;
    int result = sync_run(&run->list, run->masters, &params, err);
    report_progress_end(run->report);
    report_copied(run->report);
    uint64_t left = node_list_processes(&run->list);
    if (result == 0 && left < run->options.policy.min_processes)
        result = error_set(err, STATUS_CAPACITY, "after the sync room for %llu of the %u processes that --cloud-min-processes asks for",
                           (unsigned long long)left, run->options.policy.min_processes);
    return result;
}

static int specify(struct run *run, struct error *err)
{
    const struct xspec_params params = {
        .chdir = run->project.chdir,
        .python = run->project.remote_python,
        .local_python = run->project.venv ? run->project.local_python : NULL,
        .ssh_config = run->masters && run->options.command == COMMAND_RUN ? masters_ssh_config(run->masters) : NULL,
    };
    run->tx = xspec_tx(&run->list, &params, err);
    run->logins = run->tx ? xspec_sshlogin(&run->list, err) : NULL;
    if (!run->logins)
        return -1;
    /* What the user asked for beside the plan. */
    for (size_t i = 0; run->options.tx && run->options.tx[i]; i++)
        if (strings_add(&run->tx, run->options.tx[i], err))
            return -1;
    char local[32];
    snprintf(local, sizeof local, "%u*popen", run->options.numprocesses);
    return run->options.numprocesses ? strings_add(&run->tx, local, err) : 0;
}

/* As far as the command says.  *status is the engine's where it ran. */
static int stages(struct run *run, int *status, struct error *err)
{
    const struct options *o = &run->options;
    if (name_nodes(run, err) || check(run, err) || probe(run, err))
        return -1;
    int planned = o->command != COMMAND_PROBE    ? plan_make(&run->list, &o->policy, err)
                  : node_list_ready(&run->list) ? 0
                                                : node_list_unusable(&run->list, err);
    if (planned == 0 && o->command >= COMMAND_SYNC) {
        run->rundir = rundir_create(err);
        planned = run->rundir ? copy(run, err) : -1;
    }
    /* What the nodes are is reported also when it is not enough. */
    struct error why = ERROR_INIT;
    if (specify(run, &why) || report_nodes(run->report, &run->list, run->tx, run->logins, o->command == COMMAND_RUN, &why))
        error_set(err, why.status, "%s", why.text);
    report_dropped(run->report, &run->list);
    if (planned || err->status || o->command != COMMAND_RUN)
        return err->status ? -1 : 0;
    const struct engine_params engine = {
        .rundir = run->rundir,
        .root = run->project.root,
        .python = run->project.local_python,
        .tx = run->tx,
        .dist = o->dist,
        .args = o->engine_args,
    };
    return engine_pytest.run(&engine, status, err);
}

static void clear(struct run *run)
{
    /* A second signal ends everything at once. */
    masters_close(run->masters, child_signal_count() > 1 ? 0 : GUARD_GRACE_MS);
    rundir_remove(run->rundir);
    free(run->rundir);
    strings_free(run->tx);
    strings_free(run->logins);
    sshconf_destroy(run->conf);
    node_list_clear(&run->list);
    project_clear(&run->project);
    report_destroy(run->report);
    options_clear(&run->options);
}

static int print(const char *text)
{
    return text && fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? STATUS_OK : STATUS_SYSTEM;
}

int main(int argc, char **argv)
{
    struct run run = {0};
    struct error err = ERROR_INIT;
    int status = STATUS_OK;
    if (child_init(&err) || options_parse(&run.options, argc, argv, &err)) {
        /* said below */
    } else if (run.options.help) {
        char *help = options_help();
        status = print(help);
        free(help);
    } else if (run.options.version) {
        status = print("cloudplan " PACKAGE_VERSION "\n");
    } else if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(run.report = report_create(&run.options))) {
        error_set(&err, STATUS_SYSTEM, "libcurl does not start");
    } else {
        stages(&run, &status, &err);
    }
    clear(&run);
    curl_global_cleanup();
    if (err.status) {
        fprintf(stderr, "cloudplan: %s\n", err.text);
        status = err.status;
    }
    return status;
}
