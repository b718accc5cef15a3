/* What all libssh2 conversations share, each read once: known_hosts, identities, agents.
 * Nodes whose ssh_config names the same files get the same objects.  All is owned by the shared
 * object and borrowed by conversations, which must end before it does.
 */
#ifndef CLOUDPLAN_LIBSSH2_SHARED_H
#define CLOUDPLAN_LIBSSH2_SHARED_H

#include "probe/transport.h"
#include "ssh/agent.h"
#include "ssh/identity.h"
#include "ssh/known_hosts.h"
#include "ssh/sshconf.h"

struct libssh2_shared {
    CURLM *multi; /* borrowed */
    struct shared_known *known;
    struct shared_identity *identities;
    struct shared_agent *agents;
};

/* multi is the loop's, and is to outlive it.  NULL and *err: STATUS_SYSTEM. */
struct libssh2_shared *libssh2_shared_create(CURLM *multi, struct error *err);
/* NULL allowed. */
void libssh2_shared_destroy(struct libssh2_shared *shared);
/* NULL and *err: STATUS_SYSTEM. */
const struct known_hosts *shared_known_hosts(struct libssh2_shared *shared, const struct sshconf *conf,
                                             struct error *err);
/* *agent is NULL where there is none, or where it does not answer. */
const struct identity_list *shared_identities(struct libssh2_shared *shared, const struct sshconf *conf,
                                              struct agent **agent, struct error *err);

#endif
