/* The files that the interpreter reads at its start are looked at as text, as scripts/node/prepare.sh will change them: what that cannot
 * make right is told of.  Nothing of it is run. */
#include "run/editables.h"

#include "base/file.h"
#include "base/path.h"
#include "watch/links.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define REFERENCE_MAX (1024 * 1024)

struct reference {
    struct report *report;
    const struct watch_tree *tree;
    const char *name; /* of the *.pth or *.egg-link that leads to it */
    bool told;
};

static void check_place(struct reference *r, const char *path)
{
    struct stat st;
    char real[PATH_MAX];
    if (r->told || *path != '/' || links_copied(r->tree, path) || path_below("/usr", path) ||
        stat(path, &st) || !realpath(path, real))
        return;
    r->told = true;
    if (links_copied(r->tree, real))
        report_note(
            r->report,
            "%s in the virtualenv names %s, which is another name of %s, and leads to nothing on a node: "
            "install it again from there",
            r->name, path, real);
    else
        report_note(
            r->report,
            "%s in the virtualenv names %s, which is not copied: install it without -e, or copy that, "
            "too: --rsyncdir=. --rsyncdir=%s",
            r->name, path, real);
}

/* meson-python's loaders always do so, scikit-build-core's where a build directory and "True" are among the arguments. */
static bool builds_at_import(const char *module, const char *text)
{
    const char *last = NULL;
    for (const char *p = text; (p = strstr(p, "install(")); p++)
        last = p;
    size_t len = strlen(module);
    static const char meson[] = "_editable_loader";
    return (len > sizeof meson && !strcmp(module + len - (sizeof meson - 1), meson)) ||
           (strstr(text, "ScikitBuildRedirectingFinder") && last && strstr(last, "', True"));
}

/* The strings of a redirector that are absolute paths. */
static void check_redirector(struct reference *r, const char *site, const char *module)
{
    char path[PATH_MAX];
    struct stat st;
    size_t len;
    if (snprintf(path, sizeof path, "%s/%s.py", site, module) >= PATH_MAX)
        return;
    char *text = file_text(path, REFERENCE_MAX, &len, &st);
    if (text && builds_at_import(module, text)) {
        r->told = true;
        report_note(
            r->report,
            "%s in the virtualenv has a package built anew when it is imported, in a directory that a "
            "node cannot build in: install it without -e",
            r->name);
    }
    for (char *p = text; p && *p; p++) {
        if (*p != '\'' && *p != '"')
            continue;
        char *end = p + 1 + strcspn(p + 1, *p == '"' ? "\"\n" : "'\n"), after = *end;
        *end = '\0';
        if (after == *p)
            check_place(r, p + 1);
        *end = after;
        if (!after)
            break;
        p = end;
    }
    free(text);
}

static void check_reference(struct reference *r, const char *site, char *text, bool first_only)
{
    char *rest = text;
    for (char *line; (line = strtok_r(rest, "\r\n", &rest));) {
        char module[256];
        if (sscanf(line, "import %255[A-Za-z0-9_]", module) == 1)
            check_redirector(r, site, module);
        else
            check_place(r, line);
        if (first_only)
            return;
    }
}

void editables_name(struct report *report, const char *venv, const struct watch_tree *tree)
{
    static const char *const kinds[] = {"pth", "egg-link"};
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        char pattern[PATH_MAX], site[PATH_MAX];
        glob_t found;
        if (snprintf(pattern, sizeof pattern, "%s/lib/*/site-packages/*.%s", venv, kinds[kind]) >= PATH_MAX ||
            glob(pattern, 0, NULL, &found))
            continue;
        for (size_t i = 0; i < found.gl_pathc; i++) {
            struct stat st;
            size_t len;
            const char *slash = strrchr(found.gl_pathv[i], '/');
            struct reference r = {.report = report, .tree = tree, .name = slash + 1};
            char *text = file_text(found.gl_pathv[i], REFERENCE_MAX, &len, &st);
            snprintf(site, sizeof site, "%.*s", (int)(slash - found.gl_pathv[i]), found.gl_pathv[i]);
            if (text)
                check_reference(&r, site, text, kind == 1);
            free(text);
        }
        globfree(&found);
    }
}
