/* The janitor outlives us on purpose: it gets no signal when we die, and a session of its own keeps it from the terminal's.  rm does
 * not follow links.
 *
 * What tests have started here belongs to the run as much as what they have started on a node, where the guard ends it in the same
 * way.  Where there is no /proc nothing is known of it. */
#include "janitor.h"

#include <unistd.h>

#define END_MS 8000 /* what does not end by SIGTERM has two seconds */

int janitor_start(struct child *janitor, const char *dir, const char *run_id, struct error *err)
{
    /* Not every sleep knows parts of a second.  Removed twice: a process that is just ending may put a last file there. */
    static const char script[] =
        "trap '' TERM HUP INT\n"
        "while read -r _; do :; done\n"
        "tries=0\n"
        "while pids=$(grep -lszxF -e \"CLOUDPLAN_CONTROLLER=$2\" /proc/[0-9]*/environ); [ -n \"$pids\" ] && [ \"$tries\" -lt 6 ]; do\n"
        "    signal=TERM\n"
        "    [ \"$tries\" -lt 3 ] || signal=KILL\n"
        "    for pid in $pids; do pid=${pid%/environ}; kill -s \"$signal\" \"${pid#/proc/}\"; done\n"
        "    tries=$((tries + 1))\n"
        "    { [ \"$tries\" = 1 ] && sleep 0.1; } || sleep 1\n"
        "done\n"
        "rm -rf -- \"$1\" || { sleep 1; rm -rf -- \"$1\"; }\n";
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
    child_wait(janitor, END_MS);
    child_end(janitor, 0);
}
