/* Ciphers that the OpenSSH here does not know, told before anything is started. */
#include "base/child.h"
#include "ssh/cipher.h"

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

static char base[] = "/tmp/cipher.XXXXXX";
static char path[64];

/* An ssh of our own, the only program in PATH. */
static void make(const char *script)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0700);
    assert_true(fd >= 0);
    assert_int_equal(dprintf(fd, "#!/bin/sh\n[ \"$*\" = '-Q cipher' ] || exit 9\n%s\n", script),
                     (int)strlen(script) + 44);
    close(fd);
}

static void make_usual(void)
{
    make("printf '%s\\n' 3des-cbc aes128-ctr aes256-ctr aes128-gcm@openssh.com aes256-gcm@openssh.com");
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *value, *error; /* NULL: fine */
    } cases[] = {
        {"", NULL},
        {"aes128-ctr", NULL},
        {"aes256-gcm@openssh.com,3des-cbc", NULL},
        {"+aes128-ctr", NULL},
        {"-aes128-ctr,3des-cbc", NULL},
        {"^aes128-ctr", NULL},
        {"foo", "--cloud-rsync-cipher=foo: ssh here knows no cipher 'foo'; see ssh -Q cipher"},
        {"aes256-gcm", "--cloud-rsync-cipher=aes256-gcm: ssh here knows no cipher aes256-gcm; is it "
                       "aes256-gcm@openssh.com?"},
        {"aes128-ctr,foo,3des-cbc",
         "--cloud-rsync-cipher=aes128-ctr,foo,3des-cbc: ssh here knows no cipher 'foo'; see ssh -Q cipher"},
        {"-foo", "--cloud-rsync-cipher=-foo: ssh here knows no cipher 'foo'; see ssh -Q cipher"},
        {"AES128-CTR", "ssh here knows no cipher 'AES128-CTR'"},
        {"aes128-ct", "ssh here knows no cipher 'aes128-ct'"},
        {"aes128-ctr,", "ssh here knows no cipher ''"},
        {",", "ssh here knows no cipher ''"},
        {"+", "ssh here knows no cipher ''"},
        {"a*", "ssh here knows no cipher 'a*'"},
    };
    make_usual();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = ERROR_INIT;
        int result = cipher_check(cases[i].value, &err);
        if (result != (cases[i].error ? -1 : 0) || err.status != (cases[i].error ? STATUS_USAGE : 0) ||
            (cases[i].error && !strstr(err.text, cases[i].error)))
            fail_msg("'%s': %d, %d, '%s'", cases[i].value, result, err.status, err.text);
    }
}

/* Who needs an ssh says so. */
static void test_no_ssh_that_tells(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make("exit 1");
    assert_int_equal(cipher_check("foo", &err), 0);
    unlink(path);
    assert_int_equal(cipher_check("foo", &err), 0);
    assert_int_equal(err.status, 0);
}

static void test_allocations(void **state)
{
    (void)state;
    make_usual();
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = cipher_check("aes128-ctr", &err);
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
    snprintf(path, sizeof path, "%s/ssh", base);
    setenv("PATH", base, 1);
    return child_init(&err);
}

static int clear(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_no_ssh_that_tells),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, prepare, clear);
}
