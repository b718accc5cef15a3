"""A short game of random rounds (rounds.py), and what its judge finds fault with.

The seeds are for every day; CLOUDPLAN_ROUNDS=FROM-TO plays others.  A thousand: `make rounds ROUNDS='--rounds 1000'`.
"""
import os
from types import SimpleNamespace

import pytest

from cloudnodes import CloudnodesError
from rounds import Round, Rounds, afterwards, new_world
from rounds_judge import Scene, said, verdict

EVERY_DAY = [6, 100, 105, 108, 117, 133]


def seeds():
    given = os.environ.get("CLOUDPLAN_ROUNDS")
    if not given:
        return EVERY_DAY
    first, _, last = given.partition("-")
    return range(int(first), int(last or first) + 1)


class Worlds:
    """One world for all rounds; after a fault, a new one."""

    def __init__(self):
        self.world = self.site = None

    def get(self):
        if self.site is None or self.site.dirty:
            self.close()
            self.world = new_world()
            self.world.__enter__()
            self.site = Rounds(self.world)
        return self.site

    def close(self):
        if self.world:
            self.world.close()
        self.world = self.site = None


@pytest.fixture(scope="module")
def worlds():
    made = Worlds()
    yield made
    made.close()


@pytest.mark.parametrize("seed", seeds())
def test_a_round(worlds, seed):
    played = Round(worlds.get(), seed)
    try:
        played.go()
        played.judge()
    except (AssertionError, OSError, CloudnodesError):
        worlds.close()
        raise
    if played.faults:
        worlds.close()
    assert not played.faults, "\n" + played.tell()


def test_a_plain_run_passes_afterwards(worlds):
    wrong = afterwards(worlds.get(), [0])
    assert not wrong, wrong


# --- the judge ---

PASSED = '<testcase name="test_a"/>'
FAILED = '<testcase name="test_b"><failure message="assert 1 != 1">E</failure></testcase>'
LOST = '<testcase name="test_a"><failure message="worker \'10.0.120.1_0\' crashed while running \'test_a\'">x</failure></testcase>'


def run(status, hits=(), words="", tests=("test_a",), hurt=()):
    outcome = {name: "failure" if name == "test_b" else "passed" for name in tests}
    return SimpleNamespace(status=status, tests=outcome, hits=list(hits), signals=[], hurt=set(hurt), places=["a", "b"], words=words)


def judged(tmp_path, played, cases, ran=None):
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return verdict(played, report, set(played.tests) if ran is None else ran)


def test_what_is_fine(tmp_path):
    hit = ("there worker", "KILL")
    assert not judged(tmp_path, run(0), PASSED)
    assert not judged(tmp_path, run(1, tests=("test_a", "test_b")), PASSED + FAILED)
    assert not judged(tmp_path, run(1, [hit, hit]), LOST)
    assert not judged(tmp_path, run(143, [("here cloudplan", "TERM")]), "")
    assert not judged(tmp_path, run(137, [("here engine", "KILL")]), "")
    assert not judged(tmp_path, run(69, [hit, hit], hurt="ab"), "")


@pytest.mark.parametrize("status, hits, tests, cases, ran, words", [
    (0, [], ("test_a", "test_c"), PASSED, None, "test_c is not told of"),
    (0, [], ("test_a",), PASSED + PASSED, None, "2 results"),
    (0, [], ("test_a",), PASSED, (), "never run"),
    (0, [], ("test_a", "test_b"), PASSED + FAILED, None, "tests have failed"),
    (0, [], ("test_a", "test_b"), PASSED + '<testcase name="test_b"/>', None, "test_b is passed"),
    (1, [], ("test_a",), PASSED, None, "have not failed"),
    (1, [("there worker", "KILL")], ("test_a",), LOST, None, "test_a is failure"),
    (0, [], ("test_a",), PASSED + '<testcase name="test_x"/>', None, "no test"),
    (3, [("here engine", "KILL")], ("test_a",), "", None, "status 3"),
    (70, [("here engine", "KILL")], ("test_a",), "", None, "status 70"),
    (137, [("there worker", "KILL")], ("test_a",), "", None, "status 137"),
    (143, [("here cloudplan", "INT")], ("test_a",), "", None, "status 143"),
    (69, [("there worker", "KILL")], ("test_a",), "", None, "status 69"),
])
def test_what_is_a_fault(tmp_path, status, hits, tests, cases, ran, words):
    faults = judged(tmp_path, run(status, hits, tests=tests, hurt="a"), cases, ran if ran is None else set(ran))
    assert any(words in fault for fault in faults), faults


@pytest.mark.parametrize("words", ["INTERNALERROR> x\n", "x\nTraceback (most recent call last):\n  File\n", "==1==ERROR: AddressSanitizer: x",
                                   "a.c:3:2: runtime error: shift\n", "sh: 12: foo: not found\n"])
def test_what_is_never_said(words):
    assert said(run(0, words=words))
    assert not said(run(0, words="1 passed in 0.1s\ncloudplan: 10.0.120.1 is left out (failed): ssh: x\n"))


def test_what_is_left_is_seen(worlds):
    """A process, a file, a lease, a changed neighbour, a lost mark."""
    site = worlds.get()
    node = site.nodes[0]
    scene = Scene(site)
    assert not scene.left(node) and not scene.changed()
    canary = node.home / Scene.CANARY / "deep/file"
    words = canary.read_text()
    folder = node.root / "tmp/cloudplan-leases-1000"
    folder.mkdir(exist_ok=True)
    with node.popen(["sleep", "1000"]):
        for path in (folder / "abc.1", node.root / "tmp/cloudplan.x"):
            path.touch()
        canary.write_text("x")
        copy = node.home / "pytest_ci_project~9"
        copy.mkdir()
        (copy / "file").touch()
        left = scene.left(node)
        changed = scene.changed()
        for path in (folder / "abc.1", node.root / "tmp/cloudplan.x", copy / "file"):
            path.unlink()
        copy.rmdir()
        canary.write_text(words)
    assert [word.split()[0] for word in left] == ["process", "lease", "/tmp/cloudplan.x"], left
    assert len(changed) == 2, changed
