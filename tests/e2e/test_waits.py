"""What keeps cloudplan waiting: one signal ends it, with 128 + its number.  What it must not wait for, it passes over."""
import errno
import fcntl
import os
import re
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from cloudnodes import wait_until
from conftest import PROGRAM

ENDS = 60  # seconds, on a busy machine


@pytest.fixture
def started(tmp_path):
    """started(ARGS..., stdin=, stdout=): cloudplan in a project, with its handlers in place."""
    project = tmp_path / "project"
    project.mkdir()
    running = []

    def start(*args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, limit=None):
        def limited():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        process = subprocess.Popen([PROGRAM, *args], cwd=project, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True,
                                   env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "USER": "ci", "TMPDIR": str(tmp_path)},
                                   preexec_fn=limited if limit is not None else None)
        running.append(process)

        def catches():
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.M).group(1), 16) >> (signal.SIGTERM - 1) & 1

        if limit is None:
            wait_until(lambda: process.poll() is not None or catches(), timeout=ENDS, what="the handlers of signals")
        return process

    start.project = project
    yield start
    for process in running:
        process.kill()
        process.communicate()


def ended(process, number):
    process.send_signal(number)
    _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 128 + number, (process.returncode, err)
    return err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fifo_as_list_that_nobody_writes(started, tmp_path, number):
    os.mkfifo(tmp_path / "nodes")
    err = ended(started("plan", f"--cloud-nodes-from={tmp_path}/nodes"), number)
    assert err.startswith(f"cloudplan: {tmp_path}/nodes: ") and len(err.splitlines()) == 1, err


def test_a_fifo_as_list_that_is_written_later(started, tmp_path):
    os.mkfifo(tmp_path / "nodes")
    process = started("plan", f"--cloud-nodes-from={tmp_path}/nodes")
    with open(tmp_path / "nodes", "w") as fifo:
        fifo.write("bad//node\n")
    _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 65 and "nodes:1: " in err, err


def test_standard_input_without_an_end(started):
    process = started("plan", "--cloud-nodes-from=-", stdin=subprocess.PIPE)
    process.stdin.write("a b c\n")
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    assert process.wait(ENDS) == 130
    assert process.stderr.read() == "cloudplan: standard input: Interrupt while reading it\n"


def test_an_endless_standard_input(started):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        _, err = started("plan", "--cloud-nodes-from=-", stdin=yes.stdout).communicate(timeout=ENDS)
        yes.stdout.close()
    assert err == "cloudplan: standard input: larger than 4 MiB: not a list of nodes\n"


@pytest.mark.parametrize("name", ["pytest.ini", "conftest.py", "pyproject.toml"])
def test_a_fifo_as_configuration_is_passed_over(started, name):
    """As pytest does it."""
    os.mkfifo(started.project / name)
    process = started("plan", "--cloud-node=:", "--format=json")
    out, err = process.communicate(timeout=ENDS)
    assert process.returncode in (0, 69) and '"nodes"' in out, err  # 69: a very busy machine has not answered in time


def test_an_output_that_nobody_reads(started):
    """No loop of the program's is where it waits."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except OSError as error:
        assert error.errno == errno.EAGAIN
    fcntl.fcntl(writing, fcntl.F_SETFL, 0)
    process = started("--help", stdout=writing)
    assert "ended at once" in ended(process, signal.SIGTERM)
    os.close(reading)
    os.close(writing)


def test_a_limit_of_file_sizes_is_told(started, tmp_path):
    """Not died of: 153 says nothing."""
    with open(tmp_path / "out", "w") as out:
        process = started("--help", stdout=out, limit=100)
        _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 71, err
    assert err == "cloudplan: standard output: File too large; ulimit -f, the limit of a file's size, is too low: raise it\n"
    (started.project / "pytest.ini").write_text("[pytest]\nrsyncdirs = .\n")
    process = started("plan", "--cloud-node=:", limit=4096)
    _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 71 and "File too large; ulimit -f" in err, err


HANGS = {
    "ssh_config is a FIFO": ("config", "fifo", []),
    "known_hosts is a FIFO": ("known_hosts", "fifo", []),
    "an identity is a FIFO": ("id_ed25519", "fifo", []),
    "Match exec hangs": ("config", "Match exec \"sleep 1000\"\n    User ci\n", []),
    "ProxyCommand hangs": ("config", "Host *\n    ProxyCommand sleep 1000\n", []),
    "python hangs": ("../hanging/python3", "#!/bin/sh\nsleep 1000\n", ["run"]),
}


@pytest.mark.parametrize("what", HANGS)
def test_what_ssh_and_python_wait_for(site, what):
    """One ^C, and nothing is left."""
    name, text, command = HANGS[what]
    path, kept = site.world.home / ".ssh" / name, None
    if path.exists():
        kept = path.read_bytes()
        path.unlink()
    path.parent.mkdir(exist_ok=True)
    site.write({"test_a.py": "def test_a(): pass\n"})
    try:
        if text == "fifo":
            os.mkfifo(path, 0o600)
        else:
            path.write_text(text)
            path.chmod(0o700 if "python" in name else 0o600)
        running = site.popen(*(command or ["plan"]), "--cloud-probe-timeout=600", nodes=site.nodes[:1],
                             env={"PATH": "/home/ci/hanging:/usr/bin:/bin"})
        controller = site.world.controller
        wait_until(lambda: running.poll() is not None or len(controller.processes()) > 1 or not text == "fifo", timeout=ENDS, what="children")
        wait_until(lambda: int(re.search(r"^SigCgt:\s*([0-9a-f]+)", (controller.root / f"proc/{running.pid}/status").read_text(),
                                         re.M).group(1), 16) >> 1 & 1, timeout=ENDS, what="the handlers of signals")
        running.send_signal(signal.SIGINT)
        out, err = site.finish(running, timeout=ENDS)
        assert running.returncode == 130, (running.returncode, out, err)
        site.assert_nothing_left()
    finally:
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
            path.chmod(0o600)
