"""A small project for the tests of the pytest plugin, run as the engine runs it, against the pytest-xdist of this
interpreter.

Nodes are directories beside the project: by popen//chdir=, or by ssh= with a program `ssh` of our own in PATH
that runs the command here, unless a file says that the host is down.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cloudnodes_patience import patience

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
DEADLINE = patience(90)

CONFTEST = """
import json, os

def pytest_addoption(parser):
    parser.addoption("--opt")

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        seen = {
            "args": list(config.invocation_params.args),
            "cwd": os.getcwd(),
            "rootdir": str(config.rootpath),
            "inifile": str(config.inipath),
            "plugin": config.pluginmanager.hasplugin("pytest_cloudplan.controller"),
            "addopts": os.environ.get("PYTEST_ADDOPTS"),
            "plugins": os.environ.get("PYTEST_PLUGINS"),
            "environ": dict(os.environ),
        }
        with open("seen-%s.json" % config.workerinput["workerid"], "w") as file:
            json.dump(seen, file)
"""

TEST_X = """
import pytest

def test_data():
    assert open("tests/data/word.txt").read() == "word"

@pytest.mark.parametrize("value", ["a::b", "c"])
def test_y(value):
    assert value
"""

FAKE_SSH = """#!/bin/sh
# ssh [-C] [-F FILE] [USER@]HOST COMMAND, and ssh -F FILE -O check [USER@]HOST
case " $* " in *" -O check "*)
    for host; do :; done
    [ ! -e "$FAKE_SSH_DIR/${host#*@}.down" ] && [ ! -e "$FAKE_SSH_DIR/$host.down" ] && [ ! -e "$FAKE_SSH_DIR/$host.has no master" ]
    exit ;;
esac
while [ $# -gt 2 ]; do shift; done
host=${1#*@}
[ -e "$FAKE_SSH_DIR/$1.down" ] && exit 255
[ -e "$FAKE_SSH_DIR/$host.down" ] && { echo "ssh: $host is down" >&2; exit 255; }
if [ -e "$FAKE_SSH_DIR/$host.stalls" ]; then exec sleep 300; fi
if [ -e "$FAKE_SSH_DIR/$host.closed" ]; then exec 2>&-; fi
sh -c "$2"
status=$?
{ [ -e "$FAKE_SSH_DIR/$1.down" ] || [ -e "$FAKE_SSH_DIR/$host.down" ]; } && exit 255
exit $status
"""


class Project:
    def __init__(self, tmp_path):
        self.tmp = tmp_path
        self.root = tmp_path / "project"
        self.scripts = SCRIPTS
        self.env = {}
        for name, text in {
            "conftest.py": CONFTEST,
            "pytest.ini": "[pytest]\n",
            "tests/test_x.py": TEST_X,
            "tests/data/word.txt": "word",
        }.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def copy(self, name):
        """What the sync does."""
        return shutil.copytree(self.root, self.tmp / name, dirs_exist_ok=True)

    def popen(self, name):
        return f"popen//id={name}_0//chdir={self.copy(name)}"

    def ssh(self, name, index=0, python=sys.executable, login=None):
        """A worker of the host that has this name; login: of the node that is this login of host "h"."""
        program = self.tmp / "bin" / "ssh"
        if not program.exists():
            program.parent.mkdir()
            program.write_text(FAKE_SSH)
            program.chmod(0o755)
        self.env.update(PATH=f"{program.parent}:{os.environ['PATH']}", FAKE_SSH_DIR=str(self.tmp))
        target, node = (f"{login}@h", f"{login}@h") if login else (f"ci@{name}", name)
        return f"ssh={target}//id={name}_{index}//node={node}//chdir={self.copy(name)}//python={python}//ssh_config=none"

    def start(self, tx, *args, cwd=None, preexec_fn=None, output=subprocess.PIPE, **env):
        words = [word for spec in tx for word in ("--tx", spec)]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        environ.update(self.env)
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.scripts), os.environ.get("PYTHONPATH")]))
        environ.update(PYTEST_PLUGINS="pytest_cloudplan.controller", PYTHONDONTWRITEBYTECODE="1", NO_COLOR="1", PYTHONFAULTHANDLER="1")
        environ.update(env)
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "--dist=load", *words, *map(str, args)],
            cwd=cwd or self.root,
            env=environ,
            preexec_fn=preexec_fn,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            encoding="utf-8",
            errors="replace",
        )

    def run(self, tx, *args, deadline=DEADLINE, **kwargs):
        process = self.start(tx, *args, **kwargs)
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError("no end within the deadline:\n%s%s" % abort(process)) from None
        return Run(process.returncode, out, err)

    def seen(self, worker, directory=None):
        """What the worker NAME_N found, in the directory of its node or, for gwN, in the root."""
        node = directory or worker.rpartition("_")[0] or "project"
        return json.loads((self.tmp / node / f"seen-{worker}.json").read_text())

    def workers(self):
        """Names of all that have seen something."""
        return sorted(path.stem.partition("-")[2] for path in self.tmp.glob("*/seen-*.json"))


def abort(process):
    """Ends it and what it has started; what they have said, and where each of their threads stood."""
    children = descendants(process.pid)
    for pid in (process.pid, *children):
        try:
            os.kill(pid, signal.SIGABRT)
        except ProcessLookupError:
            pass
    try:
        return process.communicate(timeout=patience(10))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def descendants(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *descendants(child)]
    return found


class Run:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __repr__(self):
        return f"status {self.status}\n{self.out}\n{self.err}"

    @property
    def lines(self):
        return [line for line in self.out.splitlines() if line.startswith("cloudplan: ")]

    def counts(self):
        """{"passed": 3, ...} of the last line."""
        last = self.out.strip().splitlines()[-1]
        return {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last.split(" in ")[0])}
