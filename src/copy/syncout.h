/* What rsync and GNU parallel say, parsed as input from outside (a node has a hand in it).
 */
#ifndef CLOUDPLAN_SYNCOUT_H
#define CLOUDPLAN_SYNCOUT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The last complete `--info=progress2` record in text: bytes sent so far and percent of the
 * whole (0..100).  False where there is none.  Format: "BYTES PCT% RATE H:MM:SS[ (xfr#N, ...)]",
 * records separated by carriage returns or newlines (rsync(1), --info=progress2 --no-human-readable). */
bool rsync_progress(const char *text, size_t len, uint64_t *bytes, unsigned *percent);

/* The exit statuses of jobs 1 to count in a joblog: status[seq - 1], -1 where the job is not there; the
 * last line for a number counts.  Format: a header line, then tab-separated Seq Host Starttime
 * JobRuntime Send Receive Exitval Signal Command (parallel(1), --joblog).  A job that a signal killed has 128 + signal. */
void joblog_read(const char *text, size_t len, int *status, size_t count);

/* The most telling line of rsync's diagnostics: cleaned, without the final newline. */
void rsync_words(const char *text, size_t len, char words[ERROR_TEXT_MAX]);

/* How many lines of `rsync -n -c --delete --out-format='%i %n'` name a file that differs; the name of the first one, but the
 * root itself, goes into name, cleaned and cut.  A line is an itemized change of 11 characters, a blank, and the name (rsync(1), --itemize-changes), or
 * "*deleting   NAME". */
size_t rsync_differences(const char *text, size_t len, char *name, size_t size);

/* Whether it, or a directory that it is in, is something that comes back by itself: __pycache__, .pytest_cache, .mypy_cache, .ruff_cache,
 * *.pyc, *.pyo, and what pip makes for a development install, *.egg-info and *.egg-link. */
bool rsync_is_cache(const char *name, size_t len);

#define RSYNC_DELETIONS_MAX 200 /* bytes */
/* How many lines "deleting NAME" there are, but for caches and directories that hold nothing else (rsync(1), --info=del; a directory's
 * NAME ends in "/", and comes after what is in it).  The first names are in list, cleaned, with ", " between, the last
 * one cut where it does not fit. */
size_t rsync_deletions(const char *text, size_t len, char list[RSYNC_DELETIONS_MAX]);

/* "Total file size: BYTES bytes" of `rsync --stats --no-human-readable` (rsync(1)), a line of its own: true and *bytes. */
bool rsync_total_size(const char *text, uint64_t *bytes);

/* What an rsync exit status calls for (rsync(1), EXIT VALUES). */
enum rsync_verdict { RSYNC_OK, RSYNC_RETRY, RSYNC_FAILED };
enum rsync_verdict rsync_verdict(int status);

#endif
