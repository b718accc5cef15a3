/* Lines both ways, and ssh's own words apart.
 *
 * Whatever else the node prints (start-up files, a banner) goes by unread: only lines that begin with our nonce
 * count.  A shell may read its script ahead in blocks, so that commands are sent only when it has answered: then
 * it has all of the script, and what comes next is read by the guard.
 */
#include "link/guard.h"

#include "base/embedded.h"
#include "base/shquote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void assign_lines(FILE *out, const char *name, const char *const *lines)
{
    fprintf(out, "%s=''", name);
    for (size_t i = 0; lines && lines[i]; i++) {
        shell_quote(out, lines[i]);
        shell_quote(out, "\n");
    }
    fputc('\n', out);
}

char *guard_script(const struct guard_params *params, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    if (!out)
        return NULL;
    shell_assign(out, "CLOUDPLAN_NONCE", params->nonce);
    shell_assign(out, "CLOUDPLAN_CHDIR", params->chdir);
    shell_assign(out, "CLOUDPLAN_ADOPT", params->adopt ? "yes" : "");
    shell_assign(out, "CLOUDPLAN_RUN", params->run_id);
    shell_assign(out, "CLOUDPLAN_WHO", params->who ? params->who : "");
    fprintf(out, "CLOUDPLAN_SLOT=${1:-0}\nCLOUDPLAN_BEAT=%d\n", params->beat_s);
    shell_assign(out, "CLOUDPLAN_ROOT", params->root);
    assign_lines(out, "CLOUDPLAN_OUTSIDE", params->outside);
    shell_assign(out, "CLOUDPLAN_LINKS", params->links ? "yes" : "");
    assign_lines(out, "CLOUDPLAN_PROGRAMS", params->programs);
    shell_assign(out, "CLOUDPLAN_VENV", params->venv ? params->venv_remote : "");
    shell_assign(out, "CLOUDPLAN_VENV_FROM", params->venv ? params->venv : "");
    shell_assign(out, "CLOUDPLAN_PYTHON", params->python ? params->python : "python3");
    fputs("set --", out);
    for (size_t i = 0; params->eggs && params->eggs[i]; i++) {
        fputc(' ', out);
        shell_quote(out, params->eggs[i]);
    }
    fputc('\n', out);
    shell_assign(out, "CLOUDPLAN_PREPARE", params->engine ? "engine_prepare" : "");
    fputs(params->engine ? params->engine : "", out);
    embedded_write(out, "node/prepare.sh");
    embedded_write(out, "node/lease.sh");
    embedded_write(out, "node/guard.sh");
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

static void say(struct guard *guard, const char *text, size_t len)
{
    guard->text = text;
    guard->len = len;
    guard->sent = 0;
}

void guard_begin(struct guard *guard, const char *script, size_t len)
{
    guard->out_len = guard->words_len = 0;
    guard->out[0] = guard->words[0] = '\0';
    say(guard, script, len);
}

void guard_ask(struct guard *guard, const char *line)
{
    say(guard, line, strlen(line));
}

static void send_text(struct guard *guard)
{
    while (guard->child.in >= 0 && guard->sent < guard->len) {
        ssize_t n = write(guard->child.in, guard->text + guard->sent, guard->len - guard->sent);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) { /* it has ended: its words follow */
            close(guard->child.in);
            guard->child.in = -1;
            return;
        }
        guard->sent += (size_t)n;
    }
}

void guard_beat(struct guard *guard)
{
    static const char line[] = "alive\n"; /* a pipe takes all of it or nothing */
    if (guard->child.in >= 0 && guard->sent == guard->len &&
        write(guard->child.in, line, sizeof line - 1) < 0)
        return; /* full, or ssh has ended: both are seen elsewhere */
}

void guard_turn(struct guard *guard)
{
    send_text(guard);
    child_read_latest(&guard->child.out, guard->out, sizeof guard->out, &guard->out_len);
    child_read_latest(&guard->child.err, guard->words, sizeof guard->words, &guard->words_len);
}

nfds_t guard_poll(const struct guard *guard, struct pollfd fds[GUARD_FDS])
{
    nfds_t n = 0;
    fds[n++] = (struct pollfd){guard->child.out, POLLIN, 0};
    fds[n++] = (struct pollfd){guard->child.err, POLLIN, 0};
    if (guard->sent < guard->len)
        fds[n++] = (struct pollfd){guard->child.in, POLLOUT, 0};
    return n;
}

bool guard_answer(struct guard *guard, const char *nonce, const char *command, char answer[GUARD_ANSWER_MAX])
{
    char begin[100];
    snprintf(begin, sizeof begin, "\ncloudplan-guard %s %s%s", nonce, command, *command ? " " : "");
    char *line = strstr(guard->out, begin), *end = line ? strchr(line + 1, '\n') : NULL;
    if (!end)
        return false;
    line += strlen(begin);
    size_t len = (size_t)(end - line);
    snprintf(answer, GUARD_ANSWER_MAX, "%.*s", (int)(len < GUARD_ANSWER_MAX ? len : GUARD_ANSWER_MAX), line);
    guard->out_len -= (size_t)(end - guard->out);
    memmove(guard->out, end, guard->out_len + 1);
    return true;
}

bool guard_ended(struct guard *guard)
{
    if (guard->child.out >= 0 || !child_ended(&guard->child))
        return false;
    child_read_latest(&guard->child.err, guard->words, sizeof guard->words, &guard->words_len);
    return true;
}
