/* Masters and the real scripts of the node's side.  "ssh" is a script here: each host is a directory with a home, in
 * which the remote command runs, and the virtualenv's python is one that fails on command. */
#include "base/child.h"
#include "base/rundir.h"
#include "link/guard.h"
#include "link/master.h"

#include "alloc.h"
#include "support.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/master.XXXXXX";

/* What it says at its end is in HOST/last-words; its pid in HOST/ssh. */
static const char ssh[] = "#!/bin/sh\n"
                          "while [ $# -gt 2 ]; do shift; done\n"
                          "cd \"${0%/*}/../$1\" && HOME=$PWD && export HOME || exit 255\n"
                          "[ ! -e refuse ] || { cat refuse >&2; exit 255; }\n"
                          "echo $$ >ssh; echo x >>opened\n"
                          "sh -c \"$2\" && exit\n"
                          "cat last-words >&2; exit 255\n";

/* pip: HOST/pip says what becomes of it. */
static const char python[] =
    "#!/bin/sh\n"
    "echo x >>\"$HOME/ran\"\n"
    "case $(cat \"$HOME/pip\") in\n"
    "fails) echo 'error: no compiler'; exit 1 ;;\n"
    "hangs) exec sleep 1000 ;;\n"
    "dies) read -r _ _ _ reader _ </proc/$PPID/stat; read -r _ _ _ guard _ </proc/$reader/stat\n"
    "    kill -9 \"$guard\" \"$reader\" $PPID ;;\n" /* first who would end well without the others */
    "esac\n";

/* Valid for the next 31 calls. */
static char *path(const char *host, const char *name)
{
    static char buf[32][PATH_MAX];
    static unsigned next;
    char *p = buf[next++ % 32];
    snprintf(p, PATH_MAX, "%s/%s/%s", base, host, name);
    return p;
}

/* How many lines a file has; 0 where there is none. */
static unsigned lines(const char *file)
{
    unsigned count = 0;
    FILE *in = fopen(file, "r");
    for (int c; in && (c = getc(in)) != EOF;)
        count += c == '\n';
    if (in)
        fclose(in);
    return count;
}

