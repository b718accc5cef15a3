/* Whether a node that has answered can be used at all: what it must have for anything to run on it.
 *
 * In this order: every interpreter asked for, the first in the right version; rsync, and a --cloud-chdir that is cloudplan's own; every module
 * asked for, in every interpreter; what the engine asks for besides.  This machine, ":", gets no copy and needs only the interpreters; its modules count where
 * there are several interpreters, as a single one is the engine's, which is checked by itself.
 */
#ifndef CLOUDPLAN_ACCEPT_H
#define CLOUDPLAN_ACCEPT_H

#include "nodes/node.h"

#include <stdbool.h>

/* What the engine says of a node that has what everything needs: a reason, or "" for nothing.  python: the interpreter that does not
 * find facts->missing; NULL: all find what they must.  local: it is this machine. */
typedef void requirements_lacks(const struct facts *facts, const char *python, bool local, char *reason,
                                size_t size);

struct requirements {
    const char *chdir; /* where the copy is to be: absolute, or relative to the home directory there */
    bool adopt;        /* --cloud-adopt: a directory without the mark is not yet refused */
    /* the interpreters that a node must have: 1 to FACTS_PYTHONS_MAX, NULL-terminated */
    const char *const *pythons;
    const char *const *local_pythons; /* of this machine, as many; NULL: the same */
    /* "3.11": of which version the first of them must be, as a virtualenv was made with it; NULL: any */
    const char *python_version;
    const char *modules; /* Python modules that they must find there, a blank between; NULL: not asked */
    /* a snippet for the facts script that defines engine_facts, see engine/engine.h; NULL: none */
    const char *facts;
    requirements_lacks
        *lacks; /* NULL: a module that is missing is named, and there is no remedy but to install it */
};

/* The node has its facts; it becomes NODE_READY, or NODE_UNFIT with a reason that says what is missing and what can be
 * done about it. */
void accept_facts(struct node *node, const struct requirements *required);

#endif
