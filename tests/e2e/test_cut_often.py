"""A connection that is cut again and again brings the copy all the same, as long as each try brings something."""
import itertools
import os
import threading

import pytest

from cloudnodes_peers import Peer

COPY = "copies/project"  # below the home: absolute, so that it does not depend on the login's directory
NUMBERS = itertools.count(180)
EACH = 250_000  # bytes to the node until a connection is cut


class Cutting:
    """Passes bytes to and from a node's sshd, and closes each connection when so many have gone to the node."""

    def __init__(self, world, name, node, limit):
        world.bridge.as_root(["ip", "addr", "add", name + "/21", "dev", "br0"])
        world._know([name], node.public_keys())
        self.world, self.name, self.node, self.limit, self.cuts = world, name, node, limit, 0
        self.peer = Peer(world.bridge.listen(22, name), self.serve)

    def serve(self, connection):
        far = self.world.bridge.socket()
        far.connect((self.node.name, self.node.port))

        def back():
            try:
                while data := far.recv(1 << 16):
                    connection.sendall(data)
            except OSError:
                pass
            try:
                connection.shutdown(2)
            except OSError:
                pass

        thread = threading.Thread(target=back, daemon=True)
        thread.start()
        left = self.limit
        try:
            while left > 0 and (data := connection.recv(min(1 << 14, left))):
                far.sendall(data)
                left -= len(data)
        except OSError:
            pass
        self.cuts += left == 0
        for end in (far, connection):
            try:
                end.shutdown(2)
            except OSError:
                pass
        thread.join()
        far.close()
        connection.close()


@pytest.fixture
def cut_site(site):
    made = []

    def make(limit):
        made.append(Cutting(site.world, f"10.0.120.{next(NUMBERS)}", site.nodes[0], limit))
        return made[-1]

    yield site, make
    for one in made:
        one.peer.stop()


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_try_brings_more(cut_site):
    site, make = cut_site
    cutting = make(EACH)
    site.write({"test_a.py": "def test_a(): pass\n"})
    (site.project / "large").write_bytes(os.urandom(600_000))
    # Each try brings some of these, which its sender does not know: it has sent more than has come.
    (site.project / "many").mkdir()
    for number in range(120):
        (site.project / f"many/{number}").write_bytes(os.urandom(7_000))
    copy = site.nodes[0].home / COPY
    # What an earlier run has left of a file that is no longer there goes, too.
    (copy / ".cloudplan-partial").mkdir(parents=True)
    (copy / ".cloudplan").touch()
    (copy / ".cloudplan-partial/gone").touch()
    result = site.run("sync", f"--cloud-chdir={site.nodes[0].home_path}/{COPY}", "--cloud-rsync-bandwidth-limit=0", "--verify",
                      nodes=[cutting.name], timeout=300)
    assert result.returncode == 0, result
    assert cutting.cuts > 4, cutting.cuts  # three tries would not have been enough
    there = files(copy)
    there.pop(".cloudplan")
    assert there == files(site.project)
    assert sorted(path.name for path in copy.iterdir()) == [".cloudplan", "large", "many", "test_a.py"]


def test_one_that_brings_nothing_ends(cut_site):
    """Cut before anything has come through: the node is out after three tries."""
    site, make = cut_site
    cutting = make(60_000)
    site.write({"test_a.py": "def test_a(): pass\n"})
    (site.project / "large").write_bytes(os.urandom(2_000_000))
    result = site.run("sync", "--cloud-rsync-bandwidth-limit=0", nodes=[cutting.name], timeout=200)
    assert result.returncode in (69, 74), result
