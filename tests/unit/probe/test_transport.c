/* Conversations with children: an answer that never comes, never ends, or is cut anywhere; then the good
 * ones. */
#include "base/child.h"
#include "probe/libssh2_shared.h"
#include "probe/transport.h"
#include "ssh/sshconf.h"

#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 20000
#define COUNT(a) (sizeof(a) / sizeof *(a))
#define END "cloudplan-end 7f3a"

static char dir[] = "/tmp/transport.XXXXXX";

/* collect */

static void clear(struct transport *t)
{
    free(t->answer);
    *t = (struct transport){0};
}

static void test_end_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool complete;
    } table[] = {
        {"", false},
        {END, false}, /* the line is not over */
        {"x" END "\n", false},
        {" " END "\n", false},
        {END " \n", false},
        {END "0\n", false},
        {"echo " END "\nmore\n", false},
        {"cloudplan-end 7F3A\n", false},
        {END END "\n", false},
        {END "\n", true},
        {END "\r\n", true},
        {"\n" END "\n", true},
        {"noise\n" END "\nnoise", true},
        {"x" END "\n" END "\n", true},
        {END "x" END "\nx\n" END "\n", true},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len = strlen(table[i].text);
        /* Cut into two at every place, and into single bytes. */
        for (size_t cut = 0; cut <= len + 1; cut++) {
            struct transport t = {0};
            bool complete = false;
            size_t at = 0;
            while (at < len) {
                size_t n = cut > len ? 1 : at < cut ? cut : len - cut;
                char *chunk = malloc(n);
                memcpy(chunk, table[i].text + at, n);
                bool now = false;
                assert_int_equal(transport_collect(&t, chunk, n, END, &now), 0);
                complete |= now;
                at += n;
                free(chunk);
            }
            if (complete != table[i].complete)
                fail_msg("\"%s\" cut at %zu: %d", table[i].text, cut, complete);
            assert_int_equal(t.answer_len, len);
            if (len)
                assert_string_equal(t.answer, table[i].text);
            clear(&t);
        }
    }
}

static void test_limit(void **state)
{
    (void)state;
    char *much = malloc(FACTS_ANSWER_MAX + 1);
    memset(much, 'x', FACTS_ANSWER_MAX + 1);
    struct transport t = {0};
    bool complete;
    assert_int_equal(transport_collect(&t, much, FACTS_ANSWER_MAX + 1, END, &complete), -1);
    assert_int_equal(t.state, NODE_FAILED);
    assert_int_equal(t.err.status, STATUS_DATA);
    assert_string_equal(t.err.text, "answer malformed: more than 256 KiB");
    assert_null(t.answer);
    clear(&t);
    assert_int_equal(transport_collect(&t, much, FACTS_ANSWER_MAX, END, &complete), 0);
    assert_false(complete);
    assert_int_equal(t.answer_len, FACTS_ANSWER_MAX);
    assert_int_equal(t.answer[FACTS_ANSWER_MAX], '\0');
    assert_int_equal(transport_collect(&t, "", 0, END, &complete), 0);
    assert_int_equal(transport_collect(&t, "x", 1, END, &complete), -1);
    assert_int_equal(transport_collect(&t, much, SIZE_MAX, END, &complete), -1);
    assert_int_equal(t.answer_len, FACTS_ANSWER_MAX);
    clear(&t);
    free(much);
}

static void test_nul(void **state)
{
    (void)state;
    static const char text[] = "a\0b\n\0" END "\n\n" END "\n";
    struct transport t = {0};
    bool complete;
    assert_int_equal(transport_collect(&t, text, sizeof text - 1, END, &complete), 0);
    assert_true(complete);
    assert_memory_equal(t.answer, text, sizeof text);
    clear(&t);
}

/* children */

static struct transport *local(const char *text)
{
    static struct transport_script script; /* must outlive the transport */
    struct error err = ERROR_INIT;
    script = (struct transport_script){text, strlen(text), END};
    struct transport *t = transport_local(&script, &err);
    if (!t)
        fail_msg("%s", err.text);
    assert_string_equal(t->ops->name, "local");
    assert_string_equal(t->ops->phase(t), "waiting for the answer");
    return t;
}

/* Waits until something is there for the conversation. */
static void wait_for(const struct transport *t)
{
    struct curl_waitfd wanted[TRANSPORT_FDS_MAX];
    struct pollfd fds[1 + TRANSPORT_FDS_MAX] = {{child_events_fd(), POLLIN, 0}};
    size_t n = t->ops->want(t, wanted);
    assert_true(n <= TRANSPORT_FDS_MAX);
    for (size_t i = 0; i < n; i++)
        fds[1 + i] =
            (struct pollfd){wanted[i].fd, wanted[i].events & CURL_WAIT_POLLOUT ? POLLOUT : POLLIN, 0};
    int ready;
    while ((ready = poll(fds, 1 + n, DEADLINE_MS)) < 0 && errno == EINTR)
        ;
    assert_true(ready > 0);
    child_events_clear();
}

