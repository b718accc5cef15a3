/* What pytest itself makes of its arguments and of the project's ini files: defaults for our options, what is to be
 * handed on, what a worker needs.
 *
 * PYTHON -m pytest ARGS is started with the plugin pytest_cloudplan, which writes a JSON document and ends before any
 * conftest.py is loaded, as a rule.  So rootdir, ini file, addopts and plugins are found as in the run itself.  It takes
 * some tenths of a second, which pass while nodes are connected to.
 */
#ifndef CLOUDPLAN_SETTINGS_H
#define CLOUDPLAN_SETTINGS_H

#include "base/error.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stddef.h>

#define SETTINGS_TIMEOUT_MS 60000 /* a cold interpreter on a slow disk */

struct settings {
    struct engine_value *options; /* in order */
    size_t option_count;
    const char *pytest, *xdist, *execnet; /* versions, NULL: missing */
    char **args;                          /* pytest's arguments without ours, NULL-terminated */
    char **options_only;                  /* those without positional ones; NULL: cannot be told */
    const char *dist;                     /* NULL: pytest's arguments say nothing */
    const char *here;    /* "--collect-only", "--dist=no": what takes no node; NULL: pytest needs nodes */
    const char *modules; /* what a worker must be able to import, separated by blanks */
    char **notes;        /* lines for the user */
    char **shipped;      /* "pytest 7.2.1": what was assembled to be copied along */
};

struct settings_params {
    const char *python;
    const char *rundir; /* plugin_write() was there */
    const char *run_id;
    char *const *args;               /* as typed */
    bool ship;                       /* --cloud-ship-pytest was given to us */
    const char *const *ship_plugins; /* NULL-terminated */
    const char *dist;                /* --dist as it was given to us; NULL: it was not */
    /* likewise; NULL: none: what pytest's arguments hold is checked together with these */
    const char *const *tx;
    const char *const *env; /* --cloud-env, likewise */
};

struct settings_query;

/* Whether an ini file or conftest.py that pytest could find for dir (dir and the directories above it), or PYTEST_ADDOPTS, so much as
 * mentions one of our options.  Without that it need not be asked. */
bool settings_mentioned(const char *dir);

/* Starts to ask.  NULL and *err: STATUS_USAGE where the arguments switch the plugin off, STATUS_TOOL, STATUS_SYSTEM. */
struct settings_query *settings_ask(const struct settings_params *params, struct error *err);
/* Whether the answer is there, or late; never blocks. */
bool settings_answered(struct settings_query *query);
/* Waits for the answer.  Its strings are borrowed from the query.  NULL and *err: STATUS_TOOL where there is no pytest or an
 * unusable one, STATUS_DATA with pytest's own words where it cannot read its configuration, STATUS_SYSTEM (a full disk, for one),
 * STATUS_SIGNAL+N, or what the answer says. */
const struct settings *settings_wait(struct settings_query *query, struct error *err);
/* NULL allowed; ends the child. */
void settings_destroy(struct settings_query *query);

/* The directory RUNDIR/cloudplan-site, where what is shipped was assembled; borrowed; NULL where nothing is. */
const char *settings_site(const struct settings_query *query);

/* Parses an answer: for settings_wait(), and tests.  *settings borrows from *document, a json_t that the caller
 * releases also on -1. */
int settings_parse(struct settings *settings, void **document, const char *text, size_t len,
                   struct error *err);
void settings_clear(struct settings *settings);

#endif
