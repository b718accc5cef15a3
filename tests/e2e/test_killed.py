"""One of the run's own processes is killed with SIGKILL, or the run ends in another way: the status and a line say so, and
nothing is left, here or there."""
import os
import re
import signal
import time

import pytest

from cloudnodes import promised, wait_until
from conftest import PROGRAM

WITHIN = 20  # seconds until all is gone, on a quiet machine

# Tests that start what does not end by itself: a child, and a daemon that has nothing of the worker but its environment.
SUITE = """\
import os, subprocess, time, pathlib, pytest

@pytest.mark.parametrize("x", range(8))
def test_it(x):
    subprocess.Popen(["sleep", "1000"])
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 100)
        time.sleep(1000)
    pathlib.Path(f"started-{x}").touch()
    time.sleep(%s)
"""


def pids(machine, pattern):
    return [pid for pid, words in machine.processes() if re.search(pattern, words)]


def kill_pid(machine, pid):
    machine.channel.call("signal", pid=pid, signal=int(signal.SIGKILL))


def kill(site, pattern):
    (pid,) = pids(site.world.controller, pattern)
    kill_pid(site.world.controller, pid)


def finish(site, running):
    """(stdout, stderr), when all is gone."""
    at = time.monotonic()
    out, err = site.finish(running, timeout=WITHIN)
    site.assert_nothing_left()
    for node in site.nodes:
        assert not list((node.root / "tmp").glob("cloudplan-leases-*/[0-9a-z]*"))
    assert time.monotonic() - at < promised(WITHIN)
    return out, err


@pytest.fixture(scope="module")
def places(three_nodes):
    """[what a run can be on]: workers over the master's connection, over connections of their own, here."""
    site = three_nodes
    site.nodes[1].set_sshd_config("MaxSessions 1\n")
    site.nodes[1].sshd_restart()
    return [*site.nodes[:2], ":"]


def start(site, places, seconds=1000):
    site.write({"test_it.py": SUITE % seconds})
    running = site.popen("run", "--cloud-max-processes=2", "--", "-q", nodes=places)
    for folder in (site.project if place == ":" else place.home / "pytest_ci_project" for place in places):
        wait_until(lambda f=folder: len(list(f.glob("started-*"))) >= 2, timeout=40, what="tests to run")
    return running


def start_sync(site, kib=100):
    site.write({"test_a.py": "def test_a(): pass\n", "blob": os.urandom(1024 * 1024).hex()})
    running = site.popen("run", f"--cloud-rsync-bandwidth-limit={kib}", "--cloud-max-processes=1", "--", "-q")
    for node in site.nodes:
        wait_until(lambda n=node: pids(n, "rsync --server"), timeout=40, what="rsync to run")
    return running


def test_gnu_parallel_is_killed(site):
    running = start_sync(site)
    kill(site, "parallel --plain")
    out, err = finish(site, running)
    assert running.returncode == 71 and "test session" not in out, (out, err)
    assert err.splitlines()[-1] == "cloudplan: GNU parallel was ended by signal 9 (Killed)"


def test_an_rsync_is_killed(site):
    """Its node alone is left out: what it has there is no copy."""
    running = start_sync(site, 400)
    for pid in pids(site.world.controller, r"^rsync .*@?10\.0\.120\.2:"):
        kill_pid(site.world.controller, pid)
    out, err = site.finish(running, timeout=60)
    assert running.returncode == 0 and "1 passed" in out, (out, err)
    assert re.search(r"^cloudplan: 10\.0\.120\.2 is left out \(failed\): sync failed, rsync status 137: ", err, re.M), err


def test_pytest_is_killed(site, places):
    running = start(site, places)
    kill(site, "-m pytest --dist=load")
    out, err = finish(site, running)
    assert running.returncode == 128 + signal.SIGKILL, (out, err)
    assert err.splitlines()[-1] == "cloudplan: pytest was ended by signal 9 (Killed): its results are incomplete"


def test_pytest_is_killed_while_it_reads_its_configuration(site):
    site.write({"pytest.ini": "[pytest]\naddopts = -p early\n", "early.py": "import os\nos.kill(os.getpid(), 9)\n"})
    running = site.popen("run", "--", "-q")
    out, err = finish(site, running)
    assert running.returncode == 71, (out, err)
    assert err.splitlines()[-1] == "cloudplan: pytest was ended by signal 9 (Killed) while it read its configuration"


def test_a_control_master_is_killed(site, places):
    """Its node is lost, also to workers that have a connection of their own; the others run everything."""
    site.write({"test_it.py": "import pathlib, pytest, time\n\n@pytest.mark.parametrize('x', range(60))\ndef test_it(x):\n"
                              "    pathlib.Path(f'started-{x}').touch()\n    time.sleep(0.2)\n"})
    running = site.popen("run", "--cloud-max-processes=2", "--", "-q", nodes=places[:2])
    for node in places[:2]:
        wait_until(lambda n=node: len(list((n.home / "pytest_ci_project").glob("started-*"))) >= 3, timeout=40, what="tests to run")
    kill(site, rf"^ssh .* -M .*{places[1].name}")
    out, err = site.finish(running, timeout=60)
    assert running.returncode == 0 and re.search(r"60 passed, [12] rerun", out), (out, err)


