"""scripts/pytest_cloudplan/reruns.py: a test whose worker is lost is run again once, and has one result."""
import re
import xml.etree.ElementTree as ElementTree

import pytest

from plugin_project import DEADLINE, Project

MODES = ["load", "loadscope", "loadfile", "loadgroup"]

# Tests in two files; what a worker is to die of is told by files outside the copies.
SUITE = """
import os, pathlib, pytest

HERE = pathlib.Path({counts!r})

def die_of(name, times):
    '''Kills the worker as long as that has happened fewer times.'''
    marks = list(HERE.glob(name + "-*"))
    if len(marks) < times:
        (HERE / (name + "-%d" % len(marks))).touch()
        os._exit(1)

@pytest.fixture
def late():
    yield
    die_of("late", {late})

@pytest.mark.parametrize("n", range(8))
def test_n(n): pass

def test_once(): die_of("once", {once})
def test_always(): die_of("always", {always})
def test_late(late): pass
def test_fails(): assert 0

@pytest.mark.parametrize("n", range(8))
def test_m(n): pass
"""
COUNT = 20


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def write(project, once=0, always=0, late=0):
    counts = project.tmp / "counts"
    counts.mkdir()
    project.write("tests/test_x.py", SUITE.format(counts=str(counts), once=once, always=always, late=late))


def cases(project):
    """{name: [what became of it]}: a list for each, to see what has two results."""
    found = {}
    root = ElementTree.parse(project.root / "report.xml")
    for case in root.iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found.setdefault(case.get("name"), []).append("/".join(kinds) or "passed")
    suite = next(root.iter("testsuite"))
    assert int(suite.get("tests")) == sum(map(len, found.values())), found
    return found


def run(project, *args, mode="load", workers=2):
    tx = [project.popen(name) for name in "abc"[:workers]]
    return project.run(tx, "--dist=" + mode, "--junitxml=report.xml", *args, "tests/test_x.py")


@pytest.mark.parametrize("mode", MODES)
def test_one_that_kills_its_worker_again_is_failed(project, mode):
    write(project, always=99)
    result = run(project, mode=mode)
    assert result.status == 1, result
    found = cases(project)
    assert len(found) == COUNT and all(len(results) == 1 for results in found.values()), (found, result)
    assert {name for name, results in found.items() if results != ["passed"]} == {"test_always", "test_fails"}
    assert len(list((project.tmp / "counts").glob("always-*"))) == 2, result
    assert re.search(r"2 failed, 18 passed.*1 rerun", result.out), result


@pytest.mark.parametrize("mode", MODES)
def test_one_that_was_merely_there_is_run_again(project, mode):
    write(project, once=1)
    result = run(project, mode=mode)
    found = cases(project)
    assert len(found) == COUNT and all(len(results) == 1 for results in found.values()), (found, result)
    assert found["test_once"] == ["passed"]
    assert re.search(r"1 failed, 19 passed.*1 rerun", result.out), result
    assert "test_once was running on" in result.out and "it is run again" in result.out


@pytest.mark.parametrize("mode", ["load", "loadscope"])
def test_what_was_said_of_an_unfinished_test_is_forgotten(project, mode):
    """Its call had passed, and its teardown took the worker along."""
    write(project, late=1)
    result = run(project, mode=mode)
    found = cases(project)
    assert found["test_late"] == ["passed"] and len(found) == COUNT, (found, result)
    assert re.search(r"1 failed, 19 passed.*1 rerun", result.out), result


def test_status_of_a_run_with_reruns_alone(project):
    write(project, once=1)
    tx = [project.popen("a"), project.popen("b")]
    result = project.run(tx, "-v", "-k", "not fails", "tests/test_x.py")
    assert result.status == 0, result
    assert re.search(r"RERUN.*test_once", result.out) and re.search(r"PASSED.*test_once", result.out), result


@pytest.mark.parametrize("limit, hits", [("0", 1), ("1", 2)])
def test_at_xdist_s_limit_the_test_is_failed(project, limit, hits):
    """Nobody would run it again: it must not be left without a result."""
    write(project, once=99)
    result = run(project, "--max-worker-restart=" + limit, workers=1)
    assert result.status == 1, result
    assert cases(project)["test_once"] == ["error"]  # that is what LogXML makes of a crash
    assert len(list((project.tmp / "counts").glob("once-*"))) == hits


def test_several_at_once(project):
    write(project, once=1, always=99, late=1)
    result = run(project, workers=3)
    found = cases(project)
    assert len(found) == COUNT and all(len(results) == 1 for results in found.values()), (found, result)
    assert {name for name, results in found.items() if results != ["passed"]} == {"test_always", "test_fails"}
    assert re.search(r"2 failed, 18 passed.*3 rerun", result.out), result


