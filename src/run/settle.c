/* The beginning: the project, the nodes that are named, and what the engine's configuration makes of the options.
 *
 * The engine is asked first and may answer some tenths of a second later, so that options are settled whenever the first stage
 * needs them: that of the nodes where none is named here, else that of the probe. */
#include "run/settle.h"

#include "base/path.h"
#include "base/strv.h"
#include "copy/rsync_cmd.h"
#include "copy/sync.h"
#include "engine/engine.h"
#include "nodes/inventory.h"
#include "run/aside.h"
#include "ssh/cipher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static int make_id(struct run *run, struct error *err)
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return error_errno(err, "random numbers");
    for (size_t i = 0; i < sizeof bytes; i++)
        sprintf(run->id + 2 * i, "%02x", bytes[i]);
    return 0;
}

static struct engine_params engine_params(const struct run *run)
{
    const struct options *o = &run->options;
    return (struct engine_params){
        .runs = o->command == COMMAND_RUN,
        .root = run->project.root,
        .run_id = run->id,
        .python = run->project.local_python,
        .args = o->engine_args,
        .options = o->engine_options,
    };
}

static int find_project(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    return project_find(&run->project, o->engine->prefix, o->chdir, o->virtualenv, o->pythons, err);
}

/* What cannot be copied is known before a node is asked. */
static int check_places(struct run *run, struct error *err)
{
    if (run->options.command < COMMAND_SYNC)
        return 0;
    const struct sync_params params = stage_what_to_copy(run);
    struct rsync_rules *rules = rsync_rules_make(&params, err);
    rsync_rules_destroy(rules);
    return rules ? 0 : -1;
}

/* One that was asked for.  checked: the one that was looked at before. */
static int check_cipher(const struct options *o, const char *checked, struct error *err)
{
    return o->cipher == checked || !strcmp(o->cipher, OPTIONS_CIPHER) ? 0 : cipher_check(o->cipher, err);
}

/* The default one is a wish: where ssh here is built without it, OpenSSH has its own choice. */
static int check_default_cipher(struct options *o, struct error *err)
{
    struct error why = ERROR_INIT;
    if (strcmp(o->cipher, OPTIONS_CIPHER) || cipher_check(o->cipher, &why) == 0)
        return 0;
    if (why.status != STATUS_USAGE)
        return error_set(err, why.status, "%s", why.text);
    o->cipher = "";
    return 0;
}

static int name_nodes(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    for (size_t i = 0; i < o->source_count; i++) {
        const struct source *source = &o->sources[i];
        int (*add)(struct node_list *, const char *, struct error *) =
            source->kind == SOURCE_NODE    ? node_list_add
            : source->kind == SOURCE_NODES ? node_list_add_words
                                           : inventory_read;
        struct error why = ERROR_INIT;
        if (add(&run->list, source->text, &why))
            return error_set(err, why.status, "%s%s%s", source->origin, *source->origin ? ": " : "",
                             why.text);
    }
    if (run->list.duplicates)
        report_note(run->report, "%s was named more than once: %zu duplicate%s dropped", run->list.duplicate,
                    run->list.duplicates, run->list.duplicates == 1 ? "" : "s");
    return 0;
}

/* Values out of the engine's own configuration. */
static int take_answer(struct run *run, struct error *err)
{
    struct options *o = &run->options;
    struct engine_answer answer;
    if (o->engine->answer(run->work, &answer, err))
        return -1;
    for (size_t i = 0; answer.notes && answer.notes[i]; i++)
        report_note(run->report, "%s", answer.notes[i]);
    for (size_t i = 0; i < answer.value_count; i++)
        if (options_apply(o, answer.values[i].name, answer.values[i].value, answer.values[i].origin, err))
            return -1;
    return 0;
}

/* The project, seen with the options that have come from ini files, too. */
static int find_project_again(struct run *run, struct error *err)
{
    project_clear(&run->project);
    return find_project(run, err);
}

