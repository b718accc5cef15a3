/* Children: what cannot be started first, then how each ends.  What changes the process for good (a signal
 * that came, a closed stream) is tried in a process of its own. */
#include "base/child.h"

#include "alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 20000 /* no test takes as long; a hang is a failure */

static char dir[] = "/tmp/child.XXXXXX";

static size_t open_descriptors(void)
{
    size_t n = 0;
    DIR *fds = opendir("/proc/self/fd");
    assert_non_null(fds);
    while (readdir(fds))
        n++;
    closedir(fds);
    return n;
}

static bool any_child(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd pfd = {fd, POLLIN, 0};
    int n;
    while ((n = poll(&pfd, 1, timeout_ms)) < 0 && errno == EINTR)
        ;
    return n == 1;
}

/* Reads to the end of the stream; the descriptor may be non-blocking. */
static void read_all(int fd, char *buf, size_t size)
{
    size_t len = 0;
    for (;;) {
        assert_true(readable(fd, DEADLINE_MS));
        ssize_t n = read(fd, buf + len, size - 1 - len);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        assert_true(n >= 0);
        if (n == 0)
            break;
        len += (size_t)n;
        assert_true(len < size - 1);
    }
    buf[len] = '\0';
}

static void start(struct child *child, const struct child_spec *spec)
{
    struct error err = ERROR_INIT;
    if (child_start(child, spec, &err))
        fail_msg("%s", err.text);
    assert_true(child->pid > 0);
    assert_int_equal(err.status, 0);
}

static int shell(const char *script, const char *const *env, char **out)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    struct error err = ERROR_INIT;
    char *words;
    int status;
    if (child_capture(argv, env, DEADLINE_MS, 65536, out, &words, &status, &err))
        fail_msg("%s", err.text);
    free(words);
    return status;
}

/* Runs a function in a process of its own: 0 from it is success. */
#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s (errno: %s)\n", __FILE__, __LINE__, #condition, strerror(errno));     \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

static int in_own_process(int (*function)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        alarm(DEADLINE_MS / 1000);
        _exit(function());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_own(int (*function)(void))
{
    assert_int_equal(in_own_process(function), 0);
}

/* The harness can fail. */
static int false_condition(void)
{
    return 1;
}

static void test_own_process_fails(void **state)
{
    (void)state;
    assert_int_not_equal(in_own_process(false_condition), 0);
}

static void test_exec_fails(void **state)
{
    (void)state;
    char file[64], below[64], script[64];
    snprintf(file, sizeof file, "%s/file", dir);
    snprintf(below, sizeof below, "%s/file/below", dir);
    snprintf(script, sizeof script, "%s/script", dir);
    assert_int_equal(close(open(file, O_CREAT | O_WRONLY, 0600)), 0);
    int fd = open(script, O_CREAT | O_WRONLY, 0700);
    assert_int_equal(write(fd, "#!/no/such/interpreter\n", 23), 23);
    assert_int_equal(close(fd), 0);
    const struct {
        const char *program;
        const char *words;
    } table[] = {
        {"no-such-program-anywhere", "program not found in PATH"},
        {"/no/such/program", "No such file or directory"},
        {script, "No such file or directory"},
        {below, "Not a directory"},
        {file, "Permission denied"},
        {"/", "Permission denied"},
        {"", "program not found in PATH"},
    };
    size_t before = open_descriptors();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *argv[] = {table[i].program, NULL};
        const struct child_spec spec = {.argv = argv, .in = CHILD_PIPE, .out = CHILD_PIPE, .err = CHILD_PIPE};
        struct child child;
        struct error err = ERROR_INIT;
        char text[200];
        snprintf(text, sizeof text, "%s: %s", table[i].program, table[i].words);
        assert_int_equal(child_start(&child, &spec, &err), -1);
        assert_string_equal(err.text, text);
        assert_int_equal(err.status, STATUS_TOOL);
        assert_int_equal(child.pid, 0);
        assert_true(child.in == -1 && child.out == -1 && child.err == -1);
        assert_false(any_child());
        child_end(&child, 1000);
    }
    assert_int_equal(open_descriptors(), before);
}

