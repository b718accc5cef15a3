/* The rounds of a sync.  "parallel" and "rsync" are scripts here: what an rsync prints and how it ends is in files. */
#include "base/child.h"
#include "base/rundir.h"
#include "copy/adopt.h"
#include "copy/sync.h"
#include "link/master.h"

#include "alloc.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/sync.XXXXXX";
static char rundir[64], root[64];

/* The first run's status, and that of all others; a run for each node and round in "ran". */
static const char rsync[] = "#!/bin/sh\n"
                            "cd \"${0%/*}/..\"\n"
                            "echo x >>ran\n"
                            "cat words >&2\n"
                            "case \" $* \" in *' -n '*) cat differences; exit 0 ;; esac\n"
                            "[ ! -e once ] || { read -r status <once; rm once; exit \"$status\"; }\n"
                            "read -r status <status; exit \"$status\"\n";

static unsigned runs(void)
{
    struct stat st;
    return stat(path_in(base, "ran"), &st) ? 0 : (unsigned)st.st_size / 2;
}

static int make_base(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    if (!mkdtemp(base) || child_init(&err) || mkdir(path_in(base, "bin"), 0700) ||
        mkdir(path_in(base, "run"), 0700) || mkdir(path_in(base, "root"), 0700))
        return -1;
    snprintf(rundir, sizeof rundir, "%s/run", base);
    snprintf(root, sizeof root, "%s/root", base);
    put_file(path_in(base, "bin/parallel"), fake_parallel, 0700);
    put_file(path_in(base, "bin/rsync"), rsync, 0700);
    put_first_in_path(path_in(base, "bin"));
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
    struct masters *masters;
    struct sync_params params;
    struct sync_progress progress; /* the last one */
};

static void take_progress(void *arg, const struct sync_progress *progress)
{
    ((struct world *)arg)->progress = *progress;
}

/* Two nodes without masters, which nobody here needs. */
static void world_open(struct world *w)
{
    struct error err = ERROR_INIT;
    *w = (struct world){
        .params = {
            .rundir = rundir, .root = root, .chdir = "copy", .progress = take_progress, .progress_arg = w}};
    const struct master_params masters = {
        .rundir = rundir, .chdir = "copy", .run_id = "r", .timeout_ms = 1000, .root = root};
    w->masters = masters_open(&w->list, &masters, &err);
    assert_non_null(w->masters);
    assert_int_equal(node_list_add_words(&w->list, "a b", &err), 0);
    for (size_t i = 0; i < w->list.count; i++) {
        w->list.nodes[i].state = NODE_READY;
        w->list.nodes[i].processes = 1;
    }
    put_file(path_in(base, "status"), "0\n", 0600);
    put_file(path_in(base, "words"), "", 0600);
    put_file(path_in(base, "differences"), "", 0600);
    unlink(path_in(base, "once"));
    unlink(path_in(base, "ran"));
    unlink(path_in(base, "broken"));
}

static void world_close(struct world *w)
{
    masters_close(w->masters, 0);
    node_list_clear(&w->list);
}

static void test_copied(void **state)
{
    (void)state;
    struct world w;
    struct error err = ERROR_INIT;
    world_open(&w);
    assert_int_equal(sync_run(&w.list, w.masters, &w.params, &err), 0);
    assert_int_equal(node_list_ready(&w.list), 2);
    assert_int_equal(w.progress.nodes_done, 2);
    assert_int_equal(runs(), 2);
    world_close(&w);
}

