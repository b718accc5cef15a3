"""scripts/pytest_cloudplan/losses.py: where a lost worker is replaced, and where it is not."""
import sys

import pytest

from plugin_project import DEADLINE, Project

# The controller tells what it has heard of by files, and the tests wait for those.
WAITING = """
import os, pathlib, time

HERE = pathlib.Path({here!r})
NODE = os.path.basename(os.getcwd())

def wait_for(name):
    end = time.monotonic() + {seconds}
    while not (HERE / name).exists():
        assert time.monotonic() < end, name
        time.sleep(0.02)

def say(name):
    (HERE / name).touch()

def host_dies():
    open("../" + NODE + ".down", "w").close()
    os._exit(1)
"""
CONFTEST = """
from waiting import say

def pytest_testnodedown(node, error):
    say("lost " + node.gateway.id if error else "ended " + node.gateway.id)
"""


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    (tmp_path / "here").mkdir()
    (project.root / "tests/test_x.py").unlink()
    project.write("tests/waiting.py", WAITING.format(here=str(tmp_path / "here"), seconds=DEADLINE))
    project.write("tests/conftest.py", CONFTEST)
    return project


@pytest.mark.parametrize("dist", ["load", "loadscope"])
def test_a_node_does_not_get_more_workers_than_planned(project, dist):
    scope = "class Test%d:\n    def test_x(self): %s\n"
    body = "waiting.host_dies() if waiting.NODE == 'lost' else [waiting.wait_for(f'lost lost_{n}') for n in range(2)]"
    project.write("tests/test_x.py", "import waiting\n" + "".join(scope % (n, body) for n in range(30)))
    run = project.run([project.ssh(name, n) for name in ("a", "lost") for n in range(2)], "--dist=" + dist, "tests")
    assert run.status == 0, run
    assert run.counts()["passed"] == 30, run
    for worker in "lost_0", "lost_1":
        assert f"cloudplan: {worker} on lost is lost (its connection is lost)" in run.lines, run
    assert "its successor" not in run.out, run


# Three tests at least, one for each worker: xdist tells all workers at once to end after them.


@pytest.mark.parametrize("dist", ["load", "loadscope"])
def test_one_that_has_ended_makes_room(project, dist):
    for name in "123":
        project.write(f"tests/test_{name}.py", f"""
import os, waiting

def test_{name}():
    worker = os.environ["PYTEST_XDIST_WORKER"]
    if worker == "a_1":
        waiting.wait_for("a successor is there")
    elif worker == "lost_0":
        waiting.wait_for("ended a_0")
        waiting.host_dies()
    elif worker != "a_0":
        waiting.say("a successor is there")
""")
    run = project.run([project.ssh("a", 0), project.ssh("a", 1), project.ssh("lost")], "--dist=" + dist, "tests")
    assert run.status == 0, run
    assert run.counts() == {"passed": 3, "rerun": 1}, run
    assert "cloudplan: ci@lost could not be replaced where it ran (its connection is lost); its successor runs on ci@a" in run.lines


@pytest.mark.parametrize("dist", ["load", "loadscope"])
def test_room_is_waited_for(project, dist):
    """All that are left were told to end, and are still at their last test."""
    for name in "12":
        project.write(f"tests/test_{name}.py", f"""
import os, waiting

def test_{name}():
    worker = os.environ["PYTEST_XDIST_WORKER"]
    if worker == "a_0":
        waiting.say("a_0 has begun")
        waiting.wait_for("lost lost_0")
    elif worker == "lost_0":
        waiting.wait_for("a_0 has begun")
        waiting.host_dies()
    else:
        assert (waiting.HERE / "ended a_0").exists()
""")
    run = project.run([project.ssh("a"), project.ssh("lost")], "--dist=" + dist, "tests")
    assert run.status == 0, run
    assert run.counts() == {"passed": 2, "rerun": 1}, run
    message = "cloudplan: ci@lost could not be replaced where it ran (its connection is lost); its successor "
    assert [line for line in run.lines if line.startswith(message)] == [
        message + "waits for room elsewhere", message + "runs on ci@a"], run


