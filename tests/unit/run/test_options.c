#include "engine/pytest/pytest.h"
#include "run/options.h"

#include "alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WORDS_MAX 12

/* A command line in an argv of its own; compared afterwards, since options_parse() promises not to change it.
 */
struct line {
    char *argv[WORDS_MAX + 2];
    char *before[WORDS_MAX + 2];
    int argc;
};

static const struct pytest_options *own(const struct options *options)
{
    return options->engine_options;
}

static void line_make(struct line *line, const char *const *words)
{
    *line = (struct line){.argv = {(char *)"cloudplan"}, .argc = 1};
    while (words[line->argc - 1]) {
        line->argv[line->argc] = (char *)words[line->argc - 1];
        line->argc++;
    }
    memcpy(line->before, line->argv, sizeof line->before);
}

static int parse(struct options *options, struct line *line, const char *const *words, struct error *err)
{
    line_make(line, words);
    *err = (struct error)ERROR_INIT;
    int result = options_parse(options, &engine_pytest, line->argc, line->argv, err);
    assert_memory_equal(line->argv, line->before, sizeof line->argv);
    assert_non_null(options->engine_args);
    return result;
}

static const struct bad {
    const char *words[WORDS_MAX];
    const char *text;
} bad[] = {
    {{"tests/"}, "tests/: unknown command; arguments for the engine go after --"},
    {{""}, "'': unknown command; arguments for the engine go after --"},
    {{"-"}, "-: unknown command; arguments for the engine go after --"},
    {{"pla"}, "pla: unknown command; arguments for the engine go after --"},
    {{"plan", "tests/"}, "tests/: unknown command; arguments for the engine go after --"},
    {{"plan", "run"}, "run: a second command after plan; arguments for the engine go after --"},
    {{"a\nb"}, "a?b: unknown command; arguments for the engine go after --"},

    {{"--foo"}, "--foo: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"--foo=bar"}, "--foo: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"--=bar"}, "--: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"-x"}, "-x: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"-qvx"}, "-x: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"-:"}, "-:: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"-\xc3\xa9"}, "-?: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"-k", "smoke"}, "-k: unknown option; see cloudplan --help; the engine's options go after --"},
    {{"--cloud-nod=a"}, "--cloud-nod: ambiguous, could be --cloud-node, --cloud-nodes, --cloud-nodes-from"},
    {{"--ver"}, "--ver: ambiguous, could be --verify, --verbose, --version"},
    {{"--quiet=yes"}, "--quiet=yes: takes no value, write --quiet"},
    {{"--qui="}, "--qui=: takes no value, write --quiet"},

    {{"--cloud-node"}, "--cloud-node: needs a value, --cloud-node=NODE"},
    {{"--cloud-node="}, "--cloud-node: needs a value, --cloud-node=NODE"},
    {{"--cloud-node", ""}, "--cloud-node: needs a value, --cloud-node=NODE"},
    {{"--cloud-node", "--", "tests/"}, "--cloud-node: needs a value, --cloud-node=NODE"},
    {{"--cloud-nodes="}, "--cloud-nodes: needs a value, --cloud-nodes=NODES"},
    {{"--cloud-nodes-from="}, "--cloud-nodes-from: needs a value, --cloud-nodes-from=FILE"},
    {{"--cloud-chdir="}, "--cloud-chdir: needs a value, --cloud-chdir=DIR"},
    {{"--rsyncdir="}, "--rsyncdir: needs a value, --rsyncdir=DIR"},
    {{"--tx="}, "--tx: needs a value, --tx=XSPEC"},
    {{"-n"}, "--numprocesses: needs a value, --numprocesses=NUM"},
    {{"-n", "--"}, "--numprocesses: needs a value, --numprocesses=NUM"},

    {{"--cloud-mem-per-process="}, "--cloud-mem-per-process: needs a value, --cloud-mem-per-process=MIB"},
    {{"--cloud-mem-per-process=abc"}, "--cloud-mem-per-process=abc: not a whole number of MiB"},
    {{"--cloud-mem-per-process=-5"}, "--cloud-mem-per-process=-5: not a whole number of MiB"},
    {{"--cloud-mem-per-process", "-5"}, "--cloud-mem-per-process=-5: not a whole number of MiB"},
    {{"--cloud-mem-per-process=+5"}, "--cloud-mem-per-process=+5: not a whole number of MiB"},
    {{"--cloud-mem-per-process=1.5"}, "--cloud-mem-per-process=1.5: not a whole number of MiB"},
    {{"--cloud-mem-per-process= 5"}, "--cloud-mem-per-process= 5: not a whole number of MiB"},
    {{"--cloud-mem-per-process=5 "}, "--cloud-mem-per-process=5 : not a whole number of MiB"},
    {{"--cloud-mem-per-process=0x10"}, "--cloud-mem-per-process=0x10: not a whole number of MiB"},
    {{"--cloud-mem-per-process=1000M"}, "--cloud-mem-per-process=1000M: not a whole number of MiB"},
    {{"--cloud-mem-per-process=0"}, "--cloud-mem-per-process=0: not a number from 1 to 17592186044415"},
    {{"--cloud-mem-per-process=17592186044416"},
     "--cloud-mem-per-process=17592186044416: not a number from 1 to 17592186044415"},
    {{"--cloud-mem-per-process=99999999999999999999"},
     "--cloud-mem-per-process=99999999999999999999: not a number from 1 to 17592186044415"},
    {{"--cloud-mem-reserve=x"}, "--cloud-mem-reserve=x: not a whole number of MiB"},
    {{"--cloud-max-processes=0"}, "--cloud-max-processes=0: not a number from 1 to 4294967295"},
    {{"--cloud-max-processes=4294967296"},
     "--cloud-max-processes=4294967296: not a number from 1 to 4294967295"},
    {{"--cloud-min-processes=many"}, "--cloud-min-processes=many: not a whole number"},
    {{"--cloud-probe-timeout=0"}, "--cloud-probe-timeout=0: not a number from 1 to 3600"},
    {{"--cloud-probe-timeout=3601"}, "--cloud-probe-timeout=3601: not a number from 1 to 3600"},
    {{"--cloud-probe-timeout=5s"}, "--cloud-probe-timeout=5s: not a whole number of seconds"},
    {{"--cloud-wait="}, "--cloud-wait: needs a value, --cloud-wait=DURATION"},
    {{"--cloud-wait=m"}, "--cloud-wait=m: not a duration such as 90, 90s, 10m or 2h"},
    {{"--cloud-wait=1d"}, "--cloud-wait=1d: not a duration such as 90, 90s, 10m or 2h"},
    {{"--cloud-wait=1h30m"}, "--cloud-wait=1h30m: not a duration such as 90, 90s, 10m or 2h"},
    {{"--cloud-wait=-1"}, "--cloud-wait=-1: not a duration such as 90, 90s, 10m or 2h"},
    {{"--cloud-wait= 1"}, "--cloud-wait= 1: not a duration such as 90, 90s, 10m or 2h"},
    {{"--cloud-wait=0"}, "--cloud-wait=0: not a duration from 1 s to 168 h"},
    {{"--cloud-wait=169h"}, "--cloud-wait=169h: not a duration from 1 s to 168 h"},
    {{"--cloud-wait=5124095576030432h"}, "--cloud-wait=5124095576030432h: not a duration from 1 s to 168 h"},
    {{"--cloud-wait=99999999999999999999"},
     "--cloud-wait=99999999999999999999: not a duration from 1 s to 168 h"},
    {{"--cloud-no-lease=1"}, "--cloud-no-lease=1: takes no value, write --cloud-no-lease"},
    {{"--cloud-rsync-bandwidth-limit=5m"}, "--cloud-rsync-bandwidth-limit=5m: not a whole number of KiB/s"},
    {{"--cloud-rsync-max-processes=-1"}, "--cloud-rsync-max-processes=-1: not a whole number"},
    {{"-n", "auto"}, "--numprocesses=auto: not a whole number"},
    {{"-nauto"}, "--numprocesses=auto: not a whole number"},
    {{"-n", "10001"}, "--numprocesses=10001: not a number from 0 to 10000"},

    {{"--cloud-rsync-cipher=aes^x"}, "--cloud-rsync-cipher=aes^x: not a cipher's name, see ssh -Q cipher"},
    {{"--cloud-rsync-cipher=++aes"}, "--cloud-rsync-cipher=++aes: not a cipher's name, see ssh -Q cipher"},
    {{"--cloud-rsync-cipher=aes\nProxyCommand x"},
     "--cloud-rsync-cipher=aes?ProxyCommand x: not a cipher's name, see ssh -Q cipher"},
    {{"--dist=fast"},
     "--dist=fast: unknown mode; there are load, loadscope, loadfile, loadgroup, worksteal, "
     "each and no"},
    {{"--dist="},
     "--dist=: unknown mode; there are load, loadscope, loadfile, loadgroup, worksteal, each and no"},
    {{"--format=xml"}, "--format=xml: unknown format; there are table, json, tx and sshlogin"},
    {{"--format=TABLE"}, "--format=TABLE: unknown format; there are table, json, tx and sshlogin"},
    {{"--foo", "--help"}, "--foo: unknown option; see cloudplan --help; the engine's options go after --"},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct options options;
        struct line line;
        struct error err;
        assert_int_equal(parse(&options, &line, bad[i].words, &err), -1);
        assert_int_equal(err.status, STATUS_USAGE);
        assert_string_equal(err.text, bad[i].text);
        options_clear(&options);
    }
}

