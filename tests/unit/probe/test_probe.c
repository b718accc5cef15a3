/* The loop over all nodes, with conversations that go by a script. */
#include "base/child.h"
#include "probe/probe.h"

#include "alloc.h"
#include "fake_transport.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define PATIENT_MS 60000 /* a time-out that no test is to reach */
static const char *const python311[] = {"python3.11", NULL};

#define USABLE "os=Linux\ncores=4\nmem_total=1000\nmem_available=900\n"

static size_t progress_calls, progress_done;

static void progress(void *arg, const struct node_list *list, size_t done)
{
    (void)list;
    assert_ptr_equal(arg, &progress_calls);
    assert_true(done > progress_done);
    progress_calls++;
    progress_done = done;
}

static int probe(struct node_list *list, struct fake_stage *stage, int timeout_ms, struct error *err)
{
    const struct probe_params params = {
        .timeout_ms = timeout_ms,
        .required.chdir = "copy",
        .required.pythons = python311,
        .nonce = "7f3a",
        .progress = progress,
        .progress_arg = &progress_calls,
        .open = fake_open,
        .open_arg = stage,
    };
    progress_calls = progress_done = 0;
    if (fake_stage_begin(stage))
        return error_set(err, STATUS_BUG, "no eventfd");
    int result = probe_run(list, &params, err);
    fake_stage_end(stage);
    if (stage->open_now)
        return error_set(err, STATUS_BUG, "a conversation was left open");
    return result;
}

static struct node_list nodes(const char *words)
{
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    if (node_list_add_words(&list, words, &err))
        fail_msg("%s", err.text);
    return list;
}

static size_t open_descriptors(void)
{
    size_t n = 0;
    DIR *fds = opendir("/proc/self/fd");
    while (readdir(fds))
        n++;
    closedir(fds);
    return n;
}

