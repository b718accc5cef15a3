/* The walk and the snapshots.
 *
 * The walk keeps a list of directories still to be read rather than recurse with one descriptor a level: a deep tree must
 * not run out of descriptors, and a directory that vanishes meanwhile is just not there.  Nothing is trusted to what is
 * found (it is only compared), so going by path instead of by descriptor is good enough.
 *
 * A snapshot is sorted by path and compared in one pass.  It holds what rsync looks at (time, size, permissions) and the inode, so
 * that a file put in another's place with the same time and size is seen.  Of a directory, whose times change with
 * every ignored file in it, it holds the inode alone.
 */
#include "watch/watch_tree.h"

#include "copy/rsync_cmd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool watch_join(char buf[PATH_MAX], const char *dir, const char *name)
{
    return snprintf(buf, PATH_MAX, "%s%s%s", dir, *dir && *name ? "/" : "", name) < PATH_MAX;
}

/* path within dir, both relative to one directory: what follows, "" for dir itself; or NULL. */
static const char *below(const char *dir, const char *path)
{
    size_t len = strlen(dir);
    return strncmp(dir, path, len) || (len && path[len] && path[len] != '/') ? NULL : path + len;
}

static bool is_outside(const struct watch_tree *tree, const char *dir)
{
    return !below(tree->root, dir);
}

const char *watch_outside(const struct watch_tree *tree, size_t *i)
{
    while (tree->dirs && tree->dirs[*i]) {
        const char *dir = tree->dirs[(*i)++];
        if (is_outside(tree, dir))
            return dir;
    }
    return NULL;
}

bool watch_place(char buf[PATH_MAX], const struct watch_tree *tree, const char *path)
{
    size_t i = 0;
    for (const char *dir; (dir = watch_outside(tree, &i));) {
        const char *rest = below(rsync_place(tree->root, dir), path);
        if (rest)
            return snprintf(buf, PATH_MAX, "%s%s", dir, rest) < PATH_MAX;
    }
    return watch_join(buf, tree->root, path);
}

bool watch_wanted(const struct watch_tree *tree, const char *path, bool directory)
{
    bool wanted = !tree->part;
    for (size_t i = 0; !wanted && tree->dirs && tree->dirs[i]; i++) {
        const char *place = rsync_place(tree->root, tree->dirs[i]);
        wanted = below(place, path) || (directory && below(path, place));
    }
    return wanted && !watch_ignored(tree->ignores, path, directory);
}

struct walk_entry {
    const char *path; /* relative to the copy */
    int dirfd;        /* the directory that holds it */
    const char *name; /* in that */
    bool directory;   /* no link to one */
};

/* entry: 0 to go on; anything else ends the walk and is its result. */
struct walk_ops {
    watch_enter *enter; /* before a directory is read */
    int (*entry)(void *arg, const struct walk_entry *entry,
                 struct error *err); /* for what is in it, in no order */
};

struct todo {
    char **paths; /* each owned */
    size_t count, capacity;
};

static int todo_add(struct todo *todo, const char *path, struct error *err)
{
    if (todo->count == todo->capacity) {
        size_t capacity = todo->capacity ? todo->capacity * 2 : 64;
        char **paths = realloc(todo->paths, capacity * sizeof *paths);
        if (!paths)
            return error_errno(err, "watching");
        todo->paths = paths;
        todo->capacity = capacity;
    }
    if (!(todo->paths[todo->count] = strdup(path)))
        return error_errno(err, "watching");
    todo->count++;
    return 0;
}

/* Errors that say something of this process rather than of the directory. */
static bool exhausted(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM;
}

static int open_directory(const struct watch_tree *tree, const char *path, DIR **dir, struct error *err)
{
    char whole[PATH_MAX];
    *dir = NULL;
    if (!watch_place(whole, tree, path))
        return 0;
    int fd = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | (*path ? O_NOFOLLOW : 0));
    if (fd >= 0 && !(*dir = fdopendir(fd))) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return !*dir && exhausted(errno) ? error_errno(err, whole) : 0;
}

