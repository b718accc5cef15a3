/* Whether a copy fits on a node's disk, with the real rsync. */
#include "base/child.h"
#include "copy/disk_room.h"

#include "alloc.h"

#include <fcntl.h>
#include <limits.h>
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

static char base[] = "/tmp/disk_room.XXXXXX";
static char root[PATH_MAX];

static void make(const char *name, size_t size)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", base, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static struct sync_params params_for(const char *const *ignores)
{
    return (struct sync_params){.rundir = base, .root = root, .chdir = "copy", .ignores = ignores};
}

static struct node node_with(enum facts_target target, uint64_t free_bytes)
{
    return (struct node){.name = (char *)"n",
                         .host = (char *)"n",
                         .state = NODE_READY,
                         .has_facts = true,
                         .processes = 1,
                         .facts = {.target = target, .disk_free = free_bytes}};
}

static int check_one(struct node *node, const struct sync_params *params, struct error *err)
{
    struct node_list list = {.nodes = node, .count = 1};
    return disk_room_check(&list, params, err);
}

/* The project has 8000 bytes that are copied: too few, just enough. */
static void test_limit(void **state)
{
    (void)state;
    static const struct {
        uint64_t free_bytes;
        bool fits;
    } table[] = {{0, false},        {1, false}, {7999, false}, {8000, true}, {UINT64_MAX - 1, true},
                 {UINT64_MAX, true}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct error err = ERROR_INIT;
        struct node node = node_with(TARGET_ABSENT, table[i].free_bytes);
        struct sync_params params = params_for(NULL);
        int result = check_one(&node, &params, &err);
        assert_int_equal(result, table[i].fits ? 0 : -1);
        assert_int_equal(node.state, table[i].fits ? NODE_READY : NODE_FAILED);
        assert_int_equal(err.status, table[i].fits ? 0 : STATUS_SYNC);
        if (table[i].free_bytes == 7999) {
            assert_string_equal(node.reason, "No space left on device for the copy: it takes 8 KiB, and 7 "
                                             "KiB are free where copy will be");
            assert_non_null(strstr(err.text, "the sync failed on every node; n: No space left"));
        }
    }
}

/* What is not copied takes no room. */
static void test_filters_count(void **state)
{
    (void)state;
    static const char *const ignores[] = {"*.bin", NULL};
    struct error err = ERROR_INIT;
    struct node node = node_with(TARGET_ABSENT, 3000);
    struct sync_params params = params_for(ignores);
    assert_int_equal(check_one(&node, &params, &err), 0);
    node = node_with(TARGET_ABSENT, 2999);
    assert_int_equal(check_one(&node, &params, &err), -1);
}

/* An existing copy, a disk that is not known, this machine, a node that is out: not asked about. */
static void test_not_in_question(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct sync_params params = params_for(NULL);
    params.root = "/nonexistent"; /* nothing is counted */
    struct node nodes[] = {
        node_with(TARGET_OURS, 1),   node_with(TARGET_FOREIGN, 1), node_with(TARGET_ABSENT, UINT64_MAX),
        node_with(TARGET_ABSENT, 1), node_with(TARGET_ABSENT, 1),  node_with(TARGET_ABSENT, 1)};
    nodes[3].local = true;
    nodes[4].state = NODE_OFFLINE;
    nodes[5].has_facts = false;
    struct node_list list = {.nodes = nodes, .count = sizeof nodes / sizeof *nodes};
    assert_int_equal(disk_room_check(&list, &params, &err), 0);
    assert_int_equal(nodes[0].state, NODE_READY);
    assert_int_equal(nodes[3].state, NODE_READY);
    assert_int_equal(nodes[4].state, NODE_OFFLINE);
}

static void test_some_nodes(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct sync_params params = params_for(NULL);
    struct node nodes[] = {node_with(TARGET_ABSENT, 1), node_with(TARGET_OURS, 1),
                           node_with(TARGET_ABSENT, 9000)};
    struct node_list list = {.nodes = nodes, .count = 3};
    assert_int_equal(disk_room_check(&list, &params, &err), 0);
    assert_int_equal(nodes[0].state, NODE_FAILED);
    assert_int_equal(nodes[0].processes, 0);
    assert_int_equal(nodes[1].state, NODE_READY);
    assert_int_equal(nodes[2].state, NODE_READY);
}

/* Without a size nothing is known: the sync will say what is wrong. */
static void test_no_size(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    struct error err = ERROR_INIT;
    struct node node = node_with(TARGET_ABSENT, 1);
    struct sync_params params = params_for(NULL);
    setenv("PATH", "/nonexistent", 1);
    int result = check_one(&node, &params, &err);
    setenv("PATH", path, 1);
    free(path);
    assert_int_equal(result, 0);
    assert_int_equal(node.state, NODE_READY);
}

static void test_bad_directory(void **state)
{
    (void)state;
    static const char *const dirs[] = {"/no/such/directory", NULL};
    struct error err = ERROR_INIT;
    struct node node = node_with(TARGET_ABSENT, 1);
    struct sync_params params = params_for(NULL);
    params.dirs = dirs;
    assert_int_equal(check_one(&node, &params, &err), -1);
    assert_int_equal(err.status, STATUS_USAGE);
}

static void test_allocations(void **state)
{
    (void)state;
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        struct node node = node_with(TARGET_ABSENT, 1);
        struct sync_params params = params_for(NULL);
        alloc_fail_at(n);
        int result = check_one(&node, &params, &err);
        if (!alloc_has_failed())
            assert_int_equal(node.state, NODE_FAILED);
        else /* an error, or nothing is known */
            assert_true(result == 0 ? node.state == NODE_READY : err.status == STATUS_SYSTEM);
    }
}

static int prepare(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    if (!mkdtemp(base))
        return -1;
    snprintf(root, sizeof root, "%s/project", base);
    if (mkdir(root, 0700))
        return -1;
    make("project/a.txt", 3000);
    make("project/b.bin", 5000);
    make("project/c.pyc", 4000);
    return child_init(&err);
}

static int clean_up(void **state)
{
    (void)state;
    static const char *const names[] = {"project/a.txt", "project/b.bin", "project/c.pyc", "project", ""};
    char path[PATH_MAX + 64];
    int result = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", base, names[i]);
        result |= remove(path);
    }
    return result;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),           cmocka_unit_test(test_filters_count),
        cmocka_unit_test(test_not_in_question), cmocka_unit_test(test_some_nodes),
        cmocka_unit_test(test_no_size),         cmocka_unit_test(test_bad_directory),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
