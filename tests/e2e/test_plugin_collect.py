"""scripts/pytest_cloudplan/collect.py: a module that is broken or skipped counts as in a run here, over any number of
workers, whose directories all differ."""
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from cloudnodes import patience
from plugin_project import Project
from test_plugin_results import section

MODULES = {
    "helper.py": "import pytest\ndef leave(): pytest.skip('by a helper', allow_module_level=True)\n",
    "conftest.py": "",
    "tests/test_good.py": """
import os, pytest
@pytest.mark.parametrize("x", range(8))
def test_good(x): pass
@pytest.mark.parametrize("x", range(8))
def test_skipped(x): pytest.skip("by itself")
@pytest.mark.skip(reason="by its mark")
@pytest.mark.parametrize("x", range(8))
def test_marked(x): pass
@pytest.mark.parametrize("x", range(2))
def test_bad(x, monkeypatch):
    monkeypatch.chdir("/")  # pytest then names whole paths
    assert x == "here"
""",
    "tests/test_skip.py": "import pytest\npytest.skip('not today', allow_module_level=True)\n",
    "tests/test_importorskip.py": "import pytest\npytest.importorskip('no_such_module')\n",
    # The same place, twice.
    "tests/test_helped_1.py": "from helper import leave\nleave()\n",
    "tests/test_helped_2.py": "from helper import leave\nleave()\n",
    "tests/test_import.py": "import no_such_module\n",
    "tests/test_syntax.py": "def (\n",
    "tests/test_raises.py": "raise RuntimeError('in %s, %r' % (__file__, object()))\n",
    "tests/test_class.py": "import pytest\nclass TestC:\n    pytest.skip('in a class', allow_module_level=True)\n",
}
COUNTS = {"passed": 8, "failed": 2, "skipped": 21, "errors": 3}


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    (project.root / "tests/test_x.py").unlink()
    for name, text in MODULES.items():
        project.write(name, text)
    return project


def local(project, *args):
    """pytest here, which ends before the first test where something is broken, unlike xdist."""
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--continue-on-collection-errors"]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run([*words, *args], cwd=project.root, stdin=subprocess.DEVNULL, capture_output=True,
                          encoding="utf-8", env=environ, timeout=patience(60))
    return done.stdout


