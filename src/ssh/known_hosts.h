/* known_hosts(5), read as OpenSSH reads it (sshd(8) SSH_KNOWN_HOSTS FILE FORMAT, hostfile.c).
 *
 * Plain, wildcard ("*.example.org", "?", "!negated") and hashed ("|1|salt|hash", HMAC-SHA1) names,
 * "[host]:port" names, @revoked.  As in OpenSSH the plain host name counts for a
 * port other than 22 only where no entry for "[host]:port" exists.  Names are compared in lower case.
 * A line that does not parse is skipped as OpenSSH skips it, unless its name
 * field matches the host: then the result is KNOWN_UNSURE.
 */
#ifndef CLOUDPLAN_KNOWN_HOSTS_H
#define CLOUDPLAN_KNOWN_HOSTS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum known_result {
    KNOWN_MATCH,   /* this key is known for this host */
    KNOWN_ABSENT,  /* nothing is known for this host */
    KNOWN_CHANGED, /* another key of this type, or only keys of other types, is known */
    KNOWN_REVOKED, /* this key is marked @revoked for this host */
    KNOWN_UNSURE   /* a @cert-authority or an unreadable line speaks of this host: ask OpenSSH */
};

/* The files of one configuration, parsed once; many hosts are looked up. */
struct known_hosts;

/* Reads the files (NULL-terminated list; a missing file is an empty one).  NULL and *err:
 * STATUS_SYSTEM without memory.  An unreadable file (EACCES, a directory) makes every look-up KNOWN_UNSURE. */
struct known_hosts *known_hosts_read(const char *const *files, struct error *err);
/* The same from memory, one file's text; for tests and the fuzzer. */
struct known_hosts *known_hosts_parse(const char *text, size_t len, struct error *err);
void known_hosts_destroy(struct known_hosts *known);

/* What is known for one host (borrows known).  host is HostKeyAlias or the name;
 * with an alias pass port 22. */
struct known_host;
struct known_host *known_hosts_lookup(const struct known_hosts *known, const char *host, uint16_t port,
                                      struct error *err);
void known_host_destroy(struct known_host *entry);

/* Checks a host key in SSH wire format (RFC 4253 6.6); blobs are compared as a whole.  REVOKED goes before UNSURE, UNSURE
 * before all else.  Under the plain name for another port a key can only match or be revoked: one that
 * differs leaves the host ABSENT, as OpenSSH has it.  *where (may be NULL) is set to "FILE:LINE" of the line that decided
 * ("FILE" where it cannot be read) or to "", valid as long as entry. */
enum known_result known_host_check(const struct known_host *entry, const unsigned char *key, size_t len,
                                   const char **where);
/* True if a usable (not CA, not revoked) key of this type ("ssh-ed25519") is known; "rsa-sha2-256" and "rsa-sha2-512"
 * ask for "ssh-rsa". */
int known_host_has_type(const struct known_host *entry, const char *type);
/* True if a @cert-authority or an unreadable line speaks of this host. */
int known_host_unsure(const struct known_host *entry);
/* How many usable keys there are. */
size_t known_host_count(const struct known_host *entry);

/* "SHA256:..." as ssh-keygen -l prints it; buf of 64 bytes. */
void known_fingerprint(const unsigned char *key, size_t len, char buf[64]);

#endif
