/* The command line, from one table: what getopt_long(3) accepts, what --help prints and which
 * function takes the value all come from `rows`, so that they cannot disagree.
 *
 * getopt_long and not argp: argp's errors take two lines ("Try ... --help") and cloudplan promises one.
 * The leading '-' of the short options makes getopt return words in order: nothing is permuted, argv stays
 * as it is, POSIXLY_CORRECT has no say, and the first "--" is where the engine's words begin.
 */
#include "run/options.h"

#include "base/path.h"
#include "base/strv.h"
#include "base/text.h"
#include "nodes/facts.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const group_names[OPTION_GROUPS] = {"Nodes", "Capacity", "Sync", "Engine", "Output"};
static const char *const command_names[] = {"probe", "plan", "sync", "run", NULL};

static int add_source(struct options *options, const struct option_row *row, enum source_kind kind,
                      const char *value, struct error *err)
{
    if (!*value)
        return option_needs_value(row, err);
    struct source *grown = realloc(options->sources, (options->source_count + 1) * sizeof *grown);
    if (!grown)
        return error_errno(err, row->name);
    options->sources = grown;
    grown[options->source_count++] = (struct source){kind, value, ""};
    return 0;
}

static int add_node(void *options, const struct option_row *row, const char *value, struct error *err)
{
    return add_source(options, row, SOURCE_NODE, value, err);
}

static int add_nodes(void *options, const struct option_row *row, const char *value, struct error *err)
{
    return add_source(options, row, SOURCE_NODES, value, err);
}

static int add_from(void *options, const struct option_row *row, const char *value, struct error *err)
{
    return add_source(options, row, SOURCE_FROM, value, err);
}

/* The value goes into an ssh_config; the empty one means OpenSSH's own choice. */
static int set_cipher(void *options, const struct option_row *row, const char *value, struct error *err)
{
    const char *names = value + (*value && strchr("+^", *value) ? 1 : 0);
    if (names[strspn(names, TEXT_ALNUM "@.,_-")])
        return error_set(err, STATUS_USAGE, "--%s=%s: not a cipher's name, see ssh -Q cipher", row->name,
                         value);
    ((struct options *)options)->cipher = value;
    return 0;
}

#define AT(m) .offset = offsetof(struct options, m)

