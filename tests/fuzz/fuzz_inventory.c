/* A node list's bytes, whatever they are: nodes or one line of error. */
#include "nodes/inventory.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct node_list list = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    if (inventory_parse(&list, (const char *)data, size, "nodes.txt", &err) < 0) {
        if (err.status != STATUS_DATA || strncmp(err.text, "nodes.txt:", strlen("nodes.txt:")) != 0)
            abort();
    } else if (list.count == 0 || list.count > NODE_LIST_MAX) {
        abort();
    }
    node_list_clear(&list);
    return 0;
}
