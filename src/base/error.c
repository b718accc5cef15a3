/* The error that travels: see error.h for the promises. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Length of the valid, printable UTF-8 sequence at s, or 0.  C1 controls
 * (U+0080..U+009F) are refused: some terminals obey them. */
static size_t printable(const unsigned char *s)
{
    if (s[0] >= 0x20 && s[0] < 0x7f)
        return 1;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : (s[0] & 0xf0) == 0xe0        ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if (n == 2 && s[0] == 0xc2 && s[1] < 0xa0)
        return 0;
    /* overlong, surrogates, beyond U+10FFFF; line separators and direction
     * overrides (U+2028..U+202E, U+2066..U+2069) would rearrange a line */
    if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
                   (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) ||
                   (s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)))
        return 0;
    if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)))
        return 0;
    return n;
}

void text_clean(char *text)
{
    unsigned char *s = (unsigned char *)text;
    while (*s) {
        size_t n = printable(s);
        if (n == 0) {
            *s = '?';
            n = 1;
        }
        s += n;
    }
}

static void set_text(struct error *err, int status, const char *fmt, va_list ap)
{
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    text_clean(err->text);
    err->status = status;
}

int error_set(struct error *err, int status, const char *fmt, ...)
{
    if (err && err->status == 0) {
        va_list ap;
        va_start(ap, fmt);
        set_text(err, status, fmt, ap);
        va_end(ap);
        err->option = err->value = NULL;
    }
    return -1;
}

int error_value(struct error *err, const char *option, const char *value, const char *fmt, ...)
{
    if (err && err->status == 0) {
        va_list ap;
        va_start(ap, fmt);
        set_text(err, STATUS_USAGE, fmt, ap);
        va_end(ap);
        err->option = option;
        err->value = option ? value : NULL;
    }
    return -1;
}

int error_errno(struct error *err, const char *what)
{
    return error_set(err, STATUS_SYSTEM, "%s: %s%s", what, strerror(errno),
                     errno == EFBIG ? ERROR_FILE_LIMIT : "");
}
