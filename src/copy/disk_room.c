/* One rsync here, told to change nothing, for all nodes: it looks at each file once, as the sync does anyway.  Where it
 * does not say a size (an error, a very large tree), nothing is known, and the sync goes ahead.
 *
 * File systems that compress may hold more than they have free: the few that are refused wrongly have almost
 * nothing left. */
#include "copy/disk_room.h"

#include "base/child.h"
#include "copy/rsync_cmd.h"
#include "copy/syncout.h"

#include <stdlib.h>

#define COUNT_TIMEOUT_MS 60000
#define COUNT_OUTPUT_MAX 4096 /* bytes; the statistics are some 900 */

/* No copy is there, and how much is free is known. */
static bool to_be_copied_to(const struct node *node)
{
    return node->state == NODE_READY && !node->local && node->has_facts &&
           node->facts.target == TARGET_ABSENT && node->facts.disk_free != UINT64_MAX;
}

/* 1 and *bytes; 0 where it is not known; -1 and *err. */
static int count_bytes(const struct sync_params *params, uint64_t *bytes, struct error *err)
{
    struct error why = ERROR_INIT;
    struct rsync_rules *rules = rsync_rules_make(params, err);
    char *command = rules ? rsync_count_command(rules, params) : NULL, *out = NULL, *words = NULL;
    int status, result = -1;
    if (!rules)
        goto out;
    if (!command) {
        error_errno(err, "rsync");
        goto out;
    }
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    static const char *const env[] = {"LC_ALL=C", NULL};
    if (child_capture(argv, env, COUNT_TIMEOUT_MS, COUNT_OUTPUT_MAX, &out, &words, &status, &why) == 0)
        result = rsync_total_size(out, bytes);
    else if (why.status > STATUS_SIGNAL)
        error_set(err, why.status, "%s", why.text);
    else
        result = 0;
out:
    free(out);
    free(words);
    free(command);
    rsync_rules_destroy(rules);
    return result;
}

int disk_room_check(struct node_list *list, const struct sync_params *params, struct error *err)
{
    uint64_t bytes = 0;
    struct node *without = NULL;
    size_t i = 0;
    while (i < list->count && !to_be_copied_to(&list->nodes[i]))
        i++;
    if (i == list->count)
        return 0;
    int known = count_bytes(params, &bytes, err);
    if (known <= 0)
        return known;
    for (; i < list->count; i++) {
        struct node *node = &list->nodes[i];
        if (!to_be_copied_to(node) || node->facts.disk_free >= bytes)
            continue;
        /* In kernels' words, which rsync would use, too: who looks for them finds both. */
        node_set(
            node, NODE_FAILED,
            "No space left on device for the copy: it takes %llu KiB, and %llu KiB are free where %s will be",
            (unsigned long long)(bytes / 1024 + (bytes % 1024 != 0)),
            (unsigned long long)(node->facts.disk_free / 1024), params->chdir);
        without = without ? without : node;
    }
    if (without && node_list_ready(list) == 0)
        return error_set(err, STATUS_SYNC, "the sync failed on every node; %s: %s", without->name,
                         without->reason);
    return 0;
}
