/* A second engine, which shows that the contract (src/engine/engine.h) holds all that one needs: it runs a shell command once on every
 * node, in the copy, one after the other, and the worst status counts.
 *
 *     cloudplan-each --cloud-node=a --each-label=x -- 'echo $PWD'
 *
 * It has an option, a fact and a preparation of its own. */
#include "base/child.h"
#include "base/shquote.h"
#include "base/strv.h"
#include "engine/engine.h"
#include "ssh/ssh_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000
#define OUTPUT_MAX 65536

struct each_options {
    const char *label; /* --each-label: printed before each node's output */
};

#define AT(m) .offset = offsetof(struct each_options, m)

static const struct option_row each_rows[] = {
    {"each-label", 0, "TEXT", OPTION_ENGINE, "print this before each output", option_set_string, AT(label),
     .fallback = "each:"},
};

struct engine_work {
    struct engine_params params;
    const struct each_options *options;
};

static bool each_asks(const struct engine_params *params)
{
    (void)params;
    return false;
}

static int each_begin(const struct engine_params *params, const char *rundir, struct engine_work **work,
                      struct error *err)
{
    (void)rundir;
    if (!(*work = calloc(1, sizeof **work)))
        return error_errno(err, "each");
    (*work)->params = *params;
    (*work)->options = params->options;
    return 0;
}

static bool each_may_stay_here(const struct engine_params *params)
{
    (void)params;
    return false;
}

static bool each_answered(struct engine_work *work)
{
    (void)work;
    return true;
}

static int each_answer(struct engine_work *work, struct engine_answer *answer, struct error *err)
{
    (void)work;
    (void)err;
    *answer = (struct engine_answer){0};
    return 0;
}

static int each_settle(struct engine_work *work, const struct engine_demands *demands,
                       struct engine_settled *settled, struct error *err)
{
    *settled = (struct engine_settled){.note = "each: one command for each node"};
    if (demands->watch)
        return error_set(err, STATUS_USAGE, "--watch: each has nothing to watch; leave it out");
    return work->params.runs && strings_count(work->params.args) != 1
               ? error_set(err, STATUS_USAGE, "give one command after --")
               : 0;
}

static void each_lacks(const struct facts *facts, const char *python, bool local, char *reason, size_t size)
{
    (void)python;
    if (!local && strcmp(facts->engine, "ready"))
        snprintf(reason, size, "it has a ~/.no-each: remove that");
}

/* A line for sh that runs the command on the node. */
static char *line_for(const struct engine_work *work, const struct node *node,
                      const struct engine_nodes *nodes)
{
    char *text = NULL, *inner = NULL, *place = node_place(node, nodes->chdir, nodes->chdir),
         port[SSH_TARGET_PORT];
    const char *argv[SSH_TARGET_WORDS];
    size_t len, inner_len;
    FILE *out = open_memstream(&text, &len), *in = open_memstream(&inner, &inner_len);
    fputs("cd ", in);
    shell_quote(in, node->local ? work->params.root : place);
    fputs(" && exec sh -c ", in);
    shell_quote(in, work->params.args[0] ? work->params.args[0] : "");
    fclose(in);
    if (!node->local) {
        fputs("exec ssh", out);
        if (nodes->ssh_config) {
            fputs(" -F ", out);
            shell_quote(out, nodes->ssh_config);
        }
        for (size_t i = 0, n = ssh_target(node, argv, port); i < n; i++) {
            fputc(' ', out);
            shell_quote(out, argv[i]);
        }
        fputc(' ', out);
    }
    node->local ? fputs(inner, out) : (shell_quote(out, inner), 0);
    fclose(out);
    free(inner);
    free(place);
    return text;
}

static int each_specify(struct engine_work *work, const struct engine_nodes *nodes, char ***words,
                        struct error *err)
{
    *words = calloc(1, sizeof **words);
    for (size_t i = 0; i < nodes->list->count; i++)
        if (node_in_use(&nodes->list->nodes[i]) &&
            strings_take(words, line_for(work, &nodes->list->nodes[i], nodes)))
            return error_errno(err, "each");
    return 0;
}

static int each_run(struct engine_work *work, const struct engine_start *start, int *status,
                    struct error *err)
{
    *status = 0;
    for (char *const *word = start->words; *word; word++) {
        const char *const argv[] = {"sh", "-c", *word, NULL};
        char *out = NULL, *errors = NULL;
        int own, result = child_capture(argv, NULL, TIMEOUT_MS, OUTPUT_MAX, &out, &errors, &own, err);
        if (result == 0)
            printf("%s %s", work->options->label, out);
        fflush(stdout);
        free(out);
        free(errors);
        if (result)
            return -1;
        *status = own > *status ? own : *status;
    }
    return 0;
}

static int each_failed(struct engine_work *work, size_t *count, bool *alone, struct error *err)
{
    (void)work;
    (void)err;
    *count = 0;
    *alone = false;
    return 0;
}

static bool each_found_nothing(int status)
{
    (void)status;
    return false;
}

static void each_destroy(struct engine_work *work)
{
    free(work);
}

static const struct engine engine_each = {
    .name = "each",
    .prefix = "each",
    .each = "no option",
    .options = each_rows,
    .option_count = sizeof each_rows / sizeof *each_rows,
    .options_size = sizeof(struct each_options),
    .descriptors = {.base = 8},
    .facts = "engine_facts() { [ -e ~/.no-each ] || echo ready; }\n",
    .guard = "engine_prepare() { echo \"$CLOUDPLAN_RUN\" >.each-was-here; }\n",
    .lacks = each_lacks,
    .asks = each_asks,
    .begin = each_begin,
    .may_stay_here = each_may_stay_here,
    .answered = each_answered,
    .answer = each_answer,
    .settle = each_settle,
    .specify = each_specify,
    .run = each_run,
    .failed = each_failed,
    .found_nothing = each_found_nothing,
    .destroy = each_destroy,
};

const struct engine *const engines[] = {&engine_each, NULL};
