"""The whole way: probe, plan, sync, a pytest suite on real nodes."""
import json
import os
import re
import shutil
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree

import pytest

from cloudnodes import promised, slowed, wait_until

# A small suite with every outcome, relative files, a conftest, and a record of where each test ran.
SUITE = {
    "pytest.ini": "[pytest]\ntestpaths = tests\n",
    "pkg/__init__.py": "def double(x):\n    return 2 * x\n",
    "data/numbers.txt": "1\n2\n3\n",
    "tests/conftest.py": """\
import os, socket
import pytest

@pytest.fixture(autouse=True)
def where(record_property):
    record_property("host", socket.gethostname())
    record_property("cwd", os.getcwd())
""",
    "tests/test_many.py": """\
import pytest
from pkg import double

@pytest.mark.parametrize("x", range(200))
def test_double(x):
    assert double(x) == x + x

def test_relative_file():
    assert open("data/numbers.txt").read().split() == ["1", "2", "3"]

def test_fails():
    assert double(2) == 5

@pytest.mark.skip(reason="not now")
def test_skipped():
    pass

@pytest.mark.xfail
def test_xfailed():
    assert False

@pytest.mark.xfail
def test_xpassed():
    pass

@pytest.fixture
def broken():
    raise RuntimeError("broken fixture")

def test_error(broken):
    pass

def test_output(capsys):
    print("hello")
    assert capsys.readouterr().out == "hello\\n"

def test_tmp(tmp_path):
    (tmp_path / "x").write_text("x")
""",
}
COUNT = 208


def outcomes(report):
    """{test: outcome}, {hosts}, {working directories}"""
    found, hosts, directories = {}, set(), set()
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[case.get("classname") + "::" + case.get("name")] = kinds
        values = {p.get("name"): p.get("value") for p in case.iter("property")}
        hosts.add(values.get("host"))
        directories.add(values.get("cwd"))
    return found, hosts - {None}, directories - {None}


def test_same_outcome_as_a_local_run(site):
    site.write(SUITE)
    local = site.world.run(["python3", "-m", "pytest", "-q", "--junitxml=/home/ci/local.xml", "tests/"], cwd="/home/ci/project")
    far = site.run("run", "--cloud-mem-per-process=3000", "--", "tests/", "-q", "--junitxml=/home/ci/far.xml")
    assert local.returncode == far.returncode == 1
    expected, _, _ = outcomes(site.world.home / "local.xml")
    seen, hosts, directories = outcomes(site.world.home / "far.xml")
    assert len(expected) == COUNT
    assert seen == expected
    assert hosts == {"node1", "node2", "node3"}
    assert directories == {"/home/ci/pytest_ci_project"}
    count = re.search(r"\d+ failed, \d+ passed, \d+ skipped, \d+ xfailed, \d+ xpassed", local.stdout).group()
    assert count in far.stdout
    # The table, on stderr, is the only thing beside pytest's own output.
    assert re.search(r"^10\.0\.120\.1 +ready +4 +8\.0 GiB +2 +memory", far.stderr, re.M)


def test_must_fail_with_a_worse_outcome(site):
    """The comparison above can fail: a suite that behaves differently on a node is seen."""
    site.write({**SUITE, "tests/test_where.py": "import socket\n\ndef test_here():\n    assert socket.gethostname() == 'controller'\n"})
    site.world.run(["python3", "-m", "pytest", "-q", "--junitxml=/home/ci/local.xml"], cwd="/home/ci/project")
    site.run("run", "--cloud-max-processes=1", "--", "-q", "--junitxml=/home/ci/far.xml")
    assert outcomes(site.world.home / "local.xml")[0] != outcomes(site.world.home / "far.xml")[0]


@pytest.mark.parametrize("args,passed", [
    (["tests/test_a.py"], 2),
    (["tests/test_a.py::test_one"], 1),
    (["-k", "tests"], 3),
    (["-k", "one"], 2),
    (["/home/ci/project/tests/test_b.py"], 1),
    (["-c", "other.ini"], 3),
    ([], 3),
    (["--rootdir=/home/ci/project", "tests"], 3),
])
def test_arguments_as_typed(site, args, passed):
    site.write({"tests/test_a.py": "def test_one(): pass\ndef test_two(): pass\n", "tests/test_b.py": "def test_one(): pass\n",
                "other.ini": "[pytest]\n"})
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", *args, nodes=site.nodes[:1])
    assert result.returncode == 0, result
    assert f"{passed} passed" in result.stdout


