#include "base/strv.h"
#include "engine/pytest/rerun.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/test_rerun.XXXXXX";
static char *const options[] = {"-q", "--maxfail=3", NULL};

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "{", "{}", "\"a\"", "[1]", "[\"a\", null]", "[[\"a\"]]", "[\"a\\u0000b\"]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char **args;
        size_t count;
        struct error err = ERROR_INIT, again = ERROR_INIT;
        write_file(texts[i]);
        assert_int_equal(rerun_count(path, &count, &err), -1);
        assert_int_equal(err.status, STATUS_BUG);
        assert_non_null(strstr(err.text, path));
        assert_int_equal(rerun_args(path, options, &args, &again), -1);
        assert_int_equal(again.status, STATUS_BUG);
        assert_null(args);
    }
}

/* Everything is run where single tests cannot be named. */
static void test_everything(void **state)
{
    (void)state;
    char **args;
    size_t count;
    struct error err = ERROR_INIT;
    assert_int_equal(rerun_args("/nonexistent/failed", options, &args, &err), 0);
    assert_null(args);
    assert_int_equal(rerun_count("/nonexistent/failed", &count, &err), 0);
    assert_int_equal(count, 0);
    static const char *const texts[] = {"[]", "[\"-x.py::test\"]", "[\"a.py::test\", \"\"]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_file(texts[i]);
        assert_int_equal(rerun_args(path, options, &args, &err), 0);
        assert_null(args);
    }
    write_file("[\"a.py::test\"]");
    assert_int_equal(rerun_args(path, NULL, &args, &err), 0);
    assert_null(args);

    char *text = malloc(RERUN_BYTES_MAX + 16), *to = text + sprintf(text, "[\"");
    memset(to, 'a', RERUN_BYTES_MAX);
    strcpy(to + RERUN_BYTES_MAX, "\"]");
    write_file(text);
    assert_int_equal(rerun_args(path, options, &args, &err), 0);
    assert_null(args);
    strcpy(to + RERUN_BYTES_MAX - 1, "\"]");
    write_file(text);
    assert_int_equal(rerun_args(path, options, &args, &err), 0);
    assert_non_null(args);
    strings_free(args);
    free(text);
}

static void test_some(void **state)
{
    (void)state;
    char **args;
    size_t count;
    struct error err = ERROR_INIT;
    write_file("[\"tests/a.py::test[x y\\n]\", \"b.py\"]");
    assert_int_equal(rerun_count(path, &count, &err), 0);
    assert_int_equal(count, 2);
    static const char *const expected[] = {"-q", "--maxfail=3", "tests/a.py::test[x y\n]", "b.py"};
    for (ALLOC_EACH(n)) {
        err = (struct error)ERROR_INIT;
        alloc_fail_at(n);
        int result = rerun_args(path, options, &args, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        for (size_t i = 0; result == 0 && i < 4; i++)
            assert_string_equal(args[i], expected[i]);
        if (result == 0)
            assert_null(args[4]);
        strings_free(args);
    }
    alloc_fail_at(0);
}

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_some),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
