/* Hostile bytes as ssh's answer and as an ssh_config: the first line, if it is "config", says which; a
 * second line is then the host.  What is taken for good keeps the promises of sshconf.h. */
#include "ssh/host_rules.h"
#include "ssh/sshconf.h"

#include <stdlib.h>
#include <string.h>

#define NAME_CHARS "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-"

static void require(bool kept)
{
    if (!kept)
        abort();
}

static void answer(const char *text, size_t len)
{
    struct error err = ERROR_INIT;
    struct sshconf *conf = sshconf_parse(text, len, "/home/u", &err);
    if (!conf) {
        require(err.status == STATUS_DATA && err.text[0]);
        return;
    }
    require(err.status == 0 && conf->port);
    /* A user may be "DOMAIN\\USER" or "USER@DOMAIN": ssh finds it by itself; reports and requests hold it. */
    require(conf->user[0]);
    for (const char *c = conf->user; *c; c++)
        require((unsigned char)*c >= ' ' && *c != 127);
    require(conf->unsupported ||
            (conf->hostname[0] != '-' && !conf->hostname[strspn(conf->hostname, NAME_CHARS ":")]));
    require(conf->hostkeyalgorithms && conf->kexalgorithms && conf->ciphers && conf->macs);
    require(conf->stricthostkeychecking && conf->addressfamily && conf->identityfiles);
    for (size_t i = 0; conf->knownhosts[i]; i++)
        require(conf->knownhosts[i][0] == '/');
    require(sshconf_same(conf, conf));
    struct sshconf *again = sshconf_parse(text, len, "/home/u", &err);
    require(again && sshconf_same(conf, again));
    sshconf_free(again);
    sshconf_free(conf);
}

static void config(const char *text, size_t len, const char *host)
{
    struct error err = ERROR_INIT;
    struct host_rules *rules = host_rules_parse(text, len, &err);
    require(rules && err.status == 0);
    for (size_t i = 0; i < host_rules_count(rules); i++)
        host_rules_match(rules, i, host);
    host_rules_destroy(rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char mark[] = "config\n";
    const char *text = (const char *)data, *end = text + size;
    if (size < sizeof mark || memcmp(text, mark, sizeof mark - 1) != 0) {
        answer(text, size);
        return 0;
    }
    text += sizeof mark - 1;
    const char *newline = memchr(text, '\n', (size_t)(end - text));
    const char *rest = newline ? newline + 1 : end;
    char host[256];
    size_t len = (size_t)((newline ? newline : end) - text);
    len = len < sizeof host ? len : sizeof host - 1;
    memcpy(host, text, len);
    host[len] = '\0';
    config(rest, (size_t)(end - rest), host);
    return 0;
}
