#include "base/path.h"
#include "base/private_dir.h"
#include "base/rundir.h"

#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/rundir.XXXXXX"; /* short enough to be one itself */

static int make_base(void **state)
{
    (void)state;
    return mkdtemp(base) ? 0 : -1;
}

static int remove_base(void **state)
{
    (void)state;
    rundir_remove(base);
    return access(base, F_OK) == 0 ? -1 : 0;
}

static void set(const char *runtime, const char *tmp)
{
    runtime ? setenv("XDG_RUNTIME_DIR", runtime, 1) : unsetenv("XDG_RUNTIME_DIR");
    tmp ? setenv("TMPDIR", tmp, 1) : unsetenv("TMPDIR");
}

static void assert_made_in(const char *dir)
{
    struct error err = ERROR_INIT;
    char *path = rundir_create(&err);
    assert_non_null(path);
    size_t len = strlen(dir);
    assert_memory_equal(path, dir, len);
    assert_memory_equal(path + len, "/cloudplan.", strlen("/cloudplan."));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(st.st_uid, geteuid());
    rundir_remove(path);
    assert_int_equal(access(path, F_OK), -1);
    free(path);
}

static void assert_expanded(const char *path, const char *expected)
{
    char *expanded = path_expand(path);
    assert_string_equal(expanded, expected);
    free(expanded);
}

/* As a shell has it. */
static void test_homes(void **state)
{
    (void)state;
    char *before = getenv("HOME") ? strdup(getenv("HOME")) : NULL, text[300];
    setenv("HOME", "/h", 1);
    assert_expanded("~", "/h");
    assert_expanded("~/", "/h/");
    assert_expanded("~/a b/~", "/h/a b/~");
    assert_expanded("a/~", "a/~");
    assert_expanded("/~/x", "/~/x");
    assert_expanded("", "");
    assert_expanded("~nobody-of-that-name/x", "~nobody-of-that-name/x");
    assert_expanded("~root/x", "/root/x");
    assert_expanded("~root", "/root");
    unsetenv("HOME");
    const struct passwd *user = getpwuid(geteuid());
    snprintf(text, sizeof text, "%s/x", user ? user->pw_dir : "~");
    assert_expanded("~/x", text);
    before ? setenv("HOME", before, 1) : unsetenv("HOME");
    free(before);
}

static void test_bases_that_do_not_fit(void **state)
{
    (void)state;
    char *file = path_join(base, "file"), *missing = path_join(base, "missing"),
         *percent = path_join(base, "a%h");
    char *blank = path_join(base, "a b");
    assert_int_equal(close(open(file, O_CREAT | O_WRONLY, 0600)), 0);
    assert_int_equal(mkdir(percent, 0700), 0);
    assert_int_equal(mkdir(blank, 0700), 0);
    const char *bad[] = {
        "", ".", "tmp", "/", file, missing, percent, blank, "/tmp/a-directory-whose-path-is-too-long"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        set(bad[i], NULL);
        assert_made_in("/tmp");
        set(NULL, bad[i]);
        assert_made_in("/tmp");
        set(bad[i], base);
        assert_made_in(base);
    }
    free(file);
    free(missing);
    free(percent);
    free(blank);
}

