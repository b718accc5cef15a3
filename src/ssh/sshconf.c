/* The answer of `ssh -G`, line by line.
 *
 * Decided here: ssh's own answer is parsed rather than ssh_config itself, since only ssh knows its
 * defaults, its Match and its distribution's patches.  Whatever libssh2, or this program's
 * use of it, would do otherwise than OpenSSH is named in `unsupported`, and the OpenSSH client
 * does that node; so is a value that could be read in two ways.  ssh -G expands tokens in the host
 * name, UserKnownHostsFile and IdentityAgent before it prints them, but not in IdentityFile.
 */
#include "ssh/sshconf.h"

#include "base/strv.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_CHARS TEXT_ALNUM "._-"

/* Values that need the others before they can be read; they point into the text. */
struct raw {
    const char *port, *identityagent, *userknownhosts, *globalknownhosts;
    const char *no_command; /* what keeps ssh from running one there; NULL: nothing */
};

static const struct string_key {
    const char *key;
    size_t offset;
    bool required;
} string_keys[] = {
    {"hostname", offsetof(struct sshconf, hostname), true},
    {"user", offsetof(struct sshconf, user), true},
    {"hostkeyalias", offsetof(struct sshconf, hostkeyalias), false},
    {"stricthostkeychecking", offsetof(struct sshconf, stricthostkeychecking), true},
    {"hostkeyalgorithms", offsetof(struct sshconf, hostkeyalgorithms), true},
    {"kexalgorithms", offsetof(struct sshconf, kexalgorithms), true},
    {"ciphers", offsetof(struct sshconf, ciphers), true},
    {"macs", offsetof(struct sshconf, macs), true},
    {"addressfamily", offsetof(struct sshconf, addressfamily), true},
    {"proxyjump", offsetof(struct sshconf, proxyjump), false},
};
#define STRING_KEYS (sizeof string_keys / sizeof *string_keys)

static char **string_field(const struct sshconf *conf, size_t i)
{
    return (char **)((char *)conf + string_keys[i].offset);
}

/* What sends a node through the OpenSSH client: any value but the harmless ones. */
static const struct unsupported_key {
    const char *key, *name;
    const char *harmless[2];
} unsupported_keys[] = {
    {"proxyjump", "ProxyJump", {"none", NULL}},
    {"proxycommand", "ProxyCommand", {"none", NULL}},
    {"certificatefile", "CertificateFile", {"none", NULL}},
    {"bindaddress", "BindAddress", {NULL, NULL}},
    {"bindinterface", "BindInterface", {NULL, NULL}},
    {"knownhostscommand", "KnownHostsCommand", {"none", NULL}},
    {"revokedhostkeys", "RevokedHostKeys", {"none", NULL}},
    {"pkcs11provider", "PKCS11Provider", {"none", NULL}},
    {"verifyhostkeydns", "VerifyHostKeyDNS", {"false", "no"}},
    {"checkhostip", "CheckHostIP", {"false", "no"}},
    {"nohostauthenticationforlocalhost", "NoHostAuthenticationForLocalhost", {"false", "no"}},
    {"gssapikeyexchange", "GSSAPIKeyExchange", {"false", "no"}},
};

static bool is_one_of(const char *value, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (words[i] && !strcmp(value, words[i]))
            return true;
    return false;
}

static bool is_yes(const char *value)
{
    return !strcmp(value, "yes") || !strcmp(value, "true");
}

/* Whether a comma-separated list holds word. */
static bool list_has(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (;;) {
        size_t n = strcspn(list, ",");
        if (n == len && !memcmp(list, word, n))
            return true;
        if (!list[n])
            return false;
        list += n + 1;
    }
}

/* The first reason stays.  0, or -1 without memory. */
static int unsupported(struct sshconf *conf, const char *name)
{
    if (!conf->unsupported)
        conf->unsupported = strdup(name);
    return conf->unsupported ? 0 : -1;
}

/* What a token of an IdentityFile stands for, or NULL for one that is left to OpenSSH. */
static const char *token(char c, const struct sshconf *conf, const char *home, const char *port)
{
    switch (c) {
    case '%':
        return "%";
    case 'd':
        return home;
    case 'h':
        return conf->hostname;
    case 'p':
        return port;
    case 'r':
        return conf->user;
    default:
        return NULL;
    }
}

/* 1 and *out; 0 where it takes OpenSSH to expand the path; -1 without memory. */
static int expand(const struct sshconf *conf, const char *path, const char *home, bool tokens, char **out)
{
    char port[8], *text = NULL;
    size_t size;
    snprintf(port, sizeof port, "%u", conf->port);
    bool tilde = path[0] == '~';
    if ((tilde && path[1] && path[1] != '/') || strstr(path, "${") || (!tokens && strchr(path, '%')))
        return 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return -1;
    if (tilde)
        fputs(home, f);
    bool known = true;
    for (const char *p = path + tilde; *p && known; p++) {
        const char *value = *p == '%' ? token(p[1], conf, home, port) : NULL;
        known = *p != '%' || value;
        if (value) {
            fputs(value, f);
            p++;
        } else {
            fputc(*p, f);
        }
    }
    bool failed = ferror(f);
    if (fclose(f) || failed) {
        free(text);
        return -1;
    }
    if (!known) {
        free(text);
        return 0;
    }
    *out = text;
    return 1;
}

