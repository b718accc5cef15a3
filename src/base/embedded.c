/* The table of embedded files is generated; this looks into it. */
#include "base/embedded.h"

#include <assert.h>
#include <string.h>

void embedded_write(FILE *out, const char *name)
{
    const struct embedded_file *file = embedded_files;
    while (file->name && strcmp(file->name, name))
        file++;
    assert(
        file->name); /* a name that is not in the source tree is a fault of the caller's text, seen by its first test */
    fwrite(file->text, 1, file->len, out);
}
