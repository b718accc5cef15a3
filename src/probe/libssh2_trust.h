/* Who a node is, for libssh2: which algorithms may be agreed on, and whether its host key is believed.
 *
 * Both as OpenSSH would decide it for the node; where OpenSSH could decide otherwise than libssh2
 * is able to, the verdict is TRUST_OPENSSH, never a guess.
 */
#ifndef CLOUDPLAN_LIBSSH2_TRUST_H
#define CLOUDPLAN_LIBSSH2_TRUST_H

#include "base/error.h"
#include "ssh/known_hosts.h"
#include "ssh/sshconf.h"

#include <libssh2.h>

/* Sets the session's algorithms: ssh_config's lists as far as libssh2 has them, in their order, host key
 * types that known_hosts has for this host first.  NULL, or which list is left empty ("cipher"; static). */
const char *trust_algorithms(LIBSSH2_SESSION *session, const struct sshconf *conf,
                             const struct known_host *known);

enum trust { TRUST_ACCEPT, TRUST_REFUSE, TRUST_OPENSSH };

/* Judges a host key (wire format).  *reason is set but for TRUST_ACCEPT. */
enum trust trust_host_key(const struct sshconf *conf, const struct known_host *known,
                          const unsigned char *key, size_t len, char reason[ERROR_TEXT_MAX]);

#endif
