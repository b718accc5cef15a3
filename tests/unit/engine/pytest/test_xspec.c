#include "base/strv.h"
#include "engine/pytest/xspec.h"
#include "engine/sshlogin.h"
#include "ssh/sshconf.h"

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
#define PYTHONS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char *const default_pythons[] = {"pytest_ci_app/venv/bin/python3", NULL};
static const struct xspec_params defaults = {.chdir = "pytest_ci_app", .pythons = default_pythons};

/* A list of ready nodes, each with one process. */
static struct node_list ready(const char *words)
{
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    if (node_list_add_words(&list, words, &err) < 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < list.count; i++) {
        node_set(&list.nodes[i], NODE_READY, "%s", "");
        list.nodes[i].processes = 1;
    }
    return list;
}

/* The strings, one a line; frees them. */
static void assert_strings(char **strings, const struct error *err, const char *expected)
{
    char text[4096] = "";
    size_t used = 0;
    if (!strings)
        fail_msg("%s", err->text);
    for (size_t i = 0; strings[i]; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? "\n" : "", strings[i]);
    strings_free(strings);
    assert_string_equal(text, expected);
}

static const struct {
    struct {
        const char *chdir, *python, *local_python, *ssh_config;
    } params;
    const char *text;
} refused[] = {
    {{"a//b", "python3", NULL, NULL},
     "the directory on the nodes 'a//b': '//' separates the parts of an xspec"},
    {{"//a", "python3", NULL, NULL}, "'//' separates"},
    {{"a/", "python3", NULL, NULL},
     "the directory on the nodes 'a/': cannot end in '/' in an xspec: leave it out"},
    {{"a//", "python3", NULL, NULL}, "'//' separates"},
    {{"/", "python3", NULL, NULL}, "cannot end in '/'"},
    {{"", "python3", NULL, NULL}, "the directory on the nodes is empty"},
    {{"a b", "python3", NULL, NULL}, "'a b': a blank cannot stand in an xspec"},
    {{"a\tb", "python3", NULL, NULL}, "'a?b': a control character"},
    {{"a\nb", "python3", NULL, NULL}, "'a?b': a control character"},
    {{"a\x7f", "python3", NULL, NULL}, "a control character"},
    {{"a\xc2\x9b", "python3", NULL, NULL},
     "'a?"
     "?': a control character or broken UTF-8"},
    {{"a\xff", "python3", NULL, NULL}, "broken UTF-8"},
    {{"d", "", NULL, NULL}, "the nodes' python is empty"},
    {{"d", "a//b", NULL, NULL}, "the nodes' python 'a//b': '//' separates"},
    {{"d", "venv/", NULL, NULL}, "the nodes' python 'venv/': cannot end in '/'"},
    {{"d", "-c", NULL, NULL}, "the nodes' python '-c': cannot begin with '-'"},
    {{"d", "python3 -X dev", NULL, NULL}, "a blank cannot stand"},
    {{"d", "python3;id", NULL, NULL}, "the nodes' python 'python3;id': must be a path, without ';'"},
    {{"d", "$(id)", NULL, NULL}, "without '$'"},
    {{"d", "`id`", NULL, NULL}, "without '`'"},
    {{"d", "a|b", NULL, NULL}, "without '|'"},
    {{"d", "a&b", NULL, NULL}, "without '&'"},
    {{"d", "a>b", NULL, NULL}, "without '>'"},
    {{"d", "a'b", NULL, NULL}, "without '''"},
    {{"d", "a\"b", NULL, NULL}, "without '\"'"},
    {{"d", "a\\b", NULL, NULL}, "without '\\'"},
    {{"d", "a*", NULL, NULL}, "without '*'"},
    {{"d", "a{b}", NULL, NULL}, "without '{'"},
    {{"d", "#a", NULL, NULL}, "without '#'"},
    {{"d", "!a", NULL, NULL}, "without '!'"},
    {{"d", "LD_PRELOAD=x", NULL, NULL}, "without '='"},
    {{"d", "a=b/venv/bin/python3", NULL, NULL}, "without '='"},
    {{"d", "python3", "a//b", NULL}, "this machine's python 'a//b': '//'"},
    {{"d", "python3", "/a\nb/python3", NULL}, "this machine's python '/a?b/python3': a control character"},
    {{"d", "python3", "/a\xff/python3", NULL}, "broken UTF-8 cannot stand in an xspec"},
    {{"d", "python3", "", NULL}, "this machine's python is empty"},
    {{"d", "python3", NULL, "/tmp//c"}, "the ssh_config '/tmp//c': '//' separates"},
    {{"d", "python3", NULL, "/my tmp/c"}, "the ssh_config '/my tmp/c': a blank"},
    {{"d", "python3", NULL, "/tmp/c/"}, "cannot end in '/'"},
    {{"d", "python3", NULL, ""}, "the ssh_config is empty"},
};

