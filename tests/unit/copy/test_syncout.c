/* What rsync and GNU parallel print, the malformed first. */
#include "copy/syncout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* In a block of its own of exactly len bytes, so that the sanitizer sees a step too far. */
static char *exact(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static void test_total_size(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\n",
        "Total file size: ",
        "Total file size:  12 bytes",
        "Total file size: 12",
        "Total file size: 1,234 bytes",
        "Total file size: 1.23K bytes",
        "Total file size: -1 bytes",
        "Total file size: 12 bytes \n",
        " Total file size: 12 bytes",
        "x Total file size: 12 bytes\n",
        "Total file size: 18446744073709551616 bytes\n",
        "Total transferred file size: 12 bytes\n",
        "Total file size: 12 byte\n",
        "Total file size: x\nTotal file size: y\n",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t bytes = 7;
        char *text = exact(bad[i], strlen(bad[i]) + 1);
        if (rsync_total_size(text, &bytes))
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(bytes, 7);
        free(text);
    }
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"Total file size: 0 bytes", 0},
        {"Total file size: x\nTotal file size: 5 bytes\n", 5},
        {"\nNumber of files: 3\nTotal file size: 18446744073709551615 bytes\nTotal bytes sent: 9\n",
         UINT64_MAX},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t bytes = 7;
        char *text = exact(good[i].text, strlen(good[i].text) + 1);
        assert_true(rsync_total_size(text, &bytes));
        assert_true(bytes == good[i].bytes);
        free(text);
    }
}

static void test_progress(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool found;
        uint64_t bytes;
        unsigned percent;
    } table[] = {
        {"", false, 0, 0},
        {"\r", false, 0, 0},
        {"\r\n\r\n", false, 0, 0},
        {"words\n", false, 0, 0},
        {"12", false, 0, 0},
        {"12 ", false, 0, 0},
        {"12 34", false, 0, 0},
        {"12%", false, 0, 0},
        {"12 34 %", false, 0, 0},
        {"-12 34%", false, 0, 0},
        {"1,234 34%", false, 0, 0},
        {"1.23M 34%", false, 0, 0},
        {"12 101%", false, 0, 0},
        {"12 18446744073709551617%", false, 0, 0},
        {"18446744073709551616 1%", false, 0, 0},
        {"99999999999999999999999999999999 1%", false, 0, 0},
        {"\t12 34%", false, 0, 0},
        {"x 12 34%", false, 0, 0},
        {"18446744073709551615 100%", true, UINT64_MAX, 100},
        {"0 0%", true, 0, 0},
        {"\r             32,768   0%\r 12 34%", true, 12, 34},
        {"\r              0   0%    0.00kB/s    0:00:00 (xfr#0, to-chk=0/1)", true, 0, 0},
        {"\r          65536  12%  512.00kB/s    0:00:09  \r         131072  25%  512.00kB/s    0:00:08  ",
         true, 131072, 25},
        {"\r         131072  25%  512.00kB/s    0:00:08  \r         196", true, 131072, 25},
        {"\r         131072  25%  512.00kB/s    0:00:08  \r         196608  3", true, 131072, 25},
        {"\r         131072  25%  512.00kB/s    0:00:08  \r         196608  37%", true, 196608, 37},
        {"\r         131072 100%  512.00kB/s    0:00:08 (xfr#3, to-chk=0/9)\n", true, 131072, 100},
        {"\r         131072 100%  512.00kB/s\nnode says 1 2%\n\n\n", true, 131072, 100},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len = strlen(table[i].text);
        char *copy = exact(table[i].text, len);
        uint64_t bytes = 0;
        unsigned percent = 0;
        if (rsync_progress(copy, len, &bytes, &percent) != table[i].found || bytes != table[i].bytes ||
            percent != table[i].percent)
            fail_msg("\"%s\": %d, %ju bytes, %u%%", table[i].text, !table[i].found, (uintmax_t)bytes,
                     percent);
        free(copy);
    }
}

#define HEADER "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
#define JOB(seq, exitval, signal)                                                                            \
    seq "\t:\t1700000000.123\t     0.005\t0\t0\t" exitval "\t" signal "\texec rsync 'a\tb'\n"

