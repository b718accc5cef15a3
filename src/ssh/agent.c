/* A client of the SSH agent that never waits once it is open.
 *
 * Decided here: requests stand in line and the head alone is under way, since not every agent answers
 * requests that come in a heap.  The agent is not trusted: its lengths are bounded before memory is asked
 * for, and after one senseless message nothing it says is read any more.  A broken connection is shut down
 * but kept open until each request in line has seen it: the shut socket wakes whoever polls it.
 */
#include "ssh/agent.h"

#include "ssh/key.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { /* draft-miller-ssh-agent 6.1 */
       REQUEST_IDENTITIES = 11,
       IDENTITIES_ANSWER = 12,
       SIGN_REQUEST = 13,
       SIGN_RESPONSE = 14
};

#define MESSAGE_MAX ((size_t)256 << 10) /* as OpenSSH's */
#define KEYS_MAX 2048                   /* as OpenSSH's */

struct agent_request {
    struct agent *agent; /* NULL once the agent is destroyed */
    struct agent_request *next;
    enum agent_state state;
    bool abandoned; /* destroyed while under way: the agent frees it after its reply */
    unsigned char *message, *reply;
    size_t message_len, sent, reply_len;
    struct wire signature; /* within reply */
};

struct agent {
    int fd;
    bool broken;
    struct agent_keys keys;
    struct agent_request *head; /* under way */
    unsigned char length[4];    /* of the reply that is being read */
    size_t length_have, reply_have;
};

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void free_request(struct agent_request *request)
{
    free(request->message);
    free(request->reply);
    free(request);
}

static void unlink_request(struct agent *agent, struct agent_request *request)
{
    struct agent_request **p = &agent->head;
    while (*p != request)
        p = &(*p)->next;
    *p = request->next;
}

static void break_off(struct agent *agent)
{
    agent->broken = true;
    shutdown(agent->fd, SHUT_RDWR);
}

/* Whether the reply is one whole signature: string type, string blob. */
static bool parse_signature(const struct agent_request *request, struct wire *signature)
{
    struct wire reply = {request->reply, request->reply_len}, inner, part;
    if (reply.left == 0 || *reply.p != SIGN_RESPONSE)
        return false;
    reply.p++;
    reply.left--;
    if (!wire_string(&reply, signature) || reply.left)
        return false;
    inner = *signature;
    return wire_string(&inner, &part) && wire_string(&inner, &part) && inner.left == 0;
}

/* Whether a transfer is over for now: nothing moved, or the connection broke. */
static bool stalled(struct agent *agent, ssize_t n)
{
    if (n > 0)
        return false;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        break_off(agent);
    return n == 0 || errno != EINTR;
}

