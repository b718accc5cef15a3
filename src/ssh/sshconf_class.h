/* Which nodes must get the same answer of `ssh -G`, as far as ssh_config(5) tells.
 *
 * ssh's answer is made of the command line (user, port, host) and of the lines of the configuration that
 * are in force for the host.  Nodes with the same typed user and port that match the very same Host
 * lines therefore differ only where a value holds the name itself: sshconf_ask() finds
 * that out by asking for two of them.
 */
#ifndef CLOUDPLAN_SSHCONF_CLASS_H
#define CLOUDPLAN_SSHCONF_CLASS_H

#include "base/error.h"
#include "nodes/node.h"
#include "ssh/host_rules.h"

#include <stdbool.h>
#include <stddef.h>

/* Whether ssh leaves the name as it is: it lower-cases names and rewrites addresses ("127.1"). */
bool host_is_plain(const char *host);

struct node_classes {
    struct node **nodes; /* every non-local node, class by class, in the list's order within one; borrowed */
    size_t *start;       /* class i is nodes[start[i]] up to nodes[start[i + 1]] */
    size_t count;        /* of classes; start has one more */
};

/* NULL and *err: STATUS_SYSTEM. */
struct node_classes *node_classes_create(struct node_list *list, const struct host_rules *rules,
                                         struct error *err);
void node_classes_destroy(struct node_classes *classes);

#endif
