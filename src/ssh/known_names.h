/* The name field of a known_hosts line: does it speak of this host?
 *
 * Either a list of patterns ("*", "?", "!negated") or one hashed name ("|1|salt|hash", HMAC-SHA1).
 */
#ifndef CLOUDPLAN_KNOWN_NAMES_H
#define CLOUDPLAN_KNOWN_NAMES_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

#define KNOWN_HASH_SIZE 20

struct known_names {
    const char *text; /* borrowed */
    size_t len;
    bool hashed;
    unsigned char salt[KNOWN_HASH_SIZE], hash[KNOWN_HASH_SIZE];
};

/* 1: read; 0: a hash of another shape, which matches no host; -1: no memory. */
int known_names_read(struct known_names *names, const char *text, size_t len);

/* 1: yes; 0: no; -1: libcrypto failed.  host is in lower case; ctx is used for each line again. */
int known_names_match(const struct known_names *names, const char *host, EVP_MD_CTX *ctx, const EVP_MD *sha1);

/* As OpenSSH compares names: ASCII only, whatever the locale. */
char known_lower(char c);

#endif
