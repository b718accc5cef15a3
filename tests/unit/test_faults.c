/* Each system call of the library that does I/O fails in turn: what the caller gets is what its header promises, no descriptor,
 * child or file is left, and nothing that was found out is taken for its contrary. */
#include "base/child.h"
#include "base/janitor.h"
#include "base/rundir.h"
#include "base/tool.h"
#include "copy/disk_room.h"
#include "copy/parallel.h"
#include "copy/project.h"
#include "copy/rsync_cmd.h"
#include "engine/pytest/env.h"
#include "engine/pytest/rerun.h"
#include "engine/pytest/settings.h"
#include "link/guard.h"
#include "link/master_config.h"
#include "nodes/inventory.h"
#include "ssh/agent.h"
#include "ssh/host_rules.h"
#include "ssh/identity.h"
#include "ssh/known_hosts.h"
#include "ssh/sshconf.h"
#include "ssh/sshconf_ask.h"
#include "watch/watch.h"

#include "fault.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/faults.XXXXXX";
static char run[64], bases[64], project[64];

static const int system_alone[] = {STATUS_SYSTEM, 0};

static bool has_text(const char *file, const char *text, size_t len)
{
    size_t got = 0;
    char *found = rundir_tail(file, len + 1, &got);
    bool same = found && got == len && !memcmp(found, text, len);
    free(found);
    return same;
}

/* Everything that may fail, in each of these ways: once, so that the next try is well; from then on, as with a full disk; by a
 * signal; or not at all, but only a part of what was asked for. */
static void each_way(fault_call *call, void *arg, const int *allowed, const char *dir, size_t max)
{
    static const struct fault ways[] = {
        {" fork pipe2 open openat fdopendir fopen socket inotify_init1 dup2 fcntl mkdtemp ", EMFILE, false},
        {" fork pipe2 open openat fdopendir fopen socket inotify_init1 mkdtemp ", EMFILE, true},
        {" write mkdir mkdtemp rename close open inotify_add_watch ", ENOSPC, false},
        {" write mkdir mkdtemp rename open inotify_add_watch ", ENOSPC, true},
        {" stat lstat fstat fstatat realpath access lseek read readdir unlink unlinkat rmdir fread getline "
         "connect fopen open ",
         EIO, false},
        {" stat lstat fstat fstatat realpath access lseek read readdir fread getline fopen open ", EIO, true},
        {" read write poll ", EINTR, false},
        {" poll ", ENOMEM, false},
        {" read write ", FAULT_SHORT, false},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        fault_each(&ways[i], call, arg, allowed, dir, max);
}

/* --- the harness itself --- */

static int leaks(void *arg, struct error *err)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, "null");
    if (lseek(fd, 0, SEEK_SET) < 0)
        return *(bool *)arg ? (close(fd), error_errno(err, "seek")) : 0;
    close(fd);
    return 0;
}

static void test_it_counts(void **state)
{
    (void)state;
    bool well = true;
    const struct fault all = {NULL, EIO, false}, some = {" lseek ", EIO, false},
                       none = {" fork ", EIO, false};
    assert_int_equal(fault_each(&all, leaks, &well, system_alone, NULL, 10),
                     3); /* of the last one nobody is told */
    assert_int_equal(fault_each(&some, leaks, &well, system_alone, NULL, 10), 1);
    assert_int_equal(fault_each(&none, leaks, &well, system_alone, NULL, 10), 0);
}

/* --- the private directory --- */

