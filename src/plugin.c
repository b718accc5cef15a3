/* The plugin's files and its environment.  The directory comes first in PYTHONPATH, so that the files that
 * belong to this binary win over those of another version that is installed. */
#include "plugin.h"

#include "embedded.h"
#include "rundir.h"
#include "xspec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int plugin_write(const char *rundir, struct error *err)
{
    const struct {
        const char *name, *text;
        size_t len;
    } files[] = {
        {"pytest_cloudplan.py", pytest_cloudplan_py, pytest_cloudplan_py_len},
        {"pytest_cloudplan_collect.py", pytest_cloudplan_collect_py, pytest_cloudplan_collect_py_len},
        {"pytest_cloudplan_completion.py", pytest_cloudplan_completion_py, pytest_cloudplan_completion_py_len},
        {"pytest_cloudplan_controller.py", pytest_cloudplan_controller_py, pytest_cloudplan_controller_py_len},
        {"pytest_cloudplan_coverage.py", pytest_cloudplan_coverage_py, pytest_cloudplan_coverage_py_len},
        {"pytest_cloudplan_gate.py", pytest_cloudplan_gate_py, pytest_cloudplan_gate_py_len},
        {"pytest_cloudplan_gateways.py", pytest_cloudplan_gateways_py, pytest_cloudplan_gateways_py_len},
        {"pytest_cloudplan_losses.py", pytest_cloudplan_losses_py, pytest_cloudplan_losses_py_len},
        {"pytest_cloudplan_reruns.py", pytest_cloudplan_reruns_py, pytest_cloudplan_reruns_py_len},
        {"pytest_cloudplan_results.py", pytest_cloudplan_results_py, pytest_cloudplan_results_py_len},
        {"pytest_cloudplan_scheduling.py", pytest_cloudplan_scheduling_py, pytest_cloudplan_scheduling_py_len},
        {"pytest_cloudplan_settings.py", pytest_cloudplan_settings_py, pytest_cloudplan_settings_py_len},
        {"pytest_cloudplan_ship.py", pytest_cloudplan_ship_py, pytest_cloudplan_ship_py_len},
        {"pytest_cloudplan_stderr.py", pytest_cloudplan_stderr_py, pytest_cloudplan_stderr_py_len},
        {"pytest_cloudplan_stream.py", pytest_cloudplan_stream_py, pytest_cloudplan_stream_py_len},
        {"pytest_cloudplan_worker.py", pytest_cloudplan_worker_py, pytest_cloudplan_worker_py_len},
    };
    char *dir = path_join(rundir, "plugin");
    int result = 0;
    if (!dir || (mkdir(dir, 0700) && errno != EEXIST))
        result = error_errno(err, rundir);
    for (size_t i = 0; result == 0 && i < sizeof files / sizeof *files; i++)
        result = rundir_write(dir, files[i].name, files[i].text, files[i].len, err);
    free(dir);
    return result;
}

/* Adds "NAME=FIRST[SEP SECOND]"; an empty part counts as none. */
static int add(char ***env, const char *name, const char *first, char separator, const char *second, struct error *err)
{
    char *text = NULL;
    int len = !*first    ? asprintf(&text, "%s=%s", name, second)
              : !*second ? asprintf(&text, "%s=%s", name, first)
                         : asprintf(&text, "%s=%s%c%s", name, first, separator, second);
    if (len < 0)
        return error_errno(err, "environment");
    int result = strings_add(env, text, err);
    free(text);
    return result;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

char **plugin_environment(const char *rundir, const char *run_id, const char *plugins, const char *const *more, struct error *err)
{
    char **env = calloc(1, sizeof *env);
    char *dir = path_join(rundir, "plugin");
    int result = -1;
    if (!env || !dir) {
        error_errno(err, "environment");
        goto out;
    }
    if (add(&env, "PYTHONPATH", dir, ':', environment("PYTHONPATH"), err) ||
        add(&env, "PYTEST_PLUGINS", environment("PYTEST_PLUGINS"), ',', plugins, err) ||
        add(&env, "CLOUDPLAN_CONTROLLER", run_id, ' ', "", err) || strings_add(&env, "CLOUDPLAN_ENGINE=1", err))
        goto out;
    for (size_t i = 0; more && more[i]; i++)
        if (strings_add(&env, more[i], err))
            goto out;
    result = 0;
out:
    free(dir);
    if (result) {
        strings_free(env);
        env = NULL;
    }
    return env;
}
