/* Files built into the binary, so that it also runs from its build tree (made by
 * scripts/embed.sh from the files of the same name in scripts/).  Each is NUL-terminated; len does not count it.
 */
#ifndef CLOUDPLAN_EMBEDDED_H
#define CLOUDPLAN_EMBEDDED_H

#include <stddef.h>

extern const char node_facts_sh[];
extern const size_t node_facts_sh_len;
extern const char node_guard_sh[];
extern const size_t node_guard_sh_len;
extern const char pytest_cloudplan_py[];
extern const size_t pytest_cloudplan_py_len;

#endif
