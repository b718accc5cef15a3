/* known_hosts: bad lines first, then what each line means.  The expected results are OpenSSH 9.2's. */
#include "ssh/key.h"
#include "ssh/known_hosts.h"

#include "alloc.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ED1 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBIAC/brfYvHcMtVbTeiNXus8X8i1GaVr+6kvYX1OEza"
#define ED2 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILPHidG8gra0eJ5qMj7nDtEJ4Q8LoLoVrqi24iizNjiU"
#define EC                                                                                                   \
    "ecdsa-sha2-nistp256 "                                                                                   \
    "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBD77+8W+"                                           \
    "uJmUSHwZvAvzgW0C8neDtKlWphbjcKC4JbwI4bq2B8b3ufsRr/"                                                     \
    "jm7C1t81mb0EBWFJyEjE14DzKsp7c="
#define RSA "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAEQCRkpOUlZaXmJmam5ydnp+g"
#define HASH "|1|CGKTTZueRgm6mf7OTsDepWAO35s=|qfSawdSTSJdXSVtWT+1vth3zEkk="      /* n1.example.org */
#define HASH_PORT "|1|L2l5s+4wPxhAVSfbFWnS9HK4K60=|VuKb87HZqAJeP81n6oK99xxPK8o=" /* [n1.example.org]:2222 */
#define X100                                                                                                 \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X1000 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100

/* In a block of its own of exactly len bytes, so that the sanitizer sees a step too far. */
static struct known_hosts *parse(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    struct known_hosts *known = known_hosts_parse(copy, len, NULL);
    free(copy);
    assert_non_null(known);
    return known;
}

static enum known_result check_key(const struct known_host *entry, const char *key, const char **where)
{
    size_t len;
    unsigned char *blob = key_read(key, strlen(key), &len);
    assert_non_null(blob);
    enum known_result result = known_host_check(entry, blob, len, where);
    free(blob);
    return result;
}

struct example {
    const char *text;
    enum known_result result; /* for ED1 */
    unsigned line;            /* that decided; 0: none */
};

static void try_examples(const struct example *examples, size_t count, const char *host, uint16_t port)
{
    for (size_t i = 0; i < count; i++) {
        struct known_hosts *known = parse(examples[i].text, strlen(examples[i].text));
        struct known_host *entry = known_hosts_lookup(known, host, port, NULL);
        assert_non_null(entry);
        const char *where = NULL;
        char expected[40] = "";
        if (examples[i].line)
            snprintf(expected, sizeof expected, "known_hosts:%u", examples[i].line);
        enum known_result result = check_key(entry, ED1, &where);
        if (result != examples[i].result || strcmp(where, expected))
            fail_msg("result %d at '%s' for:\n%s", result, where, examples[i].text);
        if (result != KNOWN_REVOKED)
            assert_int_equal(known_host_unsure(entry), result == KNOWN_UNSURE);
        known_host_destroy(entry);
        known_hosts_destroy(known);
    }
}
#define TRY(examples, host, port) try_examples(examples, sizeof examples / sizeof *examples, host, port)

