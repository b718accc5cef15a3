/* The command line, from one table: what getopt_long(3) accepts, what --help prints and which
 * function takes the value all come from `rows`, so that they cannot disagree.
 *
 * getopt_long and not argp: argp's errors take two lines ("Try ... --help") and cloudplan promises one.
 * The leading '-' of the short options makes getopt return words in order: nothing is permuted, argv stays
 * as it is, POSIXLY_CORRECT has no say, and the first "--" is where the engine's words begin.
 */
#include "run/options.h"

#include "nodes/facts.h"
#include "base/path.h"
#include "base/strv.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum group { GROUP_NODES, GROUP_CAPACITY, GROUP_SYNC, GROUP_ENGINE, GROUP_OUTPUT, GROUP_COUNT };

static const char *const group_names[GROUP_COUNT] = {"Nodes", "Capacity", "Sync", "Engine", "Output"};
static const char *const command_names[] = {"probe", "plan", "sync", "run", NULL};
static const char *const format_names[] = {"table", "json", "tx", "sshlogin", NULL};
static const char *const dist_names[] = {"load",      "loadscope", "loadfile", "loadgroup",
                                         "worksteal", "each",      "no",       NULL};

struct row {
    const char *name;
    char letter;     /* 0: none */
    const char *arg; /* the value's name; NULL: takes none */
    enum group group;
    const char *help;
    int (*set)(struct options *options, const struct row *row, const char *value, struct error *err);
    size_t offset;        /* of the member of struct options that `set` fills */
    const char *fallback; /* the value without the option; goes through `set` like a typed one */
    bool path;            /* the value is a path of this machine: "~" begins one in a home */
    uint64_t min, max;    /* of a number */
    const char *unit;     /* of a number: " of MiB", or "" */
};

static void *member(struct options *options, const struct row *row)
{
    return (char *)options + row->offset;
}

static int set_flag(struct options *options, const struct row *row, const char *value, struct error *err)
{
    (void)value;
    (void)err;
    *(bool *)member(options, row) = true;
    return 0;
}

static int needs_value(const struct row *row, struct error *err)
{
    return error_set(err, STATUS_USAGE, "--%s: needs a value, --%s=%s", row->name, row->name, row->arg);
}

static int set_string(struct options *options, const struct row *row, const char *value, struct error *err)
{
    if (!*value)
        return needs_value(row, err);
    *(const char **)member(options, row) = value;
    return 0;
}

static int add_string(struct options *options, const struct row *row, const char *value, struct error *err)
{
    if (!*value)
        return needs_value(row, err);
    const char ***list = member(options, row);
    size_t n = strings_count((char *const *)*list);
    const char **grown = realloc(*list, (n + 2) * sizeof *grown);
    if (!grown)
        return error_errno(err, row->name);
    grown[n] = value;
    grown[n + 1] = NULL;
    *list = grown;
    return 0;
}

static int add_source(struct options *options, const struct row *row, enum source_kind kind,
                      const char *value, struct error *err)
{
    if (!*value)
        return needs_value(row, err);
    struct source *grown = realloc(options->sources, (options->source_count + 1) * sizeof *grown);
    if (!grown)
        return error_errno(err, row->name);
    options->sources = grown;
    grown[options->source_count++] = (struct source){kind, value, ""};
    return 0;
}

static int add_node(struct options *options, const struct row *row, const char *value, struct error *err)
{
    return add_source(options, row, SOURCE_NODE, value, err);
}

static int add_nodes(struct options *options, const struct row *row, const char *value, struct error *err)
{
    return add_source(options, row, SOURCE_NODES, value, err);
}

static int add_from(struct options *options, const struct row *row, const char *value, struct error *err)
{
    return add_source(options, row, SOURCE_FROM, value, err);
}

