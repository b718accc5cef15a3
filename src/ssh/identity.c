/* Which keys would OpenSSH offer, and which of them can libssh2 sign with?
 *
 * Decided here: a file is taken for what its text says, never for its name.  The private part is read for
 * ed25519 only, for speed; libssh2 gets the text as it is for the others.  A file that OpenSSH would refuse
 * (permissions, an envelope that
 * does not end) is refused here too, so that no node is reached with a key that the data plane cannot use.
 */
#include "ssh/identity.h"

#include "base/file.h"
#include "ssh/agent.h"
#include "ssh/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 20) /* as OpenSSH's */
#define BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----\n"
#define END "\n-----END OPENSSH PRIVATE KEY-----\n"
#define MAGIC "openssh-key-v1" /* with its NUL */

struct blob {
    unsigned char *data; /* NULL: none */
    size_t len;
};

/* What one IdentityFile is found to be. */
struct candidate {
    const char *path;
    struct identity id;    /* of the private key, as far as it could be read */
    bool usable;           /* id can sign */
    const char *why;       /* not usable here, but perhaps for OpenSSH; else NULL */
    struct blob public[2]; /* what FILE, as a public key, and FILE.pub name */
    bool taken;            /* the agent signs for it */
};

void identity_clear(struct identity *id)
{
    if (id->private_pem)
        explicit_bzero(id->private_pem, id->private_len);
    free(id->name);
    free(id->type);
    free(id->blob);
    free(id->private_pem);
    EVP_PKEY_free(id->ed25519);
    *id = (struct identity){0};
}

/* Why libssh2 cannot use keys of this type (of key_type()), NULL where it can. */
static const char *type_unusable(const char *type)
{
    if (!type)
        return "a certificate or an unknown type of key";
    if (!strcmp(type, "ssh-ed25519") || !strncmp(type, "ecdsa-sha2-", strlen("ecdsa-sha2-")))
        return NULL;
    return !strcmp(type, "ssh-rsa") ? "RSA" : !strcmp(type, "ssh-dss") ? "DSA" : "on a security key";
}

static bool same_stat(const unsigned char *a, size_t a_len, const unsigned char *b, size_t b_len)
{
    return a && b && a_len == b_len && !memcmp(a, b, a_len);
}

static int set_public(struct identity *id, const char *type, const unsigned char *blob, size_t len)
{
    id->type = strdup(type);
    id->blob = malloc(len);
    if (!id->type || !id->blob)
        return -1;
    memcpy(id->blob, blob, len);
    id->blob_len = len;
    return 0;
}

/* What follows the type in the private part; NULL where libssh2 is to judge. */
static EVP_PKEY *ed25519_key(struct wire private)
{
    struct wire public, secret; /* the secret is the seed and the public key again */
    if (!wire_string(&private, &public) || public.left != 32 || !wire_string(&private, &secret) ||
        secret.left != 64 || memcmp(secret.p + 32, public.p, 32))
        return NULL;
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret.p, 32);
}

/* The decoded envelope: 1, 0 and *why, or -1 and errno as identity_parse(), without the text. */
static int parse_envelope(const unsigned char *bytes, size_t len, struct identity *id, const char **why)
{
    if (len < sizeof MAGIC || memcmp(bytes, MAGIC, sizeof MAGIC))
        goto bad;
    struct wire wire = {bytes + sizeof MAGIC, len - sizeof MAGIC};
    struct wire cipher, kdf, options, public, private, name;
    uint32_t count, check[2];
    if (!wire_string(&wire, &cipher) || !wire_string(&wire, &kdf) || !wire_string(&wire, &options) ||
        !wire_u32(&wire, &count) || count != 1 || !wire_string(&wire, &public) ||
        !wire_string(&wire, &private))
        goto bad;
    const char *type = key_type(public.p, public.left);
    if (type && set_public(id, type, public.p, public.left))
        return -1;
    *why = type_unusable(type);
    if (!*why && (!wire_is(&cipher, "none") || !wire_is(&kdf, "none")))
        *why = "encrypted";
    if (*why)
        return 0;
    if (wire.left || private.left % 8 || !wire_u32(&private, &check[0]) || !wire_u32(&private, &check[1]) ||
        check[0] != check[1] || !wire_string(&private, &name) || !wire_is(&name, type))
        goto bad;
    if (!strcmp(type, "ssh-ed25519"))
        id->ed25519 = ed25519_key(private);
    return 1;
bad:
    errno = EINVAL;
    return -1;
}

