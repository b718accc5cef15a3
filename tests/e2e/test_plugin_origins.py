"""scripts/pytest_cloudplan/origins.py and what the gate lets through to it."""
import sys

import pytest

from plugin_project import SCRIPTS, Project

sys.path.insert(0, str(SCRIPTS))
from pytest_cloudplan import gate, origins, paths  # noqa: E402

GOOD = {"modules": (("shop", False, False, (("src/shop.py", "src/shop.py"),)),), "path": ("src", "/usr/lib/python3")}


@pytest.mark.parametrize("change", [
    {"modules": None}, {"path": None}, {"modules": "shop"}, {"path": "src"}, {"path": (1,)}, {"path": ("a\0b",)}, {"path": ("x" * 9000,)},
    {"path": ("src",) * 1001}, {"modules": (("a.b", False, False, ()),)}, {"modules": (("os; x", False, False, ()),)},
    {"modules": (("a", 1, False, ()),)}, {"modules": (("a", False, None, ()),)}, {"modules": (("a", False, False, (("b",),)),)},
    {"modules": (("a", False, False, (("b", None),)),)}, {"modules": (("a", False, False, (("b", "b"),) * 101),)},
    {"modules": (("a", False, False, ()),) * 10001}, {"modules": (("a" * 201, False, False, ()),)},
])
def test_nonsense_is_refused(change):
    with pytest.raises(gate.Nonsense):
        gate.origins(dict(GOOD, **change))


