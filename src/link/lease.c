/* Asks, and plans again what was refused.
 *
 * The node decides, since only it sees all runs at the same time.  It says what others hold; the
 * planner makes of that what it would have made of it in the node's facts.  A node that was refused time and again is in
 * great demand: the run goes on without it rather than waiting for its turn. */
#include "link/lease.h"

#include "nodes/facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TRIES 3
#define TIMEOUT_MS 35000            /* undecided claims of others there are waited for, 6 s to 24 s */
#define MIB_MAX UINT64_C(999999999) /* more than scripts/node/lease.sh takes would be no machine */

struct asking {
    const struct policy *policy;
    struct lease_outcome *outcome;
    size_t refused; /* in this round */
    bool last;
};

static uint64_t mib(uint64_t bytes)
{
    uint64_t n = bytes >> 20;
    return n < MIB_MAX ? n : MIB_MAX;
}

static void write_line(void *arg, const struct node *node, char line[MASTERS_LINE_MAX])
{
    const struct policy *policy = ((struct asking *)arg)->policy;
    uint64_t reserve = policy->mem_reserve, available = node->facts.mem_available;
    snprintf(line, MASTERS_LINE_MAX, "lease %" PRIu32 " %" PRIu64 " %" PRIu32 " %" PRIu64 "\n",
             node->processes, mib(node->processes * policy->mem_per_process), node->facts.cores,
             mib(available > reserve ? available - reserve : 0));
}

/* Others have a part of what was asked for: "CORES MEM_MIB WHO". */
static bool take_less(struct asking *asking, struct node *node, const char *words)
{
    struct error why = ERROR_INIT;
    if (facts_set_lease(&node->facts, words, &why)) {
        node_set(node, NODE_FAILED, "lease failed: %s", why.text);
    } else if (plan_node(node, asking->policy) == 0) {
        asking->refused++;
        if (asking->last) {
            node_set(node, NODE_UNFIT,
                     "its room is being leased by others, by %s for one: it was gone %d times when asked for",
                     node->facts.lease_holder, TRIES);
            node->limited_by = TERM_LEASE;
        }
    }
    return false;
}

static bool take_lease(void *arg, struct node *node, const char *answer)
{
    struct asking *asking = arg;
    struct lease_outcome *outcome = asking->outcome;
    if (!strncmp(answer, "taken ", 6))
        return take_less(asking, node, answer + 6);
    if (!strncmp(answer, "none ", 5)) {
        if (outcome->without++ == 0) {
            snprintf(outcome->name, sizeof outcome->name, "%s", node_title(node));
            snprintf(outcome->why, sizeof outcome->why, "%s", answer + 5);
            text_clean(outcome->why);
        }
    } else if (strcmp(answer, "ok")) {
        node_set(node, NODE_FAILED, "lease failed: %s", answer);
    }
    return true;
}

int lease_all(struct masters *masters, const struct policy *policy, struct lease_outcome *outcome,
              struct error *err)
{
    struct asking asking = {.policy = policy, .outcome = outcome};
    const struct masters_question question = {
        .command = "lease",
        .doing = "leasing the nodes",
        .timeout_ms = TIMEOUT_MS,
        .local = true,
        .once = true,
        .line = write_line,
        .answer = take_lease,
        .arg = &asking,
    };
    for (int i = 1; i <= TRIES; i++) {
        asking.refused = 0;
        asking.last = i == TRIES;
        if (masters_ask(masters, &question, err))
            return -1;
        if (asking.refused == 0)
            break;
    }
    return 0;
}
