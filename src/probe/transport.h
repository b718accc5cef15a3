/* How to run one script on one node, never blocking.
 *
 * A transport is a conversation: connect, authenticate, run `sh -s` with the script
 * on its stdin, collect stdout until the line that ends the answer.  The probe's loop owns the clock and the poll;
 * a transport only says what it waits for.  What the answer means is not known here.
 */
#ifndef CLOUDPLAN_TRANSPORT_H
#define CLOUDPLAN_TRANSPORT_H

#include "base/error.h"
#include "nodes/node.h"

#include <curl/curl.h>
#include <stddef.h>

enum transport_result {
    TRANSPORT_WAIT,    /* nothing to do until a descriptor of want() is ready */
    TRANSPORT_DONE,    /* answer and answer_len hold */
    TRANSPORT_FAILED,  /* state and err hold */
    TRANSPORT_FALLBACK /* this transport cannot; err says why: try the OpenSSH client */
};

#define TRANSPORT_FDS_MAX 3

struct transport;

struct transport_ops {
    const char *name; /* "libssh2", "ssh", "local" */
    /* Goes as far as it can without waiting. */
    enum transport_result (*step)(struct transport *t);
    /* Fills what it waits for; returns how many, at most TRANSPORT_FDS_MAX. */
    size_t (*want)(const struct transport *t, struct curl_waitfd *fds);
    /* What it was doing, for a time-out: "connecting", "waiting for the banner", ... static. */
    const char *(*phase)(const struct transport *t);
    void (*destroy)(struct transport *t); /* frees; ends the conversation at once */
};

struct transport {
    const struct transport_ops *ops;
    char *answer; /* owned by the transport; NUL-terminated */
    size_t answer_len;
    enum node_state state; /* on FAILED: NODE_OFFLINE, NODE_REFUSED or NODE_FAILED */
    bool dropped; /* on FAILED: cut before authentication, as sshd's MaxStartups does: worth another try */
    struct error err; /* on FAILED and FALLBACK: the reason */
};

/* The script to run.  Borrowed: must outlive the transport. */
struct transport_script {
    /* NULL: not known yet; all up to sending it is done meanwhile, and step() is to be called when it is
     * */
    const char *text;
    size_t len;
    const char *end; /* the line that ends the answer */
};

struct libssh2_shared; /* libssh2_shared.h */
/* To be called with the easy handle of each CURLMSG_DONE. */
void transport_libssh2_connected(CURL *easy, CURLcode result);

/* Each returns NULL and *err where it cannot even begin (STATUS_SYSTEM).  node->conf is needed by the first two. */
struct transport *transport_libssh2(struct libssh2_shared *shared, const struct node *node,
                                    const struct transport_script *script, int connect_timeout_ms,
                                    struct error *err);
struct transport *transport_openssh(const struct node *node, const struct transport_script *script,
                                    int connect_timeout_ms, struct error *err);
struct transport *transport_local(const struct transport_script *script, struct error *err);

/* Adds len bytes to t->answer; -1 and t->err where FACTS_ANSWER_MAX would be passed (then
 * t->state is NODE_FAILED).  *complete is set once the end line has come. */
int transport_collect(struct transport *t, const char *data, size_t len, const char *end, bool *complete);

#endif
