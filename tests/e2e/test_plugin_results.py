"""What the pytest plugin tells of a run: which node ran what, where it failed, which tests to run again."""
import json
import os
import re
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

from plugin_project import DEADLINE, Project

PYTHON = "linux Python %d.%d.%d" % sys.version_info[:3]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def section(run, title):
    """Lines of the terminal's section, up to the next one."""
    match = re.search(rf"^=+ {title} =+\n(.*?)(?=^=+ |\Z)", run.out, re.MULTILINE | re.DOTALL)
    return match.group(1).splitlines() if match else None


# JUnit

OUTCOMES = """
import os, pytest

@pytest.fixture
def bad_setup():
    raise RuntimeError("setup")

@pytest.fixture
def bad_teardown():
    yield
    raise RuntimeError("teardown")

@pytest.fixture(autouse=True)
def own(record_property):
    record_property("own", 1)

def test_pass(): pass
def test_fail(): assert 0
def test_skip(): pytest.skip("why")
def test_setup(bad_setup): pass
def test_teardown(bad_teardown): pass
def test_fail_and_teardown(bad_teardown): assert 0
@pytest.mark.xfail
def test_xfail(): assert 0
@pytest.mark.xfail
def test_xpass(): pass
@pytest.mark.xfail
def test_xfail_and_teardown(bad_teardown): assert 0
def test_crash(): os._exit(1)
@pytest.fixture
def crash_late():
    yield
    os._exit(1)
def test_crash_in_teardown(crash_late): pass
"""


def properties(case):
    return [(item.get("name"), item.get("value")) for item in case.iter("property")]


@pytest.mark.parametrize("family", ["xunit1", "legacy", "xunit2"])
def test_junit(project, family):
    project.write("tests/test_x.py", OUTCOMES)
    report = project.tmp / "report.xml"
    tx = [project.ssh("a"), "popen//id=here"]
    run = project.run(tx, f"--junitxml={report}", "-o", f"junit_family={family}", "-p", "no:randomly", "tests")
    assert run.status == 1, run
    cases = list(ElementTree.parse(report).iter("testcase"))
    # A failure whose teardown fails too is two cases.
    assert Counter(case.get("name") for case in cases) == {**dict.fromkeys(re.findall(r"def (test_\w+)", OUTCOMES), 1),
                                                           "test_fail_and_teardown": 2}
    for case in cases:
        found = Counter(name for name, _ in properties(case))
        assert found["node"] == found["worker"] == 1, (case.attrib, properties(case))
        values = dict(properties(case))
        assert values["node"] in ("a", "localhost")
        if values["worker"] in ("a_0", "here"):
            assert values["node"] == {"a_0": "a", "here": "localhost"}[values["worker"]]
        if case.get("name") in ("test_pass", "test_fail", "test_setup", "test_teardown"):
            assert values["own"] == "1"


def test_junit_properties_of_that_name(project):
    """What a test has recorded itself stays, alone."""
    project.write("tests/test_x.py", "def test(record_property):\n    record_property('node', 'db1')\n")
    report = project.tmp / "report.xml"
    run = project.run([project.ssh("a")], f"--junitxml={report}", "tests")
    assert run.status == 0, run
    assert properties(ElementTree.parse(report).find(".//testcase")) == [("node", "db1"), ("worker", "a_0")]


def test_junit_without_distribution(project):
    report = project.tmp / "report.xml"
    run = project.run([project.ssh("a")], f"--junitxml={report}", "--dist=no", "tests")
    assert run.status == 0, run
    assert not list(ElementTree.parse(report).iter("property"))


# The header


def test_nodes_are_named_once(project):
    tx = [*(project.ssh("a", n) for n in range(3)),
          project.ssh("b").replace("ci@b", "-p 2222 ci@b").replace("node=b", "node=b:2222"), "popen"]
    run = project.run(tx, "tests")
    assert run.status == 0, run
    lines = [line for line in run.out.splitlines() if PYTHON in line and "worker" in line]
    assert sorted(lines) == [f"a: 3 workers, {PYTHON}", f"b:2222: 1 worker, {PYTHON}", f"localhost: 1 worker, {PYTHON}"]
    # Before the first result.
    assert run.out.index(lines[-1]) < re.search(r"^\.", run.out, re.MULTILINE).start()


