"""Which lines of a build with --enable-coverage the end-to-end tests run: CLOUDPLAN_COVERAGE is the build's directory.

A program of such a build counts in files beside its objects, where the tests' user may not write: it is given another place for them, and
what has come there is added to the build's own counts when the world ends.  Several workers at once would lose each other's.
"""
import os
import shutil
import subprocess
import tempfile

WANTED = os.environ.get("CLOUDPLAN_COVERAGE", "")
FOLDER = ".gcov"


def collect(home):
    counts = home / FOLDER / WANTED.lstrip("/")
    if not WANTED or not counts.is_dir():
        return
    with tempfile.TemporaryDirectory() as merged:
        subprocess.run(["gcov-tool", "merge", WANTED, counts, "-o", merged], check=True, capture_output=True)
        shutil.copytree(merged, WANTED, dirs_exist_ok=True)
