/* What is printed: the JSON document to the letter, the other formats, and streams that cannot be written. */
#include "report/report.h"
#include "ssh/sshconf.h"

#include "alloc.h"

#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct sshconf conf = {.hostname = (char *)"10.0.0.2", .user = (char *)"deploy", .port = 2200};

static struct node_list sample(void)
{
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    if (node_list_add_words(&list, "ci@10.0.0.1:2222 alias : [::1]:22 gone odd", &err))
        fail_msg("%s", err.text);
    struct node *n = list.nodes;
    for (size_t i = 0; i < list.count; i++)
        n[i].facts = (struct facts){.load1 = -1, .disk_free = UINT64_MAX};

    n[0].has_facts = true;
    n[0].facts = (struct facts){.cores = 8,
                                .cores_online = 16,
                                .mem_total = 16777216000,
                                .mem_machine = 12884901888,
                                .mem_available = 5368709120,
                                .load1 = 0.5,
                                .disk_free = 85594030080,
                                .boot_id = "1b9b",
                                .login_id = "not shown",
                                .os = "Linux",
                                .release = "6.1",
                                .arch = "x86_64",
                                .home = "/home/ci",
                                .python = "3.11.2",
                                .python_path = "/usr/bin/python3",
                                .rsync = "3.2.7",
                                .pythons = {"3.11.2"},
                                .python_count = 2,
                                .lease_holder = "ci@one"};
    node_set(&n[0], NODE_READY, "%s", "");
    n[0].processes = 5;
    n[0].limited_by = TERM_MEMORY;

    n[1].has_facts = true;
    n[1].conf = &conf;
    n[1].facts.cores = n[1].facts.cores_online = FACTS_CORES_MAX;
    n[1].facts.mem_total = n[1].facts.mem_machine = n[1].facts.mem_available = INT64_MAX;
    node_set(&n[1], NODE_READY, "%s", "");
    snprintf(n[1].fallback, sizeof n[1].fallback, "ProxyJump");
    n[1].processes = 3;
    n[1].limited_by = TERM_MAX_PROCESSES;

    n[2].has_facts = true;
    n[2].facts.cores = 1;
    node_set(&n[2], NODE_UNFIT, "too little memory: \"%s\"", "\xc3\xbc");
    n[2].limited_by = TERM_MEMORY;
    node_set(&n[3], NODE_REFUSED, "host key unknown");
    node_set(&n[4], NODE_OFFLINE, "a\nb\033[31m\xff");
    node_set(&n[5], NODE_FAILED, "answer malformed");
    return list;
}

static char *const tx[] = {(char *)"ssh=ci@10.0.0.1//id=1_0", (char *)"popen//id=2", NULL};
static char *const logins[] = {(char *)"5/ci@10.0.0.1:2222", (char *)"3/:", NULL};

#define FACTS(cores, online, total, machine, available, words, load, disk)                                   \
    "{\"cores\": " cores ", \"cores_online\": " online ", \"mem_total\": " total                             \
    ", \"mem_machine\": " machine ", \"mem_available\": " available ", " words ", \"load1\": " load          \
    ", \"disk_free\": " disk "}"
#define NO_WORDS                                                                                             \
    "\"boot_id\": \"\", \"os\": \"\", \"release\": \"\", \"arch\": \"\", \"home\": \"\", \"python\": \"\", " \
    "\"rsync\": \"\", \"pythons\": []"
#define BIG "9223372036854775807"

