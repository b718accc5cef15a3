/* Which paths count for --watch; and what was found to be changed. */
#ifndef CLOUDPLAN_WATCH_RULES_H
#define CLOUDPLAN_WATCH_RULES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether rsync would match path (relative to the transfer's root, no "/" at its ends) with an exclude pattern: all of
 * rsync(1), PATTERN MATCHING RULES, but for a "/" within brackets. */
bool rsync_pattern_matches(const char *pattern, const char *path, bool directory);

/* Whether a change of path is of no interest, and, for a directory, whatever is below it.  ignores: rsync's patterns,
 * NULL-terminated, or NULL. */
bool watch_ignored(const char *const *ignores, const char *path, bool directory);

/* Whether the name is one of a file that a user edits and a test run does not write. */
bool watch_is_source(const char *path);

struct watch_seen {
    size_t count;        /* changes so far */
    char path[PATH_MAX]; /* of the first, or of the first source file; valid where count > 0 */
};

void watch_note(struct watch_seen *seen, const char *path);

#endif
