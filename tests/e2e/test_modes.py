"""pytest-xdist's ways to deal out tests, pytest-forked, and environments of the user's own beside the planned ones."""
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import execnet
import pytest
import xdist

from conftest import PROJECT

XDIST = tuple(map(int, re.findall(r"\d+", xdist.__version__)[:2]))
ONE = {"test_a.py": "import pytest\n@pytest.mark.parametrize('x', range(20))\ndef test_one(x): pass\n"}
# Scopes that are easily told apart: {file}::{class or nothing}.
SCOPES = {f"test_{name}.py": """\
import pytest

@pytest.mark.parametrize("x", range(4))
def test_plain(x): pass

class TestFirst:
    @pytest.mark.parametrize("x", range(4))
    def test_in_class(self, x): pass

class TestSecond:
    @pytest.mark.parametrize("x", range(4))
    def test_in_class(self, x): pass
""" for name in "abcdef"}
GROUPS = {f"test_{name}.py": """\
import pytest

@pytest.mark.xdist_group("red")
@pytest.mark.parametrize("x", range(3))
def test_red(x): pass

@pytest.mark.xdist_group(name="blue")
@pytest.mark.parametrize("x", range(3))
def test_blue(x): pass

@pytest.mark.parametrize("x", range(6))
def test_none(x): pass
""" for name in "abc"}
PLANNED = {f"10.0.120.{node}_{index}" for node in (1, 2, 3) for index in (0, 1)}


def cases(site):
    """[(file, class or "", name, outcome, node, worker)] of the JUnit report."""
    found = []
    for case in ElementTree.parse(site.world.home / "report.xml").iter("testcase"):
        file, _, kind = case.get("classname").partition(".")
        outcome = next((part.tag for part in case if part.tag in ("failure", "error", "skipped")), "passed")
        values = {part.get("name"): part.get("value") for part in case.iter("property")}
        name = case.get("name")
        found.append((file, kind, name, outcome, values.get("node"), values.get("worker")))
    return found


def run(site, *own, engine=(), nodes=None, **options):
    return site.run("run", *own, "--", "-q", "--junitxml=/home/ci/report.xml", *engine, nodes=nodes, **options)


def lines(result):
    return [line for line in result.stderr.splitlines() if line.startswith("cloudplan: ")]


# What cannot be is said, before anything runs.


@pytest.mark.parametrize("words, reason", [
    (["--dist=sometimes"], "--dist=sometimes: "),
    (["--dist="], "--dist=: "),
    (["--cloud-python=python3", "--cloud-python=python3.11"], "a second interpreter is for --dist=each alone"),
    (["--cloud-python=python3", "--cloud-python=python3.11", "--dist=loadfile"], "--dist=each"),
])
def test_refused(site, words, reason):
    site.write(ONE)
    result = run(site, *words)
    assert result.returncode == 64, result
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1 and reason in result.stderr, result
    assert not list(site.nodes[0].home.glob("pytest_*"))


@pytest.mark.skipif(XDIST >= (3, 2), reason="this pytest-xdist knows worksteal")
@pytest.mark.parametrize("own, engine, status", [(["--dist=worksteal"], [], 4), ([], ["--dist=worksteal"], 65)])
def test_a_mode_that_this_xdist_does_not_know(site, own, engine, status):
    site.write(ONE)
    result = run(site, "--cloud-max-processes=1", *own, engine=engine)
    assert result.returncode == status, result
    assert len(re.findall(r"^.*invalid choice: 'worksteal'.*$", result.stderr, re.M)) == 1, result
    assert "passed" not in result.stdout


@pytest.mark.parametrize("tx, reason", [
    ("socket=127.0.0.1", "socket=HOST:PORT is needed"),
    ("ssh=", "it names no way to a worker"),
    ("ssh//id=x", "ssh= has no value"),
    ("3*", "a part of it is empty"),
    ("99999999*popen", "more than 10000 workers"),
    ("popen//via=nobody", "no --tx before it has the id nobody"),
])
@pytest.mark.parametrize("place", ["own", "engine", "addopts"])
def test_environments_that_cannot_be(site, tx, reason, place):
    """Known before anything is copied."""
    site.write({**ONE, "pytest.ini": f"[pytest]\naddopts = --tx={tx}\n" if place == "addopts" else "[pytest]\n"})
    word = [f"--tx={tx}"]
    result = run(site, "--cloud-max-processes=1", *(word if place == "own" else []), engine=word if place == "engine" else [])
    assert result.returncode == 64, result
    assert result.stderr.startswith(f"cloudplan: --tx={tx}: ") and reason in result.stderr, result
    assert len(result.stderr.splitlines()) == 1 and result.stdout == ""
    assert not [node for node in site.nodes if (node.home / "pytest_ci_project").exists()]


