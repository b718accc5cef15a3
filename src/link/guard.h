/* The conversation with scripts/node/guard.sh on one node, over the pipes of the ssh that runs it.
 *
 * The script goes first, its answer comes; then commands, one at a time: each is asked once the former one
 * has been answered.  Nothing here blocks: guard_turn() does what can be done, guard_poll() says what to wait for.
 * Between commands guard_beat() tells the script, now and then, that somebody is still there.
 */
#ifndef CLOUDPLAN_GUARD_H
#define CLOUDPLAN_GUARD_H

#include "base/child.h"
#include "base/error.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#define GUARD_WORDS_MAX 8192
#define GUARD_ANSWER_MAX                                                                                     \
    2048            /* bytes of an answer, its NUL included: a path may be in it.  A longer one is cut */
#define GUARD_FDS 3 /* of guard_poll(), at most */

struct guard {
    struct child child; /* ssh: stdin, stdout and stderr are pipes */
    const char *text;   /* what is being sent; borrowed */
    size_t len, sent;
    char out[GUARD_WORDS_MAX], words[GUARD_WORDS_MAX]; /* the latest bytes of stdout and stderr */
    size_t out_len, words_len;
};

/* What the guard is told of the project; borrowed strings. */
struct guard_params {
    const char *nonce;       /* marks its answers: [a-z0-9]+ */
    const char *run_id;      /* marks the run's processes on a node: [a-z0-9]+ */
    const char *chdir;       /* on the nodes */
    bool adopt;              /* --cloud-adopt: a directory without the mark may be given it */
    const char *who;         /* USER@CONTROLLER, for other runs; NULL: not known */
    int beat_s;              /* so often there is a guard_beat(), at least */
    const char *root;        /* absolute, here */
    const char *venv;        /* absolute, here; NULL: none */
    const char *venv_remote; /* relative to chdir */
    const char *engine;      /* the engine's snippet; NULL: none */
    const char *python;      /* a name in the virtualenv's bin */
    /* absolute, here, NULL-terminated: directories that the copy has under their own names beside the root's files; NULL: none */
    const char *const *outside;
    bool links; /* symbolic links may name places here that the copy has */
    /* links in the virtualenv's bin that the sync leaves out, to be made there: a name, its target, ..., NULL; NULL: none */
    const char *const *programs;
    const char *const *eggs; /* relative to root, NULL-terminated; NULL: none */
};

/* The script with its parameters; owned by the caller, NULL without memory. */
char *guard_script(const struct guard_params *params, size_t *len);

/* A new conversation with the child that has just been started. */
void guard_begin(struct guard *guard, const char *script, size_t len);
/* A command; the text is borrowed until it is answered. */
void guard_ask(struct guard *guard, const char *line);
/* A sign of life: sent once the script has been answered and while no command is half sent; dropped where ssh's pipe is full, since
 * what fills it says the same. */
void guard_beat(struct guard *guard);
/* Sends and receives what is possible now. */
void guard_turn(struct guard *guard);
/* Descriptors to wait for; how many. */
nfds_t guard_poll(const struct guard *guard, struct pollfd fds[GUARD_FDS]);
/* The answer to the command ("" for the script), if it has come: one line without its end, taken from the guard. */
bool guard_answer(struct guard *guard, const char *nonce, const char *command, char answer[GUARD_ANSWER_MAX]);
/* ssh has ended, and said all that it had to say: see guard->words. */
bool guard_ended(struct guard *guard);

#endif
