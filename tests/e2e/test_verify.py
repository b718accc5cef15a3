"""--verify: before the first test every copy is what is here, in content, names, modes and links, and nothing else is there
that a test could run."""
import os
import re
import socket

import pytest

from test_develop import EGGS, FAST, PACKAGES, packages, pip_runs, virtualenv  # noqa: F401 (fixtures)

FILES = {"test_a.py": "import mod\n\ndef test_a():\n    assert mod.VALUE == 1\n", "mod.py": "VALUE = 1\n", "d/e.txt": "x", "with blank": "y"}

# Stands before a node's rsync; when the copy is to be compared (-n), something has happened to it.  It has no HOME.
TAMPER = """#!/bin/sh
case " $* " in *' --server -n'*) (cd pytest_ci_project && . ../tamper) >/dev/null 2>&1 ;; esac
exec /usr/bin/rsync "$@"
"""
KEEP = "t=$(mktemp); touch -r {0} $t; {1}; touch -r $t {0}; rm $t"
# {what: (shell, the name that is told)}
TAMPERED = {
    "content": (KEEP.format("mod.py", "printf 'VALUE = 2\\n' >mod.py"), "mod.py"),
    "content of a link's target": (KEEP.format("d/e.txt", "printf z >link"), "d/e.txt"),
    "size": ("echo >>mod.py", "mod.py"),
    "time": ("touch -d 2001-01-01 mod.py", "mod.py"),
    "mode": ("chmod 755 mod.py", "mod.py"),
    "a directory's mode": ("chmod 755 d; chmod g+s d", "d/"),
    "a name": ("mv mod.py other.py", "(mod|other).py"),
    "an extra file": ("touch sitecustomize.py", "sitecustomize.py"),
    "an extra directory": ("mkdir extra", "extra/"),
    "an extra link": ("ln -s mod.py extra", "extra"),
    "a missing file": ("rm 'with blank'", "with blank"),
    "a missing directory": ("rm -r d", "d/"),
    "a link elsewhere": ("ln -sfn mod.py link", "link"),
    "a file in a link's place": ("rm link; echo x >link", "link"),
    "a link in a file's place": ("mv mod.py ../mod.py; ln -s ../mod.py mod.py", "mod.py"),
    "a link in a directory's place": ("mv d ../moved; ln -s ../moved d", "d/"),
    "a FIFO": ("rm mod.py; mkfifo mod.py", "mod.py"),
    "bytecode": ("mkdir -p __pycache__; echo x >__pycache__/mod.cpython-311.pyc", "__pycache__/.*"),
}


def write(site):
    site.write(FILES)
    (site.project / "link").symlink_to("d/e.txt")


KINDS = list(TAMPERED)


@pytest.mark.parametrize("kinds", [KINDS[i : i + 2] for i in range(0, len(KINDS), 2)], ids=", ".join)
def test_what_differs(site, kinds):
    write(site)
    good, *bad = site.nodes
    for node, what in zip(bad, kinds):
        (node.home / "fake").mkdir()
        (node.home / "fake/rsync").write_text(TAMPER)
        (node.home / "fake/rsync").chmod(0o755)
        (node.home / "tamper").write_text(TAMPERED[what][0] + "\n")
        (node.home / ".bashrc").write_text("PATH=~/fake:$PATH\n")
    try:
        result = site.run("run", "--verify", "--cloud-max-processes=1", "--", "-q", nodes=[good, *bad])
    finally:
        for node in bad:
            node.run(["rm", "-rf", "fake", "tamper", ".bashrc", "mod.py", "moved"])
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    assert f"{good.name} is left out" not in result.stderr
    for node, what in zip(bad, kinds):
        assert re.search(rf"^cloudplan: {node.name} is left out \(failed\): its copy is not what is here: \d+ differs?, such as "
                         rf"{TAMPERED[what][1]}$", result.stderr, re.M), (what, result.stderr)


def test_what_does_not_differ(site):
    """Things that are never copied, or not as they are, are no difference."""
    write(site)
    (site.project / "dangling").symlink_to("/nonexistent/x")
    (site.project / "mod.py").chmod(0o444)
    (site.project / "closed").mkdir(mode=0o500)
    (site.project / "new\nline").write_text("")
    (site.project / ".git").mkdir()
    os.mkfifo(site.project / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{os.open(site.project, os.O_PATH)}/socket")
        for _ in range(2):
            result = site.run("run", "--verify", "--cloud-max-processes=1", "--rsyncignore=*.log", "--", "-q")
            assert result.returncode == 0 and "is left out" not in result.stderr, result
            assert "1 passed" in result.stdout


def test_bytecode_of_something_else(site):
    """Python would run it: it takes a module's time and size for its content."""
    write(site)
    assert site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=site.nodes[:1]).returncode == 0
    there, before = site.nodes[0].home / "pytest_ci_project", (site.project / "mod.py").stat()
    (pyc,) = there.glob("__pycache__/mod.*.pyc")
    (site.project / "mod.py").write_text("VALUE = 0\n")
    os.utime(site.project / "mod.py", ns=(before.st_atime_ns, before.st_mtime_ns - before.st_mtime_ns % 10**9))
    stale = pyc.read_bytes()
    result = site.run("run", "--verify", "--cloud-max-processes=1", "--", "-q", nodes=site.nodes[:1])
    assert result.returncode == 1 and "1 failed" in result.stdout, result
    assert pyc.read_bytes() != stale


def test_virtualenv_and_packages_in_development_mode(packages):  # noqa: F811
    """What pip has made of an earlier copy is not what is here: it is made anew of what was compared."""
    site, node = packages, packages.nodes[0]
    result = site.run("run", *FAST, *EGGS, "--", "-q", "tests", nodes=[node])
    assert result.returncode == 0 and "4 passed" in result.stdout and pip_runs(node), result
    kept = node.home / "pytest_ci_project/.cloudplan-develop/files/tests"
    kept.mkdir(exist_ok=True)
    (kept / "test_tools.py").write_text("def test_other():\n    assert 0\n")
    result = site.run("run", "--verify", *FAST, *EGGS, "--", "-q", "tests", nodes=[node])
    assert result.returncode == 0 and "4 passed" in result.stdout and pip_runs(node), result
