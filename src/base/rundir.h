/* The run's private directory: 0700, ours, short enough for control sockets; gone at the end.
 *
 * It is made in $XDG_RUNTIME_DIR, $TMPDIR, /tmp, /var/tmp or ~/.cache: the first that nobody but root and the login can exchange, nor
 * any directory above it (private_dir.h), and in which a ControlPath fits
 * (OpenSSH appends 17 characters to it while it binds; sun_path holds 107).
 */
#ifndef CLOUDPLAN_RUNDIR_H
#define CLOUDPLAN_RUNDIR_H

#include "base/error.h"

#include <stddef.h>

/* Physical path, owned by the caller; NULL and *err: STATUS_SYSTEM, with what is wrong with each of those. */
char *rundir_create(struct error *err);
/* Removes it with everything in it; keeps errno; NULL allowed. */
void rundir_remove(const char *path);
/* Writes a file of the directory (0600); 0, or -1 and *err STATUS_SYSTEM: then there is none of that name. */
int rundir_write(const char *dir, const char *name, const char *text, size_t len, struct error *err);
/* At most max bytes of a file's end, NUL-terminated, owned by the caller; NULL, with *len
 * as it was or 0, and errno: ENOENT where there is none. */
char *rundir_tail(const char *path, size_t max, size_t *len);

#endif
