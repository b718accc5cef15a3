/* Children and signals.
 *
 * Decided here: one self-pipe for SIGCHLD and the terminating signals rather than
 * signalfd or pidfd, so that it works wherever poll(2) does; waitpid on the
 * very pid, never on -1, so that no two parts of the program take each
 * other's children; a failed exec comes back through a close-on-exec pipe, and
 * the child never returns into the parent's code.
 */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

extern char **environ;

#define READS_MAX 64 /* more than a pipe holds, at a page each */

/* A terminating signal that nobody has looked at for so long, or the next one this long after it, ends the program on the spot. */
#define UNSEEN_S 10
#define UNSEEN_AGAIN_S 2

static int events[2] = {-1, -1};
static volatile sig_atomic_t first_signal, signal_count, from_terminal;
static volatile sig_atomic_t
    unseen_since; /* seconds of the clock, at least 1; 0: every signal has been seen */
static bool was_ignored[NSIG];
static const int terminating[] = {SIGINT, SIGTERM, SIGHUP};
const char *const child_unmarked[] = {"CLOUDPLAN_CONTROLLER", "CLOUDPLAN_RUN", "SSH_CONNECTION", NULL};

static struct {
    void (*volatile call)(void *);
    void *arg;
    int interval_ms;
    long long next;
} tick;

long long clock_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void wake(void)
{
    /* A full pipe has woken its reader already. */
    while (write(events[1], "", 1) < 0 && errno == EINTR)
        ;
}

/* Only what is safe in a handler.  What is left is cleaned up by the janitor and by the guards, as after SIGKILL. */
static void end_at_once(void)
{
    struct pollfd err = {.fd = STDERR_FILENO, .events = POLLOUT}; /* it may be what the program waits for */
    const char *words =
        first_signal == SIGINT   ? "cloudplan: Interrupt, and an operation does not end: ended at once\n"
        : first_signal == SIGHUP ? "cloudplan: Hangup, and an operation does not end: ended at once\n"
                                 : "cloudplan: Terminated, and an operation does not end: ended at once\n";
    if (poll(&err, 1, 0) > 0 && (err.revents & POLLOUT) && write(STDERR_FILENO, words, strlen(words)) < 0)
        _exit(STATUS_SIGNAL + first_signal);
    _exit(STATUS_SIGNAL + first_signal);
}

/* Every loop of the program looks at signals.  A call that blocks where nobody has thought of it (a write to a pipe that is full, a
 * file system that has gone) does not: it has some seconds. */
static void watch_unseen(bool terminates)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    sig_atomic_t second = (sig_atomic_t)(now.tv_sec % 1000000000 + 1);
    if (terminates && !unseen_since) {
        unseen_since = second;
        if (!tick.call)
            alarm(UNSEEN_S);
    } else if (unseen_since && second - unseen_since >= (terminates ? UNSEEN_AGAIN_S : UNSEEN_S)) {
        end_at_once();
    }
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)context;
    int saved = errno;
    bool terminates = sig != SIGCHLD && sig != SIGALRM;
    if (terminates) {
        if (!first_signal)
            first_signal = sig;
        signal_count++;
        /* The terminal driver's signals come from the kernel, to the whole foreground group. */
        from_terminal = info->si_code > 0;
    }
    watch_unseen(terminates);
    wake();
    errno = saved;
}

static int open_standard_fds(struct error *err)
{
    for (;;) {
        int fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            return error_errno(err, "/dev/null");
        if (fd > 2) {
            close(fd);
            return 0;
        }
    }
}

int child_init(struct error *err)
{
    if (open_standard_fds(err))
        return -1;
    if (events[0] < 0 && pipe2(events, O_CLOEXEC | O_NONBLOCK))
        return error_errno(err, "pipe");
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof terminating / sizeof *terminating; i++) {
        struct sigaction old;
        sigaction(terminating[i], NULL, &old);
        was_ignored[terminating[i]] = old.sa_handler == SIG_IGN;
        /* nohup and cron's "&" ask for SIGHUP and SIGINT to be ignored: they stay so. */
        if (!was_ignored[terminating[i]])
            sigaction(terminating[i], &action, NULL);
    }
    action.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    /* A write beyond `ulimit -f` fails with EFBIG, which is told, instead of ending the program without a word. */
    static bool ours;
    was_ignored[SIGXFSZ] = signal(SIGXFSZ, SIG_IGN) == SIG_IGN && (!ours || was_ignored[SIGXFSZ]);
    ours = true;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

