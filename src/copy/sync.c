/* The copy: one rsync for each node, run by GNU parallel, in rounds.
 *
 * Every rsync writes to files of its own, which are followed for the progress.  Connections that broke are
 * opened anew between the rounds.  A file that was cut goes on where it was cut, so that a connection that breaks again and again
 * brings it all as long as each try brings something.  With `verify` a last round compares what is there with what is here, by
 * checksums and with the same filters: rsync itself, told to change nothing, names what it would change.
 */
#include "copy/sync.h"

#include "base/child.h"
#include "base/path.h"
#include "base/rundir.h"
#include "base/tool.h"
#include "copy/parallel.h"
#include "copy/rsync_cmd.h"
#include "copy/syncout.h"
#include "ssh/ssh_target.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 3 /* of a node whose connection breaks, in a row without that more of the copy is there */
#define AGAIN_MS 900000 /* no try begins later, whatever the former ones have brought */
#define TAIL_BYTES 4096 /* of an output: its end is what counts */
#define WORDS_BYTES (64 * 1024)
#define EXIT_TIMEOUT_MS 2000  /* of an ssh that tells a master to end */
#define LOOK_TIMEOUT_MS 30000 /* of an ssh that looks at what is there: a copy may have a million files */
#define LOOK_BYTES 40         /* of what it says */

struct job {
    struct node *node;
    char *out, *errors; /* paths */
    uint64_t bytes;     /* sent, in all rounds */
    uint64_t total;     /* estimated */
    int status;         /* -1: not ended */
    unsigned idle;      /* tries in a row that have brought nothing */
    char there
        [LOOK_BYTES]; /* a checksum of the list of what was there after the last try that could be looked at */
};

struct sync {
    const struct sync_params *params;
    struct masters *masters;
    struct rsync_rules *rules;
    struct job *jobs;
    size_t count;
    int *round;           /* exit statuses of this round's jobs, in order */
    enum rsync_mode mode; /* of this round */
    long long started;
};

int sync_check_tools(struct error *err)
{
    if (tool_check("rsync", "--version", "rsync  version ", 3, 1,
                   "rsync 3.1 or newer is needed (Debian: apt-get install rsync)", err))
        return -1;
    return parallel_check(err) ||
                   tool_check("ssh", "-V", NULL, 0, 0,
                              "the OpenSSH client is needed (Debian: apt-get install openssh-client)", err)
               ? -1
               : 0;
}

static void report_progress(void *arg, const int *statuses, size_t count)
{
    struct sync *s = arg;
    struct sync_progress progress = {.nodes_total = s->count, .elapsed_ms = clock_ms() - s->started};
    size_t measured = 0, seq = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct job *job = &s->jobs[i];
        size_t tail_len = 0;
        char *tail = job->status == -1 ? rundir_tail(job->out, TAIL_BYTES, &tail_len) : NULL;
        unsigned percent;
        uint64_t bytes;
        if (tail && rsync_progress(tail, tail_len, &bytes, &percent)) {
            job->bytes = bytes;
            job->total = percent ? bytes / percent * 100 : 0;
        }
        free(tail);
        int status = job->status == -1 && seq < count ? statuses[seq++] : job->status;
        if (status >= 0 && job->node->state != NODE_READY)
            status = 255; /* cut */
        if (status == 0 || status == 24)
            progress.nodes_done++;
        else if (status > 0)
            progress.nodes_failed++;
        progress.bytes += job->bytes;
        progress.bytes_total += job->total > job->bytes ? job->total : job->bytes;
        measured += job->total != 0 || status >= 0;
    }
    if (measured < s->count)
        progress.bytes_total = 0;
    if (s->params->progress)
        s->params->progress(s->params->progress_arg, &progress);
}

/* A session's diagnostics go into our file by the hand of its master, whom no limit of rsync's own reaches, and go on for as
 * long as anything there prints some: the connection is cut. */
static void cut_words(struct sync *s, struct job *job)
{
    char port[SSH_TARGET_PORT], words[ERROR_TEXT_MAX] = "", *out, *errors;
    const char *argv[20] = {"ssh", "-F", masters_ssh_config(s->masters), "-O", "exit"};
    size_t n = 5, len = 0;
    int status;
    char *tail = rundir_tail(job->errors, TAIL_BYTES, &len);
    if (tail)
        rsync_words(tail, len, words);
    free(tail);
    node_set(job->node, NODE_FAILED, "more than %d MiB of diagnostics during the sync, such as: %.300s",
             RSYNC_OUTPUT_MAX / 1024 / 1024, words);
    n += ssh_target(job->node, argv + n, port);
    argv[n] = NULL;
    child_capture(argv, NULL, EXIT_TIMEOUT_MS, 1, &out, &errors, &status, NULL);
    free(out);
    free(errors);
}

