#include "base/child.h"
#include "base/rundir.h"
#include "base/strv.h"
#include "engine/pytest/env.h"
#include "engine/pytest/settings.h"

#include "alloc.h"

#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_settings.XXXXXX";
static char python[sizeof dir + 16], record[sizeof dir + 16];

#define VERSIONS "\"version\": 1, \"versions\": {\"pytest\": \"7.2.1\", \"xdist\": null}"
#define REST "\"options\": [], \"args\": [], \"modules\": []"

static int parse(const char *text, struct settings *s, void **document, struct error *err)
{
    *s = (struct settings){0};
    *document = NULL;
    *err = (struct error)ERROR_INIT;
    return settings_parse(s, document, text, strlen(text), err);
}

static void test_bad_answers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status;
        const char *error; /* a part of it */
    } cases[] = {
        {"", STATUS_BUG, "malformed: "},
        {"null", STATUS_BUG, "malformed: "},
        {"[]", STATUS_BUG, "malformed: version"},
        {"{}", STATUS_BUG, "malformed: version"},
        {"{\"version\": 2}", STATUS_BUG, "malformed: version"},
        {"{\"version\": 1, \"versions\": {\"pytest\": 7}}", STATUS_BUG, "malformed: pytest"},
        {"{" VERSIONS "}", STATUS_BUG, "malformed: options"},
        {"{" VERSIONS ", \"options\": [1]}", STATUS_BUG, "malformed: options"},
        {"{" VERSIONS ", \"options\": [{\"name\": \"x\"}]}", STATUS_BUG, "malformed: options"},
        {"{" VERSIONS ", \"options\": [{\"name\": \"x\", \"value\": 1, \"origin\": \"\"}]}", STATUS_BUG,
         "malformed: value"},
        {"{" VERSIONS ", \"options\": [], \"args\": \"x\"}", STATUS_BUG, "malformed: args"},
        {"{" VERSIONS ", \"options\": [], \"args\": [null]}", STATUS_BUG, "malformed: args"},
        {"{" VERSIONS ", \"options\": [], \"modules\": []}", STATUS_BUG, "malformed: args"},
        {"{" VERSIONS ", \"options\": [], \"args\": []}", STATUS_BUG, "malformed: modules"},
        {"{" VERSIONS ", \"options\": [], \"args\": [], \"modules\": [\"a b\"]}", STATUS_BUG,
         "malformed: modules"},
        {"{" VERSIONS ", \"options\": [], \"args\": [], \"modules\": [\"\"]}", STATUS_BUG,
         "malformed: modules"},
        {"{" VERSIONS ", \"options\": [], \"args\": [\"a\\u0000b\"], \"modules\": []}", STATUS_BUG,
         "malformed: "},
        {"{" VERSIONS ", " REST ", \"dist\": 1}", STATUS_BUG, "malformed: dist"},
        {"{" VERSIONS ", " REST ", \"here\": true}", STATUS_BUG, "malformed: here"},
        {"{" VERSIONS ", " REST ", \"notes\": {}}", STATUS_BUG, "malformed: notes"},
        {"{\"error\": {\"status\": 1, \"text\": \"x\"}}", STATUS_BUG, "malformed: error"},
        {"{\"error\": {\"status\": 65}}", STATUS_BUG, "malformed: error"},
        {"{\"error\": {\"status\": 65, \"text\": \"\"}}", STATUS_BUG, "malformed: error"},
        {"{\"error\": {\"status\": 65, \"text\": \"tox.ini: so\\nit is\"}}", STATUS_DATA,
         "tox.ini: so?it is"},
        {"{\"error\": {\"status\": 78, \"text\": \"no\"}}", STATUS_TOOL, "no"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct settings s;
        struct error err;
        void *document;
        assert_int_equal(parse(cases[i].text, &s, &document, &err), -1);
        if (err.status != cases[i].status || !strstr(err.text, cases[i].error))
            fail_msg("%s: %d %s", cases[i].text, err.status, err.text);
        settings_clear(&s);
        json_decref(document);
    }
}

static const char whole[] = "{" VERSIONS ", \"inifile\": null, \"options\": [{\"name\": \"cloud-node\", "
                            "\"value\": \"a\", \"origin\": \"tox.ini\"},"
                            "{\"name\": \"cloud-ship-pytest\", \"value\": null, \"origin\": \"\"}], "
                            "\"args\": [\"tests\", \"-k\", \"a b\"],"
                            "\"options_only\": [\"-k\", \"a b\"], \"dist\": \"each\", \"here\": \"--co\", "
                            "\"modules\": [\"pytest\", \"pkg.plugin\"], \"notes\": [\"so\"],"
                            "\"ship\": [\"pytest 7.2.1\"]}";

