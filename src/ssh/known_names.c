/* The names of a known_hosts line.
 *
 * Decided here: the HMACs of hashed names are made from plain digests on one context, since EVP_MAC sets up
 * more than it computes: 2,000 hashed lines take some 0.4 ms.  Patterns are matched without recursion, so
 * that no line of a file takes exponential time.
 */
#include "ssh/known_names.h"

#include "ssh/key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_MAX 1023 /* OpenSSH: a line with a longer pattern matches nothing */
#define SHA1_SIZE KNOWN_HASH_SIZE
#define SHA1_BLOCK 64

char known_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* "|1|SALT|HASH"; any other shape matches no host. */
static int read_hash(struct known_names *names)
{
    enum { ENCODED = 28, MAGIC = 3 };
    const struct {
        size_t at;
        unsigned char *out;
    } parts[] = {{MAGIC, names->salt}, {MAGIC + ENCODED + 1, names->hash}};
    if (names->len != MAGIC + ENCODED + 1 + ENCODED || memcmp(names->text, "|1|", MAGIC) ||
        names->text[MAGIC + ENCODED] != '|')
        return 0;
    for (size_t i = 0; i < 2; i++) {
        size_t len;
        unsigned char *bytes = key_base64(names->text + parts[i].at, ENCODED, &len);
        if (!bytes)
            return errno == ENOMEM ? -1 : 0;
        if (len == SHA1_SIZE)
            memcpy(parts[i].out, bytes, SHA1_SIZE);
        free(bytes);
        if (len != SHA1_SIZE)
            return 0;
    }
    return 1;
}

int known_names_read(struct known_names *names, const char *text, size_t len)
{
    *names = (struct known_names){.text = text, .len = len, .hashed = len && *text == '|'};
    return names->hashed ? read_hash(names) : 1;
}

/* Whether the pattern, with "*" and "?", matches the whole of host.  After a mismatch only the last "*"
 * has to be tried again. */
static bool match_pattern(const char *p, const char *end, const char *host)
{
    const char *star = NULL, *again = NULL;
    while (*host) {
        if (p < end && *p == '*') {
            star = ++p;
            again = host;
        } else if (p < end && (*p == '?' || known_lower(*p) == *host)) {
            p++;
            host++;
        } else if (star) {
            p = star;
            host = ++again;
        } else {
            return false;
        }
    }
    while (p < end && *p == '*')
        p++;
    return p == end;
}

static bool match_list(const char *names, size_t len, const char *host)
{
    bool matches = false;
    for (const char *p = names, *end = names + len; p < end;) {
        bool negated = *p == '!';
        p += negated;
        const char *stop = memchr(p, ',', (size_t)(end - p));
        if (!stop)
            stop = end;
        if (stop - p >= PATTERN_MAX)
            return false;
        if (match_pattern(p, stop, host)) {
            if (negated)
                return false;
            matches = true;
        }
        p = stop == end ? end : stop + 1;
    }
    return matches;
}

/* HMAC-SHA1 of text, with a key no longer than a block.  false: libcrypto failed. */
static bool hmac(EVP_MD_CTX *ctx, const EVP_MD *sha1, const unsigned char key[SHA1_SIZE], const char *text,
                 size_t len, unsigned char out[SHA1_SIZE])
{
    unsigned char inner[SHA1_BLOCK], outer[SHA1_BLOCK];
    for (size_t i = 0; i < SHA1_BLOCK; i++) {
        inner[i] = 0x36 ^ (i < SHA1_SIZE ? key[i] : 0);
        outer[i] = 0x5c ^ (i < SHA1_SIZE ? key[i] : 0);
    }
    return EVP_DigestInit_ex2(ctx, sha1, NULL) && EVP_DigestUpdate(ctx, inner, sizeof inner) &&
           EVP_DigestUpdate(ctx, text, len) && EVP_DigestFinal_ex(ctx, out, NULL) &&
           EVP_DigestInit_ex2(ctx, sha1, NULL) && EVP_DigestUpdate(ctx, outer, sizeof outer) &&
           EVP_DigestUpdate(ctx, out, SHA1_SIZE) && EVP_DigestFinal_ex(ctx, out, NULL);
}

int known_names_match(const struct known_names *names, const char *host, EVP_MD_CTX *ctx, const EVP_MD *sha1)
{
    if (!names->hashed)
        return match_list(names->text, names->len, host);
    unsigned char hash[SHA1_SIZE];
    if (!hmac(ctx, sha1, names->salt, host, strlen(host), hash))
        return -1;
    return !memcmp(hash, names->hash, SHA1_SIZE);
}