static enum transport_result converse(struct transport *t)
{
    enum transport_result result;
    while ((result = t->ops->step(t)) == TRANSPORT_WAIT)
        wait_for(t);
    return result;
}

static void test_local(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        const char *answer; /* NULL: none */
    } table[] = {
        {"exit 0\n", NULL},
        {"exit 255\n", NULL},
        {"kill -9 $$\n", NULL},
        {"echo why >&2\nexit 3\n", "why\n"},
        {"exec >&-\necho why >&2\n", "why\n"},
        {"syntax error ((\n", "sh: 1: Syntax error: \"(\" unexpected\n"},
        {"echo half; exit 255\n", "half\n"},
        {"echo half; echo why >&2\n", "half\n"},
        {"echo noise\necho " END "\n", "noise\n" END "\n"},
        {"printf 'noise\\n" END "\\r\\n'\nexec sleep 1000\n", "noise\n" END "\r\n"},
        {"echo diagnostics >&2\necho " END "\n", END "\n"},
        {"sleep 1000 &\necho " END "\nexec >&- 2>&-\nwait\n", END "\n"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct transport *t = local(table[i].script);
        enum transport_result result = converse(t);
        assert_int_equal(result, TRANSPORT_DONE);
        if (!table[i].answer) {
            assert_int_equal(t->answer_len, 0);
        } else if (strchr(table[i].answer, '(')) { /* the words are the shell's */
            assert_true(t->answer_len > 0);
        } else {
            assert_non_null(t->answer);
            assert_string_equal(t->answer, table[i].answer);
        }
        t->ops->destroy(t);
    }
}

/* Whether it gets the rest of the script depends on how much sh has read ahead; it does not hang. */
static void test_script_reads_its_input(void **state)
{
    (void)state;
    static const char *const scripts[] = {"cat\necho " END "\n", "read line\nwords\necho " END "\n",
                                          "exec </dev/null\necho " END "\n", "exec cat\n"};
    for (size_t i = 0; i < COUNT(scripts); i++) {
        struct transport *t = local(scripts[i]);
        assert_int_equal(converse(t), TRANSPORT_DONE);
        t->ops->destroy(t);
    }
}

static void test_endless_answer(void **state)
{
    (void)state;
    struct transport *t = local("exec yes\n");
    assert_int_equal(converse(t), TRANSPORT_FAILED);
    assert_int_equal(t->state, NODE_FAILED);
    assert_false(t->dropped);
    assert_string_equal(t->err.text, "answer malformed: more than 256 KiB");
    t->ops->destroy(t);
}

/* Each step ends, however fast the other side talks; the clock is the caller's. */
static void test_endless_diagnostics(void **state)
{
    (void)state;
    struct transport *t = local("yes why >&2 &\nyes why >&2 &\nyes why >&2 &\nexec yes why >&2\n");
    for (int i = 0; i < 100; i++) {
        assert_int_equal(t->ops->step(t), TRANSPORT_WAIT);
        wait_for(t);
    }
    t->ops->destroy(t);
}

/* A script larger than a pipe: written as it is read. */
static void test_large_script(void **state)
{
    (void)state;
    static const struct {
        const char *begin, *end, *answer;
        bool wait;
    } table[] = {
        {"", "echo " END "\n", END "\n", false},
        {"exit 0\n", "", "", false},
        {"exec sleep 1000\n", "", "", true},
    };
    size_t size = 1024 * 1024;
    char *text = malloc(size);
    for (size_t i = 0; i < COUNT(table); i++) {
        memset(text, '#', size);
        for (size_t k = 999; k < size; k += 1000)
            text[k] = '\n';
        memcpy(text, table[i].begin, strlen(table[i].begin));
        strcpy(text + size - 1 - strlen(table[i].end), table[i].end);
        text[size - 2 - strlen(table[i].end)] = '\n';
        struct transport *t = local(text);
        if (table[i].wait) {
            assert_int_equal(t->ops->step(t), TRANSPORT_WAIT);
            struct curl_waitfd fds[TRANSPORT_FDS_MAX];
            assert_int_equal(t->ops->want(t, fds), 3);
        } else {
            assert_int_equal(converse(t), TRANSPORT_DONE);
            assert_string_equal(t->answer ? t->answer : "", table[i].answer);
        }
        t->ops->destroy(t);
    }
    free(text);
}

