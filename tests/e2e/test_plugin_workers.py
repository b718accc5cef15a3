"""The pytest plugin's workers: which --tx are refused, how others start, and what each finds around it."""
import importlib.util
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import execnet
import pytest

from cloudnodes import slowed
from plugin_project import DEADLINE, Project

SHORT = """
import os, pytest_cloudplan.gateways
pytest_cloudplan.gateways.START_SECONDS = %d
del os.environ["PYTEST_PLUGINS"]
""" % slowed(3)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


# What is refused


@pytest.mark.parametrize("tx, reason", [
    (["bogus"], "--tx=bogus: it names no way to a worker: popen, ssh=[USER@]HOST or socket=HOST:PORT"),
    ([""], "--tx=: a part of it is empty"),
    (["popen//"], "--tx=popen//: a part of it is empty"),
    (["popen//popen"], "--tx=popen//popen: duplicate key: 'popen' in 'popen//popen'"),
    (["_x=1//popen"], "--tx=_x=1//popen: '_x' not a valid XSpec key"),
    (["popen//id"], "--tx=popen//id: id= has no value"),
    (["ssh//id=x"], "--tx=ssh//id=x: ssh= has no value"),
    (["popen//nice=high"], "--tx=popen//nice=high: nice=high is not a number"),
    (["popen//python=a\nb\x1b//id"], "--tx=popen//python=a?b?//id: a character in it cannot be printed"),
    (["socket=node1"], "--tx=socket=node1: socket=HOST:PORT is needed, with a name or an IPv4 address"),
    (["socket=node1:http"], "--tx=socket=node1:http: socket=HOST:PORT is needed, with a name or an IPv4 address"),
    (["socket=::1:80"], "--tx=socket=::1:80: socket=HOST:PORT is needed, with a name or an IPv4 address"),
    (["socket=node1:1//python=python3"], "--tx=socket=node1:1//python=python3: python= does not go together with socket="),
    (["popen//via=nobody"], "--tx=popen//via=nobody: no --tx before it has the id nobody"),
    (["popen//via=late", "popen//id=late"], "--tx=popen//via=late: no --tx before it has the id late"),
    (["2*popen//id=x"], "--tx=2*popen//id=x: the id x is used twice"),
    (["popen//id=a_0"], "--tx=popen//id=a_0: the id a_0 is used twice"),
    (["popen//id=gw0", "popen"], "--tx=popen: the id gw0 is used twice"),
    (["popen", "3*"], "--tx=3*: a part of it is empty"),
])
def test_refused(project, tx, reason):
    """Before anything has started, in one line."""
    run = project.run([project.popen("a")], *[word for spec in tx for word in ("--tx", spec)], "tests")
    assert run.status == 4, run
    assert run.err.strip() == "ERROR: cloudplan: " + reason
    assert run.out == ""
    assert not project.workers()


@pytest.mark.parametrize("args", [["--help"], ["--collect-only", "-q"], ["--dist=no"], ["-n0", "--dist=no"]])
def test_refused_only_where_it_would_start(project, args):
    run = project.run([project.popen("a")], "--tx=bogus", *args)
    assert run.status == 0, run


def test_unknown_keys_are_execnet_s_business(project):
    run = project.run(["popen//id=a//foo=1"], "tests")
    assert run.status == 0, run


# socket=