@pytest.mark.parametrize("character", ["\n", "\x1c", "\u2028", "\x1b"])
def test_environments_with_characters_that_cannot_be_printed(site, character):
    """None of them is the end of a word."""
    site.write(ONE)
    for own, engine in ([f"--tx=popen//id=a{character}b"], []), ([], [f"--tx=popen//id=a{character}b"]):
        result = run(site, "--cloud-max-processes=1", *own, engine=engine)
        assert result.returncode == 64, result
        assert result.stderr == "cloudplan: --tx=popen//id=a?b: a character in it cannot be printed\n", result


def test_the_name_of_a_planned_worker_is_taken(site):
    site.write(ONE)
    result = run(site, "--cloud-max-processes=1", engine=["--tx=popen//id=10.0.120.1_0"])
    assert result.returncode == 4, result
    assert "the id 10.0.120.1_0 is used twice" in result.stderr and "passed" not in result.stdout


def test_through_a_worker_that_is_not_planned(site):
    site.write(ONE)
    result = run(site, "--cloud-max-processes=1", engine=["--tx=popen//via=10.0.120.1_1"])
    assert result.returncode == 4, result
    assert "no --tx before it has the id 10.0.120.1_1" in result.stderr and "passed" not in result.stdout


@pytest.mark.skipif(XDIST >= (3, 6), reason="a worker of this pytest-xdist starts no other one")
def test_through_a_planned_worker(site):
    site.write({"test_a.py": "import pytest, time\n@pytest.mark.parametrize('x', range(8))\ndef test_one(x): time.sleep(0.1)\n"})
    result = run(site, "--cloud-max-processes=1", engine=["-vv", "--tx=popen//via=10.0.120.1_0//id=sub"])
    assert result.returncode == 0 and "8 passed" in result.stdout and "[sub] " in result.stdout, result


@pytest.mark.parametrize("tx, reason", [
    ("socket=127.0.0.1:9//id=own", "own (127.0.0.1:9) did not start: Connection refused"),
    ("ssh=ci@10.0.120.77//id=own", "own (10.0.120.77) did not start: "),
    ("popen//id=own//python=no-such-python", "own did not start: "),
])
def test_environments_that_do_not_start(site, tx, reason):
    """They cost themselves, and the planned ones do all the work."""
    site.write(ONE)
    result = run(site, "--cloud-max-processes=1", engine=[f"--tx={tx}"])
    assert result.returncode == 0, result
    said = result.stdout + result.stderr
    assert reason in said and "going on without it" in said, result
    assert "20 passed" in result.stdout


# Each mode, over nodes.


def test_load(site):
    site.write(SCOPES)
    assert run(site, "--cloud-max-processes=2").returncode == 0
    found = cases(site)
    assert len(found) == 72 and all(case[3] == "passed" for case in found)
    assert {case[5] for case in found} == PLANNED
    assert all(case[5].startswith(case[4] + "_") for case in found)


@pytest.mark.parametrize("mode, scope", [
    ("loadscope", lambda case: case[:2]),
    ("loadfile", lambda case: case[:1]),
])
@pytest.mark.parametrize("typed", ["own", "engine"])
def test_scopes_stay_together(site, mode, scope, typed):
    site.write(SCOPES)
    words = [f"--dist={mode}"]
    own, engine = (words, []) if typed == "own" else ([], words)
    assert run(site, "--cloud-max-processes=2", *own, engine=engine).returncode == 0
    workers = defaultdict(set)
    for case in cases(site):
        workers[scope(case)].add(case[5])
    assert len(workers) == (6 if mode == "loadfile" else 18)
    assert all(len(of_scope) == 1 for of_scope in workers.values()), workers
    used = set().union(*workers.values())
    assert used <= PLANNED and len({worker.rpartition("_")[0] for worker in used}) == 3


def test_must_fail_where_scopes_do_not_stay_together(site):
    """load takes files apart: what the test above looks at can be otherwise."""
    site.write({"test_a.py": "import pytest, time\n@pytest.mark.parametrize('x', range(30))\ndef test_one(x): time.sleep(0.02)\n"})
    assert run(site, "--cloud-max-processes=2").returncode == 0
    assert len({case[5] for case in cases(site)}) > 1


def test_loadgroup(site):
    """A group's tests run on one worker, from whichever file they are."""
    site.write(GROUPS)
    result = run(site, "--cloud-max-processes=2", "--dist=loadgroup")
    assert result.returncode == 0 and "36 passed" in result.stdout, result
    workers = defaultdict(set)
    for _, _, name, _, _, worker in cases(site):
        workers[re.match(r"test_([a-z]+)", name).group(1)].add(worker)
    assert len(workers["red"]) == len(workers["blue"]) == 1 < len(workers["none"])