/* What the script has started ends with the conversation. */
static void test_destroy_ends_all(void **state)
{
    (void)state;
    int lifeline[2];
    char c;
    assert_int_equal(pipe(lifeline), 0); /* children inherit it */
    fcntl(lifeline[0], F_SETFD, FD_CLOEXEC);
    struct transport *t = local("sleep 1000 &\nsleep 1000 &\necho " END "\nwait\n");
    close(lifeline[1]);
    assert_int_equal(converse(t), TRANSPORT_DONE);
    t->ops->destroy(t);
    struct pollfd pfd = {lifeline[0], POLLIN, 0};
    assert_int_equal(poll(&pfd, 1, DEADLINE_MS), 1);
    assert_int_equal(read(lifeline[0], &c, 1), 0);
    close(lifeline[0]);
}

/* the OpenSSH client: a script of that name, first in PATH */

static void fake_ssh(const char *script)
{
    char path[64];
    snprintf(path, sizeof path, "%s/ssh", dir);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0700);
    assert_true(fd >= 0);
    assert_int_equal(dprintf(fd, "#!/bin/sh\n%s", script), strlen(script) + 10);
    assert_int_equal(close(fd), 0);
}

static struct node node(const char *user, const char *host, uint16_t port)
{
    return (struct node){.name = (char *)"n", .user = (char *)user, .host = (char *)host, .port = port};
}

static const struct transport_script nothing = {":\n", 2, END};

