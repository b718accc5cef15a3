/* rsync's and GNU parallel's words as hostile bytes: what is read from them is in range and clean. */
#include "copy/syncout.h"

#include <stdlib.h>
#include <string.h>

#define JOBS 8

static void require(bool kept)
{
    if (!kept)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    uint64_t bytes = 1;
    unsigned percent = 101;
    if (rsync_progress(text, size, &bytes, &percent))
        require(percent <= 100);
    else
        require(bytes == 1 && percent == 101);

    int status[JOBS];
    joblog_read(text, size, status, JOBS);
    for (size_t i = 0; i < JOBS; i++)
        require(status[i] >= -1 && status[i] <= 255);

    char words[ERROR_TEXT_MAX], copy[ERROR_TEXT_MAX];
    memset(words, 'x', sizeof words);
    rsync_words(text, size, words);
    require(memchr(words, '\0', sizeof words) && !strchr(words, '\n'));
    strcpy(copy, words);
    text_clean(copy);
    require(strcmp(copy, words) == 0);

    char name[40] = "";
    size_t differences = rsync_differences(text, size, name, sizeof name);
    require(differences <= size && memchr(name, '\0', sizeof name) && !strchr(name, '\n'));
    require(differences > 0 || !*name);

    char *line = strndup(text, size);
    require(line != NULL);
    rsync_total_size(line, &bytes);
    free(line);
    return 0;
}