@pytest.mark.parametrize("tx, args, shown", [
    (2, ["-q"], True), (2, ["-qq"], False), (2, ["-v"], False), (1, [], False), (2, [], True),
])
def test_header_is_quiet(project, tx, args, shown):
    run = project.run([project.ssh("a", n) for n in range(tx)], *args, "tests")
    assert run.status == 0, run
    assert (f"a: {tx} worker" in run.out) == shown


def test_header_when_one_never_comes(project):
    """Its successor is not waited for, nor is it named twice."""
    project.write("conftest.py", """
import os
def pytest_configure(config):
    if hasattr(config, "workerinput") and os.getcwd().endswith("/lost"):
        os._exit(1)
""")
    run = project.run([project.ssh("a"), project.ssh("lost")], "--max-worker-restart=3", "tests")
    assert len(re.findall(r"^a: 1 worker, ", run.out, re.MULTILINE)) == 1, run
    assert "lost: 1 worker" not in run.out


def test_header_when_one_comes_at_the_second_try(project):
    """While the other one is not there yet."""
    project.write("conftest.py", """
import os, time
def pytest_configure(config):
    if hasattr(config, "workerinput"):
        if os.getcwd().endswith("/b") and not os.path.exists("tried"):
            open("tried", "w").close()
            os._exit(1)
        while os.getcwd().endswith("/a") and not os.path.exists("../b/ready"):
            time.sleep(0.05)
def pytest_collection_finish(session):
    if hasattr(session.config, "workerinput"):
        open("ready", "w").close()
""")
    run = project.run([project.ssh("a"), project.ssh("b")], "tests")
    assert run.status == 0, run
    assert [line for line in run.out.splitlines() if PYTHON in line and "worker" in line] == [
        f"a: 1 worker, {PYTHON}", f"b: 1 worker, {PYTHON}"]


# Failures name their nodes

UNEVEN = """
import os, pytest

@pytest.mark.parametrize("n", range(12))
def test_n(n):
    assert not os.getcwd().endswith("/bad")
"""


@pytest.mark.parametrize("args", [[], ["-q"], ["--tb=line"], ["-v"], ["--tb=no", "-rN"]])
def test_failures_by_node(project, args):
    project.write("tests/test_x.py", UNEVEN)
    run = project.run([project.ssh("good"), project.ssh("bad")], *args, "tests")
    assert run.status == 1, run
    failed = run.counts()["failed"]
    lines = section(run, "failures by node")
    assert lines[0] == f"bad: {failed} of {failed} tests"
    assert len(lines) == failed + 1
    for line in lines[1:]:
        assert re.fullmatch(r"  \[bad_0\] failed tests/test_x\.py::test_n\[\d+\]", line)


def test_a_worker_that_moved(project):
    project.write("tests/test_x.py", """
import os, pytest
@pytest.mark.parametrize("n", range(12))
def test_n(n):
    if os.getcwd().endswith("/lost"):
        open("../lost.down", "w").close()
        os._exit(1)
""")
    report = project.tmp / "report.xml"
    run = project.run([project.ssh("a"), project.ssh("lost")], f"--junitxml={report}", "tests")
    assert run.status == 0 and run.counts() == {"passed": 12, "rerun": 1}, run
    assert section(run, "failures by node") is None, run
    nodes = Counter(dict(properties(case))["node"] for case in ElementTree.parse(report).iter("testcase"))
    assert nodes == {"a": 12}


@pytest.mark.parametrize("nodes, args, text", [
    (("good", "bad"), ["-qq"], UNEVEN),
    (("good", "bad"), ["--no-summary"], UNEVEN),
    (("bad",), [], UNEVEN),
    (("good", "fine"), [], UNEVEN),
])
def test_no_section_without_need(project, nodes, args, text):
    project.write("tests/test_x.py", text)
    run = project.run([project.ssh(node) for node in nodes], *args, "tests")
    assert section(run, "failures by node") is None, run


def test_crash_names_the_node(project):
    """Where the worker's id does not: a successor's is xdist's own."""
    project.write("tests/test_x.py", "import os\ndef test_1(): os._exit(1)\ndef test_2(): os._exit(1)\n")
    run = project.run([project.ssh("node1")], "tests")
    assert run.status == 1, run
    assert re.search(r"test_1 was running on node1 when its worker node1_0 was lost", run.out)
    for test in "test_1", "test_2":
        assert re.search(rf"^worker 'gw\d' crashed while running 'tests/test_x.py::{test}' on node1$", run.out, re.M), run