static const struct option_row rows[] = {
    {"cloud-node", 0, "NODE", OPTION_NODES,
     "a node: [USER@]HOST[:PORT], or : for this machine; ranges such as 10.0.0.{1..40} or web[01-12] are "
     "expanded; may be repeated",
     add_node, AT(sources)},
    {"cloud-nodes", 0, "NODES", OPTION_NODES, "nodes, separated by blanks; may be repeated", add_nodes,
     AT(sources)},
    {"cloud-nodes-from", 0, "FILE", OPTION_NODES,
     "nodes from a file, - for the standard input; # begins a comment; may be repeated", add_from,
     AT(sources), .path = true},
    {"cloud-probe-timeout", 0, "SECONDS", OPTION_NODES, "how long a node may take to answer, 1 to 3600",
     option_set_u32, AT(probe_timeout), .fallback = "10", .min = 1, .max = 3600, .unit = " of seconds"},

    {"cloud-mem-per-process", 0, "MIB", OPTION_CAPACITY,
     "memory that one process needs, in MiB (default: memory sets no limit)", option_set_mib,
     AT(policy.mem_per_process), .min = 1, .max = OPTION_MIB_MAX, .unit = " of MiB"},
    {"cloud-mem-reserve", 0, "MIB", OPTION_CAPACITY, "memory to leave free on every machine, in MiB",
     option_set_mib, AT(policy.mem_reserve), .fallback = "0", .max = OPTION_MIB_MAX, .unit = " of MiB"},
    {"cloud-max-processes", 0, "N", OPTION_CAPACITY,
     "at most so many processes on a node (default: no limit)", option_set_u32, AT(policy.max_processes),
     .min = 1, .max = UINT32_MAX, .unit = ""},
    {"cloud-min-processes", 0, "N", OPTION_CAPACITY, "give up where all nodes together hold fewer",
     option_set_u32, AT(policy.min_processes), .fallback = "0", .max = UINT32_MAX, .unit = ""},

    {"cloud-wait", 0, "DURATION", OPTION_CAPACITY,
     "wait so long until --cloud-min-processes, or one, are free: seconds, or 90s, 10m, 2h (default: not at "
     "all)",
     option_set_duration, AT(wait_s), .min = 1, .max = 7 * 24 * 3600},
    {"cloud-no-lease", 0, NULL, OPTION_CAPACITY,
     "neither respect what other runs have leased on the nodes nor lease anything", option_set_flag,
     AT(policy.no_lease)},

    {"cloud-chdir", 0, "DIR", OPTION_SYNC,
     "directory on the nodes, relative to the home there or absolute (default: PREFIX_USER_FOLDER)",
     option_set_string, AT(chdir)},
    {"cloud-adopt", 0, NULL, OPTION_SYNC,
     "use such a directory, too, that cloudplan did not make, where the copying would delete nothing but "
     "caches in it",
     option_set_flag, AT(adopt)},
    {"cloud-virtualenv-path", 0, "DIR", OPTION_SYNC,
     "virtualenv to use on the nodes (default: the one found in the current directory)", option_set_string,
     AT(virtualenv), .path = true},
    {"rsyncdir", 0, "DIR", OPTION_SYNC, "directory to copy; may be repeated (default: the current directory)",
     option_add_string, AT(rsyncdirs), .path = true, .adds_up = true},
    {"rsyncignore", 0, "GLOB", OPTION_SYNC, "what not to copy; may be repeated", option_add_string,
     AT(rsyncignores), .adds_up = true},
    {"cloud-copy-links", 0, NULL, OPTION_SYNC,
     "copy what symbolic links point to that lead out of what is copied", option_set_flag, AT(copy_links)},
    {"cloud-rsync-bandwidth-limit", 0, "KIB", OPTION_SYNC, "KiB/s for each rsync, 0 for no limit",
     option_set_u32, AT(bwlimit), .fallback = "5000", .max = INT32_MAX, .unit = " of KiB/s"},
    {"cloud-rsync-max-processes", 0, "N", OPTION_SYNC, "copy to so many nodes at once, 0 for all",
     option_set_u32, AT(rsync_max), .fallback = "0", .max = UINT32_MAX, .unit = ""},
    {"cloud-rsync-cipher", 0, "NAME", OPTION_SYNC,
     "cipher that OpenSSH is to prefer, empty for its own choice", set_cipher, AT(cipher),
     .fallback = OPTIONS_CIPHER},
    {"verify", 0, NULL, OPTION_SYNC,
     "compare every copy with the original, by checksums, before the first test", option_set_flag,
     AT(verify)},

    {"cloud-python", 0, "NAME", OPTION_ENGINE,
     "interpreter on the nodes: a name, or an absolute path; may be repeated where the engine takes several "
     "(default: python3)",
     option_add_string, AT(pythons)},
    {"cloud-develop-egg", 0, "DIR", OPTION_ENGINE,
     "package of the project to install in development mode in the nodes' virtualenv; may be repeated",
     option_add_string, AT(develop_eggs), .path = true},
    {"watch", 0, NULL, OPTION_ENGINE,
     "run again after every change of the project: what failed first, then everything", option_set_flag,
     AT(watch)},

    {"format", 0, "FORMAT", OPTION_OUTPUT, "of the result: WORDS (default: table)", option_set_index,
     AT(format), .words = report_formats, .kind = "format"},
    {"quiet", 'q', NULL, OPTION_OUTPUT, "results and errors only", option_set_flag, AT(quiet)},
    {"verbose", 'v', NULL, OPTION_OUTPUT, "say more", option_set_flag, AT(verbose)},
    {"version", 'V', NULL, OPTION_OUTPUT, "print the version and exit", option_set_flag, AT(version)},
    {"help", 'h', NULL, OPTION_OUTPUT, "print this help and exit", option_set_flag, AT(help)},
};

