#include "base/rundir.h"
#include "copy/project.h"

#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A world of its own for every test: WORLD/app is the root, WORLD/base/bin/python3.1 the base interpreter,
 * WORLD/home the home.  Nothing in it is ever run. */
static char world[] = "/tmp/project.XXXXXX";
static char root[64], base[64];
static struct project project;
static struct error err;

static char *at(const char *fmt, ...)
{
    static char buffers[8][256];
    static unsigned next;
    char *buffer = buffers[next++ % 8];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buffer, sizeof buffers[0], fmt, ap);
    va_end(ap);
    return buffer;
}

static void make_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void make_dirs(const char *path)
{
    char copy[256];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *s = copy + 1; (s = strchr(s, '/')); *s++ = '/') {
        *s = '\0';
        assert_true(mkdir(copy, 0755) == 0 || errno == EEXIST);
    }
    assert_true(mkdir(copy, 0755) == 0 || errno == EEXIST);
}

/* python3 -> python3.1 -> the base interpreter, as python -m venv makes them. */
static void make_virtualenv(const char *dir)
{
    make_dirs(at("%s/bin", dir));
    make_file(at("%s/pyvenv.cfg", dir), "include-system-site-packages = false\n", 0644);
    assert_int_equal(symlink(base, at("%s/bin/python3.1", dir)), 0);
    assert_int_equal(symlink("python3.1", at("%s/bin/python3", dir)), 0);
}

/* The same with copies: pyvenv.cfg tells where they come from. */
static void make_copied_virtualenv(const char *dir, const char *cfg)
{
    make_dirs(at("%s/bin", dir));
    make_file(at("%s/pyvenv.cfg", dir), cfg, 0644);
    make_file(at("%s/bin/python3", dir), "", 0755);
}

static int setup(void **state)
{
    (void)state;
    strcpy(world, "/tmp/project.XXXXXX");
    if (!mkdtemp(world))
        return -1;
    snprintf(root, sizeof root, "%s/app", world);
    snprintf(base, sizeof base, "%s/base/bin/python3.1", world);
    make_dirs(root);
    make_dirs(at("%s/home", world));
    make_dirs(at("%s/base/bin", world));
    make_file(base, "", 0755);
    setenv("HOME", at("%s/home", world), 1);
    unsetenv("VIRTUAL_ENV");
    err = (struct error)ERROR_INIT;
    return chdir(root);
}

static int teardown(void **state)
{
    (void)state;
    project_clear(&project);
    rundir_remove(world);
    return chdir("/");
}

static int find(const char *dir, const char *virtualenv, const char *python)
{
    project_clear(&project);
    err = (struct error)ERROR_INIT;
    const char *const pythons[] = {python, NULL};
    return project_find(&project, "pytest", dir, virtualenv, pythons, &err);
}

static void assert_refused(const char *text)
{
    assert_int_equal(err.status, STATUS_USAGE);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.text);
    assert_true(!project.root && !project.chdir && !project.venv && !project.local_python);
}

/* CI servers set HOME to a job's directory. */
static void test_home_that_is_a_workspace(void **state)
{
    (void)state;
    assert_int_equal(chdir(at("%s/home", world)), 0);
    assert_false(project_is_home("."));
    assert_int_equal(find("work/x", NULL, NULL), 0);
    project_clear(&project);
}

static void test_bad_roots(void **state)
{
    (void)state;
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(find(NULL, NULL, NULL), -1);
    assert_refused("/: would be copied as a whole; run cloudplan in the project's directory");

    /* whatever HOME says */
    const struct passwd *user = getpwuid(geteuid());
    for (int i = 0; i < 2; i++, unsetenv("HOME"))
        if (user && chdir(user->pw_dir) == 0) {
            assert_int_equal(find(NULL, NULL, NULL), -1);
            assert_refused("would be copied as a whole; run cloudplan in the project's directory");
        }

    /* somebody else's, with sudo */
    struct passwd *other;
    struct stat st;
    setpwent();
    while ((other = getpwent()))
        if (other->pw_uid != geteuid() && strcmp(other->pw_dir, "/") && stat(other->pw_dir, &st) == 0 &&
            st.st_uid == other->pw_uid) {
            assert_true(project_is_home(at("%s/.", other->pw_dir)));
            break;
        }
    endpwent();

    char *gone = at("%s/gone", world);
    make_dirs(gone);
    assert_int_equal(chdir(gone), 0);
    assert_int_equal(rmdir(gone), 0);
    assert_int_equal(find(NULL, NULL, NULL), -1);
    assert_int_equal(err.status, STATUS_SYSTEM);
    assert_string_equal(err.text, "current directory: No such file or directory");
}

