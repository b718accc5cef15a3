/* A node's answer: the bad ones first. */
#include "nodes/facts.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NONCE "7f3a"
#define BEGIN "cloudplan-facts " NONCE " 1\n"
#define END "cloudplan-end " NONCE "\n"
#define MANDATORY "os=Linux\ncores=8\nmem_total=16000\nmem_available=10000\n"
#define MIB (INT64_C(1) << 20)
#define ANSWER(lines) "\n" BEGIN MANDATORY lines END

/* In a block of its own of exactly len bytes, so that the sanitizer sees a step too far. */
static int parse_bytes(struct facts *facts, const char *answer, size_t len, struct error *err)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, answer, len);
    int result = facts_parse(facts, copy, len, NONCE, err);
    free(copy);
    return result;
}

static int parse(struct facts *facts, const char *answer, struct error *err)
{
    return parse_bytes(facts, answer, strlen(answer), err);
}

static void assert_bad(const char *answer, size_t len, const char *text)
{
    struct facts facts;
    struct error err = ERROR_INIT;
    if (parse_bytes(&facts, answer, len, &err) != -1)
        fail_msg("taken for good: %s", answer);
    assert_string_equal(err.text, text);
    assert_int_equal(err.status, STATUS_DATA);
}

static struct facts good(const char *answer)
{
    struct facts facts;
    struct error err = ERROR_INIT;
    if (parse(&facts, answer, &err) != 0)
        fail_msg("%s: %s", err.text, answer);
    assert_int_equal(err.status, 0);
    return facts;
}