#define ROWS (sizeof rows / sizeof *rows)

/* The value as it is set: a shell leaves the "~" of --rsyncdir=~/x as it is, and an ini file has no shell.  NULL and *err without memory. */
static const char *expand_value(struct options *options, const struct option_row *row, const char *value,
                                struct error *err)
{
    if (!row->path || *value != '~')
        return value;
    if (strings_take(&options->expanded, path_expand(value))) {
        error_errno(err, row->name);
        return NULL;
    }
    return options->expanded[strings_count(options->expanded) - 1];
}

/* The struct that has the option's member: ours, or the engine's. */
static int set_value(struct options *options, const struct option_row *row, const char *value,
                     struct error *err)
{
    bool ours = row >= rows && row < rows + ROWS;
    return row->set(ours ? (void *)options : options->engine_options, row, value, err);
}

static int set_row(struct options *options, const struct option_row *row, const char *value,
                   struct error *err)
{
    const char *expanded = expand_value(options, row, value, err);
    return row->path && !expanded ? -1 : set_value(options, row, expanded, err);
}

struct options_value {
    const char *option, *value, *origin; /* value: NULL for a flag */
};

/* Keeps where the value comes from that is about to be set. */
static int add_value(struct options *options, const struct option_row *row, const char *value,
                     const char *origin, struct error *err)
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

/* getopt's codes: CODE_LONG + index for a long option, its letter for a short one, 1 for another word. */
#define CODE_LONG 256
#define CODE_WORD 1

/* Ours, then the engine's. */
static size_t row_count(const struct engine *engine)
{
    return ROWS + engine->option_count;
}

static const struct option_row *row_at(const struct engine *engine, size_t i)
{
    return i < ROWS ? &rows[i] : &engine->options[i - ROWS];
}

static const struct option_row *row_of(const struct engine *engine, int code)
{
    if (code >= CODE_LONG)
        return row_at(engine, (size_t)(code - CODE_LONG));
    for (size_t i = 0; i < row_count(engine); i++)
        if (row_at(engine, i)->letter && row_at(engine, i)->letter == code)
            return row_at(engine, i);
    return NULL;
}

static int unknown_option(const char *option, int len, struct error *err)
{
    return error_set(err, STATUS_USAGE,
                     "%.*s: unknown option; see cloudplan --help; the engine's options go after --", len,
                     option);
}

/* A long option that getopt did not take: unknown, or short for more than one. */
static int bad_name(const struct engine *engine, const char *word, struct error *err)
{
    size_t len = strcspn(word, "=");
    char list[ERROR_TEXT_MAX] = "";
    size_t used = 0, found = 0;
    for (size_t i = 0; i < row_count(engine) && len > 2; i++) {
        const char *name = row_at(engine, i)->name;
        if (strncmp(name, word + 2, len - 2) == 0 && used < sizeof list) {
            used += (size_t)snprintf(list + used, sizeof list - used, "%s--%s", found ? ", " : "", name);
            found++;
        }
    }
    if (found < 2)
        return unknown_option(word, (int)len, err);
    return error_set(err, STATUS_USAGE, "%.*s: ambiguous, could be %s", (int)len, word, list);
}

