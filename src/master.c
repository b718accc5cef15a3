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
#include "master.h"

#include "child.h"
#include "embedded.h"
#include "rundir.h"
#include "shquote.h"
#include "ssh_target.h"
#include "ssherr.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 8192
#define TRIES_MAX 3
/* A dead node is noticed after some INTERVAL * COUNT seconds. */
#define ALIVE_INTERVAL 3
#define ALIVE_COUNT 3

/* When a connection broke in the middle of a run: how long its node may take to come back. */
#define PATIENCE_MS 10000
#define RETRY_MS 500

enum master_state { MASTER_NONE, MASTER_OPENING, MASTER_WAITING /* to be opened again */, MASTER_OPEN };

struct master {
    struct node *node;
    enum master_state state;
    struct child child;
    unsigned tries;
    uint32_t processes; /* the node's share: kept while it is out */
    long long retry_at; /* while MASTER_WAITING */
    size_t written; /* of the guard's script */
    char out[WORDS_MAX], words[WORDS_MAX];
    size_t out_len, words_len;
};

struct masters {
    struct master_params params;
    char *config;
    char *script;
    size_t script_len;
    char nonce[40];
    long long patience; /* until then a node that is offline is tried again */
    struct master *masters;
    size_t count;
};

/* First value wins in ssh_config: ours come before the user's and the system's. */
static int write_config(const struct master_params *params, struct error *err)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return error_errno(err, "ssh_config");
    fprintf(out,
            "# Made by cloudplan for one run.\n"
            "Host *\n"
            "    ControlMaster no\n"
            "    ControlPath %s/%%C\n"
            "    BatchMode yes\n"
            "    ConnectTimeout 10\n"
            "    ServerAliveInterval %d\n"
            "    ServerAliveCountMax %d\n"
            "    ClearAllForwardings yes\n"
            "    ForwardAgent no\n"
            "    ForwardX11 no\n"
            "    PermitLocalCommand no\n"
            "    RemoteCommand none\n"
            "    RequestTTY no\n"
            "    Tunnel no\n"
            "    LogLevel ERROR\n",
            params->rundir, ALIVE_INTERVAL, ALIVE_COUNT);
    /* A preference, not a demand: a node that does not have it is still reached. */
    if (params->cipher && *params->cipher)
        fprintf(out, "    Ciphers ^%s\n", params->cipher);
    /* ssh itself goes by the password file, but the "~" of an Include by $HOME. */
    const struct passwd *user = getpwuid(getuid());
    if (user && user->pw_dir)
        fprintf(out, "Include \"%s/.ssh/config\"\n", user->pw_dir);
    fputs("Include /etc/ssh/ssh_config\n", out);
    int result = fclose(out) ? error_errno(err, "ssh_config") : rundir_write(params->rundir, "ssh_config", text, len, err);
    free(text);
    return result;
}