# --dist=each


def test_each(project):
    project.write("tests/test_x.py", """
import os, pytest
@pytest.mark.parametrize("n", range(3))
def test_n(n): pass
def test_skip(): pytest.skip("")
def test_here(): assert not os.getcwd().endswith("/bad")
def test_everywhere(): assert 0
""")
    run = project.run([project.ssh("good"), project.ssh("bad"), "popen//python=" + sys.executable], "--dist=each", "tests")
    assert run.status == 1, run
    assert section(run, "results by worker") == [
        f"good_0 {PYTHON}: 4 passed, 1 failed, 1 skipped",
        f"bad_0 {PYTHON}: 3 passed, 2 failed, 1 skipped",
        f"gw0 {PYTHON}: 4 passed, 1 failed, 1 skipped",
        *sorted(["tests/test_x.py::test_here failed on bad_0", "tests/test_x.py::test_everywhere failed on all 3"],
                key=run.out.index),
    ]


def test_each_when_all_is_well(project):
    run = project.run([project.ssh("a"), project.ssh("b")], "--dist=each", "tests")
    assert run.status == 0, run
    assert section(run, "results by worker") == [f"a_0 {PYTHON}: 3 passed", f"b_0 {PYTHON}: 3 passed"]


def test_each_with_one_that_does_not_start(project):
    run = project.run([project.ssh("a"), project.ssh("b", python="false")], "--dist=each", "tests")
    assert run.status == 0, run
    assert section(run, "results by worker") == [
        "b_0: did not start: its Python (false) ended with status 1", f"a_0 {PYTHON}: 3 passed"]


def test_each_with_a_crash(project):
    """The successor's results are its own."""
    project.write("tests/test_x.py", "import os\ndef test_1(): pass\ndef test_2():\n"
                  "    if os.getcwd().endswith('/b'): os._exit(1)\ndef test_3(): pass\n")
    run = project.run([project.ssh("a"), project.ssh("b")], "--dist=each", "tests")
    assert run.status == 1, run
    assert section(run, "results by worker") == [
        f"a_0 {PYTHON}: 3 passed", f"b_0, then gw0 {PYTHON}: 2 passed, 1 failed",
        "tests/test_x.py::test_2 failed on b_0"]


def test_each_with_a_host_that_is_lost(project):
    """No other worker can do its tests; xdist would wait for them."""
    project.write("tests/test_x.py", """
import os, pytest
@pytest.mark.parametrize("n", range(6))
def test_n(n):
    if n == 2 and os.getcwd().endswith("/lost"):
        open("../lost.down", "w").close()
        os._exit(1)
""")
    run = project.run([project.ssh("a"), project.ssh("lost")], "--dist=each", "tests")
    assert run.status == 1, run
    assert run.lines == ["cloudplan: lost_0 on lost is lost (its connection is lost), 3 tests not run"]
    assert section(run, "results by worker") == [
        f"a_0 {PYTHON}: 6 passed",
        f"lost_0 {PYTHON}: 2 passed, 1 failed, lost (its connection is lost), 3 tests not run",
        "tests/test_x.py::test_n[2] failed on lost_0"]


@pytest.mark.parametrize("others, status", [(["a"], 0), ([], 69)])
def test_each_with_a_host_that_is_lost_early(project, others, status):
    project.write("tests/test_x.py", """
import os
if os.getcwd().endswith("/lost") and "PYTEST_XDIST_WORKER" in os.environ:
    open("../lost.down", "w").close()
    os._exit(1)
def test(): pass
""")
    run = project.run([*map(project.ssh, others), project.ssh("lost")], "--dist=each", "tests")
    assert run.status == status, run
    assert "INTERNALERROR" not in run.out
    if others:
        assert section(run, "results by worker") == [
            f"a_0 {PYTHON}: 1 passed", f"lost_0 {PYTHON}: lost (its connection is lost)"]


# _CLOUDPLAN_FAILED

