/* A plan as xspecs.
 *
 * xspecs know no quoting, so a value that cannot stand in
 * one is refused, whoever it comes from: the command line, the directory that cloudplan was
 * started in, or ssh_config.  In a "//"-separated list a value must not end in "/" either: it would
 * move the separator by one byte. */
#include "engine/pytest/xspec.h"

#include "base/shquote.h"
#include "base/strv.h"
#include "base/text.h"
#include "engine/pytest/xspec_id.h"
#include "ssh/ssh_target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a user in an xspec: no blank, and nothing that a separator is made of. */
#define XSPEC_USER_CHARS TEXT_ALNUM "._-+@\\$"
/* What a shell leaves alone.  Bytes of other alphabets do, too. */
#define PATH_CHARS TEXT_ALNUM "._-+@/~,:=%"

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

/* Whether it would stay one part of an xspec. */
static int check_parts(const char *what, const char *value, struct error *err)
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
    return 0;
}

static int check_value(const char *what, const char *value, struct error *err)
{
    if (check_parts(what, value, err) < 0)
        return -1;
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

static int check_params(const struct xspec_params *params, struct error *err)
{
    if (check_value("the directory on the nodes", params->chdir, err) < 0)
        return -1;
    for (size_t i = 0; params->pythons[i]; i++)
        if (check_path("the nodes' python", params->pythons[i], err) < 0)
            return -1;
    return params->ssh_config ? check_value("the ssh_config", params->ssh_config, err) : 0;
}

/* One interpreter must not run what another one is to be tested with.  A path of this machine's is looked at only where this machine
 * is to work: a job's directory at a CI server has blanks in its name, and that is no matter to the nodes. */
static int check_local(const struct node_list *list, const struct xspec_params *params, struct error *err)
{
    size_t needed = params->each ? strings_count((char *const *)params->pythons) : 1,
           given = strings_count((char *const *)params->local_pythons);
    bool used = false;
    for (size_t i = 0; i < list->count; i++)
        used = used || (list->nodes[i].local && node_in_use(&list->nodes[i]));
    if (!used)
        return 0;
    if (given < needed && (given || needed > 1))
        return error_set(err, STATUS_BUG, "%zu interpreters for this machine instead of %zu", given, needed);
    for (size_t i = 0; i < given; i++)
        if (check_parts("this machine's python", params->local_pythons[i], err) < 0)
            return -1;
    return 0;
}

/* execnet takes the python of a popen apart as a shell would: shlex.split().  Owned by the caller; NULL without memory. */
static char *local_word(const char *path, struct error *err)
{
    char *text = NULL;
    size_t len;
    if (!path[strspn(path, PATH_CHARS)])
        return text_format(err, "%s", path);
    FILE *out = open_memstream(&text, &len);
    if (out)
        shell_quote(out, path);
    if (out && fclose(out) == 0)
        return text;
    free(text);
    error_errno(err, "an xspec");
    return NULL;
}

/* What stands before the id. */
static char *xspec_head(const struct node *node, struct error *err)
{
    char port[16] = "";
    if (node->local)
        return text_format(err, "popen");
    if (node->port)
        snprintf(port, sizeof port, "-p %u ", node->port);
    const char *user = ssh_target_user(node, XSPEC_USER_CHARS);
    return text_format(err, "ssh=%s%s%s%s", port, user ? user : "", user ? "@" : "", node->host);
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
static char *xspec_tail(const struct node *node, const struct xspec_params *params, size_t n,
                        struct error *err)
{
    const char *const *pythons = node->local ? params->local_pythons : params->pythons;
    char *tail = NULL;
    if (node->local && pythons) {
        char *python = local_word(pythons[n], err);
        tail = python ? text_format(err, "//python=%s", python) : NULL;
        free(python);
        return tail;
    }
    if (node->local)
        return text_format(err, "%s", "");
    const char *found = python_found(node, pythons[n], n);
    char *chdir = node_place(node, params->chdir, params->chdir);
    char *python = node_place(node, params->chdir, found);
    if (chdir && python)
        tail = text_format(err, "//node=%s//chdir=%s//python=%s%s%s", node->name, chdir, python,
                           params->ssh_config ? "//ssh_config=" : "",
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
        char *xspec = tail ? text_format(err, "%s//id=%s%s", head, **id, tail) : NULL;
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
    size_t each = params->each ? strings_count((char *const *)params->pythons) : 0;
    uint64_t total = 0;
    for (size_t i = 0; i < list->count; i++)
        if (node_in_use(&list->nodes[i]))
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
        if (node_in_use(&list->nodes[i]))
            result =
                add_xspecs(&end, &id, &list->nodes[i], each ? each : list->nodes[i].processes, params, err);
    strings_free(ids);
    if (result == 0)
        return xspecs;
    strings_free(xspecs);
    return NULL;
}
