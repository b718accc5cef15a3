"""Test suites of well-known packages, with nothing of ours in them: over nodes they end as they do here.

Debian installs these packages together with their tests.  They are copied into a project of their own and run with
coverage; every test's outcome and its reason, and the whole of the table of coverage, are compared.
"""
import importlib.util
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import xdist

from cloudnodes import World
from conftest import PROGRAM, PROJECT, Site

pytest.importorskip("pytest_cov")
XDIST = tuple(map(int, re.findall(r"\d+", xdist.__version__)[:2]))

# The name of the package and of its tests, how many there are at least, and whether some of them fail or are skipped:
# pyflakes' own need its command beside them.
SUITES = [
    ("toolz", "toolz/tests", 150, {"passed"}),
    ("pyflakes", "pyflakes/test", 500, {"passed", "skipped", "failed"}),
]


@pytest.fixture(scope="module")
def three_nodes():
    with World(nodes=3, home="/srv/ci-{}", visible=[os.path.dirname(os.path.realpath(PROGRAM))]) as world:
        yield Site(world)


def bring(site, package):
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: python3-{package}")
    site.write({"pytest.ini": "[pytest]\naddopts = -p no:cacheprovider\n"})
    source = Path(list(spec.submodule_search_locations)[0])
    shutil.copytree(source, site.project / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))


def outcomes(path):
    """{test: [[(outcome, the exception's name or the reason)]]}: the rest of a failure's message names places."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        said = [(part.tag, part.get("message", "").partition(":" if part.tag != "skipped" else "\n")[0])
                for part in case if part.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname')}::{case.get('name')}"
        found.setdefault(name, []).append(said)
    return found


def counts(result):
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)",
                                                             result.stdout.strip().splitlines()[-1])}


def table(result):
    return re.search(r"^Name +Stmts.*?^TOTAL[^\n]*$", result.stdout, re.M | re.S).group()


def run_both(site, package, tests, *more, own=()):
    args = [tests, "-q", f"--cov={package}", "--cov-branch", "--cov-report=term-missing", *more]
    here = site.world.run(["python3", "-m", "pytest", *args, "--junitxml=/home/ci/here.xml"], cwd=PROJECT, timeout=120)
    first, *others = site.nodes
    there = site.run("run", "--cloud-max-processes=2", *own, "--", *args, "--junitxml=/home/ci/there.xml",
                     nodes=[f"dev@{first.name}", *others], timeout=120)
    return here, there, outcomes(site.world.home / "here.xml"), outcomes(site.world.home / "there.xml")


def test_must_fail_where_one_node_has_another_outcome(site):
    package, tests, _, _ = SUITES[0]
    bring(site, package)
    (site.project / tests / "conftest.py").write_text("""\
import socket
import pytest

@pytest.fixture(autouse=True)
def nowhere_else(request):
    if socket.gethostname() != "controller" and request.node.name == "test_curry_bad_types":
        raise RuntimeError
""")
    here, there, expected, seen = run_both(site, package, tests)
    assert here.returncode == 0 and there.returncode == 1
    assert [name for name in expected if seen[name] != expected[name]] == [
        "toolz.tests.test_functoolz::test_curry_bad_types"]


@pytest.mark.parametrize("package, tests, at_least, kinds", SUITES, ids=[suite[0] for suite in SUITES])
def test_a_suite_ends_as_it_does_here(site, package, tests, at_least, kinds):
    bring(site, package)
    here, there, expected, seen = run_both(site, package, tests)
    assert len(expected) >= at_least and set(counts(here)) == kinds, here
    assert seen == expected
    assert counts(there) == counts(here)
    assert there.returncode == here.returncode == (1 if "failed" in kinds else 0), there
    assert table(there) == table(here)
    assert not list(site.project.glob(".coverage.*"))


def skips(result):
    return sorted(line for line in result.stdout.splitlines() if line.startswith("SKIPPED ["))


@pytest.mark.parametrize("mode", ["load", "loadscope", "worksteal"])
def test_what_is_not_collected_ends_as_it_does_here(site, mode):
    """Modules that are broken or skip themselves: once each, in files with names as they are here."""
    if mode == "worksteal" and XDIST < (3, 2):
        pytest.skip("worksteal is of pytest-xdist 3.2 and later")
    site.write({
        "pytest.ini": "[pytest]\naddopts = -p no:cacheprovider\n",
        "pkg/__init__.py": "def f(x):\n    return x\n",
        "t/test_good.py": """\
import pytest
from pkg import f
@pytest.mark.parametrize("x", range(12))
def test_good(x): assert f(x) == x
@pytest.mark.parametrize("x", range(12))
def test_skipped(x): pytest.skip("by itself")
def test_bad(): assert f(1) == 2
""",
        "t/test_skip.py": "import pytest\npytest.skip('not today', allow_module_level=True)\n",
        "t/test_importorskip.py": "import pytest\npytest.importorskip('no_such_module')\n",
        "t/test_import.py": "import no_such_module\n",
        "t/test_syntax.py": "def (\n",
        "t/test_raises.py": "raise RuntimeError('in ' + __file__)\n",
    })
    here, there, expected, seen = run_both(site, "pkg", "t", "-rs", "--continue-on-collection-errors",
                                           own=[f"--dist={mode}"])
    assert counts(here) == {"passed": 12, "failed": 1, "skipped": 14, "errors": 3}, here
    assert counts(there) == counts(here), there
    assert seen == expected and skips(there) == skips(here)
    assert "SKIPPED [12] t/test_good.py:6: by itself" in skips(there)
    assert there.returncode == here.returncode == 1
    assert table(there) == table(here)
    titles = [re.findall(r"^_+ ERROR collecting .*", result.stdout, re.M) for result in (here, there)]
    assert titles[0] == titles[1] and len(titles[0]) == 3
    assert "importing test module '/home/ci/project/t/test_import.py'" in there.stdout
