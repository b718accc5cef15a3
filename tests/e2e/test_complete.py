"""Status 0 means that every test that was collected has been told of; and what takes no node uses none."""
import os
import subprocess
import sys

import pytest

from cloudnodes import wait_until
from conftest import PROGRAM
from plugin_project import Project
from test_watch import Watched

DEADLINE = 120
TESTS = "def test_one(): pass\ndef test_two(): pass\n"
HERE = "import os, sys, pytest\nhere = 'PYTEST_XDIST_WORKER' not in os.environ\n"
TOO_SOON = "cloudplan: pytest ended with status 0 before it had told of every test: "


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def run_recorded(project, *args, tx=None, **env):
    """(run, what follows the word in the record; None where nothing was said)"""
    record = project.tmp / "complete"
    record.write_text(" " * 2048)  # as cloudplan makes it
    tx = [project.popen("a"), project.popen("b")] if tx is None else tx
    run = project.run(tx, *args, _CLOUDPLAN_RECORD=f"word {record}", **env)
    text = record.read_text()
    assert len(text) == 2048
    if not text.strip():
        return run, None
    line, rest = text.split("\n", 1)
    assert line.startswith("word ") and not rest.strip()
    return run, line[len("word "):]


# In one process: what ends pytest, and how


@pytest.mark.parametrize("conftest", [
    "os._exit(0)",
    "sys.exit(0)",
    "os.execv('/bin/true', ['true'])",
    "def pytest_configure(): os._exit(0)",
    "def pytest_runtest_teardown(): os._exit(0)",
    "def pytest_sessionfinish(): os._exit(0)",
    "def pytest_terminal_summary(): os._exit(0)",
    # A child that goes on as if it were pytest, and says that all is well.
    "def pytest_runtest_call():\n    pid = os.fork()\n    if pid:\n        os.waitpid(pid, 0)\n        os._exit(0)",
])
def test_what_ends_pytest_too_soon_is_no_success(project, conftest):
    project.write("conftest.py", HERE + conftest)
    run, said = run_recorded(project, "--dist=no", tx=[])
    assert run.status == 0 and said is None, (run, said)


@pytest.mark.parametrize("conftest, tests, status", [
    ("def pytest_unconfigure(): os._exit(0)", TESTS, 0),
    ("def pytest_runtest_call(): pytest.exit('enough', returncode=0)", TESTS, 0),
    ("def pytest_configure(): pytest.exit('enough', returncode=0)", TESTS, 0),
    ("def pytest_sessionfinish(): pytest.exit('enough', returncode=0)", TESTS, 0),
    ("def pytest_sessionfinish(session): session.exitstatus = 0", "def test_bad(): assert 0\n", 0),
    ("def pytest_runtest_call(): pytest.exit('enough', returncode=9)", TESTS, 9),
    ("def pytest_sessionfinish(): os._exit(7)", TESTS, 7),
    ("", "", 5),
])
def test_what_the_project_asks_for_stays_as_it_is(project, conftest, tests, status):
    project.write("conftest.py", HERE + conftest)
    project.write("tests/test_x.py", tests)
    run, said = run_recorded(project, "--dist=no", tx=[])
    assert run.status == status and "cloudplan: " not in run.out + run.err, run
    assert status or said == "complete", (run, said)


@pytest.mark.parametrize("word, shown", [
    ("--help", "usage: "), ("--version", "pytest "), ("--markers", "@pytest.mark.skip"), ("--collect-only", "test_two"),
    ("--setup-plan", "SETUP "), ("--cache-show", "cachedir: "),
])
def test_what_is_shown_needs_no_record_of_tests(project, word, shown):
    project.write("conftest.py", HERE + "@pytest.fixture(autouse=True)\ndef something(): pass\n")
    project.write("tests/test_x.py", TESTS)
    run, said = run_recorded(project, "--dist=no", word, tx=[])
    assert run.status == 0 and shown in run.out + run.err and said == "complete", (run, said)