/* Whether the text has a private key in one of the formats that OpenSSH leaves to libcrypto. */
static bool is_pem(const char *text, size_t len, const char **why)
{
    static const struct {
        const char *line, *why;
    } formats[] = {{"-----BEGIN RSA PRIVATE KEY-----", "RSA"},
                   {"-----BEGIN DSA PRIVATE KEY-----", "DSA"},
                   {"-----BEGIN EC PRIVATE KEY-----", "in PEM format"},
                   {"-----BEGIN PRIVATE KEY-----", "in PEM format"},
                   {"-----BEGIN ENCRYPTED PRIVATE KEY-----", "encrypted"}};
    for (const char *p = text, *end = text + len; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            stop = end;
        for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
            size_t n = strlen(formats[i].line);
            if ((size_t)(stop - p) >= n && !memcmp(p, formats[i].line, n)) {
                *why = formats[i].why;
                return true;
            }
        }
        p = stop == end ? end : stop + 1;
    }
    return false;
}

int identity_parse(const char *text, size_t len, struct identity *id, const char **why)
{
    int result = -1;
    unsigned char *bytes = NULL;
    size_t bytes_len = 0;
    *id = (struct identity){0};
    *why = NULL;
    if (len < strlen(BEGIN) || memcmp(text, BEGIN, strlen(BEGIN))) {
        if (is_pem(text, len, why))
            return 0;
        errno = EINVAL;
        return -1;
    }
    const char *body = text + strlen(BEGIN) - 1; /* its line end may be the one before END */
    const char *end = memmem(body, len - (size_t)(body - text), END, strlen(END));
    if (!end) {
        errno = EINVAL;
        return -1;
    }
    bytes = key_base64(body, (size_t)(end - body), &bytes_len);
    if (!bytes)
        return -1;
    result = parse_envelope(bytes, bytes_len, id, why);
    if (result == 1) {
        id->private_pem = malloc(len + 1);
        if (id->private_pem) {
            memcpy(id->private_pem, text, len);
            id->private_pem[len] = '\0';
            id->private_len = len;
        } else {
            result = -1;
        }
    }
    int saved = errno;
    explicit_bzero(bytes, bytes_len);
    free(bytes);
    if (result == -1)
        identity_clear(id);
    errno = saved;
    return result;
}

/* The first public key of a text, as OpenSSH looks for one: comments and lines that are none passed over,
 * nothing sought in a private key.  NULL: errno. */
static unsigned char *find_public(const char *text, size_t len, size_t *blob_len)
{
    for (const char *p = text, *end = text + len; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            stop = end;
        size_t n = (size_t)(stop - p);
        if (n >= strlen("-----BEGIN") && !memcmp(p, "-----BEGIN", strlen("-----BEGIN")))
            break;
        unsigned char *blob = *p == '#' ? NULL : key_read(p, n, blob_len);
        if (blob || (*p != '#' && errno == ENOMEM))
            return blob;
        p = stop == end ? end : stop + 1;
    }
    errno = EINVAL;
    return NULL;
}

/* Reads FILE.  -1: no memory. */
static int load_private(struct candidate *c)
{
    int result = -1;
    size_t len = 0;
    struct stat st;
    char *text = file_text(c->path, FILE_MAX, &len, &st);
    if (!text) {
        if (errno == ENOMEM)
            return -1;
        if (errno == EACCES || errno == EPERM)
            c->why = "not readable";
        else if (errno != ENOENT && errno != ENOTDIR && errno != EINVAL && errno != EISDIR && errno != EFBIG)
            c->why = "cannot be read";
        return 0;
    }
    int rc = identity_parse(text, len, &c->id, &c->why);
    if (rc == -1 && errno == ENOMEM)
        goto out;
    c->usable = rc == 1;
    if (c->usable && st.st_uid == getuid() && st.st_mode & 077) {
        c->usable = false;
        c->why = "others may read it, so OpenSSH ignores it: chmod 600";
    }
    if (rc == -1) {
        c->public[0].data = find_public(text, len, &c->public[0].len);
        if (!c->public[0].data && errno == ENOMEM)
            goto out;
        if (!c->public[0].data && len)
            c->why = "not a key";
    }
    result = 0;
out:
    explicit_bzero(text, len);
    free(text);
    return result;
}

/* Reads FILE.pub.  -1: no memory. */
static int load_public(struct candidate *c)
{
    size_t len = 0;
    struct stat st;
    char *path, *text;
    if (asprintf(&path, "%s.pub", c->path) == -1)
        return -1;
    text = file_text(path, FILE_MAX, &len, &st);
    free(path);
    if (text)
        c->public[1].data = find_public(text, len, &c->public[1].len);
    free(text);
    return !c->public[1].data && errno == ENOMEM ? -1 : 0;
}

static void clear_candidate(struct candidate *c)
{
    identity_clear(&c->id);
    free(c->public[0].data);
    free(c->public[1].data);
}

