/* A node's answer as hostile bytes: whatever is taken for good keeps the promises of facts.h. */
#include "nodes/facts.h"
#include "probe/transport.h"

#include <stdlib.h>
#include <string.h>

static void require(bool kept)
{
    if (!kept)
        abort();
}

static void require_clean(const char *text, size_t size)
{
    char copy[sizeof((struct facts *)0)->home];
    require(size <= sizeof copy && memchr(text, '\0', size));
    memcpy(copy, text, size);
    text_clean(copy);
    require(strcmp(copy, text) == 0);
}

/* The same bytes as the words of a guard: they become the lease, or change nothing. */
static void try_words(const uint8_t *data, size_t size)
{
    struct facts f, before;
    char words[256];
    size_t len = size < sizeof words - 1 ? size : sizeof words - 1;
    memcpy(words, data, len);
    words[len] = '\0';
    memset(&f, 'x', sizeof f);
    before = f;
    if (facts_set_lease(&f, words, NULL) != 0) {
        require(memcmp(&f, &before, sizeof f) == 0);
        return;
    }
    require(f.lease_count == 1 && f.lease_cores >= 1 && f.lease_cores <= FACTS_CORES_MAX &&
            f.lease_mem <= INT64_MAX);
    require_clean(f.lease_holder, sizeof f.lease_holder);
    require(f.lease_holder[0] && f.cores == before.cores);
}

/* The answer as it comes, in pieces of a length that its first byte says: all of it is kept, and its end is seen as soon as
 * it is there. */
static void collect(const char *text, size_t size)
{
    struct transport t = {0};
    size_t piece = 1 + (size ? (unsigned char)text[0] : 0), at = 0;
    bool complete = false;
    while (at < size && !complete) {
        size_t len = size - at < piece ? size - at : piece;
        int result = transport_collect(&t, text + at, len, "cloudplan-end N", &complete);
        require((result == 0) == (at + len <= FACTS_ANSWER_MAX));
        if (result) {
            require(t.state == NODE_FAILED && t.err.status == STATUS_DATA && t.answer_len == at);
            break;
        }
        at += len;
        require(t.answer_len == at && memcmp(t.answer, text, at) == 0 && t.answer[at] == '\0');
    }
    const char *end = memmem(text, at, "\ncloudplan-end N\n", 17);
    require(!end || complete);
    require(!complete || memmem(text, at, "cloudplan-end N", 15));
    free(t.answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct facts f;
    struct error err = ERROR_INIT;
    try_words(data, size);
    collect((const char *)data, size);
    if (facts_parse(&f, (const char *)data, size, "N", &err) != 0) {
        require(err.status == STATUS_DATA);
        require_clean(err.text, sizeof err.text);
        require(strcmp(err.text, "no answer") == 0 || strncmp(err.text, "answer malformed: ", 18) == 0);
        return 0;
    }
    require(err.status == 0);
    require(f.cores >= 1 && f.cores <= f.cores_online && f.cores_online <= FACTS_CORES_MAX);
    require(f.mem_available <= f.mem_machine && f.mem_machine <= f.mem_total);
    require(f.mem_total >= 1 && f.mem_total <= INT64_MAX);
    require(f.disk_free <= INT64_MAX || f.disk_free == UINT64_MAX);
    require(f.load1 == -1 || (f.load1 >= 0 && f.load1 < 1e19));
    require(f.target == TARGET_ABSENT || f.target == TARGET_OURS || f.target == TARGET_UNMARKED ||
            f.target == TARGET_HOMELESS || f.target == TARGET_NOWHERE || f.target == TARGET_FOREIGN);
    require(f.os[0] != '\0');
    require(f.python_count <= FACTS_PYTHONS_MAX && f.missing_python < FACTS_PYTHONS_MAX);
    for (uint32_t i = 0; i < FACTS_PYTHONS_MAX; i++) {
        require_clean(f.pythons[i], sizeof f.pythons[i]);
        require(i + 1 < f.python_count || !f.pythons[i][0] == (i >= f.python_count));
    }
    require(!f.python[0] == !f.pythons[0][0]);
#define CLEAN(member) require_clean(f.member, sizeof f.member)
    CLEAN(boot_id);
    CLEAN(login_id);
    CLEAN(os);
    CLEAN(release);
    CLEAN(arch);
    CLEAN(home);
    CLEAN(python);
    CLEAN(python_path);
    CLEAN(rsync);
    CLEAN(missing);
    CLEAN(lease_holder);
    require(!f.lease_count == !f.lease_holder[0] && f.lease_count <= f.lease_cores &&
            f.lease_mem <= INT64_MAX);
    require(f.lease_cores <= UINT64_C(65536) * f.lease_count);
    return 0;
}
