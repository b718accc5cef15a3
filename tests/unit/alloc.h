/* Allocation failure on demand: each unit test fails allocation 1, 2, 3 ... of
 * a call until the call succeeds.  Link with ALLOC_WRAP (Makefile.am): the
 * linker sends the library's allocations here. */
#ifndef ALLOC_H
#define ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* The nth allocation from now on fails, and every one after it; 0: none fails (any more). */
void alloc_fail_at(size_t nth);
/* Whether one has failed since alloc_fail_at() of other than 0, which ends the failing alone. */
bool alloc_has_failed(void);

/* Runs the block with allocation 1, 2, 3 ... failing until it ran without a failure, once
 * more than needed: for (ALLOC_EACH(n)) { ... alloc_fail_at(n); call(); ... }.  Sets no result: use
 * alloc_has_failed() to know whether the call had to fail. */
#define ALLOC_EACH(n)                                                                                        \
    size_t n = 1, n##_more = 1;                                                                              \
    n##_more &&n < 100000;                                                                                   \
    n##_more = alloc_has_failed(), n++, alloc_fail_at(0)

#endif
