/* sshconf_ask() for another configuration, or another patience, than the user's own: for the unit tests. */
#ifndef CLOUDPLAN_SSHCONF_ASK_H
#define CLOUDPLAN_SSHCONF_ASK_H

#include "ssh/host_rules.h"
#include "ssh/sshconf.h"

struct sshconf_asker {
    struct host_rules_paths paths;
    const char *home; /* expands "~/" and "%d" in the answers */
    int timeout_ms;   /* for one ssh -G */
};

/* As sshconf_ask(). */
struct sshconf_set *sshconf_ask_as(struct node_list *list, const struct sshconf_asker *asker,
                                   struct error *err);

#endif