/* Every prefix of every long name: taken, or refused in one line; never a surprise. */
static void test_abbreviations(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err;
    assert_int_equal(
        parse(&options, &line, (const char *[]){"plan", "--cloud-mem-p=7", "--form", "json", NULL}, &err), 0);
    assert_true(options.policy.mem_per_process == 7u << 20);
    assert_int_equal(options.format, FORMAT_JSON);
    options_clear(&options);

    assert_int_equal(parse(&options, &line, (const char *[]){"--c", NULL}, &err), -1);
    assert_non_null(strstr(err.text, "--cloud-node, "));
    assert_non_null(strstr(err.text, "--cloud-python"));
    assert_null(strchr(err.text, '\n'));
    options_clear(&options);
}

static void test_asking_for_logins(void **state)
{
    (void)state;
    static const struct {
        const char *words[4];
        bool asked;
    } cases[] = {
        {{"plan", "--format=sshlogin"}, true},
        {{"--bogus", "--f=sshlogin"}, true},
        {{"--format", "sshlogin", "--bogus"}, true},
        {{"--format=sshlogin", "--format=tx"}, false},
        {{"--format=tx", "--format", "sshlogin"}, true},
        {{"--format"}, false},
        {{"--", "--format=sshlogin"}, false},
        {{"--cloud-chdir=sshlogin"}, false},
        {{"--formats=sshlogin"}, false},
        {{"sshlogin"}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct line line;
        line_make(&line, cases[i].words);
        if (options_ask_for_logins(line.argc, line.argv) != cases[i].asked)
            fail_msg("case %zu", i);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err;
    assert_int_equal(parse(&options, &line, (const char *[]){NULL}, &err), 0);
    assert_int_equal(options.command, COMMAND_RUN);
    assert_int_equal(options.format, FORMAT_TABLE);
    assert_false(options.quiet || options.help || options.version);
    assert_false(options.verbose);
    assert_int_equal(options.source_count, 0);
    assert_true(!*options.pythons && !options.chdir && !options.virtualenv && !own(&options)->dist);
    assert_true(options.policy.mem_per_process == 0 && options.policy.mem_reserve == 0);
    assert_true(options.policy.max_processes == 0 && options.policy.min_processes == 0);
    assert_int_equal(options.probe_timeout, 10);
    assert_true(options.wait_s == 0 && !options.policy.no_lease);
    assert_int_equal(options.bwlimit, 5000);
    assert_int_equal(options.rsync_max, 0);
    assert_string_equal(options.cipher, "aes128-gcm@openssh.com");
    assert_true(!*options.rsyncdirs && !*options.rsyncignores && !*own(&options)->tx);
    assert_int_equal(own(&options)->numprocesses, 0);
    assert_null(*options.engine_args);
    options_clear(&options);
}

static void test_values(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err;
    assert_int_equal(parse(&options, &line,
                           (const char *[]){"plan", "--cloud-python=pypy3", "--cloud-chdir", "work/x",
                                            "--format=tx", "--cloud-virtualenv-path=v",
                                            "--cloud-max-processes=3", "--cloud-min-processes=8",
                                            "--cloud-mem-reserve=2", "-n4", "-qvv", "--dist=worksteal", NULL},
                           &err),
                     0);
    assert_string_equal(options.pythons[0], "pypy3");
    assert_null(options.pythons[1]);
    assert_string_equal(options.chdir, "work/x");
    assert_string_equal(options.virtualenv, "v");
    assert_true(options.format == FORMAT_TX);
    assert_int_equal(options.policy.max_processes, 3);
    assert_int_equal(options.policy.min_processes, 8);
    assert_true(options.policy.mem_reserve == 2u << 20);
    assert_int_equal(own(&options)->numprocesses, 4);
    assert_true(options.quiet && options.verbose);
    assert_string_equal(own(&options)->dist, "worksteal");
    options_clear(&options);

    assert_int_equal(parse(&options, &line,
                           (const char *[]){"--cloud-mem-per-process=17592186044415",
                                            "--cloud-probe-timeout=3600", "--cloud-rsync-bandwidth-limit=0",
                                            "--cloud-rsync-max-processes=007", "--cloud-rsync-cipher=", NULL},
                           &err),
                     0);
    assert_true(options.policy.mem_per_process == 17592186044415u * (uint64_t)1048576);
    assert_int_equal(options.probe_timeout, 3600);
    assert_int_equal(options.bwlimit, 0);
    assert_int_equal(options.rsync_max, 7);
    assert_string_equal(options.cipher, "");
    options_clear(&options);
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        uint32_t seconds;
    } table[] = {{"--cloud-wait=90", 90},
                 {"--cloud-wait=90s", 90},
                 {"--cloud-wait=10m", 600},
                 {"--cloud-wait=168h", 604800}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct options options;
        struct line line;
        struct error err;
        assert_int_equal(
            parse(&options, &line, (const char *[]){table[i].word, "--cloud-no-lease", NULL}, &err), 0);
        assert_int_equal(options.wait_s, table[i].seconds);
        assert_true(options.policy.no_lease);
        options_clear(&options);
    }
}

/* Given twice: the last wins, but for what may be repeated, which keeps its order. */
static void test_twice(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err;
    assert_int_equal(
        parse(&options, &line,
              (const char *[]){"--cloud-node=a", "--cloud-nodes-from=-", "--cloud-nodes=b c", "--cloud-node",
                               ":", "--rsyncdir=x", "--rsyncdir=y", "--tx=popen", "--rsyncignore=*.o",
                               "--cloud-max-processes=1", "--cloud-max-processes=2", NULL},
              &err),
        0);
    static const struct source expected[] = {
        {SOURCE_NODE, "a", ""}, {SOURCE_FROM, "-", ""}, {SOURCE_NODES, "b c", ""}, {SOURCE_NODE, ":", ""}};
    assert_int_equal(options.source_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(options.sources[i].kind, expected[i].kind);
        assert_string_equal(options.sources[i].text, expected[i].text);
    }
    assert_string_equal(options.rsyncdirs[0], "x");
    assert_string_equal(options.rsyncdirs[1], "y");
    assert_null(options.rsyncdirs[2]);
    assert_string_equal(own(&options)->tx[0], "popen");
    assert_null(own(&options)->tx[1]);
    assert_string_equal(options.rsyncignores[0], "*.o");
    assert_int_equal(options.policy.max_processes, 2);
    options_clear(&options);
}

static const struct command_case {
    const char *words[WORDS_MAX];
    enum command command;
    const char *engine[4];
} commands[] = {
    {{"probe"}, COMMAND_PROBE, {NULL}},
    {{"plan", "-q"}, COMMAND_PLAN, {NULL}},
    {{"-q", "sync"}, COMMAND_SYNC, {NULL}},
    {{"--cloud-node", "plan", "run", "--"}, COMMAND_RUN, {NULL}},
    {{"--", "plan"}, COMMAND_RUN, {"plan"}},
    {{"--", "--help"}, COMMAND_RUN, {"--help"}},
    {{"plan", "--", "tests/", "--", "-k"}, COMMAND_PLAN, {"tests/", "--", "-k"}},
    {{"-q", "--", "--", "--foo=1"}, COMMAND_RUN, {"--", "--foo=1"}},
    {{"--cloud-node=--", "--", "x"}, COMMAND_RUN, {"x"}},
};

static void test_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct options options;
        struct line line;
        struct error err;
        assert_int_equal(parse(&options, &line, commands[i].words, &err), 0);
        assert_int_equal(options.command, commands[i].command);
        size_t n = 0;
        for (; commands[i].engine[n]; n++)
            assert_string_equal(options.engine_args[n], commands[i].engine[n]);
        assert_null(options.engine_args[n]);
        options_clear(&options);
    }
}