/* The value goes into an ssh_config; the empty one means OpenSSH's own choice. */
static int set_cipher(struct options *options, const struct row *row, const char *value, struct error *err)
{
    const char *names = value + (*value && strchr("+^", *value) ? 1 : 0);
    if (names[strspn(names, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@.,_-")])
        return error_set(err, STATUS_USAGE, "--%s=%s: not a cipher's name, see ssh -Q cipher", row->name,
                         value);
    *(const char **)member(options, row) = value;
    return 0;
}

/* Digits only: strtoull(3) would take blanks and signs, and -5 as a huge number. */
static int take_number(const struct row *row, const char *value, uint64_t *result, struct error *err)
{
    if (!*value)
        return needs_value(row, err);
    if (value[strspn(value, "0123456789")])
        return error_set(err, STATUS_USAGE, "--%s=%s: not a whole number%s", row->name, value, row->unit);
    errno = 0;
    unsigned long long n = strtoull(value, NULL, 10);
    if (errno || n < row->min || n > row->max)
        return error_set(err, STATUS_USAGE, "--%s=%s: not a number from %llu to %llu", row->name, value,
                         (unsigned long long)row->min, (unsigned long long)row->max);
    *result = n;
    return 0;
}

static int set_u32(struct options *options, const struct row *row, const char *value, struct error *err)
{
    uint64_t n;
    if (take_number(row, value, &n, err) < 0)
        return -1;
    *(uint32_t *)member(options, row) = (uint32_t)n;
    return 0;
}

#define MIB_MAX (UINT64_MAX >> 20)

static int set_mib(struct options *options, const struct row *row, const char *value, struct error *err)
{
    uint64_t n;
    if (take_number(row, value, &n, err) < 0)
        return -1;
    *(uint64_t *)member(options, row) = n << 20;
    return 0;
}

/* A number of seconds, with a unit if there is one. */
static int set_duration(struct options *options, const struct row *row, const char *value, struct error *err)
{
    if (!*value)
        return needs_value(row, err);
    size_t digits = strspn(value, "0123456789");
    const char *unit = value + digits;
    uint64_t factor = !strcmp(unit, "h") ? 3600 : !strcmp(unit, "m") ? 60 : 1;
    if (digits == 0 || (factor == 1 && *unit && strcmp(unit, "s")))
        return error_set(err, STATUS_USAGE, "--%s=%s: not a duration such as 90, 90s, 10m or 2h", row->name, value);
    errno = 0;
    unsigned long long n = strtoull(value, NULL, 10);
    if (errno || n > row->max / factor || n * factor < row->min)
        return error_set(err, STATUS_USAGE, "--%s=%s: not a duration from 1 s to %llu h", row->name, value,
                         (unsigned long long)row->max / 3600);
    *(uint32_t *)member(options, row) = (uint32_t)(n * factor);
    return 0;
}

/* Index of value in words, or -1. */
static int find_word(const char *const *words, const char *value)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], value) == 0)
            return i;
    return -1;
}

static int set_format(struct options *options, const struct row *row, const char *value, struct error *err)
{
    int i = find_word(format_names, value);
    if (i < 0)
        return error_set(err, STATUS_USAGE, "--%s=%s: unknown format; there are table, json, tx and sshlogin",
                         row->name, value);
    options->format = (enum format)i;
    return 0;
}

static int set_dist(struct options *options, const struct row *row, const char *value, struct error *err)
{
    if (find_word(dist_names, value) < 0)
        return error_set(err, STATUS_USAGE,
                         "--%s=%s: unknown mode; there are load, loadscope, loadfile, loadgroup, worksteal, "
                         "each and no",
                         row->name, value);
    options->dist = value;
    return 0;
}

/* More local workers than this are a slip of the finger. */
#define NUMPROCESSES_MAX 10000

/* The value as it is set: a shell leaves the "~" of --rsyncdir=~/x as it is, and an ini file has no shell.  NULL and *err without memory. */
static const char *expand_value(struct options *options, const struct row *row, const char *value, struct error *err)
{
    if (!row->path || *value != '~')
        return value;
    if (strings_take(&options->expanded, path_expand(value))) {
        error_errno(err, row->name);
        return NULL;
    }
    return options->expanded[strings_count(options->expanded) - 1];
}

static int set_row(struct options *options, const struct row *row, const char *value, struct error *err)
{
    const char *expanded = expand_value(options, row, value, err);
    return row->path && !expanded ? -1 : row->set(options, row, expanded, err);
}

struct options_value {
    const char *option, *value, *origin; /* value: NULL for a flag */
};

/* Keeps where the value comes from that is about to be set. */
static int add_value(struct options *options, const struct row *row, const char *value, const char *origin, struct error *err)
{
    struct options_value *grown = realloc(options->values, (options->value_count + 1) * sizeof *grown);
    if (!grown)
        return error_errno(err, row->name);
    options->values = grown;
    grown[options->value_count++] = (struct options_value){row->name, value, origin};
    return 0;
}