def test_cloudplan_believes_the_record(tmp_path):
    """Here, without a node; all of this is one project."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CLOUDPLAN"))}
    env.update(CLOUDPLAN_PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(tmp_path))
    (tmp_path / "test_x.py").write_text(TESTS)
    for conftest, status, said in (
        ("def pytest_sessionfinish(): os._exit(0)", 70, TOO_SOON),
        ("def pytest_collection(): 1 / 0\ndef pytest_sessionfinish(session): session.exitstatus = 0", 70,
         "cloudplan: pytest ended with status 0, but it had an internal error: "),
        ("def pytest_runtest_call(): pytest.exit('enough', returncode=0)", 0, ""),
    ):
        (tmp_path / "conftest.py").write_text(HERE + conftest)
        done = subprocess.run([PROGRAM, "run", "--cloud-no-lease", "--", "--dist=no"], cwd=tmp_path, stdin=subprocess.DEVNULL,
                              env=env, capture_output=True, encoding="utf-8", timeout=DEADLINE)
        assert done.returncode == status and done.stderr.startswith(said), done
        assert len(done.stderr.splitlines()) == bool(said), done


# With workers: the plugin's own part


IN_A_TEST = "def pytest_runtest_call(item):\n    if not here and item.name == 'test_data': "


@pytest.mark.parametrize("where, code, end", [
    (IN_A_TEST, "pytest.exit('enough', returncode=0)", 0),
    (IN_A_TEST, "pytest.exit('enough', returncode=9)", 9),
    (IN_A_TEST, "pytest.exit('enough')", 2),
    (IN_A_TEST, "raise pytest.exit.Exception('', 9)", 9),
    ("def pytest_collection_finish():\n    if not here: ", "pytest.exit('enough', returncode=0)", 0),
    ("def pytest_runtest_logreport():\n    if here: ", "pytest.exit('enough', returncode=9)", 9),
])
def test_whoever_exits_ends_the_run_as_here(project, where, code, end):
    project.write("conftest.py", HERE + where + code + "\n")
    run, said = run_recorded(project)
    assert run.status == end and ("Exit: enough" if "enough" in code else "outcomes.Exit") in run.out, run
    assert "INTERNALERROR" not in run.out and "cloudplan: " not in run.out + run.err, run
    assert end or said == "complete", (run, said)


def test_no_worker_has_collected_whatever_the_status(project):
    """A project that takes "no tests" for a success, say."""
    project.write("conftest.py", HERE + "def pytest_collection_modifyitems(): os._exit(0)\n"
                                        "def pytest_sessionfinish(session): session.exitstatus = 0\n")
    run, said = run_recorded(project)
    assert run.status == 0 and said == "no worker came so far as to collect the tests", (run, said)


def test_tests_without_a_result_are_counted(project):
    """A scheduler that loses one."""
    project.write("conftest.py", HERE + """
def pytest_configure():
    if here:
        from xdist.scheduler import LoadScheduling
        send = LoadScheduling._send_tests
        def send_others(self, node, num):
            if 0 in self.pending:
                self.pending.remove(0)
            send(self, node, num)
        LoadScheduling._send_tests = send_others