static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *text;
    } cases[] = {
        {"", "no answer"},
        {"\n \t\r\n\n", "no answer"},
        {"This account is currently not available.\n",
         "answer malformed: no facts in it (first line: This account is currently not available.)"},
        {"\r\n\n  git-shell: what do you think I am?\r\nbye\n",
         "answer malformed: no facts in it (first line: git-shell: what do you think I am?)"},
        {"\033[2Jhello\a", "answer malformed: no facts in it (first line: ?[2Jhello?)"},
        {"1234567890123456789012345678901234567890123456789012345678901234567890123456789\303\251tail",
         "answer malformed: no facts in it (first line: "
         "1234567890123456789012345678901234567890123456789012345678901234567890123456789)"},
        /* markers of another run, in mid-line, of another version, without the nonce */
        {"cloudplan-facts 7f3b 1\n" MANDATORY END,
         "answer malformed: no facts in it (first line: cloudplan-facts 7f3b 1)"},
        {"+ " BEGIN MANDATORY END, "answer malformed: no facts in it (first line: + cloudplan-facts 7f3a 1)"},
        {"cloudplan-facts " NONCE " 12\n" MANDATORY END,
         "answer malformed: no facts in it (first line: cloudplan-facts 7f3a 12)"},
        {"cloudplan-facts 7f3a\n" MANDATORY END,
         "answer malformed: no facts in it (first line: cloudplan-facts 7f3a)"},
        {"cloudplan-facts", "answer malformed: no facts in it (first line: cloudplan-facts)"},
        {END BEGIN MANDATORY, "answer malformed: it is cut short"},
        {BEGIN, "answer malformed: it is cut short"},
        {BEGIN MANDATORY, "answer malformed: it is cut short"},
        {BEGIN MANDATORY "cloudplan-end 7f3", "answer malformed: it is cut short"},
        {BEGIN MANDATORY "cloudplan-end 7f3a 1\n", "answer malformed: it is cut short"},
        {BEGIN MANDATORY BEGIN END, "answer malformed: it begins twice"},
        {BEGIN MANDATORY END BEGIN MANDATORY END, "answer malformed: it begins twice"},
        {BEGIN END, "answer malformed: cores is missing (os: unknown)"},
        {BEGIN "os=OpenBSD\ncores=1\n" END, "answer malformed: mem_total is missing (os: OpenBSD)"},
        {BEGIN "os=Linux\ncores=1\nmem_total=5\n" END,
         "answer malformed: mem_available is missing (os: Linux)"},
        {BEGIN "cores=1\nmem_total=5\nmem_available=5\n" END,
         "answer malformed: os is missing (os: unknown)"},
        {BEGIN "os=\ncores=1\nmem_total=5\nmem_available=5\n" END, "answer malformed: os is empty: \"\""},
        {BEGIN "os=a\ncores=1\nmem_total=0\nmem_available=0\n" END, "answer malformed: mem_total is 0"},
        {BEGIN " os=Linux\n" END, "answer malformed: cores is missing (os: unknown)"},
        {ANSWER("cores=8\n"), "answer malformed: cores comes twice: \"8\""},
        {ANSWER("os=Linux\n"), "answer malformed: os comes twice: \"Linux\""},
        {ANSWER("rsync=\nrsync=3.2.7\n"), "answer malformed: rsync comes twice: \"3.2.7\""},
        {ANSWER("load1=1\nload1=2\n"), "answer malformed: load1 comes twice: \"2\""},
        {ANSWER("target=ours\ntarget=ours\n"), "answer malformed: target comes twice: \"ours\""},
        {ANSWER("target=\n"),
         "answer malformed: target is none of absent, ours, unmarked, homeless, nowhere, foreign: \"\""},
        {ANSWER("target=our\n"),
         "answer malformed: target is none of absent, ours, unmarked, homeless, nowhere, foreign: \"our\""},
        {ANSWER("load1=\n"), "answer malformed: load1 is not a number: \"\""},
        {ANSWER("load1=.5\n"), "answer malformed: load1 is not a number: \".5\""},
        {ANSWER("load1=1.\n"), "answer malformed: load1 is not a number: \"1.\""},
        {ANSWER("load1=nan\n"), "answer malformed: load1 is not a number: \"nan\""},
        {ANSWER("load1=-1\n"), "answer malformed: load1 is not a number: \"-1\""},
        {ANSWER("load1=1.2.3\n"), "answer malformed: load1 is not a number: \"1.2.3\""},
        {ANSWER("load1=0.00000000000000000009\nload1=1\n"), "answer malformed: load1 comes twice: \"1\""},
        {ANSWER("load1=0.99999999999999999999\n"),
         "answer malformed: load1 is too large: \"0.99999999999999999999\""},
        {ANSWER("interpreter=\n"), "answer malformed: interpreter is not a number: \"\""},
        {ANSWER("interpreter=3.9.1\n"), "answer malformed: interpreter is not a number: \"3.9.1\""},
        {ANSWER("interpreter=2\n"), "answer malformed: interpreter says nothing: \"2\""},
        {ANSWER("interpreter=2 \n"), "answer malformed: interpreter says nothing: \"2 \""},
        {ANSWER("interpreter=0 3.9.1\n"), "answer malformed: interpreter is out of range: \"0 3.9.1\""},
        {ANSWER("interpreter=1 3.9.1\n"), "answer malformed: interpreter is out of range: \"1 3.9.1\""},
        {ANSWER("interpreter=9 3.9.1\n"), "answer malformed: interpreter is out of range: \"9 3.9.1\""},
        {ANSWER("interpreter=-2 3.9.1\n"), "answer malformed: interpreter is not a number: \"-2 3.9.1\""},
        {ANSWER("interpreter= 2 3.9.1\n"), "answer malformed: interpreter is not a number: \" 2 3.9.1\""},
        {ANSWER("interpreter=4294967298 3.9.1\n"),
         "answer malformed: interpreter is out of range: \"4294967298 3.9.1\""},
        {ANSWER("interpreter=18446744073709551618 3.9.1\n"),
         "answer malformed: interpreter is too large: \"18446744073709551618 3.9.1\""},
        {ANSWER("interpreter=2 3.9.1\ninterpreter=3 3.9.1\ninterpreter=2 3.9.2\n"),
         "answer malformed: interpreter comes twice: \"2 3.9.2\""},
        {ANSWER("interpreter=8 3.9.1\ninterpreter=08 3.9.1\n"),
         "answer malformed: interpreter comes twice: \"08 3.9.1\""},
        {ANSWER("python=3.9.1\npython=3.9.1\n"), "answer malformed: python comes twice: \"3.9.1\""},
        {ANSWER("missing=pytest\n"), "answer malformed: missing is not a number: \"pytest\""},
        {ANSWER("missing=pytest xdist\n"), "answer malformed: missing is not a number: \"pytest xdist\""},
        {ANSWER("missing=1\n"), "answer malformed: missing says nothing: \"1\""},
        {ANSWER("missing=0 pytest\n"), "answer malformed: missing is out of range: \"0 pytest\""},
        {ANSWER("missing=9 pytest\n"), "answer malformed: missing is out of range: \"9 pytest\""},
        {ANSWER("missing=1 pytest\nmissing=1 xdist\n"), "answer malformed: missing comes twice: \"1 xdist\""},
        {ANSWER("quota=\n"), "answer malformed: quota has too few numbers: \"\""},
        {ANSWER("quota=max 100000\n"), "answer malformed: quota is not a number: \"max 100000\""},
        {ANSWER("quota=-1 100000\n"), "answer malformed: quota is not a number: \"-1 100000\""},
        {ANSWER("quota=100000\n"), "answer malformed: quota has too few numbers: \"100000\""},
        {ANSWER("quota=100000 \n"), "answer malformed: quota is not a number: \"100000 \""},
        {ANSWER("quota=100000  5\n"), "answer malformed: quota is not a number: \"100000  5\""},
        {ANSWER("quota=1 2 3\n"), "answer malformed: quota is not a number: \"1 2 3\""},
        {ANSWER("quota=100000 0\n"), "answer malformed: quota has a period of 0: \"100000 0\""},
        {ANSWER("quota=2 1\nquota=x 1\n"), "answer malformed: quota is not a number: \"x 1\""},
        {ANSWER("cgroup_mem=max 1 1\n"), "answer malformed: cgroup_mem is not a number: \"max 1 1\""},
        {ANSWER("cgroup_mem=1 1\n"), "answer malformed: cgroup_mem has too few numbers: \"1 1\""},
        {ANSWER("cgroup_mem=1 1 1 1\n"), "answer malformed: cgroup_mem is not a number: \"1 1 1 1\""},
        {ANSWER("cgroup_mem=1 18446744073709551616 1\n"),
         "answer malformed: cgroup_mem is too large: \"1 18446744073709551616 1\""},
        {ANSWER("lease=\n"), "answer malformed: lease has too few words: \"\""},
        {ANSWER("lease=4 100\n"), "answer malformed: lease has too few words: \"4 100\""},
        {ANSWER("lease=4 100 \n"), "answer malformed: lease does not say whose it is: \"4 100 \""},
        {ANSWER("lease=4 100 a b\n"), "answer malformed: lease does not say whose it is: \"4 100 a b\""},
        {ANSWER("lease=4 100 \033[2Ja\n"),
         "answer malformed: lease does not say whose it is: \"4 100 ?[2Ja\""},
        {ANSWER("lease=4 100 a@b%s\n"), "answer malformed: lease does not say whose it is: \"4 100 a@b%s\""},
        {ANSWER("lease=1 1 a@b\nlease=x 100 a@b\n"),
         "answer malformed: lease is not a number: \"x 100 a@b\""},
        {ANSWER("lease=4 -100 a@b\n"), "answer malformed: lease is not a number: \"4 -100 a@b\""},
        {ANSWER("lease=4  100 a@b\n"), "answer malformed: lease is not a number: \"4  100 a@b\""},
        {ANSWER("lease=0 100 a@b\n"), "answer malformed: lease is out of range: \"0 100 a@b\""},
        {ANSWER("lease=65537 100 a@b\n"), "answer malformed: lease is out of range: \"65537 100 a@b\""},
        {ANSWER("lease=4294967297 1 a@b\n"), "answer malformed: lease is out of range: \"4294967297 1 a@b\""},
        {ANSWER("lease=1 8796093022208 a@b\n"),
         "answer malformed: lease is too large: \"1 8796093022208 a@b\""},
        {ANSWER("lease=1 9223372036854775808 a@b\n"),
         "answer malformed: lease is too large: \"1 9223372036854775808 a@b\""},
        {ANSWER("lease=1 8796093022207 a@b\nlease=1 1 c\n"),
         "answer malformed: lease is too large: \"1 1 c\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_bad(cases[i].answer, strlen(cases[i].answer), cases[i].text);
}

/* Every way a number can be wrong, for every key that is one. */
static void test_bad_numbers(void **state)
{
    (void)state;
    static const char *const names[] = {"cores", "mem_total", "mem_available", "cores_online", "disk_free"};
    static const struct {
        const char *value, *wrong;
    } values[] = {
        {"", "is not a number"},
        {"-1", "is not a number"},
        {"+1", "is not a number"},
        {" 1", "is not a number"},
        {"1 ", "is not a number"},
        {"1e9", "is not a number"},
        {"0x10", "is not a number"},
        {"1.5", "is not a number"},
        {"1\xc2\xa0", "is not a number"},
        {"99999999999999999999z", "is not a number"},
        {"9223372036854775808", "is too large"},
        {"18446744073709551616", "is too large"},
        {"99999999999999999999", "is too large"},
        {"184467440737095516160000000000000000000000000000000000000", "is too large"},
    };
    static const char *const others[] = {"os=Linux\nmem_total=5\nmem_available=5\n",
                                         "os=Linux\ncores=1\nmem_available=5\n",
                                         "os=Linux\ncores=1\nmem_total=5\n", MANDATORY, MANDATORY};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            char answer[512], text[256];
            int len =
                snprintf(answer, sizeof answer, BEGIN "%s%s=%s\n" END, others[n], names[n], values[v].value);
            snprintf(text, sizeof text, "answer malformed: %s %s: \"%s\"", names[n], values[v].wrong,
                     values[v].value);
            assert_bad(answer, (size_t)len, text);
        }
    assert_bad(BEGIN "cores=0\n" END, strlen(BEGIN "cores=0\n" END),
               "answer malformed: cores is out of range: \"0\"");
    assert_bad(BEGIN "cores=65537\n" END, strlen(BEGIN "cores=65537\n" END),
               "answer malformed: cores is out of range: \"65537\"");
    assert_bad(BEGIN "cores=4294967297\n" END, strlen(BEGIN "cores=4294967297\n" END),
               "answer malformed: cores is out of range: \"4294967297\"");
    assert_bad(ANSWER("cores_online=0\n"), strlen(ANSWER("cores_online=0\n")),
               "answer malformed: cores_online is out of range: \"0\"");
}

