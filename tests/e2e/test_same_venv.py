"""The same verdict with virtualenvs and symbolic links: SAME.md, section 6."""
import re
import shutil
import subprocess

import pytest

from same import WAYS, Same

WHERE = """\
import os, sys
def test_prefix():
    assert os.path.relpath(sys.prefix, os.getcwd()) == VENV
def test_module():
    import only_there
    assert only_there.VALUE == 1
def test_fails():
    import only_there
    assert only_there.VALUE == 2
"""


@pytest.fixture(scope="module")
def virtualenv(three_nodes):
    """make(PLACE): a virtualenv in the project, for one test; made once for each place, as it does not like to be moved."""
    kept = {}

    def make(place):
        path = three_nodes.project / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if place not in kept or not kept[place].exists():
            three_nodes.world.run(["python3", "-m", "venv", "--system-site-packages", place], cwd="/home/ci/project", check=True)
            kept[place] = three_nodes.world.home / f"kept-{len(kept)}"
            path.rename(kept[place])
        shutil.copytree(kept[place], path, symlinks=True)
        (site_packages,) = path.glob("lib/*/site-packages")
        return site_packages

    yield make
    for path in kept.values():
        shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [".tox/py311", ".nox/tests-3"])
def test_below_a_name_that_is_never_copied(site, virtualenv, place, way):
    site.write({"test_where.py": WHERE.replace("VENV", repr(place))})
    packages = virtualenv(place)
    (packages / "only_there.py").write_text("VALUE = 1\n")
    (packages.parents[3] / "other").mkdir()
    (packages.parents[3] / "other/large").write_text("")
    python = f"/home/ci/project/{place}/bin/python3"
    Same(site).check("-q", way=way, python=python, env={"VIRTUAL_ENV": f"/home/ci/project/{place}"})
    copy = site.nodes[0].home / "pytest_ci_project" / place
    assert (copy / "pyvenv.cfg").exists() and [path.name for path in copy.parent.iterdir()] == [copy.name]


# Packages that pip installs in development mode, each with what builds it and with its own kind of reference to its place.
BACKENDS = {
    "setuptools": ("setuptools", "setuptools.build_meta", "src", ()),
    "strict": ("setuptools", "setuptools.build_meta", "src", ("editable_mode=strict",)),
    "compat": ("setuptools", "setuptools.build_meta", "src", ("editable_mode=compat",)),
    "finder": ("setuptools", "setuptools.build_meta", "", ()),
    "legacy": ("setuptools", None, "", ()),
    "flit": ("flit.buildapi", "flit.buildapi", "src", ()),
    "hatch": ("hatchling", "hatchling.build", "src", ()),
    "poetry": ("poetry.core", "poetry.core.masonry.api", "", ()),
    "pdm": ("pdm.pep517", "pdm.pep517.api", "src", ()),
}
TABLES = {
    "flit": '[project]\nname = "NAME"\ndynamic = ["version", "description"]\n',
    "hatch": '[project]\nname = "NAME"\nversion = "1.0"\n[tool.hatch.build]\ndev-mode-dirs = ["src"]\n',
    "poetry": '[tool.poetry]\nname = "NAME"\nversion = "1.0"\ndescription = ""\nauthors = []\n',
}
# As `editables` writes it for those back-ends that use it, where it is not installed itself.
REDIRECTOR = """\
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            from importlib.util import spec_from_file_location
            return spec_from_file_location(name, {path!r})
sys.meta_path.insert(0, Finder())
"""
PLACES = """\
import importlib, os, subprocess, sys
import pytest

@pytest.mark.parametrize("name", NAMES)
def test_value(name):
    module = importlib.import_module(name)
    assert module.VALUE == 1

@pytest.mark.parametrize("name", NAMES)
def test_place(name):
    module = importlib.import_module(name)
    assert module.__file__.startswith(os.getcwd() + os.sep)
    assert os.path.realpath(module.__file__).startswith(os.getcwd() + os.sep)

def test_script():
    text = subprocess.run([os.path.join(sys.prefix, "bin", "own-tool.py")], stdout=subprocess.PIPE, universal_newlines=True).stdout
    assert text == os.path.join(os.getcwd(), "packages/legacy/own-tool.py") + " 1\\n"

def test_link():
    with open("data/link") as file:
        assert file.read() == "1"
"""


