/* The arithmetic: see plan.h for the formula.
 *
 * Nodes that are one machine are dealt its processes in turn.  That is computed, not played: a node's
 * answer comes from outside and may claim four thousand million cores.  Machines and logins are found by
 * sorting, since to compare all nodes with all others is quadratic. */
#include "plan/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define LEASE_TEXT_MAX 192 /* bytes */

/* What is shown as there is rounded down, what is needed is rounded up: rounding must not
 * make a shortage look like enough. */
static unsigned long long mib_down(uint64_t bytes)
{
    return bytes / MIB;
}

static unsigned long long mib_up(uint64_t bytes)
{
    return bytes / MIB + (bytes % MIB != 0);
}

static void memory_text(char *text, size_t size, uint64_t bytes)
{
    if (bytes < GIB)
        snprintf(text, size, "%llu MiB", mib_down(bytes));
    else
        snprintf(text, size, "%llu.%llu GiB", (unsigned long long)(bytes / GIB),
                 (unsigned long long)(bytes % GIB * 10 / GIB));
}

/* How many processes fit into bytes of memory; UINT64_MAX where memory sets no limit. */
static uint64_t memory_holds(uint64_t bytes, const struct policy *policy)
{
    if (policy->mem_per_process == 0)
        return UINT64_MAX;
    return bytes > policy->mem_reserve ? (bytes - policy->mem_reserve) / policy->mem_per_process : 0;
}

static void drop_for_memory(struct node *node, const struct policy *policy)
{
    const struct facts *facts = &node->facts;
    char total[32], reserve[64] = "";
    memory_text(total, sizeof total, facts->mem_total);
    if (policy->mem_reserve)
        snprintf(reserve, sizeof reserve, " beside the reserve of %llu MiB", mib_up(policy->mem_reserve));
    node_set(node, NODE_UNFIT, "%llu MiB available of %s%s, %llu MiB needed for one process%s",
             mib_down(facts->mem_available), total,
             facts->mem_available < facts->mem_machine ? " (a cgroup's limit)" : "",
             mib_up(policy->mem_per_process), reserve);
}

static uint64_t less(uint64_t whole, uint64_t part)
{
    return whole > part ? whole - part : 0;
}

/* What the leases are that a node's reason speaks of: "8 processes by jenkins@ci1 (and 1 more)". */
static void lease_text(char text[LEASE_TEXT_MAX], const struct facts *facts)
{
    char memory[48] = "", more[32] = "";
    if (facts->lease_cores < facts->cores &&
        facts->lease_mem) /* not all of its cores: it may be the memory */
        snprintf(memory, sizeof memory, " with %llu MiB", mib_up(facts->lease_mem));
    if (facts->lease_count > 1)
        snprintf(more, sizeof more, " (and %u more)", facts->lease_count - 1);
    snprintf(text, LEASE_TEXT_MAX, "%u process%s%s by %s%s", facts->lease_cores,
             facts->lease_cores == 1 ? "" : "es", memory, facts->lease_holder, more);
}

static void drop_for_lease(struct node *node)
{
    char text[LEASE_TEXT_MAX];
    lease_text(text, &node->facts);
    node_set(node, NODE_UNFIT, "its room is leased: %s", text);
}

/* How many processes the login has room for, beside leases of so much, and what decided that. */
static uint32_t room_for(const struct facts *facts, uint32_t lease_cores, uint64_t lease_mem,
                         const struct policy *policy, enum plan_term *term)
{
    uint64_t memory = memory_holds(less(facts->mem_available, lease_mem), policy);
    uint64_t processes = less(facts->cores, lease_cores);
    *term = TERM_CORES;
    if (memory < processes) {
        processes = memory;
        *term = TERM_MEMORY;
    }
    if (policy->max_processes && policy->max_processes < processes) {
        processes = policy->max_processes;
        *term = TERM_MAX_PROCESSES;
    }
    return (uint32_t)processes;
}

/* What the node could hold if it were alone on its machine. */
static void plan_alone(struct node *node, const struct policy *policy)
{
    const struct facts *facts = &node->facts;
    enum plan_term term;
    node->processes = room_for(facts, 0, 0, policy, &node->limited_by);
    if (!policy->no_lease) {
        uint32_t left = room_for(facts, facts->lease_cores, facts->lease_mem, policy, &term);
        if (left < node->processes) {
            node->processes = left;
            node->limited_by = TERM_LEASE;
        }
    }
    if (node->processes > 0)
        return;
    if (node->limited_by == TERM_LEASE)
        drop_for_lease(node);
    else if (node->limited_by == TERM_MEMORY)
        drop_for_memory(node, policy);
    else
        node_set(node, NODE_UNFIT, "no core that this login may use");
}

