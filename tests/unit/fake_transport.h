/* Conversations that go by a script: this node, this phase, this error.
 *
 * For each conversation that is opened the first act that fits it and has not been used up is taken.  It goes
 * through its phases one step at a time, each after a wait for a real descriptor, until its end comes.
 */
#ifndef FAKE_TRANSPORT_H
#define FAKE_TRANSPORT_H

#include "probe/transport.h"

enum fake_phase { FAKE_CONNECTING, FAKE_AUTHENTICATING, FAKE_ANSWERING };

enum fake_end {
    FAKE_ANSWERS,    /* with text between the marks of the answer; NULL: a usable one */
    FAKE_SAYS,       /* text as it is */
    FAKE_FAILS,      /* with state and text */
    FAKE_DROPPED,    /* the same, and worth another try */
    FAKE_FALLS_BACK, /* with text */
    FAKE_SILENT,     /* nothing ever comes */
    FAKE_NOT_OPENED, /* not even begun: STATUS_SYSTEM and text */
    FAKE_RAISES      /* SIGTERM, then silence */
};

struct fake_act {
    const char *host; /* NULL: any */
    unsigned times;   /* conversations that it is good for; 0: any number */
    enum fake_phase phase;
    enum fake_end end;
    enum node_state state;
    const char *text;
    unsigned used; /* how often it was taken */
};

struct fake_stage {
    struct fake_act *acts;
    size_t count;
    size_t together; /* nobody goes on before so many are open at once; 0: at once */
    /* What happened */
    size_t opened, fallbacks, open_now, open_most;
    int gate; /* an eventfd: readable once enough are open */
};

int fake_stage_begin(struct fake_stage *stage);
void fake_stage_end(struct fake_stage *stage);

/* For struct probe_params: open, with the stage as its argument. */
struct transport *fake_open(void *stage, const struct node *node, bool fallback,
                            const struct transport_script *script, struct error *err);

#endif