def has(module):
    return subprocess.run(["/usr/bin/python3", "-c", "import " + module], stderr=subprocess.DEVNULL).returncode == 0


def write_packages(site, kinds):
    files = {"test_places.py": PLACES.replace("NAMES", repr([f"pkg_{kind}" for kind in kinds])), "data/file": "1"}
    for kind in kinds:
        _, backend, folder, _ = BACKENDS.get(kind, (None, None, "src", ()))
        name, place = f"pkg_{kind}", f"packages/{kind}"
        files[f"{place}/{folder}/{name}/__init__.py"] = '"""It."""\n__version__ = "1.0"\nVALUE = 1\n'
        if backend:
            files[f"{place}/pyproject.toml"] = (f'[build-system]\nrequires = []\nbuild-backend = "{backend}"\n' + TABLES.get(
                kind, '[project]\nname = "NAME"\nversion = "1.0"\n').replace("NAME", name))
    files["packages/legacy/own-tool.py"] = "#!/usr/bin/python3\nimport pkg_legacy\nprint(__file__, pkg_legacy.VALUE)\n"
    files["packages/legacy/setup.py"] = ("from setuptools import setup\nsetup(name='pkg_legacy', version='1.0', packages=['pkg_legacy'], "
                                         "scripts=['own-tool.py'])\n")
    site.write(files)
    (site.project / "data/link").symlink_to("/home/ci/project/data/file")


def install(site, packages, kinds):
    run = site.world.run
    for kind in kinds:
        if kind == "legacy":
            result = run(["../../venv/bin/python3", "setup.py", "-q", "develop"], cwd="/home/ci/project/packages/legacy")
        elif kind == "editables":
            place = "/home/ci/project/packages/editables/src/pkg_editables/__init__.py"
            (packages / "_pkg_editables.pth").write_text("import _editable_impl_pkg_editables")
            (packages / "_editable_impl_pkg_editables.py").write_text(REDIRECTOR.format(name="pkg_editables", path=place))
            continue
        else:
            settings = [f"--config-settings={word}" for word in BACKENDS[kind][3]]
            result = run(["venv/bin/python3", "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", *settings, "-e",
                          f"packages/{kind}"], cwd="/home/ci/project")
        assert result.returncode == 0, (kind, result)


@pytest.fixture(scope="module")
def kinds():
    """Those that can be built here; the others are named."""
    missing = [kind for kind, (module, _, _, _) in BACKENDS.items() if not has(module)]
    if missing:
        print("not installed here:", *missing)
    return [kind for kind in BACKENDS if kind not in missing] + ["editables"]


@pytest.mark.parametrize("way", WAYS)
def test_editable_installs(site, virtualenv, kinds, way):
    """Real ones; a source that is edited after the installation counts in the copy, and nothing of another place does."""
    write_packages(site, kinds)
    install(site, virtualenv("venv"), kinds)
    # At the place that it has here, a node has something else.
    for node in site.nodes[:2]:
        shutil.rmtree(node.home / "project", ignore_errors=True)
        shutil.copytree(site.project / "packages", node.home / "project/packages", symlinks=True)
        shutil.copytree(site.project / "data", node.home / "project/data", symlinks=True)
    same = Same(site)
    here, _ = same.check("-q", way=way, python="/home/ci/project/venv/bin/python3")
    assert here.status == 0 and len(here.tests) == 2 * len(kinds) + 2
    for kind in kinds:
        (path,) = (site.project / "packages" / kind).glob(f"**/pkg_{kind}/__init__.py") if kind != "strict" else [
            site.project / "packages/strict/src/pkg_strict/__init__.py"]
        path.write_text(path.read_text().replace("VALUE = 1", "VALUE = 2"))
    (site.project / "data/file").write_text("2")
    here, there = same.check("-q", way=way, python="/home/ci/project/venv/bin/python3")
    assert list(here.tests.values()).count("failed") == len(kinds) + 2
    assert "symbolic link" not in there.result.stderr
    for node in site.nodes[:2]:
        shutil.rmtree(node.home / "project")


