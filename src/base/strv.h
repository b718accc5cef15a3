/* NULL-terminated lists of strings; the list and each string are owned by whoever holds the list.  NULL is an empty one. */
#ifndef CLOUDPLAN_STRV_H
#define CLOUDPLAN_STRV_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

size_t strings_count(char *const *strings);
/* errno stays. */
void strings_free(char **strings);
/* Adds text, which is the list's from now on and is freed where there is no memory.  NULL for text: a strdup() that has failed.  0, or -1
 * and errno; then *strings is as it was. */
int strings_take(char ***strings, char *text);
/* Adds a copy of text.  0, or -1 and *err: STATUS_SYSTEM; then *strings is as it was. */
int strings_add(char ***strings, const char *text, struct error *err);
/* Whether both hold the same strings in the same order. */
bool strings_same(char *const *a, char *const *b);

#endif
