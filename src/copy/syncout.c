/* Strict readers: a line that is not exactly of the form is passed over. */
#include "copy/syncout.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

static void pass_blanks(const char **p, const char *end)
{
    while (*p < end && **p == ' ')
        (*p)++;
}

static bool progress_record(const char *p, const char *end, uint64_t *bytes, unsigned *percent)
{
    uint64_t b, pct;
    pass_blanks(&p, end);
    if (!text_digits(&p, end, &b) || p == end || *p != ' ')
        return false;
    pass_blanks(&p, end);
    if (!text_digits(&p, end, &pct) || p == end || *p != '%' || pct > 100)
        return false;
    *bytes = b;
    *percent = (unsigned)pct;
    return true;
}

bool rsync_progress(const char *text, size_t len, uint64_t *bytes, unsigned *percent)
{
    const char *end = text + len;
    /* Backwards: the last record that is one; the final one may still be in the making, but its
     * first two fields are what counts and a cut number ends in no blank or '%'. */
    while (end > text) {
        const char *start = end;
        while (start > text && start[-1] != '\r' && start[-1] != '\n')
            start--;
        if (progress_record(start, end, bytes, percent))
            return true;
        end = start > text ? start - 1 : text;
    }
    return false;
}

/* The nth (0...) tab-separated field of a line as a number. */
static bool field(const char *line, const char *end, unsigned nth, uint64_t *value)
{
    for (; nth; nth--) {
        line = memchr(line, '\t', (size_t)(end - line));
        if (!line)
            return false;
        line++;
    }
    return text_digits(&line, end, value) && line < end && *line == '\t';
}

/* Takes the next complete record off *text; false at the end. */
static bool next_job(const char **text, const char *end, uint64_t *seq, int *status)
{
    const char *eol;
    while ((eol = memchr(*text, '\n', (size_t)(end - *text)))) {
        const char *line = *text;
        uint64_t exitval, sig;
        *text = eol + 1;
        if (field(line, eol, 0, seq) && field(line, eol, 6, &exitval) && exitval <= 255 &&
            field(line, eol, 7, &sig) && sig <= 64) {
            *status = sig ? STATUS_SIGNAL + (int)sig : (int)exitval;
            return true;
        }
    }
    return false; /* the last line may still be in the making */
}

void joblog_read(const char *text, size_t len, int *status, size_t count)
{
    int one;
    uint64_t n;
    for (size_t i = 0; i < count; i++)
        status[i] = -1;
    for (const char *end = text + len; next_job(&text, end, &n, &one);)
        if (n >= 1 && n <= count)
            status[n - 1] = one;
}

void rsync_words(const char *text, size_t len, char words[ERROR_TEXT_MAX])
{
    const char *best = NULL;
    size_t best_len = 0;
    int best_rank = -1;
    for (const char *line = text, *end = text + len; line < end;) {
        const char *eol = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((eol ? eol : end) - line);
        /* rsync's own reason; any other line (ssh's, a shell's); rsync's summary of an exit status. */
        int rank = n == 0                                        ? -1
                   : n > 7 && !memcmp(line, "rsync: ", 7)        ? 2
                   : n > 12 && !memcmp(line, "rsync error:", 12) ? 0
                                                                 : 1;
        if (rank == 2 && n > 24 && memmem(line, n, "connection unexpectedly closed", 30))
            rank = 0;
        if (rank > best_rank) {
            best = line;
            best_len = n;
            best_rank = rank;
        }
        if (!eol)
            break;
        line = eol + 1;
    }
    snprintf(words, ERROR_TEXT_MAX, "%.*s", (int)(best_len < 300 ? best_len : 300), best ? best : "");
    text_clean(words);
    for (size_t n = strlen(words); n && (words[n - 1] == ' ' || words[n - 1] == '?'); n--)
        words[n - 1] = '\0';
}

