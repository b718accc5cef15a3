/* Real trees and the real inotify, but time is the test's own: poll(2) and clock_ms() are wrapped, so that waiting takes no
 * time, changes come at their very millisecond, and a wait in which nothing happens ends by a signal that never was. */
#include "base/child.h"
#include "watch/watch.h"
#include "watch/watch_inotify.h"

#include "alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static char base[] = "/tmp/test_watch.XXXXXX";
static char root[64];

/* --- what changes the tree --- */

static void in_root(char *buf, const char *path)
{
    assert_true(snprintf(buf, PATH_MAX, "%s/%s", root, path) < PATH_MAX);
}

/* Closes fd. */
static void remove_below(int fd)
{
    DIR *dir = fdopendir(fd);
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..") || !unlinkat(fd, name, 0))
            continue;
        remove_below(openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        unlinkat(fd, name, AT_REMOVEDIR);
    }
    closedir(dir);
}

/* Neither minds a path that does not exist, or that does already. */
static void remove_all(const char *path)
{
    int fd;
    if (!unlink(path) || (fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)) < 0)
        return;
    remove_below(fd);
    rmdir(path);
}

static void make_all(char *path)
{
    for (char *slash = path + strlen(base); (slash = strchr(slash + 1, '/')); *slash = '/') {
        *slash = '\0';
        mkdir(path, 0755);
    }
    mkdir(path, 0755);
}

static void append(const char *path)
{
    FILE *f = fopen(path, "a");
    if (!f)
        fail_msg("%s: %s", path, strerror(errno));
    fputs("more\n", f);
    fclose(f);
}

/* One word each: w FILE, written; o FILE, opened for writing only; t PATH, touched; f PATH, given one fixed time; x PATH, mode 0755; p FIFO; d DIR, made with those
 * above it; r PATH, removed with all in it; m FROM TO; l TARGET LINK. */
static void do_one(char what, const char *path, const char *to)
{
    char a[PATH_MAX], b[PATH_MAX];
    static unsigned touches;
    in_root(a, path);
    in_root(b, to);
    if (what == 'w') {
        append(a);
    } else if (what == 'o') {
        assert_int_equal(close(open(a, O_WRONLY | O_APPEND)), 0);
    } else if (what == 't') {
        struct timespec time = {.tv_sec = 1000000 + ++touches}, times[2] = {time, time};
        assert_int_equal(utimensat(AT_FDCWD, a, times, AT_SYMLINK_NOFOLLOW), 0);
    } else if (what == 'f') {
        struct timespec times[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
        assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    } else if (what == 'x') {
        assert_int_equal(chmod(a, 0755), 0);
    } else if (what == 'p') {
        assert_int_equal(mkfifo(a, 0600), 0);
    } else if (what == 'd') {
        make_all(a);
    } else if (what == 'r') {
        remove_all(a);
    } else if (what == 'm') {
        assert_int_equal(rename(a, b), 0);
    } else if (what == 'l') {
        assert_int_equal(symlink(path, b), 0);
    } else {
        fail_msg("%c?", what);
    }
}

/* "d pkg;w pkg/a.py;m a b" */
static void change(const char *changes)
{
    char text[1000], *rest = NULL;
    snprintf(text, sizeof text, "%s", changes);
    for (char *one = strtok_r(text, ";", &rest); one; one = strtok_r(NULL, ";", &rest)) {
        char what, path[200], to[200] = "";
        assert_true(sscanf(one, " %c %199s %199s", &what, path, to) >= 2);
        do_one(what, path, to);
    }
}

/* --- time --- */

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
long long __real_clock_ms(void);
long long __wrap_clock_ms(void);
int __real_child_signal(void);
int __wrap_child_signal(void);

#define NOTHING_MS 10000 /* so long after the last step nothing has happened */

struct step {
    long long at;        /* ms after the beginning of the wait, ascending */
    const char *changes; /* NULL: a child has ended, which the wait's descriptor tells of */
};

static bool real_time;
static long long now_ms, last_ms;
static struct step steps[100];
static size_t step_count, step_next;
static unsigned polls_made;

long long __wrap_clock_ms(void)
{
    return real_time ? __real_clock_ms() : now_ms;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (real_time)
        return __real_poll(fds, n, timeout);
    if (++polls_made > 5000) {
        fputs("watch_wait() does not end, or does not sleep\n", stderr);
        abort();
    }
    int ready = __real_poll(fds, n, 0);
    if (ready)
        return ready;
    if (step_next == step_count || steps[step_next].at > now_ms + timeout) {
        now_ms += timeout;
        return 0;
    }
    const struct step *step = &steps[step_next++];
    now_ms = step->at > now_ms ? step->at : now_ms;
    last_ms = now_ms;
    if (step->changes) {
        change(step->changes);
        return __real_poll(fds, n, 0);
    }
    fds[0].revents = POLLIN;
    return 1;
}

int __wrap_child_signal(void)
{
    if (real_time)
        return __real_child_signal();
    return step_next == step_count && now_ms > last_ms + NOTHING_MS ? SIGTERM : 0;
}

static void at(long long ms, const char *changes)
{
    assert_true(step_count < COUNT(steps));
    steps[step_count++] = (struct step){now_ms + ms, changes};
}

static void no_steps(void)
{
    step_count = step_next = 0;
}

/* What the wait says is changed, or NULL. */
static const char *wait_for(struct watch *w)
{
    const char *changed = NULL;
    struct error err = ERROR_INIT;
    last_ms = now_ms;
    polls_made = 0;
    int result = watch_wait(w, &changed, &err);
    no_steps();
    if (result < 0)
        fail_msg("%s", err.text);
    assert_int_equal(result, changed != NULL);
    return changed;
}

#define assert_changed(w, path)                                                                              \
    do {                                                                                                     \
        const char *said_ = wait_for(w);                                                                     \
        if (!said_)                                                                                          \
            fail_msg("no change seen");                                                                      \
        assert_string_equal(said_, path);                                                                    \
    } while (0)
#define assert_nothing(w)                                                                                    \
    do {                                                                                                     \
        const char *said_ = wait_for(w);                                                                     \
        if (said_)                                                                                           \
            fail_msg("changed: %s", said_);                                                                  \
    } while (0)

/* --- inotify's limits --- */

#ifdef HAVE_SYS_INOTIFY_H
int __real_inotify_init1(int flags);
int __wrap_inotify_init1(int flags);
int __real_inotify_add_watch(int fd, const char *path, uint32_t mask);
int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask);