static void test_nul(void **state)
{
    (void)state;
    static const char inside[] = BEGIN MANDATORY "home=/root\0/x\n" END;
    static const char in_key[] = BEGIN MANDATORY "\0\n" END;
    static const char only[] = "\0-\0\n";
    assert_bad(inside, sizeof inside - 1, "answer malformed: a NUL byte in it");
    assert_bad(in_key, sizeof in_key - 1, "answer malformed: a NUL byte in it");
    assert_bad(only, sizeof only - 1, "answer malformed: no facts in it (first line: ?-?)");

    static const char around[] = "noise\0\n" BEGIN MANDATORY END "\0";
    struct facts facts;
    struct error err = ERROR_INIT;
    assert_int_equal(parse_bytes(&facts, around, sizeof around - 1, &err), 0);
}

/* An answer cut anywhere is an error, never half an answer. */
static void test_cut(void **state)
{
    (void)state;
    static const char answer[] =
        ANSWER("quota=200000 100000\ncgroup_mem=9000 1000 500\nload1=0.5\nhome=/root\n");
    struct facts facts;
    for (size_t len = 0; len < sizeof answer - 2; len++) {
        struct error err = ERROR_INIT;
        assert_int_equal(parse_bytes(&facts, answer, len, &err), -1);
        assert_int_equal(err.status, STATUS_DATA);
    }
    struct error err = ERROR_INIT;
    assert_int_equal(parse_bytes(&facts, answer, sizeof answer - 2, &err), 0); /* but for the last newline */
}

