/* SSH public keys: is this one, and of what type?
 *
 * Decided here: a blob is taken apart far enough to know that it is whole (every field there, the fixed
 * ones of the right size, nothing after them), but the numbers are not checked; a point off its
 * curve can only fail to be equal to a real key.  libcrypto's base64 decoder is not used: it takes
 * what OpenSSH refuses (stray bits, a '-' as the end).
 */
#include "ssh/key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool wire_u32(struct wire *wire, uint32_t *value)
{
    if (wire->left < 4)
        return false;
    const unsigned char *p = wire->p;
    *value = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    wire->p += 4;
    wire->left -= 4;
    return true;
}

bool wire_string(struct wire *wire, struct wire *string)
{
    struct wire rest = *wire;
    uint32_t len;
    if (!wire_u32(&rest, &len) || rest.left < len)
        return false;
    *string = (struct wire){rest.p, len};
    *wire = (struct wire){rest.p + len, rest.left - len};
    return true;
}

bool wire_is(const struct wire *wire, const char *text)
{
    return wire->left == strlen(text) && !memcmp(wire->p, text, wire->left);
}

/* The plain key types and the fields after the name: a size in bytes, CURVE (the curve's name as the type has
 * it) or ANY. */
#define ANY SIZE_MAX
#define CURVE (SIZE_MAX - 1)
static const struct {
    const char *name;
    size_t fields[4]; /* ends with 0 where there are fewer */
} types[] = {
    {"ssh-ed25519", {32}},
    {"ecdsa-sha2-nistp256", {CURVE, 65}},
    {"ecdsa-sha2-nistp384", {CURVE, 97}},
    {"ecdsa-sha2-nistp521", {CURVE, 133}},
    {"ssh-rsa", {ANY, ANY}},
    {"ssh-dss", {ANY, ANY, ANY, ANY}},
    {"sk-ssh-ed25519@openssh.com", {32, ANY}},
    {"sk-ecdsa-sha2-nistp256@openssh.com", {CURVE, 65, ANY}},
};

static bool fits_in_blob(const struct wire *field, size_t size, const char *type)
{
    if (size == CURVE)
        return field->left == strlen("nistp256") && !memcmp(field->p, strstr(type, "nistp"), field->left);
    return size == ANY || field->left == size;
}

const char *key_type(const unsigned char *blob, size_t len)
{
    struct wire wire = {blob, len}, name, field;
    if (!wire_string(&wire, &name))
        return NULL;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!wire_is(&name, types[i].name))
            continue;
        for (size_t k = 0; k < 4 && types[i].fields[k]; k++)
            if (!wire_string(&wire, &field) || !fits_in_blob(&field, types[i].fields[k], types[i].name))
                return NULL;
        return wire.left == 0 ? types[i].name : NULL;
    }
    return NULL;
}

static int digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

unsigned char *key_base64(const char *text, size_t len, size_t *out_len)
{
    unsigned char *out = malloc(len / 4 * 3 + 3);
    if (!out)
        return NULL;
    size_t digits = 0, padding = 0, n = 0;
    uint32_t bits = 0; /* the low 2, 4 or 6 are not yet a byte */
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r'))
            continue;
        if (text[i] == '=') {
            padding++;
            continue;
        }
        int value = digit(text[i]);
        if (value < 0 || padding)
            goto bad;
        bits = bits << 6 | (uint32_t)value;
        if (digits++ % 4)
            out[n++] = (unsigned char)(bits >> (6 - 2 * ((digits - 1) % 4)));
    }
    uint32_t stray = digits % 4 == 2 ? bits & 0xf : digits % 4 == 3 ? bits & 0x3 : 0;
    if (padding > 2 || (digits + padding) % 4 || stray)
        goto bad;
    *out_len = n;
    return out;
bad:
    explicit_bzero(out, n); /* it may be a private key's */
    free(out);
    errno = EINVAL;
    return NULL;
}

/* The next word of the text up to its end; *text moves behind it. */
static size_t key_word(const char **text, const char *end, const char **start)
{
    while (*text < end && (**text == ' ' || **text == '\t'))
        ++*text;
    *start = *text;
    while (*text < end && **text != ' ' && **text != '\t')
        ++*text;
    return (size_t)(*text - *start);
}

unsigned char *key_read(const char *text, size_t len, size_t *blob_len)
{
    const char *end = text + len, *name, *base64;
    size_t name_len = key_word(&text, end, &name), base64_len = key_word(&text, end, &base64);
    unsigned char *blob = key_base64(base64, base64_len, blob_len);
    if (!blob)
        return NULL;
    const char *type = key_type(blob, *blob_len);
    if (type && strlen(type) == name_len && !memcmp(type, name, name_len))
        return blob;
    free(blob);
    errno = EINVAL;
    return NULL;
}
