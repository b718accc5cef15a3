"""The harness: a test that fails spoils no other; deadlines come from one place; names are short."""
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cloudnodes_patience
from cloudnodes import patience, wait_until
from conftest import SRC

HERE = Path(__file__).resolve().parent

# The first one leaves all that a test can leave: what is stopped, a node that is unplugged, one that is frozen, one without sshd
# and with another configuration, a start-up file, what runs on this machine itself.
SPOILT = """
import json, signal, subprocess
import pytest

def test_that_fails(site):
    first, second, third = site.nodes
    site.project.mkdir()
    run = site.popen("probe")
    site.world.controller.channel.call("signal", pid=run.pid, signal=int(signal.SIGSTOP))
    third.popen(["sleep", "1000"])
    subprocess.Popen(["sh", "-c", "sleep 1000.MARK; :"])
    (first.home / ".bashrc").write_text("exit 1\\n")
    (site.world.controller.root / "tmp/cloudplan.x").mkdir()
    first.down()
    second.set_sshd_config("Nonsense yes\\n")
    second.sshd_stop()
    third.freeze()
    assert 0

def test_that_is_not_spoilt(site):
    site.project.mkdir()
    result = site.run("probe", "--format=json")
    assert [node["state"] for node in json.loads(result.stdout)["nodes"]] == ["ready"] * 3, result
    site.assert_nothing_left()

@pytest.mark.parametrize("text", ["x" * 5_000_000, "a\\nb\\033[2J", b"\\xff" * 50], ids=None)
def test_name(text, request):
    assert len(request.node.name) < 60 and request.node.name.isprintable()
"""


def test_a_test_that_must_fail_spoils_no_other(tmp_path):
    mark = str(os.getpid())
    (tmp_path / "test_spoilt.py").write_text(SPOILT.replace("MARK", mark))
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "conftest", "-v", "--rootdir", tmp_path, tmp_path],
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=patience(120))
    assert done.returncode == 1 and re.search("^=+ 1 failed, 4 passed", done.stdout, re.M), done.stdout + done.stderr
    assert re.search(r"test_that_fails FAILED", done.stdout) and "assert 0" in done.stdout
    assert re.search(rf"left running: \['sh -c sleep 1000\.{mark}", done.stdout), done.stdout
    found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"1000.{mark}".encode() in read(path)]
    assert found == []
    assert len(done.stdout) < 20_000


def read(path):
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_slowness():
    assert [cloudnodes_patience.slowness(said) for said in ("0.1", "1", "3.5", "1000")] == [1, 1, 3.5, 10]
    assert 1 <= cloudnodes_patience.slowness() <= 10
    assert patience(10) >= 50 and cloudnodes_patience.slowed(4) >= 4


def test_a_wait_that_is_in_vain_says_what_is_in_the_way():
    seen = []
    try:
        wait_until(lambda: seen.append(1), 0.01, lambda: f"this, after more than one look: {len(seen) > 1}")
    except AssertionError as error:
        assert str(error).endswith("s in vain for this, after more than one look: True"), error
    else:
        raise AssertionError("it has not waited")


# scripts/check.sh: its functions, before it runs anything.

LOG = "gw0 I / gw1 I\ngw0 [40] / gw1 [40]\n\nscheduling tests via LoadFileScheduling\n\ntest_a.py::test_x \n"
DONE = "[gw0] [ 10%] {} test_a.py::test_x[{}] \n"


def check_sh(commands, *, cwd):
    functions, _, _ = (SRC / "scripts/check.sh").read_text().partition("\nestimate\n")
    assert "progress()" in functions
    return subprocess.Popen(["sh", "-c", functions + "\n" + commands, SRC / "scripts/check.sh"], cwd=cwd, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, text=True)


def alive(pid):
    return os.path.exists(f"/proc/{pid}") and " Z " not in read(Path(f"/proc/{pid}/stat")).decode("latin-1")


def test_check_says_how_long_it_takes_and_how_far_it_is(tmp_path):
    (tmp_path / "log").write_text(LOG)
    with check_sh(f'estimate; progress "{tmp_path}/log" & watcher=$!; wait', cwd=tmp_path) as process:
        assert re.fullmatch(r"about \d+ minutes: \d+ processors, \d+\.\d ms for a process\n", process.stdout.readline())
        assert process.stdout.readline() == "e2e: 0 of 40, 0 failed\n"
        with open(tmp_path / "log", "a", encoding="ascii") as log:
            log.writelines(DONE.format(what, number) for number, what in enumerate(["PASSED", "FAILED", "SKIPPED", "ERROR"]))
        assert process.stdout.readline() == "e2e: 4 of 40, 2 failed\n"
        process.terminate()
        assert process.wait(patience(10)) == 1


def test_busy_loops_end_with_check(tmp_path):
    for commands, number in (("exit 3", None), ("wait", signal.SIGTERM), ("wait", signal.SIGKILL)):
        with check_sh(f"jobs=1; BUSY_LOOPS=2; start_busy_loops; echo $busy; {commands}", cwd=tmp_path) as process:
            pids = process.stdout.readline().split()
            assert len(pids) == 2
            if number:
                process.send_signal(number)
            assert process.wait(patience(10)) == {None: 3, signal.SIGTERM: 1, signal.SIGKILL: -9}[number]
        wait_until(lambda: not [pid for pid in pids if alive(pid)], 10, "the loops to end")
