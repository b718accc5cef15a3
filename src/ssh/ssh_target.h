/* A node as the last words of an ssh command line. */
#ifndef CLOUDPLAN_SSH_TARGET_H
#define CLOUDPLAN_SSH_TARGET_H

#include "nodes/node.h"

#include <stddef.h>

#define SSH_TARGET_WORDS 6
#define SSH_TARGET_PORT 16

/* Writes [-p PORT] [-l USER] -- HOST to argv, as typed: the rest is for ssh_config to say.  port holds the number's
 * text for as long as argv is used; the other words are the node's own.  Returns how many words, at most SSH_TARGET_WORDS. */
size_t ssh_target(const struct node *node, const char **argv, char port[SSH_TARGET_PORT]);
/* The user to log in as, made of chars: the one typed, else ssh_config's; borrowed.  NULL: none known, or one of ssh_config that
 * cannot be written down with these: ssh finds that one by itself. */
const char *ssh_target_user(const struct node *node, const char *chars);

#endif
