/* The loop: every node at once, in one thread, each with one deadline for its whole conversation.
 *
 * On return every node has a state: NODE_READY with facts, or another one with its reason.
 * A window keeps the number of open conversations below the descriptor limit; a
 * node's deadline starts when its conversation does.
 */
#ifndef CLOUDPLAN_PROBE_H
#define CLOUDPLAN_PROBE_H

#include "node.h"
#include "transport.h"

struct probe_params {
    int timeout_ms;       /* for one node's whole conversation */
    const char *chdir;    /* where the facts script looks for free disk and the mark */
    const char *python;   /* the interpreter whose version is asked for */
    const char *nonce;    /* marks the answer */
    /* Called whenever a node has got its state; may be NULL. */
    void (*progress)(void *arg, const struct node_list *list, size_t done);
    void *progress_arg;
    /* For tests: where conversations come from; NULL: the real transports. */
    struct transport *(*open)(void *arg, const struct node *node, bool fallback,
                              const struct transport_script *script, struct error *err);
    void *open_arg;
};

/* 0, or -1 and *err: STATUS_SYSTEM, or STATUS_SIGNAL+N when a signal ended it. */
int probe_run(struct node_list *list, const struct probe_params *params, struct error *err);

#endif