static void look_after(void *arg, const int *statuses, size_t count)
{
    struct sync *s = arg;
    struct stat st;
    for (size_t i = 0; i < s->count; i++) {
        struct job *job = &s->jobs[i];
        if (job->status == -1 && job->node->state == NODE_READY && !stat(job->errors, &st) &&
            st.st_size > RSYNC_OUTPUT_MAX)
            cut_words(s, job);
    }
    if (s->mode == RSYNC_COPY)
        report_progress(arg, statuses, count);
}

/* One command for each job that has not ended, in order: that is how statuses come back. */
static int run_round(struct sync *s, struct error *err)
{
    const struct parallel_params params = {
        .rundir = s->params->rundir,
        .max_processes = s->params->max_processes,
        .doing = s->mode == RSYNC_COPY ? "copying" : "comparing the copies",
        .tick = look_after,
        .tick_arg = s,
    };
    char **commands = calloc(s->count + 1, sizeof *commands);
    size_t count = 0;
    int result = 0;
    if (!commands)
        return error_errno(err, "sync");
    for (size_t i = 0; result == 0 && i < s->count; i++) {
        struct job *job = &s->jobs[i];
        if (job->status != -1)
            continue;
        commands[count] = rsync_command(s->rules, s->params, s->mode, job->node,
                                        masters_ssh_config(s->masters), job->out, job->errors);
        if (!commands[count])
            result = error_errno(err, "sync");
        else
            s->round[count++] = -1;
    }
    if (result == 0)
        result = parallel_run(&params, commands, count, s->round, err);
    for (size_t i = 0; i < count; i++)
        free(commands[i]);
    free(commands);
    return result;
}

/* The node drops out, with rsync's words. */
static void fail_node(struct job *job, const char *doing)
{
    char words[ERROR_TEXT_MAX] = "";
    size_t tail_len = 0;
    char *tail = rundir_tail(job->errors, WORDS_BYTES, &tail_len);
    if (tail)
        rsync_words(tail, tail_len, words);
    free(tail);
    if (job->status == 2)
        node_set(
            job->node, NODE_FAILED,
            "%s failed: its login shell prints something by itself; ~/.bashrc and the like must be quiet "
            "for shells without a terminal (rsync: %.200s)",
            doing, words);
    else if (job->status == STATUS_SIGNAL + SIGXFSZ)
        node_set(job->node, NODE_FAILED,
                 "%s failed, rsync status %d: it was ended by signal %d (%s): its output has more than %d "
                 "MiB, or than "
                 "ulimit -f allows here; words of it: %.200s",
                 doing, job->status, SIGXFSZ, strsignal(SIGXFSZ), RSYNC_OUTPUT_MAX / 1024 / 1024,
                 *words ? words : "none");
    else
        node_set(job->node, NODE_FAILED, "%s failed, rsync status %d: %.400s%s", doing, job->status,
                 *words ? words : "it said nothing",
                 strstr(words, strerror(EFBIG)) ? "; raise ulimit -f, the limit of a file's size, there"
                                                : "");
}

/* Looks, over the new connection, whether the last try has brought anything.  The sender cannot tell: it knows what it has sent, and
 * megabytes of that may have been lost on the way.  A file that has come is another inode than the one before; one that was cut
 * has another size.  The names that rsync gives to a file that it is receiving, .NAME.XXXXXX, are left out, and the
 * guard's mark, which each connection writes. */
static void look_at_copy(const struct sync *s, struct job *job)
{
    char port[SSH_TARGET_PORT], command[2 * PATH_MAX], *out = NULL, *words = NULL;
    const char *argv[20] = {"ssh", "-F", masters_ssh_config(s->masters)};
    size_t n = 3;
    int status;
    char *place = node_place(job->node, s->params->chdir, s->params->chdir);
    if (!place || s->mode != RSYNC_COPY)
        goto out;
    snprintf(command, sizeof command,
             "find '%s' ! -type d ! -name '.*.\?\?\?\?\?\?' ! -name .cloudplan -exec ls -lin {} + | cksum",
             place);
    n += ssh_target(job->node, argv + n, port);
    argv[n++] = command;
    argv[n] = NULL;
    if (child_capture(argv, NULL, LOOK_TIMEOUT_MS, LOOK_BYTES - 1, &out, &words, &status, NULL) || status ||
        !strcmp(out, job->there))
        goto out;
    if (*job->there)
        job->idle = 0;
    snprintf(job->there, sizeof job->there, "%s", out);
out:
    free(out);
    free(words);
    free(place);
}