static int expand_identityfiles(struct sshconf *conf, const char *home)
{
    size_t kept = 0;
    int result = 0;
    for (size_t i = 0; conf->identityfiles[i]; i++) {
        char *raw = conf->identityfiles[i], *path = NULL;
        conf->identityfiles[i] = NULL;
        if (!result && strcasecmp(raw, "none")) {
            int done = expand(conf, raw, home, true, &path);
            if (done < 0 || (done == 0 && unsupported(conf, "a token in IdentityFile")))
                result = -1;
        }
        free(raw);
        if (path)
            conf->identityfiles[kept++] = path;
    }
    return result;
}

/* The files stand in one line, unquoted: a piece that is no absolute path may be the rest of a name
 * with a space in it. */
static int add_knownhosts(struct sshconf *conf, const char *files, const char *home, const char *name)
{
    if (!strcmp(files, "none"))
        return 0;
    while (*(files += strspn(files, " "))) {
        size_t len = strcspn(files, " ");
        char *raw = strndup(files, len), *path = NULL;
        if (!raw)
            return -1;
        int done = strchr("/~", raw[0]) ? expand(conf, raw, home, false, &path) : 0;
        free(raw);
        if (done < 0 || (done == 0 && unsupported(conf, name)) ||
            (done > 0 && strings_take(&conf->knownhosts, path)))
            return -1;
        files += len;
    }
    return 0;
}

/* A socket's path from the environment; without one, or with an empty one, there is no agent. */
static int agent_from_environment(struct sshconf *conf, const char *name)
{
    const char *path = getenv(name);
    if (path && *path && !(conf->identityagent = strdup(path)))
        return -1;
    return 0;
}

static int read_identityagent(struct sshconf *conf, const char *value, const char *home)
{
    if (!value || !strcmp(value, "SSH_AUTH_SOCK"))
        return agent_from_environment(conf, "SSH_AUTH_SOCK");
    if (!strcmp(value, "none"))
        return 0;
    if (value[0] == '$' && value[1] && value[1 + strspn(value + 1, TEXT_ALNUM "_")] == '\0')
        return agent_from_environment(conf, value + 1);
    int done = value[0] == '$' ? 0 : expand(conf, value, home, false, &conf->identityagent);
    return done < 0 ? -1 : done == 0 ? unsupported(conf, "a token in IdentityAgent") : 0;
}

/* Takes one line.  0, or -1 without memory. */
static int take_setting(struct sshconf *conf, struct raw *raw, const char *key, const char *value)
{
    for (size_t i = 0; i < STRING_KEYS; i++) {
        char **field = string_field(conf, i);
        if (!strcmp(key, string_keys[i].key) && !*field && *value && !(*field = strdup(value)))
            return -1;
    }
    for (size_t i = 0; i < sizeof unsupported_keys / sizeof *unsupported_keys; i++) {
        const struct unsupported_key *u = &unsupported_keys[i];
        if (!strcmp(key, u->key) && !is_one_of(value, u->harmless, 2) && unsupported(conf, u->name))
            return -1;
    }
    if (!strcmp(key, "identityfile"))
        return strings_take(&conf->identityfiles, strdup(value));
    if (!strcmp(key, "port"))
        raw->port = value;
    else if (!strcmp(key, "sessiontype") && strcmp(value, "default"))
        raw->no_command = "SessionType is not default";
    else if (!strcmp(key, "stdinnull") && is_yes(value))
        raw->no_command = "StdinNull yes";
    else if (!strcmp(key, "identityagent"))
        raw->identityagent = value;
    else if (!strcmp(key, "userknownhostsfile"))
        raw->userknownhosts = value;
    else if (!strcmp(key, "globalknownhostsfile"))
        raw->globalknownhosts = value;
    else if (!strcmp(key, "identitiesonly"))
        conf->identitiesonly = is_yes(value);
    else if (!strcmp(key, "gssapiauthentication"))
        conf->gssapi = is_yes(value);
    else if (!strcmp(key, "hostbasedauthentication"))
        conf->hostbased = is_yes(value);
    else if (!strcmp(key, "pubkeyauthentication") && (!strcmp(value, "false") || !strcmp(value, "no")))
        return unsupported(conf, "PubkeyAuthentication no");
    else if (!strcmp(key, "preferredauthentications") && !list_has(value, "publickey"))
        return unsupported(conf, "PreferredAuthentications");
    else if (!strcmp(key, "pubkeyacceptedalgorithms") &&
             !(list_has(value, "ssh-ed25519") && list_has(value, "ecdsa-sha2-nistp256") &&
               list_has(value, "ecdsa-sha2-nistp384") && list_has(value, "ecdsa-sha2-nistp521")))
        return unsupported(conf, "PubkeyAcceptedAlgorithms");
    return 0;
}

