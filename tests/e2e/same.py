"""One situation here and on nodes: each test's outcome, and the status, by plain pytest and by both ways into cloudplan.

The situations are told in SAME.md.
"""
import os
import shlex
import xml.etree.ElementTree as ElementTree
from collections import namedtuple

from cloudnodes import slowed
from conftest import PROBE_SECONDS, PROGRAM, PROJECT, SRC

WAYS = ("cloudplan", "pytest")

# tests: {"classname::name": outcome}; result: what ran it.
Outcome = namedtuple("Outcome", "status tests result")


def outcome_of(case):
    """passed, failed, error, skipped or xfailed; several, as of a test that passes and whose teardown fails, are joined."""
    kinds = []
    for part in case:
        if part.tag == "skipped":
            kinds.append("xfailed" if part.get("type") == "pytest.xfail" else "skipped")
        elif part.tag in ("failure", "error"):
            kinds.append("failed" if part.tag == "failure" else "error")
    return "+".join(sorted(kinds)) or "passed"


def read_junit(path):
    """None where pytest has not come so far as to write a report."""
    if not path.exists():
        return None
    tests = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        # Two results are a difference, too.
        tests[name] = f"{tests[name]}, {outcome_of(case)}" if name in tests else outcome_of(case)
    return tests


class Same:
    """Runs pytest's arguments in a site's project; folder: the current directory, below the project."""

    def __init__(self, site, processes=2):
        self.site = site
        self.processes = processes

    def _run(self, argv, args, folder, env, timeout):
        report = self.site.world.home / "same.xml"
        report.unlink(missing_ok=True)
        result = self.site.world.run([*argv, *args, "--junitxml=/home/ci/same.xml"], cwd=os.path.join(PROJECT, folder), env=env, timeout=timeout)
        return Outcome(result.returncode, read_junit(report), result)

    def here(self, *args, folder="", env=None, python="/usr/bin/python3", timeout=60):
        return self._run([python, "-m", "pytest"], args, folder, env, timeout)

    def there(self, way, *args, folder="", env=None, options=(), nodes=None, python="/usr/bin/python3", timeout=120):
        """options: cloudplan's own, spelled as they are on both command lines."""
        chosen = self.site.nodes[:2] if nodes is None else nodes
        words = [f"--cloud-node={n if isinstance(n, str) else n.name}" for n in chosen]
        words += [f"--cloud-max-processes={self.processes}", "--cloud-rsync-bandwidth-limit=0",
                  f"--cloud-probe-timeout={slowed(PROBE_SECONDS)}", *options]
        if way == "cloudplan":
            return self._run([PROGRAM, "run", *words, "--"], args, folder, env, timeout)
        more = dict(env or {}, CLOUDPLAN=PROGRAM)
        more["PYTHONPATH"] = os.pathsep.join(filter(None, [more.get("PYTHONPATH"), str(SRC / "scripts")]))
        return self._run([python, "-m", "pytest", "-p", "pytest_cloudplan", *words], args, folder, more, timeout)

    def check(self, *args, way, **options):
        """The same status and the same tests with the same outcomes; returns (here, there).  Options of there() alone are taken out
        for here()."""
        ours = {name: options[name] for name in ("folder", "env", "python") if name in options}
        here, there = self.here(*args, **ours), self.there(way, *args, **options)
        what = f"{way}: {shlex.join(map(str, args))}"
        assert there.tests == here.tests, f"{what}\nhere: {here.result}\nthere: {there.result}"
        assert there.status == here.status, f"{what}\nhere: {here.result}\nthere: {there.result}"
        return here, there
