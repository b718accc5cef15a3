/* Text for sh, read back by the real one. */
#include "base/child.h"
#include "base/shquote.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT_MAX 4096

static char every_byte[256];

static const char *const texts[] = {
    "",
    "'",
    "''",
    "'''a'b'",
    "\\",
    "\\'",
    "a\\",
    "\"",
    "`id`",
    "$(id)",
    "$HOME",
    "!!",
    "~",
    " ",
    "  a  b ",
    "\n",
    "a\nb\n\n",
    "\t",
    "*",
    "we[ird*",
    "{a,b}",
    "{}",
    ";id",
    "#no",
    "a&b",
    "a|b>c<",
    "-n",
    "--",
    "-e \\n %s",
    "\r",
    "\001",
    "\177",
    "\xff\xfe",
    "\xc3\xbc",
    "=",
    "a=b",
    "'; exit 9; '",
    "$'\\n'",
    "\\n",
    every_byte,
};

/* What sh prints for a script; it must end well and say nothing else. */
static char *run(const char *script)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    struct error err = ERROR_INIT;
    char *out, *words;
    int status;
    if (child_capture(argv, NULL, 20000, TEXT_MAX, &out, &words, &status, &err))
        fail_msg("%s", err.text);
    assert_string_equal(words, "");
    assert_int_equal(status, 0);
    free(words);
    return out;
}

static void assert_read_back(bool assign, const char *text)
{
    char *script = NULL, *got;
    size_t len;
    FILE *out = open_memstream(&script, &len);
    if (assign) {
        shell_assign(out, "NAME", text);
        fputs("printf %s. \"$NAME\"", out);
    } else {
        fputs("printf %s. ", out);
        shell_quote(out, text);
    }
    assert_int_equal(fclose(out), 0);
    got = run(script);
    size_t n = strlen(got);
    assert_true(n > 0 && got[n - 1] == '.');
    got[n - 1] = '\0';
    assert_string_equal(got, text);
    free(got);
    free(script);
}

static void test_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_read_back(false, texts[i]);
        assert_read_back(true, texts[i]);
    }
}

/* One word each, whatever stands beside it. */
static void test_words(void **state)
{
    (void)state;
    size_t count = sizeof texts / sizeof *texts, len;
    char *script = NULL, *expected = NULL;
    FILE *out = open_memstream(&script, &len);
    FILE *want = open_memstream(&expected, &len);
    fputs("printf '<%s>'", out);
    for (size_t i = 0; i < count; i++) {
        fputc(' ', out);
        shell_quote(out, texts[i]);
        fprintf(want, "<%s>", texts[i]);
    }
    assert_int_equal(fclose(out), 0);
    assert_int_equal(fclose(want), 0);
    char *got = run(script);
    assert_string_equal(got, expected);
    free(got);
    free(script);
    free(expected);
}

static int prepare(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (int i = 1; i < 256; i++)
        every_byte[i - 1] = (char)i;
    return child_init(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_back),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
