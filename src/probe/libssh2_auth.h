/* Authentication by public key in a libssh2 session, without blocking: one identity after the other.
 *
 * Keys in files are signed with by libssh2 itself, those of an agent through our own client of it.
 */
#ifndef CLOUDPLAN_LIBSSH2_AUTH_H
#define CLOUDPLAN_LIBSSH2_AUTH_H

#include "ssh/agent.h"
#include "ssh/identity.h"

#include <libssh2.h>

struct auth {
    const struct identity_list *identities; /* borrowed */
    struct agent *agent;                    /* borrowed; NULL: none */
    struct agent_request *request;          /* under way; owned */
    size_t identity;                        /* the one being tried */
};

enum auth_result {
    AUTH_WAIT, /* for the session's socket, or for the agent where request is set */
    AUTH_ACCEPTED,
    AUTH_NONE_LEFT, /* no identity was accepted */
    AUTH_BROKEN     /* the connection is gone: the session knows the error */
};

enum auth_result auth_step(struct auth *auth, LIBSSH2_SESSION *session, const char *user);
/* Gives up what is under way. */
void auth_clear(struct auth *auth);

#endif
