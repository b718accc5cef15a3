/* A plan as words for an engine.
 *
 * Neither xspecs nor GNU parallel's logins know any quoting, so a value that cannot stand in
 * one is refused, whoever it comes from: the command line, the directory that cloudplan was
 * started in, or ssh_config.  In a "//"-separated list a value must not end in "/" either: it would
 * move the separator by one byte. */
#include "xspec.h"

#include "sshconf.h"
#include "xspec_id.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
/* What ssh_config may say beyond what a node's name may: DOMAIN\user, user@domain.  GNU parallel would take a
 * part of those for the host, and a login with a blank for a command to run here. */
#define XSPEC_USER_CHARS LETTERS_DIGITS "._-+@\\"
#define LOGIN_USER_CHARS LETTERS_DIGITS "._-"
/* What a shell leaves alone.  Bytes of other alphabets do, too. */
#define PATH_CHARS LETTERS_DIGITS "._-+@/~,:=%"
void strings_free(char **strings)
{
    int saved = errno;
    for (size_t i = 0; strings && strings[i]; i++)
        free(strings[i]);
    free(strings);
    errno = saved;
}

int strings_add(char ***strings, const char *text, struct error *err)
{
    size_t n = 0;
    while ((*strings)[n])
        n++;
    char *copy = strdup(text), **grown = copy ? realloc(*strings, (n + 2) * sizeof *grown) : NULL;
    if (!grown) {
        free(copy);
        return error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    }
    grown[n] = copy;
    grown[n + 1] = NULL;
    *strings = grown;
    return 0;
}

/* asprintf() that gives NULL, and *err, without memory. */
static char *format(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static char *format(struct error *err, const char *fmt, ...)
{
    char *text;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n >= 0)
        return text;
    error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    return NULL;
}

/* Whether the value is a line of printable UTF-8: text_clean() would leave it alone. */
static int check_clean(const char *what, const char *value, struct error *err)
{
    char *clean = strdup(value);
    if (!clean)
        return error_errno(err, what);
    text_clean(clean);
    int result = strcmp(clean, value) == 0 ? 0 : -1;
    if (result < 0)
        error_set(err, STATUS_DATA, "%s '%s': a control character or broken UTF-8 cannot stand in an xspec",
                  what, clean);
    free(clean);
    return result;
}

static int check_value(const char *what, const char *value, struct error *err)
{
    if (check_clean(what, value, err) < 0)
        return -1;
    if (value[0] == '\0')
        return error_set(err, STATUS_DATA, "%s is empty", what);
    if (strstr(value, "//"))
        return error_set(err, STATUS_DATA,
                         "%s '%s': '//' separates the parts of an xspec and cannot stand in one", what,
                         value);
    if (value[strlen(value) - 1] == '/')
        return error_set(err, STATUS_DATA, "%s '%s': cannot end in '/' in an xspec: leave it out", what,
                         value);
    if (strchr(value, ' '))
        return error_set(err, STATUS_DATA, "%s '%s': a blank cannot stand in an xspec", what, value);
    return 0;
}

static int check_path(const char *what, const char *value, struct error *err)
{
    if (check_value(what, value, err) < 0)
        return -1;
    if (value[0] == '-')
        return error_set(err, STATUS_DATA, "%s '%s': cannot begin with '-'", what, value);
    size_t first = strcspn(value, "/"); /* the shell takes NAME=VALUE for an assignment */
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < 0x80 && (!strchr(PATH_CHARS, *c) || (*c == '=' && c < value + first)))
            return error_set(err, STATUS_DATA, "%s '%s': must be a path, without '%c'", what, value, *c);
    return 0;
}

static size_t count_of(const char *const *strings)
{
    size_t n = 0;
    while (strings && strings[n])
        n++;
    return n;
}

static int check_params(const struct xspec_params *params, struct error *err)
{
    if (check_value("the directory on the nodes", params->chdir, err) < 0)
        return -1;
    for (size_t i = 0; params->pythons[i]; i++)
        if (check_path("the nodes' python", params->pythons[i], err) < 0)
            return -1;
    for (size_t i = 0; params->local_pythons && params->local_pythons[i]; i++)
        if (check_path("this machine's python", params->local_pythons[i], err) < 0)
            return -1;
    return params->ssh_config ? check_value("the ssh_config", params->ssh_config, err) : 0;
}

/* One interpreter must not run what another one is to be tested with. */
static int check_local(const struct node_list *list, const struct xspec_params *params, struct error *err)
{
    size_t needed = params->each ? count_of(params->pythons) : 1, given = count_of(params->local_pythons);
    for (size_t i = 0; i < list->count; i++)
        if (list->nodes[i].local && xspec_in_use(&list->nodes[i]) && given < needed && (given || needed > 1))
            return error_set(err, STATUS_BUG, "%zu interpreters for this machine instead of %zu", given, needed);
    return 0;
}

/* The user to log in as; NULL: none known. */
static const char *login_user(const struct node *node)
{
    if (node->user)
        return node->user;
    return node->conf ? node->conf->user : NULL;
}

static int check_user(const struct node *node, const char *chars, const char *where, struct error *err)
{
    const char *user = login_user(node);
    if (user && (user[0] == '\0' || user[0] == '-' || user[strspn(user, chars)] != '\0'))
        return error_set(err, STATUS_DATA,
                         "%s: the user '%s' of ssh_config cannot stand in %s: name another as USER@%s",
                         node->name, user, where, node->name);
    return 0;
}