static void lines_that_do_not_parse(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"", KNOWN_ABSENT, 0},
        {"\n\n \t\n# n1.example.org " ED1 "\n", KNOWN_ABSENT, 0},
        {"n1.example.org", KNOWN_UNSURE, 1},
        {"n1.example.org   ", KNOWN_UNSURE, 1},
        {"n1.example.org ssh-ed25519", KNOWN_UNSURE, 1},
        {"n1.example.org ssh-ed25519 \n", KNOWN_UNSURE, 1},
        {"n1.example.org # " ED1 "\n", KNOWN_UNSURE, 1},
        {"other " ED1 "\nn1.example.org 1024 35 1234567\n", KNOWN_UNSURE, 2},
        {"n1.example.org ssh-ed448 AAAA\n", KNOWN_UNSURE, 1},
        {"n1.example.org ssh-ed25519 AAAAC3Nz\n", KNOWN_UNSURE, 1},
        {"n1.example.org " ED1 "=\n", KNOWN_UNSURE, 1},
        {"n1.example.org " ED1 "!\n", KNOWN_UNSURE, 1},
        /* the type and the blob's differ; a byte too many; one too few; a certificate; another curve */
        {"n1.example.org ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIBIAC/brfYvHcMtVbTeiNXus8X8i1GaVr+6kvYX1OEza",
         KNOWN_UNSURE, 1},
        {"n1.example.org ssh-ed25519 "
         "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAeA==",
         KNOWN_UNSURE, 1},
        {"n1.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAHwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
         KNOWN_UNSURE, 1},
        {"n1.example.org ssh-ed25519-cert-v01@openssh.com "
         "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
         KNOWN_UNSURE, 1},
        {"n1.example.org ecdsa-sha2-nistp256 "
         "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAzODQAAABBBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
         "AAAAAAAAA"
         "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
         KNOWN_UNSURE, 1},
        /* such lines do not hide the others, and of other hosts they say nothing */
        {"other ssh-ed25519\n@foo other " ED1 "\n\001\377\nn1.example.org " ED1, KNOWN_MATCH, 4},
        {"n1.example.org " ED1 "\nn1.example.org ssh-ed448 AAAA\n", KNOWN_UNSURE, 2},
        {"|1|broken n1.example.org " ED1 "\n", KNOWN_ABSENT, 0},
        {"|2|CGKTTZueRgm6mf7OTsDepWAO35s=|qfSawdSTSJdXSVtWT+1vth3zEkk= " ED1 "\n", KNOWN_ABSENT, 0},
        {"|1|CGKTTZueRgm6mf7OTsDepWAO35t=|qfSawdSTSJdXSVtWT+1vth3zEkk= " ED1 "\n", KNOWN_ABSENT, 0},
        {"|1|CGKTTZueRgm6mf7OTsDepWAO3w==|qfSawdSTSJdXSVtWT+1vth3zEkk= " ED1 "\n", KNOWN_ABSENT, 0},
        {"|1|CGKTTZueRgm6mf7OTsDepWAO35s=,qfSawdSTSJdXSVtWT+1vth3zEkk= " ED1 "\n", KNOWN_ABSENT, 0},
        {HASH ",n1.example.org " ED1 "\n", KNOWN_ABSENT, 0},
        {"!" HASH " " ED1 "\n", KNOWN_ABSENT, 0},
    };
    TRY(examples, "n1.example.org", 22);

    static const char nul[] = "n1.example.org " ED1 "\0 x\nn1\0.example.org " ED2 "\n";
    struct known_hosts *known = parse(nul, sizeof nul - 1);
    struct known_host *entry = known_hosts_lookup(known, "n1.example.org", 22, NULL);
    assert_int_equal(check_key(entry, ED1, NULL), KNOWN_MATCH);
    assert_int_equal(known_host_count(entry), 1);
    known_host_destroy(entry);
    known_hosts_destroy(known);
}

static void markers(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"@foo n1.example.org " ED1 "\n", KNOWN_UNSURE, 1},
        {"@\n@revoked\n@ \n", KNOWN_ABSENT, 0},
        {"@Revoked n1.example.org " ED1 "\n", KNOWN_UNSURE, 1},
        {"@revoked @revoked n1.example.org " ED1 "\n", KNOWN_UNSURE, 1},
        {"@revoked\tn1.example.org " ED1 "\n", KNOWN_UNSURE,
         1}, /* OpenSSH takes the marker up to the blank */
        {"@revoked n1.example.org ssh-ed25519\n", KNOWN_UNSURE, 1},
        {"@cert-authority *.example.org " ED2 "\n", KNOWN_UNSURE, 1},
        {"@cert-authority *.example.net " ED2 "\n", KNOWN_ABSENT, 0},
        {"@revoked n1.example.org " ED2 "\n", KNOWN_ABSENT, 0},
        {"n1.example.org " ED1 "\n@revoked n1.example.org " ED1 "\n", KNOWN_REVOKED, 2},
        {"n1.example.org " ED1 "\n@revoked *\t" ED1 "\n", KNOWN_REVOKED, 2},
        {"@revoked * " ED1 "\nn1.example.org " ED1 "\n", KNOWN_REVOKED, 1},
        {"@cert-authority * " ED2 "\n@revoked  " HASH " " ED1 "\n", KNOWN_REVOKED, 2},
        {"@revoked * " ED2 "\n@revoked other " ED1 "\nn1.example.org " ED1 "\n", KNOWN_MATCH, 3},
    };
    TRY(examples, "n1.example.org", 22);
}