static void test_openssh_fails(void **state)
{
    (void)state;
    static const struct {
        const char *ssh;
        enum transport_result result;
        enum node_state state;
        bool dropped;
        const char *text; /* reason or answer */
    } table[] = {
        {"exit 255\n", TRANSPORT_FAILED, NODE_FAILED, false, "ssh ended without a word"},
        {"echo 'Connection closed by 10.0.120.1 port 22' >&2; exit 255\n", TRANSPORT_FAILED, NODE_OFFLINE,
         true, "Connection closed by 10.0.120.1 port 22"},
        {"echo 'ci@n: Permission denied (publickey).' >&2; exit 255\n", TRANSPORT_FAILED, NODE_REFUSED, false,
         "ci@n: Permission denied (publickey)."},
        {"echo 'ssh: connect to host n port 22: Connection refused' >&2; exit 255\n", TRANSPORT_FAILED,
         NODE_OFFLINE, false, "connect to host n port 22: Connection refused"},
        {"echo 'kex_exchange_identification: Connection closed by remote host' >&2; exit 255\n",
         TRANSPORT_FAILED, NODE_OFFLINE, true,
         "kex_exchange_identification: Connection closed by remote host"},
        {"head -c 100000 /dev/zero | tr '\\0' x >&2; exit 255\n", TRANSPORT_FAILED, NODE_FAILED, false, NULL},
        {"kill -9 $$\n", TRANSPORT_DONE, 0, false, ""},
        {"echo 'no shell for you' >&2; exit 1\n", TRANSPORT_DONE, 0, false, "no shell for you\n"},
        {"echo half; echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255\n", TRANSPORT_FAILED,
         NODE_OFFLINE, false, "client_loop: send disconnect: Broken pipe"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct error err = ERROR_INIT;
        struct node n = node(NULL, "n", 0);
        fake_ssh(table[i].ssh);
        struct transport *t = transport_openssh(&n, &nothing, 5000, &err);
        assert_non_null(t);
        assert_string_equal(t->ops->phase(t), "connecting with ssh");
        assert_int_equal(converse(t), table[i].result);
        assert_int_equal(t->dropped, table[i].dropped);
        if (table[i].result == TRANSPORT_FAILED) {
            assert_int_equal(t->state, table[i].state);
            if (table[i].text)
                assert_string_equal(t->err.text, table[i].text);
        } else {
            assert_string_equal(t->answer ? t->answer : "", table[i].text);
        }
        t->ops->destroy(t);
    }
}

/* The words of the command, one a line; the script comes on the standard input. */
static void test_openssh_command(void **state)
{
    (void)state;
    static const struct {
        const char *user, *host;
        uint16_t port;
        int timeout_ms;
        const char *words;
    } table[] = {
        {NULL, "n", 0, 500, "-o\nConnectTimeout=1\n--\nn\nexec /bin/sh -s\n"},
        {"ci", "10.0.0.1", 0, 1999, "-o\nConnectTimeout=1\n-l\nci\n--\n10.0.0.1\nexec /bin/sh -s\n"},
        {"ci", "::1", 65535, 30000, "-o\nConnectTimeout=30\n-p\n65535\n-l\nci\n--\n::1\nexec /bin/sh -s\n"},
    };
    static const struct transport_script script = {"the script", 10, END};
    fake_ssh("printf '%s\\n' \"$@\"; cat; echo; echo \"askpass=$SSH_ASKPASS_REQUIRE\"; echo " END "\n");
    for (size_t i = 0; i < COUNT(table); i++) {
        struct error err = ERROR_INIT;
        struct node n = node(table[i].user, table[i].host, table[i].port);
        struct transport *t = transport_openssh(&n, &script, table[i].timeout_ms, &err);
        assert_non_null(t);
        assert_int_equal(converse(t), TRANSPORT_DONE);
        assert_string_equal(t->ops->phase(t), "waiting for the answer");
        assert_memory_equal(t->answer, "-T\n-oBatchMode=yes\n", 19);
        char *words = strstr(t->answer, "-o\n"), expected[200];
        snprintf(expected, sizeof expected, "%sthe script\naskpass=never\n" END "\n", table[i].words);
        assert_non_null(words);
        assert_string_equal(words, expected);
        t->ops->destroy(t);
    }
}

static void test_openssh_missing(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    struct error err = ERROR_INIT;
    struct node n = node(NULL, "n", 0);
    setenv("PATH", "/nowhere", 1);
    assert_null(transport_openssh(&n, &nothing, 5000, &err));
    setenv("PATH", path, 1);
    assert_int_equal(err.status, STATUS_TOOL);
    assert_string_equal(err.text, "ssh: program not found in PATH");
    free(path);
}

static void test_allocations(void **state)
{
    (void)state;
    static const struct transport_script script = {"echo " END "\n", sizeof "echo " END "\n" - 1, END};
    struct node n = node("ci", "n", 22);
    fake_ssh("exec sh\n");
    for (int ssh = 0; ssh < 2; ssh++)
        for (ALLOC_EACH(i)) {
            struct error err = ERROR_INIT;
            alloc_fail_at(i);
            struct transport *t =
                ssh ? transport_openssh(&n, &script, 5000, &err) : transport_local(&script, &err);
            if (!t) {
                assert_true(alloc_has_failed());
                assert_int_equal(err.status, STATUS_SYSTEM);
                continue;
            }
            enum transport_result result = converse(t);
            assert_int_equal(result, alloc_has_failed() ? TRANSPORT_FAILED : TRANSPORT_DONE);
            assert_int_equal(t->err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
            if (alloc_has_failed())
                assert_int_equal(t->state, NODE_FAILED);
            t->ops->destroy(t);
        }
}

/* By libssh2, as far as the first packet: what all conversations share is read for the first one. */
static void test_libssh2_allocations(void **state)
{
    (void)state;
    const struct transport_script script = {"exit 0\n", 7, END};
    char *files[] = {(char *)"/nonexistent/file", NULL};
    struct sshconf conf = {
        .hostname = (char *)"127.0.0.1",
        .user = (char *)"ci",
        .port = 22,
        .identityfiles = files,
        .identityagent = (char *)"/nonexistent/agent",
        .knownhosts = files,
        .stricthostkeychecking = (char *)"ask",
        .addressfamily = (char *)"any",
    };
    struct node n = {.name = (char *)"far", .host = (char *)"far", .conf = &conf};
    CURLM *multi = curl_multi_init();
    for (ALLOC_EACH(i)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(i);
        struct libssh2_shared *shared = libssh2_shared_create(multi, &err);
        struct transport *first = shared ? transport_libssh2(shared, &n, &script, 5000, &err) : NULL;
        struct transport *second = first ? transport_libssh2(shared, &n, &script, 5000, &err) : NULL;
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_int_equal(!second, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        if (second)
            second->ops->destroy(second);
        if (first)
            first->ops->destroy(first);
        libssh2_shared_destroy(shared);
    }
    curl_multi_cleanup(multi);
}

static int prepare(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char path[4096];
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s:%s", dir, getenv("PATH"));
    setenv("PATH", path, 1);
    return child_init(&err);
}

static int clean_up(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/ssh", dir);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end_line),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_script_reads_its_input),
        cmocka_unit_test(test_endless_answer),
        cmocka_unit_test(test_endless_diagnostics),
        cmocka_unit_test(test_large_script),
        cmocka_unit_test(test_destroy_ends_all),
        cmocka_unit_test(test_openssh_fails),
        cmocka_unit_test(test_openssh_command),
        cmocka_unit_test(test_openssh_missing),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_libssh2_allocations),
    };
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
