#include "base/option.h"

#include "base/strv.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *option_member(void *values, const struct option_row *row)
{
    return (char *)values + row->offset;
}

int option_set_flag(void *values, const struct option_row *row, const char *value, struct error *err)
{
    (void)value;
    (void)err;
    *(bool *)option_member(values, row) = true;
    return 0;
}

int option_needs_value(const struct option_row *row, struct error *err)
{
    return error_set(err, STATUS_USAGE, "--%s: needs a value, --%s=%s", row->name, row->name, row->arg);
}

int option_set_string(void *values, const struct option_row *row, const char *value, struct error *err)
{
    if (!*value)
        return option_needs_value(row, err);
    *(const char **)option_member(values, row) = value;
    return 0;
}

int option_add_string(void *values, const struct option_row *row, const char *value, struct error *err)
{
    if (!*value)
        return option_needs_value(row, err);
    const char ***list = option_member(values, row);
    size_t n = strings_count((char *const *)*list);
    const char **grown = realloc(*list, (n + 2) * sizeof *grown);
    if (!grown)
        return error_errno(err, row->name);
    grown[n] = value;
    grown[n + 1] = NULL;
    *list = grown;
    return 0;
}

static int take_number(const struct option_row *row, const char *value, uint64_t *result, struct error *err)
{
    if (!*value)
        return option_needs_value(row, err);
    if (value[strspn(value, TEXT_DIGITS)])
        return error_set(err, STATUS_USAGE, "--%s=%s: not a whole number%s", row->name, value, row->unit);
    if (!text_number(value, row->min, row->max, result))
        return error_set(err, STATUS_USAGE, "--%s=%s: not a number from %llu to %llu", row->name, value,
                         (unsigned long long)row->min, (unsigned long long)row->max);
    return 0;
}

int option_set_u32(void *values, const struct option_row *row, const char *value, struct error *err)
{
    uint64_t n;
    if (take_number(row, value, &n, err) < 0)
        return -1;
    *(uint32_t *)option_member(values, row) = (uint32_t)n;
    return 0;
}

int option_set_mib(void *values, const struct option_row *row, const char *value, struct error *err)
{
    uint64_t n;
    if (take_number(row, value, &n, err) < 0)
        return -1;
    *(uint64_t *)option_member(values, row) = n << 20;
    return 0;
}

/* A number of seconds, with a unit if there is one. */
int option_set_duration(void *values, const struct option_row *row, const char *value, struct error *err)
{
    if (!*value)
        return option_needs_value(row, err);
    size_t digits = strspn(value, TEXT_DIGITS);
    const char *unit = value + digits, *p = value;
    uint64_t n, factor = !strcmp(unit, "h") ? 3600 : !strcmp(unit, "m") ? 60 : 1;
    if (digits == 0 || (factor == 1 && *unit && strcmp(unit, "s")))
        return error_set(err, STATUS_USAGE, "--%s=%s: not a duration such as 90, 90s, 10m or 2h", row->name,
                         value);
    if (!text_digits(&p, unit, &n) || n > row->max / factor || n * factor < row->min)
        return error_set(err, STATUS_USAGE, "--%s=%s: not a duration from 1 s to %llu h", row->name, value,
                         (unsigned long long)row->max / 3600);
    *(uint32_t *)option_member(values, row) = (uint32_t)(n * factor);
    return 0;
}

/* Index of value in words, or -1. */
int option_find_word(const char *const *words, const char *value)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], value) == 0)
            return i;
    return -1;
}

void option_list_words(const char *const *words, const char *last, char *text, size_t size)
{
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; words[i] && used < size; i++) {
        if (i && words[i + 1])
            used += (size_t)snprintf(text + used, size - used, ", ");
        else if (i)
            used += (size_t)snprintf(text + used, size - used, " %s ", last);
        if (used < size)
            used += (size_t)snprintf(text + used, size - used, "%s", words[i]);
    }
}

static int find(const struct option_row *row, const char *value, struct error *err)
{
    char list[200];
    int i = option_find_word(row->words, value);
    if (i >= 0)
        return i;
    option_list_words(row->words, "and", list, sizeof list);
    return error_set(err, STATUS_USAGE, "--%s=%s: unknown %s; there are %s", row->name, value, row->kind,
                     list);
}

int option_set_word(void *values, const struct option_row *row, const char *value, struct error *err)
{
    if (find(row, value, err) < 0)
        return -1;
    *(const char **)option_member(values, row) = value;
    return 0;
}

int option_set_index(void *values, const struct option_row *row, const char *value, struct error *err)
{
    int i = find(row, value, err);
    if (i < 0)
        return -1;
    *(unsigned *)option_member(values, row) = (unsigned)i; /* GNU C: an enum without negative constants */
    return 0;
}

int option_prepare(void *values, const struct option_row *rows, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].set == option_add_string &&
            !(*(const char ***)option_member(values, &rows[i]) = calloc(1, sizeof(const char *))))
            return error_errno(err, "command line");
        if (rows[i].fallback && rows[i].set(values, &rows[i], rows[i].fallback, err) < 0)
            return -1;
    }
    return 0;
}

void option_clear(void *values, const struct option_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].set == option_add_string)
            free(*(const char ***)option_member(values, &rows[i]));
}
