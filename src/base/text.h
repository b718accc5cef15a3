/* Text: alphabets, numbers in it, words that are put together. */
#ifndef CLOUDPLAN_TEXT_H
#define CLOUDPLAN_TEXT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For strspn(3): ctype.h's classes are the locale's. */
#define TEXT_DIGITS "0123456789"
#define TEXT_ALNUM TEXT_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* Digits at *p (before end) as a number, and *p behind them.  False where there is none, or it does not fit.  Not strtoull(3): it would
 * take blanks and signs, and -5 as a huge number. */
bool text_digits(const char **p, const char *end, uint64_t *number);
/* A whole string as a number from min to max: false where it is none. */
bool text_number(const char *text, uint64_t min, uint64_t max, uint64_t *number);

/* asprintf(3): owned by the caller; NULL and *err STATUS_SYSTEM without memory. */
char *text_format(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define TEXT_SIZE 24
/* "1.5 GiB" of a number of bytes. */
void text_size(uint64_t bytes, char text[TEXT_SIZE]);
/* Adds a word to "a, b, c" in a buffer of size bytes; where it has no room for it, "..." stands at its end. */
void text_list(char *list, size_t size, const char *word);

#endif
