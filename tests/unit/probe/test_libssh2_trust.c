/* Who is believed: a table of what known_hosts holds, what ssh_config says, and what the node shows. */
#include "probe/libssh2_trust.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Two keys of one type and one of another, as known_hosts has them and on the wire (RFC 8709, RFC 5656). */
#define ED_A "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define RSA "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQU="
#define KEY_LEN 51

static void make_key(unsigned char key[KEY_LEN], unsigned char fill)
{
    memcpy(key, "\0\0\0\x0bssh-ed25519\0\0\0\x20", 19);
    memset(key + 19, fill, 32);
}

static void test_verdicts(void **state)
{
    (void)state;
    static const struct {
        const char *known, *checking;
        unsigned char shown;
        enum trust trust;
        const char *reason;
    } table[] = {
        {"h " ED_A "\n", "ask", 0, TRUST_ACCEPT, NULL},
        {"h " ED_A "\n", "false", 0, TRUST_ACCEPT, NULL},
        {"h " ED_A "\n", "ask", 1, TRUST_REFUSE, "host key changed: SHA256:"},
        {"h " ED_A "\n", "true", 1, TRUST_REFUSE, "ssh-keygen -R"},
        {"h " ED_A "\n", "accept-new", 1, TRUST_REFUSE, "host key changed"},
        {"h " ED_A "\n", "false", 1, TRUST_OPENSSH, "StrictHostKeyChecking is off"},
        {"other " ED_A "\n", "ask", 0, TRUST_REFUSE, "host key unknown: SHA256:"},
        {"", "yes", 0, TRUST_REFUSE, "ssh-keyscan"},
        {"", "accept-new", 0, TRUST_OPENSSH, "StrictHostKeyChecking"},
        {"", "false", 0, TRUST_OPENSSH, "StrictHostKeyChecking"},
        /* Only a type is known that libssh2 cannot check: OpenSSH asks the node for it. */
        {"h " RSA "\n", "ask", 0, TRUST_OPENSSH, "other types"},
        {"@revoked h " ED_A "\nh " ED_A "\n", "false", 0, TRUST_REFUSE, "revoked"},
        {"@cert-authority h " ED_A "\n", "ask", 0, TRUST_OPENSSH, "only OpenSSH understands"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct error err = ERROR_INIT;
        struct known_hosts *known = known_hosts_parse(table[i].known, strlen(table[i].known), &err);
        assert_non_null(known);
        struct known_host *host = known_hosts_lookup(known, "h", 22, &err);
        assert_non_null(host);
        struct sshconf conf = {.stricthostkeychecking = (char *)table[i].checking};
        unsigned char key[KEY_LEN];
        char reason[ERROR_TEXT_MAX] = "";
        make_key(key, table[i].shown);
        enum trust trust = trust_host_key(&conf, host, key, sizeof key, reason);
        if (trust != table[i].trust || (table[i].reason && !strstr(reason, table[i].reason)))
            fail_msg("case %zu: %d, \"%s\"", i, trust, reason);
        known_host_destroy(host);
        known_hosts_destroy(known);
    }
}

/* A key that lies about its own length is no reason to read beyond it. */
static void test_broken_keys(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct known_hosts *known = known_hosts_parse("h " ED_A "\n", strlen("h " ED_A "\n"), &err);
    struct known_host *host = known_hosts_lookup(known, "h", 22, &err);
    struct sshconf conf = {.stricthostkeychecking = "ask"};
    char reason[ERROR_TEXT_MAX];
    static const char *const keys[] = {"", "\0\0\0", "\xff\xff\xff\xff", "\0\0\0\x0bssh"};
    static const size_t lens[] = {0, 3, 4, 7};
    for (size_t i = 0; i < 4; i++)
        assert_int_not_equal(trust_host_key(&conf, host, (const unsigned char *)keys[i], lens[i], reason),
                             TRUST_ACCEPT);
    known_host_destroy(host);
    known_hosts_destroy(known);
}

static void test_algorithms(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct known_hosts *known = known_hosts_parse("h " ED_A "\n", strlen("h " ED_A "\n"), &err);
    struct known_host *host = known_hosts_lookup(known, "h", 22, &err);
    struct sshconf conf = {
        .kexalgorithms = "sntrup761x25519-sha512@openssh.com,curve25519-sha256,ecdh-sha2-nistp256",
        .hostkeyalgorithms = "ecdsa-sha2-nistp256,ssh-ed25519",
        .ciphers = "chacha20-poly1305@openssh.com,aes128-ctr",
        .macs = "umac-64-etm@openssh.com,hmac-sha2-256",
    };
    LIBSSH2_SESSION *session = libssh2_session_init();
    /* Without memory the OpenSSH client has to do it. */
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        const char *lacking = trust_algorithms(session, &conf, host);
        assert_int_equal(lacking != NULL, alloc_has_failed());
    }
    conf.ciphers = "aes128-of-mars"; /* one that no release of libssh2 has */
    assert_string_equal(trust_algorithms(session, &conf, host), "cipher");
    conf.ciphers = "aes128-ctr";
    conf.macs = "";
    assert_string_equal(trust_algorithms(session, &conf, host), "MAC");
    conf.hostkeyalgorithms = "ssh-dss-of-mars";
    assert_string_equal(trust_algorithms(session, &conf, host), "host key");
    conf.kexalgorithms = "curve";
    assert_string_equal(trust_algorithms(session, &conf, host), "key exchange");
    libssh2_session_free(session);
    known_host_destroy(host);
    known_hosts_destroy(known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_broken_keys),
        cmocka_unit_test(test_algorithms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
