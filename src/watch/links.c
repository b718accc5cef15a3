/* One look through the tree.  Only directories and links are matched with the patterns of what is not copied: a file costs its entry in
 * the directory and nothing else. */
#include "watch/links.h"

#include "base/path.h"
#include "base/strv.h"
#include "copy/rsync_cmd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct look {
    const struct watch_tree *tree;
    char **todo; /* directories, relative to the copy */
    size_t count, entries;
    struct links *links;
};

/* One directory: its place in the copy and its place here. */
struct place {
    const char *path;
    char here[PATH_MAX];
    int fd;
};

/* dir/target without "." and ".."; both as text.  False where that leads above "" or "/", or is too long. */
static bool resolve(char out[PATH_MAX], const char *dir, const char *target)
{
    char text[2 * PATH_MAX];
    size_t len = 0, first = *dir == '/' || *target == '/';
    snprintf(text, sizeof text, "%s/%s", *target == '/' ? "" : dir, target);
    if (first)
        out[len++] = '/';
    for (char *part = text; *part; part += *part == '/') {
        size_t n = strcspn(part, "/");
        if (n == 2 && !strncmp(part, "..", 2)) {
            if (len == first)
                return first; /* "/.." is "/" */
            while (len > first && out[len - 1] != '/')
                len--;
            len -= len > first;
        } else if (n && !(n == 1 && *part == '.')) {
            if (len + n + 2 > PATH_MAX)
                return false;
            if (len > first)
                out[len++] = '/';
            memcpy(out + len, part, n);
            len += n;
        }
        part += n;
    }
    out[len] = '\0';
    return true;
}

/* The place in the copy of an absolute path, which is that path's own end; NULL: it has none. */
static const char *copied(const struct watch_tree *tree, const char *path)
{
    const char *place = path_below(tree->root, path), *dir;
    for (size_t i = 0; !place && (dir = watch_outside(tree, &i));)
        if (path_below(dir, path))
            place = path + (rsync_place(tree->root, dir) - dir);
    bool whole = !tree->part;
    for (size_t i = 0; place && !whole && tree->dirs[i]; i++) {
        const char *part = rsync_place(tree->root, tree->dirs[i]);
        whole = *part == '\0' || path_below(part, place) || path_below(place, part) || !*place;
    }
    return whole ? place : NULL;
}

bool links_copied(const struct watch_tree *tree, const char *path)
{
    char plain[PATH_MAX];
    return resolve(plain, "/", path) && copied(tree, plain);
}

static bool is_anywhere(const char *target)
{
    static const char *const everywhere[] = {"/dev", "/proc", "/sys"};
    for (size_t i = 0; i < sizeof everywhere / sizeof *everywhere; i++)
        if (path_below(everywhere[i], target))
            return true;
    return false;
}

/* Whether the link leads to a directory that holds it: what copies its target copies that without end. */
static bool is_endless(const struct place *dir, const char *name)
{
    char path[PATH_MAX], real[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", dir->here, name) < PATH_MAX && realpath(path, real) &&
           path_below(real, dir->here);
}

static void judge_link(struct look *look, const struct place *dir, const char *name, const char *inside)
{
    struct links *links = look->links;
    char target[PATH_MAX], here[PATH_MAX], there[PATH_MAX];
    ssize_t len = readlinkat(dir->fd, name, target, sizeof target - 1);
    if (len <= 0)
        return;
    target[len] = '\0';
    bool absolute = *target == '/';
    const char *place = resolve(here, dir->here, target) ? copied(look->tree, here) : NULL;
    if (place && !absolute && resolve(there, dir->path, target) && !strcmp(place, there))
        return;
    if (is_anywhere(target) || faccessat(dir->fd, name, F_OK, 0))
        return;
    if (!*links->endless && is_endless(dir, name))
        snprintf(links->endless, sizeof links->endless, "%s", inside);
    if (place && absolute) {
        links->absolute = true;
        return;
    }
    size_t used = strlen(links->shown);
    if (links->out++ < LINKS_SHOWN)
        snprintf(links->shown + used, sizeof links->shown - used, "%s%.90s -> %.90s", used ? ", " : "",
                 inside, target);
}

static bool is_left_out(const struct look *look, const struct place *dir, const char *name,
                        const char *inside, bool directory)
{
    if (directory && (!strcmp(name, "node_modules") ||
                      (!strcmp(name, "bin") && faccessat(dir->fd, "pyvenv.cfg", F_OK, 0) == 0)))
        return true;
    return !watch_wanted(look->tree, inside, directory);
}

/* Whether it is neither file nor anything else that cannot matter here. */
static bool matters(int fd, const struct dirent *entry, bool *directory)
{
    struct stat st;
    *directory = entry->d_type == DT_DIR;
    if (entry->d_type != DT_UNKNOWN)
        return *directory || entry->d_type == DT_LNK;
    if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
        return false;
    *directory = S_ISDIR(st.st_mode);
    return *directory || S_ISLNK(st.st_mode);
}

static int look_into(struct look *look, const struct place *dir, DIR *stream, struct error *err)
{
    for (struct dirent *found; look->entries < LINKS_LOOKED_AT && (found = readdir(stream));) {
        char inside[PATH_MAX];
        const char *name = found->d_name;
        bool directory;
        look->entries++;
        if (!strcmp(name, ".") || !strcmp(name, "..") || !matters(dir->fd, found, &directory) ||
            snprintf(inside, sizeof inside, "%s%s%s", dir->path, *dir->path ? "/" : "", name) >= PATH_MAX ||
            is_left_out(look, dir, name, inside, directory))
            continue;
        if (!directory)
            judge_link(look, dir, name, inside);
        else if (strings_add(&look->todo, inside, err))
            return -1;
    }
    return 0;
}

static int look_at(struct look *look, const char *path, struct error *err)
{
    struct place dir = {.path = path};
    if (!watch_place(dir.here, look->tree, path))
        return 0;
    dir.fd = open(dir.here, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    DIR *stream = dir.fd < 0 ? NULL : fdopendir(dir.fd);
    int result = !stream && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
                     ? error_errno(err, dir.here)
                 : stream ? look_into(look, &dir, stream, err)
                          : 0;
    if (stream)
        closedir(stream);
    else if (dir.fd >= 0)
        close(dir.fd);
    return result;
}

int links_find(const struct watch_tree *tree, struct links *links, struct error *err)
{
    struct look look = {.tree = tree, .links = links};
    *links = (struct links){0};
    int result = strings_add(&look.todo, "", err);
    /* Others are found on the way. */
    for (size_t i = 0; result == 0 && tree->dirs && tree->dirs[i]; i++) {
        const char *place = rsync_place(tree->root, tree->dirs[i]);
        if (!path_below(tree->root, tree->dirs[i]) || rsync_is_left_out(place))
            result = strings_add(&look.todo, place, err);
    }
    while (result == 0 && look.todo && look.todo[0]) {
        size_t last = strings_count(look.todo) - 1;
        char *path = look.todo[last];
        look.todo[last] = NULL;
        result = look_at(&look, path, err);
        free(path);
    }
    if (look.entries >= LINKS_LOOKED_AT)
        links->absolute = true;
    strings_free(look.todo);
    return result;
}