int child_events_fd(void)
{
    return events[0];
}

void child_events_clear(void)
{
    char buf[64];
    unseen_since = 0;
    while (read(events[0], buf, sizeof buf) > 0)
        ;
    if (tick.call && clock_ms() >= tick.next) {
        tick.next =
            clock_ms() + tick.interval_ms; /* first: what is called may wait, and so come here again */
        tick.call(tick.arg);
    }
}

/* The timer wakes up those who wait without a time limit; half the interval, so that none is missed by a little. */
void child_tick(void (*call)(void *), void *arg, int interval_ms)
{
    int ms = call ? (interval_ms > 1 ? interval_ms / 2 : 1) : 0;
    const struct timeval period = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    const struct itimerval timer = {.it_interval = period, .it_value = period};
    tick.call = call;
    tick.arg = arg;
    tick.interval_ms = interval_ms;
    tick.next = clock_ms() + interval_ms;
    setitimer(ITIMER_REAL, &timer, NULL);
    if (!call && unseen_since)
        alarm(UNSEEN_S);
}

int child_signal(void)
{
    unseen_since = 0;
    return first_signal;
}

unsigned child_signal_count(void)
{
    unseen_since = 0;
    return (unsigned)signal_count;
}

bool child_signal_from_terminal(void)
{
    return from_terminal;
}

/* Position of name (up to '=' or its end) in env, or -1. */
static int env_find(char **env, const char *name)
{
    size_t len = strcspn(name, "=");
    for (int i = 0; env[i]; i++)
        if (!strncmp(env[i], name, len) && env[i][len] == '=')
            return i;
    return -1;
}

/* environ with the changes: a new array of borrowed strings. */
static char **env_make(const char *const *changes)
{
    size_t n = 0, extra = 0;
    while (environ && environ[n])
        n++;
    while (changes && changes[extra])
        extra++;
    char **env = malloc((n + extra + 1) * sizeof *env);
    if (!env)
        return NULL;
    if (n)
        memcpy(env, environ, n * sizeof *env);
    env[n] = NULL;
    for (size_t i = 0; i < extra; i++) {
        /* An environment may hold a name twice; programs differ in which one they take. */
        for (int at; (at = env_find(env, changes[i])) >= 0;) {
            env[at] = env[--n];
            env[n] = NULL;
        }
        if (strchr(changes[i], '=')) {
            env[n++] = (char *)changes[i];
            env[n] = NULL;
        }
    }
    return env;
}

/* In the child, between fork and exec: only async-signal-safe calls. */
static void child_become(const struct child_spec *spec, char **env, const int fds[3], int report,
                         pid_t parent)
{
    if (spec->detached)
        setsid();
#ifdef __linux__
    if (!spec->outlives) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(127);
    }
#else
    (void)parent;
#endif
    for (size_t i = 0; i < sizeof terminating / sizeof *terminating; i++)
        signal(terminating[i], was_ignored[terminating[i]] ? SIG_IGN : SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, was_ignored[SIGXFSZ] ? SIG_IGN : SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0 && dup2(fds[i], i) < 0)
            goto fail;
    if (spec->err == CHILD_STDOUT && dup2(1, 2) < 0)
        goto fail;
    environ = env;
    execvp(spec->argv[0], (char *const *)spec->argv);
