"""The copied virtualenv: its scripts, and packages of the project installed there in development mode."""
import filecmp
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloudnodes import patience, wait_until
from cloudnodes_chroot import out_of_chroot
from conftest import SRC

COPY = "/home/ci/pytest_ci_project"

# Two packages, one in each layout; the first one is installed by setuptools' own "develop", the second one as PEP 660
# says.  Both note in the node's home that pip has run.
NOTE = "import os, socket\nopen(os.path.expanduser('~/pip-ran'), 'a').write('x')\n"
PROGRAM = "import os, sys\ndef main():\n    print(os.path.abspath(__file__), sys.prefix, *sys.argv[1:])\n"
PACKAGES = {
    "setup.py": NOTE + "from setuptools import setup\nsetup()\n",
    "setup.cfg": "[metadata]\nname = first\nversion = 1.0\n[options]\npackage_dir =\n    = src\npackages = first\n"
                 "[options.entry_points]\nconsole_scripts =\n    first-tool = first:main\n",
    "src/first/__init__.py": PROGRAM,
    "libs/second/setup.py": NOTE + "from setuptools import setup\nsetup()\n",
    "libs/second/pyproject.toml": "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
                                  "[project]\nname = 'second'\nversion = '2.0'\n"
                                  "[project.scripts]\nsecond-tool = 'second:main'\n"
                                  "[tool.setuptools]\npackages = ['second']\n",
    "libs/second/second/__init__.py": PROGRAM,
    "tests/test_tools.py": """\
import os, subprocess, sys

def said(tool):
    path = os.path.join(sys.prefix, "bin", tool)
    return subprocess.run([path, "a b"], stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout

def test_first():
    assert said("first-tool") == "{0}/src/first/__init__.py {0}/venv a b\\n".format(os.getcwd())

def test_second():
    assert said("second-tool") == "{0}/libs/second/second/__init__.py {0}/venv a b\\n".format(os.getcwd())

def test_by_name():
    assert subprocess.run(["first-tool"], stdout=subprocess.PIPE, check=True).stdout.endswith(b"/venv\\n")

def test_imported():
    import first, second
    assert (os.path.dirname(first.__file__), os.path.dirname(second.__file__)) == (
        os.getcwd() + "/src/first", os.getcwd() + "/libs/second/second")
""",
}
EGGS = ["--cloud-develop-egg=.", "--cloud-develop-egg=libs/second"]
FAST = ["--cloud-max-processes=1", "--cloud-rsync-bandwidth-limit=0"]


@pytest.fixture(scope="module")
def virtualenv(three_nodes):
    """Made where it will be, for it does not like to be moved, and kept elsewhere between the tests."""
    three_nodes.write({})
    three_nodes.project.mkdir()
    three_nodes.world.run(["python3", "-m", "venv", "--system-site-packages", "venv"], cwd="/home/ci/project", check=True)
    kept = three_nodes.world.home / "kept"
    (three_nodes.project / "venv").rename(kept)
    yield kept
    shutil.rmtree(kept)


@pytest.fixture
def packages(site, virtualenv):
    for node in site.nodes:
        for path in node.home.glob("pip-*"):
            path.unlink()
    site.write(PACKAGES)
    shutil.copytree(virtualenv, site.project / "venv", symlinks=True)
    return site


def pip_runs(node):
    path = node.home / "pip-ran"
    text = path.read_text() if path.exists() else ""
    if text:
        path.unlink()
    return len(text)


def copy(node, path=""):
    return node.home / "pytest_ci_project" / path


def differences(here, there, skip=("__pycache__", ".cloudplan", ".cloudplan-develop", ".pytest_cache")):
    """Paths that are not the same in both trees."""
    found, waiting = set(), [filecmp.dircmp(here, there, ignore=list(skip), hide=[])]
    while waiting:
        one = waiting.pop()
        found |= {os.path.relpath(os.path.join(one.left, name), here)
                  for name in one.left_only + one.right_only + one.diff_files + one.funny_files}
        waiting += one.subdirs.values()
    return found