static void test_joblog(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned seq;
        int status;
    } table[] = {
        {"", 1, -1},
        {"\n\n\n", 1, -1},
        {HEADER, 1, -1},
        {HEADER "1\n", 1, -1},
        {HEADER "1\t:\t1\t1\t0\t0\t0\t0\n", 1, -1}, /* no command: not a whole record */
        {HEADER "1\t:\t1\t1\t0\t0\t0", 1, -1},
        {HEADER "1\t:\t1\t1\t0\t0\t0\t0\texec", 1, -1}, /* in the making */
        {HEADER JOB("x", "0", "0"), 1, -1},
        {HEADER JOB("1x", "0", "0"), 1, -1},
        {HEADER JOB(" 1", "0", "0"), 1, -1},
        {HEADER JOB("1", "", "0"), 1, -1},
        {HEADER JOB("1", "-1", "0"), 1, -1},
        {HEADER JOB("1", "256", "0"), 1, -1},
        {HEADER JOB("1", "0", "65"), 1, -1},
        {HEADER JOB("1", "0", "18446744073709551616"), 1, -1},
        {HEADER JOB("4294967297", "0", "0"), 1, -1},
        {HEADER JOB("18446744073709551617", "0", "0"), 1, -1},
        {HEADER JOB("0", "0", "0"), 1, -1},
        {HEADER JOB("1", "0", "0"), 2, -1},
        {JOB("1", "0", "0"), 1, 0},
        {HEADER JOB("1", "0", "0"), 1, 0},
        {HEADER JOB("1", "23", "0"), 1, 23},
        {HEADER JOB("1", "255", "0"), 1, 255},
        {HEADER JOB("1", "0", "15"), 1, 128 + 15},
        {HEADER JOB("1", "1", "9"), 1, 128 + 9},
        {HEADER JOB("2", "3", "0") JOB("1", "12", "0") JOB("3", "5", "0"), 1, 12},
        {HEADER JOB("1", "12", "0") JOB("2", "3", "0") JOB("1", "0", "0"), 1, 0}, /* the last one counts */
        {HEADER JOB("1", "12", "0") "1\t:\t1\t1\t0\t0\t0\t0\tnot yet", 1, 12},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len = strlen(table[i].text);
        char *copy = exact(table[i].text, len);
        int all[2] = {99, 99};
        joblog_read(copy, len, all, 2);
        assert_int_equal(all[table[i].seq - 1], table[i].status);
        joblog_read(copy, len, all, 0);
        free(copy);
    }
    static const char nul[] = HEADER "1\0\t:\n" JOB("1", "7", "0");
    char *copy = exact(nul, sizeof nul - 1);
    int one = 99;
    joblog_read(copy, sizeof nul - 1, &one, 1);
    assert_int_equal(one, 7);
    free(copy);
}

static void test_words(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } table[] = {
        {"", ""},
        {"\n\n", ""},
        {"\r\n", ""},
        {"one", "one"},
        {"one\r\ntwo\r\n", "one"},
        {"\033[31mred\033[0m\n", "?[31mred?[0m"},
        {"%s%n\n", "%s%n"},
        {"\xff\xff\n", ""},
        {"rsync error: error in rsync protocol data stream (code 12) at io.c(235) [sender=3.2.7]\n",
         "rsync error: error in rsync protocol data stream (code 12) at io.c(235) [sender=3.2.7]"},
        {"Connection closed by 10.0.0.1 port 22\r\n"
         "rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n"
         "rsync error: unexplained error (code 255) at io.c(232) [sender=3.2.7]\n",
         "Connection closed by 10.0.0.1 port 22"},
        {"rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n"
         "rsync error: error in rsync protocol data stream (code 12) at io.c(232) [sender=3.2.7]\n",
         "rsync: connection unexpectedly closed (0 bytes received so far) [sender]"},
        {"Welcome!\nrsync: [receiver] write failed on \"/home/ci/big\": No space left on device (28)\n"
         "rsync error: error in file IO (code 11) at receiver.c(380) [receiver=3.2.7]\n",
         "rsync: [receiver] write failed on \"/home/ci/big\": No space left on device (28)"},
        {"rsync: first\nrsync: second\n", "rsync: first"},
        {"sh: 1: rsync: not found\n", "sh: 1: rsync: not found"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char words[ERROR_TEXT_MAX];
        size_t len = strlen(table[i].text);
        char *copy = exact(table[i].text, len);
        memset(words, 'x', sizeof words);
        rsync_words(copy, len, words);
        assert_string_equal(words, table[i].words);
        free(copy);
    }
    size_t len = 100000;
    char *text = malloc(len), words[ERROR_TEXT_MAX];
    memset(text, 'x', len);
    rsync_words(text, len, words);
    assert_true(strlen(words) >= 100 && strlen(words) < sizeof words);
    memset(text, '\0', len);
    rsync_words(text, len, words);
    assert_string_equal(words, "");
    free(text);
}

