/* Lists of strings, with and without memory. */
#include "base/strv.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_empty(void **state)
{
    (void)state;
    char *none[] = {NULL}, *one[] = {"a", NULL};
    strings_free(NULL);
    assert_int_equal(strings_count(NULL), 0);
    assert_int_equal(strings_count(none), 0);
    assert_true(strings_same(NULL, none) && strings_same(none, NULL) && strings_same(NULL, NULL));
    assert_false(strings_same(one, NULL) || strings_same(NULL, one) || strings_same(one, none));
}

static void test_grows(void **state)
{
    (void)state;
    char **list = NULL, *same[] = {"a", "", "c", NULL}, *longer[] = {"a", "", "c", "d", NULL};
    struct error err = ERROR_INIT;
    assert_int_equal(strings_add(&list, "a", &err), 0);
    assert_int_equal(strings_take(&list, strdup("")), 0);
    assert_int_equal(strings_add(&list, "c", &err), 0);
    assert_int_equal(strings_count(list), 3);
    assert_true(strings_same(list, same));
    assert_false(strings_same(list, longer) || strings_same(longer, list) || strings_same(list, same + 1));
    /* A strdup() that has failed: nothing has changed. */
    assert_int_equal(strings_take(&list, NULL), -1);
    assert_true(strings_same(list, same));
    strings_free(list);
}

static void test_without_memory(void **state)
{
    (void)state;
    char *before[] = {"a", NULL};
    for (ALLOC_EACH(n)) {
        char **list = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(strings_add(&list, "a", &err), 0);
        alloc_fail_at(n);
        int result = strings_add(&list, "b", &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_int_equal(result, failed ? -1 : 0);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        assert_true(strings_same(list, before) == failed);
        strings_free(list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
