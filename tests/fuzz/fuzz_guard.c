/* What a node prints during the run as hostile bytes, in pieces of a length that the first byte says, or longer ones where there
 * would be very many.
 * Whatever comes, the buffers stay within their bounds, and an answer is one line that really came. */
#include "link/guard.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECES_MAX 32

static void require(bool kept)
{
    if (!kept)
        abort();
}

static void require_bounded(const char *buf, size_t len)
{
    require(len < GUARD_WORDS_MAX && buf[len] == '\0');
}

/* Takes the answers that are there, as the program does: one to the script, then those to a command. */
static size_t take_answers(struct guard *guard, size_t answers)
{
    char answer[GUARD_ANSWER_MAX];
    memset(answer, 'x', sizeof answer);
    while (guard_answer(guard, "N", answers ? "lease" : "", answer)) {
        require(memchr(answer, '\0', sizeof answer) && !strchr(answer, '\n'));
        require_bounded(guard->out, guard->out_len);
        answers++;
    }
    return answers;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct guard guard;
    int out[2], errors[2];
    if (size == 0)
        return 0;
    size_t piece = 1 + data[0] * 17U, answers = 0;
    piece = piece < size / PIECES_MAX ? size / PIECES_MAX : piece;
    require(pipe2(out, O_NONBLOCK) == 0 && pipe2(errors, O_NONBLOCK) == 0);
    guard.child = (struct child)CHILD_INIT;
    guard.child.out = out[0];
    guard.child.err = errors[0];
    guard_begin(&guard, "", 0);
    for (size_t at = 1; at < size; at += piece) {
        size_t len = size - at < piece ? size - at : piece;
        require(write(out[1], data + at, len) == (ssize_t)len &&
                write(errors[1], data + at, len) == (ssize_t)len);
        guard_turn(&guard);
        require_bounded(guard.out, guard.out_len);
        require_bounded(guard.words, guard.words_len);
        answers = take_answers(&guard, answers);
    }
    close(out[1]);
    close(errors[1]);
    guard_turn(&guard);
    require(guard.child.out == -1 && guard.child.err == -1);
    require(answers == 0 || memmem(data, size, "\ncloudplan-guard N ", 19));
    return 0;
}
