/* Node lists from a file: words as in node.h, separated by blanks or newlines; "#" begins a comment that
 * goes to the end of the line; "-" is the standard input.  CRLF line ends are taken as line ends, and a
 * byte order mark at the beginning is skipped.  The file may be a FIFO or a pipe.
 */
#ifndef CLOUDPLAN_INVENTORY_H
#define CLOUDPLAN_INVENTORY_H

#include "base/error.h"
#include "nodes/node.h"

#define INVENTORY_BYTES_MAX (4 * 1024 * 1024)
#define INVENTORY_TIMEOUT_MS 600000 /* for all of it: somebody may be typing */

/* Adds the nodes of the file.  0, or -1 and *err: STATUS_DATA for a bad word ("FILE:LINE: ..."), a file with a
 * NUL byte, one that is too large, one without a node, one that cannot be read, one that has not
 * ended in time; STATUS_SYSTEM without memory; STATUS_SIGNAL+N. */
int inventory_read(struct node_list *list, const char *path, struct error *err);
/* The same from memory; name is for messages. */
int inventory_parse(struct node_list *list, const char *text, size_t len, const char *name,
                    struct error *err);

#endif
