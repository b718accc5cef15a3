/* Options as rows of a table, and the functions that set what a row stands for: a member of some struct of values.
 *
 * Whoever has options of its own brings a table and a struct for them (run/options.c: cloudplan's; an engine: its own); parsing, --help
 * and the values of ini files are run/options.c's for all of them.
 */
#ifndef CLOUDPLAN_OPTION_H
#define CLOUDPLAN_OPTION_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_group { OPTION_NODES, OPTION_CAPACITY, OPTION_SYNC, OPTION_ENGINE, OPTION_OUTPUT, OPTION_GROUPS };

struct option_row {
    const char *name; /* without "--" */
    char letter;      /* 0: none */
    const char *arg;  /* the value's name; NULL: takes none */
    enum option_group group;
    const char *help;
    /* Sets the member at `offset` of the struct that values points to; value is borrowed for as long as that lives.  0, or -1 and
     * *err: STATUS_USAGE, STATUS_SYSTEM without memory. */
    int (*set)(void *values, const struct option_row *row, const char *value, struct error *err);
    size_t offset;
    const char *fallback;     /* the value without the option; goes through `set` like a typed one */
    bool path;                /* the value is a path of this machine: "~" begins one in a home */
    bool adds_up;             /* what an ini file says is added to what was typed, rather than passed over */
    uint64_t min, max;        /* of a number, a duration (seconds) */
    const char *unit;         /* of a number: " of MiB", or "" */
    const char *const *words; /* of a word: which there are, NULL-terminated */
    const char *kind;         /* of a word: "format" */
};

int option_needs_value(const struct option_row *row, struct error *err);

#define OPTION_MIB_MAX (UINT64_MAX >> 20) /* the most MiB whose bytes fit into 64 bits */

/* --- for `set`; in brackets the member's type --- */

int option_set_flag(void *values, const struct option_row *row, const char *value,
                    struct error *err); /* bool */
int option_set_string(void *values, const struct option_row *row, const char *value,
                      struct error *err); /* const char * */
/* const char **, an owned NULL-terminated array of borrowed strings. */
int option_add_string(void *values, const struct option_row *row, const char *value, struct error *err);
int option_set_u32(void *values, const struct option_row *row, const char *value,
                   struct error *err); /* uint32_t */
int option_set_mib(void *values, const struct option_row *row, const char *value,
                   struct error *err); /* uint64_t: bytes */
int option_set_duration(void *values, const struct option_row *row, const char *value,
                        struct error *err); /* uint32_t: seconds */
int option_set_word(void *values, const struct option_row *row, const char *value,
                    struct error *err); /* const char *, one of words */
int option_set_index(void *values, const struct option_row *row, const char *value,
                     struct error *err); /* enum: place in words */

/* Index of value in words, or -1. */
int option_find_word(const char *const *words, const char *value);

/* "a, b and c" in text of size bytes, for the last word "and". */
void option_list_words(const char *const *words, const char *last, char *text, size_t size);

/* A struct of values as its table's rows say: lists empty, defaults set.  0, or -1 and *err; option_clear()
 * in both cases. */
int option_prepare(void *values, const struct option_row *rows, size_t count, struct error *err);
/* Frees the lists; what else there is is borrowed. */
void option_clear(void *values, const struct option_row *rows, size_t count);

#endif
