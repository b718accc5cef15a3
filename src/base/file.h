/* Files that somebody else has made: what has a file's name may be a FIFO, a terminal or a device, whose open(2) or read(2) waits.
 */
#ifndef CLOUDPLAN_FILE_H
#define CLOUDPLAN_FILE_H

/* Opens a regular file for reading, close-on-exec, without ever waiting.  The descriptor, or -1 with errno: EISDIR for a directory,
 * EINVAL for what is no file of another kind. */
int file_open(const char *path);

#endif
