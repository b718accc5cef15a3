/* A plan as GNU parallel's logins: N/[USER@]HOST[:PORT], N/: for this machine (parallel(1), --sshlogin).
 *
 * USER is the one typed, else ssh_config's where it is known and can stand there; PORT is there only where it was typed.  An IPv6
 * HOST stands in brackets with a port, and an IPv4 part within it is written in hexadecimal.
 */
#ifndef CLOUDPLAN_SSHLOGIN_H
#define CLOUDPLAN_SSHLOGIN_H

#include "base/error.h"
#include "nodes/node.h"

/* A NULL-terminated array for all nodes in use, in list order; the caller frees it with strings_free().  Where none is in use it is
 * empty, and is not to be printed: see SSHLOGIN_NONE.  NULL and *err: STATUS_DATA for a user or an IPv6 zone that GNU parallel would
 * take for something else, STATUS_SYSTEM without memory. */
char **sshlogin_list(const struct node_list *list, struct error *err);
/* What stands for no usable node in a list of logins: GNU parallel runs jobs on this machine where it is given an empty list.
 * With this it says "Cannot run any jobs", and with -j N a login to a name that no resolver knows fails (RFC 2606; the dot at
 * the end keeps domains of resolv.conf away). */
#define SSHLOGIN_NONE "0/no-usable-node.invalid."

#endif
