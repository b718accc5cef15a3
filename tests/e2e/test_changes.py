"""How many files the usual changes touch (tests/changes/*.patch), and that they work: the measure of the house."""
import http.server
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

SRC = Path(os.environ["CLOUDPLAN_SRC"])
PATCHES = SRC / "tests/changes"
# At most so many files, man page and tests not counted.  An engine: its own folder counts as one; besides, the list of engines, and
# Makefile.am, since automake must be told each source.
MOST = {"fact": 3, "option": 3, "format": 2, "engine": 3, "url": 1}
TREE = ("configure.ac", "Makefile.am", "LICENSE", "README", "NEWS", "pyproject.toml", "src", "scripts", "man", "tests")


def touched(name):
    files = re.findall(r"^\+\+\+ b/(\S+)", (PATCHES / f"{name}.patch").read_text(), re.M)
    assert files
    return {re.sub(r"^(src/engine/\w+)/.*", r"\1", file) for file in files if not file.startswith(("man/", "tests/"))}


@pytest.mark.parametrize("name", sorted(MOST))
def test_few_files_are_touched(name):
    assert len(touched(name)) <= MOST[name], touched(name)


def test_each_patch_is_counted():
    assert {patch.stem for patch in PATCHES.glob("*.patch")} == set(MOST)


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """The program with all changes."""
    tree = tmp_path_factory.mktemp("changed")
    for name in TREE:
        copy = shutil.copytree if (SRC / name).is_dir() else shutil.copy2
        copy(SRC / name, tree / name, **({"ignore": shutil.ignore_patterns("*.o", ".deps", "__pycache__", "e2e")} if copy is shutil.copytree else {}))
    for name in MOST:
        done = subprocess.run(["patch", "-p1", "--no-backup-if-mismatch", "-i", str(PATCHES / f"{name}.patch")], cwd=tree, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    script = "autoreconf -fi && ./configure CFLAGS=-O0 && make -j2 WARN_CFLAGS=-Werror cloudplan"
    done = subprocess.run(["sh", "-c", script], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return tree / "cloudplan"


def run(program, *args):
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=300)


def test_an_option(changed):
    assert "--cloud-rsync-nice=N" in run(changed, "--help").stdout
    result = run(changed, "probe", "--cloud-node=:", "--cloud-rsync-nice=20")
    assert result.returncode == 64 and "--cloud-rsync-nice=20: not a number from 0 to 19" in result.stderr


def test_a_format(changed):
    result = run(changed, "plan", "--cloud-node=:", "--cloud-no-lease", "--format=names")
    assert (result.returncode, result.stdout) == (0, ":\n"), result


def test_a_fact(changed):
    """An answer with it is taken; the script that gives it is in the program."""
    assert b"swap_free" in changed.read_bytes()
    assert run(changed, "probe", "--cloud-node=:").returncode == 0


def test_an_engine(changed):
    assert b"each-label" in changed.read_bytes()


class Lists(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/nodes" else 404)
        self.end_headers()
        self.wfile.write(b"# a list\n:\n")

    def log_message(self, *_):
        pass


def test_nodes_from_a_url(changed):
    with http.server.HTTPServer(("127.0.0.1", 0), Lists) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        good = run(changed, "plan", f"--cloud-nodes-from={url}/nodes", "--cloud-no-lease", "--format=names")
        bad = run(changed, "plan", f"--cloud-nodes-from={url}/absent")
        server.shutdown()
    assert (good.returncode, good.stdout) == (0, ":\n"), good
    assert bad.returncode == 65 and "404" in bad.stderr, bad