/* How each job of the round ended; returns how many are worth another try. */
static size_t read_results(struct sync *s)
{
    size_t again = 0, seq = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct job *job = &s->jobs[i];
        if (job->status != -1)
            continue;
        int status = s->round[seq++];
        if (job->node->state != NODE_READY) { /* cut, for a reason of its own */
            job->status = 255;
            unlink(job->errors); /* it may be large */
            continue;
        }
        enum rsync_verdict verdict = status < 0 ? RSYNC_FAILED : rsync_verdict(status);
        if (verdict == RSYNC_RETRY && ++job->idle < TRIES && clock_ms() - s->started < AGAIN_MS) {
            again++;
            continue;
        }
        job->status = status < 0 ? 255 : status;
        if (verdict != RSYNC_OK)
            fail_node(job, s->mode == RSYNC_COPY ? "sync" : "comparing the copy");
    }
    return again;
}

static int run_rounds(struct sync *s, struct error *err)
{
    for (;;) {
        if (run_round(s, err))
            return -1;
        if (read_results(s) == 0)
            return 0;
        if (masters_reopen(s->masters, err))
            return -1;
        /* A node whose master did not come back is out, with ssh's words. */
        size_t left = 0;
        for (size_t i = 0; i < s->count; i++) {
            if (s->jobs[i].status == -1 && s->jobs[i].node->state != NODE_READY)
                s->jobs[i].status = 255;
            if (s->jobs[i].status == -1)
                look_at_copy(s, &s->jobs[i]);
            left += s->jobs[i].status == -1;
        }
        if (left == 0)
            return 0;
    }
}

/* Nodes whose copy is not what is here drop out. */
static int verify(struct sync *s, struct error *err)
{
    s->mode = RSYNC_VERIFY;
    for (size_t i = 0; i < s->count; i++)
        if (s->jobs[i].node->state == NODE_READY) {
            s->jobs[i].status = -1;
            s->jobs[i].idle = 0;
        }
    if (run_rounds(s, err))
        return -1;
    for (size_t i = 0; i < s->count; i++) {
        struct job *job = &s->jobs[i];
        char name[300];
        size_t len = 0;
        char *out = job->node->state == NODE_READY ? rundir_tail(job->out, WORDS_BYTES, &len) : NULL;
        size_t differences = out ? rsync_differences(out, len, name, sizeof name) : 0;
        if (job->node->state == NODE_READY && !out)
            node_set(job->node, NODE_FAILED, "comparing the copy failed: rsync has left no answer");
        else if (differences)
            node_set(job->node, NODE_FAILED, "its copy is not what is here: %zu%s differ%s, such as %s",
                     differences, len == WORDS_BYTES ? " or more" : "", differences == 1 ? "s" : "", name);
        free(out);
    }
    return 0;
}

static int make_jobs(struct sync *s, struct node_list *list, struct error *err)
{
    s->jobs = calloc(list->count ? list->count : 1, sizeof *s->jobs);
    s->round = calloc(list->count ? list->count : 1, sizeof *s->round);
    if (!s->jobs || !s->round)
        return error_errno(err, "sync");
    for (size_t i = 0; i < list->count; i++) {
        if (list->nodes[i].state != NODE_READY || list->nodes[i].local)
            continue;
        struct job *job = &s->jobs[s->count++];
        char name[32];
        job->node = &list->nodes[i];
        job->status = -1;
        snprintf(name, sizeof name, "sync-%zu.out", s->count);
        job->out = path_join(s->params->rundir, name);
        snprintf(name, sizeof name, "sync-%zu.err", s->count);
        job->errors = path_join(s->params->rundir, name);
        if (!job->out || !job->errors)
            return error_errno(err, "sync");
    }
    return 0;
}

int sync_run(struct node_list *list, struct masters *masters, const struct sync_params *params,
             struct error *err)
{
    struct sync s = {.params = params, .masters = masters, .started = clock_ms()};
    int result = -1;
    s.rules = rsync_rules_make(params, err);
    if (!s.rules || make_jobs(&s, list, err))
        goto out;
    result = s.count ? run_rounds(&s, err) : 0;
    if (result == 0 && s.count && params->verify)
        result = verify(&s, err);
    if (result == 0 && node_list_ready(list) == 0) {
        const struct node *node = s.count ? s.jobs[0].node : NULL;
        result = error_set(err, STATUS_SYNC, "the sync failed on every node; %s: %s",
                           node ? node->name : "none", node ? node->reason : "no node was left to copy to");
    }
out:
    for (size_t i = 0; s.jobs && i < s.count; i++) {
        free(s.jobs[i].out);
        free(s.jobs[i].errors);
    }
    free(s.jobs);
    free(s.round);
    rsync_rules_destroy(s.rules);
    return result;
}
