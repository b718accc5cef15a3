/* Programs are asked for their version, since a name alone tells little: moreutils has a parallel, macOS an rsync. */
#include "base/tool.h"

#include "base/child.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000
#define OUTPUT_MAX 4096

enum fit { FITS, OTHER, OLD };

static enum fit compare(const char *out, const char *begins, unsigned major, unsigned minor)
{
    if (begins && strncmp(out, begins, strlen(begins)))
        return OTHER;
    if (!begins || (!major && !minor))
        return FITS;
    const char *p = out + strlen(begins);
    char *end;
    p += *p == 'v';
    if (*p < '0' || *p > '9')
        return OTHER;
    unsigned long first = strtoul(p, &end, 10), second = 0;
    if (*end == '.' && end[1] >= '0' && end[1] <= '9')
        second = strtoul(end + 1, NULL, 10);
    return first > major || (first == major && second >= minor) ? FITS : OLD;
}

int tool_check(const char *name, const char *option, const char *begins, unsigned major, unsigned minor,
               const char *hint, struct error *err)
{
    const char *const argv[] = {name, option, NULL};
    static const char *const env[] = {"PARALLEL", NULL};
    struct error why = ERROR_INIT;
    char *out, *words;
    int status = 0;
    int started = child_capture(argv, env, TIMEOUT_MS, OUTPUT_MAX, &out, &words, &status, &why);
    enum fit fit = started == 0 && status == 0 ? compare(out, begins, major, minor) : OTHER;
    free(out);
    free(words);
    if (started && why.status != STATUS_TOOL)
        return error_set(err, why.status, "%s", why.text);
    if (fit == FITS)
        return 0;
    if (!started && status > STATUS_SIGNAL)
        return error_set(err, STATUS_SYSTEM, "%s %s was ended by signal %d (%s)%s", name, option,
                         status - STATUS_SIGNAL, strsignal(status - STATUS_SIGNAL),
                         status - STATUS_SIGNAL == SIGXFSZ ? ERROR_FILE_LIMIT : "");
    return error_set(err, STATUS_TOOL, "%s: %s; %s", name,
                     started      ? "not found"
                     : fit == OLD ? "too old"
                                  : "not the program that it should be",
                     hint);
}
