/* A conversation by libssh2: connect (libcurl), key exchange, host key, authentication, one channel.
 *
 * A state machine: libssh2_step() runs the function of the current phase until it says
 * EAGAIN; libssh2_enter() is the only place that changes the phase.  Whatever libssh2
 * cannot do ends in TRANSPORT_FALLBACK, never in a guess: the OpenSSH client
 * then does that node.  Blocking calls of libssh2 (its agent, its known_hosts) are not used.
 */
#include "probe/libssh2_auth.h"
#include "probe/libssh2_shared.h"
#include "probe/libssh2_trust.h"
#include "probe/transport.h"
#include "ssh/known_hosts.h"
#include "ssh/sshconf.h"

#include <errno.h>
#include <fcntl.h>
#include <libssh2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WINDOW (64 * 1024) /* bytes; a usual answer is 2 KiB */

enum phase { CONNECTING, KEX, METHODS, AUTH, CHANNEL, EXEC, WRITING, READING, ENDED };

static const char *const phase_names[] = {
    [CONNECTING] = "connecting",
    [KEX] = "waiting for the SSH banner and key exchange",
    [METHODS] = "authenticating",
    [AUTH] = "authenticating",
    [CHANNEL] = "opening an SSH session",
    [EXEC] = "starting a shell",
    [WRITING] = "sending the script",
    [READING] = "waiting for the answer",
    [ENDED] = "ended",
};

struct conversation {
    struct transport base;
    struct libssh2_shared *shared;
    const struct node *node;
    const struct transport_script *script;
    enum phase phase;
    enum transport_result outcome; /* once ENDED */

    CURL *easy; /* while connecting */
    int fd;
    LIBSSH2_SESSION *session;
    LIBSSH2_CHANNEL *channel;

    struct known_host *known;
    struct auth auth; /* identities and agent are borrowed from shared */
    char offers[128]; /* the methods that the node offers */

    size_t written;
    char words[256]; /* the node's diagnostics, for an answer that never came */
    size_t words_len;
    size_t diagnostics; /* bytes of them, all in all */
};

static void libssh2_enter(struct conversation *c, enum phase phase)
{
    c->phase = phase;
}

static enum transport_result end(struct conversation *c, enum transport_result outcome)
{
    libssh2_enter(c, ENDED);
    c->outcome = outcome;
    return outcome;
}