const char *options_origin(const struct options *options, const struct error *why)
{
    /* The last one is in force. */
    for (size_t i = options->value_count; why->option && i-- > 0;) {
        const struct options_value *v = &options->values[i];
        if (!strcmp(v->option, why->option) && (!why->value || (v->value && !strcmp(v->value, why->value))))
            return v->origin;
    }
    return "";
}

#define AT(m) .offset = offsetof(struct options, m)

static const struct row rows[] = {
    {"cloud-node", 0, "NODE", GROUP_NODES,
     "a node: [USER@]HOST[:PORT], or : for this machine; ranges such as 10.0.0.{1..40} or web[01-12] are "
     "expanded; may be repeated",
     add_node, AT(sources)},
    {"cloud-nodes", 0, "NODES", GROUP_NODES, "nodes, separated by blanks; may be repeated", add_nodes,
     AT(sources)},
    {"cloud-nodes-from", 0, "FILE", GROUP_NODES,
     "nodes from a file, - for the standard input; # begins a comment; may be repeated", add_from,
     AT(sources), .path = true},
    {"cloud-probe-timeout", 0, "SECONDS", GROUP_NODES, "how long a node may take to answer, 1 to 3600",
     set_u32, AT(probe_timeout), .fallback = "10", .min = 1, .max = 3600, .unit = " of seconds"},

    {"cloud-mem-per-process", 0, "MIB", GROUP_CAPACITY,
     "memory that one process needs, in MiB (default: memory sets no limit)", set_mib,
     AT(policy.mem_per_process), .min = 1, .max = MIB_MAX, .unit = " of MiB"},
    {"cloud-mem-reserve", 0, "MIB", GROUP_CAPACITY, "memory to leave free on every machine, in MiB", set_mib,
     AT(policy.mem_reserve), .fallback = "0", .max = MIB_MAX, .unit = " of MiB"},
    {"cloud-max-processes", 0, "N", GROUP_CAPACITY, "at most so many processes on a node (default: no limit)",
     set_u32, AT(policy.max_processes), .min = 1, .max = UINT32_MAX, .unit = ""},
    {"cloud-min-processes", 0, "N", GROUP_CAPACITY, "give up where all nodes together hold fewer", set_u32,
     AT(policy.min_processes), .fallback = "0", .max = UINT32_MAX, .unit = ""},

    {"cloud-wait", 0, "DURATION", GROUP_CAPACITY,
     "wait so long until --cloud-min-processes, or one, are free: seconds, or 90s, 10m, 2h (default: not at all)",
     set_duration, AT(wait_s), .min = 1, .max = 7 * 24 * 3600},
    {"cloud-no-lease", 0, NULL, GROUP_CAPACITY,
     "neither respect what other runs have leased on the nodes nor lease anything", set_flag, AT(policy.no_lease)},

    {"cloud-chdir", 0, "DIR", GROUP_SYNC,
     "directory on the nodes, relative to the home there or absolute (default: pytest_USER_FOLDER)",
     set_string, AT(chdir)},
    {"cloud-adopt", 0, NULL, GROUP_SYNC,
     "use such a directory, too, that cloudplan did not make, where the copying would delete nothing but caches in it", set_flag,
     AT(adopt)},
    {"cloud-virtualenv-path", 0, "DIR", GROUP_SYNC,
     "virtualenv to use on the nodes (default: the one found in the current directory)", set_string,
     AT(virtualenv), .path = true},
    {"rsyncdir", 0, "DIR", GROUP_SYNC, "directory to copy; may be repeated (default: the current directory)",
     add_string, AT(rsyncdirs), .path = true},
    {"rsyncignore", 0, "GLOB", GROUP_SYNC, "what not to copy; may be repeated", add_string, AT(rsyncignores)},
    {"cloud-rsync-bandwidth-limit", 0, "KIB", GROUP_SYNC, "KiB/s for each rsync, 0 for no limit", set_u32,
     AT(bwlimit), .fallback = "5000", .max = INT32_MAX, .unit = " of KiB/s"},
    {"cloud-rsync-max-processes", 0, "N", GROUP_SYNC, "copy to so many nodes at once, 0 for all", set_u32,
     AT(rsync_max), .fallback = "0", .max = UINT32_MAX, .unit = ""},
    {"cloud-rsync-cipher", 0, "NAME", GROUP_SYNC,
     "cipher that OpenSSH is to prefer, empty for its own choice", set_cipher, AT(cipher),
     .fallback = OPTIONS_CIPHER},
    {"verify", 0, NULL, GROUP_SYNC, "compare every copy with the original, by checksums, before the first test", set_flag,
     AT(verify)},

    {"cloud-python", 0, "NAME", GROUP_ENGINE,
     "interpreter on the nodes: a name, or an absolute path; repeated only for --dist=each (default: python3)",
     add_string, AT(pythons)},
    {"cloud-develop-egg", 0, "DIR", GROUP_ENGINE,
     "package of the project to install in development mode in the nodes' virtualenv; may be repeated", add_string,
     AT(develop_eggs), .path = true},
    {"cloud-ship-pytest", 0, NULL, GROUP_ENGINE, "copy this machine's pytest along, for nodes that have none", set_flag,
     AT(ship_pytest)},
    {"cloud-ship-plugin", 0, "NAME", GROUP_ENGINE,
     "a pure-Python plugin to copy along with pytest; may be repeated", add_string, AT(ship_plugins)},
    {"tx", 0, "XSPEC", GROUP_ENGINE,
     "a further execnet environment beside the computed ones; may be repeated", add_string, AT(tx)},
    {"dist", 0, "MODE", GROUP_ENGINE,
     "how pytest-xdist deals out the tests: load, loadscope, loadfile, loadgroup, worksteal, each, no "
     "(default: load)",
     set_dist, AT(dist)},
    {"numprocesses", 'n', "NUM", GROUP_ENGINE, "so many local processes beside the planned ones", set_u32,
     AT(numprocesses), .fallback = "0", .max = NUMPROCESSES_MAX, .unit = ""},
    {"watch", 0, NULL, GROUP_ENGINE,
     "run again after every change of the project: what failed first, then everything", set_flag, AT(watch)},

    {"format", 0, "FORMAT", GROUP_OUTPUT, "table, json, tx or sshlogin (default: table)", set_format,
     AT(format)},
    {"quiet", 'q', NULL, GROUP_OUTPUT, "results and errors only", set_flag, AT(quiet)},
    {"verbose", 'v', NULL, GROUP_OUTPUT, "say more", set_flag, AT(verbose)},
    {"version", 'V', NULL, GROUP_OUTPUT, "print the version and exit", set_flag, AT(version)},
    {"help", 'h', NULL, GROUP_OUTPUT, "print this help and exit", set_flag, AT(help)},
};