@contextmanager
def server(directory):
    """execnet's socket server as its manual starts it; HOST:PORT."""
    script = Path(execnet.__file__).parent / "script" / "socketserver.py"
    with subprocess.Popen([sys.executable, "-u", str(script), "127.0.0.1:0"], cwd=directory, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout:
                if "Accept loop" in line:
                    yield "127.0.0.1:%d" % eval(line.partition("loop")[2])[1]
                    break
            else:
                raise AssertionError("the socket server did not come up")
        finally:
            process.kill()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


@pytest.mark.parametrize("address, reason", [
    (None, "Connection refused"),
    ("no.such.host.invalid:80", ""),  # the resolver's words
])
def test_socket_server_that_is_not_there(project, address, reason):
    address = address or closed_port()
    run = project.run([f"socket={address}//id=s", project.popen("a")], "tests")
    assert run.status == 0, run
    assert len(run.lines) == 1 and run.lines[0].startswith(f"cloudplan: s ({address}) did not start: {reason}"), run
    assert run.lines[0].endswith("; going on without it") and "Errno" not in run.lines[0]
    assert run.counts() == {"passed": 3}


@pytest.mark.parametrize("kind", ["silent", "full"])
def test_socket_server_that_never_answers(project, kind):
    """One has accepted the connection, the other's system drops the packets that ask for one."""
    project.write("short.py", SHORT)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0 if kind == "full" else 9)
        fillers = []
        if kind == "full":
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        try:
            run = project.run([f"socket={address}", project.popen("a")], "tests",
                              PYTEST_PLUGINS="short,pytest_cloudplan.controller")
        finally:
            for filler in fillers:
                filler.close()
    assert run.status == 0, run
    assert run.lines == [f"cloudplan: gw0 ({address}) did not start: no answer within {slowed(3)} s; going on without it"]
    assert run.counts() == {"passed": 3}


def test_socket_server_that_hangs_up(project):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(9)
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        process = project.start([f"socket={address}", project.popen("a")], "tests")
        listener.settimeout(DEADLINE)
        connection = listener.accept()[0]
        connection.recv(1)
        connection.shutdown(socket.SHUT_RDWR)
        out, err = process.communicate(timeout=DEADLINE)
        connection.close()
    assert process.returncode == 0, out + err
    assert f"cloudplan: gw0 ({address}) did not start: " in out and "Traceback" not in out + err


def test_only_socket_servers_that_are_not_there(project):
    run = project.run([f"socket={closed_port()}"], "tests")
    assert run.status == 69, run
    assert "INTERNALERROR" not in run.out


def test_what_goes_through_a_dead_one_goes_with_it(project):
    run = project.run([f"socket={closed_port()}//id=s", "popen//via=s//id=t", project.popen("a")], "tests")
    assert run.status == 0, run
    assert [line.partition(" did not")[2] for line in run.lines] == [
        " start: Connection refused; going on without it", " start: s did not start; going on without it"]


# Mixtures


def test_all_kinds_in_one_run(project):
    """Those of the plan, and four that were typed."""
    project.write("tests/test_x.py", "import pytest\n@pytest.mark.parametrize('n', range(60))\ndef test_n(n): pass\n")
    typed = project.copy("typed")
    there = project.copy("there")
    args = ["tests", f"--opt={project.root}/x"]
    planned = [project.ssh("a"), project.ssh("a", 1), "popen//id=localhost_0"]
    with server(there) as address:
        tx = ["2*popen", f"popen//python={sys.executable}//env:COLOR=blue sky", f"socket={address}//chdir={there}//env:COLOR=red",
              f"ssh=typed//id=typed_0//chdir={typed}//python={sys.executable}//env:PYTEST_ADDOPTS=-q"]
        run = project.run(planned, *[f"--tx={spec}" for spec in tx], *args, PYTEST_ADDOPTS=f"--basetemp={project.root}/t")
    assert run.status == 0, run
    assert run.counts() == {"passed": 60}
    assert run.lines == []
    seen = {path.stem.partition("-")[2]: path.parent.name for path in project.tmp.glob("*/seen-*.json")}
    assert seen == {"a_0": "a", "a_1": "a", "typed_0": "typed", "gw3": "there", "localhost_0": "project",
                    "gw0": "project", "gw1": "project", "gw2": "project"}
    # A copy has its own root; what was typed is passed on as it was.
    assert project.seen("a_0")["args"][-2:] == ["tests", "--opt=x"]
    assert project.seen("a_0")["addopts"] == "--basetemp=t"
    assert project.seen("typed_0")["args"][-2:] == args
    assert project.seen("typed_0")["addopts"] == "-q"
    assert project.seen("gw3", "there")["args"][-2:] == args
    assert project.seen("gw3", "there")["addopts"] == f"--basetemp={project.root}/t"
    assert project.seen("gw3", "there")["environ"]["COLOR"] == "red"
    assert project.seen("gw2")["environ"]["COLOR"] == "blue sky"