@pytest.mark.parametrize("way", WAYS)
def test_links_that_lead_out(site, virtualenv, way):
    (site.world.home / "elsewhere").mkdir(exist_ok=True)
    (site.world.home / "elsewhere/data").write_text("1")
    site.write({"test_data.py": "import sys\ndef test_data(): assert open('data/far').read() == '1'\n"
                                "def test_directory(): assert open('dir/data').read() == '2'\n"
                                "def test_prefix(): assert sys.prefix.endswith('/venv')\n", "data/near": ""})
    virtualenv("venv")
    (site.project / "data/far").symlink_to("../../elsewhere/data")
    (site.project / "dir").symlink_to("/home/ci/elsewhere")
    (site.project / "node_modules").mkdir()
    (site.project / "node_modules/far").symlink_to("/home/ci/elsewhere")
    same, python = Same(site), "/home/ci/project/venv/bin/python3"
    told = same.there(way, "-q", python=python, nodes=site.nodes[:1])
    (line,) = re.findall("^.*symbolic link.*$", told.result.stderr, re.M)
    assert "2 symbolic links lead out" in line and "--cloud-copy-links" in line and "dir -> /home/ci/elsewhere" in line
    assert "data/far -> ../../elsewhere/data" in line
    for _ in range(2):
        _, there = same.check("-q", way=way, python=python, options=["--cloud-copy-links"])
        assert "symbolic link" not in there.result.stderr
    copy = site.nodes[0].home / "pytest_ci_project"
    assert not (copy / "data/far").is_symlink()
    assert (copy / "venv/bin/python3").readlink() == (site.project / "venv/bin/python3").readlink()
    # What would have no end is refused.
    (site.project / "data/up").symlink_to("/home/ci/project")
    refused = same.there(way, "-q", python=python, options=["--cloud-copy-links"])
    assert refused.status != 0 and refused.tests is None
    assert "data/up leads to a directory that holds it" in refused.result.stderr


@pytest.mark.parametrize("way", WAYS)
def test_a_virtualenv_outside_the_project(site, virtualenv, way):
    outside = site.world.home / "environments/other"
    if not outside.exists():
        site.world.run(["python3", "-m", "venv", "--system-site-packages", "--without-pip", str("/home/ci/environments/other")], check=True)
    (packages,) = outside.glob("lib/*/site-packages")
    (packages / "only_there.py").write_text("VALUE = 1\n")
    site.write({"test_where.py": "import only_there\ndef test_value(): assert only_there.VALUE == 1\n"
                                 "def test_fails(): assert only_there.VALUE == 2\n"})
    same, python = Same(site), "/home/ci/environments/other/bin/python3"
    env = {"VIRTUAL_ENV": "/home/ci/environments/other"}
    named = same.there(way, "-q", python=python, env=env, nodes=site.nodes[:1])
    lines = re.findall("^.*virtualenv.*$", named.result.stderr, re.M)
    assert [line for line in lines if "the active virtualenv /home/ci/environments/other is not used on the nodes" in line] == lines[:1], named
    assert "--cloud-virtualenv-path=/home/ci/environments/other would copy it" in lines[0]
    # With the remedy it is the same as here, and nothing need be said.
    _, there = same.check("-q", way=way, python=python, env=env, options=["--cloud-virtualenv-path=/home/ci/environments/other"])
    assert "active virtualenv" not in there.result.stderr


