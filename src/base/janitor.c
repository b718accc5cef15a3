/* The janitor outlives us on purpose: it gets no signal when we die, and a session of its own keeps it from the terminal's.  rm does
 * not follow links.
 *
 * What cloudplan itself and tests have started here belongs to the run as much as what they have started on a node, where the guard ends
 * it in the same way.  Where there is no /proc nothing is known of it. */
#include "base/janitor.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define END_MS 8000 /* what does not end by SIGTERM has two seconds */

int janitor_start(struct child *janitor, const char *dir, const char *run_id, struct error *err)
{
    /* Looks, ends, and removes again and again, until nothing is found and the directory has stayed away: what begins between a look
     * and its end, or is between fork and exec, is found at the next one, and GNU parallel makes its directories anew.  Not every
     * sleep knows parts of a second. */
    static const char script[] =
        "trap '' TERM HUP INT\n"
        "while read -r _; do :; done\n"
        "tries=0 looks=0\n"
        "while [ \"$looks\" -lt 40 ]; do\n"
        "    looks=$((looks + 1))\n"
        "    pids=$(grep -lszxF -e \"CLOUDPLAN_CONTROLLER=$2\" /proc/[0-9]*/environ)\n"
        "    if [ -n \"$pids\" ] && [ \"$tries\" -lt 6 ]; then\n"
        "        signal=TERM\n"
        "        [ \"$tries\" -lt 3 ] || signal=KILL\n"
        "        for pid in $pids; do pid=${pid%/environ}; kill -s \"$signal\" \"${pid#/proc/}\"; done\n"
        "        tries=$((tries + 1))\n"
        "        [ \"$tries\" = 1 ] || { sleep 1; continue; }\n"
        "    else\n"
        "        [ -e \"$1\" ] || break\n"
        "        rm -rf -- \"$1\"\n"
        "    fi\n"
        "    sleep 0.1 || sleep 1\n"
        "done\n";
    const char *const argv[] = {"/bin/sh", "-c", script, "cloudplan-janitor", dir, run_id, NULL};
    const struct child_spec spec = {.argv = argv,
                                    .env = child_unmarked,
                                    .in = CHILD_PIPE,
                                    .out = CHILD_NULL,
                                    .err = CHILD_NULL,
                                    .detached = true,
                                    .outlives = true};
    return child_start(janitor, &spec, err);
}

int janitor_mark(const char *run_id, struct error *err)
{
    return setenv("CLOUDPLAN_CONTROLLER", run_id, 1) ? error_errno(err, "environment") : 0;
}

void janitor_end(struct child *janitor, const char *dir, const char *run_id)
{
    struct error err = ERROR_INIT;
    /* It was killed: another one finds the end of its input at once. */
    if (dir && child_ended(janitor))
        (void)janitor_start(janitor, dir, run_id, &err);
    if (janitor->in >= 0) {
        close(janitor->in);
        janitor->in = -1;
    }
    if (janitor->pid > 0)
        kill(-janitor->pid, SIGCONT); /* somebody may have stopped it, or the sleep in it */
    child_wait(janitor, END_MS);
    child_end(janitor, 0);
}
