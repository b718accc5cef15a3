/* pytest-xdist as an engine.
 *
 * pytest itself is asked what its arguments and ini files say (settings.h) as soon as the command line has been read, and answers some
 * tenths of a second later.  It is not asked for the words probe, plan and sync where nothing that it could find so much as
 * mentions one of our options. */
#include "engine/pytest/pytest.h"

#include "base/path.h"
#include "base/strv.h"
#include "base/text.h"
#include "engine/pytest/check.h"
#include "engine/pytest/env.h"
#include "engine/pytest/rerun.h"
#include "engine/pytest/settings.h"
#include "engine/pytest/start.h"
#include "engine/pytest/xspec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* pytest's exit statuses where a test that was named does not exist. */
#define PYTEST_USAGE 4
#define PYTEST_NO_TESTS 5

#define NUMPROCESSES_MAX 10000 /* more local workers than this are a slip of the finger */
#define NAME_SHOWN 100         /* bytes of an interpreter's name beside a list of modules */

/* --- options --- */

static const char *const dist_names[] = {"load",      "loadscope", "loadfile", "loadgroup",
                                         "worksteal", "each",      "no",       NULL};

#define AT(m) .offset = offsetof(struct pytest_options, m)

static const struct option_row pytest_rows[] = {
    {"cloud-ship-pytest", 0, NULL, OPTION_ENGINE,
     "copy this machine's pytest along, for nodes that have none", option_set_flag, AT(ship_pytest)},
    {"cloud-ship-plugin", 0, "NAME", OPTION_ENGINE,
     "a pure-Python plugin to copy along with pytest; may be repeated", option_add_string, AT(ship_plugins)},
    {"cloud-env", 0, "NAME[=VALUE]", OPTION_ENGINE,
     "a variable of the environment to hand on to nodes; may be repeated", option_add_string, AT(env),
     .adds_up = true},
    {"tx", 0, "XSPEC", OPTION_ENGINE,
     "a further execnet environment beside the computed ones; may be repeated", option_add_string, AT(tx),
     .adds_up = true},
    {"dist", 0, "MODE", OPTION_ENGINE, "how pytest-xdist deals out the tests: WORDS (default: load)",
     option_set_word, AT(dist), .words = dist_names, .kind = "mode"},
    {"numprocesses", 'n', "NUM", OPTION_ENGINE, "so many local processes beside the planned ones",
     option_set_u32, AT(numprocesses), .fallback = "0", .max = NUMPROCESSES_MAX, .unit = ""},
};

/* --- what its configuration says --- */

struct engine_work {
    struct engine_params params;
    const struct pytest_options *options;
    size_t typed_env;                /* so many of --cloud-env are not of an ini file */
    struct settings_query *query;    /* NULL: pytest is not asked */
    const struct settings *settings; /* its answer; NULL: none */
    char note[ERROR_TEXT_MAX + 50], *notes[2];
    const char *python; /* once it is settled */
    const char *dist;   /* how tests will be dealt out; NULL: the engine's default */
    bool each;
    char *failed; /* path: where the plugin names tests that failed */
    char **again; /* arguments that run these alone; NULL: there are none */
};

static bool pytest_asks(const struct engine_params *params)
{
    return params->runs || settings_mentioned(params->root);
}

static int pytest_begin(const struct engine_params *params, const char *rundir, struct engine_work **work,
                        struct error *err)
{
    struct engine_work *w = *work = calloc(1, sizeof *w);
    if (!w)
        return error_errno(err, "pytest");
    w->params = *params;
    w->options = params->options;
    w->typed_env = strings_count((char *const *)w->options->env);
    w->python = params->python;
    if (!rundir)
        return 0;
    const struct settings_params query = {
        .python = params->python,
        .rundir = rundir,
        .run_id = params->run_id,
        .args = params->args,
        .ship = w->options->ship_pytest,
        .ship_plugins = w->options->ship_plugins,
        .dist = w->options->dist,
        .tx = w->options->tx,
        .env = w->options->env,
    };
    w->query = plugin_write(rundir, err) ? NULL : settings_ask(&query, err);
    return w->query ? 0 : -1;
}

