/* Child processes from an argv, never from a shell string; signals; waiting.
 *
 * Waiting is done with poll(2): child_events_fd() becomes readable whenever a
 * child ended or a SIGINT/SIGTERM/SIGHUP came, so that every loop of the
 * program can wait for its own descriptors, for children and for signals at once.
 */
#ifndef CLOUDPLAN_CHILD_H
#define CLOUDPLAN_CHILD_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum child_stdio {
    CHILD_INHERIT,
    CHILD_NULL,  /* /dev/null */
    CHILD_PIPE,  /* a pipe; our end is in struct child, non-blocking, close-on-exec */
    CHILD_STDOUT /* stderr only: the same as stdout */
};

struct child_spec {
    const char *const *argv; /* argv[0] is looked up in PATH */
    const char *const *env;  /* NAME=VALUE to add or replace, "NAME" to remove; NULL: none */
    enum child_stdio in, out, err;
    bool detached; /* a session of its own: no terminal, and no ^C from one */
    bool outlives; /* it is not sent SIGTERM when cloudplan dies, as others are (Linux: PR_SET_PDEATHSIG) */
};

/* For env, of what cleans up after us: without the marks of a run around this one, whose tests have started cloudplan, and whose end
 * would end this, too, before its work is done. */
extern const char *const child_unmarked[];

struct child {
    pid_t pid;        /* 0: not running (never started, or waited for) */
    int status;       /* wait status, valid once pid is 0 after a start */
    int in, out, err; /* our ends of pipes, or -1 */
    bool detached;
};

#define CHILD_INIT                                                                                           \
    {                                                                                                        \
        0, 0, -1, -1, -1, false                                                                              \
    }

/* Installs the handlers for SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM, ignores SIGPIPE and SIGXFSZ.
 * Children get the default dispositions back, whatever cloudplan was started with, but for
 * signals that were ignored then (nohup).  A terminating signal that nobody sees (child_signal(), child_events_clear()) within ten
 * seconds, or that is followed by another one two seconds later, ends the program with 128 + its number: some call blocks.  Opens /dev/null on 0, 1, 2 where they are closed. */
int child_init(struct error *err);
/* Readable when something happened; drained by child_events_clear(). */
int child_events_fd(void);
void child_events_clear(void);
/* Has child_events_clear() call a function now and then, about every interval_ms, from whatever loop is running: for what must go on
 * during every wait.  The descriptor becomes readable in time.  call NULL: no more.  One at a time. */
void child_tick(void (*call)(void *arg), void *arg, int interval_ms);
/* The first terminating signal received, or 0; how many came; and whether the latest came from
 * the terminal's keyboard, so that the foreground children have had it too. */
int child_signal(void);
unsigned child_signal_count(void);
bool child_signal_from_terminal(void);

/* 0, or -1 and *err: STATUS_TOOL where the program does not exist or may not be
 * executed (named), STATUS_SYSTEM else.  No child is left on -1. */
int child_start(struct child *child, const struct child_spec *spec, struct error *err);
/* True once the child has ended (reaps it, without blocking); child->status then holds. */
bool child_ended(struct child *child);
/* Waits at most timeout_ms (-1: for ever); returns child_ended().  A terminating signal does not
 * end the wait. */
bool child_wait(struct child *child, int timeout_ms);
/* Sends a signal: to the whole process group of a detached child, else to the child. */
void child_kill(const struct child *child, int sig);
/* SIGTERM, up to grace_ms, then SIGKILL; reaps; closes the pipes.  Safe on a child never started. */
void child_end(struct child *child, int grace_ms);
/* Reads what is there from a pipe into buf, which keeps the latest bytes and a NUL behind its *len; at the end of the stream closes
 * the pipe, and *fd becomes -1, which poll() passes over (SIGCHLD tells of the child's end).  A child that never stops
 * talking is left for the next call. */
void child_read_latest(int *fd, char *buf, size_t size, size_t *len);
/* The same, but buf keeps the first max bytes, without a NUL; the rest is read and dropped, so that the child can go on.  1 where
 * something was dropped, else 0, or -1 and errno where the pipe cannot be read, which closes it, too. */
int child_read_first(int *fd, char *buf, size_t max, size_t *len);
/* Exit status as a shell would have it: the code, or 128 + signal. */
int child_exit_status(const struct child *child);
/* The signal that has ended it, or 0. */
int child_end_signal(const struct child *child);

/* Runs to the end with stdin /dev/null and collects stdout and, apart, stderr.  At most max bytes
 * of each are kept (the rest is read and dropped), each NUL-terminated, owned by the caller even on a non-zero exit.
 * 0, or -1 and *err: as child_start(), STATUS_SYSTEM on time-out (the child is
 * killed) or STATUS_SIGNAL+N when a terminating signal came.  *status is the exit status. */
int child_capture(const char *const *argv, const char *const *env, int timeout_ms, size_t max, char **out,
                  char **errout, int *status, struct error *err);

/* Monotonic clock, ms. */
long long clock_ms(void);

#endif
