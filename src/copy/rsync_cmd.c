/* Filters rather than a list of sources: only so does rsync see the whole of the node's directory, and
 * deletes what no longer belongs there.  "H" (hide) and not "-": an excluded file would also be protected.
 */
#include "copy/rsync_cmd.h"

#include "base/path.h"
#include "base/shquote.h"
#include "base/strv.h"
#include "copy/project.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Never of use on a node; some of it large, some of it harmful (bytecode of another interpreter). */
const char *const rsync_left_out[] = {
    ".git",        ".hg",         ".svn", ".bzr", "CVS",   "_darcs", "__pycache__", ".pytest_cache",
    ".mypy_cache", ".ruff_cache", ".tox", ".nox", "*.pyc", "*.pyo",  NULL,
};

/* rsync's own, which change what it does: none of them is meant for us.  It reads aliases of its options from $HOME/.popt. */
#define OWN_ENVIRONMENT                                                                                      \
    "unset HOME RSYNC_ICONV RSYNC_PARTIAL_DIR RSYNC_PROTECT_ARGS RSYNC_OLD_ARGS RSYNC_CHECKSUM_LIST "        \
    "RSYNC_COMPRESS_LIST; "

/* The same there, whatever the login shell is; and a write beyond the login's `ulimit -f` is an error that rsync tells, instead of its end. */
#define REMOTE_RSYNC "/bin/sh -c 'unset HOME; trap \"\" XFSZ; exec rsync \"$@\"' rsync"

struct rsync_rules {
    char *args;    /* options and filters, quoted, each with a blank before it */
    char *sources; /* likewise */
};

static void add_argument(FILE *out, const char *option, const char *value)
{
    fprintf(out, " %s", option);
    shell_quote(out, value);
}

/* A rule with rsync's own pattern.  Not --exclude: there "!" and "+ x" are commands. */
static void add_pattern(FILE *out, const char *rule, const char *pattern)
{
    fprintf(out, " --filter='%s '", rule);
    shell_quote(out, pattern);
}

/* A rule with a path as the pattern.  rsync takes backslashes for escapes only in patterns with a wildcard. */
static int add_rule(FILE *out, const char *rule, const char *path, const char *end)
{
    bool wild = strpbrk(path, "*?[") || strchr(end, '*');
    char *text = malloc(strlen(path) * 2 + strlen(end) + strlen(rule) + 16), *to = text;
    if (!text)
        return -1;
    to += sprintf(to, "--filter=%s /", rule);
    for (const char *p = path; *p; p++) {
        if (wild && strchr("*?[\\", *p))
            *to++ = '\\';
        *to++ = *p;
    }
    strcpy(to, end);
    fputc(' ', out);
    shell_quote(out, text);
    free(text);
    return 0;
}

/* "+ /a/", "+ /a/b/", ... for the directories above path (relative to the transfer's root). */
static int add_parents(FILE *out, const char *path, const char *rule, const char *end)
{
    char parent[PATH_MAX];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
        if (add_rule(out, rule, parent, end))
            return -1;
    }
    return 0;
}

/* What is copied beside the root: directories from outside, each under its own name.  typed: as it was given with --rsyncdir, or NULL. */
static int add_outside(FILE *sources, const char *root, const char *path, const char *typed,
                       struct error *err)
{
    const char *name = strrchr(path, '/') + 1, *option = typed ? "rsyncdir" : NULL;
    char clash[PATH_MAX + 260];
    struct stat st;
    if (project_is_home(path))
        return error_value(err, option, typed, "%s: would be copied as a whole; name a directory in it",
                           path);
    snprintf(clash, sizeof clash, "%s/%.255s", root, name);
    bool taken = lstat(clash, &st) == 0;
    if (!taken && errno != ENOENT)
        return error_errno(err, clash);
    if (taken)
        return error_value(err, option, typed,
                           "%s would be copied to %s, which the project itself has: rename one", path, name);
    add_argument(sources, "", path);
    return 0;
}

/* The first of real[0] to real[n - 1] that lies outside and has the same name as real[n], or NULL. */
static const char *same_name(const char *root, char *const *real, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!path_below(root, real[i]) && !strcmp(strrchr(real[i], '/'), strrchr(real[n], '/')))
            return real[i];
    return NULL;
}

const char *rsync_place(const char *root, const char *dir)
{
    const char *path = path_below(root, dir);
    return path ? path : strrchr(dir, '/') + 1;
}

