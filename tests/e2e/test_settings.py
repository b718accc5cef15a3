"""scripts/pytest_cloudplan/__init__.py with this interpreter's pytest: what it answers to cloudplan, and how a user's
`pytest --cloud-...` becomes `cloudplan run`.  No node is needed: cloudplan is a script that prints what it was given."""
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cloudnodes import patience
from conftest import PROGRAM, SRC

SCRIPTS = SRC / "scripts"
DEADLINE = patience(90)

FAKE_CLOUDPLAN = """#!/bin/sh
for word; do printf '[%s]\\n' "$word"; done
printf 'python=%s\\n' "$CLOUDPLAN_PYTHON"
if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then echo terminal; fi
read -r line && printf 'stdin=%s\\n' "$line"
exit 7
"""


class Project:
    def __init__(self, tmp_path):
        self.tmp = tmp_path
        self.root = tmp_path / "project"
        self.root.mkdir()
        self.file = tmp_path / "settings.json"
        self.site = tmp_path / "site"
        self.write("tests/test_x.py", "def test_x(): pass\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def environ(self, **more):
        drop = ("PYTEST_", "CLOUDPLAN", "COV_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SCRIPTS), env.get("PYTHONPATH")]))
        env.update(PYTHONDONTWRITEBYTECODE="1", COLUMNS="200", NO_COLOR="1", **more)
        return env

    def pytest(self, *args, cwd=None, **more):
        return subprocess.run([sys.executable, "-m", "pytest", *args], cwd=cwd or self.root, env=self.environ(**more),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)

    def ask(self, *args, cwd=None, **more):
        """As cloudplan asks: (answer, finished process)."""
        if self.file.exists():
            self.file.unlink()
        more = {"PYTEST_PLUGINS": "pytest_cloudplan", **more}
        done = self.pytest(*args, cwd=cwd, _CLOUDPLAN_ENGINE="1", _CLOUDPLAN_SETTINGS=str(self.file),
                           _CLOUDPLAN_SHIP=str(self.site), **{"_CLOUDPLAN_SHIP_FORCE": "", "_CLOUDPLAN_SHIP_PLUGINS": "", **more})
        return json.loads(self.file.read_bytes()) if self.file.exists() else None, done

    def answer(self, *args, **more):
        answer, done = self.ask(*args, **more)
        assert answer and "error" not in answer, (answer, done)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        return answer

    def options(self, *args, **more):
        return [tuple(option[key] for key in ("name", "value", "origin")) for option in self.answer(*args, **more)["options"]]

    def refused(self, *args, **more):
        answer, done = self.ask(*args, **more)
        assert answer and set(answer) == {"version", "error"}, (answer, done)
        assert "\n" not in answer["error"]["text"]
        return answer["error"]["status"], answer["error"]["text"]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def cloudplan(project):
    """The directory of a program cloudplan that says how it was called."""
    program = project.tmp / "bin" / "cloudplan"
    program.parent.mkdir()
    program.write_text(FAKE_CLOUDPLAN)
    program.chmod(0o755)
    return program


def ini(**values):
    return "[pytest]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


# Bad input


@pytest.mark.parametrize("key, value, why", [
    ("cloud_node", "'a", "No closing quotation"),
    ("cloud_develop_eggs", "'a", "No closing quotation"),
    ("rsyncdirs", "'a", "No closing quotation"),
    ("rsyncignore", "'a", "No closing quotation"),
    ("cloud_ship_pytest", "perhaps", "cloud_ship_pytest = perhaps: is neither true nor false"),
    ("cloud_chdir", "a\0b", "holds a NUL character"),
])
@pytest.mark.parametrize("name", ["tox.ini", "-o"])
def test_a_bad_value_is_one_line_that_names_the_file(project, name, key, value, why):
    project.write("tox.ini", ini(**{key: value}) if name == "tox.ini" else ini())
    if name == "-o" and "\0" in value:
        return
    args = ["-o", f"{key}={value}"] if name == "-o" else []
    status, text = project.refused(*args)
    assert status == 65 and text.endswith(why)
    if "\0" not in value:
        assert text.startswith(f"{name}: {key}")


def test_a_bad_value_in_toml(project):
    project.write("pyproject.toml", '[tool.pytest.ini_options]\ncloud_chdir = ["a", "b"]\n')
    assert project.refused() == (65, "pyproject.toml: cloud_chdir: needs one value")


@pytest.mark.parametrize("files, args, said", [
    ({"pyproject.toml": "[tool.pytest.ini_options\n"}, [], r"at line 1, column 25"),
    ({"tox.ini": "[pytest\n"}, [], r"tox\.ini:1: "),
    ({"setup.cfg": "[pytest]\n"}, [], r"\[pytest\] section in setup\.cfg"),
    ({}, ["--cloud-node"], r"error: argument --cloud-node: expected one argument"),
    ({}, ["--cloud-ship-pytest=yes"], r"error: argument --cloud-ship-pytest: ignored explicit argument 'yes'"),
    ({"tox.ini": ini(addopts="--cloud-chdir")}, [], r"error: argument --cloud-chdir: expected one argument"),
    ({"tox.ini": ini(addopts="'")}, [], r"No closing quotation"),
    ({"tox.ini": ini(required_plugins="pytest-of-nobody")}, [], r"Missing required plugins: pytest-of-nobody"),
    ({}, ["-p", "plugin_of_nobody"], r"plugin_of_nobody"),
    ({"conftest.py": "rsyncdirs = list('a')\nimport module_of_nobody\n"}, [], r"module_of_nobody"),
])
def test_what_pytest_refuses_it_says_itself(project, files, args, said):
    for name, text in files.items():
        project.write(name, text)
    answer, done = project.ask(*args)
    assert answer is None and done.returncode not in (0, 7)
    assert re.search(said, (done.stdout + done.stderr).decode())


@pytest.mark.parametrize("words, text", [
    (["-f"], "-f (--looponfail): runs tests on this machine alone, and never ends; cloudplan's is --watch"),
    (["--pdb"], "--pdb: a test on a node cannot be debugged from here; leave it out, or add --dist=no, which runs all tests here"),
    (["--dist=load", "--trace"],
     "--trace: a test on a node cannot be debugged from here; leave it out, or add --dist=no, which runs all tests here"),
    (["-p", "no:xdist"], "-p no:xdist: cloudplan needs pytest-xdist, which deals out the tests; leave this out"),
    (["-p", "no:cloudplan.controller"], "-p no:pytest_cloudplan.controller: cloudplan needs its plugin; leave this out"),
])
def test_what_cannot_be_on_nodes(project, words, text):
    assert project.refused(*words) == (64, text)
    project.write("pytest.ini", "[pytest]\naddopts = " + " ".join(words) + "\n")
    assert project.refused() == (64, text)


@pytest.mark.parametrize("words, addopts, own, here", [
    ([], "", "", None),
    (["tests", "-x"], "", "", None),
    (["--dist=no"], "", "", "--dist=no"),
    (["--dist=no", "--pdb"], "--dist=load", "", "--dist=no"),
    (["--trace"], "", "no", "--dist=no"),
    (["--dist=load"], "", "no", None),
    (["-d"], "--dist=no", "", None),
    ([], "--dist=no", "", None),
    (["--co", "--pdb"], "", "", "--collect-only"),
    ([], "--collect-only", "load", "--collect-only"),
    (["-h"], "", "", "--help"),
    (["--version"], "", "", "--version"),
    (["--markers"], "", "", "--markers"),
    (["--cache-show"], "", "", "--cache-show"),
    (["--fixtures-per-test"], "", "", "--fixtures-per-test"),
    (["--funcargs"], "", "", "--fixtures"),
    (["--setup-plan"], "", "", "--setup-plan"),
    (["--setup-only", "-n2"], "", "", "--setup-only"),
    (["--setup-show"], "", "", None),
])
def test_what_takes_no_node(project, words, addopts, own, here):
    project.write("tox.ini", ini(addopts=addopts))
    assert project.answer(*words, _CLOUDPLAN_DIST=own)["here"] == here


def test_plugins_that_are_not_loaded_by_themselves(project):
    """pytest-xdist's options are known all the same."""
    answer = project.answer("--dist=loadfile", "-n2", "tests", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert answer["dist"] == "loadfile" and answer["args"] == ["--dist=loadfile", "-n2", "tests"]


def test_a_slip_in_a_name(project):
    assert project.refused("--cloud-nod=a") == (64, "--cloud-nod: unknown option; is it --cloud-node?")
    project.write("tox.ini", ini(cloud_mem_per_proces=1000))
    answer = project.answer()
    assert answer["options"] == []
    assert answer["notes"] == ["tox.ini: cloud_mem_per_proces: unknown; is it cloud_mem_per_process?"]


@pytest.mark.parametrize("tx, why", [
    ("nonsense", "it names no way to a worker: popen, ssh=[USER@]HOST or socket=HOST:PORT"),
    ("10001*popen", "more than 10000 workers"),
    ("ssh=h//node=h//ssh_config=F", "node= is for the workers that cloudplan plans: leave it out"),
    ("popen//popen", "duplicate key: 'popen' in 'popen//popen'"),
])
def test_an_environment_that_cannot_be(project, tx, why):
    assert project.refused("--tx", tx) == (64, f"--tx={tx}: {why}")
    assert project.refused(_CLOUDPLAN_TX=f"popen\x1f{tx}") == (64, f"--tx={tx}: {why}")
    project.write("conftest.py", f"pytest_option_tx = ['{tx}']\n")
    assert project.refused() == (65, f"conftest.py: --tx={tx}: {why}")


def test_bytes_that_are_no_text(project):
    for args in ([b"tests/\xff"], [b"--cloud-chdir=\xff"]):
        status, text = project.refused(*args)
        assert status == 65 and text.endswith("is not UTF-8: use another name")


def test_other_options_of_these_names(project):
    """pytest-cloud, as it is installed."""
    folder = project.tmp / "installed"
    (folder / "pytest_cloud").mkdir(parents=True)
    (folder / "pytest_cloud/plugin.py").write_text(
        "def pytest_addoption(parser):\n    parser.getgroup('cloud').addoption('--cloud-node', action='append', dest='cloud_nodes')\n")
    (folder / "pytest_cloud/__init__.py").write_text("")
    (folder / "pytest_cloud-5.0.3.dist-info").mkdir()
    (folder / "pytest_cloud-5.0.3.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: pytest-cloud\nVersion: 5.0.3\n")
    (folder / "pytest_cloud-5.0.3.dist-info/entry_points.txt").write_text("[pytest11]\npytest-cloud = pytest_cloud.plugin\n")
    path = os.pathsep.join([str(folder), project.environ()["PYTHONPATH"]])
    line = ("ERROR: cloudplan takes the place of pytest-cloud, and both have the option --cloud-node: uninstall pytest-cloud "
            f"({sys.executable} -m pip uninstall pytest-cloud)")
    for args, more in ((["-p", "pytest_cloudplan"], {}), ([], {"PYTEST_PLUGINS": "pytest_cloudplan"})):
        done = subprocess.run([sys.executable, "-m", "pytest", *args], cwd=project.root, stdin=subprocess.DEVNULL,
                              env={**project.environ(**more), "PYTHONPATH": path}, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 4 and done.stdout == ""
        assert done.stderr.strip() == line
    # Switched off it is no obstacle.
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "pytest_cloudplan", "-p", "no:pytest-cloud"], cwd=project.root,
                          stdin=subprocess.DEVNULL, env={**project.environ(), "PYTHONPATH": path}, capture_output=True,
                          timeout=DEADLINE)
    assert done.returncode == 0, done


# Where values come from


@pytest.mark.parametrize("name, head, quoted", [
    ("pytest.ini", "[pytest]", False),
    (".pytest.ini", "[pytest]", False),
    ("tox.ini", "[pytest]", False),
    ("setup.cfg", "[tool:pytest]", False),
    ("pyproject.toml", "[tool.pytest.ini_options]", True),
])
def test_every_kind_of_ini_file(project, name, head, quoted):
    values = {"cloud_node": "a 'b c'\n  d", "cloud_mem_per_process": "1000", "cloud_rsync_cipher": "", "cloud_chdir": "",
              "cloud_ship_pytest": "no", "cloud_python": "python3.9 python3.11"}
    if quoted:
        values.update(cloud_node='["a", "b c", "d"]', cloud_rsync_cipher='""', cloud_chdir='""', cloud_ship_pytest="false",
                      cloud_python='"python3.9 python3.11"')
    project.write(name, head + "\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
    answer = project.answer()
    assert answer["inifile"] == str(project.root / name) and answer["rootdir"] == str(project.root)
    assert [(o["name"], o["value"]) for o in answer["options"]] == [
        ("cloud-node", "a"), ("cloud-node", "b c"), ("cloud-node", "d"), ("cloud-mem-per-process", "1000"),
        ("cloud-rsync-cipher", ""), ("cloud-python", "python3.9"), ("cloud-python", "python3.11")]
    assert {o["origin"] for o in answer["options"]} == {name}


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest.toml and [tool.pytest] come with pytest 9")
@pytest.mark.parametrize("name, head", [("pytest.toml", "[pytest]"), (".pytest.toml", "[pytest]"), ("pyproject.toml", "[tool.pytest]")])
def test_toml_with_types(project, name, head):
    project.write(name, head + '\ncloud_mem_per_process = 1000\ncloud_node = ["a", "b"]\ncloud_nodes = "c d"\ncloud_ship_pytest = true\n'
                  'cloud_python = [3, 4]\nrsyncdirs = "tests"\nrsyncignore = ["*.log"]\n')
    assert [(option[0], option[1]) for option in project.options()] == [
        ("cloud-node", "a"), ("cloud-node", "b"), ("cloud-nodes", "c"), ("cloud-nodes", "d"), ("cloud-mem-per-process", "1000"),
        ("cloud-python", "3"), ("cloud-python", "4"), ("cloud-ship-pytest", None), ("rsyncdir", str(project.root / "tests")),
        ("rsyncignore", "/**.log")]


def test_without_an_ini_file(project):
    answer = project.answer("tests")
    assert answer["inifile"] is None and answer["rootdir"] == str(project.root)
    assert (answer["options"], answer["args"], answer["dist"], answer["notes"]) == ([], ["tests"], None, [])
    assert answer["versions"]["pytest"] == pytest.__version__
    assert all(re.match(r"\d+\.\d+", version) for version in answer["versions"].values())


def test_typed_values_come_in_the_place_of_the_ini_file_s(project):
    project.write("tox.ini", ini(cloud_node="a", cloud_nodes="b", cloud_python="p q", cloud_max_processes="1", cloud_chdir="dir",
                                 addopts="--cloud-max-processes=2 --cloud-ship-plugin one"))
    typed = ["--cloud-nodes-from=f", "--cloud-python", "r", "--cloud-node=c", "--cloud-python=s"]
    assert project.options(*typed, PYTEST_ADDOPTS="--cloud-probe-timeout=3 --cloud-node='d e'") == [
        ("cloud-chdir", "dir", "tox.ini"),
        ("cloud-max-processes", "2", ""), ("cloud-ship-plugin", "one", ""),
        ("cloud-probe-timeout", "3", ""), ("cloud-node", "d e", ""),
        ("cloud-nodes-from", "f", ""), ("cloud-python", "r", ""), ("cloud-node", "c", ""), ("cloud-python", "s", "")]
    assert ("cloud-chdir", "other", "-o") in project.options("-o", "cloud_chdir=other")
    assert ("cloud-chdir", "other", "") in project.options("-o", "cloud_chdir=x", "--cloud-chdir=other")


def test_rsync_lists_add_up(project):
    project.write("tox.ini", ini(rsyncdirs=". ../lib", rsyncignore="doc", addopts="--rsyncignore=*.tmp"))
    assert project.options("--rsyncdir=tests", "--rsyncdir", "x") == [
        ("rsyncdir", str(project.root), "tox.ini"), ("rsyncdir", str(project.root / "../lib"), "tox.ini"),
        ("rsyncignore", "/doc", "tox.ini"),
        ("rsyncdir", "tests", ""), ("rsyncdir", "x", ""), ("rsyncignore", "*.tmp", "")]
    assert project.options("-o", "rsyncdirs=only", "--rsyncdir=tests")[0][1:] == (str(project.root / "only"), "-o")


@pytest.mark.parametrize("pattern, rule", [
    ("doc", "/doc"),
    ("doc/", "/doc"),
    ("tests/../doc", "/doc"),
    ("*.log", "/**.log"),
    ("a**b/*", "/a**b/**"),
    ("a/[x]?", "/a/[x]?"),
    (r"'a\*'", r"/a\\**"),
    (r"'a\b'", r"/a\b"),
    (".", None),
    ("..", None),
    ("../other", None),
    ("../*.log", "/**.log"),
    ("../p*/x", "/**/x"),
    ("../q*/x", None),
    ("/etc/*", None),
    ("/*.log", "/**.log"),
])
def test_patterns_of_what_is_not_copied(project, pattern, rule):
    project.write("tox.ini", ini(rsyncignore=pattern))
    assert [value for name, value, _ in project.options()] == ([rule] if rule else [])


def test_paths_are_relative_to_the_ini_file(project):
    """pytest run in a directory below it."""
    project.write("tox.ini", ini(cloud_nodes_from="nodes.txt http://x/nodes -", cloud_virtualenv_path="tests/venv", cloud_chdir="there",
                                 cloud_develop_eggs="tests/pkg .", rsyncignore="tests/data *.log doc"))
    found = project.options(cwd=project.root / "tests")
    assert {origin for _, _, origin in found} == {"../tox.ini"}
    assert [(name, value) for name, value, _ in found] == [
        ("cloud-nodes-from", "../nodes.txt"), ("cloud-nodes-from", "http://x/nodes"), ("cloud-nodes-from", "-"),
        ("cloud-chdir", "there"), ("cloud-virtualenv-path", "venv"), ("cloud-develop-egg", "pkg"), ("cloud-develop-egg", ".."),
        ("rsyncignore", "/data"), ("rsyncignore", "/**.log")]


def test_through_a_link(project):
    (project.tmp / "link").symlink_to(project.root)
    project.write("tox.ini", ini(rsyncignore="doc"))
    assert project.options("-c", str(project.tmp / "link/tox.ini"))[0][1] == "/doc"


# Lists of a conftest.py


CONFTEST_NOTE = "conftest.py: %s is no longer read by pytest-xdist: move it to %s in %s"


def test_literal_lists_of_a_conftest(project):
    """Taken without running it."""
    project.write("conftest.py", "raise SystemExit(3)\npytest_option_tx = ['ssh=a//python=b', 'popen']\n"
                                 "rsyncdirs = ('tests', '../lib')\nrsyncignore = ['*.log']\n")
    project.write("setup.cfg", "[tool:pytest]\nrsyncdirs = doc\n")
    answer = project.answer()
    assert [(o["name"], o["value"], o["origin"]) for o in answer["options"]] == [
        ("rsyncdir", str(project.root / "doc"), "setup.cfg"),
        ("rsyncdir", str(project.root / "tests"), "conftest.py"), ("rsyncdir", str(project.root / "../lib"), "conftest.py"),
        ("rsyncignore", "/**.log", "conftest.py"),
        ("tx", "ssh=a//python=b", "conftest.py"), ("tx", "popen", "conftest.py")]
    assert answer["notes"] == [CONFTEST_NOTE % note for note in (
        ("rsyncdirs", "rsyncdirs = tests ../lib", "setup.cfg"), ("rsyncignore", "rsyncignore = '*.log'", "setup.cfg"),
        ("pytest_option_tx", "addopts = --tx ssh=a//python=b --tx popen", "setup.cfg"))]
    # As its name says, a default.
    assert not [option for option in project.options("--tx", "popen") if option[0] == "tx"]
    assert project.options("--noconftest") == [("rsyncdir", str(project.root / "doc"), "setup.cfg")]


@pytest.mark.parametrize("text, values", [
    ("import os\npytest_option_tx = ['popen//id=' + os.path.basename(os.getcwd())]\n", ["popen//id=project"]),
    ("pytest_option_tx = ['popen']\npytest_option_tx.append('ssh=b')\n", ["popen", "ssh=b"]),
    ("if True:\n    pytest_option_tx = ['popen']\n", ["popen"]),
    ("pytest_option_tx: list = ['popen']\n", ["popen"]),
    ("pytest_option_tx = 'popen'\n", ["popen"]),
    ("def f():\n    pytest_option_tx = ['a']\n", []),
    ("rsyncdirs = list('')\nif rsyncdirs:\n    pytest_option_tx = ['a']\n", None),
    ("pytest_option_tx = {'a': 1}\n", None),
    ("pytest_option_tx = [1]\n", None),
    ("def pytest_option_tx(): pass\n", []),
    ("# pytest_option_tx\n", []),
])
def test_other_lists_of_a_conftest(project, text, values):
    project.write("conftest.py", text)
    answer = project.answer("tests", "--rootdir=.")
    assert [option["value"] for option in answer["options"]] == (values or [])
    notes = [note for note in answer["notes"] if "pytest_option_tx" in note]
    if values:
        assert len(notes) == 1
    else:
        assert notes == ([] if values == [] else ["conftest.py: pytest_option_tx is not a list of strings: not used"])


def test_the_nearest_conftest_counts(project):
    project.write("tox.ini", ini())
    project.write("conftest.py", "pytest_option_tx = ['ssh=far']\nrsyncdirs = ['tests']\n")
    project.write("tests/conftest.py", "pytest_option_tx = ['ssh=near']\n")
    assert [option[1:] for option in project.options(cwd=project.root / "tests")] == [
        (str(project.root / "tests"), "../conftest.py"), ("ssh=near", "conftest.py")]


# Words


@pytest.mark.parametrize("typed, args, options_only", [
    ("", "", ""),
    ("tests", "tests", ""),
    ("tests -x tests/test_x.py::test_x", "tests -x tests/test_x.py::test_x", "-x"),
    ("-k tests tests", "-k tests tests", "-k tests"),
    ("tests -k tests", "tests -k tests", "-k tests"),
    ("-ktests tests", "-ktests tests", "-ktests"),
    ("-m x -n 2 --dist load tests", "-m x -n 2 --dist load tests", "-m x -n 2 --dist load"),
    ("--deselect tests/test_x.py::test_x tests", "--deselect tests/test_x.py::test_x tests", "--deselect tests/test_x.py::test_x"),
    ("--deselect=tests tests", "--deselect=tests tests", "--deselect=tests"),
    ("-v tests -q", "-v tests -q", "-v -q"),
    ("-vv -rA tests --tb short", "-vv -rA tests --tb short", "-vv -rA --tb short"),
    ("-p xdist tests", "-p xdist tests", "-p xdist"),
    ("-W ignore -o xfail_strict=true tests", "-W ignore -o xfail_strict=true tests", "-W ignore -o xfail_strict=true"),
    ("--maxfail 2 --junitxml report.xml tests tests", "--maxfail 2 --junitxml report.xml tests tests", "--maxfail 2 --junitxml report.xml"),
    ("-x -- tests -weird", "-x -- tests -weird", "-x"),
    # Ours go.
    ("--cloud-node=a tests --cloud-chdir b -x --cloud-ship-pytest c", "tests -x c", "-x"),
    ("--rsyncdir . --rsyncignore=*.log tests", "tests", ""),
    ("--cloud-nodes-from - tests", "tests", ""),
    ("-p pytest_cloudplan -ppytest_cloudplan -p pytest_cloudplan.controller tests", "tests", ""),
    ("tests -- --cloud-node=a --rsyncdir x", "tests -- --cloud-node=a --rsyncdir x", ""),
    ("-k --cloud-nodes=a tests", None, None),
    # An option of a conftest.py, not known yet.
    ("tests --runslow", "tests --runslow", "--runslow"),
    ("--level=3 tests", "--level=3 tests", "--level=3"),
    ("--level 3 tests", "--level 3 tests", None),
    ("--runslow tests", "--runslow tests", None),
    ("tests --runslow -x", "tests --runslow -x", "--runslow -x"),
])
def test_words(project, typed, args, options_only):
    if args is None:
        answer, done = project.ask(*typed.split())
        assert answer is None and b"argument -k: expected one argument" in done.stderr
        return
    answer = project.answer(*typed.split())
    assert answer["args"] == args.split()
    assert answer["options_only"] == (None if options_only is None else options_only.split())


def test_words_are_kept_as_they_were_typed(project):
    words = ["tests", "-k", "a and b  or\tc", "", "--junit-prefix=é ☃", "-o", "x=\\'\""]
    answer = project.answer(*words, "--cloud-nodes=é  ☃")
    assert answer["args"] == words
    assert answer["options"] == [{"name": "cloud-nodes", "value": "é  ☃", "origin": ""}]


def test_positional_words_in_addopts(project):
    project.write("tox.ini", ini(addopts="-v tests"))
    assert project.answer("-x")["options_only"] is None
    project.write("tox.ini", ini(addopts="-v"))
    assert project.answer("-x")["options_only"] == ["-x"]
    assert project.answer("-x", PYTEST_ADDOPTS="tests")["options_only"] is None


def test_many_words(project):
    """A list of a thousand tests does not cost a thousand times."""
    words = [f"tests/test_x.py::test_x[{i}]" for i in range(1000)]
    answer = project.answer("-x", *words, "-k", "x")
    assert answer["args"] == ["-x", *words, "-k", "x"] and answer["options_only"] == ["-x", "-k", "x"]


@pytest.mark.skipif(pytest.version_tuple < (8, 2), reason="pytest reads @FILE from 8.2 on")
def test_words_from_a_file(project):
    project.write("words", "-x\n--cloud-node=a\ntests\n")
    answer = project.answer("@words", "-v")
    assert answer["options"] == [{"name": "cloud-node", "value": "a", "origin": ""}]
    assert answer["args"] == ["-x", "tests", "-v"] and answer["options_only"] == ["-x", "-v"]
    project.write("words", "tests\n")
    assert project.answer("@words", "-v")["args"] == ["@words", "-v"]


@pytest.mark.parametrize("args, addopts, dist", [
    ([], "", None), (["-n", "2"], "", None), (["--dist=each"], "", "each"), (["-d"], "", "load"),
    (["--dist", "no"], "--dist=loadscope", "no"), ([], "--dist loadfile", "loadfile"),
])
def test_how_tests_are_dealt_out(project, args, addopts, dist):
    project.write("tox.ini", ini(addopts=addopts))
    assert project.answer(*args)["dist"] == dist


# What a worker needs


def test_modules(project):
    base = ["pytest", "xdist", "execnet"]
    project.write("own_plugin.py", "")
    (project.tmp / "elsewhere").mkdir()
    (project.tmp / "elsewhere/other_plugin.py").write_text("")
    path = os.pathsep.join([str(project.tmp / "elsewhere"), project.environ()["PYTHONPATH"]])
    project.write("tox.ini", ini(addopts="-p pytester -p no:doctest", required_plugins="pytest-xdist>=1.0"))
    assert project.answer("-p", "own_plugin", "-p", "pytest_cloudplan")["modules"] == base
    env = {**project.environ(_CLOUDPLAN_ENGINE="1", _CLOUDPLAN_SETTINGS=str(project.file)), "PYTHONPATH": path}
    for args, more in ((["-p", "other_plugin"], ["other_plugin"]), (["-p", "other_plugin", "--rsyncdir=../elsewhere"], [])):
        subprocess.run([sys.executable, "-m", "pytest", "-p", "pytest_cloudplan", *args], cwd=project.root, env=env,
                       stdin=subprocess.DEVNULL, timeout=DEADLINE, check=True)
        assert json.loads(project.file.read_bytes())["modules"] == base + more


def test_without_xdist(project):
    """Its modules in the way of a file that cannot be imported."""
    for name in ("xdist", "execnet"):
        project.write(f"{name}.py", "raise ImportError('no')\n")
    done = project.pytest("-p", "pytest_cloudplan", "--rsyncdir=.", "tests", _CLOUDPLAN_ENGINE="1", _CLOUDPLAN_SETTINGS=str(project.file),
                          PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    answer = json.loads(project.file.read_bytes())
    assert done.returncode == 0
    assert answer["versions"] == {"pytest": pytest.__version__, "xdist": None, "execnet": None}
    assert answer["options"] == [{"name": "rsyncdir", "value": ".", "origin": ""}]
    assert answer["args"] == ["tests"] and answer["options_only"] == []


def test_children_see_nothing_of_it(project):
    """A conftest.py that has to be loaded, and starts a program."""
    project.write("conftest.py", "import os, json\npytest_option_tx = ['popen//id=' + json.dumps(sorted(name for name in os.environ "
                                 "if name.startswith('CLOUDPLAN')) + [os.environ.get('PYTEST_PLUGINS')])]\n")
    assert project.options(PYTEST_PLUGINS="pytest_cloudplan")[0][1] == "popen//id=[null]"
    assert project.options(PYTEST_PLUGINS="xdist.looponfail,pytest_cloudplan")[0][1] == 'popen//id=["xdist.looponfail"]'


# pytest for other machines


def other_interpreters():
    """Ones without pytest: this machine's without its packages, and whatever else is there."""
    found = {"/usr/bin/python3 -S": [sys.executable, "-I", "-S", "-B"]}
    for name in ("python3", "python3.12", "python3.13"):
        path = shutil.which(name)
        if path and os.path.realpath(path) != os.path.realpath(sys.executable):
            found[name] = [path, "-I", "-B"]
    return found


def test_a_shipped_pytest_works_elsewhere(project):
    project.write("tests/test_x.py", "def test_x(): pass\ndef test_y(): assert [1] == [2]\n")
    answer = project.answer("--cloud-ship-pytest", "tests")
    names = [line.split()[0].lower() for line in answer["ship"]]
    assert {"pytest", "pytest-xdist", "execnet", "pluggy", "iniconfig", "packaging"} <= set(names)
    assert len(names) == len(set(names)) and f"pytest {pytest.__version__}" in answer["ship"]
    files = [path for path in project.site.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pyc", ".so", ".pth") or "__pycache__" in path.parts]
    run = ("import sys; sys.path.insert(0, sys.argv.pop(1)); import pytest, xdist, execnet\n"
           "assert all(m.__file__.startswith(sys.path[0]) for m in (pytest, xdist, execnet))\nsys.exit(pytest.main())")
    environ = {name: value for name, value in project.environ().items() if not name.startswith("PYTHON")}
    for name, words in other_interpreters().items():
        done = subprocess.run([*words, "-c", run, str(project.site), "-p", "no:cacheprovider", "-n2", "tests"], cwd=project.root, env=environ,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout, (name, done)
        assert "assert [1] == [2]" in done.stdout


def test_what_is_shipped_is_not_new_each_time(project):
    """rsync compares sizes and times."""
    def times():
        project.answer("--cloud-ship-pytest")
        return {path.relative_to(project.site): path.stat().st_mtime_ns for path in project.site.rglob("*") if path.is_file()}

    first = times()
    shutil.rmtree(project.site)
    assert times() == first and len(first) > 100


def test_nothing_is_shipped_unasked(project):
    assert "ship" not in project.answer("tests") and not project.site.exists()


def test_what_is_shipped_need_not_be_on_the_nodes(project):
    project.write("tox.ini", ini(required_plugins="pytest-xdist pytest-cov"))
    assert project.answer("--cloud-ship-pytest")["modules"] == ["pytest_cov"]


def test_shipping_is_asked_for_in_four_ways(project):
    assert project.answer(_CLOUDPLAN_SHIP_FORCE="1")["ship"]
    project.write("tox.ini", ini(cloud_ship_pytest="yes"))
    assert project.answer()["ship"]
    project.write("tox.ini", ini(addopts="--cloud-ship-pytest"))
    assert project.answer()["ship"]


def fake_distribution(folder, name, requires=(), files=(), record=True):
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" +
                                   "".join(f"Requires-Dist: {line}\n" for line in requires))
    for path, text in dict(files).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    if record:
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in dict(files)))
    else:
        (info / "top_level.txt").write_text("\n".join(sorted({path.split("/")[0].replace(".py", "") for path in dict(files)})))
    return info


def ask_with(project, folder, plugins):
    path = os.pathsep.join([project.environ()["PYTHONPATH"], str(folder)])
    shutil.rmtree(project.site, ignore_errors=True)
    env = project.environ(_CLOUDPLAN_ENGINE="1", _CLOUDPLAN_SETTINGS=str(project.file), _CLOUDPLAN_SHIP=str(project.site),
                          _CLOUDPLAN_SHIP_FORCE="1", _CLOUDPLAN_SHIP_PLUGINS=plugins, PYTEST_PLUGINS="pytest_cloudplan")
    subprocess.run([sys.executable, "-m", "pytest"], cwd=project.root, env={**env, "PYTHONPATH": path}, stdin=subprocess.DEVNULL,
                   timeout=DEADLINE, check=True)
    return json.loads(project.file.read_bytes())


@pytest.mark.parametrize("record", [True, False])
def test_a_plugin_and_what_it_requires(project, record):
    folder = project.tmp / "installed"
    info = fake_distribution(folder, "pytest-a", ["b.c (>=1)", 'absent; python_version < "3"', 'extra1; extra == "x"'],
                             {"pytest_a/__init__.py": "import b_c\n", "pytest_a/data/x.txt": "x"}, record)
    (info / "entry_points.txt").write_text("[pytest11]\na = pytest_a\n")
    fake_distribution(folder, "b_c", ["pytest"], {"b_c.py": "", "fast.cpython-311-x86_64-linux-gnu.so": "", "fast.py": ""}, True)
    answer = ask_with(project, folder, "pytest_A")
    assert {"pytest-a 1.0", "b_c 1.0"} < set(answer["ship"])
    assert [note for note in answer["notes"] if 'absent (python_version < "3")' in note]
    there = {str(path.relative_to(project.site)) for path in project.site.rglob("*")}
    assert {"pytest_a/data/x.txt", "b_c.py", "fast.py", "pytest_a-1.0.dist-info/entry_points.txt"} <= there
    assert not [name for name in there if name.endswith(".so")]


@pytest.mark.parametrize("kwargs, text", [
    ({"files": {"pytest_a/__init__.py": "", "pytest_a/fast.cpython-311-x86_64-linux-gnu.so": ""}},
     "pytest-a is not pure Python (pytest_a/fast.cpython-311-x86_64-linux-gnu.so): install it on the nodes"),
    ({"files": {"pytest_a.py": ""}, "requires": ["compiled"]}, "compiled is not pure Python (compiled.so): install it on the nodes"),
    ({"files": {"pytest_a.py": "import nowhere.other\n"}},
     "pytest_a cannot be imported from a copy: No module named 'nowhere'"),
    ({"files": {"pytest_a.py": "import compiled_too\n"}}, "compiled_too is not pure Python (compiled_too.so): install it on the nodes"),
])
def test_what_cannot_be_shipped(project, kwargs, text):
    folder = project.tmp / "installed"
    for name in ("compiled", "compiled_too"):
        fake_distribution(folder, name, files={f"{name}.so": ""})
    (fake_distribution(folder, "pytest-a", **kwargs) / "entry_points.txt").write_text("[pytest11]\na = pytest_a\n")
    # Not loaded in this pytest: some of them could not be.
    (project.root / "tox.ini").write_text(ini(addopts="-p no:a"))
    answer = ask_with(project, folder, "pytest-a")
    assert answer == {"version": 1, "error": {"status": 78, "text": f"--cloud-ship-plugin=pytest-a: {text}"}}


def test_a_plugin_that_is_not_here(project):
    assert project.refused("--cloud-ship-pytest", "--cloud-ship-plugin=pytest-of-nobody") == (
        78, f"--cloud-ship-plugin=pytest-of-nobody: pytest-of-nobody is not installed here: {sys.executable} -m pip install pytest-of-nobody")


# One table, one version


def table():
    code = ("import json, pytest_cloudplan as p; print(json.dumps([[n, k != p.FLAG and m] for n, k, m, _ in p.OPTIONS]))")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True, check=True)
    return {name: metavar or None for name, metavar in json.loads(done.stdout)}


def test_the_options_are_cloudplan_s():
    text = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"^ +(?:-\w, )?--(cloud-[\w-]+)(?:=(\S+))?", text, re.M))
    assert table() == {name: metavar or None for name, metavar in found.items()}
    assert "--rsyncdir=" in text and "--rsyncignore=" in text


