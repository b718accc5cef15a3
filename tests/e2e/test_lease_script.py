"""The leases on a node: scripts/node-lease.sh in every shell that is here, with real processes that hold them.

A guard here is a shell that has read the script as the node's own does, and then runs the commands that the test
sends it, one a line. Where another user is needed the test runs as root and lets `nobody` be that user.
"""

import fcntl
import os
import pwd
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cloudnodes import patience, promised

SOURCE = Path(__file__).resolve().parent.parent.parent
SCRIPT = (SOURCE / "scripts" / "node-lease.sh").read_text()
IN_PLACE = "lease_dir=/tmp/cloudplan-leases\n"
DEADLINE = patience(60)

SHELLS = {
    "dash": ["dash"],
    "bash-posix": ["bash", "--posix"],
    "busybox": ["busybox", "sh"],
    "mksh": ["mksh"],
    "ksh93": ["ksh93"],
    "yash": ["yash"],
    "zsh": ["zsh", "--emulate", "sh"],
}
HERE = [name for name, argv in SHELLS.items() if shutil.which(argv[0])]

pytestmark = pytest.mark.skipif(not shutil.which("flock"), reason="no flock(1) here")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


class Guard:
    """A shell on the node."""

    def __init__(self, node, run, user=None, who=None, command=None, env=None):
        argv = command or [shutil.which(node.shell[0]), *node.shell[1:], "-s"]
        who = f"ci@{run}" if who is None else who
        head = "".join(f"{k}='{v}'\n" for k, v in {"CLOUDPLAN_RUN": run, "CLOUDPLAN_WHO": who}.items())
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", user=user, group=user, extra_groups=[] if user else None,
            env={"PATH": node.path, **(env or {})},
        )  # fmt: skip
        self.pid = self.process.pid
        self.said = b""
        self.file = node.leases / f"{run}.{self.pid}"
        self.send(head + node.script)

    def send(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def line(self):
        until = time.monotonic() + DEADLINE
        while b"\n" not in self.said:
            left = until - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], "no answer"
            read = os.read(self.process.stdout.fileno(), 65536)
            assert read, "the shell has ended"
            self.said += read
        line, self.said = self.said.split(b"\n", 1)
        return line.decode()

    def ask(self, command):
        self.send(command)
        return self.line()

    def take(self, *numbers):
        return self.ask("lease_take " + " ".join(map(str, numbers)))

    def list(self):
        self.send("lease_list; echo .")
        lines = []
        while (line := self.line()) != ".":
            lines.append(line)
        return sorted(lines)

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Node:
    def __init__(self, leases, shell):
        self.leases = leases
        self.shell = SHELLS[shell]
        assert IN_PLACE in SCRIPT
        self.script = SCRIPT.replace(IN_PLACE, f"lease_dir={leases}\n")
        self.path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        self.guards = []

    def guard(self, run, **how):
        self.guards.append(Guard(self, run, **how))
        return self.guards[-1]

    def files(self):
        return sorted(path.name for path in self.leases.iterdir())

    def write(self, name, text):
        """A file as somebody may have put it there."""
        if not self.leases.exists():
            self.leases.mkdir()
            self.leases.chmod(0o1777)
        path = self.leases / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o644)
        return path


@pytest.fixture(params=HERE)
def node(request):
    # not in pytest's tmp_path: other users have to get there
    top = Path(tempfile.mkdtemp(prefix="lease-"))
    top.chmod(0o1777)
    node = Node(top / "leases", request.param)
    yield node
    for guard in node.guards:
        guard.kill()
        guard.process.stdin.close()
        guard.process.stdout.close()
    shutil.rmtree(top)


def mem_available():
    return int(re.search(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())[1]) // 1024