static void test_differences(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        const char *name;
    } table[] = {
        {"", 0, NULL},
        {"\n\n", 0, NULL},
        {">fc........ b/two\n", 1, "b/two"},
        {"*deleting   stray file\n.d..t...... ./\n", 2, "stray file"},
        {">f+++++++++ a\033[31mb\n", 1, "a?[31mb"},
        {">f+++++++++ cut off", 1, "cut off"},
        {"nonsense\n", 1, "nonsense"},
        {">f+++++++++ \n", 1, ""},
        {">f+++++++++ 0123456789012345678901234567890123456789\n", 1, "0123456789012345678901234567890"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char name[32] = "";
        char *copy = exact(table[i].text, strlen(table[i].text));
        assert_int_equal(rsync_differences(copy, strlen(table[i].text), name, sizeof name), table[i].count);
        assert_string_equal(name, table[i].name ? table[i].name : "");
        free(copy);
    }
}

/* What a dry run would delete. */
static void test_deletions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        const char *list;
    } table[] = {
        {"", 0, ""},
        {"deleting a\n", 1, "a"},
        {"deleting a", 1, "a"},
        {"deleting d/b\ndeleting d/\ndeleting a b\n", 3, "d/b, d/, a b"},
        {"cannot delete non-empty directory: d\nsending\ndeleting\ndeleting \n", 0, ""},
        {"deleting d/__pycache__/m.pyc\ndeleting d/__pycache__/\ndeleting d/\n", 0, ""},
        {"deleting d/e/m.pyc\ndeleting d/e/\ndeleting d/\n", 0, ""},
        {"deleting d/e/m.pyc\ndeleting d/e/\ndeleting d/x\ndeleting d/\n", 2, "d/x, d/"},
        {"deleting d/x\ndeleting d/e/m.pyc\ndeleting d/e/\ndeleting d/\n", 1, "d/x"},
        {"deleting m.pyc\ndeleting d/\n", 1, "d/"}, /* nothing was in it */
        {"deleting d.pyc\ndeleting d/\n", 1, "d/"},
        {"deleting .pytest_cache/v/x\ndeleting .mypy_cache/3\ndeleting .ruff_cache/0\ndeleting "
         "a.egg-info/PKG-INFO\ndeleting "
         "a.egg-info/\ndeleting v/a.egg-link\ndeleting b.pyo\n",
         0, ""},
        {"deleting .git/config\ndeleting .pyc\ndeleting egg-info\ndeleting __pycache__x\ndeleting "
         ".coverage\n",
         5, ".git/config, .pyc, egg-info, __pycache__x, .coverage"},
        {"deleting \x1b[31m\xff\n", 1, "?[31m?"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char list[RSYNC_DELETIONS_MAX],
            *copy = strdup(table[i].text); /* its end is watched by the sanitizer */
        assert_int_equal(rsync_deletions(copy, strlen(table[i].text), list), table[i].count);
        assert_string_equal(list, table[i].list);
        free(copy);
    }
    /* Of many the first ones. */
    char text[9000] = "", list[RSYNC_DELETIONS_MAX];
    size_t used = 0;
    for (int i = 0; i < 500; i++)
        used += (size_t)sprintf(text + used, "deleting file%03d\n", i);
    assert_int_equal(rsync_deletions(text, used, list), 500);
    assert_memory_equal(list, "file000, file001, ", 18);
    assert_true(strlen(list) >= 150 && strlen(list) < RSYNC_DELETIONS_MAX);
}

static void test_verdict(void **state)
{
    (void)state;
    static const int again[] = {10, 12, 255};
    for (int status = 0; status < 256; status++) {
        enum rsync_verdict expected = status == 0 || status == 24 ? RSYNC_OK : RSYNC_FAILED;
        for (size_t i = 0; i < COUNT(again); i++)
            if (status == again[i])
                expected = RSYNC_RETRY;
        assert_int_equal(rsync_verdict(status), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_total_size),  cmocka_unit_test(test_progress),
        cmocka_unit_test(test_joblog),      cmocka_unit_test(test_words),
        cmocka_unit_test(test_differences), cmocka_unit_test(test_deletions),
        cmocka_unit_test(test_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
