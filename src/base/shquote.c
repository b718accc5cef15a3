/* Single quotes, with '\\'' for a quote: the one form that every Bourne shell reads alike. */
#include "base/shquote.h"

void shell_quote(FILE *out, const char *text)
{
    fputc('\'', out);
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            fputs("'\\''", out);
        else
            fputc(*p, out);
    }
    fputc('\'', out);
}

void shell_assign(FILE *out, const char *name, const char *text)
{
    fprintf(out, "%s=", name);
    shell_quote(out, text);
    fputc('\n', out);
}
