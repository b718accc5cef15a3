/* Waiting for a change in what is copied, for `cloudplan run --watch`: the project, or what --rsyncdir names of it, and
 * directories from outside, such as a virtualenv.
 *
 * The tree is looked at whenever Linux's inotify says that something may have changed, but not for more than a tenth of the time; every 2 s where
 * inotify is not there, its limit is reached, or the project is on a file system where other machines' changes do not reach it
 * (watch_polls() says why).
 *
 * What counts:
 * - While waiting, whatever differs from before: a file or link that is there or not, its size, times, permissions, inode (so
 *   that `touch` starts a run); a directory that is there or not.  What has been made and removed between two looks has never
 *   been.  A link is not followed.  What is only written through a memory map is seen at the next look.
 * - What the sync never copies (rsync_left_out[]), the ignores, and files that editors keep for themselves (swap, backup and lock
 *   files: watch_rules.c) never count.
 * - During a run, which writes files itself (report.xml, .coverage, htmlcov), only files count whose name ends in one
 *   of .py .pyi .pyx .pxd .ini .cfg .toml and that are others after the run than before it; they start the next run at
 *   once.  All other changes made meanwhile are forgotten; the next sync copies them.
 * What cannot be read is left out without a word, as are paths longer than PATH_MAX.
 */
#ifndef CLOUDPLAN_WATCH_H
#define CLOUDPLAN_WATCH_H

#include "base/error.h"
#include "watch/watch_tree.h"

struct watch;

/* Begins to watch the tree; what its members point to is borrowed as long as the watch lives.  NULL and *err: STATUS_SYSTEM. */
struct watch *watch_create(const struct watch_tree *tree, struct error *err);
/* The same, by polling at any rate. */
struct watch *watch_create_polling(const struct watch_tree *tree, struct error *err);
void watch_destroy(struct watch *watch);

/* Why the tree is looked through every 2 s: one line, owned by the watch; NULL where the system tells of changes.  Can change
 * in watch_end_run() and watch_wait(), when a limit is reached only then. */
const char *watch_polls(const struct watch *watch);

/* Around a test run, with its sync: begin before the first file is copied (what was changed up to then is forgotten, since
 * this run sees it), end when all files that come of the run are written.  0, or -1 and *err: STATUS_SYSTEM; then only
 * watch_destroy() may follow. */
int watch_begin_run(struct watch *watch, struct error *err);
int watch_end_run(struct watch *watch, struct error *err);

/* 1: something was changed, and has been quiet for 200 ms or has gone on for 2 s (a git checkout or an editor's save by
 * renaming is one change).  *changed is the path of one file changed, relative to the copy, a source file if there is one; "." where
 * that is not known; valid until the next call for this watch.  0: a terminating signal came (child_signal()).
 * -1 and *err: STATUS_SYSTEM, also where the root itself, or a directory from outside, was removed or moved; then only
 * watch_destroy() may follow. */
int watch_wait(struct watch *watch, const char **changed, struct error *err);

#endif
