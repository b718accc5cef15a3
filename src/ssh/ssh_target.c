/* "--" and -l rather than USER@HOST: nothing that a name holds can become an option. */
#include "ssh/ssh_target.h"

#include "ssh/sshconf.h"

#include <stdio.h>
#include <string.h>

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

const char *ssh_target_user(const struct node *node, const char *chars)
{
    if (node->user)
        return node->user;
    const char *user = node->conf ? node->conf->user : NULL;
    return user && *user && *user != '-' && !user[strspn(user, chars)] ? user : NULL;
}
