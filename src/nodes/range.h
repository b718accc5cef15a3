/* A word as the user writes it, and the names that it stands for: "{1..40}" and "[01-40]" (node.h has the grammar).
 */
#ifndef CLOUDPLAN_RANGE_H
#define CLOUDPLAN_RANGE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGES_MAX 16

/* Text that stands as it is, and the range that follows it. */
struct range_piece {
    const char *text; /* borrowed from the word */
    size_t len;
    uint64_t first;
    uint64_t count; /* 0: no range follows, this is the end of the word */
    int width;      /* zero padding; 0: none */
};

struct range_word {
    struct range_piece pieces[RANGES_MAX + 1];
    size_t ranges;
    uint64_t total; /* names that it stands for */
};

/* Takes word apart; it must outlive *ranges.  0, or -1 and *err with STATUS_DATA: not a range, or more than max
 * names in all.  Nothing is allocated. */
int range_parse(struct range_word *ranges, const char *word, uint64_t max, struct error *err);

/* Writes the nth name, 0 <= nth < total; the last range runs fastest.  False where it does not fit in size bytes. */
bool range_name(const struct range_word *ranges, uint64_t nth, char *name, size_t size);

#endif
