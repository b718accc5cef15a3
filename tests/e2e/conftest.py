"""What the end-to-end tests share: the built program, a world of real nodes, projects to run.

CLOUDPLAN names the built program (make e2e sets it), CLOUDPLAN_SRC the source tree.
"""
import os
import re
import shutil
import sys
import time
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
# The tests may themselves be run by pytest-xdist; what they start shall not take itself for one of its workers.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
    del os.environ[name]

import cloudnodes_keeper  # noqa: E402
import cloudnodes_patience  # noqa: E402
from cloudnodes import World, promised, slowed, wait_until  # noqa: E402

# Measured once: workers of pytest-xdist take over what was found here.
os.environ.setdefault("CLOUDPLAN_TEST_SLOWNESS", f"{cloudnodes_patience.SLOWNESS:.1f}")

SRC = Path(os.environ.get("CLOUDPLAN_SRC") or Path(__file__).resolve().parents[2])
PROGRAM = os.environ.get("CLOUDPLAN") or shutil.which("cloudplan") or str(SRC / "cloudplan")
PROJECT = "/home/ci/project"
PROBE_SECONDS = 10  # cloudplan's default
ID_MAX = 200  # characters of a test's name
ID_PART_MAX = 40  # of one parameter in it


def pytest_report_header():
    return f"slowness: {cloudnodes_patience.SLOWNESS:.1f} (CLOUDPLAN_TEST_SLOWNESS; see cloudnodes_patience.py)"


def pytest_make_parametrize_id(val):
    """A test's name is printed and logged many times over: a long or unprintable parameter is cut short in it.  pytest numbers
    those that are then the same."""
    if isinstance(val, (str, bytes)) and (len(val) > ID_PART_MAX or "\\" in ascii(val)):
        text = val if isinstance(val, str) else val.decode("latin-1")
        text = "".join(letter if letter.isprintable() and letter.isascii() else " " for letter in text[:10 * ID_PART_MAX])
        return " ".join(text.split())[:ID_PART_MAX] or "blank"
    return None


# The files that take longest, in this order: they begin first, so that no processor waits for the last of them at the end.
LONGEST = ("coverage", "develop", "plugin", "run", "settings", "lease_script", "modes", "killed", "lease", "verify", "plugin_results",
           "plugin_workers", "guard_script", "two_runs", "hostile", "lost_node")


def pytest_collection_modifyitems(items):
    """What names itself does so shortly."""
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    for item in items:
        if len(item.nodeid) > ID_MAX or not item.nodeid.isprintable():
            raise pytest.UsageError(f"give it an id that can be read: {ascii(item.nodeid)[:ID_MAX]}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    if outcome.get_result().failed:
        item.cloudplan_failed = True


def failed(request):
    """Whether a fixture is taken down after a test that failed: then nothing is judged or waited for, it is put back as it was."""
    return hasattr(request.node, "cloudplan_failed")


class Site:
    """A world with a project in the controller's home, and the program run in it."""

    living = []  # each one whose world is there

    def __init__(self, world):
        self.world = world
        self.nodes = world.nodes
        self.last_test = "its set-up"
        Site.living = [site for site in Site.living if site.world.machines] + [self]

    @property
    def project(self):
        return self.world.home / "project"

    def write(self, files):
        """Makes the project anew: {path: text}."""
        shutil.rmtree(self.project, ignore_errors=True)
        for name, text in files.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def argv(self, *args, nodes=None):
        chosen = self.nodes if nodes is None else nodes
        if cloudnodes_patience.SLOWNESS > 1 and args[0] in ("plan", "probe", "sync", "run") and not self._says_probe_timeout(args):
            args = (args[0], f"--cloud-probe-timeout={slowed(PROBE_SECONDS)}", *args[1:])
        return [PROGRAM, *args[:1], *(f"--cloud-node={n if isinstance(n, str) else n.name}" for n in chosen), *args[1:]]

    def _says_probe_timeout(self, args):
        files = [self.project / name for name in ("pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml")]
        return any(str(word).startswith("--cloud-probe-timeout") for word in args) or any(
            re.search("cloud.probe.timeout", file.read_text(errors="replace")) for file in files if file.is_file())

    def run(self, *args, nodes=None, cwd=PROJECT, **options):
        """cloudplan COMMAND ARGS... on these nodes (the world's by default)."""
        return self.world.run(self.argv(*args, nodes=nodes), cwd=cwd, **options)

    def popen(self, *args, nodes=None, cwd=PROJECT, **options):
        return self.world.popen(self.argv(*args, nodes=nodes), cwd=cwd, **options)

    def finish(self, running, input=None, timeout=30):
        """(stdout, stderr) of a process of popen(), as text; stderr is "" on a terminal."""
        out, err = running.communicate(input, timeout=timeout)
        return out.decode("utf-8", "replace"), (err or b"").decode("utf-8", "replace")

    def assert_nothing_left(self):
        """No process of a run on any node or here, no socket, no temporary file."""
        start = time.monotonic()
        for machine in [*self.nodes, self.world.controller]:
            wait_until(lambda m=machine: not m.processes(), timeout=15,
                       what=lambda m=machine: f"{m.host} to be empty: {m.processes()}")
        assert time.monotonic() - start < promised(15)
        left = [p for folder in ("tmp", "run", "var/tmp", "dev/shm")
                for p in (self.world.controller.root / folder).glob("cloudplan*")]
        assert [p for p in left if not p.name.startswith("cloudplan-leases-") or list(p.iterdir())] == []


def clean(site):
    """As new: nothing runs, no copies on the nodes, no project, usual facts."""
    for machine in site.world.machines:
        left = machine.end_processes()
        if left:
            warnings.warn(f"{site.last_test} left on {machine.host}: {left}")
    for node in site.nodes:
        for home in (node.home, node.dev_home):
            for path in home.glob("pytest_*"):
                shutil.rmtree(path)
        node.set_memory(available_mib=8192, total_mib=16384)
        node.set_cores(4)
        node.set_boot_id(f"00000000-0000-4000-8000-{node.number:012d}")
    (site.world.home / ".ssh/config").write_text("")
    shutil.rmtree(site.project, ignore_errors=True)


@pytest.fixture(scope="module")
def three_nodes():
    with World(nodes=3, visible=[os.path.dirname(os.path.realpath(PROGRAM))]) as world:
        yield Site(world)


@pytest.fixture
def site(three_nodes, request):
    clean(three_nodes)
    three_nodes.last_test = request.node.nodeid
    yield three_nodes
    if not failed(request):
        request.node.cloudplan_failed = True
        three_nodes.assert_nothing_left()
        del request.node.cloudplan_failed


@pytest.fixture(autouse=True)
def spoils_no_other(request):
    """What a test has started itself ends with it; where it failed, worlds that others use are put back as they were."""
    Site.living = [site for site in Site.living if site.world.machines]
    keeper = cloudnodes_keeper.Keeper([site.world for site in Site.living])
    before = cloudnodes_keeper.children()
    yield
    # A world that it has made for the tests that follow stays.
    worlds = {site.world.pid for site in Site.living if site.world.machines}
    left = cloudnodes_keeper.end_children(but=before | worlds)
    if left:
        warnings.warn(f"{request.node.nodeid} left running: {left}")
    if failed(request):
        keeper.restore()


@pytest.fixture
def make_site():
    """make_site(nodes=N, **options of World): a world for one test that breaks it."""
    made = []

    def make(**options):
        world = World(visible=[os.path.dirname(os.path.realpath(PROGRAM))], **options)
        world.__enter__()
        made.append(world)
        return Site(world)

    yield make
    for world in made:
        world.close()
