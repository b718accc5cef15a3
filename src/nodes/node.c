/* Names of nodes: what is one, what a range stands for, which two are the same.
 *
 * Everything a name may hold is listed here and the rest is refused, rather than quoted
 * later: names end up in ssh's argv, in xspecs, in GNU parallel's logins and in rsync's
 * remote paths, and each of those has other rules of quoting.  A hash table finds
 * duplicates: to compare each name with all others is quadratic, and an inventory may hold
 * ten thousand. */
#include "nodes/node.h"

#include "base/path.h"
#include "base/text.h"
#include "nodes/range.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARS TEXT_ALNUM "._-"

/* Of a directory on a node, besides the bytes of other alphabets: what every shell leaves alone. */
#define DIR_CHARS NAME_CHARS "+@/~,:=%"

/* Of directory services: user@domain, DOMAIN\user, DOMAIN+user, machine$.  Each place that a login goes to takes them as they
 * are, but for GNU parallel's logins (xspec.c). */
#define USER_CHARS NAME_CHARS "@\\$+"

#define WORD_SHOWN 100 /* bytes of a word in an error */

/* A name taken apart; the pointers lead into it. */
struct parts {
    const char *user;
    size_t user_len; /* 0: none */
    const char *host;
    size_t host_len;
    bool v6;
    uint16_t port; /* 0: none */
};

/* What the host and the user are made of. */
static int check_chars(const char *s, size_t len, const char *chars, const char *what, struct error *err)
{
    if (len == 0)
        return error_set(err, STATUS_DATA, "no %s in it", what);
    size_t good = strspn(s, chars);
    if (good < len) {
        unsigned char c = (unsigned char)s[good];
        char shown[8];
        snprintf(shown, sizeof shown, c > 0x20 && c < 0x7f ? "'%c'" : "0x%02x", c);
        if (c == '[' || c == ']')
            return error_set(err, STATUS_DATA, "unexpected %s: a range is [N-M], two whole numbers", shown);
        return error_set(err, STATUS_DATA,
                         "unexpected %s in the %s: only letters, digits, '.', '_' and '-'%s can stand there",
                         shown, what, strchr(chars, '@') ? ", '@', '\\', '$' and '+'" : "");
    }
    if (s[0] == '-')
        return error_set(err, STATUS_DATA, "a %s cannot begin with '-'", what);
    return 0;
}

/* What stands behind the "%" of an IPv6 address: the name of an interface, or its number. */
static int check_zone(const char *zone, size_t len, struct error *err)
{
    char name[IF_NAMESIZE];
    if (len >= sizeof name)
        return error_set(err, STATUS_DATA, "'%%%.*s' is longer than the name of an interface", (int)len,
                         zone);
    memcpy(name, zone, len);
    name[len] = '\0';
    return check_chars(name, len, NAME_CHARS, "zone", err);
}

static int check_v6(const char *s, size_t len, struct error *err)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *zone = memchr(s, '%', len);
    if (zone) {
        if (check_zone(zone + 1, (size_t)(s + len - zone - 1), err) < 0)
            return -1;
        len = (size_t)(zone - s);
    }
    if (len < sizeof text) {
        memcpy(text, s, len);
        text[len] = '\0';
        if (inet_pton(AF_INET6, text, &address) == 1)
            return 0;
    }
    return error_set(err, STATUS_DATA, "'%.*s' is not an IPv6 address", (int)len, s);
}

static int parse_port(uint16_t *port, const char *s, struct error *err)
{
    uint64_t value;
    if (strlen(s) > 5 || !text_number(s, 1, UINT16_MAX, &value))
        return error_set(err, STATUS_DATA, "the port '%s' is not a number from 1 to 65535", s);
    *port = (uint16_t)value;
    return 0;
}

