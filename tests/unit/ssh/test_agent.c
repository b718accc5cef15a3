/* The agent client against agents that misbehave, then against ssh-agent itself.
 *
 * A misbehaving agent is the other end of a socket pair, into which the test writes what it "answers". */
#include "ssh/agent.h"
#include "ssh/identity.h"
#include "ssh/key.h"

#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT_MS 10000 /* never reached by what is right */
#define SHORT_MS 50
#define EMPTY_LIST "\0\0\0\5\14\0\0\0\0"
#define FAILURE "\0\0\0\1\5"
#define SIGNATURE "\0\0\0\4type\0\0\0\3sig" /* 15 bytes */
#define SIGNED "\0\0\0\24\16\0\0\0\17" SIGNATURE
#define BYTES(text) text, sizeof text - 1

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void answer(int peer, const char *data, size_t len)
{
    assert_int_equal(write(peer, data, len), len);
}

/* An agent that has answered this already; its own end is *peer. */
static struct agent *open_with(const char *data, size_t len, bool closed, int timeout_ms, int *peer,
                               struct error *err)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    answer(fds[1], data, len);
    if (closed)
        shutdown(fds[1], SHUT_WR);
    struct agent *agent = agent_open_fd(fds[0], timeout_ms, err);
    *peer = fds[1];
    return agent;
}

static struct agent *open_empty(int *peer)
{
    struct agent *agent = open_with(BYTES(EMPTY_LIST), false, TIMEOUT_MS, peer, NULL);
    assert_non_null(agent);
    char request[5];
    assert_int_equal(read(*peer, request, 5), 5);
    assert_memory_equal(request, "\0\0\0\1\13", 5);
    return agent;
}

static struct agent_request *sign(struct agent *agent)
{
    struct agent_request *request =
        agent_sign(agent, (const unsigned char *)"blob", 4, (const unsigned char *)"data", 4);
    assert_non_null(request);
    return request;
}

/* Takes one request for "blob" and "data" from the agent's end. */
static void take_request(int peer)
{
    static const char expected[] = "\0\0\0\25\15\0\0\0\4blob\0\0\0\4data\0\0\0\0";
    char request[sizeof expected - 1];
    assert_int_equal(recv(peer, request, sizeof request, MSG_WAITALL), sizeof request);
    assert_memory_equal(request, expected, sizeof request);
}

static bool has_request(int peer)
{
    struct pollfd pollfd = {.fd = peer, .events = POLLIN};
    return poll(&pollfd, 1, 0) == 1;
}

static bool readable(const struct agent *agent)
{
    bool want_write;
    struct pollfd pollfd = {.fd = agent_fd(agent, &want_write), .events = POLLIN};
    return pollfd.fd != -1 && poll(&pollfd, 1, 0) == 1;
}

static void lists_that_are_none(void **state)
{
    (void)state;
    static const char many[5 + 4 + 2049 * 8] = "\0\0\100\15\14\0\0\10\1"; /* 2049 keys, all empty */
    static const struct {
        const char *data;
        size_t len;
        bool open; /* nothing more has to come to know it */
    } answers[] = {
        {BYTES(""), false},
        {BYTES("\0"), false},
        {BYTES("\0\0\0\5\14\0\0\0"), false},
        {BYTES("\0\0\0\0"), true},
        {BYTES("\377\377\377\377"), true},
        {BYTES("\0\4\0\1"), true},
        {BYTES(FAILURE), true},
        {BYTES("\0\0\0\1\14"), true},
        {BYTES("\0\0\0\4\14\0\0\0"), true},
        {BYTES("\0\0\0\5\14\0\0\0\1"), true},
        {BYTES("\0\0\0\5\14\377\377\377\377"), true},
        {BYTES("\0\0\0\16\14\0\0\0\1\0\0\0\377blob"), false},
        {BYTES("\0\0\0\15\14\0\0\0\1\0\0\0\4blob"), true},
        {BYTES("\0\0\0\24\14\0\0\0\1\0\0\0\4blob\0\0\0\7com"), true},
        {BYTES("\0\0\0\24\14\0\0\0\2\0\0\0\4blob\0\0\0\3com"), true},
        {many, 4 + 0x400d, true},
        {BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), true},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        int peer;
        struct error err = ERROR_INIT;
        assert_null(open_with(answers[i].data, answers[i].len, !answers[i].open, TIMEOUT_MS, &peer, &err));
        assert_int_equal(err.status, STATUS_SYSTEM);
        if (!strstr(err.text, "does not list its keys"))
            fail_msg("answer %zu: %s", i, err.text);
        close(peer);
    }
}