def test_installed_once_and_again_after_a_change(packages):
    site, (first, second, _) = packages, packages.nodes
    nodes = [first, second]

    def run(*args):
        result = site.run("run", *FAST, *args, "--", "-q", "tests", nodes=nodes)
        assert result.returncode == 0, result
        assert "4 passed" in result.stdout

    run(*EGGS)
    assert all(pip_runs(node) for node in nodes)
    nodes.remove(second)  # the rest is a matter of one node, and pip takes its time on each
    # What pip has done is undone by the sync, and done again without pip; changed code alone is no reason for it.
    (site.project / "tests/test_new.py").write_text("")
    (site.project / "src/first/more.py").write_text("X = 1\n")
    run(*EGGS)
    assert pip_runs(first) == 0
    # A new version, and with that other names; the former ones are gone.
    setup = site.project / "setup.cfg"
    setup.write_text(setup.read_text().replace("1.0", "1.1"))
    second_setup = site.project / "libs/second/pyproject.toml"
    second_setup.write_text(second_setup.read_text().replace("2.0", "2.1"))
    run(*EGGS)
    assert all(pip_runs(node) for node in nodes)
    run(*EGGS)
    for node in nodes:
        assert pip_runs(node) == 0
        assert "Version: 1.1" in copy(node, "src/first.egg-info/PKG-INFO").read_text()
        assert [p.name for p in copy(node, "venv").glob("lib/*/site-packages/second*")] == ["second-2.1.dist-info"]
    # A new script of a package.
    setup.write_text(setup.read_text() + "    other-tool = first:main\n")
    run(*EGGS)
    assert all(pip_runs(node) for node in nodes) and copy(first, "venv/bin/other-tool").exists()


def test_without_the_option_it_is_a_plain_copy_again(packages):
    site, node = packages, packages.nodes[0]
    assert site.run("sync", *FAST, *EGGS, nodes=[node]).returncode == 0
    assert copy(node, "venv/bin/first-tool").exists() and copy(node, ".cloudplan-develop/digest").exists()
    assert site.run("sync", *FAST, nodes=[node]).returncode == 0
    assert not copy(node, ".cloudplan-develop").exists()
    changed = differences(site.project, copy(node))
    assert changed == {"venv/bin/" + name for name in ("activate", "activate.csh", "activate.fish", "pip", "pip3",
                                                       f"pip3.{sys.version_info[1]}") if (site.project / "venv/bin" / name).exists()}


def test_installed_here_in_development_mode_too(packages):
    """What pip has written here of here comes along; the node's own installation takes its place."""
    site, node = packages, packages.nodes[0]
    site.world.run(["venv/bin/pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "-e", ".", "-e",
                    "libs/second"], cwd="/home/ci/project", check=True)
    for path in site.world.home.glob("pip-ran"):
        path.unlink()
    # Without the option paths are those of the node already.
    plain = site.run("run", *FAST, "--", "-q", "tests", nodes=[node])
    assert plain.returncode == 0, plain
    assert pip_runs(node) == 0
    for _ in range(2):
        result = site.run("run", *FAST, *EGGS, "--", "-q", "tests", nodes=[node])
        assert result.returncode == 0, result
    assert not [path for pattern in ("*.pth", "*.egg-link", "__editable__*") for path in
                copy(node, "venv").glob("lib/*/site-packages/" + pattern) if "/home/ci/project" in path.read_text()]


def test_a_setup_that_fails_drops_its_node(packages):
    site = packages
    setup = site.project / "setup.py"
    setup.write_text(NOTE + "if socket.gethostname() == 'node2':\n    raise RuntimeError('no \\033[31mgcc here')\n" +
                     PACKAGES["setup.py"])
    result = site.run("run", *FAST, *EGGS, "--", "-q", "tests")
    assert result.returncode == 0, result
    assert re.search(r"^cloudplan: \S*10\.0\.120\.2 is left out \(failed\): prepare failed: pip: RuntimeError: no gcc here "
                     r"\(more in pytest_ci_project/\.cloudplan-develop/pip\.log there\)$", result.stderr, re.M), result.stderr
    assert "RuntimeError: no" in copy(site.nodes[1], ".cloudplan-develop/pip.log").read_text()
    setup.write_text("raise SystemExit('nowhere')\n")
    result = site.run("run", *FAST, *EGGS, "--", "-q", "tests")
    assert result.returncode == 74, result
    assert "pip: nowhere" in result.stderr.splitlines()[-1] and "test session" not in result.stdout
    # What is missing is named.
    setup.write_text("import not_installed_here\n")
    result = site.run("run", *FAST, *EGGS, "--", "-q", "tests", nodes=site.nodes[:1])
    assert result.returncode == 74
    assert "No module named 'not_installed_here'" in result.stderr and "has to be installed in the virtualenv" in result.stderr
    # And nothing of it stays in the way.
    setup.write_text(PACKAGES["setup.py"])
    assert site.run("run", *FAST, *EGGS, "--", "-q", "tests").returncode == 0