/* Errors that say nothing of a path as it was typed. */
static bool is_of_the_system(int error)
{
    return error == EIO || error == ENOMEM || error == EMFILE || error == ENFILE || error == ESTALE;
}

int rsync_places_find(struct rsync_places *places, const struct sync_params *params, struct error *err)
{
    size_t n = strings_count((char *const *)params->dirs);
    *places = (struct rsync_places){.whole = n == 0, .dirs = calloc(n + 3, sizeof *places->dirs)};
    if (!places->dirs)
        return error_errno(err, "rsync");
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        char *real = places->dirs[i] = realpath(params->dirs[i], NULL);
        if (!real || stat(real, &st))
            return is_of_the_system(errno)
                       ? error_set(err, STATUS_SYSTEM, "--rsyncdir=%s: %s", params->dirs[i], strerror(errno))
                       : error_value(err, "rsyncdir", params->dirs[i], "--rsyncdir=%s: %s", params->dirs[i],
                                     strerror(errno));
        if (!S_ISDIR(st.st_mode))
            return error_value(err, "rsyncdir", params->dirs[i], "--rsyncdir=%s: not a directory",
                               params->dirs[i]);
        if (!strcmp(real, params->root))
            places->whole = true;
    }
    if ((params->venv && !(places->dirs[n++] = strdup(params->venv))) ||
        (params->site && !(places->dirs[n++] = strdup(params->site))))
        return error_errno(err, "rsync");
    return 0;
}

void rsync_places_clear(struct rsync_places *places)
{
    for (size_t i = 0; places->dirs && places->dirs[i]; i++)
        free(places->dirs[i]);
    free(places->dirs);
    *places = (struct rsync_places){0};
}

/* The length of path up to the end of the first name in it that is never copied; 0: there is none. */
static size_t left_out_until(const char *path)
{
    char name[NAME_MAX + 1];
    for (const char *part = path; *part; part += *part == '/') {
        size_t n = strcspn(part, "/");
        snprintf(name, sizeof name, "%.*s", (int)n, part);
        part += n;
        for (size_t i = 0; rsync_left_out[i]; i++)
            if (fnmatch(rsync_left_out[i], name, 0) == 0)
                return (size_t)(part - path);
    }
    return 0;
}

bool rsync_is_left_out(const char *path)
{
    return left_out_until(path) > 0;
}

int rsync_programs(const char *venv, char ***programs, struct error *err)
{
    char bin[PATH_MAX], target[PATH_MAX];
    snprintf(bin, sizeof bin, "%s/bin", venv);
    DIR *dir = opendir(bin);
    int result = !dir && errno != ENOENT && errno != ENOTDIR ? error_errno(err, bin) : 0;
    for (struct dirent *found; dir && result == 0 && (found = readdir(dir));) {
        ssize_t len = readlinkat(dirfd(dir), found->d_name, target, sizeof target - 1);
        if (len <= 0)
            continue;
        target[len] = '\0';
        if (*target == '/' || !strncmp(target, "../", 3))
            result = strings_add(programs, found->d_name, err) || strings_add(programs, target, err) ? -1 : 0;
    }
    if (dir)
        closedir(dir);
    return result;
}

/* They are not there for the sync, which neither copies nor deletes them. */
static int add_programs(FILE *args, const struct sync_params *params, struct error *err)
{
    char **programs = NULL, path[2 * PATH_MAX];
    int result = rsync_programs(params->venv, &programs, err);
    for (size_t i = 0; result == 0 && programs && programs[i]; i += 2) {
        const char *place = rsync_place(params->root, params->venv);
        snprintf(path, sizeof path, "%s%sbin/%s", place, *place ? "/" : "", programs[i]);
        if (add_rule(args, "-", path, ""))
            result = error_errno(err, "rsync");
    }
    strings_free(programs);
    return result;
}

/* Whether another one of dirs holds dirs[n], and was itself asked for by a name that is never copied. */
static bool is_within_kept(const char *root, char *const *dirs, size_t n)
{
    for (size_t i = 0; dirs[i]; i++) {
        const char *below = path_below(dirs[i], dirs[n]);
        if (below && *below && left_out_until(rsync_place(root, dirs[i])))
            return true;
    }
    return false;
}

/* What was asked for by its own name is copied although it lies below a name that never is, as .tox/py311: itself, and not what is beside
 * it there.  These rules come before all others, which would stop rsync above it. */
