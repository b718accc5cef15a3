/* What the limit of open files leaves of a plan. */
#include "plan/descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NODES_MAX 400

/* As the engine pytest says. */
static const struct descriptors_cost cost = {.base = 16, .worker = 3, .start = 5, .starts = 32};

static struct node nodes[NODES_MAX];

/* count nodes of so many processes, the first of them this machine where local. */
static struct node_list plan(size_t count, uint32_t processes, bool local)
{
    memset(nodes, 0, sizeof nodes);
    for (size_t i = 0; i < count; i++)
        nodes[i] = (struct node){
            .name = "node", .state = NODE_READY, .processes = processes, .limited_by = TERM_CORES};
    nodes[0].local = local;
    return (struct node_list){.nodes = nodes, .count = count};
}

static size_t in_state(const struct node_list *list, enum node_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < list->count; i++)
        n += list->nodes[i].state == state;
    return n;
}

/* Too little for anything: said so, with the remedy. */
static void test_no_room(void **state)
{
    (void)state;
    for (uint64_t limit = 0; limit <= 20; limit++) {
        struct error err = ERROR_INIT;
        struct node_list list = plan(3, 4, true);
        assert_int_equal(descriptors_fit(&list, limit, 0, &cost, &err), -1);
        assert_int_equal(err.status, STATUS_UNAVAILABLE);
        assert_non_null(strstr(err.text, "ulimit -n"));
        assert_int_equal(in_state(&list, NODE_UNFIT), 3);
        assert_int_equal(nodes[0].limited_by, TERM_FILES);
        assert_int_equal(nodes[0].processes, 0);
    }
}

static void test_nothing_to_take(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        uint32_t processes;
        uint64_t limit;
    } table[] = {{1, 1, 64},
                 {6, 1, 64},
                 {2, 3, 64},
                 {300, 1, 1048576},
                 {300, 64, 1048576},
                 {100, 2, 1024},
                 {400, 65536, UINT64_MAX}};
    for (size_t t = 0; t < sizeof table / sizeof *table; t++) {
        struct error err = ERROR_INIT;
        struct node_list list = plan(table[t].count, table[t].processes, false);
        assert_int_equal(descriptors_fit(&list, table[t].limit, 0, &cost, &err), 0);
        for (size_t i = 0; i < list.count; i++) {
            assert_int_equal(nodes[i].processes, table[t].processes);
            assert_int_equal(nodes[i].limited_by, TERM_CORES);
            assert_string_equal(nodes[i].reason, "");
        }
    }
}

/* Whatever the limit: never more than its own sums allow, counted here from what the parts take. */
static void test_never_more(void **state)
{
    (void)state;
    for (uint64_t limit = 29; limit < 3000; limit += 7)
        for (uint32_t processes = 1; processes < 200; processes = processes * 3 + 1) {
            struct error err = ERROR_INIT;
            struct node_list list = plan(300, processes, limit % 2);
            descriptors_fit(&list, limit, 0, &cost, &err);
            uint64_t masters = 0, workers = node_list_processes(&list);
            for (size_t i = 0; i < list.count; i++) {
                assert_true(nodes[i].processes <= processes);
                assert_true((nodes[i].state == NODE_READY) == (nodes[i].processes > 0));
                if (nodes[i].state == NODE_READY && !nodes[i].local) {
                    masters++;
                    assert_true(12 + 4 * (uint64_t)nodes[i].processes <= limit);
                }
            }
            assert_true(masters == 0 || 31 + 3 * masters <= limit);
            assert_true(workers == 0 || 16 + 3 * workers + 5 * (workers < 32 ? workers : 32) <= limit);
            /* And not less than there is room for. */
            assert_true(masters < 300 - limit % 2
                            ? 31 + 3 * (masters + 1) > limit || 16 + 8 * (workers + 1) > limit
                            : true);
        }
}

