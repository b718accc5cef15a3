"""Two runs of one project at once: each has a copy of its own on the node."""
import re
import shutil
import signal
import subprocess
import time

import pytest

from cloudnodes import patience, wait_until
from conftest import SRC

PLAN = ["--cloud-max-processes=1"]


def suite(word):
    """A project whose tests see WORD in every file of theirs, until the test says that it may end."""
    return {
        "pkg/__init__.py": f"WORD = {word!r}\n",
        "data.txt": word,
        "tests/test_word.py": f"""\
import os, time
import pytest
import pkg

@pytest.mark.parametrize("round", range(3))
def test_word(round, record_property):
    print("in", os.getcwd())
    assert pkg.WORD == open("data.txt").read() == {word!r}
    if round == 1:
        open(os.path.expanduser("~/started-{word}"), "w").close()
        end = time.monotonic() + {patience(60)}
        while not os.path.exists(os.path.expanduser("~/go-{word}")):
            assert time.monotonic() < end
            time.sleep(0.05)
""",
    }


class Run:
    """A run of the project as it is now; it goes on until end() is called."""

    def __init__(self, site, node, word, *options, **more):
        self.site, self.node, self.word = site, node, word
        site.write(suite(word))
        for name in ("started", "go"):
            (node.home / f"{name}-{word}").unlink(missing_ok=True)
        self.process = site.popen("run", *PLAN, *options, "--", "-q", "-rP", nodes=[node], **more)

    def started(self):
        wait_until((self.node.home / f"started-{self.word}").exists, 30, lambda: f"the tests of {self.word} to run: {self.process.poll()}")
        return self

    def end(self):
        """(status, stdout, the directories in which the tests ran)"""
        (self.node.home / f"go-{self.word}").touch()
        out, err = self.site.finish(self.process)
        assert self.process.returncode == 0, out + err
        assert "3 passed" in out
        return set(re.findall(r"^in (\S+)", out, re.M))


@pytest.fixture
def node(site):
    return site.nodes[0]


def holders(node):
    """Processes of guards."""
    return [words for _, words in node.processes() if "/bin/sh -s" in words]


def test_each_sees_its_own_tree(site, node):
    first = Run(site, node, "one").started()
    second = Run(site, node, "two", "--verify").started()
    # What the second one has copied is not in the first one's place.
    assert (node.home / "pytest_ci_project/data.txt").read_text() == "one"
    assert (node.home / "pytest_ci_project~2/data.txt").read_text() == "two"
    assert first.end() == {"/home/ci/pytest_ci_project"}
    assert second.end() == {"/home/ci/pytest_ci_project~2"}
    # Nobody has the first copy now: it is used again.
    assert Run(site, node, "three").started().end() == {"/home/ci/pytest_ci_project"}
    assert (node.home / "pytest_ci_project~2/data.txt").read_text() == "two"


def test_a_virtualenv_is_the_own_one_too(site, node):
    """Its interpreter is in the copy, whose name the xspec has."""
    files = {"test_a.py": "import sys\n\ndef test_where():\n    assert sys.prefix == '/home/ci/pytest_ci_project~2/venv'\n"}
    first = Run(site, node, "one").started()
    site.write(files)
    site.world.run(["python3", "-m", "venv", "--system-site-packages", "--without-pip", "venv"], cwd="/home/ci/project", check=True)
    (site.project / "venv/bin/tool").write_text("#!/home/ci/project/venv/bin/python3\n")
    (site.project / "venv/bin/tool").chmod(0o755)
    result = site.run("run", *PLAN, "--", "-q", nodes=[node])
    assert result.returncode == 0, result
    assert (node.home / "pytest_ci_project~2/venv/bin/tool").read_text() == "#!/home/ci/pytest_ci_project~2/venv/bin/python3\n"
    first.end()


def test_killed_guard_frees_its_copy(site, node):
    first = Run(site, node, "one", env={"CLOUDPLAN_BEAT": "1"}).started()  # or a sleep would outlive the guard for 15 s
    for pid, words in node.processes(infrastructure=True):
        if "/bin/sh -s" in words or words.startswith(("sshd: ci", "sshd-session: ci")):
            node.channel.call("signal", pid=pid, signal=int(signal.SIGKILL))
    site.finish(first.process)
    wait_until(lambda: not holders(node), 10, lambda: f"the guards to end: {holders(node)}")
    assert Run(site, node, "two").started().end() == {"/home/ci/pytest_ci_project"}


def test_killed_controller_frees_its_copy(site, node):
    first = Run(site, node, "one").started()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(10)
    (node.home / "go-one").touch()
    wait_until(lambda: not holders(node), 15, lambda: f"the guards to end: {holders(node)}")
    first.process.close()
    assert Run(site, node, "two").started().end() == {"/home/ci/pytest_ci_project"}


def test_all_copies_in_use(site, node):
    (node.home / "lock").write_text('cd; set -- pytest_ci_project; for n in 2 3 4 5 6 7 8 9; do set -- "$@" "pytest_ci_project~$n"; done\n'
                                    'umask 077; mkdir "$@"; n=1; command=\n'
                                    'for dir; do touch "$dir/.cloudplan"; command="$command flock -n $dir/.cloudplan"; done\n'
                                    'touch held; exec $command -c "touch held; sleep 1000"\n')
    site.write(suite("one"))
    with node.popen(["sh", "/home/ci/lock"]):
        wait_until((node.home / "held").exists, 10, "the locks")
        result = site.run("run", *PLAN, "--", "-q", nodes=[node])
    assert result.returncode == 69, result
    assert "no usable node: 10.0.120.1: pytest_ci_project to pytest_ci_project~9 are in use there by other runs" in result.stderr