static void test_chdir(void **state)
{
    (void)state;
    static const struct {
        const char *typed, *chdir; /* chdir NULL: refused */
        const char *why;
    } cases[] = {
        {"", NULL, "is the home itself"},
        {".", NULL, "holds \".\""},
        {"./", NULL, "is the home itself"},
        {"~", NULL, "is the home itself"},
        {"~/", NULL, "is the home itself"},
        {"~/.", NULL, "holds \".\""},
        {"~//", NULL, "is the home itself"},
        {"~//etc", NULL, "holds \"//\""},
        {".//etc", NULL, "holds \"//\""},
        {"/", NULL, "is the node's root"},
        {"///", NULL, "is the node's root"},
        {"/./", NULL, "holds \".\""},
        {"..", NULL, "holds \"..\""},
        {"../x", NULL, "holds \"..\""},
        {"a/../b", NULL, "holds \"..\""},
        {"a/..", NULL, "holds \"..\""},
        {"/..", NULL, "holds \"..\""},
        {"~/..", NULL, "holds \"..\""},
        {"a/./b", NULL, "holds \".\""},
        {"a//b", NULL, "holds \"//\""},
        {"~user/x", NULL, "holds a character other than"},
        {"~/~/x", NULL, "holds a character other than"},
        {"a b", NULL, "holds a character other than"},
        {"a;b", NULL, "holds a character other than"},
        {"$HOME/x", NULL, "holds a character other than"},
        {"a\nb", NULL, "holds a character other than"},
        {"caf\xc3\xa9", NULL, "holds a character other than"},
        {"-rf", NULL, "a shell or rsync would not take it for a path"},
        {"a=b/c", NULL, "a shell or rsync would not take it for a path"},
        {"work", "work", NULL},
        {"work/x", "work/x", NULL},
        {"work/x///", "work/x", NULL},
        {"./work", "work", NULL},
        {"~/work/", "work", NULL},
        {"/srv/work/", "/srv/work", NULL},
        {"/srv/a=b", "/srv/a=b", NULL},
        {"...", "...", NULL},
        {"a..b/.c", "a..b/.c", NULL},
        {"A.b_c+@%,:-9", "A.b_c+@%,:-9", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int result = find(cases[i].typed, NULL, NULL);
        if (!cases[i].chdir) {
            assert_int_equal(result, -1);
            assert_refused("--cloud-chdir=");
            assert_refused(cases[i].why);
        } else {
            assert_int_equal(result, 0);
            assert_string_equal(project.chdir, cases[i].chdir);
        }
    }
}

static void test_long_chdir(void **state)
{
    (void)state;
    char name[242], path[1100];
    memset(name, 'n', sizeof name);
    name[241] = '\0';
    assert_int_equal(find(name, NULL, NULL), -1);
    assert_refused("--cloud-chdir=nnn");
    assert_refused("with a name of more than 240");
    name[240] = '\0';
    assert_int_equal(find(name, NULL, NULL), 0);
    for (size_t i = 0; i < sizeof path; i++)
        path[i] = i % 2 ? '/' : 'x';
    path[1000] = '\0';
    assert_int_equal(find(path, NULL, NULL), 0); /* with a slash at its end */
    path[1000] = 'x';
    path[1001] = '\0';
    assert_int_equal(find(path, NULL, NULL), -1);
    assert_refused("a path of more than 1000 bytes");
    /* The project's own name. */
    name[240] = 'n';
    assert_int_equal(mkdir(at("%s/app/%s", world, name), 0755), 0);
    assert_int_equal(chdir(at("%s/app/%s", world, name)), 0);
    assert_int_equal(find(NULL, NULL, NULL), -1);
    assert_refused("--cloud-chdir=pytest_");
    assert_int_equal(find("short", NULL, NULL), 0);
}

static void test_default_chdir(void **state)
{
    (void)state;
    const struct passwd *user = getpwuid(geteuid());
    assert_non_null(user);
    assert_int_equal(find(NULL, NULL, NULL), 0);
    assert_string_equal(project.root, root);
    assert_string_equal(project.chdir, at("pytest_%s_app", user->pw_name));

    const char *odd = at("%s/my app=\xc3\xa9;x", world);
    make_dirs(odd);
    assert_int_equal(chdir(odd), 0);
    assert_int_equal(find(NULL, NULL, NULL), 0);
    assert_string_equal(project.chdir, at("pytest_%s_my_app____x", user->pw_name));

    /* physical: the name of a link does not count */
    assert_int_equal(symlink(root, at("%s/link", world)), 0);
    assert_int_equal(chdir(at("%s/link", world)), 0);
    assert_int_equal(find(NULL, NULL, NULL), 0);
    assert_string_equal(project.root, root);
}

static void assert_pythons(const char *venv, const char *place, const char *remote, const char *probe,
                           const char *local)
{
    assert_int_equal(err.status, 0);
    if (venv) {
        assert_string_equal(project.venv, venv);
        assert_string_equal(project.venv_remote, place);
    } else {
        assert_null(project.venv);
        assert_null(project.venv_remote);
    }
    assert_string_equal(project.remote_pythons[0], remote);
    assert_string_equal(project.probe_pythons[0], probe);
    assert_string_equal(project.local_python, local);
}

static void test_bad_pythons(void **state)
{
    (void)state;
    static const char *const names[] = {"",          "-c",  "a b",          "$(x)", "bin/python3",
                                        "./python3", "a=b", "/opt//python3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(find("w", NULL, names[i]), -1);
        assert_refused(at("--cloud-python=%s: ", names[i]));
    }
    make_virtualenv("venv");
    assert_int_equal(find("w", NULL, "python3.9"), -1);
    assert_refused(at("%s/venv/bin/python3.9: No such file or directory; make the virtualenv anew", root));
}

static void test_pythons_without_virtualenv(void **state)
{
    (void)state;
    assert_int_equal(find("w", NULL, NULL), 0);
    assert_pythons(NULL, NULL, "python3", "python3", "python3");
    assert_int_equal(find("w", NULL, "python3.12"), 0);
    assert_pythons(NULL, NULL, "python3.12", "python3.12", "python3");
    assert_int_equal(find("w", NULL, "/opt/python/bin/python3"), 0);
    assert_pythons(NULL, NULL, "/opt/python/bin/python3", "/opt/python/bin/python3", "python3");
}

static void test_pythons_of_virtualenv(void **state)
{
    (void)state;
    make_virtualenv("venv");
    char *venv = at("%s/venv", root);
    assert_int_equal(find("w", NULL, NULL), 0);
    assert_pythons(venv, "venv", "w/venv/bin/python3", base, at("%s/venv/bin/python3", root));
    assert_int_equal(find("/srv/w", NULL, "python3.1"), 0);
    assert_pythons(venv, "venv", "/srv/w/venv/bin/python3.1", base, at("%s/venv/bin/python3.1", root));
    assert_int_equal(find("w", NULL, "/opt/python3"), 0);
    assert_pythons(venv, "venv", "/opt/python3", "/opt/python3", at("%s/venv/bin/python3", root));

    unlink("venv/bin/python3");
    assert_int_equal(find("w", NULL, "/opt/python3"), 0);
    assert_pythons(venv, "venv", "/opt/python3", "/opt/python3", "python3");
}

static void test_search(void **state)
{
    (void)state;
    static const char *const names[] = {"virtualenv", ".env", "env", ".venv", "venv"}; /* the last one wins */
    make_dirs("venv"); /* no pyvenv.cfg in it yet */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        make_virtualenv(names[i]);
        assert_int_equal(find("w", NULL, NULL), 0);
        assert_string_equal(project.venv_remote, names[i]);
    }
    /* the active one counts only inside the root, and only if it is one */
    make_virtualenv("deep/down");
    make_virtualenv(at("%s/other", world));
    setenv("VIRTUAL_ENV", at("%s/deep/down", root), 1);
    assert_int_equal(find("w", NULL, NULL), 0);
    assert_string_equal(project.venv_remote, "deep/down");
    const char *const ignored[] = {"", at("%s/other", world), at("%s/deep", root), at("%s/none", root)};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        setenv("VIRTUAL_ENV", ignored[i], 1);
        assert_int_equal(find("w", NULL, NULL), 0);
        assert_string_equal(project.venv_remote, "venv");
    }
}