static void test_refused(void **state)
{
    (void)state;
    struct node_list list = ready("a :");
    for (size_t i = 0; i < LENGTH(refused); i++) {
        struct error err = ERROR_INIT;
        const char *const pythons[] = {"python3", refused[i].params.python, NULL};
        const char *const local[] = {refused[i].params.local_python, "python3", NULL};
        /* the first or another one */
        const struct xspec_params params = {refused[i].params.chdir, pythons + i % 2, *local ? local : NULL,
                                            refused[i].params.ssh_config, i % 2 == 0};
        char **tx = xspec_tx(&list, &params, &err);
        if (tx || err.status != STATUS_DATA || !strstr(err.text, refused[i].text))
            fail_msg("%zu: status %d, '%s' instead of '%s'", i, err.status, err.text, refused[i].text);
    }
    node_list_clear(&list);
}

/* Jenkins names a job's directory as the job.  What execnet's shlex.split() is told, it takes for one word again. */
static void test_local_python_with_blanks(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"/ci/my job #1 (x)/venv/bin/python3", "'/ci/my job #1 (x)/venv/bin/python3'"},
        {"/ci/it's/python3", "'/ci/it'\\''s/python3'"},
        {"/ci/\"$HOME\\/python3", "'/ci/\"$HOME\\/python3'"},
        {"/ci/-\xc3\xa4=1:2/python3", "'/ci/-\xc3\xa4=1:2/python3'"},
        {"/ci/3*popen/python3", "'/ci/3*popen/python3'"},
        {"/ci/a.b-c_d+e@f~g,h%i/python3", "/ci/a.b-c_d+e@f~g,h%i/python3"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct error err = ERROR_INIT;
        struct node_list list = ready(":");
        const struct xspec_params params = {"d", PYTHONS("p"), PYTHONS(cases[i][0]), NULL, false};
        char expected[128];
        snprintf(expected, sizeof expected, "popen//id=localhost_0//python=%s", cases[i][1]);
        assert_strings(xspec_tx(&list, &params, &err), &err, expected);
        node_list_clear(&list);
    }
    /* What is not used may be anything. */
    struct error err = ERROR_INIT;
    struct node_list list = ready("a :");
    node_set(&list.nodes[1], NODE_UNFIT, "too small");
    const struct xspec_params params = {"d", PYTHONS("p"), PYTHONS("/a\nb"), NULL, false};
    assert_strings(xspec_tx(&list, &params, &err), &err, "ssh=a//id=a_0//node=a//chdir=d//python=p");
    node_list_clear(&list);
}

static void test_values_taken(void **state)
{
    (void)state;
    struct node_list list = ready("a");
    struct error err = ERROR_INIT;
    struct xspec_params params = {"/srv/Gr\xc3\xbc\xc3\x9f"
                                  "e,x=1",
                                  PYTHONS("~ci/a=b/bin/python3.11"), NULL, "/tmp/cloudplan.x/ssh_config",
                                  false};
    assert_strings(xspec_tx(&list, &params, &err), &err,
                   "ssh=a//id=a_0//node=a//chdir=/srv/Gr\xc3\xbc\xc3\x9f"
                   "e,x=1//python=~ci/a=b/bin/python3.11"
                   "//ssh_config=/tmp/cloudplan.x/ssh_config");
    node_list_clear(&list);
}