static const char document[] =
    "{\"version\": 1, \"processes\": 8, \"nodes\": ["
    "{\"name\": \"ci@10.0.0.1:2222\", \"host\": \"10.0.0.1\", \"user\": \"ci\", \"port\": 2222, \"state\": "
    "\"ready\","
    " \"reason\": null, \"processes\": 5, \"limited_by\": \"memory\", \"leased_by\": \"ci@one\", "
    "\"facts\": " FACTS(
        "8", "16", "16777216000", "12884901888", "5368709120",
        "\"boot_id\": \"1b9b\", \"os\": \"Linux\", \"release\": \"6.1\", \"arch\": \"x86_64\", \"home\": "
        "\"/home/ci\","
        " \"python\": \"3.11.2\", \"rsync\": \"3.2.7\", \"pythons\": [\"3.11.2\", \"\"]",
        "0.5",
        "85594030080") "}, "
                       "{\"name\": \"alias\", \"host\": \"alias\", \"user\": \"deploy\", \"port\": 2200, "
                       "\"state\": \"ready\","
                       " \"reason\": null, \"processes\": 3, \"limited_by\": \"max-processes\", "
                       "\"leased_by\": null, \"facts\": " FACTS(
                           "65536", "65536", BIG, BIG, BIG, NO_WORDS, "null",
                           "null") "}, "
                                   "{\"name\": \":\", \"host\": \"localhost\", \"user\": null, \"port\": "
                                   "null, \"state\": \"unfit\","
                                   " \"reason\": \"too little memory: \\\"\\u00fc\\\"\", \"processes\": 0, "
                                   "\"limited_by\": \"memory\", \"leased_by\": null, \"facts\": " FACTS(
                                       "1", "0", "0", "0", "0", NO_WORDS, "null",
                                       "null") "}, "
                                               "{\"name\": \"[::1]:22\", \"host\": \"::1\", \"user\": null, "
                                               "\"port\": 22, \"state\": \"refused\","
                                               " \"reason\": \"host key unknown\", \"processes\": 0, "
                                               "\"limited_by\": null, \"leased_by\": null, \"facts\": null}, "
                                               "{\"name\": \"gone\", \"host\": \"gone\", \"user\": null, "
                                               "\"port\": null, \"state\": \"offline\","
                                               " \"reason\": \"a?b?[31m?\", \"processes\": 0, "
                                               "\"limited_by\": null, \"leased_by\": null, \"facts\": null}, "
                                               "{\"name\": \"odd\", \"host\": \"odd\", \"user\": null, "
                                               "\"port\": null, \"state\": \"failed\","
                                               " \"reason\": \"answer malformed\", \"processes\": 0, "
                                               "\"limited_by\": null, \"leased_by\": null, \"facts\": null}"
                                               "], \"tx\": [\"ssh=ci@10.0.0.1//id=1_0\", \"popen//id=2\"]}";

/* The same members in the same order: both are written anew in one form. */
static char *normal(const char *text)
{
    json_error_t why;
    json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (!value)
        fail_msg("%s at %d: %s", why.text, why.position, text);
    char *copy = json_dumps(value, JSON_INDENT(1));
    json_decref(value);
    return copy;
}

static void test_json(void **state)
{
    (void)state;
    struct node_list list = sample(), empty = NODE_LIST_INIT;
    char *text = report_json(&list, tx);
    assert_non_null(text);
    char *got = normal(text), *expected = normal(document);
    assert_string_equal(got, expected);
    free(text);
    free(got);
    free(expected);
    text = report_json(&empty, NULL);
    assert_non_null(text);
    got = normal(text);
    expected = normal("{\"version\": 1, \"processes\": 0, \"nodes\": [], \"tx\": []}");
    assert_string_equal(got, expected);
    free(text);
    free(got);
    free(expected);
    node_list_clear(&list);
}

/* jansson's own allocations are not the linker's to catch: they come through its hook. */
static void *hooked(size_t size)
{
    return malloc(size);
}

static void test_json_allocations(void **state)
{
    (void)state;
    struct node_list list = sample();
    char *whole = report_json(&list, tx);
    assert_non_null(whole);
    size_t refused = 0;
    json_set_alloc_funcs(hooked, free);
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        char *text = report_json(&list, tx);
        /* From 2.15 on jansson tries to make a finished text smaller, and can do without. */
        if (text)
            assert_string_equal(text, whole);
        else
            assert_true(alloc_has_failed());
        refused += !text;
        free(text);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(refused > 50);
    free(whole);
    node_list_clear(&list);
}