def test_a_report_is_data_that_can_be_remembered():
    assert gate.origins(GOOD) == (GOOD["modules"], GOOD["path"])
    assert gate.origins({"modules": [], "path": []}) == ((), ())


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root, in which no place was looked at before."""
    monkeypatch.setattr(paths, "ROOT", str(tmp_path))
    monkeypatch.setattr(paths, "START", str(tmp_path))
    monkeypatch.setattr(origins, "in_environment", lambda place, known={}, real=origins.in_environment: real(place, known=dict()))
    return tmp_path


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('imported')\n")


def difference(name, *there, path=(), namespace=False, standard=False):
    return origins.Origins().difference(((name, namespace, standard, tuple((item, item) for item in there)),), tuple(path))


def test_a_module_that_a_worker_has_from_elsewhere(root):
    write(root, "src/cp_shop/__init__.py")
    elsewhere = "/site/cp_shop/__init__.py"
    assert difference("cp_shop", elsewhere, path=["src"]) == "cp_shop comes from /site/cp_shop there, from src/cp_shop here"
    assert difference("cp_shop", "src/cp_shop/__init__.py", path=["src"]) is None
    assert difference("cp_shop", "src/cp_shop/__init__.pyc", path=["src"]) is None
    assert difference("cp_shop", elsewhere) is None  # nothing leads to it here


def test_only_a_directory_that_a_worker_does_not_have_tells_one_copied_module_from_another(root):
    write(root, "src/cp_shop.py", "cp_shop.py")
    assert difference("cp_shop", "cp_shop.py", path=[".", "src"]) is None
    assert difference("cp_shop", "cp_shop.py", path=["src", "."]) is None  # imported before src was there


def test_a_directory_of_this_machine_alone(root, monkeypatch):
    write(root, "src/cp_shop.py", "old/cp_shop.py")
    monkeypatch.syspath_prepend(str(root / "src"))
    assert difference("cp_shop", "old/cp_shop.py", path=["/site", "old"]) == "cp_shop comes from old/cp_shop.py there, from src/cp_shop.py here"


@pytest.mark.parametrize("place", ["../x", "a/../../x"])
def test_no_place_outside_the_root_is_looked_at(root, place):
    write(root.parent, "x/cp_shop.py")
    report = origins.Report((), (place, "src"))
    assert report.entries == {"src"}
    assert not [entry for entry in report.path if str(root.parent / "x") in entry]


def test_what_a_virtualenv_in_the_root_has_installed(root, monkeypatch):
    write(root, "env/lib/python3/site-packages/cp_shop.py", "env/pyvenv.cfg")
    monkeypatch.syspath_prepend(str(root / "env/lib/python3/site-packages"))
    assert difference("cp_shop", "/site/cp_shop.py") is None
    (root / "env/pyvenv.cfg").unlink()
    assert difference("cp_shop", "/site/cp_shop.py")


def test_an_extension_module_of_another_python(root):
    write(root, "src/cp_fast.py")
    place = "src/cp_fast.cpython-37m-aarch64-linux-gnu.so"
    assert difference("cp_fast", place, path=["src"]) is None


def test_links(root):
    write(root, "real/cp_shop.py")
    (root / "src").symlink_to("real")
    assert difference("cp_shop", "src/cp_shop.py", path=["src"]) is None
    assert difference("cp_shop", "real/cp_shop.py", path=["src"]) is None


def test_namespace_packages(root):
    write(root, "a/cp_ns/x.py", "b/cp_ns/y.py")
    for there in ["a/cp_ns", "b/cp_ns"], ["a/cp_ns", "b/cp_ns", "/site/cp_ns"]:
        assert difference("cp_ns", *there, path=["a", "b"], namespace=True) is None
    for there in ["b/cp_ns", "a/cp_ns"], ["a/cp_ns"], ["/site/cp_ns", "a/cp_ns", "b/cp_ns"]:
        assert difference("cp_ns", *there, path=["a", "b"], namespace=True).endswith("there, from a/cp_ns:b/cp_ns here")
    assert difference("cp_ns", "/site/cp_ns/__init__.py", path=["a", "b"])


def test_a_directory_without_code_is_no_package(root):
    (root / "cp_data").mkdir()
    (root / "cp_data/words.txt").write_text("")
    assert difference("cp_data", "/site/cp_data/__init__.py", path=["."]) is None


def test_the_standard_library_was_there_before(root):
    write(root, "cp_std.py")
    assert difference("cp_std", "/usr/lib/python3.11/cp_std.py", path=["."], standard=True) is None
    assert difference("cp_std", "/usr/lib/python3.11/cp_std.py", path=["."])


def test_what_this_process_has_imported_counts(root, monkeypatch):
    write(root, "src/cp_shop.py")
    module = type(sys)("cp_shop")
    module.__file__ = str(root / "src/cp_shop.py")
    monkeypatch.setitem(sys.modules, "cp_shop", module)
    assert difference("cp_shop", "/site/cp_shop.py") == "cp_shop comes from /site/cp_shop.py there, from src/cp_shop.py here"
    module.__file__ = "/site/cp_shop.py"
    assert difference("cp_shop", "/elsewhere/cp_shop.py", path=["src"]) is None


def test_workers_that_tell_the_same_are_compared_once(root, monkeypatch):
    reports = []
    monkeypatch.setattr(origins.Report, "difference", lambda report: reports.append(report))
    known = origins.Origins()
    for _ in range(512):
        known.difference(*gate.origins(GOOD))
    assert len(reports) == 1


def test_a_node_that_imports_another_release_at_its_start(tmp_path):
    """By a path that its Python alone has; the other node runs all tests."""
    project = Project(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "shop.py").write_text("")
    (tmp_path / "python").write_text(f"#!/bin/sh\nPYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{other} exec {sys.executable} \"$@\"\n")
    (tmp_path / "python").chmod(0o755)
    project.write("src/shop.py", "")
    project.write("tests/conftest.py", "import os, sys\nsys.path.append(os.path.abspath('src'))\nimport shop\n")
    run = project.run([project.ssh("a"), project.ssh("b", python=tmp_path / "python")], "tests")
    assert run.status == 0 and run.counts()["passed"] == 3, run
    reason = f"shop comes from {other}/shop.py there, from src/shop.py here"
    assert f"cloudplan: b_0 on b is lost ({reason})" in run.lines, run
    run = project.run([project.ssh("b", n, python=tmp_path / "python") for n in range(2)], "--dist=each", "tests")
    assert run.status == 69 and "no worker is left: " + reason in run.out, run
    assert "passed" not in run.out, run