static const struct {
    const char *word, *ssh, *id, *login;
} nodes[] = {
    {"a", "ssh=a", "a", "1/a"},
    {"ci@a.example.org", "ssh=ci@a.example.org", "a.example.org", "1/ci@a.example.org"},
    {"ci@10.0.120.1:2222", "ssh=-p 2222 ci@10.0.120.1", "10.0.120.1", "1/ci@10.0.120.1:2222"},
    {"a:22", "ssh=-p 22 a", "a", "1/a:22"},
    {"::1", "ssh=::1", "::1", "1/::1"},
    {"ci@[fe80::1]:22", "ssh=-p 22 ci@fe80::1", "fe80::1", "1/ci@[fe80::1]:22"},
    {"::", "ssh=::", "::", "1/::"},
    {"::FFFF:10.0.0.1", "ssh=::FFFF:10.0.0.1", "::FFFF:10.0.0.1", "1/0:0:0:0:0:ffff:a00:1"},
    {"ci@[64:ff9b::1.2.3.255]:22", "ssh=-p 22 ci@64:ff9b::1.2.3.255", "64:ff9b::1.2.3.255",
     "1/ci@[64:ff9b:0:0:0:0:102:3ff]:22"},
    {"CORP+ci@a", "ssh=CORP+ci@a", "a", "1/CORP+ci@a"},
};

static void test_nodes(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(nodes); i++) {
        struct node_list list = ready(nodes[i].word);
        struct error err = ERROR_INIT;
        char expected[512];
        snprintf(expected, sizeof expected,
                 "%s//id=%s_0//node=%s//chdir=pytest_ci_app//python=pytest_ci_app/venv/bin/python3",
                 nodes[i].ssh, nodes[i].id, nodes[i].word);
        assert_strings(xspec_tx(&list, &defaults, &err), &err, expected);
        assert_strings(sshlogin_list(&list, &err), &err, nodes[i].login);
        node_list_clear(&list);
    }
}

static void test_one_for_each_process(void **state)
{
    (void)state;
    struct node_list list = ready("a b c d");
    struct error err = ERROR_INIT;
    struct xspec_params params = {"d", PYTHONS("python3"), NULL, "c", false};
    list.nodes[0].processes = 3;
    node_set(&list.nodes[1], NODE_UNFIT, "too small");
    list.nodes[2].processes = 0; /* ready, and not planned */
    assert_strings(xspec_tx(&list, &params, &err), &err,
                   "ssh=a//id=a_0//node=a//chdir=d//python=python3//ssh_config=c\n"
                   "ssh=a//id=a_1//node=a//chdir=d//python=python3//ssh_config=c\n"
                   "ssh=a//id=a_2//node=a//chdir=d//python=python3//ssh_config=c\n"
                   "ssh=d//id=d_0//node=d//chdir=d//python=python3//ssh_config=c");
    assert_strings(sshlogin_list(&list, &err), &err, "3/a\n1/d");
    node_list_clear(&list);
}

/* Each node has the run's copy where its guard has told. */
static void test_told_places(void **state)
{
    (void)state;
    struct node_list list = ready("a b c");
    struct error err = ERROR_INIT;
    struct xspec_params params = defaults;
    assert_int_equal(node_set_dir(&list.nodes[0], "pytest_ci_app", 1, "/home/ci/pytest_ci_app", &err), 0);
    assert_int_equal(node_set_dir(&list.nodes[1], "pytest_ci_app", 2, "/srv/b/pytest_ci_app~2", &err), 0);
    list.nodes[0].slot = 1;
    list.nodes[1].slot = 2;
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        char **xspecs = xspec_tx(&list, &params, &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_true((xspecs == NULL) == failed);
        if (xspecs)
            assert_strings(
                xspecs, &err,
                "ssh=a//id=a_0//node=a//chdir=/home/ci/pytest_ci_app//python=/home/ci/pytest_ci_app/venv/bin/"
                "python3\n"
                "ssh=b//id=b_0//node=b//chdir=/srv/b/pytest_ci_app~2//python=/srv/b/pytest_ci_app~2/venv/bin/"
                "python3\n"
                "ssh=c//id=c_0//node=c//chdir=pytest_ci_app//python=pytest_ci_app/venv/bin/python3");
    }
    node_list_clear(&list);
}

