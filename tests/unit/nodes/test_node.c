#include "nodes/node.h"

#include "alloc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* A word that must be refused, and what the error must say. */
static const struct {
    const char *word, *text;
} refused[] = {
    {"", "no node named"},
    {" ", "unexpected 0x20 in the host"},
    {"a b", "unexpected 0x20 in the host"},
    {"a\nb", "a?b: unexpected 0x0a in the host"},
    {"a\x1b[0m", "unexpected 0x1b"},
    {"a\x7f", "unexpected 0x7f"},
    {"h\xc3\xb6st", "unexpected 0xc3"},
    {"a,b", "unexpected ',' in the host"},
    {"a/b", "unexpected '/'"},
    {"a//b", "a//b: unexpected '/'"},
    {"4/a", "unexpected '/'"},
    {"ssh://a", "the port '//a' is not a number from 1 to 65535"},
    {"a;b", "unexpected ';'"},
    {"$(id)", "unexpected '$'"},
    {"`id`", "unexpected '`'"},
    {"a*", "unexpected '*'"},
    {"-oProxyCommand=x", "unexpected '='"},
    {"-l", "-l: a host cannot begin with '-'"},
    {"ci@-l", "a host cannot begin with '-'"},
    {"-l@a", "a user cannot begin with '-'"},
    {".a", "a host cannot begin with '.'"},
    {".", "a host cannot begin with '.'"},
    {"@a", "no user in it"},
    {"ci@", "no host in it"},
    {"ci@:", "no host in it"},
    {"ci@:22", "no host in it"},
    {":22", "no host in it"},
    {"@@a", "a user cannot begin with '@'"},
    {"a@@b", "or end with '@'"},
    {"a\\@b", "or end with '@' or '\\'"},
    {"a%b@c", "unexpected '%' in the user: only letters, digits, '.', '_' and '-', '@', '\\', '$' and '+'"},
    {"a$(b)@c", "unexpected '(' in the user"},
    {"a$@b$", "unexpected '$' in the host"},
    {"c i@a", "unexpected 0x20 in the user"},
    {"ci/x@a", "unexpected '/' in the user"},
    {"a:", "the port '' is not a number"},
    {"a:0", "the port '0' is not"},
    {"a:65536", "the port '65536' is not a number from 1 to 65535"},
    {"a:99999999999999999999", "is not a number from 1 to 65535"},
    {"a:000022", "the port '000022'"},
    {"a:-1", "the port '-1'"},
    {"a:+22", "the port '+22'"},
    {"a:22x", "the port '22x'"},
    {"a:0x16", "the port '0x16'"},
    {"a: 22", "the port ' 22'"},
    {"a:22:33", "'a:22:33' is not an IPv6 address"},
    {"::", NULL}, /* an address, if a useless one */
    {":::", "':::' is not an IPv6 address"},
    {"1::2::3", "is not an IPv6 address"},
    {"12345::1", "is not an IPv6 address"},
    {"::1-", "is not an IPv6 address"},
    {"fe80::1%", "no zone in it"},
    {"fe80::1%-x", "a zone cannot begin with '-'"},
    {"fe80::1%e%f", "unexpected '%' in the zone"},
    {"fe80::1%e;f", "unexpected ';' in the zone"},
    {"fe80::g%eth0", "'fe80::g' is not an IPv6 address"},
    {"[fe80::1%]:22", "no zone in it"},
    {"fe80::1%a234567890123456", "is longer than the name of an interface"},
    {"a%eth0", "unexpected '%' in the host"},
    {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000", "is not an IPv6 address"},
    {"[::1", "'[' without ']'"},
    {"[::1]x", "only ':' and a port can stand after ']'"},
    {"[::1]22", "only ':' and a port can stand after ']'"},
    {"[::1]]", "only ':' and a port can stand after ']'"},
    {"[::1]:", "the port '' is not"},
    {"[::1]:0", "the port '0' is not"},
    {"[]", "'[]' is neither a range [N-M] of whole numbers nor an IPv6 address"},
    {"[]:22", "'[]' is neither"},
    {"[a]", "'[a]' is neither"},
    {"[10.0.0.1]:22", "'[10.0.0.1]' is neither"},
    {"[::g]", "'::g' is not an IPv6 address"},
    {"::1]", "'::1]' is not an IPv6 address"},
    /* ranges */
    {"{", "'{' without '}'"},
    {"a{1..2", "a{1..2: '{' without '}': a range is {N..M}"},
    {"a1..2}", "'}' without '{'"},
    {"a}{1..2}", "'}' without '{'"},
    {"{}", "{} is not a range"},
    {"a{a..b}", "a{a..b}: {a..b} is not a range: {N..M}, two whole numbers"},
    {"a{1..}", "{1..} is not a range"},
    {"a{..2}", "{..2} is not a range"},
    {"a{1.2}", "{1.2} is not a range"},
    {"a{1...3}", "{1...3} is not a range"},
    {"a{1..3..2}", "{1..3..2} is not a range"},
    {"a{-1..3}", "{-1..3} is not a range"},
    {"a{ 1..3}", "is not a range"},
    {"a{1,2}", "{1,2} is not a range"},
    {"a{{1..2}..3}", "{{1..2} is not a range"},
    {"a{1..2}}", "'}' without '{'"},
    {"{40..1}", "the range {40..1} runs downwards"},
    {"a[40-1]", "the range [40-1] runs downwards"},
    {"a[1-]", "unexpected '['"},
    {"a[a-b]", "unexpected '[': a range is [N-M], two whole numbers"},
    {"a[1-2", "unexpected '['"},
    {"a1-2]", "unexpected ']'"},
    {"a{1..1000000}", "a{1..1000000}: too many nodes: 10000 at most in all"},
    {"a{0..10000}", "10000 at most"},
    {"a{1..101}{1..100}", "10000 at most"},
    {"a{1..10000}{1..10000}{1..10000}{1..10000}{1..10000}{1..10000}", "10000 at most"},
    {"a{0..999999999999999999}", "10000 at most"},
    {"a{0..999999999999999999}{0..999999999999999999}", "10000 at most"},
    {"a{0..1000000000000000000}", "a number of more than 18 digits in a range"},
    {"a{0000000000000000001..2}", "more than 18 digits"},
    {"a{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1..1}{1.."
     "1}",
     "more than 16 ranges"},
    {"a:{65535..65536}", "a:{65535..65536}: the port '65536' is not"},
    {"{1..2}@-x", "a host cannot begin with '-'"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(refused); i++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        int result = node_list_add(&list, refused[i].word, &err);
        if (!refused[i].text) {
            assert_int_equal(result, 0);
        } else if (result != -1 || err.status != STATUS_DATA || !strstr(err.text, refused[i].text)) {
            fail_msg("%s: result %d, status %d, '%s' instead of '%s'", refused[i].word, result, err.status,
                     err.text, refused[i].text);
        }
        node_list_clear(&list);
    }
}

static const struct {
    const char *word, *name, *user, *host;
    uint16_t port;
} taken[] = {
    {"a", "a", NULL, "a", 0},
    {"A.Example.ORG", "A.Example.ORG", NULL, "A.Example.ORG", 0},
    {"a.example.org.", "a.example.org.", NULL, "a.example.org.", 0},
    {"10.0.120.1", "10.0.120.1", NULL, "10.0.120.1", 0},
    {"my_host-1", "my_host-1", NULL, "my_host-1", 0},
    {"_a", "_a", NULL, "_a", 0},
    {"ci@a", "ci@a", "ci", "a", 0},
    {"first.last_x-9@a", "first.last_x-9@a", "first.last_x-9", "a", 0},
    {"a:1", "a:1", NULL, "a", 1},
    {"a:65535", "a:65535", NULL, "a", 65535},
    {"a:00022", "a:22", NULL, "a", 22},
    {"ci@10.0.120.1:2222", "ci@10.0.120.1:2222", "ci", "10.0.120.1", 2222},
    {"::1", "::1", NULL, "::1", 0},
    {"[::1]", "::1", NULL, "::1", 0},
    {"[2001:db8::1]", "2001:db8::1", NULL, "2001:db8::1", 0},
    {"[fe80::1]:22", "[fe80::1]:22", NULL, "fe80::1", 22},
    {"ci@[fe80::1]:22", "ci@[fe80::1]:22", "ci", "fe80::1", 22},
    {"ci@[fe80::1]", "ci@fe80::1", "ci", "fe80::1", 0},
    {"ci@fe80::1", "ci@fe80::1", "ci", "fe80::1", 0},
    {"::ffff:10.0.0.1", "::ffff:10.0.0.1", NULL, "::ffff:10.0.0.1", 0},
    {"FE80::1%eth0.100", "FE80::1%eth0.100", NULL, "FE80::1%eth0.100", 0},
    {"ci@[fe80::1%lo]:22", "ci@[fe80::1%lo]:22", "ci", "fe80::1%lo", 22},
    {"[fe80::1%2]", "fe80::1%2", NULL, "fe80::1%2", 0},
    {"ci@corp.example@a:22", "ci@corp.example@a:22", "ci@corp.example", "a", 22},
    {"CORP\\ci@a", "CORP\\ci@a", "CORP\\ci", "a", 0},
    {"CORP+ci@::1", "CORP+ci@::1", "CORP+ci", "::1", 0},
    {"builder$@corp@a", "builder$@corp@a", "builder$@corp", "a", 0},
    {"fe80:0000:0000:0000:0000:0000:0000:0001", "fe80:0000:0000:0000:0000:0000:0000:0001", NULL,
     "fe80:0000:0000:0000:0000:0000:0000:0001", 0},
    {"::{7..7}", "::7", NULL, "::7", 0},
    {"[::{7..7}]:22", "[::7]:22", NULL, "::7", 22},
    {"[::[7-7]]:22", "[::7]:22", NULL, "::7", 22},
};

static void test_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(taken); i++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        if (node_list_add(&list, taken[i].word, &err) < 0)
            fail_msg("%s", err.text);
        assert_int_equal(list.count, 1);
        const struct node *node = &list.nodes[0];
        assert_string_equal(node->name, taken[i].name);
        assert_string_equal(node->host, taken[i].host);
        if (taken[i].user)
            assert_string_equal(node->user, taken[i].user);
        else
            assert_null(node->user);
        assert_int_equal(node->port, taken[i].port);
        assert_false(node->local);
        assert_false(node->has_facts);
        assert_null(node->conf);
        assert_int_equal(node->state, NODE_PENDING);
        assert_int_equal(node->processes, 0);
        node_list_clear(&list);
    }
}