static void test_first_error_wins(void **state)
{
    (void)state;
    struct facts facts;
    struct error err = ERROR_INIT;
    error_set(&err, STATUS_BUG, "before");
    assert_int_equal(parse(&facts, "x", &err), -1);
    assert_string_equal(err.text, "before");
    assert_int_equal(parse(&facts, "x", NULL), -1);
}

static void test_unknown_is_said(void **state)
{
    (void)state;
    struct facts f = good(BEGIN MANDATORY END);
    assert_int_equal(f.cores, 8);
    assert_int_equal(f.cores_online, 8);
    assert_int_equal(f.mem_total, 16000);
    assert_int_equal(f.mem_machine, 10000);
    assert_int_equal(f.mem_available, 10000);
    assert_true(f.load1 < 0);
    assert_true(f.disk_free == UINT64_MAX);
    assert_int_equal(f.target, TARGET_FOREIGN);
    assert_string_equal(f.os, "Linux");
    assert_string_equal(f.boot_id, "");
    assert_string_equal(f.login_id, "");
    assert_string_equal(f.release, "");
    assert_string_equal(f.arch, "");
    assert_string_equal(f.home, "");
    assert_string_equal(f.python, "");
    assert_string_equal(f.python_path, "");
    assert_string_equal(f.rsync, "");
    assert_int_equal(f.python_count, 0);
    for (size_t i = 0; i < FACTS_PYTHONS_MAX; i++)
        assert_string_equal(f.pythons[i], "");
    assert_string_equal(f.missing, "");
    assert_int_equal(f.lease_count, 0);
    assert_int_equal(f.lease_cores, 0);
    assert_int_equal(f.lease_mem, 0);
    assert_string_equal(f.lease_holder, "");
}

