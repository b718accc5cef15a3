/* pytest is run as `PYTHON -m pytest --dist=load --tx ... ARGS`.  What the user typed comes
 * last, so that it wins without being understood here.  Everything that takes knowledge of pytest's own
 * options is left to the plugin scripts/pytest_cloudplan/controller.py, which pytest loads by PYTEST_PLUGINS and not by
 * -p: xdist repeats the command line on every worker, where the module does not exist.  `--dist=load` as the
 * first word is the default that the plugin lets the project's addopts override.
 *
 * Status 0 is believed only together with a record that the plugin writes when every test that was collected has been told of
 * (pytest_cloudplan/completion.py): os._exit(0) or exec in a conftest.py would else be a success without a test.  The
 * record is a file of the private directory, removed before each start, and holds a random word of that start.
 *
 * SIGINT is passed on as it is, all else as SIGTERM, on which the plugin makes pytest report as on ^C: pytest
 * by itself dies of it silently, and where cloudplan is a background job of a shell, SIGINT is ignored by all
 * of us.
 */
#include "engine/pytest/start.h"

#include "base/child.h"
#include "base/file.h"
#include "base/path.h"
#include "base/rundir.h"
#include "base/strv.h"
#include "engine/pytest/env.h"
#include "plan/descriptors.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    GRACE_MS = 15000,
    GRACE_SIGTERM_MS = 5000,
    /* timeout(1) signals its child and then the whole group: one wish, not two. */
    SAME_SIGNAL_MS = 500
};

/* An array of borrowed strings; NULL without memory.  *dist is owned by the caller too. */
static const char **command_line(const struct pytest_start *params, char **dist)
{
    *dist = NULL;
    if (params->dist && asprintf(dist, "--dist=%s", params->dist) < 0) {
        *dist = NULL;
        return NULL;
    }
    const char **argv = calloc(6 + 2 * strings_count(params->tx) + strings_count(params->args), sizeof *argv);
    if (!argv)
        return NULL;
    size_t n = 0;
    argv[n++] = params->python;
    argv[n++] = "-m";
    argv[n++] = "pytest";
    argv[n++] = "--dist=load";
    for (char *const *tx = params->tx; *tx; tx++) {
        argv[n++] = "--tx";
        argv[n++] = *tx;
    }
    if (*dist)
        argv[n++] = *dist;
    for (char *const *arg = params->args; *arg; arg++)
        argv[n++] = *arg;
    return argv;
}

/* Waits for the engine's end, and hands signals on. */
static void attend(struct child *child)
{
    unsigned seen = 0;
    long long first = 0;
    while (!child_ended(child)) {
        unsigned signals = child_signal_count();
        long long now = clock_ms();
        if (signals > 0 && seen == 0) {
            first = now;
            if (!child_signal_from_terminal())
                child_kill(child, child_signal() == SIGINT ? SIGINT : SIGTERM);
        } else if (signals > seen && now - first >= SAME_SIGNAL_MS) {
            child_end(child, 0);
            return;
        }
        seen = signals;
        if (seen && now - first >= GRACE_MS) {
            child_end(child, GRACE_SIGTERM_MS);
            return;
        }
        struct pollfd pfd = {.fd = child_events_fd(), .events = POLLIN};
        poll(&pfd, 1, seen ? (int)(GRACE_MS - (now - first)) : -1);
        child_events_clear();
    }
}

/* --- the record of completion --- */

#define RECORD_NAME "complete"
#define RECORD_MAX 2048 /* bytes, more than the plugin writes */

struct record {
    char *path;
    char word[33];  /* random, for one start */
    char *variable; /* _CLOUDPLAN_RECORD=WORD PATH */
};

