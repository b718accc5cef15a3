/* "--" and -l rather than USER@HOST: nothing that a name holds can become an option. */
#include "ssh/ssh_target.h"

#include <stdio.h>

size_t ssh_target(const struct node *node, const char **argv, char port[SSH_TARGET_PORT])
{
    size_t n = 0;
    if (node->port) {
        snprintf(port, SSH_TARGET_PORT, "%u", node->port);
        argv[n++] = "-p";
        argv[n++] = port;
    }
    if (node->user) {
        argv[n++] = "-l";
        argv[n++] = node->user;
    }
    argv[n++] = "--";
    argv[n++] = node->host;
    return n;
}
