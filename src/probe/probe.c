/* The loop over all conversations.
 *
 * One struct a slot, one deadline a node that covers everything that is tried for it (libssh2,
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

#define SLOTS_MAX 256   /* conversations at once; each costs some 60 KB */
#define SLOT_FDS 4      /* descriptors a conversation may need, at its peak */
#define RESERVED_FDS 32 /* standard streams, libraries, the agent, ssh_config files */
#define RETRY_MS 150    /* at least, before a dropped connection is tried again */

struct slot {
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
    struct slot *slots;
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
    size_t window = SLOTS_MAX;
    if (limit < RESERVED_FDS + SLOTS_MAX * SLOT_FDS)
        window = limit > RESERVED_FDS + SLOT_FDS ? (limit - RESERVED_FDS) / SLOT_FDS : 1;
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

static void finish_node(struct probe *p, struct slot *slot)
{
    if (slot->transport)
        slot->transport->ops->destroy(slot->transport);
    *slot = (struct slot){0};
    p->active--;
    p->done++;
    if (p->params->progress)
        p->params->progress(p->params->progress_arg, p->list, p->done);
}

static void open_slot(struct probe *p, struct slot *slot)
{
    struct error err = ERROR_INIT;
    slot->retry_at = 0;
    slot->transport = (p->params->open ? p->params->open : open_real)(
        p->params->open ? p->params->open_arg : p, slot->node, slot->fallback,
        slot->node->local ? &p->local : &p->script, &err);
    if (!slot->transport) {
        node_set(slot->node, NODE_FAILED, "%s", err.text);
        finish_node(p, slot);
    }
}

/* Dropped before authentication: again, a little later, with jitter so that not all come back at once. */
static bool try_again(struct probe *p, struct slot *slot)
{
    long long now = clock_ms();
    p->random ^= p->random << 13;
    p->random ^= p->random >> 17;
    p->random ^= p->random << 5;
    long long pause = (long long)(RETRY_MS + p->random % RETRY_MS) << (slot->retries < 4 ? slot->retries : 4);
    if (now + pause >= slot->deadline || slot->retries >= 6)
        return false;
    slot->last_state = slot->transport->state;
    snprintf(slot->last_reason, sizeof slot->last_reason, "%s", slot->transport->err.text);
    slot->transport->ops->destroy(slot->transport);
    slot->transport = NULL;
    slot->retries++;
    slot->retry_at = now + pause;
    return true;
}

static void step_slot(struct probe *p, struct slot *slot)
{
    while (slot->node && slot->transport) {
        struct transport *t = slot->transport;
        struct error err = ERROR_INIT;
        switch (t->ops->step(t)) {
        case TRANSPORT_WAIT:
            return;
        case TRANSPORT_DONE:
            if (facts_parse(&slot->node->facts, t->answer ? t->answer : "", t->answer_len, p->params->nonce,
                            &err))
                node_set(slot->node, NODE_FAILED, "%s", err.text);
            else
                accept_facts(slot->node, &p->params->required);
            finish_node(p, slot);
            return;
        case TRANSPORT_FAILED:
            if (t->dropped && try_again(p, slot))
                return;
            node_set(slot->node, t->state, "%s", t->err.text);
            finish_node(p, slot);
            return;
        case TRANSPORT_FALLBACK:
            snprintf(slot->node->fallback, sizeof slot->node->fallback, "%.150s", t->err.text);
            t->ops->destroy(t);
            slot->transport = NULL;
            slot->fallback = true;
            open_slot(p, slot);
            break;
        }
    }
}

static void fill_window(struct probe *p)
{
    for (size_t i = 0; i < p->window && p->next < p->list->count; i++) {
        struct slot *slot = &p->slots[i];
        while (!slot->node && p->next < p->list->count) {
            struct node *node = &p->list->nodes[p->next++];
            if (node->state != NODE_PENDING) { /* its ssh_config is wrong, say */
                p->done++;
                continue;
            }
            slot->node = node;
            slot->deadline = clock_ms() + p->params->timeout_ms;
            p->active++;
            if (node->conf && node->conf->unsupported)
                snprintf(node->fallback, sizeof node->fallback, "%.150s", node->conf->unsupported);
            open_slot(p, slot);
            if (slot->node)
                step_slot(p, slot);
        }
    }
}

/* Deadlines and retries that are due; returns the time until the next one. */
static int due(struct probe *p)
{
    long long now = clock_ms(), next = now + 1000;
    for (size_t i = 0; i < p->window; i++) {
        struct slot *slot = &p->slots[i];
        if (!slot->node)
            continue;
        /* Without a script no node can answer: that wait has a deadline of its own. */
        if (slot->deadline <= now && p->script.text) {
            if (slot->transport)
                node_set(slot->node, NODE_OFFLINE, "timed out after %d s while %s",
                         p->params->timeout_ms / 1000, slot->transport->ops->phase(slot->transport));
            else
                node_set(slot->node, slot->last_state, "%s", slot->last_reason);
            finish_node(p, slot);
            continue;
        }
        if (slot->retry_at && slot->retry_at <= now) {
            open_slot(p, slot);
            if (slot->node)
                step_slot(p, slot);
        }
        if (slot->node && p->script.text && slot->deadline < next)
            next = slot->deadline;
        if (slot->node && slot->retry_at && slot->retry_at < next)
            next = slot->retry_at;
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
        struct slot *slot = &p->slots[i];
        slot->first_fd = n;
        if (slot->node && slot->transport)
            n += slot->transport->ops->want(slot->transport, p->fds + n);
        slot->fds = n - slot->first_fd;
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
        if (p->slots[i].node)
            p->slots[i].deadline = clock_ms() + p->params->timeout_ms;
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
            struct slot *slot = &p->slots[i];
            /* No descriptor: it is connecting, or its child has closed all and is about to end. */
            bool step = slot->fds == 0 || child_event || just_ready;
            for (size_t f = slot->first_fd; f < slot->first_fd + slot->fds; f++)
                step = step || p->fds[f].revents;
            if (slot->node && step)
                step_slot(p, slot);
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
    p.slots = calloc(p.window ? p.window : 1, sizeof *p.slots);
    p.fds = calloc(1 + p.window * TRANSPORT_FDS_MAX, sizeof *p.fds);
    p.multi = curl_multi_init();
    if (!p.slots || !p.fds || !p.multi) {
        error_set(err, STATUS_SYSTEM, "no memory to ask the nodes");
        goto out;
    }
    p.shared = libssh2_shared_create(p.multi, err);
    if (p.shared)
        result = loop(&p, err);
out:
    for (size_t i = 0; p.slots && i < p.window; i++)
        if (p.slots[i].transport)
            p.slots[i].transport->ops->destroy(p.slots[i].transport);
    libssh2_shared_destroy(p.shared);
    if (p.multi)
        curl_multi_cleanup(p.multi);
    free(p.slots);
    free(p.fds);
    free((char *)p.script.text);
    free((char *)p.local.text);
    return result;
}