def test_every_option_has_its_ini_name(project):
    text = project.pytest("-p", "pytest_cloudplan", "--help").stdout.decode()
    for name in table():
        key = "cloud_develop_eggs" if name == "cloud-develop-egg" else name.replace("-", "_")
        assert re.search(rf"^ +--{name}(=|\s)", text, re.M) and re.search(rf"^ +{key} \(", text, re.M), name


def test_one_version():
    """pip and autotools each need it in a file of their own."""
    autotools = re.search(r"AC_INIT\(\[cloudplan\], \[([^\]]+)\]", (SRC / "configure.ac").read_text())[1]
    project = (SRC / "pyproject.toml").read_text()
    assert re.search(r'^version = "([^"]+)"', project, re.M)[1] == autotools
    assert re.search(r'^pytest_cloudplan = "pytest_cloudplan"$', project, re.M)


# A user's pytest


def told(cloudplan, done):
    """The words that cloudplan was called with."""
    out = done.stdout.decode()
    assert done.returncode == 7 and done.stderr == b"" and f"python={sys.executable}\n" in out, done
    return re.findall(r"^\[(.*)\]$", out, re.M)


def test_pytest_becomes_cloudplan(project, cloudplan):
    words = ["tests/", "--cloud-node=10.0.120.1", "--cloud-node=10.0.120.2", "--cloud-mem-per-process=1000", "--rsyncdir=.",
             "-k", "a b", "", "-p", "pytest_cloudplan", "--", "x y"]
    project.write("conftest.py", "raise SystemExit('loaded')\n")
    assert told(cloudplan, project.pytest(*words, CLOUDPLAN=str(cloudplan))) == ["run", "--", *words]


