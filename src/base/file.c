/* O_NONBLOCK has no meaning for a regular file, and is what keeps open(2) of a FIFO from waiting for a writer. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int file_open(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    int failure = fstat(fd, &st) ? errno : S_ISREG(st.st_mode) ? 0 : S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
    if (failure == 0)
        return fd;
    close(fd);
    errno = failure;
    return -1;
}

int file_read(int fd, char *text, size_t max, size_t *len)
{
    ssize_t n = 1;
    for (*len = 0; *len < max && n;) {
        n = read(fd, text + *len, max - *len);
        if (n < 0 && errno != EINTR)
            return -1;
        *len += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

char *file_text(const char *path, size_t max, size_t *len, struct stat *st)
{
    char *text = NULL;
    int fd = file_open(path);
    if (fd < 0)
        return NULL;
    if (fstat(fd, st))
        goto fail;
    errno = EFBIG;
    if ((uintmax_t)st->st_size > max)
        goto fail;
    /* One byte more than there should be: a file that grows, or whose size is not known. */
    size_t size = (size_t)st->st_size;
    if (!(text = malloc(size + 2)) || file_read(fd, text, size + 1, len))
        goto fail;
    if (*len > size) {
        errno = EFBIG;
        goto fail;
    }
    text[*len] = '\0';
    close(fd);
    return text;
fail:;
    int saved = errno;
    if (text)
        explicit_bzero(text, *len);
    free(text);
    close(fd);
    errno = saved;
    return NULL;
}