""")
    run, said = run_recorded(project)
    assert run.status == 69 and run.counts() == {"passed": 2}, run
    assert said == "1 of the 3 tests that were collected have no result"
    assert f"cloudplan: not all tests were run: {said}" in run.lines, run


@pytest.mark.parametrize("dist, counts", [("load", {"failed": 1, "passed": 2, "rerun": 1}), ("each", {"failed": 2, "passed": 4})])
def test_complete_with_lost_workers(project, dist, counts):
    """A test that has cost its worker has a result."""
    project.write("conftest.py", HERE + "def pytest_runtest_call(item):\n    if item.name == 'test_data': os._exit(0)\n")
    run, said = run_recorded(project, f"--dist={dist}")
    assert run.status == 1 and run.counts() == counts and said == "complete", (run, said)


def test_a_record_that_cannot_be_written(project):
    run = project.run([project.popen("a")], _CLOUDPLAN_RECORD=f"word {project.tmp}/no/such/record")
    assert run.status == 71, run
    assert run.err == f"cloudplan: {project.tmp}/no/such/record: No such file or directory; whether the run is complete cannot be told\n"


# On nodes


def logins(site):
    return sum(node.read_log().count("Accepted publickey") for node in site.nodes)


def test_ended_here_and_there(site):
    site.write({"test_x.py": TESTS, "conftest.py": HERE + "def pytest_runtest_logreport():\n    if here: os._exit(0)\n"})
    done = site.run("run", "--cloud-max-processes=1", nodes=site.nodes[:1], timeout=DEADLINE)
    assert done.returncode == 70 and done.stderr.splitlines()[-1].startswith(TOO_SOON), done
    site.write({"test_x.py": TESTS, "conftest.py": HERE + "def pytest_runtest_call():\n    if not here: pytest.exit('enough', 0)\n"})
    done = site.run("run", "--cloud-max-processes=1", nodes=site.nodes[:1], timeout=DEADLINE)
    assert done.returncode == 0 and "Exit: enough" in done.stdout and "cloudplan: pytest" not in done.stderr, done


def test_what_takes_no_node_uses_none(site):
    site.write({"test_x.py": TESTS, "pytest.ini": "[pytest]\ncloud_nodes = 10.0.120.1 10.0.120.2\n"})
    before = logins(site)
    for own, engine, word in (
        (["--dist=no"], [], "--dist=no"),
        ([], ["--dist", "no"], "--dist=no"),
        (["--dist=load"], ["--dist=no"], "--dist=no"),
        ([], ["--collect-only", "-q"], "--collect-only"),
        ([], ["--markers"], "--markers"),
    ):
        # Nodes that are typed, and those of the ini file.
        done = site.run("run", *own, "--", *engine, nodes=[] if own else None, timeout=DEADLINE)
        assert done.returncode == 0, done
        assert done.stderr == f"cloudplan: {word}: pytest runs on this machine alone, and no node is used\n", done
        assert ("2 passed" in done.stdout) == (word == "--dist=no"), done
    assert logins(site) == before
    # This, and an ini file's word, is heard when nodes are being asked already; nothing is copied all the same.
    refused = site.run("run", "--", "-p", "no:xdist", timeout=DEADLINE)
    assert refused.returncode == 64 and refused.stderr.startswith("cloudplan: -p no:xdist: "), refused
    (site.project / "pytest.ini").write_text("[pytest]\naddopts = --collect-only\n")
    done = site.run("run", nodes=site.nodes[:1], timeout=DEADLINE)
    assert done.returncode == 0 and "PROCESSES" not in done.stderr and "test_two" in done.stdout, done
    assert not [node for node in site.nodes if list(node.home.glob("pytest_*"))]


def test_plugins_are_not_loaded_by_themselves(site):
    """The same ones here, on a node and in a local worker."""
    site.write({"test_x.py": TESTS, "conftest.py": HERE + """
def pytest_configure(config):
    names = [name for name in ("xdist", "_cov", "pytest_cov") if config.pluginmanager.hasplugin(name)]
    assert names == ["xdist"], names
"""})
    done = site.run("run", "--cloud-max-processes=1", "--", "-v", nodes=[":", site.nodes[0]], timeout=DEADLINE,
                    env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert done.returncode == 0 and "2 passed" in done.stdout, done


def test_watch_says_once_who_is_left_out(site):
    site.write({"test_x.py": TESTS})
    watched = Watched(site, "--cloud-max-processes=1", "--cloud-probe-timeout=5", "--", "-q", nodes=[site.nodes[0], "nobody@10.0.120.1"])
    watched.wait_idle(1, timeout=DEADLINE)
    (site.project / "test_y.py").write_text(TESTS)
    watched.wait_idle(2, timeout=DEADLINE)
    assert watched.text().count(" is left out ") == 1, watched.text()
    assert watched.end() == 0


def test_watch_without_a_node(site):
    site.write({"test_x.py": TESTS})
    watched = Watched(site, "--", "--dist=no", "-q")
    watched.wait_idle(1, timeout=DEADLINE)
    (site.project / "test_y.py").write_text(TESTS)
    watched.wait_idle(2, timeout=DEADLINE)
    wait_until(lambda: watched.runs() == ["2 passed", "4 passed"], timeout=5, what=watched.text())
    assert watched.text().count("no node is used") == 1
    assert watched.end() == 0
