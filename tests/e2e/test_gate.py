"""scripts/pytest_cloudplan/gate.py, _stream.py: a worker that tells what cannot be costs itself alone, and runs nothing here."""
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from plugin_project import Project

HERE = Path(__file__).resolve().parent

# What the workers of each node do when they run their first test. All others wait until all of these have been left out.
BAD = {
    "event": ("tell('os', command='id')", "it tells what cannot be: an unknown event, os"),
    "other": ("tell('runtest_protocol_complete', item_index=39, duration=0)", "it tells what cannot be: a test that it was not given, number 39"),
    "range": ("tell('runtest_protocol_complete', item_index=10**6, duration=0)",
              "it tells what cannot be: a test that it was not given, number 1000000"),
    "twice": ("twice()", "it tells what cannot be: two results of tests/test_x.py::test_x["),
    "silent": ("tell('runtest_protocol_complete', item_index=PLUGIN[0].item_index, duration=0)",
               "it tells what cannot be: the end of a test without a result, tests/test_x.py::test_x["),
    "forged": ("forge()", "it tells what cannot be: a result of a test that it was not given, tests/nowhere.py::test_y"),
    "internal": ("tell('internal_error', formatted_error='boom\\x1b]0;title\\x07\\nKeyError: 7')",
                 "an internal error of its pytest: KeyError: 7"),
    "garbage": ("garbage()", "it tells what cannot be: there is garbage on its stream"),
    "class": ("warn()", None),
    "end": ("tell('workerfinished', workeroutput={'exitstatus': 0})",
            "it tells what cannot be: its end, with status 0, before it had run all of its tests"),
}
CONFTEST = """
import os, pathlib, time
import pytest

HERE = pathlib.Path({here!r})
NODE = os.path.basename(os.getcwd())
BAD = {bad!r}
PLUGIN = []

def tell(name, **fields):
    PLUGIN[0].sendevent(name, **fields)

def twice():
    sendevent = PLUGIN[0].sendevent
    def send_twice(name, **fields):
        for _ in range(2 if name == "testreport" else 1):
            sendevent(name, **fields)
    PLUGIN[0].sendevent = send_twice

def forge():
    sendevent = PLUGIN[0].sendevent
    def send(name, **fields):
        if name == "testreport":
            fields["data"]["nodeid"] = "tests/nowhere.py::test_y"
        sendevent(name, **fields)
    PLUGIN[0].sendevent = send

def garbage():
    PLUGIN[0].channel.gateway._io.write(b"Welcome to this machine, its users and their processes")

def warn():
    name = "attack"
    data = dict(message_module="os", message_class_name="mkdir", message_args=(str(HERE / "made"),), message_str="mind \\x1b[2J",
                category_module="antigravity", category_class_name="Fly", filename="/etc/passwd", lineno=1, line=None, file=None,
                source=None)
    tell("warning_recorded", warning_message_data=data, when="runtest", nodeid="", location=None)

def pytest_runtest_setup(item):
    config = item.config
    if not PLUGIN and hasattr(config, "workerinput"):
        PLUGIN.append(next(p for p in config.pluginmanager.get_plugins() if hasattr(p, "sendevent")))
        if NODE in BAD:
            exec(BAD[NODE], globals())

def pytest_testnodedown(node, error):
    (HERE / node.gateway.id).touch()

@pytest.fixture
def others():
    end = time.monotonic() + 250
    if NODE in BAD and NODE not in ("class", "twice", "forged"):
        time.sleep(250)
    while NODE == "good" and not all((HERE / (name + "_0")).exists() for name in BAD if name != "class"):
        assert time.monotonic() < end, sorted(os.listdir(HERE))
        time.sleep(0.02)
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "here").mkdir()
    project = Project(tmp_path)
    return project


def test_each_costs_itself_alone(project):
    here = project.tmp / "here"
    project.write("tests/conftest.py", CONFTEST.format(here=str(here), bad={name: code for name, (code, _) in BAD.items()}))
    project.write("tests/test_x.py", "import pytest\n@pytest.mark.parametrize('n', range(40))\ndef test_x(n, others): pass\n")
    run = project.run([project.ssh("good"), *map(project.ssh, BAD)], "-v", "tests", deadline=300)
    assert run.status == 0 and "INTERNALERROR>" not in run.out.replace("[internal_0] INTERNALERROR>", ""), run
    assert run.counts()["passed"] == 40 and not {"failed", "error"} & set(run.counts()), run
    for name, (_, reason) in BAD.items():
        if reason:
            assert f"cloudplan: {name}_0 on {name} is lost ({reason}" in run.out, (name, run)
    assert "\x1b" not in run.out + run.err and "\x07" not in run.out, run
    assert "[internal_0] INTERNALERROR> KeyError: 7" in run.out, run
    assert "Fly: mind \\x1b[2J" in run.out and "root:" not in run.out, run
    assert not (here / "made").exists()


def test_all_have_an_internal_error(project):
    """As here: pytest's own status and words."""
    project.write("conftest.py", "def pytest_collection_finish(session):\n    if hasattr(session.config, 'workerinput'):\n        {}['here']\n")
    run = project.run([project.ssh("a"), project.ssh("b")], "tests")
    assert run.status == 3, run
    assert run.out.count("INTERNALERROR> KeyError: 'here'") == 1 and "an internal error of its pytest: KeyError: 'here'" in run.out, run


def test_a_login_that_closes_its_standard_error(project):
    (project.tmp / "a.closed").touch()
    run = project.run([project.ssh("a")], "tests", CLOUDPLAN_CONTROLLER=f"gate{os.getpid()}")  # no other test's: leases look for it
    assert run.status == 0 and run.counts() == {"passed": 3}, run


# GATE_FUZZ=10000 is the long measurement; GATE_SEED repeats one; GATE_PATH names a directory with more plugins.
def test_mutated_messages_reach_nothing(project, monkeypatch):
    count, seed = os.environ.get("GATE_FUZZ", "100"), os.environ.get("GATE_SEED") or str(random.randrange(1 << 31))
    print(f"GATE_FUZZ={count} GATE_SEED={seed}")
    more = [str(HERE)] + os.environ.get("GATE_PATH", "").split(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, more + [os.environ.get("PYTHONPATH")])))
    project.write("tests/test_x.py", "def test_x(): pass\n")
    args = ["--junitxml=junit.xml", "-rA", "--durations=3"]
    args += ["--cov=.", "--cov-report=xml"] * has("pytest_cov") + ["--html=report.html"] * has("pytest_html")
    out = open(project.tmp / "out", "w+", encoding="utf-8", errors="replace")
    process = project.start([project.popen("a")], "-p", "gate_fuzz", *args, "tests", GATE_FUZZ=count, GATE_SEED=seed,
                            GATE_REPORT=str(project.tmp / "report.json"), output=out)
    try:
        status = process.wait(120 + int(count) * 2)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    out.seek(0)
    text = out.read()
    assert status in (0, 1) and "INTERNALERROR" not in text.replace("[evil] INTERNALERROR>", ""), text[-5000:]
    report = json.loads((project.tmp / "report.json").read_text())
    print(report["passed"], report["seconds"])
    assert not report["found"], report["found"][:3]
    # It can tell good from bad.
    assert sum(map(bool, report["passed"].values())) > 8 and min(report["passed"].values()) < int(count), report["passed"]
    assert not set("".join(sorted(set(text)))) & set("\x1b\x07\0\u202e"), "control characters"


def has(name):
    try:
        __import__(name)
    except ImportError:
        return any(os.path.exists(os.path.join(path, name)) for path in os.environ.get("GATE_PATH", "").split(os.pathsep))
    return True