static enum transport_result libssh2_fail(struct conversation *c, enum node_state state, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum transport_result libssh2_fail(struct conversation *c, enum node_state state, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->base.state = state;
    error_set(&c->base.err, STATUS_UNAVAILABLE, "%s", text);
    return end(c, TRANSPORT_FAILED);
}

static enum transport_result fall_back(struct conversation *c, const char *why)
{
    error_set(&c->base.err, STATUS_UNAVAILABLE, "%s", why);
    return end(c, TRANSPORT_FALLBACK);
}

/* What libssh2 says of its last error; bounded, since the peer may have had a say in it. */
static const char *session_words(struct conversation *c, char buf[200])
{
    char *text = NULL;
    libssh2_session_last_error(c->session, &text, NULL, 0);
    snprintf(buf, 200, "%.180s", text && *text ? text : "no reason given");
    text_clean(buf);
    return buf;
}

/* Delayed ACKs meet sshd's Nagle right after authentication: 40 ms for each node without this. */
static ssize_t receive(libssh2_socket_t fd, void *buf, size_t len, int flags, void **abstract)
{
    (void)abstract;
    ssize_t n = recv(fd, buf, len, flags);
    if (n < 0)
        return -errno;
#ifdef TCP_QUICKACK
    int one = 1;
    if (len > 1) /* the banner is read byte by byte */
        setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
#endif
    return n;
}

static int close_on_exec(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    (void)arg;
    (void)purpose;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? CURL_SOCKOPT_ERROR : CURL_SOCKOPT_OK;
}

static int start_connecting(struct conversation *c, int timeout_ms, struct error *err)
{
    const struct sshconf *conf = c->node->conf;
    char url[600];
    bool v6 = strchr(conf->hostname, ':') != NULL;
    snprintf(url, sizeof url, v6 ? "http://[%s]:%u/" : "http://%s:%u/", conf->hostname, conf->port);
    c->easy = curl_easy_init();
    if (!c->easy)
        return error_set(err, STATUS_SYSTEM, "libcurl: no memory");
    long resolve = !strcmp(conf->addressfamily, "inet")    ? CURL_IPRESOLVE_V4
                   : !strcmp(conf->addressfamily, "inet6") ? CURL_IPRESOLVE_V6
                                                           : CURL_IPRESOLVE_WHATEVER;
    CURLcode code = curl_easy_setopt(c->easy, CURLOPT_URL, url);
    curl_easy_setopt(c->easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(c->easy, CURLOPT_PROXY, ""); /* the environment's http_proxy is not for SSH */
    curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->easy, CURLOPT_IPRESOLVE, resolve);
    curl_easy_setopt(c->easy, CURLOPT_SOCKOPTFUNCTION, close_on_exec);
    curl_easy_setopt(c->easy, CURLOPT_PRIVATE, (char *)c);
    if (code || curl_multi_add_handle(c->shared->multi, c->easy)) {
        curl_easy_cleanup(c->easy);
        c->easy = NULL;
        return error_set(err, STATUS_SYSTEM, "libcurl: cannot connect to %s", conf->hostname);
    }
    return 0;
}

static void drop_easy(struct conversation *c)
{
    if (!c->easy)
        return;
    curl_multi_remove_handle(c->shared->multi, c->easy);
    curl_easy_cleanup(c->easy);
    c->easy = NULL;
}

void transport_libssh2_connected(CURL *easy, CURLcode result)
{
    struct conversation *c = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&c);
    curl_socket_t fd = CURL_SOCKET_BAD;
    long os_errno = 0;
    switch (result) {
    case CURLE_OK:
        /* A descriptor of our own: libcurl closes its one with the handle. */
        if (!curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd) && fd != CURL_SOCKET_BAD)
            c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (c->fd < 0)
            libssh2_fail(c, NODE_FAILED, "no descriptor for the connection: %s", strerror(errno));
        else
            libssh2_enter(c, KEX);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        libssh2_fail(c, NODE_OFFLINE, "name not resolved: %s", c->node->conf->hostname);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        libssh2_fail(c, NODE_OFFLINE, "timed out while connecting to %s port %u", c->node->conf->hostname,
                     c->node->conf->port);
        break;
    default:
        curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_errno);
        libssh2_fail(c, NODE_OFFLINE, "%s: %s port %u",
                     os_errno ? strerror((int)os_errno) : curl_easy_strerror(result), c->node->conf->hostname,
                     c->node->conf->port);
    }
    drop_easy(c);
}

static enum transport_result start_session(struct conversation *c)
{
    c->session = libssh2_session_init_ex(NULL, NULL, NULL, c);
    if (!c->session)
        return libssh2_fail(c, NODE_FAILED, "libssh2: no memory");
    libssh2_session_set_blocking(c->session, 0);
#if LIBSSH2_VERSION_NUM >= 0x010b01 /* 1.11.1 deprecates the one without a function's type */
    libssh2_session_callback_set2(c->session, LIBSSH2_CALLBACK_RECV, (libssh2_cb_generic *)receive);
#else
    libssh2_session_callback_set(c->session, LIBSSH2_CALLBACK_RECV, (void *)receive);
#endif
    const char *lacking = trust_algorithms(c->session, c->node->conf, c->known);
    if (!lacking)
        return TRANSPORT_WAIT;
    char why[100];
    snprintf(why, sizeof why, "no configured %s algorithm that libssh2 has", lacking);
    return fall_back(c, why);
}

static enum transport_result check_host_key(struct conversation *c)
{
    size_t len;
    int type;
    const char *key = libssh2_session_hostkey(c->session, &len, &type);
    char reason[ERROR_TEXT_MAX];
    if (!key)
        return libssh2_fail(c, NODE_FAILED, "the node showed no host key");
    switch (trust_host_key(c->node->conf, c->known, (const unsigned char *)key, len, reason)) {
    case TRUST_ACCEPT:
        libssh2_enter(c, METHODS);
        return TRANSPORT_WAIT;
    case TRUST_REFUSE:
        return libssh2_fail(c, NODE_REFUSED, "%s", reason);
    case TRUST_OPENSSH:
        break;
    }
    return fall_back(c, reason);
}