FAILING = r'''
import os, pytest

@pytest.fixture
def broken():
    raise RuntimeError

def test_pass(): pass
@pytest.mark.parametrize("v", ["a::b", "two words", "line\nline", "'\"[x]", "\u00e9\U0001f600", "x@y"],
                         ids=lambda v: v)
def test_fail(v): assert 0
def test_setup(broken): pass
@pytest.mark.skip
def test_skip(): pass
@pytest.mark.xfail
def test_xfail(): assert 0
class TestC:
    def test_m(self): assert 0
'''


def rerun(project, words, *args, cwd=None):
    """The failed tests alone, here."""
    return project.run(["popen"], "--dist=no", *args, *words, cwd=cwd)


def test_failed(project):
    project.write("tests/test_x.py", FAILING)
    project.write("tests/test_y.py", "def test_crash():\n    import os; os._exit(1)\n")
    project.write("tests/two words/test_z.py", "def test_z(): assert 0\n")
    project.write("tests/-odd/test_odd.py", "def test_odd(): assert 0\n")
    file = project.tmp / "failed.json"
    run = project.run([project.ssh("a"), project.ssh("b")], "tests", _CLOUDPLAN_FAILED=str(file))
    assert run.status == 1, run
    words = json.loads(file.read_text())
    assert all(isinstance(word, str) and "\0" not in word for word in words)
    assert len(words) == len(set(words)) == 11
    assert {"tests/test_x.py::test_setup", "tests/test_x.py::TestC::test_m", "tests/test_y.py::test_crash",
            "tests/two words/test_z.py::test_z", "tests/-odd/test_odd.py::test_odd"} < set(words)
    assert [path.name for path in project.tmp.glob("failed*")] == ["failed.json"]
    again = rerun(project, [word for word in words if "crash" not in word])
    assert again.counts() == {"failed": 9, "error": 1}, again


@pytest.mark.parametrize("root, cwd, words, expected", [
    (".", "tests", ["test_x.py"], "test_x.py::test"),
    ("tests", ".", ["--rootdir=tests", "tests"], "tests/test_x.py::test"),
    (".", ".", ["tests/../../outside"], "../outside/test_o.py::test"),
    (".", "-x", ["."], "test_x.py::test"),
])
def test_failed_from_elsewhere(project, root, cwd, words, expected):
    """Node ids are relative to the root, arguments to where pytest was started."""
    for name in "tests/test_x.py", "-x/test_x.py", "../outside/test_o.py":
        project.write(name, "def test(): assert 0\n")
    file = project.tmp / "failed.json"
    run = project.run(["popen"], *words, cwd=project.root / cwd, _CLOUDPLAN_FAILED=str(file))
    assert run.status == 1, run
    found = json.loads(file.read_text())
    assert found == [expected], run
    again = rerun(project, found, *[word for word in words if word.startswith("-")], cwd=project.root / cwd)
    assert again.counts() == {"failed": 1}, again


def test_failed_option_like_path(project):
    project.write("-x/test_x.py", "def test(): assert 0\n")
    file = project.tmp / "failed.json"
    run = project.run([project.ssh("a")], "./-x", _CLOUDPLAN_FAILED=str(file))
    assert json.loads(file.read_text()) == ["./-x/test_x.py::test"], run


def test_failed_that_no_argument_can_name(project):
    """What holds them is run again instead."""
    project.write("pytest.ini", "[pytest]\n"
                  "disable_test_id_escaping_and_forfeit_all_rights_to_community_support = True\n")
    project.write("tests/test_x.py", "import pytest\n@pytest.mark.parametrize('v', ['a\\0b', 'c\\0d'], ids=['a\\0b', 'c\\0d'])\n"
                  "def test(v): assert 0\n")
    project.write("tests/one/" + os.fsdecode(b"\xff") + "/test_y.py", "def test_y(): assert 0\n")
    file = project.tmp / "failed.json"
    run = project.run(["popen"], "--dist=no", "tests", _CLOUDPLAN_FAILED=str(file))
    assert run.status == 1, run
    assert sorted(json.loads(file.read_text())) == ["tests/one", "tests/test_x.py"]


def test_failed_collection(project):
    project.write("tests/test_broken.py", "import no_such_module\n")
    file = project.tmp / "failed.json"
    run = project.run([project.ssh("a"), project.ssh("b")], "tests", _CLOUDPLAN_FAILED=str(file))
    assert run.status == 1, run
    assert json.loads(file.read_text()) == ["tests/test_broken.py"]