static int make_rundir(void *arg, struct error *err)
{
    (void)arg;
    char *dir = rundir_create(err);
    if (!dir)
        return -1;
    struct stat st;
    assert_true(stat(dir, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
    fault_at(NULL, 0); /* what is under test was the making */
    rundir_remove(dir);
    assert_int_equal(access(dir, F_OK), -1);
    free(dir);
    return 0;
}

static void test_rundir_create(void **state)
{
    (void)state;
    static const struct fault ways[] = {{" mkdirat ", ENOSPC, false}, {" mkdirat ", EROFS, true}};
    for (size_t i = 0; i < 2; i++)
        assert_true(fault_each(&ways[i], make_rundir, NULL, system_alone, bases, 50) > 0);
}

/* What cannot be removed is left for the janitor: no crash, no descriptor, and errno is the caller's. */
static void test_rundir_remove(void **state)
{
    (void)state;
    static const struct fault fault = {" open openat fdopendir readdir unlinkat rmdir fstat fstatat ", EIO,
                                       false};
    for (size_t n = 1, more = 1; more; n++) {
        struct error err = ERROR_INIT;
        char *dir = rundir_create(&err), sub[200];
        snprintf(sub, sizeof sub, "%s/sub", dir);
        assert_int_equal(mkdir(sub, 0700), 0);
        assert_int_equal(rundir_write(sub, "a", "x", 1, &err), 0);
        errno = EXDEV;
        int before = dup(0);
        close(before);
        errno = EXDEV;
        fault_at(&fault, n);
        rundir_remove(dir);
        fault_at(NULL, 0);
        assert_int_equal(errno, EXDEV);
        int after = dup(0);
        close(after);
        assert_int_equal(before, after);
        more = fault_happened() != NULL;
        assert_true(more || access(dir, F_OK));
        rundir_remove(dir);
        assert_int_equal(access(dir, F_OK), -1);
        free(dir);
        assert_true(n < 60);
    }
}

static int write_file(void *arg, struct error *err)
{
    (void)arg;
    static const char text[] = "all of it, or none";
    int result = rundir_write(run, "file", text, strlen(text), err);
    fault_at(NULL, 0);
    if (result == 0)
        assert_true(has_text(path_in(base, "run/file"), text, strlen(text)));
    else
        assert_int_equal(access(path_in(base, "run/file"), F_OK), -1); /* half a file is none */
    unlink(path_in(base, "run/file"));
    return result;
}

static void test_rundir_write(void **state)
{
    (void)state;
    each_way(write_file, NULL, system_alone, run, 50);
}

/* The end of a file, or nothing: never a part for the whole. */
static int read_tail(void *arg, struct error *err)
{
    (void)arg;
    size_t len = 0;
    char *text = rundir_tail(path_in(base, "lines"), 100, &len);
    if (text)
        assert_true(len == 8 && !strcmp(text, "one\ntwo\n"));
    free(text);
    return text ? 0 : error_set(err, STATUS_SYSTEM, "none");
}

static void test_rundir_tail(void **state)
{
    (void)state;
    put_file(path_in(base, "lines"), "one\ntwo\n", 0600);
    each_way(read_tail, NULL, system_alone, NULL, 50);
}

static int write_plugin(void *arg, struct error *err)
{
    (void)arg;
    int result = plugin_write(run, err);
    fault_at(NULL, 0);
    if (result == 0)
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(access(path_in(base, i ? "run/plugin/pytest_cloudplan/__init__.py"
                                                    : "run/plugin/pytest_cloudplan/worker.py"),
                                    R_OK),
                             0);
    rundir_remove(path_in(base, "run/plugin"));
    return result;
}

static void test_plugin_write(void **state)
{
    (void)state;
    each_way(write_plugin, NULL, system_alone, run, 200);
}

/* --- children --- */

static int capture(void *arg, struct error *err)
{
    (void)arg;
    static const char *const argv[] = {"sh", "-c", "echo out; echo words >&2; exit 3", NULL};
    char *out, *words;
    int status = 0;
    int result = child_capture(argv, NULL, 20000, 100, &out, &words, &status, err);
    if (result == 0 && (status != 3 || strcmp(out, "out\n") || strcmp(words, "words\n"))) {
        error_set(err, STATUS_BUG, "success with status %d and %s%s", status, out, words);
        result = -1;
    }
    free(out);
    free(words);
    return result;
}

static void test_child_capture(void **state)
{
    (void)state;
    each_way(capture, NULL, system_alone, NULL, 200);
}

static int check_tool(void *arg, struct error *err)
{
    (void)arg;
    return parallel_check(err);
}

/* A tool that could not be asked is not said to be missing. */
static void test_tool(void **state)
{
    (void)state;
    put_file(path_in(base, "bin/parallel"), "#!/bin/sh\necho GNU parallel 20221122\n", 0700);
    each_way(check_tool, NULL, system_alone, NULL, 200);
}

/* Only the janitor's end removes the directory, and it is the last that is started: without it there is no run. */
static int keep_janitor(void *arg, struct error *err)
{
    (void)arg;
    struct child janitor = CHILD_INIT;
    char *dir = path_in(base, "run/kept");
    mkdir(dir, 0700);
    int result = janitor_start(&janitor, dir, "r", err);
    fault_at(NULL, 0);
    if (result == 0) {
        janitor_end(&janitor, dir, "r");
        assert_int_equal(access(dir, F_OK), -1);
    }
    rmdir(dir);
    return result;
}

static void test_janitor(void **state)
{
    (void)state;
    static const struct fault ways[] = {{" fork pipe2 open fcntl ", EMFILE, false},
                                        {" fork pipe2 open ", EMFILE, true}};
    for (size_t i = 0; i < 2; i++)
        assert_true(fault_each(&ways[i], keep_janitor, NULL, system_alone, run, 50) > 2);
}

/* --- what is read --- */

static int read_inventory(void *arg, struct error *err)
{
    (void)arg;
    struct node_list list = {0};
    int result = inventory_read(&list, path_in(base, "nodes"), err);
    if (result == 0)
        assert_int_equal(list.count, 3);
    node_list_clear(&list);
    return result;
}

static void test_inventory(void **state)
{
    (void)state;
    static const int allowed[] = {STATUS_DATA, STATUS_SYSTEM, STATUS_SIGNAL + 2, 0};
    put_file(path_in(base, "nodes"), "one\ntwo # words\n\nthree\n", 0600);
    each_way(read_inventory, NULL, allowed, NULL, 50);
}

/* A file that cannot be read may mention what we look for. */
static int mentioned(void *arg, struct error *err)
{
    (void)err;
    assert_true(settings_mentioned(arg));
    return 0;
}

static void test_settings_mentioned(void **state)
{
    (void)state;
    put_file(path_in(base, "project/tox.ini"), "[pytest]\ncloud_max_processes = 1\n", 0600);
    each_way(mentioned, project, system_alone, NULL, 100);
    unlink(path_in(base, "project/tox.ini"));
}

static int ask_pytest(void *arg, struct error *err)
{
    (void)arg;
    static char *const none[] = {NULL};
    const struct settings_params params = {
        .python = path_in(base, "bin/python"), .rundir = run, .run_id = "r", .args = none};
    struct settings_query *query = settings_ask(&params, err);
    const struct settings *settings = query ? settings_wait(query, err) : NULL;
    if (settings)
        assert_string_equal(settings->pytest, "7.2.1");
    int result = settings ? 0 : -1;
    settings_destroy(query);
    fault_at(NULL, 0);
    unlink(path_in(base, "run/settings.json"));
    return result;
}

static void test_settings(void **state)
{
    (void)state;
    put_file(path_in(base, "bin/python"),
             "#!/bin/sh\n"
             "echo '{\"version\": 1, \"versions\": {\"pytest\": \"7.2.1\", \"xdist\": \"3.1.0\", "
             "\"execnet\": \"1.9.0\"}, \"options\": [],"
             " \"args\": [], \"modules\": []}' >\"$_CLOUDPLAN_SETTINGS\"\n",
             0700);
    struct error err = ERROR_INIT;
    if (ask_pytest(NULL, &err))
        fail_msg("%s", err.text);
    each_way(ask_pytest, NULL, system_alone, run, 200);
}

static int find_project(void *arg, struct error *err)
{
    static const char *const none[] = {NULL};
    struct project found = {0};
    int result = project_find(&found, "pytest", NULL, NULL, none, err);
    if (result == 0) {
        assert_string_equal(found.root, project);
        assert_true(found.venv_used && found.venv && !strcmp(strrchr(found.venv, '/'), "/venv"));
        assert_string_equal(found.venv_version, "3.11");
    }
    (void)arg;
    project_clear(&found);
    return result;
}

/* A virtualenv that cannot be looked at is not one that is not there: the tests would have another interpreter. */
static void test_project(void **state)
{
    (void)state;
    static const char *const dirs[] = {"project/venv", "project/venv/bin"};
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(mkdir(path_in(base, dirs[i]), 0700), 0);
    put_file(path_in(base, "project/venv/pyvenv.cfg"), "home = /usr/bin\nversion = 3.11.2\n", 0600);
    assert_int_equal(symlink("/bin/sh", path_in(base, "project/venv/bin/python3")), 0);
    char *before = realpath(".", NULL);
    assert_int_equal(chdir(project), 0);
    unsetenv("VIRTUAL_ENV");
    each_way(find_project, NULL, system_alone, project, 200);
    assert_int_equal(chdir(before), 0);
    free(before);
    rundir_remove(path_in(base, "project/venv"));
}

static int find_places(void *arg, struct error *err)
{
    (void)arg;
    const char *const dirs[] = {path_in(base, "project/sub"), path_in(base, "outside"), NULL};
    const struct sync_params params = {.rundir = run, .root = project, .chdir = "copy", .dirs = dirs};
    struct rsync_places places = {0};
    int result = rsync_places_find(&places, &params, err);
    rsync_places_clear(&places);
    struct rsync_rules *rules = result ? NULL : rsync_rules_make(&params, err);
    rsync_rules_destroy(rules);
    return rules ? 0 : -1;
}

static void test_rsync_rules(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_in(base, "project/sub"), 0700), 0);
    assert_int_equal(mkdir(path_in(base, "outside"), 0700), 0);
    each_way(find_places, NULL, system_alone, project, 100);
    rmdir(path_in(base, "project/sub"));
    rmdir(path_in(base, "outside"));
}

