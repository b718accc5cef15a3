/* The stages, as main puts them in order: each takes what the former ones have left in struct run, and adds to it.
 *
 * All return 0, or -1 and *err with the exit status that it means.
 */
#ifndef CLOUDPLAN_STAGES_H
#define CLOUDPLAN_STAGES_H

#include "child.h"
#include "master.h"
#include "node.h"
#include "options.h"
#include "project.h"
#include "report.h"
#include "rsync_cmd.h"
#include "settings.h"
#include "sshconf.h"
#include "sync.h"
#include "watch.h"

#define WHO_MAX 65          /* bytes of USER@CONTROLLER */
#define GUARD_GRACE_MS 8000 /* for the nodes to end what a run left behind */

struct run { /* everything is owned; RUN_INIT to begin with */
    struct options options;
    struct report *report;
    char id[33]; /* marks answers and processes */
    struct project project;
    char *rundir;
    struct child janitor;            /* ends what is left here, and removes rundir where we cannot */
    struct settings_query *query;    /* NULL: pytest need not be asked */
    const struct settings *settings; /* its answer, borrowed; NULL: none yet */
    bool settled;                    /* the options are final */
    const char *here;                /* once they are: what takes no node, such as "--collect-only"; NULL: nodes are needed */
    const char *dist;                /* how tests will be dealt out; NULL: the engine's default */
    char **eggs;                     /* relative to the root, NULL-terminated */
    const char *site;                /* what is shipped; NULL: nothing */
    struct node_list list;
    struct sshconf_set *conf;
    struct masters *masters;
    long long wait_end, wait_note; /* clock_ms(): until when to wait for room; not before this another note of that */
    struct rsync_places watched; /* what is copied, for the watch */
    struct watch *watch;
    char *failed; /* path: where the plugin names failed tests */
    char **tx, **logins;
};

#define RUN_INIT {.janitor = CHILD_INIT}

/* Finds the project and the nodes that were named, and begins to ask pytest what its configuration says. */
int stage_begin(struct run *run, struct error *err);
/* Nodes that were named nowhere else come from pytest's answer; are the tools there that they take?  Nothing where
 * run->here is known already. */
int stage_nodes(struct run *run, struct error *err);
/* Asks all nodes; pytest's answer has been taken into account then. */
int stage_probe(struct run *run, struct error *err);
/* How many processes; for the command probe only whether there is a usable node.  With --cloud-wait it asks again until there is
 * room. */
int stage_plan(struct run *run, struct error *err);
/* Opens the connections, and leases what was planned; where that is gone it is as in stage_plan(). */
int stage_open(struct run *run, struct error *err);
/* Leaves out nodes whose disk has no room for a first copy: before anything is made there. */
int stage_disks(struct run *run, struct error *err);
/* Copies, prepares. */
int stage_copy(struct run *run, struct error *err);
/* The plan as text: results on stdout, or for run on stderr.  planned: the command has got what it asked for; if not, there are no
 * logins: whoever hands them on may not see the status. */
int stage_report(struct run *run, bool planned, struct error *err);
/* In the place of the stages from the plan to the report, where run->here says that the engine takes no node. */
int stage_here(struct run *run, struct error *err);
/* Runs the engine, with --watch again and again.  *status is its exit status. */
int stage_engine(struct run *run, int *status, struct error *err);
/* Once, when all that can be known of the options is known: waits for pytest's answer. */
int stage_settle(struct run *run, struct error *err);
/* Parts of several stages: what a copy holds; whether a node needs a connection; the private directory; leases where there are none
 * yet. */
struct sync_params stage_what_to_copy(struct run *run);
bool stage_any_remote(const struct run *run);
int stage_rundir(struct run *run, struct error *err);
int stage_lease(struct run *run, struct error *err);
/* Ends what was begun, whatever that was.  Keeps nothing. */
void stages_clear(struct run *run);

#endif
