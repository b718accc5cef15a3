/* The answers of ssh -G, the classes of nodes that share one, and the asking: with a scripted ssh, and
 * with the real one against a configuration of our own. */
#include "base/child.h"
#include "ssh/host_rules.h"
#include "ssh/sshconf.h"
#include "ssh/sshconf_ask.h"
#include "ssh/sshconf_class.h"

#include "alloc.h"
#include "support.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ALGORITHMS                                                                                           \
    "hostkeyalgorithms ssh-ed25519,rsa-sha2-256\nkexalgorithms curve25519-sha256\nciphers aes128-ctr\n"      \
    "macs hmac-sha2-256\n"
#define REST "port 22\naddressfamily any\nstricthostkeychecking ask\n" ALGORITHMS
#define ANSWER "user ci\nhostname n1\n" REST

static char base[64]; /* a directory for each test */
static char path_before[4096];

static struct sshconf *parse(const char *text)
{
    struct error err = ERROR_INIT;
    struct sshconf *conf = sshconf_parse(text, strlen(text), "/home/u", &err);
    if (!conf)
        print_message("%s\n", err.text);
    assert_non_null(conf);
    assert_int_equal(err.status, 0);
    return conf;
}

static void test_parse_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "ssh -G: no hostname in its answer"},
        {"\n\n \n", "ssh -G: no hostname in its answer"},
        {"user ci\n" REST, "ssh -G: no hostname in its answer"},
        {"user ci\nhostname \n" REST, "ssh -G: no hostname in its answer"},
        {"user ci\nhostname\n" REST, "ssh -G: no hostname in its answer"},
        {"user ci\nHostname n1\n" REST, "ssh -G: no hostname in its answer"},
        {"hostname n1\n" REST, "ssh -G: no user in its answer"},
        {"user ci\nhostname n1\nport 22\naddressfamily any\n" ALGORITHMS,
         "ssh -G: no stricthostkeychecking in its answer"},
        {"user ci\nhostname n1\naddressfamily any\nstricthostkeychecking ask\n" ALGORITHMS,
         "ssh -G: \"\" is not a port"},
        {ANSWER "sessiontype none\n", "ssh_config: SessionType is not default: no command can be run there"},
        {ANSWER "sessiontype subsystem\n",
         "ssh_config: SessionType is not default: no command can be run there"},
        {ANSWER "stdinnull yes\nsessiontype default\n",
         "ssh_config: StdinNull yes: no command can be run there"},
        {ANSWER "port 0\n", "ssh -G: \"0\" is not a port"},
        {ANSWER "port 65536\n", "ssh -G: \"65536\" is not a port"},
        {ANSWER "port 000022\n", "ssh -G: \"000022\" is not a port"},
        {ANSWER "port -1\n", "ssh -G: \"-1\" is not a port"},
        {ANSWER "port 22x\n", "ssh -G: \"22x\" is not a port"},
        {ANSWER "port 99999999999999999999\n", "ssh -G: \"99999999999999999999\" is not a port"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = ERROR_INIT;
        assert_null(sshconf_parse(cases[i].text, strlen(cases[i].text), "/home/u", &err));
        assert_int_equal(err.status, STATUS_DATA);
        assert_string_equal(err.text, cases[i].error);
    }
    struct error bad = ERROR_INIT;
    static const char escape[] = "user a\033b\nhostname n1\n" REST;
    assert_null(sshconf_parse(escape, strlen(escape), "/home/u", &bad));
    assert_string_equal(bad.text, "ssh_config's user \"a?b\": a control character or broken UTF-8 in it");
    static const struct {
        const char *user;
        bool left; /* to OpenSSH */
    } users[] = {{"a b", false}, {"DOM\\u", false},   {"-x", false},    {"u@d", false}, {"a/b", false},
                 {"m$", false},  {"\xc3\xa4", false}, {"u-${X}", true}, {"%u", true}};
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        char text[512];
        struct error err = ERROR_INIT;
        snprintf(text, sizeof text, "user %s\nhostname n1\n" REST, users[i].user);
        struct sshconf *conf = sshconf_parse(text, strlen(text), "/home/u", &err);
        assert_non_null(conf);
        assert_string_equal(conf->user, users[i].user);
        assert_int_equal(conf->unsupported != NULL, users[i].left);
        sshconf_free(conf);
    }
    struct error err = ERROR_INIT;
    static const char nul[] = ANSWER "\0";
    assert_null(sshconf_parse(nul, sizeof nul - 1, "/home/u", &err));
    assert_string_equal(err.text, "ssh -G: a NUL in its answer");
}

