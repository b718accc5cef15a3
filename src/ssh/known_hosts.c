/* known_hosts(5): is this the key that the host is known by?
 *
 * Decided here: the result is OpenSSH's, line by line, and where a line that it would skip or read as a
 * certificate authority speaks of the host, OpenSSH is to be asked.  libssh2's reader is not used: it takes a
 * @revoked key for a good one and stops at a bad line.  Reading only splits lines; keys are decoded
 * for the few lines that match, since a file of thousands is read for a few hosts.
 */
#include "ssh/known_hosts.h"

#include "base/file.h"
#include "ssh/key.h"
#include "ssh/known_names.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOURCE_MAX ((size_t)64 << 20) /* more is no known_hosts but, say, /dev/zero */

struct source {
    char *path;
    char *text;
    size_t len;
    int error; /* errno where the file cannot be read; 0: it could */
};

enum marker { MARKER_NONE, MARKER_REVOKED, MARKER_CA, MARKER_BAD };

struct line {
    struct known_names names;
    const char *key; /* what follows the names, within the source's text */
    size_t key_len, number, source;
    enum marker marker;
};

struct known_hosts {
    EVP_MD *sha1;
    struct source *sources;
    size_t source_count;
    struct line *lines;
    size_t line_count, line_capacity;
};

enum known_as { AS_USABLE, AS_REVOKED, AS_UNSURE };

struct known_key {
    enum known_as as;
    unsigned char *blob; /* NULL: unsure */
    size_t len;
    char *where;
};

struct known_host {
    struct known_key *keys;
    size_t count;
    bool plain_for_port; /* the keys are those of HOST, asked for is [HOST]:PORT */
};

static size_t skip_blanks(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && (p[n] == ' ' || p[n] == '\t'))
        n++;
    return n;
}

static size_t pass_word(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && p[n] != ' ' && p[n] != '\t')
        n++;
    return n;
}

/* OpenSSH ends a marker at the first blank of the line, if there is any, and only else at a tab. */
static enum marker take_marker(const char **line, const char *end)
{
    const char *p = *line, *stop = memchr(p, ' ', (size_t)(end - p));
    if (!stop)
        stop = memchr(p, '\t', (size_t)(end - p));
    size_t len = stop ? (size_t)(stop - p) : 0;
    enum marker marker = len == strlen("@revoked") && !memcmp(p, "@revoked", len) ? MARKER_REVOKED
                         : len == strlen("@cert-authority") && !memcmp(p, "@cert-authority", len)
                             ? MARKER_CA
                             : MARKER_BAD;
    for (size_t words = 0; p < end && *p == '@'; words++) {
        if (words)
            marker = MARKER_BAD; /* one is allowed */
        p += pass_word(p, end);
        p += skip_blanks(p, end);
    }
    *line = p;
    return marker;
}

static int parse_entry(struct known_hosts *known, const char *p, const char *end, size_t number)
{
    struct line line = {.number = number, .source = known->source_count - 1};
    const char *nul = memchr(p, '\0', (size_t)(end - p));
    if (nul) /* as it does for a C string */
        end = nul;
    p += skip_blanks(p, end);
    if (p == end || *p == '#')
        return 0;
    if (*p == '@')
        line.marker = take_marker(&p, end);
    line.key = p + pass_word(p, end);
    line.key_len = (size_t)(end - line.key);
    int rc = known_names_read(&line.names, p, (size_t)(line.key - p));
    if (rc <= 0)
        return rc;
    if (known->line_count == known->line_capacity) {
        size_t capacity = known->line_capacity ? known->line_capacity * 2 : 64;
        struct line *lines = realloc(known->lines, capacity * sizeof *lines);
        if (!lines)
            return -1;
        known->lines = lines;
        known->line_capacity = capacity;
    }
    known->lines[known->line_count++] = line;
    return 0;
}

static int parse_source(struct known_hosts *known)
{
    const struct source *source = &known->sources[known->source_count - 1];
    const char *p = source->text, *end = p ? p + source->len : p;
    for (size_t number = 1; p < end; number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop)
            stop = end;
        if (parse_entry(known, p, stop, number))
            return -1;
        p = stop + 1;
    }
    return 0;
}