/* A connection that broke is worth another try, for that node alone; a full disk is not. */
static void test_tried_again(void **state)
{
    (void)state;
    static const struct {
        const char *once, *status;
        unsigned runs;
        size_t ready;
        const char *reason;
    } table[] = {
        {"255\n", "0\n", 3, 2, ""},
        {"12\n", "0\n", 3, 2, ""},
        {"11\n", "0\n", 2, 1, "sync failed, rsync status 11: No space left on device"},
        {"24\n", "0\n", 2, 2, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct world w;
        struct error err = ERROR_INIT;
        world_open(&w);
        put_file(path_in(base, "once"), table[i].once, 0600);
        put_file(path_in(base, "status"), table[i].status, 0600);
        put_file(path_in(base, "words"), "No space left on device\n", 0600);
        assert_int_equal(sync_run(&w.list, w.masters, &w.params, &err), 0);
        assert_int_equal(runs(), table[i].runs);
        assert_int_equal(node_list_ready(&w.list), table[i].ready);
        assert_string_equal(w.list.nodes[0].reason, table[i].reason);
        world_close(&w);
    }
}

static void test_failed_everywhere(void **state)
{
    (void)state;
    struct world w;
    struct error err = ERROR_INIT;
    world_open(&w);
    put_file(path_in(base, "status"), "255\n", 0600);
    assert_int_equal(sync_run(&w.list, w.masters, &w.params, &err), -1);
    assert_int_equal(err.status, STATUS_SYNC);
    assert_string_equal(err.text,
                        "the sync failed on every node; a: sync failed, rsync status 255: it said nothing");
    assert_int_equal(runs(), 6); /* in three rounds */
    assert_int_equal(w.progress.nodes_failed, 2);
    world_close(&w);
}

static void test_verified(void **state)
{
    (void)state;
    struct world w;
    struct error err = ERROR_INIT;
    world_open(&w);
    w.params.verify = true;
    assert_int_equal(sync_run(&w.list, w.masters, &w.params, &err), 0);
    assert_int_equal(runs(), 4);
    put_file(path_in(base, "differences"), ">fc........ test_a.py\n", 0600);
    assert_int_equal(sync_run(&w.list, w.masters, &w.params, &err), -1);
    assert_int_equal(err.status, STATUS_SYNC);
    assert_string_equal(w.list.nodes[1].reason, "its copy is not what is here: 1 differs, such as test_a.py");
    world_close(&w);
}

static void test_parallel_fails(void **state)
{
    (void)state;
    struct world w;
    struct error err = ERROR_INIT;
    world_open(&w);
    put_file(path_in(base, "broken"), "", 0600);
    assert_int_equal(sync_run(&w.list, w.masters, &w.params, &err), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_string_equal(err.text, "GNU parallel failed with status 255: no perl");
    put_file(path_in(base, "broken"), "silently", 0600);
    err = (struct error)ERROR_INIT;
    assert_int_equal(sync_run(&w.list, w.masters, &w.params, &err), -1);
    assert_string_equal(err.text, "GNU parallel failed with status 255: it said nothing");
    world_close(&w);
}

/* Never is a node taken for copied to and compared when it is not known to be. */
static void test_no_memory(void **state)
{
    (void)state;
    for (ALLOC_EACH(n)) {
        struct world w;
        struct error err = ERROR_INIT;
        world_open(&w);
        w.params.verify = true;
        alloc_fail_at(n);
        int result = sync_run(&w.list, w.masters, &w.params, &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        if (!failed || node_list_ready(&w.list) == 1) /* for one of the two alone */
            assert_int_equal(result, 0);
        else
            assert_int_equal(result, -1);
        assert_true(result ? err.status == STATUS_SYSTEM || err.status == STATUS_SYNC : err.status == 0);
        world_close(&w);
    }
}

/* --cloud-adopt: of two nodes one has a directory without the mark.  Whatever comes of it, the other one is as it was. */
static void test_adopt(void **state)
{
    (void)state;
    static const struct {
        const char *said, *reason; /* "" where it may be used */
        enum node_state state;
    } table[] = {
        {"", "", NODE_READY},
        {"deleting d/__pycache__/a.pyc\ndeleting d/__pycache__/\ndeleting d/\n", "", NODE_READY},
        {"deleting thesis.txt\n",
         "copy was not made by cloudplan, and --cloud-adopt would delete 1 of what is in it: thesis.txt; "
         "move that away, or choose another "
         "--cloud-chdir",
         NODE_UNFIT},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct world w;
        struct error err = ERROR_INIT;
        world_open(&w);
        put_file(path_in(base, "differences"), table[i].said, 0600);
        assert_int_equal(adopt_judge(&w.list, "config", &w.params, &err), 0); /* nothing is in question */
        assert_int_equal(runs(), 0);
        assert_int_equal(node_set_dir(&w.list.nodes[0], "copy", 1, "/srv/copy", &err), 0);
        w.list.nodes[0].unmarked = true;
        assert_int_equal(adopt_judge(&w.list, "config", &w.params, &err), 0);
        assert_int_equal(runs(), 1);
        assert_string_equal(w.list.nodes[0].reason, table[i].reason);
        assert_int_equal(w.list.nodes[0].state, table[i].state);
        assert_int_equal(w.list.nodes[1].state, NODE_READY);
        world_close(&w);
    }
}

/* Where rsync fails nothing is known, and the directory stays what it is. */
static void test_adopt_unknown(void **state)
{
    (void)state;
    struct world w;
    struct error err = ERROR_INIT;
    world_open(&w);
    assert_int_equal(node_set_dir(&w.list.nodes[0], "copy", 1, "/srv/copy", &err), 0);
    w.list.nodes[0].unmarked = true;
    put_file(path_in(base, "words"), "rsync: opendir \"/srv/copy/x\" failed: Permission denied (13)\n", 0600);
    put_file(path_in(base, "bin/rsync"), "#!/bin/sh\ncat \"${0%/*}/../words\" >&2; exit 23\n", 0700);
    assert_int_equal(adopt_judge(&w.list, "config", &w.params, &err), 0);
    put_file(path_in(base, "bin/rsync"), rsync, 0700);
    assert_int_equal(w.list.nodes[0].state, NODE_FAILED);
    assert_string_equal(
        w.list.nodes[0].reason,
        "--cloud-adopt: what the sync would delete there is not known, rsync status 23: rsync: opendir "
        "\"/srv/copy/x\" failed: Permission denied (13)");
    world_close(&w);
}

static void test_adopt_without_memory(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    struct error why = ERROR_INIT;
    assert_int_equal(node_set_dir(&w.list.nodes[0], "copy", 1, "/srv/copy", &why), 0);
    w.list.nodes[0].unmarked = true;
    put_file(path_in(base, "differences"), "deleting thesis.txt\n", 0600);
    for (ALLOC_EACH(n)) {
        struct error err = ERROR_INIT;
        node_set(&w.list.nodes[0], NODE_READY, "%s", "");
        alloc_fail_at(n);
        int result = adopt_judge(&w.list, "config", &w.params, &err);
        bool failed = alloc_has_failed();
        alloc_fail_at(0);
        /* What cannot be read is not known: in no case is it taken for nothing. */
        if (result == 0)
            assert_int_not_equal(w.list.nodes[0].state, NODE_READY);
        else
            assert_true(failed && err.status == STATUS_SYSTEM);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_adopt_unknown),
        cmocka_unit_test(test_adopt_without_memory),
        cmocka_unit_test(test_copied),
        cmocka_unit_test(test_tried_again),
        cmocka_unit_test(test_failed_everywhere),
        cmocka_unit_test(test_verified),
        cmocka_unit_test(test_parallel_fails),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
