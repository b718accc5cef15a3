"""Ini files and pytest's own command line, with real nodes."""
import json
import os
import re
import shutil

import pytest

from conftest import PROGRAM, SRC

ONE_TEST = "import os\n\ndef test_one():\n    assert os.path.basename(os.getcwd()).startswith('pytest_ci_')\n"


def plan(site, *args, nodes=(), **options):
    return site.run("plan", "--format=json", *args, nodes=list(nodes), **options)


def document(result):
    assert result.returncode == 0, result
    return json.loads(result.stdout)


# Bad input


@pytest.mark.parametrize("name, text, words", [
    ("tox.ini", "[pytest]\ncloud_nodes = NODE\ncloud_mem_per_process = 1 GB\n",
     "cloudplan: tox.ini: --cloud-mem-per-process=1 GB: not a whole number of MiB"),
    ("pytest.ini", "[pytest]\ncloud_nodes = NODE\ncloud_probe_timeout = 0\n",
     "cloudplan: pytest.ini: --cloud-probe-timeout=0: not a number from 1 to 3600"),
    ("setup.cfg", "[tool:pytest]\ncloud_nodes = NODE\ncloud_chdir = /\n", "cloudplan: setup.cfg: --cloud-chdir=/: is the node's root"),
    pytest.param("setup.cfg", f"[tool:pytest]\ncloud_nodes = NODE\ncloud_chdir = {'x' * 600}\n",
                 f"cloudplan: setup.cfg: --cloud-chdir={'x' * 60}...: a path", id="long"),
    ("setup.cfg", "[tool:pytest]\ncloud_nodes = NODE\ncloud_develop_eggs = ../other\n", "cloudplan: setup.cfg: --cloud-develop-egg=../other: "),
    ("tox.ini", "[pytest]\ncloud_nodes = NODE\ncloud_virtualenv_path = nope\n", "cloudplan: tox.ini: --cloud-virtualenv-path=nope: "),
    ("tox.ini", "[pytest]\ncloud_nodes = NODE\ncloud_python = a//b\n", "cloudplan: tox.ini: --cloud-python=a//b: "),
    ("tox.ini", "[pytest]\ncloud_nodes = NODE\ncloud_python = a b\n", "cloudplan: tox.ini: --cloud-python=b: a second interpreter"),
    ("tox.ini", "[pytest]\ncloud_nodes = NODE\ncloud_python = a b c d e f g h i\naddopts = --dist=each\n",
     "cloudplan: tox.ini: --cloud-python: at most 8 interpreters"),
    ("tox.ini", "[pytest]\ncloud_nodes = NODE\ncloud_virtualenv_path = broken\n",
     "cloudplan: tox.ini: /home/ci/project/broken/bin/python3: No such file or directory; make"),
    ("tox.ini", "[pytest]\ncloud_nodes_from = nope\n", "cloudplan: tox.ini: nope: No such file"),
    ("tox.ini", "[pytest]\ncloud_nodes = NODE\ncloud_ship_plugin = x\n", "cloudplan: tox.ini: --cloud-ship-plugin=x: "),
    ("pyproject.toml", "[tool.pytest.ini_options]\ncloud_nodes = 'a//b'\n", "cloudplan: pyproject.toml: a//b: "),
    ("pyproject.toml", "[tool.pytest.ini_options\n# cloud_nodes\n", "cloudplan: pytest cannot read its configuration: "),
    ("pytest.ini", "[pytest]\naddopts = --cloud-nodes\n", "cloudplan: pytest cannot read its configuration: "),
])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_wrong_value_ends_in_one_line(site, name, text, words, command):
    site.write({name: text.replace("NODE", site.nodes[0].name), "test_a.py": ONE_TEST, "broken/pyvenv.cfg": "home = /usr/bin\n"})
    result = site.run(command, nodes=[])
    assert result.returncode == 65, result
    assert result.stderr.startswith(words), result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stdout == ""
    assert not (site.nodes[0].home / "pytest_ci_project").exists()


@pytest.mark.parametrize("command", ["sync", "run"])
@pytest.mark.parametrize("value, why", [
    ("nope", "tox.ini: --rsyncdir=/home/ci/project/nope: No such file or directory"),
    ("test_a.py", "tox.ini: --rsyncdir=/home/ci/project/test_a.py: not a directory"),
    ("..", "tox.ini: /home/ci: would be copied as a whole; name a directory in it"),
])
def test_a_wrong_directory_is_one_line(site, command, value, why):
    site.write({"tox.ini": f"[pytest]\nrsyncdirs = {value}\n", "test_a.py": ONE_TEST})
    result = site.run(command, nodes=site.nodes[:1])
    assert (result.returncode, result.stdout, result.stderr) == (65, "", f"cloudplan: {why}\n")
    assert not (site.nodes[0].home / "pytest_ci_project").exists()


