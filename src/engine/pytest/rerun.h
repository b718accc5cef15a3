/* What --watch runs next: the tests that failed, then everything.
 *
 * The plugin leaves a JSON list of node ids, as pytest would take them for arguments.
 */
#ifndef CLOUDPLAN_RERUN_H
#define CLOUDPLAN_RERUN_H

#include "base/error.h"
#include "base/strv.h"

#include <stddef.h>

/* More than this on the command line (bytes) is not handed on: everything is run instead. */
#define RERUN_BYTES_MAX (96 * 1024)

/* How many tests the file names; 0 also where there is none.  -1 and *err: STATUS_BUG for a malformed file, STATUS_SYSTEM. */
int rerun_count(const char *path, size_t *count, struct error *err);

/* pytest's arguments for those tests alone: options (NULL-terminated), then the tests.  *args is a NULL-terminated array, freed with
 * strings_free(); NULL where everything is to be run: no test failed, options is NULL, or they are too many.  0, or -1 and *err
 * as above. */
int rerun_args(const char *path, char *const *options, char ***args, struct error *err);

#endif
