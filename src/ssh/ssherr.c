/* The table of ssh's messages: the first entry whose text occurs decides the state.  More
 * telling ones come first: ssh says "Host key verification failed." after the reason. */
#include "ssh/ssherr.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *words;
    enum node_state state;
    const char *reason; /* NULL: the line itself */
} table[] = {
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", NODE_REFUSED,
     "host key changed: it is not the one in known_hosts; if the node was set up anew: ssh-keygen -R"},
    {"is marked as revoked", NODE_REFUSED, "host key revoked: known_hosts marks it @revoked"},
    {"REVOKED HOST KEY", NODE_REFUSED, "host key revoked: known_hosts marks it @revoked"},
    {"key verification failed", NODE_REFUSED,
     "host key unknown: it is not in known_hosts; ssh to the node once, or use ssh-keyscan"},
    {"Too many authentication failures", NODE_REFUSED, NULL},
    {"Permission denied", NODE_REFUSED, NULL},
    {"no matching", NODE_REFUSED, NULL}, /* Unable to negotiate with ...: no matching cipher found */
    {"Could not resolve hostname", NODE_OFFLINE, NULL},
    {"Connection refused", NODE_OFFLINE, NULL},
    {"timed out", NODE_OFFLINE, NULL},
    {"not responding", NODE_OFFLINE, NULL}, /* Timeout, server HOST not responding. */
    {"No route to host", NODE_OFFLINE, NULL},
    {"unreachable", NODE_OFFLINE, NULL},
    {"kex_exchange_identification", NODE_OFFLINE, NULL},
    {"Connection closed", NODE_OFFLINE, NULL},
    {"Connection reset", NODE_OFFLINE, NULL},
    {": Broken pipe", NODE_OFFLINE, NULL}, /* reset as well, seen by a write */
};

/* Copies the line of text that holds at, or the last non-empty one. */
static void copy_line(const char *text, const char *at, char reason[ERROR_TEXT_MAX])
{
    const char *start, *end;
    if (!at) {
        at = text + strlen(text);
        while (at > text && strchr("\r\n ", at[-1]))
            at--;
    }
    for (start = at; start > text && start[-1] != '\n' && start[-1] != '\r';)
        start--;
    end = at;
    if (*at && !strchr("\r\n ", *at))
        end += strcspn(at, "\r\n");
    if (end - start > 5 && !strncmp(start, "ssh: ", 5))
        start += 5;
    snprintf(reason, ERROR_TEXT_MAX, "%.*s", (int)(end - start < 400 ? end - start : 400), start);
    text_clean(reason);
}

enum node_state ssh_failure(const char *text, char reason[ERROR_TEXT_MAX])
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *at = strstr(text, table[i].words);
        if (!at)
            continue;
        if (table[i].reason)
            snprintf(reason, ERROR_TEXT_MAX, "%s", table[i].reason);
        else
            copy_line(text, at, reason);
        return table[i].state;
    }
    copy_line(text, NULL, reason);
    if (!*reason)
        snprintf(reason, ERROR_TEXT_MAX, "ssh ended without a word");
    return NODE_FAILED;
}

bool ssh_dropped(const char *text)
{
    /* OpenSSH 10 names no phase any more; a connection in use ends with "Connection to HOST closed". */
    return strstr(text, "kex_exchange_identification") || strstr(text, "Connection closed by ") ||
           strstr(text, "Connection reset by ") ||
           (strstr(text, "ssh_dispatch_run_fatal") && strstr(text, ": Broken pipe"));
}
