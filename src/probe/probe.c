/* The loop over all conversations.
 *
 * One struct visit for each node that is being asked, one deadline a node that covers everything that is tried for it (libssh2,
 * another try after a dropped connection, the OpenSSH client).  Only conversations
 * whose descriptors are ready are stepped, so that the work is proportional to what happens.
 */
#include "probe/probe.h"

#include "base/child.h"
#include "base/embedded.h"
#include "base/shquote.h"
#include "nodes/accept.h"
#include "plan/descriptors.h"
#include "probe/libssh2_shared.h"
#include "ssh/sshconf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VISITS_MAX 256  /* conversations at once; each costs some 60 KB */
#define VISIT_FDS 4     /* descriptors a conversation may need, at its peak */
#define RESERVED_FDS 32 /* standard streams, libraries, the agent, ssh_config files */
#define RETRY_MS 150    /* at least, before a dropped connection is tried again */

struct visit {
    struct node *node; /* NULL: free */
    struct transport *transport;
    bool fallback;
    long long deadline, retry_at; /* retry_at: 0, or when to open anew */
    unsigned retries;
    enum node_state last_state; /* of a conversation that is being tried again */
    char last_reason[ERROR_TEXT_MAX];
    size_t first_fd, fds; /* its places in the array for poll */
};

struct probe {
    struct node_list *list;
    struct probe_params *params;           /* a copy: ready() completes it */
    struct transport_script script, local; /* what nodes, and what this machine is to be asked */
    CURLM *multi;
    struct libssh2_shared *shared;
    struct visit *visits;
    size_t window, active, next, done;
    struct curl_waitfd *fds;
    uint32_t random; /* xorshift: jitter needs no better one */
};

