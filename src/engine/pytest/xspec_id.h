/* The ids of xspecs: one for each process, readable, unique in the whole list.
 *
 *   HOST_N                          the Nth process of a node, from 0
 *   HOST_OS-ARCH_pyVERSION[_N]      with --dist=each: 10.0.120.1_Linux-x86_64_py3.11.2; of several that are
 *                                   alike the second is ..._2, and so on
 *
 * Where several nodes of the list have the same host, NAME ("ci@h:22") stands for HOST, so that an id says which
 * node it was.  A node has the same ids whether or not another one dropped out.  Of what a node says
 * about itself only letters, digits, ".", "_" and "-" get into an id, 32 bytes of each part; "unknown" where it says
 * nothing.
 */
#ifndef CLOUDPLAN_XSPEC_ID_H
#define CLOUDPLAN_XSPEC_ID_H

#include "base/strv.h"
#include "nodes/node.h"

/* The ids of all nodes in use, in list order: each for every one of them, or, where each is 0, one for each of its
 * processes.  NULL-terminated; the caller frees it with strings_free().  NULL and *err STATUS_SYSTEM without memory. */
char **xspec_ids(const struct node_list *list, size_t each, struct error *err);

#endif
