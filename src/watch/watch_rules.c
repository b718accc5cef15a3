/* Which paths count.
 *
 * rsync's patterns are matched as rsync does it, and not with fnmatch(3), which knows no "**": a change in what is
 * not copied must not start a run, or a run that writes there would start the next one.
 */
#include "watch/watch_rules.h"

#include "copy/rsync_cmd.h"

#include <stdio.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

/* vim, Emacs and its flycheck, Kate, JetBrains: files that come while a file is merely open or being typed in, and next
 * to a save; "4913" is vim's trial whether it can write. */
static const char *const editors[] = {
    ".*.sw[a-px]", "*~",          "4913",  ".#*",           "#*#",           "flycheck_*",
    ".flycheck_*", ".*.kate-swp", ".idea", "*___jb_tmp___", "*___jb_old___",
};

static const char *const sources[] = {".py", ".pyi", ".pyx", ".pxd", ".ini", ".cfg", ".toml"};

/* A character of a bracket expression, "\" taken for an escape. */
static unsigned char literal(const char **p)
{
    if (**p == '\\' && (*p)[1])
        (*p)++;
    return (unsigned char)*(*p)++;
}

/* p is after the "["; the place after the "]", or NULL where there is none. */
static const char *bracket(const char *p, unsigned char c, bool *in)
{
    bool inverted = *p == '!' || *p == '^';
    *in = false;
    p += inverted;
    do {
        char name[16];
        int end = 0;
        if (!*p)
            return NULL;
        if (sscanf(p, "[:%15[a-z]:]%n", name, &end) == 1 && end > 0) {
            *in |= iswctype(btowc(c), wctype(name)) != 0;
            p += end;
            continue;
        }
        unsigned char low = literal(&p), high = low;
        if (*p == '-' && p[1] && p[1] != ']') {
            p++;
            high = literal(&p);
        }
        *in |= low <= c && c <= high;
    } while (*p != ']');
    *in = *in != inverted && c != '/';
    return p + 1;
}

/* NO_MORE and NO_SLASH spare the outer stars the tries that cannot do better, so that no pattern takes exponential time. */
enum match { NO, YES, NO_MORE /* the text is too short */, NO_SLASH /* "*" met a "/" */ };

static enum match wild(const char *p, const char *text)
{
    for (; *p; text++) {
        if (*p == '*') {
            bool slashes = p[1] == '*';
            p += strspn(p, "*");
            for (;; text++) {
                enum match match = wild(p, text);
                if (match == YES || match == NO_MORE || (match == NO_SLASH && !slashes))
                    return match;
                if (!*text)
                    return NO_MORE;
                if (*text == '/' && !slashes)
                    return NO_SLASH;
            }
        }
        if (!*text)
            return NO_MORE;
        if (*p == '[') {
            bool in;
            p = bracket(p + 1, (unsigned char)*text, &in);
            if (!p)
                return NO_MORE;
            if (!in)
                return NO;
        } else if (*p == '?') {
            if (*text == '/')
                return NO;
            p++;
        } else if (literal(&p) != (unsigned char)*text) {
            return NO;
        }
    }
    return *text ? NO : YES;
}

/* A pattern without a wildcard is plain text, where "\" is no escape. */
static bool matches(const char *pattern, const char *text)
{
    return strpbrk(pattern, "*?[") ? wild(pattern, text) == YES : !strcmp(pattern, text);
}

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len >= n && !strcmp(text + len - n, end);
}

bool rsync_pattern_matches(const char *pattern, const char *path, bool directory)
{
    char rule[PATH_MAX], text[PATH_MAX + 2];
    size_t len = strlen(pattern);
    if (len >= sizeof rule || strlen(path) >= PATH_MAX)
        return false;
    memcpy(rule, pattern, len + 1);
    if (len > 1 && rule[len - 1] == '/') {
        if (!directory)
            return false;
        rule[--len] = '\0';
    }
    /* "dir/" and three stars is the directory itself, too. */
    snprintf(text, sizeof text, "/%s%s", path, directory && ends_in(rule, "/***") ? "/" : "");
    if (*rule == '/' || !strncmp(rule, "**", 2))
        return matches(rule, text);
    for (const char *slash = text; slash; slash = strchr(slash + 1, '/'))
        if (matches(rule, slash + 1))
            return true;
    return false;
}

bool watch_ignored(const char *const *ignores, const char *path, bool directory)
{
    for (size_t i = 0; ignores && ignores[i]; i++)
        if (*ignores[i] && rsync_pattern_matches(ignores[i], path, directory))
            return true;
    for (size_t i = 0; rsync_left_out[i]; i++)
        if (rsync_pattern_matches(rsync_left_out[i], path, directory))
            return true;
    for (size_t i = 0; i < sizeof editors / sizeof *editors; i++)
        if (rsync_pattern_matches(editors[i], path, directory))
            return true;
    return false;
}

bool watch_is_source(const char *path)
{
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (ends_in(path, sources[i]))
            return true;
    return false;
}

void watch_note(struct watch_seen *seen, const char *path)
{
    if (seen->count++ == 0 || (!watch_is_source(seen->path) && watch_is_source(path)))
        snprintf(seen->path, sizeof seen->path, "%s", path);
}
