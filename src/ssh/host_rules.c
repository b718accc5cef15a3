/* The Host lines of ssh_config.
 *
 * Decided here: the configuration is read for its Host lines alone and only to save work, so
 * whatever is not plainly understood makes it unusable and costs an `ssh -G` for each node,
 * never a wrong answer.  A line that ssh itself refuses is passed over: ssh then fails for
 * every host alike.
 *
 * Host lines in a file that is included inside a Host block count as if they stood outside.  Whether such a
 * line is in force is "it matches, and so does every block around it": a function of which lines match. Nodes
 * that match the same lines are thus under the same lines in force; at worst a class is split for nothing.
 *
 * Names are compared as readconf.c's Host does: as typed, case and all, one pattern an argument (no
 * commas), the first negated one that matches ending it.  ssh reads the configuration a second time with the
 * resulting host name where there is a Match final; for a plain name without HostName that is the name as
 * typed.
 */
#include "ssh/host_rules.h"

#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLANKS " \t\r\n"
#define DEPTH_MAX 16 /* readconf.c's */
#define FILES_MAX 1000
#define BYTES_MAX (4U << 20)
#define LINES_MAX 4096

/* Arguments of a line, in one allocation. */
struct words {
    size_t count;
    char **word;
};

struct host_rules {
    struct words **lines; /* one for each Host line */
    size_t count, allocated;
    bool unusable;
};

struct reader {
    struct host_rules *rules;
    const char *dir; /* for relative Includes; NULL: none is followed */
    size_t files, bytes;
};

static int read_file(struct reader *r, const char *path, unsigned depth, struct error *err);

/* Splits as misc.c's argv_split(): blanks, both quotes, a few escapes, a comment ends it.  NULL without
 * memory; unbalanced quotes make no word at all. */
static struct words *words_split(const char *s)
{
    size_t len = strlen(s), max = len / 2 + 1;
    struct words *words = malloc(sizeof *words + max * sizeof *words->word + len + 1);
    if (!words)
        return NULL;
    words->count = 0;
    words->word = (char **)(words + 1);
    char *out = (char *)(words->word + max);
    while (*(s += strspn(s, " \t")) && *s != '#') {
        char quote = '\0';
        words->word[words->count++] = out;
        for (; *s && (quote || (*s != ' ' && *s != '\t')); s++) {
            if (*s == '\\' && s[1] && (strchr("'\"\\", s[1]) || (!quote && s[1] == ' ')))
                *out++ = *++s;
            else if (!quote && (*s == '"' || *s == '\''))
                quote = *s;
            else if (quote && *s == quote)
                quote = '\0';
            else
                *out++ = *s;
        }
        if (quote) {
            words->count = 0;
            return words;
        }
        if (*s)
            s++;
        *out++ = '\0';
    }
    return words;
}

/* Takes words over, even on failure. */
static int add_host_line(struct host_rules *rules, struct words *words, struct error *err)
{
    if (rules->count == LINES_MAX) {
        rules->unusable = true;
        free(words);
        return 0;
    }
    if (rules->count == rules->allocated) {
        size_t n = rules->allocated ? rules->allocated * 2 : 16;
        struct words **lines = realloc(rules->lines, n * sizeof *lines);
        if (!lines) {
            error_errno(err, "ssh_config");
            free(words);
            return -1;
        }
        rules->lines = lines;
        rules->allocated = n;
    }
    rules->lines[rules->count++] = words;
    return 0;
}

static int include(struct reader *r, const char *pattern, unsigned depth, struct error *err)
{
    /* OpenSSH 10 expands tokens here. */
    if (!r->dir || strchr(pattern, '%') || strstr(pattern, "${")) {
        r->rules->unusable = true;
        return 0;
    }
    size_t size = strlen(r->dir) + strlen(pattern) + 2;
    char *path = malloc(size);
    if (!path)
        return error_errno(err, "ssh_config");
    bool anchored = pattern[0] == '/' || pattern[0] == '~';
    strcpy(path, anchored ? "" : r->dir);
    strcat(path, anchored ? "" : "/");
    strcat(path, pattern);
    /* As in ssh "~" is $HOME here, though the user's ssh_config itself is in the passwd entry's home. */
    glob_t found;
    int failure = glob(path, GLOB_TILDE, NULL, &found), result = 0;
    free(path);
    if (failure) {
        r->rules->unusable |= failure != GLOB_NOMATCH;
        return 0;
    }
    for (size_t i = 0; i < found.gl_pathc && !result && !r->rules->unusable; i++)
        result = read_file(r, found.gl_pathv[i], depth + 1, err);
    globfree(&found);
    return result;
}

/* Whether every word is one of the given ones; a leading '!' counts for nothing. */
static bool only(const struct words *words, const char *const *allowed)
{
    for (size_t i = 0; i < words->count; i++) {
        const char *word = words->word[i] + (words->word[i][0] == '!');
        size_t k = 0;
        while (allowed[k] && strcasecmp(word, allowed[k]))
            k++;
        if (!allowed[k])
            return false;
    }
    return true;
}

