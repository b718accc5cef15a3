/* Asking `ssh -G`: which nodes are asked for, some at a time, and who gets whose answer.
 *
 * Decided here: two nodes of a class are asked, and their answers compared, rather than one whose
 * answer is searched for its name: `HostName gw` gives a node that is itself called gw its
 * own name back, and %C is a hash in which no name can be found.
 *
 * Every wait ends: a Match exec or a name look-up that hangs costs its node timeout_ms, and all nodes
 * together that and ASK_MS for each question.  A class whose two nodes fail in the same words fails as a
 * whole, so that a broken ssh_config is not read ten thousand times.
 */
#include "ssh/sshconf_ask.h"

#include "base/child.h"
#include "ssh/ssh_target.h"
#include "ssh/sshconf_class.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASKS_MAX 16 /* at a time */
#define ASK_MS 50   /* generous: an answer takes 6-10 ms of CPU */
#define TIMEOUT_MS 10000
#define ANSWER_MAX 262144 /* bytes; 4 KiB are usual */
#define WORDS_MAX 2048    /* of what ssh says on stderr */

struct stream {
    char *text;
    size_t len, max;
    bool cut; /* there was more than max */
};

struct ask {
    struct node *node; /* NULL: idle */
    struct child child;
    struct stream out, err;
    long long deadline;
};

struct answer {
    struct sshconf *conf;
    bool shared; /* all but conf itself and its hostname belongs to another answer */
};

struct sshconf_set {
    struct answer *answers;
    size_t count;
};

static const char late[] =
    "ssh -G: no answer in time: is there a Match exec or a name look-up in ssh_config?";

/* Takes conf over. */
static void keep(struct sshconf_set *set, struct node *node, struct sshconf *conf, bool shared)
{
    set->answers[set->count++] = (struct answer){conf, shared};
    node->conf = conf;
}

static void stream_read(struct stream *s, int *fd)
{
    s->cut = child_read_first(fd, s->text, s->max, &s->len) > 0 || s->cut;
}

static int ask_start(struct ask *ask, struct node *node, int timeout_ms, struct error *err)
{
    char port[SSH_TARGET_PORT];
    const char *argv[12] = {"ssh", "-G", "-T", "-o", "BatchMode=yes"};
    size_t n = 5;
    n += ssh_target(node, argv + n, port);
    /* Detached: a Match exec must not ask a question at the terminal, and ends with ssh. */
    struct child_spec spec = {
        .argv = argv, .in = CHILD_NULL, .out = CHILD_PIPE, .err = CHILD_PIPE, .detached = true};
    if (child_start(&ask->child, &spec, err))
        return -1;
    ask->node = node;
    ask->out.len = ask->err.len = 0;
    ask->out.cut = ask->err.cut = false;
    ask->deadline = clock_ms() + timeout_ms;
    return 0;
}

/* What ssh said on stderr, in one line; ssh ends its own lines with CR LF. */
static const char *ssh_words(struct stream *s)
{
    while (s->len && strchr("\r\n", s->text[s->len - 1]))
        s->len--;
    s->text[s->len] = '\0';
    for (char *p = s->text; *p; p++)
        if (*p == '\r')
            *p = ';';
        else if (*p == '\n')
            *p = ' ';
    return s->text;
}

/* The node's answer, from an ssh that has ended.  0, or -1 and *err where there is no memory for it. */
static int ask_finish(struct ask *ask, struct sshconf_set *set, const char *home, struct error *err)
{
    struct node *node = ask->node;
    stream_read(&ask->out, &ask->child.out);
    stream_read(&ask->err, &ask->child.err);
    int status = child_exit_status(&ask->child);
    child_end(&ask->child, 0);
    ask->node = NULL;
    if (status) {
        const char *words = ssh_words(&ask->err);
        if (*words)
            node_set(node, NODE_FAILED, "ssh -G: %s", words);
        else
            node_set(node, NODE_FAILED, "ssh -G: exit status %d", status);
        return 0;
    }
    if (ask->out.cut) {
        node_set(node, NODE_FAILED, "ssh -G: an answer of more than %d KiB", ANSWER_MAX / 1024);
        return 0;
    }
    struct error bad = ERROR_INIT;
    struct sshconf *conf = sshconf_parse(ask->out.text, ask->out.len, home, &bad);
    if (conf)
        keep(set, node, conf, false);
    else if (bad.status == STATUS_DATA)
        node_set(node, NODE_FAILED, "%s", bad.text);
    else
        return error_set(err, bad.status, "%s", bad.text);
    return 0;
}

