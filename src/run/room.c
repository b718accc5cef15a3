/* Capacity on the nodes: planned, leased, waited for.
 *
 * What was planned may be gone when it is leased, and then a run that is to wait begins anew: its connections
 * are closed meanwhile, so that it keeps nothing that others could use.  Waiting ends at once where it cannot help: nodes that
 * refuse us, or that have not what the run needs, will not change by themselves. */
#include "run/room.h"

#include "base/child.h"
#include "copy/adopt.h"
#include "copy/disk_room.h"
#include "link/lease.h"
#include "plan/descriptors.h"
#include "plan/plan.h"
#include "run/aside.h"
#include "run/ask.h"

#include <ctype.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MASTER_TIMEOUT_MS 20000
#define AGAIN_MS 10000 /* after this the nodes are asked again */
#define NOTE_MS 60000  /* and the user is told, at most so often */
#define WHO_PART 31    /* bytes of a user's or a host's name: both fit into a lease */

/* USER@CONTROLLER, of the characters that a lease can hold. */
static void find_who(char who[WHO_MAX])
{
    const struct passwd *user = getpwuid(getuid());
    char host[256] = "";
    if (gethostname(host, sizeof host - 1))
        *host = '\0';
    snprintf(who, WHO_MAX, "%.*s@%.*s", WHO_PART, user ? user->pw_name : "unknown", WHO_PART,
             *host ? host : "unknown");
    for (char *s = who; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._@:-", *s))
            *s = '_';
}

/* --- waiting --- */

/* Whether the node may have more room, or be there, some time later. */
static bool may_change(const struct node *node)
{
    return node->state == NODE_OFFLINE || node->limited_by == TERM_LEASE || node->limited_by == TERM_MEMORY ||
           node->limited_by == TERM_MACHINE;
}

static bool worth_waiting(const struct run *run, const struct error *why)
{
    if (why->status != STATUS_UNAVAILABLE && why->status != STATUS_CAPACITY)
        return false;
    for (size_t i = 0; i < run->list.count; i++)
        if (may_change(&run->list.nodes[i]))
            return clock_ms() < run->wait_end;
    return false;
}

static int pause_for(long long ms, struct error *err)
{
    long long end = clock_ms() + ms, left;
    while (!child_signal() && (left = end - clock_ms()) > 0) {
        struct pollfd pfd = {.fd = child_events_fd(), .events = POLLIN};
        poll(&pfd, 1, left < 1000 ? (int)left : 1000);
        child_events_clear();
    }
    return child_signal() ? error_set(err, STATUS_SIGNAL + child_signal(), "%s while waiting for room",
                                      strsignal(child_signal()))
                          : 0;
}

/* There is no room, and no more waiting: what would have helped. */
static int no_room(const struct run *run, const struct error *why, struct error *err)
{
    bool leased = false;
    for (size_t i = 0; i < run->list.count; i++)
        leased = leased || run->list.nodes[i].limited_by == TERM_LEASE;
    return error_set(err, why->status, "%.400s%s", why->text,
                     leased && !run->options.wait_s ? " (--cloud-wait=DURATION would wait for it)" : "");
}

/* As before the first question, but for nodes that cannot be asked. */
static void forget_answers(struct node_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        if (!node->local && !node->conf)
            continue;
        node_set(node, NODE_PENDING, "%s", "");
        node->limited_by = TERM_NONE;
        node->has_facts = false;
        node->slot = 0;
        free(node->dir);
        node->dir = NULL;
        node->unmarked = false;
        *node->fallback = '\0';
    }
}

/* Waits a while, and asks the nodes again. */
static int ask_again(struct run *run, const struct error *why, struct error *err)
{
    long long now = clock_ms(), left = run->wait_end - now;
    if (now >= run->wait_note) {
        report_note(run->report, "waiting for room, %lld s at most: %s", (left + 999) / 1000, why->text);
        run->wait_note = now + NOTE_MS;
    }
    if (pause_for(left < AGAIN_MS ? left : AGAIN_MS, err))
        return -1;
    forget_answers(&run->list);
    return stage_probe(run, err);
}