def last_line(out):
    return {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", out.strip().splitlines()[-1].split(" in ")[0])}


def part(out, begin, end):
    """Whole lines, but for addresses."""
    lines = out.splitlines()
    first = next(number for number, line in enumerate(lines) if re.match(begin, line))
    last = next(number for number, line in enumerate(lines[first + 1:], first + 1) if re.match(end, line))
    return [re.sub("0x[0-9a-f]+", "0x", line) for line in lines[first:last]]


def report(path):
    """The numbers, and [(class, name, [outcomes, where a skip names the place])]."""
    tree = ElementTree.parse(path)
    totals = {name: tree.find(".//testsuite").get(name) for name in ("tests", "errors", "failures", "skipped")}
    cases = [(case.get("classname"), case.get("name"),
              [(element.tag, element.text if element.tag == "skipped" else "")
               for element in case if element.tag != "properties"]) for case in tree.iter("testcase")]
    return totals, sorted(cases)


def properties(path, name):
    """Of the cases that have the name: [{property: value}]."""
    return [{own.get("name"): own.get("value") for own in case.iter("property")}
            for case in ElementTree.parse(path).iter("testcase") if case.get("name") == name]


@pytest.mark.parametrize("mode", ["load", "loadscope", "loadfile"])
def test_as_here(project, mode):
    args = ["tests", "-rsE", "-v"]
    here = local(project, *args, f"--junitxml={project.tmp}/here.xml")
    file = project.tmp / "failed.json"
    nodes = [project.ssh(name, index) for name in ("a", "b", "deeper/c") for index in (0, 1)]
    run = project.run([*nodes, "popen"], *args, f"--dist={mode}", f"--junitxml={project.tmp}/there.xml",
                      _CLOUDPLAN_FAILED=str(file))
    assert run.status == 1 and last_line(here) == COUNTS, run
    assert run.counts() == COUNTS, run
    errors = "=+ ERRORS =+", "=+ FAILURES =+"
    # A message is the node's own.
    shown = [re.sub(r"^(E +RuntimeError: in ).*/(project|a|b|deeper/c)/", rf"\1{project.root}/", line)
             for line in part(run.out, *errors)]
    assert shown == part(here, *errors)
    # Where: the very same lines, each once, with the same number.
    names = "=+ short test summary info =+", "=+ .*passed"
    lines = [line for line in part(run.out, *names) if line.startswith("SKIPPED")]
    assert sorted(lines) == sorted(line for line in part(here, *names) if line.startswith("SKIPPED"))
    assert f"{project.root}/tests/test_good.py:13: AssertionError" in run.out
    assert sorted(json.loads(file.read_text())) == [
        "tests/test_good.py::test_bad[0]", "tests/test_good.py::test_bad[1]",
        "tests/test_import.py", "tests/test_raises.py", "tests/test_syntax.py"]
    assert report(project.tmp / "there.xml") == report(project.tmp / "here.xml")
    (module,) = properties(project.tmp / "there.xml", "tests.test_skip")
    assert module["worker"].startswith(module["node"]) or module == {"node": "localhost", "worker": "gw0"}
    assert not [line for line in section(run, "failures by node") if " error " in line]


@pytest.mark.parametrize("words", [["tests/test_raises.py::test_a", "tests/test_raises.py::test_b"],
                                   ["tests/test_skip.py", "tests/test_skip.py"]])
def test_named_twice(project, words):
    here = last_line(local(project, *words))
    run = project.run([project.ssh("a"), project.ssh("b"), project.ssh("c")], *words)
    assert run.counts() == here, run


def test_names_of_directories_begin_alike(project):
    """A worker's directory is neither what its name is the beginning of, nor what only ends like it."""
    others = f"{project.tmp}/a-b/x {project.tmp}/ab /x{project.tmp}/a/x"
    project.write("tests/test_syntax.py", f"def (  # {others}\n")
    run = project.run([project.ssh("a"), project.ssh("b")], "tests/test_syntax.py")
    assert run.counts() == {"error": 1} and f" def (  # {others}\n" in run.out, run
    assert f'File "{project.root}/tests/test_syntax.py"' in run.out


DIFFERENT = """
import os, pytest
if os.getcwd().endswith("/bad"):
    %s
"""


def assert_aborted(run, worker):
    """xdist runs nothing where workers have collected different tests."""
    assert run.status == 1, run
    assert "Different tests were collected" in run.out and worker in run.out
    assert "passed" not in run.out.splitlines()[-1]


def test_broken_on_one_node_alone(project):
    project.write("tests/test_skip.py", DIFFERENT % "raise RuntimeError('only here')" + "def test_here(): pass\n")
    project.write("tests/test_import.py", "raise RuntimeError('on ' + os.getcwd()[-1])".join(DIFFERENT.split("%s")).replace(
        'if os.getcwd().endswith("/bad"):', "if True:"))
    file = project.tmp / "failed.json"
    run = project.run([project.ssh("a"), project.ssh("bad"), project.ssh("bad", 1)], "tests", f"--junitxml={project.tmp}/there.xml",
                      _CLOUDPLAN_FAILED=str(file))
    assert_aborted(run, "bad_0")
    errors = "\n".join(part(run.out, "=+ ERRORS =+", "=+ short test summary"))
    # Once for both of the node's workers; one of them is named.
    assert len(re.findall(r"_ ERROR collecting tests/test_skip.py _+\n\[bad_[01]\] linux -- Python ", errors)) == 1, run
    # Each node has its own reason.
    assert len(re.findall(r"_ ERROR collecting tests/test_import.py _+\n\[(?:a|bad)_[01]\] linux -- ", errors)) == 2, run
    assert errors.count("RuntimeError: on a") == 1 and errors.count("RuntimeError: on d") == 1
    # Everyone's.
    assert re.search(r"_ ERROR collecting tests/test_syntax.py _+\n[^\[]", errors), run
    assert {(case["node"], case["worker"][:-1]) for case in properties(project.tmp / "there.xml", "tests.test_import")} == {
        ("a", "a_"), ("bad", "bad_")}
    assert {case["node"] for case in properties(project.tmp / "there.xml", "tests.test_skip")} == {"bad"}
    assert sorted(section(run, "failures by node")) == [
        "  [a_0] error tests/test_import.py",
        "  [bad_0] error tests/test_import.py",
        "  [bad_0] error tests/test_skip.py",
        "  [bad_1] error tests/test_import.py",
        "  [bad_1] error tests/test_skip.py",
        "a: 1 of 1 test",
        "bad: 2 of 2 tests",
    ]
    assert sorted(json.loads(file.read_text())) == [
        "tests/test_import.py", "tests/test_raises.py", "tests/test_skip.py", "tests/test_syntax.py"]


def test_skipped_on_one_node_alone(project):
    project.write("tests/test_skip.py", DIFFERENT % "pytest.skip('only here', allow_module_level=True)" + "def test_here(): pass\n")
    run = project.run([project.ssh("a"), project.ssh("bad")], "tests", "-rs")
    assert_aborted(run, "bad_0")
    assert "SKIPPED [1] tests/test_skip.py:4: only here" in run.out


def test_each(project):
    """Every worker's outcome is a result of its own, and names the worker."""
    run = project.run([project.ssh("a"), project.ssh("b")], "tests", "--dist=each", f"--junitxml={project.tmp}/there.xml")
    assert run.status == 1, run
    assert run.counts() == {word: 2 * number for word, number in COUNTS.items()}, run
    python = "linux Python %d.%d.%d" % sys.version_info[:3]
    lines = section(run, "results by worker")
    assert lines[:2] == [f"{name}_0 {python}: 8 passed, 2 failed, 3 error, 21 skipped" for name in "ab"]
    assert "tests/test_syntax.py failed on all 2" in lines
    assert sorted(re.findall(r"_ ERROR collecting tests/test_syntax.py _+\n\[(.*?)\]", run.out)) == ["a_0", "b_0"]
    assert {case["node"] for case in properties(project.tmp / "there.xml", "tests.test_skip")} == {"a", "b"}


@pytest.mark.parametrize("mode", ["load", "each"])
def test_a_successor_adds_nothing(project, mode):
    """A worker that came in the place of another has collected everything again."""
    project.write("tests/test_good.py", """
import os, pytest
@pytest.mark.parametrize("x", range(4))
def test_good(x):
    if x == 1 and not os.path.exists("../killed"):
        open("../killed", "w").close()
        os._exit(1)
""")
    run = project.run([project.ssh("a"), project.ssh("b")], "tests", f"--dist={mode}")
    assert "replacing crashed worker" in run.out, run
    times = 2 if mode == "each" else 1
    found = run.counts()
    assert (found["skipped"], found["errors"]) == (5 * times, 3 * times), run


def test_where_xdist_has_no_such_method(project):
    """xdist then goes its own way."""
    project.write("conftest.py", """
from xdist.dsession import DSession
if hasattr(DSession, "_failed_worker_collectreport"):
    def worker_collectreport(self, node, rep, _pass_on=DSession._failed_worker_collectreport):
        _pass_on(self, node, rep)
    DSession.worker_collectreport = worker_collectreport
    del DSession._failed_worker_collectreport
""")
    run = project.run([project.ssh("a"), project.ssh("b")], "tests/test_skip.py", "tests/test_good.py")
    found = run.counts()
    assert (found["passed"], found["skipped"]) == (8, 18), run
    assert "INTERNALERROR" not in run.out


@pytest.mark.parametrize("args", [["-x"], ["--maxfail=2"]])
def test_no_more_after_so_many(project, args):
    run = project.run([project.ssh(name, index) for name in "abc" for index in (0, 1)], "tests", *args)
    assert run.status != 0 and "INTERNALERROR" not in run.out, run
    assert 1 <= run.counts().get("errors", 1) <= 3