/* Waits for words, ends or signals, until the earliest deadline. */
static void asks_wait(const struct ask asks[ASKS_MAX], long long end)
{
    struct pollfd fds[2 * ASKS_MAX + 1];
    nfds_t n = 0;
    for (size_t i = 0; i < ASKS_MAX; i++) {
        if (!asks[i].node)
            continue;
        fds[n++] = (struct pollfd){asks[i].child.out, POLLIN, 0};
        fds[n++] = (struct pollfd){asks[i].child.err, POLLIN, 0};
        end = asks[i].deadline < end ? asks[i].deadline : end;
    }
    fds[n++] = (struct pollfd){child_events_fd(), POLLIN, 0};
    long long left = end - clock_ms();
    poll(fds, n, left < 0 ? 0 : left < 1000 ? (int)left : 1000);
    if (fds[n - 1].revents)
        child_events_clear();
}

/* Asks for count nodes.  Each has a conf then, or is NODE_FAILED; -1 and *err where that could not be done.
 */
static int ask_all(struct sshconf_set *set, const struct sshconf_asker *asker, struct node *const *nodes,
                   size_t count, struct error *err)
{
    struct ask asks[ASKS_MAX] = {0};
    int result = -1;
    long long end = clock_ms() + asker->timeout_ms + (long long)count * ASK_MS;
    for (size_t i = 0; i < ASKS_MAX; i++) {
        asks[i].child = (struct child)CHILD_INIT;
        asks[i].out = (struct stream){malloc(ANSWER_MAX), 0, ANSWER_MAX, false};
        asks[i].err = (struct stream){malloc(WORDS_MAX + 1), 0, WORDS_MAX, false};
        if (!asks[i].out.text || !asks[i].err.text) {
            error_errno(err, "ssh -G");
            goto out;
        }
    }
    size_t next = 0, running = 0;
    while (next < count || running) {
        for (size_t i = 0; i < ASKS_MAX && next < count; i++) {
            if (asks[i].node)
                continue;
            if (clock_ms() >= end)
                node_set(nodes[next], NODE_FAILED, "%s", late);
            else if (ask_start(&asks[i], nodes[next], asker->timeout_ms, err))
                goto out;
            else
                running++;
            next++;
        }
        asks_wait(asks, end);
        if (child_signal()) {
            error_set(err, STATUS_SIGNAL + child_signal(), "ssh -G: %s", strsignal(child_signal()));
            goto out;
        }
        long long now = clock_ms();
        for (size_t i = 0; i < ASKS_MAX; i++) {
            struct ask *ask = &asks[i];
            if (!ask->node)
                continue;
            stream_read(&ask->out, &ask->child.out);
            stream_read(&ask->err, &ask->child.err);
            if (child_ended(&ask->child)) {
                if (ask_finish(ask, set, asker->home, err))
                    goto out;
                running--;
            } else if (now >= ask->deadline || now >= end) {
                node_set(ask->node, NODE_FAILED, "%s", late);
                child_end(&ask->child, 0);
                ask->node = NULL;
                running--;
            }
        }
    }
    result = 0;
out:
    for (size_t i = 0; i < ASKS_MAX; i++) {
        child_end(&asks[i].child, 0);
        free(asks[i].out.text);
        free(asks[i].err.text);
    }
    return result;
}

/* Whether what two nodes of a class were told holds for the others too. */
static bool agree(const struct node *a, const struct node *b)
{
    if (!a->conf || !b->conf)
        return !a->conf && !b->conf && !strcmp(a->reason, b->reason);
    return !strcmp(a->conf->hostname, a->host) && !strcmp(b->conf->hostname, b->host) &&
           sshconf_same(a->conf, b->conf);
}

