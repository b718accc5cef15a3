"""scripts/pytest_cloudplan/controller.py, run as the engine runs it (see plugin_project.py)."""
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from plugin_project import DEADLINE, Project

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "project"


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


# Failures


def test_dead_host_is_dropped(project):
    config = project.tmp / "ssh_config"
    config.write_text("Host *\n  Port 1\n  BatchMode yes\n  ConnectTimeout 5\n")
    dead = f"ssh=nosuchuser@127.0.0.1//id=dead_0//chdir=x//python=python3//ssh_config={config}"
    run = project.run([dead, project.popen("a")], "tests")
    assert run.status == 0, run
    assert run.lines == ["cloudplan: dead_0 (127.0.0.1) did not start: ssh could not reach it; going on without it"]
    assert run.counts() == {"passed": 3}


def test_all_dead(project):
    tx = [project.ssh("a"), project.ssh("a", 1), project.ssh("b")]
    for name in "ab":
        (project.tmp / f"{name}.down").touch()
    run = project.run(tx, "tests")
    assert run.status == 69, run
    assert run.lines == [
        "cloudplan: a_0 and 1 more did not start: ssh could not reach it",
        "cloudplan: b_0 did not start: ssh could not reach it",
    ]
    assert "no worker could be started" in run.err
    assert "INTERNALERROR" not in run.out


@pytest.mark.parametrize(
    "python, reason",
    [
        ("/nonexistent/python3", "its Python (/nonexistent/python3) ended with status 127"),
        ("false", "its Python (false) ended with status 1"),
        (f"{sys.executable} -S -E", "has no module pytest, xdist, execnet"),
    ],
)
def test_python_of_no_use(project, python, reason):
    run = project.run([project.ssh("a", python=python), project.ssh("b")], "tests")
    assert run.status == 0, run
    assert len(run.lines) == 1 and reason in run.lines[0], run
    assert run.counts() == {"passed": 3}


def test_directory_that_cannot_be_entered(project):
    bad = f"popen//id=bad_0//chdir={project.tmp}/no/such/directory"
    run = project.run([bad, project.popen("a")], "tests")
    assert run.status == 0, run
    assert len(run.lines) == 1 and "FileNotFoundError" in run.lines[0], run


def test_host_that_stalls(project):
    """The time for a start is cut short here: one minute of it is too long for a test."""
    project.write(
        "short.py",
        "import os, pytest_cloudplan.gateways\npytest_cloudplan.gateways.START_SECONDS = 5\ndel os.environ['PYTEST_PLUGINS']\n",
    )
    tx = [project.ssh("a"), project.ssh("b")]
    (project.tmp / "a.stalls").touch()
    run = project.run(tx, "tests", PYTEST_PLUGINS="short,pytest_cloudplan.controller")
    assert run.status == 0, run
    assert run.lines == ["cloudplan: a_0 did not start: no answer within 5 s; going on without it"]


def test_module_missing_on_workers(project):
    tx = [project.ssh("a"), project.ssh("b")]
    project.write("only_here.py", "")
    run = project.run(tx, "-p", "only_here", "tests")
    assert run.status == 69, run
    assert "every worker ended before it was ready" in run.out
    assert "only_here" in run.out


def test_workers_that_die_while_they_collect(project):
    project.write("tests/test_die.py", "import os\nif 'PYTEST_XDIST_WORKER' in os.environ: os._exit(1)\n")
    run = project.run([project.popen("a")], "tests")
    assert run.status == 69, run
    assert "cloudplan: no worker came so far as to collect the tests" in run.lines


def test_no_tests_is_still_no_tests(project):
    run = project.run([project.popen("a")], "tests", "-k", "nothing_has_this_name")
    assert run.status == 5, run
    assert run.lines == []


@pytest.mark.parametrize("path", ["tests/no_such_file.py", "tests/test_x.py::test_none"])
def test_path_that_does_not_exist(project, path):
    run = project.run([project.popen("a"), project.popen("b")], path)
    assert run.status == 4, run
    assert len(run.lines) == 1 and "refused the arguments" in run.lines[0]


HOST_DIES = """
import os, time, pytest

@pytest.mark.parametrize("n", range(20))
def test_n(n):
    if os.getcwd().endswith("/lost"):
        open("../lost.down", "w").close()
        os._exit(1)
    time.sleep(0.05)
"""


def test_host_lost_during_the_run(project):
    project.write("tests/test_x.py", HOST_DIES)
    run = project.run([project.ssh("a"), project.ssh("lost")], "tests")
    # The test that was hit is run again, too.
    assert run.counts() == {"passed": 20, "rerun": 1}, run
    assert run.status == 0
    # It has all the workers that were planned for it.
    assert "cloudplan: lost_0 on lost is lost (its connection is lost)" in run.lines, run