/* One node, one act or two: how it ends. */
static void test_ends(void **state)
{
    (void)state;
    static const struct {
        const char *node;
        struct fake_act acts[2];
        enum node_state state;
        const char *reason;
        const char *fallback;
        size_t opened;
    } table[] = {
        /* not begun */
        {"a", {{.end = FAKE_NOT_OPENED, .text = "fork: no"}}, NODE_FAILED, "fork: no", "", 1},
        /* failed, in every phase */
        {"a",
         {{.phase = FAKE_CONNECTING, .end = FAKE_FAILS, .state = NODE_OFFLINE, .text = "gone"}},
         NODE_OFFLINE,
         "gone",
         "",
         1},
        {"a",
         {{.phase = FAKE_AUTHENTICATING, .end = FAKE_FAILS, .state = NODE_REFUSED, .text = "not you"}},
         NODE_REFUSED,
         "not you",
         "",
         1},
        {"a",
         {{.phase = FAKE_ANSWERING, .end = FAKE_FAILS, .state = NODE_FAILED, .text = "a\033b%s"}},
         NODE_FAILED,
         "a?b%s",
         "",
         1},
        /* silent */
        {"a",
         {{.phase = FAKE_CONNECTING, .end = FAKE_SILENT}},
         NODE_OFFLINE,
         "timed out after 0 s while connecting",
         "",
         1},
        {"a",
         {{.phase = FAKE_AUTHENTICATING, .end = FAKE_SILENT}},
         NODE_OFFLINE,
         "timed out after 0 s while authenticating",
         "",
         1},
        {"a",
         {{.phase = FAKE_ANSWERING, .end = FAKE_SILENT}},
         NODE_OFFLINE,
         "timed out after 0 s while waiting for the answer",
         "",
         1},
        /* malformed */
        {"a", {{.end = FAKE_SAYS, .text = ""}}, NODE_FAILED, "no answer", "", 1},
        {"a",
         {{.end = FAKE_SAYS, .text = "This account is not available.\n"}},
         NODE_FAILED,
         "answer malformed: no facts in it (first line: This account is not available.)",
         "",
         1},
        {"a", {{.end = FAKE_ANSWERS, .text = USABLE "cores=1e9\n"}}, NODE_FAILED, NULL, "", 1},
        /* unfit */
        {"a",
         {{.end = FAKE_ANSWERS, .text = USABLE "rsync=3\ntarget=absent\n"}},
         NODE_UNFIT,
         "python is missing: no python3.11 on the node",
         "",
         1},
        {":",
         {{.end = FAKE_ANSWERS, .text = USABLE}},
         NODE_UNFIT,
         "python is missing: no python3.11 on the node",
         "",
         1},
        {"a",
         {{.end = FAKE_ANSWERS, .text = USABLE "python=3\ntarget=absent\n"}},
         NODE_UNFIT,
         "rsync is missing on the node",
         "",
         1},
        {"a",
         {{.end = FAKE_ANSWERS, .text = USABLE "python=3\nrsync=3\n"}},
         NODE_UNFIT,
         "copy exists there and was not made by cloudplan: remove it, or choose another --cloud-chdir",
         "",
         1},
        /* ready */
        {":", {{.end = FAKE_ANSWERS, .text = USABLE "python=3\n"}}, NODE_READY, "", "", 1},
        {"a", {{.phase = FAKE_ANSWERING, .end = FAKE_ANSWERS}}, NODE_READY, "", "", 1},
        {"a",
         {{.end = FAKE_ANSWERS, .text = USABLE "python=3\nrsync=3\ntarget=ours\n"}},
         NODE_READY,
         "",
         "",
         1},
        /* by the other way */
        {"a",
         {{.end = FAKE_FALLS_BACK, .text = "no ProxyJump", .times = 1}, {.end = FAKE_ANSWERS}},
         NODE_READY,
         "",
         "no ProxyJump",
         2},
        {"a",
         {{.phase = FAKE_AUTHENTICATING, .end = FAKE_FALLS_BACK, .text = "RSA", .times = 1},
          {.end = FAKE_FAILS, .state = NODE_REFUSED, .text = "no"}},
         NODE_REFUSED,
         "no",
         "RSA",
         2},
        {"a",
         {{.end = FAKE_FALLS_BACK, .text = "RSA", .times = 1}, {.end = FAKE_NOT_OPENED, .text = "ssh: no"}},
         NODE_FAILED,
         "ssh: no",
         "RSA",
         2},
        {"a",
         {{.end = FAKE_FALLS_BACK, .text = "RSA", .times = 1}, {.end = FAKE_SILENT}},
         NODE_OFFLINE,
         "timed out after 0 s while connecting",
         "RSA",
         2},
        /* again */
        {"a",
         {{.end = FAKE_DROPPED, .state = NODE_OFFLINE, .text = "cut", .times = 2}, {.end = FAKE_ANSWERS}},
         NODE_READY,
         "",
         "",
         3},
        {"a",
         {{.end = FAKE_DROPPED, .state = NODE_OFFLINE, .text = "cut", .times = 1},
          {.end = FAKE_FAILS, .state = NODE_REFUSED, .text = "no"}},
         NODE_REFUSED,
         "no",
         "",
         2},
    };
    size_t before = open_descriptors();
    for (size_t i = 0; i < COUNT(table); i++) {
        struct fake_act acts[2];
        memcpy(acts, table[i].acts, sizeof acts);
        bool silent = acts[0].end == FAKE_SILENT || acts[1].end == FAKE_SILENT;
        struct fake_stage stage = {.acts = acts, .count = 2};
        struct node_list list = nodes(table[i].node);
        struct error err = ERROR_INIT;
        if (probe(&list, &stage, silent ? 50 : PATIENT_MS, &err))
            fail_msg("%s", err.text);
        const struct node *node = &list.nodes[0];
        if (table[i].reason)
            assert_string_equal(node->reason, table[i].reason);
        assert_int_equal(node->state, table[i].state);
        assert_string_equal(node->fallback, table[i].fallback);
        assert_int_equal(stage.opened, table[i].opened);
        assert_int_equal(stage.fallbacks, *table[i].fallback ? 1 : 0);
        assert_int_equal(node->has_facts, table[i].state == NODE_READY || table[i].state == NODE_UNFIT);
        assert_int_equal(progress_calls, 1);
        assert_int_equal(progress_done, 1);
        node_list_clear(&list);
    }
    assert_int_equal(open_descriptors(), before);
}

/* A node that is dropped each time is given up within its deadline, with the reason of the last try. */
static void test_given_up(void **state)
{
    (void)state;
    struct fake_act acts[] = {{.end = FAKE_DROPPED, .state = NODE_OFFLINE, .text = "cut"}};
    struct fake_stage stage = {.acts = acts, .count = 1};
    struct node_list list = nodes("a");
    struct error err = ERROR_INIT;
    long long begin = clock_ms();
    assert_int_equal(probe(&list, &stage, 1000, &err), 0);
    assert_true(clock_ms() - begin < 20000);
    assert_int_equal(list.nodes[0].state, NODE_OFFLINE);
    assert_string_equal(list.nodes[0].reason, "cut");
    assert_true(stage.opened > 1 && stage.opened < 10);
    node_list_clear(&list);
}

