#include "run/aside.h"

#include "base/path.h"
#include "copy/rsync_cmd.h"
#include "run/editables.h"
#include "watch/links.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_pyvenv_cfg(const char *dir)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/pyvenv.cfg", dir) < PATH_MAX && access(path, F_OK) == 0;
}

/* The virtualenv of the interpreter that was used to begin with, else the active one, physical; false: none. */
static bool find_active(char active[PATH_MAX])
{
    const char *python = getenv("CLOUDPLAN_PYTHON"), *named = getenv("VIRTUAL_ENV");
    char dir[PATH_MAX];
    if (python && *python == '/') {
        snprintf(dir, sizeof dir, "%s", python);
        for (int up = 0; up < 2; up++) { /* DIR/bin/python3 */
            char *slash = strrchr(dir, '/');
            *(slash ? slash : dir) = '\0';
        }
        if (*dir && has_pyvenv_cfg(dir))
            return realpath(dir, active);
    }
    return named && *named && has_pyvenv_cfg(named) && realpath(named, active);
}

/* Whether each interpreter on the nodes was given by its path, so that no virtualenv is asked for. */
static bool all_by_path(const char *const *pythons)
{
    for (size_t i = 0; pythons[i]; i++)
        if (*pythons[i] != '/')
            return false;
    return pythons[0];
}

int stage_name_virtualenv(struct run *run, struct error *err)
{
    (void)err;
    const struct options *o = &run->options;
    const struct project *project = &run->project;
    char active[PATH_MAX];
    if (o->command == COMMAND_PROBE || o->virtualenv || all_by_path(o->pythons) ||
        (run->list.count && !stage_any_remote(run)) || !find_active(active) ||
        path_below(project->root, active) || (project->venv && !strcmp(project->venv, active)))
        return 0;
    report_note(run->report,
                "the active virtualenv %s is not used on the nodes, as it lies outside the project%s%s; "
                "--cloud-virtualenv-path=%s would copy it",
                active, project->venv ? ": they get " : "", project->venv ? project->venv : "", active);
    return 0;
}

static int take_links(struct run *run, const struct links *links, struct error *err)
{
    if (run->options.copy_links) {
        if (*links->endless)
            return error_set(
                err, STATUS_USAGE,
                "--cloud-copy-links: %s leads to a directory that holds it, which would be copied "
                "without end; leave it out: --rsyncignore=/%s",
                links->endless, links->endless);
        return run->project.venv ? rsync_programs(run->project.venv, &run->programs, err) : 0;
    }
    run->absolute_links = links->absolute;
    if (links->out)
        report_note(
            run->report,
            "%zu symbolic link%s out of what is copied, and %s to nothing on a node without that place: "
            "%s%s; --cloud-copy-links copies what %s to",
            links->out, links->out == 1 ? " leads" : "s lead", links->out == 1 ? "leads" : "lead",
            links->shown, links->out > LINKS_SHOWN ? ", ..." : "",
            links->out == 1 ? "it points" : "they point");
    return 0;
}

int stage_links(struct run *run, struct error *err)
{
    struct rsync_places places;
    struct links links;
    if (run->links_known)
        return 0;
    run->links_known = true;
    struct sync_params params = stage_what_to_copy(run);
    params.site = NULL; /* is made by the engine, without links */
    int result = rsync_places_find(&places, &params, err);
    const struct watch_tree tree = {
        .root = params.root, .ignores = params.ignores, .dirs = places.dirs, .part = !places.whole};
    if (result == 0 && run->project.venv_used)
        editables_name(run->report, run->project.venv, &tree);
    if (result == 0)
        result = links_find(&tree, &links, err);
    rsync_places_clear(&places);
    return result == 0 ? take_links(run, &links, err) : -1;
}
