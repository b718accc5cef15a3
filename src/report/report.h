/* Everything that is printed, but for main's one error line.  Results go to stdout, the rest to stderr.
 */
#ifndef CLOUDPLAN_REPORT_H
#define CLOUDPLAN_REPORT_H

#include "copy/sync.h"
#include "nodes/node.h"

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_TX, FORMAT_SSHLOGIN };
extern const char *const report_formats[]; /* their names in that order, NULL-terminated */

struct report_params {
    enum format format; /* of the result on stdout */
    bool quiet, verbose;
    /* what FORMAT_TX prints before each of the engine's words: "--tx="; NULL: nothing */
    const char *word_option;
};

struct report;

/* Whether stderr is a terminal, NO_COLOR, TERM are looked at once.  NULL without memory. */
struct report *report_create(const struct report_params *params);
void report_destroy(struct report *report);

void report_note(struct report *report, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void report_probe_progress(void *report, const struct node_list *list, size_t done);
void report_sync_progress(void *report, const struct sync_progress *progress);
void report_progress_end(struct report *report);
/* What the sync has done, in one line. */
void report_copied(struct report *report);

/* The result of probe, plan, sync in the asked-for format on stdout, or for run the table on stderr.
 * tx and logins may be NULL where the format does not need them.  -1 and *err STATUS_SYSTEM where stdout cannot be written. */
int report_nodes(struct report *report, const struct node_list *list, char *const *tx, char *const *logins,
                 bool to_stderr, struct error *err);
/* One line for each node that is not ready, unless the same line was the last that was printed of it. */
void report_dropped(struct report *report, const struct node_list *list);

/* The JSON document as text, owned by the caller; NULL without memory. */
char *report_json(const struct node_list *list, char *const *tx);

#endif