/* Standard output and standard error of a function, as text. */
static char captured[2][16384];

static FILE *diverted[2];
static int saved[2];

static void divert(void)
{
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        diverted[i] = tmpfile();
        assert_non_null(diverted[i]);
        saved[i] = dup(i + 1);
        dup2(fileno(diverted[i]), i + 1);
    }
}

static void restore(void)
{
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
        rewind(diverted[i]);
        size_t n = fread(captured[i], 1, sizeof captured[i] - 1, diverted[i]);
        captured[i][n] = '\0';
        fclose(diverted[i]);
    }
}

static int nodes(const struct report_params *params, const struct node_list *list, bool to_stderr,
                 struct error *err)
{
    struct report *report = report_create(params);
    assert_non_null(report);
    divert();
    int result = report_nodes(report, list, tx, logins, to_stderr, err);
    restore();
    report_destroy(report);
    return result;
}

static void test_formats(void **state)
{
    (void)state;
    struct node_list list = sample();
    struct error err = ERROR_INIT;
    static const char table[] =
        "NODE              STATE    CORES     MEMORY  PROCESSES  LIMITED BY     REASON\n"
        "ci@10.0.0.1:2222  ready        8    5.0 GiB          5  memory         \n"
        "alias             ready    65536    8.0 EiB          3  max-processes  \n"
        ":                 unfit        1        0 B          -  memory         too little memory: "
        "\"\xc3\xbc\"\n"
        "[::1]:22          refused      -          -          -  -              host key unknown\n"
        "gone              offline      -          -          -  -              a?b?[31m?\n"
        "odd               failed       -          -          -  -              answer malformed\n";
    assert_int_equal(nodes(&(struct report_params){.format = FORMAT_TABLE}, &list, false, &err), 0);
    assert_string_equal(captured[0], table);
    assert_string_equal(captured[1], "");
    /* For run: on standard error, always the table. */
    assert_int_equal(nodes(&(struct report_params){.format = FORMAT_JSON}, &list, true, &err), 0);
    assert_string_equal(captured[0], "");
    assert_string_equal(captured[1], table);
    assert_int_equal(nodes(&(struct report_params){.quiet = true}, &list, true, &err), 0);
    assert_string_equal(captured[1], "");
    assert_int_equal(
        nodes(&(struct report_params){.format = FORMAT_TX, .word_option = "--tx="}, &list, false, &err), 0);
    assert_string_equal(captured[0], "--tx=ssh=ci@10.0.0.1//id=1_0\n--tx=popen//id=2\n");
    assert_int_equal(nodes(&(struct report_params){.format = FORMAT_SSHLOGIN}, &list, false, &err), 0);
    assert_string_equal(captured[0], "5/ci@10.0.0.1:2222\n3/:\n");
    assert_int_equal(nodes(&(struct report_params){.format = FORMAT_JSON, .quiet = true}, &list, false, &err),
                     0);
    char *text = report_json(&list, tx);
    size_t len = strlen(text);
    assert_memory_equal(captured[0], text, len);
    assert_string_equal(captured[0] + len, "\n");
    free(text);
    node_list_clear(&list);
}

static void test_unwritable(void **state)
{
    (void)state;
    struct node_list list = sample();
    static const enum format formats[] = {FORMAT_TABLE, FORMAT_JSON, FORMAT_TX, FORMAT_SSHLOGIN};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const struct report_params params = {.format = formats[i]};
        struct report *report = report_create(&params);
        struct error err = ERROR_INIT;
        int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        assert_true(full >= 0);
        divert();
        dup2(full, 1);
        int result = report_nodes(report, &list, tx, logins, false, &err);
        restore();
        clearerr(stdout);
        close(full);
        assert_int_equal(result, -1);
        assert_int_equal(err.status, STATUS_SYSTEM);
        assert_string_equal(err.text, "standard output: No space left on device");
        report_destroy(report);
    }
    node_list_clear(&list);
}