static void test_this_machine(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(node_list_add(&list, ":", &err), 0);
    assert_true(list.nodes[0].local);
    assert_string_equal(list.nodes[0].name, ":");
    assert_string_equal(list.nodes[0].host, "localhost");
    assert_null(list.nodes[0].user);
    node_list_clear(&list);
}

/* All names of the list, with blanks between them. */
static void assert_names(const struct node_list *list, const char *names)
{
    char text[4096] = "";
    size_t used = 0;
    for (size_t i = 0; i < list->count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? " " : "", list->nodes[i].name);
    assert_string_equal(text, names);
}

static const struct {
    const char *word, *names;
} ranges[] = {
    {"{1..3}", "1 2 3"},
    {"10.0.0.{1..3}:22", "10.0.0.1:22 10.0.0.2:22 10.0.0.3:22"},
    {"node[08-11].example.org",
     "node08.example.org node09.example.org node10.example.org node11.example.org"},
    {"[1-3]", "1 2 3"},
    {"[1-2]:22", "1:22 2:22"},
    {"ci@10.0.120.[9-11]", "ci@10.0.120.9 ci@10.0.120.10 ci@10.0.120.11"},
    {"a{0..2}", "a0 a1 a2"},
    {"a{8..10}", "a8 a9 a10"},
    {"a{0..10}", "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 a10"}, /* a lone 0 pads nothing */
    {"a{00..2}", "a00 a01 a02"},
    {"a{9..011}", "a009 a010 a011"},
    {"a{1..2}b{3..4}", "a1b3 a1b4 a2b3 a2b4"},
    {"a{1..2}[3-4]:{5..6}", "a13:5 a13:6 a14:5 a14:6 a23:5 a23:6 a24:5 a24:6"},
    {"ci{1..2}@a", "ci1@a ci2@a"},
    {"a{999999999999999998..999999999999999999}", "a999999999999999998 a999999999999999999"},
    {"2001:db8::{9..10}", "2001:db8::9 2001:db8::10"},
    {"[2001:db8::{1..2}]:22", "[2001:db8::1]:22 [2001:db8::2]:22"},
};

