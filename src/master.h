/* One OpenSSH control master per node, opened for all nodes at once.
 *
 * A master is `ssh -M` as our child, in a session of its own, that runs one small
 * script on the node (scripts/node-guard.sh): it makes the node's directory, says
 * "ok", does what it is told (guard.h) until its standard input ends (ours, closed at the end or by the kernel when we
 * die), and then ends what the run left behind on the node.  rsync and the engine reach the node through the
 * master by way of the generated ssh_config, which is made before the first master.
 */
#ifndef CLOUDPLAN_MASTER_H
#define CLOUDPLAN_MASTER_H

#include "error.h"
#include "node.h"

struct masters;

struct master_params { /* borrowed until masters_close() */
    const char *rundir;
    const char *chdir;  /* on the nodes */
    const char *run_id; /* [a-z0-9]+: marks the run's processes on a node */
    const char *cipher; /* preferred; "" or NULL: OpenSSH's own choice */
    int timeout_ms;     /* for opening */
    /* For masters_prepare(). */
    const char *root;        /* absolute, here */
    const char *venv;        /* absolute, here; NULL: none */
    const char *venv_remote; /* relative to chdir */
    const char *python;      /* a name in the virtualenv's bin; NULL: python3 */
    const char *const *eggs; /* directories relative to root to be installed there, NULL-terminated; NULL: none */
};

/* Writes the ssh_config and opens masters for every ready, non-local node.  Nodes whose master does not
 * open become NODE_OFFLINE, NODE_REFUSED or NODE_FAILED with ssh's own words.  NULL and *err: STATUS_TOOL, STATUS_SYSTEM, STATUS_SIGNAL+N.
 */
struct masters *masters_open(struct node_list *list, const struct master_params *params, struct error *err);
/* Opens the masters of ready nodes anew where they have ended. */
int masters_reopen(struct masters *masters, struct error *err);
/* Makes what has been copied fit for use where it is, on all ready nodes at once: the virtualenv's scripts, the develop
 * eggs.  To be called after each sync; without virtualenv and eggs it does nothing.  Nodes where it fails become
 * NODE_FAILED, or what ssh's words mean, with a reason.  0, or -1 and *err: STATUS_SYSTEM, STATUS_SIGNAL+N. */
int masters_prepare(struct masters *masters, int timeout_ms, struct error *err);
/* Path of the generated ssh_config; borrowed. */
const char *masters_ssh_config(const struct masters *masters);
/* Lets the nodes clean up (at most grace_ms, 0: at once), ends every master.  NULL allowed. */
void masters_close(struct masters *masters, int grace_ms);

#endif