static int set_command(struct options *options, bool *given, const char *word, struct error *err)
{
    int i = option_find_word(command_names, word);
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

static bool is_source(const struct option_row *row)
{
    return row->set == add_node || row->set == add_nodes || row->set == add_from;
}

/* Nodes come from one place: named in any way on the command line, those of an ini file do not count. */
static bool was_typed(const struct options *options, const struct option_row *row)
{
    for (size_t i = 0; i < row_count(options->engine); i++) {
        const struct option_row *typed = row_at(options->engine, i);
        if (options->typed[i] && (typed == row || (is_source(typed) && is_source(row))))
            return true;
    }
    return false;
}

int options_apply(struct options *options, const char *name, const char *value, const char *origin,
                  struct error *err)
{
    const struct option_row *row = NULL;
    for (size_t i = 0; !row && i < row_count(options->engine); i++)
        if (!strcmp(row_at(options->engine, i)->name, name))
            row = row_at(options->engine, i);
    struct error why = ERROR_INIT;
    if (!row)
        error_set(&why, STATUS_USAGE, "--%s: unknown option", name);
    else if (!value != !row->arg)
        error_set(&why, STATUS_USAGE, row->arg ? "--%s: needs a value" : "--%s: takes no value", name);
    else if (row->adds_up || !was_typed(options, row)) {
        const char *known = expand_value(options, row, value, &why); /* as errors know it */
        size_t sources = options->source_count;
        if (!why.status && set_value(options, row, known, &why) == 0)
            add_value(options, row, known, origin, &why);
        if (options->source_count > sources)
            options->sources[sources].origin = origin;
    }
    if (!why.status)
        return 0;
    bool ours = why.status == STATUS_USAGE && *origin;
    return error_set(err, ours ? STATUS_DATA : why.status, "%s%s%s", origin, *origin ? ": " : "", why.text);
}

int options_check(const struct options *options, bool each, struct error *err)
{
    size_t pythons = strings_count((char *const *)options->pythons);
    if (pythons > 1 && !each)
        return error_value(err, "cloud-python", options->pythons[1],
                           "--cloud-python=%s: a second interpreter is for %s alone: name one, or add %s",
                           options->pythons[1], options->engine->each, options->engine->each);
    if (pythons > FACTS_PYTHONS_MAX)
        return error_value(err, "cloud-python", NULL, "--cloud-python: at most %d interpreters",
                           FACTS_PYTHONS_MAX);
    if (options->watch && options->command != COMMAND_RUN)
        return error_set(err, STATUS_USAGE, "--watch: only run has something to run again; leave out %s",
                         command_names[options->command]);
    return 0;
}

/* A format that would be heard of nowhere. */
static int check_format(const struct options *options, struct error *err)
{
    const char *format = report_formats[options->format];
    if (options->command == COMMAND_RUN && options->format != FORMAT_TABLE)
        return error_set(
            err, STATUS_USAGE,
            "--format=%s: run leaves the standard output to %s; leave it out, or use plan --format=%s",
            format, options->engine->name, format);
    if (options->command == COMMAND_PROBE &&
        (options->format == FORMAT_TX || options->format == FORMAT_SSHLOGIN))
        return error_set(err, STATUS_USAGE, "--format=%s: probe plans no process; use plan --format=%s",
                         format, format);
    return 0;
}

/* What getopt_long takes; both arrays of OPTIONS_MAX rows. */
static void describe_rows(const struct engine *engine, struct option *longs, char *shorts)
{
    char *end = stpcpy(shorts, "-:");
    for (size_t i = 0; i < row_count(engine); i++) {
        const struct option_row *row = row_at(engine, i);
        *longs++ =
            (struct option){row->name, row->arg ? required_argument : no_argument, NULL, CODE_LONG + (int)i};
        if (row->letter)
            *end++ = row->letter;
        if (row->letter && row->arg)
            *end++ = ':';
    }
    *longs = (struct option){0};
    *end = '\0';
}

int options_parse(struct options *options, const struct engine *engine, int argc, char **argv,
                  struct error *err)
{
    struct option longs[OPTIONS_MAX + 1];
    char shorts[2 + 2 * OPTIONS_MAX + 1];
    *options = (struct options){.engine = engine, .command = COMMAND_RUN, .engine_args = argv + argc};
    if (row_count(engine) > OPTIONS_MAX)
        return error_set(err, STATUS_BUG, "%zu options, more than %d", row_count(engine), OPTIONS_MAX);
    options->engine_options = calloc(1, engine->options_size ? engine->options_size : 1);
    if (!options->engine_options)
        return error_errno(err, "command line");
    if (option_prepare(options, rows, ROWS, err) ||
        option_prepare(options->engine_options, engine->options, engine->option_count, err))
        return -1;
    describe_rows(engine, longs, shorts);

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
            return option_needs_value(row_of(engine, optopt), err);
        if (code == '?' && optopt >= CODE_LONG)
            return error_set(err, STATUS_USAGE, "%s: takes no value, write --%s", argv[optind - 1],
                             row_of(engine, optopt)->name);
        if (code == '?' && optopt == 0)
            return bad_name(engine, argv[optind - 1], err);
        if (code == '?')
            return unknown_option((char[]){'-', (char)optopt}, 2, err);

        const struct option_row *row = row_of(engine, code);
        /* "--cloud-node -- tests/": the value was forgotten, "--" is not one */
        if (row->arg && optarg == argv[optind - 1] && strcmp(optarg, "--") == 0)
            return option_needs_value(row, err);
        if (set_row(options, row, optarg, err) < 0)
            return -1;
        for (size_t i = 0; i < row_count(engine); i++)
            options->typed[i] = options->typed[i] || row_at(engine, i) == row;
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
            asked = !strcmp(value, report_formats[FORMAT_SSHLOGIN]); /* the last one wins */
    }
    return asked;
}