@pytest.mark.parametrize("way", ["-p", "PYTEST_PLUGINS", "conftest.py"])
def test_however_the_plugin_is_loaded(project, cloudplan, way):
    env = {"PYTEST_PLUGINS": "pytest_cloudplan"} if way == "PYTEST_PLUGINS" else {}
    if way == "conftest.py":
        project.write("conftest.py", "pytest_plugins = ['pytest_cloudplan']\n")
    args = (["-p", "pytest_cloudplan"] if way == "-p" else []) + ["--rootdir=.", "--cloud-ship-pytest", "tests"]
    path = f"{cloudplan.parent}:{os.environ['PATH']}"
    assert told(cloudplan, project.pytest(*args, PATH=path, **env)) == ["run", "--", *args]


def test_options_in_addopts_count_as_typed(project, cloudplan):
    project.write("tox.ini", ini(addopts="--cloud-node=a"))
    env = {"CLOUDPLAN": str(cloudplan), "PYTEST_PLUGINS": "pytest_cloudplan"}
    assert told(cloudplan, project.pytest("tests", **env)) == ["run", "--", "tests"]
    project.write("tox.ini", ini())
    assert told(cloudplan, project.pytest(PYTEST_ADDOPTS="--cloud-node=a", **env)) == ["run", "--"]