static void make_host(const char *host)
{
    static const char *const dirs[] = {"", "copy", "copy/venv", "copy/venv/bin", "copy/egg"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        assert_int_equal(mkdir(path(host, dirs[i]), 0700), 0);
    put_file(path(host, "copy/.cloudplan"), "", 0600);
    put_file(path(host, "copy/venv/bin/python3"), python, 0700);
    put_file(path(host, "copy/venv/bin/tool"), "#!/here/venv/bin/python3\n", 0700);
    put_file(path(host, "pip"), "works\n", 0600);
    put_file(path(host, "last-words"), "client_loop: send disconnect: Connection reset by peer\n", 0600);
}

static int make_base(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    if (!mkdtemp(base) || child_init(&err) || mkdir(path("bin", ""), 0700) || mkdir(path("run", ""), 0700))
        return -1;
    put_file(path("bin", "ssh"), ssh, 0700);
    put_first_in_path(path_in(base, "bin"));
    unsetenv("SSH_CONNECTION"); /* guards would end what belongs to that one */
    return 0;
}

static int remove_base(void **state)
{
    (void)state;
    rundir_remove(base);
    return access(base, F_OK) == 0 ? -1 : 0;
}

struct world {
    struct node_list list;
    struct master_params params;
    char rundir[64];
    struct masters *masters;
};

static const char *const eggs[] = {"egg", NULL};

/* Hosts a, b, c as many as wanted, all open. */
static struct world *world_open(unsigned hosts, bool venv, bool egg)
{
    struct world *w = calloc(1, sizeof *w);
    struct error err = ERROR_INIT;
    assert_non_null(w);
    for (unsigned i = 0; i < hosts; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        make_host(name);
        assert_int_equal(node_list_add(&w->list, name, &err), 0);
        w->list.nodes[i].state = NODE_READY;
        w->list.nodes[i].processes = 2;
    }
    snprintf(w->rundir, sizeof w->rundir, "%s/run", base);
    w->params = (struct master_params){
        .rundir = w->rundir,
        .chdir = "copy",
        .run_id = "0123456789abcdef",
        .timeout_ms = 20000,
        .root = "/here",
        .venv = venv ? "/here/venv" : NULL,
        .venv_remote = "venv",
        .python = "python3",
        .eggs = egg ? eggs : NULL,
    };
    w->masters = masters_open(&w->list, &w->params, &err);
    if (!w->masters)
        fail_msg("%s", err.text);
    return w;
}

static void world_close(struct world *w)
{
    masters_close(w->masters, 5000);
    for (size_t i = 0; i < w->list.count; i++)
        rundir_remove(path(w->list.nodes[i].name, ""));
    node_list_clear(&w->list);
    free(w);
}

static void prepare(struct world *w, int timeout_ms)
{
    struct error err = ERROR_INIT;
    if (masters_prepare(w->masters, timeout_ms, &err))
        fail_msg("%s", err.text);
}

static void assert_state(const struct world *w, size_t i, enum node_state state, const char *reason)
{
    assert_string_equal(w->list.nodes[i].reason, reason);
    assert_int_equal(w->list.nodes[i].state, state);
    assert_int_equal(w->list.nodes[i].processes, state == NODE_READY ? 2 : 0);
}

static void test_nothing_to_prepare(void **state)
{
    (void)state;
    struct world *w = world_open(1, false, false);
    prepare(w, 0); /* no time: nothing is asked */
    assert_state(w, 0, NODE_READY, "");
    world_close(w);
}

static void test_scripts_only(void **state)
{
    (void)state;
    struct world *w = world_open(2, true, false);
    prepare(w, 20000);
    for (size_t i = 0; i < 2; i++) {
        assert_state(w, i, NODE_READY, "");
        char text[200] = "", expected[200];
        FILE *in = fopen(path(w->list.nodes[i].name, "copy/venv/bin/tool"), "r");
        assert_non_null(in);
        assert_non_null(fgets(text, sizeof text, in));
        fclose(in);
        snprintf(expected, sizeof expected, "#!%s/%s/copy/venv/bin/python3\n", base, w->list.nodes[i].name);
        assert_string_equal(text, expected);
        assert_int_equal(lines(path(w->list.nodes[i].name, "ran")), 0);
    }
    world_close(w);
}

static void test_one_fails_and_one_hangs(void **state)
{
    (void)state;
    struct world *w = world_open(3, true, true);
    put_file(path("a", "pip"), "fails\n", 0600);
    put_file(path("b", "pip"), "hangs\n", 0600);
    prepare(w, 12000);
    assert_state(w, 0, NODE_FAILED,
                 "prepare failed: pip: no compiler (more in copy/.cloudplan-develop/pip.log there)");
    assert_state(w, 1, NODE_FAILED, "prepare failed: timed out after 12 s");
    assert_state(w, 2, NODE_READY, "");
    /* Again, as after another sync: those that are out stay out. */
    prepare(w, 20000);
    assert_int_equal(w->list.nodes[0].state, NODE_FAILED);
    assert_int_equal(w->list.nodes[1].state, NODE_FAILED);
    assert_state(w, 2, NODE_READY, "");
    assert_int_equal(lines(path("a", "ran")), 1);
    assert_int_equal(lines(path("b", "ran")), 1);
    assert_int_equal(lines(path("c", "ran")), 1);
    world_close(w);
}

static void test_connection_lost_meanwhile(void **state)
{
    (void)state;
    struct world *w = world_open(2, true, true);
    put_file(path("a", "pip"), "dies\n", 0600);
    prepare(w, 20000);
    assert_state(w, 0, NODE_OFFLINE,
                 "prepare failed: client_loop: send disconnect: Connection reset by peer");
    assert_state(w, 1, NODE_READY, "");
    assert_int_equal(lines(path("a", "opened")), 1);
    world_close(w);
}

/* A connection that broke before is opened anew, and its new guard prepares, too. */
static void test_connection_lost_before(void **state)
{
    (void)state;
    struct world *w = world_open(2, true, true);
    char pid[32] = "";
    FILE *in = fopen(path("a", "ssh"), "r");
    assert_non_null(in);
    assert_non_null(fgets(pid, sizeof pid, in));
    fclose(in);
    assert_int_equal(kill((pid_t)atoi(pid), SIGKILL), 0);
    /* It is our child: a zombie until somebody looks at it. */
    char stat[64], text[512] = "";
    snprintf(stat, sizeof stat, "/proc/%d/stat", atoi(pid));
    for (long long end = clock_ms() + 10000; !strstr(text, ") Z ") && clock_ms() < end;) {
        FILE *process = fopen(stat, "r");
        if (!process || !fgets(text, sizeof text, process))
            break;
        fclose(process);
        poll(NULL, 0, 10);
    }
    struct error err = ERROR_INIT;
    assert_int_equal(masters_reopen(w->masters, &err), 0);
    prepare(w, 20000);
    assert_state(w, 0, NODE_READY, "");
    assert_state(w, 1, NODE_READY, "");
    assert_int_equal(lines(path("a", "opened")), 2);
    assert_int_equal(lines(path("b", "opened")), 1);
    assert_int_equal(lines(path("a", "ran")), 1);
    world_close(w);
}

/* Another run on host a, or the same one from another connection, whose copy is SLOT then. */
static struct masters *open_more(struct world *w, struct node_list *list, const char *run_id, unsigned slot)
{
    struct error err = ERROR_INIT;
    w->params.run_id = run_id;
    assert_int_equal(node_list_add(list, "a", &err), 0);
    list->nodes[0].state = NODE_READY;
    list->nodes[0].slot = slot;
    struct masters *masters = masters_open(list, &w->params, &err);
    if (!masters)
        fail_msg("%s", err.text);
    assert_string_equal(list->nodes[0].reason, "");
    return masters;
}

static void test_each_run_has_its_copy(void **state)
{
    (void)state;
    struct world *w = world_open(1, false, false);
    struct node_list two = NODE_LIST_INIT, three = NODE_LIST_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(w->list.nodes[0].slot, 1);
    struct masters *second = open_more(w, &two, "2", 0);
    assert_int_equal(two.nodes[0].slot, 2);
    assert_int_equal(access(path("a", "copy~2/.cloudplan"), F_OK), 0);
    /* A connection that broke is for the same copy again, though the first one is free now. */
    masters_close(w->masters, 5000);
    w->masters = NULL;
    char text[32] = "";
    FILE *in = fopen(path("a", "ssh"), "r");
    assert_non_null(in);
    assert_non_null(fgets(text, sizeof text, in));
    fclose(in);
    assert_int_equal(kill((pid_t)atoi(text), SIGKILL), 0);
    while (lines(path("a", "opened")) < 3) { /* it is a zombie in a moment */
        assert_int_equal(masters_reopen(second, &err), 0);
        usleep(1000);
    }
    assert_int_equal(two.nodes[0].slot, 2);
    assert_int_equal(two.nodes[0].state, NODE_READY);
    struct masters *third = open_more(w, &three, "3", 0);
    assert_int_equal(three.nodes[0].slot, 1);
    masters_close(second, 5000);
    masters_close(third, 5000);
    node_list_clear(&two);
    node_list_clear(&three);
    world_close(w);
}

/* The far end has not noticed that the connection broke: the former guard makes room for the new one. */
static void test_former_guard_lives(void **state)
{
    (void)state;
    struct world *w = world_open(1, false, false);
    struct node_list again = NODE_LIST_INIT;
    struct masters *masters = open_more(w, &again, "0123456789abcdef", 1);
    assert_int_equal(again.nodes[0].slot, 1);
    assert_int_equal(again.nodes[0].state, NODE_READY);
    masters_close(masters, 5000);
    node_list_clear(&again);
    world_close(w);
}

static void test_not_opened(void **state)
{
    (void)state;
    struct world *w = world_open(2, true, true);
    masters_close(w->masters, 5000);
    w->masters = NULL;
    put_file(path("a", "refuse"), "ci@a: Permission denied (publickey).\n", 0600);
    unlink(path("b", "copy/.cloudplan"));
    struct error err = ERROR_INIT;
    w->masters = masters_open(&w->list, &w->params, &err);
    assert_non_null(w->masters);
    assert_state(w, 0, NODE_REFUSED, "ci@a: Permission denied (publickey).");
    assert_state(w, 1, NODE_UNFIT,
                 "copy exists there and was not made by cloudplan: remove it, or choose another "
                 "--cloud-chdir, or have "
                 "--cloud-adopt look whether it can be used");
    prepare(w, 20000);
    assert_int_equal(lines(path("a", "ran")) + lines(path("b", "ran")), 0);
    world_close(w);
}

/* Where a node says that its copy is: a path of its own, and the same one when it is asked again. */
static void test_told_places(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *reason; /* NULL: it is ready */
    } table[] = {
        {"ok 1 /srv/copy", NULL},
        {"ok 2 /srv/copy~2", NULL},
        {"ok 1", "ok 1"},
        {"ok 0", "ok 0"},
        {"ok 1 ", "its directory  is no absolute path"},
        {"ok 1  /srv/copy", "its directory  /srv/copy is no absolute path"},
        {"ok 10 /srv/copy~10", "ok 10 /srv/copy~10"},
        {"ok 1 copy", "its directory copy is no absolute path"},
        {"ok 1 /srv/work", "its directory /srv/work is not the one that was asked for, copy"},
        {"ok 2 /srv/copy", "its directory /srv/copy is not the one that was asked for, copy~2"},
        {"ok 1 /s r/copy", "its directory /s r/copy has a character that not every program on the way would "
                           "leave alone, ' ': choose "
                           "another --cloud-chdir, an absolute one"},
        {"ok 1 /srv//copy", "its directory /srv//copy is no physical path"},
        {"/home/x exists there", "/home/x exists there"},
    };
    struct world *w = world_open(1, false, false);
    masters_close(w->masters, 5000);
    w->masters = NULL;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct error err = ERROR_INIT;
        struct node *node = &w->list.nodes[0];
        char script[300];
        node_set(node, NODE_READY, "%s", "");
        node->processes = 2;
        node->slot = 0;
        free(node->dir);
        node->dir = NULL;
        snprintf(script, sizeof script,
                 "#!/bin/sh\nprintf '\\ncloudplan-guard %s %s\\n'\nwhile read -r _; do :; done\n",
                 w->params.run_id, table[i].answer);
        put_file(path("bin", "ssh"), script, 0700);
        struct masters *masters = masters_open(&w->list, &w->params, &err);
        assert_non_null(masters);
        assert_string_equal(node->reason, table[i].reason ? table[i].reason : "");
        assert_int_equal(node->state, table[i].reason ? NODE_UNFIT : NODE_READY);
        if (!table[i].reason)
            assert_string_equal(node->dir, table[i].answer + 5);
        masters_close(masters, 5000);
        if (i == 0) { /* another place in the same slot */
            put_file(
                path("bin", "ssh"),
                "#!/bin/sh\nprintf '\\ncloudplan-guard 0123456789abcdef ok 1 /mnt/copy\\n'\ncat >/dev/null\n",
                0700);
            masters = masters_open(&w->list, &w->params, &err);
            assert_non_null(masters);
            assert_string_equal(node->reason,
                                "the connection broke, and now the node has another copy for this run");
            masters_close(masters, 5000);
        }
    }
    put_file(path("bin", "ssh"), ssh, 0700);
    world_close(w);
}

