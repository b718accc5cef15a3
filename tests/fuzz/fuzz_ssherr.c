/* ssh's diagnostics, in which a node has a say: a state that says "not reached" or "not let in", and one
 * clean line. */
#include "ssh/ssherr.h"

#include <stdlib.h>
#include <string.h>

static void require(bool kept)
{
    if (!kept)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char reason[ERROR_TEXT_MAX], copy[ERROR_TEXT_MAX], *text = malloc(size + 1);
    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    memset(reason, 'x', sizeof reason);
    enum node_state state = ssh_failure(text, reason);
    free(text);
    require(state == NODE_OFFLINE || state == NODE_REFUSED || state == NODE_FAILED);
    require(reason[0] && memchr(reason, '\0', sizeof reason));
    strcpy(copy, reason);
    text_clean(copy);
    require(strcmp(copy, reason) == 0);
    return 0;
}
