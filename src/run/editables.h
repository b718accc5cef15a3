/* What "pip install -e" has put into a virtualenv and what will not be the same on a node. */
#ifndef CLOUDPLAN_EDITABLES_H
#define CLOUDPLAN_EDITABLES_H

#include "report/report.h"
#include "watch/watch_tree.h"

/* A note for each reference of the virtualenv's site-packages that leads to a place which the tree does not copy, or to a package that is
 * built anew when it is imported.  What lies in /usr, or is not here either, is no matter. */
void editables_name(struct report *report, const char *venv, const struct watch_tree *tree);

#endif
