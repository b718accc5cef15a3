/* known_hosts as hostile text: whatever it says, the results agree with each other. */
#include "ssh/key.h"
#include "ssh/known_hosts.h"

#include <stdlib.h>
#include <string.h>

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBIAC/brfYvHcMtVbTeiNXus8X8i1GaVr+6kvYX1OEza"

static void require(bool kept)
{
    if (!kept)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t ports[] = {22, 2222};
    size_t len;
    unsigned char *key = key_read(KEY, strlen(KEY), &len);
    struct known_hosts *known = known_hosts_parse((const char *)data, size, NULL);
    require(key && known);
    for (size_t i = 0; i < 2; i++) {
        struct known_host *entry = known_hosts_lookup(known, "n1.example.org", ports[i], NULL);
        require(entry);
        const char *where = NULL;
        enum known_result result = known_host_check(entry, key, len, &where);
        size_t count = known_host_count(entry);
        require(where && (*where == '\0') == (result == KNOWN_ABSENT));
        if (result == KNOWN_MATCH)
            require(count > 0 && known_host_has_type(entry, "ssh-ed25519"));
        if (result == KNOWN_CHANGED)
            require(count > 0);
        if (result == KNOWN_ABSENT)
            require(count == 0 || ports[i] != 22);
        if (result != KNOWN_REVOKED)
            require((known_host_unsure(entry) != 0) == (result == KNOWN_UNSURE));
        known_host_destroy(entry);
    }
    known_hosts_destroy(known);
    free(key);
    return 0;
}