def test_via_is_left_alone(project):
    if not hasattr(execnet, "__version__") or "main_thread_only" in Path(execnet.gateway_base.__file__).read_text():
        pytest.skip("via= a worker deadlocks with this execnet")
    run = project.run([project.ssh("a")], f"--tx=popen//via=a_0//id=b//chdir={project.copy('b')}", "tests")
    assert run.status == 0, run
    assert project.workers() == ["a_0", "b"]


CRASH = """
import os, pytest

@pytest.mark.parametrize("n", range(12))
def test_n(n):
    if n == 5:
        os._exit(1)
"""
CRASH_THERE = """
import os, pathlib, time, pytest

@pytest.mark.parametrize("n", range(12))
def test_n(n):
    if os.getcwd().endswith("/there"):
        os._exit(1)
    end = time.monotonic() + {seconds}
    while not pathlib.Path({heard!r}).exists():  # or it would have run all before the loss is heard of
        assert time.monotonic() < end
        time.sleep(0.02)
"""
HEAR = """
import pathlib

def pytest_testnodedown(node, error):
    pathlib.Path({heard!r}).touch()
"""


def test_crash_of_a_socket_worker(project):
    """Its server is gone with it, and the other node has as many workers as it was planned for."""
    heard = str(project.tmp / "heard")
    project.write("tests/test_x.py", CRASH_THERE.format(heard=heard, seconds=DEADLINE))
    project.write("conftest.py", HEAR.format(heard=heard))
    with server(project.copy("there")) as address:
        run = project.run([f"socket={address}//chdir={project.tmp}/there", project.ssh("a")], "tests")
    assert run.status == 0, run
    assert run.counts() == {"passed": 12, "rerun": 1}
    # Refused or reset, as the server's end goes.
    assert [line for line in run.lines if re.fullmatch(
        rf"cloudplan: gw\d on {address} is lost \(.+\)", line)], run


# What a worker finds


SHOW = """
import json, os, shutil, subprocess, sys

def test_show():
    child = subprocess.run([sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"],
                           stdout=subprocess.PIPE, check=True)
    with open("child.json", "w") as file:
        json.dump(dict(json.loads(child.stdout), python3=shutil.which("python3"), sys_path=sys.path), file)
"""


def shown(project, name):
    import json

    return json.loads((project.tmp / name / "child.json").read_text())


def make_venv(directory):
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", "--system-site-packages", str(directory)], check=True)
    return directory / "bin" / "python3"


def test_virtualenv_is_active(project):
    project.write("tests/test_x.py", SHOW)
    python = make_venv(project.tmp / "venv")
    run = project.run([project.ssh("a", python=python)], "tests", VIRTUAL_ENV="/other")
    assert run.status == 0, run
    child = shown(project, "a")
    assert child["VIRTUAL_ENV"] == str(project.tmp / "venv")
    assert child["PATH"].startswith(f"{project.tmp}/venv/bin:{project.tmp}/bin:")
    assert child["python3"] == str(python)


def test_virtualenv_that_was_active_is_left_alone(project):
    project.write("tests/test_x.py", SHOW)
    python = make_venv(project.tmp / "venv")
    tx = [project.ssh("a", python=python)]
    path = f"{project.env['PATH']}:{project.tmp}/venv/bin"
    run = project.run(tx, "tests", VIRTUAL_ENV=str(project.tmp / "venv"), PATH=path)
    assert run.status == 0, run
    assert shown(project, "a")["PATH"] == path


def test_other_interpreters_come_last(project):
    """No command that was found before becomes another one."""
    project.write("tests/test_x.py", SHOW)
    own = project.tmp / "own"
    own.mkdir()
    (own / "python3").symlink_to(sys.executable)
    tx = [project.ssh("a", python=f"env PYTHONHOME={sys.prefix} {own}/python3"), project.ssh("b")]
    run = project.run(tx, "tests", "--dist=each")
    assert run.status == 0, run
    for name, after in ("a", f":{own}"), ("b", ""):
        child = shown(project, name)
        assert child["PATH"] == project.env["PATH"] + after
        assert "VIRTUAL_ENV" not in child


