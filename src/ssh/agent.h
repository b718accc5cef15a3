/* A small ssh-agent client (draft-miller-ssh-agent), without blocking.
 *
 * libssh2's own blocks.  One connection serves all nodes: requests wait in line,
 * one is under way at a time (not every agent likes pipelining).
 */
#ifndef CLOUDPLAN_AGENT_H
#define CLOUDPLAN_AGENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct agent_key {
    unsigned char *blob; /* public key */
    size_t len;
    char *comment; /* clean */
};

struct agent_keys {
    struct agent_key *keys;
    size_t count;
};

struct agent;

/* Connects to the socket and asks for the list of keys, waiting at most timeout_ms.  NULL and *err
 * (STATUS_SYSTEM) where it does not answer or answers nonsense. */
struct agent *agent_open(const char *path, int timeout_ms, struct error *err);
/* The same on a connected socket, which is the agent's from now on, also on failure; for tests and the fuzzer. */
struct agent *agent_open_fd(int fd, int timeout_ms, struct error *err);
void agent_destroy(struct agent *agent);                        /* outstanding requests fail first */
const struct agent_keys *agent_keys(const struct agent *agent); /* borrowed */

/* A request for one signature. */
struct agent_request;
enum agent_state { AGENT_WAITING, AGENT_SIGNED, AGENT_REFUSED };

/* Queues a request; data is copied.  NULL without memory.  Refused at once on a broken connection. */
struct agent_request *agent_sign(struct agent *agent, const unsigned char *blob, size_t blob_len,
                                 const unsigned char *data, size_t data_len);
/* Drives the agent's connection as far as it goes, then says how this request stands.  A reply is read only when this is
 * called for its own request, so that whoever polls agent_fd() while his request waits is woken for it. */
enum agent_state agent_request_state(struct agent_request *request);
/* The signature in wire format (string type, string blob; RFC 4253 6.6), borrowed from the request; only
 * when signed. */
const unsigned char *agent_request_signature(const struct agent_request *request, size_t *len);
void agent_request_destroy(struct agent_request *request); /* also one still under way */

/* For poll: the descriptor, -1 where no request is waiting, and whether it wants POLLOUT beside POLLIN.  A broken connection
 * is readable until every request has been told AGENT_REFUSED. */
int agent_fd(const struct agent *agent, bool *want_write);

#endif
