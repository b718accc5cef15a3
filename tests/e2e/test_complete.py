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


# On this machine alone: what ends pytest, and how


@pytest.fixture
def alone(tmp_path):
    """run(conftest, *args): cloudplan without a node, all tests in one process."""
    def run(conftest, *args, tests=TESTS):
        (tmp_path / "conftest.py").write_text(HERE + conftest)
        (tmp_path / "test_x.py").write_text(tests)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CLOUDPLAN"))}
        return subprocess.run([PROGRAM, "run", "--", *(args or ["--dist=no"])], cwd=tmp_path, stdin=subprocess.DEVNULL,
                              env={**env, "CLOUDPLAN_PYTHON": sys.executable, "PYTHONDONTWRITEBYTECODE": "1"},
                              capture_output=True, encoding="utf-8", timeout=DEADLINE)
    return run


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
def test_what_ends_pytest_too_soon_is_no_success(alone, conftest):
    done = alone(conftest)
    assert done.returncode == 70, done
    assert done.stderr.startswith(TOO_SOON) and "pytest.exit()" in done.stderr and len(done.stderr.splitlines()) == 1, done


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
def test_what_the_project_asks_for_stays_as_it_is(alone, conftest, tests, status):
    done = alone(conftest, tests=tests)
    assert done.returncode == status, done
    assert "cloudplan: " not in done.stdout + done.stderr, done


@pytest.mark.parametrize("word, shown", [
    ("--help", "usage: "), ("--version", "pytest "), ("--markers", "@pytest.mark.skip"), ("--collect-only", "test_two"),
    ("--setup-plan", "SETUP "), ("--cache-show", "cachedir: "),
])
def test_what_is_shown_needs_no_record_of_tests(alone, word, shown):
    done = alone("@pytest.fixture(autouse=True)\ndef something(): pass\n", word)
    assert done.returncode == 0 and shown in done.stdout + done.stderr, done
    assert "cloudplan: " not in done.stderr and "PROCESSES" not in done.stderr, done


# With workers: the plugin's own part


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def run_recorded(project, *args, **env):
    """(run, what follows the word in the record, None where there is none)"""
    record = project.tmp / "complete"
    run = project.run([project.popen("a"), project.popen("b")], *args, "tests", CLOUDPLAN_RECORD=f"word {record}", **env)
    text = record.read_text() if record.exists() else None
    assert text is None or (text.startswith("word ") and text.endswith("\n") and text.count("\n") == 1)
    return run, text and text[len("word "):-1]


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
    assert "cloudplan: not all tests were run: too many workers were lost" in run.lines, run
    assert said == "1 of the 3 tests that were collected have no result"


@pytest.mark.parametrize("dist, counts", [("load", {"failed": 1, "passed": 2, "rerun": 1}), ("each", {"failed": 2, "passed": 4})])
def test_complete_with_lost_workers(project, dist, counts):
    """A test that has cost its worker has a result."""
    project.write("conftest.py", HERE + "def pytest_runtest_call(item):\n    if item.name == 'test_data': os._exit(0)\n")
    run, said = run_recorded(project, f"--dist={dist}")
    assert run.status == 1 and run.counts() == counts and said == "complete", (run, said)


def test_a_record_that_cannot_be_written(project):
    run = project.run([project.popen("a")], "tests", CLOUDPLAN_RECORD=f"word {project.tmp}/no/such/record")
    assert run.status == 71, run
    assert run.err == f"cloudplan: {project.tmp}/no/such/record: No such file or directory; whether the run is complete cannot be told\n"


# On nodes


def logins(site):
    return sum(node.read_log().count("Accepted publickey") for node in site.nodes)


def test_ended_here_and_there(site):
    site.write({"test_x.py": TESTS, "conftest.py": HERE + "def pytest_runtest_logreport():\n    if here: os._exit(0)\n"})
    done = site.run("run", "--cloud-max-processes=1", nodes=site.nodes[:1], timeout=DEADLINE)
    assert done.returncode == 70 and done.stderr.splitlines()[-1].startswith(TOO_SOON), done
    site.write({"test_x.py": TESTS, "conftest.py": HERE + "@pytest.fixture(autouse=True)\ndef ends():\n    if not here: os._exit(0)\n"})
    done = site.run("run", "--cloud-max-processes=1", nodes=site.nodes[:1], timeout=DEADLINE)
    assert done.returncode == 1 and "2 failed" in done.stdout, done


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
        for nodes in (None, []):
            done = site.run("run", *own, "--", *engine, nodes=nodes, timeout=DEADLINE)
            assert done.returncode == 0, done
            assert done.stderr == f"cloudplan: {word}: pytest runs on this machine alone, and no node is used\n", done
            assert ("2 passed" in done.stdout) == (word == "--dist=no"), done
    refused = site.run("run", "--", "-p", "no:xdist", timeout=DEADLINE)
    assert refused.returncode == 64 and refused.stderr.startswith("cloudplan: -p no:xdist: "), refused
    # An ini file's word is heard when nodes are being asked already; nothing is copied all the same.
    assert logins(site) == before
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
    for number in (1, 2, 3):
        watched.wait_idle(number, timeout=DEADLINE)
        (site.project / f"test_{number}.py").write_text(TESTS)
    watched.wait_idle(4, timeout=DEADLINE)
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