@pytest.mark.skipif(XDIST < (3, 2), reason="worksteal is of pytest-xdist 3.2 and later")
def test_worksteal(site):
    site.write({"test_a.py": "import pytest, time\n@pytest.mark.parametrize('x', range(40))\ndef test_one(x): time.sleep(0.2 if x < 6 else 0)\n"})
    result = run(site, "--cloud-max-processes=2", "--dist=worksteal")
    assert result.returncode == 0 and "40 passed" in result.stdout, result
    assert {case[5] for case in cases(site)} == PLANNED


# Every test everywhere.


@pytest.mark.parametrize("own, engine", [(["--dist=each"], []), ([], ["--dist=each"]), ([], ["--dist", "each"])])
def test_each(site, own, engine):
    """Once on each node, by however many processes it could hold."""
    site.write({**ONE, "test_b.py": "import socket\ndef test_not_two():\n    assert socket.gethostname() != 'node2'\n"})
    result = run(site, *own, engine=engine)
    assert result.returncode == 1, result
    ids = {node.name: f"{node.name}_Linux-{os.uname().machine}_py" for node in site.nodes}
    by_worker = defaultdict(list)
    for case in cases(site):
        assert case[5].startswith(ids[case[4]])
        by_worker[case[4]].append((case[2], case[3]))
    assert sorted(by_worker) == sorted(ids)
    for name, seen in by_worker.items():
        assert len(seen) == len(set(seen)) == 21
        assert ("test_not_two", "failure" if name == "10.0.120.2" else "passed") in seen
    assert "1 failed, 62 passed" in result.stdout


