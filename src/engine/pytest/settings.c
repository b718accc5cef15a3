/* Asking pytest.  The answer comes from a program that loads whatever plugins the project names, so that it is
 * read as strictly as a stranger's; what that program prints is only for the case that there is no answer.
 */
#include "engine/pytest/settings.h"

#include "base/child.h"
#include "base/file.h"
#include "base/path.h"
#include "base/rundir.h"
#include "base/strv.h"
#include "base/text.h"
#include "engine/pytest/check.h"
#include "engine/pytest/env.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 8192
#define ANSWER_MAX (16 * 1024 * 1024)
#define MENTION_MAX (1024 * 1024) /* no ini file is longer */

struct settings_query {
    const char *python; /* borrowed */
    char *file, *site;  /* paths */
    struct child child;
    long long deadline;
    char words[WORDS_MAX];
    size_t words_len;
    void *document;
    struct settings settings;
};

/* Whether a file holds one of the words, which pytest could not do without.  Without memory, or where a file is there and
 * cannot be read, it does: pytest is asked, and that fails with a reason. */
static bool mentions(const char *dir, const char *name)
{
    static const char *const words[] = {"cloud_", "--cloud-", "rsyncdir", "rsyncignore", "pytest_option_tx"};
    char *path = path_join(dir, name);
    int fd = path ? file_open(path) : -1;
    /* pytest passes over these, too: what is not there, not to be read by this user, or no file at all. */
    bool passed = fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EISDIR ||
                             errno == EINVAL);
    bool found = !path || (fd < 0 && !passed);
    free(path);
    if (fd < 0)
        return found;
    char *text = malloc(MENTION_MAX);
    size_t len = 0;
    found = !text || file_read(fd, text, MENTION_MAX, &len);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        found = found || (len && memmem(text, len, words[i], strlen(words[i])));
    free(text);
    close(fd);
    return found;
}

bool settings_mentioned(const char *dir)
{
    static const char *const names[] = {"pytest.ini",     ".pytest.ini", "pytest.toml", ".pytest.toml",
                                        "pyproject.toml", "tox.ini",     "setup.cfg",   "conftest.py"};
    const char *addopts = getenv("PYTEST_ADDOPTS");
    if (addopts && strstr(addopts, "--cloud-"))
        return true;
    char *up = strdup(dir);
    bool found = !up;
    while (up && !found) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            found = found || mentions(*up ? up : "/", names[i]);
        char *slash = strrchr(up, '/');
        if (!slash)
            break;
        *slash = '\0';
    }
    free(up);
    return found;
}

/* "NAME=A B C", with the separator between the words; NULL without memory. */
static char *assign_words(const char *name, const char *const *words, char separator)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    fprintf(out, "%s=", name);
    for (size_t i = 0; words && words[i]; i++)
        fprintf(out, "%s%s", i ? (char[]){separator, '\0'} : "", words[i]);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

static int start_pytest(struct settings_query *q, const struct settings_params *params, struct error *err)
{
    char *file = NULL, *site = NULL, *plugins = NULL, *tx = NULL, *dist = NULL, *items = NULL, **env = NULL;
    const char **argv = NULL;
    int result = -1;
    size_t count = strings_count(params->args);
    argv = calloc(count + 6, sizeof *argv);
    plugins = assign_words("_CLOUDPLAN_SHIP_PLUGINS", params->ship_plugins, ' ');
    tx = assign_words("_CLOUDPLAN_TX", params->tx, '\x1f');
    if (asprintf(&file, "_CLOUDPLAN_SETTINGS=%s", q->file) < 0)
        file = NULL;
    if (asprintf(&site, "_CLOUDPLAN_SHIP=%s", q->site) < 0)
        site = NULL;
    if (asprintf(&dist, "_CLOUDPLAN_DIST=%s", params->dist ? params->dist : "") < 0)
        dist = NULL;
    if (!argv || !plugins || !tx || !dist || !file || !site) {
        error_errno(err, "settings");
        goto out;
    }
    if (!(items = plugin_env_items(params->env, 0, err)))
        goto out;
    const char *more[] = {
        file,  site, params->ship ? "_CLOUDPLAN_SHIP_FORCE=1" : "_CLOUDPLAN_SHIP_FORCE=", plugins, tx, dist,
        items, NULL};
    if (!(env = plugin_environment(params->rundir, params->run_id, "pytest_cloudplan", more, err)))
        goto out;
    argv[0] = params->python;
    argv[1] = "-m";
    argv[2] = "pytest";
    size_t n = 3;
    if (count ==
        1) { /* pytest 9 loads no plugin where --version is the only word; the plugin takes these out again */
        argv[n++] = "-p";
        argv[n++] = "pytest_cloudplan";
    }
    for (size_t i = 0; i < count; i++)
        argv[n++] = params->args[i];
    const struct child_spec spec = {.argv = argv,
                                    .env = (const char *const *)env,
                                    .in = CHILD_NULL,
                                    .out = CHILD_PIPE,
                                    .err = CHILD_STDOUT,
                                    .detached = true};
    result = child_start(&q->child, &spec, err);
out:
    strings_free(env);
    free(argv);
    free(plugins);
    free(tx);
    free(dist);
    free(items);
    free(file);
    free(site);
    return result;
}

