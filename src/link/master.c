/* Control masters as our own children.
 *
 * Not `ssh -f`: a daemon would survive a kill -9 of cloudplan, and its end would go unnoticed.  A child
 * in a session of its own gets SIGTERM from the kernel when we die, and its standard input is
 * what the guard on the node waits for.  The guard's line also tells that the master listens: ssh
 * binds the control socket before it opens its own session.
 *
 * Sessions beyond the node's MaxSessions are refused by the master; ssh then connects anew by itself,
 * with the same generated configuration.
 */
#include "link/master.h"

#include "base/child.h"
#include "base/path.h"
#include "link/guard.h"
#include "link/master_config.h"
#include "ssh/ssh_target.h"
#include "ssh/ssherr.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES_MAX 3
#define SLOT_MAX 9 /* scripts/node/guard.sh */

/* A node that has heard nothing for six beats takes us for gone. */
#define BEAT_S 15

/* When a connection broke in the middle of a run: how long its node may take to come back. */
#define PATIENCE_MS 10000
#define RETRY_MS 500

enum master_state {
    MASTER_NONE,
    MASTER_OPENING,
    MASTER_WAITING,  /* to be opened again */
    MASTER_UNMARKED, /* its guard waits: masters_adopt() */
    MASTER_OPEN,
    MASTER_ASKED /* ms->question */
};

struct master {
    struct node *node;
    enum master_state state;
    struct guard guard;
    unsigned tries;
    uint32_t processes;          /* the node's share: kept while it is out */
    long long retry_at;          /* while MASTER_WAITING */
    bool again;                  /* it was open before */
    bool answered;               /* this guard needs not be asked again what is to be asked once */
    char line[MASTERS_LINE_MAX]; /* the command */
};

struct masters {
    struct master_params params;
    char *config;
    char *script;
    size_t script_len;
    int beat_s;
    const struct masters_question *question; /* the latest one; borrowed */
    char nonce[40];
    bool no_memory;     /* for what a node has told: nothing can go on */
    long long patience; /* until then a node that is offline is tried again */
    struct master *masters;
    size_t count;
    struct pollfd *fds; /* for wait_all(): what has been asked is answered, with or without memory */
};

static char *make_guard_script(const struct masters *ms, size_t *len)
{
    const struct master_params *params = &ms->params;
    const struct guard_params guard = {
        .nonce = ms->nonce,
        .run_id = params->run_id,
        .chdir = params->chdir,
        .adopt = params->adopt,
        .who = params->who,
        .beat_s = ms->beat_s,
        .root = params->root,
        .venv = params->venv,
        .venv_remote = params->venv_remote,
        .python = params->python,
        .engine = params->engine,
        .outside = params->outside,
        .links = params->links,
        .programs = params->programs,
        .eggs = params->eggs,
    };
    return guard_script(&guard, len);
}

/* Here, for a lease.  It knows of no connection: what came over one to this machine must not be taken for the run's. */
static int start_here(struct master *m, struct error *err)
{
    static const char *const argv[] = {"/bin/sh", "-s", "none", NULL};
    const struct child_spec spec = {.argv = argv,
                                    .env = child_unmarked,
                                    .in = CHILD_PIPE,
                                    .out = CHILD_PIPE,
                                    .err = CHILD_PIPE,
                                    .detached = true};
    return child_start(&m->guard.child, &spec, err);
}

static int start_there(const struct masters *ms, struct master *m, struct error *err)
{
    const struct node *node = m->node;
    const char *argv[20];
    char port[SSH_TARGET_PORT], command[40];
    size_t n = 0;
    /* A connection that broke left a copy behind: the new one is for no other. */
    snprintf(command, sizeof command, "exec /bin/sh -s %u", node->slot);
    argv[n++] = "ssh";
    argv[n++] = "-F";
    argv[n++] = ms->config;
    /* A master that was killed has left its socket.  "auto" takes that away; the first time there may be only another
     * node's, another name for the same host, that must not be taken for a master of ours. */
    argv[n++] = m->again ? "-oControlMaster=auto" : "-M";
    argv[n++] = "-T";
    /* The configuration's level is for the engine's many; this one's words are the reason why a node is left out. */
    argv[n++] = "-oLogLevel=INFO";
    n += ssh_target(node, argv + n, port);
    argv[n++] = command;
    argv[n] = NULL;
    static const char *const env[] = {"SSH_ASKPASS_REQUIRE=never", NULL};
    const struct child_spec spec = {
        .argv = argv, .env = env, .in = CHILD_PIPE, .out = CHILD_PIPE, .err = CHILD_PIPE, .detached = true};
    return child_start(&m->guard.child, &spec, err);
}