/* Takes HOST, HOST:PORT, V6, [V6] or [V6]:PORT apart. */
static int parse_host(struct parts *parts, const char *s, struct error *err)
{
    const char *port = NULL;
    const char *colon = strchr(s, ':');
    parts->host = s;
    if (*s == '[') {
        const char *close = strchr(s, ']');
        if (!close)
            return error_set(err, STATUS_DATA, "'[' without ']'");
        if (!colon || colon > close)
            return error_set(err, STATUS_DATA,
                             "'%.*s' is neither a range [N-M] of whole numbers nor an IPv6 address",
                             (int)(close + 1 - s), s);
        if (close[1] != '\0' && close[1] != ':')
            return error_set(err, STATUS_DATA, "only ':' and a port can stand after ']'");
        parts->host = s + 1;
        parts->host_len = (size_t)(close - parts->host);
        parts->v6 = true;
        port = close[1] == ':' ? close + 2 : NULL;
    } else if (colon && strchr(colon + 1, ':')) {
        parts->host_len = strlen(s);
        parts->v6 = true;
    } else {
        parts->host_len = colon ? (size_t)(colon - s) : strlen(s);
        port = colon ? colon + 1 : NULL;
    }
    if (parts->v6 ? check_v6(parts->host, parts->host_len, err) < 0
                  : check_chars(parts->host, parts->host_len, NAME_CHARS, "host", err) < 0)
        return -1;
    if (*s == '.')
        return error_set(err, STATUS_DATA, "a host cannot begin with '.'");
    return port ? parse_port(&parts->port, port, err) : 0;
}

static int parse_name(struct parts *parts, const char *name, struct error *err)
{
    memset(parts, 0, sizeof *parts);
    parts->user = "";
    const char *at = strrchr(name, '@');
    if (!at)
        return parse_host(parts, name, err);
    parts->user = name;
    parts->user_len = (size_t)(at - name);
    if (check_chars(name, parts->user_len, USER_CHARS, "user", err) < 0)
        return -1;
    if (name[0] == '@' || strchr("@\\", at[-1]))
        return error_set(err, STATUS_DATA, "a user cannot begin with '@' or end with '@' or '\\'");
    return parse_host(parts, at + 1, err);
}

static void node_clear(struct node *node)
{
    free(node->name);
    free(node->user);
    free(node->host);
    free(node->dir);
}

static int node_init(struct node *node, const char *name, struct error *err)
{
    struct parts parts = {.user = "", .host = "localhost", .host_len = strlen("localhost")};
    memset(node, 0, sizeof *node);
    node->local = strcmp(name, ":") == 0;
    if (!node->local && parse_name(&parts, name, err) < 0)
        return -1;
    node->port = parts.port;
    char port[8] = "";
    if (parts.port)
        snprintf(port, sizeof port, ":%u", parts.port);
    bool brackets = parts.v6 && parts.port;
    char canonical[NODE_NAME_MAX]; /* never longer than name */
    snprintf(canonical, sizeof canonical, "%.*s%s%s%.*s%s%s", (int)parts.user_len, parts.user,
             parts.user_len ? "@" : "", brackets ? "[" : "", (int)parts.host_len, parts.host,
             brackets ? "]" : "", port);
    node->name = strdup(node->local ? name : canonical);
    node->host = strndup(parts.host, parts.host_len);
    node->user = parts.user_len ? strndup(parts.user, parts.user_len) : NULL;
    if (!node->name || !node->host || (parts.user_len && !node->user)) {
        node_clear(node);
        return error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    }
    return 0;
}

/* The slot of the index where name is or would be (FNV-1a, linear probing). */
static uint32_t *index_slot(uint32_t *index, size_t size, const struct node *nodes, const char *name)
{
    uint32_t hash = 2166136261u;
    for (const unsigned char *s = (const unsigned char *)name; *s; s++)
        hash = (hash ^ *s) * 16777619u;
    size_t i = hash & (size - 1);
    while (index[i] && strcmp(nodes[index[i] - 1].name, name) != 0)
        i = (i + 1) & (size - 1);
    return &index[i];
}

/* Makes room for one more node: twice the nodes, and an index at most half full. */
static int list_grow(struct node_list *list, struct error *err)
{
    size_t allocated = list->allocated ? list->allocated * 2 : 16;
    size_t size = allocated * 2;
    uint32_t *index = calloc(size, sizeof *index);
    struct node *nodes = index ? realloc(list->nodes, allocated * sizeof *nodes) : NULL;
    if (!nodes) {
        free(index);
        return error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    }
    for (size_t i = 0; i < list->count; i++)
        *index_slot(index, size, nodes, nodes[i].name) = (uint32_t)(i + 1);
    free(list->index);
    list->index = index;
    list->index_size = size;
    list->nodes = nodes;
    list->allocated = allocated;
    return 0;
}

