/* Paths as text.  But for path_expand(), which asks for home directories, no file is looked at. */
#ifndef CLOUDPLAN_PATH_H
#define CLOUDPLAN_PATH_H

/* "DIR/NAME", owned by the caller; NULL without memory. */
char *path_join(const char *dir, const char *name);
/* path with the "~" or "~USER" that it begins with as a shell has it: $HOME, else the home of the password database; as it is where
 * there is none.  Owned by the caller; NULL without memory. */
char *path_expand(const char *path);
/* path relative to dir, which it is or lies below: "" for dir itself; a part of path.  NULL: it is neither.  Both without "." and "..",
 * doubled slashes and, but for "/", a slash at the end. */
const char *path_below(const char *dir, const char *path);

#endif