static int start_master(struct masters *ms, struct master *m, struct error *err)
{
    m->tries++;
    if (m->node->local ? start_here(m, err) : start_there(ms, m, err))
        return -1;
    guard_begin(&m->guard, ms->script, ms->script_len);
    m->state = MASTER_OPENING;
    m->answered = false;
    return 0;
}

static void drop(struct master *m, enum node_state state, const char *reason)
{
    m->processes = m->node->processes;
    node_set(m->node, state, "%s", reason);
    child_end(&m->guard.child, 0);
    m->state = MASTER_NONE;
}

/* A node that was asked something and is of no use now. */
static void drop_asked(struct masters *ms, struct master *m, enum node_state state, const char *why)
{
    char reason[ERROR_TEXT_MAX];
    snprintf(reason, sizeof reason, "%.40s failed: %.440s", ms->question->command, why);
    drop(m, state, reason);
}

/* "ok 1 DIR", "ok 0" without a copy, "adopt DIR"; all else is why there is none.  False: it is of another form. */
static bool parse_opened(const struct node *node, const char *answer, unsigned *slot, const char **dir)
{
    *slot = 1;
    *dir = answer + strlen("adopt ");
    if (!strncmp(answer, "adopt ", strlen("adopt ")))
        return !node->local && !node->slot;
    if (strncmp(answer, "ok ", strlen("ok ")) || answer[3] < '0' || answer[3] > '0' + SLOT_MAX)
        return false;
    *slot = (unsigned)(answer[3] - '0');
    *dir = *slot ? answer + strlen("ok 1 ") : NULL;
    return (*slot == 0) == node->local && (*slot ? answer[4] == ' ' : answer[4] == '\0');
}

static void opened(struct masters *ms, struct master *m, const char *answer)
{
    struct node *node = m->node;
    struct error why = ERROR_INIT;
    unsigned slot;
    const char *dir;
    if (!parse_opened(node, answer, &slot, &dir))
        drop(m, NODE_UNFIT, answer);
    else if (node->slot && (node->slot != slot || (node->dir && strcmp(node->dir, dir))))
        drop(m, NODE_FAILED, "the connection broke, and now the node has another copy for this run");
    else if (dir && node_set_dir(node, ms->params.chdir, slot, dir, &why)) {
        ms->no_memory = ms->no_memory || why.status == STATUS_SYSTEM;
        drop(m, NODE_UNFIT, why.text);
    } else if (*answer == 'a') {
        node->unmarked = true;
        m->state = MASTER_UNMARKED;
    } else {
        node->unmarked = false;
        node->slot = slot;
        m->state = MASTER_OPEN;
    }
}

static void answered(struct masters *ms, struct master *m, const char *answer)
{
    if (m->state == MASTER_OPENING) {
        opened(ms, m, answer);
        return;
    }
    m->state = MASTER_OPEN;
    bool final = ms->question->answer(ms->question->arg, m->node, answer);
    m->answered = ms->question->once ? final : m->answered;
    if (m->node->state != NODE_READY) {
        char reason[ERROR_TEXT_MAX];
        snprintf(reason, sizeof reason, "%s", m->node->reason);
        drop(m, m->node->state, reason);
    }
}

/* ssh has ended without an answer. */
static void lost(struct masters *ms, struct master *m)
{
    char reason[ERROR_TEXT_MAX];
    enum node_state state = ssh_failure(m->guard.words, reason);
    if (m->node->local) {
        state = NODE_FAILED;
        strcpy(reason, "the shell that was to hold its lease ended");
    }
    if (m->state == MASTER_ASKED) {
        /* What was done there is half done: only the next sync makes it whole. */
        drop_asked(ms, m, state, reason);
        return;
    }
    bool cut = state == NODE_OFFLINE && ssh_dropped(m->guard.words);
    drop(m, state, reason);
    /* Above MaxStartups sshd closes connections at random. */
    if ((cut && m->tries < TRIES_MAX) || (state == NODE_OFFLINE && clock_ms() < ms->patience)) {
        m->state = MASTER_WAITING;
        m->retry_at = clock_ms() + RETRY_MS;
    }
}

static bool in_talk(const struct master *m)
{
    return m->state == MASTER_OPENING || m->state == MASTER_ASKED;
}