/* Without the plugin the child would run the whole suite. */
static int refuse_blocking(char *const *args, struct error *err)
{
    for (; *args; args++) {
        const char *name = strncmp(*args, "-p", 2) ? NULL : (*args)[2] ? *args + 2 : args[1];
        if (name && (!strcmp(name, "no:pytest_cloudplan") || !strcmp(name, "no:cloudplan") ||
                     !strcmp(name, "no:pytest_cloudplan.controller")))
            return error_set(err, STATUS_USAGE, "-p %s: cloudplan needs its plugin; leave this out", name);
    }
    return 0;
}

struct settings_query *settings_ask(const struct settings_params *params, struct error *err)
{
    if (refuse_blocking(params->args, err))
        return NULL;
    struct settings_query *q = calloc(1, sizeof *q);
    if (!q) {
        error_errno(err, "settings");
        return NULL;
    }
    q->child = (struct child)CHILD_INIT;
    q->python = params->python;
    q->deadline = clock_ms() + SETTINGS_TIMEOUT_MS;
    q->file = path_join(params->rundir, "settings.json");
    q->site = path_join(params->rundir, "cloudplan-site");
    if (!q->file || !q->site)
        error_errno(err, "settings");
    else if (start_pytest(q, params, err) == 0)
        return q;
    settings_destroy(q);
    return NULL;
}

/* A full pipe would stop the child. */
static void read_refusal(struct settings_query *q)
{
    child_read_latest(&q->child.out, q->words, sizeof q->words, &q->words_len);
}

bool settings_answered(struct settings_query *q)
{
    read_refusal(q);
    return child_ended(&q->child) || clock_ms() >= q->deadline;
}

/* The line of a failed pytest that says why: argparse's "PROGRAM: error: WHY", or the last one that begins with "ERROR: " or holds
 * "Error: ", else the last that is not empty; NULL where all are. */
static const char *reason(char *words)
{
    const char *last = NULL, *best = NULL;
    for (char *line = words, *end; line && *line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        if (end)
            *end = '\0';
        line += strspn(line, " \t\r");
        if (!*line)
            continue;
        last = line;
        const char *argparse = strstr(line, ": error: ");
        if (argparse)
            return argparse + 9;
        if (!strncmp(line, "ERROR: ", 7))
            best = line + 7;
        else if (strstr(line, "Error: "))
            best = line;
    }
    return best ? best : last;
}

/* Whether it is a full disk, or a limit, rather than the configuration, that a failed pytest speaks of: Python says none of these of
 * anything else. */
static bool is_full_disk(const char *why)
{
    return strstr(why, strerror(ENOSPC)) || strstr(why, strerror(EDQUOT)) || strstr(why, strerror(EFBIG)) ||
           strstr(why, "No usable temporary directory");
}

/* *err: why there is none. */
static void no_answer(struct settings_query *q, struct error *err)
{
    int sig = child_end_signal(&q->child), status = child_exit_status(&q->child);
    if (sig) {
        error_set(err, STATUS_SYSTEM, "pytest was ended by signal %d (%s) while it read its configuration%s",
                  sig, strsignal(sig), sig == SIGXFSZ ? ERROR_FILE_LIMIT : "");
        return;
    }
    const char *why = reason(q->words);
    if (!why)
        why = status ? "it said nothing"
                     : "it ended with status 0 and said nothing: os._exit or sys.exit in a conftest.py or a "
                       "plugin?";
    if (status == STATUS_SYSTEM ||
        is_full_disk(why)) /* the plugin's status, or that of whatever pytest does before */
        error_set(err, STATUS_SYSTEM, "pytest could not tell its configuration: %s%s", why,
                  strstr(why, strerror(EFBIG)) ? ERROR_FILE_LIMIT : "");
    else if (pytest_check(q->python, err) == 0) /* no pytest, or too old a one, is the usual cause */
        error_set(err, STATUS_DATA, "pytest cannot read its configuration: %s", why);
}

const struct settings *settings_wait(struct settings_query *q, struct error *err)
{
    while (!settings_answered(q)) {
        if (child_signal()) {
            error_set(err, STATUS_SIGNAL + child_signal(), "%s while pytest reads its configuration",
                      strsignal(child_signal()));
            return NULL;
        }
        struct pollfd fds[2] = {{child_events_fd(), POLLIN, 0}, {q->child.out, POLLIN, 0}};
        poll(fds, 2, 1000);
        child_events_clear();
    }
    if (!child_ended(&q->child)) {
        error_set(err, STATUS_SYSTEM, "%s -m pytest: did not read its configuration within %d s", q->python,
                  SETTINGS_TIMEOUT_MS / 1000);
        return NULL;
    }
    read_refusal(q);
    size_t len;
    char *text = rundir_tail(q->file, ANSWER_MAX, &len);
    int result = -1;
    if (text)
        result = settings_parse(&q->settings, &q->document, text, len, err);
    else if (errno != ENOENT)
        error_errno(err, q->file);
    else
        no_answer(q, err);
    free(text);
    return result ? NULL : &q->settings;
}