static void test_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(ranges); i++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        if (node_list_add(&list, ranges[i].word, &err) < 0)
            fail_msg("%s", err.text);
        assert_names(&list, ranges[i].names);
        node_list_clear(&list);
    }
}

static void test_words(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(node_list_add_words(&list, " a\tb\n\r\nci@c:22  : ", &err), 0);
    assert_names(&list, "a b ci@c:22 :");
    node_list_clear(&list);

    static const char *const empty[] = {"", " ", "\n\t \r\n"};
    for (size_t i = 0; i < LENGTH(empty); i++) {
        err = (struct error)ERROR_INIT;
        assert_int_equal(node_list_add_words(&list, empty[i], &err), -1);
        assert_int_equal(err.status, STATUS_DATA);
        assert_string_equal(err.text, "no node named");
    }

    err = (struct error)ERROR_INIT;
    assert_int_equal(node_list_add_words(&list, "a b/c d", &err), -1);
    assert_non_null(strstr(err.text, "b/c: unexpected '/'"));
    node_list_clear(&list);
}

static void test_duplicates(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(node_list_add_words(&list, "a A ci@a a:22 [::1] ::1 a{1..3} a2 : : a:022", &err), 0);
    assert_names(&list, "a A ci@a a:22 ::1 a1 a2 a3 :");
    assert_int_equal(list.duplicates, 4);
    assert_string_equal(list.duplicate, "::1");
    node_list_clear(&list);
    assert_int_equal(list.duplicates, 0);
}