static void assert_times_out(long long start, struct error *err)
{
    assert_true(now_ms() - start >= SHORT_MS && now_ms() - start < TIMEOUT_MS);
    assert_int_equal(err->status, STATUS_SYSTEM);
    assert_non_null(strstr(err->text, "does not answer"));
}

/* The deadline is for the whole answer: a byte now and then does not move it. */
static void agents_that_stall(void **state)
{
    (void)state;
    static const char half[] = "\0\0\0\5\14\0";
    for (size_t len = 0; len < sizeof half; len++) {
        int peer;
        struct error err = ERROR_INIT;
        long long start = now_ms();
        assert_null(open_with(half, len, false, SHORT_MS, &peer, &err));
        assert_times_out(start, &err);
        close(peer);
    }
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pid_t pid = fork();
    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        close(fds[0]);
        signal(SIGPIPE, SIG_IGN);
        bool alive = write(fds[1], "\0\1\0\0\14", 5) == 5;
        while (alive) {
            poll(NULL, 0, 5);
            alive = write(fds[1], "", 1) == 1;
        }
        _exit(0);
    }
    close(fds[1]);
    struct error err = ERROR_INIT;
    long long start = now_ms();
    assert_null(agent_open_fd(fds[0], SHORT_MS, &err));
    assert_times_out(start, &err);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void lists(void **state)
{
    (void)state;
    int peer;
    struct agent *agent = open_empty(&peer);
    bool want_write = true;
    assert_int_equal(agent_keys(agent)->count, 0);
    assert_int_equal(agent_fd(agent, &want_write), -1);
    assert_false(want_write);
    agent_destroy(agent);
    close(peer);

    static const char two[] = "\0\0\0\44\14\0\0\0\2\0\0\0\4blob\0\0\0\4c\033\0m\0\0\0\0\0\0\0\2\303\266trail";
    agent = open_with(BYTES(two), true, TIMEOUT_MS, &peer, NULL);
    assert_non_null(agent);
    const struct agent_keys *keys = agent_keys(agent);
    assert_int_equal(keys->count, 2);
    assert_int_equal(keys->keys[0].len, 4);
    assert_memory_equal(keys->keys[0].blob, "blob", 4);
    assert_string_equal(keys->keys[0].comment, "c??m");
    assert_int_equal(keys->keys[1].len, 0);
    assert_string_equal(keys->keys[1].comment, "\303\266");
    agent_destroy(agent);
    agent_destroy(NULL);
    close(peer);
}

static void largest_list(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pid_t pid = fork();
    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        static char reply[4 + 262144] = "\0\4\0\0\14\0\0\10\0"; /* 2048 keys, all empty */
        close(fds[0]);
        size_t sent = 0;
        for (ssize_t n = 1; n > 0 && sent < sizeof reply; sent += (size_t)n)
            n = write(fds[1], reply + sent, sizeof reply - sent);
        _exit(sent == sizeof reply ? 0 : 1);
    }
    close(fds[1]);
    struct agent *agent = agent_open_fd(fds[0], TIMEOUT_MS, NULL);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_non_null(agent);
    assert_int_equal(agent_keys(agent)->count, 2048);
    agent_destroy(agent);
}

static void paths_that_lead_nowhere(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_agent.XXXXXX", path[64], too_long[200];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/socket", dir);
    memset(too_long, 'x', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    const char *const paths[] = {"", "/nonexistent/socket", dir, "/dev/null", too_long, path};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct error err = ERROR_INIT;
        assert_null(agent_open(paths[i], TIMEOUT_MS, &err));
        assert_int_equal(err.status, STATUS_SYSTEM);
        assert_non_null(strstr(err.text, "cannot use the SSH agent"));
    }

    /* somebody listens and never accepts: first with room in the backlog, then without */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 0), 0);
    struct error err = ERROR_INIT;
    long long start = now_ms();
    assert_null(agent_open(path, SHORT_MS, &err));
    assert_times_out(start, &err);
    int waiting[16];
    size_t count = 0;
    do {
        waiting[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    } while (connect(waiting[count++], (struct sockaddr *)&address, sizeof address) == 0 && count < 16);
    assert_true(count < 16);
    err = (struct error)ERROR_INIT;
    start = now_ms();
    assert_null(agent_open(path, SHORT_MS, &err));
    assert_times_out(start, &err);
    while (count)
        close(waiting[--count]);
    close(listener);
    unlink(path);
    rmdir(dir);
}