static int init_error; /* errno of the next inotify_init1() */
static int add_error;
static size_t adds_left = SIZE_MAX; /* then add_error */
static int last_fd = -1;

int __wrap_inotify_init1(int flags)
{
    if (init_error) {
        errno = init_error;
        return -1;
    }
    return last_fd = __real_inotify_init1(flags);
}

int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    if (adds_left == 0) {
        errno = add_error;
        return -1;
    }
    if (adds_left < SIZE_MAX)
        adds_left--;
    return __real_inotify_add_watch(fd, path, mask);
}
#endif

/* --- both ways --- */

static const char *const ignores[] = {"/build/", "*.log", NULL};

typedef struct watch *(*create_fn)(const struct watch_tree *, struct error *);
static const create_fn ways[] = {watch_create, watch_create_polling};

static struct watch *create_for(create_fn way, const struct watch_tree *tree)
{
    struct error err = ERROR_INIT;
    struct watch *w = way(tree, &err);
    if (!w)
        fail_msg("%s", err.text);
#ifdef HAVE_SYS_INOTIFY_H
    assert_int_equal(watch_polls(w) != NULL, way == watch_create_polling);
#endif
    return w;
}

static const struct watch_tree tree = {.root = root, .ignores = ignores};

static struct watch *create(create_fn way)
{
    return create_for(way, &tree);
}

static void begin(struct watch *w)
{
    struct error err = ERROR_INIT;
    if (watch_begin_run(w, &err))
        fail_msg("%s", err.text);
}

static void end(struct watch *w)
{
    struct error err = ERROR_INIT;
    if (watch_end_run(w, &err))
        fail_msg("%s", err.text);
}

static void new_tree(void)
{
    remove_all(base);
    assert_int_equal(mkdir(base, 0755), 0);
    assert_int_equal(mkdir(root, 0755), 0);
    change("w a.py;w data;d pkg/sub;w pkg/b.py;w pkg/sub/c;d .git;w .git/index;d build/lib;d away;w x.log");
}

#define FOR_BOTH(i) for (size_t i = 0; i < COUNT(ways); i++)

static void test_bad_roots(void **state)
{
    (void)state;
    static const char *const bad[] = {"missing", "data", "data/below"};
    new_tree();
    FOR_BOTH(i)
    for (size_t j = 0; j < COUNT(bad); j++) {
        char path[PATH_MAX];
        struct error err = ERROR_INIT;
        in_root(path, bad[j]);
        assert_null(ways[i](&(struct watch_tree){.root = path}, &err));
        assert_int_equal(err.status, STATUS_SYSTEM);
        assert_non_null(strstr(err.text, path));
    }
    watch_destroy(NULL);
}