#define ROWS (sizeof rows / sizeof *rows)

/* getopt's codes: CODE_LONG + index for a long option, its letter for a short one, 1 for another word. */
#define CODE_LONG 256
#define CODE_WORD 1

static const struct row *row_of(int code)
{
    if (code >= CODE_LONG)
        return &rows[code - CODE_LONG];
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].letter && rows[i].letter == code)
            return &rows[i];
    return NULL;
}

static int unknown_option(const char *option, int len, struct error *err)
{
    return error_set(err, STATUS_USAGE,
                     "%.*s: unknown option; see cloudplan --help; the engine's options go after --", len,
                     option);
}

/* A long option that getopt did not take: unknown, or short for more than one. */
static int bad_name(const char *word, struct error *err)
{
    size_t len = strcspn(word, "=");
    char list[ERROR_TEXT_MAX] = "";
    size_t used = 0, found = 0;
    for (size_t i = 0; i < ROWS && len > 2; i++)
        if (strncmp(rows[i].name, word + 2, len - 2) == 0 && used < sizeof list) {
            used +=
                (size_t)snprintf(list + used, sizeof list - used, "%s--%s", found ? ", " : "", rows[i].name);
            found++;
        }
    if (found < 2)
        return unknown_option(word, (int)len, err);
    return error_set(err, STATUS_USAGE, "%.*s: ambiguous, could be %s", (int)len, word, list);
}

static int set_command(struct options *options, bool *given, const char *word, struct error *err)
{
    int i = find_word(command_names, word);
    if (i < 0)
        return error_set(err, STATUS_USAGE, "%s: unknown command; arguments for the engine go after --",
                         *word ? word : "''");
    if (*given)
        return error_set(err, STATUS_USAGE,
                         "%s: a second command after %s; arguments for the engine go after --", word,
                         command_names[options->command]);
    options->command = (enum command)i;
    *given = true;
    return 0;
}

_Static_assert(ROWS <= 64, "struct options' typed has a bit for each row");