static void test_posixly_correct(void **state)
{
    setenv("POSIXLY_CORRECT", "1", 1);
    test_commands(state);
    test_bad(state);
    unsetenv("POSIXLY_CORRECT");
}

/* The rest of the line does not matter then. */
static void test_help_and_version(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err;
    assert_int_equal(parse(&options, &line, (const char *[]){"-q", "-h", "--foo", "--", "x", NULL}, &err), 0);
    assert_true(options.help && !options.version);
    options_clear(&options);
    assert_int_equal(parse(&options, &line, (const char *[]){"--version", "nonsense", NULL}, &err), 0);
    assert_true(options.version && !options.help);
    options_clear(&options);
}

static void test_help_text(void **state)
{
    (void)state;
    char *help = options_help(&engine_pytest);
    assert_non_null(help);
    const char *at = help;
    static const char *const groups[] = {"\nNodes:\n", "\nCapacity:\n", "\nSync:\n", "\nEngine:\n",
                                         "\nOutput:\n"};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        at = strstr(at, groups[i]);
        assert_non_null(at);
    }
    assert_non_null(strstr(help, "\n  -n, --numprocesses=NUM"));
    for (const char *line = help; *line;) {
        size_t len = strcspn(line, "\n");
        assert_true(len <= 82);
        assert_true(len == 0 || line[len - 1] != ' ');
        line += len + 1;
    }
    free(help);
}

