"""Leases: what a run has been given of a node is not given to another one, as long as it runs and no longer."""
import json
import re
import signal

import pytest

from cloudnodes import patience, promised, slowed, wait_until
from conftest import failed

# Goes on until ~/go is there, and shows meanwhile that it runs: ~/running-NAME-WORKER.
SUITE = {
    "test_it.py": """\
import os, time
import pytest

@pytest.mark.parametrize("n", range(12))
def test_it(n, testrun_uid):
    home = os.path.expanduser("~")
    mine = os.path.join(home, f"running-{testrun_uid}-{os.environ['PYTEST_XDIST_WORKER']}")
    open(mine, "w").close()
    end = time.monotonic() + PATIENCE
    while not os.path.exists(home + "/go"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len([name for name in os.listdir(home) if name.startswith("running-")]) <= 4
    os.unlink(mine)
""".replace("PATIENCE", str(patience(60))),
}
BEAT_SECONDS = min(3, slowed(1))
BEAT = {"CLOUDPLAN_BEAT": str(BEAT_SECONDS)}  # internal: six of these without a word are the end


@pytest.fixture
def node(site, request):
    node = site.nodes[0]
    for path in [node.home / "go", *node.home.glob("running-*")]:
        path.unlink(missing_ok=True)
    site.write(SUITE)
    yield node
    (node.home / "go").touch()
    if not failed(request):
        wait_until(lambda: not leases(node), 20, lambda: f"no lease: {leases(node)}")


def leases(node):
    """{run: [its words]}"""
    return {path.name: path.read_text().split() for path in (node.root / "tmp").glob("cloudplan-leases-*/[0-9a-z]*")}


def running(node):
    return [path for path in node.home.glob("running-*")]


def start(site, node, *options, env=None):
    return site.popen("run", *options, "--", "-q", nodes=[node], env=env or {})


def finish(site, node, run):
    (node.home / "go").touch()
    out, err = site.finish(run, timeout=60)
    assert run.returncode == 0, out + err
    assert "12 passed" in out
    return err


def planned(text):
    """The processes of the table."""
    return [int(n) for n in re.findall(r"^10\.0\.120\.1 +ready +\S+ +\S+ \S+ +(\d+)", text, re.M)]


def test_lease_of_a_run(site, node):
    run = start(site, node, "--cloud-mem-per-process=1000", "--cloud-max-processes=3")
    wait_until(lambda: running(node), 30, "tests")
    (words,) = leases(node).values()
    assert words[2:5] == ["ci@controller", "3", "3000"]
    plan = site.run("plan", "--format=json", nodes=[node])
    (seen,) = json.loads(plan.stdout)["nodes"]
    assert (seen["processes"], seen["limited_by"]) == (1, "lease")
    # Nothing is left for a run of two; and whose it is.
    refused = site.run("plan", "--cloud-min-processes=2", nodes=[node])
    assert refused.returncode == 75
    small = site.run("plan", "--cloud-mem-per-process=6000", nodes=[node])
    assert small.returncode == 69
    # Of its memory the run uses some already.
    assert re.search(r"its room is leased: 3 processes with (29|30)\d\d MiB by ci@controller$", small.stderr, re.M)
    free = site.run("plan", "--cloud-no-lease", "--format=json", nodes=[node])
    assert json.loads(free.stdout)["nodes"][0]["processes"] == 4
    finish(site, node, run)
    assert leases(node) == {}


def test_two_runs_that_start_together(site, node):
    """Both plan three processes of four; the one that leases second plans again.  The suite itself counts who runs."""
    runs = [start(site, node, "--cloud-max-processes=3") for _ in range(2)]
    wait_until(lambda: len(running(node)) == 4, 30, "tests of both")
    assert sorted(words[3] for words in leases(node).values()) == ["1", "3"]
    assert sorted(planned(finish(site, node, run)) for run in runs) == [[1], [3]]


