/* The first value wins in ssh_config: ours come before the user's and the system's, so that nothing there can make
 * a master of its own, ask a question or forward something. */
#include "link/master_config.h"

#include "base/rundir.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A dead node is noticed after some INTERVAL * COUNT seconds. */
#define ALIVE_INTERVAL 3
#define ALIVE_COUNT 3

int master_config_write(const struct master_params *params, struct error *err)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return error_errno(err, "ssh_config");
    fprintf(out,
            "# Made by cloudplan for one run.\n"
            "Host *\n"
            "    ControlMaster no\n"
            "    ControlPath %s/%%C\n"
            "    ControlPersist no\n"
            "    BatchMode yes\n"
            "    ConnectTimeout 10\n"
            "    ServerAliveInterval %d\n"
            "    ServerAliveCountMax %d\n"
            "    ClearAllForwardings yes\n"
            "    ForwardAgent no\n"
            "    ForwardX11 no\n"
            "    PermitLocalCommand no\n"
            "    RemoteCommand none\n"
            "    RequestTTY no\n"
            "    Tunnel no\n"
            "    LogLevel ERROR\n",
            params->rundir, ALIVE_INTERVAL, ALIVE_COUNT);
    /* A preference, not a demand: a node that does not have it is still reached. */
    if (params->cipher && *params->cipher)
        fprintf(out, "    Ciphers %s%s\n", strchr("+-^", *params->cipher) ? "" : "^", params->cipher);
    /* ssh itself goes by the password file, but the "~" of an Include by $HOME. */
    const struct passwd *user = getpwuid(getuid());
    if (user && user->pw_dir)
        fprintf(out, "Include \"%s/.ssh/config\"\n", user->pw_dir);
    fputs("Include /etc/ssh/ssh_config\n", out);
    int result = fclose(out) ? error_errno(err, "ssh_config")
                             : rundir_write(params->rundir, "ssh_config", text, len, err);
    free(text);
    return result;
}