static const struct {
    const char *changes;
    const char *expected; /* NULL: does not count */
    const char *in_run;   /* the same, of a run */
} cases[] = {
    /* of no interest */
    {"w .git/index", NULL, NULL},
    {"w .git/hook.py;d pkg/__pycache__;w pkg/__pycache__/b.cpython-311.pyc", NULL, NULL},
    {"w x.log;w pkg/new.log;r x.log", NULL, NULL},
    {"w build/lib/made.py;d build/lib/x", NULL, NULL},
    {"w .a.py.swp;w a.py~;l nobody .#a.py;w 4913;r 4913", NULL, NULL},
    {"o a.py", NULL, NULL},
    {"x pkg;t pkg/sub", NULL, NULL},
    {"p fifo", NULL, NULL},
    {"m .git/index .git/index2;r build", NULL, NULL},
    /* files */
    {"w a.py", "a.py", "a.py"},
    {"w data", "data", NULL},
    {"w new", "new", NULL},
    {"w pkg/new.py", "pkg/new.py", "pkg/new.py"},
    {"r pkg/b.py", "pkg/b.py", "pkg/b.py"},
    {"r pkg/sub/c", "pkg/sub/c", NULL},
    {"t a.py", "a.py", "a.py"},
    {"x pkg/b.py", "pkg/b.py", "pkg/b.py"},
    {"m data datum", "data", NULL},
    {"m a.py b.txt", "a.py", "a.py"},
    {"m data data.toml", "data.toml", "data.toml"},
    {"m pkg/sub/c pkg/c.log", "pkg/sub/c", NULL},
    {"m x.log x.txt", "x.txt", NULL},
    {"m pkg/b.py ../b.py", "pkg/b.py", "pkg/b.py"},
    {"m .git/index index.cfg", "index.cfg", "index.cfg"},
    {"w report.xml;w .coverage;d htmlcov;w htmlcov/index.html;w pkg/b.py", "pkg/b.py", "pkg/b.py"},
    {"w report.xml;w .coverage", ".coverage|report.xml", NULL},
    {"l /nonexistent/x pkg/link", "pkg/link", NULL},
    {"l data link.py", "link.py", "link.py"},
    /* an editor's save by renaming, with a backup */
    {"w .a.py.new;m a.py a.py~;m .a.py.new a.py", "a.py", "a.py"},
    /* directories */
    {"d empty", "empty", NULL},
    {"d deep/er/and/deeper;w deep/er/and/deeper/x.py", "deep/er/and/deeper/x.py", "deep/er/and/deeper/x.py"},
    {"r pkg/sub", "pkg/sub|pkg/sub/c", NULL},
    {"r pkg", "pkg/b.py", "pkg/b.py"},
    {"m pkg away/pkg", "away/pkg/b.py|pkg/b.py", "away/pkg/b.py|pkg/b.py"},
    {"m pkg .git/pkg", "pkg|pkg/b.py", "pkg/b.py"},
    {"m build built", "built|built/lib", NULL},
    {"m build built;r built", NULL, NULL},
    /* made and gone again */
    {"w tmp.py;r tmp.py;d tmp;w tmp/x.py;r tmp", NULL, NULL},
};

static bool is_one_of(const char *path, const char *words)
{
    char pattern[300], word[300];
    snprintf(pattern, sizeof pattern, "|%s|", words);
    snprintf(word, sizeof word, "|%s|", path);
    return strstr(pattern, word) != NULL;
}

static void check_seen(size_t i, const char *how, const char *expected, const char *seen, bool polling)
{
    if (expected ? !seen || !is_one_of(seen, expected) : seen != NULL)
        fail_msg("%s, %s%s: %s, not %s", cases[i].changes, how, polling ? ", polling" : "",
                 seen ? seen : "nothing", expected ? expected : "nothing");
}

/* Each thing before the wait, during it, and during a run; and always another one after it, since the watch must go on. */
static void test_changes(void **state)
{
    (void)state;
    FOR_BOTH(way)
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int when = 0; when < 3; when++) {
            static const char *const hows[] = {"before", "waiting", "in a run"};
            new_tree();
            struct watch *w = create(ways[way]);
            if (when == 2)
                begin(w);
            if (when == 1)
                at(700, cases[i].changes);
            else
                change(cases[i].changes);
            if (when == 2)
                end(w);
            check_seen(i, hows[when], when == 2 ? cases[i].in_run : cases[i].expected, wait_for(w),
                       watch_polls(w));
            assert_nothing(w);
            at(100, "w another");
            assert_changed(w, "another");
            assert_nothing(w);
            watch_destroy(w);
        }
}

/* Directories that came in a run or a wait are watched. */
static void test_new_directories(void **state)
{
    (void)state;
    FOR_BOTH(way)
    {
        new_tree();
        struct watch *w = create(ways[way]);
        begin(w);
        change("d htmlcov/deep;m pkg away/moved");
        end(w);
        assert_changed(w, "away/moved/b.py");
        change("w htmlcov/deep/x");
        assert_changed(w, "htmlcov/deep/x");
        change("w away/moved/sub/c");
        assert_changed(w, "away/moved/sub/c");
        change("m away/moved/sub pkg");
        assert_non_null(wait_for(w));
        change("w pkg/c");
        assert_changed(w, "pkg/c");
        /* The same names, other directories. */
        change("r pkg;d pkg/sub;r away;m htmlcov away;d htmlcov");
        assert_non_null(wait_for(w));
        change("w pkg/sub/c");
        assert_changed(w, "pkg/sub/c");
        change("w away/deep/x");
        assert_changed(w, "away/deep/x");
        change("w htmlcov/x");
        assert_changed(w, "htmlcov/x");
        /* Moved into a directory that was not watched yet. */
        change("d new;m pkg new/pkg");
        assert_non_null(wait_for(w));
        change("w new/pkg/sub/c");
        assert_changed(w, "new/pkg/sub/c");
        /* Moved to where it is of no interest. */
        change("m new/pkg ../pkg;m away .git/away");
        assert_non_null(wait_for(w));
        change("w ../pkg/sub/c;w .git/away/deep/x");
        assert_nothing(w);
        watch_destroy(w);
    }
}

