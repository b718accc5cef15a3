#include "fake_transport.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fake {
    struct transport base;
    struct fake_stage *stage;
    struct fake_act *act;
    const struct transport_script *script;
    enum fake_phase phase;
    bool begun, silent;
    int ready, never; /* eventfds: always and never readable */
};

static const char usable[] =
    "os=Linux\ncores=4\nmem_total=1000\nmem_available=900\npython=3.11.2\nrsync=3.2.7\ntarget=absent\n";

int fake_stage_begin(struct fake_stage *stage)
{
    stage->gate = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return stage->gate < 0 ? -1 : 0;
}

void fake_stage_end(struct fake_stage *stage)
{
    close(stage->gate);
}

static enum transport_result say(struct fake *f, const char *text, bool marked)
{
    const char *nonce = strchr(f->script->end, ' ') + 1;
    if (!marked)
        f->base.answer = strdup(text);
    else if (asprintf(&f->base.answer, "cloudplan-facts %s 1\n%s%s\n", nonce, text, f->script->end) < 0)
        f->base.answer = NULL;
    f->base.answer_len = f->base.answer ? strlen(f->base.answer) : 0;
    return TRANSPORT_DONE;
}

static enum transport_result finish(struct fake *f)
{
    const struct fake_act *act = f->act;
    switch (act->end) {
    case FAKE_ANSWERS:
        return say(f, act->text ? act->text : usable, true);
    case FAKE_SAYS:
        return say(f, act->text, false);
    case FAKE_FAILS:
    case FAKE_DROPPED:
        f->base.state = act->state;
        f->base.dropped = act->end == FAKE_DROPPED;
        error_set(&f->base.err, STATUS_UNAVAILABLE, "%s", act->text);
        return TRANSPORT_FAILED;
    case FAKE_FALLS_BACK:
        error_set(&f->base.err, STATUS_UNAVAILABLE, "%s", act->text);
        return TRANSPORT_FALLBACK;
    case FAKE_RAISES:
        raise(SIGTERM);
        break;
    case FAKE_SILENT:
    case FAKE_NOT_OPENED:
        break;
    }
    f->silent = true;
    return TRANSPORT_WAIT;
}

static enum transport_result step(struct transport *t)
{
    struct fake *f = (struct fake *)t;
    if (f->silent || f->stage->open_most < f->stage->together)
        return TRANSPORT_WAIT;
    if (f->begun && f->phase == f->act->phase)
        return finish(f);
    if (f->begun)
        f->phase++;
    f->begun = true;
    return TRANSPORT_WAIT;
}

static size_t want(const struct transport *t, struct curl_waitfd *fds)
{
    const struct fake *f = (const struct fake *)t;
    bool gated = f->stage->open_most < f->stage->together;
    fds[0] = (struct curl_waitfd){f->silent ? f->never
                                  : gated   ? f->stage->gate
                                            : f->ready,
                                  CURL_WAIT_POLLIN, 0};
    return 1;
}

static const char *phase(const struct transport *t)
{
    static const char *const names[] = {[FAKE_CONNECTING] = "connecting",
                                        [FAKE_AUTHENTICATING] = "authenticating",
                                        [FAKE_ANSWERING] = "waiting for the answer"};
    return names[((const struct fake *)t)->phase];
}

static void destroy(struct transport *t)
{
    struct fake *f = (struct fake *)t;
    f->stage->open_now--;
    close(f->ready);
    close(f->never);
    free(f->base.answer);
    free(f);
}

static const struct transport_ops ops = {"fake", step, want, phase, destroy};

struct transport *fake_open(void *arg, const struct node *node, bool fallback,
                            const struct transport_script *script, struct error *err)
{
    struct fake_stage *stage = arg;
    struct fake_act *act = stage->acts;
    while (act < stage->acts + stage->count &&
           ((act->host && strcmp(act->host, node->host)) || (act->times && act->used == act->times)))
        act++;
    if (act == stage->acts + stage->count)
        abort(); /* the test's script has a hole */
    act->used++;
    stage->opened++;
    stage->fallbacks += fallback;
    if (act->end == FAKE_NOT_OPENED) {
        error_set(err, STATUS_SYSTEM, "%s", act->text);
        return NULL;
    }
    struct fake *f = calloc(1, sizeof *f);
    if (!f) {
        error_errno(err, node->name);
        return NULL;
    }
    f->base.ops = &ops;
    f->stage = stage;
    f->act = act;
    f->script = script;
    f->ready = eventfd(1, EFD_CLOEXEC);
    f->never = eventfd(0, EFD_CLOEXEC);
    if (++stage->open_now > stage->open_most)
        stage->open_most = stage->open_now;
    if (stage->open_most >= stage->together)
        eventfd_write(stage->gate, 1);
    return &f->base;
}
