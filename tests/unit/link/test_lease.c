/* Leases against guards that answer as a file says: HOST/answers has one line for each time that the lease is asked for;
 * what was asked is in HOST/asked.  "ssh" is a script here, and takes as much of the guard's own script as it has to. */
#include "base/child.h"
#include "base/rundir.h"
#include "link/lease.h"

#include "alloc.h"
#include "support.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

static char base[] = "/tmp/lease.XXXXXX";

static const char ssh[] =
    "#!/bin/sh\n"
    "while [ $# -gt 2 ]; do shift; done\n"
    "cd \"${0%/*}/../$1\" || exit 255\n"
    "echo \"$2\" >>commands\n"
    "while read -r line; do case $line in guard_main*) break ;; esac; done\n"
    "printf '\\ncloudplan-guard abc ok 1 /srv/copy\\n'\n"
    "while read -r line; do\n"
    "    case $line in lease\\ *) ;; *) continue ;; esac\n"
    "    echo \"$line\" >>asked\n"
    "    n=$(wc -l <asked)\n"
    "    answer=$(sed -n \"${n}p\" answers)\n"
    "    [ \"$answer\" != dies ] || { echo 'Connection reset by peer' >&2; exit 255; }\n"
    "    printf '\\ncloudplan-guard abc lease %s\\n' \"$answer\"\n"
    "done\n";

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", base, dir);
    mkdir(path, 0700);
    put_file(path_in(path, name), text, mode);
}

static void assert_asked(const char *host, const char *expected)
{
    char path[PATH_MAX], text[4096] = "";
    snprintf(path, sizeof path, "%s/%s/asked", base, host);
    FILE *in = fopen(path, "r");
    if (in) {
        text[fread(text, 1, sizeof text - 1, in)] = '\0';
        fclose(in);
    }
    assert_string_equal(text, expected);
}

static int make_base(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    if (!mkdtemp(base) || child_init(&err))
        return -1;
    put("bin", "ssh", ssh, 0700);
    put("run", "x", "", 0600);
    put_first_in_path(path_in(base, "bin"));
    return 0;
}

static int remove_base(void **state)
{
    (void)state;
    rundir_remove(base);
    return access(base, F_OK) == 0 ? -1 : 0;
}

struct world {
    struct node_list list;
    struct master_params params;
    struct masters *masters;
    char rundir[64];
};

static const struct policy policy = {.mem_per_process = 1000 * MIB, .mem_reserve = 24 * MIB};

/* Nodes a, b ..., open, with 8 cores and room for 4 processes. */
static struct world *world_open(const char *const *answers)
{
    struct world *w = calloc(1, sizeof *w);
    struct error err = ERROR_INIT;
    assert_non_null(w);
    for (size_t i = 0; answers[i]; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        put(name, "answers", answers[i], 0600);
        assert_int_equal(node_list_add(&w->list, name, &err), 0);
        struct node *node = &w->list.nodes[i];
        node->state = NODE_READY;
        node->has_facts = true;
        node->facts.cores = node->facts.cores_online = 8;
        node->facts.mem_total = 16 * GIB;
        node->facts.mem_available = node->facts.mem_machine = 4 * GIB;
    }
    assert_int_equal(plan_make(&w->list, &policy, &err), 0);
    snprintf(w->rundir, sizeof w->rundir, "%s/run", base);
    w->params = (struct master_params){
        .rundir = w->rundir, .chdir = "copy", .run_id = "abc", .timeout_ms = 20000, .root = "/here"};
    w->masters = masters_open(&w->list, &w->params, &err);
    if (!w->masters)
        fail_msg("%s", err.text);
    return w;
}

static void world_close(struct world *w)
{
    masters_close(w->masters, 5000);
    for (size_t i = 0; i < w->list.count; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", base, w->list.nodes[i].name);
        rundir_remove(path);
    }
    node_list_clear(&w->list);
    free(w);
}

static struct lease_outcome take(struct world *w)
{
    struct lease_outcome outcome = LEASE_OUTCOME_INIT;
    struct error err = ERROR_INIT;
    if (lease_all(w->masters, &policy, &outcome, &err))
        fail_msg("%s", err.text);
    return outcome;
}

static void assert_node(const struct world *w, size_t i, enum node_state state, uint32_t processes,
                        const char *reason)
{
    assert_string_equal(w->list.nodes[i].reason, reason);
    assert_int_equal(w->list.nodes[i].state, state);
    assert_int_equal(w->list.nodes[i].processes, processes);
}