static void test_dotenv_file_is_no_virtualenv(void **state)
{
    (void)state;
    make_file(".env", "SECRET=1\n", 0600);
    assert_int_equal(find("w", NULL, NULL), 0);
    assert_null(project.venv);
}

static void test_bad_virtualenvs(void **state)
{
    (void)state;
    make_dirs("empty");
    static const char *const none[] = {"", "missing", "empty", "/"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_int_equal(find("w", none[i], NULL), -1);
        assert_refused(
            at("--cloud-virtualenv-path=%s: no virtualenv, there is no pyvenv.cfg in it", none[i]));
    }
    make_virtualenv("my env");
    assert_int_equal(find("w", "my env", NULL), -1);
    assert_refused("/my env: holds a character other than");

    make_virtualenv(at("%s/tests", world));
    make_dirs("tests");
    assert_int_equal(find("w", "../tests", NULL), -1);
    assert_refused(
        "/tests: a virtualenv outside the project is copied to tests, and the project has a tests already");

    make_virtualenv("broken");
    unlink("broken/bin/python3");
    assert_int_equal(symlink("/nonexistent/python3", "broken/bin/python3"), 0);
    assert_int_equal(find("w", "broken", NULL), -1);
    assert_refused("/broken/bin/python3: No such file or directory; make the virtualenv anew");

    /* made from an interpreter that is part of the project */
    make_dirs("tools");
    make_file("tools/python3", "", 0755);
    make_dirs("inner/bin");
    make_file("inner/pyvenv.cfg", "", 0644);
    assert_int_equal(symlink("../../tools/python3", "inner/bin/python3"), 0);
    assert_int_equal(find("w", "inner", NULL), -1);
    assert_refused(at("made from %s/tools/python3, which the nodes cannot have", root));
}