/* In whatever order they come, each has its place; those that are not there leave theirs empty. */
static void test_pythons(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        uint32_t count;
        const char *pythons[FACTS_PYTHONS_MAX];
        const char *missing;
        uint32_t missing_python;
    } cases[] = {
        {ANSWER("python=3.11.2\n"), 1, {"3.11.2"}, "", 0},
        {ANSWER("interpreter=8 3.8\n"), 8, {"", "", "", "", "", "", "", "3.8"}, "", 0},
        {ANSWER("interpreter=4 3.9.1\ninterpreter=2 3.10.1 (fast)\npython=3.11.2\n"),
         4,
         {"3.11.2", "3.10.1 (fast)", "", "3.9.1"},
         "",
         0},
        {ANSWER("python=3.11.2\nmissing=1 xdist\n"), 1, {"3.11.2"}, "xdist", 0},
        {ANSWER("missing=8 a\nmissing=3 b c.d\nmissing=5 e\n"), 0, {""}, "b c.d", 2},
        {ANSWER("missing=2 \033[31mx=y\xff\ninterpreter=2 \033c\n"), 2, {"", "?c"}, "?[31mx=y?", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct facts f = good(cases[i].answer);
        assert_int_equal(f.python_count, cases[i].count);
        for (size_t n = 0; n < FACTS_PYTHONS_MAX; n++)
            assert_string_equal(f.pythons[n], cases[i].pythons[n] ? cases[i].pythons[n] : "");
        assert_string_equal(f.missing, cases[i].missing);
        assert_int_equal(f.missing_python, cases[i].missing_python);
    }

    char answer[2048], text[1001] = "";
    memset(text, 'a', sizeof text - 1);
    snprintf(answer, sizeof answer, ANSWER("python=%.900s\n"), text);
    struct facts f = good(answer);
    assert_int_equal(strlen(f.pythons[0]), sizeof f.pythons[0] - 1);
    snprintf(answer, sizeof answer, ANSWER("interpreter=2 %s\nmissing=1 %.900s\n"), "\303\244", text);
    f = good(answer);
    assert_string_equal(f.pythons[1], "\303\244");
    assert_int_equal(strlen(f.missing), sizeof f.missing - 1);
}

static void test_all(void **state)
{
    (void)state;
    struct facts f = good("Welcome to node 7!\nk=v\ncores=99\n$ " /* the cursor left in mid-line */
                          ANSWER("cores_online=16\nquota=600000 100000\nload1=12.25\nboot_id=aa-bb\n"
                                 "login_id=ci@1:2\nrelease=6.1.0\narch=x86_64\nhome=/home/ci=x\n"
                                 "disk_free=9223372036854775807\ntarget=ours\npython=3.11.2\n"
                                 "python_path=/usr/bin/python3\nrsync=3.2.7\nfuture=1\nfuture=1\n=\n"
                                 "cgroup_mem=9223372036854771712 5 0\ncgroup_mem=9000 3000 500\n"
                                 "warning: something on stderr\n\n") "logout\ncores=1\n");
    assert_int_equal(f.cores, 6);
    assert_int_equal(f.cores_online, 16);
    assert_int_equal(f.mem_machine, 10000);
    assert_int_equal(f.mem_available, 6500);
    assert_true(f.load1 == 12.25);
    assert_true(f.disk_free == INT64_MAX);
    assert_int_equal(f.target, TARGET_OURS);
    assert_string_equal(f.boot_id, "aa-bb");
    assert_string_equal(f.login_id, "ci@1:2");
    assert_string_equal(f.release, "6.1.0");
    assert_string_equal(f.arch, "x86_64");
    assert_string_equal(f.home, "/home/ci=x");
    assert_string_equal(f.python, "3.11.2");
    assert_string_equal(f.python_path, "/usr/bin/python3");
    assert_string_equal(f.rsync, "3.2.7");
}