static void test_parse_unsupported(void **state)
{
    (void)state;
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"proxyjump bastion", "ProxyJump"},
        {"proxycommand nc %h %p", "ProxyCommand"},
        {"certificatefile ~/.ssh/c-cert.pub", "CertificateFile"},
        {"bindaddress 10.0.0.1", "BindAddress"},
        {"bindinterface eth0", "BindInterface"},
        {"knownhostscommand /bin/x", "KnownHostsCommand"},
        {"revokedhostkeys /etc/ssh/revoked", "RevokedHostKeys"},
        {"pkcs11provider /lib/p.so", "PKCS11Provider"},
        {"verifyhostkeydns ask", "VerifyHostKeyDNS"},
        {"verifyhostkeydns true", "VerifyHostKeyDNS"},
        {"checkhostip yes", "CheckHostIP"},
        {"nohostauthenticationforlocalhost yes", "NoHostAuthenticationForLocalhost"},
        {"gssapikeyexchange yes", "GSSAPIKeyExchange"},
        {"pubkeyauthentication false", "PubkeyAuthentication no"},
        {"pubkeyauthentication no", "PubkeyAuthentication no"},
        {"preferredauthentications password,publickeyx", "PreferredAuthentications"},
        {"pubkeyacceptedalgorithms rsa-sha2-512", "PubkeyAcceptedAlgorithms"},
        {"identityfile /k/%C", "a token in IdentityFile"},
        {"identityfile /k/%", "a token in IdentityFile"},
        {"identityfile ${KEYS}/id", "a token in IdentityFile"},
        {"identityfile ~other/id", "a token in IdentityFile"},
        {"identityagent /run/%C", "a token in IdentityAgent"},
        {"identityagent $not-a-name", "a token in IdentityAgent"},
        {"identityagent ${SOCK}", "a token in IdentityAgent"},
        {"userknownhostsfile /k/%h", "UserKnownHostsFile"},
        {"userknownhostsfile /k/a name", "UserKnownHostsFile"},
        {"userknownhostsfile known", "UserKnownHostsFile"},
        {"globalknownhostsfile ~other/known", "GlobalKnownHostsFile"},
        {"userknownhostsfile none none", "UserKnownHostsFile"},
        {"proxycommand none", NULL},
        {"proxyjump none", NULL},
        {"verifyhostkeydns false", NULL},
        {"verifyhostkeydns no", NULL},
        {"checkhostip no", NULL},
        {"pubkeyauthentication true", NULL},
        {"pubkeyauthentication unbound", NULL},
        {"preferredauthentications gssapi-with-mic,publickey", NULL},
        {"pubkeyacceptedalgorithms ssh-ed25519,ecdsa-sha2-nistp521,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384",
         NULL},
        {"hostbasedauthentication yes", NULL},
        {"gssapiauthentication yes", NULL},
        {"remotecommand tmux", NULL},
        {"identityfile none", NULL},
        {"identityagent none", NULL},
        {"userknownhostsfile none", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        snprintf(text, sizeof text, ANSWER "%s\n", cases[i].line);
        struct sshconf *conf = parse(text);
        if (cases[i].why)
            assert_string_equal(conf->unsupported ? conf->unsupported : cases[i].line, cases[i].why);
        else
            assert_null(conf->unsupported);
        sshconf_free(conf);
    }
    static const char *const first[][2] = {
        {"hostname a b", "HostName"},
        {"hostname -oProxyCommand=x", "HostName"},
        {"hostname n1/..", "HostName"},
        {"hostname fe80::1%eth0", "HostName"},
        {"addressfamily inet7", "AddressFamily"},
        {"stricthostkeychecking maybe", "StrictHostKeyChecking"},
    };
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s\n" ANSWER, first[i][0]);
        struct sshconf *conf = parse(text);
        assert_string_equal(conf->unsupported, first[i][1]);
        sshconf_free(conf);
    }
}