def test_exit_status_is_the_engine_s(site):
    site.write({"test_a.py": "def test_one(): pass\n"})
    one = ["--cloud-max-processes=1"]
    assert site.run("run", *one, "--", "-q", nodes=site.nodes[:1]).returncode == 0
    assert site.run("run", *one, "--", "-q", "-k", "nothing", nodes=site.nodes[:1]).returncode == 5
    assert site.run("run", *one, "--", "--no-such-option", nodes=site.nodes[:1]).returncode == 4


def test_virtualenv_in_the_project(site):
    site.write({"test_a.py": """\
import sys, only_in_the_virtualenv

def test_where():
    assert sys.prefix == "/home/ci/pytest_ci_project/venv"
    assert sys.executable == "/home/ci/pytest_ci_project/venv/bin/python3"
"""})
    made = "python3 -m venv --system-site-packages --without-pip venv && echo > venv/lib/python3*/site-packages/only_in_the_virtualenv.py"
    site.world.run(["sh", "-c", made.replace("echo >", "for d in venv/lib/python3*/site-packages; do echo >$d/only_in_the_virtualenv.py; done; :")],
                   cwd="/home/ci/project", check=True)
    result = site.run("run", "--cloud-max-processes=1", "--", "-q")
    assert result.returncode == 0, result
    assert "//python=pytest_ci_project/venv/bin/python3" in site.run("plan", "--format=tx").stdout
    named = site.run("run", "--cloud-max-processes=1", "--cloud-virtualenv-path=venv", "--cloud-chdir=elsewhere/x", "--", "-q", "-k", "nothing")
    assert named.returncode == 5, named
    for node in site.nodes:
        assert (node.home / "elsewhere/x/venv/pyvenv.cfg").exists()


def test_this_machine_alone_and_along(site):
    site.write(SUITE)
    alone = site.world.run([*site.argv("run", nodes=[]), "--cloud-max-processes=2", "--", "-q", "--junitxml=/home/ci/far.xml"],
                           cwd="/home/ci/project")
    assert outcomes(site.world.home / "far.xml")[1:] == ({"controller"}, {"/home/ci/project"}), alone
    both = site.run("run", "--cloud-max-processes=1", "--", "-q", "--junitxml=/home/ci/far.xml", nodes=[":", site.nodes[0]])
    assert outcomes(site.world.home / "far.xml")[1] == {"controller", "node1"}, both


def test_no_ssh_for_this_machine_alone(site):
    site.write(SUITE)
    result = site.world.run([*site.argv("run", nodes=[]), "--cloud-max-processes=1", "--", "-q"], cwd="/home/ci/project",
                            env={"PATH": "/home/ci/bin"})
    assert result.returncode == 78 and "python3" in result.stderr
    bin_dir = site.world.home / "bin"
    bin_dir.mkdir(exist_ok=True)
    for name in ("python3", "sh", "env"):
        if not (bin_dir / name).is_symlink():
            (bin_dir / name).symlink_to("/usr/bin/" + name)
    result = site.world.run([*site.argv("run", nodes=[]), "--cloud-max-processes=1", "--", "-q"], cwd="/home/ci/project",
                            env={"PATH": "/home/ci/bin"})
    assert result.returncode == 1 and "1 failed" in result.stdout, result


def test_as_cron_starts_it(site):
    """stdin closed, no terminal, nothing but PATH, HOME and USER: the same as with all of them."""
    site.write(SUITE)
    bare = {"LOGNAME": None, "SHELL": None, "LANG": None, "TERM": None}
    result = site.world.run(["sh", "-c", 'exec "$@" <&-', "sh", *site.argv("run", "--", "-q", "--junitxml=/home/ci/far.xml")],
                            cwd="/home/ci/project", env=bare)
    assert result.returncode == 1, result
    seen, hosts, _ = outcomes(site.world.home / "far.xml")
    assert len(seen) == COUNT and hosts == {"node1", "node2", "node3"}
    assert "\r" not in result.stderr and "\033" not in result.stderr


