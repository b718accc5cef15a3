/* A node, and the list of nodes that travels through all stages.
 *
 * Grammar of a node, as the user writes it:
 *
 *     NODE  = ":"                              this machine, without SSH
 *           | [USER "@"] HOST [":" PORT]       HOST, USER: letters, digits, "." "_" "-"; USER also "@" "\" "$" "+"
 *           | [USER "@"] V6 [ "%" ZONE ]       a bare IPv6 address: two or more ":"; ZONE: as HOST
 *           | [USER "@"] "[" V6 [ "%" ZONE ] "]" [":" PORT]
 *     RANGE = "{" N ".." M "}" | "[" N "-" M "]"   anywhere in a word; several multiply
 *                                              out, the last one runs fastest
 *
 * A leading zero in N or M pads all numbers of the range to that width.  A range
 * runs upwards; N > M is an error.  At most NODE_LIST_MAX names in all, repeated
 * ones counted, so that no input takes long.  Control characters, "//", a HOST that
 * begins with "-" or ".", a USER that begins with "-" or "@" or ends with "@" or "\": refused.
 * The last "@" ends USER, as for ssh: user@domain@host, DOMAIN\user@host.
 * Names are compared as typed, as ssh_config's patterns are.
 */
#ifndef CLOUDPLAN_NODE_H
#define CLOUDPLAN_NODE_H

#include "base/error.h"
#include "nodes/facts.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODE_LIST_MAX 10000
#define NODE_NAME_MAX 320         /* bytes of a name, its NUL included */
#define NODE_WORD_MAX 1024        /* bytes of a word with ranges, its NUL included */
#define NODE_BLANKS " \t\r\n\v\f" /* what separates words */

enum node_state {
    NODE_PENDING, /* not asked yet: never in a report */
    NODE_READY,
    NODE_UNFIT,   /* it answered, but cannot be used: too little memory, no python, ... */
    NODE_OFFLINE, /* not reached: name, connection, silence */
    NODE_REFUSED, /* reached, but not let in, or not who it should be */
    NODE_FAILED   /* let in, and then something went wrong */
};

enum plan_term { /* what decided a node's number of processes */
                 TERM_NONE,
                 TERM_CORES,
                 TERM_MEMORY,
                 TERM_MAX_PROCESSES,
                 TERM_MACHINE, /* other nodes of the list are the same machine */
                 TERM_LEASE,   /* other runs have a part of it */
                 TERM_EACH,    /* one process for each interpreter, neither more nor less */
                 TERM_FILES    /* the limit of open files here leaves room for no more */
};

/* What OpenSSH would do for a node: filled in by sshconf, owned by it. */
struct sshconf;

struct node {
    char *name;    /* canonical: "ci@10.0.120.1:2222", "[::1]:22", ":"; owned */
    char *user;    /* as typed, or NULL; owned */
    char *host;    /* as typed, without brackets; "localhost" for ":"; owned */
    uint16_t port; /* as typed; 0: none */
    bool local;    /* ":" */

    const struct sshconf *conf; /* borrowed; NULL until sshconf has run, and for ":" */

    enum node_state state;
    char reason[ERROR_TEXT_MAX]; /* one clean line where state is not NODE_READY */
    char fallback[160];          /* why the OpenSSH client asked it instead of libssh2; "" where it did not */

    bool has_facts;
    struct facts facts;

    uint32_t processes; /* 0 unless state is NODE_READY and planned */
    enum plan_term limited_by;
    unsigned
        slot; /* which copy there is this run's: 1 is --cloud-chdir itself, N is that name with "~N"; 0: not known yet, or none (":") */
    /* that copy's physical absolute path there, as its guard has told: see node_set_dir(); owned; NULL:
     * not known yet, or none */
    char *dir;
    bool unmarked; /* dir does not carry the mark, and is to be looked at: adopt.h */
};

struct node_list {
    struct node *nodes; /* in the order given; pointers into it are stable once parsing is over */
    size_t count;
    size_t allocated;
    size_t duplicates;             /* how many words named a node that was there already */
    char duplicate[NODE_NAME_MAX]; /* the first of them */
    uint32_t *index;               /* hash table of names: position in nodes + 1, 0: free; node.c's own */
    size_t index_size;
};

#define NODE_LIST_INIT                                                                                       \
    {                                                                                                        \
        0                                                                                                    \
    }

/* Adds the node or range in word; duplicates (same canonical name) are counted
 * and dropped.  0, or -1 and *err: STATUS_DATA, naming the word, or STATUS_SYSTEM
 * without memory.  On -1 the list may hold some of the word's nodes. */
int node_list_add(struct node_list *list, const char *word, struct error *err);

/* Adds every word of a string separated by blanks and newlines; no word at all is
 * STATUS_DATA. */
int node_list_add_words(struct node_list *list, const char *words, struct error *err);

/* Frees the nodes; list may be used again. */
void node_list_clear(struct node_list *list);

/* Sets the state and its reason (printf style, cleaned, cut to fit).  A node that is
 * not ready has no processes. */
void node_set(struct node *node, enum node_state state, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define NODE_DIR_MAX 1500 /* bytes of a copy's path: the longest --cloud-chdir, below a home */

/* Takes what a node says of the directory of its copy, which is input from outside: it must be an absolute physical path that ssh, rsync,
 * execnet and shells take as it is, and have the name in its last part that chdir has, with "~N" in slot N > 1.  A copy is
 * kept in node->dir.  0, or -1 and *err: STATUS_DATA with what is wrong, STATUS_SYSTEM. */
int node_set_dir(struct node *node, const char *chdir, unsigned slot, const char *dir, struct error *err);

/* path as it is on this node, where it is chdir or lies in it: in the node's copy, absolute once its guard has told where that is.
 * Owned by the caller; NULL without memory. */
char *node_place(const struct node *node, const char *chdir, const char *path);

/* Its name in a sentence, where ":" would not be seen.  Borrowed from the node. */
const char *node_title(const struct node *node);

const char *node_state_name(enum node_state state); /* "ready", ... static */
const char *plan_term_name(enum plan_term term);    /* "cores", ...; NULL for TERM_NONE; static */

/* Nodes in NODE_READY. */
size_t node_list_ready(const struct node_list *list);

/* Sets *err to STATUS_UNAVAILABLE with the first node's reason: no node is of use.  Returns -1. */
int node_list_unusable(const struct node_list *list, struct error *err);

/* Whether the node gets any process. */
bool node_in_use(const struct node *node);

/* Sum of processes of the ready nodes. */
uint64_t node_list_processes(const struct node_list *list);

#endif