static void test_exec_refused(void **state)
{
    (void)state;
    size_t size = 1024 * 1024; /* one string of an environment may have 128 KiB (execve(2)) */
    char *huge = malloc(size);
    memset(huge, 'x', size - 1);
    memcpy(huge, "A=", 2);
    huge[size - 1] = '\0';
    const char *argv[] = {"true", NULL}, *env[] = {huge, NULL};
    const struct child_spec spec = {.argv = argv, .env = env};
    struct child child;
    struct error err = ERROR_INIT;
    assert_int_equal(child_start(&child, &spec, &err), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_string_equal(err.text, "true: Argument list too long");
    assert_false(any_child());
    free(huge);
}

extern char **environ;

static void test_environment(void **state)
{
    (void)state;
    char *mine[] = {
        "PATH=/usr/bin:/bin", "KEEP=kept", "KEEPER=kept too", "CHANGE=old", "GO=1", "EMPTY=", "last=l", NULL};
    char *twice[] = {"PATH=/usr/bin:/bin", "CHANGE=old", "GO=1", "CHANGE=old again", "GO=2", NULL};
    static const struct {
        const char *changes[4];
        const char *keep, *change, *go, *empty, *added;
    } table[] = {
        {{NULL}, "kept", "old", "1", "", "-"},
        {{"GO", "CHANGE=new", NULL}, "kept", "new", "-", "", "-"},
        {{"ADD=a=b", "NOT_THERE", NULL}, "kept", "old", "1", "", "a=b"},
        {{"ADD=a", "ADD=b", NULL}, "kept", "old", "1", "", "b"},
        {{"ADD=a", "ADD", NULL}, "kept", "old", "1", "", "-"},
        {{"KEEP", "EMPTY", "CHANGE", NULL}, "-", "-", "1", "-", "-"},
        {{"KEE", "GO=", NULL}, "kept", "old", "", "", "-"},
    };
    char **saved = environ;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char expected[200], *out;
        snprintf(expected, sizeof expected, "%s|%s|%s|%s|%s|kept too|l", table[i].keep, table[i].change,
                 table[i].go, table[i].empty, table[i].added);
        environ = mine;
        int status =
            shell("printf '%s|%s|%s|%s|%s|%s|%s' \"${KEEP--}\" \"${CHANGE--}\" \"${GO--}\" \"${EMPTY--}\""
                  " \"${ADD--}\" \"$KEEPER\" \"$last\"",
                  table[i].changes, &out);
        environ = saved;
        assert_int_equal(status, 0);
        assert_string_equal(out, expected);
        free(out);
    }
    /* A name that was there twice is there once, or not at all. */
    const char *changes[] = {"GO", "CHANGE=new", NULL};
    char *out;
    const char *argv[] = {"env", NULL};
    struct error err = ERROR_INIT;
    char *words;
    int status;
    environ = twice;
    int result = child_capture(argv, changes, DEADLINE_MS, 4096, &out, &words, &status, &err);
    environ = saved;
    assert_int_equal(result, 0);
    assert_string_equal(out, "PATH=/usr/bin:/bin\nCHANGE=new\n");
    free(out);
    free(words);
}