static enum transport_result key_exchange(struct conversation *c)
{
    enum transport_result started = c->session ? TRANSPORT_WAIT : start_session(c);
    if (started != TRANSPORT_WAIT)
        return started;
    int rc = libssh2_session_handshake(c->session, c->fd);
    char words[200];
    switch (rc) {
    case 0:
        return check_host_key(c);
    case LIBSSH2_ERROR_EAGAIN:
        return TRANSPORT_WAIT;
    case LIBSSH2_ERROR_KEX_FAILURE:
    case LIBSSH2_ERROR_METHOD_NONE:
    case LIBSSH2_ERROR_METHOD_NOT_SUPPORTED:
#ifdef LIBSSH2_ERROR_ALGO_UNSUPPORTED /* 1.11 */
    case LIBSSH2_ERROR_ALGO_UNSUPPORTED:
#endif
    case LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE:
    case LIBSSH2_ERROR_HOSTKEY_INIT:
        return fall_back(c, "no algorithm in common with libssh2");
    case LIBSSH2_ERROR_BANNER_RECV:
    case LIBSSH2_ERROR_SOCKET_DISCONNECT:
    case LIBSSH2_ERROR_SOCKET_RECV:
        /* sshd drops connections like this above MaxStartups: the probe tries again. */
        c->base.dropped = true;
        return libssh2_fail(c, NODE_OFFLINE, "the connection was closed during the SSH key exchange: %s",
                            session_words(c, words));
    default:
        return libssh2_fail(c, NODE_FAILED, "SSH key exchange: %s", session_words(c, words));
    }
}

static enum transport_result ask_methods(struct conversation *c)
{
    const char *user = c->node->conf->user;
    char words[200];
    char *list = libssh2_userauth_list(c->session, user, (unsigned)strlen(user));
    if (list) {
        snprintf(c->offers, sizeof c->offers, "%s", list);
        text_clean(c->offers);
        libssh2_enter(c, AUTH);
        return TRANSPORT_WAIT;
    }
    if (libssh2_userauth_authenticated(c->session)) {
        libssh2_enter(c, CHANNEL);
        return TRANSPORT_WAIT;
    }
    switch (libssh2_session_last_errno(c->session)) {
    case LIBSSH2_ERROR_EAGAIN:
        return TRANSPORT_WAIT;
    case LIBSSH2_ERROR_OUT_OF_BOUNDARY:
        return fall_back(c, "a banner that is too large for libssh2");
    default:
        c->base.dropped = true;
        return libssh2_fail(c, NODE_OFFLINE, "the connection was closed before authentication: %s",
                            session_words(c, words));
    }
}

/* No key was let in. */
static enum transport_result not_let_in(struct conversation *c)
{
    const struct sshconf *conf = c->node->conf;
    if (c->auth.identities->skipped)
        return fall_back(c, c->auth.identities->skipped_why);
    if ((conf->gssapi && strstr(c->offers, "gssapi")) || (conf->hostbased && strstr(c->offers, "hostbased")))
        return fall_back(c, "an authentication method that only OpenSSH has");
    return libssh2_fail(c, NODE_REFUSED, "authentication refused for %s: tried %zu key%s; the node takes %s",
                        conf->user, c->auth.identities->count, c->auth.identities->count == 1 ? "" : "s",
                        c->offers);
}