@pytest.mark.parametrize("args, env", [
    ([], {}),
    (["--rsyncdir=."], {}),
    (["--cloud-node=a", "--collect-only"], {}),
    (["--cloud-node=a", "--help"], {}),
    (["--cloud-node=a", "--version"], {}),
    (["--cloud-node=a", "--fixtures"], {}),
    (["--cloud-node=a", "--markers"], {}),
    (["--cloud-node=a"], {"PYTEST_XDIST_WORKER": "gw0"}),
    (["--cloud-node=a"], {"_CLOUDPLAN_ENGINE": "1"}),
])
def test_what_stays_here(project, cloudplan, args, env):
    """A developer's plain pytest among them, whatever the ini file holds."""
    project.write("tox.ini", ini(cloud_node="a", cloud_mem_per_process="x"))
    done = project.pytest("-p", "pytest_cloudplan", *args, "tests", CLOUDPLAN=str(cloudplan), **env)
    assert done.returncode == 0 and b"[run]" not in done.stdout, done
    assert b"Unknown config option" not in done.stdout


def test_standard_streams_are_the_user_s(project, cloudplan):
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "pytest", "-p", "pytest_cloudplan", "--cloud-node=a"]
    process = subprocess.Popen(words, cwd=project.root, env=project.environ(CLOUDPLAN=str(cloudplan)), stdin=slave, stdout=slave,
                               stderr=slave)
    os.close(slave)
    os.write(master, b"hello\n")
    out = b""
    try:
        while True:
            out += os.read(master, 4096)
    except OSError:  # its end
        pass
    os.close(master)
    assert process.wait(timeout=DEADLINE) == 7
    assert b"\nterminal\r\n" in out and b"\nstdin=hello\r\n" in out, out