static bool is_directory(int dirfd, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return !fstatat(dirfd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

static int read_directory(const struct watch_tree *tree, const char *path, DIR *dir, struct todo *todo,
                          const struct walk_ops *ops, void *arg, struct error *err)
{
    int result = 0;
    for (struct dirent *found; result == 0 && (found = readdir(dir));) {
        char inside[PATH_MAX];
        if (!strcmp(found->d_name, ".") || !strcmp(found->d_name, "..") ||
            !watch_join(inside, path, found->d_name))
            continue;
        const struct walk_entry entry = {
            .path = inside,
            .name = found->d_name,
            .dirfd = dirfd(dir),
            .directory = is_directory(dirfd(dir), found),
        };
        if (!watch_wanted(tree, inside, entry.directory))
            continue;
        result = ops->entry(arg, &entry, err);
        if (result == 0 && entry.directory)
            result = todo_add(todo, inside, err);
    }
    return result;
}

/* Through the whole tree; ignored things, and directories that cannot be read, are left out; links are not followed.  One descriptor
 * at a time, however deep the tree.  0, what an op returned, or -1 and *err: STATUS_SYSTEM. */
static int watch_walk(const struct watch_tree *tree, const struct walk_ops *ops, void *arg, struct error *err)
{
    struct todo todo = {0};
    int result = todo_add(&todo, "", err);
    size_t next = 0;
    for (const char *dir; result == 0 && (dir = watch_outside(tree, &next));)
        if (watch_wanted(tree, rsync_place(tree->root, dir), true))
            result = todo_add(&todo, rsync_place(tree->root, dir), err);
    while (result == 0 && todo.count > 0) {
        char *path = todo.paths[--todo.count];
        DIR *dir = NULL;
        ops->enter(arg, path);
        if ((result = open_directory(tree, path, &dir, err)) == 0 && dir)
            result = read_directory(tree, path, dir, &todo, ops, arg, err);
        if (dir)
            closedir(dir);
        free(path);
    }
    for (size_t i = 0; i < todo.count; i++)
        free(todo.paths[i]);
    free(todo.paths);
    return result;
}

struct item {
    size_t at; /* of the path in texts, until that stops moving */
    const char *path;
    int64_t mtime_ns;
    int64_t size;
    uint64_t inode;
    mode_t mode;
};

struct snapshot {
    watch_enter *enter; /* NULL: nobody asked to be told */
    void *enter_arg;
    struct item *items;
    size_t count, capacity;
    char *texts; /* the paths, each NUL-terminated */
    size_t texts_len, texts_capacity;
};

static void enter_directory(void *arg, const char *path)
{
    struct snapshot *s = arg;
    if (s->enter)
        s->enter(s->enter_arg, path);
}

static int take_entry(void *arg, const struct walk_entry *entry, struct error *err)
{
    struct snapshot *s = arg;
    struct stat st;
    /* rsync is not asked for sockets, pipes and devices. */
    if (fstatat(entry->dirfd, entry->name, &st, AT_SYMLINK_NOFOLLOW) ||
        !(S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode)))
        return 0;
    size_t len = strlen(entry->path) + 1;
    if (s->texts_capacity - s->texts_len < len) {
        size_t capacity = (s->texts_capacity + len) * 2;
        char *texts = realloc(s->texts, capacity);
        if (!texts)
            return error_errno(err, "watching");
        s->texts = texts;
        s->texts_capacity = capacity;
    }
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 64;
        struct item *items = realloc(s->items, capacity * sizeof *items);
        if (!items)
            return error_errno(err, "watching");
        s->items = items;
        s->capacity = capacity;
    }
    struct item *item = &s->items[s->count++];
    *item = (struct item){.at = s->texts_len, .inode = st.st_ino, .mode = S_IFDIR};
    if (!S_ISDIR(st.st_mode)) {
        item->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        item->size = st.st_size;
        item->mode = st.st_mode;
    }
    memcpy(s->texts + s->texts_len, entry->path, len);
    s->texts_len += len;
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct item *)a)->path, ((const struct item *)b)->path);
}

struct snapshot *snapshot_make(const struct watch_tree *tree, watch_enter *enter, void *arg,
                               struct error *err)
{
    static const struct walk_ops ops = {enter_directory, take_entry};
    struct snapshot *s = calloc(1, sizeof *s);
    if (!s) {
        error_errno(err, "watching");
        return NULL;
    }
    s->enter = enter;
    s->enter_arg = arg;
    if (watch_walk(tree, &ops, s, err)) {
        snapshot_destroy(s);
        return NULL;
    }
    for (size_t i = 0; i < s->count; i++)
        s->items[i].path = s->texts + s->items[i].at;
    if (s->count)
        qsort(s->items, s->count, sizeof *s->items, by_path);
    return s;
}

void snapshot_destroy(struct snapshot *s)
{
    if (!s)
        return;
    int saved = errno;
    free(s->items);
    free(s->texts);
    free(s);
    errno = saved;
}

static bool same_entry(const struct item *a, const struct item *b)
{
    return a->mtime_ns == b->mtime_ns && a->size == b->size && a->inode == b->inode && a->mode == b->mode;
}

void snapshot_compare(const struct snapshot *old, const struct snapshot *new, bool sources_only,
                      struct watch_seen *seen)
{
    /* Without items there is no array, and no arithmetic on it. */
    const struct item *a = old->items, *a_end = old->count ? a + old->count : a;
    const struct item *b = new->items, *b_end = new->count ? b + new->count : b;
    while (a < a_end || b < b_end) {
        int order = a == a_end ? 1 : b == b_end ? -1 : by_path(a, b);
        const struct item *item = order <= 0 ? a : b;
        bool counts = !sources_only || (watch_is_source(item->path) && !S_ISDIR(item->mode));
        if (counts && (order || !same_entry(a, b)))
            watch_note(seen, item->path);
        if (order <= 0)
            a++;
        if (order >= 0)
            b++;
    }
}
