#include "plan/plan.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The cases of tests/plan say what a plan looks like; here are the edges that JSON's numbers cannot hold, the
 * comparison with a dealer who plays every round, and memory that runs out. */

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static struct node *add(struct node_list *list, const char *name, uint32_t cores, uint64_t mem,
                        const char *boot_id)
{
    assert_int_equal(node_list_add(list, name, NULL), 0);
    struct node *node = &list->nodes[list->count - 1];
    node_set(node, NODE_READY, "%s", "");
    node->has_facts = true;
    node->facts = (struct facts){
        .cores = cores, .cores_online = cores, .mem_total = mem, .mem_machine = mem, .mem_available = mem};
    snprintf(node->facts.boot_id, sizeof node->facts.boot_id, "%s", boot_id);
    return node;
}

static const struct {
    uint32_t cores;
    uint64_t mem;
    struct policy policy;
    uint32_t processes;
    enum plan_term term;
} edges[] = {
    {0, GIB, {0}, 0, TERM_CORES},
    {1, 0, {0}, 1, TERM_CORES},
    {1, 0, {.mem_per_process = 1}, 0, TERM_MEMORY},
    {UINT32_MAX, UINT64_MAX, {.mem_per_process = 1}, UINT32_MAX, TERM_CORES},
    {UINT32_MAX, UINT64_MAX, {0}, UINT32_MAX, TERM_CORES},
    {UINT32_MAX, UINT64_MAX, {.max_processes = UINT32_MAX}, UINT32_MAX, TERM_CORES},
    {UINT32_MAX, UINT64_MAX, {.max_processes = UINT32_MAX - 1}, UINT32_MAX - 1, TERM_MAX_PROCESSES},
    {8, UINT64_MAX, {.mem_per_process = UINT64_MAX}, 1, TERM_MEMORY},
    {8, UINT64_MAX - 1, {.mem_per_process = UINT64_MAX}, 0, TERM_MEMORY},
    {8, UINT64_MAX, {.mem_per_process = 1, .mem_reserve = UINT64_MAX}, 0, TERM_MEMORY},
    {8, UINT64_MAX, {.mem_per_process = 1, .mem_reserve = UINT64_MAX - 1}, 1, TERM_MEMORY},
    {8, UINT64_MAX, {.mem_per_process = UINT64_MAX, .mem_reserve = 1}, 0, TERM_MEMORY},
    {8, 0, {.mem_per_process = 1, .mem_reserve = UINT64_MAX}, 0, TERM_MEMORY},
    /* 2^32 processes and one more fit into the memory: nothing may be cut to 32 bits */
    {8, (UINT64_C(1) << 32) + 1, {.mem_per_process = 1}, 8, TERM_CORES},
    {8, 3999, {.mem_per_process = 1000}, 3, TERM_MEMORY},
    {8, 4000, {.mem_per_process = 1000}, 4, TERM_MEMORY},
    {8, 4000, {.mem_per_process = 1000, .mem_reserve = 1}, 3, TERM_MEMORY},
    /* ties */
    {4, 4000, {.mem_per_process = 1000, .max_processes = 4}, 4, TERM_CORES},
    {5, 4000, {.mem_per_process = 1000, .max_processes = 4}, 4, TERM_MEMORY},
    /* one for each interpreter */
    {0, GIB, {.each = 1}, 0, TERM_CORES},
    {1, 0, {.mem_per_process = 1, .each = 1}, 0, TERM_MEMORY},
    {1, GIB, {.each = 2}, 0, TERM_CORES},
    {UINT32_MAX - 1, GIB, {.each = UINT32_MAX}, 0, TERM_CORES},
    {UINT32_MAX, GIB, {.max_processes = UINT32_MAX - 1, .each = UINT32_MAX}, 0, TERM_MAX_PROCESSES},
    {8, 3999, {.mem_per_process = 1000, .each = 4}, 0, TERM_MEMORY},
    {8, 4000, {.mem_per_process = 1000, .each = 4}, 4, TERM_EACH},
    {4, 4000, {.mem_per_process = 1000, .max_processes = 4, .each = 4}, 4, TERM_EACH},
    {UINT32_MAX, UINT64_MAX, {.mem_per_process = 1, .each = UINT32_MAX}, UINT32_MAX, TERM_EACH},
    {UINT32_MAX, UINT64_MAX, {.each = 1}, 1, TERM_EACH},
};