static char *make_facts_script(const struct probe_params *params, const char *const *pythons, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    if (!out)
        return NULL;
    shell_assign(out, "CLOUDPLAN_NONCE", params->nonce);
    shell_assign(out, "CLOUDPLAN_CHDIR", params->required.chdir);
    shell_assign(out, "CLOUDPLAN_MODULES", params->required.modules ? params->required.modules : "");
    fputs("CLOUDPLAN_PYTHON=", out);
    for (size_t i = 0; pythons[i]; i++) {
        shell_quote(out, pythons[i]);
        shell_quote(out, "\n");
    }
    fputc('\n', out);
    shell_assign(out, "CLOUDPLAN_FACTS", params->required.facts ? "engine_facts" : "");
    fputs(params->required.facts ? params->required.facts : "", out);
    embedded_write(out, "node/lease.sh");
    embedded_write(out, "node/facts.sh");
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

/* As many conversations as descriptors allow; the soft limit is raised first. */
static size_t window_size(size_t nodes)
{
    uint64_t limit = descriptors_limit();
    size_t window = VISITS_MAX;
    if (limit < RESERVED_FDS + VISITS_MAX * VISIT_FDS)
        window = limit > RESERVED_FDS + VISIT_FDS ? (limit - RESERVED_FDS) / VISIT_FDS : 1;
    return window < nodes ? window : nodes;
}

static struct transport *open_real(void *arg, const struct node *node, bool fallback,
                                   const struct transport_script *script, struct error *err)
{
    struct probe *p = arg;
    if (node->local)
        return transport_local(script, err);
    if (fallback || node->conf->unsupported)
        return transport_openssh(node, script, p->params->timeout_ms, err);
    return transport_libssh2(p->shared, node, script, p->params->timeout_ms, err);
}

static void finish_node(struct probe *p, struct visit *visit)
{
    if (visit->transport)
        visit->transport->ops->destroy(visit->transport);
    *visit = (struct visit){0};
    p->active--;
    p->done++;
    if (p->params->progress)
        p->params->progress(p->params->progress_arg, p->list, p->done);
}

static void open_visit(struct probe *p, struct visit *visit)
{
    struct error err = ERROR_INIT;
    visit->retry_at = 0;
    visit->transport = (p->params->open ? p->params->open : open_real)(
        p->params->open ? p->params->open_arg : p, visit->node, visit->fallback,
        visit->node->local ? &p->local : &p->script, &err);
    if (!visit->transport) {
        node_set(visit->node, NODE_FAILED, "%s", err.text);
        finish_node(p, visit);
    }
}

/* Dropped before authentication: again, a little later, with jitter so that not all come back at once. */
static bool try_again(struct probe *p, struct visit *visit)
{
    long long now = clock_ms();
    p->random ^= p->random << 13;
    p->random ^= p->random >> 17;
    p->random ^= p->random << 5;
    long long pause = (long long)(RETRY_MS + p->random % RETRY_MS)
                      << (visit->retries < 4 ? visit->retries : 4);
    if (now + pause >= visit->deadline || visit->retries >= 6)
        return false;
    visit->last_state = visit->transport->state;
    snprintf(visit->last_reason, sizeof visit->last_reason, "%s", visit->transport->err.text);
    visit->transport->ops->destroy(visit->transport);
    visit->transport = NULL;
    visit->retries++;
    visit->retry_at = now + pause;
    return true;
}

static void step_visit(struct probe *p, struct visit *visit)
{
    while (visit->node && visit->transport) {
        struct transport *t = visit->transport;
        struct error err = ERROR_INIT;
        switch (t->ops->step(t)) {
        case TRANSPORT_WAIT:
            return;
        case TRANSPORT_DONE:
            if (facts_parse(&visit->node->facts, t->answer ? t->answer : "", t->answer_len, p->params->nonce,
                            &err))
                node_set(visit->node, NODE_FAILED, "%s", err.text);
            else
                accept_facts(visit->node, &p->params->required);
            finish_node(p, visit);
            return;
        case TRANSPORT_FAILED:
            if (t->dropped && try_again(p, visit))
                return;
            node_set(visit->node, t->state, "%s", t->err.text);
            finish_node(p, visit);
            return;
        case TRANSPORT_FALLBACK:
            snprintf(visit->node->fallback, sizeof visit->node->fallback, "%.150s", t->err.text);
            t->ops->destroy(t);
            visit->transport = NULL;
            visit->fallback = true;
            open_visit(p, visit);
            break;
        }
    }
}

static void fill_window(struct probe *p)
{
    for (size_t i = 0; i < p->window && p->next < p->list->count; i++) {
        struct visit *visit = &p->visits[i];
        while (!visit->node && p->next < p->list->count) {
            struct node *node = &p->list->nodes[p->next++];
            if (node->state != NODE_PENDING) { /* its ssh_config is wrong, say */
                p->done++;
                continue;
            }
            visit->node = node;
            visit->deadline = clock_ms() + p->params->timeout_ms;
            p->active++;
            if (node->conf && node->conf->unsupported)
                snprintf(node->fallback, sizeof node->fallback, "%.150s", node->conf->unsupported);
            open_visit(p, visit);
            if (visit->node)
                step_visit(p, visit);
        }
    }
}

/* Deadlines and retries that are due; returns the time until the next one. */
static int due(struct probe *p)
{
    long long now = clock_ms(), next = now + 1000;
    for (size_t i = 0; i < p->window; i++) {
        struct visit *visit = &p->visits[i];
        if (!visit->node)
            continue;
        /* Without a script no node can answer: that wait has a deadline of its own. */
        if (visit->deadline <= now && p->script.text) {
            if (visit->transport)
                node_set(visit->node, NODE_OFFLINE, "timed out after %d s while %s",
                         p->params->timeout_ms / 1000, visit->transport->ops->phase(visit->transport));
            else
                node_set(visit->node, visit->last_state, "%s", visit->last_reason);
            finish_node(p, visit);
            continue;
        }
        if (visit->retry_at && visit->retry_at <= now) {
            open_visit(p, visit);
            if (visit->node)
                step_visit(p, visit);
        }
        if (visit->node && p->script.text && visit->deadline < next)
            next = visit->deadline;
        if (visit->node && visit->retry_at && visit->retry_at < next)
            next = visit->retry_at;
    }
    return (int)(next - now);
}

static void finished_connections(struct probe *p)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(p->multi, &left)))
        if (msg->msg == CURLMSG_DONE)
            transport_libssh2_connected(msg->easy_handle, msg->data.result);
}

/* Waits until something is ready or due. */
static int wait_for_any(struct probe *p, int timeout_ms, struct error *err)
{
    size_t n = 0;
    p->fds[n++] = (struct curl_waitfd){child_events_fd(), CURL_WAIT_POLLIN, 0};
    for (size_t i = 0; i < p->window; i++) {
        struct visit *visit = &p->visits[i];
        visit->first_fd = n;
        if (visit->node && visit->transport)
            n += visit->transport->ops->want(visit->transport, p->fds + n);
        visit->fds = n - visit->first_fd;
    }
    CURLMcode code = curl_multi_poll(p->multi, p->fds, (unsigned)n, timeout_ms, NULL);
    if (code)
        return error_set(err, STATUS_SYSTEM, "libcurl: %s", curl_multi_strerror(code));
    if (p->fds[0].revents)
        child_events_clear();
    return 0;
}

