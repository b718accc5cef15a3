/* Are pytest, pytest-xdist and execnet here, and new enough? */
#ifndef CLOUDPLAN_PYTEST_CHECK_H
#define CLOUDPLAN_PYTEST_CHECK_H

#include "base/error.h"

/* Asks the interpreter.  0, or -1 and *err: STATUS_TOOL with the remedy, or as child_capture(). */
int pytest_check(const char *python, struct error *err);
/* The same where the versions are known; NULL: missing. */
int pytest_check_versions(const char *python, const char *pytest, const char *xdist, const char *execnet,
                          struct error *err);

#endif
