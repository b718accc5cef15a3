/* Files built into the binary, so that it also runs from its build tree: everything in scripts/node and
 * scripts/pytest_cloudplan.  scripts/embed.sh makes the table; a file added to one of the two folders is in it.
 */
#ifndef CLOUDPLAN_EMBEDDED_H
#define CLOUDPLAN_EMBEDDED_H

#include <stddef.h>
#include <stdio.h>

struct embedded_file {
    const char *name; /* relative to scripts/: "node/facts.sh" */
    const char *text; /* NUL-terminated */
    size_t len;       /* bytes, without that NUL */
};

/* All of them, in the order of their names; the last one has the name NULL. */
extern const struct embedded_file embedded_files[];

/* Writes the text of the file of that name to a stream, which keeps the error.  There must be such a file. */
void embedded_write(FILE *out, const char *name);

#endif
