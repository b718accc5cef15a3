/* A private key file as hostile text: what is taken for a key is one, and nothing half filled is left. */
#include "ssh/identity.h"
#include "ssh/key.h"

#include <stdint.h>
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
    struct identity id;
    const char *why = NULL;
    int result = identity_parse((const char *)data, size, &id, &why);
    require(!id.name && !id.type == !id.blob);
    if (id.type)
        require(strcmp(key_type(id.blob, id.blob_len), id.type) == 0);
    require((result == 0) == (why != NULL));
    require((result == 1) == (id.private_pem != NULL));
    if (result == 1)
        require(id.blob && id.private_len == size && memcmp(id.private_pem, data, size) == 0);
    if (result == -1)
        require(!id.blob);
    identity_clear(&id);
    return 0;
}