def test_last_host_lost(project):
    project.write("tests/test_x.py", HOST_DIES)
    run = project.run([project.ssh("lost")], "tests")
    assert run.status == 69, run
    assert "INTERNALERROR" not in run.out
    assert "no worker is left" in run.out


LONG = """
import time

def test_long():
    open("running", "w").close()
    time.sleep(300)
"""


def sigint_ignored():
    """As a shell starts its background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    "number, before", [(signal.SIGINT, None), (signal.SIGTERM, None), (signal.SIGTERM, sigint_ignored)]
)
def test_interrupt(project, number, before):
    project.write("tests/test_x.py", LONG)
    process = project.start([project.popen("a")], "tests", preexec_fn=before)
    try:
        end = time.monotonic() + DEADLINE
        while not (project.tmp / "a" / "running").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    assert process.returncode == 2, out
    assert "KeyboardInterrupt" in out


def test_without_xdist(project):
    run = project.run([project.popen("a")], "-p", "no:xdist", "tests")
    assert run.status == 4, run
    assert run.err.strip() == (
        "ERROR: cloudplan: pytest-xdist is switched off (-p no:xdist?), and without it no test can run on a node"
    )


def test_the_plugin_is_what_helps(project):
    """Shows that these tests can fail: without it, xdist dies of a relative path."""
    run = project.run([project.popen("a")], "tests", PYTEST_PLUGINS="")
    assert run.status == 3 and "not relative to an rsync root" in run.out, run


# Arguments


@pytest.mark.parametrize(
    "args, passed",
    [
        (["tests"], 3),
        (["tests/"], 3),
        (["tests", "-k", "tests"], 3),
        (["-c", "pytest.ini", "tests/test_x.py"], 3),
        (["tests/test_x.py::test_y[a::b]"], 1),
        (["--opt=tests", "--opt", "pytest.ini", "./tests/test_x.py"], 3),
        (["--opt=", "--opt", ""], 3),
        (["--deselect", "tests/test_x.py::test_data"], 2),
        (["--opt=a b\n'\"$x", "tests"], 3),
        (["--opt=/etc/hostname", "--opt", "/tmp", "tests"], 3),
    ],
)
def test_as_typed(project, args, passed):
    run = project.run([project.popen("a"), project.ssh("b")], *args)
    assert run.status == 0, run
    assert run.counts()["passed"] == passed
    assert run.lines == []
    for worker in "a_0", "b_0":
        assert project.seen(worker)["args"] == ["--dist=load", *args]


@pytest.mark.parametrize(
    "args, there",
    [
        (["ROOT/tests"], ["tests"]),
        (["ROOT"], ["."]),
        (["ROOT/"], ["."]),
        (["ROOT/tests/../tests//test_x.py::test_y[a::b]"], ["tests/test_x.py::test_y[a::b]"]),
        (["-c", "ROOT/pytest.ini", "tests"], ["-c", "pytest.ini", "tests"]),
        (["-cROOT/pytest.ini", "tests"], ["-cpytest.ini", "tests"]),
        (["--rootdir=ROOT", "tests"], ["--rootdir=.", "tests"]),
        (["--rootdir", "ROOT", "tests"], ["--rootdir", ".", "tests"]),
        (["--opt=ROOT/x", "tests"], ["--opt=x", "tests"]),
        (["--opt=ROOT-2/x", "tests"], ["--opt=ROOT-2/x", "tests"]),
        (["--opt=ROOT/../x", "tests"], ["--opt=ROOT/../x", "tests"]),
        (["--opt", "x=ROOT", "tests"], ["--opt", "x=ROOT", "tests"]),
    ],
)
def test_absolute_paths(project, args, there):
    local, remote = ([word.replace("ROOT", str(project.root)) for word in words] for words in (args, there))
    run = project.run([project.ssh("a"), "popen//id=gw0"], *local)
    assert run.status == 0, run
    seen = project.seen("a_0")
    assert seen["args"] == ["--dist=load", *remote]
    assert seen["cwd"] == seen["rootdir"] == str(project.tmp / "a")
    assert seen["inifile"] == str(project.tmp / "a" / "pytest.ini")
    # Local workers are in the root itself.
    assert project.seen("gw0")["args"][-len(local) :] == local


def test_root_through_a_symbolic_link(project):
    link = project.tmp / "link"
    link.symlink_to(project.root)
    run = project.run([project.ssh("a")], f"{link}/tests", cwd=link, PWD=str(link))
    assert run.status == 0, run
    assert project.seen("a_0")["args"] == ["--dist=load", "tests"]


def test_addopts_of_the_environment(project):
    """They reach ssh workers as they reach local ones."""
    run = project.run([project.ssh("a")], "tests", PYTEST_ADDOPTS=f"-k 'test_y and c' --opt={project.root}/x")
    assert run.status == 0, run
    assert run.counts() == {"passed": 1}
    assert project.seen("a_0")["addopts"] == "-k 'test_y and c' --opt=x"


# The plan and xdist's own options


@pytest.mark.parametrize(
    "addopts, args, extra",
    [
        ("-n 2", [], ["gw0", "gw1"]),
        ("", ["-n", "1"], ["gw0"]),
        ("-n 2", ["-n", "1"], ["gw0"]),
        ("-n 3 --maxprocesses 1", [], ["gw0"]),
        ("-n auto", [], []),
        ("", ["-n", "auto"], []),
        ("-n auto", ["-n0"], []),
        ("--dist=no", [], []),
    ],
)
def test_planned_list_is_kept(project, addopts, args, extra):
    project.write("pytest.ini", f"[pytest]\naddopts = {addopts}\n")
    run = project.run([project.popen("a"), project.popen("b")], *args, "tests")
    assert run.status == 0, run
    assert project.workers() == ["a_0", "b_0", *extra]
    assert run.counts() == {"passed": 3}


@pytest.mark.parametrize(
    "addopts, args, scheduler",
    [
        ("", [], "LoadScheduling"),
        ("--dist=loadfile", [], "LoadFileScheduling"),
        ("--dist loadscope", ["--dist=load"], "LoadScheduling"),
        ("", ["--dist", "loadfile"], "LoadFileScheduling"),
        ("--dist=loadfile", ["-d"], "LoadScheduling"),
        ("--dist=no", [], "LoadScheduling"),
    ],
)
def test_distribution(project, addopts, args, scheduler):
    project.write("pytest.ini", f"[pytest]\naddopts = {addopts}\n")
    run = project.run([project.popen("a")], "-v", *args, "tests")
    assert run.status == 0, run
    assert f"scheduling tests via {scheduler}\n" in run.out


def test_dist_no_runs_here(project):
    run = project.run([project.popen("a")], "--dist=no", "tests")
    assert run.status == 0, run
    assert run.counts() == {"passed": 3}
    assert not project.workers()


@pytest.mark.parametrize("dist", ["load", "loadfile"])
def test_restarts_that_a_test_pays_for_have_no_limit(project, dist):
    """Each is failed after its second time: all others have their results."""
    project.write("tests/test_x.py", "import os\n" + "".join(
        f"def test_{n}(): {'os._exit(1)' if n % 2 else 'pass'}\n" for n in range(18)))
    run = project.run([project.popen("a")], f"--dist={dist}", "tests")
    assert run.status == 1, run
    assert run.counts() == {"failed": 9, "passed": 9, "rerun": 9}, run
    assert "maximum crashed workers" not in run.out


def test_a_typed_limit_of_restarts(project):
    project.write("tests/test_x.py", "import os\n" + "".join(f"def test_{n}(): os._exit(1)\n" for n in range(9)))
    run = project.run([project.popen("a")], "--max-worker-restart=1", "tests")
    assert run.status == 1, run
    assert "maximum crashed workers reached: 1" in run.out


# No harm


@pytest.mark.parametrize("args, text", [
    (["--collect-only", "-q", "tests"], "test_y[a::b]"),
    (["--version"], None),
    (["--help"], "--max-worker-restart"),
    (["--markers"], "xdist_group"),
])
def test_harmless(project, args, text):
    run = project.run([project.popen("a")], *args)
    assert run.status == 0, run
    assert text is None or text in run.out
    assert "cloudplan" not in run.out + run.err


def test_silent_and_absent_from_workers(project):
    run = project.run([project.popen("a"), project.ssh("b"), "popen//id=gw0"], "tests")
    assert run.status == 0, run
    assert "cloudplan" not in run.out + run.err
    for worker in "a_0", "b_0", "gw0":
        seen = project.seen(worker)
        assert not seen["plugin"] and seen["plugins"] is None
    assert not list(project.tmp.glob("*/_pytest")), "xdist has copied something"


def test_other_plugins_of_the_environment_stay(project):
    project.write("other.py", "import os\n")
    run = project.run([project.popen("a")], "tests", PYTEST_PLUGINS="other,pytest_cloudplan.controller")
    assert run.status == 0, run
    assert project.seen("a_0")["plugins"] == "other"


def test_many_workers_start_side_by_side(project):
    """Of eight interpreters that each take two seconds to start, the last one has begun before the first one is ready."""
    slow = project.tmp / "slow-python"
    # The starter's beginning is not slow: it is the second one that becomes the worker.
    slow.write_text(
        f"#!/bin/sh\n[ \"$1\" = -I ] && exec {sys.executable} \"$@\"\n"
        f"echo begins >>{project.tmp}/starts\nsleep 2\necho ready >>{project.tmp}/starts\nexec {sys.executable} \"$@\"\n"
    )
    slow.chmod(0o755)
    tx = [project.ssh("a", index, python=slow) for index in range(8)]
    project.write("tests/test_x.py", "def test(): pass\n")
    run = project.run(tx, "tests")
    assert run.status == 0, run
    starts = (project.tmp / "starts").read_text().split()
    assert starts.count("begins") == 8 and "ready" in starts[4:] and "ready" not in starts[:4], starts
    assert len(project.workers()) == 8


def test_coverage_of_nodes(project):
    pytest.importorskip("pytest_cov")
    project.write("package.py", "def one():\n    return 1\n\ndef two():\n    return 2\n")
    project.write("tests/test_x.py", "import package\ndef test_one(): assert package.one() == 1\n"
                  "def test_two(): assert package.two() == 2\n")
    run = project.run([project.ssh("a"), project.ssh("b")], "--cov=package", "tests")
    assert run.status == 0, run
    # One line, not one for each place where the file is.
    assert len(re.findall(r"package\.py .*", run.out)) == 1, run
    assert re.search(r"^package\.py +4 +0 +100%$", run.out, re.MULTILINE), run


def test_example_project(tmp_path):
    example = Project(tmp_path)
    shutil.rmtree(example.root)
    shutil.copytree(EXAMPLE, example.root, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    alone = example.run(["popen"], "--dist=no", "-p", "no:cacheprovider")
    assert alone.status == 0, alone
    spread = example.run([example.ssh("a"), example.popen("b")])
    assert spread.status == 0, spread
    assert spread.counts() == alone.counts()


# Workers that cannot collect

BROKEN = """
import os
if "PYTEST_XDIST_WORKER" in os.environ and os.path.basename(os.getcwd()) in %r:
    %s
