/* What several unit tests need: files with a given content, paths below a directory of the test's own. */
#ifndef CLOUDPLAN_TEST_SUPPORT_H
#define CLOUDPLAN_TEST_SUPPORT_H

#include <sys/types.h>

/* Makes or replaces a file; a failure ends the test. */
void put_file(const char *path, const char *text, mode_t mode);
/* "DIR/NAME" in a buffer of its own, valid for the next 31 calls. */
char *path_in(const char *dir, const char *name);

/* Programs in this directory come before all others. */
void put_first_in_path(const char *dir);
/* A parallel(1) that runs the jobs of -a one after the other and writes --joblog.  With a file "broken" beside its directory it fails at
 * once, with that file's words or mute. */
extern const char fake_parallel[];

#endif