def test_wrong_values_are_named_also_while_nodes_are_asked(site):
    site.write({"tox.ini": "[pytest]\ncloud_mem_per_process = x\n", "test_a.py": ONE_TEST})
    result = site.run("run")
    assert result.returncode == 65
    assert result.stderr == "cloudplan: tox.ini: --cloud-mem-per-process=x: not a whole number of MiB\n"


# Where values come from


INI = {
    "pytest.ini": "[pytest]\n",
    "tox.ini": "[pytest]\n",
    "setup.cfg": "[tool:pytest]\n",
    "pyproject.toml": "[tool.pytest.ini_options]\n",
}


@pytest.mark.parametrize("name", INI)
def test_every_ini_file(site, name):
    quote = '"' if name == "pyproject.toml" else ""
    values = {"cloud_nodes": " ".join(node.name for node in site.nodes), "cloud_max_processes": "2",
              "cloud_chdir": "from/ini", "cloud_mem_per_process": "100"}
    lines = "".join(f"{key} = {quote}{value}{quote}\n" for key, value in values.items())
    site.write({name: INI[name] + lines, "test_a.py": ONE_TEST})
    found = document(plan(site))
    assert [node["processes"] for node in found["nodes"]] == [2, 2, 2]
    assert all("//chdir=from/ini//" in spec for spec in found["tx"])


def test_the_command_line_wins(site):
    site.write({"tox.ini": f"[pytest]\ncloud_nodes = {site.nodes[0].name} {site.nodes[1].name}\ncloud_max_processes = 1\n"
                           "cloud_chdir = from/ini\n"})
    found = document(plan(site, "--cloud-max-processes=3", nodes=[site.nodes[2]]))
    assert [(node["name"], node["processes"]) for node in found["nodes"]] == [(site.nodes[2].name, 3)]
    assert all("//chdir=from/ini//" in spec for spec in found["tx"])
    found = document(plan(site, "--cloud-chdir=typed"))
    assert len(found["nodes"]) == 2 and all("//chdir=typed//" in spec for spec in found["tx"])
    # pytest's own arguments win over the ini file, too.
    found = document(plan(site, "--", "--cloud-max-processes=2"))
    assert [node["processes"] for node in found["nodes"]] == [2, 2]


def test_the_probe_asks_for_what_the_ini_file_says(site):
    """The nodes are connected to while pytest reads the ini file; what they are asked for comes from there."""
    foreign = site.nodes[0].home / "pytest_foreign"
    foreign.mkdir()
    (foreign / "x").write_text("")
    site.write({"tox.ini": "[pytest]\ncloud_chdir = pytest_foreign\n", "test_a.py": ONE_TEST})
    found = site.run("plan", "--format=json")
    states = [node["state"] for node in document(found)["nodes"]]
    assert states == ["unfit", "ready", "ready"], found.stderr
    site.write({"tox.ini": "[pytest]\ncloud_python = python9.9\n", "test_a.py": ONE_TEST})
    result = site.run("run")
    assert result.returncode == 69 and "no python9.9 on the node" in result.stderr


def test_ini_files_do_without_pytest_where_they_can(site):
    """probe and plan work where there is no pytest, and say what they could not read."""
    site.write({"tox.ini": "[pytest]\ncloud_max_processes = 1\n"})
    (site.world.home / "empty").mkdir(exist_ok=True)
    result = site.run("plan", "--format=json", env={"CLOUDPLAN_PYTHON": "/nonexistent/python3"})
    assert result.returncode in (0, 78)
    python = site.world.home / "python-without-pytest"
    python.write_text("#!/bin/sh\nexec /usr/bin/python3 -I -S \"$@\"\n")
    python.chmod(0o755)
    result = site.run("plan", "--format=json", env={"CLOUDPLAN_PYTHON": "/home/ci/python-without-pytest"})
    assert document(result)["processes"] == 12
    assert "ini files are not read: " in result.stderr and "no module named pytest" in result.stderr
    assert site.run("run", env={"CLOUDPLAN_PYTHON": "/home/ci/python-without-pytest"}).returncode == 78


def test_rsyncdirs_and_ignores_add_up(site):
    site.write({"tox.ini": "[pytest]\nrsyncdirs = pkg\nrsyncignore = *.log\n    doc\n", "pkg/a.py": "", "pkg/a.log": "", "pkg/a.tmp": "",
                "tests/test_a.py": ONE_TEST, "other/x": "", "doc/x": "", "pkg/doc/x": ""})
    result = site.run("run", "--rsyncdir=tests", "--rsyncdir=doc", "--rsyncignore=*.tmp", "--cloud-max-processes=1", "--", "tests")
    assert result.returncode == 0, result
    copy = site.nodes[0].home / "pytest_ci_project"
    there = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file() and "cache" not in str(path))
    assert there == [".cloudplan", "pkg/a.py", "pkg/doc/x", "tests/test_a.py"], there