/* What is copied from outside the root: what --rsyncdir brings, a virtualenv. */
static int find_outside(struct run *run, struct error *err)
{
    struct sync_params params = stage_what_to_copy(run);
    params.site = NULL;
    struct rsync_places places;
    int result = rsync_places_find(&places, &params, err);
    for (size_t i = 0; result == 0 && places.dirs[i]; i++)
        if (!path_below(params.root, places.dirs[i]))
            result = strings_add(&run->outside, places.dirs[i], err);
    rsync_places_clear(&places);
    return result;
}

static int find_eggs(struct run *run, struct error *err)
{
    if (find_outside(run, err))
        return -1;
    run->eggs = calloc(1, sizeof *run->eggs);
    if (!run->eggs)
        return error_errno(err, "project");
    for (size_t i = 0; run->options.develop_eggs[i]; i++) {
        char *egg;
        int result = project_egg(&run->project, run->outside, run->options.develop_eggs[i], &egg, err) ||
                     strings_add(&run->eggs, egg, err);
        free(egg);
        if (result)
            return -1;
    }
    return 0;
}

/* A value from a file that is wrong is named with that file. */
static int name_origin(const struct run *run, const struct error *why, struct error *err)
{
    const char *origin = options_origin(&run->options, why);
    if (why->status == STATUS_USAGE && *origin)
        return error_set(err, STATUS_DATA, "%s: %s", origin, why->text);
    return error_set(err, why->status, "%s", why->text);
}

static int settle_engine(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    const struct engine_demands demands = {
        .python = run->project.local_python, .own_python = run->project.venv_used, .watch = o->watch};
    if (o->engine->settle(run->work, &demands, &run->settled, err))
        return -1;
    if (stage_name_virtualenv(run, err))
        return -1;
    if (run->settled.note)
        report_note(run->report, "%s", run->settled.note);
    run->policy = o->policy;
    while (run->settled.each && run->project.remote_pythons[run->policy.each])
        run->policy.each++;
    return 0;
}

int stage_settle(struct run *run, struct error *err)
{
    struct options *o = &run->options;
    struct error why = ERROR_INIT;
    const char *cipher = o->cipher;
    run->is_settled = true;
    if (take_answer(run, err))
        return -1;
    if (find_project_again(run, &why) || check_cipher(o, cipher, &why) || settle_engine(run, &why) ||
        options_check(o, run->settled.each, &why) || find_eggs(run, &why) || check_places(run, &why))
        return name_origin(run, &why, err);
    return 0;
}

int stage_begin(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    /* What is wrong here is found out before anything is started. */
    if (find_project(run, err) || check_places(run, err) || make_id(run, err) || name_nodes(run, err) ||
        check_cipher(o, NULL, err))
        return -1;
    const struct engine_params params = engine_params(run);
    bool asks = o->engine->asks(&params);
    if ((asks && stage_rundir(run, err)) ||
        o->engine->begin(&params, asks ? run->rundir : NULL, &run->work, err))
        return -1;
    return asks ? 0 : stage_settle(run, err);
}

int stage_nodes(struct run *run, struct error *err)
{
    const struct engine_params params = engine_params(run);
    if (!run->is_settled && run->options.engine->may_stay_here(&params) && stage_settle(run, err))
        return -1;
    /* Nodes that were not named here may be in an ini file. */
    if (run->list.count == 0 && !run->is_settled && stage_settle(run, err))
        return -1;
    if (run->settled.here)
        return 0;
    if (run->list.count == 0 && name_nodes(run, err))
        return -1;
    const struct options *o = &run->options;
    if (run->list.count == 0 && o->command != COMMAND_RUN && o->format == FORMAT_SSHLOGIN)
        return error_set(err, STATUS_USAGE,
                         "--format=sshlogin: no node is named; name some, such as --cloud-node=HOST, or : "
                         "for this machine");
    if (run->list.count == 0 && node_list_add(&run->list, ":", err))
        return -1;
    if (o->command < COMMAND_SYNC || !stage_any_remote(run))
        return 0;
    return sync_check_tools(err) || check_default_cipher(&run->options, err) ? -1 : 0;
}