/* One part of a path. */
static bool is_cache_part(const char *part, size_t len)
{
    static const char *const names[] = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"};
    static const char *const ends[] = {".pyc", ".pyo", ".egg-info", ".egg-link"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (len == strlen(names[i]) && !memcmp(part, names[i], len))
            return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (len > strlen(ends[i]) && !memcmp(part + len - strlen(ends[i]), ends[i], strlen(ends[i])))
            return true;
    return false;
}

bool rsync_is_cache(const char *name, size_t len)
{
    for (const char *part = name, *end = name + len, *slash; part < end; part = slash + 1) {
        slash = memchr(part, '/', (size_t)(end - part));
        if (!slash)
            slash = end;
        if (is_cache_part(part, (size_t)(slash - part)))
            return true;
    }
    return false;
}

static void add_name(char list[RSYNC_DELETIONS_MAX], const char *name, size_t len)
{
    size_t used = strlen(list);
    if (used + sizeof ", x" < RSYNC_DELETIONS_MAX)
        snprintf(list + used, RSYNC_DELETIONS_MAX - used, "%s%.*s", used ? ", " : "",
                 (int)(len < RSYNC_DELETIONS_MAX ? len : RSYNC_DELETIONS_MAX), name);
}

size_t rsync_deletions(const char *text, size_t len, char list[RSYNC_DELETIONS_MAX])
{
    static const char key[] = "deleting ";
    const size_t key_len = sizeof key - 1;
    const char *former = NULL; /* the one before, where it is of no account */
    size_t count = 0, former_len = 0;
    *list = '\0';
    for (const char *line = text, *stop = text + len, *end; line < stop; line = end + 1) {
        end = memchr(line, '\n', (size_t)(stop - line));
        if (!end)
            end = stop;
        if ((size_t)(end - line) <= key_len || memcmp(line, key, key_len))
            continue;
        const char *name = line + key_len;
        size_t n = (size_t)(end - name);
        bool emptied = name[n - 1] == '/' && former && former_len > n && !memcmp(former, name, n);
        if (emptied || rsync_is_cache(name, n)) {
            former = name;
            former_len = n;
            continue;
        }
        former = NULL;
        count++;
        add_name(list, name, n);
    }
    text_clean(list);
    return count;
}

bool rsync_total_size(const char *text, uint64_t *bytes)
{
    static const char key[] = "Total file size: ";
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, sizeof key - 1))
            continue;
        const char *p = line + sizeof key - 1, *end = p + strcspn(p, "\n");
        uint64_t size;
        if (text_digits(&p, end, &size) && (size_t)(end - p) == strlen(" bytes") &&
            !strncmp(p, " bytes", 6)) {
            *bytes = size;
            return true;
        }
    }
    return false;
}

enum rsync_verdict rsync_verdict(int status)
{
    switch (status) {
    case 0:
    case 24: /* a source file vanished while it was looked at: the tree here changed, too */
        return RSYNC_OK;
    case 10:  /* socket I/O */
    case 12:  /* protocol data stream: the connection broke */
    case 255: /* ssh's own */
        return RSYNC_RETRY;
    default: /* 30, a minute of silence, too: a connection that is lost ends sooner by ssh's keep-alives; what hangs is the node's disk */
        return RSYNC_FAILED;
    }
}

size_t rsync_differences(const char *text, size_t len, char *name, size_t size)
{
    size_t count = 0;
    for (const char *line = text, *stop = text + len, *end; line < stop; line = end + 1) {
        end = memchr(line, '\n', (size_t)(stop - line));
        if (!end)
            end = stop;
        if (end == line)
            continue;
        const char *blank = memchr(line, ' ', (size_t)(end - line)), *from = blank ? blank : line;
        while (from < end && *from == ' ')
            from++;
        /* That the root's own time differs tells less than anything in it. */
        if (count++ == 0 || !strcmp(name, "./")) {
            snprintf(name, size, "%.*s", (int)(end - from < (long)size ? end - from : (long)size - 1), from);
            text_clean(name);
        }
    }
    return count;
}