static void advance(struct masters *ms, struct master *m)
{
    char answer[GUARD_ANSWER_MAX];
    if (m->state == MASTER_WAITING && m->retry_at <= clock_ms()) {
        node_set(m->node, NODE_READY, "%s", "");
        m->node->processes = m->processes;
        struct error why = ERROR_INIT;
        if (start_master(ms, m, &why))
            drop(m, NODE_FAILED, why.text);
    }
    if (!in_talk(m))
        return;
    guard_turn(&m->guard);
    if (guard_answer(&m->guard, ms->nonce, m->state == MASTER_ASKED ? ms->question->command : "", answer))
        answered(ms, m, answer);
    else if (guard_ended(&m->guard))
        lost(ms, m);
}

static void give_up(struct masters *ms, struct master *m, int timeout_ms)
{
    char reason[100];
    bool asked = m->state == MASTER_ASKED;
    snprintf(reason, sizeof reason, "timed out after %d s%s", timeout_ms / 1000,
             asked ? "" : " while opening the control master");
    if (asked)
        drop_asked(ms, m, NODE_FAILED, reason);
    else
        drop(m, NODE_OFFLINE, reason);
}

/* Until every master that was asked something has answered or failed.  DOING is for the error's text. */
static int wait_all(struct masters *ms, int timeout_ms, const char *doing, struct error *err)
{
    struct pollfd *fds = ms->fds;
    long long end = clock_ms() + timeout_ms;
    int result = -1;
    for (;;) {
        nfds_t n = 0;
        bool waiting = false;
        fds[n++] = (struct pollfd){child_events_fd(), POLLIN, 0};
        for (size_t i = 0; i < ms->count; i++) {
            struct master *m = &ms->masters[i];
            advance(ms, m);
            waiting = waiting || m->state == MASTER_WAITING;
            if (in_talk(m))
                n += guard_poll(&m->guard, fds + n);
        }
        if (child_signal()) {
            error_set(err, STATUS_SIGNAL + child_signal(), "%s while %s", strsignal(child_signal()), doing);
            break;
        }
        if (ms->no_memory) {
            error_set(err, STATUS_SYSTEM, "no memory while %s", doing);
            break;
        }
        long long left = end - clock_ms();
        if ((n == 1 && !waiting) || left <= 0) {
            result = 0;
            break;
        }
        int pause = waiting ? RETRY_MS / 5 : 1000;
        poll(fds, n, left < pause ? (int)left : pause);
        child_events_clear();
    }
    for (size_t i = 0; result == 0 && i < ms->count; i++) {
        struct master *m = &ms->masters[i];
        if (in_talk(m))
            give_up(ms, m, timeout_ms);
        else if (m->state == MASTER_WAITING)
            m->state = MASTER_NONE; /* its node is out already, and may not come back unasked */
    }
    return result;
}

static int wait_open(struct masters *ms, struct error *err)
{
    return wait_all(ms, ms->params.timeout_ms, "connecting to the nodes", err);
}

/* Shorter only for tests, which cannot wait for so long: for nobody else. */
static int beat_seconds(void)
{
    const char *text = getenv("CLOUDPLAN_BEAT");
    int seconds = text ? atoi(text) : 0;
    return seconds > 0 && seconds < BEAT_S ? seconds : BEAT_S;
}

static void beat(void *arg)
{
    struct masters *ms = arg;
    for (size_t i = 0; i < ms->count; i++) {
        struct master *m = &ms->masters[i];
        if (m->state == MASTER_OPEN || m->state == MASTER_ASKED)
            guard_beat(&m->guard);
    }
}

struct masters *masters_open(struct node_list *list, const struct master_params *params, struct error *err)
{
    struct masters *ms = calloc(1, sizeof *ms);
    if (!ms) {
        error_errno(err, "control masters");
        return NULL;
    }
    ms->params = *params;
    ms->beat_s = beat_seconds();
    snprintf(ms->nonce, sizeof ms->nonce, "%.30s", params->run_id);
    ms->config = path_join(params->rundir, "ssh_config");
    ms->script = make_guard_script(ms, &ms->script_len);
    ms->masters = calloc(list->count ? list->count : 1, sizeof *ms->masters);
    ms->fds = calloc(1 + list->count * GUARD_FDS, sizeof *ms->fds);
    if (!ms->config || !ms->script || !ms->masters || !ms->fds) {
        error_errno(err, "control masters");
        goto fail;
    }
    if (master_config_write(params, err))
        goto fail;
    child_tick(beat, ms, ms->beat_s * 1000);
    for (size_t i = 0; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        if (node->state != NODE_READY || (node->local && !params->local))
            continue;
        struct master *m = &ms->masters[ms->count++];
        m->node = node;
        m->guard.child = (struct child)CHILD_INIT;
        if (start_master(ms, m, err))
            goto fail;
    }
    if (wait_open(ms, err) == 0)
        return ms;
fail:
    masters_close(ms, 0);
    return NULL;
}