static void test_crlf(void **state)
{
    (void)state;
    struct facts f = good("hi\r\ncloudplan-facts " NONCE " 1\r\nos=Linux\r\ncores=2\r\nmem_total=5\r\r\n"
                          "mem_available=4\r\ntarget=absent\r\nquota=1 1\r\ncloudplan-end " NONCE "\r");
    assert_int_equal(f.cores, 1);
    assert_int_equal(f.mem_total, 5);
    assert_int_equal(f.target, TARGET_ABSENT);
    assert_string_equal(f.os, "Linux");
}

static void test_cores(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        uint32_t cores, online;
    } cases[] = {
        {ANSWER("quota=250000 100000\n"), 2, 8}, /* rounded down */
        {ANSWER("quota=99999 100000\n"), 1, 8},  /* at least 1 */
        {ANSWER("quota=0 100000\n"), 1, 8},
        {ANSWER("quota=1 9223372036854775807\n"), 1, 8},
        {ANSWER("quota=9223372036854775807 1\n"), 8, 8}, /* more than 32 bits */
        {ANSWER("quota=4294967297 1\n"), 8, 8},
        {ANSWER("quota=800000 100000\nquota=300000 100000\nquota=500000 100000\n"), 3, 8},
        {ANSWER("cores_online=4\n"), 8, 8}, /* the mask is the kernel's word */
        {ANSWER("cores_online=65536\n"), 8, 65536},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct facts f = good(cases[i].answer);
        assert_int_equal(f.cores, cases[i].cores);
        assert_int_equal(f.cores_online, cases[i].online);
    }
    assert_int_equal(good(BEGIN "os=a\ncores=0065536\nmem_total=1\nmem_available=0\n" END).cores, 65536);
}

static void test_memory(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        uint64_t machine, available;
    } cases[] = {
        {ANSWER("cgroup_mem=9000 1000 500\n"), 10000, 8500},
        {ANSWER("cgroup_mem=9000 1000 5000\n"), 10000, 9000}, /* inactive_file above usage */
        {ANSWER("cgroup_mem=900 1000 50\n"), 10000, 0},       /* usage above limit */
        {ANSWER("cgroup_mem=0 0 0\n"), 10000, 0},
        {ANSWER("cgroup_mem=9223372036854775807 0 9223372036854775807\n"), 10000, 10000},
        {ANSWER("cgroup_mem=20000 5000 0\n"), 10000, 10000}, /* the machine has less */
        {ANSWER("cgroup_mem=8000 1 0\ncgroup_mem=7000 1000 0\ncgroup_mem=9000 0 0\n"), 10000, 6000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct facts f = good(cases[i].answer);
        assert_int_equal(f.mem_machine, cases[i].machine);
        assert_int_equal(f.mem_available, cases[i].available);
    }
    struct facts f = good(BEGIN "os=Darwin\ncores=1\nmem_total=100\nmem_available=130\n" END);
    assert_int_equal(f.mem_machine, 100);
    assert_int_equal(f.mem_available, 100);
}

#define HOLDER_64 "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ@:"

