/* Asks all nodes at once, while the engine may still be settling its options. */
#ifndef CLOUDPLAN_ASK_H
#define CLOUDPLAN_ASK_H

#include "run/state.h"

/* Asks all nodes; the engine's answer has been taken into account then. */
int stage_probe(struct run *run, struct error *err);

#endif