static int count_failed(void *arg, struct error *err)
{
    (void)arg;
    size_t count = 0;
    int result = rerun_count(path_in(base, "failed.json"), &count, err);
    if (result == 0)
        assert_int_equal(count, 2);
    return result;
}

/* A list that cannot be looked at is not "nothing failed". */
static void test_rerun(void **state)
{
    (void)state;
    static const int allowed[] = {STATUS_SYSTEM, STATUS_BUG, 0};
    put_file(path_in(base, "failed.json"), "[\"test_a.py::a\", \"test_b.py::b\"]", 0600);
    each_way(count_failed, NULL, allowed, NULL, 20);
}

static int known(void *arg, struct error *err)
{
    (void)arg;
    const char *const files[] = {path_in(base, "known_hosts"), path_in(base, "none"), NULL};
    struct known_hosts *hosts = known_hosts_read(files, err);
    if (!hosts)
        return -1;
    struct known_host *host = known_hosts_lookup(hosts, "node", 22, err);
    /* It holds a key for it, or OpenSSH has to be asked; never "nothing is known". */
    assert_true(host && (known_host_count(host) == 1 || known_host_unsure(host)));
    known_host_destroy(host);
    known_hosts_destroy(hosts);
    return 0;
}

static void test_known_hosts(void **state)
{
    (void)state;
    put_file(path_in(base, "known_hosts"),
             "node ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2mVyCk0p0n2SJpB5cUKQb8GpBbDFGGVDJ0L8pTQ3gB\n", 0600);
    each_way(known, NULL, system_alone, NULL, 50);
}