/* What is changed before a run begins belongs to that run. */
static void test_before_run(void **state)
{
    (void)state;
    FOR_BOTH(way)
    {
        new_tree();
        struct watch *w = create(ways[way]);
        for (int i = 0; i < 3; i++) {
            change("w a.py;w data");
            begin(w);
            end(w);
            assert_nothing(w);
        }
        /* A source changed in a run is told of once, and at once. */
        begin(w);
        change("w a.py;w data");
        end(w);
        long long before = now_ms;
        assert_changed(w, "a.py");
        assert_int_equal(now_ms, before + 200);
        assert_nothing(w);
        begin(w);
        end(w);
        assert_nothing(w);
        /* Not told of a second time when the next run was begun instead of waiting. */
        begin(w);
        change("w a.py");
        end(w);
        begin(w);
        end(w);
        assert_nothing(w);
        watch_destroy(w);
    }
}

static void test_quiet(void **state)
{
    (void)state;
    FOR_BOTH(way)
    {
        new_tree();
        struct watch *w = create(ways[way]);
        /* Every 150 ms is one change: until it is quiet ... */
        long long begun = now_ms;
        for (int i = 0; i < 5; i++)
            at(4050 + 150 * i, i == 2 ? "w pkg/b.py" : i % 2 ? "w data" : "w new");
        assert_changed(w, "pkg/b.py");
        if (!watch_polls(w))
            assert_int_equal(now_ms - begun, 4650 + 200);
        else /* a look at 6000 sees it all */
            assert_int_equal(now_ms - begun, 6000 + 200);
        assert_nothing(w);
        /* ... or for 2 s. */
        begun = now_ms;
        for (int i = 0; i < 60; i++)
            at(1000 + 100 * i, "w data");
        assert_changed(w, "data");
        assert_int_equal(now_ms - begun, (!watch_polls(w) ? 1000 : 2000) + 2000);
        /* What is ignored does not prolong it. */
        assert_nothing(w);
        begun = now_ms;
        at(100, "w data");
        for (int i = 1; i < 30; i++)
            at(100 + 100 * i, "w x.log");
        assert_changed(w, "data");
        assert_int_equal(now_ms - begun, (!watch_polls(w) ? 100 : 2000) + 200);
        watch_destroy(w);
    }
}

/* Another size, or another file, where the time is the same. */
static void test_same_time(void **state)
{
    (void)state;
    new_tree();
    change("f a.py;w copy;w copy;f copy");
    struct watch *w = create(watch_create_polling);
    change("w a.py;f a.py");
    assert_changed(w, "a.py");
    change("m copy a.py");
    assert_changed(w, "a.py");
    assert_nothing(w);
    watch_destroy(w);
}

/* Children that end wake the wait, and neither end it nor put the next look off. */
static void test_children(void **state)
{
    (void)state;
    FOR_BOTH(way)
    {
        new_tree();
        struct watch *w = create(ways[way]);
        for (int i = 0; i < 50; i++)
            at(50 * i, NULL);
        assert_nothing(w);
        long long begun = now_ms;
        for (int i = 0; i < 50; i++)
            at(50 * i, i == 10 ? "w a.py" : NULL);
        assert_changed(w, "a.py");
        assert_int_equal(now_ms - begun, (!watch_polls(w) ? 500 : 2000) + 200);
        watch_destroy(w);
    }
}

static void test_root_gone(void **state)
{
    (void)state;
    static const struct {
        const char *command;
        bool replaced;
    } ends[] = {
        {"rm -rf '%s/r'", false},
        {"mv '%s/r' '%s/other'", false},
        {"mv '%s' '%s.moved' && mkdir '%s'", false},
        {"cd '%s' && mv r other && mkdir r", true},
        {"cd '%s' && rm -rf r && : >r", true},
    };
    FOR_BOTH(way)
    for (size_t i = 0; i < COUNT(ends); i++)
        for (int inside = 0; inside < 2; inside++) { /* as when the working directory is there */
            char command[1000], moved[100];
            new_tree();
            struct watch *w = create(ways[way]);
            if (inside)
                assert_int_equal(chdir(root), 0);
            snprintf(command, sizeof command, ends[i].command, base, base, base);
            assert_int_equal(system(command), 0);
            struct error err = ERROR_INIT;
            const char *changed = NULL;
            last_ms = now_ms;
            assert_int_equal(watch_wait(w, &changed, &err), -1);
            assert_int_equal(err.status, STATUS_SYSTEM);
            assert_non_null(strstr(err.text, root));
            assert_non_null(strstr(err.text, ends[i].replaced ? "no longer the one" : "No such file"));
            watch_destroy(w);
            assert_int_equal(chdir("/"), 0);
            snprintf(moved, sizeof moved, "%s.moved", base);
            remove_all(moved);
        }
}