static char *make_script(const struct masters *ms, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    if (!out)
        return NULL;
    shell_assign(out, "CLOUDPLAN_NONCE", ms->nonce);
    shell_assign(out, "CLOUDPLAN_CHDIR", ms->params.chdir);
    shell_assign(out, "CLOUDPLAN_RUN", ms->params.run_id);
    fwrite(node_guard_sh, 1, node_guard_sh_len, out);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

static int start(struct masters *ms, struct master *m, struct error *err)
{
    const struct node *node = m->node;
    const char *argv[20];
    char port[SSH_TARGET_PORT];
    size_t n = 0;
    argv[n++] = "ssh";
    argv[n++] = "-F";
    argv[n++] = ms->config;
    argv[n++] = "-M";
    argv[n++] = "-T";
    n += ssh_target(node, argv + n, port);
    argv[n++] = "exec /bin/sh -s";
    argv[n] = NULL;
    static const char *const env[] = {"SSH_ASKPASS_REQUIRE=never", NULL};
    const struct child_spec spec = {
        .argv = argv, .env = env, .in = CHILD_PIPE, .out = CHILD_PIPE, .err = CHILD_PIPE, .detached = true};
    m->written = m->out_len = m->words_len = 0;
    m->out[0] = m->words[0] = '\0';
    m->tries++;
    if (child_start(&m->child, &spec, err))
        return -1;
    m->state = MASTER_OPENING;
    return 0;
}

/* Reads what is there into a buffer that keeps the latest bytes; closes *fd at the end of the stream.  A
 * node that never stops talking is left for the next turn of the loop. */
static void read_into(int *fd, char *buf, size_t *len)
{
    for (int turn = 0; *fd >= 0 && turn < 64; turn++) {
        if (*len == WORDS_MAX - 1) {
            *len = WORDS_MAX / 2;
            memmove(buf, buf + WORDS_MAX - 1 - *len, *len);
        }
        ssize_t n = read(*fd, buf + *len, WORDS_MAX - 1 - *len);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            close(*fd);
            *fd = -1; /* poll() passes over it; SIGCHLD tells of the child's end */
            return;
        }
        *len += (size_t)n;
        buf[*len] = '\0';
    }
}

static void drop(struct master *m, enum node_state state, const char *reason)
{
    m->processes = m->node->processes;
    node_set(m->node, state, "%s", reason);
    child_end(&m->child, 0);
    m->state = MASTER_NONE;
}

/* The guard's line, if it has come: its text, cut at the line's end; NULL: not yet. */
static char *guard_line(const struct masters *ms, struct master *m)
{
    char begin[80];
    snprintf(begin, sizeof begin, "\ncloudplan-guard %s ", ms->nonce);
    char *line = strstr(m->out, begin), *end = line ? strchr(line + 1, '\n') : NULL;
    if (!end)
        return NULL;
    *end = '\0';
    return line + strlen(begin);
}

static void advance(struct masters *ms, struct master *m)
{
    while (m->child.in >= 0 && m->written < ms->script_len) {
        ssize_t n = write(m->child.in, ms->script + m->written, ms->script_len - m->written);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n < 0) { /* it has ended: its words follow */
            close(m->child.in);
            m->child.in = -1;
            break;
        }
        m->written += (size_t)n;
    }
    read_into(&m->child.out, m->out, &m->out_len);
    read_into(&m->child.err, m->words, &m->words_len);
    const char *line = guard_line(ms, m);
    if (line && !strcmp(line, "ok")) {
        m->state = MASTER_OPEN;
    } else if (line) {
        drop(m, NODE_UNFIT, line);
    } else if (m->child.out < 0 && child_ended(&m->child)) {
        char reason[ERROR_TEXT_MAX];
        read_into(&m->child.err, m->words, &m->words_len);
        enum node_state state = ssh_failure(m->words, reason);
        bool cut = state == NODE_OFFLINE && strstr(m->words, "kex_exchange_identification");
        drop(m, state, reason);
        /* Above MaxStartups sshd closes connections at random. */
        if ((cut && m->tries < TRIES_MAX) || (state == NODE_OFFLINE && clock_ms() < ms->patience)) {
            m->state = MASTER_WAITING;
            m->retry_at = clock_ms() + RETRY_MS;
        }
    }
}

