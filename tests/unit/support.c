#include "support.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

void put_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

char *path_in(const char *dir, const char *name)
{
    static char buf[32][PATH_MAX];
    static unsigned next;
    char *path = buf[next++ % 32];
    assert_true(snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX);
    return path;
}
