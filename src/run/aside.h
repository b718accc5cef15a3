/* What tests have here and not on a node, because it lies outside of what is copied: named before the run. */
#ifndef CLOUDPLAN_ASIDE_H
#define CLOUDPLAN_ASIDE_H

#include "run/state.h"

/* A virtualenv that is active and is not the one that the nodes get. */
int stage_name_virtualenv(struct run *run, struct error *err);
/* Symbolic links, and what was installed in development mode, once.  Finds out what has to be done with them on the nodes.  STATUS_USAGE where --cloud-copy-links would copy without end. */
int stage_links(struct run *run, struct error *err);

#endif
