/* Keys and base64: what must be refused first. */
#include "ssh/key.h"

#include "alloc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ED "AAAAC3NzaC1lZDI1NTE5AAAAIBIAC/brfYvHcMtVbTeiNXus8X8i1GaVr+6kvYX1OEza"

/* In a block of its own of exactly len bytes, so that the sanitizer sees a step too far. */
static char *exact(const char *text)
{
    char *copy = malloc(strlen(text) + !*text);
    assert_non_null(copy);
    return memcpy(copy, text, strlen(text));
}

static void bad_base64(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "A",     "AA",     "AAA",  "=",    "==",   "====", "A===", "AA=",         "AA=A",  "AA==A",   "AAA==",
        "AAAA=", "AAAA==", "AB==", "AAB=", "AA-A", "AA_A", "A.AA", "AAAA\200AAA", "AAAAA", "AAA=AAAA"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t len;
        char *text = exact(texts[i]);
        errno = 0;
        if (key_base64(text, strlen(texts[i]), &len) || errno != EINVAL)
            fail_msg("taken: %s", texts[i]);
        free(text);
    }
}

static void good_base64(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bytes;
        size_t len;
    } cases[] = {
        {"", "", 0},
        {" \t\r\n\v\f", "", 0},
        {"AA==", "\0", 1},
        {"AAA=", "\0\0", 2},
        {"AAAA", "\0\0\0", 3},
        {"/+9a", "\377\357\132", 3},
        {"Zm9v\nYmFy\n", "foobar", 6},
        {"Z m 9\tvYg=\n=\n", "foob", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len;
        char *text = exact(cases[i].text);
        unsigned char *bytes = key_base64(text, strlen(cases[i].text), &len);
        assert_non_null(bytes);
        assert_int_equal(len, cases[i].len);
        assert_memory_equal(bytes, cases[i].bytes, len);
        free(bytes);
        free(text);
    }
}

static void lines(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "ssh-ed25519",
                                      "ssh-ed25519 ",
                                      "ssh-ed25519 AAAA",
                                      "ssh-rsa " ED,
                                      "ssh-ed2551 " ED,
                                      "ssh-ed25519x " ED,
                                      ED,
                                      "ssh-ed25519 " ED "A",
                                      "ssh-ed25519\n" ED};
    size_t len;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *text = exact(bad[i]);
        errno = 0;
        if (key_read(text, strlen(bad[i]), &len) || errno != EINVAL)
            fail_msg("taken: %s", bad[i]);
        free(text);
    }
    static const char *const good[] = {"ssh-ed25519 " ED, "\t ssh-ed25519\t \t" ED "\r\n",
                                       "ssh-ed25519 " ED " a comment"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char *text = exact(good[i]);
        unsigned char *blob = key_read(text, strlen(good[i]), &len);
        assert_non_null(blob);
        assert_int_equal(len, 51);
        assert_string_equal(key_type(blob, len), "ssh-ed25519");
        for (size_t cut = 0; cut < len; cut++)
            assert_null(key_type(blob, cut));
        free(blob);
        free(text);
    }
    alloc_fail_at(1);
    errno = 0;
    assert_null(key_read(good[0], strlen(good[0]), &len));
    assert_int_equal(errno, ENOMEM);
    alloc_fail_at(0);
}

static void wire_values(void **state)
{
    (void)state;
    static const unsigned char message[] = "\0\0\0\2ab\0\0\0\1";
    struct wire wire = {message, sizeof message - 1}, string;
    uint32_t value;
    assert_true(wire_string(&wire, &string));
    assert_true(wire_is(&string, "ab"));
    assert_false(wire_is(&string, "abc"));
    assert_false(wire_string(&wire, &string)); /* takes nothing */
    assert_int_equal(wire.left, 4);
    assert_true(wire_u32(&wire, &value));
    assert_int_equal(value, 1);
    assert_false(wire_u32(&wire, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_base64),
        cmocka_unit_test(good_base64),
        cmocka_unit_test(lines),
        cmocka_unit_test(wire_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