/* --cloud-adopt: the one that is let pass is marked, the other one is not touched; one that was made by cloudplan is no question. */
static void test_adopt(void **state)
{
    (void)state;
    struct world *w = world_open(3, false, false);
    masters_close(w->masters, 5000);
    unlink(path("a", "copy/.cloudplan"));
    unlink(path("b", "copy/.cloudplan"));
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < 3; i++) {
        w->list.nodes[i].slot = 0;
        free(w->list.nodes[i].dir);
        w->list.nodes[i].dir = NULL;
    }
    w->params.adopt = true;
    w->masters = masters_open(&w->list, &w->params, &err);
    assert_non_null(w->masters);
    for (size_t i = 0; i < 3; i++) {
        assert_state(w, i, NODE_READY, "");
        assert_int_equal(w->list.nodes[i].unmarked, i < 2);
        assert_string_equal(w->list.nodes[i].dir, path(w->list.nodes[i].name, "copy"));
    }
    node_set(&w->list.nodes[1], NODE_UNFIT, "something is in it");
    assert_int_equal(masters_adopt(w->masters, &err), 0);
    assert_state(w, 0, NODE_READY, "");
    assert_int_equal(w->list.nodes[0].slot, 1);
    assert_false(w->list.nodes[0].unmarked);
    assert_int_equal(access(path("a", "copy/.cloudplan"), F_OK), 0);
    assert_int_equal(access(path("b", "copy/.cloudplan"), F_OK), -1);
    assert_state(w, 2, NODE_READY, "");
    world_close(w);
}