def test_a_node_that_is_lost_while_another_one_waits_for_its_room(project):
    for name in "12":
        project.write(f"tests/test_{name}.py", f"""
import os, waiting

def test_{name}():
    if os.environ["PYTEST_XDIST_WORKER"] == "a_0":
        waiting.say("a_0 has begun")
        waiting.wait_for("lost lost_0")
    waiting.wait_for("a_0 has begun")
    waiting.host_dies()
""")
    run = project.run([project.ssh("a"), project.ssh("lost")], "tests")
    assert run.status == 69, run
    assert "no worker is left: its connection is lost" in run.out, run


@pytest.mark.parametrize("dist", ["load", "loadscope"])
def test_a_node_where_no_test_can_be_run(project, dist):
    """A broken library, say: it takes a few tests with it, which others run, and is left out."""
    scope = "class Test%d:\n    def test_x(self): os._exit(1) if waiting.NODE == 'bad' else waiting.wait_for('lost gw2')\n"
    project.write("tests/test_x.py", "import os, waiting\n" + "".join(scope % n for n in range(40)))
    run = project.run([project.ssh("a"), project.ssh("bad")], "--dist=" + dist, "tests")
    assert run.status == 0, run
    assert run.counts() == {"passed": 40, "rerun": 4}, run
    assert run.out.count("on bad is lost (ended 4 times in a row before it had finished a test)") == 1, run


@pytest.mark.parametrize("dist", ["load", "each"])
@pytest.mark.parametrize("args", [[], ["-v"]])
def test_lost_before_xdist_gives_it_its_task(project, args, dist):
    project.write("conftest.py", "import pytest, time\n@pytest.hookimpl(tryfirst=True)\ndef pytest_xdist_newgateway(gateway):\n"
                                 "    if gateway.id == 'b_0':\n        gateway._io.popen.kill()\n"
                                 "        while gateway.hasreceiver(): time.sleep(0.01)\n")
    project.write("tests/test_x.py", "import pytest\n@pytest.mark.parametrize('n', range(10))\ndef test_n(n): pass\n")
    run = project.run([project.popen("a"), project.popen("b")], *args, f"--dist={dist}", "tests")
    assert run.status == 0 and run.counts() == {"passed": 20 if dist == "each" else 10}, run
    assert "INTERNALERROR" not in run.out, run
    assert "replacing crashed worker b_0" in run.out, run


def test_lost_after_the_last_test(project):
    """There is nothing to do for a successor."""
    project.write("conftest.py", "import os\ndef pytest_sessionfinish(session):\n"
                                 "    worker = getattr(session.config, 'workerinput', {}).get('workerid')\n"
                                 "    if worker:\n        open('ended-' + worker, 'w').close()\n"
                                 "    if os.getcwd().endswith('/b'): os._exit(1)\n")
    project.write("tests/test_x.py", "import pytest\n@pytest.mark.parametrize('n', range(10))\ndef test_n(n): pass\n")
    run = project.run([project.ssh("a"), project.ssh("b")], "tests")
    assert run.status == 0 and run.counts() == {"passed": 10}, run
    assert sorted(path.name for path in project.tmp.glob("*/ended-*")) == ["ended-a_0", "ended-b_0"], run


# What tests have written may be collected by a successor: the numbers by which xdist names tests are others then.
WRITES = """
import os, pytest, waiting

@pytest.mark.parametrize("n", range(12))
def test_n(n):
    if waiting.NODE == "b" and n in (2, 3) + tuple(range(6, 12)):
        with open("tests/test_a.py", "w") as file:
            file.write("def test_written(): pass")
        os._exit(1)
    if waiting.NODE == "a":  # not before the successor has told what it has collected
        waiting.wait_for("lost gw0")
"""


@pytest.mark.parametrize("dist", ["load", "loadscope", "each"])
def test_a_successor_that_has_collected_other_tests(project, dist):
    project.write("tests/test_x.py", WRITES)
    project.write("tests/test_y.py", WRITES)
    run = project.run([project.ssh("a"), project.ssh("b")], "--dist=" + dist, "tests")
    assert "has collected other tests than those before it" in run.out, run
    assert "test_written" not in run.out, run
    if dist == "each":
        assert run.status == 1, run
        assert run.counts() == {"passed": 24 + 2, "failed": 1}, run
        assert "21 tests not run" in run.out, run
    else:
        assert run.status == 0, run
        assert run.counts() == {"passed": 24, "rerun": 1}, run


def test_the_only_successor_has_collected_other_tests(project):
    project.write("tests/test_x.py", WRITES)
    run = project.run([project.ssh("b")], "tests")
    assert run.status == 69, run
    assert "no worker is left: has collected other tests than those before it" in run.out, run