static void test_edges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        struct node_list list = NODE_LIST_INIT;
        struct error err = ERROR_INIT;
        struct node *node = add(&list, "a", edges[i].cores, edges[i].mem, "");
        int result = plan_make(&list, &edges[i].policy, &err);
        bool fits = edges[i].processes > 0;
        if (node->processes != edges[i].processes || node->limited_by != edges[i].term)
            fail_msg("edge %zu: %u processes by %s", i, node->processes, plan_term_name(node->limited_by));
        assert_int_equal(result, fits ? 0 : -1);
        assert_int_equal(err.status, fits ? 0 : STATUS_UNAVAILABLE);
        assert_int_equal(node->state, fits ? NODE_READY : NODE_UNFIT);
        assert_int_equal(node->reason[0] == '\0', fits);
        node_list_clear(&list);
    }
}

static void test_huge_sizes_in_reasons(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = UINT64_MAX, .mem_reserve = UINT64_MAX};
    struct node *node = add(&list, "a", 1, UINT64_MAX, "");
    assert_int_equal(plan_make(&list, &policy, NULL), -1);
    assert_string_equal(
        node->reason, "17592186044415 MiB available of 17179869183.9 GiB, 17592186044416 MiB needed for one "
                      "process beside the reserve of 17592186044416 MiB");
    node_list_clear(&list);
}

/* One byte too little must not read as if it were enough. */
static void test_rounding_in_reasons(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = 1000 * MIB};
    struct node *node = add(&list, "a", 1, 1000 * MIB - 1, "");
    assert_int_equal(plan_make(&list, &policy, NULL), -1);
    assert_string_equal(node->reason, "999 MiB available of 999 MiB, 1000 MiB needed for one process");
    node_list_clear(&list);
}

/* A machine whose nodes claim thousands of millions of cores is dealt at once. */
static void test_huge_machine(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = 1};
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "n%d", i);
        add(&list, name, UINT32_MAX, UINT64_MAX, "boot");
    }
    assert_int_equal(plan_make(&list, &policy, NULL), 0);
    assert_int_equal(node_list_processes(&list), UINT32_MAX);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(list.nodes[i].processes, UINT32_MAX / 3);
        assert_int_equal(list.nodes[i].limited_by, TERM_MACHINE);
    }
    node_list_clear(&list);
}

/* The same machine with --dist=each: whole nodes, or none where not even one fits. */
static void test_huge_machine_each(void **state)
{
    (void)state;
    static const struct {
        uint32_t each;
        size_t served;
    } cases[] = {
        {1, 3}, {UINT32_MAX / 3, 3}, {UINT32_MAX / 3 + 1, 2}, {UINT32_MAX / 2 + 1, 1}, {UINT32_MAX, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct node_list list = NODE_LIST_INIT;
        struct policy policy = {.mem_per_process = 1, .each = cases[c].each};
        for (int i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof name, "n%d", i);
            add(&list, name, UINT32_MAX, UINT64_MAX, "boot");
        }
        assert_int_equal(plan_make(&list, &policy, NULL), 0);
        for (size_t i = 0; i < 3; i++) {
            bool served = i < cases[c].served;
            assert_int_equal(list.nodes[i].processes, served ? cases[c].each : 0);
            assert_int_equal(list.nodes[i].limited_by, served ? TERM_EACH : TERM_MACHINE);
        }
        node_list_clear(&list);
    }
}

/* The longest reason there can be is not cut. */
static void test_reasons_of_each_fit(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = 1, .each = UINT32_MAX};
    char name[NODE_NAME_MAX];
    memset(name, 'n', sizeof name);
    name[sizeof name - 2] = '\0';
    add(&list, name, UINT32_MAX, UINT64_MAX, "boot");
    add(&list, "b", UINT32_MAX, UINT64_MAX, "boot");
    list.nodes[0].facts.login_id[0] = 'a';
    list.nodes[0].facts.mem_machine = UINT32_MAX - 1;
    assert_int_equal(plan_make(&list, &policy, NULL), -1);
    for (size_t i = 0; i < 2; i++) {
        const char *reason = list.nodes[i].reason;
        assert_string_equal(reason + strlen(reason) - strlen("one for each --cloud-python takes"),
                            "one for each --cloud-python takes");
        assert_non_null(strstr(reason, "4294967294 processes in all: 4294967294 left of the 4294967295"));
    }
    node_list_clear(&list);
}

