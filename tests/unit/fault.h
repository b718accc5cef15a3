/* System calls that fail on demand: each unit test fails call 1, 2, 3 ... of a function until that ran without a failure, as
 * alloc.h does for allocations.  Link with FAULT_WRAP (Makefile.am): the linker sends the library's calls here.
 *
 * Calls fail in the process that asked for it, never in its children (between fork and exec a child shares this code).
 */
#ifndef FAULT_H
#define FAULT_H

#include <stdbool.h>
#include <stddef.h>

#define FAULT_SHORT (-1) /* no error: read(), write() and fread() do one byte of what was asked for */

struct fault {
    /* " open read ": which count, with a blank on either side of each; NULL: all that there are */
    const char *calls;
    int error;         /* errno of what fails; or FAULT_SHORT */
    bool from_then_on; /* not only the nth fails, but all after it, too, as with a full disk */
};

/* The nth call from now on fails; 0: none does (any more). */
void fault_at(const struct fault *fault, size_t nth);
/* The call that failed since fault_at() of other than 0, such as "open"; NULL: none did. */
const char *fault_happened(void);

/* A function under test: 0, or -1 and *err.  It takes back what it made before it returns. */
struct error;
typedef int fault_call(void *arg, struct error *err);

/* Calls it with call 1, 2, 3 ... failing until none failed, and once before with none at all.  Fails the test where
 *
 * - it returns -1 without an error's text, or with a status other than allowed (0-terminated), or 0 with an error;
 * - other descriptors are open afterwards than before, or a child is left that nobody has waited for;
 * - the directory (NULL: none) holds other files than before;
 * - there is no end of it after max calls (each is a possible fault: raise it for a function with more).
 *
 * Returns how many calls there were to fail. */
size_t fault_each(const struct fault *fault, fault_call *call, void *arg, const int *allowed, const char *dir,
                  size_t max);

#endif
