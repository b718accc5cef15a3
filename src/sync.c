/* GNU parallel runs one rsync per node.
 *
 * Each job is a whole command line in the data (`parallel -0 -a FILE` without a command): a template would have
 * GNU parallel look for replacement strings in the user's paths.  Every rsync writes to files of its
 * own, which are followed for the progress; the joblog tells how each ended.
 */
#include "sync.h"

#include "child.h"
#include "rsync_cmd.h"
#include "rundir.h"
#include "syncout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 3          /* one, and two more for nodes whose connection broke */
#define TICK_MS 250       /* how often the progress is looked at */
#define TAIL_BYTES 4096   /* of an output: its end is what counts */
#define JOBLOG_RECORD 256 /* bytes of a joblog's record beside the command, at most */

struct job {
    struct node *node;
    char *out, *errors; /* paths */
    uint64_t bytes;     /* sent, in all rounds */
    uint64_t total;     /* estimated */
    int status;         /* -1: not ended */
};

struct sync {
    const struct sync_params *params;
    struct masters *masters;
    struct rsync_rules *rules;
    struct job *jobs;
    size_t count;
    char *list, *joblog;
    size_t list_bytes;
    int *round; /* exit statuses of this round's jobs, in order */
    long long started;
};

/* At most max bytes of a file's end, NUL-terminated, owned by the caller; NULL where there is none. */
static char *read_tail(const char *path, size_t max, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    if (fd < 0)
        return NULL;
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > (off_t)max ? size - (off_t)max : 0;
    if (size >= 0 && lseek(fd, from, SEEK_SET) >= 0 && (text = malloc(max + 1))) {
        *len = 0;
        ssize_t n;
        while (*len < max && (n = read(fd, text + *len, max - *len)) > 0)
            *len += (size_t)n;
        text[*len] = '\0';
    }
    close(fd);
    return text;
}

int sync_check_tools(struct error *err)
{
    static const struct {
        const char *name, *begins, *hint;
    } tools[] = {
        {"rsync", "rsync  version 3.", "rsync 3.1 or newer is needed (Debian: apt-get install rsync)"},
        {"parallel", "GNU parallel ",
         "GNU parallel is needed, moreutils has another program of that name (Debian: apt-get install parallel)"},
        {"ssh", NULL, "the OpenSSH client is needed (Debian: apt-get install openssh-client)"},
    };
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++) {
        const char *argv[] = {tools[i].name, tools[i].begins ? "--version" : "-V", NULL};
        static const char *const env[] = {"PARALLEL", NULL};
        struct error why = ERROR_INIT;
        char *out, *words;
        int status = 0;
        int started = child_capture(argv, env, 10000, 4096, &out, &words, &status, &why);
        bool fits = started == 0 && status == 0 &&
                    (!tools[i].begins || !strncmp(out, tools[i].begins, strlen(tools[i].begins)));
        free(out);
        free(words);
        if (started && why.status != STATUS_TOOL)
            return error_set(err, why.status, "%s", why.text);
        if (!fits)
            return error_set(err, STATUS_TOOL, "%s: %s; %s", tools[i].name,
                             started ? "not found" : "not the program that it should be", tools[i].hint);
    }
    return 0;
}

/* Fills s->round.  Numbers in the joblog count the jobs of this round; each record repeats its command. */
static void read_joblog(struct sync *s)
{
    size_t len = 0;
    char *joblog = read_tail(s->joblog, s->list_bytes + (s->count + 1) * JOBLOG_RECORD, &len);
    joblog_read(joblog ? joblog : "", len, s->round, s->count);
    free(joblog);
}

static void report_progress(struct sync *s)
{
    struct sync_progress progress = {.nodes_total = s->count, .elapsed_ms = clock_ms() - s->started};
    size_t measured = 0, seq = 0;
    read_joblog(s);
    for (size_t i = 0; i < s->count; i++) {
        struct job *job = &s->jobs[i];
        size_t tail_len = 0;
        char *tail = job->status == -1 ? read_tail(job->out, TAIL_BYTES, &tail_len) : NULL;
        unsigned percent;
        uint64_t bytes;
        if (tail && rsync_progress(tail, tail_len, &bytes, &percent)) {
            job->bytes = bytes;
            job->total = percent ? bytes / percent * 100 : 0;
        }
        free(tail);
        int status = job->status == -1 ? s->round[seq++] : job->status;
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

/* One record for each job that has not ended, in order: their numbers are its place among them. */
static int write_list(struct sync *s, struct error *err)
{
    char *text = NULL;
    size_t len;
    FILE *list = open_memstream(&text, &len);
    if (!list)
        return error_errno(err, "sync");
    int result = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct job *job = &s->jobs[i];
        if (job->status != -1)
            continue;
        char *command = rsync_command(s->rules, s->params, job->node, masters_ssh_config(s->masters), job->out, job->errors);
        if (!command) {
            result = error_errno(err, "sync");
            break;
        }
        fwrite(command, 1, strlen(command) + 1, list);
        free(command);
    }
    if (fclose(list) && !result)
        result = error_errno(err, "sync");
    if (!result)
        result = rundir_write(s->params->rundir, "sync.list", text, len, err);
    s->list_bytes = len;
    free(text);
    return result;
}

/* Keeps the first bytes, drops the rest: a full pipe would stop GNU parallel. */
static void read_words(int *fd, char *words, size_t *len, size_t max)
{
    char drop[4096];
    bool room = *len < max;
    ssize_t n = room ? read(*fd, words + *len, max - *len) : read(*fd, drop, sizeof drop);
    if (n > 0 && room)
        *len += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close(*fd);
        *fd = -1; /* poll() passes over it */
    }
}

