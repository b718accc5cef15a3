/* SSH public keys, as bytes and as text: what known_hosts, the identity files and the agent have in common.
 */
#ifndef CLOUDPLAN_KEY_H
#define CLOUDPLAN_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is left to read of a message in SSH wire format (RFC 4251 5); points into the message. */
struct wire {
    const unsigned char *p;
    size_t left;
};

/* Each takes one value off the front; false, and nothing is taken, where it is not there. */
bool wire_u32(struct wire *wire, uint32_t *value);
bool wire_string(struct wire *wire, struct wire *string);
/* Whether this is the string text. */
bool wire_is(const struct wire *wire, const char *text);

/* The type ("ssh-ed25519", static) of a public key in wire format (RFC 4253 6.6); NULL where it is not one
 * whole plain key of a type that OpenSSH knows. */
const char *key_type(const unsigned char *blob, size_t len);

/* Decodes base64 as strictly as OpenSSH: padded, no stray bits, white space passed over.  New; NULL: errno
 * EINVAL or ENOMEM. */
unsigned char *key_base64(const char *text, size_t len, size_t *out_len);

/* Reads "TYPE BASE64 [COMMENT]", the text of known_hosts (after the names) and .pub files, and checks the
 * blob with key_type().  New, in wire format; NULL: errno EINVAL or ENOMEM. */
unsigned char *key_read(const char *text, size_t len, size_t *blob_len);

#endif