/* *record is to be cleared also on -1. */
static int record_expect(struct record *record, const char *rundir, struct error *err)
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return error_errno(err, "random numbers");
    for (size_t i = 0; i < sizeof bytes; i++)
        sprintf(record->word + 2 * i, "%02x", bytes[i]);
    if (!(record->path = path_join(rundir, RECORD_NAME)))
        return error_errno(err, rundir);
    if (asprintf(&record->variable, "_CLOUDPLAN_RECORD=%s %s", record->word, record->path) < 0) {
        record->variable = NULL;
        return error_errno(err, rundir);
    }
    if (unlink(record->path) && errno != ENOENT)
        return error_errno(err, record->path);
    /* As large as it will be: the plugin writes over it, which takes no room on a disk that has become full meanwhile. */
    char blank[RECORD_MAX];
    memset(blank, ' ', sizeof blank);
    return rundir_write(rundir, RECORD_NAME, blank, sizeof blank, err);
}

/* What follows the start's word in the record, in text; NULL where there is no record of this start. */
static const char *record_read(const struct record *record, char text[RECORD_MAX])
{
    size_t len, word = strlen(record->word);
    int fd = file_open(record->path);
    if (fd < 0)
        return NULL;
    file_read(fd, text, RECORD_MAX - 1, &len);
    close(fd);
    text[len] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return !strncmp(text, record->word, word) && text[word] == ' ' ? text + word + 1 : NULL;
}

/* Whether status 0 means what it says. */
static int record_judge(const struct record *record, struct error *err)
{
    char text[RECORD_MAX];
    const char *said = record_read(record, text);
    if (said && !strcmp(said, "complete"))
        return 0;
    if (said)
        return error_set(
            err, STATUS_BUG,
            "pytest ended with status 0, but %s: does a conftest.py or a plugin replace the exit status?",
            said);
    return error_set(err, STATUS_BUG,
                     "pytest ended with status 0 before it had told of every test: something ended its "
                     "process (os._exit, sys.exit "
                     "or exec in a conftest.py or a plugin?); pytest.exit() would end the run properly");
}

static void record_clear(struct record *record)
{
    if (record->path)
        unlink(record->path);
    free(record->path);
    free(record->variable);
}

int pytest_run(const struct pytest_start *params, int *status, struct error *err)
{
    struct child child = CHILD_INIT;
    struct record record = {0};
    char *dist = NULL, *failed = NULL, *items = NULL, **env = NULL, files[48] = "_CLOUDPLAN_FILES";
    const char **argv = NULL;
    int result = -1;

    if (params->failed && asprintf(&failed, "_CLOUDPLAN_FAILED=%s", params->failed) < 0) {
        failed = NULL;
        error_errno(err, params->python);
        goto out;
    }
    if (record_expect(&record, params->rundir, err))
        goto out;
    /* The engine takes the raised limit for its workers' streams; workers here have the user's own back. */
    if (descriptors_given())
        snprintf(files, sizeof files, "_CLOUDPLAN_FILES=%llu", (unsigned long long)descriptors_given());
    if (!(items = plugin_env_items(params->env, params->typed_env, err)))
        goto out;
    const char *const more[] = {record.variable, files, items, failed, NULL};
    env = plugin_environment(params->rundir, params->run_id, "pytest_cloudplan,pytest_cloudplan.controller",
                             more, err);
    if (!env)
        goto out;
    argv = command_line(params, &dist);
    if (!argv) {
        error_errno(err, params->python);
        goto out;
    }
    struct child_spec spec = {.argv = argv, .env = (const char *const *)env};
    if (child_start(&child, &spec, err))
        goto out;
    attend(&child);
    *status = child_signal() ? STATUS_SIGNAL + child_signal() : child_exit_status(&child);
    int sig = child_end_signal(&child);
    /* By whomever: nothing that it would have reported, or written, can be relied on. */
    result = sig && !child_signal()
                 ? error_set(err, STATUS_SIGNAL + sig,
                             "pytest was ended by signal %d (%s): its results are incomplete%s", sig,
                             strsignal(sig), sig == SIGXFSZ ? ERROR_FILE_LIMIT : "")
             : *status == 0 ? record_judge(&record, err)
                            : 0;
out:
    child_end(&child, 0);
    free(argv);
    free(dist);
    free(failed);
    free(items);
    record_clear(&record);
    strings_free(env);
    return result;
}