def test_what_cannot_be_made_to_name_the_copy(site, virtualenv):
    """Installed in development mode from elsewhere, by another name of the project, or so that it is built when it is imported."""
    site.write({"test_none.py": "def test_none(): pass\n", "src/mine.py": ""})
    packages = virtualenv("venv")
    library = site.world.home / "library"
    library.mkdir(exist_ok=True)
    (site.world.home / "alias").symlink_to("project")
    references = {"mine.pth": "/home/ci/project/src\n", "elsewhere.pth": "/home/ci/library\n", "gone.pth": "/home/ci/gone\n", "system.pth": "/usr/lib\n",
                  "alias.egg-link": "/home/ci/alias/src\n../\n", "_redirected.pth": "import _editable_impl_redirected\n",
                  "_editable_impl_redirected.py": "F.map_module('redirected', '/home/ci/library')\n",
                  "fine.pth": "import __editable___fine_finder; __editable___fine_finder.install()",
                  "__editable___fine_finder.py": "MAPPING = {'fine': '/home/ci/project/src/fine', \"x\": 'it\\'s'}\n",
                  "compiled-editable.pth": "import _compiled_editable_loader\n", "_compiled_editable_loader.py": "install('compiled', {'x'})\n"}
    for name, text in references.items():
        (packages / name).write_text(text)
    result = site.run("sync", "--cloud-rsync-bandwidth-limit=0", nodes=site.nodes[:1])
    (site.world.home / "alias").unlink()
    lines = sorted(re.findall(r"^cloudplan: (\S+) in the virtualenv (.*)", result.stderr, re.M))
    assert [name for name, _ in lines] == ["_redirected.pth", "alias.egg-link", "compiled-editable.pth", "elsewhere.pth"], result
    words = dict(lines)
    assert words["elsewhere.pth"] == ("names /home/ci/library, which is not copied: install it without -e, or copy that, too: "
                                      "--rsyncdir=. --rsyncdir=/home/ci/library")
    assert "another name of /home/ci/project/src" in words["alias.egg-link"] and "built anew" in words["compiled-editable.pth"]
    # With the remedy it is mapped, and nothing need be said of it.
    result = site.run("sync", "--cloud-rsync-bandwidth-limit=0", "--rsyncdir=.", "--rsyncdir=../library", nodes=site.nodes[:1])
    assert "/home/ci/library" not in result.stderr and result.returncode == 0, result
    copy = site.nodes[0].home / "pytest_ci_project/venv" / packages.relative_to(site.project / "venv")
    assert (copy / "elsewhere.pth").read_text() == "/home/ci/pytest_ci_project/library\n"
    assert "'/home/ci/pytest_ci_project/library'" in (copy / "_editable_impl_redirected.py").read_text()


@pytest.mark.parametrize("way", WAYS)
def test_an_egg_that_rsyncdir_brings(site, virtualenv, way):
    library = site.world.home / "library"
    (library / "pkg_brought").mkdir(parents=True, exist_ok=True)
    (library / "pkg_brought/__init__.py").write_text("VALUE = 1\n")
    (library / "setup.py").write_text("from setuptools import setup\nsetup(name='pkg_brought', version='1', packages=['pkg_brought'])\n")
    site.write({"test_brought.py": "import os, pkg_brought\ndef test_value(): assert pkg_brought.VALUE == 1\n"
                                   "def test_fails(): assert pkg_brought.VALUE == 2\n"})
    virtualenv("venv")
    same, python = Same(site), "/home/ci/project/venv/bin/python3"
    there = same.there(way, "-q", python=python, options=["--rsyncdir=.", "--rsyncdir=../library", "--cloud-develop-egg=../library"])
    here = same.here("-q", python=python, env={"PYTHONPATH": "/home/ci/library"})
    assert (there.status, there.tests) == (here.status, here.tests), there
    refused = same.there(way, "-q", python=python, options=["--cloud-develop-egg=../library"])
    assert refused.tests is None and "--rsyncdir=../library would copy it" in refused.result.stderr