/* Makes the script once it is known what to ask for.  A node's time starts anew then: it is not the one that was waited for. */
static int get_ready(struct probe *p, struct error *err)
{
    int ready = p->params->ready ? p->params->ready(p->params->ready_arg, p->params, err) : 1;
    if (ready <= 0)
        return ready;
    size_t pythons = 0;
    while (pythons <= FACTS_PYTHONS_MAX && p->params->required.pythons[pythons])
        pythons++;
    if (pythons < 1 || pythons > FACTS_PYTHONS_MAX)
        return error_set(err, STATUS_BUG, "%zu interpreters to ask for, not 1 to %d", pythons,
                         FACTS_PYTHONS_MAX);
    const char *const *local =
        p->params->required.local_pythons ? p->params->required.local_pythons : p->params->required.pythons;
    p->local.text = make_facts_script(p->params, local, &p->local.len);
    p->script.text = make_facts_script(p->params, p->params->required.pythons, &p->script.len);
    if (!p->script.text || !p->local.text)
        return error_set(err, STATUS_SYSTEM, "no memory to ask the nodes");
    for (size_t i = 0; i < p->window; i++)
        if (p->visits[i].node)
            p->visits[i].deadline = clock_ms() + p->params->timeout_ms;
    return 1;
}

static int loop(struct probe *p, struct error *err)
{
    int ready = get_ready(p, err);
    if (ready >= 0)
        fill_window(p);
    while (ready >= 0 && p->active) {
        int running;
        bool just_ready = ready == 0 && (ready = get_ready(p, err)) > 0;
        if (ready < 0)
            break;
        CURLMcode code = curl_multi_perform(p->multi, &running);
        if (code)
            return error_set(err, STATUS_SYSTEM, "libcurl: %s", curl_multi_strerror(code));
        finished_connections(p);
        bool child_event = p->fds[0].revents != 0;
        for (size_t i = 0; i < p->window; i++) {
            struct visit *visit = &p->visits[i];
            /* No descriptor: it is connecting, or its child has closed all and is about to end. */
            bool step = visit->fds == 0 || child_event || just_ready;
            for (size_t f = visit->first_fd; f < visit->first_fd + visit->fds; f++)
                step = step || p->fds[f].revents;
            if (visit->node && step)
                step_visit(p, visit);
        }
        if (child_signal())
            return error_set(err, STATUS_SIGNAL + child_signal(), "%s while asking the nodes",
                             strsignal(child_signal()));
        int timeout_ms = due(p);
        fill_window(p);
        if (p->active && wait_for_any(p, timeout_ms, err))
            return -1;
    }
    return ready < 0 ? -1 : 0;
}

int probe_run(struct node_list *list, const struct probe_params *params, struct error *err)
{
    struct probe_params own = *params;
    struct probe p = {.list = list, .params = &own, .random = (uint32_t)clock_ms() | 1};
    int result = -1;
    char end[128];
    snprintf(end, sizeof end, "cloudplan-end %s", params->nonce);
    p.script.end = p.local.end = end;
    p.window = window_size(list->count);
    p.visits = calloc(p.window ? p.window : 1, sizeof *p.visits);
    p.fds = calloc(1 + p.window * TRANSPORT_FDS_MAX, sizeof *p.fds);
    p.multi = curl_multi_init();
    if (!p.visits || !p.fds || !p.multi) {
        error_set(err, STATUS_SYSTEM, "no memory to ask the nodes");
        goto out;
    }
    p.shared = libssh2_shared_create(p.multi, err);
    if (p.shared)
        result = loop(&p, err);
out:
    for (size_t i = 0; p.visits && i < p.window; i++)
        if (p.visits[i].transport)
            p.visits[i].transport->ops->destroy(p.visits[i].transport);
    libssh2_shared_destroy(p.shared);
    if (p.multi)
        curl_multi_cleanup(p.multi);
    free(p.visits);
    free(p.fds);
    free((char *)p.script.text);
    free((char *)p.local.text);
    return result;
}
