#include "base/janitor.h"
#include "base/rundir.h"

#include "alloc.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 15000
#define RUN "0123456789abcdef"

static char dir[64], kept[64];

/* A directory with something in it, and a link to another one, which must survive. */
static int make(void **state)
{
    (void)state;
    char path[128];
    struct error err = ERROR_INIT;
    strcpy(dir, "/tmp/janitor.XXXXXX");
    strcpy(kept, "/tmp/kept.XXXXXX");
    if (child_init(&err) || !mkdtemp(dir) || !mkdtemp(kept))
        return -1;
    snprintf(path, sizeof path, "%s/file", kept);
    if (rundir_write(kept, "file", "x", 1, &err) || rundir_write(dir, "-file", "x", 1, &err))
        return -1;
    snprintf(path, sizeof path, "%s/link", dir);
    return symlink(kept, path);
}

static int clear(void **state)
{
    (void)state;
    rundir_remove(dir);
    rundir_remove(kept);
    return 0;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static void wait_until_gone(const char *path)
{
    long long end = clock_ms() + DEADLINE_MS;
    while (is_there(path) && clock_ms() < end)
        usleep(20000);
    assert_false(is_there(path));
}

static void assert_kept(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/file", kept);
    assert_true(is_there(path));
}

/* Whoever started it is killed: nothing of it could have run. */
static void test_after_kill(void **state)
{
    (void)state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct child janitor = CHILD_INIT;
        struct error err = ERROR_INIT;
        if (janitor_start(&janitor, dir, RUN, &err) == 0)
            (void)!write(ready[1], "x", 1);
        pause();
        _exit(0);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    assert_true(is_there(dir));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    wait_until_gone(dir);
    assert_kept();
}

/* Bits of the signals that a process ignores, 0 where it cannot be told. */
static unsigned long long ignored(pid_t pid)
{
    char path[64], line[256];
    unsigned long long bits = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "SigIgn: %llx", &bits) == 1)
            break;
    if (f)
        fclose(f);
    return bits;
}

/* It stays as long as we do, whatever signals come its way. */
static void test_stays(void **state)
{
    (void)state;
    struct child janitor = CHILD_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(janitor_start(&janitor, dir, RUN, &err), 0);
    long long end = clock_ms() + DEADLINE_MS;
    while (!(ignored(janitor.pid) >> (SIGTERM - 1) & ignored(janitor.pid) >> (SIGINT - 1) & 1) &&
           clock_ms() < end)
        usleep(10000);
    kill(janitor.pid, SIGTERM);
    kill(janitor.pid, SIGINT);
    assert_false(child_wait(&janitor, 200));
    assert_true(is_there(dir));
    janitor_end(&janitor, dir, RUN);
    assert_false(is_there(dir));
    assert_kept();
    assert_int_equal(child_exit_status(&janitor), 0);
}

/* What bears the run's mark ends by SIGTERM, or else by SIGKILL; another run's goes on. */
static void test_ends_the_run_s(void **state)
{
    (void)state;
    static const char *const mine[] = {"CLOUDPLAN_CONTROLLER=" RUN, NULL}, *const others[] = {
                                                                               "CLOUDPLAN_CONTROLLER=" RUN
                                                                               "0",
                                                                               NULL};
    static const char *const plain[] = {"sleep", "1000", NULL};
    static const char *const stubborn[] = {"sh", "-c", "trap '' TERM; echo; while :; do sleep 1000; done",
                                           NULL};
    const struct child_spec specs[] = {
        {.argv = plain, .env = mine, .in = CHILD_NULL, .out = CHILD_NULL, .err = CHILD_NULL},
        {.argv = stubborn, .env = mine, .in = CHILD_NULL, .out = CHILD_PIPE, .err = CHILD_NULL},
        {.argv = plain, .env = others, .in = CHILD_NULL, .out = CHILD_NULL, .err = CHILD_NULL},
    };
    struct child children[3], janitor = CHILD_INIT;
    struct error err = ERROR_INIT;
    char byte;
    if (access("/proc/self/environ", R_OK))
        skip();
    for (int i = 0; i < 3; i++)
        assert_int_equal(child_start(&children[i], &specs[i], &err), 0);
    long long end = clock_ms() + DEADLINE_MS;
    while (read(children[1].out, &byte, 1) != 1 && clock_ms() < end)
        usleep(10000);
    assert_int_equal(janitor_start(&janitor, dir, RUN, &err), 0);
    janitor_end(&janitor, dir, RUN);
    assert_true(child_wait(&children[0], DEADLINE_MS) && child_end_signal(&children[0]) == SIGTERM);
    assert_true(child_wait(&children[1], DEADLINE_MS) && child_end_signal(&children[1]) == SIGKILL);
    assert_false(child_ended(&children[2]));
    for (int i = 0; i < 3; i++)
        child_end(&children[i], 0);
    assert_false(is_there(dir));
}

static void assert_done_in_spite_of(int signal)
{
    static const char *const mine[] = {"CLOUDPLAN_CONTROLLER=" RUN, NULL};
    static const char *const argv[] = {"sleep", "1000", NULL};
    const struct child_spec spec = {
        .argv = argv, .env = mine, .in = CHILD_NULL, .out = CHILD_NULL, .err = CHILD_NULL};
    struct child child, janitor = CHILD_INIT;
    struct error err = ERROR_INIT;
    if (access("/proc/self/environ", R_OK))
        skip();
    assert_int_equal(child_start(&child, &spec, &err), 0);
    assert_int_equal(janitor_start(&janitor, dir, RUN, &err), 0);
    kill(-janitor.pid, signal);
    if (signal == SIGKILL)
        assert_true(child_wait(&janitor, DEADLINE_MS));
    janitor_end(&janitor, dir, RUN);
    assert_true(child_wait(&child, DEADLINE_MS) && child_end_signal(&child) == SIGTERM);
    assert_false(is_there(dir));
    assert_kept();
}

/* Another one does its work. */
static void test_killed(void **state)
{
    (void)state;
    assert_done_in_spite_of(SIGKILL);
}

static void test_stopped(void **state)
{
    (void)state;
    assert_done_in_spite_of(SIGSTOP);
}

static void test_never_started(void **state)
{
    (void)state;
    struct child janitor = CHILD_INIT;
    janitor_end(&janitor, NULL, RUN);
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = janitor_start(&janitor, "/nonexistent/x", RUN, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        alloc_fail_at(0);
        janitor_end(&janitor, NULL, RUN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_after_kill, make, clear),
        cmocka_unit_test_setup_teardown(test_stays, make, clear),
        cmocka_unit_test_setup_teardown(test_killed, make, clear),
        cmocka_unit_test_setup_teardown(test_stopped, make, clear),
        cmocka_unit_test_setup_teardown(test_ends_the_run_s, make, clear),
        cmocka_unit_test_setup_teardown(test_never_started, make, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