/* --- the stages --- */

/* Plans until there is room, or time is over. */
static int plan(struct run *run, struct error *err)
{
    for (;;) {
        struct error why = ERROR_INIT;
        if (plan_make(&run->list, &run->policy, &why) == 0)
            return descriptors_fit(&run->list, descriptors_limit(), run->policy.each,
                                   &run->options.engine->descriptors, err) ||
                           plan_judge(&run->list, &run->policy, err)
                       ? -1
                       : 0;
        if (!worth_waiting(run, &why))
            return no_room(run, &why, err);
        if (ask_again(run, &why, err))
            return -1;
    }
}

int stage_plan(struct run *run, struct error *err)
{
    if (run->options.command == COMMAND_PROBE)
        return node_list_ready(&run->list) ? 0 : node_list_unusable(&run->list, err);
    run->wait_end = clock_ms() + run->options.wait_s * 1000LL;
    return plan(run, err);
}

/* Whether anything of this run is to be leased. */
static bool leases(const struct run *run)
{
    return !run->policy.no_lease && run->options.command == COMMAND_RUN;
}

static int open_masters(struct run *run, struct error *err)
{
    const struct project *project = &run->project;
    char who[WHO_MAX];
    find_who(who);
    const struct master_params params = {
        .rundir = run->rundir,
        .chdir = project->chdir,
        .adopt = run->options.adopt,
        .run_id = run->id,
        .who = who,
        .cipher = run->options.cipher,
        .timeout_ms = MASTER_TIMEOUT_MS,
        .local = leases(run),
        .root = project->root,
        .venv = project->venv,
        .venv_remote = project->venv_remote,
        .python = project->python_name ? project->python_name : "python3",
        .engine = run->options.engine->guard,
        .eggs = (const char *const *)run->eggs,
        .outside = (const char *const *)run->outside,
        .links = run->absolute_links,
        .programs = (const char *const *)run->programs,
    };
    run->masters = masters_open(&run->list, &params, err);
    return run->masters ? 0 : -1;
}

int stage_disks(struct run *run, struct error *err)
{
    const struct sync_params params = stage_what_to_copy(run);
    return disk_room_check(&run->list, &params, err);
}

/* With --cloud-adopt: directories without the mark are looked at, and marked. */
static int adopt(struct run *run, struct error *err)
{
    if (!run->options.adopt)
        return 0;
    const struct sync_params params = stage_what_to_copy(run);
    return adopt_judge(&run->list, masters_ssh_config(run->masters), &params, err) ||
                   masters_adopt(run->masters, err)
               ? -1
               : 0;
}

int stage_lease(struct run *run, struct error *err)
{
    struct lease_outcome outcome = LEASE_OUTCOME_INIT;
    const struct policy *policy = &run->policy;
    if (!run->masters || !leases(run))
        return 0;
    if (lease_all(run->masters, policy, &outcome, err))
        return -1;
    if (outcome.without == 1)
        report_note(run->report,
                    "%s has no lease, so that other runs do not see what this one uses there: %s",
                    outcome.name, outcome.why);
    else if (outcome.without)
        report_note(run->report,
                    "%zu nodes have no lease, so that other runs do not see what this one uses there; %s: %s",
                    outcome.without, outcome.name, outcome.why);
    return 0;
}

int stage_open(struct run *run, struct error *err)
{
    while (stage_any_remote(run) || (leases(run) && node_list_ready(&run->list))) {
        struct error why = ERROR_INIT;
        if (stage_rundir(run, err) || stage_links(run, err) || stage_disks(run, err) ||
            open_masters(run, err) || adopt(run, err) || stage_lease(run, err))
            return -1;
        if (plan_judge(&run->list, &run->policy, &why) == 0)
            return 0;
        if (!worth_waiting(run, &why))
            return no_room(run, &why, err);
        masters_close(run->masters, GUARD_GRACE_MS);
        run->masters = NULL;
        if (ask_again(run, &why, err) || plan(run, err))
            return -1;
    }
    return 0;
}