const char *settings_site(const struct settings_query *q)
{
    return q->settings.shipped && q->settings.shipped[0] ? q->site : NULL;
}

void settings_destroy(struct settings_query *q)
{
    if (!q)
        return;
    int saved = errno;
    child_end(&q->child, 0);
    settings_clear(&q->settings);
    json_decref(q->document);
    free(q->file);
    free(q->site);
    free(q);
    errno = saved;
}

/* --- the document --- */

static int malformed_answer(const char *what, struct error *err)
{
    return error_set(err, STATUS_BUG, "the answer of cloudplan's pytest plugin is malformed: %s", what);
}

/* A string, or NULL where it is null or absent.  jansson refuses NUL bytes by itself. */
static int get_text(const json_t *object, const char *key, const char **text, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    *text = json_string_value(value);
    return !value || json_is_null(value) || *text ? 0 : malformed_answer(key, err);
}

/* A list of strings as a new array; NULL where it is null or absent. */
static int get_texts(const json_t *object, const char *key, char ***texts, struct error *err)
{
    const json_t *list = json_object_get(object, key);
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return malformed_answer(key, err);
    size_t count = json_array_size(list);
    *texts = calloc(count + 1, sizeof **texts);
    if (!*texts)
        return error_errno(err, key);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            return malformed_answer(key, err);
        if (!((*texts)[i] = strdup(text)))
            return error_errno(err, key);
    }
    return 0;
}

static int get_options(struct settings *s, const json_t *document, struct error *err)
{
    const json_t *list = json_object_get(document, "options");
    if (!json_is_array(list))
        return malformed_answer("options", err);
    size_t count = json_array_size(list);
    s->options = calloc(count ? count : 1, sizeof *s->options);
    if (!s->options)
        return error_errno(err, "options");
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        struct engine_value *setting = &s->options[i];
        if (get_text(entry, "name", &setting->name, err) || get_text(entry, "value", &setting->value, err) ||
            get_text(entry, "origin", &setting->origin, err))
            return -1;
        if (!setting->name || !setting->origin)
            return malformed_answer("options", err);
        s->option_count++;
    }
    return 0;
}

/* The list "modules" as one string: names hold no blanks. */
static int get_modules(struct settings *s, json_t *document, struct error *err)
{
    json_t *list = json_object_get(document, "modules");
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return error_errno(err, "modules");
    bool bad = !json_is_array(list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        bad = bad || !name || !*name || name[strspn(name, TEXT_ALNUM "_.-")];
        if (!bad)
            fprintf(out, "%s%s", i ? " " : "", name);
    }
    if (fclose(out)) {
        free(text);
        return error_errno(err, "modules");
    }
    /* Kept by the document, like all other strings. */
    int result = bad ? malformed_answer("modules", err)
                     : json_object_set_new(document, "modules_text", json_string(text));
    free(text);
    s->modules = json_string_value(json_object_get(document, "modules_text"));
    return result || !s->modules ? error_set(err, STATUS_SYSTEM, "no memory for the modules' names") : 0;
}

int settings_parse(struct settings *s, void **document, const char *text, size_t len, struct error *err)
{
    json_error_t why;
    json_t *root = json_loadb(text, len, 0, &why);
    *document = root;
    if (!root)
        return malformed_answer(why.text, err);
    const json_t *error = json_object_get(root, "error");
    if (error) {
        const char *words = json_string_value(json_object_get(error, "text"));
        json_int_t status = json_integer_value(json_object_get(error, "status"));
        bool known = status == STATUS_USAGE || status == STATUS_DATA || status == STATUS_TOOL;
        return words && *words && known ? error_set(err, (int)status, "%s", words)
                                        : malformed_answer("error", err);
    }
    if (json_integer_value(json_object_get(root, "version")) != 1)
        return malformed_answer("version", err);
    const json_t *versions = json_object_get(root, "versions");
    if (get_text(versions, "pytest", &s->pytest, err) || get_text(versions, "xdist", &s->xdist, err) ||
        get_text(versions, "execnet", &s->execnet, err) || get_options(s, root, err) ||
        get_texts(root, "args", &s->args, err) || get_texts(root, "options_only", &s->options_only, err) ||
        get_texts(root, "notes", &s->notes, err) || get_texts(root, "ship", &s->shipped, err) ||
        get_text(root, "dist", &s->dist, err) || get_text(root, "here", &s->here, err))
        return -1;
    return s->args ? get_modules(s, root, err) : malformed_answer("args", err);
}

void settings_clear(struct settings *s)
{
    free(s->options);
    strings_free(s->args);
    strings_free(s->options_only);
    strings_free(s->notes);
    strings_free(s->shipped);
    *s = (struct settings){0};
}