static void test_planned_twice(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = GIB};
    add(&list, "a", 4, 2 * GIB, "boot");
    add(&list, "b", 4, 2 * GIB, "boot");
    assert_int_equal(plan_make(&list, &policy, NULL), 0);
    policy.mem_per_process = 0;
    assert_int_equal(plan_make(&list, &policy, NULL), 0);
    assert_int_equal(list.nodes[0].processes, 2);
    assert_int_equal(list.nodes[1].processes, 2);
    assert_int_equal(list.nodes[0].limited_by, TERM_MACHINE);
    node_list_clear(&list);
}

/* Facts count only where they are said to be there, and other states keep theirs. */
static void test_other_states(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    struct policy policy = {0};
    add(&list, "a", 4, GIB, "boot");
    node_set(&list.nodes[0], NODE_FAILED, "the disk is full");
    add(&list, "b", 4, GIB, "boot");
    list.nodes[1].has_facts = false;
    assert_int_equal(plan_make(&list, &policy, &err), -1);
    assert_string_equal(err.text, "no usable node of 2: a: the disk is full");
    assert_int_equal(list.nodes[0].state, NODE_FAILED);
    assert_int_equal(list.nodes[1].processes, 0);
    node_list_clear(&list);
}

static void test_no_node_at_all(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    struct policy policy = {0};
    assert_int_equal(plan_make(&list, &policy, &err), -1);
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
}

/* The definition of the dealing, played: one process each, in list order, while there is room. */
static void play(const struct node_list *list, const struct policy *policy, const uint32_t *caps,
                 uint32_t *shares)
{
    for (size_t m = 0; m < list->count; m++) {
        const char *boot_id = list->nodes[m].facts.boot_id;
        uint64_t room = UINT64_MAX;
        size_t members = 0;
        for (size_t i = 0; i < list->count; i++) {
            const struct facts *facts = &list->nodes[i].facts;
            if (strcmp(facts->boot_id, boot_id) != 0 || caps[i] == 0)
                continue;
            uint64_t memory = facts->mem_machine < policy->mem_reserve
                                  ? 0
                                  : (facts->mem_machine - policy->mem_reserve) / policy->mem_per_process;
            members++;
            room = memory < room ? memory : room;
            room = facts->cores_online < room ? facts->cores_online : room;
            shares[i] = 0;
        }
        bool any = members > 0;
        while (any && (room > 0 || members == 1)) {
            any = false;
            for (size_t i = 0; i < list->count; i++) {
                if (strcmp(list->nodes[i].facts.boot_id, boot_id) != 0 || shares[i] == caps[i])
                    continue;
                if (room == 0 && members > 1)
                    break;
                shares[i]++;
                room -= room > 0;
                any = true;
            }
        }
    }
}

static void test_same_as_played(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 3000; round++) {
        struct node_list list = NODE_LIST_INIT;
        struct policy policy = {.mem_per_process = 1 + (uint64_t)(rand_r(&seed) % 3),
                                .mem_reserve = (uint64_t)(rand_r(&seed) % 4),
                                .max_processes = (uint32_t)(rand_r(&seed) % 6)};
        uint32_t caps[8] = {0}, shares[8] = {0};
        size_t count = 1 + (size_t)(rand_r(&seed) % 8);
        for (size_t i = 0; i < count; i++) {
            char name[32], boot_id[32];
            snprintf(name, sizeof name, "n%zu", i);
            snprintf(boot_id, sizeof boot_id, "%d", rand_r(&seed) % 3);
            struct node *node = add(&list, name, (uint32_t)(rand_r(&seed) % 9), 0, boot_id);
            node->facts.cores_online = node->facts.cores + (uint32_t)(rand_r(&seed) % 9);
            node->facts.mem_available = (uint64_t)(rand_r(&seed) % 20);
            node->facts.mem_machine = node->facts.mem_available + (uint64_t)(rand_r(&seed) % 20);
            node->facts.mem_total = node->facts.mem_machine;
            uint64_t memory = node->facts.mem_available < policy.mem_reserve
                                  ? 0
                                  : (node->facts.mem_available - policy.mem_reserve) / policy.mem_per_process;
            uint64_t cap = memory < node->facts.cores ? memory : node->facts.cores;
            caps[i] =
                (uint32_t)(policy.max_processes && policy.max_processes < cap ? policy.max_processes : cap);
        }
        play(&list, &policy, caps, shares);
        plan_make(&list, &policy, NULL);
        for (size_t i = 0; i < count; i++) {
            const struct node *node = &list.nodes[i];
            if (node->processes != shares[i])
                fail_msg("round %d, node %zu: %u processes, not %u", round, i, node->processes, shares[i]);
            assert_int_equal(node->state, shares[i] ? NODE_READY : NODE_UNFIT);
            assert_int_equal(node->reason[0] != '\0', shares[i] == 0);
            assert_int_equal(node->limited_by == TERM_MACHINE, shares[i] < caps[i]);
        }
        node_list_clear(&list);
    }
}

