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

bool text_digits(const char **p, const char *end, uint64_t *number)
{
    const char *start = *p;
    *number = 0;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(**p - '0'), number))
            return false;
    return *p > start;
}

bool text_number(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
    const char *end = text + strlen(text);
    return text_digits(&text, end, number) && text == end && *number >= min && *number <= max;
}

void text_list(char *list, size_t size, const char *word)
{
    size_t used = strlen(list), left = size - used;
    if (snprintf(list + used, left, "%s%s", used ? ", " : "", word) >= (int)left)
        strcpy(list + size - sizeof "...", "...");
}

void text_size(uint64_t bytes, char text[TEXT_SIZE])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    snprintf(text, TEXT_SIZE, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}