def test_worker_count_is_the_plan(site):
    site.write({"test_a.py": "import pytest\n@pytest.mark.parametrize('x', range(30))\ndef test_one(x): pass\n"})
    for node, mib, cores in zip(site.nodes, (2500, 9000, 500), (4, 3, 4)):
        node.set_memory(available_mib=mib)
        node.set_cores(cores)
    plan = json.loads(site.run("plan", "--cloud-mem-per-process=1000", "--cloud-mem-reserve=100", "--format=json").stdout)
    assert [(n["processes"], n["limited_by"], n["state"]) for n in plan["nodes"]] == [
        (2, "memory", "ready"), (3, "cores", "ready"), (0, "memory", "unfit")]
    assert len(plan["tx"]) == plan["processes"] == 5
    result = site.run("run", "--cloud-mem-per-process=1000", "--cloud-mem-reserve=100", "--", "-v")
    workers = set(re.findall(r"^\[(\S+)\]", result.stdout, re.M))
    assert workers <= {"10.0.120.1_0", "10.0.120.1_1", "10.0.120.2_0", "10.0.120.2_1", "10.0.120.2_2"} and len(workers) > 2
    assert "10.0.120.3 is left out (unfit): " in result.stderr


def test_min_processes(site):
    site.write(SUITE)
    result = site.run("run", "--cloud-max-processes=1", "--cloud-min-processes=4")
    assert result.returncode == 75
    assert "room for 3 of the 4 processes that --cloud-min-processes asks for" in result.stderr
    assert result.stdout == ""
    for node in site.nodes:
        assert not (node.home / "pytest_ci_project").exists()


def test_user_addopts_with_n(site):
    site.write({**SUITE, "pytest.ini": "[pytest]\ntestpaths = tests\naddopts = -n auto\n"})
    site.run("run", "--cloud-max-processes=1", "--", "-q", "--junitxml=/home/ci/far.xml")
    assert outcomes(site.world.home / "far.xml")[1] == {"node1", "node2", "node3"}


# What goes wrong on the way.


def test_bad_nodes_of_every_kind_do_not_stop_the_others(make_site):
    site = make_site(nodes=3)
    down, mute, changed, closed = (site.world.node() for _ in range(4))
    bare = site.world.node(hide=("python3",))
    full = site.world.node(home_mib=1)
    chatty = site.world.node(bashrc="echo hello; echo world >&2\n")
    nodes = [*site.world.nodes]
    down.down()
    mute.mute()
    changed.new_host_key()
    (closed.home / ".ssh/authorized_keys").write_text("")
    site.write({**SUITE, "data/large": "x" * 3_000_000})
    result = site.run("run", f"--cloud-probe-timeout={slowed(4)}", "--cloud-max-processes=2", "--", "-q", "--junitxml=/home/ci/far.xml",
                      nodes=nodes, timeout=90)
    assert result.returncode == 1, result
    seen, hosts, _ = outcomes(site.world.home / "far.xml")
    assert len(seen) == COUNT and hosts == {"node1", "node2", "node3"}
    for node, state, words in ((down, "offline", "(connecting|No route to host)"), (mute, "offline", "banner"), (changed, "refused", "host key changed"),
                               (closed, "refused", "authentication refused"), (bare, "unfit", "python is missing"),
                               (full, "failed", "No space left on device"), (chatty, "failed", "must be quiet")):
        assert re.search(rf"^cloudplan: {re.escape(node.name)} is left out \({state}\): .*{words}", result.stderr, re.M), (
            node.host, result.stderr)
    assert result.elapsed < promised(30)
    down.up()
    site.nodes = [*site.world.nodes]
    site.assert_nothing_left()


def test_a_disk_that_fills_during_the_copy(make_site):
    """There is a copy already: what the new files take is not known beforehand."""
    site = make_site(nodes=2, home_mib=1)
    full = [*site.nodes]
    roomy = site.world.node(home_mib=8)
    site.write({"test_a.py": "def test_a(): pass\n"})
    assert site.run("sync").returncode == 0
    (site.project / "large").write_text("x" * 3_000_000)
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=[*full, roomy])
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    for node in full:
        assert re.search(rf"^cloudplan: {re.escape(node.name)} is left out \(failed\): sync failed, rsync status 11: .*No space left on device",
                         result.stderr, re.M), result.stderr
    result = site.run("run", nodes=full)
    assert result.returncode == 74
    assert "the sync failed on every node" in result.stderr and "No space left" in result.stderr
    assert "test session starts" not in result.stdout