/* The definition for --dist=each, played: all of a node's processes or none, in list order, while there is room. */
static void play_each(const struct node_list *list, const struct policy *policy, const uint32_t *caps,
                      uint32_t *shares)
{
    for (size_t i = 0; i < list->count; i++)
        shares[i] = caps[i] < policy->each ? 0 : policy->each;
    for (int machine = 0; machine < 3; machine++) {
        char boot_id[32];
        snprintf(boot_id, sizeof boot_id, "%d", machine);
        uint64_t room = UINT64_MAX;
        size_t members = 0;
        for (size_t i = 0; i < list->count; i++) {
            const struct facts *facts = &list->nodes[i].facts;
            if (strcmp(facts->boot_id, boot_id) != 0 || shares[i] == 0)
                continue;
            uint64_t memory = facts->mem_machine / policy->mem_per_process;
            room = memory < room ? memory : room;
            room = facts->cores_online < room ? facts->cores_online : room;
            members++;
        }
        for (size_t i = 0; members > 1 && i < list->count; i++) {
            if (strcmp(list->nodes[i].facts.boot_id, boot_id) != 0 || shares[i] == 0)
                continue;
            if (room < policy->each)
                shares[i] = 0;
            room -= shares[i];
        }
    }
}

static void test_each_same_as_played(void **state)
{
    (void)state;
    unsigned seed = 2;
    size_t cut = 0;
    for (int round = 0; round < 3000; round++) {
        struct node_list list = NODE_LIST_INIT;
        struct policy policy = {.mem_per_process = 1 + (uint64_t)(rand_r(&seed) % 2),
                                .each = 1 + (uint32_t)(rand_r(&seed) % 4)};
        uint32_t caps[8] = {0}, shares[8] = {0};
        size_t count = 1 + (size_t)(rand_r(&seed) % 8);
        for (size_t i = 0; i < count; i++) {
            char name[32], boot_id[32];
            snprintf(name, sizeof name, "n%zu", i);
            snprintf(boot_id, sizeof boot_id, "%d", rand_r(&seed) % 3);
            struct node *node = add(&list, name, (uint32_t)(rand_r(&seed) % 9), 0, boot_id);
            node->facts.cores_online = node->facts.cores + (uint32_t)(rand_r(&seed) % 9);
            node->facts.mem_available = (uint64_t)(rand_r(&seed) % 20);
            node->facts.mem_machine = node->facts.mem_available + (uint64_t)(rand_r(&seed) % 20);
            uint64_t memory = node->facts.mem_available / policy.mem_per_process;
            caps[i] = (uint32_t)(memory < node->facts.cores ? memory : node->facts.cores);
        }
        play_each(&list, &policy, caps, shares);
        plan_make(&list, &policy, NULL);
        for (size_t i = 0; i < count; i++) {
            const struct node *node = &list.nodes[i];
            if (node->processes != shares[i])
                fail_msg("round %d, node %zu: %u processes, not %u", round, i, node->processes, shares[i]);
            assert_int_equal(node->state, shares[i] ? NODE_READY : NODE_UNFIT);
            assert_int_equal(node->reason[0] != '\0', shares[i] == 0);
            assert_int_equal(node->limited_by == TERM_EACH, shares[i] > 0);
            assert_int_equal(node->limited_by == TERM_MACHINE, shares[i] == 0 && caps[i] >= policy.each);
            cut += node->limited_by == TERM_MACHINE;
        }
        node_list_clear(&list);
    }
    assert_true(cut > 500); /* the rounds were worth playing */
}

static void lease(struct node *node, uint32_t cores, uint64_t mem, const char *holder)
{
    node->facts.lease_count = 1;
    node->facts.lease_cores = cores;
    node->facts.lease_mem = mem;
    snprintf(node->facts.lease_holder, sizeof node->facts.lease_holder, "%s", holder);
}

/* Nodes that are machines of their own: what a lease leaves is what a node without that much would have, and lease
 * is the term where that is less. */