static int list_append(struct node_list *list, const char *name, struct error *err)
{
    if (list->count == list->allocated && list_grow(list, err) < 0)
        return -1;
    struct node *node = &list->nodes[list->count];
    if (node_init(node, name, err) < 0)
        return -1;
    uint32_t *slot = index_slot(list->index, list->index_size, list->nodes, node->name);
    if (*slot) {
        if (list->duplicates++ == 0)
            snprintf(list->duplicate, sizeof list->duplicate, "%s", node->name);
        node_clear(node);
    } else {
        *slot = (uint32_t)++list->count;
    }
    return 0;
}

/* How much of a word an error shows: not all of a long one, and nothing after "user:", which
 * may be a password. */
static int shown(const char *word)
{
    const char *at = strchr(word, '@');
    const char *colon = at ? memchr(word, ':', (size_t)(at - word)) : NULL;
    size_t len = colon ? (size_t)(colon - word) : strlen(word);
    return len < WORD_SHOWN ? (int)len : WORD_SHOWN;
}

static int add_names(struct node_list *list, const char *word, struct error *err)
{
    struct range_word ranges;
    char name[NODE_NAME_MAX];
    if (strlen(word) >= NODE_WORD_MAX)
        return error_set(err, STATUS_DATA, "longer than %d bytes", NODE_WORD_MAX - 1);
    if (range_parse(&ranges, word, NODE_LIST_MAX, err) < 0)
        return -1;
    if (ranges.total > NODE_LIST_MAX - list->count - list->duplicates)
        return error_set(err, STATUS_DATA, "too many nodes: %d at most in all", NODE_LIST_MAX);
    for (uint64_t i = 0; i < ranges.total; i++) {
        if (!range_name(&ranges, i, name, sizeof name))
            return error_set(err, STATUS_DATA, "the name is longer than %d bytes", NODE_NAME_MAX - 1);
        if (list_append(list, name, err) < 0)
            return -1;
    }
    return 0;
}

int node_list_add(struct node_list *list, const char *word, struct error *err)
{
    struct error inner = ERROR_INIT;
    if (*word == '\0')
        return error_set(err, STATUS_DATA, "no node named");
    if (add_names(list, word, &inner) == 0)
        return 0;
    return error_set(err, inner.status, "%.*s: %s", shown(word), word, inner.text);
}

int node_list_add_words(struct node_list *list, const char *words, struct error *err)
{
    char word[NODE_WORD_MAX];
    const char *s = words + strspn(words, NODE_BLANKS);
    if (*s == '\0')
        return error_set(err, STATUS_DATA, "no node named");
    while (*s) {
        size_t len = strcspn(s, NODE_BLANKS);
        if (len >= sizeof word)
            return error_set(err, STATUS_DATA, "%.*s: longer than %d bytes", shown(s), s, NODE_WORD_MAX - 1);
        memcpy(word, s, len);
        word[len] = '\0';
        if (node_list_add(list, word, err) < 0)
            return -1;
        s += len;
        s += strspn(s, NODE_BLANKS);
    }
    return 0;
}

void node_list_clear(struct node_list *list)
{
    int saved = errno;
    for (size_t i = 0; i < list->count; i++)
        node_clear(&list->nodes[i]);
    free(list->nodes);
    free(list->index);
    *list = (struct node_list)NODE_LIST_INIT;
    errno = saved;
}

void node_set(struct node *node, enum node_state state, const char *fmt, ...)
{
    char reason[sizeof node->reason]; /* the former reason may be among the arguments */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    text_clean(reason);
    memcpy(node->reason, reason, sizeof reason);
    node->state = state;
    if (state != NODE_READY)
        node->processes = 0;
}

/* What is wrong with a node's word for a directory, or NULL; *c is a character that cannot stand in it, or NUL. */
static const char *wrong_dir(const char *dir, char *c)
{
    *c = '\0';
    if (*dir != '/' || strlen(dir) > NODE_DIR_MAX)
        return *dir == '/' ? "is too long" : "is no absolute path";
    for (const char *s = dir; *s; s++)
        if ((unsigned char)*s < 0x80 && !strchr(DIR_CHARS, *s)) {
            *c = *s;
            return "has a character that not every program on the way would leave alone";
        }
    size_t len = strlen(dir);
    if (strstr(dir, "//") || strstr(dir, "/./") || strstr(dir, "/../") || dir[len - 1] == '/' ||
        !strcmp(dir + len - 2, "/.") || (len > 2 && !strcmp(dir + len - 3, "/..")))
        return "is no physical path";
    return NULL;
}