static void test_parse_values(void **state)
{
    (void)state;
    unsetenv("SSH_AUTH_SOCK");
    struct sshconf *conf =
        parse(ANSWER "hostkeyalias web\n"
                     "identityfile ~/.ssh/id_ed25519\nidentityfile %d/k %r@%h:%p%%\nidentityfile NONE\n"
                     "identityfile rel/id\nidentityfile ~\n"
                     "identitiesonly yes\ngssapiauthentication yes\nhostbasedauthentication yes\n"
                     "userknownhostsfile /u/known ~/known2\nglobalknownhostsfile /etc/known\n"
                     "hostname second\nproxyjump none");
    assert_string_equal(conf->hostname, "n1");
    assert_string_equal(conf->user, "ci");
    assert_int_equal(conf->port, 22);
    assert_string_equal(conf->hostkeyalias, "web");
    static const char *const identities[] = {"/home/u/.ssh/id_ed25519", "/home/u/k ci@n1:22%", "rel/id",
                                             "/home/u"};
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(conf->identityfiles[i], identities[i]);
    assert_null(conf->identityfiles[4]);
    static const char *const known[] = {"/u/known", "/home/u/known2", "/etc/known"};
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(conf->knownhosts[i], known[i]);
    assert_null(conf->knownhosts[3]);
    assert_true(conf->identitiesonly && conf->gssapi && conf->hostbased);
    assert_string_equal(conf->stricthostkeychecking, "ask");
    assert_string_equal(conf->hostkeyalgorithms, "ssh-ed25519,rsa-sha2-256");
    assert_string_equal(conf->kexalgorithms, "curve25519-sha256");
    assert_string_equal(conf->ciphers, "aes128-ctr");
    assert_string_equal(conf->macs, "hmac-sha2-256");
    assert_string_equal(conf->addressfamily, "any");
    assert_string_equal(conf->proxyjump, "none");
    assert_null(conf->unsupported);
    sshconf_free(conf);

    conf = parse("hostname fe80::1\nuser ci\n" REST);
    assert_null(conf->unsupported);
    assert_null(conf->identityfiles[0]);
    assert_null(conf->knownhosts[0]);
    assert_null(conf->hostkeyalias);
    assert_null(conf->proxyjump);
    assert_false(conf->identitiesonly || conf->gssapi || conf->hostbased);
    sshconf_free(conf);
    sshconf_free(NULL);
}

