/* What is asked of the nodes is known only once the engine has answered: until then they are connected to. */
#include "run/ask.h"

#include "probe/probe.h"
#include "run/settle.h"

/* What an engine that uses several interpreters runs here: what was named, or else its own. */
static const char *const *local_pythons(const struct run *run)
{
    return (const char *const *)(run->options.pythons[0] ? run->project.local_pythons
                                                         : run->project.engine_pythons);
}

static void fill_probe(const struct run *run, struct probe_params *params)
{
    params->timeout_ms = (int)run->options.probe_timeout * 1000;
    params->required.chdir = run->project.chdir;
    params->required.adopt = run->options.adopt;
    params->required.local_pythons = run->policy.each ? local_pythons(run) : NULL;
    params->required.pythons = (const char *const *)run->project.probe_pythons;
    params->required.python_version = run->project.venv_used ? run->project.venv_version : NULL;
    params->required.modules = run->settled.modules;
    if (run->options.command != COMMAND_PROBE) { /* which asks nothing of the engine */
        params->required.facts = run->options.engine->facts;
        params->required.lacks = run->options.engine->lacks;
    }
}

/* Nodes are being connected to; what they will be asked is known once the engine has answered. */
static int probe_ready(void *arg, struct probe_params *params, struct error *err)
{
    struct run *run = arg;
    if (!run->is_settled) {
        if (!run->options.engine->answered(run->work))
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
    /* Where no node could be connected to, nobody has waited for the engine's answer. */
    return result == 0 && !run->is_settled ? stage_settle(run, err) : result;
}
