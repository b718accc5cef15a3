/* One run of GNU parallel.  What each job prints goes to files of its own (the command says which); how each ended is told by
 * the joblog, which is followed for the progress: --bar and --eta off a terminal print thousands of carriage returns.
 */
#include "copy/parallel.h"

#include "base/child.h"
#include "base/path.h"
#include "base/rundir.h"
#include "base/tool.h"
#include "copy/syncout.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LINE_LENGTH                                                                                          \
    "130000" /* bytes: Linux takes 128 KiB for one argument, such as the command for a shell */
#define ARG_MAX_LEAST (1 << 20)
#define TICK_MS 250       /* how often the progress is looked at */
#define JOBLOG_RECORD 256 /* bytes of a joblog's record beside the command, at most */

int parallel_check(struct error *err)
{
    /* The oldest that distributions still have; older ones were never tried. */
    return tool_check("parallel", "--version", "GNU parallel ", 20160222, 0,
                      "GNU parallel is needed, 20160222 or newer; moreutils has another program of that name "
                      "(Debian: apt-get install parallel)",
                      err);
}

/* Numbers in the joblog count the jobs; each record repeats its command. */
static void read_joblog(const char *path, size_t list_bytes, int *statuses, size_t count)
{
    size_t len = 0;
    char *joblog = rundir_tail(path, list_bytes + (count + 1) * JOBLOG_RECORD, &len);
    joblog_read(joblog ? joblog : "", len, statuses, count);
    free(joblog);
}

static int write_list(const char *rundir, char *const *commands, size_t count, size_t *bytes,
                      struct error *err)
{
    char *text = NULL;
    FILE *list = open_memstream(&text, bytes);
    if (!list)
        return error_errno(err, "GNU parallel");
    for (size_t i = 0; i < count; i++)
        fwrite(commands[i], 1, strlen(commands[i]) + 1, list);
    int result = fclose(list) ? error_errno(err, "GNU parallel")
                              : rundir_write(rundir, "parallel.list", text, *bytes, err);
    free(text);
    return result;
}

/* GNU parallel measures the longest command line by starting some twelve processes, which is most of its own start, and
 * keeps the answer in its home, which is a new one in each run.  Where all arguments together may be as long as usual the answer
 * is known.  A version that looks for it elsewhere measures, as any does where this cannot be written. */
static void tell_line_length(const char *home)
{
    struct utsname machine;
    struct error err = {0};
    if (sysconf(_SC_ARG_MAX) < ARG_MAX_LEAST || uname(&machine))
        return;
    char *tmp = path_join(home, "tmp"), *logins = tmp ? path_join(tmp, "sshlogin") : NULL;
    char *here = logins ? path_join(logins, machine.nodename) : NULL;
    char *length = here ? path_join(here, "linelen") : NULL;
    if (length && !mkdir(tmp, 0700) && !mkdir(logins, 0700) && !mkdir(here, 0700) &&
        rundir_write(here, "linelen", LINE_LENGTH, strlen(LINE_LENGTH), &err))
        unlink(length); /* an empty one is an error to it */
    free(length);
    free(here);
    free(logins);
    free(tmp);
}

int parallel_run(const struct parallel_params *params, char *const *commands, size_t count, int *statuses,
                 struct error *err)
{
    char jobs[32], home[4096], tmp[4096], words[2048];
    size_t words_len = 0, list_bytes;
    struct child child = CHILD_INIT;
    int result = -1;
    char *list = path_join(params->rundir, "parallel.list"),
         *joblog = path_join(params->rundir, "parallel.joblog");
    if (!list || !joblog) {
        error_errno(err, "GNU parallel");
        goto out;
    }
    unlink(joblog);
    tell_line_length(params->rundir);
    if (write_list(params->rundir, commands, count, &list_bytes, err))
        goto out;
    /* It makes ready for so many as it is told, whatever there is to do: a large number takes minutes, and all memory. */
    bool fewer = params->max_processes && params->max_processes < count;
    snprintf(jobs, sizeof jobs, "-j%zu", fewer ? params->max_processes : count);
    snprintf(home, sizeof home, "PARALLEL_HOME=%s", params->rundir);
    snprintf(tmp, sizeof tmp, "TMPDIR=%s", params->rundir); /* the user's may be one that we could not use */
    /* --plain, no PARALLEL and a home of its own: no profile of the user's changes what runs. */
    const char *argv[] = {"parallel", "--plain", "-0", "-a", list, jobs, "--joblog", joblog, NULL};
    const char *env[] = {"PARALLEL", "PARALLEL_SHELL=/bin/sh", home, tmp, "LC_ALL=C", NULL};
    const struct child_spec spec = {
        .argv = argv, .env = env, .in = CHILD_NULL, .out = CHILD_NULL, .err = CHILD_PIPE, .detached = true};
    if (child_start(&child, &spec, err))
        goto out;
    long long tick = clock_ms();
    while (!child_ended(&child)) {
        struct pollfd fds[2] = {{child_events_fd(), POLLIN, 0}, {child.err, POLLIN, 0}};
        poll(fds, 2, TICK_MS);
        child_events_clear();
        if (fds[1].revents)
            child_read_first(&child.err, words, sizeof words - 1, &words_len);
        if (child_signal()) {
            child_end(&child, 2000);
            error_set(err, STATUS_SIGNAL + child_signal(), "%s while %s", strsignal(child_signal()),
                      params->doing);
            goto out;
        }
        if (params->tick && clock_ms() - tick >= TICK_MS) {
            read_joblog(joblog, list_bytes, statuses, count);
            params->tick(params->tick_arg, statuses, count);
            tick = clock_ms();
        }
    }
    /* What it said last.  Others may have the pipe still, and say more: that is not waited for. */
    child_read_first(&child.err, words, sizeof words - 1, &words_len);
    read_joblog(joblog, list_bytes, statuses, count);
    if (params->tick)
        params->tick(params->tick_arg, statuses, count);
    int status = child_exit_status(&child), sig = child_end_signal(&child);
    while (words_len && words[words_len - 1] == '\n')
        words_len--;
    words[words_len] = '\0';
    /* Up to 100: so many jobs have failed.  101: more than that.  Beyond, or without a joblog: parallel itself. */
    if (sig)
        error_set(err, STATUS_SYSTEM, "GNU parallel was ended by signal %d (%s)%s", sig, strsignal(sig),
                  sig == SIGXFSZ ? ERROR_FILE_LIMIT : "");
    else if (status > 101 &&
             strstr(words, "disk full")) /* it speaks of options that are not the user's to give */
        error_set(err, STATUS_SYSTEM, "GNU parallel in %s: %s", params->rundir, strerror(ENOSPC));
    else if (status > 101 || access(joblog, R_OK))
        error_set(err, STATUS_SYSTEM, "GNU parallel failed with status %d: %.300s", status,
                  *words ? words : "it said nothing");
    else
        result = 0;
out:
    child_end(&child, 0);
    free(list);
    free(joblog);
    return result;
}