static void answers_that_refuse(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t len;
        bool broken; /* and the rest of the conversation with it */
        bool closed; /* by the agent */
    } answers[] = {
        {BYTES(FAILURE), false, false},
        {BYTES("\0\0\0\1\16"), false, false},
        {BYTES("\0\0\0\5\16\0\0\0\0"), false, false},
        {BYTES("\0\0\0\24\15\0\0\0\17" SIGNATURE), false, false},
        {BYTES("\0\0\0\24\16\0\0\0\20" SIGNATURE), false, false},
        {BYTES("\0\0\0\24\16\0\0\0\16" SIGNATURE), false, false},
        {BYTES("\0\0\0\24\16\0\0\0\17\0\0\0\4type\0\0\0\4sig"), false, false},
        {BYTES("\0\0\0\24\16\0\0\0\17\0\0\0\4type\0\0\0\2sig"), false, false},
        {BYTES("\0\0\0\25\16\0\0\0\17" SIGNATURE "x"), false, false},
        {BYTES(""), true, true},
        {BYTES("\0\0\0\24\16\0\0"), true, true},
        {BYTES("\0\0\0\0"), true, false},
        {BYTES("\177\377\377\377\16"), true, false},
        {BYTES("\0\4\0\1\16"), true, false},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        int peer;
        struct agent *agent = open_empty(&peer);
        struct agent_request *first = sign(agent), *second = sign(agent);
        assert_int_equal(agent_request_state(first), AGENT_WAITING);
        answer(peer, answers[i].data, answers[i].len);
        if (answers[i].closed)
            shutdown(peer, SHUT_WR);
        assert_int_equal(agent_request_state(first), AGENT_REFUSED);
        if (answers[i].broken) {
            assert_true(readable(agent)); /* the second is woken to learn of it */
        } else {
            take_request(peer);
            take_request(peer);
            answer(peer, BYTES(FAILURE));
        }
        assert_int_equal(agent_request_state(second), AGENT_REFUSED);
        assert_false(readable(agent));
        struct agent_request *third = sign(agent);
        assert_int_equal(agent_request_state(third), answers[i].broken ? AGENT_REFUSED : AGENT_WAITING);
        agent_request_destroy(first);
        agent_request_destroy(second);
        agent_request_destroy(third);
        agent_destroy(agent);
        close(peer);
    }
}

static void signatures_in_line(void **state)
{
    (void)state;
    int peer;
    bool want_write;
    struct agent *agent = open_empty(&peer);
    struct agent_request *first = sign(agent), *second = sign(agent);
    assert_false(has_request(peer)); /* nothing goes before somebody looks */
    assert_true(agent_fd(agent, &want_write) != -1 && want_write);
    assert_int_equal(agent_request_state(second), AGENT_WAITING);
    assert_true(agent_fd(agent, &want_write) != -1 && !want_write);
    take_request(peer);
    assert_false(has_request(peer)); /* one at a time */

    /* byte by byte, and looked at by the other one only: he does not take it */
    for (size_t i = 0; i < sizeof SIGNED - 1; i++) {
        assert_int_equal(agent_request_state(first), AGENT_WAITING);
        answer(peer, &SIGNED[i], 1);
        assert_int_equal(agent_request_state(second), AGENT_WAITING);
        assert_true(readable(agent));
    }
    assert_int_equal(agent_request_state(first), AGENT_SIGNED);
    assert_int_equal(agent_request_state(first), AGENT_SIGNED);
    size_t len;
    const unsigned char *signature = agent_request_signature(first, &len);
    assert_int_equal(len, sizeof SIGNATURE - 1);
    assert_memory_equal(signature, SIGNATURE, len);

    take_request(peer); /* the second went when the first was answered */
    answer(peer, BYTES(SIGNED));
    assert_true(readable(agent));
    assert_int_equal(agent_request_state(second), AGENT_SIGNED);
    assert_int_equal(agent_fd(agent, &want_write), -1);
    agent_request_destroy(first);
    agent_request_destroy(second);
    agent_request_destroy(NULL);
    agent_destroy(agent);
    close(peer);
}

