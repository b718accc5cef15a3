#include "watch/watch_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Of the path itself, whatever a directory above it may match.  Tried with rsync 3.5.0. */
static const struct {
    const char *pattern, *path;
    bool directory, matches;
} patterns[] = {
    /* malformed or of no effect */
    {"", "a", false, false},
    {"[", "[", false, false},
    {"a[", "a[", false, false},
    {"[]", "]", false, false},
    {"[a", "a", false, false},
    {"[[:alpha:", "a", false, false},
    {"[[:nothing:]]", "a", false, false},
    /* a name */
    {"a", "a", false, true},
    {"a", "d/a", false, true},
    {"a", "d/e/a", false, true},
    {"a", "a/b", false, false},
    {"a", "da", false, false},
    {"a", "ab", false, false},
    {"a", "A", false, false},
    {"a\\b", "a\\b", false, true},
    {"a\\b", "ab", false, false},
    /* a directory */
    {"a/", "a", true, true},
    {"a/", "d/a", true, true},
    {"a/", "a", false, false},
    /* with a path */
    {"/a", "a", false, true},
    {"/a", "d/a", false, false},
    {"/a/", "a", true, true},
    {"/a/", "a", false, false},
    {"d/a", "d/a", false, true},
    {"d/a", "e/d/a", false, true},
    {"d/a", "ed/a", false, false},
    {"/d/a", "e/d/a", false, false},
    {"/d/a", "d/a", false, true},
    /* wildcards */
    {"*", "a", false, true},
    {"*", "d/a", false, true},
    {"*.log", "d/a.log", false, true},
    {"*.log", "a.log.gz", false, false},
    {"a*", "a", false, true},
    {"a*c", "abbc", false, true},
    {"a*c", "ab/c", false, false},
    {"d*a", "d/a", false, false},
    {"/*", "a", false, true},
    {"/*", "d/a", false, false},
    {"d/*", "d/a", false, true},
    {"d/*", "e/d/a", false, true},
    {"d/*", "d/e/a", false, false},
    {"/d/*/a", "d/e/a", false, true},
    {"/d/*/a", "d/e/f/a", false, false},
    {"?", "a", false, true},
    {"?", "ab", false, false},
    {"d?a", "d/a", false, false},
    {"a\\*", "a*", false, true},
    {"a\\*", "ab", false, false},
    /* over directories */
    {"**", "d/a", false, true},
    {"d**a", "d/a", false, true},
    {"d**a", "e/d/f/a", false, true},
    {"**/a", "a", false, true},
    {"**/a", "d/e/a", false, true},
    {"**/a", "d/ea", false, false},
    {"**a", "d/ea", false, true},
    {"/d/**", "d/e/a", false, true},
    {"/d/**", "d", true, false},
    {"/d/**/a", "d/e/f/a", false, true},
    {"d/**", "e/d/a", false, true},
    {"d/***", "d", true, true},
    {"d/***", "d", false, false},
    {"d/***", "d/e/a", false, true},
    {"/d/***", "d", true, true},
    {"/d/***", "e/d", true, false},
    /* brackets */
    {"[ab]", "b", false, true},
    {"[ab]", "c", false, false},
    {"[!ab]", "c", false, true},
    {"[^ab]", "a", false, false},
    {"[a-c]x", "bx", false, true},
    {"[a-c]x", "dx", false, false},
    {"[]]", "]", false, true},
    {"[a-]", "-", false, true},
    {"[\\]]", "]", false, true},
    {"d[/]a", "d/a", false, false},
    {"d[!x]a", "d/a", false, false},
    {"[[:digit:]]", "7", false, true},
    {"[[:digit:]]", "x", false, false},
    {"[[:digit:]x]", "x", false, true},
    {"*.py[co]", "d/a.pyc", false, true},
};

static void test_patterns(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(patterns); i++)
        if (rsync_pattern_matches(patterns[i].pattern, patterns[i].path, patterns[i].directory) !=
            patterns[i].matches)
            fail_msg("%s with %s%s", patterns[i].pattern, patterns[i].path, patterns[i].directory ? "/" : "");
}

