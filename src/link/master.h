/* One OpenSSH control master per node, opened for all nodes at once.
 *
 * A master is `ssh -M` as our child, in a session of its own, that runs one small
 * script on the node (scripts/node/guard.sh): it takes a directory for the copy, says its path (node->dir), does what it is
 * told (guard.h) until its standard input ends (ours, closed at the end or by the kernel when we
 * die), and then ends what the run left behind on the node.  rsync and the engine reach the node through the
 * master by way of the generated ssh_config, which is made before the first master.
 *
 * For a lease this machine has a guard, too: the same script in a shell of its own, without ssh and without a copy.
 *
 * While masters are open each guard hears every 15 s, by child_tick(), that we are there; one that has heard
 * nothing for 90 s cleans up all the same.
 */
#ifndef CLOUDPLAN_MASTER_H
#define CLOUDPLAN_MASTER_H

#include "base/error.h"
#include "link/master_params.h"
#include "nodes/node.h"

#include <stdbool.h>

struct masters;

/* Writes the ssh_config and opens masters for every ready node, with params->local also this machine's guard.  Nodes whose
 * master does not open become NODE_OFFLINE, NODE_REFUSED or NODE_FAILED with ssh's own words; those that have no room for a
 * copy NODE_UNFIT.  NULL and *err: STATUS_TOOL, STATUS_SYSTEM, STATUS_SIGNAL+N. */
struct masters *masters_open(struct node_list *list, const struct master_params *params, struct error *err);
/* With params->adopt: nodes whose directory has no mark are ready, and node->unmarked, with that directory as node->dir.  Has those
 * that are ready still marked, which makes them as any other; lets go of the others, whose state is why.  0, or -1 and *err:
 * STATUS_SYSTEM, STATUS_SIGNAL+N. */
int masters_adopt(struct masters *masters, struct error *err);
/* Opens the masters of ready nodes anew where they have ended.  They have the same copies; what else was asked of their
 * guards is to be asked again. */
int masters_reopen(struct masters *masters, struct error *err);
#define MASTERS_LINE_MAX 120 /* bytes */

struct masters_question {
    const char *command; /* its first word */
    const char *doing;   /* for the error's text: "preparing the nodes" */
    int timeout_ms;
    bool local; /* of this machine's, too */
    /* a guard whose answer() has returned true is not asked again, unless its connection has been opened anew */
    bool once;
    /* Writes the command for a node, with its line's end. */
    void (*line)(void *arg, const struct node *node, char line[MASTERS_LINE_MAX]);
    /* What its guard says, not cleaned.  Sets the node's state where it is out.  True: it need not be asked again. */
    bool (*answer)(void *arg, struct node *node, const char *answer);
    void *arg;
};

/* Asks the guards of all ready nodes at once, and waits for the answers.  Nodes that give none become NODE_FAILED, or what
 * ssh's words mean, with the reason "COMMAND failed: ...".  0, or -1 and *err: STATUS_SYSTEM, STATUS_SIGNAL+N. */
int masters_ask(struct masters *masters, const struct masters_question *question, struct error *err);
/* Makes what has been copied fit for use where it is, on all ready nodes at once: the virtualenv's scripts, the develop
 * eggs.  To be called after each sync; without virtualenv, eggs and an engine's snippet it does nothing.  Nodes where it fails become
 * NODE_FAILED, or what ssh's words mean, with a reason.  0, or -1 and *err: STATUS_SYSTEM, STATUS_SIGNAL+N. */
int masters_prepare(struct masters *masters, int timeout_ms, struct error *err);
/* Path of the generated ssh_config; borrowed. */
const char *masters_ssh_config(const struct masters *masters);
/* Lets the nodes clean up (at most grace_ms, 0: at once), ends every master.  NULL allowed. */
void masters_close(struct masters *masters, int grace_ms);

#endif