/* A name is where the probe has found it: not before the guard has told, nor what cannot stand in an xspec. */
static void test_found_pythons(void **state)
{
    (void)state;
    static const struct {
        const char *python, *found, *expected;
        bool told;
    } table[] = {
        {"python3", "/usr/bin/python3", "/usr/bin/python3", true},
        {"python3", "/usr/bin/python3", "python3", false},
        {"python3", "/my tools/python3", "python3", true},
        {"python3", "/x//python3", "python3", true},
        {"python3", "/x/$(id)", "python3", true},
        {"python3", "bin/python3", "python3", true},
        {"python3", "", "python3", true},
        {"/opt/python3", "/usr/bin/python3", "/opt/python3", true},
        {"d/venv/bin/python3", "/usr/bin/python3", "/x/d/venv/bin/python3", true},
    };
    for (size_t i = 0; i < LENGTH(table); i++) {
        struct node_list list = ready("a");
        struct error err = ERROR_INIT;
        const struct xspec_params params = {"d", PYTHONS(table[i].python), NULL, NULL, false};
        char expected[256];
        list.nodes[0].has_facts = true;
        snprintf(list.nodes[0].facts.python_path, sizeof list.nodes[0].facts.python_path, "%s",
                 table[i].found);
        if (table[i].told)
            assert_int_equal(node_set_dir(&list.nodes[0], "d", 1, "/x/d", &err), 0);
        snprintf(expected, sizeof expected, "ssh=a//id=a_0//node=a//chdir=%sd//python=%s",
                 table[i].told ? "/x/" : "", table[i].expected);
        assert_strings(xspec_tx(&list, &params, &err), &err, expected);
        node_list_clear(&list);
    }
}