static int take_line(struct reader *r, char *line, unsigned depth, struct error *err)
{
    static const struct restricted {
        const char *keyword;
        const char *const allowed[4];
    } restricted[] = {
        {"match", {"all", "final", "canonical", NULL}},
        {"canonicalizehostname", {"no", "false", NULL}},
        {"canonicalizepermittedcnames", {"none", NULL}},
    };
    for (size_t len = strlen(line); len && strchr(BLANKS "\f", line[len - 1]); len--)
        line[len - 1] = '\0';
    char *keyword = line + strspn(line, BLANKS);
    if (!*keyword || *keyword == '#')
        return 0;
    size_t len = strspn(keyword, TEXT_ALNUM);
    char *rest = keyword + len;
    if (len == 0 || (*rest && !strchr(BLANKS "=", *rest))) {
        /* ssh may see a keyword where there seems to be none: `"Host" x`, `=Host x`. */
        r->rules->unusable = true;
        return 0;
    }
    rest += strspn(rest, BLANKS);
    rest += *rest == '=';
    rest += strspn(rest, BLANKS);
    keyword[len] = '\0';

    struct words *words = words_split(rest);
    if (!words)
        return error_errno(err, "ssh_config");
    if (!strcasecmp(keyword, "host"))
        return add_host_line(r->rules, words, err);
    int result = 0;
    if (!strcasecmp(keyword, "include"))
        for (size_t i = 0; i < words->count && !result && !r->rules->unusable; i++)
            result = include(r, words->word[i], depth, err);
    for (size_t i = 0; i < sizeof restricted / sizeof *restricted; i++)
        if (!strcasecmp(keyword, restricted[i].keyword) && !only(words, restricted[i].allowed))
            r->rules->unusable = true;
    free(words);
    return result;
}

/* text is writable, has len bytes and a NUL after them. */
static int take_text(struct reader *r, char *text, size_t len, unsigned depth, struct error *err)
{
    if (strlen(text) != len)
        r->rules->unusable = true;
    char *line;
    int result = 0;
    while (!result && !r->rules->unusable && (line = strsep(&text, "\n")))
        result = take_line(r, line, depth, err);
    return result;
}

/* The text of a regular file, NUL-terminated; NULL: there is none, or it cannot be had. */
static int slurp(struct reader *r, const char *path, char **text, size_t *len, struct error *err)
{
    struct stat st;
    *len = 0;
    if (!(*text = file_text(path, BYTES_MAX - r->bytes, len, &st))) {
        /* ssh takes an absent file for an empty one; of one that it may read and we not we know nothing. */
        if (errno == ENOMEM)
            return error_errno(err, path);
        r->rules->unusable |= errno != ENOENT && errno != ENOTDIR;
        return 0;
    }
    /* A file that changes. */
    r->rules->unusable |= *len != (size_t)st.st_size;
    r->bytes += *len;
    return 0;
}

static int read_file(struct reader *r, const char *path, unsigned depth, struct error *err)
{
    char *text;
    size_t len;
    if (depth > DEPTH_MAX || ++r->files > FILES_MAX) {
        r->rules->unusable = true;
        return 0;
    }
    int result = slurp(r, path, &text, &len, err);
    if (text)
        result = take_text(r, text, len, depth, err);
    free(text);
    return result;
}

struct host_rules *host_rules_read(const struct host_rules_paths *paths, struct error *err)
{
    struct host_rules *rules = calloc(1, sizeof *rules);
    if (!rules) {
        error_errno(err, "ssh_config");
        return NULL;
    }
    struct reader r = {.rules = rules, .dir = paths->user_dir};
    int failed = read_file(&r, paths->user, 0, err);
    r.dir = paths->system_dir;
    if (!failed)
        failed = read_file(&r, paths->system, 0, err);
    if (failed) {
        host_rules_destroy(rules);
        return NULL;
    }
    return rules;
}

struct host_rules *host_rules_parse(const char *text, size_t len, struct error *err)
{
    struct host_rules *rules = calloc(1, sizeof *rules);
    char *copy = malloc(len + 1);
    struct reader r = {.rules = rules};
    int failed = rules && copy ? 0 : error_errno(err, "ssh_config");
    if (!failed) {
        memcpy(copy, text, len);
        copy[len] = '\0';
        failed = take_text(&r, copy, len, 0, err);
    }
    free(copy);
    if (failed) {
        host_rules_destroy(rules);
        return NULL;
    }
    return rules;
}

void host_rules_destroy(struct host_rules *rules)
{
    int saved = errno;
    if (rules) {
        for (size_t i = 0; i < rules->count; i++)
            free(rules->lines[i]);
        free(rules->lines);
        free(rules);
    }
    errno = saved;
}

bool host_rules_usable(const struct host_rules *rules)
{
    return !rules->unusable;
}

size_t host_rules_count(const struct host_rules *rules)
{
    return rules->count;
}

/* '*' and '?' as in match.c, without its exponential time: only the last '*' is ever gone back to. */
static bool pattern_match(const char *s, const char *pattern)
{
    const char *star = NULL, *from = NULL;
    while (*s) {
        if (*pattern == '*') {
            star = ++pattern;
            from = s;
        } else if (*pattern && (*pattern == '?' || *pattern == *s)) {
            pattern++;
            s++;
        } else if (star) {
            pattern = star;
            s = ++from;
        } else {
            return false;
        }
    }
    return !pattern[strspn(pattern, "*")];
}

bool host_rules_match(const struct host_rules *rules, size_t i, const char *host)
{
    const struct words *patterns = rules->lines[i];
    bool matched = false;
    for (size_t k = 0; k < patterns->count; k++) {
        const char *pattern = patterns->word[k];
        bool negated = *pattern == '!';
        if (pattern_match(host, pattern + negated)) {
            if (negated)
                return false;
            matched = true;
        }
    }
    return matched;
}