static void test_lengths(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    char word[NODE_WORD_MAX + 2];
    static const struct {
        size_t len;
        const char *text;
    } lengths[] = {
        {NODE_NAME_MAX - 1, NULL},
        {NODE_NAME_MAX, "the name is longer than 319 bytes"},
        {NODE_WORD_MAX - 1, "the name is longer than 319 bytes"},
        {NODE_WORD_MAX, "longer than 1023 bytes"},
    };
    for (size_t i = 0; i < LENGTH(lengths); i++) {
        memset(word, 'x', sizeof word);
        word[lengths[i].len] = '\0';
        for (int words = 0; words < 2; words++) {
            struct error err = ERROR_INIT;
            int result = words ? node_list_add_words(&list, word, &err) : node_list_add(&list, word, &err);
            if (!lengths[i].text) {
                assert_int_equal(result, 0);
                assert_string_equal(list.nodes[0].name, word);
            } else {
                assert_int_equal(result, -1);
                assert_non_null(strstr(err.text, lengths[i].text));
                assert_true(strlen(err.text) < 200);
            }
        }
    }
    /* a range at the edge: the name of one digit fits, the one of two does not */
    struct error err = ERROR_INIT;
    memset(word, 'y', NODE_NAME_MAX);
    strcpy(word + NODE_NAME_MAX - 2, "{9..10}");
    assert_int_equal(node_list_add(&list, word, &err), -1);
    assert_non_null(strstr(err.text, "the name is longer"));
    node_list_clear(&list);
}

static void test_list_is_limited(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(node_list_add(&list, "n{1..100}-{1..100}", &err), 0);
    assert_int_equal(list.count, NODE_LIST_MAX);
    assert_string_equal(list.nodes[NODE_LIST_MAX - 1].name, "n100-100");
    assert_int_equal(node_list_add(&list, "one-more", &err), -1);
    assert_int_equal(err.status, STATUS_DATA);
    assert_string_equal(err.text, "one-more: too many nodes: 10000 at most in all");
    node_list_clear(&list);

    /* repeated names count, or a small file could keep us busy for hours */
    err = (struct error)ERROR_INIT;
    assert_int_equal(node_list_add(&list, "n{1..5000}", &err), 0);
    assert_int_equal(node_list_add(&list, "n{1..5000}", &err), 0);
    assert_int_equal(list.count, 5000);
    assert_int_equal(list.duplicates, 5000);
    assert_int_equal(node_list_add(&list, "n1", &err), -1);
    node_list_clear(&list);
}

static void test_password_is_not_shown(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(node_list_add(&list, "ci:secret@a", &err), -1);
    assert_null(strstr(err.text, "secret"));
    assert_non_null(strstr(err.text, "ci: unexpected ':' in the user"));
    node_list_clear(&list);
}