/* Too long for a path: no match, and nothing is overrun. */
static void test_long(void **state)
{
    (void)state;
    char *longest = malloc(PATH_MAX + 1);
    memset(longest, 'a', PATH_MAX);
    longest[PATH_MAX] = '\0';
    assert_false(rsync_pattern_matches("*", longest, false));
    assert_false(rsync_pattern_matches(longest, "a", false));
    longest[PATH_MAX - 1] = '\0';
    assert_true(rsync_pattern_matches("*", longest, false));
    assert_true(rsync_pattern_matches(longest, longest, false));
    free(longest);
}

/* Some hundred steps, where trying all ways would never end. */
static void test_many_stars(void **state)
{
    (void)state;
    char pattern[200] = "", text[300] = "", path[302];
    for (size_t i = 0; i < 60; i++)
        strcat(pattern, "*a");
    memset(text, 'a', 250);
    assert_true(rsync_pattern_matches(pattern, text, false));
    strcat(pattern, "b");
    assert_false(rsync_pattern_matches(pattern, text, false));
    strcat(pattern, "/c");
    snprintf(path, sizeof path, "%s/c", text);
    assert_false(rsync_pattern_matches(pattern, path, false));
    strcpy(pattern, "/**");
    for (size_t i = 0; i < 40; i++)
        strcat(pattern, "a**");
    strcat(pattern, "b");
    assert_false(rsync_pattern_matches(pattern, text, false));
}

static void test_ignored(void **state)
{
    (void)state;
    static const char *const ignores[] = {"", "/build/", "*.log", NULL};
    static const struct {
        const char *path;
        bool directory, ignored;
    } cases[] = {
        {"a.py", false, false},
        {"tests", true, false},
        {".git", true, true},
        {"sub/.git", true, true},
        {".git", false, true},
        {".gitignore", false, false},
        {"pkg/__pycache__", true, true},
        {"a.pyc", false, true},
        {"build", true, true},
        {"build", false, false},
        {"pkg/build", true, false},
        {"pkg/x.log", false, true},
        {".a.py.swp", false, true},
        {"pkg/.a.py.swo", false, true},
        {"a.swp", false, false},
        {"a.py~", false, true},
        {".#a.py", false, true},
        {"#a.py#", false, true},
        {"#a.py", false, false},
        {"4913", false, true},
        {"49130", false, false},
        {"pkg/flycheck_a.py", false, true},
        {".idea", true, true},
        {"a.py___jb_tmp___", false, true},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (watch_ignored(ignores, cases[i].path, cases[i].directory) != cases[i].ignored)
            fail_msg("%s", cases[i].path);
    assert_false(watch_ignored(NULL, "x.log", false));
}

static void test_sources(void **state)
{
    (void)state;
    static const char *const sources[] = {"a.py",    "pkg/a.pyi", "a.pyx",           "a.pxd",
                                          "tox.ini", "setup.cfg", "d/pyproject.toml"};
    static const char *const others[] = {"",       "py",    "a.pyc", "report.xml", ".coverage",
                                         "a.py/b", "a.txt", "a.PY",  "a.c",        "apy"};
    for (size_t i = 0; i < COUNT(sources); i++)
        assert_true(watch_is_source(sources[i]));
    for (size_t i = 0; i < COUNT(others); i++)
        assert_false(watch_is_source(others[i]));
}

static void test_note(void **state)
{
    (void)state;
    static struct watch_seen seen;
    static const char *const paths[] = {"a.txt", "b.txt", "c.py", "d.py"};
    static const char *const kept[] = {"a.txt", "a.txt", "c.py", "c.py"};
    for (size_t i = 0; i < COUNT(paths); i++) {
        watch_note(&seen, paths[i]);
        assert_int_equal(seen.count, i + 1);
        assert_string_equal(seen.path, kept[i]);
    }
    seen.count = 0;
    watch_note(&seen, "e.txt");
    assert_string_equal(seen.path, "e.txt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_long),    cmocka_unit_test(test_many_stars),
        cmocka_unit_test(test_ignored),  cmocka_unit_test(test_sources), cmocka_unit_test(test_note),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