/* Sends what is left of the head's message.  false: not all of it went. */
static bool send_message(struct agent *agent, struct agent_request *head)
{
    while (head->sent < head->message_len) {
        ssize_t n = send(agent->fd, head->message + head->sent, head->message_len - head->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (stalled(agent, n))
            return false;
        head->sent += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Makes room for the reply whose length has come.  false: the connection broke. */
static bool start_reply(struct agent *agent, struct agent_request *head)
{
    struct wire wire = {agent->length, sizeof agent->length};
    uint32_t len = 0;
    if (wire_u32(&wire, &len) && len > 0 && len <= MESSAGE_MAX)
        head->reply = malloc(len);
    head->reply_len = len;
    if (!head->reply)
        break_off(agent);
    return head->reply;
}

/* Reads what is left of the head's reply.  false: not all of it has come. */
static bool receive_reply(struct agent *agent, struct agent_request *head)
{
    while (!head->reply || agent->reply_have < head->reply_len) {
        size_t *have = head->reply ? &agent->reply_have : &agent->length_have;
        unsigned char *into = head->reply ? head->reply : agent->length;
        size_t size = head->reply ? head->reply_len : sizeof agent->length;
        ssize_t n = recv(agent->fd, into + *have, size - *have, MSG_DONTWAIT);
        if (stalled(agent, n))
            return false;
        *have += n > 0 ? (size_t)n : 0;
        if (!head->reply && *have == size && !start_reply(agent, head))
            return false;
    }
    return true;
}

/* Goes on until something has to be waited for, or another's reply is next. */
static void drive(struct agent *agent, const struct agent_request *self)
{
    while (!agent->broken && agent->head) {
        struct agent_request *head = agent->head;
        if (!send_message(agent, head) || (head != self && !head->abandoned) || !receive_reply(agent, head))
            return;
        agent->head = head->next;
        agent->length_have = agent->reply_have = 0;
        head->state = parse_signature(head, &head->signature) ? AGENT_SIGNED : AGENT_REFUSED;
        if (head->abandoned)
            free_request(head);
    }
}

/* Puts a request for a body of this size at the end of the line; the caller writes the body behind the
 * length. */
static struct agent_request *enqueue(struct agent *agent, size_t body_len)
{
    struct agent_request *request = calloc(1, sizeof *request);
    if (!request || !(request->message = malloc(4 + body_len))) {
        free(request);
        return NULL;
    }
    request->agent = agent;
    request->message_len = 4 + body_len;
    for (int i = 0; i < 4; i++)
        request->message[i] = (unsigned char)(body_len >> (24 - 8 * i));
    struct agent_request **end = &agent->head;
    while (*end)
        end = &(*end)->next;
    *end = request;
    return request;
}

static unsigned char *put_string(unsigned char *p, const unsigned char *data, size_t len)
{
    for (int i = 0; i < 4; i++)
        *p++ = (unsigned char)(len >> (24 - 8 * i));
    memcpy(p, data, len);
    return p + len;
}

struct agent_request *agent_sign(struct agent *agent, const unsigned char *blob, size_t blob_len,
                                 const unsigned char *data, size_t data_len)
{
    if (blob_len > MESSAGE_MAX || data_len > MESSAGE_MAX || 13 + blob_len + data_len > MESSAGE_MAX) {
        /* No agent takes it: a request that is refused, in no line. */
        struct agent_request *refused = calloc(1, sizeof *refused);
        if (refused)
            refused->state = AGENT_REFUSED;
        return refused;
    }
    struct agent_request *request = enqueue(agent, 1 + 4 + blob_len + 4 + data_len + 4);
    if (!request)
        return NULL;
    unsigned char *p = request->message + 4;
    *p++ = SIGN_REQUEST;
    p = put_string(p, blob, blob_len);
    p = put_string(p, data, data_len);
    memset(p, 0, 4); /* no flags: they are RSA's */
    return request;
}

enum agent_state agent_request_state(struct agent_request *request)
{
    if (request->state == AGENT_WAITING)
        drive(request->agent, request);
    if (request->state == AGENT_WAITING && request->agent->broken) {
        unlink_request(request->agent, request);
        request->state = AGENT_REFUSED;
    }
    return request->state;
}

const unsigned char *agent_request_signature(const struct agent_request *request, size_t *len)
{
    *len = request->signature.left;
    return request->signature.p;
}

void agent_request_destroy(struct agent_request *request)
{
    int saved = errno;
    if (request && request->state == AGENT_WAITING && request->sent > 0) {
        request->abandoned = true;
    } else if (request) {
        if (request->state == AGENT_WAITING)
            unlink_request(request->agent, request);
        free_request(request);
    }
    errno = saved;
}

int agent_fd(const struct agent *agent, bool *want_write)
{
    *want_write = agent->head && !agent->broken && agent->head->sent < agent->head->message_len;
    for (const struct agent_request *r = agent->head; r; r = r->next)
        if (!r->abandoned)
            return agent->fd;
    return -1;
}

const struct agent_keys *agent_keys(const struct agent *agent)
{
    return &agent->keys;
}

static int add_key(struct agent_keys *keys, const struct wire *blob, const struct wire *comment)
{
    struct agent_key *key = &keys->keys[keys->count];
    key->blob = malloc(blob->left + 1);
    key->comment = malloc(comment->left + 1);
    if (!key->blob || !key->comment) {
        free(key->blob);
        free(key->comment);
        return -1;
    }
    key->len = blob->left;
    memcpy(key->blob, blob->p, blob->left);
    for (size_t i = 0; i < comment->left; i++)
        key->comment[i] = comment->p[i] ? (char)comment->p[i] : '?';
    key->comment[comment->left] = '\0';
    text_clean(key->comment);
    keys->count++;
    return 0;
}

/* The answer to REQUEST_IDENTITIES.  -1: errno EBADMSG or ENOMEM. */
static int parse_keys(const unsigned char *reply, size_t len, struct agent_keys *keys)
{
    uint32_t count;
    struct wire wire = {reply, len}, blob, comment;
    errno = EBADMSG;
    if (wire.left == 0 || *wire.p != IDENTITIES_ANSWER)
        return -1;
    wire.p++;
    wire.left--;
    if (!wire_u32(&wire, &count) || count > KEYS_MAX)
        return -1;
    keys->keys = calloc(count + 1, sizeof *keys->keys);
    if (!keys->keys)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        if (!wire_string(&wire, &blob) || !wire_string(&wire, &comment) || add_key(keys, &blob, &comment))
            return -1;
    return 0;
}

/* Asks for the keys and waits for them.  -1: errno. */
static int fetch_keys(struct agent *agent, long long deadline)
{
    struct agent_request *request = enqueue(agent, 1);
    if (!request)
        return -1;
    request->message[4] = REQUEST_IDENTITIES;
    int result = -1;
    while (agent_request_state(request) == AGENT_WAITING) {
        long long left = deadline - now_ms();
        bool want_write;
        struct pollfd pollfd = {.fd = agent_fd(agent, &want_write)};
        pollfd.events = (short)(POLLIN | (want_write ? POLLOUT : 0));
        if (left <= 0) {
            errno = ETIMEDOUT;
            goto out;
        }
        if (poll(&pollfd, 1, (int)left) == -1 && errno != EINTR)
            goto out;
    }
    if (agent->broken)
        errno = EBADMSG;
    else /* a list is no signature, so the state says nothing */
        result = parse_keys(request->reply, request->reply_len, &agent->keys);
out:
    agent_request_destroy(request);
    return result;
}

static struct agent *open_until(int fd, long long deadline)
{
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent) {
        close(fd);
        return NULL;
    }
    agent->fd = fd;
    if (fetch_keys(agent, deadline)) {
        agent_destroy(agent);
        return NULL;
    }
    return agent;
}

static void set_error(struct error *err, const char *name)
{
    const char *what = errno == ETIMEDOUT ? "it does not answer"
                       : errno == EBADMSG ? "it does not list its keys"
                                          : strerror(errno);
    error_set(err, STATUS_SYSTEM, "%s: cannot use the SSH agent: %s; restart it or unset SSH_AUTH_SOCK", name,
              what);
}

struct agent *agent_open_fd(int fd, int timeout_ms, struct error *err)
{
    struct agent *agent = open_until(fd, now_ms() + timeout_ms);
    if (!agent)
        set_error(err, "agent");
    return agent;
}

/* Connects within the deadline: a full backlog makes connect(2) wait, for which SO_SNDTIMEO is the limit. */
static int connect_until(const char *path, long long deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return -1;
    do {
        long long left = deadline - now_ms();
        if (left <= 0) {
            errno = EAGAIN;
            break;
        }
        struct timeval limit = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
        if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
            connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
            return fd;
    } while (errno == EINTR);
    int saved = errno == EAGAIN ? ETIMEDOUT : errno;
    close(fd);
    errno = saved;
    return -1;
}

struct agent *agent_open(const char *path, int timeout_ms, struct error *err)
{
    long long deadline = now_ms() + timeout_ms;
    int fd = connect_until(path, deadline);
    struct agent *agent = fd == -1 ? NULL : open_until(fd, deadline);
    if (!agent)
        set_error(err, path);
    return agent;
}

void agent_destroy(struct agent *agent)
{
    int saved = errno;
    if (!agent)
        return;
    while (agent->head) {
        struct agent_request *request = agent->head;
        agent->head = request->next;
        request->agent = NULL;
        request->state = AGENT_REFUSED;
        if (request->abandoned)
            free_request(request);
    }
    for (size_t i = 0; i < agent->keys.count; i++) {
        free(agent->keys.keys[i].blob);
        free(agent->keys.keys[i].comment);
    }
    free(agent->keys.keys);
    close(agent->fd);
    free(agent);
    errno = saved;
}
