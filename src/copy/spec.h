/* What is copied, where to, and how: the same for all nodes of a run. */
#ifndef CLOUDPLAN_COPY_SPEC_H
#define CLOUDPLAN_COPY_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sync_progress {
    size_t nodes_done, nodes_failed, nodes_total;
    uint64_t bytes;       /* sent so far, all nodes */
    uint64_t bytes_total; /* estimated, 0: unknown */
    long long elapsed_ms;
};

struct sync_params {
    const char *rundir;
    const char *root;           /* absolute */
    const char *chdir;          /* on the nodes; see node_place() */
    const char *const *dirs;    /* --rsyncdir as typed, NULL-terminated; none: the root */
    const char *const *ignores; /* --rsyncignore, NULL-terminated */
    const char *venv;           /* absolute; a virtualenv to copy along; NULL: none */
    /* absolute, physical; another directory to copy along, under its own name; NULL: none */
    const char *site;
    bool copy_links;        /* what symbolic links that lead out of the copy point to, in their place */
    bool verify;            /* compare every copy with the original, by checksums */
    uint32_t bwlimit;       /* KiB/s for each rsync; 0: none */
    uint32_t max_processes; /* 0: all at once */
    void (*progress)(void *arg, const struct sync_progress *progress);
    void *progress_arg;
};

#endif