def test_wait(site, node):
    first = start(site, node)
    wait_until(lambda: running(node), 30, "tests")
    late = site.run("plan", "--cloud-wait=1s", nodes=[node])
    assert late.returncode == 69 and "its room is leased" in late.stderr
    assert late.elapsed >= 1
    runs = [start(site, node, "--cloud-wait=1h"), start(site, node, "--cloud-wait=1m", "--cloud-min-processes=2")]
    for run, seconds in zip(runs, (3600, 60)):
        words = b""
        while b"waiting for room" not in words:
            words = run.stderr.readline()
            assert words
        assert words.decode() == (f"cloudplan: waiting for room, {seconds} s at most: no usable node: 10.0.120.1: its room is leased: "
                                  "4 processes by ci@controller\n")
    runs[0].terminate()
    site.finish(runs[0], timeout=10)
    assert runs[0].returncode == 128 + signal.SIGTERM
    finish(site, node, first)
    assert planned(finish(site, node, runs[1])) == [4]


def test_no_wait_for_what_will_not_change(site, node):
    result = site.run("plan", "--cloud-wait=1h", "--cloud-min-processes=5", nodes=[node])
    assert result.returncode == 75 and result.elapsed < promised(10)


def test_no_lease(site, node):
    first = start(site, node, "--cloud-max-processes=2")
    wait_until(lambda: running(node), 30, "tests")
    second = start(site, node, "--cloud-no-lease", "--cloud-max-processes=2")
    wait_until(lambda: len(running(node)) == 4, 30, "tests of both")
    assert len(leases(node)) == 1
    finish(site, node, first)
    finish(site, node, second)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_gone_with_the_run(site, node, how):
    run = start(site, node)
    wait_until(lambda: running(node), 30, "tests")
    assert len(leases(node)) == 1
    run.send_signal(how)
    run.wait(20)
    run.close()
    wait_until(lambda: not leases(node), 10, lambda: f"no lease: {leases(node)}")
    site.assert_nothing_left()


def test_gone_when_the_controller_says_nothing(site, node):
    """Kept as long as it says something; then it is stopped, as a machine that is suspended: its connections are there still."""
    run = start(site, node, env=BEAT)
    wait_until(lambda: running(node), 30, "tests")
    path = next((node.root / "tmp").glob("cloudplan-leases-*/[0-9a-z]*"))
    begin = path.stat().st_mtime

    def touched_later():
        assert leases(node), "the lease is gone, though the controller says something"
        return path.stat().st_mtime > begin + 7 * BEAT_SECONDS

    wait_until(touched_later, 20 * BEAT_SECONDS, "the lease to have been touched for longer than six beats")
    assert running(node)
    site.world.controller.channel.call("signal", pid=run.pid, signal=int(signal.SIGSTOP))
    wait_until(lambda: not leases(node), 20 * BEAT_SECONDS, lambda: f"no lease: {leases(node)}")
    wait_until(lambda: not node.processes(), 10, lambda: f"{node.host} to be empty: {node.processes()}")
    run.kill()
    run.wait(10)
    run.close()


def test_lost_controller(site, node):
    """No end of the connection is heard of: the cable is out on the node's side."""
    run = start(site, node, env=BEAT)
    wait_until(lambda: running(node), 30, "tests")
    node.down()
    try:
        wait_until(lambda: not leases(node), 20 * BEAT_SECONDS, lambda: f"no lease: {leases(node)}")
        wait_until(lambda: not [w for _, w in node.processes() if "/bin/sh -s" in w], 10, "the guard to end")
    finally:
        node.up()
    run.kill()
    run.wait(10)
    run.close()