static void test_lease_same_as_smaller(void **state)
{
    (void)state;
    unsigned seed = 3;
    size_t decided = 0;
    for (int round = 0; round < 5000; round++) {
        struct node_list list = NODE_LIST_INIT;
        struct policy policy = {.mem_per_process = (uint64_t)(rand_r(&seed) % 4),
                                .mem_reserve = (uint64_t)(rand_r(&seed) % 4),
                                .max_processes = (uint32_t)(rand_r(&seed) % 6)};
        uint32_t cores = 1 + (uint32_t)(rand_r(&seed) % 8), leased = (uint32_t)(rand_r(&seed) % 9);
        uint64_t mem = (uint64_t)(rand_r(&seed) % 30), leased_mem = (uint64_t)(rand_r(&seed) % 30);
        add(&list, "whole", cores, mem, "");
        add(&list, "smaller", leased < cores ? cores - leased : 0, leased_mem < mem ? mem - leased_mem : 0,
            "");
        add(&list, "leased", cores, mem, "");
        lease(&list.nodes[2], leased, leased_mem, "ci@a");
        plan_make(&list, &policy, NULL);
        const struct node *whole = &list.nodes[0], *smaller = &list.nodes[1], *node = &list.nodes[2];
        bool less = smaller->processes < whole->processes;
        assert_int_equal(node->processes, smaller->processes);
        assert_int_equal(node->state, smaller->state);
        assert_int_equal(node->limited_by, less ? TERM_LEASE : whole->limited_by);
        assert_int_equal(less && !node->processes,
                         strstr(node->reason, "its room is leased: ") == node->reason);
        decided += less;
        policy.no_lease = true;
        for (size_t i = 0; i < 3; i++)
            node_set(&list.nodes[i], NODE_READY, "%s", "");
        plan_make(&list, &policy, NULL);
        assert_int_equal(node->processes, whole->processes);
        assert_int_equal(node->limited_by, whole->limited_by);
        node_list_clear(&list);
    }
    assert_true(decided > 1000);
}

/* Nodes of one machine see the same leases: together they get what is left of it, whatever their number. */
static void test_lease_on_machine(void **state)
{
    (void)state;
    for (size_t count = 1; count <= 6; count++) {
        for (uint32_t leased = 0; leased <= 12; leased++) {
            struct node_list list = NODE_LIST_INIT;
            struct policy policy = {.mem_per_process = GIB};
            for (size_t i = 0; i < count; i++) {
                char name[32];
                snprintf(name, sizeof name, "n%zu", i);
                lease(add(&list, name, 12, 64 * GIB, "boot"), leased, leased * GIB, "ci@a");
            }
            plan_make(&list, &policy, NULL);
            assert_int_equal(node_list_processes(&list), 12 - leased);
            for (size_t i = 0; i < count; i++) {
                const struct node *node = &list.nodes[i];
                uint32_t unleased = 12 / (uint32_t)count + (i < 12 % count);
                if (node->processes < unleased)
                    assert_int_equal(node->limited_by, TERM_LEASE);
                else
                    assert_int_equal(node->limited_by, count == 1 ? TERM_CORES : TERM_MACHINE);
            }
            node_list_clear(&list);
        }
    }
}

static void test_largest_leases(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = 1};
    char holder[FACTS_HOLDER_MAX];
    memset(holder, 'h', sizeof holder - 1);
    holder[sizeof holder - 1] = '\0';
    struct node *node = add(&list, "a", UINT32_MAX, UINT64_MAX, "");
    lease(node, UINT32_MAX - 1, UINT64_MAX, holder);
    node->facts.lease_count = UINT32_MAX;
    assert_int_equal(plan_make(&list, &policy, NULL), -1);
    assert_string_equal(
        node->reason,
        "its room is leased: 4294967294 processes with 17592186044416 MiB by "
        "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh (and 4294967294 more)");
    node_set(node, NODE_READY, "%s", "");
    lease(node, UINT32_MAX - 1, UINT64_MAX - 2, holder);
    assert_int_equal(plan_make(&list, &policy, NULL), 0);
    assert_int_equal(node->processes, 1);
    node_list_clear(&list);
}

