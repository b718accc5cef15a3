/* Paths as text; path_expand() is in test_rundir.c. */
#include "base/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_below(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *path, *rest;
    } table[] = {
        {"/a", "/b", NULL},  {"/a", "/", NULL},       {"/a", "/ab", NULL}, {"/a/b", "/a", NULL},
        {"/a", "", NULL},    {"/a", "a/b", NULL},     {"a", "/a", NULL},   {"/a", "/a", ""},
        {"/a", "/a/b", "b"}, {"/a", "/a/b/c", "b/c"}, {"/", "/", ""},      {"/", "/a/b", "a/b"},
        {"/", "a", NULL},    {"a", "a/b", "b"},       {"a", "ab", NULL},   {"/a b", "/a b/c", "c"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *rest = path_below(table[i].dir, table[i].path);
        if (table[i].rest)
            assert_string_equal(rest ? rest : "(none)", table[i].rest);
        else
            assert_null(rest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_below)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
