/* One error, owned by the caller: a line of English and the exit status it means.
 *
 * The first error wins: once set, later error_set() calls leave it alone, so a
 * clean-up path cannot hide the reason.  The text is one line, without a final
 * newline and without control characters (they are replaced by '?'), whatever
 * was put into it: it may be printed to a terminal as it is.
 */
#ifndef CLOUDPLAN_ERROR_H
#define CLOUDPLAN_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/* Every exit status that cloudplan itself uses; the numbers are those of
 * sysexits.h, the man page's EXIT STATUS says the same. */
enum exit_status {
    STATUS_OK = 0,
    STATUS_USAGE = 64,       /* the command line is wrong */
    STATUS_DATA = 65,        /* an input (node name, node list) is malformed */
    STATUS_UNAVAILABLE = 69, /* no usable node */
    STATUS_BUG = 70,         /* cloudplan contradicts itself */
    STATUS_SYSTEM = 71,      /* the operating system refused something */
    STATUS_SYNC = 74,        /* the sync failed on every node */
    STATUS_CAPACITY = 75,    /* less capacity than --cloud-min-processes */
    STATUS_TOOL = 78,        /* a program that is needed is missing or wrong */
    STATUS_SIGNAL = 128      /* + the signal's number */
};

#define ERROR_TEXT_MAX 512

struct error {
    int status; /* 0: no error */
    char text[ERROR_TEXT_MAX];
    /* Where the value of an option is wrong: its name without "--", a constant, and the value as it was given, borrowed.  NULL: something
     * else is wrong, or which of its values is not told.  Whoever knows where values come from can name the place. */
    const char *option, *value;
};

#define ERROR_INIT                                                                                           \
    {                                                                                                        \
        0, "", NULL, NULL                                                                                    \
    }

/* Sets *err unless it holds an error already; err may be NULL.  Always returns
 * -1, so that `return error_set(...)` reads well. */
int error_set(struct error *err, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same with STATUS_USAGE for a wrong value of an option. */
int error_value(struct error *err, const char *option, const char *value, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* What follows EFBIG and SIGXFSZ: few think of that limit. */
#define ERROR_FILE_LIMIT "; ulimit -f, the limit of a file's size, is too low: raise it"

/* As error_set() with status STATUS_SYSTEM, text "WHAT: strerror(errno)" (and the remedy for EFBIG). */
int error_errno(struct error *err, const char *what);

/* Replaces every control character (C0, DEL, C1 as UTF-8, and bytes that are
 * not valid UTF-8) of text by '?', in place. */
void text_clean(char *text);

#endif
