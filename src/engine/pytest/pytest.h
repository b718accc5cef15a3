/* The engine pytest-xdist. */
#ifndef CLOUDPLAN_PYTEST_H
#define CLOUDPLAN_PYTEST_H

#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

struct pytest_options {
    bool ship_pytest;          /* --cloud-ship-pytest */
    const char **ship_plugins; /* --cloud-ship-plugin: distributions */
    const char **env;          /* --cloud-env: as typed, then those of ini files */
    const char **tx;           /* --tx: added to the computed list */
    const char *dist;          /* --dist; NULL: load, unless pytest's arguments or its addopts say */
    uint32_t numprocesses;     /* -n NUM: so many local workers beside the planned ones; 0: none */
};

extern const struct engine engine_pytest;

#endif