/* What must be, and what must not: port and names end up in argv, URLs and logins.  0, or -1 and *err. */
static int check_names(struct sshconf *conf, const struct raw *raw, struct error *err)
{
    for (size_t i = 0; i < STRING_KEYS; i++)
        if (string_keys[i].required && !*string_field(conf, i))
            return error_set(err, STATUS_DATA, "ssh -G: no %s in its answer", string_keys[i].key);
    if (raw->no_command)
        return error_set(err, STATUS_DATA, "ssh_config: %s: no command can be run there", raw->no_command);
    const char *port = raw->port ? raw->port : "";
    uint64_t number;
    if (strlen(port) > 5 || !text_number(port, 1, UINT16_MAX, &number))
        return error_set(err, STATUS_DATA, "ssh -G: \"%s\" is not a port", port);
    conf->port = (uint16_t)number;
    /* No command line holds it: where the user was not typed, ssh reads ssh_config again.  But reports do. */
    char *clean = strdup(conf->user);
    if (!clean)
        return error_errno(err, "ssh -G");
    text_clean(clean);
    int result = strcmp(clean, conf->user) == 0 ? 0 : -1;
    if (result)
        error_set(err, STATUS_DATA, "ssh_config's user \"%s\": a control character or broken UTF-8 in it",
                  clean);
    free(clean);
    return result;
}

/* What remains once all lines are known.  0, or -1 without memory. */
static int finish_conf(struct sshconf *conf, const struct raw *raw, const char *home)
{
    static const char *const strict[] = {"ask", "true", "yes", "accept-new", "false", "no", "off"};
    static const char *const families[] = {"any", "inet", "inet6"};
    if ((conf->hostname[strspn(conf->hostname, NAME_CHARS ":")] || conf->hostname[0] == '-') &&
        unsupported(conf, "HostName"))
        return -1;
    /* Newer versions of OpenSSH expand these, some before they print it and some later. */
    if ((strchr(conf->user, '%') || strstr(conf->user, "${")) && unsupported(conf, "a token in User"))
        return -1;
    if (!is_one_of(conf->stricthostkeychecking, strict, sizeof strict / sizeof *strict) &&
        unsupported(conf, "StrictHostKeyChecking"))
        return -1;
    if (!is_one_of(conf->addressfamily, families, sizeof families / sizeof *families) &&
        unsupported(conf, "AddressFamily"))
        return -1;
    if (expand_identityfiles(conf, home) || read_identityagent(conf, raw->identityagent, home))
        return -1;
    if (raw->userknownhosts && add_knownhosts(conf, raw->userknownhosts, home, "UserKnownHostsFile"))
        return -1;
    if (raw->globalknownhosts && add_knownhosts(conf, raw->globalknownhosts, home, "GlobalKnownHostsFile"))
        return -1;
    return 0;
}

struct sshconf *sshconf_parse(const char *text, size_t len, const char *home, struct error *err)
{
    struct raw raw = {NULL, NULL, NULL, NULL, NULL};
    struct sshconf *conf = calloc(1, sizeof *conf), *result = NULL;
    char *copy = malloc(len + 1);
    if (!conf || !copy)
        goto memory;
    conf->identityfiles = calloc(1, sizeof *conf->identityfiles);
    conf->knownhosts = calloc(1, sizeof *conf->knownhosts);
    if (!conf->identityfiles || !conf->knownhosts)
        goto memory;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (strlen(copy) != len) {
        error_set(err, STATUS_DATA, "ssh -G: a NUL in its answer");
        goto out;
    }
    char *rest = copy, *line;
    while ((line = strsep(&rest, "\n"))) {
        char *key = strsep(&line, " ");
        if (take_setting(conf, &raw, key, line ? line : ""))
            goto memory;
    }
    if (check_names(conf, &raw, err))
        goto out;
    if (finish_conf(conf, &raw, home))
        goto memory;
    result = conf;
    goto out;
memory:
    error_errno(err, "ssh -G");
out:
    free(copy);
    if (!result)
        sshconf_free(conf);
    return result;
}

void sshconf_free(struct sshconf *conf)
{
    int saved = errno;
    if (conf) {
        for (size_t i = 0; i < STRING_KEYS; i++)
            free(*string_field(conf, i));
        strings_free(conf->identityfiles);
        strings_free(conf->knownhosts);
        free(conf->identityagent);
        free(conf->unsupported);
        free(conf);
    }
    errno = saved;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : !a && !b;
}

bool sshconf_same(const struct sshconf *a, const struct sshconf *b)
{
    for (size_t i = 0; i < STRING_KEYS; i++)
        if (string_keys[i].offset != offsetof(struct sshconf, hostname) &&
            !same_text(*string_field(a, i), *string_field(b, i)))
            return false;
    return a->port == b->port && a->identitiesonly == b->identitiesonly && a->gssapi == b->gssapi &&
           a->hostbased == b->hostbased && same_text(a->identityagent, b->identityagent) &&
           same_text(a->unsupported, b->unsupported) && strings_same(a->identityfiles, b->identityfiles) &&
           strings_same(a->knownhosts, b->knownhosts);
}