/* Before that, by the name that it will have. */
static void test_copies(void **state)
{
    (void)state;
    struct node_list list = ready("a b :");
    list.nodes[0].slot = 1;
    list.nodes[1].slot = 2;
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        char **xspecs = xspec_tx(&list, &defaults, &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_true((xspecs == NULL) == failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        if (xspecs)
            assert_strings(
                xspecs, &err,
                "ssh=a//id=a_0//node=a//chdir=pytest_ci_app//python=pytest_ci_app/venv/bin/python3\n"
                "ssh=b//id=b_0//node=b//chdir=pytest_ci_app~2//python=pytest_ci_app~2/venv/bin/python3\n"
                "popen//id=localhost_0");
    }
    node_list_clear(&list);
}

static void test_this_machine(void **state)
{
    (void)state;
    struct node_list list = ready(":");
    struct error err = ERROR_INIT;
    struct xspec_params params = {"d", PYTHONS("python3"), NULL, "c", false};
    list.nodes[0].processes = 2;
    assert_strings(xspec_tx(&list, &params, &err), &err, "popen//id=localhost_0\npopen//id=localhost_1");
    params.local_pythons = PYTHONS("/app/venv/bin/python3");
    assert_strings(xspec_tx(&list, &params, &err), &err,
                   "popen//id=localhost_0//python=/app/venv/bin/python3\n"
                   "popen//id=localhost_1//python=/app/venv/bin/python3");
    assert_strings(sshlogin_list(&list, &err), &err, "2/:");
    node_list_clear(&list);
}

/* What a node says about itself. */
static void say(struct node *node, const char *os, const char *arch, const char *first, const char *second)
{
    struct facts *f = &node->facts;
    snprintf(f->os, sizeof f->os, "%s", os);
    snprintf(f->arch, sizeof f->arch, "%s", arch);
    snprintf(f->pythons[0], sizeof f->pythons[0], "%s", first);
    snprintf(f->pythons[1], sizeof f->pythons[1], "%s", second);
    node->has_facts = true;
    node->processes = 2;
}

static void test_each(void **state)
{
    (void)state;
    struct node_list list = ready("ci@10.0.120.1:22 b gone : none");
    struct error err = ERROR_INIT;
    struct xspec_params params = {"d", PYTHONS("d/venv/bin/python3", "/opt/python3.9"),
                                  PYTHONS("/venv/python3", "python3.9"), "c", true};
    say(&list.nodes[0], "Linux", "x86_64", "3.11.2", "3.9.18");
    say(&list.nodes[1], "FreeBSD", "amd64", "3.13.0rc1+", "3.9.18");
    say(&list.nodes[2], "Linux", "x86_64", "3.11.2", "3.9.18");
    say(&list.nodes[3], "Linux", "aarch64", "3.11.2", "3.9.18");
    say(&list.nodes[4], "Linux", "aarch64", "3.11.2", "3.9.18");
    node_set(&list.nodes[2], NODE_UNFIT, "too small");
    list.nodes[4].processes = 0;
    assert_strings(
        xspec_tx(&list, &params, &err), &err,
        "ssh=-p 22 "
        "ci@10.0.120.1//id=10.0.120.1_Linux-x86_64_py3.11.2//node=ci@10.0.120.1:22//chdir=d//python=d/venv/"
        "bin/python3"
        "//ssh_config=c\n"
        "ssh=-p 22 "
        "ci@10.0.120.1//id=10.0.120.1_Linux-x86_64_py3.9.18//node=ci@10.0.120.1:22//chdir=d//python=/opt/"
        "python3.9"
        "//ssh_config=c\n"
        "ssh=b//id=b_FreeBSD-amd64_py3.13.0rc1_//node=b//chdir=d//python=d/venv/bin/python3//ssh_config=c\n"
        "ssh=b//id=b_FreeBSD-amd64_py3.9.18//node=b//chdir=d//python=/opt/python3.9//ssh_config=c\n"
        "popen//id=localhost_Linux-aarch64_py3.11.2//python=/venv/python3\n"
        "popen//id=localhost_Linux-aarch64_py3.9.18//python=python3.9");
    assert_strings(sshlogin_list(&list, &err), &err, "2/ci@10.0.120.1:22\n2/b\n2/:");
    node_list_clear(&list);
}

/* Whatever a node says: what stands between "//id=" and the next "//" is of the safe kind, and not long. */
static void test_each_of_hostile_facts(void **state)
{
    (void)state;
    static const struct {
        const char *os, *arch, *version, *id;
    } cases[] = {
        {"", "", "", "a_unknown-unknown_pyunknown"},
        {"a//python=sh", "x y", "3\n", "a_a__python_sh-x_y_py3_"},
        {"$(id)", "../..", "`id`;'\"", "a___id_-.._.._py_id____"},
        {"\xc3\x84", "\xff", "\x7f", "a___-__py_"},
        {"0123456789012345678901234567890123456789", "-", ".", "a_01234567890123456789012345678901--_py."},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct node_list list = ready("a");
        struct error err = ERROR_INIT;
        struct xspec_params params = {"d", PYTHONS("p"), NULL, NULL, true};
        char expected[256];
        say(&list.nodes[0], cases[i].os, cases[i].arch, cases[i].version, "");
        snprintf(expected, sizeof expected, "ssh=a//id=%s//node=a//chdir=d//python=p", cases[i].id);
        assert_strings(xspec_tx(&list, &params, &err), &err, expected);
        node_list_clear(&list);
    }
}

/* Two interpreters of one version; two logins of one host; nodes that claim to be others. */
static void test_each_ids_are_unique(void **state)
{
    (void)state;
    struct node_list list = ready("h ci@h a a_L-x_py3");
    struct error err = ERROR_INIT;
    struct xspec_params params = {"d", PYTHONS("p", "q"), NULL, NULL, true};
    say(&list.nodes[0], "L", "x", "3", "3");
    say(&list.nodes[1], "L", "x", "3", "3_2");
    say(&list.nodes[2], "L", "x", "3_L-x_py3", "3_L-x_py3_2");
    say(&list.nodes[3], "L", "x", "3", "3");
    assert_strings(xspec_tx(&list, &params, &err), &err,
                   "ssh=h//id=h_L-x_py3//node=h//chdir=d//python=p\n"
                   "ssh=h//id=h_L-x_py3_2//node=h//chdir=d//python=q\n"
                   "ssh=ci@h//id=ci@h_L-x_py3//node=ci@h//chdir=d//python=p\n"
                   "ssh=ci@h//id=ci@h_L-x_py3_2//node=ci@h//chdir=d//python=q\n"
                   "ssh=a//id=a_L-x_py3_L-x_py3//node=a//chdir=d//python=p\n"
                   "ssh=a//id=a_L-x_py3_L-x_py3_2//node=a//chdir=d//python=q\n"
                   "ssh=a_L-x_py3//id=a_L-x_py3_L-x_py3_2_2//node=a_L-x_py3//chdir=d//python=p\n"
                   "ssh=a_L-x_py3//id=a_L-x_py3_L-x_py3_3//node=a_L-x_py3//chdir=d//python=q");
    node_list_clear(&list);
}

static int compare(const void *a, const void *b);

/* Answers made to meet each other and the numbers that tell them apart. */
static void test_each_ids_cannot_be_forged(void **state)
{
    (void)state;
    unsigned seed = 3;
    static const char *const names[] = {"a", "a_", "a__", "a_-", "a_2", "a_2_2", "a_py", "a_-_py", "a_py_2"};
    static const char *const words[] = {"_", "-", "_-", "_py", "2", "_2", "_-_py", "2_2", "py"};
    for (int round = 0; round < 500; round++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        struct xspec_params params = {"d", PYTHONS("p", "q"), NULL, NULL, true};
        char *ids[2 * LENGTH(names)];
        size_t count = 0;
        for (size_t i = 0; i < LENGTH(names); i++) {
            assert_int_equal(node_list_add(&list, names[i], &err), 0);
            node_set(&list.nodes[i], NODE_READY, "%s", "");
            const char *said[4];
            for (int k = 0; k < 4; k++)
                said[k] = words[(size_t)rand_r(&seed) % LENGTH(words)];
            say(&list.nodes[i], said[0], said[1], said[2], said[3]);
        }
        char **tx = xspec_tx(&list, &params, &err);
        assert_non_null(tx);
        for (; tx[count]; count++) {
            ids[count] = strstr(tx[count], "//id=");
            *strstr(ids[count] + 2, "//") = '\0';
        }
        assert_int_equal(count, LENGTH(ids));
        qsort(ids, count, sizeof *ids, compare);
        for (size_t i = 1; i < count; i++)
            assert_string_not_equal(ids[i - 1], ids[i]);
        strings_free(tx);
        node_list_clear(&list);
    }
}

/* One interpreter here must not stand for several. */
static void test_each_on_this_machine(void **state)
{
    (void)state;
    static const char *const one[] = {"p", NULL}, *const two[] = {"p", "q", NULL}, *const none[] = {NULL};
    static const struct {
        const char *const *pythons, *const *local;
        bool each;
        const char *text; /* of the error, or the python of the last xspec */
    } cases[] = {
        {two, NULL, true, "0 interpreters for this machine instead of 2"},
        {two, one, true, "1 interpreters for this machine instead of 2"},
        {two, none, true, "0 interpreters for this machine instead of 2"},
        {two, two, true, NULL},
        {one, NULL, true, NULL},
        {one, one, true, NULL},
        {two, NULL, false, NULL},
        {two, one, false, NULL},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct node_list list = ready("a :");
        struct error err = ERROR_INIT;
        const struct xspec_params params = {"d", cases[i].pythons, cases[i].local, NULL, cases[i].each};
        char **tx = xspec_tx(&list, &params, &err);
        assert_int_equal(err.status, cases[i].text ? STATUS_BUG : 0);
        assert_string_equal(err.text, cases[i].text ? cases[i].text : "");
        assert_int_equal(!tx, cases[i].text != NULL);
        strings_free(tx);
        node_set(&list.nodes[1], NODE_UNFIT, "too small"); /* then it does not matter */
        err = (struct error)ERROR_INIT;
        tx = xspec_tx(&list, &params, &err);
        assert_non_null(tx);
        strings_free(tx);
        node_list_clear(&list);
    }
}

static void test_no_ready_node(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_strings(xspec_tx(&list, &defaults, &err), &err, "");
    assert_strings(sshlogin_list(&list, &err), &err, "");
    list = ready("a");
    node_set(&list.nodes[0], NODE_OFFLINE, "no answer");
    assert_strings(xspec_tx(&list, &defaults, &err), &err, "");
    assert_strings(sshlogin_list(&list, &err), &err, "");
    node_list_clear(&list);
}

/* Also where the other node of that host dropped out: a name in a log means one login only. */
static void test_ids_are_unique(void **state)
{
    (void)state;
    struct node_list list = ready("h ci@h ci@h:22 : localhost other gone@other");
    struct error err = ERROR_INIT;
    struct xspec_params params = {"d", PYTHONS("p"), NULL, NULL, false};
    node_set(&list.nodes[6], NODE_OFFLINE, "no answer");
    assert_strings(xspec_tx(&list, &params, &err), &err,
                   "ssh=h//id=h_0//node=h//chdir=d//python=p\n"
                   "ssh=ci@h//id=ci@h_0//node=ci@h//chdir=d//python=p\n"
                   "ssh=-p 22 ci@h//id=ci@h:22_0//node=ci@h:22//chdir=d//python=p\n"
                   "popen//id=:_0\n"
                   "ssh=localhost//id=localhost_0//node=localhost//chdir=d//python=p\n"
                   "ssh=other//id=other_0//node=other//chdir=d//python=p");
    node_list_clear(&list);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names made to look like the ids of others. */
static void test_ids_cannot_be_forged(void **state)
{
    (void)state;
    struct node_list list = ready("a a_1 a_1_0 a_0 u@a_0 ::1 [::1]:22 u@a a:1");
    struct error err = ERROR_INIT;
    char *ids[9 * 12];
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++)
        list.nodes[i].processes = 12;
    char **tx = xspec_tx(&list, &defaults, &err);
    assert_non_null(tx);
    for (; tx[count]; count++) {
        ids[count] = strstr(tx[count], "//id=");
        *strstr(ids[count] + 2, "//") = '\0';
    }
    assert_int_equal(count, LENGTH(ids));
    qsort(ids, count, sizeof *ids, compare);
    for (size_t i = 1; i < count; i++)
        assert_string_not_equal(ids[i - 1], ids[i]);
    strings_free(tx);
    node_list_clear(&list);
}

static void test_user_of_ssh_config(void **state)
{
    (void)state;
    struct node_list list = ready("a ci@b c:22");
    struct error err = ERROR_INIT;
    struct xspec_params params = {"d", PYTHONS("p"), NULL, NULL, false};
    struct sshconf conf = {.user = "jenkins", .hostname = "elsewhere", .port = 2200};
    for (size_t i = 0; i < list.count; i++)
        list.nodes[i].conf = &conf;
    assert_strings(xspec_tx(&list, &params, &err), &err,
                   "ssh=jenkins@a//id=a_0//node=a//chdir=d//python=p\n"
                   "ssh=ci@b//id=b_0//node=ci@b//chdir=d//python=p\n"
                   "ssh=-p 22 jenkins@c//id=c_0//node=c:22//chdir=d//python=p");
    assert_strings(sshlogin_list(&list, &err), &err, "1/jenkins@a\n1/ci@b\n1/jenkins@c:22");
    node_list_clear(&list);
}

static const struct {
    const char *user;
    bool tx, login; /* written down? */
} users[] = {
    {"", false, false},
    {"-l", false, false},
    {"a b", false, false},
    {"a//b", false, false},
    {"a/", false, false},
    {"a;b", false, false},
    {"$(id)", false, false},
    {"a:b", false, false},
    {"a\xc2\xa0"
     "b",
     false, false},
    {"a\"b", false, false},
    {"AD\\ci", true, false},
    {"ci@corp", true, false},
    {"machine$", true, false},
    {"ci+x", true, true},
    {"ci.x_y-z9", true, true},
};

/* What cannot be written down is left out: ssh reads it in ssh_config by itself. */
static void test_odd_users_of_ssh_config(void **state)
{
    (void)state;
    struct node_list list = ready("a");
    for (size_t i = 0; i < LENGTH(users); i++) {
        char user[32], expected[128];
        struct sshconf conf = {.user = user};
        struct error err = ERROR_INIT;
        snprintf(user, sizeof user, "%s", users[i].user);
        list.nodes[0].conf = &conf;
        snprintf(expected, sizeof expected, "1/%s%sa", users[i].login ? user : "", users[i].login ? "@" : "");
        assert_strings(sshlogin_list(&list, &err), &err, expected);
        snprintf(expected, sizeof expected,
                 "ssh=%s%sa//id=a_0//node=a//chdir=pytest_ci_app//python=pytest_ci_app/venv/bin/python3",
                 users[i].tx ? user : "", users[i].tx ? "@" : "");
        assert_strings(xspec_tx(&list, &defaults, &err), &err, expected);
    }
    node_list_clear(&list);
}

/* ssh takes them, in an xspec, too; GNU parallel does not, and is told of by name. */
static void test_no_logins(void **state)
{
    (void)state;
    static const struct {
        const char *word, *tx, *error;
    } cases[] = {
        {"ci@corp@a", "ssh=ci@corp@a//",
         "ci@corp@a: the user 'ci@corp' cannot stand in a login of GNU parallel: give the node a Host"},
        {"CORP\\ci@a", "ssh=CORP\\ci@a//", "CORP\\ci@a: the user 'CORP\\ci' cannot"},
        {"m$@a:22", "ssh=-p 22 m$@a//", "m$@a:22: the user 'm$' cannot"},
        {"fe80::1%lo", "ssh=fe80::1%lo//",
         "fe80::1%lo: an IPv6 zone cannot stand in a login of GNU parallel: give"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct node_list list = ready(cases[i].word);
        struct error err = ERROR_INIT;
        char **tx = xspec_tx(&list, &defaults, &err);
        assert_non_null(tx);
        assert_int_equal(strncmp(tx[0], cases[i].tx, strlen(cases[i].tx)), 0);
        strings_free(tx);
        assert_null(sshlogin_list(&list, &err));
        assert_int_equal(err.status, STATUS_DATA);
        assert_int_equal(strncmp(err.text, cases[i].error, strlen(cases[i].error)), 0);
        node_list_clear(&list);
    }
}

static void test_too_many_processes(void **state)
{
    (void)state;
    struct node_list list = ready("a b");
    struct error err = ERROR_INIT;
    list.nodes[0].processes = UINT32_MAX;
    list.nodes[1].processes = UINT32_MAX;
    assert_null(xspec_tx(&list, &defaults, &err));
    assert_int_equal(err.status, STATUS_DATA);
    assert_string_equal(err.text, "8589934590 processes are more than 100000: set --cloud-max-processes");
    assert_strings(sshlogin_list(&list, NULL), &err, "4294967295/a\n4294967295/b");
    node_list_clear(&list);
}

static void test_strings_free(void **state)
{
    (void)state;
    errno = EPIPE;
    strings_free(NULL);
    struct node_list list = ready("a b");
    char **tx = xspec_tx(&list, &defaults, NULL);
    assert_non_null(tx);
    errno = EPIPE;
    strings_free(tx);
    assert_int_equal(errno, EPIPE);
    node_list_clear(&list);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct node_list list = ready("ci@a:22 : b");
    struct xspec_params params = {"d", PYTHONS("p"), PYTHONS("lp"), "c", false};
    list.nodes[0].processes = 2;
    for (int login = 0; login < 2; login++)
        for (ALLOC_EACH(n)) {
            struct error err = ERROR_INIT;
            alloc_fail_at(n);
            char **strings = login ? sshlogin_list(&list, &err) : xspec_tx(&list, &params, &err);
            bool failed = alloc_has_failed();
            assert_int_equal(!strings, failed);
            assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
            strings_free(strings);
        }
    node_list_clear(&list);
}

static void test_each_without_memory(void **state)
{
    (void)state;
    struct node_list list = ready("ci@a:22 : b");
    struct xspec_params params = {"d", PYTHONS("p", "q"), PYTHONS("lp", "lq"), "c", true};
    for (size_t i = 0; i < list.count; i++)
        say(&list.nodes[i], "L", "x", "3", "3"); /* numbers are needed, too */
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        char **strings = xspec_tx(&list, &params, &err);
        bool failed = alloc_has_failed();
        assert_int_equal(!strings, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        strings_free(strings);
    }
    node_list_clear(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_values_taken),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_one_for_each_process),
        cmocka_unit_test(test_told_places),
        cmocka_unit_test(test_found_pythons),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_each_of_hostile_facts),
        cmocka_unit_test(test_each_ids_are_unique),
        cmocka_unit_test(test_each_ids_cannot_be_forged),
        cmocka_unit_test(test_each_on_this_machine),
        cmocka_unit_test(test_no_ready_node),
        cmocka_unit_test(test_ids_are_unique),
        cmocka_unit_test(test_ids_cannot_be_forged),
        cmocka_unit_test(test_user_of_ssh_config),
        cmocka_unit_test(test_odd_users_of_ssh_config),
        cmocka_unit_test(test_no_logins),
        cmocka_unit_test(test_local_python_with_blanks),
        cmocka_unit_test(test_too_many_processes),
        cmocka_unit_test(test_strings_free),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_each_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