static void requests_that_are_given_up(void **state)
{
    (void)state;
    int peer;
    bool want_write;
    struct agent *agent = open_empty(&peer);
    struct agent_request *under_way = sign(agent), *unsent = sign(agent), *last = sign(agent);
    assert_int_equal(agent_request_state(under_way), AGENT_WAITING);
    take_request(peer);
    agent_request_destroy(unsent);
    agent_request_destroy(under_way);
    assert_int_equal(agent_request_state(last), AGENT_WAITING);
    assert_false(has_request(peer)); /* the agent still owes the first answer */
    answer(peer, BYTES(FAILURE));
    assert_int_equal(agent_request_state(last), AGENT_WAITING);
    take_request(peer);
    answer(peer, BYTES(SIGNED));
    assert_int_equal(agent_request_state(last), AGENT_SIGNED);
    agent_request_destroy(last);

    /* the agent goes first; what is under way may be given up or not */
    under_way = sign(agent);
    last = sign(agent);
    assert_int_equal(agent_request_state(under_way), AGENT_WAITING);
    agent_request_destroy(under_way);
    assert_true(agent_fd(agent, &want_write) != -1);
    agent_destroy(agent);
    assert_int_equal(agent_request_state(last), AGENT_REFUSED);
    agent_request_destroy(last);
    close(peer);

    agent = open_empty(&peer);
    under_way = sign(agent);
    assert_int_equal(agent_request_state(under_way), AGENT_WAITING);
    agent_request_destroy(under_way);
    assert_int_equal(agent_fd(agent, &want_write), -1);
    agent_destroy(agent);
    close(peer);
}

static void large_requests(void **state)
{
    (void)state;
    int peer;
    bool want_write;
    struct agent *agent = open_empty(&peer);
    static unsigned char data[262144];
    struct agent_request *too_large = agent_sign(agent, data, 4, data, sizeof data);
    assert_int_equal(agent_request_state(too_large), AGENT_REFUSED);
    assert_int_equal(agent_fd(agent, &want_write), -1);
    agent_request_destroy(too_large);

    /* more than the socket takes at once */
    int fd_size = 4096;
    size_t taken = 0;
    struct agent_request *large = agent_sign(agent, data, 4, data, sizeof data - 17);
    assert_int_equal(
        setsockopt(agent_fd(agent, &want_write), SOL_SOCKET, SO_SNDBUF, &fd_size, sizeof fd_size), 0);
    assert_int_equal(agent_request_state(large), AGENT_WAITING);
    assert_true(agent_fd(agent, &want_write) != -1 && want_write);
    while (taken < 4 + sizeof data) {
        static char buf[65536];
        ssize_t n = recv(peer, buf, sizeof buf, MSG_DONTWAIT);
        assert_true(n > 0);
        taken += (size_t)n;
        assert_int_equal(agent_request_state(large), AGENT_WAITING);
    }
    assert_true(agent_fd(agent, &want_write) != -1 && !want_write);
    answer(peer, BYTES(SIGNED));
    assert_int_equal(agent_request_state(large), AGENT_SIGNED);
    agent_request_destroy(large);
    agent_destroy(agent);
    close(peer);
}

static void without_memory(void **state)
{
    (void)state;
    static const char one[] = "\0\0\0\24\14\0\0\0\1\0\0\0\4blob\0\0\0\3com" SIGNED;
    for (ALLOC_EACH(n)) {
        int peer;
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct agent *agent = open_with(BYTES(one), true, TIMEOUT_MS, &peer, &err);
        assert_int_equal(err.status, agent ? 0 : STATUS_SYSTEM);
        struct agent_request *request =
            agent ? agent_sign(agent, (const unsigned char *)"b", 1, (const unsigned char *)"d", 1) : NULL;
        enum agent_state result = request ? agent_request_state(request) : AGENT_REFUSED;
        bool failed = alloc_has_failed();
        assert_int_equal(result, failed ? AGENT_REFUSED : AGENT_SIGNED);
        agent_request_destroy(request);
        agent_destroy(agent);
        close(peer);
    }
    int peer;
    struct agent *agent = open_empty(&peer);
    static unsigned char data[262144];
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        struct agent_request *too_large = agent_sign(agent, data, 4, data, sizeof data);
        assert_int_equal(!too_large, alloc_has_failed());
        agent_request_destroy(too_large);
    }
    agent_destroy(agent);
    close(peer);
}

static pid_t start(const char *const argv[])
{
    pid_t pid = fork();
    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves no agent behind */
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

static int run(const char *const argv[])
{
    int status;
    pid_t pid = start(argv);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Signs with this key of the agent; returns the request, which is decided. */
static struct agent_request *sign_now(struct agent *agent, const struct agent_key *key, const char *data)
{
    struct agent_request *request =
        agent_sign(agent, key->blob, key->len, (const unsigned char *)data, strlen(data));
    assert_non_null(request);
    while (agent_request_state(request) == AGENT_WAITING) {
        bool want_write;
        struct pollfd pollfd = {.fd = agent_fd(agent, &want_write)};
        pollfd.events = (short)(POLLIN | (want_write ? POLLOUT : 0));
        assert_int_equal(poll(&pollfd, 1, TIMEOUT_MS), 1);
    }
    return request;
}

static void assert_verifies(const struct agent_key *key, const struct agent_request *request,
                            const char *data)
{
    size_t len;
    const unsigned char *p = agent_request_signature(request, &len);
    struct wire signature = {p, len}, blob = {key->blob, key->len}, part;
    assert_true(wire_string(&signature, &part) && wire_is(&part, "ssh-ed25519"));
    assert_true(wire_string(&signature, &part));
    struct wire sig = part;
    assert_true(wire_string(&blob, &part) && wire_string(&blob, &part));
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, part.p, part.left);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey), 1);
    assert_int_equal(EVP_DigestVerify(ctx, sig.p, sig.left, (const unsigned char *)data, strlen(data)), 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
}