/* What stands before the id. */
static char *xspec_head(const struct node *node, struct error *err)
{
    char port[16] = "";
    if (node->local)
        return format(err, "popen");
    if (check_user(node, XSPEC_USER_CHARS, "an xspec", err) < 0)
        return NULL;
    if (node->port)
        snprintf(port, sizeof port, "-p %u ", node->port);
    const char *user = login_user(node);
    return format(err, "ssh=%s%s%s%s", port, user ? user : "", user ? "@" : "", node->host);
}

/* The nth interpreter as it is to be started there.  Where the probe has found the first one, in its own PATH: a login shell's may be
 * another one, or relative to where that shell stands. */
static const char *python_found(const struct node *node, const char *python, size_t n)
{
    struct error why = ERROR_INIT;
    const char *path = node->facts.python_path;
    bool known = node->dir && node->has_facts && n == 0 && !strchr(python, '/') && *path == '/';
    return known && check_path("python", path, &why) == 0 ? path : python;
}

/* What stands after the id. */
static char *xspec_tail(const struct node *node, const struct xspec_params *params, size_t n, struct error *err)
{
    const char *const *pythons = node->local ? params->local_pythons : params->pythons;
    if (node->local)
        return format(err, "%s%s", pythons ? "//python=" : "", pythons ? pythons[n] : "");
    const char *found = python_found(node, pythons[n], n);
    char *chdir = node_place(node, params->chdir, params->chdir), *tail = NULL;
    char *python = node_place(node, params->chdir, found);
    if (chdir && python)
        tail = format(err, "//node=%s//chdir=%s//python=%s%s%s", node->name, chdir, python, params->ssh_config ? "//ssh_config=" : "",
                      params->ssh_config ? params->ssh_config : "");
    else
        error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    free(chdir);
    free(python);
    return tail;
}

/* Adds so many xspecs of the node at *end, with the ids at *id; both move on. */
static int add_xspecs(char ***end, char *const **id, const struct node *node, size_t count,
                      const struct xspec_params *params, struct error *err)
{
    char *head = xspec_head(node, err);
    size_t i = 0;
    while (head && i < count) {
        char *tail = xspec_tail(node, params, params->each ? i : 0, err);
        char *xspec = tail ? format(err, "%s//id=%s%s", head, **id, tail) : NULL;
        free(tail);
        if (!xspec)
            break;
        *(*end)++ = xspec;
        ++*id;
        i++;
    }
    free(head);
    return i == count ? 0 : -1;
}

char **xspec_tx(const struct node_list *list, const struct xspec_params *params, struct error *err)
{
    size_t each = params->each ? count_of(params->pythons) : 0;
    uint64_t total = 0;
    for (size_t i = 0; i < list->count; i++)
        if (xspec_in_use(&list->nodes[i]))
            total += each ? each : list->nodes[i].processes;
    if (check_params(params, err) < 0 || check_local(list, params, err) < 0)
        return NULL;
    if (total > XSPEC_MAX) {
        error_set(err, STATUS_DATA, "%llu processes are more than %d: set --cloud-max-processes",
                  (unsigned long long)total, XSPEC_MAX);
        return NULL;
    }
    char **ids = xspec_ids(list, each, err);
    if (!ids)
        return NULL;
    char *const *id = ids;
    int result = 0;
    char **xspecs = calloc(total + 1, sizeof *xspecs);
    char **end = xspecs;
    if (!xspecs)
        result = error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    for (size_t i = 0; result == 0 && i < list->count; i++)
        if (xspec_in_use(&list->nodes[i]))
            result = add_xspecs(&end, &id, &list->nodes[i], each ? each : list->nodes[i].processes, params, err);
    strings_free(ids);
    if (result == 0)
        return xspecs;
    strings_free(xspecs);
    return NULL;
}

static char *sshlogin(const struct node *node, struct error *err)
{
    if (node->local)
        return format(err, "%u/:", node->processes);
    if (check_user(node, LOGIN_USER_CHARS, "a login of GNU parallel", err) < 0)
        return NULL;
    bool v6 = strchr(node->host, ':');
    if (v6 && strchr(node->host, '.')) { /* the "." would begin a port */
        error_set(err, STATUS_DATA,
                  "%s: an IPv4 address in an IPv6 one cannot be a login of GNU parallel: write it "
                  "in hexadecimal",
                  node->name);
        return NULL;
    }
    bool brackets = v6 && node->port;
    const char *user = login_user(node);
    char port[16] = "";
    if (node->port)
        snprintf(port, sizeof port, ":%u", node->port);
    return format(err, "%u/%s%s%s%s%s%s", node->processes, user ? user : "", user ? "@" : "",
                  brackets ? "[" : "", node->host, brackets ? "]" : "", port);
}

char **xspec_sshlogin(const struct node_list *list, struct error *err)
{
    char **logins = calloc(list->count + 1, sizeof *logins);
    char **end = logins;
    if (!logins) {
        error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
        return NULL;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (!xspec_in_use(&list->nodes[i]))
            continue;
        char *login = sshlogin(&list->nodes[i], err);
        if (!login) {
            strings_free(logins);
            return NULL;
        }
        *end++ = login;
    }
    return logins;
}