fail:;
    int error = errno;
    while (write(report, &error, sizeof error) < 0 && errno == EINTR)
        ;
    _exit(127);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int child_start(struct child *child, const struct child_spec *spec, struct error *err)
{
    const enum child_stdio how[3] = {spec->in, spec->out, spec->err};
    int theirs[3] = {-1, -1, -1}, ours[3] = {-1, -1, -1}, report[2] = {-1, -1};
    char **env = NULL;
    int result = -1;

    *child = (struct child)CHILD_INIT;
    child->detached = spec->detached;
    if (pipe2(report, O_CLOEXEC)) {
        error_errno(err, "pipe");
        goto out;
    }
    for (int i = 0; i < 3; i++) {
        if (how[i] == CHILD_NULL) {
            theirs[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
            if (theirs[i] < 0) {
                error_errno(err, "/dev/null");
                goto out;
            }
        } else if (how[i] == CHILD_PIPE) {
            int p[2];
            if (pipe2(p, O_CLOEXEC)) {
                error_errno(err, "pipe");
                goto out;
            }
            theirs[i] = p[i == 0 ? 0 : 1];
            ours[i] = p[i == 0 ? 1 : 0];
            if (fcntl(ours[i], F_SETFL, O_NONBLOCK)) {
                error_errno(err, "pipe");
                goto out;
            }
        }
    }
    env = env_make(spec->env);
    if (!env) {
        error_errno(err, spec->argv[0]);
        goto out;
    }
    /* A signal that comes to the child before it has the default dispositions back would be lost in our handler. */
    sigset_t all, mask;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &mask);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        child_become(spec, env, theirs, report[1], parent);
    int fork_errno = errno;
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (pid < 0) {
        errno = fork_errno;
        error_errno(err, "fork");
        goto out;
    }
    close_fd(&report[1]);
    int failure;
    ssize_t n;
    do
        n = read(report[0], &failure, sizeof failure);
    while (n < 0 && errno == EINTR);
    if (n == sizeof failure) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        bool missing = failure == ENOENT || failure == ENOTDIR;
        error_set(err, missing || failure == EACCES ? STATUS_TOOL : STATUS_SYSTEM, "%s: %s", spec->argv[0],
                  missing && !strchr(spec->argv[0], '/') ? "program not found in PATH" : strerror(failure));
        goto out;
    }
    child->pid = pid;
    child->in = ours[0];
    child->out = ours[1];
    child->err = ours[2];
    ours[0] = ours[1] = ours[2] = -1;
    result = 0;
out:
    for (int i = 0; i < 3; i++) {
        close_fd(&theirs[i]);
        close_fd(&ours[i]);
    }
    close_fd(&report[0]);
    close_fd(&report[1]);
    free(env);
    return result;
}

bool child_ended(struct child *child)
{
    if (child->pid == 0)
        return true;
    int status;
    pid_t pid = waitpid(child->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return false;
    child->status = pid < 0 ? W_EXITCODE(127, 0) : status; /* nothing known is no success */
    child->pid = 0;
    return true;
}

bool child_wait(struct child *child, int timeout_ms)
{
    long long end = clock_ms() + timeout_ms;
    bool ended, cleared = false;
    while (!(ended = child_ended(child))) {
        long long left = timeout_ms < 0 ? 1000 : end - clock_ms();
        if (left <= 0)
            break;
        /* child_events_clear(), called by somebody else who waits, may have taken the wake-up of this child's end: look at least once a second. */
        struct pollfd pfd = {.fd = events[0], .events = POLLIN};
        if (poll(&pfd, 1, left < 1000 ? (int)left : 1000) > 0)
            cleared = true;
        child_events_clear();
    }
    /* What was cleared may have been another child's end, or a signal: its loop has to look. */
    if (cleared)
        wake();
    return ended;
}

void child_kill(const struct child *child, int sig)
{
    if (child->pid > 0)
        kill(child->detached ? -child->pid : child->pid, sig);
}

void child_end(struct child *child, int grace_ms)
{
    int saved = errno;
    close_fd(&child->in);
    close_fd(&child->out);
    close_fd(&child->err);
    if (!child_ended(child) && grace_ms > 0) {
        child_kill(child, SIGTERM);
        child_wait(child, grace_ms);
    }
    if (!child_ended(child)) {
        child_kill(child, SIGKILL);
        child_wait(child, -1);
    }
    errno = saved;
}

void child_read_latest(int *fd, char *buf, size_t size, size_t *len)
{
    for (int turn = 0; *fd >= 0 && turn < READS_MAX; turn++) {
        if (*len == size - 1) {
            *len = size / 2;
            memmove(buf, buf + size - 1 - *len, *len);
            buf[*len] = '\0'; /* there may be nothing to read yet */
        }
        ssize_t n = read(*fd, buf + *len, size - 1 - *len);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            close(*fd);
            *fd = -1;
            return;
        }
        *len += (size_t)n;
        buf[*len] = '\0';
    }
}