static int apply(struct options *options, const char *name, const char *value, const char *origin,
                 struct error *err)
{
    *err = (struct error)ERROR_INIT;
    return options_apply(options, name, value, origin, err);
}

static void test_apply_bad(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *origin;
        int status;
        const char *text;
    } cases[] = {
        {"cloud-nonsense", "1", "tox.ini", STATUS_DATA, "tox.ini: --cloud-nonsense: unknown option"},
        {"cloud-mem-per-process", NULL, "tox.ini", STATUS_DATA,
         "tox.ini: --cloud-mem-per-process: needs a value"},
        {"cloud-ship-pytest", "yes", "tox.ini", STATUS_DATA, "tox.ini: --cloud-ship-pytest: takes no value"},
        {"cloud-mem-per-process", "1 GB", "setup.cfg", STATUS_DATA,
         "setup.cfg: --cloud-mem-per-process=1 GB: not a whole number of MiB"},
        {"cloud-mem-per-process", "x", "", STATUS_USAGE,
         "--cloud-mem-per-process=x: not a whole number of MiB"},
        {"cloud-probe-timeout", "0", "pytest.ini", STATUS_DATA,
         "pytest.ini: --cloud-probe-timeout=0: not a number from 1 to 3600"},
        {"cloud-chdir", "", "pytest.ini", STATUS_DATA,
         "pytest.ini: --cloud-chdir: needs a value, --cloud-chdir=DIR"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct options options;
        struct line line;
        struct error err;
        assert_int_equal(parse(&options, &line, (const char *[]){NULL}, &err), 0);
        assert_int_equal(apply(&options, cases[i].name, cases[i].value, cases[i].origin, &err), -1);
        assert_int_equal(err.status, cases[i].status);
        assert_string_equal(err.text, cases[i].text);
        options_clear(&options);
    }
}