static void test_set(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    assert_int_equal(node_list_add_words(&list, "a b", NULL), 0);
    struct node *node = &list.nodes[0];
    node_set(node, NODE_READY, "%s", "");
    node->processes = 3;
    list.nodes[1].processes = 5; /* not ready: does not count */
    assert_int_equal(node_list_ready(&list), 1);
    assert_int_equal(node_list_processes(&list), 3);

    node_set(node, NODE_OFFLINE, "no\nanswer in %d s", 10);
    assert_string_equal(node->reason, "no?answer in 10 s");
    assert_int_equal(node->processes, 0);
    node_set(node, NODE_FAILED, "then: %s", node->reason);
    assert_string_equal(node->reason, "then: no?answer in 10 s");

    char text[2 * ERROR_TEXT_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    node_set(node, NODE_FAILED, "%s", text);
    assert_int_equal(strlen(node->reason), ERROR_TEXT_MAX - 1);
    assert_int_equal(node_list_ready(&list), 0);
    node_list_clear(&list);
}

static void test_sum_does_not_overflow(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    assert_int_equal(node_list_add_words(&list, "a b c", NULL), 0);
    for (size_t i = 0; i < list.count; i++) {
        node_set(&list.nodes[i], NODE_READY, "%s", "");
        list.nodes[i].processes = UINT32_MAX;
    }
    assert_true(node_list_processes(&list) == 3 * (uint64_t)UINT32_MAX);
    node_list_clear(&list);
}

static void test_words_for_states(void **state)
{
    (void)state;
    assert_string_equal(node_state_name(NODE_PENDING), "pending");
    assert_string_equal(node_state_name(NODE_READY), "ready");
    assert_string_equal(node_state_name(NODE_UNFIT), "unfit");
    assert_string_equal(node_state_name(NODE_OFFLINE), "offline");
    assert_string_equal(node_state_name(NODE_REFUSED), "refused");
    assert_string_equal(node_state_name(NODE_FAILED), "failed");
    assert_null(plan_term_name(TERM_NONE));
    assert_string_equal(plan_term_name(TERM_CORES), "cores");
    assert_string_equal(plan_term_name(TERM_MEMORY), "memory");
    assert_string_equal(plan_term_name(TERM_MAX_PROCESSES), "max-processes");
    assert_string_equal(plan_term_name(TERM_MACHINE), "machine");
    assert_string_equal(plan_term_name(TERM_LEASE), "lease");
    assert_string_equal(plan_term_name(TERM_EACH), "each");
}

static void test_clear_keeps_errno(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    node_list_clear(&list);
    assert_int_equal(node_list_add(&list, "ci@a{1..40}", NULL), 0);
    errno = EPIPE;
    node_list_clear(&list);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(node_list_add(&list, "again", NULL), 0);
    assert_names(&list, "again");
    node_list_clear(&list);
}

static void test_without_memory(void **state)
{
    (void)state;
    for (ALLOC_EACH(n)) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = node_list_add_words(&list, "ci@a{1..20}:22 a1 :", &err);
        bool failed = alloc_has_failed();
        assert_int_equal(result, failed ? -1 : 0);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        if (failed)
            assert_non_null(strstr(err.text, ": Cannot allocate memory"));
        node_list_clear(&list);
    }
}

