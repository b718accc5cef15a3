/* The wait, and what of a run counts.
 *
 * What has changed is found by comparing two snapshots; inotify only says when to look.  So a file that a test made and removed again is
 * no edit, and a full queue loses nothing.  A run is judged by the source files alone.  The queue is emptied before a
 * snapshot is made: what is changed in between is in the snapshot, and at worst one look finds nothing.
 *
 * The end of the root, or of a directory from outside, is seen by looking at it: inotify keeps silent while a process, such as
 * this one, has its working directory there, or when a directory above it is moved.
 */
#include "watch/watch.h"

#include "base/child.h"
#include "watch/watch_inotify.h"
#include "watch/watch_rules.h"
#include "watch/watch_tree.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define QUIET_MS 200
#define QUIET_MOST_MS 2000
#define INTERVAL_MS 2000 /* between two looks at the tree, or at the root alone */
#define INTERVAL_TIMES                                                                                       \
    10 /* but not less than so many times what a look takes: a large tree must not keep a core busy */

/* Which directory a path meant in the beginning. */
struct top {
    dev_t device;
    ino_t inode;
};

struct watch {
    struct watch_tree tree;
    struct top *tops;              /* of the root, and of each directory from outside */
    struct watch_inotify *inotify; /* NULL: polling */
    char polls[160];               /* why */
    struct snapshot *before;       /* as last seen */
    int interval_ms;               /* between two looks, where nothing says when to look */
    long long earliest;            /* clock_ms(): no look before */
    struct watch_seen seen;        /* since the last watch_wait() or watch_end_run() */
};

static int check_top(struct top *top, const char *dir, const char *what, bool first, struct error *err)
{
    struct stat st;
    if (stat(dir, &st))
        return error_set(err, STATUS_SYSTEM, "%s: %s can no longer be watched: %s", dir, what,
                         strerror(errno));
    if (first)
        *top = (struct top){st.st_dev, st.st_ino};
    if (!S_ISDIR(st.st_mode) || top->device != st.st_dev || top->inode != st.st_ino)
        return error_set(err, STATUS_SYSTEM,
                         "%s: %s is no longer the one that was watched: start cloudplan again", dir, what);
    return 0;
}

static int check_tops(struct watch *w, bool first, struct error *err)
{
    size_t i = 0, n = 0;
    int result = check_top(&w->tops[n++], w->tree.root, "the project's directory", first, err);
    for (const char *dir; result == 0 && (dir = watch_outside(&w->tree, &i));)
        result = check_top(&w->tops[n++], dir, "this directory", first, err);
    return result;
}

/* A new snapshot as the present state; before it, changes against the former one are noted. */
static int renew(struct watch *w, bool sources_only, struct error *err)
{
    long long begin = clock_ms();
    if (w->inotify)
        watch_inotify_woken(w->inotify);
    struct snapshot *now = snapshot_make(&w->tree, w->inotify ? watch_inotify_enter : NULL, w->inotify, err);
    if (!now)
        return -1;
    if (w->before)
        snapshot_compare(w->before, now, sources_only, &w->seen);
    snapshot_destroy(w->before);
    w->before = now;
    if (w->inotify && !watch_inotify_works(w->inotify, w->polls, sizeof w->polls)) {
        watch_inotify_destroy(w->inotify);
        w->inotify = NULL;
    }
    long long end = clock_ms(), pause = (end - begin) * INTERVAL_TIMES;
    w->interval_ms = pause > INTERVAL_MS ? (int)pause : INTERVAL_MS;
    w->earliest = end + (pause < INTERVAL_MS ? pause : INTERVAL_MS);
    return 0;
}

static struct watch *create_watch(const struct watch_tree *tree, bool polling, struct error *err)
{
    struct watch *w = calloc(1, sizeof *w);
    int result = -1;
    size_t count = 1;
    while (tree->dirs && tree->dirs[count - 1])
        count++;
    if (!w || !(w->tops = calloc(count, sizeof *w->tops))) {
        error_errno(err, "watching");
        goto out;
    }
    w->tree = *tree;
    w->interval_ms = INTERVAL_MS;
    snprintf(w->polls, sizeof w->polls, "it was asked for");
    if (check_tops(w, true, err))
        goto out;
    if (!polling && watch_inotify_create(&w->inotify, &w->tree, w->polls, sizeof w->polls, err) < 0)
        goto out;
    result = renew(w, false, err);
out:
    if (result) {
        watch_destroy(w);
        w = NULL;
    }
    return w;
}

struct watch *watch_create(const struct watch_tree *tree, struct error *err)
{
    return create_watch(tree, false, err);
}

struct watch *watch_create_polling(const struct watch_tree *tree, struct error *err)
{
    return create_watch(tree, true, err);
}

void watch_destroy(struct watch *w)
{
    if (!w)
        return;
    int saved = errno;
    watch_inotify_destroy(w->inotify);
    snapshot_destroy(w->before);
    free(w->tops);
    free(w);
    errno = saved;
}

const char *watch_polls(const struct watch *w)
{
    return w->inotify ? NULL : w->polls;
}

int watch_begin_run(struct watch *w, struct error *err)
{
    snapshot_destroy(w->before);
    w->before = NULL;
    return renew(w, false, err);
}

int watch_end_run(struct watch *w, struct error *err)
{
    w->seen.count = 0;
    return renew(w, true, err);
}

/* Until then, until inotify says that there is something to look at, or until a signal. */
static void sleep_until(const struct watch *w, long long end)
{
    long long now = clock_ms();
    bool listens = w->inotify && now >= w->earliest;
    if (w->inotify && !listens && w->earliest < end)
        end = w->earliest;
    struct pollfd fds[2] = {
        {.fd = child_events_fd(), .events = POLLIN},
        {.fd = listens ? watch_inotify_fd(w->inotify) : -1, .events = POLLIN},
    };
    if (end > now && poll(fds, 2, (int)(end - now)) > 0 && fds[0].revents)
        child_events_clear();
}

int watch_wait(struct watch *w, const char **changed, struct error *err)
{
    long long first = clock_ms(), last = first, next = first;
    size_t counted = w->seen.count;
    for (;;) {
        if (child_signal())
            return 0;
        bool due = clock_ms() >= next,
             woken = w->inotify && clock_ms() >= w->earliest && watch_inotify_woken(w->inotify);
        if (((due || woken) && check_tops(w, false, err)) ||
            ((woken || (due && !w->inotify)) && renew(w, false, err)))
            return -1;
        long long now = clock_ms();
        if (w->seen.count > counted) {
            first = counted ? first : now;
            last = now;
            counted = w->seen.count;
        }
        long long end = last + QUIET_MS < first + QUIET_MOST_MS ? last + QUIET_MS : first + QUIET_MOST_MS;
        if (counted && now >= end)
            break;
        if (due || counted)
            next = counted ? end : now + w->interval_ms;
        sleep_until(w, next);
    }
    w->seen.count = 0;
    *changed = w->seen.path;
    return 1;
}
