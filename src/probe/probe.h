/* The loop: every node at once, in one thread, each with one deadline for its whole conversation.
 *
 * On return every node has a state: NODE_READY with facts, or another one with its reason.
 * A window keeps the number of open conversations below the descriptor limit; a
 * node's deadline starts when its conversation does.
 */
#ifndef CLOUDPLAN_PROBE_H
#define CLOUDPLAN_PROBE_H

#include "nodes/accept.h"
#include "nodes/node.h"
#include "probe/transport.h"

struct probe_params {
    int timeout_ms;               /* for one node's whole conversation */
    struct requirements required; /* what the facts script looks for, and what a node must have */
    const char *nonce;            /* marks the answer */
    /* Called whenever a node has got its state; may be NULL. */
    void (*progress)(void *arg, const struct node_list *list, size_t done);
    void *progress_arg;
    /* Called while nodes are being connected to, until it returns 1: what they are to be asked for is in *params now (timeout_ms and
     * required).  0: not known yet; child_events_fd() becomes readable when it may be.  -1 and *err: give up.  NULL:
     * params are complete. */
    int (*ready)(void *arg, struct probe_params *params, struct error *err);
    void *ready_arg;
    /* For tests: where conversations come from; NULL: the real transports. */
    struct transport *(*open)(void *arg, const struct node *node, bool fallback,
                              const struct transport_script *script, struct error *err);
    void *open_arg;
};

/* 0, or -1 and *err: STATUS_BUG for another number of interpreters, STATUS_SYSTEM, STATUS_SIGNAL+N when a signal ended it, or what
 * ready() says. */
int probe_run(struct node_list *list, const struct probe_params *params, struct error *err);

#endif
