"""A node that is lost in the middle of a run: the run ends, on the others, with one result for every test."""
import re
import time
import xml.etree.ElementTree as ElementTree

import pytest

from cloudnodes import promised, wait_until

TESTS = 40
SUITE = {"test_some.py": f"""\
import os, time, pathlib, pytest, subprocess

@pytest.mark.parametrize("x", range({TESTS}))
def test_some(x):
    subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)  # no end of a stream ends it
    pathlib.Path(f"started-{{x}}-{{os.getpid()}}").touch()
    time.sleep(0.3)
"""}
KNOWN_WITHIN = 20  # seconds: a lost node is known, and its tests are under way elsewhere


def start(site, *args):
    site.write(SUITE)
    running = site.popen("run", "--cloud-max-processes=2", "--", "-v", "--junitxml=/home/ci/report.xml", *args)
    for node in site.nodes:
        wait_until(lambda n=node: started(n) or running.poll() is not None, timeout=60, what=f"tests to run on {node.host}")
    assert running.poll() is None, site.finish(running)
    return running


def started(node):
    return list((node.home / "pytest_ci_project").glob("started-*"))


def begun(nodes):
    return {path.name.split("-")[1] for node in nodes for path in started(node)}


def wait_for_rerun(site, lost):
    """What had begun on the lost node begins elsewhere."""
    others = [node for node in site.nodes if node is not lost]
    wait_until(lambda: begun([lost]) & begun(others), KNOWN_WITHIN, "the test that was running to be run again")


def results(site):
    """{test: [what became of it]}"""
    found = {}
    for case in ElementTree.parse(site.world.home / "report.xml").iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found.setdefault(case.get("name"), []).append("/".join(kinds) or "passed")
    return found


def assert_all_passed_once(site, out):
    found = results(site)
    assert len(found) == TESTS and set(map(tuple, found.values())) == {("passed",)}, (found, out)


@pytest.mark.parametrize("fault, repair", [("down", "up"), ("freeze", "thaw"), ("sshd_stop", "sshd_start"), ("blackhole", "up")])
def test_a_node_lost_in_the_middle(make_site, fault, repair):
    """Power off (no RST), a hung kernel, sshd killed, a network that swallows packets."""
    site = make_site(nodes=3)
    running = start(site)
    lost = site.nodes[1]
    getattr(lost, fault)()
    wait_for_rerun(site, lost)
    out, err = site.finish(running, timeout=60)
    assert running.returncode == 0, (out, err)
    assert_all_passed_once(site, out)
    assert "INTERNALERROR" not in out
    assert re.search(r"RERUN.*test_some", out) and re.search(rf"{TESTS} passed, \d rerun", out), out
    getattr(lost, repair)()
    site.assert_nothing_left()


def test_a_node_that_comes_back_later(make_site):
    """Its workers are not asked any more: what they still do is nobody's result, and what they have started is ended."""
    site = make_site(nodes=2)
    running = start(site)
    lost = site.nodes[1]
    lost.freeze()
    wait_for_rerun(site, lost)
    lost.thaw()
    out, err = site.finish(running, timeout=120)
    assert running.returncode == 0, (out, err)
    assert_all_passed_once(site, out)
    assert re.search(rf"{TESTS} passed, \d rerun", out), out
    site.assert_nothing_left()


def test_a_worker_that_the_kernel_kills(make_site):
    """As the out-of-memory killer does: the node is well, the test is run again there or elsewhere."""
    site = make_site(nodes=2)
    running = start(site)
    victim = started(site.nodes[1])[0].name.rsplit("-", 1)[1]
    site.nodes[1].run(["kill", "-9", victim], check=True)
    out, err = site.finish(running, timeout=120)
    assert running.returncode == 0, (out, err)
    assert_all_passed_once(site, out)
    assert re.search(rf"{TESTS} passed, 1 rerun", out), out
    site.assert_nothing_left()


def test_a_test_that_always_kills_its_worker(make_site):
    site = make_site(nodes=2)
    site.write({"test_some.py": "import os, pytest\n@pytest.mark.parametrize('x', range(10))\ndef test_some(x):\n"
                                "    if x == 5: os.kill(os.getpid(), 9)\n"})
    result = site.run("run", "--cloud-max-processes=2", "--", "-q", "--junitxml=/home/ci/report.xml")
    assert result.returncode == 1, result
    found = results(site)
    assert len(found) == 10 and all(len(what) == 1 for what in found.values()), (found, result)
    assert [name for name, what in found.items() if what != ["passed"]] == ["test_some[5]"]
    assert "1 failed, 9 passed, 1 rerun" in result.stdout
    site.assert_nothing_left()


def test_all_nodes_lost(make_site):
    site = make_site(nodes=2)
    running = start(site)
    for node in site.nodes:
        node.down()
    at = time.monotonic()
    out, err = site.finish(running, timeout=120)
    assert running.returncode == 69, (out, err)
    assert "no worker is left" in out + err and "INTERNALERROR" not in out
    assert time.monotonic() - at < promised(2 * KNOWN_WITHIN)
    for node in site.nodes:
        node.up()
    site.assert_nothing_left()
