/* Classes of nodes.
 *
 * Decided here: exact comparison of what decides, by sorting, rather than a hash of it: two
 * classes taken for one would be a wrong answer.
 */
#include "ssh/sshconf_class.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

bool host_is_plain(const char *host)
{
    if (host[strcspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")])
        return false;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *address;
    int failure = getaddrinfo(host, NULL, &hints, &address);
    if (failure)
        return failure == EAI_NONAME;
    char name[NI_MAXHOST];
    bool same =
        !getnameinfo(address->ai_addr, address->ai_addrlen, name, sizeof name, NULL, 0, NI_NUMERICHOST) &&
        !strcmp(name, host);
    freeaddrinfo(address);
    return same;
}

/* What decides a node's class. */
struct key {
    struct node *node;
    unsigned char *matches; /* a bit for each Host line */
    size_t size;            /* in bytes */
    bool alone;
};

static int key_compare(const struct key *a, const struct key *b)
{
    if (a->alone != b->alone)
        return a->alone ? 1 : -1;
    if (a->node->port != b->node->port)
        return a->node->port < b->node->port ? -1 : 1;
    int user = strcmp(a->node->user ? a->node->user : "", b->node->user ? b->node->user : "");
    return user ? user : memcmp(a->matches, b->matches, a->size);
}

/* For qsort: the list's order within a class. */
static int key_order(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    int order = key_compare(x, y);
    return order ? order : (x->node > y->node) - (x->node < y->node);
}

struct node_classes *node_classes_create(struct node_list *list, const struct host_rules *rules,
                                         struct error *err)
{
    bool usable = host_rules_usable(rules);
    size_t lines = usable ? host_rules_count(rules) : 0, size = lines / 8 + 1, n = 0;
    struct node_classes *classes = calloc(1, sizeof *classes);
    struct key *keys = calloc(list->count + 1, sizeof *keys);
    unsigned char *matches = calloc(list->count + 1, size);
    if (classes) {
        classes->nodes = calloc(list->count + 1, sizeof *classes->nodes);
        classes->start = calloc(list->count + 1, sizeof *classes->start);
    }
    if (!classes || !keys || !matches || !classes->nodes || !classes->start) {
        error_errno(err, "ssh_config");
        node_classes_destroy(classes);
        classes = NULL;
        goto out;
    }
    for (size_t i = 0; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        if (node->local)
            continue;
        struct key *key = &keys[n];
        *key = (struct key){node, matches + n * size, size, !usable || !host_is_plain(node->host)};
        for (size_t k = 0; k < lines; k++)
            if (host_rules_match(rules, k, node->host))
                key->matches[k / 8] |= (unsigned char)(1U << k % 8);
        n++;
    }
    qsort(keys, n, sizeof *keys, key_order);
    for (size_t i = 0; i < n; i++) {
        classes->nodes[i] = keys[i].node;
        if (i == 0 || keys[i].alone || key_compare(&keys[i - 1], &keys[i]))
            classes->start[classes->count++] = i;
    }
    classes->start[classes->count] = n;
out:
    free(matches);
    free(keys);
    return classes;
}

void node_classes_destroy(struct node_classes *classes)
{
    int saved = errno;
    if (classes) {
        free(classes->nodes);
        free(classes->start);
        free(classes);
    }
    errno = saved;
}
