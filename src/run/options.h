/* The command line: one table drives the parsing and --help, and a test compares it with the man page.
 *
 *     cloudplan [probe|plan|sync|run] [OPTION]... [-- ENGINE-ARGUMENT...]
 *
 * Values are checked here as far as the command line alone can tell (numbers, ranges of numbers, known words);
 * what a node's name means is not known here.  Sizes are given in MiB and kept in bytes.
 */
#ifndef CLOUDPLAN_OPTIONS_H
#define CLOUDPLAN_OPTIONS_H

#include "base/error.h"
#include "base/option.h"
#include "engine/engine.h"
#include "plan/plan.h"
#include "report/report.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_MAX 64                          /* ours and an engine's */
#define OPTIONS_CIPHER "aes128-gcm@openssh.com" /* --cloud-rsync-cipher's default */

enum command { COMMAND_PROBE, COMMAND_PLAN, COMMAND_SYNC, COMMAND_RUN };

/* Where node names come from, in the order given. */
enum source_kind {
    SOURCE_NODE /* --cloud-node */,
    SOURCE_NODES /* --cloud-nodes */,
    SOURCE_FROM /* --cloud-nodes-from */
};
struct source {
    enum source_kind kind;
    const char *text;   /* borrowed from argv, or from whoever has applied it */
    const char *origin; /* as of options_apply(); "": the command line */
};

struct options {
    const struct engine *engine;
    void *engine_options; /* owned: the struct of the engine's own options */

    enum command command;
    enum format format;
    bool quiet;         /* -q: results and errors only */
    bool verbose;       /* -v */
    bool help, version; /* asked for: the rest is not to be used */

    struct source *sources; /* owned array */
    size_t source_count;

    /* --cloud-python, NULL-terminated, owned array of borrowed strings; none: by itself */
    const char **pythons;
    const char *chdir;      /* --cloud-chdir; NULL: default */
    const char *virtualenv; /* --cloud-virtualenv-path; NULL: by itself */
    struct policy
        policy; /* --cloud-mem-per-process, -mem-reserve, -max-processes, -min-processes, --cloud-no-lease */
    uint32_t wait_s;        /* --cloud-wait, seconds: wait so long for room; 0: not at all */
    unsigned probe_timeout; /* --cloud-probe-timeout, seconds, 10 */

    uint32_t bwlimit;          /* --cloud-rsync-bandwidth-limit, KiB/s, 5000; 0: none */
    uint32_t rsync_max;        /* --cloud-rsync-max-processes; 0: all nodes at once */
    const char *cipher;        /* --cloud-rsync-cipher */
    bool verify;               /* --verify */
    bool adopt;                /* --cloud-adopt */
    const char **rsyncdirs;    /* --rsyncdir, NULL-terminated, owned array of borrowed strings */
    const char **rsyncignores; /* --rsyncignore, likewise */

    bool copy_links; /* --cloud-copy-links */

    const char **develop_eggs; /* --cloud-develop-egg, likewise, as typed */
    bool watch;                /* --watch: run again after every change */

    char **engine_args; /* what came after "--": NULL-terminated, points into argv; never NULL */
    char **expanded;    /* options.c's own: paths that began with "~", NULL-terminated; NULL: none */
    struct options_value *values; /* options.c's own: values that have been applied, an owned array */
    size_t value_count;
    bool typed[OPTIONS_MAX]; /* options.c's own: which rows of the tables the command line has set */
};

/* 0, or -1 and *err: STATUS_USAGE, one line that names the word and the remedy.  argv is not changed.
 * options_clear() is needed in both cases. */
int options_parse(struct options *options, const struct engine *engine, int argc, char **argv,
                  struct error *err);
/* Whether a word of the command line asks for --format=sshlogin: also where options_parse() has found fault with another one. */
bool options_ask_for_logins(int argc, char *const *argv);
/* A value from elsewhere, such as an ini file that the engine reads: name without "--", value NULL for a flag, both borrowed for as long as
 * the options live.  What the command line says is kept, but for options that
 * add up (--rsyncdir).  origin: the file's name, "" for none.  0, or -1 and *err: STATUS_DATA that names the origin, STATUS_USAGE without
 * one, STATUS_SYSTEM without memory. */
int options_apply(struct options *options, const char *name, const char *value, const char *origin,
                  struct error *err);

/* Where the value of an option comes from that an error names (error_value()): what options_apply() was told; "" for the command line, for a
 * default, and where the error names none. */
const char *options_origin(const struct options *options, const struct error *why);

/* What only all values together tell, checked when the last one is there: STATUS_USAGE.  each: as in struct engine_settled. */
int options_check(const struct options *options, bool each, struct error *err);
void options_clear(struct options *options);

/* The text of --help; owned by the caller, NULL without memory. */
char *options_help(const struct engine *engine);

#endif
