/* Programs that are there, and are not what they should be. */
#include "base/child.h"
#include "base/tool.h"

#include "alloc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/tool.XXXXXX";
static char path[64];

/* A program that prints text, and ends with status. */
static void make(const char *text, int status)
{
    char script[512];
    int len = snprintf(script, sizeof script, "#!/bin/sh\nprintf '%%b' '%s'\nexit %d\n", text, status);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, script, (size_t)len), len);
    close(fd);
}

static int check(struct error *err)
{
    return tool_check(path, "--version", "rsync  version ", 3, 1, "get another", err);
}

static void test_versions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
        const char *words; /* NULL: it fits */
    } table[] = {
        {"", 0, "not the program"},
        {"rsync  version", 0, "not the program"},
        {"rsync  version ", 0, "not the program"},
        {"rsync  version x3.1", 0, "not the program"},
        {"rsync  version vv3.1", 0, "not the program"},
        {"rsync  version -3.1", 0, "not the program"},
        {"rsync version 3.2.7", 0, "not the program"},
        {"openrsync: protocol version 29\\nrsync version 2.6.9 compatible\\n", 0, "not the program"},
        {"\\nrsync  version 3.2.7", 0, "not the program"},
        {"rsync  version 3.2.7  protocol version 31\\n", 1, "not the program"},
        {"rsync  version 2.6.9  protocol version 29\\n", 0, "too old"},
        {"rsync  version 3.0.9  protocol version 30\\n", 0, "too old"},
        {"rsync  version 3", 0, "too old"},
        {"rsync  version 3.", 0, "too old"},
        {"rsync  version 3.1.0  protocol version 31\\n", 0, NULL},
        {"rsync  version v3.2.7-12-gabc  protocol version 31\\n", 0, NULL},
        {"rsync  version 3.10.0", 0, NULL},
        {"rsync  version 4.0", 0, NULL},
        {"rsync  version 99999999999999999999", 0, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct error err = ERROR_INIT;
        make(table[i].text, table[i].status);
        int result = check(&err);
        if (result != (table[i].words ? -1 : 0))
            fail_msg("%s: %d", table[i].text, result);
        assert_int_equal(err.status, table[i].words ? STATUS_TOOL : 0);
        if (table[i].words) {
            assert_non_null(strstr(err.text, table[i].words));
            assert_non_null(strstr(err.text, "get another"));
        }
    }
}

static void test_missing(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    unlink(path);
    assert_int_equal(check(&err), -1);
    assert_int_equal(err.status, STATUS_TOOL);
    assert_non_null(strstr(err.text, "not found; get another"));
}

static void test_killed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make("rsync  version 3.2.7\\n'; kill -9 $$; echo '", 0);
    assert_int_equal(check(&err), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_non_null(strstr(err.text, " --version was ended by signal 9 (Killed)"));
}

static void test_any_version(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make("whatever", 0);
    assert_int_equal(tool_check(path, "-V", NULL, 0, 0, "get another", &err), 0);
    assert_int_equal(tool_check(path, "-V", "what", 0, 0, "get another", &err), 0);
    assert_int_equal(tool_check(path, "-V", "other", 0, 0, "get another", &err), -1);
}

static void test_allocations(void **state)
{
    (void)state;
    make("rsync  version 3.2.7", 0);
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = check(&err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
    }
}

static int prepare(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    if (!mkdtemp(base))
        return -1;
    snprintf(path, sizeof path, "%s/tool", base);
    return child_init(&err);
}

static int clean_up(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),    cmocka_unit_test(test_missing),
        cmocka_unit_test(test_any_version), cmocka_unit_test(test_killed),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
