/* Text that is put together. */
#ifndef CLOUDPLAN_TEXT_H
#define CLOUDPLAN_TEXT_H

#include "base/error.h"

#include <stddef.h>

/* asprintf(3): owned by the caller; NULL and *err STATUS_SYSTEM without memory. */
char *text_format(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a word to "a, b, c" in a buffer of size bytes; where it has no room for it, "..." stands at its end. */
void text_list(char *list, size_t size, const char *word);

#endif
