/* What is no file, or not all of one, first. */
#include "base/file.h"

#include "alloc.h"
#include "support.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_file.XXXXXX";

static void test_what_is_none(void **state)
{
    (void)state;
    size_t len;
    struct stat st;
    const char *fifo = path_in(dir, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        int error;
    } cases[] = {{path_in(dir, "absent"), ENOENT},
                 {dir, EISDIR},
                 {fifo, EINVAL},
                 {"/dev/zero", EINVAL},
                 {path_in(fifo, "x"), ENOTDIR}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(file_open(cases[i].path), -1);
        assert_int_equal(errno, cases[i].error);
        assert_null(file_text(cases[i].path, 100, &len, &st));
        assert_int_equal(errno, cases[i].error);
    }
    unlink(fifo);
}

static void test_text(void **state)
{
    (void)state;
    const char *path = path_in(dir, "file");
    put_file(path, "0123456789", 0640);
    size_t len;
    struct stat st;
    assert_null(file_text(path, 9, &len, &st));
    assert_int_equal(errno, EFBIG);
    for (ALLOC_EACH(n)) {
        alloc_fail_at(n);
        char *text = file_text(path, 10, &len, &st);
        assert_int_equal(text != NULL, !alloc_has_failed());
        if (!text)
            assert_int_equal(errno, ENOMEM);
        else
            assert_true(len == 10 && !strcmp(text, "0123456789") && (st.st_mode & 0777) == 0640);
        free(text);
    }
    /* The kernel says 0 of its size. */
    assert_null(file_text("/proc/self/status", 20, &len, &st));
    assert_int_equal(errno, EFBIG);
    char part[4];
    int fd = file_open(path);
    assert_int_equal(file_read(fd, part, sizeof part, &len), 0);
    assert_true(len == 4 && !memcmp(part, "0123", 4));
    close(fd);
    assert_int_equal(file_read(fd, part, sizeof part, &len), -1);
    assert_int_equal(errno, EBADF);
    unlink(path);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_is_none), cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
