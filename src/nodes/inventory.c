/* Node lists from a file.
 *
 * The file is read whole, up to a limit, and then cut into lines: a list is small, and an error can
 * name the line.  A terminal, a pipe or a FIFO may keep us waiting: for its data, and for a first writer, we wait in
 * poll(2), where a signal ends the wait, and never in open(2) or read(2). */
#include "nodes/inventory.h"

#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

/* Cuts text, which ends in a NUL at text[len], into lines. */
static int parse_lines(struct node_list *list, char *text, size_t len, const char *name, struct error *err)
{
    size_t number = 1;
    bool any = false;
    const char *nul = memchr(text, '\0', len);
    if (nul)
        return error_set(err, STATUS_DATA, "%s: not a text file: NUL at byte %zu", name,
                         (size_t)(nul - text) + 1);
    if (strncmp(text, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0)
        text += strlen(BYTE_ORDER_MARK);
    for (char *line = text, *next; line; line = next, number++) {
        struct error inner = ERROR_INIT;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "#")] = '\0';
        if (line[strspn(line, NODE_BLANKS)] == '\0')
            continue;
        if (node_list_add_words(list, line, &inner) < 0)
            return error_set(err, inner.status, "%s:%zu: %s", name, number, inner.text);
        any = true;
    }
    return any ? 0 : error_set(err, STATUS_DATA, "%s: no node in it", name);
}

static int check_size(size_t len, const char *name, struct error *err)
{
    if (len <= INVENTORY_BYTES_MAX)
        return 0;
    return error_set(err, STATUS_DATA, "%s: larger than %d MiB: not a list of nodes", name,
                     INVENTORY_BYTES_MAX / (1024 * 1024));
}

int inventory_parse(struct node_list *list, const char *text, size_t len, const char *name, struct error *err)
{
    if (check_size(len, name, err) < 0)
        return -1;
    char *copy = malloc(len + 1);
    if (!copy)
        return error_errno(err, name);
    memcpy(copy, text, len);
    copy[len] = '\0';
    int result = parse_lines(list, copy, len, name, err);
    free(copy);
    return result;
}

/* Waits until there is something to read.  0, or -1 and *err: the time is up, or a signal came. */
static int wait_for_text(int fd, const char *name, long long deadline, struct error *err)
{
    for (;;) {
        if (child_signal())
            return error_set(err, STATUS_SIGNAL + child_signal(), "%s: %s while reading it", name,
                             strsignal(child_signal()));
        long long left = deadline - clock_ms();
        if (left <= 0)
            return error_set(err, STATUS_DATA,
                             "%s: no end of it within %d s: whoever writes it must close it", name,
                             INVENTORY_TIMEOUT_MS / 1000);
        struct pollfd fds[2] = {{fd, POLLIN, 0}, {child_events_fd(), POLLIN, 0}};
        poll(fds, 2, left < 1000 ? (int)left : 1000);
        if (fds[1].revents)
            child_events_clear();
        if (fds[0].revents)
            return 0;
    }
}

/* Up to its end, or size bytes.  0 and *len, or -1 and *err. */
static int read_inventory(int fd, const char *name, char *text, size_t size, size_t *len, struct error *err)
{
    long long deadline = clock_ms() + INVENTORY_TIMEOUT_MS;
    for (*len = 0; *len < size;) {
        if (wait_for_text(fd, name, deadline, err))
            return -1;
        ssize_t got = read(fd, text + *len, size - *len);
        if (got == 0)
            break;
        if (got > 0)
            *len += (size_t)got;
        else if (errno != EINTR && errno != EAGAIN)
            return error_set(err, STATUS_DATA, "%s: %s", name, strerror(errno));
    }
    return 0;
}

int inventory_read(struct node_list *list, const char *path, struct error *err)
{
    int result = -1;
    bool standard_input = strcmp(path, "-") == 0;
    const char *name = standard_input ? "standard input" : path;
    /* Others have the standard input, too: it stays as it is.  A FIFO is opened at once, and its first writer waited for. */
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_set(err, STATUS_DATA, "%s: %s", name, strerror(errno));
    size_t size = INVENTORY_BYTES_MAX + 1; /* one more than allowed shows that there is more */
    size_t len;
    char *text = malloc(size + 1);
    if (!text) {
        error_errno(err, name);
        goto out;
    }
    if (read_inventory(fd, name, text, size, &len, err) || check_size(len, name, err) < 0)
        goto out;
    text[len] = '\0';
    result = parse_lines(list, text, len, name, err);
out:
    free(text);
    if (!standard_input)
        close(fd);
    return result;
}