/* A directory in base with a mode, and that path. */
static char *directory(const char *name, mode_t mode)
{
    char *path = path_join(base, name);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

/* Where anybody could put a link in its place, or in that of a directory above. */
static void test_others_may_rename(void **state)
{
    (void)state;
    char *open_to_all = directory("o", 0777), *below = directory("o/b", 0700),
         *sticky = directory("s", 01777);
    char *private = directory("s/p", 0700), *link = path_join(base, "s/l"), *to = path_join(base, "t");
    const char *const bad[] = {open_to_all, below, link};
    assert_int_equal(symlink(below, link), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        set(bad[i], base);
        assert_made_in(base);
    }
    set(sticky, base);
    assert_made_in(sticky);
    set(private, base);
    assert_made_in(private);
    /* A link counts for where it leads, and that is what is used. */
    assert_int_equal(symlink(private, to), 0);
    set(to, base);
    assert_made_in(private);
    set("//tmp/.", base);
    assert_made_in("/tmp");
    assert_int_equal(chmod(open_to_all, 01777), 0);
    set(below, base);
    assert_made_in(below);
    char *const all[] = {open_to_all, below, sticky, private, link, to};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* A directory of somebody else, and a group's; only root can make such ones. */
static void test_others_own(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    char *theirs = directory("t1", 0755), *below = directory("t1/b", 0700), *sticky = directory("t2", 01777);
    char *group = directory("g", 0775), *link = path_join(base, "t2/l");
    assert_int_equal(chown(theirs, 12345, 0), 0);
    assert_int_equal(chown(sticky, 12345, 0), 0);
    assert_int_equal(chown(group, 0, 12345), 0);
    assert_int_equal(symlink(base, link), 0);
    assert_int_equal(lchown(link, 12345, 12345), 0);
    const char *const bad[] = {theirs, below, sticky, group};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        set(bad[i], base);
        assert_made_in(base);
    }
    set(link, "/tmp"); /* once it has been followed it no longer matters */
    assert_made_in(base);
    char *const all[] = {theirs, below, sticky, group, link};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void test_faults(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        mode_t mode;
        const char *fault;
    } cases[] = {{"m1", 0777, " is writable by everybody"},
                 {"m2", 0755, NULL},
                 {"m3", 01777, NULL},
                 {"m4", 0700, NULL}};
    char fault[PRIVATE_DIR_FAULT_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = directory(cases[i].name, cases[i].mode);
        int fd = private_dir_open(path, fault);
        assert_int_equal(fd >= 0, !cases[i].fault);
        if (fd >= 0)
            close(fd);
        else
            assert_non_null(strstr(fault, cases[i].fault));
        free(path);
    }
    char *link = path_join(base, "link"), *file = path_join(base, "plain");
    assert_int_equal(symlink("/tmp", link), 0);
    assert_int_equal(rundir_write(base, "plain", "", 0, NULL), 0);
    const char *const not [] = {link, file, "/nonexistent/x", "tmp", ""};
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++)
        assert_int_equal(private_dir_open(not [i], fault), -1);
    free(link);
    free(file);
}

