/* pytest's side of cloudplan, written into the private directory, and the environment in which pytest loads it.
 *
 * PYTEST_PLUGINS and not -p: xdist repeats the command line on every worker, where the modules do not exist.
 */
#ifndef CLOUDPLAN_PLUGIN_H
#define CLOUDPLAN_PLUGIN_H

#include "base/error.h"
#include "base/strv.h"

/* Writes RUNDIR/plugin/NAME.py.  0, or -1 and *err: STATUS_SYSTEM. */
int plugin_write(const char *rundir, struct error *err);

/* NAME=VALUE strings for struct child_spec: PYTHONPATH and PYTEST_PLUGINS (what is there already stays), _CLOUDPLAN_ENGINE=1,
 * CLOUDPLAN_CONTROLLER=run_id, and those of more (NULL-terminated).  By run_id what pytest has started on this machine is found,
 * and ended with the run.  It is not CLOUDPLAN_RUN: a node may be this machine, and its guard ends whatever has that as soon
 * as its connection is lost.  plugins: the modules to load, separated by commas.  A NULL-terminated array, freed with
 * strings_free(); NULL and *err: STATUS_SYSTEM. */
char **plugin_environment(const char *rundir, const char *run_id, const char *plugins,
                          const char *const *more, struct error *err);

/* "_CLOUDPLAN_ENV=..." for options.py: LENGTH:ITEM for each of --cloud-env, the first `typed` of them last, since what comes later counts
 * more.  Owned by the caller; NULL and *err: STATUS_SYSTEM. */
char *plugin_env_items(const char *const *items, size_t typed, struct error *err);

#endif