"""
WAYS = ["import no_such_module", "raise SystemExit(3)"]
TEN = "import pytest\n@pytest.mark.parametrize('n', range(10))\ndef test_n(n): pass\n"


@pytest.mark.parametrize("dist", ["load", "loadscope", "each"])
@pytest.mark.parametrize("way", WAYS)
def test_a_worker_that_cannot_collect_is_lost_alone(project, way, dist):
    """Left to itself xdist replaces it until the limit, and then ends, with status 0 and no test run."""
    project.write("conftest.py", BROKEN % (["b", "c"], way))
    project.write("tests/test_x.py", TEN)
    run = project.run([project.ssh(name) for name in "abc"], f"--dist={dist}", "tests")
    assert run.status == 0 and run.counts() == {"passed": 10}, run
    lost = sorted(line for line in run.lines if "is lost (ended before it could run a test: " in line)
    assert [line.split()[1] for line in lost] == ["b_0", "c_0"], run
    assert "maximum crashed workers" not in run.out


@pytest.mark.parametrize("dist", ["load", "loadscope", "each"])
def test_without_words_it_has_a_second_try(project, dist):
    """The kernel may have taken memory back, once."""
    project.write("conftest.py", BROKEN % (["b", "c"], "open(os.path.basename(os.getcwd()) + str(os.getpid()), 'w'); os._exit(1)"))
    project.write("tests/test_x.py", TEN)
    run = project.run([project.ssh(name) for name in "abc"], f"--dist={dist}", "tests")
    assert run.status == 0 and run.counts() == {"passed": 10}, run
    for name in "bc":
        assert len(list((project.tmp / name).glob(name + "[0-9]*"))) == 2, run
        assert re.search(rf"cloudplan: gw\d on {name} is lost \(ended 2 times in a row before it had begun a test\)", run.out), run


@pytest.mark.parametrize("workers, args", [("a", []), ("ab", ["--max-worker-restart=0"]), ("a", ["--dist=loadfile"])])
def test_a_run_that_ends_before_its_tests_is_no_success(project, workers, args):
    project.write("conftest.py", BROKEN % ([workers[-1]], "pytest_collection = lambda session: os._exit(1)"))
    project.write("tests/test_x.py", TEN)
    run = project.run([project.ssh(name) for name in workers], *args, "tests")
    assert run.status == 69, run
    assert "maximum crashed workers reached: 4" in run.out or args[:1] == ["--max-worker-restart=0"], run
    # The second where the one is lost before the other has collected.
    assert {"cloudplan: not all tests were run: too many workers were lost",
            "cloudplan: no worker came so far as to collect the tests"} & set(run.lines), run


def test_a_worker_lost_after_its_tests_is_no_failure(project):
    project.write("conftest.py", "import os\ndef pytest_unconfigure(config):\n    if hasattr(config, 'workerinput') and os.getcwd()"
                                 ".endswith('/b'): os._exit(1)\n")
    project.write("tests/test_x.py", TEN)
    run = project.run([project.ssh(name) for name in "ab"], "--max-worker-restart=0", "tests")
    assert run.status == 0 and run.counts() == {"passed": 10}, run
