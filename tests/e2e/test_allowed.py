"""Ordinary command lines: none is refused, each has the outcome that it has here, and at most one note.  ALLOWED.md lists them."""
import re
import shlex
from pathlib import Path

import pytest

from same import Same

PROJECT = {
    "pyproject.toml": """\
[tool.pytest.ini_options]
markers = ["slow: takes long"]
addopts = "-ra --strict-markers"
testpaths = ["tests"]
pythonpath = ["src"]
""",
    "src/pkg/__init__.py": 'def double(x):\n    """\n    >>> double(2)\n    4\n    """\n    return 2 * x\n',
    "ci/pytest.ini": "[pytest]\nmarkers = slow: takes long\nxfail_strict = true\npythonpath = ../src\n",
    "ci/coveragerc": "[run]\nbranch = true\nsource = pkg\n",
    "conftest.py": """\
import pytest

def pytest_addoption(parser):
    parser.addoption("--stage", default="ci")

@pytest.fixture
def stage(request):
    return request.config.getoption("stage")
""",
    "tests/unit/test_unit.py": """\
import logging, os, warnings
import pytest
from pkg import double

@pytest.mark.parametrize("x", range(3))
def test_double(x): assert double(x) == x + x

@pytest.mark.slow
def test_slow(tmp_path): (tmp_path / "x").write_text("x")

def test_fails(): assert double(1) == 3

@pytest.mark.xfail
def test_xpass(): pass

def test_logs(): logging.getLogger("a").info("words")

def test_warns(): warnings.warn("old", UserWarning)

def test_stage(stage): assert stage == "ci"

def test_prints(capsys):
    print("words")
    assert capsys.readouterr().out == "words\\n"
""",
    "tests/integration/conftest.py": """\
import subprocess, sys
import pytest

@pytest.fixture(scope="session")
def server():
    with subprocess.Popen([sys.executable, "-c", "import sys; print(sys.stdin.read())"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        yield process
""",
    "tests/integration/test_server.py": "def test_answers(server):\n    assert server.communicate('ping')[0] == 'ping\\n'\n",
    "services/api/pytest.ini": "[pytest]\nxfail_strict = true\n",
    "services/api/api/__init__.py": "VERSION = 1\n",
    "services/api/tests/test_api.py": """\
import pytest
from api import VERSION

def test_version(): assert VERSION == 1

@pytest.mark.xfail
def test_strict(): pass
""",
    "services/api/conftest.py": "",
    "doc/guide.md": ">>> 1 + 1\n2\n",
}


def rows():
    """[(command line, folder, environment)] of ALLOWED.md."""
    found = []
    for line in (Path(__file__).parent / "ALLOWED.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `"):
            words = [word.replace("$WORKSPACE", "/home/ci/project") for word in shlex.split(cells[0].strip("`"))]
            env = {}
            while words[0] != "pytest":
                name, _, value = words.pop(0).partition("=")
                env[name] = value
            found.append((words[1:], "" if cells[1] == "." else cells[1], env))
    return found


ROWS = rows()
HERE_ONLY = ("--collect-only", "--fixtures")


def test_there_are_enough():
    assert len(ROWS) >= 40


def notes(stderr):
    return [line for line in stderr.splitlines() if line.startswith("cloudplan: ") and not re.match(r"cloudplan: copied .* to \d+ of \d+ nodes", line)]


@pytest.mark.parametrize("args, folder, env", ROWS, ids=[" ".join([*env, folder, *args])[:60] for args, folder, env in ROWS])
def test_none_is_refused(site, args, folder, env):
    site.write(PROJECT)
    if set(args) & set(HERE_ONLY):
        _, there = Same(site).here(*args, folder=folder, env=env), Same(site).there("cloudplan", *args, folder=folder, env=env)
        assert there.status == 0, there
    else:
        here, there = Same(site).check(*args, way="cloudplan", folder=folder, env=env)
        assert here.tests and "cloudplan: copied" in there.result.stderr, there
    assert len(notes(there.result.stderr)) <= 1, there.result.stderr
