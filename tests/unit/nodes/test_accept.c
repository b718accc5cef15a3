/* What a node must have: the nodes that lack something first. */
#include "engine/pytest/pytest.h"
#include "nodes/accept.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define FOREIGN "copy exists there and was not made by cloudplan: remove it, or choose another --cloud-chdir"

static const char *const one[] = {"python3", NULL}, *const two[] = {"python3", "/opt/python3.9", NULL},
                         *const eight[] = {"a", "b", "c", "d", "e", "f", "g", "h", NULL};

static struct facts facts_of(const char *first, const char *second, const char *rsync,
                             enum facts_target target, const char *missing, uint32_t missing_python)
{
    struct facts f = {.target = target, .missing_python = missing_python, .home = "/no/home"};
    snprintf(f.python, sizeof f.python, "%s", first);
    snprintf(f.pythons[0], sizeof f.pythons[0], "%s", first);
    snprintf(f.pythons[1], sizeof f.pythons[1], "%s", second);
    snprintf(f.rsync, sizeof f.rsync, "%s", rsync);
    snprintf(f.missing, sizeof f.missing, "%s", missing);
    return f;
}

/* The node's state and reason for these facts. */
static struct node_list accepted(const char *name, const struct facts *facts, const char *const *pythons,
                                 const char *modules)
{
    const struct requirements required = {
        .chdir = "copy", .pythons = pythons, .modules = modules, .lacks = engine_pytest.lacks};
    struct node_list list = NODE_LIST_INIT;
    assert_int_equal(node_list_add(&list, name, NULL), 0);
    list.nodes[0].facts = *facts;
    accept_facts(&list.nodes[0], &required);
    assert_true(list.nodes[0].has_facts);
    return list;
}

static const struct {
    const char *node;
    const char *const *pythons;
    const char *modules;
    struct {
        const char *first, *second, *rsync;
        enum facts_target target;
        const char *missing;
        uint32_t missing_python;
    } facts;
    const char *reason; /* NULL: it is ready */
} cases[] = {
    /* interpreters, before all else */
    {"a", one, NULL, {"", "", "", TARGET_FOREIGN, "pytest", 0}, "python is missing: no python3 on the node"},
    {":",
     one,
     "pytest",
     {"", "", "", TARGET_FOREIGN, "pytest", 0},
     "python is missing: no python3 on the node"},
    {"a", two, NULL, {"3", "", "3", TARGET_OURS, "", 0}, "python is missing: no /opt/python3.9 on the node"},
    {"a", two, NULL, {"", "3", "3", TARGET_OURS, "", 0}, "python is missing: no python3 on the node"},
    {"a",
     two,
     NULL,
     {"", "", "3", TARGET_OURS, "", 0},
     "python is missing: no python3, /opt/python3.9 on the node"},
    {":", two, NULL, {"3", "", "3", TARGET_OURS, "", 0}, "python is missing: no /opt/python3.9 on the node"},
    {"a",
     eight,
     NULL,
     {"3", "3", "3", TARGET_OURS, "", 0},
     "python is missing: no c, d, e, f, g, h on the node"},
    {"a", one, "pytest", {"3", "", "", TARGET_OURS, "pytest", 0}, "rsync is missing on the node"},
    {"a",
     one,
     NULL,
     {"3", "", "2.6.9", TARGET_OURS, "", 0},
     "rsync 2.6.9 on the node is too old: 3.0 or newer is needed there"},
    {"a",
     one,
     NULL,
     {"3", "", "moo", TARGET_OURS, "", 0},
     "rsync on the node is not the program that it should be: it says \"moo\""},
    {"a", one, NULL, {"3", "", "3.0.9", TARGET_OURS, "", 0}, NULL},
    {"a", one, NULL, {"3", "", "10.1", TARGET_OURS, "", 0}, NULL},
    {"a", one, NULL, {"3", "", "openrsync-29", TARGET_OURS, "", 0}, NULL},
    {":", one, NULL, {"3", "", "2.6.9", TARGET_OURS, "", 0}, NULL},
    {"a", one, "pytest", {"3", "", "3", TARGET_FOREIGN, "pytest", 0}, FOREIGN},
    {"a",
     one,
     NULL,
     {"3", "", "3", TARGET_UNMARKED, "", 0},
     FOREIGN ", or have --cloud-adopt look whether it can be used"},
    {"a",
     one,
     NULL,
     {"3", "", "3", TARGET_HOMELESS, "", 0},
     "HOME is not set there, or is no absolute path: set it for this login, or give an absolute "
     "--cloud-chdir"},
    {"a",
     one,
     NULL,
     {"3", "", "3", TARGET_NOWHERE, "", 0},
     "the home directory, /no/home, does not exist there or cannot be entered: mend that, or give an "
     "absolute --cloud-chdir"},
    /* modules */
    {"a",
     one,
     "pytest",
     {"3", "", "3", TARGET_OURS, "pytest", 0},
     "pytest is missing for python3 on the node: install it there, use a virtualenv in the project, or "
     "--cloud-ship-pytest"},
    {"a",
     one,
     "pytest xdist",
     {"3", "", "3", TARGET_ABSENT, "pytest xdist", 0},
     "pytest, xdist are missing for python3 on the node: install them there, use a virtualenv in the "
     "project, or "
     "--cloud-ship-pytest"},
    {"a",
     two,
     "pytest execnet",
     {"3", "3", "3", TARGET_ABSENT, "execnet", 1},
     "execnet is missing for /opt/python3.9 on the node: install it there, use a virtualenv in the project, "
     "or "
     "--cloud-ship-pytest"},
    {"a",
     one,
     "pytest pytest_timeout",
     {"3", "", "3", TARGET_ABSENT, "pytest_timeout", 0},
     "pytest_timeout is missing for python3 on the node: install it there, use a virtualenv in the project, "
     "or "
     "--cloud-ship-pytest with --cloud-ship-plugin"},
    {"a",
     one,
     "x",
     {"3", "", "3", TARGET_ABSENT, " pytest  zope.x ", 0},
     "pytest, zope.x are missing for python3 on the node: install them there, use a virtualenv in the "
     "project, or "
     "--cloud-ship-pytest with --cloud-ship-plugin"},
    {":",
     two,
     "pytest",
     {"3", "3", "", TARGET_FOREIGN, "pytest", 1},
     "pytest is missing for /opt/python3.9 here: install it, or use a virtualenv in the project"},
    /* a node that speaks of what it was not asked */
    {"a", one, NULL, {"3", "", "3", TARGET_OURS, "pytest", 0}, NULL},
    {"a", one, "pytest", {"3", "", "3", TARGET_OURS, "pytest", 1}, NULL},
    {"a", two, "pytest", {"3", "3", "3", TARGET_OURS, "pytest", 7}, NULL},
    /* enough */
    {":", one, "pytest", {"3", "", "", TARGET_FOREIGN, "pytest", 0}, NULL},
    {":", one, NULL, {"3", "", "", TARGET_FOREIGN, "", 0}, NULL},
    {":", two, "pytest", {"3", "3", "", TARGET_FOREIGN, "", 0}, NULL},
    {"a", one, "pytest", {"3", "", "3", TARGET_ABSENT, "", 0}, NULL},
    {"a", two, "pytest", {"3", "3", "3", TARGET_OURS, "", 0}, NULL},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct facts facts =
            facts_of(cases[i].facts.first, cases[i].facts.second, cases[i].facts.rsync, cases[i].facts.target,
                     cases[i].facts.missing, cases[i].facts.missing_python);
        struct node_list list = accepted(cases[i].node, &facts, cases[i].pythons, cases[i].modules);
        const char *reason = cases[i].reason ? cases[i].reason : "";
        if (strcmp(list.nodes[0].reason, reason) != 0)
            fail_msg("%zu: '%s' instead of '%s'", i, list.nodes[0].reason, reason);
        assert_int_equal(list.nodes[0].state, cases[i].reason ? NODE_UNFIT : NODE_READY);
        node_list_clear(&list);
    }
}

