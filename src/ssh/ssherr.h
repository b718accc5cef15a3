/* What the OpenSSH client's words mean.
 *
 * ssh exits with 255 for every failure of its own; only its messages (stable for decades, but
 * not an interface) tell a dead host from a wrong key.  What is not recognised is still reported in ssh's own words.
 */
#ifndef CLOUDPLAN_SSHERR_H
#define CLOUDPLAN_SSHERR_H

#include "nodes/node.h"

#include <stdbool.h>

/* Sets node's or a caller's state and reason from the stderr text of a failed ssh; text may be hostile, long or empty. */
enum node_state ssh_failure(const char *text, char reason[ERROR_TEXT_MAX]);

/* Whether text is that of an ssh whose connection was cut before it was logged in, as sshd does at random above MaxStartups: worth
 * another try. */
bool ssh_dropped(const char *text);

#endif