int masters_adopt(struct masters *ms, struct error *err)
{
    for (size_t i = 0; i < ms->count; i++) {
        struct master *m = &ms->masters[i];
        if (m->state != MASTER_UNMARKED)
            continue;
        if (m->node->state != NODE_READY) {
            child_end(&m->guard.child, 0);
            m->state = MASTER_NONE;
            continue;
        }
        guard_ask(&m->guard, "adopt\n");
        m->state = MASTER_OPENING;
    }
    return wait_open(ms, err);
}

int masters_reopen(struct masters *ms, struct error *err)
{
    for (size_t i = 0; i < ms->count; i++) {
        struct master *m = &ms->masters[i];
        if (m->state != MASTER_OPEN || m->node->state != NODE_READY || !child_ended(&m->guard.child))
            continue;
        child_end(&m->guard.child, 0);
        m->tries = 0;
        m->again = true;
        if (start_master(ms, m, err))
            return -1;
    }
    ms->patience = clock_ms() + PATIENCE_MS;
    return wait_open(ms, err);
}

int masters_ask(struct masters *ms, const struct masters_question *question, struct error *err)
{
    ms->question = question;
    for (size_t i = 0; i < ms->count; i++) {
        struct master *m = &ms->masters[i];
        if (m->state != MASTER_OPEN || m->node->state != NODE_READY || (question->once && m->answered) ||
            (m->node->local && !question->local))
            continue;
        question->line(question->arg, m->node, m->line);
        guard_ask(&m->guard, m->line);
        m->state = MASTER_ASKED;
    }
    return wait_all(ms, question->timeout_ms, question->doing, err);
}

static void prepare_line(void *arg, const struct node *node, char line[MASTERS_LINE_MAX])
{
    (void)arg;
    (void)node;
    strcpy(line, "prepare\n");
}

static bool prepare_answer(void *arg, struct node *node, const char *answer)
{
    (void)arg;
    if (strcmp(answer, "ok"))
        node_set(node, NODE_FAILED, "prepare failed: %s", answer);
    return false;
}

int masters_prepare(struct masters *ms, int timeout_ms, struct error *err)
{
    if (!ms->params.venv && !ms->params.engine && !ms->params.links &&
        !(ms->params.eggs && ms->params.eggs[0]))
        return 0;
    const struct masters_question question = {
        .command = "prepare",
        .doing = "preparing the nodes",
        .timeout_ms = timeout_ms,
        .line = prepare_line,
        .answer = prepare_answer,
    };
    return masters_ask(ms, &question, err);
}

const char *masters_ssh_config(const struct masters *ms)
{
    return ms->config;
}

void masters_close(struct masters *ms, int grace_ms)
{
    if (!ms)
        return;
    int saved = errno;
    long long end = clock_ms() + grace_ms;
    child_tick(NULL, NULL, 0);
    /* All guards begin to clean up at once; then all are waited for. */
    for (size_t i = 0; i < ms->count; i++)
        if (ms->masters[i].guard.child.in >= 0) {
            close(ms->masters[i].guard.child.in);
            ms->masters[i].guard.child.in = -1;
        }
    for (size_t i = 0; i < ms->count; i++) {
        unsigned signals = child_signal_count();
        long long left;
        /* Another signal: the user does not want to wait. */
        while ((left = end - clock_ms()) > 0 && !child_ended(&ms->masters[i].guard.child)) {
            child_wait(&ms->masters[i].guard.child, left < 100 ? (int)left : 100);
            if (child_signal_count() > signals)
                end = 0;
        }
    }
    for (size_t i = 0; i < ms->count; i++)
        child_kill(&ms->masters[i].guard.child, SIGTERM);
    for (size_t i = 0; i < ms->count; i++)
        child_end(&ms->masters[i].guard.child, 500);
    free(ms->masters);
    free(ms->fds);
    free(ms->config);
    free(ms->script);
    free(ms);
    errno = saved;
}