/* The last part of a path. */
static const char *leaf(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int node_set_dir(struct node *node, const char *chdir, unsigned slot, const char *dir, struct error *err)
{
    char c, shown[204], clean[NODE_DIR_MAX + 2], name[300];
    snprintf(shown, sizeof shown, "%s", dir);
    text_clean(shown);
    const char *wrong = wrong_dir(dir, &c);
    if (wrong && c >= ' ' && c < 0x7f)
        return error_set(err, STATUS_DATA,
                         "its directory %.200s %s, '%c': choose another --cloud-chdir, an absolute one",
                         shown, wrong, c);
    if (wrong)
        return error_set(err, STATUS_DATA, "its directory %.200s %s", shown, wrong);
    snprintf(clean, sizeof clean, "%s", dir);
    text_clean(clean);
    if (strcmp(clean, dir))
        return error_set(err, STATUS_DATA,
                         "its directory %.200s is no UTF-8: choose another --cloud-chdir, an absolute one",
                         shown);
    if (slot > 1)
        snprintf(name, sizeof name, "%.250s~%u", leaf(chdir), slot);
    else
        snprintf(name, sizeof name, "%.250s", leaf(chdir));
    if (strcmp(leaf(dir), name))
        return error_set(err, STATUS_DATA, "its directory %.200s is not the one that was asked for, %.100s",
                         shown, name);
    char *copy = strdup(dir);
    if (!copy)
        return error_errno(err, "node");
    free(node->dir);
    node->dir = copy;
    return 0;
}

char *node_place(const struct node *node, const char *chdir, const char *path)
{
    char *place;
    size_t len = strlen(chdir);
    if (!path_below(chdir, path) || (node->slot <= 1 && !node->dir))
        return strdup(path);
    if (node->dir)
        return asprintf(&place, "%s%s", node->dir, path + len) < 0 ? NULL : place;
    return asprintf(&place, "%s~%u%s", chdir, node->slot, path + len) < 0 ? NULL : place;
}

const char *node_state_name(enum node_state state)
{
    static const char *const names[] = {
        [NODE_PENDING] = "pending", [NODE_READY] = "ready",     [NODE_UNFIT] = "unfit",
        [NODE_OFFLINE] = "offline", [NODE_REFUSED] = "refused", [NODE_FAILED] = "failed"};
    return names[state];
}

const char *plan_term_name(enum plan_term term)
{
    static const char *const names[] = {[TERM_NONE] = NULL,         [TERM_CORES] = "cores",
                                        [TERM_MEMORY] = "memory",   [TERM_MAX_PROCESSES] = "max-processes",
                                        [TERM_MACHINE] = "machine", [TERM_LEASE] = "lease",
                                        [TERM_EACH] = "each",       [TERM_FILES] = "files"};
    return names[term];
}

size_t node_list_ready(const struct node_list *list)
{
    size_t ready = 0;
    for (size_t i = 0; i < list->count; i++)
        ready += list->nodes[i].state == NODE_READY;
    return ready;
}

bool node_in_use(const struct node *node)
{
    return node->state == NODE_READY && node->processes > 0;
}

uint64_t node_list_processes(const struct node_list *list)
{
    uint64_t processes = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->nodes[i].state == NODE_READY)
            processes += list->nodes[i].processes;
    return processes;
}

const char *node_title(const struct node *node)
{
    return node->local ? "this machine" : node->name;
}

int node_list_unusable(const struct node_list *list, struct error *err)
{
    const struct node *first = list->nodes;
    if (list->count == 0)
        return error_set(err, STATUS_UNAVAILABLE, "no usable node: none was named");
    if (list->count == 1)
        return error_set(err, STATUS_UNAVAILABLE, "no usable node: %s: %s", node_title(first), first->reason);
    return error_set(err, STATUS_UNAVAILABLE, "no usable node of %zu: %s: %s", list->count, node_title(first),
                     first->reason);
}