static void assert_whole(const struct settings *s)
{
    assert_string_equal(s->pytest, "7.2.1");
    assert_true(!s->xdist && !s->execnet);
    assert_int_equal(s->option_count, 2);
    assert_string_equal(s->options[0].name, "cloud-node");
    assert_string_equal(s->options[0].value, "a");
    assert_string_equal(s->options[0].origin, "tox.ini");
    assert_null(s->options[1].value);
    assert_string_equal(s->args[2], "a b");
    assert_null(s->args[3]);
    assert_string_equal(s->options_only[0], "-k");
    assert_string_equal(s->dist, "each");
    assert_string_equal(s->here, "--co");
    assert_string_equal(s->modules, "pytest pkg.plugin");
    assert_string_equal(s->notes[0], "so");
    assert_string_equal(s->shipped[0], "pytest 7.2.1");
}

static void test_answer(void **state)
{
    (void)state;
    for (ALLOC_EACH(n)) {
        struct settings s;
        struct error err;
        void *document;
        alloc_fail_at(n);
        int result = parse(whole, &s, &document, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        if (result == 0)
            assert_whole(&s);
        settings_clear(&s);
        json_decref(document);
    }
    alloc_fail_at(0);
    struct settings s;
    struct error err;
    void *document;
    assert_int_equal(parse("{" VERSIONS ", " REST "}", &s, &document, &err), 0);
    assert_true(!s.options_only && !s.dist && !s.here && !s.notes && !s.shipped && s.args && !*s.args);
    assert_string_equal(s.modules, "");
    settings_clear(&s);
    json_decref(document);
}

/* The interpreter is a script of the test's. */
static void python_is(const char *script)
{
    FILE *f = fopen(python, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", script);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(python, 0700), 0);
}

static char *const args[] = {"tests/", "-k", "a b", NULL};
static const char *const plugins[] = {"pytest-timeout", "x", NULL};

static struct settings_query *ask(bool ship, struct error *err)
{
    const struct settings_params params = {.python = python,
                                           .rundir = dir,
                                           .run_id = "r1",
                                           .args = args,
                                           .dist = ship ? "no" : NULL,
                                           .ship = ship,
                                           .ship_plugins = ship ? plugins : NULL};
    *err = (struct error)ERROR_INIT;
    return settings_ask(&params, err);
}

static void test_ask(void **state)
{
    (void)state;
    char script[1024], text[1024];
    struct error err;
    unsetenv("PYTEST_PLUGINS");
    snprintf(script, sizeof script,
             "printf '[%%s]' \"$@\" \"$PYTEST_PLUGINS\" \"$_CLOUDPLAN_SHIP\" \"$_CLOUDPLAN_SHIP_FORCE\" "
             "\"$_CLOUDPLAN_SHIP_PLUGINS\" \"$CLOUDPLAN_CONTROLLER\" \"$_CLOUDPLAN_DIST\" > %s\n"
             "i=0; while [ $i -lt 3000 ]; do echo 'a line of noise that is longer than a pipe holds, many "
             "times over'; i=$((i + 1)); done\n"
             "cat > $_CLOUDPLAN_SETTINGS <<'END'\n%s\nEND\nexit 0",
             record, whole);
    python_is(script);
    struct settings_query *q = ask(true, &err);
    assert_non_null(q);
    const struct settings *s = settings_wait(q, &err);
    assert_non_null(s);
    assert_whole(s);
    snprintf(text, sizeof text, "%s/cloudplan-site", dir);
    assert_string_equal(settings_site(q), text);
    settings_destroy(q);
    FILE *f = fopen(record, "r");
    assert_non_null(f);
    char expected[sizeof text + 128];
    snprintf(expected, sizeof expected,
             "[-m][pytest][tests/][-k][a b][pytest_cloudplan][%s][1][pytest-timeout x][r1][no]", text);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(text, expected);
}

static void test_no_answer(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int status;
        const char *error;
    } cases[] = {
        /* pytest_check() asks with -c. */
        {"[ $1 = -c ] && exit 0; exit 1", STATUS_TOOL, "no module named pytest"},
        {"[ $1 = -c ] || { echo 'No module named pytest' >&2; exit 1; }", STATUS_TOOL,
         "no module named pytest"},
        {"if [ $1 = -c ]; then echo cloudplan-version pytest 7.2; echo cloudplan-version xdist 3.1; echo "
         "cloudplan-version "
         "execnet 1.9; else echo first; echo 'ERROR: tox.ini:3: unexpected line' >&2; echo >&2; exit 4; fi",
         STATUS_DATA, "pytest cannot read its configuration: tox.ini:3: unexpected line"},
        {"if [ $1 = -c ]; then echo cloudplan-version pytest 7.2; echo cloudplan-version xdist 3.1; echo "
         "cloudplan-version "
         "execnet 1.9; else echo Traceback; echo 'ImportError: no plugin'; echo '  bye'; exit 1; fi",
         STATUS_DATA, "pytest cannot read its configuration: ImportError: no plugin"},
        {"if [ $1 = -c ]; then echo cloudplan-version pytest 7.2; echo cloudplan-version xdist 3.1; echo "
         "cloudplan-version "
         "execnet 1.9; fi",
         STATUS_DATA,
         "pytest cannot read its configuration: it ended with status 0 and said nothing: os._exit or "
         "sys.exit in a conftest.py"},
        {"if [ $1 = -c ]; then echo cloudplan-version pytest 7.2; echo cloudplan-version xdist 3.1; echo "
         "cloudplan-version "
         "execnet 1.9; else exit 3; fi",
         STATUS_DATA, "pytest cannot read its configuration: it said nothing"},
        {"if [ $1 = -c ]; then echo cloudplan-version pytest 7.2; echo cloudplan-version xdist 3.1; echo "
         "cloudplan-version "
         "execnet 1.9; else echo 'ERROR: usage: __main__.py [options]'; echo '__main__.py: error: argument "
         "--cloud-node: expected one "
         "argument'; echo '  inifile: None'; exit 4; fi",
         STATUS_DATA, "pytest cannot read its configuration: argument --cloud-node: expected one argument"},
        {"echo 'ERROR: /t/settings.json: No space left on device' >&2; exit 71", STATUS_SYSTEM,
         "pytest could not tell its configuration: /t/settings.json: No space left on device"},
        {"echo 'OSError: [Errno 28] No space left on device' >&2; exit 1", STATUS_SYSTEM,
         "[Errno 28] No space left on device"},
        {"echo \"FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp']\" >&2; exit 1",
         STATUS_SYSTEM, "No usable temporary directory"},
        {"kill -KILL $$", STATUS_SYSTEM,
         "pytest was ended by signal 9 (Killed) while it read its configuration"},
        {"echo garbage > $_CLOUDPLAN_SETTINGS", STATUS_BUG, "malformed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err;
        char file[sizeof dir + 32];
        snprintf(file, sizeof file, "%s/settings.json", dir);
        unlink(file);
        python_is(cases[i].script);
        struct settings_query *q = ask(false, &err);
        assert_non_null(q);
        assert_null(settings_wait(q, &err));
        if (err.status != cases[i].status || !strstr(err.text, cases[i].error))
            fail_msg("%s: %d %s", cases[i].script, err.status, err.text);
        assert_null(settings_site(q));
        settings_destroy(q);
    }
    struct error err = ERROR_INIT;
    const struct settings_params params = {
        .python = "/nonexistent/python3", .rundir = dir, .run_id = "r1", .args = args};
    assert_null(settings_ask(&params, &err));
    assert_int_equal(err.status, STATUS_TOOL);
    settings_destroy(NULL);
    static char *const blocking[][4] = {{"-p", "no:pytest_cloudplan", NULL},
                                        {"tests", "-pno:cloudplan", NULL},
                                        {"-p", "no:pytest_cloudplan.controller", NULL}};
    for (size_t i = 0; i < sizeof blocking / sizeof *blocking; i++) {
        const struct settings_params blocked = {
            .python = python, .rundir = dir, .run_id = "r1", .args = blocking[i]};
        err = (struct error)ERROR_INIT;
        assert_null(settings_ask(&blocked, &err));
        assert_int_equal(err.status, STATUS_USAGE);
    }
    static char *const last_word[] = {"-p", NULL};
    const struct settings_params cut = {.python = python, .rundir = dir, .run_id = "r1", .args = last_word};
    err = (struct error)ERROR_INIT;
    settings_destroy(settings_ask(&cut, &err));
    assert_int_equal(err.status, 0);
}

static void test_no_memory(void **state)
{
    (void)state;
    python_is("exit 0");
    for (ALLOC_EACH(n)) {
        struct error err;
        alloc_fail_at(n);
        struct settings_query *q = ask(true, &err);
        assert_int_equal(!q, alloc_has_failed());
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        settings_destroy(q);
    }
    alloc_fail_at(0);
}

static void write_in(const char *folder, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void test_mentioned(void **state)
{
    (void)state;
    char sub[sizeof dir + 8];
    snprintf(sub, sizeof sub, "%s/sub", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    unsetenv("PYTEST_ADDOPTS");
    write_in(sub, "tox.ini", "[pytest]\naddopts = -q\n");
    assert_false(settings_mentioned(sub));
    write_in(sub, "README", "cloud_nodes");
    assert_false(settings_mentioned(sub));
    write_in(dir, "setup.cfg", "[tool:pytest]\ncloud_mem_per_process = 5\n");
    assert_true(settings_mentioned(sub));
    write_in(dir, "setup.cfg", "");
    assert_false(settings_mentioned(sub));
    write_in(sub, "conftest.py", "pytest_option_tx = []\n");
    assert_true(settings_mentioned(sub));
    write_in(sub, "conftest.py", "\n");
    setenv("PYTEST_ADDOPTS", "--cloud-nodes=x", 1);
    assert_true(settings_mentioned(sub));
    unsetenv("PYTEST_ADDOPTS");
    assert_false(settings_mentioned(sub));
    /* What cannot be looked at may hold something. */
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        bool mentioned = settings_mentioned(sub);
        assert_int_equal(mentioned, alloc_has_failed());
    }
}

static void test_plugin_files(void **state)
{
    (void)state;
    char path[sizeof dir + 64];
    struct error err = ERROR_INIT;
    assert_int_equal(plugin_write("/nonexistent", &err), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    err = (struct error)ERROR_INIT;
    for (int i = 0; i < 2; i++) { /* twice: over itself */
        assert_int_equal(plugin_write(dir, &err), 0);
        static const char *const names[] = {"pytest_cloudplan/__init__.py", "pytest_cloudplan/controller.py"};
        for (size_t k = 0; k < 2; k++) {
            struct stat st;
            snprintf(path, sizeof path, "%s/plugin/%s", dir, names[k]);
            assert_int_equal(stat(path, &st), 0);
            assert_true(st.st_size > 0);
        }
    }
}

static void test_plugin_environment(void **state)
{
    (void)state;
    static const char *const more[] = {"A=b", NULL};
    char pythonpath[sizeof dir + 64];
    setenv("PYTEST_PLUGINS", "mine", 1);
    setenv("PYTHONPATH", "/a:/b", 1);
    snprintf(pythonpath, sizeof pythonpath, "PYTHONPATH=%s/plugin:/a:/b", dir);
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        char **env = plugin_environment(dir, "r1", "one,two", more, &err);
        assert_int_equal(!env, alloc_has_failed());
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        if (env) {
            assert_string_equal(env[0], pythonpath);
            assert_string_equal(env[1], "PYTEST_PLUGINS=mine,one,two");
            assert_string_equal(env[2], "CLOUDPLAN_CONTROLLER=r1");
            assert_string_equal(env[3], "_CLOUDPLAN_ENGINE=1");
            assert_string_equal(env[4], "A=b");
            assert_null(env[5]);
        }
        strings_free(env);
    }
    alloc_fail_at(0);
    unsetenv("PYTEST_PLUGINS");
    setenv("PYTHONPATH", "", 1);
    struct error err = ERROR_INIT;
    char **env = plugin_environment(dir, "r1", "one", NULL, &err);
    pythonpath[strlen(pythonpath) - strlen(":/a:/b")] = '\0';
    assert_string_equal(env[0], pythonpath);
    assert_string_equal(env[1], "PYTEST_PLUGINS=one");
    strings_free(env);
    unsetenv("PYTHONPATH");
}

static void test_items_of_the_environment(void **state)
{
    (void)state;
    static const char *const items[] = {"TYPED=a:b\n", "!T", "FILE_*", NULL};
    struct error err = ERROR_INIT;
    for (ALLOC_EACH(n)) {
        err = (struct error)ERROR_INIT;
        alloc_fail_at(n);
        char *text = plugin_env_items(items, 2, &err);
        assert_int_equal(!text, alloc_has_failed());
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        if (text)
            assert_string_equal(text, "_CLOUDPLAN_ENV=6:FILE_*10:TYPED=a:b\n2:!T");
        free(text);
    }
    alloc_fail_at(0);
    char *text = plugin_env_items(NULL, 0, &err);
    assert_string_equal(text, "_CLOUDPLAN_ENV=");
    free(text);
}

/* Last: the signal is remembered. */
static void test_signal(void **state)
{
    (void)state;
    struct error err;
    python_is("kill -TERM $PPID; sleep 30");
    struct settings_query *q = ask(false, &err);
    assert_non_null(q);
    assert_null(settings_wait(q, &err));
    assert_int_equal(err.status, STATUS_SIGNAL + SIGTERM);
    settings_destroy(q);
}

static int set_up(void **state)
{
    (void)state;
    struct error err;
    if (!mkdtemp(dir) || child_init(&err))
        return -1;
    snprintf(python, sizeof python, "%s/python3", dir);
    snprintf(record, sizeof record, "%s/record", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rundir_remove(dir);
    return access(dir, F_OK) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_answers),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_ask),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_mentioned),
        cmocka_unit_test(test_plugin_files),
        cmocka_unit_test(test_plugin_environment),
        cmocka_unit_test(test_items_of_the_environment),
        cmocka_unit_test(test_signal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