static void test_allocations(void **state)
{
    (void)state;
    struct world *w = world_open(1, true, true);
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        int result = masters_prepare(w->masters, 20000, &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_int_equal(result, failed ? -1 : 0);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        assert_state(w, 0, NODE_READY, "");
    }
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        alloc_fail_at(n);
        struct masters *second = masters_open(&w->list, &w->params, &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_int_equal(!second, failed);
        assert_int_equal(err.status, failed ? STATUS_SYSTEM : 0);
        masters_close(second, 5000);
    }
    world_close(w);
    const struct guard_params params = {
        .nonce = "n", .run_id = "r", .chdir = "c", .root = "/it's", .eggs = eggs};
    for (ALLOC_EACH(n)) {
        size_t len = 0;
        alloc_fail_at(n);
        char *text = guard_script(&params, &len);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        assert_int_equal(!text, failed);
        if (text) {
            assert_int_equal(strlen(text), len);
            assert_non_null(strstr(text, "CLOUDPLAN_ROOT='/it'\\''s'\n"));
            assert_non_null(strstr(text, "CLOUDPLAN_VENV=''\n"));
            assert_non_null(strstr(text, "set -- 'egg'\n"));
        }
        free(text);
    }
}

/* The answers among whatever else a node says. */
static void test_answers(void **state)
{
    (void)state;
    static const char said[] =
        "hello\ncloudplan-guard x ok\ncloudplan-guard n\n\ncloudplan-guard n  prepare ok\n"
        "cloudplan-guard n prepare\n\ncloudplan-guard n prepare no\rway\nrest";
    struct guard guard = {.child = CHILD_INIT};
    char answer[GUARD_ANSWER_MAX];
    guard_begin(&guard, "", 0);
    assert_false(guard_answer(&guard, "n", "", answer));
    memcpy(guard.out, said, sizeof said);
    guard.out_len = sizeof said - 1;
    assert_true(guard_answer(&guard, "n", "prepare", answer));
    assert_string_equal(answer, "no\rway"); /* node_set() cleans it */
    assert_string_equal(guard.out, "\nrest");
    assert_int_equal(guard.out_len, 5);
    assert_false(guard_answer(&guard, "n", "prepare", answer));
    /* Not yet whole; and one that is too long is cut. */
    strcpy(guard.out, "\ncloudplan-guard n ");
    memset(guard.out + 19, 'x', 4000);
    guard.out[4019] = '\0';
    guard.out_len = 4019;
    assert_false(guard_answer(&guard, "n", "", answer));
    strcpy(guard.out + 4019, "\n");
    guard.out_len++;
    assert_true(guard_answer(&guard, "n", "", answer));
    assert_int_equal(strlen(answer), GUARD_ANSWER_MAX - 1);
}

