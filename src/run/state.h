/* What the stages hand on: each takes what the former ones have left in struct run, and adds to it.  settle.h, ask.h, room.h, run.h and
 * again.h have the stages, in the order in which main calls them.
 *
 * All stages return 0, or -1 and *err with the exit status that it means.
 */
#ifndef CLOUDPLAN_STATE_H
#define CLOUDPLAN_STATE_H

#include "base/child.h"
#include "copy/project.h"
#include "copy/rsync_cmd.h"
#include "copy/sync.h"
#include "link/master.h"
#include "nodes/node.h"
#include "report/report.h"
#include "run/options.h"
#include "ssh/sshconf.h"
#include "watch/watch.h"

#define WHO_MAX 65          /* bytes of USER@CONTROLLER */
#define GUARD_GRACE_MS 8000 /* for the nodes to end what a run left behind */

struct run { /* everything is owned; RUN_INIT to begin with */
    struct options options;
    struct report *report;
    char id[33]; /* marks answers and processes */
    struct project project;
    char *rundir;
    struct child janitor; /* ends what is left here, and removes rundir where we cannot */
    struct engine_work *work;
    bool is_settled; /* the options are final: settled and policy have been filled in, once */
    struct engine_settled settled;
    struct policy policy;             /* the options', and what the engine makes of it */
    char **eggs;                      /* relative to the copy, NULL-terminated */
    char **outside;                   /* what is copied from outside the root: absolute, NULL-terminated */
    char **programs;                  /* as of struct master_params */
    bool links_known, absolute_links; /* aside.h has looked; the copy's links are to be changed there */
    struct node_list list;
    struct sshconf_set *conf;
    struct masters *masters;
    long long wait_end,
        wait_note; /* clock_ms(): until when to wait for room; not before this another note of that */
    struct rsync_places watched; /* what is copied, for the watch */
    struct watch *watch;
    char **words, **logins; /* the plan in the engine's words, and as logins */
};

#define RUN_INIT                                                                                             \
    {                                                                                                        \
        .janitor = CHILD_INIT                                                                                \
    }

/* Whether a node needs a connection. */
bool stage_any_remote(const struct run *run);
/* What a copy holds. */
struct sync_params stage_what_to_copy(struct run *run);
/* The private directory, and the janitor for it, where there is none yet. */
int stage_rundir(struct run *run, struct error *err);
/* Ends what was begun, whatever that was.  Keeps nothing. */
void stages_clear(struct run *run);

#endif