/* -1: no memory.  What else goes wrong is the source's error. */
static int read_source(struct source *source)
{
    struct stat st;
    source->text = file_text(source->path, SOURCE_MAX, &source->len, &st);
    if (!source->text && errno == ENOMEM)
        return -1;
    /* /dev/null is the usual way to have none; what waits to be written to holds nothing yet. */
    bool none = errno == ENOENT || errno == ENOTDIR ||
                (errno == EINVAL &&
                 (!strcmp(source->path, "/dev/null") || (!stat(source->path, &st) && S_ISFIFO(st.st_mode))));
    if (!source->text && !none)
        source->error = errno;
    return 0;
}

static struct known_hosts *create_list(size_t sources, struct error *err)
{
    struct known_hosts *known = calloc(1, sizeof *known);
    if (!known || !(known->sources = calloc(sources ? sources : 1, sizeof *known->sources))) {
        error_errno(err, "known_hosts");
        free(known);
        return NULL;
    }
    known->sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
    if (!known->sha1) {
        error_set(err, STATUS_SYSTEM, "known_hosts: libcrypto has no SHA-1: allow it in openssl.cnf");
        known_hosts_destroy(known);
        return NULL;
    }
    return known;
}

struct known_hosts *known_hosts_read(const char *const *files, struct error *err)
{
    size_t count = 0;
    while (files[count])
        count++;
    struct known_hosts *known = create_list(count, err);
    if (!known)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct source *source = &known->sources[known->source_count++];
        source->path = strdup(files[i]);
        if (!source->path || read_source(source) || parse_source(known)) {
            errno = ENOMEM;
            error_errno(err, "known_hosts");
            known_hosts_destroy(known);
            return NULL;
        }
    }
    return known;
}

struct known_hosts *known_hosts_parse(const char *text, size_t len, struct error *err)
{
    struct known_hosts *known = create_list(1, err);
    if (!known)
        return NULL;
    struct source *source = &known->sources[known->source_count++];
    source->path = strdup("known_hosts");
    source->text = malloc(len + 1);
    if (source->text && len)
        memcpy(source->text, text, len);
    source->len = len;
    if (!source->path || !source->text || parse_source(known)) {
        errno = ENOMEM;
        error_errno(err, "known_hosts");
        known_hosts_destroy(known);
        return NULL;
    }
    return known;
}

void known_hosts_destroy(struct known_hosts *known)
{
    int saved = errno;
    if (known) {
        for (size_t i = 0; i < known->source_count; i++) {
            free(known->sources[i].path);
            free(known->sources[i].text);
        }
        EVP_MD_free(known->sha1);
        free(known->sources);
        free(known->lines);
        free(known);
    }
    errno = saved;
}

static struct known_key *add_host_key(struct known_host *entry, enum known_as as, const char *path,
                                      size_t number)
{
    struct known_key *keys = realloc(entry->keys, (entry->count + 1) * sizeof *keys);
    if (!keys)
        return NULL;
    entry->keys = keys;
    struct known_key *key = &keys[entry->count];
    *key = (struct known_key){.as = as};
    if ((number ? asprintf(&key->where, "%s:%zu", path, number) : asprintf(&key->where, "%s", path)) == -1)
        return NULL;
    entry->count++;
    return key;
}

/* Adds what a line that matches says.  -1: no memory. */
static int add_line(struct known_host *entry, const struct known_hosts *known, const struct line *line)
{
    unsigned char *blob = NULL;
    size_t len = 0;
    if (line->marker == MARKER_NONE || line->marker == MARKER_REVOKED) {
        blob = key_read(line->key, line->key_len, &len);
        if (!blob && errno == ENOMEM)
            return -1;
    }
    enum known_as as = !blob ? AS_UNSURE : line->marker == MARKER_REVOKED ? AS_REVOKED : AS_USABLE;
    struct known_key *key = add_host_key(entry, as, known->sources[line->source].path, line->number);
    if (!key) {
        free(blob);
        return -1;
    }
    key->blob = blob;
    key->len = len;
    return 0;
}

/* Adds what is known under one name, in lower case. */
static int collect(struct known_host *entry, const struct known_hosts *known, const char *name,
                   struct error *err)
{
    int result = -1;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx) {
        errno = ENOMEM;
        goto out;
    }
    for (size_t i = 0; i < known->line_count; i++) {
        const struct line *line = &known->lines[i];
        int matches = known_names_match(&line->names, name, ctx, known->sha1);
        if (matches == -1)
            error_set(err, STATUS_SYSTEM, "known_hosts: libcrypto cannot compute SHA-1: check openssl.cnf");
        if (matches == -1 || (matches && add_line(entry, known, line)))
            goto out;
    }
    result = 0;
out:
    EVP_MD_CTX_free(ctx);
    return result;
}