/* libssh2 1.11 takes a connection that ends while it waits for the answer to a key for the key's refusal. */
static bool is_closed(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static enum transport_result authenticate(struct conversation *c)
{
    char words[200];
    size_t tried;
    if (!strstr(c->offers, "publickey"))
        return not_let_in(c);
    switch (auth_step(&c->auth, c->session, c->node->conf->user)) {
    case AUTH_WAIT:
        return TRANSPORT_WAIT;
    case AUTH_ACCEPTED:
        libssh2_enter(c, CHANNEL);
        return TRANSPORT_WAIT;
    case AUTH_NONE_LEFT:
        if (!is_closed(c->fd) || c->auth.identities->count == 0 || c->auth.identities->skipped)
            return not_let_in(c);
        break;
    case AUTH_BROKEN:
        break;
    }
    tried = c->auth.identity < c->auth.identities->count ? c->auth.identity + 1 : c->auth.identities->count;
    return libssh2_fail(
        c, NODE_REFUSED, "the connection was closed during authentication (key %zu of %zu, %s): %s", tried,
        c->auth.identities->count, c->auth.identities->ids[tried - 1].name, session_words(c, words));
}

static enum transport_result open_channel(struct conversation *c)
{
    char words[200];
    /* What a node may have on its way to us is kept in memory: not libssh2's 2 MiB for each. */
    c->channel = libssh2_channel_open_ex(c->session, "session", sizeof "session" - 1, WINDOW,
                                         LIBSSH2_CHANNEL_PACKET_DEFAULT, NULL, 0);
    if (c->channel) {
        libssh2_enter(c, EXEC);
        return TRANSPORT_WAIT;
    }
    if (libssh2_session_last_errno(c->session) == LIBSSH2_ERROR_EAGAIN)
        return TRANSPORT_WAIT;
    return libssh2_fail(c, NODE_FAILED, "no SSH session could be opened: %s", session_words(c, words));
}

static enum transport_result start_shell(struct conversation *c)
{
    char words[200];
    int rc = libssh2_channel_exec(c->channel, "exec /bin/sh -s");
    if (rc == 0)
        libssh2_enter(c, WRITING);
    else if (rc != LIBSSH2_ERROR_EAGAIN)
        return libssh2_fail(c, NODE_FAILED, "the node refused to start a shell: %s", session_words(c, words));
    return TRANSPORT_WAIT;
}

static enum transport_result libssh2_write_script(struct conversation *c)
{
    char words[200];
    if (!c->script->text)
        return TRANSPORT_WAIT;
    while (c->written < c->script->len) {
        ssize_t n =
            libssh2_channel_write(c->channel, c->script->text + c->written, c->script->len - c->written);
        if (n == LIBSSH2_ERROR_EAGAIN)
            return TRANSPORT_WAIT;
        if (n == LIBSSH2_ERROR_CHANNEL_CLOSED || n == LIBSSH2_ERROR_CHANNEL_EOF_SENT)
            break; /* what it has said instead is the reason */
        if (n < 0)
            return libssh2_fail(c, NODE_FAILED, "sending the script: %s", session_words(c, words));
        c->written += (size_t)n;
    }
    int rc = libssh2_channel_send_eof(c->channel);
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return TRANSPORT_WAIT;
    libssh2_enter(c, READING);
    return TRANSPORT_WAIT;
}

static enum transport_result libssh2_read_answer(struct conversation *c)
{
    char buf[16384], words[200];
    bool complete = false;
    ssize_t n, e;
    do {
        n = libssh2_channel_read(c->channel, buf, sizeof buf);
        if (n > 0) {
            if (transport_collect(&c->base, buf, (size_t)n, c->script->end, &complete))
                return end(c, TRANSPORT_FAILED);
            if (complete)
                return end(c, TRANSPORT_DONE);
        }
        /* Undrained diagnostics stop the session once the window is full. */
        e = libssh2_channel_read_stderr(c->channel, buf, sizeof buf);
        if (e > 0 && (c->diagnostics += (size_t)e) > FACTS_ANSWER_MAX)
            return libssh2_fail(c, NODE_FAILED, "answer malformed: more than %d KiB of diagnostics",
                                FACTS_ANSWER_MAX / 1024);
        if (e > 0 && c->words_len < sizeof c->words) {
            size_t left = sizeof c->words - c->words_len, take = (size_t)e < left ? (size_t)e : left;
            memcpy(c->words + c->words_len, buf, take);
            c->words_len += take;
        }
    } while (n > 0 || e > 0);
    if (libssh2_channel_eof(c->channel)) {
        if (c->base.answer_len == 0 && c->words_len > 0 &&
            transport_collect(&c->base, c->words, c->words_len, c->script->end, &complete))
            return end(c, TRANSPORT_FAILED);
        return end(c, TRANSPORT_DONE);
    }
    if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
        return libssh2_fail(c, NODE_FAILED, "the connection ended before the answer did: %s",
                            session_words(c, words));
    return TRANSPORT_WAIT;
}

static enum transport_result (*const actions[])(struct conversation *) = {
    [KEX] = key_exchange,
    [METHODS] = ask_methods,
    [AUTH] = authenticate,
    [CHANNEL] = open_channel,
    [EXEC] = start_shell,
    [WRITING] = libssh2_write_script,
    [READING] = libssh2_read_answer,
};

static enum transport_result libssh2_step(struct transport *t)
{
    struct conversation *c = (struct conversation *)t;
    while (c->phase != CONNECTING && c->phase != ENDED) {
        enum phase before = c->phase;
        enum transport_result result = actions[before](c);
        if (result != TRANSPORT_WAIT || c->phase == before)
            return result;
    }
    return c->phase == ENDED ? c->outcome : TRANSPORT_WAIT;
}

static size_t libssh2_want(const struct transport *t, struct curl_waitfd *fds)
{
    const struct conversation *c = (const struct conversation *)t;
    /* Without a script what comes is not read yet: poll() would return at once, again and again. */
    if (c->fd < 0 || (c->phase == WRITING && !c->script->text))
        return 0;
    size_t n = 0;
    short events = CURL_WAIT_POLLIN;
    if (c->session && (libssh2_session_block_directions(c->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND))
        events |= CURL_WAIT_POLLOUT;
    fds[n++] = (struct curl_waitfd){c->fd, events, 0};
    if (c->auth.request) {
        bool write;
        int fd = agent_fd(c->auth.agent, &write);
        if (fd >= 0)
            fds[n++] =
                (struct curl_waitfd){fd, (short)(CURL_WAIT_POLLIN | (write ? CURL_WAIT_POLLOUT : 0)), 0};
    }
    return n;
}

static const char *phase_name(const struct transport *t)
{
    return phase_names[((const struct conversation *)t)->phase];
}

static void libssh2_destroy(struct transport *t)
{
    struct conversation *c = (struct conversation *)t;
    auth_clear(&c->auth);
    drop_easy(c);
    /* This order frees at once also when the peer is dead: a shut socket makes every send
     * and receive of session_free() fail, none wait; closed first, its number could belong to another. */
    if (c->fd >= 0)
        shutdown(c->fd, SHUT_RDWR);
    if (c->session)
        libssh2_session_free(c->session);
    if (c->fd >= 0)
        close(c->fd);
    known_host_destroy(c->known);
    free(c->base.answer);
    free(c);
}

static const struct transport_ops ops = {"libssh2", libssh2_step, libssh2_want, phase_name, libssh2_destroy};

struct transport *transport_libssh2(struct libssh2_shared *shared, const struct node *node,
                                    const struct transport_script *script, int connect_timeout_ms,
                                    struct error *err)
{
    struct conversation *c = calloc(1, sizeof *c);
    if (!c) {
        error_errno(err, node->name);
        return NULL;
    }
    c->base.ops = &ops;
    c->shared = shared;
    c->node = node;
    c->script = script;
    c->fd = -1;
    const struct sshconf *conf = node->conf;
    const struct known_hosts *known = shared_known_hosts(shared, conf, err);
    c->auth.identities = known ? shared_identities(shared, conf, &c->auth.agent, err) : NULL;
    c->known = c->auth.identities
                   ? known_hosts_lookup(known, conf->hostkeyalias ? conf->hostkeyalias : conf->hostname,
                                        conf->hostkeyalias ? 22 : conf->port, err)
                   : NULL;
    if (!c->known)
        goto fail;
    /* What can be known before the first packet saves a connection. */
    if (known_host_unsure(c->known))
        fall_back(c, "a line of known_hosts that only OpenSSH understands");
    else if (c->auth.identities->count == 0 && c->auth.identities->skipped)
        fall_back(c, c->auth.identities->skipped_why);
    else if (start_connecting(c, connect_timeout_ms, err))
        goto fail;
    return &c->base;
fail:
    libssh2_destroy(&c->base);
    return NULL;
}