/* --- what is copied from elsewhere, or of the root alone --- */

static char outer[80], outer_venv[80], pkg_sub[80];
static char *outer_dirs[] = {outer, outer_venv, NULL}, *part_dirs[] = {pkg_sub, outer, NULL};
static const struct watch_tree outer_tree = {.root = root, .ignores = ignores, .dirs = outer_dirs};
static const struct watch_tree part_tree = {
    .root = root, .ignores = ignores, .dirs = part_dirs, .part = true};

static void new_outer_tree(void)
{
    new_tree();
    snprintf(outer, sizeof outer, "%s/libs", base);
    snprintf(outer_venv, sizeof outer_venv, "%s/up/build",
             base); /* of which "build" in ignores makes nothing */
    snprintf(pkg_sub, sizeof pkg_sub, "%s/pkg/sub", root);
    change(
        "d ../libs/one;w ../libs/one/m.py;w ../libs/data;d ../libsx;d ../up/build;d pkg/sub/deep;d pkg/subx");
}

static void test_tops_gone(void **state)
{
    (void)state;
    static const char *const ends[] = {"r ../libs", "m ../libs ../moved", "m ../libs ../moved;d ../libs"};
    FOR_BOTH(way)
    for (size_t i = 0; i < COUNT(ends); i++) {
        new_outer_tree();
        struct watch *w = create_for(ways[way], &outer_tree);
        struct error err = ERROR_INIT;
        const char *changed = NULL;
        at(500, ends[i]);
        last_ms = now_ms;
        assert_int_equal(watch_wait(w, &changed, &err), -1);
        no_steps();
        assert_int_equal(err.status, STATUS_SYSTEM);
        assert_non_null(strstr(err.text, outer));
        watch_destroy(w);
    }
    new_outer_tree();
    do_one('r', "../libs", "");
    FOR_BOTH(way)
    {
        struct error err = ERROR_INIT;
        assert_null(ways[way](&outer_tree, &err));
        assert_non_null(strstr(err.text, outer));
    }
}

static void test_places(void **state)
{
    (void)state;
    static const struct {
        const struct watch_tree *tree;
        const char *changes;
        const char *expected, *in_run; /* as in cases */
    } places[] = {
        {&outer_tree, "w ../libs/x.log", NULL, NULL},
        {&outer_tree, "d ../libs/.git/x", NULL, NULL},
        {&outer_tree, "w ../libsx/m.py", NULL, NULL},
        {&outer_tree, "w ../up/build/m.py", NULL, NULL},
        {&outer_tree, "w ../libs/one/m.py", "libs/one/m.py", "libs/one/m.py"},
        {&outer_tree, "w ../libs/data", "libs/data", NULL},
        {&outer_tree, "r ../libs/one", "libs/one/m.py", "libs/one/m.py"},
        {&outer_tree, "m ../libs/one ../libs/two", "libs/one", "libs/one/m.py"},
        {&outer_tree, "w pkg/b.py", "pkg/b.py", "pkg/b.py"},
        {&part_tree, "w a.py", NULL, NULL},
        {&part_tree, "w data;w pkg/b.py;w pkg/subx/m.py;d new", NULL, NULL},
        {&part_tree, "w pkg/sub/c", "pkg/sub/c", NULL},
        {&part_tree, "w pkg/sub/deep/m.py", "pkg/sub/deep/m.py", "pkg/sub/deep/m.py"},
        {&part_tree, "w ../libs/one/m.py", "libs/one/m.py", "libs/one/m.py"},
        {&part_tree, "m pkg away/pkg", "pkg", NULL},
    };
    FOR_BOTH(way)
    for (size_t i = 0; i < COUNT(places); i++)
        for (int in_run = 0; in_run < 2; in_run++) {
            const char *expected = in_run ? places[i].in_run : places[i].expected;
            new_outer_tree();
            struct watch *w = create_for(ways[way], places[i].tree);
            if (in_run)
                begin(w);
            else
                at(500, places[i].changes);
            if (in_run) {
                change(places[i].changes);
                end(w);
            }
            const char *said = wait_for(w);
            /* Which of several is named depends on the way. */
            if (!said != !expected || (said && strncmp(said, expected, strcspn(expected, "/"))))
                fail_msg("way %zu, %s%s: %s instead of %s", way, places[i].changes, in_run ? " in a run" : "",
                         said ? said : "nothing", expected ? expected : "nothing");
            watch_destroy(w);
        }
}

