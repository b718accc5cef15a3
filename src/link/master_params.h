/* What all masters of a run have in common. */
#ifndef CLOUDPLAN_MASTER_PARAMS_H
#define CLOUDPLAN_MASTER_PARAMS_H

#include <stdbool.h>

struct master_params { /* borrowed until masters_close() */
    const char *rundir;
    const char *chdir;  /* on the nodes: of the first copy */
    const char *who;    /* USER@CONTROLLER, for other runs that find something taken; NULL: not known */
    const char *run_id; /* [a-z0-9]+: marks the run's processes on a node */
    const char *cipher; /* preferred; "" or NULL: OpenSSH's own choice */
    int timeout_ms;     /* for opening */
    bool local;         /* this machine has a guard, too */
    bool adopt;         /* --cloud-adopt: a directory without the mark is to be looked at: masters_adopt() */
    /* For masters_prepare(). */
    const char *root;        /* absolute, here */
    const char *venv;        /* absolute, here; NULL: none */
    const char *venv_remote; /* relative to chdir */
    const char *python;      /* a name in the virtualenv's bin; NULL: python3 */
    const char *engine;      /* the engine's snippet for the guard, see engine/engine.h; NULL: none */
    /* absolute, here, NULL-terminated: directories that the copy has under their own names beside the root's files; NULL: none */
    const char *const *outside;
    bool links; /* symbolic links may name places here that the copy has */
    /* links in the virtualenv's bin that the sync leaves out, to be made there: a name, its target, ..., NULL; NULL: none */
    const char *const *programs;
    /* directories of the copy, relative to it, to be installed there, NULL-terminated; NULL: none */
    const char *const *eggs;
};

#endif
