/* A plan as execnet's xspecs (--tx).
 *
 *   ssh=[-p PORT ]USER@HOST//id=ID//node=NAME//chdir=DIR//python=PYTHON[//ssh_config=FILE]
 *   popen//id=ID[//python=PYTHON]                       for ":"
 *
 * NAME is the node's, by which the plugin knows it: two nodes may be one HOST.  DIR and, where the node has told it, PYTHON are
 * absolute once the node's guard is there; before that DIR is what --cloud-chdir says.
 *
 * USER is the one typed, else ssh_config's where it is known and can stand there; PORT is there only where
 * it was typed.
 *
 * One xspec per process, or with each one per interpreter; ID as xspec_id.h says.  Format:
 * execnet/xspec.py (keys and values cannot hold "//"; "ssh=" is split at blanks).
 */
#ifndef CLOUDPLAN_XSPEC_H
#define CLOUDPLAN_XSPEC_H

#include "base/strv.h"
#include "nodes/node.h"

/* More processes than this are refused: a node's answer must not fill the memory. */
#define XSPEC_MAX 100000

struct xspec_params {
    const char *chdir; /* the copied root on a node, in its first slot; never NULL */
    /* on a node: paths, since its shell reads them; NULL-terminated, at least one */
    const char *const *pythons;
    const char *const *local_pythons; /* for ":", as many; NULL: the engine's own, which is one */
    const char *ssh_config;           /* NULL: none */
    /* --dist=each: on every ready node that has processes one for each interpreter; else the first for
     * all */
    bool each;
};

/* A NULL-terminated array of strings for all ready nodes, in list order; the
 * caller frees it with strings_free().  NULL and *err: STATUS_DATA for a value that
 * cannot stand in an xspec (named), STATUS_BUG where each lacks interpreters for ":", STATUS_SYSTEM without
 * memory. */
char **xspec_tx(const struct node_list *list, const struct xspec_params *params, struct error *err);

#endif