static void test_every_node_at_once(void **state)
{
    (void)state;
    struct fake_act acts[] = {
        {.host = "n7", .phase = FAKE_AUTHENTICATING, .end = FAKE_FAILS, .state = NODE_REFUSED, .text = "no"},
        {.host = "n8", .end = FAKE_FALLS_BACK, .text = "RSA", .times = 1},
        {.phase = FAKE_ANSWERING, .end = FAKE_ANSWERS},
    };
    struct fake_stage stage = {.acts = acts, .count = COUNT(acts), .together = 100};
    struct node_list list = nodes("n{1..99} :");
    struct error err = ERROR_INIT;
    if (probe(&list, &stage, PATIENT_MS, &err))
        fail_msg("%s", err.text);
    assert_int_equal(stage.open_most, 100);
    assert_int_equal(stage.opened, 101);
    assert_int_equal(progress_calls, 100);
    assert_int_equal(progress_done, 100);
    for (size_t i = 0; i < list.count; i++)
        assert_int_equal(list.nodes[i].state, !strcmp(list.nodes[i].host, "n7") ? NODE_REFUSED : NODE_READY);
    assert_int_equal(node_list_ready(&list), 99);
    node_list_clear(&list);
}

/* A silent node keeps nobody waiting but for its own deadline. */
static void test_slow_one(void **state)
{
    (void)state;
    struct fake_act acts[] = {{.host = "n3", .end = FAKE_SILENT}, {.end = FAKE_ANSWERS}};
    struct fake_stage stage = {.acts = acts, .count = COUNT(acts)};
    struct node_list list = nodes("n{1..5}");
    struct error err = ERROR_INIT;
    assert_int_equal(probe(&list, &stage, 300, &err), 0);
    assert_int_equal(node_list_ready(&list), 4);
    assert_string_equal(list.nodes[2].reason, "timed out after 0 s while connecting");
    node_list_clear(&list);
}

/* Waiting costs nothing: a loop that spins would use the processor all the time. */
static void test_waits_quietly(void **state)
{
    (void)state;
    struct fake_act acts[] = {{.end = FAKE_SILENT}};
    struct fake_stage stage = {.acts = acts, .count = 1};
    struct node_list list = nodes("n{1..5}");
    struct error err = ERROR_INIT;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    assert_int_equal(probe(&list, &stage, 1500, &err), 0);
    getrusage(RUSAGE_SELF, &after);
    struct timeval used;
    timersub(&after.ru_utime, &before.ru_utime, &used);
    assert_true(used.tv_sec == 0 && used.tv_usec < 500000);
    node_list_clear(&list);
}

static void test_nobody(void **state)
{
    (void)state;
    struct fake_stage stage = {.count = 0};
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(probe(&list, &stage, PATIENT_MS, &err), 0);
    /* Those that have a state already are not asked. */
    list = nodes("a b");
    node_set(&list.nodes[0], NODE_FAILED, "its ssh_config is wrong");
    struct fake_act acts[] = {{.host = "b", .end = FAKE_ANSWERS}};
    stage = (struct fake_stage){.acts = acts, .count = 1};
    assert_int_equal(probe(&list, &stage, PATIENT_MS, &err), 0);
    assert_string_equal(list.nodes[0].reason, "its ssh_config is wrong");
    assert_int_equal(list.nodes[1].state, NODE_READY);
    assert_int_equal(progress_done, 2);
    node_list_clear(&list);
}