def test_a_foreign_directory_is_never_touched(site):
    site.write({"test_a.py": "def test_a(): pass\n"})
    first, second, _ = site.nodes
    precious = first.home / "pytest_ci_project"
    precious.mkdir()
    (precious / "thesis.txt").write_text("ten years")
    (second.home / "pytest_ci_project").symlink_to("/home/ci/.ssh")
    result = site.run("run", "--cloud-max-processes=1", "--", "-q")
    assert result.returncode == 0
    assert [p.name for p in precious.iterdir()] == ["thesis.txt"]
    assert (second.home / ".ssh/authorized_keys").exists()
    (second.home / "pytest_ci_project").unlink()
    for node in (first, second):
        assert re.search(rf"{re.escape(node.name)} is left out \(unfit\): pytest_ci_project .*not made by cloudplan", result.stderr), result.stderr


def test_sync_is_exact(site):
    site.write({"test_a.py": "def test_a(): pass\n", "old.py": "", "d/x.py": "", ".git/HEAD": "x", "__pycache__/j.pyc": "", "with 'quote {}/a b.txt": "1",
                ".hidden": "1", "skip.log": "", "CVS/Root": ""})
    assert site.run("sync", "--rsyncignore=*.log").returncode == 0

    def there(node):
        base = node.home / "pytest_ci_project"
        return sorted(str(p.relative_to(base)) for p in base.rglob("*") if p.is_file())

    expected = [".cloudplan", ".hidden", "d/x.py", "old.py", "test_a.py", "with 'quote {}/a b.txt"]
    assert [there(n) for n in site.nodes] == [expected] * 3
    # Orphans go; what changed within the same second, at the same size, comes along.
    before = (site.project / "test_a.py").stat().st_mtime_ns
    (site.project / "test_a.py").write_text("def test_b(): pass\n")
    os.utime(site.project / "test_a.py", ns=(before + 1000, before - before % 1_000_000_000 + (before + 1) % 1_000_000_000))
    (site.project / "old.py").unlink()
    (site.nodes[0].home / "pytest_ci_project/stale.py").write_text("")
    assert site.run("sync", "--rsyncignore=*.log").returncode == 0
    expected.remove("old.py")
    assert [there(n) for n in site.nodes] == [expected] * 3
    for node in site.nodes:
        assert (node.home / "pytest_ci_project/test_a.py").read_text() == "def test_b(): pass\n"


def test_verify(site):
    """A copy that differs where size and time do not tell runs no test."""
    site.write({"test_a.py": "def test_a():\n    assert 1\n"})
    assert site.run("run", "--verify", "--cloud-max-processes=1", "--", "-q").returncode == 0
    there = site.nodes[1].home / "pytest_ci_project/test_a.py"
    times = there.stat()
    there.write_text("def test_a():\n    assert 0\n")
    os.utime(there, ns=(times.st_atime_ns, times.st_mtime_ns))
    result = site.run("run", "--verify", "--cloud-max-processes=1", "--", "-q")
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    assert re.search(rf"^cloudplan: {re.escape(site.nodes[1].name)} is left out \(failed\): "
                     r"its copy is not what is here: 1 differs, such as test_a\.py$", result.stderr, re.M), result.stderr
    only = site.run("sync", "--verify", nodes=[site.nodes[1]])
    assert only.returncode == 74 and "its copy is not what is here" in only.stderr


def test_rsyncdir(site):
    site.write({"src/a.py": "", "src/deep/b.py": "", "tests/test_a.py": "def test_a(): pass\n", "huge/blob": "x"})
    outside = site.world.home / "lib"
    outside.mkdir(exist_ok=True)
    (outside / "c.py").write_text("")
    assert site.run("sync").returncode == 0
    result = site.run("sync", "--rsyncdir=src/deep", "--rsyncdir=tests", "--rsyncdir=/home/ci/lib")
    assert result.returncode == 0, result
    base = site.nodes[0].home / "pytest_ci_project"
    assert sorted(str(p.relative_to(base)) for p in base.rglob("*") if p.is_file()) == [
        ".cloudplan", "lib/c.py", "src/deep/b.py", "tests/test_a.py"]
    bad = site.run("sync", "--rsyncdir=nowhere")
    assert bad.returncode == 64 and bad.stderr.splitlines()[-1] == "cloudplan: --rsyncdir=nowhere: No such file or directory"


