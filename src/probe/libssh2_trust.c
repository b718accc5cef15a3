/* The rules are OpenSSH's (sshconnect.c, check_host_key and order_hostkeyalgs).  Where it would add a key to
 * known_hosts, or go on with a changed one, it does so itself. */
#include "probe/libssh2_trust.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keeps of a comma-separated list what libssh2 supports and sets it; with known, types known for the host
 * come first.  -1: nothing is left. */
static int prefer(LIBSSH2_SESSION *session, int method, const char *wanted, const struct known_host *known)
{
    const char **algs = NULL;
    int n = libssh2_session_supported_algs(session, method, &algs), result = -1;
    char *list = n > 0 ? malloc(strlen(wanted) + 1) : NULL;
    size_t len = 0;
    for (int round = known ? 0 : 1; list && round < 2; round++)
        for (const char *p = wanted; *p;) {
            size_t word = strcspn(p, ",");
            for (int i = 0; i < n; i++) {
                if (strlen(algs[i]) != word || strncmp(algs[i], p, word))
                    continue;
                if (!known || (known_host_has_type(known, algs[i]) != 0) == (round == 0))
                    len += (size_t)sprintf(list + len, "%s%.*s", len ? "," : "", (int)word, p);
                break;
            }
            p += word + (p[word] == ',');
        }
    if (len)
        result = libssh2_session_method_pref(session, method, list);
    free(list);
    if (n > 0)
        libssh2_free(session, algs);
    return result;
}

const char *trust_algorithms(LIBSSH2_SESSION *session, const struct sshconf *conf,
                             const struct known_host *known)
{
    const struct {
        int method;
        const char *wanted, *name;
    } methods[] = {
        {LIBSSH2_METHOD_KEX, conf->kexalgorithms, "key exchange"},
        {LIBSSH2_METHOD_HOSTKEY, conf->hostkeyalgorithms, "host key"},
        {LIBSSH2_METHOD_CRYPT_CS, conf->ciphers, "cipher"},
        {LIBSSH2_METHOD_CRYPT_SC, conf->ciphers, "cipher"},
        {LIBSSH2_METHOD_MAC_CS, conf->macs, "MAC"},
        {LIBSSH2_METHOD_MAC_SC, conf->macs, "MAC"},
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (prefer(session, methods[i].method, methods[i].wanted,
                   methods[i].method == LIBSSH2_METHOD_HOSTKEY ? known : NULL))
            return methods[i].name;
    return NULL;
}

/* Whether a key of the same type as this one is known. */
static bool type_is_known(const struct known_host *known, const unsigned char *key, size_t len)
{
    char type[64];
    size_t n = len > 4 ? (size_t)key[0] << 24 | (size_t)key[1] << 16 | (size_t)key[2] << 8 | key[3] : 0;
    if (n == 0 || n >= sizeof type || n > len - 4)
        return false;
    memcpy(type, key + 4, n);
    type[n] = '\0';
    return known_host_has_type(known, type) != 0;
}

static enum trust verdict(enum trust trust, char reason[ERROR_TEXT_MAX], const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum trust verdict(enum trust trust, char reason[ERROR_TEXT_MAX], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, ERROR_TEXT_MAX, fmt, ap);
    va_end(ap);
    text_clean(reason);
    return trust;
}

enum trust trust_host_key(const struct sshconf *conf, const struct known_host *known,
                          const unsigned char *key, size_t len, char reason[ERROR_TEXT_MAX])
{
    const char *where = "", *checking = conf->stricthostkeychecking;
    char print[64];
    enum known_result result = known_host_check(known, key, len, &where);
    known_fingerprint(key, len, print);
    /* Keys are known, but none of this type: OpenSSH may agree with the node on one that libssh2 lacks (RSA). */
    if ((result == KNOWN_ABSENT || result == KNOWN_CHANGED) && known_host_count(known) &&
        !type_is_known(known, key, len))
        return verdict(TRUST_OPENSSH, reason,
                       "known_hosts has other types of host key than libssh2 and the node agree on");
    bool strict = !strcmp(checking, "ask") || !strcmp(checking, "true") || !strcmp(checking, "yes");
    switch (result) {
    case KNOWN_MATCH:
        return TRUST_ACCEPT;
    case KNOWN_ABSENT:
        if (!strict)
            return verdict(TRUST_OPENSSH, reason, "StrictHostKeyChecking lets OpenSSH add the new host key");
        return verdict(TRUST_REFUSE, reason,
                       "host key unknown: %s is not in known_hosts; ssh to the node once, or use ssh-keyscan",
                       print);
    case KNOWN_CHANGED:
        if (!strict && strcmp(checking, "accept-new"))
            return verdict(TRUST_OPENSSH, reason,
                           "StrictHostKeyChecking is off: OpenSSH decides on the changed host key");
        return verdict(TRUST_REFUSE, reason,
                       "host key changed: %s is not the one in known_hosts%s%s; if the node was set up anew: "
                       "ssh-keygen -R",
                       print, *where ? " " : "", where);
    case KNOWN_REVOKED:
        return verdict(TRUST_REFUSE, reason, "host key revoked: known_hosts marks it @revoked%s%s",
                       *where ? ", " : "", where);
    case KNOWN_UNSURE:
        break;
    }
    return verdict(TRUST_OPENSSH, reason, "a line of known_hosts that only OpenSSH understands");
}
