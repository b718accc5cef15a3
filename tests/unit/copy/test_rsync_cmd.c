/* The composed command, run by sh with the real rsync.  The far side is a script named ssh that runs the
 * remote command in a directory of the test. */
#include "base/child.h"
#include "base/strv.h"
#include "copy/rsync_cmd.h"
#include "copy/syncout.h"

#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define CHDIR "copy" /* on the node */

static char base[] = "/tmp/rsync_cmd.XXXXXX";
static char cwd[PATH_MAX];

/* Valid for the next 63 calls. */
static char *in_base(const char *path)
{
    static char buf[64][PATH_MAX];
    static unsigned next;
    char *p = buf[next++ % COUNT(buf)];
    snprintf(p, PATH_MAX, "%s/%s", base, path);
    return p;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_all(const char *path)
{
    nftw(path, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

/* A file, with the directories above it; a path that ends in "/" is a directory. */
static void make(const char *below, const char *path)
{
    char whole[PATH_MAX];
    snprintf(whole, sizeof whole, "%s/%s/%s", base, below, path);
    for (char *p = strchr(whole + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(whole, 0700) && errno != EEXIST)
            fail_msg("%s: %s", whole, strerror(errno));
        *p = '/';
    }
    if (whole[strlen(whole) - 1] == '/')
        return;
    int fd = open(whole, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0)
        fail_msg("%s: %s", whole, strerror(errno));
    assert_int_equal(write(fd, path, strlen(path)), (ssize_t)strlen(path));
    close(fd);
}

static void make_all(const char *below, const char *const *paths)
{
    make(below, "");
    for (; *paths; paths++)
        make(below, *paths);
}

/* The tree below a directory, sorted: one path a line, "/" after directories. */
static char *lines[1000];
static size_t line_count, prefix;

static int note(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    if (ftw->level > 0 &&
        asprintf(&lines[line_count++], "%s%s\n", path + prefix, type == FTW_D ? "/" : "") < 0)
        return -1;
    return line_count == COUNT(lines);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *tree(const char *path)
{
    char *text = NULL;
    size_t len;
    line_count = 0;
    prefix = strlen(path) + 1;
    nftw(path, note, 20, FTW_PHYS);
    qsort(lines, line_count, sizeof *lines, by_text);
    FILE *out = open_memstream(&text, &len);
    for (size_t i = 0; i < line_count; i++) {
        fputs(lines[i], out);
        free(lines[i]);
    }
    fclose(out);
    return text;
}

static char *command(const struct sync_params *params, enum rsync_mode mode, const struct node *node)
{
    struct error err = ERROR_INIT;
    struct rsync_rules *rules = rsync_rules_make(params, &err);
    if (!rules)
        fail_msg("%s", err.text);
    char *text = rsync_command(rules, params, mode, node, in_base("ssh_config"), in_base("it's out"),
                               in_base("it's err"));
    rsync_rules_destroy(rules);
    assert_non_null(text);
    return text;
}

static char *contents(const char *path)
{
    static char buf[65536];
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, buf, sizeof buf - 1);
    assert_true(n >= 0);
    buf[n] = '\0';
    close(fd);
    return buf;
}

static void run(const struct sync_params *params, enum rsync_mode mode)
{
    struct node node = {.name = (char *)"ci@n:2222", .user = (char *)"ci", .host = (char *)"n", .port = 2222};
    char *text = command(params, mode, &node), *out, *words;
    const char *argv[] = {"sh", "-c", text, NULL};
    struct error err = ERROR_INIT;
    int status;
    if (child_capture(argv, NULL, 60000, 4096, &out, &words, &status, &err))
        fail_msg("%s", err.text);
    assert_string_equal(out, "");
    assert_string_equal(words, "");
    if (status)
        fail_msg("status %d: %s", status, contents(in_base("it's err")));
    free(out);
    free(words);
    free(text);
}

static void copy(const struct sync_params *params)
{
    run(params, RSYNC_COPY);
}

static void assert_tree(const char *expected)
{
    char *got = tree(in_base("home/" CHDIR));
    assert_string_equal(got, expected);
    free(got);
}

static struct sync_params params_for(const char *root)
{
    return (struct sync_params){.root = root, .chdir = CHDIR};
}

static int clear_trees(void **state)
{
    (void)state;
    assert_int_equal(chdir(base), 0);
    remove_all(in_base("root"));
    remove_all(in_base("home"));
    remove_all(in_base("else"));
    remove_all(in_base("more"));
    make("root", "");
    make("home/" CHDIR, ".cloudplan");
    return chdir(in_base("root"));
}

/* What cannot be copied */

static void assert_refused(const struct sync_params *params, const char *text)
{
    struct error err = ERROR_INIT;
    assert_null(rsync_rules_make(params, &err));
    assert_string_equal(err.text, text);
    assert_int_equal(err.status, STATUS_USAGE);
}

static void test_refused(void **state)
{
    (void)state;
    char text[2 * PATH_MAX];
    struct sync_params params = params_for(in_base("root"));
    make("root", "file");
    make("root", "tests/a");
    make("else", "tests/b");
    make("else", "lib/b");
    make("more", "lib/c");
    assert_refused(
        &(struct sync_params){.root = params.root, .chdir = CHDIR, .dirs = (const char *[]){"nowhere", NULL}},
        "--rsyncdir=nowhere: No such file or directory");
    assert_refused(&(struct sync_params){.root = params.root,
                                         .chdir = CHDIR,
                                         .dirs = (const char *[]){"tests", "file", NULL}},
                   "--rsyncdir=file: not a directory");
    assert_refused(
        &(struct sync_params){.root = params.root, .chdir = CHDIR, .dirs = (const char *[]){"", NULL}},
        "--rsyncdir=: No such file or directory");
    assert_refused(
        &(struct sync_params){.root = params.root, .chdir = CHDIR, .dirs = (const char *[]){"/", NULL}},
        "/: would be copied as a whole; name a directory in it");
    /* The home of the password database; what HOME says is none (CI servers point it to a workspace). */
    const struct passwd *user = getpwuid(geteuid());
    assert_non_null(user);
    snprintf(text, sizeof text, "%s: would be copied as a whole; name a directory in it", user->pw_dir);
    assert_refused(&(struct sync_params){.root = params.root,
                                         .chdir = CHDIR,
                                         .dirs = (const char *[]){user->pw_dir, NULL}},
                   text);
    snprintf(text, sizeof text, "%s would be copied to tests, which the project itself has: rename one",
             in_base("else/tests"));
    assert_refused(&(struct sync_params){.root = params.root,
                                         .chdir = CHDIR,
                                         .dirs = (const char *[]){"../else/tests", NULL}},
                   text);
    assert_refused(&(struct sync_params){.root = params.root, .chdir = CHDIR, .venv = in_base("else/tests")},
                   text);
    /* Two from outside that have one name. */
    snprintf(text, sizeof text, "%s and %s would both be copied to lib: rename one", in_base("else/lib"),
             in_base("more/lib"));
    assert_refused(&(struct sync_params){.root = params.root,
                                         .chdir = CHDIR,
                                         .dirs = (const char *[]){"../else/lib", "../more/lib", NULL}},
                   text);
    assert_refused(&(struct sync_params){.root = params.root,
                                         .chdir = CHDIR,
                                         .dirs = (const char *[]){".", "../else/lib", NULL},
                                         .venv = in_base("more/lib")},
                   text);
}

/* Trees */

static void test_whole_root(void **state)
{
    (void)state;
    make_all("root", (const char *[]){"a", "tests/deep/er/b", "empty/", ".hidden", NULL});
    struct sync_params params = params_for(in_base("root"));
    copy(&params);
    assert_tree(".cloudplan\n.hidden\na\nempty/\ntests/\ntests/deep/\ntests/deep/er/\ntests/deep/er/b\n");
    /* Orphans are deleted, the mark is spared; a file that became a directory, and the reverse. */
    make("home/" CHDIR, "old/er/file");
    make("home/" CHDIR, "old.py");
    assert_int_equal(unlink("a"), 0);
    make("root", "a/now a directory");
    remove_all(in_base("root/empty"));
    make("root", "empty");
    copy(&params);
    assert_tree(".cloudplan\n.hidden\na/\na/now a "
                "directory\nempty\ntests/\ntests/deep/\ntests/deep/er/\ntests/deep/er/b\n");
    assert_string_equal(contents(in_base("home/" CHDIR "/.cloudplan")), ".cloudplan");
}

/* Content is what counts within one second and one size, too. */
static void test_change_is_seen(void **state)
{
    (void)state;
    struct timespec times[2] = {{1700000000, 1}, {1700000000, 1}};
    struct sync_params params = params_for(in_base("root"));
    make("root", "a");
    utimensat(AT_FDCWD, "a", times, 0);
    copy(&params);
    int fd = open("a", O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "b", 1), 1);
    close(fd);
    times[0].tv_nsec = times[1].tv_nsec = 2;
    utimensat(AT_FDCWD, "a", times, 0);
    copy(&params);
    assert_string_equal(contents(in_base("home/" CHDIR "/a")), "b");
}

static void test_read_only(void **state)
{
    (void)state;
    struct sync_params params = params_for(in_base("root"));
    make("root", "d/a");
    assert_int_equal(chmod("d/a", 0400), 0);
    assert_int_equal(chmod("d", 0500), 0);
    copy(&params);
    struct stat st;
    assert_int_equal(stat(in_base("home/" CHDIR "/d"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(in_base("home/" CHDIR "/d/a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(chmod("d", 0700), 0);
}

static void test_left_out(void **state)
{
    (void)state;
    make_all("root", (const char *[]){".git/config",
                                      ".hg/x",
                                      ".svn/x",
                                      ".bzr/x",
                                      "CVS/x",
                                      "_darcs/x",
                                      "a/__pycache__/x",
                                      "a/.pytest_cache/x",
                                      ".mypy_cache/x",
                                      ".ruff_cache/x",
                                      ".tox/x",
                                      ".nox/x",
                                      "a/m.pyc",
                                      "m.pyo",
                                      "a/m.py",
                                      ".gitignore",
                                      "CVSROOT",
                                      ".cloudplan",
                                      "a/.cloudplan",
                                      ".cloudplan-develop/x",
                                      NULL});
    /* The node's own caches are spared, but not those of a directory that is gone. */
    make_all("home/" CHDIR, (const char *[]){"a/__pycache__/theirs", ".pytest_cache/theirs", ".git/theirs",
                                             "a/t.pyc", "gone/__pycache__/theirs", "gone/t.pyc",
                                             ".cloudplan-develop/files/theirs", NULL});
    struct sync_params params = params_for(in_base("root"));
    copy(&params);
    assert_tree(".cloudplan\n.cloudplan-develop/\n.cloudplan-develop/files/\n.cloudplan-develop/files/"
                "theirs\n.git/\n.git/theirs\n.gitignore\n.pytest_cache/\n.pytest_cache/"
                "theirs\nCVSROOT\na/\na/.cloudplan\n"
                "a/__pycache__/\na/__pycache__/theirs\na/m.py\na/t.pyc\n");
}

static void test_ignores(void **state)
{
    (void)state;
    make_all("root", (const char *[]){"keep", "a.log", "sub/b.log", "data/big", "sub/data/big", "sub/only",
                                      "only", "!", "+ x", "it's", "x", NULL});
    make_all("home/" CHDIR, (const char *[]){"theirs.log", "old", NULL});
    struct sync_params params = params_for(in_base("root"));
    /* "!" and "+ x" are names here, no commands to rsync. */
    params.ignores = (const char *[]){"*.log", "/data", "/sub/only", "!", "+ *", "", "it's", NULL};
    copy(&params);
    assert_tree(".cloudplan\nkeep\nonly\nsub/\nsub/data/\nsub/data/big\ntheirs.log\nx\n");
    params.ignores = (const char *[]){"!", "+ .cloudplan", "+ old", NULL};
    make("home/" CHDIR, "old");
    copy(&params);
    assert_tree("+ "
                "x\n.cloudplan\na.log\ndata/\ndata/big\nit's\nkeep\nonly\nsub/\nsub/b.log\nsub/data/\nsub/"
                "data/big\nsub/only\nx\n");
}

static void test_some_dirs(void **state)
{
    (void)state;
    static const char *const files[] = {"top",
                                        "tests/a",
                                        "tests/unit/b",
                                        "tests/unit/deep/c",
                                        "tests/unitx/d",
                                        "src/pkg/e",
                                        "src/other/f",
                                        "src/pkg/g",
                                        "docs/h",
                                        "venv/bin/python",
                                        NULL};
    static const struct {
        const char *dirs[5];
        const char *expected;
    } table[] = {
        {{".", NULL},
         ".cloudplan\ndocs/\ndocs/h\nsrc/\nsrc/other/\nsrc/other/f\nsrc/pkg/\nsrc/pkg/e\nsrc/pkg/g\ntests/"
         "\ntests/a\ntests/unit/\n"
         "tests/unit/b\ntests/unit/deep/\ntests/unit/deep/c\ntests/unitx/\ntests/unitx/d\ntop\nvenv/\nvenv/"
         "bin/\nvenv/bin/python\n"},
        {{"tests/unit", NULL},
         ".cloudplan\ntests/\ntests/unit/\ntests/unit/b\ntests/unit/deep/\ntests/unit/deep/c\n"},
        {{"tests/unit/", "src/pkg", "tests/unit/deep", NULL},
         ".cloudplan\nsrc/\nsrc/pkg/\nsrc/pkg/e\nsrc/pkg/g\ntests/\ntests/unit/\ntests/unit/b\ntests/unit/"
         "deep/\ntests/unit/deep/c\n"},
        {{"tests/unit/deep", "tests", NULL},
         ".cloudplan\ntests/\ntests/a\ntests/unit/\ntests/unit/b\ntests/unit/deep/\ntests/unit/deep/c\ntests/"
         "unitx/\ntests/unitx/d\n"},
        {{"docs/../tests/unit/deep", NULL},
         ".cloudplan\ntests/\ntests/unit/\ntests/unit/deep/\ntests/unit/deep/c\n"},
        {{"../else/lib", NULL}, ".cloudplan\nlib/\nlib/sub/\nlib/sub/x\n"},
        {{"docs", "../else/lib", "../else/lib/", NULL},
         ".cloudplan\ndocs/\ndocs/h\nlib/\nlib/sub/\nlib/sub/x\n"},
        {{"link", NULL}, ".cloudplan\nlib/\nlib/sub/\nlib/sub/x\n"},
    };
    make_all("root", files);
    make("else", "lib/sub/x");
    assert_int_equal(symlink("../else/lib", "link"), 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        struct sync_params params = params_for(in_base("root"));
        params.dirs = table[i].dirs;
        params.ignores = (const char *[]){"link", NULL};
        copy(&params); /* what the former one copied goes */
        assert_tree(table[i].expected);
    }
}

static void test_virtualenv(void **state)
{
    (void)state;
    make_all("root", (const char *[]){"tests/a", "venv/bin/python", "src/b", NULL});
    make("else", "env/bin/python");
    struct sync_params params = params_for(in_base("root"));
    params.venv = in_base("root/venv");
    copy(&params);
    assert_tree(".cloudplan\nsrc/\nsrc/b\ntests/\ntests/a\nvenv/\nvenv/bin/\nvenv/bin/python\n");
    params.dirs = (const char *[]){"tests", NULL};
    copy(&params);
    assert_tree(".cloudplan\ntests/\ntests/a\nvenv/\nvenv/bin/\nvenv/bin/python\n");
    params.venv = in_base("else/env");
    copy(&params);
    assert_tree(".cloudplan\nenv/\nenv/bin/\nenv/bin/python\ntests/\ntests/a\n");
    params.dirs = NULL;
    copy(&params);
    assert_tree(".cloudplan\nenv/\nenv/bin/\nenv/bin/python\nsrc/\nsrc/b\ntests/\ntests/a\nvenv/\nvenv/bin/"
                "\nvenv/bin/python\n");
    params.dirs = (const char *[]){"../else/env", NULL}; /* named twice */
    copy(&params);
    assert_tree(".cloudplan\nenv/\nenv/bin/\nenv/bin/python\n");
}

/* One that lies below a name that is never copied: it alone, of all that is there. */
static void test_kept(void **state)
{
    (void)state;
    static const char *const files[] = {"a",
                                        ".tox/log",
                                        ".tox/py310/bin/python",
                                        ".tox/py311/bin/python",
                                        ".tox/py311/x.pyc",
                                        "sub/.nox/u",
                                        ".nox/t/cfg",
                                        "sub/.nox/en[v/deep/bin/python",
                                        "sub/b",
                                        NULL};
    static const struct {
        const char *venv, *dirs[3], *ignore, *expected;
    } table[] = {
        {"root/.tox/py311",
         {NULL},
         "x",
         ".cloudplan\n.tox/\n.tox/py310/\n.tox/py310/theirs\n.tox/py311/\n.tox/py311/bin/\n.tox/py311/bin/"
         "python\na\nsub/\nsub/b\n"},
        {"root/sub/.nox/en[v/deep",
         {NULL},
         "x",
         ".cloudplan\n.tox/\n.tox/py310/\n.tox/py310/theirs\na\nsub/\nsub/.nox/\nsub/.nox/en[v/\nsub/.nox/"
         "en[v/deep/\n"
         "sub/.nox/en[v/deep/bin/\nsub/.nox/en[v/deep/bin/python\nsub/b\n"},
        /* With parts of the project only; and who ignores all of .tox means the others, too. */
        {"root/.tox/py311",
         {"sub", NULL},
         ".tox",
         ".cloudplan\n.tox/\n.tox/py310/\n.tox/py310/theirs\n.tox/py311/\n.tox/py311/bin/\n.tox/py311/bin/"
         "python\nsub/\nsub/b\n"},
        /* Named itself, or all of it. */
        {NULL, {"sub", ".nox/t", NULL}, "x", ".cloudplan\n.nox/\n.nox/t/\n.nox/t/cfg\nsub/\nsub/b\n"},
        {"root/.tox/py311",
         {".tox", NULL},
         "x",
         ".cloudplan\n.tox/\n.tox/log\n.tox/py310/\n.tox/py310/bin/\n.tox/py310/bin/python\n.tox/py311/"
         "\n.tox/py311/bin/\n"
         ".tox/py311/bin/python\n"},
        /* From outside, under such a name. */
        {"else/.nox", {"sub", NULL}, "x", ".cloudplan\n.nox/\n.nox/bin/\n.nox/bin/python\nsub/\nsub/b\n"},
    };
    make_all("root", files);
    make("else", ".nox/bin/python");
    for (size_t i = 0; i < COUNT(table); i++) {
        /* What of another run's is there already is spared. */
        remove_all(in_base("home/" CHDIR));
        make_all("home/" CHDIR, (const char *[]){".cloudplan", ".tox/py310/theirs", NULL});
        if (i >= 3)
            remove_all(in_base("home/" CHDIR "/.tox"));
        if (i == 5)
            remove_all(in_base("root/.nox"));
        struct sync_params params = params_for(in_base("root"));
        params.venv = table[i].venv ? in_base(table[i].venv) : NULL;
        params.dirs = table[i].dirs;
        params.ignores = (const char *[]){table[i].ignore, NULL};
        copy(&params);
        assert_tree(table[i].expected);
    }
    struct sync_params params = params_for(in_base("root"));
    params.venv = in_base("root/.tox/py311");
    params.verify = true;
    copy(&params);
    assert_string_equal(contents(in_base("home/" CHDIR "/.tox/py311/bin/python")), ".tox/py311/bin/python");
    remove_all(in_base("home/" CHDIR "/sub"));
    run(&params, RSYNC_VERIFY);
    assert_string_equal(contents(in_base("it's out")),
                        ".d..t...... ./\ncd+++++++++ sub/\n<f+++++++++ sub/b\n");
}

static void test_copied_links(void **state)
{
    (void)state;
    make_all("root", (const char *[]){"a", "venv/bin/tool", NULL});
    make_all("else", (const char *[]){"data/x", "env/bin/tool", NULL});
    assert_int_equal(symlink("../else/data", "out"), 0);
    assert_int_equal(symlink("a", "inside"), 0);
    static const char *const places[] = {"root/venv/bin", "else/env/bin"};
    for (size_t i = 0; i < COUNT(places); i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/python3", in_base(places[i]));
        assert_int_equal(symlink("/bin/sh", path), 0);
        snprintf(path, sizeof path, "%s/python", in_base(places[i]));
        assert_int_equal(symlink("python3", path), 0);
        make("home/" CHDIR, ".cloudplan");
        struct sync_params params = params_for(in_base("root"));
        params.copy_links = true;
        params.venv = in_base(i ? "else/env" : "root/venv");
        copy(&params);
        if (i == 0)
            assert_tree(
                ".cloudplan\na\ninside\nout/\nout/x\nvenv/\nvenv/bin/\nvenv/bin/python\nvenv/bin/tool\n");
        /* What has been made on the node in their place stays. */
        snprintf(path, sizeof path, "%s/bin/python3",
                 in_base(i ? "home/" CHDIR "/env" : "home/" CHDIR "/venv"));
        assert_int_equal(symlink("/bin/true", path), 0);
        copy(&params);
        char target[PATH_MAX] = "";
        assert_int_equal(readlink(path, target, sizeof target - 1), 9);
        assert_string_equal(target, "/bin/true");
        char **programs = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(rsync_programs(params.venv, &programs, &err), 0);
        assert_string_equal(programs[0], "python3");
        assert_string_equal(programs[1], "/bin/sh");
        assert_null(programs[2]);
        strings_free(programs);
    }
    char **programs = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(rsync_programs(in_base("nowhere"), &programs, &err), 0);
    assert_null(programs);
}

/* Each name as a directory of the root, below another, and outside, beside names that it would match as a
 * pattern. */
static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "it's", "a b",     " a",  "a ",    "new\nline", "we[ird*", "we[ird]", "*",        "?",    "\\",
        "a\\b", "a\\*b",   "{}",  "{1,2}", "$(id)",     "`id`",    "\"",      "-n",       "- x",  "+ x",
        "!",    "#",       "~",   ";",     "**",        "***",     "[!a]",    "\xc3\xbc", "\xff", "a:b",
        "--",   "merge x", ". x", "\t",    "%1$s",      "a\\",     "\\[",     "[",
    };
    for (size_t i = 0; i < COUNT(names); i++) {
        char inner[300], path[300], outer[300], expected[2000];
        clear_trees(NULL);
        snprintf(path, sizeof path, "%s/%s/file", names[i], names[i]);
        make("root", path);
        snprintf(path, sizeof path, "%s/not this", names[i]);
        make("root", path);
        make("root", "aXb/not this");
        make("root", "weird/not this");
        snprintf(path, sizeof path, "out %s/file", names[i]);
        make("else", path);
        snprintf(inner, sizeof inner, "./%s/%s", names[i], names[i]);
        snprintf(outer, sizeof outer, "../else/out %s", names[i]);
        struct sync_params params = params_for(in_base("root"));
        params.dirs = (const char *[]){inner, outer, NULL};
        copy(&params);
        char *one = strdup(names[i]);
        snprintf(expected, sizeof expected, "%s/%s/%s/%s/file", base, "home/" CHDIR, one, one);
        if (access(expected, F_OK))
            fail_msg("%s: not copied", names[i]);
        snprintf(expected, sizeof expected, "%s/%s/out %s/file", base, "home/" CHDIR, one);
        if (access(expected, F_OK))
            fail_msg("%s: not copied from outside", names[i]);
        char *got = tree(in_base("home/" CHDIR));
        if (strstr(got, "not this"))
            fail_msg("%s: too much copied: %s", names[i], got);
        free(got);
        free(one);
    }
    clear_trees(NULL);
    /* The root itself. */
    for (size_t i = 0; i < COUNT(names); i++) {
        char root[PATH_MAX];
        snprintf(root, sizeof root, "%s/root/%s", base, names[i]);
        make(root + strlen(base) + 1, "file");
        struct sync_params params = params_for(root);
        copy(&params);
        assert_tree(".cloudplan\nfile\n");
    }
}

/* How many differences a comparison finds; the first one's name goes into name. */
static size_t differences(const struct sync_params *params, char name[64])
{
    run(params, RSYNC_VERIFY);
    const char *out = contents(in_base("it's out"));
    *name = '\0';
    return rsync_differences(out, strlen(out), name, 64);
}

/* What a copy by size and time would never notice. */
static void test_verify(void **state)
{
    (void)state;
    char name[64];
    make_all("root", (const char *const[]){"a/one", "b/two", ".git/x", "c.log", NULL});
    struct sync_params params = params_for(in_base("root"));
    params.ignores = (const char *[]){"*.log", NULL};
    params.bwlimit = 5000;
    assert_true(differences(&params, name) > 0); /* nothing is there yet */
    copy(&params);
    assert_int_equal(differences(&params, name), 0);

    const char *path = in_base("home/" CHDIR "/b/two");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int fd = open(path, O_WRONLY);
    assert_int_equal(write(fd, "X", 1), 1);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
    copy(&params);
    assert_int_equal(differences(&params, name), 1);
    assert_string_equal(name, "b/two");
    assert_int_equal(*contents(in_base("home/" CHDIR "/b/two")), 'X'); /* looked at, not changed */

    make("home/" CHDIR, "stray");
    assert_true(differences(&params, name) >= 2);
    assert_string_equal(name, "stray");
}

static void test_destination(void **state)
{
    (void)state;
    static const struct {
        const char *user, *host;
        uint16_t port;
        uint32_t bwlimit;
        const char *option, *ssh, *where;
    } table[] = {
        {NULL, "n", 0, 0, NULL, "ssh_config' -- ", " 'n:copy/' </dev/null >'"},
        {"ci", "n", 0, 5000, " --bwlimit=5000 ", "ssh_config -l ci' -- ", " 'n:copy/' </dev/null >'"},
        {"CORP\\m$@corp", "n", 22, 1, " --bwlimit=1 ", "ssh_config -p 22 -l CORP\\m$@corp' -- ",
         " 'n:copy/' </dev/null >'"},
        {NULL, "::1", 0, 0, NULL, "ssh_config' -- ", " '[::1]:copy/' </dev/null >'"},
        {"ci", "fe80::1", 65535, 0, NULL, "ssh_config -p 65535 -l ci' -- ",
         " '[fe80::1]:copy/' </dev/null >'"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct node node = {.name = (char *)"n",
                            .user = (char *)table[i].user,
                            .host = (char *)table[i].host,
                            .port = table[i].port};
        struct sync_params params = params_for(in_base("root"));
        params.bwlimit = table[i].bwlimit;
        char *text = command(&params, RSYNC_COPY, &node);
        assert_memory_equal(text, "ulimit -f 8192 ", 15); /* RSYNC_OUTPUT_MAX */
        assert_non_null(strstr(text, "; exec rsync "));
        if (table[i].option)
            assert_non_null(strstr(text, table[i].option));
        else
            assert_null(strstr(text, "bwlimit"));
        assert_non_null(strstr(text, table[i].ssh));
        assert_non_null(strstr(text, table[i].where));
        free(text);
    }
}

/* Another copy than the first begins with what that one has. */
static void test_slots(void **state)
{
    (void)state;
    struct node node = {.name = (char *)"n", .host = (char *)"n", .slot = 2};
    struct sync_params params = params_for(in_base("root"));
    params.chdir = "work/copy";
    char *text = command(&params, RSYNC_COPY, &node);
    assert_non_null(strstr(text, " 'n:work/copy~2/' "));
    assert_non_null(strstr(text, " --copy-dest='../copy' "));
    free(text);
    text = command(&params, RSYNC_VERIFY, &node);
    assert_non_null(strstr(text, " 'n:work/copy~2/' "));
    assert_null(strstr(text, "copy-dest"));
    free(text);
    node.slot = 1;
    text = command(&params, RSYNC_COPY, &node);
    assert_non_null(strstr(text, " 'n:work/copy/' "));
    assert_null(strstr(text, "copy-dest"));
    free(text);
}

static void test_allocations(void **state)
{
    (void)state;
    make("root", "we[ird*/a/b");
    make("else", "lib/x");
    make("root", ".tox/t/x");
    struct sync_params params = params_for(in_base("root"));
    params.dirs = (const char *[]){"we[ird*/a", "../else/lib", ".tox/t", NULL};
    params.ignores = (const char *[]){"x", NULL};
    make("else", "env/bin/tool");
    assert_int_equal(symlink("/bin/sh", in_base("else/env/bin/python3")), 0);
    params.venv = in_base("else/env");
    params.site = in_base("else/site");
    params.copy_links = true;
    struct node node = {.name = (char *)"n", .host = (char *)"n"};
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct rsync_rules *rules = rsync_rules_make(&params, &err);
        char *text = rules ? rsync_command(rules, &params, RSYNC_COPY, &node, "c", "o", "e") : NULL;
        bool failed = alloc_has_failed();
        if (!rules)
            assert_int_equal(err.status, STATUS_SYSTEM);
        assert_true((text != NULL) == !failed);
        free(text);
        rsync_rules_destroy(rules);
    }
    errno = EXDEV;
    rsync_rules_destroy(NULL);
    assert_int_equal(errno, EXDEV);
}

static int prepare(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char path[PATH_MAX];
    /* Options come in any number, some with a value; then the host; the rest is the command. */
    static const char ssh[] = "#!/bin/sh\n"
                              "while :; do\n"
                              "    case $1 in\n"
                              "    -F | -p | -l) shift 2 ;;\n"
                              "    -*) shift ;;\n"
                              "    *) break ;;\n"
                              "    esac\n"
                              "done\n"
                              "shift\n"
                              "cd \"${0%/*}/home\" && exec sh -c \"$*\"\n";
    if (!getcwd(cwd, sizeof cwd) || !mkdtemp(base))
        return -1;
    int fd = open(in_base("ssh"), O_CREAT | O_WRONLY, 0700);
    if (fd < 0 || write(fd, ssh, sizeof ssh - 1) != sizeof ssh - 1 || close(fd))
        return -1;
    snprintf(path, sizeof path, "%s:%s", base, getenv("PATH"));
    setenv("PATH", path, 1);
    return child_init(&err);
}

static int clean_up(void **state)
{
    (void)state;
    if (chdir(cwd))
        return -1;
    remove_all(base);
    return access(base, F_OK) == 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_refused, clear_trees),
        cmocka_unit_test_setup(test_whole_root, clear_trees),
        cmocka_unit_test_setup(test_change_is_seen, clear_trees),
        cmocka_unit_test_setup(test_read_only, clear_trees),
        cmocka_unit_test_setup(test_left_out, clear_trees),
        cmocka_unit_test_setup(test_ignores, clear_trees),
        cmocka_unit_test_setup(test_some_dirs, clear_trees),
        cmocka_unit_test_setup(test_virtualenv, clear_trees),
        cmocka_unit_test_setup(test_kept, clear_trees),
        cmocka_unit_test_setup(test_copied_links, clear_trees),
        cmocka_unit_test_setup(test_names, clear_trees),
        cmocka_unit_test_setup(test_verify, clear_trees),
        cmocka_unit_test_setup(test_destination, clear_trees),
        cmocka_unit_test_setup(test_slots, clear_trees),
        cmocka_unit_test_setup(test_allocations, clear_trees),
    };
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
