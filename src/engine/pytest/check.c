#include "engine/pytest/check.h"

#include "base/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHECK_TIMEOUT_MS = 60000, /* a cold interpreter on a slow disk */
    CHECK_OUTPUT_MAX = 4096,
};

/* Lines begin with a word of our own, since a sitecustomize.py may print too. */
static const char versions_py[] = "for name in ('pytest', 'xdist', 'execnet'):\n"
                                  "    try:\n"
                                  "        module = __import__(name)\n"
                                  "    except ModuleNotFoundError as error:\n"
                                  "        if error.name != name:\n"
                                  "            raise\n"
                                  "        pass\n"
                                  "    else:\n"
                                  "        print('cloudplan-version', name, module.__version__)\n";

static const struct requirement {
    const char *module;
    const char *package;   /* for pip; Debian's is python3-NAME */
    unsigned major, minor; /* at least */
} requirements[] = {
    {"pytest", "pytest", 7, 0},
    {"xdist", "pytest-xdist", 2, 5},
    {"execnet", "execnet", 1, 1},
};

/* What follows "cloudplan-version MODULE " at a line's begin, or NULL. */
static const char *version_of(const char *text, const char *module)
{
    char key[64];
    int len = snprintf(key, sizeof key, "cloudplan-version %s ", module);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, (size_t)len))
            return line + len;
    }
    return NULL;
}

static int check_module(const char *python, const struct requirement *need, const char *version,
                        struct error *err)
{
    if (!version)
        return error_set(err, STATUS_TOOL,
                         "%s: no module named %s; install it: %s -m pip install pytest-xdist "
                         "(Debian: python3-pytest-xdist)",
                         python, need->module, python);
    unsigned major, minor;
    if (sscanf(version, "%u.%u", &major, &minor) != 2)
        return error_set(err, STATUS_TOOL, "%s: cannot tell the version of %s", python, need->module);
    if (major < need->major || (major == need->major && minor < need->minor))
        return error_set(err, STATUS_TOOL,
                         "%s: %s %u.%u is too old, at least %u.%u is needed: %s -m pip install -U %s", python,
                         need->package, major, minor, need->major, need->minor, python, need->package);
    return 0;
}

int pytest_check_versions(const char *python, const char *pytest, const char *xdist, const char *execnet,
                          struct error *err)
{
    const char *const versions[] = {pytest, xdist, execnet};
    for (size_t i = 0; i < sizeof requirements / sizeof *requirements; i++)
        if (check_module(python, &requirements[i], versions[i], err))
            return -1;
    return 0;
}

/* The last line of a text, which is changed for it. */
static const char *last_line(char *text)
{
    size_t len = strlen(text);
    while (len && text[len - 1] == '\n')
        text[--len] = '\0';
    const char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

int pytest_check(const char *python, struct error *err)
{
    const char *const argv[] = {python, "-c", versions_py, NULL};
    char *out = NULL, *errout = NULL;
    int status, result = -1;

    if (child_capture(argv, NULL, CHECK_TIMEOUT_MS, CHECK_OUTPUT_MAX, &out, &errout, &status, err))
        goto out;
    if (status != 0) {
        const char *why = last_line(errout);
        error_set(err, STATUS_TOOL, "%s: cannot load pytest and pytest-xdist: exit status %d%s%s", python,
                  status, *why ? ": " : "", why);
        goto out;
    }
    result = pytest_check_versions(python, version_of(out, "pytest"), version_of(out, "xdist"),
                                   version_of(out, "execnet"), err);
out:
    free(out);
    free(errout);
    return result;
}