/* ssh refuses to go to the jump host through itself: that one may differ from its class. */
static bool may_be_jump(const struct node *node, const struct sshconf *conf)
{
    return conf && conf->proxyjump && strstr(conf->proxyjump, node->host);
}

/* Gives the node what the first of its class got. */
static int share_answer(struct sshconf_set *set, const struct node *first, struct node *node,
                        struct error *err)
{
    if (!first->conf) {
        node_set(node, NODE_FAILED, "%s", first->reason);
        return 0;
    }
    struct sshconf *conf = malloc(sizeof *conf);
    char *hostname = strdup(node->host);
    if (!conf || !hostname) {
        free(conf);
        free(hostname);
        return error_errno(err, "ssh -G");
    }
    *conf = *first->conf;
    conf->hostname = hostname;
    keep(set, node, conf, true);
    return 0;
}

static int ask_classes(struct sshconf_set *set, const struct sshconf_asker *asker,
                       const struct node_classes *classes, struct node **queue, struct error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < classes->count; i++)
        for (size_t k = classes->start[i]; k < classes->start[i + 1] && k < classes->start[i] + 2; k++)
            queue[n++] = classes->nodes[k];
    if (ask_all(set, asker, queue, n, err))
        return -1;
    n = 0;
    for (size_t i = 0; i < classes->count; i++) {
        struct node **nodes = classes->nodes + classes->start[i];
        size_t count = classes->start[i + 1] - classes->start[i];
        bool same = count > 2 && agree(nodes[0], nodes[1]);
        for (size_t k = 2; k < count; k++) {
            if (!same || may_be_jump(nodes[k], nodes[0]->conf))
                queue[n++] = nodes[k];
            else if (share_answer(set, nodes[0], nodes[k], err))
                return -1;
        }
    }
    return ask_all(set, asker, queue, n, err);
}

struct sshconf_set *sshconf_ask_as(struct node_list *list, const struct sshconf_asker *asker,
                                   struct error *err)
{
    struct host_rules *rules = host_rules_read(&asker->paths, err);
    struct node_classes *classes = rules ? node_classes_create(list, rules, err) : NULL;
    struct sshconf_set *set = calloc(1, sizeof *set), *result = NULL;
    struct node **queue = calloc(list->count + 1, sizeof *queue);
    if (set)
        set->answers = calloc(list->count + 1, sizeof *set->answers);
    if (!set || !set->answers || !queue)
        error_errno(err, "ssh -G");
    else if (classes && !ask_classes(set, asker, classes, queue, err))
        result = set;
    if (!result) {
        for (size_t i = 0; i < list->count; i++)
            list->nodes[i].conf = NULL;
        sshconf_destroy(set);
    }
    free(queue);
    node_classes_destroy(classes);
    host_rules_destroy(rules);
    return result;
}

struct sshconf_set *sshconf_ask(struct node_list *list, struct error *err)
{
    /* Not $HOME: ssh goes by the passwd entry. */
    struct passwd *passwd = getpwuid(getuid());
    if (!passwd) {
        error_set(err, STATUS_SYSTEM, "no passwd entry for user id %u: ssh needs one", (unsigned)getuid());
        return NULL;
    }
    struct sshconf_set *set = NULL;
    char *home = strdup(passwd->pw_dir), *user = NULL;
    if (!home || asprintf(&user, "%s/.ssh/config", home) < 0) {
        user = NULL;
        error_errno(err, "ssh -G");
    } else {
        struct sshconf_asker asker = {{user, "~/.ssh", "/etc/ssh/ssh_config", "/etc/ssh"}, home, TIMEOUT_MS};
        set = sshconf_ask_as(list, &asker, err);
    }
    free(user);
    free(home);
    return set;
}

void sshconf_destroy(struct sshconf_set *set)
{
    int saved = errno;
    if (set) {
        for (size_t i = 0; i < set->count; i++) {
            struct sshconf *conf = set->answers[i].conf;
            if (set->answers[i].shared) {
                free(conf->hostname);
                free(conf);
            } else {
                sshconf_free(conf);
            }
        }
        free(set->answers);
        free(set);
    }
    errno = saved;
}
