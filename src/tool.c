/* Programs are asked for their version, since a name alone tells little: moreutils has a parallel, macOS an rsync. */
#include "tool.h"

#include "child.h"

#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000
#define OUTPUT_MAX 4096

int tool_check(const char *name, const char *option, const char *begins, const char *hint, struct error *err)
{
    const char *const argv[] = {name, option, NULL};
    static const char *const env[] = {"PARALLEL", NULL};
    struct error why = ERROR_INIT;
    char *out, *words;
    int status = 0;
    int started = child_capture(argv, env, TIMEOUT_MS, OUTPUT_MAX, &out, &words, &status, &why);
    bool fits = started == 0 && status == 0 && (!begins || !strncmp(out, begins, strlen(begins)));
    free(out);
    free(words);
    if (started && why.status != STATUS_TOOL)
        return error_set(err, why.status, "%s", why.text);
    if (fits)
        return 0;
    return error_set(err, STATUS_TOOL, "%s: %s; %s", name, started ? "not found" : "not the program that it should be", hint);
}