/* What was typed wins; lists of directories, patterns and xspecs add up; nodes are one group. */
static void test_apply(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err;
    assert_int_equal(
        parse(&options, &line,
              (const char *[]){"--cloud-mem-per-process=5", "--rsyncdir=a", "--cloud-nodes=x y", NULL}, &err),
        0);
    assert_int_equal(apply(&options, "cloud-mem-per-process", "7", "tox.ini", &err), 0);
    assert_int_equal(apply(&options, "cloud-mem-per-process", "not even a number", "tox.ini", &err), 0);
    assert_true(options.policy.mem_per_process == 5u << 20);
    assert_int_equal(apply(&options, "cloud-max-processes", "3", "tox.ini", &err), 0);
    assert_int_equal(options.policy.max_processes, 3);
    assert_int_equal(apply(&options, "rsyncdir", "b", "tox.ini", &err), 0);
    assert_string_equal(options.rsyncdirs[0], "a");
    assert_string_equal(options.rsyncdirs[1], "b");
    assert_null(options.rsyncdirs[2]);
    assert_int_equal(apply(&options, "cloud-node", "z", "tox.ini", &err), 0);
    assert_int_equal(options.source_count, 1);
    assert_int_equal(apply(&options, "cloud-ship-pytest", NULL, "tox.ini", &err), 0);
    assert_true(own(&options)->ship_pytest);
    for (int i = 0; i < 20; i++) /* more than the command line had words */
        assert_int_equal(apply(&options, "cloud-develop-egg", "e", "tox.ini", &err), 0);
    assert_string_equal(options.develop_eggs[19], "e");
    assert_null(options.develop_eggs[20]);
    options_clear(&options);

    assert_int_equal(parse(&options, &line, (const char *[]){NULL}, &err), 0);
    assert_int_equal(apply(&options, "cloud-nodes", "x y", "tox.ini", &err), 0);
    assert_int_equal(apply(&options, "cloud-node", "z", "tox.ini", &err), 0);
    assert_int_equal(options.source_count, 2);
    assert_true(options.sources[0].kind == SOURCE_NODES && options.sources[1].kind == SOURCE_NODE);
    options_clear(&options);
}