int child_read_first(int *fd, char *buf, size_t max, size_t *len)
{
    char drop[4096];
    int result = 0;
    for (int turn = 0; *fd >= 0 && turn < READS_MAX; turn++) {
        bool fits = *len < max;
        ssize_t n = fits ? read(*fd, buf + *len, max - *len) : read(*fd, drop, sizeof drop);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            int failed = n < 0 ? errno : 0;
            close_fd(fd);
            errno = failed;
            return failed ? -1 : result;
        }
        if (fits)
            *len += (size_t)n;
        else
            result = 1;
    }
    return result;
}

int child_end_signal(const struct child *child)
{
    return WIFSIGNALED(child->status) ? WTERMSIG(child->status) : 0;
}

int child_exit_status(const struct child *child)
{
    int sig = child_end_signal(child);
    return sig ? STATUS_SIGNAL + sig : WEXITSTATUS(child->status);
}

int child_capture(const char *const *argv, const char *const *env, int timeout_ms, size_t max, char **out,
                  char **errout, int *status, struct error *err)
{
    struct {
        char *text;
        size_t len;
    } kept[2] = {{malloc(max + 1), 0}, {malloc(max + 1), 0}};
    struct child child = CHILD_INIT;
    int result = -1;
    *out = *errout = NULL;
    if (!kept[0].text || !kept[1].text) {
        error_errno(err, argv[0]);
        goto out;
    }
    struct child_spec spec = {
        .argv = argv, .env = env, .in = CHILD_NULL, .out = CHILD_PIPE, .err = CHILD_PIPE, .detached = true};
    if (child_start(&child, &spec, err))
        goto out;
    long long end = clock_ms() + timeout_ms;
    /* The streams' end is waited for only while the child lives: a grandchild may keep them open. */
    while (!child_ended(&child)) {
        long long left = end - clock_ms();
        if (child_signal()) {
            error_set(err, STATUS_SIGNAL + child_signal(), "%s: %s", argv[0], strsignal(child_signal()));
            goto out;
        }
        if (left <= 0) {
            error_set(err, STATUS_SYSTEM, "%s: no answer within %d s", argv[0], timeout_ms / 1000);
            goto out;
        }
        struct pollfd fds[3] = {{child.out, POLLIN, 0}, {child.err, POLLIN, 0}, {events[0], POLLIN, 0}};
        poll(fds, 3, left < 1000 ? (int)left : 1000);
        if (fds[2].revents)
            child_events_clear();
        if ((fds[0].revents && child_read_first(&child.out, kept[0].text, max, &kept[0].len) < 0) ||
            (fds[1].revents && child_read_first(&child.err, kept[1].text, max, &kept[1].len) < 0)) {
            error_errno(err, argv[0]);
            goto out;
        }
    }
    if (child_read_first(&child.out, kept[0].text, max, &kept[0].len) < 0 ||
        child_read_first(&child.err, kept[1].text, max, &kept[1].len) < 0) {
        error_errno(err, argv[0]);
        goto out;
    }
    kept[0].text[kept[0].len] = kept[1].text[kept[1].len] = '\0';
    *out = kept[0].text;
    *errout = kept[1].text;
    kept[0].text = kept[1].text = NULL;
    *status = child_exit_status(&child);
    result = 0;
out:
    child_end(&child, result == 0 ? 0 : 100);
    free(kept[0].text);
    free(kept[1].text);
    return result;
}
