/* The project: its root, its virtualenv, and what they are called on a node.
 *
 * Everything that ends up in a remote path or in an xspec's "python=" is a word of a shell on the node,
 * whatever quoting is done on the way; so it is held to a set of characters that mean nothing to a shell, and
 * refused here rather than quoted in five places.  The virtualenv is taken as it is, links resolved: the
 * links in it lead to the interpreter that it was made from, and that one must be there on a node before
 * anything is copied.
 */
#include "project.h"

#include "rundir.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define PATH_CHARS ALNUM "._/+@%,:=-"
/* Of a name that cloudplan makes up: no "=", since "a=1/bin/x" is an assignment to a shell. */
#define NAME_CHARS ALNUM "._+@%,:-"

static int no_memory(struct error *err)
{
    errno = ENOMEM;
    return error_errno(err, "project");
}

/* True for dir itself, too.  Both are physical. */
static bool inside(const char *dir, const char *path)
{
    size_t len = strlen(dir);
    return strncmp(dir, path, len) == 0 && (path[len] == '/' || path[len] == '\0');
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

/* Copying all of "/" or of a home, keys included, to every node is never meant. */
static int find_root(struct project *project, const struct passwd *user, struct error *err)
{
    project->root = realpath(".", NULL);
    if (!project->root)
        return error_errno(err, "current directory");
    const char *home = getenv("HOME");
    if (same_file(".", "/") || (home && *home && same_file(".", home)) ||
        (user && same_file(".", user->pw_dir)))
        return error_set(err, STATUS_USAGE,
                         "%s: would be copied as a whole; run cloudplan in the project's directory",
                         project->root);
    return 0;
}

/* pytest_USER_FOLDER */
static char *default_chdir(const char *root, const struct passwd *user)
{
    char uid[24];
    snprintf(uid, sizeof uid, "%lu", (unsigned long)geteuid());
    const char *name = user ? user->pw_name : getenv("USER");
    char *chdir;
    if (asprintf(&chdir, "pytest_%s_%s", name && *name ? name : uid, strrchr(root, '/') + 1) < 0)
        return NULL;
    for (char *s = chdir; *(s += strspn(s, NAME_CHARS));)
        *s = '_';
    return chdir;
}

static int bad_chdir(const char *typed, const char *why, struct error *err)
{
    return error_set(err, STATUS_USAGE,
                     "--cloud-chdir=%s: %s; give a directory of its own, such as work/project", typed, why);
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

static int find_chdir(struct project *project, const char *typed, const struct passwd *user,
                      struct error *err)
{
    if (typed)
        return typed_chdir(project, typed, err);
    project->chdir = default_chdir(project->root, user);
    return project->chdir ? 0 : no_memory(err);
}

/* 1: dir holds a pyvenv.cfg, 0: it does not, -1: no memory. */
static int is_virtualenv(const char *dir)
{
    char *cfg = path_join(dir, "pyvenv.cfg");
    if (!cfg)
        return -1;
    struct stat st;
    int yes = stat(cfg, &st) == 0 && S_ISREG(st.st_mode);
    free(cfg);
    return yes;
}

/* Sets project->venv to dir, physical, if that is a virtualenv: 1, 0 or -1 as above. */
static int try_virtualenv(struct project *project, const char *dir, bool must_be_inside)
{
    char *real = realpath(dir, NULL);
    if (!real)
        return errno == ENOMEM ? -1 : 0;
    int yes = must_be_inside && !inside(project->root, real) ? 0 : is_virtualenv(real);
    if (yes == 1)
        project->venv = real;
    else
        free(real);
    return yes;
}

/* 1: found, 0: there is none, -1: no memory. */
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
    else if (inside(project->root, project->venv))
        place = project->venv + strlen(project->root) + 1;
    struct stat st;
    if (!inside(project->root, project->venv) && lstat(place, &st) == 0)
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
        return no_memory(err);
    if (found == 0 && typed)
        return error_set(
            err, STATUS_USAGE,
            "--cloud-virtualenv-path=%s: no virtualenv, there is no pyvenv.cfg in it; make one with "
            "python3 -m venv",
            typed);
    return found ? place_virtualenv(project, err) : 0;
}

/* The value of "home = DIR" in pyvenv.cfg: where the interpreter is that the virtualenv was made from. */
static char *virtualenv_home(const char *venv, struct error *err)
{
    char *home = NULL, *line = NULL;
    size_t size = 0;
    FILE *file = NULL;
    char *cfg = path_join(venv, "pyvenv.cfg");
    if (!cfg) {
        no_memory(err);
        goto out;
    }
    file = fopen(cfg, "re");
    if (!file) {
        error_errno(err, cfg);
        goto out;
    }
    for (ssize_t len; !home && (len = getline(&line, &size, file)) >= 0;) {
        while (len > 0 && strchr(" \t\r\n", line[len - 1]))
            line[--len] = '\0';
        char *key = line + strspn(line, " \t");
        size_t key_len = strcspn(key, " \t=");
        char *value = key + key_len + strspn(key + key_len, " \t");
        if (key_len != 4 || strncasecmp(key, "home", key_len) != 0 || *value != '=')
            continue;
        value += 1 + strspn(value + 1, " \t");
        if (!*value)
            continue;
        home = strdup(value);
        if (!home) {
            no_memory(err);
            goto out;
        }
    }
    if (!home)
        error_set(err, STATUS_USAGE, "%s: names no home; make the virtualenv anew", cfg);
out:
    if (file)
        fclose(file);
    free(line);
    free(cfg);
    return home;
}

/* What VENV/bin/NAME needs on a node: the program its link leads to or, for a copy, the one it was copied
 * from. */
static int find_base(struct project *project, const char *name, struct error *err)
{
    char *base = realpath(project->local_python, NULL);
    if (!base)
        return error_errno(err, project->local_python);
    if (inside(project->venv, base)) {
        free(base);
        char *home = virtualenv_home(project->venv, err);
        if (!home)
            return -1;
        base = path_join(home, name);
        free(home);
        if (!base)
            return no_memory(err);
    }
    project->probe_python = base;
    if (*base != '/' || inside(project->root, base) || inside(project->venv, base))
        return error_set(
            err, STATUS_USAGE,
            "virtualenv %s: made from %s, which the nodes cannot have; make it from an interpreter "
            "outside the project",
            project->venv, base);
    return 0;
}

/* VENV/bin/NAME */
static char *virtualenv_program(const char *venv, const char *name)
{
    char *path;
    return asprintf(&path, "%s/bin/%s", venv, name) < 0 ? NULL : path;
}

/* --cloud-python=NAME in the virtualenv. */
static int virtualenv_python(struct project *project, const char *name, struct error *err)
{
    project->local_python = virtualenv_program(project->venv, name);
    if (!project->local_python)
        return no_memory(err);
    if (access(project->local_python, X_OK) != 0)
        return error_set(err, STATUS_USAGE, "%s: %s; make the virtualenv anew, or choose with --cloud-python",
                         project->local_python, strerror(errno));
    char *remote_venv = path_join(project->chdir, project->venv_remote);
    if (!remote_venv)
        return no_memory(err);
    project->remote_python = virtualenv_program(remote_venv, name);
    free(remote_venv);
    if (!project->remote_python)
        return no_memory(err);
    return find_base(project, name, err);
}

/* An interpreter that is on the nodes already; the controller keeps to its virtualenv. */
static int node_python(struct project *project, const char *name, struct error *err)
{
    char *local = NULL;
    if (project->venv && !(local = virtualenv_program(project->venv, "python3")))
        return no_memory(err);
    if (local && access(local, X_OK) != 0) {
        free(local);
        local = NULL;
    }
    project->local_python = local ? local : strdup("python3");
    project->remote_python = strdup(name);
    project->probe_python = strdup(name);
    return project->local_python && project->remote_python && project->probe_python ? 0 : no_memory(err);
}

static int find_pythons(struct project *project, const char *typed, struct error *err)
{
    const char *name = typed ? typed : "python3";
    const char *why = *name ? unsafe(name) : "is empty";
    if (!why && *name != '/' && strchr(name, '/'))
        why = "neither a name nor an absolute path";
    if (why)
        return error_set(err, STATUS_USAGE, "--cloud-python=%s: %s", name, why);
    return project->venv && *name != '/' ? virtualenv_python(project, name, err)
                                         : node_python(project, name, err);
}

int project_find(struct project *project, const char *chdir, const char *virtualenv, const char *python,
                 struct error *err)
{
    *project = (struct project){0};
    const struct passwd *user = getpwuid(geteuid());
    if (find_root(project, user, err) == 0 && find_chdir(project, chdir, user, err) == 0 &&
        find_virtualenv(project, virtualenv, err) == 0 && find_pythons(project, python, err) == 0)
        return 0;
    project_clear(project);
    return -1;
}

void project_clear(struct project *project)
{
    free(project->root);
    free(project->chdir);
    free(project->venv);
    free(project->venv_remote);
    free(project->remote_python);
    free(project->probe_python);
    free(project->local_python);
    *project = (struct project){0};
}