static void test_granted(void **state)
{
    (void)state;
    struct world *w = world_open((const char *[]){"ok\n", "ok\n", NULL});
    assert_int_equal(take(w).without, 0);
    assert_node(w, 0, NODE_READY, 4, "");
    assert_asked("a", "lease 4 4000 8 4072\n");
    assert_asked("b", "lease 4 4000 8 4072\n");
    /* Those that have one are not asked again. */
    take(w);
    assert_asked("a", "lease 4 4000 8 4072\n");
    world_close(w);
}

static void test_planned_again(void **state)
{
    (void)state;
    struct world *w = world_open((const char *[]){"taken 2 1500 ci@x\nok\n", "taken 2 4000 ci@x\n", "ok\n",
                                                  "taken 6 100 ci@x\ntaken 7 100 dev@y\nok\n", NULL});
    take(w);
    assert_node(w, 0, NODE_READY, 2, "");
    assert_int_equal(w->list.nodes[0].limited_by, TERM_LEASE);
    assert_asked("a", "lease 4 4000 8 4072\nlease 2 2000 8 4072\n");
    assert_node(w, 1, NODE_UNFIT, 0, "its room is leased: 2 processes with 4000 MiB by ci@x");
    assert_asked("b", "lease 4 4000 8 4072\n");
    assert_node(w, 2, NODE_READY, 4, "");
    assert_asked("c", "lease 4 4000 8 4072\n");
    assert_node(w, 3, NODE_READY, 1, "");
    assert_string_equal(w->list.nodes[3].facts.lease_holder, "dev@y");
    world_close(w);
}

static void test_refused_each_time(void **state)
{
    (void)state;
    struct world *w =
        world_open((const char *[]){"taken 5 0 ci@x\ntaken 6 0 ci@x\ntaken 7 0 ci@x\nok\n", NULL});
    take(w);
    assert_node(w, 0, NODE_UNFIT, 0,
                "its room is being leased by others, by ci@x for one: it was gone 3 times when asked for");
    assert_int_equal(w->list.nodes[0].limited_by, TERM_LEASE);
    assert_asked("a", "lease 4 4000 8 4072\nlease 3 3000 8 4072\nlease 2 2000 8 4072\n");
    world_close(w);
}

static void test_not_possible(void **state)
{
    (void)state;
    struct world *w =
        world_open((const char *[]){"none flock(1) is\033[1m missing there\n", "ok\n", "none other\n", NULL});
    struct lease_outcome outcome = take(w);
    assert_int_equal(outcome.without, 2);
    /* Answers come in any order, are looked at in the list's where they are there. */
    const char *why = strcmp(outcome.name, "a") ? "other" : "flock(1) is?[1m missing there";
    assert_string_equal(outcome.why, why);
    for (size_t i = 0; i < 3; i++)
        assert_node(w, i, NODE_READY, 4, "");
    world_close(w);
}

static void test_nonsense(void **state)
{
    (void)state;
    struct world *w = world_open((const char *[]){"taken\n", "taken 99999999999999999999 0 x\n", "okay\n",
                                                  "taken 1 1 a\033b\n", "dies\n", "ok\n", NULL});
    take(w);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(w->list.nodes[i].state, NODE_FAILED);
        assert_non_null(strstr(w->list.nodes[i].reason, "lease failed: "));
        assert_null(strchr(w->list.nodes[i].reason, '\033'));
    }
    assert_node(w, 4, NODE_OFFLINE, 0, "lease failed: Connection reset by peer");
    assert_node(w, 5, NODE_READY, 4, "");
    world_close(w);
}

static void test_allocations(void **state)
{
    (void)state;
    struct world *w = world_open((const char *[]){"ok\n", NULL});
    for (ALLOC_EACH(n)) {
        struct lease_outcome outcome = LEASE_OUTCOME_INIT;
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = lease_all(w->masters, &policy, &outcome, &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_int_equal(result, failed ? -1 : 0);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
    }
    assert_node(w, 0, NODE_READY, 4, "");
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_granted),           cmocka_unit_test(test_planned_again),
        cmocka_unit_test(test_refused_each_time), cmocka_unit_test(test_not_possible),
        cmocka_unit_test(test_nonsense),          cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