/* Lists begin empty, not NULL. */
static int prepare(struct options *options, struct error *err)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].set == add_string &&
            !(*(const char ***)member(options, &rows[i]) = calloc(1, sizeof(const char *))))
            return error_errno(err, "command line");
        if (rows[i].fallback && rows[i].set(options, &rows[i], rows[i].fallback, err) < 0)
            return -1;
    }
    return 0;
}

static bool is_source(const struct row *row)
{
    return row->set == add_node || row->set == add_nodes || row->set == add_from;
}

/* Nodes come from one place: named in any way on the command line, those of an ini file do not count. */
static bool was_typed(const struct options *options, const struct row *row)
{
    for (size_t i = 0; i < ROWS; i++)
        if ((options->typed >> i & 1) && (&rows[i] == row || (is_source(&rows[i]) && is_source(row))))
            return true;
    return false;
}

static bool adds_up(const struct row *row)
{
    return !strcmp(row->name, "rsyncdir") || !strcmp(row->name, "rsyncignore") || !strcmp(row->name, "tx");
}

int options_apply(struct options *options, const char *name, const char *value, const char *origin, struct error *err)
{
    const struct row *row = NULL;
    for (size_t i = 0; !row && i < ROWS; i++)
        if (!strcmp(rows[i].name, name))
            row = &rows[i];
    struct error why = ERROR_INIT;
    if (!row)
        error_set(&why, STATUS_USAGE, "--%s: unknown option", name);
    else if (!value != !row->arg)
        error_set(&why, STATUS_USAGE, row->arg ? "--%s: needs a value" : "--%s: takes no value", name);
    else if (adds_up(row) || !was_typed(options, row)) {
        const char *known = expand_value(options, row, value, &why); /* as errors know it */
        size_t sources = options->source_count;
        if (!why.status && row->set(options, row, known, &why) == 0)
            add_value(options, row, known, origin, &why);
        if (options->source_count > sources)
            options->sources[sources].origin = origin;
    }
    if (!why.status)
        return 0;
    bool ours = why.status == STATUS_USAGE && *origin;
    return error_set(err, ours ? STATUS_DATA : why.status, "%s%s%s", origin, *origin ? ": " : "", why.text);
}

int options_check(const struct options *options, const char *dist, struct error *err)
{
    size_t pythons = strings_count((char *const *)options->pythons);
    bool each = dist && !strcmp(dist, "each");
    if (pythons > 1 && !each)
        return error_value(err, "cloud-python", options->pythons[1],
                         "--cloud-python=%s: a second interpreter is for --dist=each alone: name one, or add --dist=each",
                         options->pythons[1]);
    if (pythons > FACTS_PYTHONS_MAX)
        return error_value(err, "cloud-python", NULL, "--cloud-python: at most %d interpreters", FACTS_PYTHONS_MAX);
    if (options->watch && options->command != COMMAND_RUN)
        return error_set(err, STATUS_USAGE, "--watch: only run has something to run again; leave out %s",
                         command_names[options->command]);
    if (dist && !strcmp(dist, "no") && options->numprocesses)
        return error_set(err, STATUS_USAGE,
                         "-n %u: --dist=no runs all tests in one process on this machine; leave out one of them",
                         options->numprocesses);
    if (options->watch && each)
        return error_set(err, STATUS_USAGE, "--watch: cannot tell whose tests to run again with --dist=each; leave out one of them");
    if (options->ship_plugins[0] && !options->ship_pytest)
        return error_value(err, "cloud-ship-plugin", options->ship_plugins[0], "--cloud-ship-plugin=%s: goes along with pytest alone: add --cloud-ship-pytest",
                         options->ship_plugins[0]);
    return 0;
}

/* A format that would be heard of nowhere. */
static int check_format(const struct options *options, struct error *err)
{
    const char *format = format_names[options->format];
    if (options->command == COMMAND_RUN && options->format != FORMAT_TABLE)
        return error_set(err, STATUS_USAGE,
                         "--format=%s: run leaves the standard output to pytest; leave it out, or use plan --format=%s", format,
                         format);
    if (options->command == COMMAND_PROBE && (options->format == FORMAT_TX || options->format == FORMAT_SSHLOGIN))
        return error_set(err, STATUS_USAGE, "--format=%s: probe plans no process; use plan --format=%s", format, format);
    return 0;
}

