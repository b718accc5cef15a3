/* What a node must have.
 *
 * Every text here is shown to somebody who is to put things right on that node, so it names all that is missing of a kind at
 * once, rather than one more at every try. */
#include "nodes/accept.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_SIZE                                                                                            \
    (ERROR_TEXT_MAX / 2) /* leaves room for the rest of the reason, the remedy at its end above all */
#define NAME_SHOWN 100   /* bytes of an interpreter's name beside such a list */

/* The interpreters that the node does not have, in a list; how many were asked for. */
static size_t missing_pythons(const struct facts *facts, const char *const *pythons, char list[LIST_SIZE])
{
    size_t i = 0;
    for (*list = '\0'; pythons[i]; i++)
        if (!*facts->pythons[i])
            text_list(list, LIST_SIZE, pythons[i]);
    return i;
}

/* python: the interpreter that does not find facts.missing; NULL: all find what they must. */
static void drop_for_engine(struct node *node, const struct requirements *required, const char *python)
{
    char reason[sizeof node->facts.missing + ERROR_TEXT_MAX] = "";
    if (required->lacks)
        required->lacks(&node->facts, python, node->local, reason, sizeof reason);
    else if (python)
        snprintf(reason, sizeof reason, "%s is missing for %.*s", node->facts.missing, NAME_SHOWN, python);
    if (*reason)
        node_set(node, NODE_UNFIT, "%s", reason);
}

/* Below 3.0 it lacks options that ours needs there.  macOS's openrsync is left to the sync, whose words say what it lacks. */
static bool drop_for_rsync(struct node *node)
{
    const char *rsync = node->facts.rsync;
    if (!*rsync)
        node_set(node, NODE_UNFIT, "rsync is missing on the node");
    else if (*rsync >= '0' && *rsync <= '9' && atoi(rsync) < 3)
        node_set(node, NODE_UNFIT, "rsync %s on the node is too old: 3.0 or newer is needed there", rsync);
    else if ((*rsync < '0' || *rsync > '9') && strncmp(rsync, "openrsync-", 10))
        node_set(node, NODE_UNFIT,
                 "rsync on the node is not the program that it should be: it says \"%.100s\"", rsync);
    return node->state != NODE_READY;
}

/* What stands where the copy is to be.  scripts/node/guard.sh looks again, and has the last word. */
static bool drop_for_target(struct node *node, const struct requirements *required)
{
    enum facts_target target = node->facts.target;
    if (target == TARGET_NOWHERE)
        node_set(node, NODE_UNFIT,
                 "the home directory, %.200s, does not exist there or cannot be entered: mend that, or give "
                 "an absolute --cloud-chdir",
                 node->facts.home);
    else if (target == TARGET_HOMELESS)
        node_set(node, NODE_UNFIT,
                 "HOME is not set there, or is no absolute path: set it for this login, or give an absolute "
                 "--cloud-chdir");
    else if (target == TARGET_FOREIGN || (target == TARGET_UNMARKED && !required->adopt))
        node_set(
            node, NODE_UNFIT,
            "%.200s exists there and was not made by cloudplan: remove it, or choose another --cloud-chdir%s",
            required->chdir,
            target == TARGET_UNMARKED ? ", or have --cloud-adopt look whether it can be used" : "");
    return node->state != NODE_READY;
}

/* "3.11.2" is of version "3.11", "3.1" is not. */
static bool is_of_version(const char *full, const char *version)
{
    size_t len = strlen(version);
    return !strncmp(full, version, len) && (full[len] == '.' || full[len] == '\0');
}

void accept_facts(struct node *node, const struct requirements *required)
{
    const struct facts *facts = &node->facts;
    char missing[LIST_SIZE];
    const char *const *names =
        node->local && required->local_pythons ? required->local_pythons : required->pythons;
    size_t pythons = missing_pythons(facts, names, missing);
    bool modules_count = required->modules && (!node->local || pythons > 1);
    node->has_facts = true;
    node_set(node, NODE_READY, "%s", "");
    if (*missing)
        node_set(node, NODE_UNFIT, "python is missing: no %s on the node", missing);
    else if (!node->local && required->python_version &&
             !is_of_version(facts->pythons[0], required->python_version))
        node_set(node, NODE_UNFIT,
                 "its %s is %s, and the virtualenv was made with %s: a virtualenv works with its own version "
                 "alone",
                 required->pythons[0], facts->pythons[0], required->python_version);
    else if (!node->local && drop_for_rsync(node))
        return;
    else if (!node->local && drop_for_target(node, required))
        return;
    else
        drop_for_engine(node, required,
                        modules_count && *facts->missing && facts->missing_python < pythons
                            ? names[facts->missing_python]
                            : NULL);
}