static void test_place(void **state)
{
    (void)state;
    static const struct {
        unsigned slot;
        const char *chdir, *path, *place;
    } table[] = {
        {0, "w/copy", "w/copy", "w/copy"},
        {1, "w/copy", "w/copy/venv/bin/python3", "w/copy/venv/bin/python3"},
        {2, "w/copy", "w/copy", "w/copy~2"},
        {9, "w/copy", "w/copy/venv/bin/python3", "w/copy~9/venv/bin/python3"},
        {2, "w/copy", "w/copyright", "w/copyright"},
        {2, "w/copy", "python3", "python3"},
        {2, "/srv/copy", "/usr/bin/python3", "/usr/bin/python3"},
        {2, "/srv/copy", "/srv/copy/bin/python3", "/srv/copy~2/bin/python3"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (ALLOC_EACH(n)) {
            struct node node = {.slot = table[i].slot};
            alloc_fail_at(n);
            char *place = node_place(&node, table[i].chdir, table[i].path);
            bool failed = alloc_has_failed();
            alloc_fail_at(0);
            assert_true((place == NULL) == failed);
            if (place)
                assert_string_equal(place, table[i].place);
            free(place);
        }
}

#define LONG_NAME                                                                                            \
    "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" /* 102 bytes */
#define LONG_PATH LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME

/* What a node says of its directory. */
static void test_set_dir(void **state)
{
    (void)state;
    static const struct {
        const char *dir;
        unsigned slot;
        const char *wrong; /* NULL: it is taken */
    } table[] = {
        {"/home/ci/copy", 1, NULL},
        {"/copy", 1, NULL},
        {"/home/ci@x.y/a~b/copy~2", 2, NULL},
        {"/home/j\xc3\xb6rg/copy", 1, NULL},
        {LONG_PATH LONG_PATH "/copy", 1, NULL},
        {"", 1, "its directory  is no absolute path"},
        {"copy", 1, "is no absolute path"},
        {"~/copy", 1, "is no absolute path"},
        {"-e/copy", 1, "is no absolute path"},
        {LONG_PATH LONG_PATH LONG_PATH "/copy", 1, "is too long"},
        {"/home/john doe/copy", 1,
         "its directory /home/john doe/copy has a character that not every program on the way would leave "
         "alone, ' ': "
         "choose another --cloud-chdir, an absolute one"},
        {"/home/$(id)/copy", 1, "'$'"},
        {"/home/`id`/copy", 1, "'`'"},
        {"/home/a;b/copy", 1, "';'"},
        {"/home/a'b/copy", 1, "alone, '"},
        {"/home/a\"b/copy", 1, "'\"'"},
        {"/home/a\\b/copy", 1, "'\\'"},
        {"/home/a*/copy", 1, "'*'"},
        {"/home/a[b/copy", 1, "'['"},
        {"/home/a{b/copy", 1, "'{'"},
        {"/home/a|b/copy", 1, "'|'"},
        {"/home/a#b/copy", 1, "'#'"},
        {"/home/a\tb/copy", 1, "/home/a?b/copy has a character"},
        {"/home/a\rb/copy", 1, "/home/a?b/copy has a character"},
        {"/home/\x1b[31m/copy", 1, "/home/?[31m/copy has a character"},
        {"/home/\xff/copy", 1, "is no UTF-8"},
        {"/home/\xc2\x9b/copy", 1, "is no UTF-8"},
        {"/home//copy", 1, "is no physical path"},
        {"//copy", 1, "is no physical path"},
        {"/home/./copy", 1, "is no physical path"},
        {"/home/../copy", 1, "is no physical path"},
        {"/copy/.", 1, "is no physical path"},
        {"/copy/..", 1, "is no physical path"},
        {"/copy/", 1, "is no physical path"},
        {"/", 1, "is no physical path"},
        {"/home/ci/work", 1, "its directory /home/ci/work is not the one that was asked for, copy"},
        {"/home/ci/copy~2", 1, "not the one that was asked for, copy"},
        {"/home/ci/copy", 2, "not the one that was asked for, copy~2"},
        {"/home/ci/copy~3", 2, "not the one that was asked for, copy~2"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (ALLOC_EACH(n)) {
            struct node node = {.slot = 0};
            struct error err = ERROR_INIT;
            alloc_fail_at(n);
            int result = node_set_dir(&node, "w/copy", table[i].slot, table[i].dir, &err);
            bool failed = alloc_has_failed();
            alloc_fail_at(0);
            assert_int_equal(result, failed || table[i].wrong ? -1 : 0);
            assert_int_equal(err.status, failed ? STATUS_SYSTEM : table[i].wrong ? STATUS_DATA : 0);
            if (!failed && table[i].wrong && !strstr(err.text, table[i].wrong))
                fail_msg("%zu: '%s' instead of '%s'", i, err.text, table[i].wrong);
            if (result == 0) {
                char *place = node_place(&node, "w/copy", "w/copy/venv/bin/python3"), expected[4096];
                snprintf(expected, sizeof expected, "%s/venv/bin/python3", table[i].dir);
                assert_string_equal(place, expected);
                free(place);
            } else {
                assert_null(node.dir);
            }
            free(node.dir);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_list_is_limited),
        cmocka_unit_test(test_password_is_not_shown),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_sum_does_not_overflow),
        cmocka_unit_test(test_words_for_states),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_set_dir),
        cmocka_unit_test(test_clear_keeps_errno),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