/* Paths of this machine's, from wherever; not those of nodes, whose home is another one. */
static void test_homes(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err;
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    setenv("HOME", "/h o/me", 1);
    assert_int_equal(parse(&options, &line,
                           (const char *[]){"--rsyncdir=~/a", "--rsyncdir=b~", "--cloud-nodes-from", "~/n",
                                            "--cloud-chdir=~/c", "--cloud-virtualenv-path=~",
                                            "--rsyncignore=~*", "--cloud-node=~", NULL},
                           &err),
                     0);
    assert_string_equal(options.rsyncdirs[0], "/h o/me/a");
    assert_string_equal(options.rsyncdirs[1], "b~");
    assert_string_equal(options.sources[0].text, "/h o/me/n");
    assert_string_equal(options.sources[1].text, "~");
    assert_string_equal(options.chdir, "~/c");
    assert_string_equal(options.virtualenv, "/h o/me");
    assert_string_equal(options.rsyncignores[0], "~*");
    assert_int_equal(apply(&options, "cloud-develop-egg", "~/egg", "tox.ini", &err), 0);
    assert_string_equal(options.develop_eggs[0], "/h o/me/egg");
    options_clear(&options);
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        int result =
            parse(&options, &line, (const char *[]){"--rsyncdir=~/a", "--rsyncdir=~root/b", NULL}, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        options_clear(&options);
    }
    home ? setenv("HOME", home, 1) : unsetenv("HOME");
    free(home);
}