def test_what_the_xspec_sets_is_kept(project):
    project.write("tests/test_x.py", SHOW)
    python = make_venv(project.tmp / "venv")
    run = project.run([project.ssh("a", python=python) + "//env:PATH=/bin:/usr/bin//env:VIRTUAL_ENV=mine"], "tests")
    assert run.status == 0, run
    child = shown(project, "a")
    assert (child["PATH"], child["VIRTUAL_ENV"]) == ("/bin:/usr/bin", "mine")


def ship(site):
    """pytest and what it needs, as cloudplan would put it beside the project."""
    site.mkdir(parents=True)
    for name in ("pytest", "_pytest", "xdist", "execnet", "pluggy", "iniconfig", "packaging", "py", "attr", "pygments"):
        spec = importlib.util.find_spec(name)
        if spec is not None:
            path = Path(spec.origin)
            path = path.parent if path.name == "__init__.py" else path
            (site / path.name).symlink_to(path)
    # pytest finds xdist by its entry point, and newer versions of pluggy their own number.
    for module, name in ("xdist", "pytest_xdist"), ("pluggy", "pluggy"):
        info = next(Path(importlib.util.find_spec(module).origin).parents[1].glob(f"{name}-*-info"))
        (site / info.name).symlink_to(info)


def test_shipped_pytest_is_found(project):
    """By an interpreter that has nothing of its own."""
    project.write("tests/test_x.py", SHOW)
    bare = f"env -u PYTHONPATH {sys.executable} -S"
    tx = [project.ssh("a", python=bare), project.ssh("b", python=bare)]
    site = project.tmp / "a" / "cloudplan-site"
    ship(site)
    run = project.run(tx, "tests")
    assert run.status == 0, run
    assert run.lines == [f"cloudplan: b_0 did not start: its Python ({bare}) has no module pytest, xdist, execnet; "
                         "going on without it"]
    child = shown(project, "a")
    assert child["PYTHONPATH"] == str(site)
    assert child["sys_path"].index(str(site)) < 3


def test_shipped_pytest_is_for_nodes(project):
    """What lies in the root itself is not meant for local workers."""
    project.write("tests/test_x.py", SHOW)
    project.write("cloudplan-site/pytest.py", "raise SystemExit(1)\n")
    run = project.run(["popen", "popen"], "tests")
    assert run.status == 0, run
    assert "cloudplan-site" not in shown(project, "project").get("PYTHONPATH", "")


# pytest_cloudplan on workers

PLUGIN = '''
"""Some options."""
import os

from pytest_cloudplan.options import ENGINE

def _leave():
    rest = [n for n in os.environ.get("PYTEST_PLUGINS", "").split(",") if n not in ("", __name__)]
    os.environ["PYTEST_PLUGINS"] = ",".join(rest)
    if not rest:
        del os.environ["PYTEST_PLUGINS"]

_leave()

def pytest_addoption(parser):
    parser.addoption("--cloud-node", action="append")
    parser.addini("cloud_develop_eggs", "", type="linelist")

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        with open("engine-" + config.workerinput["workerid"], "w") as file:
            file.write("%d %s" % (ENGINE, sum(p.__name__ == __name__ for p in config.pluginmanager.get_plugins()
                                              if hasattr(p, "__name__"))))
'''
INI = "[pytest]\naddopts = --strict-config --cloud-node=x -p pytest_cloudplan\ncloud_develop_eggs = a\n"
BOTH = "pytest_cloudplan,pytest_cloudplan.controller"


def with_plugin(project, text=PLUGIN):
    """The controller's own pytest_cloudplan, in the place of the one of this tree."""
    directory = project.tmp / "plugin" / "pytest_cloudplan"
    directory.mkdir(parents=True)
    for path in (Path(project.scripts) / "pytest_cloudplan").glob("[!_]*.py"):
        (directory / path.name).symlink_to(path)
    (directory / "__init__.py").write_text(text)
    project.scripts = directory.parent
    project.write("pytest.ini", INI)
    project.write("tests/test_x.py", SHOW)


