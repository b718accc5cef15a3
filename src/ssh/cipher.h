/* Whether OpenSSH here knows the ciphers that it is to be told of. */
#ifndef CLOUDPLAN_CIPHER_H
#define CLOUDPLAN_CIPHER_H

#include "base/error.h"

/* value: names separated by ",", after a "+", "-" or "^" as ssh_config(5) has them for Ciphers; the empty one is fine.  0, also where
 * there is no ssh here, or none that tells; else -1 and *err: STATUS_USAGE, "--cloud-rsync-cipher=VALUE: ..." with the name
 * that is not known, or as child_capture() where a signal came. */
int cipher_check(const char *value, struct error *err);

#endif
