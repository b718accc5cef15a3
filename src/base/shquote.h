/* Text for sh: between single quotes nothing is special but the quote itself. */
#ifndef CLOUDPLAN_SHQUOTE_H
#define CLOUDPLAN_SHQUOTE_H

#include <stdio.h>

/* Writes text, quoted as one word, to a stream; the stream keeps the error. */
void shell_quote(FILE *out, const char *text);

/* NAME='text', a line of its own. */
void shell_assign(FILE *out, const char *name, const char *text);

#endif