/* A directory that is made there is watched, too. */
static void test_new_outside(void **state)
{
    (void)state;
    FOR_BOTH(way)
    {
        new_outer_tree();
        struct watch *w = create_for(ways[way], &outer_tree);
        at(500, "d ../libs/new/sub");
        at(600, "w ../libs/new/sub/m.py");
        assert_changed(w, "libs/new/sub/m.py");
        at(3000, "w ../libs/new/sub/x");
        assert_changed(w, "libs/new/sub/x");
        watch_destroy(w);
    }
}

/* To be a user whom permissions hold for. */
static void become(uid_t user)
{
    if (getuid() == 0)
        assert_int_equal(seteuid(user), 0);
}

/* A directory that cannot be read, and later can; limited: when no more can be watched. */
static void unreadable(create_fn way, bool limited)
{
    char path[PATH_MAX];
    new_tree();
    change("d closed/sub;w closed/x;w closed/sub/y");
    in_root(path, "closed");
    assert_int_equal(chmod(path, 0), 0);
    become(65534);
    struct watch *w = create(way);
    begin(w);
    end(w);
    assert_nothing(w);
    become(0);
    assert_int_equal(chmod(path, 0755), 0);
    become(65534);
#ifdef HAVE_SYS_INOTIFY_H
    add_error = ENOSPC;
    adds_left = limited ? 0 : SIZE_MAX;
#endif
    const char *changed = wait_for(w); /* now there is more to copy */
#ifdef HAVE_SYS_INOTIFY_H
    adds_left = SIZE_MAX;
#endif
    become(0);
    assert_non_null(changed);
    assert_true(is_one_of(changed, "closed/x|closed/sub|closed/sub/y"));
    change("w closed/sub/y");
    assert_changed(w, "closed/sub/y");
    watch_destroy(w);
}

static void test_unreadable(void **state)
{
    (void)state;
    FOR_BOTH(i)
    unreadable(ways[i], false);
#ifdef HAVE_SYS_INOTIFY_H
    unreadable(watch_create, true);
#endif
}

/* Deeper than descriptors, and deeper than a path may be long. */
static void test_deep(void **state)
{
    (void)state;
    char deep[PATH_MAX], file[PATH_MAX], beyond[PATH_MAX];
    size_t len = 0;
    for (int i = 0; i < 200; i++)
        len += (size_t)sprintf(deep + len, "%sd", i ? "/" : "");
    snprintf(file, sizeof file, "%.*s/x", (int)len, deep);
    struct rlimit old, few = {.rlim_cur = 40};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few.rlim_max = old.rlim_max;
    FOR_BOTH(way)
    {
        new_tree();
        do_one('d', deep, "");
        in_root(beyond, deep);
        assert_int_equal(chdir(beyond), 0);
        char name[200];
        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        for (int i = 0; i < 30; i++) {
            assert_int_equal(mkdir(name, 0755), 0);
            assert_int_equal(chdir(name), 0);
        }
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        struct watch *w = create(ways[way]);
        do_one('w', file, "");
        assert_changed(w, file);
        begin(w);
        end(w);
        append("beyond.py");
        assert_nothing(w);
        watch_destroy(w);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(chdir("/"), 0);
    }
}

/* No descriptor to look with is an error, and not an empty tree. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct rlimit old, none;
    new_tree();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct watch *w = create(watch_create_polling);
    int lowest = dup(0);
    close(lowest);
    none = (struct rlimit){(rlim_t)lowest, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct error err = ERROR_INIT;
    const char *changed;
    last_ms = now_ms;
    int result = watch_wait(w, &changed, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(result, -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    watch_destroy(w);
}

#ifdef HAVE_SYS_INOTIFY_H
static void test_close_on_exec(void **state)
{
    (void)state;
    new_tree();
    struct watch *w = create(watch_create);
    assert_int_equal(fcntl(last_fd, F_GETFD), FD_CLOEXEC);
    watch_destroy(w);
    assert_int_equal(fcntl(last_fd, F_GETFD), -1);
}

static void test_limit_at_once(void **state)
{
    (void)state;
    static const struct {
        int init, add;
        size_t adds;
        const char *why;
    } limits[] = {
        {EMFILE, 0, 0, "max_user_instances"}, {ENOSYS, 0, 0, "not implemented"},
        {0, ENOSPC, 0, "max_user_watches"},   {0, ENOSPC, 2, "max_user_watches"},
        {0, ENOMEM, 1, "Cannot allocate"},
    };
    for (size_t i = 0; i < COUNT(limits); i++) {
        struct error err = ERROR_INIT;
        new_tree();
        init_error = limits[i].init;
        add_error = limits[i].add;
        adds_left = add_error ? limits[i].adds : SIZE_MAX;
        last_fd = -1;
        struct watch *w = watch_create(&tree, &err);
        init_error = 0;
        adds_left = SIZE_MAX;
        assert_non_null(w);
        assert_non_null(watch_polls(w));
        if (!strstr(watch_polls(w), limits[i].why))
            fail_msg("%s: %s", limits[i].why, watch_polls(w));
        assert_int_equal(fcntl(last_fd, F_GETFD), -1); /* closed */
        at(500, "w data");
        assert_changed(w, "data");
        assert_nothing(w);
        watch_destroy(w);
    }
}