/* Until every opening master is open or has failed. */
static int wait_open(struct masters *ms, struct error *err)
{
    struct pollfd *fds = calloc(1 + ms->count * 3, sizeof *fds);
    if (!fds)
        return error_errno(err, "control masters");
    long long end = clock_ms() + ms->params.timeout_ms;
    int result = -1;
    for (;;) {
        nfds_t n = 0;
        bool waiting = false;
        fds[n++] = (struct pollfd){child_events_fd(), POLLIN, 0};
        for (size_t i = 0; i < ms->count; i++) {
            struct master *m = &ms->masters[i];
            if (m->state == MASTER_OPENING)
                advance(ms, m);
            if (m->state == MASTER_WAITING && m->retry_at <= clock_ms()) {
                node_set(m->node, NODE_READY, "%s", "");
                m->node->processes = m->processes;
                struct error why = ERROR_INIT;
                if (start(ms, m, &why))
                    drop(m, NODE_FAILED, why.text);
            }
            waiting = waiting || m->state == MASTER_WAITING;
            if (m->state != MASTER_OPENING)
                continue;
            fds[n++] = (struct pollfd){m->child.out, POLLIN, 0};
            fds[n++] = (struct pollfd){m->child.err, POLLIN, 0};
            if (m->written < ms->script_len)
                fds[n++] = (struct pollfd){m->child.in, POLLOUT, 0};
        }
        if (child_signal()) {
            error_set(err, STATUS_SIGNAL + child_signal(), "%s while connecting to the nodes", strsignal(child_signal()));
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
    for (size_t i = 0; result == 0 && i < ms->count; i++)
        if (ms->masters[i].state == MASTER_OPENING) {
            char reason[100];
            snprintf(reason, sizeof reason, "timed out after %d s while opening the control master",
                     ms->params.timeout_ms / 1000);
            drop(&ms->masters[i], NODE_OFFLINE, reason);
        }
    free(fds);
    return result;
}

struct masters *masters_open(struct node_list *list, const struct master_params *params, struct error *err)
{
    struct masters *ms = calloc(1, sizeof *ms);
    if (!ms) {
        error_errno(err, "control masters");
        return NULL;
    }
    ms->params = *params;
    snprintf(ms->nonce, sizeof ms->nonce, "%.30s", params->run_id);
    ms->config = path_join(params->rundir, "ssh_config");
    ms->script = make_script(ms, &ms->script_len);
    ms->masters = calloc(list->count ? list->count : 1, sizeof *ms->masters);
    if (!ms->config || !ms->script || !ms->masters) {
        error_errno(err, "control masters");
        goto fail;
    }
    if (write_config(params, err))
        goto fail;
    for (size_t i = 0; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        if (node->state != NODE_READY || node->local)
            continue;
        struct master *m = &ms->masters[ms->count++];
        m->node = node;
        m->child = (struct child)CHILD_INIT;
        if (start(ms, m, err))
            goto fail;
    }
    if (wait_open(ms, err) == 0)
        return ms;
fail:
    masters_close(ms, 0);
    return NULL;
}

int masters_reopen(struct masters *ms, struct error *err)
{
    for (size_t i = 0; i < ms->count; i++) {
        struct master *m = &ms->masters[i];
        if (m->state != MASTER_OPEN || m->node->state != NODE_READY || !child_ended(&m->child))
            continue;
        child_end(&m->child, 0);
        m->tries = 0;
        if (start(ms, m, err))
            return -1;
    }
    ms->patience = clock_ms() + PATIENCE_MS;
    return wait_open(ms, err);
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
    /* All guards begin to clean up at once; then all are waited for. */
    for (size_t i = 0; i < ms->count; i++)
        if (ms->masters[i].child.in >= 0) {
            close(ms->masters[i].child.in);
            ms->masters[i].child.in = -1;
        }
    for (size_t i = 0; i < ms->count; i++) {
        unsigned signals = child_signal_count();
        long long left;
        /* Another signal: the user does not want to wait. */
        while ((left = end - clock_ms()) > 0 && !child_ended(&ms->masters[i].child)) {
            child_wait(&ms->masters[i].child, left < 100 ? (int)left : 100);
            if (child_signal_count() > signals)
                end = 0;
        }
    }
    for (size_t i = 0; i < ms->count; i++)
        child_kill(&ms->masters[i].child, SIGTERM);
    for (size_t i = 0; i < ms->count; i++)
        child_end(&ms->masters[i].child, 500);
    free(ms->masters);
    free(ms->config);
    free(ms->script);
    free(ms);
    errno = saved;
}
