/* What is asked of the nodes is known only once pytest has answered: until then they are connected to. */
#include "run/ask.h"

#include "probe/probe.h"
#include "run/settle.h"

/* What --dist=each runs here: what was named, or else the engine's own. */
static const char *const *local_pythons(const struct run *run)
{
    return (const char *const *)(run->options.pythons[0] ? run->project.local_pythons : run->project.engine_pythons);
}

static void fill_probe(const struct run *run, struct probe_params *params)
{
    bool asked = run->options.command == COMMAND_RUN && !run->project.venv_used && run->settings && *run->settings->modules;
    params->timeout_ms = (int)run->options.probe_timeout * 1000;
    params->required.chdir = run->project.chdir;
    params->required.adopt = run->options.adopt;
    params->required.local_pythons = run->options.policy.each ? local_pythons(run) : NULL;
    params->required.pythons = (const char *const *)run->project.probe_pythons;
    params->required.python_version = run->project.venv_used ? run->project.venv_version : NULL;
    params->required.modules = asked ? run->settings->modules : NULL;
}

/* Nodes are being connected to; what they will be asked is known once pytest has answered. */
static int probe_ready(void *arg, struct probe_params *params, struct error *err)
{
    struct run *run = arg;
    if (!run->settled) {
        if (!settings_answered(run->query))
            return 0;
        if (stage_settle(run, err))
            return -1;
    }
    fill_probe(run, params);
    return 1;
}

int stage_probe(struct run *run, struct error *err)
{
    struct probe_params params = {
        .nonce = run->id,
        .ready = probe_ready,
        .ready_arg = run,
        .progress = run->wait_note ? NULL : report_probe_progress, /* once is enough */
        .progress_arg = run->report,
    };
    fill_probe(run, &params);
    /* With --cloud-wait the nodes are asked several times: what ssh -G has said of them is kept. */
    if (!run->conf && stage_any_remote(run) && !(run->conf = sshconf_ask(&run->list, err)))
        return -1;
    int result = probe_run(&run->list, &params, err);
    report_progress_end(run->report);
    /* Where no node could be connected to, nobody has waited for pytest's answer. */
    return result == 0 && !run->settled ? stage_settle(run, err) : result;
}
