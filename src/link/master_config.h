/* The ssh_config of one run, by which its masters, rsync and the engine reach the nodes.
 */
#ifndef CLOUDPLAN_MASTER_CONFIG_H
#define CLOUDPLAN_MASTER_CONFIG_H

#include "base/error.h"
#include "link/master_params.h"

/* Writes it as "ssh_config" into params->rundir.  0, or -1 and *err: STATUS_SYSTEM. */
int master_config_write(const struct master_params *params, struct error *err);

#endif
