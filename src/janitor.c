/* The janitor outlives us on purpose: it gets no signal when we die, and a session of its own keeps it from the terminal's.  rm does
 * not follow links. */
#include "janitor.h"

#include <unistd.h>

#define END_MS 5000

int janitor_start(struct child *janitor, const char *dir, struct error *err)
{
    /* Twice: a process that is just ending may put a last file there. */
    static const char script[] = "trap '' TERM HUP INT\n"
                                 "while read -r _; do :; done\n"
                                 "rm -rf -- \"$1\" || { sleep 1; rm -rf -- \"$1\"; }\n";
    const char *const argv[] = {"/bin/sh", "-c", script, "cloudplan-janitor", dir, NULL};
    const struct child_spec spec = {
        .argv = argv, .in = CHILD_PIPE, .out = CHILD_NULL, .err = CHILD_NULL, .detached = true, .outlives = true};
    return child_start(janitor, &spec, err);
}

void janitor_end(struct child *janitor)
{
    if (janitor->in >= 0) {
        close(janitor->in);
        janitor->in = -1;
    }
    child_wait(janitor, END_MS);
    child_end(janitor, 0);
}