# The engine is python3, started when all masters are open.
PYTHON = """\
#!/bin/sh
for process in /proc/[0-9]*; do
    if tr '\\0' ' ' <$process/cmdline | grep -q '^ssh .* -M .*10[.]0[.]120[.]1 '; then
        kill -9 ${process#/proc/}
    fi
done 2>/dev/null
exec /usr/bin/python3 "$@"
"""


def test_a_control_master_is_killed_before_there_are_workers(site, places):
    """They would come over connections of their own, and nothing there would clean up after them."""
    site.write({"test_it.py": SUITE % 0.1})
    program = site.world.home / "killing/python3"
    program.parent.mkdir()
    program.write_text(PYTHON)
    program.chmod(0o755)
    running = site.popen("run", "--cloud-max-processes=2", "--", "-q", nodes=places[:2],
                         env={"PATH": "/home/ci/killing:/usr/bin:/bin"})
    out, err = finish(site, running)
    assert running.returncode == 0 and "8 passed" in out, (out, err)
    assert re.search(r"10\.0\.120\.1_0 and 1 more did not start: (its connection is lost|ssh could not reach it)", out), (out, err)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["itself", "reader", "counter"])
def test_a_guard_is_killed(site, places, which):
    """On a node, where the kernel needs memory: what is left of it cleans up."""
    running = start(site, places[:1], 1000)
    kill_pid(site.nodes[0], pids(site.nodes[0], r"^/bin/sh -s \d+$")[which])
    running.send_signal(signal.SIGTERM)
    finish(site, running)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["itself", "reader", "counter"])
def test_the_guard_of_this_machine_is_killed(site, which):
    running = start(site, [":"], 0.3)
    kill_pid(site.world.controller, pids(site.world.controller, "^/bin/sh -s none$")[which])
    out, err = finish(site, running)
    assert running.returncode == 0 and "8 passed" in out, (out, err)


def test_the_janitor_is_killed(site, places):
    running = start(site, places, 0.3)
    kill(site, "cloudplan-janitor")
    out, err = finish(site, running)
    assert running.returncode == 0 and "8 passed" in out, (out, err)


@pytest.mark.parametrize("group", [False, True], ids=["alone", "with its engine"])
def test_cloudplan_is_killed_in_the_run(site, places, group):
    running = start(site, places)
    running.send_signal(signal.SIGKILL, group=group)
    finish(site, running)


def test_cloudplan_is_killed_in_the_sync(site):
    running = start_sync(site)
    running.send_signal(signal.SIGKILL)
    finish(site, running)


def test_cloudplan_is_killed_while_pytest_reads_its_configuration(site):
    site.write({"pytest.ini": "[pytest]\naddopts = -p early\n",
                "early.py": "import subprocess, time\nopen('asked', 'w').close()\nsubprocess.Popen(['sleep', '1000'])\ntime.sleep(1000)\n"})
    running = site.popen("run", "--", "-q")
    wait_until((site.project / "asked").exists, timeout=40, what="pytest")
    running.send_signal(signal.SIGKILL)
    finish(site, running)


def test_what_tests_have_started_ends_with_them(site, places):
    running = start(site, places, 0.3)
    out, err = finish(site, running)
    assert running.returncode == 0 and "8 passed" in out, (out, err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_tests_have_started_ends_by_a_signal(site, places, number):
    running = start(site, places)
    running.send_signal(number)
    out, err = finish(site, running)
    assert running.returncode == 128 + number, (out, err)


NESTED = """\
import os, subprocess

def test_it():
    os.chdir("/home/ci/inner")
    subprocess.run(["%s", "run", "--cloud-node=:", "--cloud-max-processes=1", "--cloud-no-lease", "--", "-q"])
"""
INNER = """\
import os, signal, time

def test_it():
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        os.closerange(0, 100)
        time.sleep(1000)
    open("started", "w").close()
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_within_a_run(site, number):
    """What tests have started may be a cloudplan: what its own tests have started ends with it, however hard it is ended."""
    site.write({"test_it.py": NESTED % PROGRAM})
    inner = site.world.home / "inner"
    inner.mkdir(exist_ok=True)
    (inner / "started").unlink(missing_ok=True)
    (inner / "test_it.py").write_text(INNER)
    running = site.popen("run", "--cloud-max-processes=1", "--", "-q", nodes=[":"])
    wait_until((inner / "started").exists, timeout=40, what="the inner tests to run")
    running.send_signal(number)
    finish(site, running)