/* With --dist=each a node is of use only where it holds one process for each interpreter. */
static void plan_each(struct node *node, uint32_t each)
{
    if (node->processes >= each) {
        node->processes = each;
        node->limited_by = TERM_EACH;
        return;
    }
    char text[LEASE_TEXT_MAX] = "";
    bool leased = node->limited_by == TERM_LEASE;
    if (leased)
        lease_text(text, &node->facts);
    node_set(node, NODE_UNFIT,
             "room for %u of the %u processes that one for each --cloud-python takes, limited by %s%s%s",
             node->processes, each, plan_term_name(node->limited_by), leased ? ": " : "", text);
}

/* What the node is given, if its machine has the room. */
static void plan_login(struct node *node, const struct policy *policy)
{
    plan_alone(node, policy);
    if (policy->each && node->state == NODE_READY)
        plan_each(node, policy->each);
}

/* Sum of what the nodes get in so many rounds of one process each. */
static uint64_t dealt(struct node *const *nodes, size_t count, uint64_t rounds)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += nodes[i]->processes < rounds ? nodes[i]->processes : rounds;
    return sum;
}

/* How many processes the machine holds that the nodes are; without the leases, or beside them. */
static uint64_t machine_holds(struct node *const *nodes, size_t count, const struct policy *policy,
                              bool leased)
{
    uint64_t room = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct facts *facts = &nodes[i]->facts;
        uint64_t memory = memory_holds(less(facts->mem_machine, leased ? facts->lease_mem : 0), policy);
        uint64_t cores = less(facts->cores_online, leased ? facts->lease_cores : 0);
        room = cores < room ? cores : room;
        room = memory < room ? memory : room;
    }
    return room;
}

/* A share of what the nodes' machine holds: so many full rounds of one process each, and one more for the first
 * of those nodes that can take it. */
struct deal {
    uint64_t rounds, rest;
};

static struct deal deal_out(struct node *const *nodes, size_t count, uint64_t room)
{
    struct deal deal = {.rounds = UINT32_MAX};
    if (dealt(nodes, count, UINT32_MAX) <= room)
        return deal;
    uint64_t too_many = UINT32_MAX;
    deal.rounds = 0;
    while (too_many - deal.rounds > 1) {
        uint64_t middle = deal.rounds + (too_many - deal.rounds) / 2;
        if (dealt(nodes, count, middle) <= room)
            deal.rounds = middle;
        else
            too_many = middle;
    }
    deal.rest = room - dealt(nodes, count, deal.rounds);
    return deal;
}

/* What the next node gets that could hold so many processes. */
static uint32_t deal_next(struct deal *deal, uint32_t processes)
{
    if (processes <= deal->rounds)
        return processes;
    uint32_t share = (uint32_t)deal->rounds + (deal->rest > 0);
    deal->rest -= deal->rest > 0;
    return share;
}

static void drop_for_machine(struct node *node, struct node *const *nodes, size_t count, uint64_t room,
                             const struct policy *policy, bool leased)
{
    char beside[LEASE_TEXT_MAX + 32] = "", left[160] = "none is left for this one", lease[LEASE_TEXT_MAX];
    if (leased) {
        lease_text(lease, &node->facts);
        snprintf(beside, sizeof beside, " beside the leased %s", lease);
    }
    if (policy->each)
        snprintf(left, sizeof left, "%llu left of the %u that one for each --cloud-python takes",
                 (unsigned long long)(room % policy->each), policy->each);
    node->limited_by = leased ? TERM_LEASE : TERM_MACHINE;
    node_set(node, NODE_UNFIT,
             "one of %zu nodes that are the same machine (the first is %s), which has room for %llu "
             "processes in all%s: %s",
             count, nodes[0]->name, (unsigned long long)room, beside, left);
}

/* The nodes, in list order and planned alone, are one machine: serves them as long as it holds all of a node's
 * processes. */
static void share_machine_each(struct node *const *nodes, size_t count, const struct policy *policy)
{
    uint64_t room = machine_holds(nodes, count, policy, !policy->no_lease);
    uint64_t unleased = machine_holds(nodes, count, policy, false) / policy->each;
    for (uint64_t i = room / policy->each; i < count; i++)
        drop_for_machine(nodes[i], nodes, count, room, policy, i < unleased);
}

