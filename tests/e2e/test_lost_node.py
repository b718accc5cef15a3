"""A node that is lost in the middle of a run: the run ends, on the others, with a result for every test."""
import xml.etree.ElementTree as ElementTree

import pytest

from cloudnodes import wait_until

SUITE = {"test_some.py": """\
import os, socket, time, pathlib, pytest

@pytest.mark.parametrize("x", range(40))
def test_some(x):
    pathlib.Path(f"started-{x}").touch()
    time.sleep(0.3)
"""}


@pytest.mark.parametrize("fault", ["down", "freeze", "sshd_stop"])
def test_a_node_lost_in_the_middle(make_site, fault):
    site = make_site(nodes=3)
    site.write(SUITE)
    lost = site.nodes[1]
    running = site.popen("run", "--cloud-max-processes=2", "--", "-q", "--junitxml=/home/ci/report.xml")
    wait_until(lambda: list((lost.home / "pytest_ci_project").glob("started-*")), timeout=30, what="tests to run there")
    getattr(lost, fault)()
    out, err = site.finish(running, timeout=60)
    assert running.returncode in (0, 1), (out, err)
    cases = [case.get("name") for case in ElementTree.parse(site.world.home / "report.xml").iter("testcase")]
    assert len(set(cases)) == 40, (out, err)
    assert "INTERNALERROR" not in out
    {"down": lost.up, "freeze": lost.thaw, "sshd_stop": lost.sshd_start}[fault]()
    site.assert_nothing_left()