static void test_user_namespaces(void **state)
{
    (void)state;
    static const struct {
        const char *map;
        bool whole, root;
    } cases[] = {
        {"         0          0 4294967295\n", true, true},
        {"         0       1000          1\n", false, true},
        {"      1000          0          1\n", false, false},
        {"         1     100000      65536\n         0       1000          1\n", false, true},
        {"", false, false},
        {"rubbish\n", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(private_dir_map_is_whole(cases[i].map), cases[i].whole);
        assert_int_equal(private_dir_map_has_root(cases[i].map), cases[i].root);
    }
}

static void test_first_that_fits(void **state)
{
    (void)state;
    set(NULL, NULL);
    assert_made_in("/tmp");
    set(base, "/tmp");
    assert_made_in(base);
    char slash[sizeof base + 1];
    snprintf(slash, sizeof slash, "%s/", base);
    set(NULL, slash);
    assert_made_in(base);
}

/* The longest base that is taken still leaves room for a socket that OpenSSH is binding. */
static void test_sockets_fit(void **state)
{
    (void)state;
    char dir[64];
    size_t longest = 0;
    for (size_t len = sizeof base; len < 60; len++) {
        memset(dir, 'x', sizeof dir);
        memcpy(dir, base, strlen(base));
        dir[strlen(base)] = '/';
        dir[len] = '\0';
        if (dir[len - 1] == '/')
            continue;
        assert_int_equal(mkdir(dir, 0700), 0);
        set(dir, NULL);
        char *path = rundir_create(NULL);
        assert_non_null(path);
        if (strncmp(path, dir, len) == 0) {
            assert_true(strlen(path) + 1 + 40 + 17 < sizeof((struct sockaddr_un *)0)->sun_path);
            longest = len;
        }
        rundir_remove(path);
        free(path);
        rundir_remove(dir);
    }
    assert_int_equal(longest, 32);
}

static void assert_content(const char *path, const char *content)
{
    char text[64];
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    assert_true(n >= 0);
    text[n] = '\0';
    assert_string_equal(text, content);
}

static void test_write(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(rundir_write(base, "no/such", "x", 1, &err), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_non_null(strstr(err.text, "no/such: No such file or directory"));

    char *path = path_join(base, "w");
    struct stat st;
    umask(0);
    assert_int_equal(rundir_write(base, "w", "a longer text", 13, NULL), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_content(path, "a longer text");
    assert_int_equal(rundir_write(base, "w", "short", 5, NULL), 0);
    assert_content(path, "short");

    /* not through a link */
    char *link = path_join(base, "l");
    assert_int_equal(symlink(path, link), 0);
    err = (struct error)ERROR_INIT;
    assert_int_equal(rundir_write(base, "l", "x", 1, &err), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_content(path, "short");
    free(link);
    free(path);

    err = (struct error)ERROR_INIT;
    assert_int_equal(rundir_write("/dev", "full", "x", 1, &err), -1);
    assert_string_equal(err.text, "/dev/full: No space left on device");
}

static void test_remove_nothing(void **state)
{
    (void)state;
    errno = EXDEV;
    rundir_remove(NULL);
    rundir_remove("/nonexistent/cloudplan");
    assert_int_equal(errno, EXDEV);
}

static void test_remove_never_follows_links(void **state)
{
    (void)state;
    char *outside = path_join(base, "outside"), *kept = path_join(outside, "kept");
    assert_int_equal(mkdir(outside, 0700), 0);
    assert_int_equal(rundir_write(outside, "kept", "kept", 4, NULL), 0);

    set(base, NULL);
    char *dir = rundir_create(NULL);
    assert_non_null(dir);
    char *sub = path_join(dir, "sub"), *link = path_join(sub, "link"), *dangling = path_join(dir, "dangling");
    assert_int_equal(mkdir(sub, 0700), 0);
    assert_int_equal(symlink(outside, link), 0);
    assert_int_equal(symlink("nowhere", dangling), 0);
    assert_int_equal(rundir_write(sub, "file", "x", 1, NULL), 0);

    /* the directory itself must not be a link either */
    char *alias = path_join(base, "alias");
    assert_int_equal(symlink(dir, alias), 0);
    rundir_remove(alias);
    assert_int_equal(access(link, F_OK), 0);
    unlink(alias);

    errno = EXDEV;
    rundir_remove(dir);
    assert_int_equal(errno, EXDEV);
    assert_int_equal(access(dir, F_OK), -1);
    assert_content(kept, "kept");
    char *const all[] = {outside, kept, dir, sub, link, dangling, alias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Deeper than anything that cloudplan makes: no endless recursion; what is left needs one more call. */
static void test_remove_is_bounded(void **state)
{
    (void)state;
    set(base, NULL);
    char *dir = rundir_create(NULL);
    char path[512];
    int len = snprintf(path, sizeof path, "%s", dir);
    for (int i = 0; i < 40; i++) {
        len += snprintf(path + len, sizeof path - (size_t)len, "/d");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    rundir_remove(dir);
    assert_int_equal(access(dir, F_OK), 0);
    path[strlen(dir) + 2 * 20] = '\0'; /* half way down */
    rundir_remove(path);
    rundir_remove(dir);
    assert_int_equal(access(dir, F_OK), -1);
    free(dir);
}

static void test_tail(void **state)
{
    (void)state;
    char path[128];
    size_t len = 99;
    assert_null(rundir_tail("/nonexistent/x", 10, &len));
    assert_int_equal(rundir_write(base, "tail", "0123456789", 10, NULL), 0);
    snprintf(path, sizeof path, "%s/tail", base);
    static const struct {
        size_t max;
        const char *text;
    } cases[] = {
        {0, ""}, {1, "9"}, {9, "123456789"}, {10, "0123456789"}, {11, "0123456789"}, {100000, "0123456789"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = rundir_tail(path, cases[i].max, &len);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(len, strlen(cases[i].text));
        free(text);
    }
    alloc_fail_at(1);
    assert_null(rundir_tail(path, 5, &len));
    alloc_fail_at(0);
    unlink(path);
}

static void test_no_memory(void **state)
{
    (void)state;
    set(NULL, NULL);
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        char *path = rundir_create(&err);
        int written = path ? rundir_write(path, "f", "x", 1, &err) : -1;
        assert_int_equal(written, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        rundir_remove(path);
        free(path);
    }
    alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bases_that_do_not_fit),
        cmocka_unit_test(test_first_that_fits),
        cmocka_unit_test(test_others_may_rename),
        cmocka_unit_test(test_others_own),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_user_namespaces),
        cmocka_unit_test(test_sockets_fit),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_remove_nothing),
        cmocka_unit_test(test_remove_never_follows_links),
        cmocka_unit_test(test_remove_is_bounded),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_homes),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
