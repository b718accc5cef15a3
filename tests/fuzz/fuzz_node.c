/* Node words, as they come from a command line or a Jenkins field, and what is made of them: a name is the
 * canonical form of itself, and each xspec has the parts that it was given, however odd the name. */
#include "node.h"
#include "xspec.h"

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

static void check_xspecs(const struct node_list *list)
{
    static const struct xspec_params params = {.chdir = "d", .python = "p"};
    char **tx = xspec_tx(list, &params, NULL);
    check(tx != NULL);
    for (size_t i = 0; tx[i]; i++) {
        size_t separators = 0;
        for (const char *s = strstr(tx[i], "//"); s; s = strstr(s + 1, "//"))
            separators++;
        check(separators == (list->nodes[i].local ? 1 : 3));
    }
    strings_free(tx);
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
    }
    check_xspecs(&list);
    node_list_clear(&list);
    free(words);
    return 0;
}
