/* What is to be run and where: the project's root, its virtualenv, and their places on a node.
 *
 * The root is the current directory.  The virtualenv is --cloud-virtualenv-path, else
 * $VIRTUAL_ENV when it lies inside the root, else the first of venv, .venv, env, .env, virtualenv in the root that holds a
 * pyvenv.cfg.  On a node the root is --cloud-chdir; a virtualenv outside the root is copied to
 * --cloud-chdir/NAME.
 */
#ifndef CLOUDPLAN_PROJECT_H
#define CLOUDPLAN_PROJECT_H

#include "error.h"

struct project {
    char *root;          /* absolute, physical */
    char *chdir;         /* on a node: relative to the login's home, or absolute */
    char *venv;          /* absolute, local; NULL: none */
    char *venv_remote;   /* relative to chdir; NULL: none */
    char *remote_python; /* for xspecs: CHDIR/VENV/bin/python3, or python3, or as --cloud-python says */
    char *probe_python;  /* what must exist on a node before the sync: the base interpreter of the
                            virtualenv, or remote_python without one */
    char *local_python;  /* the engine's interpreter here: ROOT/VENV/bin/python3, or python3 */
};

/* chdir, virtualenv, python: the options' values or NULL.  user: the local user's name, for the default of
 * chdir (pytest_USER_FOLDER).  0, or -1 and *err: STATUS_USAGE for a chdir of "/", "~", with "..", or with a character
 * outside [A-Za-z0-9._/+@%,:=-] or with "//", for a virtualenv that is none. */
int project_find(struct project *project, const char *chdir, const char *virtualenv, const char *python,
                 struct error *err);
void project_clear(struct project *project);

#endif