def test_no_pip_in_the_virtualenv(packages):
    site, node = packages, packages.nodes[0]
    shutil.rmtree(site.project / "venv")
    site.world.run(["python3", "-m", "venv", "--without-pip", "venv"], cwd="/home/ci/project", check=True)
    result = site.run("sync", *FAST, *EGGS, nodes=[node])
    assert result.returncode == 74
    assert ("prepare failed: --cloud-develop-egg needs pip, and the virtualenv has none: "
            "run /home/ci/project/venv/bin/python3 -m ensurepip") in result.stderr, result.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_cut_in_the_middle(packages, number):
    site, node = packages, packages.nodes[0]
    setup = site.project / "setup.py"
    slow = "import sys, time\nif 'develop' in sys.argv and os.path.exists(os.path.expanduser('~/pip-slow')):\n" \
           "    open(os.path.expanduser('~/pip-started'), 'w').close()\n    time.sleep(1000)\n"
    setup.write_text(NOTE + slow + PACKAGES["setup.py"])
    (node.home / "pip-slow").touch()
    running = site.popen("run", *FAST, *EGGS, "--", "-q", "tests", nodes=[node])
    wait_until(lambda: (node.home / "pip-started").exists(), timeout=30, what="pip to be in the middle")
    running.send_signal(number)
    _, err = site.finish(running, timeout=30)
    if number == signal.SIGTERM:
        assert running.returncode == 128 + number and "while preparing" in err, err
    wait_until(lambda: not node.processes(), timeout=20, what=lambda: f"pip to end on the node: {node.processes()}")
    assert not copy(node, ".cloudplan-develop/digest").exists()
    (node.home / "pip-slow").unlink()
    pip_runs(node)
    for expected in (True, False):
        result = site.run("run", *FAST, *EGGS, "--", "-q", "tests", nodes=[node])
        assert result.returncode == 0, result
        assert bool(pip_runs(node)) is expected
    for path in (site.world.controller.root / "tmp").glob("cloudplan*"):
        shutil.rmtree(path)  # what SIGKILL has left


def test_a_node_that_vanishes_meanwhile(packages):
    site, (node, other, _) = packages, packages.nodes
    (site.project / "setup.py").write_text(
        "import socket\nif socket.gethostname() == 'node1':\n    import os, time\n"
        "    open(os.path.expanduser('~/pip-started'), 'w').close()\n    time.sleep(1000)\n" + PACKAGES["setup.py"])
    running = site.popen("run", *FAST, *EGGS, "--", "-q", "tests", nodes=[node, other])
    wait_until(lambda: (node.home / "pip-started").exists(), timeout=30, what="pip to be in the middle")
    node.sshd_stop()
    out, err = site.finish(running, timeout=20)
    node.sshd_start()
    assert running.returncode == 0 and "4 passed" in out, (out, err)
    assert re.search(r"^cloudplan: \S*10\.0\.120\.1 is left out \(\w+\): prepare failed: ", err, re.M), err


# The scripts alone, in every shell that a node may have as /bin/sh.  "pip" is a script here, which shows how it is called.

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"], "mksh": ["mksh"],
          "zsh": ["zsh", "--emulate", "sh"]}