static void test_parse_agent(void **state)
{
    (void)state;
    static const struct {
        const char *line, *auth_sock, *other, *agent;
    } cases[] = {
        {"", NULL, NULL, NULL},
        {"", "", NULL, NULL},
        {"", "/a", NULL, "/a"},
        {"identityagent SSH_AUTH_SOCK\n", "/a", "/o", "/a"},
        {"identityagent none\n", "/a", "/o", NULL},
        {"identityagent $TEST_SOCK\n", "/a", "/o", "/o"},
        {"identityagent $TEST_SOCK\n", "/a", NULL, NULL},
        {"identityagent ~/agent sock\n", "/a", NULL, "/home/u/agent sock"},
        {"identityagent /run/x\n", NULL, NULL, "/run/x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        cases[i].auth_sock ? setenv("SSH_AUTH_SOCK", cases[i].auth_sock, 1) : unsetenv("SSH_AUTH_SOCK");
        cases[i].other ? setenv("TEST_SOCK", cases[i].other, 1) : unsetenv("TEST_SOCK");
        snprintf(text, sizeof text, ANSWER "%s", cases[i].line);
        struct sshconf *conf = parse(text);
        assert_null(conf->unsupported);
        if (cases[i].agent)
            assert_string_equal(conf->identityagent ? conf->identityagent : "-", cases[i].agent);
        else
            assert_null(conf->identityagent);
        sshconf_free(conf);
    }
    unsetenv("SSH_AUTH_SOCK");
}

static void test_parse_without_memory(void **state)
{
    (void)state;
    setenv("SSH_AUTH_SOCK", "/a", 1);
    static const char text[] =
        ANSWER "identityfile ~/a\nidentityfile %C\nuserknownhostsfile ~/k /b\nproxyjump j\nhostkeyalias x\n";
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct sshconf *conf = sshconf_parse(text, sizeof text - 1, "/home/u", &err);
        bool failed = alloc_has_failed();
        assert_int_equal(conf == NULL, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        sshconf_free(conf);
    }
    unsetenv("SSH_AUTH_SOCK");
}

static void test_same(void **state)
{
    (void)state;
    struct sshconf *one = parse(ANSWER), *other = parse("user ci\nhostname other\n" REST);
    assert_true(sshconf_same(one, other));
    sshconf_free(other);
    /* each line alone must be seen */
    static const char *const lines[] = {
        "user x",
        "port 23",
        "hostkeyalias x",
        "stricthostkeychecking true",
        "hostkeyalgorithms x",
        "kexalgorithms x",
        "ciphers x",
        "macs x",
        "addressfamily inet",
        "proxyjump none",
        "identityfile x",
        "identitiesonly yes",
        "identityagent /x",
        "userknownhostsfile /x",
        "globalknownhostsfile /x",
        "gssapiauthentication yes",
        "hostbasedauthentication yes",
        "bindaddress x",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[1024];
        /* the first string counts, and the last port */
        snprintf(text, sizeof text, "%s\n" ANSWER "%s\n", lines[i], lines[i]);
        other = parse(text);
        assert_false(sshconf_same(one, other));
        assert_false(sshconf_same(other, one));
        sshconf_free(other);
    }
    sshconf_free(one);
}

/* --- Host lines --- */

static void test_rules_match(void **state)
{
    (void)state;
    static const struct {
        const char *config, *host, *matches; /* a '1' or '0' for each Host line */
    } cases[] = {
        {"", "n1", ""},
        {"# Host n1\n  #Host n1\n\n", "n1", ""},
        {"User Host\nPort 3\n", "n1", ""},
        {"Host n1\nHost n2\n", "n1", "10"},
        {"Host n1", "n1", "1"},
        {"  HOST\t n1 \t\r\n", "n1", "1"},
        {"host=n1\nhost =n1\nhost = n1\nhost  =  n1", "n1", "1111"},
        {"Host == n1\n", "n1", "1"}, /* the patterns "=" and "n1" */
        {"Host \"n1\" 'n2'\nHost \"n\"1\nHost n2 # n1\nHost n2#n1\n", "n1", "1100"},
        {"Host \"n1 \"\nHost n\\1\nHost n\\\\1\n", "n1", "000"},
        {"Host \"n1\n", "n1", "0"},
        {"Host x,n1\nHost N1\n", "n1", "00"},
        {"Host n1\n", "N1", "0"},
        {"Host *\nHost n*\nHost *1\nHost n?\nHost ?\nHost n1?\nHost n1*\nHost n**1\n", "n1", "11110011"},
        {"Host *.a.*.b\nHost *a*a*b\nHost ?*\nHost *?*?*?*\n", "x.a.a.b", "1111"},
        {"Host !n1 *\nHost * !n1\nHost !n2 n1\nHost !n1\nHost !n2\nHost n1 !*\n", "n1", "001000"},
        {"Host !n* n1\nHost n1 n1 n1\n", "n1", "01"},
        {"Host ::1\nHost *:*\n", "::1", "11"},
        {"Match all\nHost n1\nMatch final canonical\nMatch !final\nmatch=ALL\n", "n1", "1"},
        {"CanonicalizeHostname no\nCanonicalizePermittedCNAMEs none\nHost n1\n", "n1", "1"},
        {"HostName n1\nHostKeyAlias n1\nHosts n1\n", "n1", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = ERROR_INIT;
        struct host_rules *rules = host_rules_parse(cases[i].config, strlen(cases[i].config), &err);
        assert_non_null(rules);
        assert_true(host_rules_usable(rules));
        char matches[32] = "";
        assert_true(host_rules_count(rules) < sizeof matches);
        for (size_t k = 0; k < host_rules_count(rules); k++)
            matches[k] = host_rules_match(rules, k, cases[i].host) ? '1' : '0';
        assert_string_equal(matches, cases[i].matches);
        host_rules_destroy(rules);
    }
    host_rules_destroy(NULL);
}

static void test_rules_unusable(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "Match host n1\n",
        "Match exec \"true\"\n",
        "match user x\n",
        "Match all user x\n",
        "Match !host n1\n",
        "Match=originalhost n1\n",
        "Match final host n1\n",
        "Match host=n1\n",
        "Match tagged t\n",
        "CanonicalizeHostname yes\n",
        "canonicalizehostname=always\n",
        "CanonicalizeHostname \"yes\"\n",
        "CanonicalizePermittedCNAMEs *:*\n",
        "Include other\n",
        "\"Host\" n1\n",
        "Ho\"st\" n1\n",
        "=Host n1\n",
        "Host\"n1\"\n",
        "Host\fn1\n",
        "\xef\xbb\xbfHost n1\n",
        "Port 22\nMatch host x\nHost n1\n",
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct error err = ERROR_INIT;
        struct host_rules *rules = host_rules_parse(configs[i], strlen(configs[i]), &err);
        assert_non_null(rules);
        assert_false(host_rules_usable(rules));
        host_rules_destroy(rules);
    }
    struct error err = ERROR_INIT;
    struct host_rules *rules = host_rules_parse("Host n1\n\0Match host n1", 22, &err);
    assert_false(host_rules_usable(rules));
    host_rules_destroy(rules);

    char many[5000 * 7 + 1] = "";
    for (size_t i = 0; i < 5000; i++)
        memcpy(many + i * 7, "Host n\n", 8);
    rules = host_rules_parse(many, strlen(many), &err);
    assert_false(host_rules_usable(rules));
    host_rules_destroy(rules);
}

/* --- files --- */

static char *in_base(const char *name)
{
    static char paths[8][192];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static struct host_rules_paths paths(void)
{
    return (struct host_rules_paths){in_base("home/config"), in_base("home"), in_base("etc/ssh_config"),
                                     in_base("etc")};
}

/* "-" where the rules are not usable, else a '1' or '0' for each Host line. */
static const char *read_and_match(const char *host)
{
    static char matches[64];
    struct error err = ERROR_INIT;
    struct host_rules_paths where = paths();
    struct host_rules *rules = host_rules_read(&where, &err);
    assert_non_null(rules);
    memset(matches, 0, sizeof matches);
    assert_true(host_rules_count(rules) < sizeof matches);
    for (size_t k = 0; k < host_rules_count(rules); k++)
        matches[k] = host_rules_match(rules, k, host) ? '1' : '0';
    bool usable = host_rules_usable(rules);
    host_rules_destroy(rules);
    return usable ? matches : "-";
}

static void test_rules_files(void **state)
{
    (void)state;
    assert_string_equal(read_and_match("n1"), "");
    put_file(in_base("home/config"), "Host n1\n", 0600);
    put_file(in_base("etc/ssh_config"), "Host n2\n  Include *.conf missing\n", 0600);
    assert_string_equal(read_and_match("n1"), "10");
    put_file(in_base("etc/a.conf"), "Host n*\n", 0600);
    put_file(in_base("etc/b.conf"), "Host x\n", 0600);
    assert_string_equal(read_and_match("n1"), "1010");
    char text[1024];
    snprintf(text, sizeof text, "Include \"%s\" d/c\nHost n1\n", in_base("etc/a.conf"));
    put_file(in_base("home/config"), text, 0600);
    assert_int_equal(mkdir(in_base("home/d"), 0700), 0);
    put_file(in_base("home/d/c"), "Include d/e\nHost c\n",
             0600); /* relative to the first directory, not to its own */
    put_file(in_base("home/d/e"), "Host n1\n", 0600);
    assert_string_equal(read_and_match("n1"), "1101010");
    setenv("HOME", in_base("home"), 1);
    put_file(in_base("home/config"), "Include ~/d/e\n", 0600);
    assert_string_equal(read_and_match("n1"), "1010");

    static const char *const bad[] = {"Include %h\n", "Include ${HOME}/d/e\n", "Include config\n",
                                      "Include d\n", "Include d/e\nInclude fifo\n"};
    assert_int_equal(mkfifo(in_base("home/fifo"), 0600), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file(in_base("home/config"), bad[i], 0600);
        assert_string_equal(read_and_match("n1"), "-");
    }
    put_file(in_base("home/config"), "Include config config\n", 0600); /* 2^16 files, if followed */
    assert_string_equal(read_and_match("n1"), "-");
    put_file(in_base("home/config"), "Host n1\n", 0600);
    assert_int_equal(truncate(in_base("home/config"), 5 << 20), 0);
    assert_string_equal(read_and_match("n1"), "-");
}

static void test_rules_without_memory(void **state)
{
    (void)state;
    put_file(in_base("home/config"), "Host a \"b\" c\nInclude d*\nMatch all\nHost e\n", 0600);
    put_file(in_base("home/d1"), "Host f\n", 0600);
    struct host_rules_paths where = paths();
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct host_rules *rules = host_rules_read(&where, &err);
        bool failed = alloc_has_failed();
        assert_int_equal(rules == NULL, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        host_rules_destroy(rules);
    }
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct host_rules *rules = host_rules_parse("Host a\n", 7, &err);
        assert_int_equal(rules == NULL, alloc_has_failed());
        host_rules_destroy(rules);
    }
}

/* --- classes --- */

static void test_plain(void **state)
{
    (void)state;
    static const char *const plain[] = {"n1",      "a.example.org", "10.0.0.1",  "::1",
                                        "fe80::1", "2001:db8::1:2", "1.2.3.4.5", "n_1"};
    static const char *const not_plain[] = {"N1",  "a.Example.org", "127.1",   "010.0.0.1",   "0x7f.1",
                                            "123", "0:0::1",        "FE80::1", "2001:0db8::1"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        assert_true(host_is_plain(plain[i]));
    for (size_t i = 0; i < sizeof not_plain / sizeof *not_plain; i++)
        assert_false(host_is_plain(not_plain[i]));
}

static struct node_list nodes(const char *words)
{
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(node_list_add_words(&list, words, &err), 0);
    return list;
}

static void assert_classes(const char *config, const char *words, const char *expected)
{
    struct error err = ERROR_INIT;
    struct node_list list = nodes(words);
    struct host_rules *rules = host_rules_parse(config, strlen(config), &err);
    struct node_classes *classes = node_classes_create(&list, rules, &err);
    assert_non_null(classes);
    char text[1024] = "";
    for (size_t i = 0; i < classes->count; i++)
        for (size_t k = classes->start[i]; k < classes->start[i + 1]; k++)
            sprintf(text + strlen(text), "%s%s", classes->nodes[k]->name,
                    k + 1 < classes->start[i + 1] ? " " : "|");
    assert_string_equal(text, expected);
    node_classes_destroy(classes);
    host_rules_destroy(rules);
    node_list_clear(&list);
}

static void test_classes(void **state)
{
    (void)state;
    assert_classes("", ":", "");
    assert_classes("", "n2 n1 : n3", "n2 n1 n3|");
    assert_classes("", "n1 a@n1 a@n2 b@n1 n2 n1:22 n2:22", "n1 n2|a@n1 a@n2|b@n1|n1:22 n2:22|");
    assert_classes("Host n1 n3\nHost n1\n", "n1 n2 n3 n4", "n2 n4|n3|n1|");
    assert_classes("", "n1 N1 127.1 n2", "n1 n2|N1|127.1|");
    assert_classes("Match user x\n", "n1 n2", "n1|n2|");
    /* a ninth Host line: the second byte */
    assert_classes("Host a\nHost a\nHost a\nHost a\nHost a\nHost a\nHost a\nHost a\nHost n2\n", "n1 n2 n3",
                   "n1 n3|n2|");
}

static void test_classes_without_memory(void **state)
{
    (void)state;
    struct node_list list = nodes("n1 n2");
    struct error rules_err = ERROR_INIT;
    struct host_rules *rules = host_rules_parse("", 0, &rules_err);
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct node_classes *classes = node_classes_create(&list, rules, &err);
        bool failed = alloc_has_failed();
        assert_int_equal(classes == NULL, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        node_classes_destroy(classes);
    }
    host_rules_destroy(rules);
    node_list_clear(&list);
}

/* --- asking --- */

/* A scripted ssh, first in PATH: it writes down for whom it was asked, and does as the name says. */
static void install_ssh(const char *hostname)
{
    char text[2048];
    snprintf(
        text, sizeof text,
        "#!/bin/sh\n"
        "for host; do :; done\n"
        "echo \"$*\" >> %s\n"
        "case $host in\n"
        "hang*) exec sleep 1000 ;;\n"
        "silent*) exit 3 ;;\n"
        "bad*) printf 'config: line 1: bad\\r\\nterminating\\n' >&2; exit 255 ;;\n"
        "odd*) echo \"I am not $host\" >&2; exit 255 ;;\n"
        "killed*) kill -KILL $$ ;;\n"
        "long*) exec head -c 300000 /dev/zero ;;\n"
        "user*) printf 'user a\\033b\\n' ;;\n"
        "orphan*) sleep 10 & ;;\n"
        "esac\n"
        "printf 'user ci\\nhostname %%s\\n' %s\n"
        "printf '%%s\\n' 'port 22' 'addressfamily any' 'stricthostkeychecking ask'\n"
        "printf '%%s\\n' 'hostkeyalgorithms a' 'kexalgorithms k' 'ciphers c' 'macs m' 'identityfile ~/id'\n"
        "case $host in j*) echo 'proxyjump u@j9' ;; esac\n",
        in_base("log"), hostname);
    put_file(in_base("bin/ssh"), text, 0600);
    assert_int_equal(chmod(in_base("bin/ssh"), 0700), 0);
    char path[sizeof path_before + sizeof base + 8];
    snprintf(path, sizeof path, "%s/bin:%s", base, path_before);
    setenv("PATH", path, 1);
}

static size_t asked(void)
{
    size_t lines = 0;
    FILE *f = fopen(in_base("log"), "r");
    for (int c; f && (c = fgetc(f)) != EOF;)
        lines += c == '\n';
    if (f)
        fclose(f);
    unlink(in_base("log"));
    return lines;
}

static struct sshconf_set *ask(struct node_list *list, int timeout_ms, struct error *err)
{
    struct sshconf_asker asker = {paths(), "/home/u", timeout_ms};
    return sshconf_ask_as(list, &asker, err);
}

static struct sshconf_set *must_ask(struct node_list *list, int timeout_ms)
{
    struct error err = ERROR_INIT;
    struct sshconf_set *set = ask(list, timeout_ms, &err);
    if (!set)
        print_message("%s\n", err.text);
    assert_non_null(set);
    for (size_t i = 0; i < list->count; i++)
        assert_int_equal(list->nodes[i].conf == NULL && !list->nodes[i].local,
                         list->nodes[i].state == NODE_FAILED);
    return set;
}

static void test_ask_shares(void **state)
{
    (void)state;
    install_ssh("$host");
    struct node_list list = nodes("n{1..1000} : a@x:7");
    struct sshconf_set *set = must_ask(&list, 30000);
    for (size_t i = 0; i < list.count; i++)
        if (!list.nodes[i].local) {
            assert_string_equal(list.nodes[i].conf->hostname, list.nodes[i].host);
            assert_string_equal(list.nodes[i].conf->identityfiles[0], "/home/u/id");
        }
    assert_null(list.nodes[1000].conf);
    FILE *f = fopen(in_base("log"), "r");
    char line[3][128] = {{0}};
    for (size_t i = 0; i < 3; i++)
        assert_non_null(fgets(line[i], sizeof line[i], f));
    fclose(f);
    assert_int_equal(asked(), 3);
    size_t typed = 0;
    for (size_t i = 0; i < 3; i++)
        typed += !strcmp(line[i], "-G -T -o BatchMode=yes -p 7 -l a -- x\n");
    assert_int_equal(typed, 1);
    sshconf_destroy(set);
    node_list_clear(&list);
    sshconf_destroy(NULL);
}

static void test_ask_each_where_the_name_counts(void **state)
{
    (void)state;
    /* HostName n1, and n1 is the first of them: its answer alone looks harmless */
    install_ssh("n1");
    struct node_list list = nodes("n{1..40}");
    struct sshconf_set *set = must_ask(&list, 30000);
    assert_int_equal(asked(), 40);
    for (size_t i = 0; i < list.count; i++)
        assert_string_equal(list.nodes[i].conf->hostname, "n1");
    sshconf_destroy(set);
    node_list_clear(&list);

    install_ssh("$host.example.org");
    list = nodes("n{1..5}");
    set = must_ask(&list, 30000);
    assert_int_equal(asked(), 5);
    assert_string_equal(list.nodes[4].conf->hostname, "n5.example.org");
    sshconf_destroy(set);
    node_list_clear(&list);

    /* the jump host itself */
    install_ssh("$host");
    list = nodes("j{1..9}");
    set = must_ask(&list, 30000);
    assert_int_equal(asked(), 3);
    sshconf_destroy(set);
    node_list_clear(&list);
}

static void test_ask_failures(void **state)
{
    (void)state;
    install_ssh("$host");
    struct node_list list = nodes("n1 bad1 n2 silent1 killed1 long1 user1 n3");
    put_file(in_base("home/config"),
             "Host n*\nHost bad*\nHost silent*\nHost killed*\nHost long*\nHost user*\n", 0600);
    struct sshconf_set *set = must_ask(&list, 30000);
    assert_int_equal(asked(), 7);
    assert_string_equal(list.nodes[1].reason, "ssh -G: config: line 1: bad; terminating");
    assert_string_equal(list.nodes[3].reason, "ssh -G: exit status 3");
    assert_string_equal(list.nodes[4].reason, "ssh -G: exit status 137");
    assert_string_equal(list.nodes[5].reason, "ssh -G: an answer of more than 256 KiB");
    assert_non_null(strstr(list.nodes[6].reason, "ssh_config's user \"a?b\""));
    assert_string_equal(list.nodes[7].conf->hostname, "n3");
    sshconf_destroy(set);
    node_list_clear(&list);

    /* the same words for two: for all; other words for each: asked for itself */
    list = nodes("bad{1..50}");
    set = must_ask(&list, 30000);
    assert_int_equal(asked(), 2);
    assert_string_equal(list.nodes[49].reason, "ssh -G: config: line 1: bad; terminating");
    sshconf_destroy(set);
    node_list_clear(&list);
    list = nodes("odd{1..5}");
    set = must_ask(&list, 30000);
    assert_int_equal(asked(), 5);
    assert_string_equal(list.nodes[4].reason, "ssh -G: I am not odd5");
    sshconf_destroy(set);
    node_list_clear(&list);
}

static void test_ask_ends(void **state)
{
    (void)state;
    install_ssh("$host");
    put_file(in_base("home/config"), "Match host x\n", 0600);
    long long start = clock_ms();
    struct node_list list = nodes("hang{1..40}");
    struct sshconf_set *set = must_ask(&list, 200);
    assert_true(clock_ms() - start < 10000); /* 2.2 s at most, and some for a loaded machine */
    for (size_t i = 0; i < list.count; i++)
        assert_non_null(strstr(list.nodes[i].reason, "no answer in time"));
    sshconf_destroy(set);
    node_list_clear(&list);

    /* what a Match exec leaves behind holds the streams open */
    start = clock_ms();
    list = nodes("orphan n1");
    set = must_ask(&list, 30000);
    assert_true(clock_ms() - start < 9000);
    assert_non_null(list.nodes[0].conf);
    sshconf_destroy(set);
    node_list_clear(&list);
}

static void test_ask_without_ssh(void **state)
{
    (void)state;
    setenv("PATH", in_base("etc"), 1);
    struct node_list list = nodes("n1 n2");
    struct error err = ERROR_INIT;
    assert_null(ask(&list, 1000, &err));
    assert_int_equal(err.status, STATUS_TOOL);
    assert_string_equal(err.text, "ssh: program not found in PATH");
    assert_null(list.nodes[0].conf);
    node_list_clear(&list);
}

static void test_ask_without_memory(void **state)
{
    (void)state;
    install_ssh("$host");
    struct node_list list = nodes("n{1..4}");
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct sshconf_set *set = ask(&list, 30000, &err);
        bool failed = alloc_has_failed();
        assert_int_equal(set == NULL, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        for (size_t i = 0; i < list.count; i++)
            assert_int_equal(list.nodes[i].conf == NULL, failed);
        sshconf_destroy(set);
    }
    node_list_clear(&list);
}

/* The real ssh, one class and one node at a time: both must say the same. */
static void test_ask_the_real_ssh(void **state)
{
    (void)state;
    char *out = NULL, *words = NULL;
    int status;
    struct error err = ERROR_INIT;
    static const char *const which[] = {"sh", "-c", "command -v ssh", NULL};
    assert_int_equal(child_capture(which, NULL, 10000, 4000, &out, &words, &status, &err), 0);
    out[strcspn(out, "\n")] = '\0';
    char script[512];
    snprintf(script, sizeof script, "#!/bin/sh\nexec '%.100s' -F '%s' \"$@\"\n", out, in_base("home/config"));
    free(out);
    free(words);
    if (status)
        skip();
    install_ssh("");
    put_file(in_base("bin/ssh"), script, 0600);
    put_file(in_base("home/more"), "Host n3*\n  Port 2022\nHost *\n  User more\n", 0600);
    char config[2048];
    snprintf(
        config, sizeof config,
        "Host n1*\n  User web\nHost n2? !n25\n  IdentityFile ~/.ssh/two\n  Include %s\n"
        "Host alias*\n  HostName alias1\nHost full*\n  HostName %%h.example.org\n"
        "Host key*\n  IdentityFile ~/.ssh/%%h\nHost c*\n  IdentityAgent ~/%%C\n"
        "Host jump*\n  ProxyJump jump3\nHost u*\n  User a\\b\nHost k*\n  UserKnownHostsFile ~/.ssh/k_%%k\n"
        "Match final\n  Compression yes\nMatch all\n  StrictHostKeyChecking yes\n",
        in_base("home/more"));
    put_file(in_base("home/config"), config, 0600);
    struct node_list list =
        nodes("n{1..39} alias{1..4} full{1..4} key{1..4} c{1..4} jump{1..5} u{1..4} k{1..4} "
              "N1 127.1 a@n{1..9} n{1..9}:7 [::1]:22");
    struct sshconf_set *all = must_ask(&list, 30000);
    size_t shared = 0;
    for (size_t i = 0; i < list.count; i++) {
        struct node_list one = nodes(list.nodes[i].name);
        struct sshconf_set *set = must_ask(&one, 30000);
        const struct node *a = &list.nodes[i], *b = &one.nodes[0];
        if (b->conf) {
            assert_non_null(a->conf);
            assert_true(sshconf_same(a->conf, b->conf));
            assert_string_equal(a->conf->hostname, b->conf->hostname);
            for (size_t k = 0; k < i; k++)
                shared += list.nodes[k].conf && list.nodes[k].conf->ciphers == a->conf->ciphers;
        } else {
            assert_string_equal(a->reason, b->reason);
        }
        sshconf_destroy(set);
        node_list_clear(&one);
    }
    assert_true(shared > 0);
    sshconf_destroy(all);
    node_list_clear(&list);
}

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/test_sshconf.XXXXXX");
    setenv("PATH", path_before, 1);
    return !mkdtemp(base) || mkdir(in_base("home"), 0700) || mkdir(in_base("etc"), 0700) ||
           mkdir(in_base("bin"), 0700);
}

static int remove_base(void **state)
{
    (void)state;
    setenv("PATH", path_before, 1);
    const char *const argv[] = {"rm", "-rf", base, NULL};
    char *out, *words;
    int status = -1;
    if (child_capture(argv, NULL, 10000, 4000, &out, &words, &status, NULL))
        return -1;
    free(out);
    free(words);
    return status;
}

#define WITH_BASE(test) cmocka_unit_test_setup_teardown(test, make_base, remove_base)

int main(void)
{
    struct error err = ERROR_INIT;
    if (child_init(&err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    snprintf(path_before, sizeof path_before, "%s", getenv("PATH"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_parse_unsupported),
        cmocka_unit_test(test_parse_values),
        cmocka_unit_test(test_parse_agent),
        cmocka_unit_test(test_parse_without_memory),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_rules_match),
        cmocka_unit_test(test_rules_unusable),
        WITH_BASE(test_rules_files),
        WITH_BASE(test_rules_without_memory),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_classes_without_memory),
        WITH_BASE(test_ask_shares),
        WITH_BASE(test_ask_each_where_the_name_counts),
        WITH_BASE(test_ask_failures),
        WITH_BASE(test_ask_ends),
        WITH_BASE(test_ask_without_ssh),
        WITH_BASE(test_ask_without_memory),
        WITH_BASE(test_ask_the_real_ssh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
