/* What all transports share: collecting an answer that may be anything, of any length. */
#include "probe/transport.h"

#include <stdlib.h>
#include <string.h>

/* True if the line end stands, as a whole line, at or after from. */
static bool has_line(const char *text, size_t len, size_t from, const char *end)
{
    size_t end_len = strlen(end);
    const char *p = text + from;
    while ((p = memmem(p, (size_t)(text + len - p), end, end_len))) {
        const char *after = p + end_len;
        bool starts = p == text || p[-1] == '\n';
        bool ends = after < text + len && (*after == '\n' || *after == '\r');
        if (starts && ends)
            return true;
        p++;
    }
    return false;
}

int transport_collect(struct transport *t, const char *data, size_t len, const char *end, bool *complete)
{
    if (len > FACTS_ANSWER_MAX - t->answer_len) {
        t->state = NODE_FAILED;
        return error_set(&t->err, STATUS_DATA, "answer malformed: more than %d KiB", FACTS_ANSWER_MAX / 1024);
    }
    char *grown = realloc(t->answer, t->answer_len + len + 1);
    if (!grown) {
        t->state = NODE_FAILED;
        return error_errno(&t->err, "answer");
    }
    t->answer = grown;
    memcpy(grown + t->answer_len, data, len);
    /* The end line may have begun in what came before. */
    size_t before = t->answer_len > strlen(end) + 1 ? t->answer_len - strlen(end) - 1 : 0;
    t->answer_len += len;
    grown[t->answer_len] = '\0';
    *complete = has_line(grown, t->answer_len, before, end);
    return 0;
}
