/* What is to be run and where: the project's root, its virtualenv, and their places on a node.
 *
 * The root is the current directory.  The virtualenv is --cloud-virtualenv-path, else
 * $VIRTUAL_ENV when it lies inside the root, else the first of venv, .venv, env, .env, virtualenv in the root that holds a
 * pyvenv.cfg.  On a node the root is --cloud-chdir; a virtualenv outside the root is copied to
 * --cloud-chdir/NAME.
 */
#ifndef CLOUDPLAN_PROJECT_H
#define CLOUDPLAN_PROJECT_H

#include "base/error.h"

#include <stdbool.h>

struct project {
    char *root;            /* absolute, physical */
    char *chdir;           /* on a node: relative to the login's home, or absolute */
    char *venv;            /* absolute, local; NULL: none */
    char *venv_remote;     /* relative to chdir; NULL: none */
    char *venv_version;    /* "3.11": what the virtualenv was made with; NULL: none, or not known */
    char **remote_pythons; /* for xspecs: CHDIR/VENV/bin/NAME, or NAME; at least one, NULL-terminated */
    /* what must exist on a node before the sync, one for each of them: the base interpreter of the
     * virtualenv, or NAME */
    char **probe_pythons;
    char **local_pythons; /* the same interpreters on this machine: ROOT/VENV/bin/NAME, or NAME */
    bool venv_used;       /* the first interpreter is the virtualenv's */
    char *python_name;    /* its name in VENV/bin, where venv_used */
    /* the engine's interpreter here: $CLOUDPLAN_PYTHON, ROOT/VENV/bin/python3, or python3 */
    char *local_python;
    char *engine_pythons[2]; /* local_python as a list of one, borrowed from there */
};

/* prefix: the engine's; chdir, virtualenv: the options' values or NULL; pythons: NULL-terminated, none stands for python3.  The local user's name
 * goes into the default of chdir (PREFIX_USER_FOLDER).  0, or -1 and *err: STATUS_USAGE for a chdir of "/", "~", with "..", or with a character
 * outside [A-Za-z0-9._/+@%,:=-] or with "//", for a virtualenv that is none; STATUS_SYSTEM where it cannot be told whether there is
 * one. */
int project_find(struct project *project, const char *prefix, const char *chdir, const char *virtualenv,
                 const char *const *pythons, struct error *err);
/* Whether path, as typed, is a directory that pip could install, inside the root or one of outside (absolute, physical, NULL-terminated; NULL:
 * none), which are copied under their own names: STATUS_USAGE.  *relative: its place in the copy, owned by the caller. */
int project_egg(const struct project *project, char *const *outside, const char *path, char **relative,
                struct error *err);
void project_clear(struct project *project);
/* Whether dir is "/", or, by the password database, the home of the user or of the directory's owner, which are never copied as a whole. */
bool project_is_home(const char *dir);

#endif