# Notes each copy's beginning and end.  rsync has no HOME.
NOTING = """\
#!/bin/sh
case " $* " in *" --info=progress2 "*) ;; *) exec /usr/bin/rsync "$@" ;; esac
echo "begins $*" >>/home/ci/rsyncs
/usr/bin/rsync "$@"
status=$?
echo ends >>/home/ci/rsyncs
exit $status
"""


# What it keeps of how long a command line may be: it measures that where it does not know it, by starting processes.
MEASURED = """\
#!/bin/sh
case " $* " in *" --joblog "*) ;; *) exec /usr/bin/parallel "$@" ;; esac
find "$PARALLEL_HOME" -name linelen >>/home/ci/measured
/usr/bin/parallel "$@"
status=$?
find "$PARALLEL_HOME" -name linelen >>/home/ci/measured
exit $status
"""


def test_bandwidth_limit_and_one_at_a_time(site):
    """rsync is told the one, and keeps it: 100 KiB at 100 KiB/s for each of three nodes; the other is seen in who runs when."""
    folder = site.world.home / "noting"
    folder.mkdir(exist_ok=True)
    for name, text in (("rsync", NOTING), ("parallel", MEASURED)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    log = site.world.home / "rsyncs"

    def sync(*options):
        log.write_text("")
        result = site.run("sync", *options, env={"PATH": "/home/ci/noting:/usr/bin:/bin"})
        assert result.returncode == 0, result
        return result.elapsed, [line.partition(" ")[::2] for line in log.read_text().splitlines()]

    site.write({"blob": os.urandom(100 * 1024).hex()})
    elapsed, slow = sync("--cloud-rsync-bandwidth-limit=100", "--cloud-rsync-max-processes=1")
    assert [what for what, _ in slow] == ["begins", "ends"] * 3, slow
    assert all("--bwlimit=100 " in words for what, words in slow if what == "begins"), slow
    assert elapsed > 2
    site.write({"blob": os.urandom(100 * 1024).hex()})
    _, quick = sync("--cloud-rsync-bandwidth-limit=0")
    told = [words for what, words in quick if what == "begins"]
    assert len(told) == 3 and not any("--bwlimit" in words.replace("--bwlimit=0 ", "") for words in told), quick
    measured = (site.world.home / "measured").read_text().split()
    assert len(measured) == 4 and measured[0] == measured[1] and measured[2] == measured[3], measured
    shutil.rmtree(folder)


def test_cipher_is_a_preference(make_site):
    site = make_site(nodes=1)
    plain = site.world.node(sshd_config="Ciphers aes256-ctr\n")
    site.write({"a": "1"})
    assert site.run("sync", "--cloud-rsync-cipher=aes128-gcm@openssh.com", nodes=[site.nodes[0], plain]).returncode == 0
    assert (plain.home / "pytest_ci_project/a").exists()


# The guard that the lease names is alive.
LEASED = """\
import pathlib
def test_lease():
    (lease,) = pathlib.Path("/tmp").glob("cloudplan-leases-*/[0-9a-z]*")
    assert pathlib.Path("/proc", lease.name.rpartition(".")[2]).exists()
"""


def test_a_connection_that_breaks_during_the_sync_is_tried_again(make_site):
    """The master, too: what only its session does, such as holding the lease, goes on."""
    site = make_site(nodes=1)
    site.write({"blob": os.urandom(1024 * 1024).hex(), "test_a.py": LEASED})
    node = site.nodes[0]
    running = site.popen("run", "--cloud-rsync-bandwidth-limit=400", "--cloud-max-processes=1", "--", "-q", "-p", "no:cacheprovider")
    wait_until(lambda: any("rsync --server" in line for _, line in node.processes()), what="rsync to run on the node")
    node.sshd_stop()
    node.sshd_start()
    out, err = site.finish(running, timeout=60)
    assert running.returncode == 0, (out, err)
    assert (node.home / "pytest_ci_project/blob").read_text() == (site.project / "blob").read_text()


# Its master is gone when the copy is done.
RSYNC_THEN_KILL = """\
#!/bin/sh
/usr/bin/rsync "$@"
status=$?
for process in /proc/[0-9]*; do
    if tr '\\0' ' ' <$process/cmdline | grep -q '^ssh .* -M -T '; then
        kill -9 ${process#/proc/}
        while read -r stat <$process/stat && case $stat in *') Z '*) false ;; esac; do :; done
    fi
done 2>/dev/null
exit $status
"""


def test_a_connection_that_breaks_after_the_sync(make_site):
    """Without a word: nothing is asked of its guard any more."""
    site = make_site(nodes=1)
    site.write({"test_a.py": LEASED})
    program = site.world.home / "bin/rsync"
    program.parent.mkdir()
    program.write_text(RSYNC_THEN_KILL)
    program.chmod(0o755)
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", env={"PATH": "/home/ci/bin:/usr/bin:/bin"})
    assert result.returncode == 0, result
    site.assert_nothing_left()


# Signals, and what is left.

SLOW = {"test_slow.py": """\
import subprocess, time, pathlib, pytest

@pytest.mark.parametrize("x", range(8))
def test_slow(x):
    subprocess.Popen(["sleep", "1000"])
    pathlib.Path(f"started-{x}").touch()
    time.sleep(1000)
"""}


def start_slow(site):
    site.write(SLOW)
    running = site.popen("run", "--cloud-max-processes=2", "--", "-q")
    for node in site.nodes:
        wait_until(lambda n=node: len(list((n.home / "pytest_ci_project").glob("started-*"))) == 2, timeout=30, what="tests to run")
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_engine_in_order(site, number):
    running = start_slow(site)
    running.send_signal(number)
    out, err = site.finish(running, timeout=15)
    assert running.returncode == 128 + number, (out, err)
    assert "KeyboardInterrupt" in out or "no tests ran" in out


def test_a_second_signal_ends_at_once(site):
    running = start_slow(site)
    site.nodes[0].freeze()  # its guard cannot say that it has cleaned up
    running.send_signal(signal.SIGTERM)
    # Two signals within half a second are one wish (timeout(1) sends two): the second comes after that.
    first = time.monotonic()
    wait_until(lambda: time.monotonic() > first + 0.6, what="half a second to pass")
    running.send_signal(signal.SIGTERM)
    out, err = site.finish(running, timeout=30)
    elapsed = time.monotonic() - first
    site.nodes[0].thaw()
    assert running.returncode == 128 + signal.SIGTERM, (out, err)
    assert elapsed < slowed(4)


def test_control_c_at_a_terminal(site):
    site.write(SLOW)
    running = site.popen("run", "--cloud-max-processes=2", "--", "-q", pty=True)
    for node in site.nodes:
        wait_until(lambda n=node: len(list((n.home / "pytest_ci_project").glob("started-*"))) == 2, timeout=30, what="tests to run")
    out, _ = site.finish(running, b"\x03")
    assert running.returncode == 128 + signal.SIGINT, out
    # The terminal has told pytest already: it is not told a second time, which would cut its report.
    assert "no tests ran" in out and out.count("!!! KeyboardInterrupt !!!") == 1


def test_interrupted_during_the_sync(site):
    site.write({"blob": os.urandom(1024 * 1024).hex(), "test_a.py": "def test_a(): pass\n"})
    running = site.popen("run", "--cloud-rsync-bandwidth-limit=100")
    wait_until(lambda: any("rsync --server" in line for _, line in site.nodes[0].processes()), what="rsync to run")
    running.terminate()
    out, err = site.finish(running, timeout=15)
    assert running.returncode == 128 + signal.SIGTERM
    assert "Terminated while copying" in err and "test session" not in out


def test_progress_on_a_terminal_and_in_a_log(site):
    site.write({"blob": os.urandom(400 * 1024).hex()})
    shown = site.world.run_pty(site.argv("sync", "--cloud-rsync-bandwidth-limit=400"), cwd="/home/ci/project").stdout
    assert re.search(r"copying: \d of 3 nodes done; [\d.]+ .?i?B.* at [\d.]+ .?i?B/s", shown), shown
    assert re.search(r"\d+:\d\d left", shown)
    (site.project / "blob").write_text(os.urandom(400 * 1024).hex())
    log = site.run("sync", "--cloud-rsync-bandwidth-limit=400")
    assert "\r" not in log.stderr and len(log.stderr.splitlines()) < 5


def test_tools_that_are_missing(site):
    site.write({"test_a.py": "def test_a(): pass\n"})
    bin_dir = site.world.home / "bin2"
    bin_dir.mkdir(exist_ok=True)
    for name in ("python3", "sh", "ssh", "rsync", "env", "perl"):
        if not (bin_dir / name).is_symlink():
            (bin_dir / name).symlink_to("/usr/bin/" + name)
    result = site.run("run", env={"PATH": "/home/ci/bin2"})
    assert result.returncode == 78 and result.stderr.startswith("cloudplan: parallel: not found; GNU parallel is needed")
    (bin_dir / "parallel").write_text("#!/bin/sh\necho parallel from moreutils\n")
    (bin_dir / "parallel").chmod(0o755)
    result = site.run("run", env={"PATH": "/home/ci/bin2"})
    assert result.returncode == 78 and "moreutils" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    (bin_dir / "parallel").unlink()
    assert sys.version_info >= (3,)


def test_own_xspecs_come_along(site):
    site.write(SUITE)
    args = ["--cloud-max-processes=1", "--tx=popen//id=mine", "-n", "2"]
    assert json.loads(site.run("plan", "--format=json", *args, nodes=[site.nodes[0]]).stdout)["tx"] == [
        "ssh=ci@10.0.120.1//id=10.0.120.1_0//node=10.0.120.1//chdir=pytest_ci_project//python=python3", "popen//id=mine", "2*popen"]
    result = site.run("run", *args, "--", "-v", "-p", "no:randomly", nodes=[site.nodes[0]])
    assert {"10.0.120.1_0", "mine"} < set(re.findall(r"^\[(\S+)\]", result.stdout, re.M)), result.stdout[:3000]


def test_min_processes_after_a_failed_sync(make_site):
    site = make_site(nodes=1)
    chatty = site.world.node(bashrc="echo hello; echo world >&2\n")
    site.write(SUITE)
    result = site.run("run", "--cloud-max-processes=1", "--cloud-min-processes=2", nodes=[site.nodes[0], chatty])
    assert result.returncode == 75 and "after the sync" in result.stderr
    assert "test session" not in result.stdout


@pytest.mark.parametrize("sessions", [10, 1])
def test_more_workers_than_sessions_on_a_connection(make_site, sessions):
    """sshd's MaxSessions, 10 by default: ssh connects anew for those beyond it.  What their tests start is found all the
    same when the run has ended."""
    site = make_site(nodes=1, sshd_config=f"MaxSessions {sessions}\n")
    site.nodes[0].set_cores(12)
    site.write({
        "conftest.py": "import subprocess\ndef pytest_sessionstart(session):\n    if hasattr(session.config, 'workerinput'): subprocess.Popen(['sleep', '999'], start_new_session=True)\n",
        "test_a.py": "import pytest, time\n@pytest.mark.parametrize('x', range(48))\ndef test_one(x): time.sleep(0.1)\n",
    })
    result = site.run("run", "--", "-v")
    assert result.returncode == 0, result
    assert len(set(re.findall(r"^\[(10\S+)\]", result.stdout, re.M))) == 12, result.stdout[-3000:]
    site.assert_nothing_left()


def test_sshd_drops_what_connects_anew(make_site):
    """All but one of the workers do, at once, and sshd takes two of them."""
    site = make_site(nodes=1, sshd_config="MaxSessions 1\nMaxStartups 2:100:2\n")
    site.write({"test_a.py": "import pytest, time\n@pytest.mark.parametrize('x', range(24))\ndef test_one(x): time.sleep(0.1)\n"})
    node = site.nodes[0]
    node.set_cores(6)
    result = site.run("run", "--", "-v")
    assert result.returncode == 0, result
    assert re.search("MaxStartups|drop connection", node.read_log()), "none was dropped"
    assert len(set(re.findall(r"^\[(10\S+)\]", result.stdout, re.M))) == 6, result.stdout[-3000:]
    site.assert_nothing_left()
