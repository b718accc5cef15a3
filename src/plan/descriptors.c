/* Worst cases rather than usual ones: what is left over is the tests' own.
 *
 * Here: three pipes for each master.  In a master: four descriptors for each session (three streams and the client's
 * socket).  In the engine: what it says itself.  This machine's own workers have a master no more than a
 * node here; they cost what others cost in the engine.
 */
#include "plan/descriptors.h"

#include <stdbool.h>
#include <sys/resource.h>

enum {
    HERE = 31, /* standard streams, libraries, the next child's pipes, those of this machine's own lease */
    HERE_NODE = 3,
    MASTER = 12, /* standard streams, the connection, its own session, the control socket */
    MASTER_WORKER = 4,
};

static uint64_t raised_from; /* 0: not raised yet */

uint64_t descriptors_given(void)
{
    return raised_from;
}

uint64_t descriptors_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return UINT64_MAX;
    rlim_t soft = limit.rlim_cur;
    if (!raised_from && soft != limit.rlim_max)
        raised_from = soft;
    limit.rlim_cur = limit.rlim_max;
    /* macOS refuses what Linux allows. */
    rlim_t now = setrlimit(RLIMIT_NOFILE, &limit) ? soft : limit.rlim_max;
    return now == RLIM_INFINITY ? UINT64_MAX : now;
}

/* How many things of so many descriptors each fit beside a base. */
static uint64_t fit(uint64_t limit, uint64_t base, uint64_t each)
{
    return limit <= base ? 0 : each ? (limit - base) / each : UINT64_MAX;
}

static uint64_t engine_workers(uint64_t limit, const struct descriptors_cost *cost)
{
    uint64_t starting = fit(limit, cost->base, cost->worker + cost->start);
    return starting < cost->starts ? starting
                                   : fit(limit, cost->base + cost->start * cost->starts, cost->worker);
}

static bool counts(const struct node *node)
{
    return node->state == NODE_READY && node->processes > 0;
}

static void take_out(struct node *node, uint64_t limit)
{
    node_set(node, NODE_UNFIT, "no room for it: the limit of open files is %llu; raise it with ulimit -n",
             (unsigned long long)limit);
    node->limited_by = TERM_FILES;
}

static void cut_nodes(struct node *node, uint64_t processes)
{
    if (node->processes <= processes)
        return;
    node->processes = (uint32_t)processes;
    node->limited_by = TERM_FILES;
}

/* The sum of all processes if no node had more than level. */
static uint64_t sum_at(const struct node_list *list, uint64_t level)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < list->count; i++)
        if (counts(&list->nodes[i]))
            sum += list->nodes[i].processes < level ? list->nodes[i].processes : level;
    return sum;
}

/* The highest level at which all together have no more than so many processes. */
static uint32_t find_level(const struct node_list *list, uint64_t workers)
{
    uint32_t low = 0, high = UINT32_MAX;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2 + 1;
        if (sum_at(list, middle) <= workers)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Those above the level get one more while there are some: so few that each gets one at most. */
static void share_out(struct node_list *list, uint64_t workers, uint64_t limit)
{
    uint32_t level = find_level(list, workers);
    uint64_t more = workers - sum_at(list, level);
    for (size_t i = 0; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        if (!counts(node) || node->processes <= level)
            continue;
        uint64_t processes = level + (more > 0);
        more -= more > 0;
        if (processes)
            cut_nodes(node, processes);
        else
            take_out(node, limit);
    }
}

int descriptors_fit(struct node_list *list, uint64_t limit, uint32_t each,
                    const struct descriptors_cost *engine, struct error *err)
{
    uint64_t nodes = fit(limit, HERE, HERE_NODE), in_master = fit(limit, MASTER, MASTER_WORKER);
    uint64_t workers = engine_workers(limit, engine), served = 0, given = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        if (!counts(node))
            continue;
        bool fits = (node->local || served < nodes) && workers > 0;
        if (each)
            fits =
                fits && (node->local || node->processes <= in_master) && node->processes <= workers - given;
        if (!fits || (!node->local && in_master == 0)) {
            take_out(node, limit);
            continue;
        }
        if (!node->local)
            cut_nodes(node, in_master);
        served += !node->local;
        given += node->processes;
    }
    if (!each && given > workers)
        share_out(list, workers, limit);
    return node_list_processes(list) ? 0 : node_list_unusable(list, err);
}