/* As src/run/settle.c does it, where pytest has nothing to say. */
static int check_all(const struct options *options, struct error *err)
{
    const struct engine *engine = options->engine;
    const struct engine_params params = {.root = "/",
                                         .run_id = "r",
                                         .python = "python3",
                                         .args = options->engine_args,
                                         .options = options->engine_options};
    const struct engine_demands demands = {.python = "python3", .watch = options->watch};
    struct engine_settled settled;
    struct engine_work *work;
    assert_int_equal(engine->begin(&params, NULL, &work, err), 0);
    int result =
        engine->settle(work, &demands, &settled, err) || options_check(options, settled.each, err) ? -1 : 0;
    engine->destroy(work);
    return result;
}

static void test_check(void **state)
{
    (void)state;
    static const struct {
        const char *words[WORDS_MAX];
        const char *text; /* text NULL: good */
    } cases[] = {
        {{"--cloud-python=a", "--cloud-python=b"},
         "--cloud-python=b: a second interpreter is for --dist=each alone: name one, or add --dist=each"},
        {{"--cloud-python=a", "--cloud-python=b", "--dist=load"},
         "--cloud-python=b: a second interpreter is for --dist=each alone: name one, or add --dist=each"},
        {{"--cloud-python=a", "--cloud-python=b", "--dist=each"}, NULL},
        {{"--cloud-python=1", "--cloud-python=2", "--cloud-python=3", "--cloud-python=4", "--cloud-python=5",
          "--cloud-python=6", "--cloud-python=7", "--cloud-python=8", "--cloud-python=9", "--dist=each"},
         "--cloud-python: at most 8 interpreters"},
        {{"plan", "--watch"}, "--watch: only run has something to run again; leave out plan"},
        {{"--watch", "--dist=each"},
         "--watch: cannot tell whose tests to run again with --dist=each; leave out one of them"},
        {{"--watch", "--dist=load"}, NULL},
        {{"-n4", "--dist=no"},
         "-n 4: --dist=no runs all tests in one process on this machine; leave out one of them"},
        {{"-n0", "--dist=no"}, NULL},
        {{"-n4", "--dist=load"}, NULL},
        {{"--cloud-ship-plugin=p"},
         "--cloud-ship-plugin=p: goes along with pytest alone: add --cloud-ship-pytest"},
        {{"--cloud-ship-plugin=p", "--cloud-ship-pytest"}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct options options;
        struct line line;
        struct error err;
        assert_int_equal(parse(&options, &line, cases[i].words, &err), 0);
        assert_int_equal(check_all(&options, &err), cases[i].text ? -1 : 0);
        assert_string_equal(err.text, cases[i].text ? cases[i].text : "");
        assert_int_equal(err.status, cases[i].text ? STATUS_USAGE : 0);
        options_clear(&options);
    }
}

/* Each format is printed, or refused with the command that prints it. */
static void test_formats_of_commands(void **state)
{
    (void)state;
    static const char *const commands[] = {"probe", "plan", "sync", "run"};
    static const char *const formats[] = {"table", "json", "tx", "sshlogin"};
    static const bool taken[4][4] = {{true, true, false, false},
                                     {true, true, true, true},
                                     {true, true, true, true},
                                     {true, false, false, false}};
    for (size_t c = 0; c < 4; c++)
        for (size_t f = 0; f < 4; f++) {
            struct options options;
            struct line line;
            struct error err;
            char word[32], remedy[64];
            snprintf(word, sizeof word, "--format=%s", formats[f]);
            snprintf(remedy, sizeof remedy, "use plan --format=%s", formats[f]);
            /* In any order, and without the command run. */
            const char *const orders[][3] = {
                {commands[c], word, NULL}, {word, commands[c], NULL}, {word, NULL}};
            for (size_t i = 0; i < (c == COMMAND_RUN ? 3 : 2); i++) {
                assert_int_equal(parse(&options, &line, (const char **)orders[i], &err),
                                 taken[c][f] ? 0 : -1);
                assert_int_equal(err.status, taken[c][f] ? 0 : STATUS_USAGE);
                if (!taken[c][f]) {
                    assert_memory_equal(err.text, word, strlen(word));
                    assert_non_null(strstr(err.text, remedy));
                }
                options_clear(&options);
            }
        }
}

static void test_no_words_at_all(void **state)
{
    (void)state;
    char *none[] = {NULL};
    struct options options;
    struct error err = ERROR_INIT;
    assert_int_equal(options_parse(&options, &engine_pytest, 0, none, &err), 0);
    assert_null(*options.engine_args);
    options_clear(&options);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (ALLOC_EACH(n)) {
        struct line line;
        line_make(&line, (const char *[]){"--cloud-node=a", "--rsyncdir=b", "--", "x", NULL});
        struct options options;
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = options_parse(&options, &engine_pytest, line.argc, line.argv, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        options_clear(&options);
    }
    alloc_fail_at(0);
    for (ALLOC_EACH(n)) {
        struct line line;
        struct options options;
        struct error err;
        assert_int_equal(parse(&options, &line, (const char *[]){NULL}, &err), 0);
        alloc_fail_at(n);
        int result = options_apply(&options, "cloud-node", "a", "tox.ini", &err) ||
                     options_apply(&options, "tx", "b", "", &err);
        assert_int_equal(result, alloc_has_failed());
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        options_clear(&options);
    }
    alloc_fail_at(0);
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        char *help = options_help(&engine_pytest);
        assert_true(alloc_has_failed() == !help);
        free(help);
    }
    alloc_fail_at(0);
}

/* An error names an option, and perhaps one of its values; whoever has applied that is found. */
static void test_origin(void **state)
{
    (void)state;
    struct options options;
    struct line line;
    struct error err = ERROR_INIT;
    assert_int_equal(
        parse(&options, &line, (const char *[]){"--rsyncdir=typed", "--cloud-chdir=typed", NULL}, &err), 0);
    assert_int_equal(options_apply(&options, "rsyncdir", "x", "tox.ini", &err), 0);
    assert_int_equal(options_apply(&options, "rsyncdir", "y", "addopts", &err), 0);
    assert_int_equal(options_apply(&options, "cloud-chdir", "kept out", "tox.ini", &err), 0);
    assert_int_equal(options_apply(&options, "cloud-node", "n", "setup.cfg", &err), 0);
    assert_int_equal(
        options_apply(&options, "cloud-mem-per-process", "0", "tox.ini", &(struct error)ERROR_INIT), -1);
    static const struct {
        const char *option, *value, *origin;
    } table[] = {
        {NULL, NULL, ""},
        {NULL, "x", ""},
        {"no-such", NULL, ""},
        {"rsyncdir", "typed", ""},
        {"rsyncdir", "x", "tox.ini"},
        {"rsyncdir", "y", "addopts"},
        {"rsyncdir", NULL, "addopts"},
        {"cloud-chdir", NULL, ""},
        {"cloud-mem-per-process", NULL, ""},
        {"cloud-node", "n", "setup.cfg"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct error why = {STATUS_USAGE, "", table[i].option, table[i].value};
        assert_string_equal(options_origin(&options, &why), table[i].origin);
    }
    assert_int_equal(options.source_count, 1);
    assert_string_equal(options.sources[0].origin, "setup.cfg");
    options_clear(&options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_abbreviations),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_posixly_correct),
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_help_text),
        cmocka_unit_test(test_apply_bad),
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_formats_of_commands),
        cmocka_unit_test(test_homes),
        cmocka_unit_test(test_asking_for_logins),
        cmocka_unit_test(test_no_words_at_all),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