/* In a process of its own: the limit and the signal stay. */
static int in_own_process(int (*function)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        _exit(function());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int few_descriptors(void)
{
    const struct rlimit limit = {64, 64};
    struct fake_act acts[] = {
        {.host = "n9", .end = FAKE_NOT_OPENED, .text = "no"},
        {.host = "n10", .end = FAKE_FAILS, .state = NODE_OFFLINE, .text = "no"},
        {.phase = FAKE_ANSWERING, .end = FAKE_ANSWERS},
    };
    struct fake_stage stage = {.acts = acts, .count = COUNT(acts)};
    struct node_list list = nodes("n{1..60}");
    struct error err = ERROR_INIT;
    if (setrlimit(RLIMIT_NOFILE, &limit) || probe(&list, &stage, PATIENT_MS, &err))
        return 1;
    return stage.open_most >= 2 && stage.open_most <= 8 && node_list_ready(&list) == 58 &&
                   progress_calls == 60
               ? 0
               : 2;
}

static int signal_comes(void)
{
    struct fake_act acts[] = {{.host = "n2", .phase = FAKE_AUTHENTICATING, .end = FAKE_RAISES},
                              {.host = "n1", .end = FAKE_ANSWERS},
                              {.end = FAKE_SILENT}};
    struct fake_stage stage = {.acts = acts, .count = COUNT(acts)};
    struct node_list list = nodes("n{1..9}");
    struct error err = ERROR_INIT;
    if (probe(&list, &stage, PATIENT_MS, &err) != -1)
        return 1;
    return err.status == STATUS_SIGNAL + SIGTERM && !strcmp(err.text, "Terminated while asking the nodes")
               ? 0
               : 2;
}

static void test_own_process(void **state)
{
    (void)state;
    assert_int_equal(in_own_process(few_descriptors), 0);
    assert_int_equal(in_own_process(signal_comes), 0);
}

static void test_allocations(void **state)
{
    (void)state;
    size_t before = open_descriptors();
    for (ALLOC_EACH(n)) {
        struct fake_act acts[] = {{.host = "a", .end = FAKE_FALLS_BACK, .text = "RSA", .times = 1},
                                  {.phase = FAKE_ANSWERING, .end = FAKE_ANSWERS}};
        struct fake_stage stage = {.acts = acts, .count = COUNT(acts)};
        struct node_list list = nodes("a b");
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = probe(&list, &stage, PATIENT_MS, &err);
        bool failed = alloc_has_failed();
        if (result)
            assert_int_equal(err.status, STATUS_SYSTEM);
        else
            assert_true((node_list_ready(&list) == 2) == !failed);
        for (size_t i = 0; i < list.count && result == 0; i++)
            assert_true(list.nodes[i].state != NODE_PENDING);
        node_list_clear(&list);
    }
    assert_int_equal(open_descriptors(), before);
}

/* Not one interpreter, and more than there is room for: no node is asked. */
static void test_number_of_interpreters(void **state)
{
    (void)state;
    static const char *const nine[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", NULL};
    for (size_t i = 0; i < 2; i++) {
        struct node_list list = nodes("a");
        struct fake_stage stage = {.count = 0};
        struct error err = ERROR_INIT;
        const struct probe_params params = {.timeout_ms = PATIENT_MS,
                                            .required.chdir = "copy",
                                            .required.pythons = i ? nine : nine + COUNT(nine) - 1,
                                            .nonce = "7f3a",
                                            .open = fake_open,
                                            .open_arg = &stage};
        assert_int_equal(probe_run(&list, &params, &err), -1);
        assert_int_equal(err.status, STATUS_BUG);
        assert_int_equal(stage.opened, 0);
        node_list_clear(&list);
    }
}

/* Names that a shell would make something of come to the node as they are. */
static void test_interpreters_and_modules(void **state)
{
    (void)state;
    static const char *const pythons[] = {"python3", "no 'such' $(python)\\", "python3", NULL};
    const struct probe_params params = {.timeout_ms = PATIENT_MS,
                                        .required.chdir = "co'py",
                                        .required.pythons = pythons,
                                        .required.modules = "sys no_such.module 'quoted'",
                                        .nonce = "7f3a"};
    struct node_list list = nodes(":");
    struct error err = ERROR_INIT;
    if (probe_run(&list, &params, &err))
        fail_msg("%s", err.text);
    const struct facts *facts = &list.nodes[0].facts;
    assert_int_equal(list.nodes[0].state, NODE_UNFIT);
    assert_string_equal(list.nodes[0].reason, "python is missing: no no 'such' $(python)\\ on the node");
    assert_int_equal(facts->python_count, 3);
    assert_int_not_equal(facts->pythons[0][0], '\0');
    assert_string_equal(facts->pythons[0], facts->python);
    assert_string_equal(facts->pythons[2], facts->python);
    assert_string_equal(facts->missing, "no_such.module 'quoted'");
    assert_int_equal(facts->missing_python, 0);
    node_list_clear(&list);
}

/* The real transport of this machine: the whole way once. */
static void test_this_machine(void **state)
{
    (void)state;
    static const char *const pythons[] = {"python3", NULL};
    const struct probe_params params = {
        .timeout_ms = PATIENT_MS, .required.chdir = "copy", .required.pythons = pythons, .nonce = "7f3a"};
    struct node_list list = nodes(":");
    struct error err = ERROR_INIT;
    if (probe_run(&list, &params, &err))
        fail_msg("%s", err.text);
    assert_true(list.nodes[0].has_facts);
    assert_true(list.nodes[0].facts.cores >= 1);
    node_list_clear(&list);
}

static int prepare(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    return curl_global_init(CURL_GLOBAL_DEFAULT) || child_init(&err) ? -1 : 0;
}

static int clean_up(void **state)
{
    (void)state;
    curl_global_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_every_node_at_once),
        cmocka_unit_test(test_slow_one),
        cmocka_unit_test(test_waits_quietly),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_own_process),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_number_of_interpreters),
        cmocka_unit_test(test_interpreters_and_modules),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
