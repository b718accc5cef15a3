"""Bad input: one clear line that names the thing, status 64 or 65, nothing started."""
import os
import pwd
import shutil
import subprocess

import pytest

from cloudnodes import patience
from conftest import PROGRAM

NODE = "--cloud-node=10.0.120.1"


@pytest.fixture
def attempt(tmp_path):
    """Runs the program where a started ssh, rsync, parallel or python would leave a trace."""
    trace = tmp_path / "started"
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ssh", "rsync", "parallel", "python3"):
        (tools / name).write_text(f"#!/bin/sh\necho {name} >>{trace}\nexit 1\n")
        (tools / name).chmod(0o755)
    project = tmp_path / "project"
    project.mkdir()

    def run(*args, stdin="", cwd=project):
        result = subprocess.run([PROGRAM, *args], cwd=cwd, input=stdin, capture_output=True, text=True, timeout=patience(20),
                                env={"PATH": str(tools), "HOME": str(tmp_path), "USER": "ci"})
        result.started = trace.read_text().split() if trace.exists() else []
        return result

    return run


def assert_refused(result, status, *words):
    assert result.returncode == status, result
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("cloudplan: "), result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    assert result.started == []


@pytest.mark.parametrize("args,status,words", [
    (["--no-such-option"], 64, ["--no-such-option", "cloudplan --help"]),
    (["-Z"], 64, ["-Z"]),
    (["--cloud-node"], 64, ["--cloud-node", "value"]),
    (["--cloud-mem-per-process"], 64, ["--cloud-mem-per-process", "value"]),
    (["--cloud-mem-per-process=0"], 64, ["--cloud-mem-per-process=0"]),
    (["--cloud-mem-per-process=-5"], 64, ["--cloud-mem-per-process=-5"]),
    (["--cloud-mem-per-process=abc"], 64, ["--cloud-mem-per-process=abc", "MiB"]),
    (["--cloud-mem-per-process=99999999999999999999"], 64, ["99999999999999999999"]),
    (["--cloud-mem-per-process="], 64, ["--cloud-mem-per-process"]),
    (["--cloud-max-processes=1.5"], 64, ["--cloud-max-processes=1.5"]),
    (["--cloud-probe-timeout=0"], 64, ["--cloud-probe-timeout=0"]),
    (["--format=xml"], 64, ["--format=xml", "table"]),
    (["--dist=sideways"], 64, ["--dist=sideways"]),
    (["tests/"], 64, ["tests/", "after --"]),
    (["plan", "run"], 64, ["run"]),
    (["--cloud-chdir=/"], 64, ["--cloud-chdir"]),
    (["--cloud-chdir=~"], 64, ["--cloud-chdir"]),
    (["--cloud-chdir=a/../../b"], 64, ["--cloud-chdir", ".."]),
    (["--cloud-chdir=a b"], 64, ["--cloud-chdir"]),
    (["--cloud-virtualenv-path=nowhere"], 64, ["nowhere"]),
    (["--rsyncdir=nowhere"], 64, ["--rsyncdir=nowhere: No such file"]),
    (["--rsyncdir=/"], 64, ["/: would be copied as a whole"]),
    ([f"--rsyncdir={pwd.getpwuid(os.getuid()).pw_dir}"], 64, [": would be copied as a whole"]),  # whatever HOME says
    (["--cloud-chdir=" + "x/" * 1000 + "x"], 64, ["--cloud-chdir=x/x", "more than 1000 bytes"]),
    (["--cloud-chdir="], 64, ["--cloud-chdir"]),
    (["--cloud-node=-oProxyCommand=x"], 65, ["-oProxyCommand=x"]),
    (["--cloud-node=ci@-oProxyCommand=x"], 65, ["-oProxyCommand=x"]),
    (["--cloud-node=-l@host"], 65, ["-l@host"]),
    (["--cloud-node=a\nb"], 65, ["a?b"]),
    (["--cloud-node=a//b"], 65, ["a//b"]),
    (["--cloud-node=a b"], 65, ["a b"]),
    (["--cloud-node=a\033[31m"], 65, ["a?[31m"]),
    (["--cloud-node=host:0"], 65, ["host:0"]),
    (["--cloud-node=host:65536"], 65, ["host:65536"]),
    (["--cloud-node=host:22x"], 65, ["host:22x"]),
    (["--cloud-node=[::1"], 65, ["[::1"]),
    (["--cloud-node=$(reboot)"], 65, ["$(reboot)"]),
    (["--cloud-nodes="], 64, ["--cloud-nodes"]),
    (["--cloud-nodes=  \n "], 65, ["node"]),
    (["--cloud-node=10.0.0.{40..1}"], 65, ["{40..1}"]),
    (["--cloud-node=10.0.0.[40-1]"], 65, ["[40-1]"]),
    (["--cloud-node=h{1..1000000}"], 65, ["{1..1000000}", "10000"]),
    (["--cloud-node=h{1..200}{1..200}"], 65, ["10000"]),
    (["--cloud-node=h{1..99999999999999999999}"], 65, ["99999999999999999999"]),
    (["--cloud-node=h{1..2"], 65, ["h{1..2"]),
    (["--cloud-nodes-from=/no/such/file"], 65, ["/no/such/file", "No such file"]),
    (["--cloud-nodes-from=/"], 65, ["/"]),
])
def test_refused(attempt, args, status, words):
    assert_refused(attempt(*args), status, *words)


@pytest.mark.parametrize("text,words", [
    ("", ["node"]), ("# nothing\n\n", ["node"]), ("good\nbad//node\n", ["2", "bad//node"]), ("a\0b\n", ["NUL"]),
    ("x" * 5_000_000, []), ("-oProxyCommand=x\n", ["-oProxyCommand=x"]),
])
def test_bad_lists(attempt, tmp_path, text, words):
    path = tmp_path / "nodes.txt"
    path.write_text(text)
    assert_refused(attempt("plan", f"--cloud-nodes-from={path}"), 65, "nodes.txt", *words)
    assert_refused(attempt("plan", "--cloud-nodes-from=-", stdin=text), 65, *words)


def test_home_and_root_are_no_projects(attempt, tmp_path):
    assert_refused(attempt("plan", NODE, cwd="/"), 64, "/")


def test_a_broken_xspec_value_is_refused(attempt):
    result = attempt("plan", "--cloud-python=/usr//bin/python3", NODE)
    assert result.returncode in (64, 65) and "/usr//bin/python3" in result.stderr


def test_must_fail_when_something_is_started(attempt):
    """The trace works: good input does start ssh."""
    assert attempt("plan", NODE).started != []


def test_output_that_cannot_be_written(attempt, tmp_path):
    full = "/dev/full"
    if not os.path.exists(full):
        pytest.skip("no /dev/full here")
    for args in (["--help"], ["plan", "--format=json"]):
        with open(full, "w") as out:
            result = subprocess.run([PROGRAM, *args], cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True, timeout=patience(20),
                                    env={"PATH": "/usr/bin:/bin", "HOME": "/", "USER": "ci"})
        assert result.returncode == 71, result
    assert "standard output" in result.stderr
    assert shutil.which("sh")
