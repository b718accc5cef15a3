#include "support.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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

void put_first_in_path(const char *dir)
{
    char *path;
    assert_true(asprintf(&path, "%s:%s", dir, getenv("PATH")) > 0);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
}

const char fake_parallel[] =
    "#!/bin/sh\n"
    "broken=${0%/*}/../broken\n"
    "[ ! -e \"$broken\" ] || { [ -s \"$broken\" ] || echo 'no perl' >&2; exit 255; }\n"
    "while [ $# -gt 0 ]; do\n"
    "    case $1 in -a) list=$2 ;; --joblog) log=$2 ;; esac\n"
    "    shift\n"
    "done\n"
    "echo Seq >\"$log\"\n"
    "n=0\n"
    "tr '\\0' '\\n' <\"$list\" | while read -r command; do\n"
    "    n=$((n + 1))\n"
    "    sh -c \"$command\"\n"
    "    printf '%d\\t:\\t0\\t0\\t0\\t0\\t%d\\t0\\tx\\n' \"$n\" \"$?\" >>\"$log\"\n"
    "done\n";