static void names(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"n1 " ED1 "\n", KNOWN_ABSENT, 0},
        {"xn1.example.org,n1.example.orgx,n1.example,, " ED1 "\n", KNOWN_ABSENT, 0},
        {"*,!n1.example.org " ED1 "\n", KNOWN_ABSENT, 0},
        {"!n1.example.org,* " ED1 "\n", KNOWN_ABSENT, 0},
        {"!other " ED1 "\n", KNOWN_ABSENT, 0},
        {"!!n1.example.org,! " ED1 "\n", KNOWN_ABSENT, 0},
        {"n1.example.org," X1000 X100 " " ED1 "\n", KNOWN_ABSENT, 0},
        {"[n1.example.org]:22 " ED1 "\n", KNOWN_ABSENT, 0},
        {"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b " ED1 "\n", KNOWN_ABSENT, 0},
        {"*,!other " ED1 "\n", KNOWN_MATCH, 1},
        {"\t n1.example.org\t" ED1 "\r\n", KNOWN_MATCH, 1},
        {"other,N1.EXAMPLE.org,* " ED1 " a comment\n", KNOWN_MATCH, 1},
        {"n?.*.o*g " ED1 "\n", KNOWN_MATCH, 1},
        {"**n1.example.org** " ED1 "\n", KNOWN_MATCH, 1},
        {"#x\n" HASH " " ED1 "\n", KNOWN_MATCH, 2},
        {HASH_PORT " " ED1 "\n", KNOWN_ABSENT, 0},
        {"n1.example.org " ED2 "\n", KNOWN_CHANGED, 1},
        {"n1.example.org " EC "\n", KNOWN_CHANGED, 1},
        {"n1.example.org " EC "\nn1.example.org " ED2 "\n", KNOWN_CHANGED, 2},
        {"n1.example.org " EC "\nn1.example.org " ED2 "\n* " ED1 "\n", KNOWN_MATCH, 3},
    };
    TRY(examples, "n1.example.org", 22);
    TRY(examples, "N1.Example.ORG", 0);
}

static void other_ports(void **state)
{
    (void)state;
    static const struct example examples[] = {
        {"[n1.example.org]:2223 " ED1 "\n", KNOWN_ABSENT, 0},
        {"[n1.example.org]:2222 " ED1 "\n", KNOWN_MATCH, 1},
        {HASH_PORT " " ED1 "\n", KNOWN_MATCH, 1},
        {"[n1.*]:2222 " ED1 "\n", KNOWN_MATCH, 1},
        /* the plain name counts only without an entry for the port, and then it can only help */
        {"n1.example.org " ED1 "\n", KNOWN_MATCH, 1},
        {HASH " " ED1 "\n", KNOWN_MATCH, 1},
        {"n1.example.org " ED2 "\n", KNOWN_ABSENT, 0},
        {"n1.example.org " ED1 "\n[n1.example.org]:2222 " ED2 "\n", KNOWN_CHANGED, 2},
        {"n1.example.org " ED1 "\n* " ED2 "\n", KNOWN_CHANGED, 2},
        {"n1.example.org " ED2 "\n[n1.example.org]:2222 " ED1 "\n", KNOWN_MATCH, 2},
        {"@revoked n1.example.org " ED1 "\n[n1.example.org]:2222 " ED1 "\n", KNOWN_MATCH, 2},
        {"@revoked n1.example.org " ED1 "\n", KNOWN_REVOKED, 1},
        {"n1.example.org " ED1 "\n@revoked [n1.example.org]:2222 " ED1 "\n", KNOWN_REVOKED, 2},
        {"n1.example.org " ED1 "\n@revoked [n1.example.org]:2222 " ED2 "\n", KNOWN_MATCH, 1},
        {"n1.example.org " ED1 "\n@cert-authority [n1.example.org]:2222 " ED2 "\n", KNOWN_UNSURE, 2},
        {"n1.example.org ssh-ed25519\n[n1.example.org]:2222 " ED1 "\n", KNOWN_MATCH, 2},
    };
    TRY(examples, "n1.example.org", 2222);
    static const struct example v6[] = {{"[fe80::1]:2222 " ED1 "\n", KNOWN_MATCH, 1},
                                        {"fe80::1 " ED1, KNOWN_MATCH, 1}};
    TRY(v6, "FE80::1", 2222);
}

