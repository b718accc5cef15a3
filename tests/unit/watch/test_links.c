/* Links of every kind in a tree of its own. */
#include "watch/links.h"

#include "alloc.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/links.XXXXXX";
static char physical[PATH_MAX];
static char root[PATH_MAX + 16], lib[PATH_MAX + 16], tox[PATH_MAX + 16];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Valid for the next 15 calls. */
static char *at(const char *path)
{
    static char buf[16][2 * PATH_MAX];
    static unsigned next;
    char *p = buf[next++ % 16];
    snprintf(p, sizeof buf[0], "%s%s%s", physical, *path ? "/" : "", path);
    return p;
}

static void dirs(const char *const *paths)
{
    for (; *paths; paths++)
        assert_int_equal(mkdir(at(*paths), 0700), 0);
}

static void file(const char *path)
{
    FILE *f = fopen(at(path), "w");
    assert_non_null(f);
    fclose(f);
}

static void link_to(const char *target, const char *path)
{
    assert_int_equal(symlink(target, at(path)), 0);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(base + strlen(base) - 6, "XXXXXX");
    if (!mkdtemp(base) || !realpath(base, physical))
        return -1;
    snprintf(root, sizeof root, "%s/root", physical);
    snprintf(lib, sizeof lib, "%s/else/lib", physical);
    snprintf(tox, sizeof tox, "%s/root/.tox/t", physical);
    dirs((const char *[]){"root", "root/a", "root/a/b", "root/node_modules", "root/.git", "root/.tox",
                          "root/.tox/t", "root/.tox/t/bin", "root/.tox/t/lib", "root/skip", "else",
                          "else/lib", "else/lib/c", NULL});
    file("else/data");
    file("root/a/file");
    file("root/.tox/t/pyvenv.cfg");
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    return nftw(base, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

static struct links find(const struct watch_tree *tree)
{
    struct links links;
    struct error err = ERROR_INIT;
    if (links_find(tree, &links, &err))
        fail_msg("%s", err.text);
    return links;
}

static void test_nothing_to_say(void **state)
{
    (void)state;
    link_to("file", "root/a/same");
    link_to("../a/./b/../file", "root/a/same2");
    link_to("a//b/", "root/same3");
    link_to("/dev/null", "root/device");
    link_to("/nowhere/at/all", "root/dangling");
    link_to("../nowhere", "root/dangling2");
    link_to(at("else/data"), "root/.git/x");
    link_to(at("else/data"), "root/node_modules/x");
    link_to(at("else/data"), "root/.tox/x");
    link_to(at("else/data"), "root/.tox/t/bin/python3");
    link_to(at("else/data"), "root/skip/x");
    link_to(at("else/data"), "root/a/x.log");
    link_to("lib", "root/.tox/t/lib64");
    char *kept[] = {tox, NULL};
    const struct watch_tree tree = {
        .root = root, .ignores = (const char *[]){"skip", "*.log", NULL}, .dirs = kept};
    struct links links = find(&tree);
    assert_string_equal(links.shown, "");
    assert_int_equal(links.out, 0);
    assert_false(links.absolute);
    assert_string_equal(links.endless, "");
}

static void test_out(void **state)
{
    (void)state;
    char *kept[] = {tox, lib, NULL};
    const struct watch_tree tree = {.root = root, .dirs = kept};
    static const struct {
        const char *target, *path;
        bool absolute;
    } table[] = {
        {"../../else/data", "root/a/out", false},
        {"/@else/data", "root/a/out", true},
        {"../../../../../../../../../../../../../../../../../etc", "root/a/out", false},
        {"/@else/data", "root/.tox/t/lib/out", true},
        {"../data", "else/lib/out", false},
        /* In the copy "lib" lies in the root. */
        {"../../../root/a/file", "else/lib/c/out", false},
        {"../else/lib/c", "root/out", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *target = table[i].absolute ? at(table[i].target + 2) : table[i].target;
        char expected[2 * PATH_MAX];
        const char *inside = table[i].path + 5; /* in the root, or in "else" */
        link_to(target, table[i].path);
        struct links links = find(&tree);
        snprintf(expected, sizeof expected, "%.90s -> %.90s", inside, target);
        assert_string_equal(links.shown, expected);
        assert_int_equal(links.out, 1);
        assert_false(links.absolute);
        assert_int_equal(unlink(at(table[i].path)), 0);
    }
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "root/a/%d", i);
        link_to("../../else/data", name);
    }
    struct links links = find(&tree);
    assert_int_equal(links.out, 5);
    size_t arrows = 0;
    for (const char *p = links.shown; (p = strstr(p, " -> ")); p++)
        arrows++;
    assert_int_equal(arrows, LINKS_SHOWN);
}

static void test_absolute(void **state)
{
    (void)state;
    char *outside[] = {lib, NULL};
    const struct watch_tree tree = {.root = root, .dirs = outside};
    static const char *const targets[] = {"root/a/file", "root", "else/lib/c", "else/lib"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        link_to(at(targets[i]), "root/a/abs");
        struct links links = find(&tree);
        assert_true(links.absolute);
        assert_int_equal(links.out, 0);
        assert_string_equal(links.endless, i == 1 ? "a/abs" : "");
        assert_int_equal(unlink(at("root/a/abs")), 0);
    }
    link_to("../..", "root/a/up");
    struct links links = find(&tree);
    assert_int_equal(links.out, 1);
    assert_string_equal(links.endless, "a/up");
}

/* Where only some directories are copied, the rest of the root is as far away as anything else. */
static void test_parts(void **state)
{
    (void)state;
    char *parts[] = {at("root/a"), NULL};
    const struct watch_tree tree = {.root = root, .dirs = parts, .part = true};
    link_to("../skip", "root/a/out");
    link_to("../a/file", "root/a/b/dangling");
    link_to("../../a/file", "root/a/b/in");
    link_to("../../else/data", "root/skip/unseen");
    struct links links = find(&tree);
    assert_string_equal(links.shown, "a/out -> ../skip");
    assert_int_equal(links.out, 1);
}

static void test_no_memory(void **state)
{
    (void)state;
    char *outside[] = {lib, NULL};
    const struct watch_tree tree = {.root = root, .dirs = outside};
    for (ALLOC_EACH(n)) {
        struct links links;
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = links_find(&tree, &links, &err);
        if (result)
            assert_int_equal(err.status, STATUS_SYSTEM);
        assert_true(result == 0 || alloc_has_failed());
    }
    alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_to_say, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_out, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_absolute, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_parts, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_no_memory, set_up, clean_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
