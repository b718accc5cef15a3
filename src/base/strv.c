/* Each list is grown by one place at a time: they are short. */
#include "base/strv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t strings_count(char *const *strings)
{
    size_t n = 0;
    while (strings && strings[n])
        n++;
    return n;
}

void strings_free(char **strings)
{
    int saved = errno;
    for (size_t i = 0; strings && strings[i]; i++)
        free(strings[i]);
    free(strings);
    errno = saved;
}

int strings_take(char ***strings, char *text)
{
    size_t n = strings_count(*strings);
    char **grown = text ? realloc(*strings, (n + 2) * sizeof *grown) : NULL;
    if (!grown) {
        free(text);
        errno = ENOMEM;
        return -1;
    }
    grown[n] = text;
    grown[n + 1] = NULL;
    *strings = grown;
    return 0;
}

int strings_add(char ***strings, const char *text, struct error *err)
{
    return strings_take(strings, strdup(text)) ? error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM)) : 0;
}

bool strings_same(char *const *a, char *const *b)
{
    size_t i = 0;
    while (a && b && a[i] && b[i] && !strcmp(a[i], b[i]))
        i++;
    return !(a && a[i]) && !(b && b[i]);
}