static void test_dropped(void **state)
{
    (void)state;
    struct node_list list = sample();
    for (unsigned verbose = 0; verbose < 2; verbose++) {
        const struct report_params params = {.verbose = verbose, .quiet = !verbose};
        struct report *report = report_create(&params);
        divert();
        report_dropped(report, &list);
        report_dropped(report, &list); /* is known already */
        restore();
        char expected[1000];
        snprintf(expected, sizeof expected,
                 "%scloudplan: this machine is left out (unfit): too little memory: \"\xc3\xbc\"\n"
                 "cloudplan: [::1]:22 is left out (refused): host key unknown\n"
                 "cloudplan: gone is left out (offline): a?b?[31m?\n"
                 "cloudplan: odd is left out (failed): answer malformed\n",
                 verbose ? "cloudplan: alias was asked by the OpenSSH client: ProxyJump\n" : "");
        assert_string_equal(captured[0], "");
        assert_string_equal(captured[1], expected);

        /* Another reason is news, and so is the same one after the node was ready in between. */
        struct node *gone = &list.nodes[4];
        char reason[sizeof gone->reason];
        strcpy(reason, gone->reason);
        divert();
        node_set(gone, NODE_FAILED, "%s", "sync failed");
        report_dropped(report, &list);
        node_set(gone, NODE_READY, "%s", "");
        report_dropped(report, &list);
        node_set(gone, NODE_FAILED, "%s", "sync failed");
        report_dropped(report, &list);
        restore();
        assert_string_equal(captured[1], "cloudplan: gone is left out (failed): sync failed\n"
                                         "cloudplan: gone is left out (failed): sync failed\n");
        node_set(gone, NODE_OFFLINE, "%s", reason);
        report_destroy(report);
    }
    node_list_clear(&list);
}

/* Without memory for what was said it is said again. */
static void test_dropped_without_memory(void **state)
{
    (void)state;
    struct node_list list = sample();
    const struct report_params params = {0};
    for (ALLOC_EACH(n)) {
        struct report *report = report_create(&params);
        assert_non_null(report);
        divert();
        alloc_fail_at(n);
        report_dropped(report, &list);
        restore();
        assert_non_null(strstr(captured[1], "this machine is left out"));
        assert_non_null(strstr(captured[1], "odd is left out"));
        report_destroy(report);
    }
    node_list_clear(&list);
}

/* Off a terminal: notes, but no progress line in the first seconds; hostile numbers do no harm. */
static void test_progress(void **state)
{
    (void)state;
    struct node_list list = sample();
    static const struct sync_progress all[] = {
        {0, 0, 0, 0, 0, 0},
        {1, 2, 3, 1, UINT64_MAX, INT64_MAX},
        {1, 2, 3, UINT64_MAX, UINT64_MAX, 1},
        {1, 0, 3, 1024, 4096, 1000},
        {SIZE_MAX, SIZE_MAX, SIZE_MAX, UINT64_MAX - 1, UINT64_MAX, INT64_MAX},
    };
    for (int quiet = 0; quiet < 2; quiet++) {
        const struct report_params params = {.quiet = quiet};
        struct report *report = report_create(&params);
        divert();
        report_note(report, "a %s\033[31m", "note");
        report_probe_progress(report, &list, 3);
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            report_sync_progress(report, &all[i]);
        report_progress_end(report);
        restore();
        report_destroy(report);
        assert_string_equal(captured[0], "");
        assert_string_equal(captured[1], quiet ? "" : "cloudplan: a note?[31m\n");
    }
    report_destroy(NULL);
    node_list_clear(&list);
}

static void test_create_without_memory(void **state)
{
    (void)state;
    alloc_fail_at(1);
    struct report *report = report_create(&(struct report_params){.quiet = true});
    alloc_fail_at(0);
    assert_null(report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),     cmocka_unit_test(test_json_allocations),
        cmocka_unit_test(test_formats),  cmocka_unit_test(test_unwritable),
        cmocka_unit_test(test_dropped),  cmocka_unit_test(test_dropped_without_memory),
        cmocka_unit_test(test_progress), cmocka_unit_test(test_create_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
