/* The copy: one native rsync per node, driven by GNU parallel, over the masters.
 */
#ifndef CLOUDPLAN_SYNC_H
#define CLOUDPLAN_SYNC_H

#include "error.h"
#include "master.h"
#include "node.h"

#include <stdbool.h>
#include <stdint.h>

struct sync_progress {
    size_t nodes_done, nodes_failed, nodes_total;
    uint64_t bytes;      /* sent so far, all nodes */
    uint64_t bytes_total; /* estimated, 0: unknown */
    long long elapsed_ms;
};

struct sync_params {
    const char *rundir;
    const char *root;        /* absolute */
    const char *chdir;       /* on the nodes; see node_place() */
    const char *const *dirs; /* --rsyncdir as typed, NULL-terminated; none: the root */
    const char *const *ignores; /* --rsyncignore, NULL-terminated */
    const char *venv;        /* absolute; a virtualenv to copy along; NULL: none */
    const char *site;        /* absolute, physical; another directory to copy along, under its own name; NULL: none */
    bool verify;             /* compare every copy with the original, by checksums */
    uint32_t bwlimit;        /* KiB/s for each rsync; 0: none */
    uint32_t max_processes;  /* 0: all at once */
    void (*progress)(void *arg, const struct sync_progress *progress);
    void *progress_arg;
};

/* 0: every ready node that is not local holds the tree, the others have become NODE_FAILED with rsync's words, or with
 * the first difference.
 * -1 and *err: STATUS_TOOL (no rsync, no GNU parallel), STATUS_USAGE (a bad --rsyncdir), STATUS_SYSTEM,
 * STATUS_SYNC where no node is left, STATUS_SIGNAL+N. */
int sync_run(struct node_list *list, struct masters *masters, const struct sync_params *params, struct error *err);

/* Checks that the tools are there, before anything is started: STATUS_TOOL with the package to install. */
int sync_check_tools(struct error *err);

#endif