static bool names_key(const struct candidate *c, const unsigned char *blob, size_t len)
{
    return same_stat(c->id.blob, c->id.blob_len, blob, len) ||
           same_stat(c->public[0].data, c->public[0].len, blob, len) ||
           same_stat(c->public[1].data, c->public[1].len, blob, len);
}

static void skip(struct identity_list *list, const char *name, const char *why)
{
    if (!list->skipped) {
        snprintf(list->skipped_why, sizeof list->skipped_why, "%s: %s", name, why);
        text_clean(list->skipped_why);
    }
    list->skipped = true;
}

static bool listed(const struct identity_list *list, const unsigned char *blob, size_t len)
{
    for (size_t i = 0; i < list->count; i++)
        if (same_stat(list->ids[i].blob, list->ids[i].blob_len, blob, len))
            return true;
    return false;
}

/* Moves *id, and its name, to the list. */
static int append(struct identity_list *list, struct identity *id, const char *name)
{
    struct identity *ids = realloc(list->ids, (list->count + 1) * sizeof *ids);
    if (!ids)
        return -1;
    list->ids = ids;
    id->name = strdup(name);
    if (!id->name)
        return -1;
    text_clean(id->name);
    ids[list->count++] = *id;
    *id = (struct identity){0};
    return 0;
}

static int add_agent_key(struct identity_list *list, const struct agent_key *key, const char *name)
{
    const char *type = key_type(key->blob, key->len), *why = type_unusable(type);
    if (why) {
        skip(list, name, why);
        return 0;
    }
    if (listed(list, key->blob, key->len))
        return 0;
    struct identity id = {0};
    int result = set_public(&id, type, key->blob, key->len);
    if (!result)
        result = append(list, &id, name);
    identity_clear(&id);
    return result;
}

/* The keys that the agent signs for: first those that a file names, then the others. */
static int add_agent_keys(struct identity_list *list, struct candidate *candidates, size_t count,
                          const struct agent_keys *agent_keys, bool identitiesonly)
{
    bool *named = calloc(agent_keys->count + 1, sizeof *named);
    if (!named)
        return -1;
    int result = 0;
    for (size_t i = 0; !result && i < agent_keys->count; i++)
        for (size_t k = 0; !named[i] && k < count; k++) {
            const struct agent_key *key = &agent_keys->keys[i];
            if (candidates[k].taken || !names_key(&candidates[k], key->blob, key->len))
                continue;
            candidates[k].taken = named[i] = true;
            result = add_agent_key(list, key, candidates[k].path);
        }
    for (size_t i = 0; !result && !identitiesonly && i < agent_keys->count; i++)
        if (!named[i])
            result = add_agent_key(list, &agent_keys->keys[i], agent_keys->keys[i].comment);
    free(named);
    return result;
}

static int add_file(struct identity_list *list, struct candidate *c)
{
    char *cert;
    if (asprintf(&cert, "%s-cert.pub", c->path) == -1)
        return -1;
    if (!access(cert, F_OK))
        skip(list, cert, "a certificate");
    free(cert);
    if (c->taken || listed(list, c->id.blob, c->id.blob_len))
        return 0;
    if (c->usable)
        return append(list, &c->id, c->path);
    if (c->why && !listed(list, c->public[0].data, c->public[0].len) &&
        !listed(list, c->public[1].data, c->public[1].len))
        skip(list, c->path, c->why);
    return 0;
}

struct identity_list *identity_list_make(const char *const *files, bool identitiesonly,
                                         const struct agent_keys *agent_keys, struct error *err)
{
    size_t count = 0;
    while (files[count])
        count++;
    struct identity_list *list = calloc(1, sizeof *list);
    struct candidate *candidates = calloc(count + 1, sizeof *candidates);
    bool done = false;
    if (!list || !candidates)
        goto out;
    for (size_t i = 0; i < count; i++) {
        candidates[i].path = files[i];
        if (load_private(&candidates[i]) || load_public(&candidates[i]))
            goto out;
    }
    if (agent_keys && add_agent_keys(list, candidates, count, agent_keys, identitiesonly))
        goto out;
    for (size_t i = 0; i < count; i++)
        if (add_file(list, &candidates[i]))
            goto out;
    done = true;
out:
    for (size_t i = 0; candidates && i < count; i++)
        clear_candidate(&candidates[i]);
    free(candidates);
    if (!done) {
        errno = ENOMEM;
        error_errno(err, "identities");
        identity_list_destroy(list);
        list = NULL;
    }
    return list;
}

void identity_list_destroy(struct identity_list *list)
{
    int saved = errno;
    if (list) {
        for (size_t i = 0; i < list->count; i++)
            identity_clear(&list->ids[i]);
        free(list->ids);
        free(list);
    }
    errno = saved;
}
