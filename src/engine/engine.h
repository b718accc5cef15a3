/* The contract of an engine: a program that runs many tests or jobs on several machines, when it is told which, and how many at once.
 *
 * An engine is one struct engine, in a folder of its own below src/engine, named in engines.c.  Nothing outside that folder knows its
 * name, options, exit statuses or defaults.  What it keeps between the calls is a struct engine_work of its own.
 *
 * The calls come in this order; who calls, and when, is src/run's business:
 *
 *   begin         the command line has been read.  Here it starts to find out what its own configuration says.
 *   answered      whether that is known: nodes are being connected to meanwhile.
 *   answer        waits for it: values for cloudplan's options, and notes for the user.
 *   settle        all options have their values: what does the engine make of them?  Once; after this nothing changes any more.
 *   specify       the plan as the engine's own words; again after each copy, as nodes are lost.
 *   run           to its end; several times with --watch.
 *   destroy
 *
 * An engine runs in the foreground, in the current directory, with our streams, our terminal and our process group; the user's arguments
 * reach it as they were typed, each an element of argv.  Strings that it hands out are its own and stay until destroy; those that it is
 * given in struct engine_params stay as long.  All functions that return int return 0, or -1 and *err.
 */
#ifndef CLOUDPLAN_ENGINE_H
#define CLOUDPLAN_ENGINE_H

#include "base/error.h"
#include "base/option.h"
#include "nodes/accept.h"
#include "nodes/node.h"
#include "plan/descriptors.h"

#include <stdbool.h>
#include <stddef.h>

struct engine_work;

struct engine_params {
    bool runs;        /* it will be run; else only values for our options are wanted, as for the word plan */
    const char *root; /* the project's */
    const char *run_id;  /* [a-z0-9]+: in the environment of all that it starts here */
    const char *python;  /* this machine's interpreter */
    char *const *args;   /* what the user typed for it, NULL-terminated */
    const void *options; /* the struct of its own option table; values from its answer are in it later */
};

/* A value for one of our options, or its own, out of its configuration. */
struct engine_value {
    const char *name;   /* of the option, without "--" */
    const char *value;  /* NULL: a flag */
    const char *origin; /* "tox.ini"; "": typed among its arguments */
};

struct engine_answer {
    const struct engine_value *values; /* in order */
    size_t value_count;
    char *const *notes; /* lines for the user, NULL-terminated; NULL: none */
};

/* What the options are, now that they are final. */
struct engine_demands {
    const char *python; /* as in struct engine_params, where an option has changed it */
    /* a virtualenv is copied, and all nodes use that: nothing need be asked for or shipped */
    bool own_python;
    bool watch; /* it will be run again and again */
};

struct engine_settled {
    const char *here;    /* "--collect-only": what takes no node, for messages; NULL: nodes are needed */
    bool each;           /* a node gets exactly one process for each interpreter, or none */
    const char *modules; /* Python modules that a node must have, a blank between; NULL: none */
    const char *site;    /* a directory to copy along, absolute, physical; NULL: none */
    const char *note;    /* a line for the user; NULL: none */
};

/* The nodes, when the plan is made: those with processes are to be used. */
struct engine_nodes {
    const struct node_list *list;
    const char *chdir;                /* the copied root on a node, in its first slot */
    const char *const *pythons;       /* on a node, NULL-terminated, at least one */
    const char *const *local_pythons; /* for ":", as many; NULL: this machine's own */
    const char *ssh_config;           /* in which ssh finds the open connections; NULL: none are open */
};

struct engine_start {
    const char *rundir; /* the private directory */
    char *const *words; /* as specify() has made them */
    bool watch;         /* what fails is to be known afterwards */
    bool failed_only;   /* only what failed the last time is run: failed() has said that it can be */
};

struct engine {
    const char *name;
    const char *prefix; /* of the copy's directory on nodes: PREFIX_USER_FOLDER */
    const char *each;   /* "--dist=each": what makes it use several interpreters on a node, for messages */

    /* "--tx=": what makes an argument of its own of a word that specify() has made */
    const char *word_option;

    const struct option_row *options;  /* its own, beside ours */
    size_t option_count, options_size; /* the size: of the struct that they set */

    struct descriptors_cost descriptors; /* what it costs this machine */

    /* For nodes, POSIX sh.  facts: defines engine_facts, whose first line of output becomes facts.engine; it is run in the facts script
     * (scripts/node/facts.sh) and must be quick.  guard: defines engine_prepare, which makes a fresh copy fit for use, in the copy's
     * directory, with the guard's functions (scripts/node/guard.sh) at hand; its status says whether it is.  NULL: nothing to be
     * done. */
    const char *facts, *guard;
    /* What it says of a node that cannot be used; see struct requirements.  NULL: nothing but Python modules' names. */
    requirements_lacks *lacks;

    /* Whether it has anything to find out before the nodes are asked: if so it needs the private directory. */
    bool (*asks)(const struct engine_params *params);
    /* rundir: NULL where it does not ask. */
    int (*begin)(const struct engine_params *params, const char *rundir, struct engine_work **work,
                 struct error *err);
    /* Whether no node may be needed, as far as a look at the words tells: then its answer is waited for before one is connected to. */
    bool (*may_stay_here)(const struct engine_params *params);
    bool (*answered)(struct engine_work *work);
    int (*answer)(struct engine_work *work, struct engine_answer *answer, struct error *err);
    int (*settle)(struct engine_work *work, const struct engine_demands *demands,
                  struct engine_settled *settled, struct error *err);
    /* *words: a NULL-terminated list of the caller's, for strings_free(). */
    int (*specify)(struct engine_work *work, const struct engine_nodes *nodes, char ***words,
                   struct error *err);
    /* *status is what cloudplan hands on: the engine's own exit status, but 128 + N where signal N came to cloudplan.  The first
     * signal is passed on so that the engine reports what it has; a second one ends it. */
    int (*run)(struct engine_work *work, const struct engine_start *start, int *status, struct error *err);
    /* How many tests or jobs failed the last time, 0 also where that is not known; alone: whether run() can run these alone. */
    int (*failed)(struct engine_work *work, size_t *count, bool *alone, struct error *err);
    /* Whether the status says that none of what was named is there any more. */
    bool (*found_nothing)(int status);
    void (*destroy)(struct engine_work *work); /* NULL allowed */
};

/* All engines, NULL at the end; the first one is the program's. */
extern const struct engine *const engines[];

#endif