static void test_virtualenv_elsewhere(void **state)
{
    (void)state;
    char *venv = at("%s/envs/py", world);
    make_virtualenv(venv);
    assert_int_equal(find("w", "../envs/py/", NULL), 0);
    assert_pythons(venv, "py", "w/py/bin/python3", base, at("%s/bin/python3", venv));

    /* the root itself, and a sibling whose name begins like the root's */
    make_virtualenv(at("%s/app2", world));
    assert_int_equal(find("w", "../app2", NULL), 0);
    assert_string_equal(project.venv_remote, "app2");
    make_virtualenv(root);
    assert_int_equal(find("w", ".", NULL), 0);
    assert_pythons(root, ".", "w/./bin/python3", base, at("%s/bin/python3", root));
}

static void test_copied_virtualenv(void **state)
{
    (void)state;
    static const struct {
        const char *cfg, *why;
    } bad[] = {
        {"", "/venv/pyvenv.cfg: names no home"},
        {"homely = /usr/bin\nhome\nversion = 3\n", "/venv/pyvenv.cfg: names no home"},
        {"home = \n", "/venv/pyvenv.cfg: names no home"},
        {"home = usr/bin\n", "made from usr/bin/python3, which the nodes cannot have"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make_copied_virtualenv("venv", bad[i].cfg);
        assert_int_equal(find("w", NULL, NULL), -1);
        assert_refused(bad[i].why);
    }
    make_copied_virtualenv("venv", at("home = %s/venv/bin\n", root));
    assert_int_equal(find("w", NULL, NULL), -1);
    assert_refused("which the nodes cannot have");

    static const char *const good[] = {"home = /opt/bin\n", "version = 3\r\nhome=/opt/bin\r\n",
                                       " Home\t=\t/opt/bin ", "home = /opt/bin\nhome = /other\n"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        make_copied_virtualenv("venv", good[i]);
        assert_int_equal(find("w", NULL, NULL), 0);
        assert_string_equal(project.probe_pythons[0], "/opt/bin/python3");
        assert_string_equal(project.remote_pythons[0], "w/venv/bin/python3");
    }
}

static void test_several_pythons(void **state)
{
    (void)state;
    const char *const pythons[] = {"python3.9", "/opt/python3", NULL};
    assert_int_equal(project_find(&project, "pytest", "w", NULL, pythons, &err), 0);
    assert_string_equal(project.remote_pythons[0], "python3.9");
    assert_string_equal(project.probe_pythons[1], "/opt/python3");
    assert_null(project.remote_pythons[2]);
    assert_null(project.probe_pythons[2]);
    assert_false(project.venv_used);
    assert_null(project.venv_version);
    assert_string_equal(project.local_python, "python3");
    project_clear(&project);

    make_virtualenv("venv");
    const char *const mixed[] = {"/opt/python3", "python3", NULL};
    assert_int_equal(project_find(&project, "pytest", "w", NULL, mixed, &err), 0);
    assert_string_equal(project.remote_pythons[0], "/opt/python3");
    assert_string_equal(project.remote_pythons[1], "w/venv/bin/python3");
    assert_string_equal(project.probe_pythons[1], base);
    assert_false(project.venv_used);
    project_clear(&project);

    const char *const bad_second[] = {"python3", "a b", NULL};
    assert_int_equal(project_find(&project, "pytest", "w", NULL, bad_second, &err), -1);
    assert_refused("--cloud-python=a b: ");
}

static void test_virtualenv_version(void **state)
{
    (void)state;
    static const struct {
        const char *cfg, *version;
    } cases[] = {
        {"home = /opt/bin\n", NULL},
        {"home = /opt/bin\nversion = nonsense\n", NULL},
        {"home = /opt/bin\nversion = 3\n", NULL},
        {"home = /opt/bin\nversion = 3.11.2\n", "3.11"},
        {"home = /opt/bin\nversion_info = 3.9.18.final.0\n", "3.9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_copied_virtualenv("venv", cases[i].cfg);
        assert_int_equal(find("w", NULL, NULL), 0);
        assert_true(project.venv_used);
        assert_string_equal(project.python_name, "python3");
        if (cases[i].version)
            assert_string_equal(project.venv_version, cases[i].version);
        else
            assert_null(project.venv_version);
    }
}

/* pytest itself has started cloudplan, and says which interpreter it is. */
static void test_python_of_pytest(void **state)
{
    (void)state;
    setenv("CLOUDPLAN_PYTHON", "/opt/python3.12", 1);
    assert_int_equal(find("w", NULL, NULL), 0);
    assert_pythons(NULL, NULL, "python3", "python3", "/opt/python3.12");
    make_virtualenv("venv");
    assert_int_equal(find("w", NULL, NULL), 0);
    assert_pythons(at("%s/venv", root), "venv", "w/venv/bin/python3", base, "/opt/python3.12");
    unsetenv("CLOUDPLAN_PYTHON");
}

static void test_eggs(void **state)
{
    (void)state;
    char *egg = NULL;
    make_dirs(at("%s/egg", root));
    make_dirs(at("%s/home/other", world));
    make_file(at("%s/home/other/setup.py", world), "", 0644);
    assert_int_equal(symlink(at("%s/home/other", world), at("%s/link", root)), 0);
    assert_int_equal(find("w", NULL, NULL), 0);
    static const struct {
        const char *egg, *why;
    } bad[] = {
        {"nowhere", "--cloud-develop-egg=nowhere: No such file or directory"},
        {"..", "--cloud-develop-egg=..: lies outside the project "},
        {"link", "--cloud-develop-egg=link: lies outside the project "},
        {"egg",
         "--cloud-develop-egg=egg: no package, there is neither a setup.py nor a pyproject.toml in it"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = (struct error)ERROR_INIT;
        assert_int_equal(project_egg(&project, NULL, bad[i].egg, &egg, &err), -1);
        assert_int_equal(err.status, STATUS_USAGE);
        assert_non_null(strstr(err.text, bad[i].why));
        assert_null(egg);
    }
    make_file("egg/setup.py", "", 0644);
    make_file("pyproject.toml", "", 0644);
    err = (struct error)ERROR_INIT;
    assert_int_equal(project_egg(&project, NULL, "egg", &egg, &err), -1);
    assert_non_null(strstr(err.text, "--cloud-develop-egg=egg: needs a virtualenv to be installed in"));

    make_virtualenv("venv");
    assert_int_equal(find("w", NULL, NULL), 0);
    assert_int_equal(project_egg(&project, NULL, "./egg/", &egg, &err), 0);
    assert_string_equal(egg, "egg");
    free(egg);
    assert_int_equal(project_egg(&project, NULL, ".", &egg, &err), 0);
    assert_string_equal(egg, ".");
    free(egg);
    /* What --rsyncdir has brought. */
    char *outside[] = {at("%s/home/other", world), NULL};
    make_dirs(at("%s/home/other/sub", world));
    make_file(at("%s/home/other/sub/setup.py", world), "", 0644);
    assert_int_equal(project_egg(&project, outside, "link", &egg, &err), 0);
    assert_string_equal(egg, "other");
    free(egg);
    assert_int_equal(project_egg(&project, outside, at("%s/home/other/sub", world), &egg, &err), 0);
    assert_string_equal(egg, "other/sub");
    free(egg);
    for (ALLOC_EACH(n)) {
        err = (struct error)ERROR_INIT;
        alloc_fail_at(n);
        int result = project_egg(&project, NULL, "egg", &egg, &err);
        assert_int_equal(result, alloc_has_failed() ? -1 : 0);
        assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        free(egg);
    }
    alloc_fail_at(0);
}

static void test_no_memory(void **state)
{
    (void)state;
    make_virtualenv("linked");
    make_copied_virtualenv("copied", "home = /opt/bin\nversion = 3.11.2\n");
    static const struct {
        const char *chdir, *venv, *python;
    } calls[] = {
        {NULL, "linked", NULL}, {"w", "copied", NULL}, {"w", "linked", "/opt/python3"}, {"w", NULL, NULL}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        for (ALLOC_EACH(n)) {
            project_clear(&project);
            err = (struct error)ERROR_INIT;
            alloc_fail_at(n);
            const char *const pythons[] = {calls[i].python, calls[i].python ? "python3" : NULL, NULL};
            int result = project_find(&project, "pytest", calls[i].chdir, calls[i].venv, pythons, &err);
            assert_int_equal(result, alloc_has_failed() ? -1 : 0);
            assert_int_equal(err.status, alloc_has_failed() ? STATUS_SYSTEM : 0);
        }
        alloc_fail_at(0);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bad_roots),
        TEST(test_home_that_is_a_workspace),
        TEST(test_chdir),
        TEST(test_long_chdir),
        TEST(test_default_chdir),
        TEST(test_bad_pythons),
        TEST(test_pythons_without_virtualenv),
        TEST(test_pythons_of_virtualenv),
        TEST(test_search),
        TEST(test_dotenv_file_is_no_virtualenv),
        TEST(test_bad_virtualenvs),
        TEST(test_virtualenv_elsewhere),
        TEST(test_copied_virtualenv),
        TEST(test_several_pythons),
        TEST(test_virtualenv_version),
        TEST(test_python_of_pytest),
        TEST(test_eggs),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