static int identities(void *arg, struct error *err)
{
    (void)arg;
    const char *const files[] = {path_in(base, "id_ed25519"), path_in(base, "none"), NULL};
    struct identity_list *list = identity_list_make(files, false, NULL, err);
    if (!list)
        return -1;
    /* What cannot be read OpenSSH may be able to use. */
    assert_true(list->count == 1 || list->skipped);
    identity_list_destroy(list);
    return 0;
}

static void test_identities(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "ssh-keygen -q -t ed25519 -N '' -C x -f %s",
             path_in(base, "id_ed25519"));
    if (system(command))
        skip();
    each_way(identities, NULL, system_alone, NULL, 50);
}

static int rules(void *arg, struct error *err)
{
    (void)arg;
    const struct host_rules_paths paths = {path_in(base, "config"), base, path_in(base, "none"), base};
    struct host_rules *found = host_rules_read(&paths, err);
    if (!found)
        return -1;
    assert_true(host_rules_count(found) == 1 || !host_rules_usable(found));
    host_rules_destroy(found);
    return 0;
}

static void test_host_rules(void **state)
{
    (void)state;
    put_file(path_in(base, "config"), "Host a\n  Port 7\n", 0600);
    each_way(rules, NULL, system_alone, NULL, 50);
}

static int ask_ssh(void *arg, struct error *err)
{
    (void)arg;
    const struct sshconf_asker asker = {
        {path_in(base, "config"), base, path_in(base, "none"), base}, "/home/u", 20000};
    struct node_list list = {0};
    assert_int_equal(node_list_add_words(&list, "a b", err), 0);
    struct sshconf_set *set = sshconf_ask_as(&list, &asker, err);
    for (size_t i = 0; set && i < list.count; i++) /* an answer, or a reason */
        assert_true(list.nodes[i].conf || list.nodes[i].state == NODE_FAILED);
    sshconf_destroy(set);
    node_list_clear(&list);
    return set ? 0 : -1;
}