/* The nodes, in list order and planned alone, are one machine: cuts them down to what it holds. */
static void share_machine(struct node *const *nodes, size_t count, const struct policy *policy)
{
    uint64_t room = machine_holds(nodes, count, policy, !policy->no_lease);
    struct deal deal = deal_out(nodes, count, room);
    struct deal unleased = deal_out(nodes, count, machine_holds(nodes, count, policy, false));
    for (size_t i = 0; i < count; i++) {
        struct node *node = nodes[i];
        uint32_t share = deal_next(&deal, node->processes);
        bool leased = share < deal_next(&unleased, node->processes);
        if (share == 0) {
            drop_for_machine(node, nodes, count, room, policy, leased);
        } else if (share < node->processes) {
            node->processes = share;
            node->limited_by = leased ? TERM_LEASE : TERM_MACHINE;
        }
    }
}

static int by_position(const struct node *a, const struct node *b)
{
    return (a > b) - (a < b); /* both are in the list's array */
}

static int by_machine(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    int order = strcmp(x->facts.boot_id, y->facts.boot_id);
    return order ? order : by_position(x, y);
}

static int by_login(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    int order = strcmp(x->facts.boot_id, y->facts.boot_id);
    if (order == 0)
        order = strcmp(x->facts.login_id, y->facts.login_id);
    return order ? order : by_position(x, y);
}

static void drop_same_logins(struct node **nodes, size_t count)
{
    qsort(nodes, count, sizeof *nodes, by_login);
    struct node *first = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct facts *facts = &nodes[i]->facts;
        bool known = facts->boot_id[0] && facts->login_id[0];
        if (known && first && strcmp(first->facts.boot_id, facts->boot_id) == 0 &&
            strcmp(first->facts.login_id, facts->login_id) == 0)
            node_set(nodes[i], NODE_UNFIT, "the same login on the same machine as %s", first->name);
        else
            first = nodes[i];
    }
}

static void share_machines(struct node **nodes, size_t count, const struct policy *policy)
{
    qsort(nodes, count, sizeof *nodes, by_machine);
    for (size_t i = 0, end; i < count; i = end) {
        const char *boot_id = nodes[i]->facts.boot_id;
        for (end = i + 1; end < count && boot_id[0] && strcmp(nodes[end]->facts.boot_id, boot_id) == 0; end++)
            ;
        if (end - i > 1)
            (policy->each ? share_machine_each : share_machine)(nodes + i, end - i, policy);
    }
}

static size_t keep_ready(struct node **nodes, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (nodes[i]->state == NODE_READY)
            nodes[kept++] = nodes[i];
    return kept;
}

int plan_judge(const struct node_list *list, const struct policy *policy, struct error *err)
{
    uint64_t processes = node_list_processes(list);
    if (processes == 0)
        return node_list_unusable(list, err);
    if (processes < policy->min_processes)
        return error_set(err, STATUS_CAPACITY,
                         "room for %llu of the %u processes that --cloud-min-processes asks for (nodes: %zu "
                         "of %zu usable)",
                         (unsigned long long)processes, policy->min_processes, node_list_ready(list),
                         list->count);
    return 0;
}

int plan_make(struct node_list *list, const struct policy *policy, struct error *err)
{
    struct node **nodes = calloc(list->count ? list->count : 1, sizeof *nodes);
    if (!nodes)
        return error_errno(err, "the plan");
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        node->processes = 0;
        node->limited_by = TERM_NONE;
        if (node->state == NODE_READY && node->has_facts)
            nodes[count++] = node;
    }
    drop_same_logins(nodes, count);
    count = keep_ready(nodes, count);
    for (size_t i = 0; i < count; i++)
        plan_login(nodes[i], policy);
    count = keep_ready(nodes, count);
    share_machines(nodes, count, policy);
    free(nodes);
    return plan_judge(list, policy, err);
}

int plan_node(struct node *node, const struct policy *policy)
{
    uint32_t processes = node->processes;
    enum plan_term term = node->limited_by;
    plan_login(node, policy);
    if (node->state != NODE_READY)
        return -1;
    if (node->processes >= processes) { /* others of its machine may have the rest */
        node->processes = processes;
        node->limited_by = term;
    }
    return 0;
}
