/* Files that somebody else has made: what has a file's name may be a FIFO, a terminal or a device, whose open(2) or read(2) waits.
 */
#ifndef CLOUDPLAN_FILE_H
#define CLOUDPLAN_FILE_H

#include <stddef.h>
#include <sys/stat.h>

/* Opens a regular file for reading, close-on-exec, without ever waiting.  The descriptor, or -1 with errno: EISDIR for a directory,
 * EINVAL for anything else that is not a regular file. */
int file_open(const char *path);

/* Reads from where the descriptor stands to the end of the file, at most max bytes.  0, or -1 and errno; *len is what has been read, also
 * then. */
int file_read(int fd, char *text, size_t max, size_t *len);

/* The whole of a regular file of at most max bytes, in one piece of memory so that no copy of a secret is left behind, NUL-terminated; owned by the
 * caller.  *st: what fstat(2) says of it.  NULL and errno: also EFBIG where it is longer than that, or than
 * fstat(2) says, ENOMEM. */
char *file_text(const char *path, size_t max, size_t *len, struct stat *st);

#endif