def test_links_in_the_place_of_a_second_copy(site, node):
    """They are passed over, and nothing is written where they lead."""
    first = Run(site, node, "one").started()
    links = {"pytest_ci_project~2": ".ssh", "pytest_ci_project~3": "nothing", "pytest_ci_project~4": "empty"}
    node.run(["mkdir", "empty"], check=True)
    for name, target in links.items():
        (node.home / name).symlink_to(target)
    before = sorted(path.name for path in (node.home / ".ssh").iterdir())
    second = Run(site, node, "two").started()
    ran_in = second.end()
    first.end()
    for name in links:
        (node.home / name).unlink()
    (node.home / "empty").rmdir()
    assert ran_in == {"/home/ci/pytest_ci_project~5"}
    assert sorted(path.name for path in (node.home / ".ssh").iterdir()) == before and not (node.home / "nothing").exists()


def test_without_flock(make_site):
    site = make_site(nodes=1, hide=("flock",))
    node = site.nodes[0]
    site.write({"test_a.py": "def test_one(): pass\n"})
    result = site.run("run", *PLAN, "--", "-q")
    assert result.returncode == 0, result
    assert (node.home / "pytest_ci_project/test_a.py").exists()
    site.assert_nothing_left()


# The guard alone, in shells that a node's /bin/sh may be.

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"], ["ksh"], ["zsh", "--emulate", "sh"]]


class Guard:
    def __init__(self, shell, home, run, slot=0, beat=15):
        values = {"CLOUDPLAN_NONCE": "n0", "CLOUDPLAN_CHDIR": "copy", "CLOUDPLAN_RUN": run, "CLOUDPLAN_BEAT": str(beat)}
        text = f"CLOUDPLAN_SLOT={slot}\n" + "".join(f"{name}={value}\n" for name, value in values.items())
        text += "".join((SRC / "scripts" / name).read_text() for name in ("node/lease.sh", "node/prepare.sh", "node/guard.sh"))
        self.process = subprocess.Popen([*shell, "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
                                        env={"HOME": str(home), "PATH": "/usr/bin:/bin"})
        self.say(text)

    def say(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def answer(self):
        for line in self.process.stdout:
            if line.startswith(b"cloudplan-guard n0 "):
                return line.decode().split(maxsplit=2)[2].strip()
        return None

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(patience(20)) == 0


@pytest.fixture(params=[pytest.param(shell, id=shell[0]) for shell in SHELLS])
def shell(request):
    if not shutil.which(request.param[0]):
        pytest.skip(f"{request.param[0]} is not here")
    return request.param


def test_guard_in_other_shells(shell, tmp_path):
    first, second = Guard(shell, tmp_path, "run1"), Guard(shell, tmp_path, "run2")
    assert sorted([first.answer(), second.answer()]) == [f"ok 1 {tmp_path}/copy", f"ok 2 {tmp_path}/copy~2"]
    slot = 1 if "run1" in (tmp_path / "copy/.cloudplan").read_text() else 2
    # The connection of the first run broke, which its guard has not noticed.
    again = Guard(shell, tmp_path, "run1", slot)
    assert again.answer() == f"ok {slot} {tmp_path}/copy" + "~2" * (slot - 1)
    assert first.process.wait(patience(10)) == 0
    # Killed, with its reader still there.
    second.process.kill()
    third = Guard(shell, tmp_path, "run3")
    assert third.answer() == f"ok {3 - slot} {tmp_path}/copy" + "~2" * (2 - slot)
    for guard in (first, second):
        guard.process.wait(patience(10))
        guard.process.stdin.close()
        guard.process.stdout.close()
    for guard in (again, third):
        guard.end()


@pytest.mark.parametrize("kind", ["mark-link", "mark-dir", "file", "link", "no mark"])
def test_guard_looks_for_itself(shell, tmp_path, kind):
    """What has been put in the copy's place since the probe looked."""
    place, elsewhere = tmp_path / "copy", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        place.write_text("ten years")
    elif kind == "link":
        place.symlink_to("elsewhere")
    else:
        place.mkdir()
        (place / "precious").write_text("ten years")
        if kind == "mark-link":
            (place / ".cloudplan").symlink_to("precious")
        elif kind == "mark-dir":
            (place / ".cloudplan").mkdir()
    before = sorted(tmp_path.rglob("*"))
    guard = Guard(shell, tmp_path, "run1")
    assert re.match("copy exists there and was not made by cloudplan|copy is a symbolic link there", guard.answer())
    guard.process.stdin.close()
    guard.process.stdout.close()
    assert guard.process.wait(patience(20)) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert kind in ("link", "file") or (place / "precious").read_text() == "ten years"


def test_guard_ends_by_silence_in_all_shells(tmp_path):
    """All at once, since it takes its time: six beats."""
    shells = [shell for shell in SHELLS if shutil.which(shell[0])]
    guards = [Guard(shell, tmp_path / str(n), "run1", beat=1) for n, shell in enumerate(shells) if not (tmp_path / str(n)).mkdir()]
    begin = time.monotonic()
    assert [guard.answer() for guard in guards] == [f"ok 1 {tmp_path}/{n}/copy" for n in range(len(guards))]
    # A word now and then is enough: this goes on for longer than six beats.
    for n in range(4):
        wait_until(lambda n=n: time.monotonic() > begin + 2 * (n + 1), 5, "time to pass")
        for guard in guards:
            guard.say("alive\n")
    silent = time.monotonic()
    for guard in guards:
        assert guard.process.wait(patience(20)) == 0
        guard.process.stdin.close()
        guard.process.stdout.close()
    assert time.monotonic() > silent + 4