FAKE_PYTHON = r"""#!/bin/sh
[ "$PIP_CONFIG_FILE" = /dev/null ] && [ -z "$PYTHONPATH" ] && [ "$PWD" = / ] || exit 1
printf '%s\n' "$@" >"$HOME/asked"
echo x >>"$HOME/ran"
cd "$HOME/copy"
if [ -e "$HOME/fail" ]; then echo "thinking"; echo "ERROR: $(cat "$HOME/fail")"; echo; exit 1; fi
if [ -e "$HOME/hang" ]; then : >"$HOME/hangs"; exec sleep 1000; fi
mkdir -p "a b/x.egg-info" "ve nv/lib/python3/site-packages/new-2.dist-info"
echo made >"a b/x.egg-info/made by pip"
echo 2 >"ve nv/lib/python3/site-packages/new-2.dist-info/RECORD"
rm -r "ve nv/lib/python3/site-packages/new-1.dist-info"
printf '#!%s\nnew\n' "$0" >"ve nv/bin/tool"
chmod 711 "ve nv/bin/tool"
"""


# With no other processes to be seen: a guard looks at all that there are when it ends.
ALONE = [*out_of_chroot(), "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "sh", "-c", '"$@"; exit $?', "sh"]


class Shell:
    """A project here and a node's home, with a virtualenv whose name holds a blank; the sync is rsync's."""

    def __init__(self, argv, base):
        self.argv, self.home, self.project, self.copy = argv, base / "home", base / "pro.j[e]ct & co", base / "home/copy"
        self.venv, self.values = self.project / "ve nv", {}
        for folder in (self.home, self.venv / "bin", self.venv / "lib/python3/site-packages/new-1.dist-info",
                       self.project / "a b"):
            folder.mkdir(parents=True)
        (self.venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
        (self.venv / "lib/python3/site-packages/new-1.dist-info/RECORD").write_text("1\n")
        (self.project / "a b/setup.py").write_text("1\n")
        self.script("python3", FAKE_PYTHON)
        self.script("tool", f"#!{self.venv}/bin/python3\nold\n")

    def script(self, name, text, mode=0o755):
        path = self.venv / "bin" / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)

    def sync(self):
        subprocess.run(["rsync", "-rlpt", "--delete", "--modify-window=-1", "--exclude=/.cloudplan",
                        "--exclude=/.cloudplan-develop", f"{self.project}/", f"{self.copy}/"], check=True)

    def start(self, *eggs, sync=True, alone=True):
        self.copy.mkdir(exist_ok=True)
        (self.copy / ".cloudplan").touch()
        if sync:
            self.sync()
        values = {"CLOUDPLAN_NONCE": "n0", "CLOUDPLAN_CHDIR": "copy", "CLOUDPLAN_RUN": f"run{os.getpid()}",
                  "CLOUDPLAN_ROOT": self.project, "CLOUDPLAN_VENV": "ve nv", "CLOUDPLAN_VENV_FROM": self.venv,
                  "CLOUDPLAN_PYTHON": "python3", "CLOUDPLAN_OUTSIDE": "", "CLOUDPLAN_LINKS": "", "CLOUDPLAN_PROGRAMS": "", **self.values}
        text = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
        text += "set -- " + " ".join(map(shlex.quote, eggs)) + "\n"
        text += "".join((SRC / "scripts" / name).read_text() for name in ("node/lease.sh", "node/prepare.sh", "node/guard.sh"))
        self.running = subprocess.Popen([*(ALONE if alone else []), *self.argv, "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
                                        env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "PYTHONPATH": "/nowhere",
                                             "SSH_CONNECTION": f"of {os.getpid()} and no other"})
        self.running.stdin.write(text.encode())
        self.running.stdin.flush()
        assert self.answer() == f"ok 1 {os.path.realpath(self.copy)}"
        return self

    def answer(self):
        for line in self.running.stdout:
            if line.startswith(b"cloudplan-guard n0 "):
                return line.decode()[len("cloudplan-guard n0 "):-1]
        return None

    def ask(self, command="prepare"):
        self.running.stdin.write(command.encode() + b"\n")
        self.running.stdin.flush()

    def end(self):
        self.running.stdin.close()
        self.running.stdout.close()
        return self.running.wait(patience(20))

    def again(self, sync=True):
        """In the session that start() has begun: its beginning and its end cost more than what is between them."""
        if sync:
            self.sync()
        self.ask()
        return self.answer()

    def prepare(self, *eggs, sync=True):
        self.start(*eggs, sync=sync)
        self.ask()
        said = self.answer()
        self.end()
        return said

    def ran(self):
        """How often pip has run since the former call."""
        path = self.home / "ran"
        count = len(path.read_text().split()) if path.exists() else 0
        path.unlink(missing_ok=True)
        return count


@pytest.fixture(params=SHELLS)
def shell(request, tmp_path):
    argv = SHELLS[request.param]
    if not shutil.which(argv[0]):
        pytest.skip(argv[0] + " is not installed")
    return Shell(argv, tmp_path)


def test_scripts_of_the_virtualenv(shell):
    here, there = shell.venv, shell.copy / "ve nv"
    binary = b"\x7fELF\0\0" + f"#!{here}/bin/python3\n".encode() + b"\0\xff"
    archive = f"#!{here}/bin/python3\n".encode() + b"PK\3\4\0\0\xff\n\0" + str(here).encode() + b"\r\nno newline"
    untouched = {"binary": binary, "text": f"{here}/bin/python3\n", "late": f"#!/bin/sh\n\n\n: {here}/bin\n",
                 "sibling": f"#!{here}2/bin/python3\n", "longer": f"#!/opt{here}/bin/python3\n", "sh": "#!/bin/sh\n:\n"}
    for name, text in untouched.items():
        shell.script(name, text)
    shell.script("plain", f"#!{here}/bin/sh -e\n: {here}/x\n", 0o700)
    shell.script("python-args", f"#!{here}/bin/python3 -I\nx\n")
    shell.script("long", f"#!/bin/sh\n'''exec' \"{here}/bin/python3\" \"$0\" \"$@\"\n' '''\nx = '{here}'\n")
    shell.script("archive", archive)
    shell.script("activate", f"VIRTUAL_ENV='{here}'\nexport VIRTUAL_ENV\nPATH=\"{here}/bin:$PATH\"\n", 0o644)
    (here / "bin/linked").symlink_to("plain")
    assert shell.prepare() == "prepare ok"
    for name, text in untouched.items():
        got = (there / "bin" / name).read_bytes()
        assert got == (text if isinstance(text, bytes) else text.encode()), name
    read = {p.name: p.read_bytes().decode("latin-1") for p in (there / "bin").iterdir()}
    assert read["plain"] == f"#!{there}/bin/sh -e\n: {here}/x\n"
    # The kernel splits at blanks: what pip writes there.
    assert read["python-args"] == f"#!/bin/sh\n'''exec' \"{there}/bin/python3\" -I \"$0\" \"$@\"\n' '''\nx\n"
    assert read["long"] == f"#!/bin/sh\n'''exec' \"{there}/bin/python3\" \"$0\" \"$@\"\n' '''\nx = '{here}'\n"
    assert read["archive"].endswith(archive.split(b"\n", 1)[1].decode("latin-1"))
    assert read["archive"].startswith("#!/bin/sh\n'''exec' \"" + str(there))
    assert read["activate"] == f"VIRTUAL_ENV='{there}'\nexport VIRTUAL_ENV\nPATH=\"{there}/bin:$PATH\"\n"
    assert (there / "bin/linked").is_symlink()
    modes = {name: (there / "bin" / name).stat().st_mode & 0o777 for name in ("plain", "long", "activate")}
    assert modes == {"plain": 0o700, "long": 0o755, "activate": 0o644}
    assert sorted(read) == sorted(p.name for p in (here / "bin").iterdir())
    # Once more, without a sync, changes nothing.
    before = {p.name: (p.lstat().st_ino, p.lstat().st_mtime_ns) for p in (there / "bin").iterdir()}
    assert shell.prepare(sync=False) == "prepare ok"
    assert {p.name: (p.lstat().st_ino, p.lstat().st_mtime_ns) for p in (there / "bin").iterdir()} == before


def test_places_of_editable_installs(shell, tmp_path):
    """Whatever pip has written of the project's place, and of what was copied from outside of it, names the copy's."""
    here, there, packages = shell.project, shell.copy, shell.venv / "lib/python3/site-packages"
    library = tmp_path / "the library"
    packages.mkdir(parents=True, exist_ok=True)
    files = {"plain.pth": f"{here}/src\n{here}2/src\n{library}/src\n", "_x.pth": "import _editable_impl_x\n",
             "_editable_impl_x.py": f"map('x', '{here}/src/x.py', '{library}/y.py')\n", "y.egg-link": f"{here}/y\n../\n",
             "__editable___z_finder.py": f"MAPPING = {{'z': '{here}/z'}}\n", "module.py": f"PATH = '{here}/src'\n"}
    for name, text in files.items():
        (packages / name).write_text(text)
    shell.script("develop", f"#!{shell.venv}/bin/python3\n# EASY-INSTALL-DEV-SCRIPT: 'x==1','develop'\n\n\n__file__ = '{here}/develop'\n")
    shell.script("other", f"#!/bin/sh\n\n\n\n: '{here}/develop'\n")
    (here / "absolute").symlink_to(here / "a b/setup.py")
    (here / "itself").symlink_to(here)
    (here / "sibling").symlink_to(f"{here}2/x")
    (here / "brought").symlink_to(library / "x y")
    (here / "relative").symlink_to("a b/setup.py")
    shell.values = {"CLOUDPLAN_OUTSIDE": f"/elsewhere/none\n{library}\n", "CLOUDPLAN_LINKS": "yes",
                    "CLOUDPLAN_PROGRAMS": "python3.99\n/usr/bin/python 3\n"}
    for _ in range(2):
        assert shell.prepare() == "prepare ok"
        site = there / "ve nv/lib/python3/site-packages"
        for name, text in files.items():
            expected = text
            if name != "module.py":
                expected = text.replace(f"{here}/", f"{there}/").replace(str(library), f"{there}/the library")
            assert (site / name).read_text() == expected, name
        assert f"__file__ = '{there}/develop'" in (there / "ve nv/bin/develop").read_text()
        assert (there / "ve nv/bin/other").read_text() == (shell.venv / "bin/other").read_text()
        links = {name: os.readlink(there / name) for name in ("absolute", "itself", "sibling", "brought", "relative")}
        assert links == {"absolute": f"{there}/a b/setup.py", "itself": str(there), "sibling": f"{here}2/x",
                         "brought": f"{there}/the library/x y", "relative": "a b/setup.py"}
        assert os.readlink(there / "ve nv/bin/python3.99") == "/usr/bin/python 3"


def test_a_virtualenv_that_knows_itself_by_another_name(shell):
    """It was made by way of a symbolic link."""
    shell.script("activate", "VIRTUAL_ENV=/link/ve\nexport VIRTUAL_ENV\n")
    shell.script("plain", "#!/link/ve/bin/sh\n")
    assert shell.prepare() == "prepare ok"
    assert (shell.copy / "ve nv/bin/plain").read_text() == f"#!{shell.copy}/ve nv/bin/sh\n"


def test_what_pip_made_is_put_back(shell):
    egg = "a b"

    def check():
        site = shell.copy / "ve nv/lib/python3/site-packages"
        assert [p.name for p in site.iterdir()] == ["new-2.dist-info"]
        assert (shell.copy / "a b/x.egg-info/made by pip").read_text() == "made\n"
        assert (shell.copy / "ve nv/bin/tool").read_text().endswith("\nnew\n")
        assert (shell.copy / "ve nv/bin/tool").stat().st_mode & 0o777 == 0o711

    assert shell.prepare(egg) == "prepare ok"
    assert (shell.home / "asked").read_text().splitlines() == [
        "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "-e", f"{shell.copy}/a b"]
    check()
    assert shell.ran() == 1
    shell.start(egg)
    for sync in (True, False, True):
        assert shell.again(sync) == "prepare ok"
        check()
        assert shell.ran() == 0
    # Everything that can make a difference.
    for path, text in (("a b/setup.py", "2\n"), ("a b/version.txt", "1\n"), ("a b/version.txt", "2\n"), ("a b/pkg/__init__.py", ""), ("a b/pkg/fast.c", "int x;\n"),
                       ("ve nv/pyvenv.cfg", "home = /bin\n"), ("ve nv/lib/python3/site-packages/other.pth", "/x\n")):
        (shell.project / path).parent.mkdir(exist_ok=True)
        (shell.project / path).write_text(text)
        assert shell.again() == "prepare ok"
        assert shell.ran() == 1, path
    # So does that it is gone.
    (shell.project / "ve nv/lib/python3/site-packages/other.pth").unlink()
    (shell.copy / "ve nv/lib/python3/site-packages/other.pth").unlink(missing_ok=True)
    assert shell.again() == "prepare ok" and shell.ran() == 1
    # Code does not; nor does any of what has been changed, now that it stays.
    (shell.project / "a b/pkg/code.py").write_text("x = 1\n")
    assert shell.again() == "prepare ok" and shell.ran() == 0
    check()
    assert shell.end() == 0
    # A second egg does.
    (shell.project / "c").mkdir()
    shell.start(egg, "c")
    assert shell.again() == "prepare ok" and shell.ran() == 1
    # What is kept and no longer whole does not count: pip runs, and again, until all of it is known once more.
    shutil.rmtree(shell.copy / ".cloudplan-develop/files/ve nv")
    for expected in (1, 1, 0):
        assert shell.again() == "prepare ok" and shell.ran() == expected
        check()
    assert shell.end() == 0


def test_two_syncs_in_one_session(shell):
    shell.start("a b")
    for expected in (1, 0):
        shell.ask()
        assert shell.answer() == "prepare ok"
        assert shell.ran() == expected
    assert shell.end() == 0


def test_pip_fails(shell):
    (shell.home / "fail").write_text("it cannot \x1b[31mbe")
    assert shell.prepare("a b") == "prepare pip: it cannot be (more in copy/.cloudplan-develop/pip.log there)"
    (shell.home / "fail").unlink()
    assert shell.prepare("a b") == "prepare ok"
    assert shell.ran() == 2


def test_an_egg_that_leads_elsewhere(shell, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (shell.project / "link").symlink_to(tmp_path / "elsewhere")
    for egg in ("link", "nowhere", "..", "a b/../.."):
        said = shell.prepare(egg)
        assert said == (f"prepare {egg} is no directory of the copy: --rsyncdir and --rsyncignore must not leave it out, "
                        "nor may it be a symbolic link that leads out of it")
    assert shell.ran() == 0
    # Nor is anything put back by way of a link that has come meanwhile.
    assert shell.prepare("a b") == "prepare ok" and shell.ran() == 1
    (shell.project / "a b/x.egg-info").symlink_to(tmp_path / "elsewhere")
    (shell.home / "fail").write_text("here already")  # so that pip is asked, and writes nothing
    assert shell.prepare("a b").startswith("prepare pip: here already") and shell.ran() == 1
    assert not list((tmp_path / "elsewhere").iterdir())
    # And scripts stay as they are where they are not the copy's.
    (shell.venv / "bin").rename(tmp_path / "elsewhere/bin")
    (shell.venv / "bin").symlink_to(tmp_path / "elsewhere/bin")
    before = (tmp_path / "elsewhere/bin/tool").stat()
    assert shell.prepare() == "prepare ok"
    assert shell.prepare("a b").startswith("prepare ve nv/bin is no directory of the copy")
    assert (tmp_path / "elsewhere/bin/tool").stat() == before and shell.ran() == 0


def test_the_end_of_the_input_ends_pip(shell):
    (shell.home / "hang").touch()
    shell.start("a b", alone=False)
    shell.ask()
    wait_until((shell.home / "hangs").exists, what="pip to hang")
    assert shell.end() == 0
    pattern = f"SSH_CONNECTION=of {os.getpid()} and no other".encode()

    def left():
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if pattern in environ.read_bytes():
                    found.append(environ.parent.name)
            except OSError:
                pass
        return found

    wait_until(lambda: not left(), timeout=10, what="pip to be gone")
    assert not (shell.copy / ".cloudplan-develop/digest").exists()
