/* The arithmetic: see plan.h for the formula.
 *
 * Nodes that are one machine are dealt its processes in turn.  That is computed, not played: a node's
 * answer comes from outside and may claim four thousand million cores.  Machines and logins are found by
 * sorting, since to compare all nodes with all others is quadratic. */
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

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

static void size_text(char *text, size_t size, uint64_t bytes)
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
    size_text(total, sizeof total, facts->mem_total);
    if (policy->mem_reserve)
        snprintf(reserve, sizeof reserve, " beside the reserve of %llu MiB", mib_up(policy->mem_reserve));
    node_set(node, NODE_UNFIT, "%llu MiB available of %s%s, %llu MiB needed for one process%s",
             mib_down(facts->mem_available), total,
             facts->mem_available < facts->mem_machine ? " (a cgroup's limit)" : "",
             mib_up(policy->mem_per_process), reserve);
}

/* What the node could hold if it were alone on its machine. */
static void plan_alone(struct node *node, const struct policy *policy)
{
    uint64_t memory = memory_holds(node->facts.mem_available, policy);
    node->processes = node->facts.cores;
    node->limited_by = TERM_CORES;
    if (memory < node->processes) {
        node->processes = (uint32_t)memory;
        node->limited_by = TERM_MEMORY;
    }
    if (policy->max_processes && policy->max_processes < node->processes) {
        node->processes = policy->max_processes;
        node->limited_by = TERM_MAX_PROCESSES;
    }
    if (node->processes > 0)
        return;
    if (node->limited_by == TERM_MEMORY)
        drop_for_memory(node, policy);
    else
        node_set(node, NODE_UNFIT, "no core that this login may use");
}

/* Sum of what the nodes get in so many rounds of one process each. */
static uint64_t dealt(struct node *const *nodes, size_t count, uint64_t rounds)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += nodes[i]->processes < rounds ? nodes[i]->processes : rounds;
    return sum;
}

/* The nodes, in list order and planned alone, are one machine: cuts them down to what it holds. */
static void share_machine(struct node *const *nodes, size_t count, const struct policy *policy)
{
    uint64_t room = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct facts *facts = &nodes[i]->facts;
        uint64_t memory = memory_holds(facts->mem_machine, policy);
        room = facts->cores_online < room ? facts->cores_online : room;
        room = memory < room ? memory : room;
    }
    if (dealt(nodes, count, UINT32_MAX) <= room)
        return;
    uint64_t rounds = 0, too_many = UINT32_MAX; /* full rounds that the machine has room for */
    while (too_many - rounds > 1) {
        uint64_t middle = rounds + (too_many - rounds) / 2;
        if (dealt(nodes, count, middle) <= room)
            rounds = middle;
        else
            too_many = middle;
    }
    uint64_t rest = room - dealt(nodes, count, rounds);
    for (size_t i = 0; i < count; i++) {
        struct node *node = nodes[i];
        if (node->processes <= rounds)
            continue;
        uint32_t share = (uint32_t)rounds + (rest > 0);
        rest -= rest > 0;
        if (share == node->processes)
            continue;
        node->processes = share;
        node->limited_by = TERM_MACHINE;
        if (share == 0)
            node_set(node, NODE_UNFIT,
                     "one of %zu nodes that are the same machine (the first is %s), which has room for "
                     "%llu processes in all: none is left for this one",
                     count, nodes[0]->name, (unsigned long long)room);
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
            share_machine(nodes + i, end - i, policy);
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

/* Whether the plan is enough to go on. */
static int judge(const struct node_list *list, const struct policy *policy, struct error *err)
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
        plan_alone(nodes[i], policy);
    count = keep_ready(nodes, count);
    share_machines(nodes, count, policy);
    free(nodes);
    return judge(list, policy, err);
}
