/* The Host lines of ssh_config(5), and which of them match a name.
 *
 * What of the configuration is in force for a host is decided by its Host lines, which look at the name as
 * typed, and by its Match lines.  Where only the former matter the rules are usable; they are not where a
 * Match asks for more than all, final or canonical, where names are canonicalised, and wherever the
 * configuration is not fully understood (too big, not readable, odd keywords, an Include with tokens).
 */
#ifndef CLOUDPLAN_HOST_RULES_H
#define CLOUDPLAN_HOST_RULES_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Where OpenSSH's configuration is; unit tests bring their own. */
struct host_rules_paths {
    const char *user, *user_dir;     /* ~/.ssh/config, and where its relative Includes are */
    const char *system, *system_dir; /* /etc/ssh/ssh_config, the same */
};

struct host_rules;

/* Reads both files and what they include.  NULL and *err: STATUS_SYSTEM without memory. */
struct host_rules *host_rules_read(const struct host_rules_paths *paths, struct error *err);
/* The same from memory, where an Include is not followed but makes them unusable; for tests and the fuzzer.
 */
struct host_rules *host_rules_parse(const char *text, size_t len, struct error *err);
void host_rules_destroy(struct host_rules *rules);

/* False: every host may have an answer of its own. */
bool host_rules_usable(const struct host_rules *rules);
/* How many Host lines there are. */
size_t host_rules_count(const struct host_rules *rules);
/* Whether Host line i (from 0, in the order read) matches a host as typed. */
bool host_rules_match(const struct host_rules *rules, size_t i, const char *host);

#endif
