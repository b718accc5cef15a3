/* Whether a program that is needed is there, and the one that it should be.
 */
#ifndef CLOUDPLAN_TOOL_H
#define CLOUDPLAN_TOOL_H

#include "base/error.h"

/* Runs NAME OPTION.  Its output must begin with begins (NULL: anything will do), and go on with a version of at least
 * major.minor, such as 3.1 or v3.2.7 (0 and 0: anything will do).  0, or -1 and *err: STATUS_TOOL with the hint, STATUS_SYSTEM
 * where it was killed, or as child_capture(). */
int tool_check(const char *name, const char *option, const char *begins, unsigned major, unsigned minor,
               const char *hint, struct error *err);

#endif