/* The limit is reached by a directory that comes later. */
static void test_limit_later(void **state)
{
    (void)state;
    static const struct {
        const char *changes, *expected, *in_run;
    } later[] = {
        {"d new;w new/x", "new|new/x", NULL},
        {"d new;w new/x.py;w data", "new/x.py", "new/x.py"},
        {"m pkg moved", "moved/b.py|pkg/b.py", "moved/b.py|pkg/b.py"},
        {"d new;r a.py", "a.py", "a.py"},
    };
    for (size_t i = 0; i < COUNT(later); i++)
        for (int in_run = 0; in_run < 2; in_run++) {
            new_tree();
            struct watch *w = create(watch_create);
            if (in_run)
                begin(w);
            change(later[i].changes);
            add_error = ENOSPC;
            adds_left = 0;
            if (in_run)
                end(w);
            const char *expected = in_run ? later[i].in_run : later[i].expected, *seen = wait_for(w);
            if (expected ? !seen || !is_one_of(seen, expected) : seen != NULL)
                fail_msg("%s: %s, not %s", later[i].changes, seen, expected);
            assert_non_null(strstr(watch_polls(w), "max_user_watches"));
            adds_left = SIZE_MAX;
            assert_nothing(w);
            at(300, "d later;w later/x");
            assert_true(is_one_of(wait_for(w), "later|later/x"));
            begin(w);
            change("w later/x;w data");
            end(w);
            assert_nothing(w);
            begin(w);
            change("w later/x.py;w data");
            end(w);
            assert_changed(w, "later/x.py");
            watch_destroy(w);
        }
}

static void overflow(const char *a, const char *b)
{
    const char *const files[] = {a, b};
    char path[PATH_MAX];
    size_t most = 16384;
    FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    if (f) {
        assert_int_equal(fscanf(f, "%zu", &most), 1);
        fclose(f);
    }
    if (most > 1000000)
        skip();
    for (size_t i = 0; i < most + 1; i++) { /* by turns: two events in a row that are the same become one */
        in_root(path, files[i % 2]);
        assert_int_equal(chmod(path, 0644), 0);
    }
}

static void test_overflow(void **state)
{
    (void)state;
    new_tree();
    struct watch *w = create(watch_create);
    overflow("a.py", "data");
    change("d late/r;w late/r/x.py;m pkg away/pkg;r build"); /* nobody hears of these */
    assert_non_null(wait_for(w));
    assert_null(watch_polls(w));
    assert_int_equal(fcntl(last_fd, F_GETFD), FD_CLOEXEC);
    assert_nothing(w);
    change("w late/r/x");
    assert_changed(w, "late/r/x");
    change("w away/pkg/sub/c");
    assert_changed(w, "away/pkg/sub/c");
    change("d pkg;w build");
    assert_non_null(wait_for(w));

    /* Nobody knows what is lost behind events that do not count. */
    change("w y.log");
    overflow("x.log", "y.log");
    change("w late/r/x");
    assert_changed(w, "late/r/x");
    assert_nothing(w);

    /* In a run it is not a change in itself, and hides none. */
    begin(w);
    overflow("a.py", "data");
    change("d report");
    end(w);
    assert_nothing(w);
    change("w report/x");
    assert_changed(w, "report/x");
    begin(w);
    overflow("a.py", "data");
    change("w late/r/x.py");
    end(w);
    assert_changed(w, "late/r/x.py");
    watch_destroy(w);
}

static void test_remote_file_systems(void **state)
{
    (void)state;
    assert_true(watch_inotify_misses(0x6969));                         /* NFS */
    assert_true(watch_inotify_misses(0x65735546));                     /* FUSE */
    assert_true(watch_inotify_misses((unsigned long)(int)0xfe534d42)); /* SMB2, where f_type is an int */
    assert_false(watch_inotify_misses(0xef53));                        /* ext4 */
    assert_false(watch_inotify_misses(0x01021994));                    /* tmpfs */
    assert_false(watch_inotify_misses(0x794c7630));                    /* overlay */
}
#endif