def start_time(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[19]


def lease_of(guard, who="x@y", processes=1, mem=1, connection="-", uid=0):
    return f"1 {uid} {who} {processes} {mem} {guard.pid} {start_time(guard.pid)} {connection}\n"


def age(path, seconds):
    """As `touch -d` would."""
    then = time.time() - seconds
    os.utime(path, (then, then))


# One run after the other


def test_lease_is_held_and_dropped(node):
    first, second = node.guard("run1", who="jenkins@ci1"), node.guard("run2")
    assert first.list() == []
    assert not node.leases.exists()
    assert first.take(4, 10, 8, 1000) == "ok"
    assert node.leases.stat().st_mode == 0o41777
    assert node.files() == [first.file.name]
    assert first.file.read_text() == lease_of(first, "jenkins@ci1", 4, 10, uid=os.getuid())
    assert first.file.stat().st_mode == 0o100644
    assert first.list() == []
    assert second.list() == ["4 10 jenkins@ci1"]
    assert first.ask("lease_drop; echo $?") == "0"
    assert node.files() == []
    assert second.list() == []
    # where it is no more, nothing is touched, made or dropped
    assert first.ask("lease_touch; echo $?") == "1"
    assert first.ask("lease_drop; echo $?") == "0"
    assert node.files() == []


def test_cores_are_divided(node):
    first, second, third = (node.guard(f"run{i}") for i in range(3))
    assert first.take(5, 0, 8, 1000) == "ok"
    assert second.take(4, 0, 8, 1000) == "taken 5 0 ci@run0"
    assert second.take(3, 0, 8, 1000) == "ok"
    assert third.take(1, 0, 8, 1000) in ("taken 8 0 ci@run0", "taken 8 0 ci@run1")
    assert len(node.files()) == 2
    # another lease comes in place of one's own
    assert second.take(4, 0, 8, 1000) == "taken 5 0 ci@run0"
    assert second.take(1, 0, 8, 1000) == "ok"
    assert third.take(2, 0, 8, 1000) == "ok"
    assert third.list() == ["1 0 ci@run1", "5 0 ci@run0"]


def test_memory_is_divided(node):
    first, second = node.guard("run1"), node.guard("run2")
    assert first.take(1, 700, 8, 1000) == "ok"
    assert second.take(1, 301, 8, 1000) == "taken 1 700 ci@run1"
    # memory sets no limit
    assert second.take(7, 0, 8, 0) == "ok"
    assert second.take(1, 300, 8, 1000) == "ok"


def test_less_is_available_than_was(node):
    """What others use by now is not to be had, though it was there when the run asked for the facts."""
    first, second = node.guard("run1"), node.guard("run2")
    assert first.take(1, 10, 8, 1000) == "ok"
    answer = second.take(1, 900000000, 8, 990000000).split()
    assert (answer[0], answer[1], answer[3]) == ("taken", "1", "ci@run1")
    assert abs(990000000 - int(answer[2]) + 10 - mem_available()) < 1000


def test_one_that_is_alone_is_not_asked_for_room(node):
    """It has been planned with what the probe found, and the kernel's estimates come and go."""
    guard = node.guard("run1")
    assert guard.take(9, 2000, 8, 1000) == "ok"


def test_lease_of_the_same_run_on_the_same_machine(node):
    first, second, other = node.guard("run1"), node.guard("run1"), node.guard("run2")
    assert first.take(4, 0, 64, 1000) == "ok"
    assert second.list() == []
    assert second.take(4, 0, 64, 1000) == "ok"
    assert other.take(48, 0, 64, 1000) == "ok"
    # together with the other run they have to find room in the machine, which has at least 64 cores
    assert second.take(13, 0, 64, 1000) == "taken 52 0 ci@run2"
    assert second.take(12, 0, 64, 1000) == "ok"
    assert node.files() == sorted(g.file.name for g in (first, second, other))


@pytest.mark.parametrize("name", ["CLOUDPLAN_RUN", "CLOUDPLAN_CONTROLLER"])  # of a node's processes, of the controller's
def test_used_memory_is_not_taken_off_twice(node, name):
    first, second = node.guard("run1"), node.guard("run2")
    assert first.take(2, 300, 8, 100000) == "ok"
    hog = "import sys, time; x = b'x' * (100 << 20); print(flush=True); time.sleep(999)"
    worker = subprocess.Popen(
        ["/usr/bin/python3", "-c", hog], env={name: "run1"}, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        worker.stdout.readline()
        cores, mem, _ = second.list()[0].split()
        assert cores == "2"
        assert 150 < int(mem) <= 200
    finally:
        worker.kill()
        worker.communicate()
    assert second.list() == ["2 300 ci@run1"]


def test_used_memory_is_seen_by_connection_and_counted_once(node):
    connection = "fe80::1%eth0 4711 fe80::2%eth0 22"
    first, second = node.guard("run1", env={"SSH_CONNECTION": connection}), node.guard("run2")
    assert first.take(2, 300, 8, 100000) == "ok"
    assert first.file.read_text().endswith(" " + connection + "\n")
    hog = "import time; x = b'x' * (80 << 20); print(flush=True); time.sleep(999)"
    env = {"SSH_CONNECTION": connection, "CLOUDPLAN_RUN": "run1"}
    worker = subprocess.Popen(["/usr/bin/python3", "-c", hog], env=env, stdout=subprocess.PIPE)
    try:
        worker.stdout.readline()
        left = int(second.list()[0].split()[1])
        assert 170 < left <= 220
    finally:
        worker.kill()
        worker.communicate()


def test_more_used_than_leased(node):
    first, second = node.guard("run1"), node.guard("run2")
    assert first.take(2, 5, 8, 100000) == "ok"
    hog = "import time; x = b'x' * (50 << 20); print(flush=True); time.sleep(999)"
    worker = subprocess.Popen(
        ["/usr/bin/python3", "-c", hog], env={"CLOUDPLAN_RUN": "run1"}, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        worker.stdout.readline()
        assert second.list() == ["2 0 ci@run1"]
    finally:
        worker.kill()
        worker.communicate()


# The end of a lease


def test_dead_guard_has_no_lease(node):
    first, second = node.guard("run1"), node.guard("run2")
    assert first.take(8, 0, 8, 1000) == "ok"
    assert second.take(1, 0, 8, 1000) == "taken 8 0 ci@run1"
    first.kill()
    assert second.list() == []
    assert second.take(8, 0, 8, 1000) == "ok"
    # and what it has left is removed by the next one
    assert node.files() == [second.file.name]


def test_reused_pid_has_no_lease(node):
    first, second = node.guard("run1"), node.guard("run2")
    assert first.take(8, 0, 8, 1000) == "ok"
    first.file.write_text(first.file.read_text().replace(f" {start_time(first.pid)} ", " 12345 "))
    assert second.list() == []
    assert second.take(8, 0, 8, 1000) == "ok"


def test_silence_of_two_minutes_ends_a_lease(node):
    first, second = node.guard("run1"), node.guard("run2")
    assert first.take(8, 0, 8, 1000) == "ok"
    age(first.file, 100)
    assert second.list() == ["8 0 ci@run1"]
    age(first.file, 180)
    assert second.list() == []
    assert first.ask("lease_touch; echo $?") == "0"
    assert second.list() == ["8 0 ci@run1"]
    age(first.file, 180)
    assert second.take(8, 0, 8, 1000) == "ok"
    assert node.files() == sorted([first.file.name, second.file.name])


def test_litter_is_removed(node):
    """What was left by one that was killed while it wrote."""
    new, old = node.write(".abcdef", "half a line"), node.write(".ghijkl", "half a line")
    age(old, 600)
    guard = node.guard("run1")
    assert guard.take(1, 0, 8, 1000) == "ok"
    assert node.files() == sorted([guard.file.name, new.name])


# Several at once


def at_once(takers, *numbers):
    for guard in takers:
        guard.send("lease_take " + " ".join(map(str, numbers)))
    return [guard.line() for guard in takers]


def test_never_more_than_there_is(node):
    """Rounds of four that ask at the same time, each for what would leave room for just one more."""
    takers = [node.guard(f"run{i}") for i in range(4)]
    divided = 0
    for _ in range(50):
        answers = at_once(takers, 3, 300, 8, 1000)
        assert answers.count("ok") == 2, answers
        assert all(re.fullmatch(r"ok|taken 6 600 ci@run\d", answer) for answer in answers), answers
        divided += len({answer for answer in answers}) > 1
        for guard in takers:
            guard.send("lease_drop")
            guard.ask("echo")
    assert divided == 50


def test_two_that_start_together_divide_the_machine(node):
    """The directory is not there yet; who comes second gets less when it asks again."""
    for _ in range(5):
        takers = [node.guard("run1"), node.guard("run2")]
        answers = at_once(takers, 5, 0, 8, 1000)
        assert sorted(answers)[0] == "ok", answers
        second = takers[answers.index("ok") ^ 1]
        taken = re.fullmatch(r"taken 5 0 ci@run\d", sorted(answers)[1])
        assert taken, answers
        assert second.take(8 - 5, 0, 8, 1000) == "ok"
        assert sum(int((node.leases / name).read_text().split()[3]) for name in node.files()) == 8
        for guard in takers:
            guard.end()
        shutil.rmtree(node.leases)


def test_lock_that_is_not_given_back(node):
    guard = node.guard("run1")
    assert guard.take(1, 0, 8, 1000) == "ok"
    directory = os.open(node.leases, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        began = time.monotonic()
        answer = guard.take(2, 0, 8, 1000)
        assert answer == f"none another process there has held the lock on {node.leases} for 5 seconds"
        assert 4 < time.monotonic() - began < promised(20)
    finally:
        os.close(directory)
    assert guard.take(1, 0, 8, 1000) == "ok"
    assert node.files() == [guard.file.name]


# Other users


@as_root
def test_two_users(node):
    nobody = pwd.getpwnam("nobody").pw_uid
    first, second = node.guard("run1", user=nobody), node.guard("run2")
    assert first.take(5, 100, 8, 1000) == "ok"
    assert first.file.stat().st_uid == nobody
    assert second.list() == ["5 100 ci@run1"]
    assert second.take(4, 0, 8, 1000) == "taken 5 100 ci@run1"
    assert second.take(3, 0, 8, 1000) == "ok"
    assert first.list() == ["3 0 ci@run2"]
    second.kill()
    assert first.list() == []
    # what another user has left stays, and does not count
    assert first.take(8, 0, 8, 1000) == "ok"
    assert node.files() == sorted([first.file.name, second.file.name])


@as_root
def test_other_users_memory_is_counted_in_full(node):
    nobody = pwd.getpwnam("nobody").pw_uid
    first, second = node.guard("run1"), node.guard("run2", user=nobody)
    assert first.take(2, 300, 8, 100000) == "ok"
    hog = "import time; x = b'x' * (100 << 20); print(flush=True); time.sleep(999)"
    worker = subprocess.Popen(
        ["/usr/bin/python3", "-c", hog], env={"CLOUDPLAN_RUN": "run1"}, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        worker.stdout.readline()
        assert second.list() == ["2 300 ci@run1"]
        # Nor is it taken off what another user claims for our own run.
        claimed = node.write("run1.1", f"1 0 evil@x 3 500 1 {start_time(1)} -\n")
        os.chown(claimed, nobody, nobody)
        cores, mem, who = node.guard("run3").list()[0].split()
        assert (cores, who) == ("2", "ci@run1") and int(mem) <= 200
        assert node.guard("run3").list()[1] == "3 500 evil@x"
    finally:
        worker.kill()
        worker.communicate()


@as_root
def test_private_umask_hides_nothing(node):
    nobody = pwd.getpwnam("nobody").pw_uid
    first, second = node.guard("run1"), node.guard("run2", user=nobody)
    first.send("umask 077")
    assert first.take(2, 3, 8, 1000) == "ok"
    assert second.list() == ["2 3 ci@run1"]


@as_root
def test_directory_that_only_its_owner_can_write_to(node):
    node.leases.mkdir(mode=0o755)
    node.leases.chmod(0o1755)
    guard = node.guard("run1", user=pwd.getpwnam("nobody").pw_uid)
    assert guard.take(1, 0, 8, 1000) == f"none {node.leases} is not a directory of mode 1777 there: remove it"


# Hostile directories


@pytest.mark.parametrize("kind", ["link", "dangling", "file", "fifo", "not sticky"])
def test_directory_is_none(node, kind):
    elsewhere = node.leases.parent / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o1777)
    if kind == "link":
        node.leases.symlink_to(elsewhere)
    elif kind == "dangling":
        node.leases.symlink_to("nowhere")
    elif kind == "file":
        node.leases.write_text("")
    elif kind == "fifo":
        os.mkfifo(node.leases)
    else:
        node.leases.mkdir()
        node.leases.chmod(0o777)
    guard, other = node.guard("run1"), node.guard("run2")
    if kind in ("link", "not sticky"):
        (node.leases / "run2.1").write_text(lease_of(other))
    assert guard.list() == []
    assert guard.take(1, 0, 8, 1000) == f"none {node.leases} is not a directory of mode 1777 there: remove it"
    assert [path.name for path in elsewhere.iterdir()] == (["run2.1"] if kind == "link" else [])
    assert not (node.leases.parent / "nowhere").exists()


def test_directory_cannot_be_made(node):
    node.script = node.script.replace(str(node.leases), str(node.leases.parent / "absent/leases"))
    guard = node.guard("run1")
    assert guard.take(1, 0, 8, 1000) == f"none {node.leases.parent}/absent/leases cannot be made there"


def garbage(holder):
    good = lease_of(holder)
    fields = good.split()
    yield ""
    yield "\n"
    yield "\n" * 600
    yield " " + good
    yield good.replace("1 ", "2 ", 1)
    yield good[: len(good) // 2]
    yield "x" * 400
    yield b"\0" * 400
    yield bytes(range(256))
    yield b"\xff\xfe" + good.encode()
    yield good.strip() + "x" * 600
    for place, values in {
        1: ["", "-1", "x", "99999999999"],
        2: ["", "a b", "a\tb", "\033[2J", "$(touch${IFS}/x)", "`id`", "a/b", "ä", "x" * 65, "*"],
        3: ["0", "-1", "", "01", "1e3", "100000", "18446744073709551617", "8+8", "a[0]"],
        4: ["-1", "", "00", "010", "1000000000", "99999999999999999999", "x", "1.5"],
        5: ["0", "-1", "", "self", "../../x", "99999999999"],
        6: ["", "-1", "x", "999999999999999999999"],
        7: ["", "x", "$(id)", "1.2.3.4 1 5.6.7.8 2; id", "x" * 300],
    }.items():
        for value in values:
            yield " ".join([*fields[:place], value, *fields[place + 1 :]]) + "\n"


def test_garbage(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    count = 0
    for count, text in enumerate(garbage(holder)):
        node.write(f"garbage{count}.1", text)
    assert count > 40
    assert guard.list() == []
    node.write("good.1", lease_of(holder))
    assert guard.list() == ["1 1 x@y"]
    assert guard.take(8, 0, 8, 1000) == "taken 1 1 x@y"
    assert guard.take(7, 0, 8, 1000) == "ok"
    assert not Path("/x").exists()


def test_names(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    good = lease_of(holder)
    for name in ["-rf", "--help", "a b", "a\nb", "\n", "*", "?", "A.1", "a:1 0 x@y 9 9 1 0 -", "$(id)", "ä.1", ".a.1", "\udcff", "a\033[2J",
                 "'", '"', "\\", "-exec", "a" * 250 + "-"]:  # fmt: skip
        (node.leases.mkdir(), node.leases.chmod(0o1777)) if not node.leases.exists() else None
        (node.leases / name).write_text(good)
    assert guard.list() == []
    assert guard.take(8, 0, 8, 1000) == "ok"


def test_what_is_no_file(node):
    """None of them is opened: a FIFO would be waited for."""
    holder, guard = node.guard("run1"), node.guard("run2")
    good = node.write("good.1", lease_of(holder))
    os.mkfifo(node.leases / "fifo.1")
    os.mkfifo(node.leases / "lock")
    os.mkfifo(node.leases / ".lock")
    (node.leases / "dir.1").mkdir()
    (node.leases / "0").symlink_to("nowhere")
    (node.leases / "link.1").symlink_to(good)
    (node.leases / "zero.1").symlink_to("/dev/zero")
    assert guard.list() == ["1 1 x@y"]
    assert guard.take(7, 0, 8, 1000) == "ok"


def test_dangling_link_hides_no_lease(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    node.write("good.1", lease_of(holder))
    (node.leases / "0").symlink_to("nowhere")
    assert guard.list() == ["1 1 x@y"]


def test_large_file(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    node.write("long.1", lease_of(holder) + "more\n" * 1000)
    with node.write("large.1", lease_of(holder)).open("ab") as file:
        file.truncate(1 << 40)
    began = time.monotonic()
    assert guard.list() == []
    assert guard.take(8, 0, 8, 1000) == "ok"
    assert time.monotonic() - began < promised(20)


def test_thousands_of_files(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    dead = lease_of(holder).replace(f" {holder.pid} ", " 4194303 ")
    for i in range(5000):
        node.write(f"x{i}.1", dead)
    began = time.monotonic()
    assert guard.list() == []
    # those that are not read may be leases
    assert guard.take(8, 0, 8, 1000) == f"none more than 1000 files are in {node.leases} there: remove it"
    assert time.monotonic() - began < promised(40)


def test_largest_leases(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    for i in range(300):
        node.write(f"x{i}.1", lease_of(holder, processes=99999, mem=999999999))
    assert guard.list() == ["65536 999999999 x@y"] * 300
    assert guard.take(8, 1, 8, 999999999) == "taken 65536 999999999 x@y"
    assert guard.take(8, 0, 8, 0) == "taken 65536 999999999 x@y"


def test_lease_that_claims_another_users_process(node):
    """It can name any process that lives: so could one that starts a process for it. The holder's name is what tells."""
    guard = node.guard("run1")
    node.write("evil.1", f"1 0 evil@x 8 0 1 {start_time(1)} -\n")
    assert guard.take(1, 0, 8, 1000) == "taken 8 0 evil@x"


# What is asked


@pytest.mark.parametrize("numbers", [(), (1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 3, "x"), ("-1", 2, 3, 4), ("01", 2, 3, 4),
                                     (1, 10**9, 3, 4), ("''", 2, 3, 4), ("'*'", 2, 3, 4)])  # fmt: skip
def test_asked_in_a_wrong_way(node, numbers):
    assert node.guard("run1").take(*numbers) == "none the lease was asked for in a wrong way"
    assert not node.leases.exists()


@pytest.mark.parametrize("run", ["", "a.b", "../x", "A", "a b", "*"])
def test_odd_run(node, run):
    assert node.guard(run).take(1, 2, 3, 4) == "none the lease was asked for in a wrong way"
    assert not node.leases.exists()


@pytest.mark.parametrize(
    "who, shown",
    [("", "unknown"), ("a b", "unknown"), ("\033[2J", "unknown"), ("*", "unknown"), ("x" * 80, "x" * 64), ("a@::1", "a@::1")],
)
def test_who(node, who, shown):
    assert node.guard("run1", who=who).take(1, 2, 3, 4) == "ok"
    assert node.guard("run2").list() == [f"1 2 {shown}"]


@pytest.mark.parametrize("connection", ["", "x", "a\nb c d", "$(id) 1 2 3", "x" * 300])
def test_odd_connection(node, connection):
    guard = node.guard("run1", env={"SSH_CONNECTION": connection})
    assert guard.take(1, 2, 3, 4) == "ok"
    assert guard.file.read_text() == lease_of(guard, "ci@run1", 1, 2, uid=os.getuid())


def test_no_flock(node):
    guard = node.guard("run1")
    guard.send("command() { [ \"$2\" != flock ]; }")
    assert guard.take(1, 0, 8, 1000) == "none flock(1) is missing there: install util-linux"


def test_hostile_environment(node):
    env = {"IFS": "/ .=0", "CDPATH": "/", "POSIXLY_CORRECT": "1", "GREP_OPTIONS": "-v", "GREP_COLORS": "x", "LC_ALL": "C.UTF-8",
           "lease_dir": "/", "lease_lines": "x", "lease_who": "evil"}  # fmt: skip
    first, second = node.guard("run1", env=env), node.guard("run2", env=env)
    assert first.take(2, 3, 8, 1000) == "ok"
    assert second.list() == ["2 3 ci@run1"]
    assert second.take(7, 0, 8, 1000) == "taken 2 3 ci@run1"


def test_guard_that_ignores_signals(node):
    """As the node's does, whose connection may end at any time."""
    first, second = node.guard("run1"), node.guard("run2")
    for guard in (first, second):
        guard.send("exec 2>/dev/null; trap '' HUP PIPE TERM INT")
    assert first.take(2, 3, 8, 1000) == "ok"
    assert second.list() == ["2 3 ci@run1"]
    assert second.take(7, 0, 8, 1000) == "taken 2 3 ci@run1"


def test_cut_short_it_does_nothing(node):
    lines = SCRIPT.splitlines(keepends=True)
    argv = [shutil.which(node.shell[0]), *node.shell[1:], "-s"]
    for last in range(0, len(lines), 29):
        done = subprocess.run(argv, input="".join(lines[:last]), cwd=node.leases.parent, capture_output=True, text=True)
        assert done.stdout == ""
    assert os.listdir(node.leases.parent) == []
