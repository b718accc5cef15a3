#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

char *text_format(struct error *err, const char *fmt, ...)
{
    char *text;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n >= 0)
        return text;
    error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    return NULL;
}

void text_list(char *list, size_t size, const char *word)
{
    size_t used = strlen(list), left = size - used;
    if (snprintf(list + used, left, "%s%s", used ? ", " : "", word) >= (int)left)
        strcpy(list + size - sizeof "...", "...");
}
