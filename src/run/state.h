/* What the stages hand on: each takes what the former ones have left in struct run, and adds to it.  settle.h, ask.h, room.h, run.h and
 * again.h have the stages, in the order in which main calls them.
 *
 * All stages return 0, or -1 and *err with the exit status that it means.
 */
#ifndef CLOUDPLAN_STATE_H
#define CLOUDPLAN_STATE_H

#include "base/child.h"
#include "link/master.h"
#include "nodes/node.h"
#include "run/options.h"
#include "copy/project.h"
#include "report/report.h"
#include "copy/rsync_cmd.h"
#include "engine/settings.h"
#include "ssh/sshconf.h"
#include "copy/sync.h"
#include "watch/watch.h"

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

/* Whether a node needs a connection. */
bool stage_any_remote(const struct run *run);
/* What a copy holds. */
struct sync_params stage_what_to_copy(struct run *run);
/* The private directory, and the janitor for it, where there is none yet. */
int stage_rundir(struct run *run, struct error *err);
/* Ends what was begun, whatever that was.  Keeps nothing. */
void stages_clear(struct run *run);

#endif
