/* ssh would find a wrong name when it reads the run's own ssh_config, for each node, and blame a file that the user has never
 * seen.  The list is asked for rather than `ssh -G -o Ciphers=...` tried: so the error can say which of several names it is. */
#include "ssh/cipher.h"

#include "base/child.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000
#define OUTPUT_MAX 65536

/* The line of names that begins with name, which is followed there by end; NULL: none. */
static const char *find_line(const char *names, const char *name, size_t len, char end)
{
    for (const char *line = names; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name, len) && line[len] == end)
            return line;
    return NULL;
}

static int unknown_cipher(const char *value, const char *name, size_t len, const char *names,
                          struct error *err)
{
    /* Those of OpenSSH's own making have a domain behind them, which is easily forgotten. */
    const char *near = len ? find_line(names, name, len, '@') : NULL;
    if (near)
        return error_value(err, "cloud-rsync-cipher", NULL,
                           "--cloud-rsync-cipher=%s: ssh here knows no cipher %.*s; is it %.*s?", value,
                           (int)len, name, (int)strcspn(near, "\n"), near);
    return error_value(err, "cloud-rsync-cipher", NULL,
                       "--cloud-rsync-cipher=%s: ssh here knows no cipher '%.*s'; see ssh -Q cipher", value,
                       (int)len, name);
}

int cipher_check(const char *value, struct error *err)
{
    static const char *const argv[] = {"ssh", "-Q", "cipher", NULL};
    const char *name = value + (*value && strchr("+-^", *value) ? 1 : 0);
    char *names = NULL, *words = NULL;
    int status = 0, result = 0;
    struct error why = ERROR_INIT;
    if (!*value)
        return 0;
    if (child_capture(argv, NULL, TIMEOUT_MS, OUTPUT_MAX, &names, &words, &status, &why)) {
        if (why.status != STATUS_TOOL)
            result = error_set(err, why.status, "%s", why.text);
    } else if (status == 0) {
        for (bool more = true; more && result == 0; name++) {
            size_t len = strcspn(name, ",");
            if (len == 0 || !find_line(names, name, len, '\n'))
                result = unknown_cipher(value, name, len, names, err);
            name += len;
            more = *name == ',';
        }
    }
    free(names);
    free(words);
    return result;
}