/* Directories made, moved about and removed in bursts: afterwards each that is there is watched, under its present name. */
static void test_bursts(void **state)
{
    (void)state;
    unsigned seed = 1;
    static const char *const names[] = {"a", "b", "c"};
    new_tree();
    struct watch *w = create(watch_create);
    for (int round = 0; round < 60; round++) {
        char from[PATH_MAX], to[PATH_MAX], path[PATH_MAX];
        for (int i = 0; i < 8; i++) {
            snprintf(path, sizeof path, "%s/%s/%s", names[rand_r(&seed) % 3], names[rand_r(&seed) % 3],
                     names[rand_r(&seed) % 3]);
            if (rand_r(&seed) % 2)
                path[rand_r(&seed) % 2 ? 1 : 3] = '\0';
            in_root(from, path);
            snprintf(path, sizeof path, "%s/%s", names[rand_r(&seed) % 3], names[rand_r(&seed) % 3]);
            if (rand_r(&seed) % 2)
                path[1] = '\0';
            in_root(to, path);
            switch (rand_r(&seed) % 3) {
            case 0:
                make_all(from);
                break;
            case 1:
                (void)!rename(from, to); /* may well be impossible */
                break;
            default:
                remove_all(rand_r(&seed) % 2 ? from : to);
            }
            if (rand_r(&seed) % 3 == 0)
                wait_for(w);
        }
        wait_for(w);
        for (int i = 0; i < 3 * 4 * 4; i++) {
            int len = snprintf(path, sizeof path, "%s", names[i % 3]);
            if (i / 3 % 4 < 3)
                len += snprintf(path + len, sizeof path, "/%s", names[i / 3 % 4]);
            if (i / 12 < 3)
                len += snprintf(path + len, sizeof path, "/%s", names[i / 12]);
            in_root(from, path);
            if (access(from, F_OK))
                continue;
            strcpy(path + len, "/x");
            do_one('w', path, "");
            assert_changed(w, path);
            do_one('r', path, "");
            assert_changed(w, path);
        }
    }
    watch_destroy(w);
}

static void test_allocations(void **state)
{
    (void)state;
    FOR_BOTH(way)
    {
        for (ALLOC_EACH(n)) {
            struct error err = ERROR_INIT;
            new_outer_tree();
            alloc_fail_at(n);
            struct watch *w = ways[way](&outer_tree, &err);
            assert_int_equal(w == NULL, alloc_has_failed());
            assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
            watch_destroy(w);
        }
        for (ALLOC_EACH(n)) {
            struct error err = ERROR_INIT;
            const char *changed = NULL;
            alloc_fail_at(0);
            new_tree();
            struct watch *w = create(ways[way]);
            begin(w);
            change("w a.py;d new/er;w new/er/x;m pkg away/pkg");
            alloc_fail_at(n);
            int result = watch_end_run(w, &err);
            if (result == 0) {
                change("d newer/still;m away/pkg pkg");
                last_ms = now_ms;
                result = watch_wait(w, &changed, &err);
                if (result == 1)
                    result = watch_begin_run(w, &err);
            }
            assert_int_equal(result, alloc_has_failed() ? -1 : 0);
            assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
            watch_destroy(w);
        }
    }
    alloc_fail_at(0);
}

/* The real clock, and another process that changes something. */
static void test_real_time(void **state)
{
    (void)state;
    alarm(60); /* a wait without end is a failure */
    real_time = true;
    FOR_BOTH(way)
    {
        new_tree();
        struct watch *w = create(ways[way]);
        pid_t pid = fork();
        if (pid == 0) {
            change("w pkg/b.py");
            _exit(0);
        }
        assert_true(pid > 0);
        long long begun = __real_clock_ms();
        assert_changed(w, "pkg/b.py");
        long long took_ms = __real_clock_ms() - begun;
        assert_true(took_ms >= 199 && took_ms <= 60000);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        watch_destroy(w);
    }
    real_time = false;
    alarm(0);
}

/* In a process of its own: a signal that came stays known. */
static void test_signal(void **state)
{
    (void)state;
    FOR_BOTH(way)
    {
        new_tree();
        struct watch *w = create(ways[way]);
        pid_t pid = fork();
        if (pid == 0) {
            struct error err = ERROR_INIT;
            const char *changed;
            if (child_init(&err))
                _exit(2);
            /* Another signal is cleared away, once. */
            last_ms = now_ms;
            raise(SIGCHLD);
            if (watch_wait(w, &changed, &err))
                _exit(4);
            alarm(60);
            real_time = true;
            pid_t parent = getpid(), other = fork();
            if (other == 0) {
                kill(parent, SIGTERM);
                _exit(0);
            }
            /* Once as it comes, once when it had come before. */
            int result = watch_wait(w, &changed, &err) || watch_wait(w, &changed, &err);
            _exit(other < 0 || result || err.status ? 1 : child_signal() == SIGTERM ? 0 : 3);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        watch_destroy(w);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(base))
        return -1;
    snprintf(root, sizeof root, "%s/r", base);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_all(base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_roots),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_new_directories),
        cmocka_unit_test(test_before_run),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_same_time),
        cmocka_unit_test(test_children),
        cmocka_unit_test(test_root_gone),
        cmocka_unit_test(test_tops_gone),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_new_outside),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_no_descriptors),
#ifdef HAVE_SYS_INOTIFY_H
        cmocka_unit_test(test_close_on_exec),
        cmocka_unit_test(test_limit_at_once),
        cmocka_unit_test(test_limit_later),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_remote_file_systems),
#endif
        cmocka_unit_test(test_bursts),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_real_time),
        cmocka_unit_test(test_signal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
