/* libssh2's own agent calls block and ask for SHA-1; its signing callback may say EAGAIN, and then the same call is
 * repeated with the same arguments once the agent has answered. */
#include "probe/libssh2_auth.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static size_t read_u32(const unsigned char *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* Signs with the agent.  Called by libssh2 again and again until it does not say EAGAIN. */
static int sign_with_agent(LIBSSH2_SESSION *session, unsigned char **sig, size_t *sig_len,
                           const unsigned char *data, size_t data_len, void **abstract)
{
    struct auth *auth = *abstract;
    const struct identity *id = &auth->identities->ids[auth->identity];
    (void)session;
    if (!auth->request)
        auth->request = agent_sign(auth->agent, id->blob, id->blob_len, data, data_len);
    enum agent_state state = auth->request ? agent_request_state(auth->request) : AGENT_REFUSED;
    if (state == AGENT_WAITING)
        return LIBSSH2_ERROR_EAGAIN;
    int result = LIBSSH2_ERROR_AUTHENTICATION_FAILED;
    size_t len;
    const unsigned char *wire = state == AGENT_SIGNED ? agent_request_signature(auth->request, &len) : NULL;
    if (wire && len > 8) {
        /* string type, string signature: libssh2 wants what is inside the second. */
        size_t type_len = read_u32(wire);
        if (type_len <= len - 8) {
            const unsigned char *blob = wire + 4 + type_len;
            size_t blob_len = read_u32(blob);
            if (blob_len == len - 8 - type_len && (*sig = malloc(blob_len))) {
                memcpy(*sig, blob + 4, blob_len);
                *sig_len = blob_len;
                result = 0;
            }
        }
    }
    agent_request_destroy(auth->request);
    auth->request = NULL;
    return result;
}

/* Signs with a key from a file.  libssh2 would read the file's text for each node, more than once, which takes
 * half of all CPU time of a probe. */
static int sign_with_file(LIBSSH2_SESSION *session, unsigned char **sig, size_t *sig_len,
                          const unsigned char *data, size_t data_len, void **abstract)
{
    struct auth *auth = *abstract;
    (void)session;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int result = LIBSSH2_ERROR_AUTHENTICATION_FAILED;
    *sig_len = 64;
    *sig = malloc(*sig_len);
    if (context && *sig &&
        EVP_DigestSignInit(context, NULL, NULL, NULL, auth->identities->ids[auth->identity].ed25519) == 1 &&
        EVP_DigestSign(context, *sig, sig_len, data, data_len) == 1) {
        result = 0;
    } else {
        free(*sig);
        *sig = NULL;
    }
    EVP_MD_CTX_free(context);
    return result;
}

enum auth_result auth_step(struct auth *auth, LIBSSH2_SESSION *session, const char *user)
{
    size_t user_len = strlen(user);
    while (auth->identity < auth->identities->count) {
        const struct identity *id = &auth->identities->ids[auth->identity];
        int rc;
        if (id->private_pem && !id->ed25519) {
            rc = libssh2_userauth_publickey_frommemory(session, user, user_len, NULL, 0, id->private_pem,
                                                       id->private_len, NULL);
        } else {
            /* Used by libssh2 before it returns, or at the next call: never kept. */
            void *abstract = auth;
            rc = libssh2_userauth_publickey(session, user, id->blob, id->blob_len,
                                            id->ed25519 ? sign_with_file : sign_with_agent, &abstract);
        }
        if (rc == 0)
            return AUTH_ACCEPTED;
        if (rc == LIBSSH2_ERROR_EAGAIN)
            return AUTH_WAIT;
        if (rc == LIBSSH2_ERROR_SOCKET_DISCONNECT || rc == LIBSSH2_ERROR_SOCKET_RECV ||
            rc == LIBSSH2_ERROR_SOCKET_SEND)
            return AUTH_BROKEN;
        auth_clear(auth);
        auth->identity++;
    }
    return AUTH_NONE_LEFT;
}

void auth_clear(struct auth *auth)
{
    agent_request_destroy(auth->request);
    auth->request = NULL;
}