static int add_kept(FILE *args, const struct rsync_places *places, const char *root, const char *leave_out)
{
    char parent[PATH_MAX];
    for (int hide = 0; hide <= 1; hide++)
        for (size_t i = 0; places->dirs[i]; i++) {
            const char *path = rsync_place(root, places->dirs[i]), *end = path + left_out_until(path);
            if (end == path || is_within_kept(root, places->dirs, i))
                continue;
            for (; *end; end += 1 + strcspn(end + 1, "/")) {
                snprintf(parent, sizeof parent, "%.*s", (int)(end - path), path);
                if (hide ? add_rule(args, leave_out, parent, "/*") : add_rule(args, "+", parent, "/"))
                    return -1;
            }
            if (!hide && add_rule(args, "+", path, "/"))
                return -1;
        }
    return 0;
}

static int add_dirs(FILE *args, FILE *sources, const struct sync_params *params,
                    const struct rsync_places *places, struct error *err)
{
    char **real = places->dirs;
    size_t typed = strings_count(
        (char *const *)params->dirs); /* the first ones; the virtualenv and what is shipped come after them */
    for (size_t i = 0; real[i]; i++) {
        const char *path = path_below(params->root, real[i]);
        if (path && !places->whole &&
            (add_parents(args, path, "+", "/") || add_rule(args, "+", path, "/***")))
            goto system;
        if (!path) {
            const char *other = same_name(params->root, real, i);
            if (other && !strcmp(other, real[i]))
                continue; /* named twice */
            if (other) {
                error_value(err, i < typed ? "rsyncdir" : NULL, i < typed ? params->dirs[i] : NULL,
                            "%s and %s would both be copied to %s: rename one", other, real[i],
                            strrchr(other, '/') + 1);
                return -1;
            }
            if (add_outside(sources, params->root, real[i], i < typed ? params->dirs[i] : NULL, err))
                return -1;
            if (!places->whole && add_rule(args, "+", strrchr(real[i], '/') + 1, "/***"))
                goto system;
        }
    }
    for (size_t i = 0; !places->whole && real[i]; i++) {
        const char *path = path_below(params->root, real[i]);
        if (path && add_parents(args, path, "H", "/*"))
            goto system;
    }
    if (!places->whole)
        add_argument(args, "--filter=", "H /*");
    return 0;
system:
    return error_errno(err, "rsync");
}

struct rsync_rules *rsync_rules_make(const struct sync_params *params, struct error *err)
{
    struct rsync_rules *rules = calloc(1, sizeof *rules);
    size_t args_len, sources_len;
    FILE *args = rules ? open_memstream(&rules->args, &args_len) : NULL;
    FILE *sources = args ? open_memstream(&rules->sources, &sources_len) : NULL;
    struct rsync_places places = {0};
    const char *leave_out = params->verify ? "H" : "-p";
    char *root = NULL;
    int result = -1;
    if (!sources || asprintf(&root, "%s/", params->root) < 0) {
        error_errno(err, "rsync");
        goto out;
    }
    if (rsync_places_find(&places, params, err))
        goto out;
    /* Times to the nanosecond: a file changed within the second, at the same size, is a changed file.
     * Owners are the login's own.  Directories stay writable for the next run. */
    fputs(" -rlpt --modify-window=-1 --chmod=Du+rwx,Fu+rw --timeout=60 --no-inc-recursive", args);
    if (params->bwlimit)
        fprintf(args, " --bwlimit=%u", params->bwlimit);
    add_argument(args, "--exclude=", "/.cloudplan");
    /* scripts/node/prepare.sh keeps there what pip has made: of an earlier copy, which nobody compares. */
    if (!params->verify)
        add_argument(args, "--exclude=", "/.cloudplan-develop");
    if (params->copy_links)
        fputs(" --copy-unsafe-links", args);
    if (params->copy_links && params->venv && add_programs(args, params, err))
        goto out;
    if (add_kept(args, &places, params->root, leave_out)) {
        error_errno(err, "rsync");
        goto out;
    }
    for (size_t i = 0; params->ignores && params->ignores[i]; i++)
        if (*params->ignores[i])
            add_pattern(args, "-", params->ignores[i]);
    /* "p" (perishable): a directory that is gone here goes there, too, whatever caches it holds: Python
     * would import what is left of it as a namespace package.  What is to be compared goes without caches from the start: bytecode is
     * run in the place of a module that has its time and size. */
    for (size_t i = 0; rsync_left_out[i]; i++)
        add_pattern(args, leave_out, rsync_left_out[i]);
    add_argument(sources, "", root);
    result = add_dirs(args, sources, params, &places, err);
out:
    if (sources && fclose(sources))
        result = error_errno(err, "rsync");
    if (args && fclose(args))
        result = error_errno(err, "rsync");
    free(root);
    rsync_places_clear(&places);
    if (result) {
        rsync_rules_destroy(rules);
        rules = NULL;
    }
    return rules;
}

