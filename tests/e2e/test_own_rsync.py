"""What a user's or a node's own settings have to say about rsync: nothing that a copy would depend on; limits are told."""
import re

import pytest

POPT = "rsync alias --delete-delay --delete-excluded --no-such-option\nrsync alias --delete --no-such-option\n" \
       "rsync alias -r --dry-run\nrsync exec --server /bin/false\nrsync alias --server --no-such-option\n"


def copied(node):
    folder = node.home / "pytest_ci_project"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".cloudplan"}


@pytest.fixture
def popt(site):
    paths = [site.world.home / ".popt", site.nodes[0].home / ".popt"]
    for path in paths:
        path.write_text(POPT)
    bashrc = site.nodes[1].home / ".bashrc"
    kept = bashrc.read_text() if bashrc.exists() else None
    bashrc.write_text("ulimit -f 8\n" + (kept or ""))
    yield
    for path in paths:
        path.unlink()
    bashrc.unlink() if kept is None else bashrc.write_text(kept)


def test_popt_environment_and_limits(site, popt):
    """One run: ~/.popt here and on the first node, variables of rsync's here, a limit of file sizes on the second node."""
    site.write({"test_a.py": "def test_a(): pass\n", "large": "x" * 100_000, "a b'c/\u00e9": "y"})
    (site.nodes[0].home / "pytest_ci_project").mkdir()
    (site.nodes[0].home / "pytest_ci_project/.cloudplan").touch()
    (site.nodes[0].home / "pytest_ci_project/gone").touch()
    result = site.run("sync", nodes=site.nodes[:2], timeout=120,
                      env={"RSYNC_ICONV": "utf8,latin1", "RSYNC_PARTIAL_DIR": "p", "RSYNC_PROTECT_ARGS": "1", "RSYNC_OLD_ARGS": "1"})
    assert result.returncode == 0, result
    assert copied(site.nodes[0]) == {"test_a.py", "large", "a b'c/\u00e9"}, result
    words = re.search(rf"{re.escape(site.nodes[1].name)} is left out \(failed\): (.*)", result.stderr).group(1)
    assert "File too large (27)" in words and "ulimit -f" in words and "large" in words, words


def test_ssh_keeps_home(site):
    """What rsync is kept from is what ssh and its commands need, whatever is in the name."""
    name = "/home/ci/an \"other\" ho'me"
    script = site.world.home / "told"
    script.write_text("#!/bin/sh\nprintf '%s\\n' \"${HOME-unset}\" >>/home/ci/homes\n")
    script.chmod(0o755)
    (site.world.home / ".ssh/config").write_text("Match exec /home/ci/told\n    User ci\n")
    site.write({"test_a.py": "def test_a(): pass\n"})
    result = site.run("sync", nodes=site.nodes[:1], env={"HOME": name}, timeout=120)
    assert result.returncode == 0 and copied(site.nodes[0]) == {"test_a.py"}, result
    assert set((site.world.home / "homes").read_text().splitlines()) == {name}