@pytest.mark.parametrize("dist", ["load", "loadscope", "each"])
def test_lost_again(project, dist):
    """The successor's tests go on, too; with --dist=each, by its own successor."""
    project.write("tests/test_x.py", "import os, pytest\n@pytest.mark.parametrize('n', range(12))\ndef test_n(n):\n"
                                     "    if n in (3, 6, 9) and not os.path.exists(f'../{n}'):\n"
                                     "        open(f'../{n}', 'w').close()\n        os._exit(1)\n")
    run = project.run([project.ssh("a")], "--dist=" + dist, "tests")
    if dist == "each":
        assert run.counts() == {"passed": 9, "failed": 3}, run
    else:
        assert run.counts() == {"passed": 12, "rerun": 3}, run


@pytest.mark.parametrize("dist", ["load", "loadscope", "each"])
def test_a_test_that_had_not_begun_is_nobody_s_fault(project, dist):
    """It is run elsewhere, and not shown as run again."""
    project.write("conftest.py", "import os\ndef pytest_runtestloop(session):\n    if hasattr(session.config, 'workerinput') and "
                                 "os.getcwd().endswith('/b') and not os.path.exists('once'):\n"
                                 "        open('once', 'w').close()\n        os._exit(1)\n")
    project.write("tests/test_x.py", "import pytest\n@pytest.mark.parametrize('n', range(10))\ndef test_n(n): pass\n")
    run = project.run([project.ssh("a"), project.ssh("b")], "--dist=" + dist, "tests")
    assert run.status == 0 and run.counts() == {"passed": 20 if dist == "each" else 10}, run
    assert "was running" not in run.out, run


def test_a_scope_with_one_test_left(project):
    """A worker begins a test when it knows the next one: xdist gave it this one alone, and both waited."""
    project.write("conftest.py", "")
    for number in range(3):
        project.write(f"tests/test_{number}.py", "import os\ndef test_1(): pass\ndef test_2():\n"
                      f"    if not os.path.exists('../{number}'):\n        open('../{number}', 'w').close()\n        os._exit(1)\n")
    run = project.run([project.ssh("a")], "--dist=loadfile", "tests")
    assert run.status == 0 and run.counts() == {"passed": 6, "rerun": 3}, run


@pytest.mark.parametrize("dist", ["load", "loadscope"])
def test_two_logins_of_one_host_are_two_nodes(project, dist):
    """One that is lost is not looked for under the other one's name, gets none of its workers, and gives it none."""
    body = ("\n        if waiting.NODE == 'theirs':\n            open('../dev@h.down', 'w').close()\n            os._exit(1)\n"
            "        waiting.wait_for('lost theirs_0')\n        waiting.wait_for('lost theirs_1')\n")
    scope = "class Test%d:\n    def test_x(self):" + body
    project.write("tests/test_x.py", "import os, waiting\n" + "".join(scope % n for n in range(30)))
    tx = [project.ssh(name, n, login=login) for name, login in (("ours", "ci"), ("theirs", "dev")) for n in range(2)]
    run = project.run(tx, "--dist=" + dist, "--junitxml=" + str(project.tmp / "report.xml"), "tests")
    assert run.status == 0, run
    assert run.counts()["passed"] == 30, run
    for n in range(2):
        assert f"cloudplan: theirs_{n} on dev@h is lost (its connection is lost)" in run.lines, run
    assert "its successor" not in run.out, run
    report = (project.tmp / "report.xml").read_text()
    assert report.count('name="node" value="ci@h"') == 30 and "dev@h" not in report


def test_an_ssh_config_alone_makes_no_node(project):
    """The user's own --tx has a configuration of its own, and no master that cloudplan would know of."""
    own = f"ssh=own//id=own_0//chdir={project.copy('own')}//python={sys.executable}//ssh_config=none"
    project.ssh("a")
    (project.tmp / "own.has no master").touch()
    project.write("tests/test_x.py", "import pytest\n\n@pytest.mark.parametrize('n', range(9))\ndef test_x(n): pass\n")
    project.copy("own")
    run = project.run([project.ssh("a"), own], "--dist=each", "tests")
    assert run.status == 0, run
    assert run.counts()["passed"] == 18 and not run.lines, run
