/* The walk goes from "/" by descriptors and follows no link, so that what has been looked at is what is opened.  After it the path
 * itself can be used: whoever could exchange a part of it has been ruled out.
 *
 * In a user namespace that lacks some user ids all of those, root's among them, are shown as one, the overflow id.  What
 * has that owner is taken for root's where it must be: where the namespace has no root, or where "/" belongs to that id.
 *
 * A group counts as the user's own only if the databases of groups and users show that nobody else is in it; with an access control list
 * the bits of the group say something else, and it does not count.
 */
#include "base/private_dir.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif

#ifdef O_PATH
#define HOW (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#else
#define HOW (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#endif
#define WHOLE_MAP 4294967295U
#define OVERFLOW_UID 65534
#define PATH_SHOWN 32 /* bytes: five faults share a line */

static void set_fault(char fault[PRIVATE_DIR_FAULT_MAX], const char *text)
{
    snprintf(fault, PRIVATE_DIR_FAULT_MAX, "%s", text);
}

/* The first line of a map whose ids contain 0: how many there are from there on; 0: none. */
static uint64_t ids_from_root(const char *text)
{
    for (; text && *text; text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL) {
        uint64_t inside, outside, count;
        if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &inside, &outside, &count) == 3 && inside == 0)
            return count;
    }
    return 0;
}

int private_dir_map_is_whole(const char *text)
{
    return ids_from_root(text) >= WHOLE_MAP;
}

int private_dir_map_has_root(const char *text)
{
    return ids_from_root(text) > 0;
}

/* What is in a small file of /proc; false where there is none. */
static bool read_proc(const char *path, char *text, size_t size)
{
    int fd = file_open(path);
    if (fd < 0)
        return false;
    size_t len;
    file_read(fd, text, size - 1, &len);
    close(fd);
    text[len] = '\0';
    return len > 0;
}

/* The user id that stands for root's besides 0; 0: none does. */
static uid_t other_root(void)
{
    char text[4096];
    struct stat st;
    if (!read_proc("/proc/self/uid_map", text, sizeof text) || private_dir_map_is_whole(text))
        return 0;
    bool has_root = private_dir_map_has_root(text);
    uid_t overflow = read_proc("/proc/sys/kernel/overflowuid", text, sizeof text)
                         ? (uid_t)strtoul(text, NULL, 10)
                         : OVERFLOW_UID;
    return !has_root || (stat("/", &st) == 0 && st.st_uid == overflow) ? overflow : 0;
}

static bool is_me_or_root(const char *name)
{
    const struct passwd *user = getpwnam(name);
    return user && (user->pw_uid == geteuid() || user->pw_uid == 0);
}

/* Whether nobody but us and root is in a group. */
static bool group_is_ours(gid_t gid)
{
    const struct passwd *user;
    bool ours = gid == getegid(), seen = false;
    const struct group *group = ours ? getgrgid(gid) : NULL;
    if (!group)
        return false;
    size_t count = 0;
    while (group->gr_mem[count])
        count++;
    for (size_t i = 0; ours && i < count; i++)
        ours = is_me_or_root(group->gr_mem[i]);
    /* A database that does not list even us may not list others either. */
    setpwent();
    while (ours && (user = getpwent())) {
        seen = seen || user->pw_uid == geteuid();
        ours = user->pw_gid != gid || user->pw_uid == geteuid() || user->pw_uid == 0;
    }
    endpwent();
    return ours && seen;
}

/* Whether a directory has an access control list. */
static bool has_acl(int fd)
{
#ifdef __linux__
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return getxattr(path, "system.posix_acl_access", NULL, 0) >= 0;
#else
    (void)fd;
    return false;
#endif
}

/* What is wrong with one directory; NULL: nothing. */
static const char *wrong(int fd, const struct stat *st, uid_t root)
{
    if (st->st_uid != 0 && st->st_uid != geteuid() && !(root && st->st_uid == root))
        return "belongs to another user";
    if (st->st_mode & S_ISVTX) /* others can add, but neither remove nor rename what is not theirs */
        return NULL;
    if (st->st_mode & S_IWOTH)
        return "is writable by everybody";
    if ((st->st_mode & S_IWGRP) && (has_acl(fd) || !group_is_ours(st->st_gid)))
        return "is writable by its group";
    return NULL;
}

/* Looks at the directory behind fd, whose path are the first len bytes of path. */
static int check(int fd, const char *path, size_t len, uid_t root, char fault[PRIVATE_DIR_FAULT_MAX])
{
    struct stat st;
    if (fstat(fd, &st)) {
        set_fault(fault, strerror(errno));
        return -1;
    }
    const char *what = wrong(fd, &st, root);
    if (what)
        snprintf(fault, PRIVATE_DIR_FAULT_MAX, "%.*s%s %s", (int)(len < PATH_SHOWN ? len : PATH_SHOWN), path,
                 len > PATH_SHOWN ? "..." : "", what);
    return what ? -1 : 0;
}

int private_dir_open(const char *path, char fault[PRIVATE_DIR_FAULT_MAX])
{
    char name[NAME_MAX + 1];
    uid_t root = other_root();
    int fd = open("/", HOW);
    if (fd < 0 || *path != '/') {
        set_fault(fault, strerror(fd < 0 ? errno : EINVAL));
        goto fail;
    }
    if (check(fd, "/", 1, root, fault))
        goto fail;
    for (const char *part = path + 1, *end; *part; part = *end ? end + 1 : end) {
        end = part + strcspn(part, "/");
        snprintf(name, sizeof name, "%.*s", (int)(end - part), part);
        int next = openat(fd, name, HOW);
        if (next < 0) {
            set_fault(fault, strerror(errno));
            goto fail;
        }
        close(fd);
        fd = next;
        if (check(fd, path, (size_t)(end - path), root, fault))
            goto fail;
    }
    return fd;
fail:
    if (fd >= 0)
        close(fd);
    return -1;
}
