/* Ranges in a node's name, expanded here because cron's sh does not, nor a quoted string of a Jenkins job.
 *
 * The names are counted first and made one by one: "{1..999999999}" costs nothing but its error. */
#include "nodes/range.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define DIGITS_MAX 18 /* fits a uint64_t, also as a difference plus one */

static uint64_t number_of(const char *digits, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value * 10 + (uint64_t)(digits[i] - '0');
    return value;
}

/* Reads "{N..M}" or "[N-M]" at s.  Sets *len to the bytes that it takes, 0 where a bracket
 * is not a range (it may hold an IPv6 address). */
static int parse_one(struct range_piece *piece, const char *s, size_t *len, struct error *err)
{
    bool brace = *s == '{';
    const char *separator = brace ? ".." : "-";
    const char *n = s + 1;
    size_t n_len = strspn(n, TEXT_DIGITS);
    const char *m = n + n_len;
    size_t m_len = 0;
    bool whole = n_len > 0 && strncmp(m, separator, strlen(separator)) == 0;
    if (whole) {
        m += strlen(separator);
        m_len = strspn(m, TEXT_DIGITS);
        whole = m_len > 0 && m[m_len] == (brace ? '}' : ']');
    }
    *len = 0;
    if (!whole) {
        const char *end = strchr(s, '}');
        if (!brace)
            return 0;
        if (!end)
            return error_set(err, STATUS_DATA, "'{' without '}': a range is {N..M}");
        return error_set(err, STATUS_DATA, "%.*s is not a range: {N..M}, two whole numbers",
                         (int)(end + 1 - s), s);
    }
    if (n_len > DIGITS_MAX || m_len > DIGITS_MAX)
        return error_set(err, STATUS_DATA, "a number of more than %d digits in a range", DIGITS_MAX);
    *len = (size_t)(m + m_len + 1 - s);
    uint64_t last = number_of(m, m_len);
    piece->first = number_of(n, n_len);
    if (piece->first > last)
        return error_set(err, STATUS_DATA, "the range %.*s runs downwards: write the smaller number first",
                         (int)*len, s);
    piece->count = last - piece->first + 1;
    bool padded = (n[0] == '0' && n_len > 1) || (m[0] == '0' && m_len > 1);
    piece->width = padded ? (int)(n_len > m_len ? n_len : m_len) : 0;
    return 0;
}

int range_parse(struct range_word *ranges, const char *word, uint64_t max, struct error *err)
{
    memset(ranges, 0, sizeof *ranges);
    ranges->total = 1;
    struct range_piece *piece = ranges->pieces;
    const char *s = piece->text = word;
    while (*s) {
        size_t len = 0;
        if (*s == '}')
            return error_set(err, STATUS_DATA, "'}' without '{': a range is {N..M}");
        if (*s == '{' || *s == '[') {
            struct range_piece range = {.text = piece->text, .len = (size_t)(s - piece->text)};
            if (parse_one(&range, s, &len, err) < 0)
                return -1;
            if (len > 0) {
                if (ranges->ranges == RANGES_MAX)
                    return error_set(err, STATUS_DATA, "more than %d ranges", RANGES_MAX);
                if (range.count > max / ranges->total)
                    return error_set(err, STATUS_DATA, "too many nodes: %llu at most in all",
                                     (unsigned long long)max);
                ranges->total *= range.count;
                ranges->ranges++;
                *piece++ = range;
                piece->text = s + len;
            }
        }
        s += len > 0 ? len : 1;
    }
    piece->len = (size_t)(s - piece->text);
    return 0;
}

bool range_name(const struct range_word *ranges, uint64_t nth, char *name, size_t size)
{
    size_t used = 0;
    uint64_t span = ranges->total;
    for (const struct range_piece *piece = ranges->pieces;; piece++) {
        if (piece->len >= size - used)
            return false;
        memcpy(name + used, piece->text, piece->len);
        used += piece->len;
        name[used] = '\0';
        if (piece->count == 0)
            return true;
        span /= piece->count;
        int n = snprintf(name + used, size - used, "%0*llu", piece->width,
                         (unsigned long long)(piece->first + nth / span));
        nth %= span;
        if (n < 0 || (size_t)n >= size - used)
            return false;
        used += (size_t)n;
    }
}