WAITING = """
import os, pathlib, time

HERE = pathlib.Path({counts!r})

def wait_for(name):
    end = time.monotonic() + {seconds}
    while not (HERE / name).exists():
        assert time.monotonic() < end, name
        time.sleep(0.02)

def die_once(name):
    if not (HERE / name).exists():
        (HERE / name).touch()
        os._exit(1)
"""


@pytest.mark.parametrize("mode", ["load", "loadscope", "loadfile"])
def test_a_worker_is_lost_while_the_successor_of_another_collects(project, mode):
    counts = project.tmp / "counts"
    counts.mkdir()
    project.write("tests/waiting.py", WAITING.format(counts=str(counts), seconds=DEADLINE))
    # xdist's successors are gw0 and gw1: the first one collects when the second one is there.
    project.write("tests/conftest.py", """
from waiting import HERE, wait_for

def pytest_collection(session):
    worker = getattr(session.config, "workerinput", {}).get("workerid", "")
    (HERE / worker).touch() if worker else None
    if worker == "gw0":
        wait_for("gw1")
""")
    project.write("tests/test_a.py", "import waiting\ndef test_a(): waiting.die_once('a')\n")
    project.write("tests/test_b.py", "import waiting\ndef test_b():\n    waiting.wait_for('gw0')\n    waiting.die_once('b')\n")
    for name in "cdefgh":
        project.write(f"tests/test_{name}.py", f"def test_{name}(): pass\n")
    files = [f"tests/test_{name}.py" for name in "abcdefgh"]
    result = project.run([project.popen(name) for name in "xy"], "--dist=" + mode, "--junitxml=report.xml", *files)
    assert result.status == 0, result
    assert cases(project) == {f"test_{name}": ["passed"] for name in "abcdefgh"}, result
    assert re.search(r"8 passed.*2 rerun", result.out), result


# What comes back from the first lost worker is run last; of that, the last one.
@pytest.mark.parametrize("mode, last", [("load", "test_b"), ("loadscope", "test_c"), ("loadfile", "test_c")])
def test_the_last_test_s_worker_is_lost_when_a_successor_was_sent_home(project, mode, last):
    """The successor of the first lost worker is ready when the last test runs: it is told to end, and collects still."""
    counts = project.tmp / "counts"
    counts.mkdir()
    project.write("tests/waiting.py", WAITING.format(counts=str(counts), seconds=DEADLINE))
    # A worker's id; the controller has none: what it says is what it has heard of.
    project.write("tests/conftest.py", f"""
from waiting import HERE, wait_for

def pytest_configure(config):
    global worker
    worker = getattr(config, "workerinput", {{}}).get("workerid")

def pytest_sessionstart(session):
    if worker == "gw0":
        wait_for("the last begins")

def pytest_collection(session):
    if worker == "gw0":
        wait_for("gw1 collects")
    elif worker == "gw1":
        (HERE / "gw1 collects").touch()
        wait_for("gw0 has collected")

def pytest_xdist_node_collection_finished(node):
    (HERE / (node.gateway.id + " has collected")).touch()

def pytest_testnodedown(node, error):
    (HERE / "one is lost").touch()

def pytest_testnodeready(node):
    (HERE / (node.gateway.id + " is ready")).touch()

def pytest_runtest_logstart(nodeid):
    if worker is None and nodeid.endswith("{last}") and (HERE / "one is lost").exists():
        (HERE / "the last begins").touch()
""")
    bodies = {f"test_{name}": "pass" for name in "bcefgh"}
    bodies["test_a"] = "waiting.die_once('a')"
    bodies["test_d"] = "waiting.wait_for('one is lost')"
    bodies[last] = "waiting.wait_for('gw0 is ready'); waiting.die_once('last')"
    for name, body in bodies.items():
        project.write(f"tests/{name}.py", f"import waiting\ndef {name}(): {body}\n")
    files = [f"tests/{name}.py" for name in sorted(bodies)]
    result = project.run([project.popen(name) for name in "xy"], "--dist=" + mode, "--junitxml=report.xml", *files)
    assert result.status == 0, result
    assert cases(project) == {name: ["passed"] for name in bodies}, result
    assert re.search(r"8 passed.*2 rerun", result.out), result


def test_each_platform_keeps_its_own_result(project):
    """No other worker could run it in its place."""
    write(project, once=1)
    result = run(project, mode="each")
    assert result.status == 1, result
    assert result.out.count("RERUN") == 0 and "rerun" not in result.out
