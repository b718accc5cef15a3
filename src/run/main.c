/* The program: parses the command line, calls the stages in their order as far as the command goes, prints the one line of an error,
 * and gives the exit status.  Where there is not enough room for the run, the nodes are reported all the same. */
#include "base/child.h"
#include "engine/sshlogin.h"
#include "run/again.h"
#include "run/ask.h"
#include "run/room.h"
#include "run/run.h"
#include "run/settle.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

/* As far as the command says.  *status is the engine's where it ran. */
static int stages(struct run *run, int *status, struct error *err)
{
    enum command command = run->options.command;
    if (stage_begin(run, err) || stage_nodes(run, err) || (!run->settled.here && stage_probe(run, err)))
        return -1;
    if (run->settled.here)
        return stage_here(run, err) || stage_watch(run, err) || stage_engine(run, status, err) ? -1 : 0;
    int planned = stage_plan(run, err);
    if (planned == 0 && command >= COMMAND_SYNC)
        planned = stage_open(run, err) || stage_watch(run, err) || stage_copy(run, err) ? -1 : 0;
    /* What the nodes are is reported also when it is not enough. */
    struct error why = ERROR_INIT;
    if (stage_report(run, planned == 0, &why))
        error_set(err, why.status, "%s", why.text);
    if (planned || err->status)
        return -1;
    return command == COMMAND_RUN ? stage_engine(run, status, err) : 0;
}

/* Where the status is lost, as in --sshloginfile <(cloudplan ...), the list itself must say that there is no node. */
static void refuse_logins(void)
{
    puts(SSHLOGIN_NONE);
    fflush(stdout);
}

static void print(const char *text, struct error *err)
{
    if (!text || fputs(text, stdout) < 0 || fflush(stdout))
        error_errno(err, "standard output");
}

int main(int argc, char **argv)
{
    struct run run = RUN_INIT;
    struct error err = ERROR_INIT;
    int status = STATUS_OK;
    bool parsed = child_init(&err) == 0 && options_parse(&run.options, engines[0], argc, argv, &err) == 0;
    const struct report_params report = {.format = run.options.format,
                                         .quiet = run.options.quiet,
                                         .verbose = run.options.verbose,
                                         .word_option =
                                             run.options.engine ? run.options.engine->word_option : NULL};
    if (!parsed) {
        /* said below */
    } else if (run.options.help) {
        char *help = options_help(run.options.engine);
        print(help, &err);
        free(help);
    } else if (run.options.version) {
        print("cloudplan " PACKAGE_VERSION "\n", &err);
    } else if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(run.report = report_create(&report))) {
        error_set(&err, STATUS_SYSTEM, "libcurl does not start");
    } else {
        stages(&run, &status, &err);
    }
    stages_clear(&run);
    curl_global_cleanup();
    if (err.status) {
        if (options_ask_for_logins(argc, argv))
            refuse_logins();
        fprintf(stderr, "cloudplan: %s\n", err.text);
        status = err.status;
    }
    return status;
}
