/* Small linked lists, searched by the names of the files: a run has one or two configurations, rarely ten. */
#include "probe/libssh2_shared.h"

#include <libssh2.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_TIMEOUT_MS 2000 /* an agent that does not list its keys by then is not used */

struct shared_known {
    struct shared_known *next;
    char *const *files; /* borrowed from the first conf that named them */
    struct known_hosts *known;
};

struct shared_agent {
    struct shared_agent *next;
    const char *path;
    struct agent *agent; /* NULL: it does not answer */
};

struct shared_identity {
    struct shared_identity *next;
    char *const *files;
    bool identitiesonly;
    struct agent *agent;
    struct identity_list *list;
};

static bool same_strings(char *const *a, char *const *b)
{
    for (; *a && *b; a++, b++)
        if (a != b && strcmp(*a, *b))
            return false;
    return *a == *b;
}

struct libssh2_shared *libssh2_shared_create(CURLM *multi, struct error *err)
{
    struct libssh2_shared *shared = calloc(1, sizeof *shared);
    if (!shared || libssh2_init(0)) {
        free(shared);
        error_set(err, STATUS_SYSTEM, "libssh2 does not start");
        return NULL;
    }
    shared->multi = multi;
    return shared;
}

void libssh2_shared_destroy(struct libssh2_shared *shared)
{
    if (!shared)
        return;
    while (shared->known) {
        struct shared_known *next = shared->known->next;
        known_hosts_destroy(shared->known->known);
        free(shared->known);
        shared->known = next;
    }
    while (shared->identities) {
        struct shared_identity *next = shared->identities->next;
        identity_list_destroy(shared->identities->list);
        free(shared->identities);
        shared->identities = next;
    }
    while (shared->agents) {
        struct shared_agent *next = shared->agents->next;
        agent_destroy(shared->agents->agent);
        free(shared->agents);
        shared->agents = next;
    }
    libssh2_exit();
    free(shared);
}

const struct known_hosts *shared_known_hosts(struct libssh2_shared *shared, const struct sshconf *conf,
                                             struct error *err)
{
    for (struct shared_known *k = shared->known; k; k = k->next)
        if (same_strings(k->files, conf->knownhosts))
            return k->known;
    struct shared_known *k = calloc(1, sizeof *k);
    if (!k || !(k->known = known_hosts_read((const char *const *)conf->knownhosts, err))) {
        error_errno(err, "known_hosts");
        free(k);
        return NULL;
    }
    k->files = conf->knownhosts;
    k->next = shared->known;
    shared->known = k;
    return k->known;
}

/* 0, or -1 without memory; *agent is NULL where there is none to be had. */
static int shared_agent(struct libssh2_shared *shared, const char *path, struct agent **agent)
{
    *agent = NULL;
    if (!path)
        return 0;
    for (struct shared_agent *a = shared->agents; a; a = a->next)
        if (!strcmp(a->path, path)) {
            *agent = a->agent;
            return 0;
        }
    struct shared_agent *a = calloc(1, sizeof *a);
    if (!a)
        return -1;
    /* A dead agent is no error: OpenSSH goes on with the files, too. */
    a->path = path;
    a->agent = agent_open(path, AGENT_TIMEOUT_MS, NULL);
    a->next = shared->agents;
    shared->agents = a;
    *agent = a->agent;
    return 0;
}

const struct identity_list *shared_identities(struct libssh2_shared *shared, const struct sshconf *conf,
                                              struct agent **agent, struct error *err)
{
    if (shared_agent(shared, conf->identityagent, agent)) {
        error_errno(err, "agent");
        return NULL;
    }
    for (struct shared_identity *i = shared->identities; i; i = i->next)
        if (i->identitiesonly == conf->identitiesonly && i->agent == *agent &&
            same_strings(i->files, conf->identityfiles))
            return i->list;
    struct shared_identity *i = calloc(1, sizeof *i);
    if (!i || !(i->list = identity_list_make((const char *const *)conf->identityfiles, conf->identitiesonly,
                                             *agent ? agent_keys(*agent) : NULL, err))) {
        error_errno(err, "identities");
        free(i);
        return NULL;
    }
    i->files = conf->identityfiles;
    i->identitiesonly = conf->identitiesonly;
    i->agent = *agent;
    i->next = shared->identities;
    shared->identities = i;
    return i->list;
}