static void test_leases(void **state)
{
    (void)state;
    struct facts f = good(ANSWER("lease=8 1000 jenkins@ci1\nlease=65536 0 " HOLDER_64 "\nlease=1 1 x\n"));
    assert_int_equal(f.lease_count, 3);
    assert_int_equal(f.lease_cores, 65545);
    assert_int_equal(f.lease_mem, 1001 * MIB);
    assert_string_equal(f.lease_holder, "jenkins@ci1");
    assert_string_equal(good(ANSWER("lease=1 1 " HOLDER_64 "\n")).lease_holder, HOLDER_64);
    assert_bad(ANSWER("lease=1 1 " HOLDER_64 "x\n"), strlen(ANSWER("lease=1 1 " HOLDER_64 "x\n")),
               "answer malformed: lease does not say whose it is: \"1 1 " HOLDER_64 "x\"");
    assert_int_equal(good(ANSWER("lease=1 8796093022206 x\nlease=1 1 x\n")).lease_mem, INT64_MAX - (MIB - 1));

    /* As many as an answer can hold, each of the most cores there are: no sum is passed over. */
    size_t lines = 8000;
    char *answer = malloc(lines * 16 + 256), *end = answer;
    assert_non_null(answer);
    end += sprintf(end, BEGIN MANDATORY);
    for (size_t i = 0; i < lines; i++)
        end += sprintf(end, "lease=65536 1 x\n");
    strcpy(end, END);
    f = good(answer);
    free(answer);
    assert_int_equal(f.lease_cores, 65536 * 8000);
    assert_int_equal(f.lease_mem, 8000 * MIB);
}

/* What a guard says becomes the only lease, or changes nothing. */
static void test_lease_instead(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "8",
                                      "8 1000",
                                      "8 1000 ",
                                      "0 1000 x",
                                      "65537 1000 x",
                                      "8 1000 x y",
                                      "8 1000 x\n",
                                      "8 1e3 x",
                                      "8 9223372036854775807 x",
                                      "\033 1 x"};
    struct facts f = good(ANSWER("lease=8 1000 jenkins@ci1\nlease=4 1 ci@ci2\n"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(facts_set_lease(&f, bad[i], &err), -1);
        assert_int_equal(err.status, STATUS_DATA);
        assert_memory_equal(err.text, "answer malformed: lease ", 24);
        assert_int_equal(f.lease_count, 2);
        assert_int_equal(f.lease_cores, 12);
        assert_int_equal(f.lease_mem, 1001 * MIB);
        assert_string_equal(f.lease_holder, "jenkins@ci1");
    }
    assert_int_equal(facts_set_lease(&f, "6 3000 ci@ci3", NULL), 0);
    assert_int_equal(f.lease_count, 1);
    assert_int_equal(f.lease_cores, 6);
    assert_int_equal(f.lease_mem, 3000 * MIB);
    assert_string_equal(f.lease_holder, "ci@ci3");
    assert_int_equal(f.cores, 8);
}

static void test_text_is_cleaned_and_cut(void **state)
{
    (void)state;
    struct facts f = good(ANSWER("release=\033[31m\xff\303\244\nhome=\t/x\rz\n"));
    assert_string_equal(f.release, "?[31m?\303\244");
    assert_string_equal(f.home, "?/x?z");

    char answer[2048], text[1001], cut[512];
    memset(text, 'a', sizeof text - 1);
    text[1000] = '\0';
    snprintf(answer, sizeof answer, ANSWER("home=%s\n"), text);
    f = good(answer);
    memset(cut, 'a', sizeof cut - 1);
    cut[511] = '\0';
    assert_string_equal(f.home, cut);

    memcpy(text + 510, "\303\244", 2); /* not within a character */
    cut[510] = '\0';
    snprintf(answer, sizeof answer, ANSWER("home=%s\n"), text);
    f = good(answer);
    assert_string_equal(f.home, cut);

    memset(text, 0x80, sizeof text - 1);
    snprintf(answer, sizeof answer, ANSWER("arch=%s\n"), text);
    memset(cut, '?', 60);
    cut[60] = '\0';
    assert_string_equal(good(answer).arch, cut); /* no UTF-8: some of it is shown all the same */
}

static void test_allocates_nothing(void **state)
{
    (void)state;
    struct facts facts;
    struct error err = ERROR_INIT;
    static const char answer[] =
        ANSWER("quota=200000 100000\nhome=/root\ninterpreter=2 3.9\nmissing=2 xdist\n"
               "lease=1 1 x\n");
    alloc_fail_at(1);
    int result = facts_parse(&facts, answer, sizeof answer - 1, NONCE, &err);
    bool failed = alloc_has_failed();
    alloc_fail_at(0);
    assert_int_equal(result, 0);
    assert_false(failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bad_numbers),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_unknown_is_said),
        cmocka_unit_test(test_pythons),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_crlf),
        cmocka_unit_test(test_cores),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_lease_instead),
        cmocka_unit_test(test_text_is_cleaned_and_cut),
        cmocka_unit_test(test_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
