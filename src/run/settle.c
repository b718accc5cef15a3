/* The beginning: the project, the nodes that are named, and what pytest's configuration makes of the options.
 *
 * pytest is asked first and answers some tenths of a second later, so that options are settled whenever the first stage
 * needs them: that of the nodes where none is named here, else that of the probe. */
#include "run/settle.h"

#include "ssh/cipher.h"
#include "engine/engine.h"
#include "nodes/inventory.h"
#include "engine/plugin.h"
#include "copy/rsync_cmd.h"
#include "base/path.h"
#include "copy/sync.h"
#include "base/strv.h"

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

static int find_project(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    return project_find(&run->project, o->chdir, o->virtualenv, o->pythons, err);
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
        int (*add)(struct node_list *, const char *, struct error *) = source->kind == SOURCE_NODE    ? node_list_add
                                                                      : source->kind == SOURCE_NODES ? node_list_add_words
                                                                                                     : inventory_read;
        struct error why = ERROR_INIT;
        if (add(&run->list, source->text, &why))
            return error_set(err, why.status, "%s%s%s", source->origin, *source->origin ? ": " : "", why.text);
    }
    if (run->list.duplicates)
        report_note(run->report, "%s was named more than once: %zu duplicate%s dropped", run->list.duplicate,
                    run->list.duplicates, run->list.duplicates == 1 ? "" : "s");
    return 0;
}

/* Whether pytest's own arguments say how tests are dealt out: they come last, and win. */
static bool args_say_dist(char *const *args)
{
    for (; *args; args++)
        if (!strcmp(*args, "-d") || !strcmp(*args, "--dist") || !strncmp(*args, "--dist=", 7))
            return true;
    return false;
}

static int take_settings(struct run *run, struct error *err)
{
    struct options *o = &run->options;
    struct error why = ERROR_INIT;
    const struct settings *s = run->settings = settings_wait(run->query, &why);
    if (!s && o->command != COMMAND_RUN && why.status == STATUS_TOOL) {
        report_note(run->report, "ini files are not read: %s", why.text);
        return 0;
    }
    if (!s)
        return error_set(err, why.status, "%s", why.text);
    if (o->command == COMMAND_RUN &&
        engine_pytest.check_versions(run->project.local_python, s->pytest, s->xdist, s->execnet, err))
        return -1;
    for (size_t i = 0; s->notes && s->notes[i]; i++)
        report_note(run->report, "%s", s->notes[i]);
    for (size_t i = 0; i < s->option_count; i++)
        if (options_apply(o, s->options[i].name, s->options[i].value, s->options[i].origin, err))
            return -1;
    run->dist = s->dist && (!o->dist || args_say_dist(s->args)) ? s->dist : o->dist;
    run->here = o->command == COMMAND_RUN ? s->here : NULL;
    return 0;
}

/* The project, seen with the options that have come from its ini files, too. */
static int find_project_again(struct run *run, struct error *err)
{
    char *before = strdup(run->project.local_python);
    if (!before)
        return error_errno(err, "project");
    project_clear(&run->project);
    int result = find_project(run, err);
    if (result == 0 && run->options.command == COMMAND_RUN && strcmp(before, run->project.local_python))
        result = engine_pytest.check(run->project.local_python, err);
    free(before);
    return result;
}

static int find_eggs(struct run *run, struct error *err)
{
    run->eggs = calloc(1, sizeof *run->eggs);
    if (!run->eggs)
        return error_errno(err, "project");
    for (size_t i = 0; run->options.develop_eggs[i]; i++) {
        char *egg;
        int result = project_egg(&run->project, run->options.develop_eggs[i], &egg, err) || strings_add(&run->eggs, egg, err);
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

int stage_settle(struct run *run, struct error *err)
{
    struct options *o = &run->options;
    struct error why = ERROR_INIT;
    run->settled = true;
    run->dist = o->dist;
    const char *cipher = o->cipher;
    if (run->query && take_settings(run, err))
        return -1;
    if ((run->query && find_project_again(run, &why)) || check_cipher(o, cipher, &why) || options_check(o, run->dist, &why) || find_eggs(run, &why) ||
        check_places(run, &why))
        return name_origin(run, &why, err);
    if (run->dist && !strcmp(run->dist, "each"))
        while (run->project.remote_pythons[o->policy.each])
            o->policy.each++;
    run->site = run->query && run->settings ? settings_site(run->query) : NULL;
    if (run->site && run->project.venv_used) {
        report_note(run->report, "--cloud-ship-pytest is not needed: the virtualenv is copied, with its pytest");
        run->site = NULL;
    }
    return run->site ? check_places(run, err) : 0;
}

int stage_begin(struct run *run, struct error *err)
{
    const struct options *o = &run->options;
    /* What is wrong here is found out before anything is started. */
    if (find_project(run, err) || check_places(run, err) || make_id(run, err) || name_nodes(run, err) || check_cipher(o, NULL, err))
        return -1;
    if (o->command != COMMAND_RUN && !settings_mentioned(run->project.root))
        return stage_settle(run, err);
    if (stage_rundir(run, err) || plugin_write(run->rundir, err))
        return -1;
    const struct settings_params params = {
        .python = run->project.local_python,
        .rundir = run->rundir,
        .run_id = run->id,
        .args = o->engine_args,
        .ship = o->ship_pytest,
        .ship_plugins = o->ship_plugins,
        .dist = o->dist,
        .tx = o->tx,
    };
    run->query = settings_ask(&params, err);
    return run->query ? 0 : -1;
}

/* Whether pytest's answer will be that no node is needed, as far as a look at the words tells: then it is waited for before any node
 * is connected to.  Where it comes as a surprise, out of an ini file, nodes have been asked in vain. */
static bool may_need_no_node(const struct options *o)
{
    static const char *const words[] = {"--help",       "-h",           "--version",    "-V", "--markers", "--cache-show", "--fixtures",
                                        "--funcargs",   "--fixtures-per-test", "--collect-only", "--co",  "--setup-only",
                                        "--setup-plan", "--dist"};
    bool may = o->command == COMMAND_RUN && o->dist && !strcmp(o->dist, "no");
    for (char *const *arg = o->engine_args; o->command == COMMAND_RUN && *arg; arg++)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            size_t len = strlen(words[i]);
            may = may || (!strncmp(*arg, words[i], len) && ((*arg)[len] == '\0' || (*arg)[len] == '='));
        }
    return may;
}

int stage_nodes(struct run *run, struct error *err)
{
    if (!run->settled && may_need_no_node(&run->options) && stage_settle(run, err))
        return -1;
    /* Nodes that were not named here may be in an ini file. */
    if (run->list.count == 0 && !run->settled && stage_settle(run, err))
        return -1;
    if (run->here)
        return 0;
    if (run->list.count == 0 && name_nodes(run, err))
        return -1;
    const struct options *o = &run->options;
    if (run->list.count == 0 && o->command != COMMAND_RUN && o->format == FORMAT_SSHLOGIN)
        return error_set(err, STATUS_USAGE,
                         "--format=sshlogin: no node is named; name some, such as --cloud-node=HOST, or : for this machine");
    if (run->list.count == 0 && node_list_add(&run->list, ":", err))
        return -1;
    if (o->command < COMMAND_SYNC || !stage_any_remote(run))
        return 0;
    return sync_check_tools(err) || check_default_cipher(&run->options, err) ? -1 : 0;
}