/* Evenly, the first ones of a list first; those that had less keep it. */
static void test_evenly(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct node_list list = plan(4, 8, false);
    nodes[1].processes = 1;
    nodes[2] = (struct node){.name = "out", .state = NODE_OFFLINE};
    assert_int_equal(descriptors_fit(&list, 64, 0, &cost, &err), 0); /* (64 - 16) / 8 = 6 workers */
    assert_int_equal(nodes[0].processes, 3);
    assert_int_equal(nodes[0].limited_by, TERM_FILES);
    assert_int_equal(nodes[1].processes, 1);
    assert_int_equal(nodes[1].limited_by, TERM_CORES);
    assert_int_equal(nodes[2].state, NODE_OFFLINE);
    assert_int_equal(nodes[3].processes, 2);
    list = plan(10, 1, false);
    assert_int_equal(descriptors_fit(&list, 64, 0, &cost, &err), 0);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(nodes[i].state, i < 6 ? NODE_READY : NODE_UNFIT);
    assert_string_equal(nodes[9].reason,
                        "no room for it: the limit of open files is 64; raise it with ulimit -n");
    assert_string_equal(plan_term_name(nodes[9].limited_by), "files");
}

/* --dist=each: all of a node's, or none. */
static void test_each(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct node_list list = plan(4, 3, false);
    assert_int_equal(descriptors_fit(&list, 64, 3, &cost, &err), 0);
    assert_int_equal(nodes[0].processes, 3);
    assert_int_equal(nodes[1].processes, 3);
    assert_int_equal(nodes[2].state, NODE_UNFIT);
    list = plan(2, 9, false);
    assert_int_equal(descriptors_fit(&list, 64, 9, &cost, &err), -1);
}

/* One master has room for (1024 - 12) / 4 sessions, where the engine could have more workers. */
static void test_one_master(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct node_list list = plan(1, 300, false);
    assert_int_equal(descriptors_fit(&list, 1024, 0, &cost, &err), 0);
    assert_int_equal(nodes[0].processes, 253);
    assert_int_equal(nodes[0].limited_by, TERM_FILES);
    list = plan(1, 253, false);
    assert_int_equal(descriptors_fit(&list, 1024, 253, &cost, &err), 0);
    assert_int_equal(nodes[0].processes, 253);
    list = plan(1, 254, false);
    assert_int_equal(descriptors_fit(&list, 1024, 254, &cost, &err), -1);
    list = plan(1, 254, true);
    err = (struct error)ERROR_INIT;
    assert_int_equal(descriptors_fit(&list, 1024, 254, &cost, &err), 0);
}

/* This machine has no master: (36 - 31) / 3 others beside it. */
static void test_this_machine(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct node_list list = plan(2, 1, true);
    assert_int_equal(descriptors_fit(&list, 36, 0, &cost, &err), 0);
    assert_int_equal(in_state(&list, NODE_READY), 2);
    list = plan(2, 1, false);
    assert_int_equal(descriptors_fit(&list, 36, 0, &cost, &err), 0);
    assert_int_equal(in_state(&list, NODE_READY), 1);
}

/* In a process of its own: the limit cannot be raised again. */
static void test_soft_limit_is_raised(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {.rlim_cur = 40, .rlim_max = 50};
        if (setrlimit(RLIMIT_NOFILE, &limit) || descriptors_given() != 0 || descriptors_limit() != 50 ||
            getrlimit(RLIMIT_NOFILE, &limit))
            _exit(1);
        if (descriptors_limit() != 50 || descriptors_given() != 40) /* the first time counts */
            _exit(3);
        _exit(limit.rlim_cur == 50 ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_room),      cmocka_unit_test(test_nothing_to_take),
        cmocka_unit_test(test_never_more),   cmocka_unit_test(test_evenly),
        cmocka_unit_test(test_each),         cmocka_unit_test(test_one_master),
        cmocka_unit_test(test_this_machine), cmocka_unit_test(test_soft_limit_is_raised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
