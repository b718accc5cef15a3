#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void clean(const char *before, const char *after)
{
    char text[64];
    assert_true(strlen(before) < sizeof text);
    strcpy(text, before);
    text_clean(text);
    assert_string_equal(text, after);
}

static void test_clean_controls(void **state)
{
    (void)state;
    clean("", "");
    clean("a\nb\rc\td", "a?b?c?d");
    clean("\x1b[31mred\x1b[0m", "?[31mred?[0m");
    clean("\x01\x1f\x7f", "???");
    clean("\xc2\x9b"
          "31m",
          "??31m"); /* CSI as one C1 control */
    clean("\xc2\x80\xc2\x9f", "????");
}

static void test_clean_broken_utf8(void **state)
{
    (void)state;
    clean("\x80", "?");
    clean("\xff\xfe", "??");
    clean("\xc0\xaf", "??"); /* overlong '/' */
    clean("\xc1\xbf", "??");
    clean("\xe0\x80\xaf", "???"); /* overlong, three bytes */
    clean("\xe0\x9f\xbf", "???");
    clean("\xf0\x80\x80\xaf", "????"); /* overlong, four bytes */
    clean("\xf0\x8f\xbf\xbf", "????");
    clean("\xed\xa0\x80", "???"); /* a surrogate */
    clean("\xed\xbf\xbf", "???");
    clean("\xf4\x90\x80\x80", "????"); /* beyond U+10FFFF */
    clean("\xf5\x80\x80\x80", "????");
    clean("\xc3", "?"); /* cut off */
    clean("\xe2\x82", "??");
    clean("\xf0\x9f\x98", "???");
    clean("\xc3(", "?(");
    clean("\xe2\x82)", "?"
                       "?)"); /* not written "??)": a trigraph */
    clean("\xe2(\xa1", "?(?");
}

static void test_clean_rearranging(void **state)
{
    (void)state;
    clean("a\xe2\x80\xa8z", "a???z"); /* line separator */
    clean("a\xe2\x80\xaez", "a???z"); /* right-to-left override */
    clean("a\xe2\x81\xa6z", "a???z"); /* left-to-right isolate */
    clean("a\xe2\x81\xa9z", "a???z");
    clean("\xe2\x80\xa7\xe2\x80\xaf", "\xe2\x80\xa7\xe2\x80\xaf"); /* their neighbours */
    clean("\xe2\x81\xa5\xe2\x81\xaa", "\xe2\x81\xa5\xe2\x81\xaa");
}

static void test_clean_keeps_text(void **state)
{
    (void)state;
    static const char *const texts[] = {
        " ~!",          "Grüße",        "\xc2\xa0",     "日本語",           "\xf0\x9f\x98\x80",
        "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
        "\xdf\xbf",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        clean(texts[i], texts[i]);
}

static void test_first_error_wins(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(error_set(&err, STATUS_DATA, "%s:%d", "first", 1), -1);
    assert_int_equal(error_set(&err, STATUS_SYSTEM, "second"), -1);
    errno = ENOENT;
    assert_int_equal(error_errno(&err, "third"), -1);
    assert_int_equal(err.status, STATUS_DATA);
    assert_string_equal(err.text, "first:1");
}

static void test_no_error_wanted(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, STATUS_DATA, "nobody hears"), -1);
    errno = ENOENT;
    assert_int_equal(error_errno(NULL, "nobody hears"), -1);
}

static void test_errno(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    errno = ENOENT;
    assert_int_equal(error_errno(&err, "nodes.txt"), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_string_equal(err.text, "nodes.txt: No such file or directory");
}

static void test_text_is_one_clean_line(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    error_set(&err, STATUS_DATA, "%s", "a\nb\x1b]0;title\x07");
    assert_string_equal(err.text, "a?b?]0;title?");
}

static void test_long_text_is_cut(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char text[2 * ERROR_TEXT_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    /* the cut falls into a character of two bytes: what is left of it is no character */
    memcpy(text + ERROR_TEXT_MAX - 2, "\xc3\xbc", 2);
    error_set(&err, STATUS_DATA, "%s", text);
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
    assert_string_equal(err.text + ERROR_TEXT_MAX - 3, "x?");
}

static void test_value(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(error_value(&err, "cloud-chdir", "a\nb", "--cloud-chdir=%s: wrong", "a\nb"), -1);
    assert_int_equal(err.status, STATUS_USAGE);
    assert_string_equal(err.text, "--cloud-chdir=a?b: wrong");
    assert_string_equal(err.option, "cloud-chdir");
    assert_string_equal(err.value, "a\nb");
    /* The first one wins, with all that it has told. */
    error_value(&err, "cloud-node", NULL, "later");
    error_set(&err, STATUS_SYSTEM, "later");
    assert_string_equal(err.option, "cloud-chdir");
    assert_int_equal(error_value(NULL, "cloud-node", NULL, "nobody asks"), -1);
    struct error other = ERROR_INIT;
    error_set(&other, STATUS_DATA, "no option");
    assert_null(other.option);
    assert_null(other.value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_controls),
        cmocka_unit_test(test_clean_broken_utf8),
        cmocka_unit_test(test_clean_rearranging),
        cmocka_unit_test(test_clean_keeps_text),
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_no_error_wanted),
        cmocka_unit_test(test_errno),
        cmocka_unit_test(test_value),
        cmocka_unit_test(test_text_is_one_clean_line),
        cmocka_unit_test(test_long_text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