void options_clear(struct options *options)
{
    option_clear(options, rows, ROWS);
    if (options->engine_options)
        option_clear(options->engine_options, options->engine->options, options->engine->option_count);
    free(options->engine_options);
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

/* The row's help; PREFIX in it stands for the engine's prefix, WORDS for the words that there are. */
static void expand_help(const struct option_row *row, const struct engine *engine, char *help, size_t size)
{
    char words[200] = "";
    if (row->words)
        option_list_words(row->words, "or", words, sizeof words);
    const struct {
        const char *name, *text;
    } placeholders[] = {{"PREFIX", engine->prefix}, {"WORDS", words}};
    const char *found = NULL, *text = "";
    size_t len = 0;
    for (size_t i = 0; !found && i < sizeof placeholders / sizeof *placeholders; i++) {
        text = placeholders[i].text;
        len = strlen(placeholders[i].name);
        found = strstr(row->help, placeholders[i].name);
    }
    if (found)
        snprintf(help, size, "%.*s%s%s", (int)(found - row->help), row->help, text, found + len);
    else
        snprintf(help, size, "%s", row->help);
}

static void print_row(FILE *out, const struct option_row *row, const struct engine *engine)
{
    char help[400];
    int at = row->letter ? fprintf(out, "  -%c, --%s", row->letter, row->name)
                         : fprintf(out, "      --%s", row->name);
    if (row->arg)
        at += fprintf(out, "=%s", row->arg);
    if (at + 2 > HELP_COLUMN) {
        fputc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - at, "");
    expand_help(row, engine, help, sizeof help);
    at = print_wrapped(out, help, HELP_COLUMN);
    if (row->fallback) {
        char text[80];
        snprintf(text, sizeof text, "(default: %s)", row->fallback);
        print_wrapped(out, text, at);
    }
    fputc('\n', out);
}

char *options_help(const struct engine *engine)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputs("Usage: cloudplan [probe|plan|sync|run] [OPTION]... [-- ENGINE-ARGUMENT...]\n"
          "How many processes can each of these machines hold right now?  Asks the nodes over\n"
          "SSH, plans, copies the current directory there and runs ",
          out);
    fprintf(out, "%s on all of them.\n", engine->name);
    fputs("\n"
          "  probe  ask the nodes\n"
          "  plan   ask, and work out the number of processes of each\n"
          "  sync   ask, plan, and copy\n"
          "  run    ask, plan, copy, and run the engine (the default)\n",
          out);
    for (int group = 0; group < OPTION_GROUPS; group++) {
        fprintf(out, "\n%s:\n", group_names[group]);
        for (size_t i = 0; i < row_count(engine); i++)
            if ((int)row_at(engine, i)->group == group)
                print_row(out, row_at(engine, i), engine);
    }
    fprintf(out, "\nEverything after -- goes to %s as it is.  The manual: man cloudplan\n", engine->name);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