int options_parse(struct options *options, int argc, char **argv, struct error *err)
{
    *options = (struct options){.command = COMMAND_RUN, .engine_args = argv + argc};
    if (prepare(options, err) < 0)
        return -1;

    struct option longs[ROWS + 1] = {0};
    char shorts[2 + 2 * ROWS + 1] = "-:";
    char *end = shorts + 2;
    for (size_t i = 0; i < ROWS; i++) {
        longs[i] = (struct option){rows[i].name, rows[i].arg ? required_argument : no_argument, NULL,
                                   CODE_LONG + (int)i};
        if (rows[i].letter)
            *end++ = rows[i].letter;
        if (rows[i].letter && rows[i].arg)
            *end++ = ':';
    }

    bool command_given = false;
    opterr = 0;
    optind = 0; /* glibc: begin anew, whatever was parsed before */
    for (int code; (code = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (code == CODE_WORD) {
            if (set_command(options, &command_given, optarg, err) < 0)
                return -1;
            continue;
        }
        if (code == ':')
            return needs_value(row_of(optopt), err);
        if (code == '?' && optopt >= CODE_LONG)
            return error_set(err, STATUS_USAGE, "%s: takes no value, write --%s", argv[optind - 1],
                             row_of(optopt)->name);
        if (code == '?' && optopt == 0)
            return bad_name(argv[optind - 1], err);
        if (code == '?')
            return unknown_option((char[]){'-', (char)optopt}, 2, err);

        const struct row *row = row_of(code);
        /* "--cloud-node -- tests/": the value was forgotten, "--" is not one */
        if (row->arg && optarg == argv[optind - 1] && strcmp(optarg, "--") == 0)
            return needs_value(row, err);
        if (set_row(options, row, optarg, err) < 0)
            return -1;
        options->typed |= UINT64_C(1) << (row - rows);
        if (options->help || options->version)
            return 0;
    }
    options->engine_args = argv + optind;
    return check_format(options, err);
}

bool options_ask_for_logins(int argc, char *const *argv)
{
    bool asked = false;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        size_t name = strcspn(argv[i], "=");
        const char *value = argv[i][name] ? argv[i] + name + 1 : i + 1 < argc ? argv[i + 1] : "";
        /* --f is the shortest name that getopt takes */
        if (name > 2 && !strncmp(argv[i], "--format", name))
            asked = !strcmp(value, format_names[FORMAT_SSHLOGIN]); /* the last one wins */
    }
    return asked;
}

void options_clear(struct options *options)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].set == add_string)
            free(*(const char ***)member(options, &rows[i]));
    for (size_t i = 0; options->expanded && options->expanded[i]; i++)
        free(options->expanded[i]);
    free(options->expanded);
    free(options->sources);
    free(options->values);
    *options = (struct options){0};
}

#define HELP_COLUMN 30
#define HELP_WIDTH 79

/* Continues a line that is at column `at`; words go to the next line where they would not fit. */
static int print_wrapped(FILE *out, const char *text, int at)
{
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (at + 1 + len > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        } else if (at > HELP_COLUMN) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", len, text);
        at += len;
        text += len;
        text += strspn(text, " ");
    }
    return at;
}

static void print_row(FILE *out, const struct row *row)
{
    int at = row->letter ? fprintf(out, "  -%c, --%s", row->letter, row->name)
                         : fprintf(out, "      --%s", row->name);
    if (row->arg)
        at += fprintf(out, "=%s", row->arg);
    if (at + 2 > HELP_COLUMN) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - at, "");
    at = print_wrapped(out, row->help, HELP_COLUMN);
    if (row->fallback) {
        char text[80];
        snprintf(text, sizeof text, "(default: %s)", row->fallback);
        print_wrapped(out, text, at);
    }
    fputc('\n', out);
}

char *options_help(void)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputs("Usage: cloudplan [probe|plan|sync|run] [OPTION]... [-- ENGINE-ARGUMENT...]\n"
          "How many processes can each of these machines hold right now?  Asks the nodes over\n"
          "SSH, plans, copies the current directory there and runs pytest on all of them.\n"
          "\n"
          "  probe  ask the nodes\n"
          "  plan   ask, and work out the number of processes of each\n"
          "  sync   ask, plan, and copy\n"
          "  run    ask, plan, copy, and run the engine (the default)\n",
          out);
    for (int group = 0; group < GROUP_COUNT; group++) {
        fprintf(out, "\n%s:\n", group_names[group]);
        for (size_t i = 0; i < ROWS; i++)
            if ((int)rows[i].group == group)
                print_row(out, &rows[i]);
    }
    fputs("\nEverything after -- goes to pytest as it is.  The manual: man cloudplan\n", out);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
