"""Workers are lost at any time, and with them their hosts: whatever order that comes in, the run ends, and each test has one
result.

A seed makes a suite, a mode and the times of death.  These few are for every day; CLOUDPLAN_CHAOS=FROM-TO tries others.
"""
import os
import random
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

from plugin_project import Project

DYING = """
import os, pathlib

HERE = pathlib.Path({here!r})

def die(name, times=1):
    '''Ends the worker the first times that it comes here.'''
    for number in range(times):
        try:
            os.open(HERE / ("%s-%d" % (name, number)), os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            continue
        os._exit(1)

def host_dies(name):
    '''The first time: ends all workers of this host, which is not to be had any more; unless it is the last one.'''
    host = os.path.basename(os.getcwd())
    if (HERE / name).exists() or len(list(HERE.glob("down-*"))) >= {hosts} - 1:
        return
    (HERE / name).touch()
    (HERE / ("down-" + host)).touch()
    open("../" + host + ".down", "w").close()
    for pid in os.listdir("pids"):
        if int(pid) != os.getpid():
            try:
                os.kill(int(pid), 9)
            except OSError:
                pass
    os._exit(1)
"""

CONFTEST = """
import os, time
from dying import die

def pytest_configure(config):
    global worker
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker:
        os.makedirs("pids", exist_ok=True)
        open("pids/%d" % os.getpid(), "w").close()
"""
HOOKS = ["pytest_sessionstart", "pytest_collection", "pytest_collection_finish", "pytest_runtestloop", "pytest_sessionfinish"]

# What a test does, how often there is one that does it, and the result of it.
KINDS = {
    "passes": (12, "", "passed"),
    "fails": (0.5, "assert 0", "failure"),
    "kills its worker once": (2, "die('{name}')", "passed"),
    "kills every worker": (0.7, "die('{name}', 99)", "error"),
    "kills it in its setup": (1, None, "passed"),
    "kills it in its teardown": (1, None, "passed"),
    "kills the host": (2, "host_dies('{name}')", "passed"),
}
BEFORE = "@pytest.fixture\ndef fixture_{name}():\n    die('{name}')\n    yield\n\n"
AFTER = "@pytest.fixture\ndef fixture_{name}():\n    yield\n    die('{name}')\n\n"
MODES = ["load", "loadscope", "loadfile", "loadgroup", "each"]
try:
    import xdist.scheduler.worksteal  # noqa: F401

    MODES.append("worksteal")
except ImportError:
    pass


class Chaos:
    def __init__(self, seed, tmp_path):
        choice = random.Random(seed)
        self.project = Project(tmp_path)
        (self.project.root / "tests/test_x.py").unlink()
        (tmp_path / "here").mkdir()
        self.mode = choice.choice(MODES)
        self.hosts = choice.choice([0, 0, 1, 2, 3]) if self.mode != "each" else 0  # 0: local workers alone
        self.each = choice.randint(1, 4)  # workers of each
        self.project.write("tests/dying.py", DYING.format(here=str(tmp_path / "here"), hosts=self.hosts))
        self.tests = {}  # name: kind
        for number in range(choice.randint(1, 5)):
            self.write_tests(choice, number)
        self.write_conftest(choice)

    def write_tests(self, choice, number):
        kinds = [kind for kind in KINDS if self.hosts or kind != "kills the host"]
        text = "import pytest, time\nfrom dying import die, host_dies\n\n"
        for index in range(choice.randint(1, 8)):
            name = f"test_{number}_{index}"
            kind = self.tests[name] = choice.choices(kinds, [KINDS[kind][0] for kind in kinds])[0]
            body = f"time.sleep({choice.choice([0, 0, 0, 0.01, 0.05, 0.2])})"
            fixture = {"kills it in its setup": BEFORE, "kills it in its teardown": AFTER}.get(kind, "")
            if not fixture:
                body += "; " + KINDS[kind][1].format(name=name)
            text += fixture.format(name=name) + f"def {name}({fixture and 'fixture_' + name}): {body}\n\n"
        self.project.write(f"tests/test_{number}.py", text)

    def write_conftest(self, choice):
        """Some workers are slow in some phase, or end in it."""
        workers = [f"{host}_0" for host in "xyz"] + [f"gw{n}" for n in range(4)]
        text = CONFTEST
        for hook in HOOKS:
            lines = ""
            if choice.random() < 0.3:
                lines += f"    if worker == '{choice.choice(workers)}': time.sleep({choice.choice([0.05, 0.2, 0.5, 1])})\n"
            if choice.random() < 0.2:
                lines += f"    if worker == '{choice.choice(workers)}': die('{hook}')\n"
            if lines:
                text += f"\ndef {hook}():\n{lines}"
        self.project.write("tests/conftest.py", text)

    def run(self):
        if self.hosts:
            tx = [self.project.ssh(host, index) for host in "xyz"[:self.hosts] for index in range(self.each)]
        else:
            tx = [self.project.popen(name) for name in "vxyz"[:self.each]]
        return self.project.run(tx, "--dist=" + self.mode, "--junitxml=report.xml", "tests")

    def results(self):
        found = {name: Counter() for name in self.tests}
        for case in ElementTree.parse(self.project.root / "report.xml").iter("testcase"):
            kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            found.setdefault(case.get("name"), Counter())["/".join(kinds) or "passed"] += 1
        return found

    def expected(self, name):
        kind = self.tests.get(name)
        result = kind and KINDS[kind][2]
        if self.mode != "each":
            # A test may be under way a second time when its host is lost.
            return [Counter([result])] + [Counter(["error"])] * bool(self.hosts)
        # Who was lost has that as its result.
        lost = {"kills every worker": self.each}.get(kind, 1 if kind.startswith("kills") else 0)
        return [Counter(["error"] * lost + [result] * (self.each - lost))]


def seeds():
    first, _, last = os.environ.get("CLOUDPLAN_CHAOS", "0-7").partition("-")
    return range(int(first), int(last) + 1)


@pytest.mark.parametrize("seed", seeds())
def test_the_run_ends_with_all_results(tmp_path, seed):
    chaos = Chaos(seed, tmp_path)
    run = chaos.run()
    assert "INTERNALERROR" not in run.out + run.err, run
    found = chaos.results()
    wrong = {name: (chaos.tests.get(name), results) for name, results in found.items() if results not in chaos.expected(name)}
    assert not wrong, run
    assert run.status == int(any(set(results) - {"passed"} for results in found.values())), run