def test_failed_groups(project):
    project.write("tests/test_x.py", """
import pytest
@pytest.mark.xdist_group("g")
@pytest.mark.parametrize("v", ["a@b"])
def test_grouped(v): assert 0
@pytest.mark.xdist_group("g")
def test_plain(): assert 0
@pytest.mark.parametrize("v", ["a@b"])
def test_alone(v): assert 0
""")
    project.write("tests/at@/test_y.py", "def test_y(): assert 0\n")
    file = project.tmp / "failed.json"
    run = project.run([project.ssh("a")], "--dist=loadgroup", "tests", _CLOUDPLAN_FAILED=str(file))
    assert run.status == 1, run
    assert sorted(json.loads(file.read_text())) == [
        "tests/at@/test_y.py::test_y", "tests/test_x.py::test_alone[a@b]", "tests/test_x.py::test_grouped[a@b]",
        "tests/test_x.py::test_plain"]


@pytest.mark.parametrize("args", [["--dist=no"], ["-n1"], []])
def test_failed_none(project, args):
    """Also over an older list; and no child process sees the variable."""
    project.write("tests/test_x.py", "import os\ndef test(): assert '_CLOUDPLAN_FAILED' not in os.environ\n")
    file = project.tmp / "failed.json"
    file.write_text('["old"]')
    run = project.run([project.ssh("a")], *args, "tests", _CLOUDPLAN_FAILED=str(file))
    assert run.status == 0, run
    assert json.loads(file.read_text()) == []


def test_failed_that_cannot_be_written(project):
    file = project.tmp / "no" / "such" / "failed.json"
    run = project.run([project.ssh("a")], "tests", _CLOUDPLAN_FAILED=str(file))
    assert run.status == 0, run
    assert run.lines == [f"cloudplan: {file}: No such file or directory; the failed tests are not noted"]


def test_failed_when_interrupted(project):
    project.write("tests/test_x.py", "import time\ndef test_fail(): assert 0\ndef test_long():\n"
                  "    open('running', 'w').close()\n    time.sleep(300)\n")
    file = project.tmp / "failed.json"
    process = project.start([project.ssh("a")], "tests", _CLOUDPLAN_FAILED=str(file))
    end = time.monotonic() + DEADLINE
    while not (project.tmp / "a" / "running").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2, out
    assert json.loads(file.read_text()) == ["tests/test_x.py::test_fail"]


# --forked

KILLED = """
import os, pytest

@pytest.mark.parametrize("n", range(6))
def test_n(n):
    if n == 2:
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("distributed", [True, False])
def test_forked(project, distributed):
    pytest.importorskip("pytest_forked")
    project.write("tests/test_x.py", KILLED)
    file, report = project.tmp / "failed.json", project.tmp / "report.xml"
    run = project.run([project.ssh("a"), project.ssh("b")], "--forked", f"--junitxml={report}",
                      *([] if distributed else ["--dist=no"]), "tests", _CLOUDPLAN_FAILED=str(file))
    assert run.status == 1, run
    counts = run.counts()
    counts.pop("warnings", None)  # Python 3.12 and newer warn of fork() beside threads
    assert counts == {"failed": 1, "passed": 5}
    assert "CRASHED with signal 9" in run.out and "replacing" not in run.out
    assert json.loads(file.read_text()) == ["tests/test_x.py::test_n[2]"]
    if distributed:
        cases = {case.get("name"): properties(case) for case in ElementTree.parse(report).iter("testcase")}
        assert len(cases) == 6
        for found in cases.values():
            values = dict(found)
            assert len(found) == 2 and values["worker"] == values["node"] + "_0"
        node = dict(cases["test_n[2]"])["node"]
        assert section(run, "failures by node")[0].startswith(f"{node}: 1 of ")


def test_without_forked_the_worker_goes(project):
    project.write("tests/test_x.py", KILLED)
    run = project.run([project.ssh("a"), project.ssh("b")], "tests")
    assert run.status == 1 and run.counts() == {"failed": 1, "passed": 5, "rerun": 1}, run
    assert "crashed while running 'tests/test_x.py::test_n[2]'" in run.out
