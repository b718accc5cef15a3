/* The engine pytest: what it says of an interpreter, how it calls one, and what signals do.  The interpreters are
 * shell scripts. */
#include "base/child.h"
#include "engine/pytest/check.h"
#include "engine/pytest/start.h"

#include "alloc.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_pytest_start.XXXXXX";
static char python[sizeof dir + 16], record[sizeof dir + 16];

static void python_is(const char *script)
{
    FILE *f = fopen(python, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", script);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(python, 0700), 0);
}

static const char *recorded(void)
{
    static char text[4096];
    FILE *f = fopen(record, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void test_check(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        const char *error; /* a part of it; NULL: none */
    } cases[] = {
        {"exit 1", "cannot load pytest and pytest-xdist: exit status 1"},
        {"echo one >&2; echo 'SyntaxError: two' >&2; exit 1", "exit status 1: SyntaxError: two"},
        {"echo 7.2.1", "no module named pytest"},
        {"echo cloudplan-version pytest unknown", "cannot tell the version of pytest"},
        {"echo cloudplan-version pytestsomething 7.2.1", "no module named pytest"},
        {"echo nothing", "no module named pytest; install it: "},
        {"echo cloudplan-version pytest", "no module named pytest; install it: "},
        {"echo cloudplan-version pytest 7.2.1; echo cloudplan-missing",
         "no module named xdist; install it: "},
        {"echo cloudplan-version pytest 7.2.1; echo cloudplan-version xdist 3.1; echo cloudplan-missing",
         "no module named execnet"},
        {"echo cloudplan-version pytest 6.2.5", "pytest 6.2 is too old, at least 7.0 is needed"},
        {"echo cloudplan-version pytest 10.0; echo cloudplan-version xdist 2.4.0",
         "pytest-xdist 2.4 is too old, at least 2.5 is needed"},
        {"echo hello; echo cloudplan-version pytest 7.0; echo cloudplan-version xdist 2.5.0;"
         "echo cloudplan-version execnet 1.9.0",
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = ERROR_INIT;
        python_is(cases[i].script);
        int result = pytest_check(python, &err);
        assert_int_equal(result, cases[i].error ? -1 : 0);
        assert_int_equal(err.status, cases[i].error ? STATUS_TOOL : STATUS_OK);
        if (cases[i].error && !strstr(err.text, cases[i].error))
            fail_msg("%s: %s", cases[i].script, err.text);
        if (cases[i].error)
            assert_int_equal(strncmp(err.text, python, strlen(python)), 0);
    }
    struct error err = ERROR_INIT;
    assert_int_equal(pytest_check("/nonexistent/python3", &err), -1);
    assert_int_equal(err.status, STATUS_TOOL);
}

static char *const tx[] = {"popen//id=localhost_0", "ssh=ci@h//id=h_0", NULL};
static char *const args[] = {"tests/", "-k", "a b\n", "", NULL};

static int run(const char *dist, int *status, struct error *err)
{
    const struct pytest_start params = {.rundir = dir,
                                        .run_id = "abc",
                                        .python = python,
                                        .tx = tx,
                                        .dist = dist,
                                        .args = args,
                                        .failed = "/x/failed"};
    return pytest_run(&params, status, err);
}

static void test_run(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int status = -1;
    char script[512], expected[512];
    snprintf(script, sizeof script,
             "printf '[%%s]' \"$@\" > %s; echo $PYTEST_PLUGINS $PYTHONPATH >> %s; echo "
             "$_CLOUDPLAN_ENGINE $CLOUDPLAN_CONTROLLER $_CLOUDPLAN_FAILED >> %s; exit 5",
             record, record, record);
    python_is(script);

    unsetenv("PYTEST_PLUGINS");
    unsetenv("PYTHONPATH");
    assert_int_equal(run(NULL, &status, &err), 0);
    assert_int_equal(status, 5);
    snprintf(
        expected, sizeof expected,
        "[-m][pytest][--dist=load][--tx][popen//id=localhost_0][--tx][ssh=ci@h//id=h_0][tests/][-k][a b\n][]"
        "pytest_cloudplan,pytest_cloudplan.controller %s/plugin\n1 abc /x/failed\n",
        dir);
    assert_string_equal(recorded(), expected);

    setenv("PYTEST_PLUGINS", "mine", 1);
    setenv("PYTHONPATH", "/a:/b", 1);
    assert_int_equal(run("each", &status, &err), 0);
    assert_int_equal(status, 5);
    snprintf(expected, sizeof expected,
             "[-m][pytest][--dist=load][--tx][popen//id=localhost_0][--tx][ssh=ci@h//"
             "id=h_0][--dist=each][tests/][-k]"
             "[a b\n][]mine,pytest_cloudplan,pytest_cloudplan.controller %s/plugin:/a:/b\n1 abc /x/failed\n",
             dir);
    assert_string_equal(recorded(), expected);

    python_is("kill -SEGV $$");
    assert_int_equal(run(NULL, &status, &err), -1);
    assert_int_equal(err.status, STATUS_SIGNAL + SIGSEGV);
    assert_non_null(strstr(err.text, "pytest was ended by signal 11 (Segmentation fault)"));
}

/* What the plugin writes where all is well. */
#define COMPLETE "set -- $_CLOUDPLAN_RECORD; echo \"$1 complete\" > \"$2\"; "

static void test_status_0_takes_a_record(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int status;        /* the engine's */
        const char *error; /* a part of it, with STATUS_BUG; NULL: none */
    } cases[] = {
        {COMPLETE "exit 0", 0, NULL},
        {COMPLETE "exit 1", 1, NULL},
        {"exit 1", 1, NULL},
        {"exit 5", 5, NULL},
        {"exit 0", 0, "before it had told of every test"},
        {"exec true", 0, "before it had told of every test"},
        {"set -- $_CLOUDPLAN_RECORD; echo \"$1 2 of the 5 tests have no result\" > $2", 0,
         "pytest ended with status 0, but 2 of the 5 tests have no result: does a conftest.py or a plugin "
         "replace the exit status?"},
        {"set -- $_CLOUDPLAN_RECORD; printf '%s completed' $1 > $2", 0, "but completed:"},
        {"set -- $_CLOUDPLAN_RECORD; printf '%s' $1 > $2", 0, "before it had told"},
        {"set -- $_CLOUDPLAN_RECORD; printf 'x%s complete' $1 > $2", 0, "before it had told"},
        {"set -- $_CLOUDPLAN_RECORD; echo complete > $2", 0, "before it had told"},
        {"set -- $_CLOUDPLAN_RECORD; : > $2", 0, "before it had told"},
        {"set -- $_CLOUDPLAN_RECORD; rm $2; mkfifo $2", 0, "before it had told"},
        {"set -- $_CLOUDPLAN_RECORD; printf '%s a\\033[31mb' $1 > $2", 0, "but a?[31mb:"},
        {"set -- $_CLOUDPLAN_RECORD; printf '%s %600s' $1 x > $2", 0, "but "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = ERROR_INIT;
        int status = -1;
        python_is(cases[i].script);
        int result = run(NULL, &status, &err);
        if (result != (cases[i].error ? -1 : 0) || (cases[i].error && !strstr(err.text, cases[i].error)))
            fail_msg("%s: %d %s", cases[i].script, result, err.text);
        assert_int_equal(err.status, cases[i].error ? STATUS_BUG : STATUS_OK);
        assert_int_equal(status, cases[i].status);
    }
    char path[sizeof dir + 16], script[300];
    struct error err = ERROR_INIT;
    int status = -1;
    snprintf(path, sizeof path, "%s/complete", dir);
    assert_int_equal(access(path, F_OK), -1);
    /* That of an earlier start does not count, and neither does its word. */
    snprintf(script, sizeof script, COMPLETE "cp $2 %s; exit 0", record);
    python_is(script);
    assert_int_equal(run(NULL, &status, &err), 0);
    snprintf(script, sizeof script, "set -- $_CLOUDPLAN_RECORD; ! grep -q complete $2 && cp %s $2", record);
    python_is(script);
    assert_int_equal(run(NULL, &status, &err), -1);
    assert_int_equal(err.status, STATUS_BUG);
    /* One that cannot be removed. */
    err = (struct error)ERROR_INIT;
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(run(NULL, &status, &err), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_memory_equal(err.text, path, strlen(path));
    assert_int_equal(rmdir(path), 0);
}

static void test_run_fails(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    int status = -1;

    const struct pytest_start no_python = {
        .rundir = dir, .run_id = "abc", .python = "/nonexistent/python3", .tx = tx, .args = args};
    assert_int_equal(pytest_run(&no_python, &status, &err), -1);
    assert_int_equal(err.status, STATUS_TOOL);
    assert_int_equal(status, -1);
}

static void test_allocations(void **state)
{
    (void)state;
    python_is("echo cloudplan-version pytest 7.0; echo cloudplan-version xdist 2.5; echo cloudplan-version "
              "execnet 2.0");
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = pytest_check(python, &err);
        assert_int_equal(result == 0, !alloc_has_failed());
    }
    python_is(COMPLETE "exit 0");
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        int status = -1;
        alloc_fail_at(n);
        int result = run("each", &status, &err);
        assert_int_equal(result == 0, !alloc_has_failed());
        if (result)
            assert_int_equal(err.status, STATUS_SYSTEM);
    }
}

/* The status of a cloudplan whose engine sends it these signals: child.c counts them from the start of
 * the process, so each needs one of its own. */
static int status_after(const char *script)
{
    python_is(script);
    pid_t pid = fork();
    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        struct error err = ERROR_INIT;
        int status = 255;
        alarm(60);
        if (child_init(&err) == 0 && run(NULL, &status, &err) == 0)
            _exit(status);
        _exit(255);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_signals(void **state)
{
    (void)state;
    char script[256];
    /* Passed on, and the engine's own status gives way to the signal's. */
    snprintf(script, sizeof script,
             "trap 'echo INT > %s; exit 2' INT; kill -INT $PPID; while :; do sleep 0.1; done", record);
    assert_int_equal(status_after(script), STATUS_SIGNAL + SIGINT);
    assert_string_equal(recorded(), "INT\n");
    static const struct {
        const char *name;
        int number;
    } others[] = {{"TERM", SIGTERM}, {"HUP", SIGHUP}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(script, sizeof script,
                 "trap 'echo TERM > %s; exit 2' TERM; kill -%s $PPID; while :; do sleep 0.1; done", record,
                 others[i].name);
        assert_int_equal(status_after(script), STATUS_SIGNAL + others[i].number);
        assert_string_equal(recorded(), "TERM\n");
    }
    /* A second one ends an engine that does not listen; the first of them names the status. */
    assert_int_equal(
        status_after(
            "trap '' INT TERM; kill -TERM $PPID; sleep 1; kill -INT $PPID; while :; do sleep 0.1; done"),
        STATUS_SIGNAL + SIGTERM);
}

static int set_up(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    if (!mkdtemp(dir) || child_init(&err))
        return -1;
    snprintf(python, sizeof python, "%s/python3", dir);
    snprintf(record, sizeof record, "%s/record", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(python);
    unlink(record);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),       cmocka_unit_test(test_run),
        cmocka_unit_test(test_run_fails),   cmocka_unit_test(test_status_0_takes_a_record),
        cmocka_unit_test(test_allocations), cmocka_unit_test(test_signals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
