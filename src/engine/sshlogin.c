/* A plan as GNU parallel's logins.  They know no quoting, so what cannot stand in one is refused. */
#include "engine/sshlogin.h"

#include "base/strv.h"
#include "base/text.h"
#include "ssh/ssh_target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a user: GNU parallel takes what stands before an "@" for the whole user, and hands "$" and "\" to a shell. */
#define LOGIN_USER_CHARS TEXT_ALNUM "._-+"

/* What GNU parallel cannot be told in a login, ssh_config can tell ssh. */
static int check_login(const struct node *node, struct error *err)
{
    if (node->user && node->user[strspn(node->user, LOGIN_USER_CHARS)])
        return error_set(err, STATUS_DATA,
                         "%s: the user '%s' cannot stand in a login of GNU parallel: give the node a Host of "
                         "its own with HostName "
                         "and User in ~/.ssh/config, and name that",
                         node->name, node->user);
    if (strchr(node->host, '%'))
        return error_set(err, STATUS_DATA,
                         "%s: an IPv6 zone cannot stand in a login of GNU parallel: give the node a Host of "
                         "its own with HostName "
                         "in ~/.ssh/config (the '%%' doubled), and name that",
                         node->name);
    return 0;
}

/* host, or an address of IPv4 in one of IPv6 in hexadecimal: GNU parallel would take what follows the first "." for a port. */
static const char *login_host(const struct node *node, char text[INET6_ADDRSTRLEN])
{
    struct in6_addr address;
    if (!strchr(node->host, '.') || inet_pton(AF_INET6, node->host, &address) != 1)
        return node->host;
    const uint8_t *b = address.s6_addr;
    size_t len = 0;
    for (size_t i = 0; i < 16; i += 2)
        len += (size_t)snprintf(text + len, INET6_ADDRSTRLEN - len, "%s%x", i ? ":" : "",
                                (unsigned)(b[i] << 8 | b[i + 1]));
    return text;
}

static char *make_login(const struct node *node, struct error *err)
{
    if (node->local)
        return text_format(err, "%u/:", node->processes);
    char address[INET6_ADDRSTRLEN];
    if (check_login(node, err) < 0)
        return NULL;
    bool brackets = strchr(node->host, ':') && node->port;
    const char *user = ssh_target_user(node, LOGIN_USER_CHARS);
    char port[16] = "";
    if (node->port)
        snprintf(port, sizeof port, ":%u", node->port);
    return text_format(err, "%u/%s%s%s%s%s%s", node->processes, user ? user : "", user ? "@" : "",
                       brackets ? "[" : "", login_host(node, address), brackets ? "]" : "", port);
}

char **sshlogin_list(const struct node_list *list, struct error *err)
{
    char **logins = calloc(list->count + 1, sizeof *logins);
    char **end = logins;
    if (!logins) {
        error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
        return NULL;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (!node_in_use(&list->nodes[i]))
            continue;
        char *login = make_login(&list->nodes[i], err);
        if (!login) {
            strings_free(logins);
            return NULL;
        }
        *end++ = login;
    }
    return logins;
}
