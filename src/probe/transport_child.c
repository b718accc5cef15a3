/* Conversations with a child process: the OpenSSH client, or this machine's sh.
 *
 * The script goes into the child's standard input, the answer comes from its output; its
 * diagnostics are kept for the reason.  Both are the same but for the argv and for what a failure means.
 */
#include "base/child.h"
#include "probe/transport.h"
#include "ssh/ssh_target.h"
#include "ssh/ssherr.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 8192 /* of diagnostics kept, bytes */

struct child_transport {
    struct transport base;
    const struct transport_script *script;
    struct child child;
    size_t written;
    bool over_ssh;
    char words[WORDS_MAX];
    size_t words_len;
};

static void close_pipe(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void child_write_script(struct child_transport *c)
{
    while (c->child.in >= 0 && c->script->text) {
        ssize_t n = write(c->child.in, c->script->text + c->written, c->script->len - c->written);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n > 0)
            c->written += (size_t)n;
        /* A child that does not take its input says why on its diagnostics. */
        if (n < 0 || c->written == c->script->len)
            close_pipe(&c->child.in);
    }
}

static void child_read_words(struct child_transport *c)
{
    child_read_first(&c->child.err, c->words, sizeof c->words - 1, &c->words_len);
    c->words[c->words_len] = '\0';
}

/* TRANSPORT_WAIT while the stream goes on. */
static enum transport_result child_read_answer(struct child_transport *c)
{
    char buf[16384];
    bool complete = false;
    while (c->child.out >= 0) {
        ssize_t n = read(c->child.out, buf, sizeof buf);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0) {
            close_pipe(&c->child.out);
            break;
        }
        if (transport_collect(&c->base, buf, (size_t)n, c->script->end, &complete))
            return TRANSPORT_FAILED;
        if (complete)
            return TRANSPORT_DONE;
    }
    return TRANSPORT_WAIT;
}

static enum transport_result child_step(struct transport *t)
{
    struct child_transport *c = (struct child_transport *)t;
    child_write_script(c);
    child_read_words(c);
    enum transport_result result = child_read_answer(c);
    if (result != TRANSPORT_WAIT || c->child.out >= 0 || !child_ended(&c->child))
        return result;
    /* The stream ended without the last line. */
    child_read_words(c);
    if (c->over_ssh && child_exit_status(&c->child) == 255) {
        char reason[ERROR_TEXT_MAX];
        t->state = ssh_failure(c->words, reason);
        error_set(&t->err, STATUS_UNAVAILABLE, "%s", reason);
        t->dropped = t->state == NODE_OFFLINE && ssh_dropped(c->words);
        return TRANSPORT_FAILED;
    }
    if (t->answer_len == 0 && c->words_len > 0) {
        bool complete;
        if (transport_collect(t, c->words, c->words_len, c->script->end, &complete))
            return TRANSPORT_FAILED;
    }
    return TRANSPORT_DONE;
}

static size_t child_want(const struct transport *t, struct curl_waitfd *fds)
{
    const struct child_transport *c = (const struct child_transport *)t;
    size_t n = 0;
    if (c->child.in >= 0 && c->script->text)
        fds[n++] = (struct curl_waitfd){c->child.in, CURL_WAIT_POLLOUT, 0};
    if (c->child.out >= 0)
        fds[n++] = (struct curl_waitfd){c->child.out, CURL_WAIT_POLLIN, 0};
    if (c->child.err >= 0)
        fds[n++] = (struct curl_waitfd){c->child.err, CURL_WAIT_POLLIN, 0};
    return n;
}

static const char *phase(const struct transport *t)
{
    const struct child_transport *c = (const struct child_transport *)t;
    return !c->over_ssh || t->answer_len ? "waiting for the answer" : "connecting with ssh";
}

static void child_destroy(struct transport *t)
{
    struct child_transport *c = (struct child_transport *)t;
    child_end(&c->child, 0);
    free(t->answer);
    free(c);
}

static const struct transport_ops openssh_ops = {"ssh", child_step, child_want, phase, child_destroy};
static const struct transport_ops local_ops = {"local", child_step, child_want, phase, child_destroy};

static struct transport *child_begin(const struct transport_ops *ops, const char *const *argv,
                                     const struct transport_script *script, struct error *err)
{
    struct child_transport *c = calloc(1, sizeof *c);
    if (!c) {
        error_errno(err, argv[0]);
        return NULL;
    }
    c->base.ops = ops;
    c->script = script;
    c->over_ssh = ops == &openssh_ops;
    static const char *const env[] = {"SSH_ASKPASS_REQUIRE=never", NULL};
    const struct child_spec spec = {
        .argv = argv, .env = env, .in = CHILD_PIPE, .out = CHILD_PIPE, .err = CHILD_PIPE, .detached = true};
    if (child_start(&c->child, &spec, err)) {
        free(c);
        return NULL;
    }
    return &c->base;
}

struct transport *transport_openssh(const struct node *node, const struct transport_script *script,
                                    int connect_timeout_ms, struct error *err)
{
    char timeout[64], port[SSH_TARGET_PORT];
    const char *argv[40];
    size_t n = 0;
    snprintf(timeout, sizeof timeout, "ConnectTimeout=%d",
             connect_timeout_ms < 1000 ? 1 : connect_timeout_ms / 1000);
    argv[n++] = "ssh";
    static const char *const fixed[] = {"-T",
                                        "-oBatchMode=yes",
                                        "-oControlMaster=no",
                                        "-oControlPath=none",
                                        "-oClearAllForwardings=yes",
                                        "-oForwardAgent=no",
                                        "-oForwardX11=no",
                                        "-oPermitLocalCommand=no",
                                        "-oRequestTTY=no",
                                        "-oRemoteCommand=none",
                                        "-oLogLevel=INFO", /* a user's QUIET would hide the reason */
                                        "-oServerAliveInterval=5"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        argv[n++] = fixed[i];
    argv[n++] = "-o";
    argv[n++] = timeout;
    n += ssh_target(node, argv + n, port);
    argv[n++] = "exec /bin/sh -s";
    argv[n] = NULL;
    return child_begin(&openssh_ops, argv, script, err);
}

struct transport *transport_local(const struct transport_script *script, struct error *err)
{
    static const char *const argv[] = {"/bin/sh", "-s", NULL};
    return child_begin(&local_ops, argv, script, err);
}