static int run_parallel(struct sync *s, struct error *err)
{
    char jobs[32], home[4096];
    snprintf(jobs, sizeof jobs, "-j%zu", s->params->max_processes ? s->params->max_processes : s->count);
    snprintf(home, sizeof home, "PARALLEL_HOME=%s", s->params->rundir);
    /* --plain, no PARALLEL and a home of its own: no profile of the user's changes what runs. */
    const char *argv[] = {"parallel", "--plain", "-0", "-a", s->list, jobs, "--joblog", s->joblog, NULL};
    const char *env[] = {"PARALLEL", "PARALLEL_SHELL=/bin/sh", home, "LC_ALL=C", NULL};
    const struct child_spec spec = {
        .argv = argv, .env = env, .in = CHILD_NULL, .out = CHILD_NULL, .err = CHILD_PIPE, .detached = true};
    struct child child = CHILD_INIT;
    char words[2048];
    size_t words_len = 0;
    unlink(s->joblog);
    if (child_start(&child, &spec, err))
        return -1;
    long long tick = clock_ms();
    while (!child_ended(&child)) {
        struct pollfd fds[2] = {{child_events_fd(), POLLIN, 0}, {child.err, POLLIN, 0}};
        poll(fds, 2, TICK_MS);
        child_events_clear();
        if (fds[1].revents)
            read_words(&child.err, words, &words_len, sizeof words - 1);
        if (child_signal()) {
            child_end(&child, 2000);
            return error_set(err, STATUS_SIGNAL + child_signal(), "%s while copying", strsignal(child_signal()));
        }
        if (clock_ms() - tick >= TICK_MS) {
            report_progress(s);
            tick = clock_ms();
        }
    }
    report_progress(s);
    int status = child_exit_status(&child);
    child_end(&child, 0);
    words[words_len] = '\0';
    /* Up to 100: so many jobs have failed.  101: more than that.  Beyond, or without a joblog: parallel itself. */
    if (status > 101 || access(s->joblog, R_OK))
        return error_set(err, STATUS_SYSTEM, "GNU parallel failed with status %d: %.300s", status, words);
    return 0;
}

/* How each job of the round ended; returns how many are worth another try. */
static size_t read_results(struct sync *s, bool last)
{
    size_t again = 0, seq = 0;
    read_joblog(s);
    for (size_t i = 0; i < s->count; i++) {
        struct job *job = &s->jobs[i];
        if (job->status != -1)
            continue;
        int status = s->round[seq++];
        enum rsync_verdict verdict = status < 0 ? RSYNC_FAILED : rsync_verdict(status);
        if (verdict == RSYNC_RETRY && !last) {
            again++;
            continue;
        }
        job->status = status < 0 ? 255 : status;
        if (verdict == RSYNC_OK)
            continue;
        char words[ERROR_TEXT_MAX] = "";
        size_t tail_len = 0;
        char *tail = read_tail(job->errors, 64 * 1024, &tail_len);
        if (tail)
            rsync_words(tail, tail_len, words);
        free(tail);
        if (job->status == 2)
            node_set(job->node, NODE_FAILED,
                     "sync failed: its login shell prints something by itself; ~/.bashrc and the like must be quiet "
                     "for shells without a terminal (rsync: %.200s)",
                     words);
        else
            node_set(job->node, NODE_FAILED, "sync failed, rsync status %d: %.400s", job->status,
                     *words ? words : "it said nothing");
    }
    return again;
}

static int copy(struct sync *s, struct error *err)
{
    for (int round = 1; round <= ROUNDS; round++) {
        if (write_list(s, err) || run_parallel(s, err))
            return -1;
        if (read_results(s, round == ROUNDS) == 0)
            return 0;
        if (masters_reopen(s->masters, err))
            return -1;
        /* A node whose master did not come back is out, with ssh's words. */
        size_t left = 0;
        for (size_t i = 0; i < s->count; i++) {
            if (s->jobs[i].status == -1 && s->jobs[i].node->state != NODE_READY)
                s->jobs[i].status = 255;
            left += s->jobs[i].status == -1;
        }
        if (left == 0)
            return 0;
    }
    return 0;
}

static int make_jobs(struct sync *s, struct node_list *list, struct error *err)
{
    s->jobs = calloc(list->count ? list->count : 1, sizeof *s->jobs);
    s->round = calloc(list->count ? list->count : 1, sizeof *s->round);
    s->list = path_join(s->params->rundir, "sync.list");
    s->joblog = path_join(s->params->rundir, "sync.joblog");
    if (!s->jobs || !s->round || !s->list || !s->joblog)
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

int sync_run(struct node_list *list, struct masters *masters, const struct sync_params *params, struct error *err)
{
    struct sync s = {.params = params, .masters = masters, .started = clock_ms()};
    int result = -1;
    s.rules = rsync_rules_make(params, err);
    if (!s.rules || make_jobs(&s, list, err))
        goto out;
    result = s.count ? copy(&s, err) : 0;
    if (result == 0 && node_list_ready(list) == 0) {
        const struct node *node = s.count ? s.jobs[0].node : NULL;
        result = error_set(err, STATUS_SYNC, "the sync failed on every node; %s: %s", node ? node->name : "none",
                           node ? node->reason : "no node was left to copy to");
    }
out:
    for (size_t i = 0; s.jobs && i < s.count; i++) {
        free(s.jobs[i].out);
        free(s.jobs[i].errors);
    }
    free(s.jobs);
    free(s.round);
    free(s.list);
    free(s.joblog);
    rsync_rules_destroy(s.rules);
    return result;
}