@pytest.mark.parametrize("place", ["the directory", "the files"])
def test_links_in_the_place_of_leases(make_site, place):
    """Nothing is read or written where they lead; without a directory for them there are no leases.  No flock(1) is needed."""
    site = make_site(nodes=1, hide=("flock",))
    site.write({"test_a.py": "def test_one(): pass\n"})
    (node,) = site.nodes
    lease = "2 1000 ci@other 4 0 1 0 0 1.00 -"
    node.run(["sh", "-c", f"mkdir aim; echo '{lease}' >file; cp file aim/other.1; touch -d 2001-01-01 aim"], check=True)
    if place == "the directory":
        node.run(["sh", "-c", "ln -s /home/ci/aim /tmp/cloudplan-leases-$(id -u)"], check=True)
    else:
        node.run(["sh", "-c", "mkdir -m 755 /tmp/cloudplan-leases-$(id -u); cd /tmp/cloudplan-leases-*; ln -s /home/ci/file other.1; mkfifo other.2"],
                 check=True)
    result = site.run("run", "--", "-q")
    assert result.returncode == 0 and planned(result.stderr) == [4], result
    words = r"10\.0\.120\.1 has no lease, so that other runs do not see what this one uses there: /tmp/cloudplan-leases-\d+ is not this user's directory"
    assert bool(re.search(words, result.stderr)) == (place == "the directory"), result.stderr
    assert node.run(["sh", "-c", "ls aim; stat -c %Y aim; cat file"]).stdout.splitlines() == [
        "other.1", node.run(["date", "-d", "2001-01-01", "+%s"]).stdout.strip(), lease]


# This machine as a node


@pytest.fixture
def here(site, request):
    controller = site.world.controller
    for path in [controller.home / "go", *controller.home.glob("running-*")]:
        path.unlink(missing_ok=True)
    site.write(SUITE)
    yield controller
    (controller.home / "go").touch()
    if not failed(request):
        wait_until(lambda: not leases(controller), 20, lambda: f"no lease: {leases(controller)}")


@pytest.mark.parametrize("nodes", [[], [":"]])
def test_lease_of_this_machine(site, here, nodes):
    """It has no connection that could hold it: a process of cloudplan's does."""
    run = site.popen("run", "--cloud-mem-per-process=100", "--cloud-max-processes=1", "--", "-q", nodes=nodes)
    wait_until(lambda: running(here), 30, "tests")
    (words,) = leases(here).values()
    assert words[2:5] == ["ci@controller", "1", "100"]
    assert words[9:] == ["-", "held"]  # no connection, whatever cloudplan itself was started over
    (free,) = json.loads(site.run("plan", "--format=json", "--cloud-no-lease", nodes=[":"]).stdout)["nodes"]
    (seen,) = json.loads(site.run("plan", "--format=json", nodes=[":"]).stdout)["nodes"]
    assert (seen["leased_by"], seen["processes"]) == ("ci@controller", free["processes"] - 1)
    refused = site.run("plan", f"--cloud-min-processes={free['processes']}", nodes=[":"])
    assert refused.returncode == 75 and refused.stderr.endswith(" (--cloud-wait=DURATION would wait for it)\n"), refused
    finish(site, here, run)
    assert leases(here) == {}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_lease_of_this_machine_is_gone_with_the_run(site, here, how):
    run = site.popen("run", "--cloud-max-processes=1", "--", "-q", nodes=[":"], env={"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"})
    wait_until(lambda: running(here), 30, "tests")
    assert len(leases(here)) == 1
    run.send_signal(how)
    run.wait(20)
    run.close()
    wait_until(lambda: not leases(here), 10, lambda: f"no lease: {leases(here)}")
    site.assert_nothing_left()


def test_two_runs_on_this_machine(site, here):
    """Both want all of its cores: the one that leases second has none left, and says whose they are."""
    runs = [site.popen("run", "--", "-q", nodes=[":"]) for _ in range(2)]
    wait_until(lambda: any(run.poll() is not None for run in runs), 30, "one of them to end")
    refused, other = sorted(runs, key=lambda run: run.poll() is None)
    _, words = site.finish(refused)
    assert refused.returncode == 69
    assert re.search(r"^cloudplan: no usable node: this machine: its room is leased: \d+ process(es)? by ci@controller "
                     r"\(--cloud-wait=DURATION would wait for it\)$", words, re.M), words
    finish(site, here, other)