def second_python(site, nodes, name="python-other"):
    """An interpreter of another name, on these nodes only; its path there."""
    for node in nodes:
        program = node.home / name
        program.write_text('#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
        program.chmod(0o755)
    return f"/home/ci/{name}"


def test_each_with_two_interpreters(site):
    """A node that lacks one of them is left out; ids tell node, system and version, and are never the same."""
    site.write(ONE)
    first, second, third = site.nodes
    other = second_python(site, (first, second))
    result = run(site, "--dist=each", "--cloud-python=python3", f"--cloud-python={other}")
    assert result.returncode == 0, result
    assert f"cloudplan: {third.name} is left out (unfit): python is missing: " in result.stderr
    workers = {case[5] for case in cases(site)}
    version = site.world.run(["python3", "-c", "import platform; print(platform.python_version())"]).stdout.strip()
    system = f"Linux-{os.uname().machine}_py{version}"
    assert workers == {f"{node.name}_{system}{more}" for node in (first, second) for more in ("", "_2")}
    assert len(cases(site)) == 80
    assert f"{first.name}_{system}_2 linux Python {version}: 20 passed" in result.stdout


def test_each_without_a_node_that_has_all(site):
    site.write(ONE)
    result = run(site, "--dist=each", "--cloud-python=python3", "--cloud-python=python9.9")
    assert result.returncode == 69, result
    assert lines(result)[-1].startswith("cloudplan: no usable node of 3: 10.0.120.1: python is missing: no python9.9")
    assert result.stdout == ""


def test_each_where_there_is_no_room_for_all(site):
    site.write(ONE)
    first, second, _ = site.nodes
    first.set_cores(1)
    other = second_python(site, site.nodes)
    result = run(site, "--dist=each", "--cloud-python=python3", f"--cloud-python={other}")
    assert result.returncode == 0 and "80 passed" in result.stdout, result
    assert f"{first.name} is left out (unfit): room for 1 of the 2 processes that one for each --cloud-python takes" in result.stderr
    assert {case[4] for case in cases(site)} == {second.name, "10.0.120.3"}


# A process for each test.


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_forked(site, end):
    """One that kills its process is one failed test, where it ran; its worker and all others go on."""
    pytest.importorskip("pytest_forked")
    site.write({"test_a.py": f"""\
import os, signal, socket
import pytest

@pytest.mark.parametrize("x", range(30))
def test_one(x):
    if x == 7:
        open("fatal-" + socket.gethostname(), "w").close()
        {end}
"""})
    result = run(site, "--cloud-max-processes=2", engine=["--forked"])
    assert result.returncode == 1 and "1 failed, 29 passed" in result.stdout, result
    assert "node down" not in result.stdout and "rerun" not in result.stdout
    bad = [case for case in cases(site) if case[3] != "passed"]
    assert [case[2] for case in bad] == ["test_one[7]"] and len(cases(site)) == 30
    where = [node for node in site.nodes if (node.home / "pytest_ci_project" / f"fatal-{node.host}").exists()]
    assert [node.name for node in where] == [bad[0][4]], bad
    assert re.search(rf"^{re.escape(bad[0][4])}: 1 of \d+ tests$", result.stdout, re.M), result


# The user's own environments beside the planned ones.


@contextmanager
def socket_server(site):
    """execnet's socket server in the controller, beside a copy of the project; an xspec without an id.  chdir= since
    pytest-xdist has it work in an empty directory otherwise, to which it would copy what it is told to."""
    script = Path(execnet.__file__).parent / "script/socketserver.py"
    directory = site.world.home / "served"
    shutil.copytree(site.project, directory)
    with site.world.popen(["python3", "-u", str(script), "127.0.0.1:0"], cwd="/home/ci/served") as process:
        try:
            for line in process.stdout:
                text = line.decode() if isinstance(line, bytes) else line
                found = re.search(r"Accept loop.*?(\d+)\)", text)
                if found:
                    yield f"socket=127.0.0.1:{found.group(1)}//chdir=/home/ci/served"
                    break
            else:
                raise AssertionError("the socket server did not come up")
        finally:
            process.kill()
            shutil.rmtree(directory)


WHERE = {"test_a.py": """\
import os, socket, sys, time
import pytest

@pytest.mark.parametrize("x", range(60))
def test_one(x, record_property):
    record_property("where", " ".join([socket.gethostname(), os.getcwd(), sys.executable]))
    time.sleep(0.05)
"""}


def places(site):
    """{worker: {(host, directory, interpreter)}}"""
    found = defaultdict(set)
    for case in ElementTree.parse(site.world.home / "report.xml").iter("testcase"):
        values = {part.get("name"): part.get("value") for part in case.iter("property")}
        found[values["worker"]].add(tuple(values["where"].split()))
    return dict(found)


def test_local_ones(site):
    """popen with an interpreter, and three of a kind: here, in the project itself."""
    site.write(WHERE)
    result = run(site, "--cloud-max-processes=1", engine=["--tx", "popen//id=mine//python=/usr/bin/python3", "--tx=3*popen"])
    assert result.returncode == 0 and "60 passed" in result.stdout, result
    seen = places(site)
    assert set(seen) == {"10.0.120.1_0", "10.0.120.2_0", "10.0.120.3_0", "mine", "gw0", "gw1", "gw2"}
    for worker in ("mine", "gw0", "gw1", "gw2"):
        assert {place[:2] for place in seen[worker]} == {("controller", PROJECT)}
    assert {place[2] for place in seen["mine"]} == {"/usr/bin/python3"}
    assert {place[:2] for place in seen["10.0.120.2_0"]} == {("node2", "/home/ci/pytest_ci_project")}


def test_a_node_of_the_user_s_own(site):
    """ssh= to a node that is not in the plan, with a copy that the user made."""
    site.write(WHERE)
    first, second, third = site.nodes
    shutil.copytree(site.project, third.home / "pytest_own")
    result = run(site, "--cloud-max-processes=1", nodes=[first, second],
                 engine=[f"--tx=ssh=ci@{third.name}//id=own//chdir=pytest_own//python=python3"])
    assert result.returncode == 0 and "60 passed" in result.stdout, result
    seen = places(site)
    assert set(seen) == {"10.0.120.1_0", "10.0.120.2_0", "own"}
    assert {place[:2] for place in seen["own"]} == {("node3", "/home/ci/pytest_own")}
    assert {case[4] for case in cases(site) if case[5] == "own"} == {third.name}
    # cloudplan has nothing to do with that directory.
    assert not (third.home / "pytest_own/.cloudplan").exists() and not (third.home / "pytest_ci_project").exists()


def test_a_socket_server(site):
    site.write(WHERE)
    with socket_server(site) as served:
        result = run(site, "--cloud-max-processes=1", engine=[f"--tx={served}//id=served"])
    assert result.returncode == 0 and "60 passed" in result.stdout, result
    seen = places(site)
    assert set(seen) == {"10.0.120.1_0", "10.0.120.2_0", "10.0.120.3_0", "served"}
    assert {place[:2] for place in seen["served"]} == {("controller", "/home/ci/served")}


@pytest.mark.parametrize("mode", ["load", "loadfile", "each"])
def test_all_kinds_at_once(site, mode):
    site.write({name.replace("_a", "_" + letter): text for letter in "abcdefghijklmnopqrst" for name, text in ONE.items()})
    first, second, third = site.nodes
    shutil.copytree(site.project, third.home / "pytest_own")
    with socket_server(site) as served:
        result = run(site, "--cloud-max-processes=1", f"--dist={mode}", "--tx=popen//id=mine", nodes=[first, second],
                     engine=["--tx", f"{served}//id=served", "--tx=2*popen",
                             f"--tx=ssh=ci@{third.name}//id=own//chdir=pytest_own//python=python3"])
    assert result.returncode == 0, result
    found = cases(site)
    workers = {case[5] for case in found}
    assert {"mine", "served", "gw0", "gw1", "own"} < workers and len(workers) == 7, workers
    assert len(found) == 400 * (7 if mode == "each" else 1)