void rsync_rules_destroy(struct rsync_rules *rules)
{
    if (!rules)
        return;
    int saved = errno;
    free(rules->args);
    free(rules->sources);
    free(rules);
    errno = saved;
}

/* A word for within a quoted -e: ssh and what it starts have HOME.  rsync cuts -e at blanks, and takes doubled quotes for one. */
static void add_home(FILE *out)
{
    const char *home = getenv("HOME");
    if (!home)
        return;
    fputs("env \"HOME=", out);
    for (; *home; home++)
        fputs(*home == '"' ? "\"\"" : *home == '\'' ? "'\\''" : (char[]){*home, '\0'}, out);
    fputs("\" ", out);
}

char *rsync_command(const struct rsync_rules *rules, const struct sync_params *params, enum rsync_mode mode,
                    const struct node *node, const char *ssh_config, const char *out, const char *errors)
{
    char *text = NULL, *place = node_place(node, params->chdir, params->chdir);
    size_t len;
    FILE *f = place ? open_memstream(&text, &len) : NULL;
    if (!f) {
        free(place);
        return NULL;
    }
    char port[16] = "";
    if (node->port)
        snprintf(port, sizeof port, " -p %u", node->port);
    /* The names were checked (node.h, project.h, rundir.h): no blank or quote can be in these. */
    static const char *const outputs[] = {
        [RSYNC_COPY] = " --delete-delay --info=progress2 --no-human-readable --outbuf=L",
        [RSYNC_ADOPT] = " -n --delete --info=nonreg0,del1",
        [RSYNC_VERIFY] =
            " -n -c --delete --info=nonreg0 --timeout=600 --out-format='%i %n'", /* reading takes its time */
    };
    const char *output = outputs[mode];
    /* A second copy begins with what the first one has, copied over there: not with links, as tests may write in place. */
    char basis[PATH_MAX] = "";
    if (mode == RSYNC_COPY && node->slot > 1) {
        const char *slash = strrchr(params->chdir, '/');
        snprintf(basis, sizeof basis, " --copy-dest='../%s'", slash ? slash + 1 : params->chdir);
    }
    /* In units of 512 bytes.  The sender writes to no other file.  Where the limit is lower already it cannot be raised. */
    fprintf(f, "ulimit -f %d 2>/dev/null; " OWN_ENVIRONMENT "exec rsync%s%s%s", RSYNC_OUTPUT_MAX / 512,
            rules->args, output, basis);
    add_argument(f, "--rsync-path=", REMOTE_RSYNC);
    /* One directory for all: with a relative name each directory of the copy would have one, and what is left would stay. */
    if (mode == RSYNC_COPY && *place == '/')
        fprintf(f, " --partial-dir='%s/" RSYNC_PARTIAL "'", place);
    fputs(" -e '", f);
    add_home(f);
    /* Not USER@HOST, which rsync would cut at an "@" of the user's. */
    fprintf(f, "ssh -F %s%s%s%s' --%s", ssh_config, port, node->user ? " -l " : "",
            node->user ? node->user : "", rules->sources);
    bool v6 = strchr(node->host, ':') != NULL;
    fprintf(f, " '%s%s%s:%s/' </dev/null >", v6 ? "[" : "", node->host, v6 ? "]" : "", place);
    free(place);
    shell_quote(f, out);
    fputs(" 2>", f);
    shell_quote(f, errors);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

char *rsync_count_command(const struct rsync_rules *rules, const struct sync_params *params)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    fprintf(f, OWN_ENVIRONMENT "exec rsync%s -n --delete --stats --no-human-readable --%s", rules->args,
            rules->sources);
    add_argument(f, "", params->rundir);
    fputs("/nothing/ </dev/null", f); /* nothing is there, so that all would be copied */
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}