/* Planned again, a node never gets more than its share of the plan. */
static void test_plan_node(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = GIB, .min_processes = 4};
    struct error err = ERROR_INIT;
    add(&list, "a", 8, 8 * GIB, "boot");
    add(&list, "b", 8, 8 * GIB, "boot");
    struct node *a = &list.nodes[0], *b = &list.nodes[1];
    assert_int_equal(plan_make(&list, &policy, NULL), 0);
    assert_int_equal(a->processes, 4);
    assert_int_equal(facts_set_lease(&a->facts, "2 0 ci@x", NULL), 0);
    assert_int_equal(plan_node(a, &policy), 0);
    assert_int_equal(a->processes, 4); /* 6 would be left, but b has 4 */
    assert_int_equal(a->limited_by, TERM_MACHINE);
    assert_int_equal(facts_set_lease(&a->facts, "5 1024 ci@x", NULL), 0);
    assert_int_equal(plan_node(a, &policy), 0);
    assert_int_equal(a->processes, 3);
    assert_int_equal(a->limited_by, TERM_LEASE);
    assert_int_equal(plan_judge(&list, &policy, &err), 0);
    assert_int_equal(facts_set_lease(&a->facts, "1 7169 ci@x", NULL), 0);
    assert_int_equal(plan_node(a, &policy), -1);
    assert_int_equal(a->state, NODE_UNFIT);
    assert_int_equal(a->limited_by, TERM_LEASE);
    assert_string_equal(a->reason, "its room is leased: 1 process with 7169 MiB by ci@x");
    assert_int_equal(plan_judge(&list, &policy, &err), 0);
    assert_int_equal(facts_set_lease(&b->facts, "7 0 ci@x", NULL), 0);
    assert_int_equal(plan_node(b, &policy), 0);
    assert_int_equal(b->processes, 1);
    assert_int_equal(plan_judge(&list, &policy, &err), -1);
    assert_int_equal(err.status, STATUS_CAPACITY);
    policy.each = 2;
    assert_int_equal(plan_node(b, &policy), -1);
    assert_string_equal(b->reason, "room for 1 of the 2 processes that one for each --cloud-python takes, "
                                   "limited by lease: 7 processes by ci@x");
    err = (struct error)ERROR_INIT;
    assert_int_equal(plan_judge(&list, &policy, &err), -1);
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
    node_list_clear(&list);
}

/* As many nodes as there can be, all on one machine: no quadratic search. */
static void test_many_nodes(void **state)
{
    (void)state;
    struct node_list list = NODE_LIST_INIT;
    struct policy policy = {.mem_per_process = GIB};
    assert_int_equal(node_list_add(&list, "n{1..10000}", NULL), 0);
    for (size_t i = 0; i < list.count; i++) {
        struct node *node = &list.nodes[i];
        node_set(node, NODE_READY, "%s", "");
        node->has_facts = true;
        node->facts = (struct facts){.cores = 64,
                                     .cores_online = 15000,
                                     .mem_total = 20000 * GIB,
                                     .mem_machine = 20000 * GIB,
                                     .mem_available = 20000 * GIB,
                                     .boot_id = "boot"};
        snprintf(node->facts.login_id, sizeof node->facts.login_id, "ci@%zu", i % 9999);
    }
    assert_int_equal(plan_make(&list, &policy, NULL), 0);
    assert_int_equal(node_list_processes(&list), 15000);
    assert_int_equal(list.nodes[0].processes, 2);
    assert_int_equal(list.nodes[5000].processes, 2);
    assert_int_equal(list.nodes[5001].processes, 1);
    assert_int_equal(list.nodes[9999].state, NODE_UNFIT);
    assert_string_equal(list.nodes[9999].reason, "the same login on the same machine as n1");
    node_list_clear(&list);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct policy policy = {.mem_per_process = GIB};
    struct node_list list = NODE_LIST_INIT;
    add(&list, "a", 4, 2 * GIB, "boot");
    add(&list, "b", 4, 2 * GIB, "boot");
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = plan_make(&list, &policy, &err);
        bool failed = alloc_has_failed();
        assert_int_equal(result, failed ? -1 : 0);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
    }
    assert_int_equal(node_list_processes(&list), 2);
    node_list_clear(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_huge_sizes_in_reasons),
        cmocka_unit_test(test_rounding_in_reasons),
        cmocka_unit_test(test_huge_machine),
        cmocka_unit_test(test_huge_machine_each),
        cmocka_unit_test(test_reasons_of_each_fit),
        cmocka_unit_test(test_planned_twice),
        cmocka_unit_test(test_other_states),
        cmocka_unit_test(test_no_node_at_all),
        cmocka_unit_test(test_same_as_played),
        cmocka_unit_test(test_each_same_as_played),
        cmocka_unit_test(test_lease_same_as_smaller),
        cmocka_unit_test(test_lease_on_machine),
        cmocka_unit_test(test_largest_leases),
        cmocka_unit_test(test_plan_node),
        cmocka_unit_test(test_many_nodes),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