def test_lists_of_an_old_conftest(site):
    site.write({"conftest.py": "pytest_option_tx = ['popen//id=mine']\nrsyncignore = ['doc']\n", "doc/x": "", "test_a.py":
                "import pytest\n@pytest.mark.parametrize('x', range(20))\ndef test_one(x): pass\n"})
    result = site.run("run", "--cloud-max-processes=1", "--", "-v")
    assert result.returncode == 0, result
    assert "mine" in set(re.findall(r"^\[(\S+)\]", result.stdout, re.M))
    assert len(re.findall(r"^cloudplan: conftest\.py: .*pytest_option_tx", result.stderr, re.M)) == 1
    assert not (site.nodes[0].home / "pytest_ci_project/doc").exists()


# pytest's command line


def pytest_command(site, *args, env=None, **options):
    folder = os.path.dirname(os.path.realpath(PROGRAM))
    return site.world.run(["python3", "-m", "pytest", "-p", "pytest_cloudplan", *args], cwd="/home/ci/project",
                          env={"PYTHONPATH": str(SRC / "scripts"), "CLOUDPLAN": PROGRAM, "PATH": f"{folder}:/usr/bin:/bin",
                               **(env or {})}, **options)


def test_pytest_s_own_command_line(site):
    site.write({"tests/test_a.py": ONE_TEST + "\ndef test_fails():\n    assert 0\n"})
    nodes = [f"--cloud-node={node.name}" for node in site.nodes]
    # A word that once was cloudplan's own, to its plugin: it would have run everything here.
    result = pytest_command(site, "tests/", *nodes, "--cloud-mem-per-process=1000", "--rsyncdir=.", "-v", env={"CLOUDPLAN_ENGINE": "1"})
    assert result.returncode == 1, result
    assert "1 failed, 1 passed" in result.stdout
    assert re.search(r"^\[10\.0\.120\.\d_\d\].* (PASSED|FAILED) tests/test_a.py::test_fails", result.stdout, re.M), result.stdout
    assert re.search(r"^10\.0\.120\.1 +ready", result.stderr, re.M)


def test_pytest_without_a_cloud_option_stays_here(site):
    site.write({"tox.ini": f"[pytest]\ncloud_nodes = {site.nodes[0].name}\n", "test_a.py": "import socket\n\ndef test_here():\n    assert socket.gethostname() == 'controller'\n"})
    result = pytest_command(site, "-q")
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    assert result.stderr == ""


def test_options_in_addopts(site):
    """Workers read the same ini file, and do not know these options by themselves."""
    site.write({"pytest.ini": f"[pytest]\naddopts = --cloud-nodes='{site.nodes[0].name} {site.nodes[1].name}' --cloud-max-processes=2 "
                              "--strict-config\ncloud_develop_eggs =\n", "test_a.py": ONE_TEST})
    result = pytest_command(site, "-q")
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    result = site.run("run", "--", "-q", nodes=[])
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    assert re.search(r"^10\.0\.120\.2 +ready .* 2 +max-processes", result.stderr, re.M)


def test_installed_from_the_source_tree(site):
    """By its entry point; on the nodes, too, where the copied virtualenv has it."""
    tree = site.world.home / "tree"
    shutil.copytree(SRC / "scripts", tree / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SRC / "pyproject.toml", tree)
    site.write({"tests/test_a.py": "import os, sys\n\ndef test_there():\n    assert sys.prefix == os.getcwd() + '/venv' == os.environ['VIRTUAL_ENV']\n"
                                   "    assert os.environ['PATH'].startswith(sys.prefix + '/bin:')\n"})
    site.world.run(["python3", "-m", "venv", "--system-site-packages", "venv"], cwd="/home/ci/project", check=True)
    before = sorted(str(path) for path in tree.rglob("*"))
    site.world.run(["venv/bin/pip", "install", "-q", "--no-index", "--no-deps", "/home/ci/tree"], cwd="/home/ci/project", check=True)
    assert before == sorted(str(path) for path in tree.rglob("*") if "__pycache__" not in path.parts)
    (installed,) = (site.project / "venv/lib").glob("python*/site-packages/pytest_cloudplan")
    assert sorted(path.name for path in installed.glob("*.py")) == sorted(path.name for path in (SRC / "scripts/pytest_cloudplan").glob("*.py"))
    (site.project / "venv/bin/cloudplan").symlink_to(PROGRAM)
    result = site.world.run(["venv/bin/python3", "-m", "pytest", "tests/", "-q", "--rsyncdir=.", "--cloud-max-processes=1",
                             "--cloud-rsync-bandwidth-limit=0", f"--cloud-node={site.nodes[0].name}"],
                            cwd="/home/ci/project", env={"PATH": "/usr/bin:/bin"})
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    assert re.search(r"^10\.0\.120\.1 +ready", result.stderr, re.M)
