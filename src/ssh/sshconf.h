/* What OpenSSH would do for a node: the answer of `ssh -G`.
 *
 * One `ssh -G` costs 6-10 ms of CPU, so nodes for which the answer must be the same share
 * one (sshconf_class.h says which may).  Two nodes of such a class are asked; only where they
 * differ in nothing but the host name, and that is the name as typed, do the others get their
 * answer.  A HostName, or a token (%h, %n, %k, %C) in a value that counts here, makes the two
 * differ, and every node of the class is asked for itself.
 */
#ifndef CLOUDPLAN_SSHCONF_H
#define CLOUDPLAN_SSHCONF_H

#include "base/error.h"
#include "nodes/node.h"

struct sshconf {
    char *hostname; /* where to connect to */
    char *user;     /* one clean line; any character else: not for a command line */
    uint16_t port;
    char *hostkeyalias;   /* NULL: none */
    char **identityfiles; /* NULL-terminated, expanded; files may not exist */
    bool identitiesonly;
    char *identityagent;         /* socket path, expanded; NULL: no agent */
    char **knownhosts;           /* NULL-terminated, expanded: user's files, then global ones */
    char *stricthostkeychecking; /* "ask", "true", "accept-new", "false" as ssh -G prints them */
    char *hostkeyalgorithms, *kexalgorithms, *ciphers, *macs; /* comma-separated; never NULL */
    char *addressfamily;                                      /* "any", "inet", "inet6" */
    char *proxyjump;                                          /* as ssh -G prints it; NULL: none */
    bool gssapi, hostbased; /* enabled: tried by OpenSSH if the server offers them */
    char *unsupported;      /* why libssh2 cannot do this node ("ProxyJump", ...); NULL: it can */
};

/* A cache that owns the answers; node->conf points into it. */
struct sshconf_set;

/* Asks for every non-local node and sets node->conf.  A node that ssh -G refuses becomes NODE_FAILED with
 * ssh's words and keeps conf NULL; so does one without an answer in time (a Match exec may hang).
 * NULL and *err: STATUS_TOOL where there is no ssh, STATUS_SYSTEM, STATUS_SIGNAL+N; every conf is NULL then.
 */
struct sshconf_set *sshconf_ask(struct node_list *list, struct error *err);
void sshconf_destroy(struct sshconf_set *set);

/* Parses the output of ssh -G (len bytes, hostile: it is fuzzed).  NULL and *err: STATUS_DATA, or
 * STATUS_SYSTEM without memory.  home expands "~/" and "%d"; "%h", "%p", "%r" and "%%" in an IdentityFile are
 * expanded too, another token makes the node unsupported.  Reads the environment for IdentityAgent. */
struct sshconf *sshconf_parse(const char *text, size_t len, const char *home, struct error *err);
void sshconf_free(struct sshconf *conf);

/* Whether two answers differ in nothing but the host name. */
bool sshconf_same(const struct sshconf *a, const struct sshconf *b);

#endif
