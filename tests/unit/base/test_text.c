/* Numbers that are none first. */
#include "base/text.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t min, max;
        bool good;
        uint64_t number;
    } cases[] = {
        {"", 0, 9, false, 0},
        {" 1", 0, 9, false, 0},
        {"1 ", 0, 9, false, 0},
        {"+1", 0, 9, false, 0},
        {"-1", 0, UINT64_MAX, false, 0},
        {"0x1", 0, 9, false, 0},
        {"1.0", 0, 9, false, 0},
        {"\xd9\xa1", 0, 9, false, 0}, /* a digit of another alphabet */
        {"18446744073709551616", 0, UINT64_MAX, false, 0},
        {"99999999999999999999999999999999", 0, UINT64_MAX, false, 0},
        {"10", 0, 9, false, 0},
        {"0", 1, 9, false, 0},
        {"18446744073709551615", 0, UINT64_MAX, true, UINT64_MAX},
        {"007", 7, 7, true, 7},
        {"0", 0, 0, true, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t number = 0;
        if (text_number(cases[i].text, cases[i].min, cases[i].max, &number) != cases[i].good)
            fail_msg("'%s'", cases[i].text);
        if (cases[i].good)
            assert_true(number == cases[i].number);
    }
}

static void test_digits_within_a_text(void **state)
{
    (void)state;
    const char text[] = "12a345", *p = text;
    uint64_t number;
    assert_true(text_digits(&p, text + 6, &number) && number == 12 && p == text + 2);
    assert_false(text_digits(&p, text + 6, &number));
    assert_ptr_equal(p, text + 2);
    p = text + 3;
    assert_true(text_digits(&p, text + 5, &number) && number == 34 && p == text + 5);
    assert_false(text_digits(&p, p, &number));
}

static void test_lists(void **state)
{
    (void)state;
    char list[12] = "";
    text_list(list, sizeof list, "a");
    text_list(list, sizeof list, "bc");
    assert_string_equal(list, "a, bc");
    text_list(list, sizeof list, "def");
    assert_string_equal(list, "a, bc, def");
    text_list(list, sizeof list, "g");
    assert_string_equal(list, "a, bc, d...");
    text_list(list, sizeof list, "h");
    assert_string_equal(list, "a, bc, d...");
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {100 * 1024, "100 KiB"},
                 {1536 * 1024, "1.5 MiB"},
                 {UINT64_MAX, "16.0 EiB"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[TEXT_SIZE];
        text_size(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_format_without_memory(void **state)
{
    (void)state;
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        char *text = text_format(&err, "%s-%d", "a", 1);
        assert_int_equal(text != NULL, !alloc_has_failed());
        assert_int_equal(err.status, text ? 0 : STATUS_SYSTEM);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_digits_within_a_text),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_format_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