static void ssh_agent(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_agent.XXXXXX", path[64], files[3][64], pub[sizeof files + 4];
    static const char *const types[] = {"ed25519", "ecdsa", "rsa"};
    if (run((const char *[]){"ssh-keygen", "-Q", "-f", "/dev/null", NULL}) == 127 << 8)
        skip();
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/socket", dir);
    assert_int_equal(setenv("SSH_AUTH_SOCK", path, 1), 0);
    pid_t pid = start((const char *[]){"ssh-agent", "-D", "-a", path, NULL});
    struct agent *agent = NULL;
    for (long long end = now_ms() + TIMEOUT_MS; !agent && now_ms() < end; poll(NULL, 0, 5))
        agent = agent_open(path, TIMEOUT_MS, NULL);
    assert_non_null(agent);
    assert_int_equal(agent_keys(agent)->count, 0);
    agent_destroy(agent);

    for (size_t i = 0; i < 3; i++) {
        snprintf(files[i], sizeof files[i], "%s/%s", dir, types[i]);
        assert_int_equal(run((const char *[]){"ssh-keygen", "-q", "-t", types[i], "-N", "", "-C", types[i],
                                              "-f", files[i], NULL}),
                         0);
        assert_int_equal(run((const char *[]){"ssh-add", "-q", files[i], NULL}), 0);
    }
    struct error err = ERROR_INIT;
    agent = agent_open(path, TIMEOUT_MS, &err);
    assert_non_null(agent);
    const struct agent_keys *keys = agent_keys(agent);
    assert_int_equal(keys->count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(keys->keys[i].comment, types[i]);

    const char *const names[] = {files[1], NULL};
    struct identity_list *list = identity_list_make(names, false, keys, NULL);
    assert_non_null(list);
    assert_int_equal(list->count, 2);
    assert_string_equal(list->ids[0].name, files[1]);
    assert_string_equal(list->ids[1].name, "ed25519");
    assert_null(list->ids[0].private_pem);
    assert_string_equal(list->skipped_why, "rsa: RSA");
    identity_list_destroy(list);
    list = identity_list_make(names, true, NULL, NULL);
    assert_int_equal(list->count, 1);
    assert_non_null(list->ids[0].private_pem);
    assert_string_equal(list->ids[0].type, "ecdsa-sha2-nistp256");
    assert_int_equal(list->ids[0].blob_len, keys->keys[1].len);
    assert_memory_equal(list->ids[0].blob, keys->keys[1].blob, keys->keys[1].len);
    identity_list_destroy(list);

    for (size_t i = 0; i < 3; i++) {
        struct agent_request *request = sign_now(agent, &keys->keys[i], "the data");
        assert_int_equal(agent_request_state(request), AGENT_SIGNED);
        if (i == 0)
            assert_verifies(&keys->keys[i], request, "the data");
        agent_request_destroy(request);
    }
    assert_int_equal(run((const char *[]){"ssh-add", "-q", "-D", NULL}), 0);
    struct agent_request *refused = sign_now(agent, &keys->keys[0], "the data");
    assert_int_equal(agent_request_state(refused), AGENT_REFUSED);
    agent_request_destroy(refused);

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    refused = sign_now(agent, &keys->keys[0], "the data");
    assert_int_equal(agent_request_state(refused), AGENT_REFUSED);
    agent_request_destroy(refused);
    agent_destroy(agent);
    for (size_t i = 0; i < 3; i++) {
        snprintf(pub, sizeof pub, "%s.pub", files[i]);
        unlink(files[i]);
        unlink(pub);
    }
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_that_are_none),
        cmocka_unit_test(agents_that_stall),
        cmocka_unit_test(lists),
        cmocka_unit_test(largest_list),
        cmocka_unit_test(paths_that_lead_nowhere),
        cmocka_unit_test(answers_that_refuse),
        cmocka_unit_test(signatures_in_line),
        cmocka_unit_test(requests_that_are_given_up),
        cmocka_unit_test(large_requests),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(ssh_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
