/* The answer of the pytest that was asked, in which the project's own code has a say, as hostile bytes: settings as settings.h
 * promises them, or one line of error. */
#include "engine/pytest/settings.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void require(bool kept)
{
    if (!kept)
        abort();
}

/* Reads each of them to its end. */
static size_t count(char *const *texts)
{
    size_t bytes = 0;
    for (size_t i = 0; texts && texts[i]; i++)
        bytes += strlen(texts[i]);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct settings s = {0};
    struct error err = ERROR_INIT;
    void *document = NULL;
    if (settings_parse(&s, &document, (const char *)data, size, &err) == 0) {
        require(err.status == 0 && s.args && s.modules);
        for (size_t i = 0; i < s.option_count; i++)
            require(s.options[i].name && s.options[i].origin);
        require(count(s.args) + count(s.options_only) + count(s.notes) + count(s.shipped) <= 6 * size);
        require(!strpbrk(s.modules, "\n'\"$`;"));
    } else {
        require(err.status == STATUS_BUG || err.status == STATUS_USAGE || err.status == STATUS_DATA ||
                err.status == STATUS_TOOL);
        require(err.text[0] && !strchr(err.text, '\n'));
    }
    settings_clear(&s);
    json_decref(document);
    return 0;
}