def test_no_program(project):
    env = {"PATH": str(project.tmp), "PYTEST_PLUGINS": "pytest_cloudplan"}
    done = project.pytest("--cloud-node=a", CLOUDPLAN="/nonexistent/cloudplan", **env)
    assert (done.returncode, done.stdout) == (78, b"")
    assert done.stderr == b"ERROR: CLOUDPLAN=/nonexistent/cloudplan: no such program: correct it, or unset it\n"
    if (Path(sys.executable).parent / "cloudplan").exists():
        pytest.skip("cloudplan is installed beside this interpreter")
    done = project.pytest("--cloud-node=a", **env)
    assert (done.returncode, done.stdout) == (78, b"")
    assert done.stderr.startswith(b"ERROR: --cloud-...: there is no program cloudplan in PATH: install it") and done.stderr.count(b"\n") == 1
    broken = project.tmp / "broken"
    broken.write_text("#!/nonexistent/shell\n")
    broken.chmod(0o755)
    done = project.pytest("--cloud-node=a", CLOUDPLAN=str(broken), **env)
    assert done.returncode == 78 and done.stderr.startswith(f"ERROR: {broken}: ".encode())


def test_in_the_run_xdist_hears_nothing_of_rsync(project):
    """Its warning of a feature that is not used, a directory that does not exist."""
    project.write("tox.ini", ini(rsyncdirs="nowhere", rsyncignore="x", addopts="--rsyncdir=nowhere -p pytest_cloudplan"))
    done = project.pytest("-W", "error", "--tx=popen//chdir=" + str(project.root), "--dist=load", "tests", _CLOUDPLAN_ENGINE="1")
    assert b"rsyncdir doesn't exist" not in done.stderr + done.stdout and b"DeprecationWarning" not in done.stdout, done
