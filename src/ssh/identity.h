/* The keys that OpenSSH would offer, as far as libssh2 can use them: files and the agent.
 *
 * An identity is a public key and a way to sign with it.  Only ed25519 and ecdsa-sha2-nistp*
 * are usable with libssh2: it signs RSA with SHA-1 only (1.10), which no modern sshd takes; encrypted files would
 * ask for a passphrase, which cloudplan never does.  Everything else is counted as "skipped": the OpenSSH
 * client may be able to use it.
 */
#ifndef CLOUDPLAN_IDENTITY_H
#define CLOUDPLAN_IDENTITY_H

#include "base/error.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

struct identity {
    char *name;          /* path, or the agent's comment: for messages; clean */
    char *type;          /* "ssh-ed25519", ... */
    unsigned char *blob; /* public key, wire format (RFC 4253 6.6) */
    size_t blob_len;
    char *private_pem; /* contents of the unencrypted private key file; NULL: sign with the agent */
    size_t private_len;
    EVP_PKEY *
        ed25519; /* the private key, read once: libssh2 reads the text anew for each node; NULL: other types */
};

struct identity_list {
    struct identity *ids; /* in the order in which OpenSSH would offer them */
    size_t count;
    bool skipped;          /* there are identities that only OpenSSH could use */
    char skipped_why[160]; /* the first of them: "/home/u/.ssh/id_rsa: RSA" */
};

/* Order as OpenSSH's pubkey_prepare(): agent keys that are also named as files, other agent keys (not
 * with identitiesonly), then files.  agent_keys may be NULL.  Missing files are passed over.
 * NULL and *err: STATUS_SYSTEM without memory. */
struct agent_keys;
struct identity_list *identity_list_make(const char *const *files, bool identitiesonly,
                                         const struct agent_keys *agent_keys, struct error *err);
void identity_list_destroy(struct identity_list *list);

/* Reads one private key file's text.  1: usable, *id filled but for its name; 0: only OpenSSH can use it (*why,
 * static; id->type and id->blob are set where the public key is in clear, else NULL); -1: not a key that OpenSSH
 * reads (errno EINVAL) or no memory (ENOMEM).  Understands "OPENSSH PRIVATE KEY" (PROTOCOL.key); older PEM formats are 0.
 * For the fuzzer and tests. */
int identity_parse(const char *text, size_t len, struct identity *id, const char **why);
void identity_clear(struct identity *id);

#endif
