/* One rsync for each directory in question, all at once, told to change nothing.  There are no other tries: where a
 * connection breaks now, the directory stays what it is. */
#include "copy/adopt.h"

#include "base/path.h"
#include "base/rundir.h"
#include "copy/parallel.h"
#include "copy/rsync_cmd.h"
#include "copy/syncout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_BYTES (64 * 1024)

struct question {
    struct node *node;
    char *out, *errors; /* paths */
    char *command;
};

static bool to_be_adopted(const struct node *node)
{
    return node->state == NODE_READY && node->unmarked;
}

static void clear_outputs(struct question *questions, size_t count)
{
    for (size_t i = 0; questions && i < count; i++) {
        free(questions[i].out);
        free(questions[i].errors);
        free(questions[i].command);
    }
    free(questions);
}

static int make(struct question *question, struct node *node, size_t number, const struct rsync_rules *rules,
                const char *ssh_config, const struct sync_params *params)
{
    char out[32], errors[32];
    snprintf(out, sizeof out, "adopt-%zu.out", number);
    snprintf(errors, sizeof errors, "adopt-%zu.err", number);
    question->node = node;
    question->out = path_join(params->rundir, out);
    question->errors = path_join(params->rundir, errors);
    if (!question->out || !question->errors)
        return -1;
    question->command =
        rsync_command(rules, params, RSYNC_ADOPT, node, ssh_config, question->out, question->errors);
    return question->command ? 0 : -1;
}

static void judge(const struct question *question, int status, const char *chdir)
{
    char list[RSYNC_DELETIONS_MAX], words[ERROR_TEXT_MAX] = "";
    size_t len = 0, words_len = 0;
    char *said = rundir_tail(question->errors, WORDS_BYTES, &words_len);
    char *out = rundir_tail(question->out, RSYNC_OUTPUT_MAX, &len);
    if (said)
        rsync_words(said, words_len, words);
    /* A file that vanished here meanwhile (24) is of no account.  One that is cut off is not the whole answer. */
    if (!out || (status != 0 && status != 24) || len == RSYNC_OUTPUT_MAX)
        node_set(question->node, NODE_FAILED,
                 "--cloud-adopt: what the sync would delete there is not known, rsync status %d: %.300s",
                 status, *words ? words : "it said nothing");
    else {
        size_t count = rsync_deletions(out, len, list);
        if (count)
            node_set(question->node, NODE_UNFIT,
                     "%.80s was not made by cloudplan, and --cloud-adopt would delete %zu of what is in it: "
                     "%s%s; move that away, or "
                     "choose another --cloud-chdir",
                     chdir, count, list, strlen(list) + sizeof ", x" < sizeof list ? "" : "...");
    }
    free(out);
    free(said);
    unlink(question->out);
    unlink(question->errors);
}

int adopt_judge(struct node_list *list, const char *ssh_config, const struct sync_params *params,
                struct error *err)
{
    const struct parallel_params parallel = {.rundir = params->rundir,
                                             .max_processes = params->max_processes,
                                             .doing = "looking what the copying would delete"};
    size_t count = 0, n = 0;
    int result = -1;
    for (size_t i = 0; i < list->count; i++)
        count += to_be_adopted(&list->nodes[i]);
    if (count == 0)
        return 0;
    struct rsync_rules *rules = rsync_rules_make(params, err);
    struct question *questions = calloc(count, sizeof *questions);
    char **commands = calloc(count + 1, sizeof *commands);
    int *statuses = calloc(count, sizeof *statuses);
    if (!rules)
        goto out;
    if (!questions || !commands || !statuses) {
        error_errno(err, "adopt");
        goto out;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (!to_be_adopted(&list->nodes[i]))
            continue;
        if (make(&questions[n], &list->nodes[i], n + 1, rules, ssh_config, params)) {
            error_errno(err, "adopt");
            goto out;
        }
        commands[n] = questions[n].command;
        statuses[n++] = -1;
    }
    if (parallel_run(&parallel, commands, count, statuses, err))
        goto out;
    for (size_t i = 0; i < count; i++)
        judge(&questions[i], statuses[i], params->chdir);
    result = 0;
out:
    clear_outputs(questions, count);
    free(commands);
    free(statuses);
    rsync_rules_destroy(rules);
    return result;
}
