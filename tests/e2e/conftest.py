"""What the end-to-end tests share: the built program, a world of real nodes, projects to run.

CLOUDPLAN names the built program (make e2e sets it), CLOUDPLAN_SRC the source tree.
"""
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
# The tests may themselves be run by pytest-xdist; what they start shall not take itself for one of its workers.
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
    del os.environ[name]

from cloudnodes import World, wait_until  # noqa: E402

SRC = Path(os.environ.get("CLOUDPLAN_SRC") or Path(__file__).resolve().parents[2])
PROGRAM = os.environ.get("CLOUDPLAN") or shutil.which("cloudplan") or str(SRC / "cloudplan")
PROJECT = "/home/ci/project"


class Site:
    """A world with a project in the controller's home, and the program run in it."""

    def __init__(self, world):
        self.world = world
        self.nodes = world.nodes

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
        return [PROGRAM, *args[:1], *(f"--cloud-node={n if isinstance(n, str) else n.name}" for n in chosen), *args[1:]]

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
        for machine in [*self.nodes, self.world.controller]:
            wait_until(lambda m=machine: not m.processes(), timeout=15, what=f"{machine.host} to be empty: {machine.processes()}")
        left = [p for folder in ("tmp", "run", "var/tmp", "dev/shm")
                for p in (self.world.controller.root / folder).glob("cloudplan*")]
        assert [p for p in left if p.name != "cloudplan-leases" or list(p.iterdir())] == []


def clean(site):
    """As new: no copies on the nodes, no project, usual facts."""
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
def site(three_nodes):
    clean(three_nodes)
    yield three_nodes
    three_nodes.assert_nothing_left()


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