static bool pytest_may_stay_here(const struct engine_params *params)
{
    static const char *const words[] = {"--help",
                                        "-h",
                                        "--version",
                                        "-V",
                                        "--markers",
                                        "--cache-show",
                                        "--fixtures",
                                        "--funcargs",
                                        "--fixtures-per-test",
                                        "--collect-only",
                                        "--co",
                                        "--setup-only",
                                        "--setup-plan",
                                        "--dist"};
    const struct pytest_options *options = params->options;
    bool may = params->runs && options->dist && !strcmp(options->dist, "no");
    for (char *const *arg = params->args; params->runs && *arg; arg++)
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            size_t len = strlen(words[i]);
            may = may || (!strncmp(*arg, words[i], len) && ((*arg)[len] == '\0' || (*arg)[len] == '='));
        }
    return may;
}

static bool pytest_answered(struct engine_work *work)
{
    return !work->query || settings_answered(work->query);
}

static int pytest_answer(struct engine_work *work, struct engine_answer *answer, struct error *err)
{
    struct error why = ERROR_INIT;
    *answer = (struct engine_answer){0};
    if (!work->query)
        return 0;
    const struct settings *s = work->settings = settings_wait(work->query, &why);
    if (!s && !work->params.runs && why.status == STATUS_TOOL) {
        snprintf(work->note, sizeof work->note, "ini files are not read: %s", why.text);
        work->notes[0] = work->note;
        answer->notes = work->notes;
        return 0;
    }
    if (!s)
        return error_set(err, why.status, "%s", why.text);
    if (work->params.runs && pytest_check_versions(work->params.python, s->pytest, s->xdist, s->execnet, err))
        return -1;
    *answer = (struct engine_answer){.values = s->options, .value_count = s->option_count, .notes = s->notes};
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

static int check_together(const struct engine_work *work, const struct engine_demands *demands,
                          struct error *err)
{
    const struct pytest_options *o = work->options;
    if (work->dist && !strcmp(work->dist, "no") && o->numprocesses)
        return error_set(
            err, STATUS_USAGE,
            "-n %u: --dist=no runs all tests in one process on this machine; leave out one of them",
            o->numprocesses);
    if (demands->watch && work->each)
        return error_set(
            err, STATUS_USAGE,
            "--watch: cannot tell whose tests to run again with --dist=each; leave out one of them");
    if (o->ship_plugins[0] && !o->ship_pytest)
        return error_value(err, "cloud-ship-plugin", o->ship_plugins[0],
                           "--cloud-ship-plugin=%s: goes along with pytest alone: add --cloud-ship-pytest",
                           o->ship_plugins[0]);
    return 0;
}

static int pytest_settle(struct engine_work *work, const struct engine_demands *demands,
                         struct engine_settled *settled, struct error *err)
{
    const struct settings *s = work->settings;
    const struct pytest_options *o = work->options;
    bool other_python = strcmp(demands->python, work->python) != 0;
    work->dist = s && s->dist && (!o->dist || args_say_dist(s->args)) ? s->dist : o->dist;
    work->each = work->dist && !strcmp(work->dist, "each");
    work->python = demands->python;
    if (check_together(work, demands, err) ||
        (work->params.runs && other_python && pytest_check(work->python, err)))
        return -1;
    *settled = (struct engine_settled){.each = work->each, .site = s ? settings_site(work->query) : NULL};
    if (work->params.runs && s) {
        settled->here = s->here;
        settled->modules = *s->modules && !demands->own_python ? s->modules : NULL;
    }
    if (settled->site && demands->own_python) {
        settled->note = "--cloud-ship-pytest is not needed: the virtualenv is copied, with its pytest";
        settled->site = NULL;
    }
    return 0;
}

/* --- nodes --- */

/* Whether --cloud-ship-pytest brings it along by itself. */
static bool is_shipped(const char *module)
{
    return !strcmp(module, "pytest") || !strcmp(module, "xdist") || !strcmp(module, "execnet");
}

/* Names all modules that are missing: whoever installs them is not to be told of one more at every try. */
static void pytest_lacks(const struct facts *facts, const char *python, bool local, char *reason, size_t size)
{
    char names[sizeof facts->missing], list[ERROR_TEXT_MAX / 2] = "", *rest;
    bool several = strchr(facts->missing, ' '), shipped = true;
    if (!python)
        return;
    snprintf(names, sizeof names, "%s", facts->missing);
    for (char *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        shipped = shipped && is_shipped(name);
        text_list(list, sizeof list, name);
    }
    const char *verb = several ? "are" : "is", *object = several ? "them" : "it";
    if (local)
        snprintf(reason, size, "%s %s missing for %.*s here: install %s, or use a virtualenv in the project",
                 list, verb, NAME_SHOWN, python, object);
    else
        snprintf(
            reason, size,
            "%s %s missing for %.*s on the node: install %s there, use a virtualenv in the project, or %s",
            list, verb, NAME_SHOWN, python, object,
            shipped ? "--cloud-ship-pytest" : "--cloud-ship-pytest with --cloud-ship-plugin");
}

static int pytest_specify(struct engine_work *work, const struct engine_nodes *nodes, char ***words,
                          struct error *err)
{
    const struct pytest_options *o = work->options;
    const struct xspec_params params = {
        .chdir = nodes->chdir,
        .pythons = nodes->pythons,
        .local_pythons = nodes->local_pythons,
        .ssh_config = nodes->ssh_config,
        .each = work->each,
    };
    char local[32];
    if (!(*words = xspec_tx(nodes->list, &params, err)))
        return -1;
    /* What the user asked for beside the plan. */
    for (size_t i = 0; o->tx[i]; i++)
        if (strings_add(words, o->tx[i], err))
            return -1;
    snprintf(local, sizeof local, "%u*popen", o->numprocesses);
    return o->numprocesses ? strings_add(words, local, err) : 0;
}

/* --- tests --- */

static int pytest_run_once(struct engine_work *work, const struct engine_start *start, int *status,
                           struct error *err)
{
    struct pytest_start params = {
        .rundir = start->rundir,
        .run_id = work->params.run_id,
        .python = work->python,
        .tx = start->words,
        .dist = work->options->dist,
        .env = work->options->env,
        .typed_env = work->typed_env,
        .args = start->failed_only ? work->again : work->settings->args,
    };
    if (start->watch && !work->failed && !(work->failed = path_join(start->rundir, "failed.json")))
        return error_errno(err, "pytest");
    if (start->watch)
        unlink(params.failed = work->failed);
    return pytest_run(&params, status, err);
}

static int pytest_failed(struct engine_work *work, size_t *count, bool *alone, struct error *err)
{
    strings_free(work->again);
    work->again = NULL;
    if (rerun_count(work->failed, count, err) ||
        rerun_args(work->failed, work->settings->options_only, &work->again, err))
        return -1;
    *alone = work->again != NULL;
    return 0;
}

static bool pytest_found_nothing(int status)
{
    return status == PYTEST_USAGE || status == PYTEST_NO_TESTS;
}

static void pytest_destroy(struct engine_work *work)
{
    if (!work)
        return;
    settings_destroy(work->query);
    free(work->failed);
    strings_free(work->again);
    free(work);
}

const struct engine engine_pytest = {
    .name = "pytest",
    .prefix = "pytest",
    .each = "--dist=each",
    .word_option = "--tx=",
    .options = pytest_rows,
    .option_count = sizeof pytest_rows / sizeof *pytest_rows,
    .options_size = sizeof(struct pytest_options),
    /* Python, pytest's capture and reports; three pipes for each worker, and five more while it is being started, which happens to so
     * many at once as pytest_cloudplan/gateways.py says. */
    .descriptors = {.base = 16, .worker = 3, .start = 5, .starts = 32},
    .lacks = pytest_lacks,
    .asks = pytest_asks,
    .begin = pytest_begin,
    .may_stay_here = pytest_may_stay_here,
    .answered = pytest_answered,
    .answer = pytest_answer,
    .settle = pytest_settle,
    .specify = pytest_specify,
    .run = pytest_run_once,
    .failed = pytest_failed,
    .found_nothing = pytest_found_nothing,
    .destroy = pytest_destroy,
};