struct known_host *known_hosts_lookup(const struct known_hosts *known, const char *host, uint16_t port,
                                      struct error *err)
{
    char *with_port = NULL;
    struct known_host *entry = calloc(1, sizeof *entry);
    char *name = entry ? strdup(host) : NULL;
    if (!name)
        goto fail;
    for (char *p = name; *p; p++)
        *p = known_lower(*p);
    for (size_t i = 0; i < known->source_count; i++)
        if (known->sources[i].error && !add_host_key(entry, AS_UNSURE, known->sources[i].path, 0))
            goto fail;
    if (port != 0 && port != 22) {
        if (asprintf(&with_port, "[%s]:%u", name, (unsigned)port) == -1) {
            with_port = NULL;
            goto fail;
        }
        if (collect(entry, known, with_port, err))
            goto fail;
        entry->plain_for_port = known_host_count(entry) == 0;
    }
    if ((!with_port || entry->plain_for_port) && collect(entry, known, name, err))
        goto fail;
    free(with_port);
    free(name);
    return entry;
fail:
    error_errno(err, "known_hosts");
    free(with_port);
    free(name);
    known_host_destroy(entry);
    return NULL;
}

void known_host_destroy(struct known_host *entry)
{
    int saved = errno;
    if (entry) {
        for (size_t i = 0; i < entry->count; i++) {
            free(entry->keys[i].blob);
            free(entry->keys[i].where);
        }
        free(entry->keys);
        free(entry);
    }
    errno = saved;
}

/* The first key known as this that is equal to key; the first at all where key is NULL. */
static const struct known_key *find_key(const struct known_host *entry, enum known_as as,
                                        const unsigned char *key, size_t len)
{
    for (size_t i = 0; i < entry->count; i++) {
        const struct known_key *k = &entry->keys[i];
        if (k->as == as && (!key || (k->len == len && !memcmp(k->blob, key, len))))
            return k;
    }
    return NULL;
}

static const struct known_key *find_type(const struct known_host *entry, const char *type)
{
    for (size_t i = 0; i < entry->count; i++) {
        const struct known_key *k = &entry->keys[i];
        if (k->as == AS_USABLE && !strcmp(key_type(k->blob, k->len), type))
            return k;
    }
    return NULL;
}

enum known_result known_host_check(const struct known_host *entry, const unsigned char *key, size_t len,
                                   const char **where)
{
    const struct known_key *decides;
    enum known_result result = KNOWN_ABSENT;
    if ((decides = find_key(entry, AS_REVOKED, key, len))) {
        result = KNOWN_REVOKED;
    } else if ((decides = find_key(entry, AS_UNSURE, NULL, 0))) {
        result = KNOWN_UNSURE;
    } else if ((decides = find_key(entry, AS_USABLE, key, len))) {
        result = KNOWN_MATCH;
    } else if (!entry->plain_for_port && known_host_count(entry)) {
        /* To OpenSSH a key that differs under the plain name leaves [HOST]:PORT new. */
        const char *type = key_type(key, len);
        result = KNOWN_CHANGED;
        decides = type ? find_type(entry, type) : NULL;
        if (!decides)
            decides = find_key(entry, AS_USABLE, NULL, 0);
    }
    if (where)
        *where = decides ? decides->where : "";
    return result;
}

int known_host_has_type(const struct known_host *entry, const char *type)
{
    bool rsa =
        !strcmp(type, "rsa-sha2-256") || !strcmp(type, "rsa-sha2-512"); /* signatures by the same keys */
    return find_type(entry, rsa ? "ssh-rsa" : type) != NULL;
}

int known_host_unsure(const struct known_host *entry)
{
    return find_key(entry, AS_UNSURE, NULL, 0) != NULL;
}

size_t known_host_count(const struct known_host *entry)
{
    size_t n = 0;
    for (size_t i = 0; i < entry->count; i++)
        n += entry->keys[i].as == AS_USABLE;
    return n;
}

void known_fingerprint(const unsigned char *key, size_t len, char buf[64])
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    strcpy(buf, "SHA256:");
    if (!EVP_Digest(key, len, hash, &n, EVP_sha256(), NULL)) {
        strcat(buf, "?");
        return;
    }
    int encoded = EVP_EncodeBlock((unsigned char *)buf + strlen(buf), hash, (int)n);
    if (encoded > 0 && buf[strlen(buf) - 1] == '=')
        buf[strlen(buf) - 1] = '\0';
}