static void test_sshconf(void **state)
{
    (void)state;
    put_file(path_in(base, "bin/ssh"),
             "#!/bin/sh\nfor host; do :; done\n"
             "printf '%s\\n' 'user ci' \"hostname $host\" 'port 22' 'addressfamily any' "
             "'stricthostkeychecking ask' \\\n"
             "    'hostkeyalgorithms a' 'kexalgorithms k' 'ciphers c' 'macs m' 'identityfile ~/id'\n",
             0700);
    each_way(ask_ssh, NULL, system_alone, NULL, 300);
    unlink(path_in(base, "bin/ssh"));
}

static int agent(void *arg, struct error *err)
{
    struct agent *opened = agent_open(arg, 1000, err);
    agent_destroy(opened);
    return opened ? 0 : -1;
}

static void test_agent(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path_in(base, "agent"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 128), 0);
    struct error err = ERROR_INIT;
    /* Nobody answers there: what counts is that nothing is left. */
    static const struct fault ways[] = {
        {" socket ", EMFILE, false}, {" connect ", EIO, false}, {" connect ", EINTR, false}};
    for (size_t i = 0; i < 3; i++) {
        int before = dup(0);
        close(before);
        fault_at(&ways[i], 1);
        (void)agent(address.sun_path, &err);
        fault_at(NULL, 0);
        assert_non_null(fault_happened());
        int after = dup(0);
        close(after);
        assert_int_equal(before, after);
    }
    close(fd);
}

/* --- GNU parallel, rsync --- */

static int in_parallel(void *arg, struct error *err)
{
    (void)arg;
    static char *const commands[] = {"true", "exit 7"};
    int statuses[2] = {-1, -1};
    const struct parallel_params params = {.rundir = run, .doing = "copying"};
    int result = parallel_run(&params, commands, 2, statuses, err);
    fault_at(NULL, 0);
    /* How a job has ended is known, or it is said that it is not. */
    if (result == 0)
        assert_true((statuses[0] == 0 && statuses[1] == 7) || (statuses[0] == -1 && statuses[1] == -1));
    unlink(path_in(base, "run/parallel.list"));
    unlink(path_in(base, "run/parallel.joblog"));
    return result;
}

static void test_parallel(void **state)
{
    (void)state;
    put_file(path_in(base, "bin/parallel"), fake_parallel, 0700);
    each_way(in_parallel, NULL, system_alone, run, 200);
}

