/* The project: its root, its virtualenv, and what they are called on a node.
 *
 * Everything that ends up in a remote path or in an xspec's "python=" is a word of a shell on the node,
 * whatever quoting is done on the way; so it is held to a set of characters that mean nothing to a shell, and
 * refused here rather than quoted in five places.  The virtualenv is taken as it is, links resolved: the
 * links in it lead to the interpreter that it was made from, and that one must be there on a node before
 * anything is copied.
 */
#include "copy/project.h"

#include "base/file.h"
#include "base/path.h"
#include "base/strv.h"
#include "base/text.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_CHARS TEXT_ALNUM "._/+@%,:=-"
/* Of a name that cloudplan makes up: no "=", since "a=1/bin/x" is an assignment to a shell. */
#define NAME_CHARS TEXT_ALNUM "._+@%,:-"

static int no_memory(struct error *err)
{
    errno = ENOMEM;
    return error_errno(err, "project");
}

/* Why a path cannot stand on a node's command line, or NULL. */
static const char *unsafe(const char *path)
{
    if (path[strspn(path, PATH_CHARS)])
        return "holds a character other than letters, digits and . _ / + @ % , : = -";
    if (strstr(path, "//"))
        return "holds \"//\"";
    size_t first = strcspn(path, "/");
    if (*path == '-' || *path == ':' || memchr(path, '=', first))
        return "a shell or rsync would not take it for a path";
    return NULL;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Copying all of "/" or of a home, keys included, to every node is never meant.  $HOME does not say what is one: CI servers set it to a
 * job's directory. */
bool project_is_home(const char *dir)
{
    struct stat st;
    const struct passwd *user = getpwuid(geteuid());
    if (same_file(dir, "/") || (user && same_file(dir, user->pw_dir)))
        return true;
    /* Of whoever owns it: sudo may have us in somebody's home. */
    const struct passwd *owner = stat(dir, &st) == 0 ? getpwuid(st.st_uid) : NULL;
    return owner && same_file(dir, owner->pw_dir);
}

static int find_root(struct project *project, struct error *err)
{
    project->root = realpath(".", NULL);
    if (!project->root)
        return error_errno(err, "current directory");
    if (project_is_home("."))
        return error_set(err, STATUS_USAGE,
                         "%s: would be copied as a whole; run cloudplan in the project's directory",
                         project->root);
    return 0;
}

/* PREFIX_USER_FOLDER */
static char *default_chdir(const char *prefix, const char *root, const struct passwd *user)
{
    char uid[24];
    snprintf(uid, sizeof uid, "%lu", (unsigned long)geteuid());
    const char *name = user ? user->pw_name : getenv("USER");
    char *chdir;
    if (asprintf(&chdir, "%s_%s_%s", prefix, name && *name ? name : uid, strrchr(root, '/') + 1) < 0)
        return NULL;
    for (char *s = chdir; *(s += strspn(s, NAME_CHARS));)
        *s = '_';
    return chdir;
}

static int bad_chdir(const char *typed, const char *why, struct error *err)
{
    return error_value(err, "cloud-chdir", NULL,
                       "--cloud-chdir=%s: %s; give a directory of its own, such as work/project", typed, why);
}

/* Names that any file system takes, with the "~9" of a further copy; and room below it in a path. */
#define CHDIR_NAME_MAX 240
#define CHDIR_MAX 1000

static int check_lengths(const char *chdir, struct error *err)
{
    bool fits = strlen(chdir) <= CHDIR_MAX;
    for (const char *part = chdir; *part; part += *part == '/') {
        size_t n = strcspn(part, "/");
        fits = fits && n <= CHDIR_NAME_MAX;
        part += n;
    }
    return fits ? 0
                : error_value(err, "cloud-chdir", NULL,
                              "--cloud-chdir=%.60s...: a path of more than %d bytes, or with a name of more "
                              "than %d; give a "
                              "shorter one",
                              chdir, CHDIR_MAX, CHDIR_NAME_MAX);
}

/* "~/x" is x, relative to the home; "./", and slashes at the end, go. */
static int typed_chdir(struct project *project, const char *typed, struct error *err)
{
    if (strcmp(typed, "~") == 0)
        return bad_chdir(typed, "is the home itself", err);
    const char *path = typed;
    if (strncmp(path, "~/", 2) == 0)
        path += 2;
    while (strncmp(path, "./", 2) == 0)
        path += 2;

    size_t len = strlen(path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    if (len == 0)
        return bad_chdir(typed, *typed == '/' ? "is the node's root" : "is the home itself", err);
    if (path != typed && *path == '/') /* "~//x" is not "/x" */
        return bad_chdir(typed, "holds \"//\"", err);
    project->chdir = strndup(path, len);
    if (!project->chdir)
        return no_memory(err);
    const char *why = unsafe(project->chdir);
    if (why)
        return bad_chdir(typed, why, err);
    for (const char *part = project->chdir; *part;) {
        size_t n = strcspn(part, "/");
        if (n == 1 && *part == '.')
            return bad_chdir(typed, "holds \".\"", err);
        if (n == 2 && strncmp(part, "..", n) == 0)
            return bad_chdir(typed, "holds \"..\"", err);
        part += n;
        part += *part == '/';
    }
    return 0;
}

static int find_chdir(struct project *project, const char *prefix, const char *typed,
                      const struct passwd *user, struct error *err)
{
    if (typed && typed_chdir(project, typed, err))
        return -1;
    if (!typed && !(project->chdir = default_chdir(prefix, project->root, user)))
        return no_memory(err);
    return check_lengths(project->chdir, err);
}

/* Whether an error says that there is nothing of that name for us, rather than that nobody knows. */
static bool is_absent(int error)
{
    return error == ENOENT || error == ENOTDIR || error == EACCES || error == ELOOP || error == ENAMETOOLONG;
}

/* 1: dir holds a pyvenv.cfg, 0: it does not, -1: errno says why it is not known. */
static int is_virtualenv(const char *dir)
{
    char *cfg = path_join(dir, "pyvenv.cfg");
    if (!cfg) {
        errno = ENOMEM;
        return -1;
    }
    struct stat st;
    int failed = stat(cfg, &st) ? errno : 0;
    free(cfg);
    errno = failed;
    if (failed)
        return is_absent(failed) ? 0 : -1;
    return S_ISREG(st.st_mode) ? 1 : 0;
}

/* Sets project->venv to dir, physical, if that is a virtualenv: 1, 0 or -1 as above. */
static int try_virtualenv(struct project *project, const char *dir, bool must_be_inside)
{
    char *real = realpath(dir, NULL);
    if (!real)
        return is_absent(errno) ? 0 : -1;
    int yes = must_be_inside && !path_below(project->root, real) ? 0 : is_virtualenv(real);
    if (yes == 1)
        project->venv = real;
    else {
        int saved = errno;
        free(real);
        errno = saved;
    }
    return yes;
}

/* 1: found, 0: there is none, -1: errno. */
static int search_virtualenv(struct project *project)
{
    static const char *const names[] = {"venv", ".venv", "env", ".env", "virtualenv"};
    const char *active = getenv("VIRTUAL_ENV");
    int found = active && *active ? try_virtualenv(project, active, true) : 0;
    for (size_t i = 0; found == 0 && i < sizeof names / sizeof *names; i++)
        found = try_virtualenv(project, names[i], false);
    return found;
}

/* Its place on a node: where it is in the root, or, from outside, beside the root's files. */
static int place_virtualenv(struct project *project, struct error *err)
{
    const char *place = strrchr(project->venv, '/') + 1;
    if (strcmp(project->venv, project->root) == 0)
        place = ".";
    else if (path_below(project->root, project->venv))
        place = project->venv + strlen(project->root) + 1;
    struct stat st;
    errno = ENOENT; /* inside there is only itself */
    bool taken = !path_below(project->root, project->venv) && lstat(place, &st) == 0;
    if (!taken && !is_absent(errno))
        return error_errno(err, place);
    if (taken)
        return error_set(
            err, STATUS_USAGE,
            "%s: a virtualenv outside the project is copied to %s, and the project has a %s already; "
            "rename one of them",
            project->venv, place, place);
    const char *why = *place ? unsafe(place) : "is no place for a virtualenv";
    if (why)
        return error_set(err, STATUS_USAGE, "virtualenv %s: %s; rename it", project->venv, why);
    project->venv_remote = strdup(place);
    return project->venv_remote ? 0 : no_memory(err);
}

static int find_virtualenv(struct project *project, const char *typed, struct error *err)
{
    int found = typed ? try_virtualenv(project, typed, false) : search_virtualenv(project);
    if (found < 0)
        return error_errno(err, typed ? typed : "virtualenv");
    if (found == 0 && typed)
        return error_value(
            err, "cloud-virtualenv-path", NULL,
            "--cloud-virtualenv-path=%s: no virtualenv, there is no pyvenv.cfg in it; make one with "
            "python3 -m venv",
            typed);
    return found ? place_virtualenv(project, err) : 0;
}

/* The value of "KEY = VALUE" in a line of pyvenv.cfg, without blanks around it; NULL: another line.  Changes the line. */
static char *value_of(char *line, size_t len, const char *key)
{
    while (len > 0 && strchr(" \t\r\n", line[len - 1]))
        line[--len] = '\0';
    char *name = line + strspn(line, " \t");
    size_t name_len = strcspn(name, " \t=");
    char *value = name + name_len + strspn(name + name_len, " \t");
    if (name_len != strlen(key) || strncasecmp(name, key, name_len) != 0 || *value != '=')
        return NULL;
    value += 1 + strspn(value + 1, " \t");
    return *value ? value : NULL;
}

/* *value, owned by the caller, NULL where pyvenv.cfg has no such key. */
static int virtualenv_value(const char *venv, const char *key, char **value, struct error *err)
{
    char *line = NULL;
    size_t size = 0;
    FILE *file = NULL;
    int result = -1;
    *value = NULL;
    char *cfg = path_join(venv, "pyvenv.cfg");
    if (!cfg) {
        no_memory(err);
        goto out;
    }
    int fd = file_open(cfg);
    file = fd < 0 ? NULL : fdopen(fd, "r");
    if (!file) {
        error_errno(err, cfg);
        if (fd >= 0)
            close(fd);
        goto out;
    }
    for (ssize_t len; !*value && (len = getline(&line, &size, file)) >= 0;) {
        const char *found = value_of(line, (size_t)len, key);
        if (found && !(*value = strdup(found))) {
            no_memory(err);
            goto out;
        }
    }
    if (!*value && ferror(file)) {
        error_errno(err, cfg);
        goto out;
    }
    result = 0;
out:
    if (file)
        fclose(file);
    free(line);
    free(cfg);
    return result;
}

/* Where the interpreter is that the virtualenv was made from. */
static char *virtualenv_home(const char *venv, struct error *err)
{
    char *home;
    if (virtualenv_value(venv, "home", &home, err) == 0 && !home)
        error_set(err, STATUS_USAGE, "%s/pyvenv.cfg: names no home; make the virtualenv anew", venv);
    return home;
}

/* "3.11" of "version = 3.11.2" (venv) or "version_info = 3.11.2.final.0" (virtualenv). */
static int find_version(struct project *project, struct error *err)
{
    char *text = NULL;
    if (virtualenv_value(project->venv, "version", &text, err) ||
        (!text && virtualenv_value(project->venv, "version_info", &text, err)))
        return -1;
    unsigned major, minor;
    if (text && sscanf(text, "%u.%u", &major, &minor) == 2 &&
        asprintf(&project->venv_version, "%u.%u", major, minor) < 0) {
        project->venv_version = NULL;
        free(text);
        return no_memory(err);
    }
    free(text);
    return 0;
}

/* What VENV/bin/NAME needs on a node: the program its link leads to or, for a copy, the one it was copied
 * from.  Owned by the caller. */
static char *find_base(const struct project *project, const char *program, const char *name,
                       struct error *err)
{
    char *base = realpath(program, NULL);
    if (!base) {
        error_errno(err, program);
        return NULL;
    }
    if (path_below(project->venv, base)) {
        free(base);
        char *home = virtualenv_home(project->venv, err);
        if (!home)
            return NULL;
        base = path_join(home, name);
        free(home);
        if (!base) {
            no_memory(err);
            return NULL;
        }
    }
    if (*base == '/' && !path_below(project->root, base) && !path_below(project->venv, base))
        return base;
    error_set(err, STATUS_USAGE,
              "virtualenv %s: made from %s, which the nodes cannot have; make it from an interpreter "
              "outside the project",
              project->venv, base);
    free(base);
    return NULL;
}

/* VENV/bin/NAME */
static char *virtualenv_program(const char *venv, const char *name)
{
    char *path;
    return asprintf(&path, "%s/bin/%s", venv, name) < 0 ? NULL : path;
}

static int keep_local(struct project *project, const char *program, struct error *err)
{
    if (!project->local_python && !(project->local_python = strdup(program)))
        return no_memory(err);
    return 0;
}

/* --cloud-python=NAME in the virtualenv, or python3 where none was typed; *local, *remote and *base are owned by the caller. */
static int virtualenv_python(struct project *project, const char *name, bool typed, char **local,
                             char **remote, char **base, struct error *err)
{
    char *program = virtualenv_program(project->venv, name);
    char *remote_venv = path_join(project->chdir, project->venv_remote);
    int result = -1;
    if (!program || !remote_venv || !(*remote = virtualenv_program(remote_venv, name)) ||
        !(*local = strdup(program)))
        no_memory(err);
    else if (access(program, X_OK) != 0)
        is_absent(errno) ? error_value(err, typed ? "cloud-python" : NULL, name,
                                       "%s: %s; make the virtualenv anew, or choose with --cloud-python",
                                       program, strerror(errno))
                         : error_set(err, STATUS_SYSTEM, "%s: %s", program, strerror(errno));
    else if ((*base = find_base(project, program, name, err)))
        result = keep_local(project, program, err);
    free(remote_venv);
    free(program);
    return result;
}

static int find_python(struct project *project, const char *name, bool typed, size_t i, struct error *err)
{
    const char *why = *name ? unsafe(name) : "is empty";
    if (!why && *name != '/' && strchr(name, '/'))
        why = "neither a name nor an absolute path";
    if (why)
        return error_value(err, "cloud-python", name, "--cloud-python=%s: %s", name, why);
    if (project->venv && *name != '/') {
        if (i == 0) {
            project->venv_used = true;
            if (!(project->python_name = strdup(name)))
                return no_memory(err);
        }
        return virtualenv_python(project, name, typed, &project->local_pythons[i],
                                 &project->remote_pythons[i], &project->probe_pythons[i], err);
    }
    /* An interpreter that is on the nodes already. */
    project->local_pythons[i] = strdup(name);
    project->remote_pythons[i] = strdup(name);
    project->probe_pythons[i] = strdup(name);
    return project->local_pythons[i] && project->remote_pythons[i] && project->probe_pythons[i]
               ? 0
               : no_memory(err);
}

/* The controller keeps to its virtualenv, whatever the nodes use. */
static int find_local(struct project *project, struct error *err)
{
    char *program = project->venv ? virtualenv_program(project->venv, "python3") : NULL;
    if (project->venv && !program)
        return no_memory(err);
    int result = keep_local(project, program && access(program, X_OK) == 0 ? program : "python3", err);
    free(program);
    return result;
}

static int find_pythons(struct project *project, const char *const *typed, struct error *err)
{
    static const char *const by_default[] = {"python3", NULL};
    const char *const *names = typed && typed[0] ? typed : by_default;
    size_t count = strings_count((char *const *)names);
    project->remote_pythons = calloc(count + 1, sizeof(char *));
    project->probe_pythons = calloc(count + 1, sizeof(char *));
    project->local_pythons = calloc(count + 1, sizeof(char *));
    if (!project->remote_pythons || !project->probe_pythons || !project->local_pythons)
        return no_memory(err);
    /* Set where pytest itself has started cloudplan: its interpreter has what the suite needs. */
    const char *own = getenv("CLOUDPLAN_PYTHON");
    if (own && *own && keep_local(project, own, err))
        return -1;
    for (size_t i = 0; i < count; i++)
        if (find_python(project, names[i], names != by_default, i, err))
            return -1;
    if (find_local(project, err) || (project->venv && find_version(project, err)))
        return -1;
    project->engine_pythons[0] = project->local_python;
    return 0;
}

/* The place of a physical path in the copy, NULL: it has none; a part of path. */
static const char *place_in_copy(const char *root, char *const *outside, const char *path)
{
    const char *place = path_below(root, path);
    if (place)
        return *place ? place : ".";
    for (size_t i = 0; outside && outside[i]; i++)
        if (path_below(outside[i], path))
            return path + (strrchr(outside[i], '/') + 1 - outside[i]);
    return NULL;
}

int project_egg(const struct project *project, char *const *outside, const char *path, char **relative,
                struct error *err)
{
    struct stat st;
    int result = -1;
    *relative = NULL;
    const char *place = NULL;
    char *real = realpath(path, NULL), *setup = real ? path_join(real, "setup.py") : NULL,
         *toml = real ? path_join(real, "pyproject.toml") : NULL;
    if (!real)
        error_value(err, "cloud-develop-egg", path, "--cloud-develop-egg=%s: %s", path, strerror(errno));
    else if (!setup || !toml)
        no_memory(err);
    else if (!(place = place_in_copy(project->root, outside, real)))
        error_value(err, "cloud-develop-egg", path,
                    "--cloud-develop-egg=%s: lies outside the project %s; only what is copied can be "
                    "installed: --rsyncdir=%s would copy it",
                    path, project->root, path);
    else if (stat(setup, &st) && stat(toml, &st))
        error_value(
            err, "cloud-develop-egg", path,
            "--cloud-develop-egg=%s: no package, there is neither a setup.py nor a pyproject.toml in it",
            path);
    else if (!project->venv_used)
        error_value(err, "cloud-develop-egg", path,
                    "--cloud-develop-egg=%s: needs a virtualenv to be installed in; make one with python3 -m "
                    "venv venv",
                    path);
    else if ((*relative = strdup(place)))
        result = 0;
    else
        no_memory(err);
    free(real);
    free(setup);
    free(toml);
    return result;
}

int project_find(struct project *project, const char *prefix, const char *chdir, const char *virtualenv,
                 const char *const *pythons, struct error *err)
{
    *project = (struct project){0};
    const struct passwd *user = getpwuid(geteuid());
    if (find_root(project, err) == 0 && find_chdir(project, prefix, chdir, user, err) == 0 &&
        find_virtualenv(project, virtualenv, err) == 0 && find_pythons(project, pythons, err) == 0)
        return 0;
    /* What else can be wrong once the root is known is the virtualenv. */
    if (err && err->status == STATUS_USAGE && !err->option && project->venv && virtualenv)
        err->option = "cloud-virtualenv-path";
    project_clear(project);
    return -1;
}

void project_clear(struct project *project)
{
    free(project->root);
    free(project->chdir);
    free(project->venv);
    free(project->venv_remote);
    free(project->venv_version);
    free(project->python_name);
    strings_free(project->remote_pythons);
    strings_free(project->probe_pythons);
    strings_free(project->local_pythons);
    free(project->local_python);
    *project = (struct project){0};
}
