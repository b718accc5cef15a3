/* Whose directories can be relied on: those that nobody but root and the login can change, or exchange for others.
 */
#ifndef CLOUDPLAN_PRIVATE_DIR_H
#define CLOUDPLAN_PRIVATE_DIR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define PRIVATE_DIR_FAULT_MAX 128

/* Opens a directory by its physical absolute path (realpath(3)), and on the way looks at it and at each one above it: its owner must be
 * root or the effective user, and nobody else may be able to write in it, unless it has the sticky bit.  A group may, which
 * is the effective user's own and has no other member.
 * The descriptor (O_PATH where there is that), or -1 and what is wrong, for a sentence. */
int private_dir_open(const char *path, char fault[PRIVATE_DIR_FAULT_MAX]);

/* Whether the text of a /proc/PID/uid_map says that the user namespace has all user ids of a machine. */
int private_dir_map_is_whole(const char *text);
/* Whether the namespace has the user id 0. */
int private_dir_map_has_root(const char *text);

#endif