def test_cloud_options_without_the_plugin(project):
    """Shows that the next one can fail."""
    project.write("pytest.ini", INI.replace("-p pytest_cloudplan", ""))
    run = project.run([project.ssh("a")], "tests")
    assert run.status == 4 and "--cloud-node=x" in run.err, run


@pytest.mark.parametrize("installed", [False, True])
def test_cloud_options_are_known_on_workers(project, installed):
    """Also where a broken one is installed."""
    with_plugin(project)
    python = sys.executable
    if installed:
        directory = project.tmp / "installed"
        info = directory / "pytest_cloudplan-0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-cloudplan\nVersion: 0\n")
        (info / "RECORD").write_text("pytest_cloudplan.py,,\n")
        (info / "entry_points.txt").write_text("[pytest11]\npytest_cloudplan = pytest_cloudplan\n")
        (directory / "pytest_cloudplan.py").write_text("raise RuntimeError('the installed one was imported')\n")
        others = os.environ.get("PYTHONPATH", "")
        python = f"env PYTHONPATH={directory}:{others} {sys.executable}"
    tx = [project.ssh("a", python=python), "popen", project.popen("b")]
    run = project.run(tx, "-W", "error", "--dist=each", "tests", PYTEST_PLUGINS=BOTH, _CLOUDPLAN_ENGINE="1")
    assert run.status == 0, run
    assert run.counts() == {"passed": 3}
    for name, worker in ("a", "a_0"), ("project", "gw0"), ("b", "b_0"):
        assert (project.tmp / name / f"engine-{worker}").read_text() == "1 1"
        child = shown(project, name)
        internal = {"_CLOUDPLAN_SETTINGS", "_CLOUDPLAN_SHIP", "_CLOUDPLAN_ENGINE", "_CLOUDPLAN_FAILED", "PYTEST_PLUGINS"}
        assert not internal & set(child)


def test_cloudplan_s_own_options_are_known_on_workers(project):
    project.write("tests/test_x.py", SHOW)
    project.write("eggs/setup.py", "")
    project.write("pytest.ini", "[pytest]\naddopts = --strict-config --cloud-node=x --cloud-ship-pytest -p pytest_cloudplan\n"
                  "cloud_mem_per_process = 1000\ncloud_develop_eggs = eggs\ncloud_python = a b\n")
    run = project.run([project.ssh("a"), "popen"], "-W", "error", "--dist=each", "--cloud-max-processes=1", "tests",
                      PYTEST_PLUGINS=BOTH, _CLOUDPLAN_ENGINE="1")
    assert run.status == 0, run
    assert run.counts() == {"passed": 2}


def test_plugin_that_a_node_s_python_refuses(project):
    with_plugin(project, PLUGIN + "\nif ENGINE and os.getcwd().endswith('/a'):\n    raise ValueError('not here')\n")
    run = project.run([project.ssh("a"), project.ssh("b")], "tests", PYTEST_PLUGINS=BOTH, _CLOUDPLAN_ENGINE="1")
    assert run.status == 0, run
    assert run.lines == ["cloudplan: a_0 did not start: ValueError: not here; going on without it"]


def test_others_in_pytest_plugins_stay(project):
    with_plugin(project)
    project.write("other.py", "")
    run = project.run([project.ssh("a")], "tests", PYTEST_PLUGINS="other," + BOTH, _CLOUDPLAN_ENGINE="1")
    assert run.status == 0, run
    assert shown(project, "a")["PYTEST_PLUGINS"] == "other"


def test_late_workers_get_it_too(project):
    """The successor of a crashed one is made by xdist."""
    with_plugin(project)
    project.write("tests/test_x.py", CRASH)
    run = project.run([project.ssh("a")], "tests", PYTEST_PLUGINS=BOTH, _CLOUDPLAN_ENGINE="1")
    assert run.status == 1 and run.counts() == {"failed": 1, "passed": 11, "rerun": 1}, run
    assert (project.tmp / "a" / "engine-gw0").read_text() == "1 1"
