/* Node words, as they come from a command line or a Jenkins field, and what is made of them: a name is the
 * canonical form of itself, and each xspec has the parts that it was given, however odd the name. */
#include "base/strv.h"
#include "engine/pytest/xspec.h"
#include "nodes/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECKED_MAX 64 /* nodes of a list; a range may hold thousands of the same kind */

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_canonical(const struct node *node)
{
    struct node_list list = NODE_LIST_INIT;
    check(node_list_add(&list, node->name, NULL) == 0);
    check(list.count == 1 && strcmp(list.nodes[0].name, node->name) == 0);
    check(list.nodes[0].port == node->port && strcmp(list.nodes[0].host, node->host) == 0);
    node_list_clear(&list);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void check_xspecs(const struct node_list *list, bool each)
{
    static const char *const pythons[] = {"p", "q", NULL};
    const struct xspec_params params = {
        .chdir = "d", .pythons = pythons, .local_pythons = pythons, .each = each};
    char **tx = xspec_tx(list, &params, NULL);
    check(tx != NULL);
    size_t count = 0;
    for (; tx[count]; count++) {
        size_t separators = 0;
        for (const char *s = strstr(tx[count], "//"); s; s = strstr(s + 1, "//"))
            separators++;
        const struct node *node = &list->nodes[each ? count / 2 : count];
        check(separators == (node->local ? 2 : 4));
        if (!node->local) {
            char *name = strstr(tx[count], "//node=") + strlen("//node=");
            check(strncmp(name, node->name, strlen(node->name)) == 0 &&
                  strncmp(name + strlen(node->name), "//", 2) == 0);
        }
        char *id = strstr(tx[count], "//id=") + 2; /* from here on: the id and nothing else */
        *strstr(id, "//") = '\0';
        memmove(tx[count], id, strlen(id) + 1);
    }
    qsort(tx, count, sizeof *tx, by_text);
    for (size_t i = 1; i < count; i++)
        check(strcmp(tx[i - 1], tx[i]) != 0);
    strings_free(tx);
}

/* What the node says about itself: bytes of the input. */
static void make_facts(struct facts *facts, const char *words, size_t size)
{
    snprintf(facts->os, sizeof facts->os, "%.*s", (int)(size < 60 ? size : 60), words);
    snprintf(facts->arch, sizeof facts->arch, "%s", words + size / 2);
    snprintf(facts->pythons[1], sizeof facts->pythons[1], "%s", words + size / 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    char *words = malloc(size + 1);
    check(words != NULL);
    if (size > 0)
        memcpy(words, data, size);
    words[size] = '\0';
    if (node_list_add_words(&list, words, &err) < 0)
        check(err.status == STATUS_DATA && err.text[0] != '\0');
    check(list.count <= NODE_LIST_MAX);
    for (size_t i = 0; i < list.count && i < CHECKED_MAX; i++) {
        check_canonical(&list.nodes[i]);
        node_set(&list.nodes[i], NODE_READY, "%s", "");
        list.nodes[i].processes = 1;
        make_facts(&list.nodes[i].facts, words, size);
    }
    check_xspecs(&list, false);
    check_xspecs(&list, true);
    node_list_clear(&list);
    free(words);
    return 0;
}