static int disk_room(void *arg, struct error *err)
{
    (void)arg;
    const struct sync_params params = {.rundir = run, .root = project, .chdir = "copy"};
    struct node_list list = {0};
    assert_int_equal(node_list_add_words(&list, "a", err), 0);
    list.nodes[0].state = NODE_READY;
    list.nodes[0].processes = 1;
    list.nodes[0].facts.disk_free = UINT64_MAX - 1;
    int result = disk_room_check(&list, &params, err);
    node_list_clear(&list);
    return result;
}

static void test_disk_room(void **state)
{
    (void)state;
    static const int allowed[] = {STATUS_SYSTEM, STATUS_SYNC, 0};
    put_file(path_in(base, "bin/rsync"), "#!/bin/sh\necho 'Total file size: 12 bytes'\n", 0700);
    each_way(disk_room, NULL, allowed, project, 200);
    unlink(path_in(base, "bin/rsync"));
}

static int write_config(void *arg, struct error *err)
{
    (void)arg;
    const struct master_params params = {
        .rundir = run, .chdir = "copy", .run_id = "r", .timeout_ms = 1000, .root = project};
    int result = master_config_write(&params, err);
    fault_at(NULL, 0);
    assert_int_equal(access(path_in(base, "run/ssh_config"), F_OK), result);
    unlink(path_in(base, "run/ssh_config"));
    return result;
}

static void test_master_config(void **state)
{
    (void)state;
    each_way(write_config, NULL, system_alone, run, 50);
}

/* --- the watch --- */

static int watch_once(void *arg, struct error *err)
{
    const struct watch_tree tree = {.root = project};
    struct watch *watch = *(bool *)arg ? watch_create_polling(&tree, err) : watch_create(&tree, err);
    int result = watch && watch_begin_run(watch, err) == 0 && watch_end_run(watch, err) == 0 ? 0 : -1;
    watch_destroy(watch);
    return result;
}

static void test_watch(void **state)
{
    (void)state;
    mkdir(path_in(base, "project/deep"), 0700);
    put_file(path_in(base, "project/deep/a.py"), "x", 0600);
    for (size_t polling = 0; polling < 2; polling++) {
        bool arg = polling;
        each_way(watch_once, &arg, system_alone, project, 200);
    }
    rundir_remove(path_in(base, "project/deep"));
}

/* --- */

static int set_up(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    if (!mkdtemp(base) || child_init(&err))
        return -1;
    snprintf(run, sizeof run, "%s/run", base);
    snprintf(bases, sizeof bases, "%s/bases", base);
    snprintf(project, sizeof project, "%s/project", base);
    if (mkdir(run, 0700) || mkdir(bases, 0700) || mkdir(project, 0700) || mkdir(path_in(base, "bin"), 0700))
        return -1;
    setenv("TMPDIR", bases, 1);
    unsetenv("XDG_RUNTIME_DIR");
    put_first_in_path(path_in(base, "bin"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rundir_remove(base);
    return access(base, F_OK) == 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_counts),
        cmocka_unit_test(test_rundir_create),
        cmocka_unit_test(test_rundir_remove),
        cmocka_unit_test(test_rundir_write),
        cmocka_unit_test(test_rundir_tail),
        cmocka_unit_test(test_plugin_write),
        cmocka_unit_test(test_child_capture),
        cmocka_unit_test(test_tool),
        cmocka_unit_test(test_janitor),
        cmocka_unit_test(test_inventory),
        cmocka_unit_test(test_settings_mentioned),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_project),
        cmocka_unit_test(test_rsync_rules),
        cmocka_unit_test(test_rerun),
        cmocka_unit_test(test_known_hosts),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_host_rules),
        cmocka_unit_test(test_sshconf),
        cmocka_unit_test(test_agent),
        cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_disk_room),
        cmocka_unit_test(test_master_config),
        cmocka_unit_test(test_watch),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