static void types(void **state)
{
    (void)state;
    static const char text[] =
        "n1.example.org " ED1 "\nn1.example.org " RSA "\n@revoked n1.example.org " EC "\n";
    struct known_hosts *known = parse(text, strlen(text));
    struct known_host *entry = known_hosts_lookup(known, "n1.example.org", 22, NULL);
    assert_int_equal(known_host_count(entry), 2);
    assert_true(known_host_has_type(entry, "ssh-ed25519"));
    assert_true(known_host_has_type(entry, "ssh-rsa"));
    assert_true(known_host_has_type(entry, "rsa-sha2-256"));
    assert_true(known_host_has_type(entry, "rsa-sha2-512"));
    assert_false(known_host_has_type(entry, "ecdsa-sha2-nistp256"));
    assert_false(known_host_has_type(entry, "ssh-ed2551"));
    assert_false(known_host_has_type(entry, ""));
    assert_int_equal(check_key(entry, EC, NULL), KNOWN_REVOKED);
    assert_int_equal(known_host_check(entry, (const unsigned char *)"x", 1, NULL), KNOWN_CHANGED);
    known_host_destroy(entry);
    known_hosts_destroy(known);
    known_host_destroy(NULL);
    known_hosts_destroy(NULL);
}

static void fingerprint(void **state)
{
    (void)state;
    size_t len;
    char buf[64];
    unsigned char *blob = key_read(ED1, strlen(ED1), &len);
    known_fingerprint(blob, len, buf);
    assert_string_equal(buf, "SHA256:doylDR1v7KXqh69VG3cIs3EvffKU/x5oEmEQs+62D/M");
    free(blob);
}

static void files(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_known_hosts.XXXXXX", user[64], global[64], fifo[64];
    assert_non_null(mkdtemp(dir));
    snprintf(user, sizeof user, "%s/user", dir);
    snprintf(global, sizeof global, "%s/global", dir);
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    put_file(user, "#\nn1.example.org " ED2 "\n", 0600);
    put_file(global, "n1.example.org " ED1, 0600); /* no line end */
    assert_int_equal(mkfifo(fifo, 0600), 0);

    const struct {
        const char *files[4];
        enum known_result result;
        const char *where;
    } cases[] = {
        {{NULL}, KNOWN_ABSENT, ""},
        {{"/nonexistent/known_hosts", "/dev/null", fifo, NULL}, KNOWN_ABSENT, ""},
        {{user, NULL}, KNOWN_CHANGED, user},
        {{user, "/nonexistent", global, NULL}, KNOWN_MATCH, global},
        {{global, dir, NULL}, KNOWN_UNSURE, dir},
        {{"/dev/zero", global, NULL}, KNOWN_UNSURE, "/dev/zero"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct known_hosts *known = known_hosts_read(cases[i].files, NULL);
        assert_non_null(known);
        struct known_host *entry = known_hosts_lookup(known, "n1.example.org", 22, NULL);
        const char *where;
        assert_int_equal(check_key(entry, ED1, &where), cases[i].result);
        assert_memory_equal(where, cases[i].where, strlen(cases[i].where));
        known_host_destroy(entry);
        known_hosts_destroy(known);
    }

    const char *both[] = {user, global, dir, NULL};
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct known_hosts *known = known_hosts_read(both, &err);
        struct known_host *entry = known ? known_hosts_lookup(known, "n1.example.org", 2222, &err) : NULL;
        bool failed = alloc_has_failed();
        assert_int_equal(!entry, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        known_host_destroy(entry);
        known_hosts_destroy(known);
    }
    unlink(user);
    unlink(global);
    unlink(fifo);
    rmdir(dir);
}

static void without_memory(void **state)
{
    (void)state;
    static const char text[] =
        HASH " " ED1 "\n" HASH_PORT " " ED1 "\n@revoked * " EC "\n@cert-authority * " ED2 "\n";
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct known_hosts *known = known_hosts_parse(text, strlen(text), &err);
        struct known_host *entry = known ? known_hosts_lookup(known, "n1.example.org", 2222, &err) : NULL;
        bool failed = alloc_has_failed();
        assert_int_equal(!entry, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        known_host_destroy(entry);
        known_hosts_destroy(known);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_do_not_parse),
        cmocka_unit_test(markers),
        cmocka_unit_test(names),
        cmocka_unit_test(other_ports),
        cmocka_unit_test(types),
        cmocka_unit_test(fingerprint),
        cmocka_unit_test(files),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
