#include "alloc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t countdown;
static bool failing, failed;

void alloc_fail_at(size_t nth)
{
    countdown = nth;
    failing = false;
    failed = failed && nth == 0;
}

bool alloc_has_failed(void)
{
    return failed;
}

static bool fails(void)
{
    if (failing || (countdown && --countdown == 0)) {
        failing = failed = true;
        errno = ENOMEM;
        return true;
    }
    return false;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
FILE *__real_open_memstream(char **buf, size_t *size);
int __real_vasprintf(char **p, const char *fmt, va_list ap);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
FILE *__wrap_open_memstream(char **buf, size_t *size);
int __wrap_vasprintf(char **p, const char *fmt, va_list ap);
int __wrap_asprintf(char **p, const char *fmt, ...);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}

FILE *__wrap_open_memstream(char **buf, size_t *size)
{
    return fails() ? NULL : __real_open_memstream(buf, size);
}

int __wrap_vasprintf(char **p, const char *fmt, va_list ap)
{
    if (fails()) {
        *p = NULL;
        return -1;
    }
    return __real_vasprintf(p, fmt, ap);
}

int __wrap_asprintf(char **p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = __wrap_vasprintf(p, fmt, ap);
    va_end(ap);
    return n;
}