static void test_pipes(void **state)
{
    (void)state;
    size_t before = open_descriptors();
    const char *argv[] = {"sh", "-c", "cat; echo no >&2; exit 3", NULL};
    const struct child_spec spec = {.argv = argv, .in = CHILD_PIPE, .out = CHILD_PIPE, .err = CHILD_PIPE};
    struct child child;
    char buf[100];
    start(&child, &spec);
    const int ours[] = {child.in, child.out, child.err};
    for (size_t i = 0; i < 3; i++) {
        assert_true(ours[i] > 2);
        assert_true(fcntl(ours[i], F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(ours[i], F_GETFD) & FD_CLOEXEC);
    }
    assert_int_equal(read(child.out, buf, sizeof buf), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(write(child.in, "words", 5), 5);
    close(child.in);
    child.in = -1;
    read_all(child.out, buf, sizeof buf);
    assert_string_equal(buf, "words");
    read_all(child.err, buf, sizeof buf);
    assert_string_equal(buf, "no\n");
    assert_true(child_wait(&child, DEADLINE_MS));
    assert_true(child_ended(&child));
    assert_int_equal(child.pid, 0);
    assert_int_equal(child_exit_status(&child), 3);
    child_end(&child, 0);
    child_end(&child, 0);
    assert_true(child.in == -1 && child.out == -1 && child.err == -1);
    assert_int_equal(child_exit_status(&child), 3);
    assert_int_equal(open_descriptors(), before);
}

static void test_streams(void **state)
{
    (void)state;
    /* What whoever started the test has left open is handed on; nothing of ours is. */
    int inherited = 0;
    for (int fd = 0; fd < 1024; fd++)
        inherited += fcntl(fd, F_GETFD) == 0;
    const char *argv[] = {"sh", "-c", "echo out; echo err >&2; set -- /proc/$$/fd/*; echo $#; cat", NULL};
    const struct child_spec spec = {.argv = argv, .in = CHILD_NULL, .out = CHILD_PIPE, .err = CHILD_STDOUT};
    struct child child;
    char buf[100], expected[100];
    snprintf(expected, sizeof expected, "out\nerr\n%d\n",
             inherited + 1); /* the shell's own for the directory */
    start(&child, &spec);
    assert_true(child.in == -1 && child.err == -1);
    read_all(child.out, buf, sizeof buf);
    assert_string_equal(buf, expected);
    assert_true(child_wait(&child, DEADLINE_MS));
    child_end(&child, 0);
}

static void test_session(void **state)
{
    (void)state;
    for (int detached = 0; detached < 2; detached++) {
        const char *argv[] = {
            "sh", "-c",
            "read -r pid name state parent group session rest </proc/$$/stat; echo $group $session", NULL};
        const struct child_spec spec = {
            .argv = argv, .in = CHILD_NULL, .out = CHILD_PIPE, .err = CHILD_INHERIT, .detached = detached};
        struct child child;
        char buf[100], expected[100];
        start(&child, &spec);
        snprintf(expected, sizeof expected, "%d %d\n", detached ? child.pid : getpgrp(),
                 detached ? child.pid : getsid(0));
        read_all(child.out, buf, sizeof buf);
        assert_string_equal(buf, expected);
        assert_true(child_wait(&child, DEADLINE_MS));
        assert_int_equal(child_exit_status(&child), 0);
        child_end(&child, 0);
    }
}

static void test_signal_dispositions(void **state)
{
    (void)state;
    char *out;
    assert_int_equal(shell("exec grep -E '^Sig(Blk|Ign):' /proc/self/status", NULL, &out), 0);
    /* Whoever started the test may have more of them ignored. */
    unsigned long long blocked, ignored, ours = 0;
    assert_int_equal(sscanf(out, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGPIPE, SIGXFSZ};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        ours |= 1ull << (signals[i] - 1);
    assert_int_equal(blocked & ours, 0);
    assert_int_equal(ignored & ours, 0);
    free(out);
}

static void test_wait_and_end(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int grace_ms;
        int status;
    } table[] = {
        {"echo ready; exec sleep 1000", 0, 128 + SIGKILL},
        {"echo ready; exec sleep 1000", DEADLINE_MS, 128 + SIGTERM},
        {"trap 'exit 7' TERM; echo ready; sleep 1000 & wait", DEADLINE_MS, 7},
        {"trap '' TERM; echo ready; sleep 1000; sleep 1000", 50, 128 + SIGKILL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *argv[] = {"sh", "-c", table[i].script, NULL};
        const struct child_spec spec = {.argv = argv, .out = CHILD_PIPE, .detached = true};
        struct child child;
        char buf[10];
        start(&child, &spec);
        int lifeline = dup(child.out);
        assert_true(readable(child.out, DEADLINE_MS));
        assert_int_equal(read(child.out, buf, sizeof buf), 6);
        assert_false(child_ended(&child));
        long long begin = clock_ms();
        assert_false(child_wait(&child, 30));
        assert_true(clock_ms() - begin >= 30);
        assert_false(child_wait(&child, 0));
        child_end(&child, table[i].grace_ms);
        assert_int_equal(child_exit_status(&child), table[i].status);
        child_kill(&child, SIGKILL); /* of a child that has ended: nothing */
        /* The whole group has ended: nobody holds the pipe. */
        assert_true(readable(lifeline, DEADLINE_MS));
        assert_int_equal(read(lifeline, buf, sizeof buf), 0);
        close(lifeline);
    }
}

static void test_never_started(void **state)
{
    (void)state;
    struct child child = CHILD_INIT;
    assert_true(child_ended(&child));
    assert_true(child_wait(&child, -1));
    child_kill(&child, SIGKILL);
    errno = EXDEV;
    child_end(&child, 1000);
    assert_int_equal(errno, EXDEV);
}

/* Waiting for one child must not swallow the news of another's end. */
static void test_wake_up_is_handed_on(void **state)
{
    (void)state;
    const char *argv[] = {"cat", NULL};
    const struct child_spec spec = {.argv = argv, .in = CHILD_PIPE, .out = CHILD_NULL, .detached = true};
    struct child first, second;
    siginfo_t info;
    start(&first, &spec);
    start(&second, &spec);
    child_events_clear();
    close(first.in);
    first.in = -1;
    assert_int_equal(waitid(P_PID, (id_t)first.pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(child_wait(&second, 20));
    assert_true(readable(child_events_fd(), 0));
    child_events_clear();
    assert_false(readable(child_events_fd(), 0));
    assert_true(child_ended(&first));
    child_end(&first, 0);
    child_end(&second, 0);
}

/* A descriptor that cannot be read; one byte more than is kept; exactly so many; nothing there yet; the end. */
static void test_first_bytes(void **state)
{
    (void)state;
    char buf[4] = "";
    size_t len = 0;
    int bad = open(dir, O_RDONLY | O_DIRECTORY), fds[2];
    assert_true(bad >= 0);
    assert_int_equal(child_read_first(&bad, buf, sizeof buf, &len), -1);
    assert_int_equal(errno, EISDIR);
    assert_int_equal(bad, -1);
    assert_int_equal(child_read_first(&bad, buf, sizeof buf, &len), 0);

    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    assert_int_equal(child_read_first(&fds[0], buf, sizeof buf, &len), 0);
    assert_int_equal(len, 0);
    assert_int_equal(write(fds[1], "abcd", 4), 4);
    assert_int_equal(child_read_first(&fds[0], buf, sizeof buf, &len), 0);
    assert_int_equal(len, 4);
    assert_int_equal(write(fds[1], "e", 1), 1);
    assert_int_equal(child_read_first(&fds[0], buf, sizeof buf, &len), 1);
    assert_int_equal(len, 4);
    assert_memory_equal(buf, "abcd", 4);
    assert_true(fds[0] >= 0);
    assert_int_equal(write(fds[1], "f", 1), 1);
    close(fds[1]);
    assert_int_equal(child_read_first(&fds[0], buf, sizeof buf, &len), 1);
    assert_int_equal(fds[0], -1);
}

static void test_capture(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        size_t max;
        const char *out, *err;
        int status;
    } table[] = {
        {"exit 5", 10, "", "", 5},
        {"kill -9 $$", 10, "", "", 128 + 9},
        {"echo out; echo err >&2", 100, "out\n", "err\n", 0},
        {"printf 1234567890; printf abcdefghij >&2; exit 1", 4, "1234", "abcd", 1},
        {"printf 1234567890", 0, "", "", 0},
        {"printf 1234", 4, "1234", "", 0},
        {"cat; echo $?", 10, "0\n", "", 0},
        {"head -c 1000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero >&2", 3, "xxx", "", 0},
        {"exec >&-; exec 2>&-; exit 2", 3, "", "", 2},
    };
    size_t before = open_descriptors();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *argv[] = {"sh", "-c", table[i].script, NULL};
        struct error err = ERROR_INIT;
        char *out, *words;
        int status = -1;
        assert_int_equal(child_capture(argv, NULL, DEADLINE_MS, table[i].max, &out, &words, &status, &err),
                         0);
        assert_string_equal(out, table[i].out);
        assert_string_equal(words, table[i].err);
        assert_int_equal(status, table[i].status);
        assert_int_equal(err.status, 0);
        free(out);
        free(words);
    }
    assert_int_equal(open_descriptors(), before);
    assert_false(any_child());
}

static void test_capture_fails(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int status;
        const char *text;
    } table[] = {
        {"exec sleep 1000", STATUS_SYSTEM, "sh: no answer within 0 s"},
        /* who never stops talking does not keep us */
        {"exec yes", STATUS_SYSTEM, "sh: no answer within 0 s"},
        {"yes >&2 & yes >&2 & yes >&2 & exec yes >&2", STATUS_SYSTEM, "sh: no answer within 0 s"},
        {"trap '' TERM; while :; do sleep 1000; done", STATUS_SYSTEM, "sh: no answer within 0 s"},
        {NULL, STATUS_TOOL, "no-such-program: program not found in PATH"},
    };
    size_t before = open_descriptors();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *argv[] = {table[i].script ? "sh" : "no-such-program", "-c", table[i].script, NULL};
        struct error err = ERROR_INIT;
        char *out = argv[1] ? (char *)"" : NULL, *words = out;
        int status;
        assert_int_equal(child_capture(argv, NULL, 100, 10, &out, &words, &status, &err), -1);
        assert_string_equal(err.text, table[i].text);
        assert_int_equal(err.status, table[i].status);
        assert_null(out);
        assert_null(words);
        assert_false(any_child());
    }
    assert_int_equal(open_descriptors(), before);
}

/* A grandchild that keeps the streams open does not keep us. */
static void test_capture_grandchild(void **state)
{
    (void)state;
    char *out;
    assert_int_equal(shell("sleep 1000 & echo $!", NULL, &out), 0);
    pid_t pid = atoi(out);
    assert_true(pid > 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    free(out);
}

static void test_allocations(void **state)
{
    (void)state;
    const char *argv[] = {"true", NULL}, *env[] = {"A=b", NULL};
    size_t before = open_descriptors();
    for (ALLOC_EACH(n)) {
        const struct child_spec spec = {
            .argv = argv, .env = env, .in = CHILD_PIPE, .out = CHILD_PIPE, .err = CHILD_PIPE};
        struct error err = ERROR_INIT;
        struct child child;
        alloc_fail_at(n);
        int result = child_start(&child, &spec, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        child_end(&child, DEADLINE_MS);
    }
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        char *out, *words;
        int status;
        alloc_fail_at(n);
        int result = child_capture(argv, env, DEADLINE_MS, 10, &out, &words, &status, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        free(out);
        free(words);
    }
    assert_int_equal(open_descriptors(), before);
    assert_false(any_child());
}

static int closed_streams(void)
{
    struct error err = ERROR_INIT;
    close(0);
    close(1);
    REQUIRE(child_init(&err) == 0);
    for (int fd = 0; fd < 3; fd++)
        REQUIRE(fcntl(fd, F_GETFD) == 0); /* open, and children inherit it */
    REQUIRE(child_events_fd() > 2);
    const char *argv[] = {"cat", NULL};
    const struct child_spec spec = {.argv = argv, .in = CHILD_PIPE, .out = CHILD_PIPE, .err = CHILD_PIPE};
    struct child child;
    REQUIRE(child_start(&child, &spec, &err) == 0);
    REQUIRE(write(child.in, "x", 1) == 1);
    close(child.in);
    child.in = -1;
    char c;
    REQUIRE(readable(child.out, DEADLINE_MS) && read(child.out, &c, 1) == 1 && c == 'x');
    REQUIRE(child_wait(&child, DEADLINE_MS) && child_exit_status(&child) == 0);
    child_end(&child, 0);
    return 0;
}

static void test_closed_streams(void **state)
{
    (void)state;
    assert_own(closed_streams);
}

static int signals_are_counted(void)
{
    struct error err = ERROR_INIT;
    REQUIRE(child_init(&err) == 0);
    REQUIRE(child_signal() == 0 && child_signal_count() == 0);
    raise(SIGTERM);
    REQUIRE(child_signal() == SIGTERM && child_signal_count() == 1 && !child_signal_from_terminal());
    REQUIRE(readable(child_events_fd(), 0));
    child_events_clear();
    REQUIRE(!readable(child_events_fd(), 0));
    raise(SIGINT);
    raise(SIGHUP);
    REQUIRE(child_signal() == SIGTERM && child_signal_count() == 3);
    /* No number of signals fills the pipe for good. */
    for (int i = 0; i < 100000; i++) {
        raise(SIGINT);
        REQUIRE(child_signal()); /* seen: however long this takes, it goes on */
    }
    REQUIRE(child_signal_count() == 100003);
    child_events_clear();
    REQUIRE(!readable(child_events_fd(), 0));
    raise(SIGPIPE); /* ignored */
    REQUIRE(child_signal_count() == 100003);
    return 0;
}

static int signal_ends_capture(void)
{
    struct error err = ERROR_INIT;
    REQUIRE(child_init(&err) == 0);
    const char *argv[] = {"sh", "-c", "kill -TERM $PPID; exec sleep 1000", NULL};
    char *out, *words;
    int status;
    REQUIRE(child_capture(argv, NULL, DEADLINE_MS, 10, &out, &words, &status, &err) == -1);
    REQUIRE(err.status == STATUS_SIGNAL + SIGTERM && !out && !words);
    REQUIRE(!strcmp(err.text, "sh: Terminated"));
    REQUIRE(!any_child());
    return 0;
}

static int keyboard(void)
{
    struct error err = ERROR_INIT;
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    REQUIRE(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    REQUIRE(setsid() > 0 && open(ptsname(terminal), O_RDWR) >= 0);
    REQUIRE(child_init(&err) == 0);
    REQUIRE(write(terminal, "\003", 1) == 1);
    while (!child_signal() && readable(child_events_fd(), DEADLINE_MS))
        child_events_clear();
    REQUIRE(child_signal() == SIGINT && child_signal_count() == 1 && child_signal_from_terminal());
    raise(SIGINT);
    REQUIRE(child_signal_count() == 2 && !child_signal_from_terminal());
    return 0;
}

static void test_signals(void **state)
{
    (void)state;
    assert_own(signals_are_counted);
    assert_own(signal_ends_capture);
    assert_own(keyboard);
}

/* Blocks in a call that no loop of the program knows; the kernel restarts it after a signal. */
static int block(void)
{
    struct error err = ERROR_INIT;
    int never[2];
    char byte;
    REQUIRE(child_init(&err) == 0 && pipe(never) == 0);
    REQUIRE(write(STDOUT_FILENO, "", 1) == 1);
    return read(never[0], &byte, 1) == 1 ? 0 : 2;
}

/* Starts block(), which has its handlers when this returns. */
static pid_t start_blocked(void)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ready[1], STDOUT_FILENO);
        close(ready[0]);
        close(ready[1]);
        close(STDERR_FILENO); /* what it says then is not for the tests' log */
        _exit(block());
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void assert_ends(pid_t pid, int status)
{
    int got;
    assert_int_equal(waitpid(pid, &got, 0), pid);
    assert_true(WIFEXITED(got));
    assert_int_equal(WEXITSTATUS(got), status);
}

static void test_unseen_signals(void **state)
{
    (void)state;
    pid_t once = start_blocked(), often = start_blocked();
    long long begin = clock_ms();
    kill(once, SIGTERM);
    for (siginfo_t info = {0}; !info.si_pid && clock_ms() - begin < DEADLINE_MS; usleep(100000)) {
        kill(often, SIGINT);
        assert_int_equal(waitid(P_PID, (id_t)often, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    }
    assert_ends(often, STATUS_SIGNAL + SIGINT);
    assert_ends(once, STATUS_SIGNAL + SIGTERM);
}

/* A limit of a file's size is an error here, and what it always is in a child. */
static int file_limit(void)
{
    struct error err = ERROR_INIT;
    const struct rlimit limit = {.rlim_cur = 100, .rlim_max = 100};
    char path[80], text[200] = "", *out, *words;
    REQUIRE(child_init(&err) == 0 && child_init(&err) == 0);
    snprintf(path, sizeof path, "%s/limited", dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600), status;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0 && fd >= 0);
    REQUIRE(write(fd, text, sizeof text) == 100 && write(fd, text, sizeof text) == -1 && errno == EFBIG);
    error_errno(&err, "it");
    REQUIRE(
        !strcmp(err.text, "it: File too large; ulimit -f, the limit of a file's size, is too low: raise it"));
    char script[200];
    snprintf(script, sizeof script, "exec dd if=/dev/zero of=%s bs=200 count=2", path);
    const char *argv[] = {"sh", "-c", script, NULL};
    err = (struct error)ERROR_INIT;
    REQUIRE(child_capture(argv, NULL, DEADLINE_MS, 1000, &out, &words, &status, &err) == 0);
    REQUIRE(status == STATUS_SIGNAL + SIGXFSZ && unlink(path) == 0);
    free(out);
    free(words);
    return 0;
}

static void test_file_limit(void **state)
{
    (void)state;
    assert_own(file_limit);
}

static int ignored_stays_ignored(void)
{
    struct error err = ERROR_INIT;
    signal(SIGHUP, SIG_IGN);
    REQUIRE(child_init(&err) == 0);
    raise(SIGHUP);
    REQUIRE(child_signal() == 0);
    const char *argv[] = {"sh", "-c", "kill -HUP $$; echo alive", NULL};
    char *out, *words;
    int status;
    REQUIRE(child_capture(argv, NULL, DEADLINE_MS, 10, &out, &words, &status, &err) == 0);
    REQUIRE(status == 0 && !strcmp(out, "alive\n"));
    raise(SIGINT);
    REQUIRE(child_signal() == SIGINT);
    return 0;
}

static int ignored_child_ends(void)
{
    struct error err = ERROR_INIT;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, SIG_IGN); /* statuses would be lost */
    REQUIRE(child_init(&err) == 0);
    const char *argv[] = {"sh", "-c", "exit 9", NULL};
    char *out, *words;
    int status;
    REQUIRE(child_capture(argv, NULL, DEADLINE_MS, 10, &out, &words, &status, &err) == 0);
    REQUIRE(status == 9);
    return 0;
}

static void test_inherited_dispositions(void **state)
{
    (void)state;
    assert_own(ignored_stays_ignored);
    assert_own(ignored_child_ends);
}

static int lifeline[2];

static int die_with_child(void)
{
    struct error err = ERROR_INIT;
    REQUIRE(child_init(&err) == 0);
    const char *argv[] = {"sleep", "1000", NULL};
    const struct child_spec spec = {.argv = argv, .in = CHILD_NULL, .out = CHILD_INHERIT, .detached = true};
    struct child child;
    REQUIRE(dup2(lifeline[1], 1) == 1);
    REQUIRE(child_start(&child, &spec, &err) == 0);
    raise(SIGKILL);
    return 0;
}

static void test_death_of_parent(void **state)
{
    (void)state;
    assert_int_equal(pipe2(lifeline, O_CLOEXEC), 0);
    int status = in_own_process(die_with_child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(lifeline[1]);
    char buf[10];
    read_all(lifeline[0], buf, sizeof buf); /* its end comes when nobody holds the other end */
    close(lifeline[0]);
}

static unsigned ticks;

static void count_tick(void *arg)
{
    assert_ptr_equal(arg, dir);
    ticks++;
    child_events_clear(); /* a tick that waits does not tick itself */
}

/* While something waits without a time limit, from any loop. */
static void test_tick(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(child_init(&err), 0);
    child_events_clear();
    ticks = 0;
    child_tick(count_tick, dir, 40);
    child_events_clear();
    assert_int_equal(ticks, 0); /* not before its time */
    while (ticks < 3) {
        assert_true(readable(child_events_fd(), DEADLINE_MS));
        child_events_clear();
    }
    assert_int_equal(child_signal(), 0); /* no terminating signal */
    assert_int_equal(child_signal_count(), 0);
    const char *const argv[] = {"sh", "-c", "exec sleep 0.2", NULL};
    struct child child = CHILD_INIT;
    assert_int_equal(child_start(&child, &(struct child_spec){.argv = argv}, &err), 0);
    unsigned before = ticks;
    assert_true(child_wait(&child, -1));
    assert_true(ticks > before);
    child_tick(NULL, NULL, 0);
    before = ticks;
    child_events_clear();
    assert_false(readable(child_events_fd(), 100));
    assert_int_equal(ticks, before);
}

static int make_dir(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    return mkdtemp(dir) ? child_init(&err) : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/file", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/script", dir);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_process_fails),
        cmocka_unit_test(test_exec_fails),
        cmocka_unit_test(test_exec_refused),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_pipes),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_session),
        cmocka_unit_test(test_signal_dispositions),
        cmocka_unit_test(test_wait_and_end),
        cmocka_unit_test(test_never_started),
        cmocka_unit_test(test_wake_up_is_handed_on),
        cmocka_unit_test(test_first_bytes),
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_capture_fails),
        cmocka_unit_test(test_capture_grandchild),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_tick),
        cmocka_unit_test(test_closed_streams),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_unseen_signals),
        cmocka_unit_test(test_file_limit),
        cmocka_unit_test(test_inherited_dispositions),
        cmocka_unit_test(test_death_of_parent),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
