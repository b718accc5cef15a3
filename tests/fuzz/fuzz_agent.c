/* An SSH agent's half of the conversation as hostile bytes: all it can do is to refuse. */
#include "ssh/agent.h"
#include "ssh/key.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE_LIMIT 65536 /* fits a socket's buffer */

static void require(bool kept)
{
    if (!kept)
        abort();
}

static void require_clean(const char *text)
{
    char *copy = strdup(text);
    require(copy);
    text_clean(copy);
    require(strcmp(copy, text) == 0);
    free(copy);
}

static void require_decided(struct agent_request *request)
{
    enum agent_state state = agent_request_state(request);
    require(state != AGENT_WAITING);
    if (state == AGENT_SIGNED) {
        struct wire signature, part;
        signature.p = agent_request_signature(request, &signature.left);
        require(wire_string(&signature, &part) && wire_string(&signature, &part) && signature.left == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    bool want_write;
    struct error err = ERROR_INIT;
    if (size > SIZE_LIMIT)
        return 0;
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    require(write(fds[1], data, size) == (ssize_t)size);
    require(shutdown(fds[1], SHUT_WR) == 0);
    struct agent *agent = agent_open_fd(fds[0], 10000, &err);
    require(!agent == (err.status == STATUS_SYSTEM));
    if (agent) {
        const struct agent_keys *keys = agent_keys(agent);
        for (size_t i = 0; i < keys->count; i++)
            require_clean(keys->keys[i].comment);
        struct agent_request *requests[3];
        for (size_t i = 0; i < 3; i++) {
            requests[i] = agent_sign(agent, data, size / 2, data + size / 2, size - size / 2);
            require(requests[i]);
        }
        require_decided(requests[0]);
        agent_request_destroy(requests[1]);
        require_decided(requests[2]);
        require(agent_fd(agent, &want_write) == -1);
        agent_request_destroy(requests[0]);
        agent_request_destroy(requests[2]);
        agent_destroy(agent);
    }
    close(fds[1]);
    return 0;
}