/* As much as a node can say: the remedy, at the end, is still there. */
static void test_long_answers(void **state)
{
    (void)state;
    struct facts facts = facts_of("3", "", "3", TARGET_OURS, "", 0);
    for (size_t i = 0; i + 1 < sizeof facts.missing; i++)
        facts.missing[i] = i % 2 ? ' ' : 'm';
    static char name[4096];
    memset(name, 'p', sizeof name - 1);
    const char *const long_names[] = {name, name, NULL};
    struct node_list list = accepted("a", &facts, (const char *const[]){name, NULL}, "m");
    const char *reason = list.nodes[0].reason, *end = "--cloud-ship-pytest with --cloud-ship-plugin";
    assert_non_null(strstr(reason, "m, m, ... are missing for ppp"));
    assert_string_equal(reason + strlen(reason) - strlen(end), end);
    node_list_clear(&list);

    facts = facts_of("", "", "3", TARGET_OURS, "", 0);
    list = accepted("a", &facts, long_names, NULL);
    assert_int_equal(strncmp(list.nodes[0].reason, "python is missing: no ppp", 25), 0);
    reason = list.nodes[0].reason;
    assert_string_equal(reason + strlen(reason) - 15, "... on the node");
    node_list_clear(&list);
}

/* With --cloud-adopt a directory without the mark is for the guard to see; what is none, never. */
static void test_adopt(void **state)
{
    (void)state;
    const struct requirements required = {.chdir = "copy", .pythons = one, .adopt = true};
    static const enum facts_target targets[] = {TARGET_UNMARKED, TARGET_FOREIGN, TARGET_NOWHERE};
    for (size_t i = 0; i < COUNT(targets); i++) {
        struct node_list list = NODE_LIST_INIT;
        assert_int_equal(node_list_add(&list, "a", NULL), 0);
        list.nodes[0].facts = facts_of("3", "", "3", targets[i], "", 0);
        accept_facts(&list.nodes[0], &required);
        assert_int_equal(list.nodes[0].state, i == 0 ? NODE_READY : NODE_UNFIT);
        node_list_clear(&list);
    }
}

/* Other interpreters are asked for here than on the nodes. */
static void test_pythons_here(void **state)
{
    (void)state;
    static const char *const here[] = {"/engine/python3", NULL};
    const struct requirements required = {.chdir = "copy", .pythons = one, .local_pythons = here};
    static const char *const names[] = {"a", ":"};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct node_list list = NODE_LIST_INIT;
        assert_int_equal(node_list_add(&list, names[i], NULL), 0);
        list.nodes[0].facts = facts_of("", "", "3", TARGET_OURS, "", 0);
        accept_facts(&list.nodes[0], &required);
        assert_non_null(strstr(list.nodes[0].reason, i ? "no /engine/python3 " : "no python3 "));
        node_list_clear(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_pythons_here),
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_long_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
