/* The ids of xspecs: see xspec_id.h.
 *
 * HOST_N needs no look at the other ids: the part before the last "_" is one node's alone.  With --dist=each what
 * a node says is in its ids, which may be made up to look like another one's: those are compared, by sorting, and what
 * is there already gets a number.  That may again be somebody's, so it is repeated until all differ. */
#include "engine/pytest/xspec_id.h"

#include "base/strv.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID_CHARS TEXT_ALNUM "._-"
#define ID_PART_MAX 32 /* bytes of what a node says, in one part of an id */

static int by_host(const void *a, const void *b)
{
    const struct node *x = *(const struct node *const *)a, *y = *(const struct node *const *)b;
    return strcmp(x->host, y->host);
}

/* What stands before "_0" in each node's ids: an array of borrowed strings.  All nodes of the list count, so
 * that a node has the same ids whether or not another one dropped out. */
static const char **id_stems(const struct node_list *list, struct error *err)
{
    size_t n = list->count;
    const char **stems = calloc(n + 1, sizeof *stems);
    const struct node **sorted = calloc(n + 1, sizeof *sorted);
    if (!stems || !sorted) {
        free(stems);
        free(sorted);
        error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = &list->nodes[i];
    qsort(sorted, n, sizeof *sorted, by_host);
    for (size_t i = 0; i < n; i++) {
        bool shared = (i > 0 && by_host(&sorted[i - 1], &sorted[i]) == 0) ||
                      (i + 1 < n && by_host(&sorted[i], &sorted[i + 1]) == 0);
        stems[sorted[i] - list->nodes] = shared ? sorted[i]->name : sorted[i]->host;
    }
    free(sorted);
    return stems;
}

/* What a node says, as a part of an id. */
static void id_part(char part[ID_PART_MAX + 1], const char *text)
{
    snprintf(part, ID_PART_MAX + 1, "%s", *text ? text : "unknown");
    for (char *c = part; *c; c++)
        if (!strchr(ID_CHARS, *c))
            *c = '_';
}

/* NULL without memory. */
static char *each_id(const struct node *node, const char *stem, size_t python)
{
    char os[ID_PART_MAX + 1], arch[ID_PART_MAX + 1], version[ID_PART_MAX + 1], *id;
    id_part(os, node->facts.os);
    id_part(arch, node->facts.arch);
    id_part(version, python < FACTS_PYTHONS_MAX ? node->facts.pythons[python] : "");
    return asprintf(&id, "%s_%s-%s_py%s", stem, os, arch, version) < 0 ? NULL : id;
}

static char *plain_id(const char *stem, size_t process)
{
    char *id;
    return asprintf(&id, "%s_%zu", stem, process) < 0 ? NULL : id;
}

/* By text; equal ones as they stand in the list. */
static int by_id(const void *a, const void *b)
{
    char *const *x = *(char *const *const *)a, *const *y = *(char *const *const *)b;
    int order = strcmp(*x, *y);
    return order ? order : (x > y) - (x < y);
}

/* Numbers those that are there already, in sorted, an array of places in ids.  1: some, 0: none, -1: no memory. */
static int number_equal(char ***sorted, size_t count)
{
    int found = 0;
    for (size_t i = 0, next; i < count; i = next) {
        for (next = i + 1; next < count && strcmp(*sorted[next], *sorted[i]) == 0; next++) {
            char *longer;
            if (asprintf(&longer, "%s_%zu", *sorted[i], next - i + 1) < 0)
                return -1;
            free(*sorted[next]);
            *sorted[next] = longer;
            found = 1;
        }
    }
    return found;
}

/* Ends: of the shortest ids that are alike the first one stays as it is, and all new ones are longer. */
static int make_unique(char **ids, size_t count)
{
    char ***sorted = calloc(count + 1, sizeof *sorted);
    int found = sorted ? 1 : -1;
    while (found == 1) {
        for (size_t i = 0; i < count; i++)
            sorted[i] = &ids[i];
        qsort(sorted, count, sizeof *sorted, by_id);
        found = number_equal(sorted, count);
    }
    free(sorted);
    return found;
}

char **xspec_ids(const struct node_list *list, size_t each, struct error *err)
{
    const char **stems = id_stems(list, err);
    if (!stems)
        return NULL;
    size_t total = 0, n = 0;
    for (size_t i = 0; i < list->count; i++)
        if (node_in_use(&list->nodes[i]))
            total += each ? each : list->nodes[i].processes;
    char **ids = calloc(total + 1, sizeof *ids);
    bool good = ids != NULL;
    for (size_t i = 0; good && i < list->count; i++) {
        const struct node *node = &list->nodes[i];
        size_t count = !node_in_use(node) ? 0 : each ? each : node->processes;
        for (size_t k = 0; good && k < count; k++) {
            ids[n] = each ? each_id(node, stems[i], k) : plain_id(stems[i], k);
            good = ids[n++] != NULL;
        }
    }
    if (good && each)
        good = make_unique(ids, total) == 0;
    free(stems);
    if (good)
        return ids;
    error_set(err, STATUS_SYSTEM, "%s", strerror(ENOMEM));
    strings_free(ids);
    return NULL;
}
