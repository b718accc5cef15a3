/* What a node must have.
 *
 * Every text here is shown to somebody who is to put things right on that node, so it names all that is missing of a kind at
 * once, rather than one more at every try. */
#include "nodes/accept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_SIZE (ERROR_TEXT_MAX / 2) /* leaves room for the rest of the reason, the remedy at its end above all */
#define NAME_SHOWN 100                 /* bytes of an interpreter's name beside such a list */

/* Adds a word to a list, as far as there is room. */
static void add_word(char list[LIST_SIZE], const char *word)
{
    size_t used = strlen(list), left = LIST_SIZE - used;
    if (snprintf(list + used, left, "%s%s", used ? ", " : "", word) >= (int)left)
        strcpy(list + LIST_SIZE - sizeof "...", "...");
}

/* The interpreters that the node does not have, in a list; how many were asked for. */
static size_t missing_pythons(const struct facts *facts, const char *const *pythons, char list[LIST_SIZE])
{
    size_t i = 0;
    for (*list = '\0'; pythons[i]; i++)
        if (!*facts->pythons[i])
            add_word(list, pythons[i]);
    return i;
}

/* Whether --cloud-ship-pytest brings it along by itself. */
static bool is_shipped(const char *module)
{
    return !strcmp(module, "pytest") || !strcmp(module, "xdist") || !strcmp(module, "execnet");
}

static void drop_for_modules(struct node *node, const char *python)
{
    char names[sizeof node->facts.missing], list[LIST_SIZE] = "", *rest;
    bool several = strchr(node->facts.missing, ' '), shipped = true;
    snprintf(names, sizeof names, "%s", node->facts.missing);
    for (char *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        shipped = shipped && is_shipped(name);
        add_word(list, name);
    }
    const char *verb = several ? "are" : "is", *object = several ? "them" : "it";
    if (node->local)
        node_set(node, NODE_UNFIT, "%s %s missing for %.*s here: install %s, or use a virtualenv in the project", list, verb,
                 NAME_SHOWN, python, object);
    else
        node_set(node, NODE_UNFIT,
                 "%s %s missing for %.*s on the node: install %s there, use a virtualenv in the project, or %s", list, verb,
                 NAME_SHOWN, python, object, shipped ? "--cloud-ship-pytest" : "--cloud-ship-pytest with --cloud-ship-plugin");
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
        node_set(node, NODE_UNFIT, "rsync on the node is not the program that it should be: it says \"%.100s\"", rsync);
    return node->state != NODE_READY;
}

/* What stands where the copy is to be.  scripts/node/guard.sh looks again, and has the last word. */
static bool drop_for_target(struct node *node, const struct requirements *required)
{
    enum facts_target target = node->facts.target;
    if (target == TARGET_NOWHERE)
        node_set(node, NODE_UNFIT,
                 "the home directory, %.200s, does not exist there or cannot be entered: mend that, or give an absolute --cloud-chdir",
                 node->facts.home);
    else if (target == TARGET_HOMELESS)
        node_set(node, NODE_UNFIT, "HOME is not set there, or is no absolute path: set it for this login, or give an absolute --cloud-chdir");
    else if (target == TARGET_FOREIGN || (target == TARGET_UNMARKED && !required->adopt))
        node_set(node, NODE_UNFIT, "%.200s exists there and was not made by cloudplan: remove it, or choose another --cloud-chdir%s",
                 required->chdir, target == TARGET_UNMARKED ? ", or have --cloud-adopt look whether it can be used" : "");
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
    const char *const *names = node->local && required->local_pythons ? required->local_pythons : required->pythons;
    size_t pythons = missing_pythons(facts, names, missing);
    bool modules_count = required->modules && (!node->local || pythons > 1);
    node->has_facts = true;
    node_set(node, NODE_READY, "%s", "");
    if (*missing)
        node_set(node, NODE_UNFIT, "python is missing: no %s on the node", missing);
    else if (!node->local && required->python_version && !is_of_version(facts->pythons[0], required->python_version))
        node_set(node, NODE_UNFIT,
                 "its %s is %s, and the virtualenv was made with %s: a virtualenv works with its own version alone",
                 required->pythons[0], facts->pythons[0], required->python_version);
    else if (!node->local && drop_for_rsync(node))
        return;
    else if (!node->local && drop_for_target(node, required))
        return;
    else if (modules_count && *facts->missing && facts->missing_python < pythons)
        drop_for_modules(node, names[facts->missing_python]);
}