/* A node that says much: the buffer is full to its last byte, and there is nothing more to read when room is made. */
static void test_full_buffer(void **state)
{
    (void)state;
    static const char said[] = "\ncloudplan-guard n ok 1\n";
    static struct guard guard = {.child = CHILD_INIT};
    char answer[GUARD_ANSWER_MAX], text[GUARD_WORDS_MAX - 1];
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    memset(text, 'x', sizeof text);
    memcpy(text + sizeof text * 3 / 4, said, sizeof said - 1); /* in the half that is kept */
    assert_int_equal(write(fds[1], text, sizeof text), sizeof text);
    guard_begin(&guard, "", 0);
    guard.child.out = fds[0];
    guard_turn(&guard);
    assert_int_equal(strlen(guard.out), guard.out_len);
    assert_true(guard_answer(&guard, "n", "", answer));
    assert_string_equal(answer, "ok 1");
    assert_false(guard_answer(&guard, "n", "", answer)); /* said once */
    close(fds[1]);
    guard_turn(&guard);
    assert_int_equal(guard.child.out, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_full_buffer),
        cmocka_unit_test(test_nothing_to_prepare),
        cmocka_unit_test(test_scripts_only),
        cmocka_unit_test(test_one_fails_and_one_hangs),
        cmocka_unit_test(test_connection_lost_meanwhile),
        cmocka_unit_test(test_connection_lost_before),
        cmocka_unit_test(test_each_run_has_its_copy),
        cmocka_unit_test(test_former_guard_lives),
        cmocka_unit_test(test_not_opened),
        cmocka_unit_test(test_told_places),
        cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
