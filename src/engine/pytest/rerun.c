/* The tests to run again.  A node id can begin with no "-" that pytest would take for an option, since it begins with a path; one that
 * does all the same sends everything through the run again. */
#include "engine/pytest/rerun.h"

#include "base/strv.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The list; NULL where there is none, with *err set where that is an error. */
static json_t *load(const char *path, struct error *err)
{
    json_error_t why;
    if (access(path, F_OK)) {
        if (errno != ENOENT)
            error_errno(err, path);
        return NULL;
    }
    json_t *list = json_load_file(path, 0, &why);
    bool good = json_is_array(list);
    for (size_t i = 0; good && i < json_array_size(list); i++)
        good = json_is_string(json_array_get(list, i));
    if (good)
        return list;
    json_decref(list);
    error_set(err, STATUS_BUG, "%s: malformed: %s", path, list ? "not a list of tests" : why.text);
    return NULL;
}

int rerun_count(const char *path, size_t *count, struct error *err)
{
    struct error why = ERROR_INIT;
    json_t *list = load(path, &why);
    *count = json_array_size(list);
    json_decref(list);
    return why.status ? error_set(err, why.status, "%s", why.text) : 0;
}

/* Whether the tests of a list can stand on a command line. */
static bool fits_in_line(const json_t *list)
{
    size_t bytes = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *id = json_string_value(json_array_get(list, i));
        bytes += strlen(id) + 1;
        if (*id == '-' || !*id)
            return false;
    }
    return bytes > 0 && bytes <= RERUN_BYTES_MAX;
}

int rerun_args(const char *path, char *const *options, char ***args, struct error *err)
{
    struct error why = ERROR_INIT;
    json_t *list = load(path, &why);
    char **all = NULL;
    *args = NULL;
    if (why.status)
        return error_set(err, why.status, "%s", why.text);
    int result = 0;
    if (list && options && fits_in_line(list)) {
        result = -1;
        if (!(all = calloc(1, sizeof *all))) {
            error_errno(err, "arguments");
            goto out;
        }
        for (; *options; options++)
            if (strings_add(&all, *options, err))
                goto out;
        for (size_t i = 0; i < json_array_size(list); i++)
            if (strings_add(&all, json_string_value(json_array_get(list, i)), err))
                goto out;
        result = 0;
    }
out:
    json_decref(list);
    if (result)
        strings_free(all);
    else
        *args = all;
    return result;
}
