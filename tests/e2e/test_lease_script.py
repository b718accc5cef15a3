"""The leases on a node: scripts/node/lease.sh in every shell that is here, with real processes that hold them.

A guard here is a shell that has read the script as the node's own does, and then runs the commands that the test
sends it, one a line. Where another user is needed the test runs as root and lets `nobody` be that user.
"""

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

from cloudnodes import patience, wait_until

SOURCE = Path(__file__).resolve().parent.parent.parent
SCRIPT = (SOURCE / "scripts" / "node/lease.sh").read_text()
IN_PLACE = "lease_parent=/tmp\n"
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
# For what takes long: where the shell makes no difference, and where the one that differs most is enough.
in_one_shell = pytest.mark.parametrize("node", HERE[:1], indirect=True)
in_two_shells = pytest.mark.parametrize("node", [name for name in ("dash", "busybox") if name in HERE], indirect=True)

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
        self.file = node.of(user) / f"{run}.{self.pid}"
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
    def __init__(self, top, shell):
        self.top = top
        self.leases = self.of(None)
        self.shell = SHELLS[shell]
        assert IN_PLACE in SCRIPT
        self.script = SCRIPT.replace(IN_PLACE, f"lease_parent={top}\n")
        self.path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        self.guards = []

    def guard(self, run, **how):
        self.guards.append(Guard(self, run, **how))
        return self.guards[-1]

    def of(self, user):
        """The directory of this user's leases."""
        return self.top / f"cloudplan-leases-{os.getuid() if user is None else user}"

    def files(self, user=None):
        folder = self.of(user)
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def everything(self):
        """All that is there, and what tells that it has been changed; that it was looked at (st_atime) does not."""
        return [(path, s.st_mode, s.st_ino, s.st_uid, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
                for path in sorted(self.top.rglob("*")) for s in [path.lstat()]]

    def write(self, name, text, user=None):
        """A file as the user may have put it there."""
        folder = self.of(user)
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o644)
        if user is not None:
            os.chown(folder, user, user)
            os.chown(path, user, user)
        return path


@pytest.fixture(params=HERE)
def node(request):
    # not in pytest's tmp_path: other users have to get there
    top = Path(tempfile.mkdtemp(prefix="lease-"))
    top.chmod(0o1777)
    node = Node(top, request.param)
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


SPACE = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))


def lease_of(guard, who="x@y", processes=1, mem=1, connection="-", uid=0, space=SPACE, ticket="1.00", held=True):
    pid = getattr(guard, "pid", guard)
    line = f"2 {uid} {who} {processes} {mem} {pid} {start_time(pid)} {space} {ticket} {connection}\n"
    return line + "held\n" * held


def without_ticket(text):
    return re.sub(r" \d+\.\d\d ", " 1.00 ", text)


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
    assert node.leases.stat().st_mode == 0o40755
    assert node.files() == [first.file.name]
    assert without_ticket(first.file.read_text()) == lease_of(first, "jenkins@ci1", 4, 10, uid=os.getuid())
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
    # the second one's comes in place of its former one, under its other name
    assert node.files() == sorted([first.file.name, second.file.name + ".2", other.file.name])


MINE = f"run{os.getpid()}x"  # processes of others on this machine may have another one


@in_two_shells
@pytest.mark.parametrize("name", ["CLOUDPLAN_RUN", "CLOUDPLAN_CONTROLLER"])  # of a node's processes, of the controller's
def test_used_memory_is_not_taken_off_twice(node, name):
    first, second = node.guard(MINE), node.guard("run2")
    assert first.take(2, 300, 8, 100000) == "ok"
    hog = "import sys, time; x = b'x' * (100 << 20); print(flush=True); time.sleep(999)"
    worker = subprocess.Popen(
        ["/usr/bin/python3", "-c", hog], env={name: MINE}, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        worker.stdout.readline()
        cores, mem, _ = second.list()[0].split()
        assert cores == "2"
        assert 150 < int(mem) <= 200
    finally:
        worker.kill()
        worker.communicate()
    assert second.list() == [f"2 300 ci@{MINE}"]


def test_used_memory_is_seen_by_connection_and_counted_once(node):
    connection = f"fe80::1%eth0 {os.getpid()} fe80::2%eth0 22"
    first, second = node.guard(MINE, env={"SSH_CONNECTION": connection}), node.guard("run2")
    assert first.take(2, 300, 8, 100000) == "ok"
    assert first.file.read_text().endswith(" " + connection + "\nheld\n")
    hog = "import time; x = b'x' * (80 << 20); print(flush=True); time.sleep(999)"
    env = {"SSH_CONNECTION": connection, "CLOUDPLAN_RUN": MINE}
    worker = subprocess.Popen(["/usr/bin/python3", "-c", hog], env=env, stdout=subprocess.PIPE)
    try:
        worker.stdout.readline()
        left = int(second.list()[0].split()[1])
        assert 170 < left <= 220
    finally:
        worker.kill()
        worker.communicate()


@in_one_shell
def test_more_used_than_leased(node):
    first, second = node.guard(MINE), node.guard("run2")
    assert first.take(2, 5, 8, 100000) == "ok"
    hog = "import time; x = b'x' * (50 << 20); print(flush=True); time.sleep(999)"
    worker = subprocess.Popen(
        ["/usr/bin/python3", "-c", hog], env={"CLOUDPLAN_RUN": MINE}, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        worker.stdout.readline()
        assert second.list() == [f"2 0 ci@{MINE}"]
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


def drop_all(takers):
    for guard in takers:
        guard.send("lease_drop; echo dropped")
    assert {guard.line() for guard in takers} == {"dropped"}


NOBODY = pwd.getpwnam("nobody").pw_uid
USERS = {"one user": [None, None, None], "two users": [None, NOBODY, NOBODY - 1]}
TRIES = int(os.environ.get("CLOUDPLAN_LEASE_TRIES", "12"))  # a thousand take an hour where a fork takes 5 ms


@in_two_shells
@pytest.mark.parametrize("users", [name for name in USERS if name == "one user" or os.geteuid() == 0])
def test_never_more_than_there_is(node, users):
    """Three that ask at the same time, of whom one, or two, can have what they ask for."""
    takers = [node.guard(f"run{i}", user=user) for i, user in enumerate(USERS[users])]
    for n in range(TRIES):
        wanted = (3, 4, 5, 8)[n % 4]
        answers = at_once(takers[: 2 + n % 2], wanted, 100, 8, 1000)
        # all of the room is dealt out: nobody is refused for what nobody got
        assert answers.count("ok") == min(8 // wanted, len(answers)), (n, answers)
        held = answers.count("ok")
        assert all(re.fullmatch(rf"ok|taken {held * wanted} {held * 100} ci@run\d", answer) for answer in answers), answers
        drop_all(takers)
        assert node.files() == node.files(NOBODY) == []


# Pauses between the steps: before the claim is written, before others are read, before the claim becomes a lease.
STEPS = {
    "    (\n        umask 022\n": "sleep $pause1",
    "    lease_each lease_count\n": "sleep $pause2",
    "    (echo held >>": "sleep $pause3",
}


@in_two_shells
def test_in_every_order(node):
    """One of the two pauses at one or two of the steps, so that the other one takes all or a part of its own meanwhile."""
    for line, pause in STEPS.items():
        assert line in node.script
        node.script = node.script.replace(line, f"    {pause}\n{line}")
    takers = [node.guard("run1"), node.guard("run2")]
    for n, pauses in enumerate(["1 0 0", "0 1 0", "0 0 1", "1 1 0", "1 0 1", "0 1 1"]):
        for guard, slow in zip(takers, (n % 2, 1 - n % 2)):
            for step, pause in enumerate(pauses.split(), 1):
                guard.send(f"pause{step}={0.3 if slow and pause == '1' else 0}")
        answers = at_once(takers, 5, 0, 8, 1000)
        assert sorted(answers)[0] == "ok" and answers.count("ok") == 1, (pauses, answers)
        assert re.fullmatch(r"taken 5 0 ci@run\d", sorted(answers)[1]), (pauses, answers)
        drop_all(takers)


@in_one_shell
def test_two_that_start_together_divide_the_machine(node):
    """The directory is not there yet; who comes second gets less when it asks again."""
    for _ in range(3):
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


@in_two_shells
@pytest.mark.parametrize("ticket", ["0.01", "999999999.00"])
def test_claim_that_is_never_decided(node, ticket):
    """Its guard is stopped, or it is somebody's who wants to be in the way: it counts as held after a while."""
    other, guard = node.guard("run2"), node.guard("run1")
    node.write(f"run2.{other.pid}", lease_of(other, "ci@run2", 5, 0, ticket=ticket, held=False))
    began = time.monotonic()
    assert guard.take(4, 0, 8, 1000) == "taken 5 0 ci@run2"
    assert 4 < time.monotonic() - began < DEADLINE
    assert node.files() == [f"run2.{other.pid}"]
    # what has room beside it does not wait, and what has none beside leases neither
    assert guard.take(3, 0, 8, 1000) == "ok"
    assert guard.list() == ["5 0 ci@run2"]


@in_two_shells
def test_claims_that_are_decided_meanwhile(node):
    earlier, later, guard = node.guard("run2"), node.guard("run3"), node.guard("run1")
    first = node.write(f"run2.{earlier.pid}", lease_of(earlier, "ci@run2", 5, 0, ticket="0.01", held=False))
    last = node.write(f"run3.{later.pid}", lease_of(later, "ci@run3", 5, 0, ticket="999999999.00", held=False))
    guard.send("lease_take 4 0 8 1000")
    wait_until(guard.file.exists, DEADLINE, "the claim")
    wait_until(lambda: not guard.file.exists(), DEADLINE, "the claim to give way to the earlier one")
    first.unlink()
    wait_until(guard.file.exists, DEADLINE, "the claim to be made anew")
    with last.open("a") as file:
        file.write("held\n")
    assert guard.line() == "taken 5 0 ci@run3"
    guard.send("lease_take 3 0 4 1000")
    last.unlink()
    assert guard.line() in ("ok", "taken 5 0 ci@run3")


@in_two_shells
def test_room_that_is_free_too_late(node):
    """It has given way to an earlier claim for as long as it waits; then that one is gone, and nobody can be said to have the room."""
    late = "    lease_late=\n"
    assert late in node.script
    node.script = node.script.replace(late, f"{late}    [ ! -e {node.top}/late ] || lease_late=1\n")
    # it waits for the other one's end just before it looks for the last time
    line = "    lease_each lease_count\n"
    assert line in node.script
    node.script = node.script.replace(line, f"    [ -n \"$lease_claimed\" ] || while [ -e {node.top}/wait ]; do sleep 0.1; done\n{line}")
    (node.top / "wait").touch()
    other, guard = node.guard("run2"), node.guard("run1")
    claim = node.write(f"run2.{other.pid}", lease_of(other, "ci@run2", 8, 0, ticket="0.01", held=False))
    guard.send("lease_take 4 0 8 1000")
    wait_until(guard.file.exists, DEADLINE, "the claim")
    wait_until(lambda: not guard.file.exists(), DEADLINE, "the claim to give way")
    claim.unlink()
    (node.top / "late").touch()
    (node.top / "wait").unlink()
    assert guard.line() == "ok"


@in_two_shells
def test_guard_that_is_killed_while_it_claims(node):
    other, guard = node.guard("run2"), node.guard("run1")
    node.write(f"run2.{other.pid}", lease_of(other, "ci@run2", 8, 0, ticket="0.01", held=False))
    guard.send("lease_take 4 0 8 1000")
    wait_until(guard.file.exists, DEADLINE, "the claim")
    other.kill()
    assert guard.line() == "ok"


# Other users


@as_root
def test_two_users(node):
    first, second = node.guard("run1", user=NOBODY), node.guard("run2")
    assert first.take(5, 100, 8, 1000) == "ok"
    assert first.file.stat().st_uid == NOBODY and first.file.parent != second.file.parent
    assert second.list() == ["5 100 ci@run1"]
    assert second.take(4, 0, 8, 1000) == "taken 5 100 ci@run1"
    assert second.take(3, 0, 8, 1000) == "ok"
    assert first.list() == ["3 0 ci@run2"]
    second.kill()
    assert first.list() == []
    # what another user has left stays, and does not count
    assert first.take(8, 0, 8, 1000) == "ok"
    assert (node.files(), node.files(NOBODY)) == ([second.file.name], [first.file.name + ".2"])


@in_one_shell
@as_root
def test_other_users_memory_is_counted_in_full(node):
    first, second = node.guard(MINE), node.guard("run2", user=NOBODY)
    assert first.take(2, 300, 8, 100000) == "ok"
    hog = "import time; x = b'x' * (100 << 20); print(flush=True); time.sleep(999)"
    worker = subprocess.Popen(
        ["/usr/bin/python3", "-c", hog], env={"CLOUDPLAN_RUN": MINE}, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        worker.stdout.readline()
        assert second.list() == [f"2 300 ci@{MINE}"]
        # Nor is it taken off what another user claims for our own run.
        node.write(f"{MINE}.1", lease_of(1, "evil@x", 3, 500), user=NOBODY)
        cores, mem, who = node.guard("run3").list()[0].split()
        assert (cores, who) == ("2", f"ci@{MINE}") and int(mem) <= 200
        assert node.guard("run3").list()[1] == "3 500 evil@x"
    finally:
        worker.kill()
        worker.communicate()


@as_root
def test_private_umask_hides_nothing(node):
    first, second = node.guard("run1"), node.guard("run2", user=NOBODY)
    first.send("umask 077")
    assert first.take(2, 3, 8, 1000) == "ok"
    assert second.list() == ["2 3 ci@run1"]


def test_directory_that_was_closed_or_open_to_all(node):
    first, second = node.guard("run1"), node.guard("run2")
    for mode in (0o700, 0o777):
        node.leases.mkdir(exist_ok=True)
        node.leases.chmod(mode)
        assert first.take(2, 3, 8, 1000) == "ok"
        assert node.leases.stat().st_mode & 0o777 == 0o755
        assert second.list() == ["2 3 ci@run1"]


@as_root
def test_what_others_have_put_there(node):
    """Only what is in a directory that the user whose name it has owns, and nobody else can write to, and that he owns, too."""
    guard = node.guard("run1")
    good = lease_of(guard, "evil@x", 8)
    node.write("own.1", good, user=NOBODY)
    assert guard.list() == ["8 1 evil@x"]
    folder = node.of(NOBODY)
    for spoil, mend in [
        (lambda: os.chown(folder, 4242, 4242), lambda: os.chown(folder, NOBODY, NOBODY)),
        (lambda: folder.chmod(0o777), lambda: folder.chmod(0o755)),
        (lambda: folder.chmod(0o775), lambda: folder.chmod(0o755)),
        (lambda: os.chown(folder / "own.1", 4242, 4242), lambda: os.chown(folder / "own.1", NOBODY, NOBODY)),
        (lambda: [folder.rename(node.top / "x"), folder.symlink_to("x")], lambda: [folder.unlink(), (node.top / "x").rename(folder)]),
        (lambda: folder.rename(node.top / "cloudplan-leases-0815"), lambda: (node.top / "cloudplan-leases-0815").rename(folder)),
        (lambda: folder.rename(node.top / f"cloudplan-leases-{NOBODY} "), lambda: (node.top / f"cloudplan-leases-{NOBODY} ").rename(folder)),
    ]:
        spoil()
        assert guard.list() == []
        mend()
    assert guard.list() == ["8 1 evil@x"]
    # Nor is anything of it touched or removed: it is old, its guard is dead.
    for path in (node.write("own.1", good.replace(f" {guard.pid} ", " 4194303 "), user=NOBODY), node.write("old.1", "x", user=NOBODY)):
        age(path, 100 if path.name == "own.1" else 1000)
    before = [path.stat() for path in folder.iterdir()]
    assert guard.take(8, 0, 8, 1000) == "ok"
    assert [(s.st_mtime, s.st_mode) for s in before] == [(path.stat().st_mtime, path.stat().st_mode) for path in folder.iterdir()]


@in_two_shells
@as_root
@pytest.mark.parametrize("kind", ["directory", "link", "link to own", "file", "fifo"])
def test_another_user_was_first(node, kind):
    """He has put something in the place of this user's directory: it is left alone, whatever he does with it."""
    victim = node.top / "victim"
    victim.mkdir(mode=0o700)
    (victim / "run1.1").write_text("precious")
    if kind == "directory":
        node.leases.mkdir()
    elif kind == "file":
        node.leases.write_text("")
    elif kind == "fifo":
        os.mkfifo(node.leases)
    else:
        node.leases.symlink_to(victim if kind == "link to own" else node.top / "nowhere")
    os.chown(node.leases, NOBODY, NOBODY, follow_symlinks=False)
    guard = node.guard("run1")
    if kind == "directory":
        (node.leases / guard.file.name).symlink_to(victim / "run1.1")
    before = node.everything()
    assert guard.take(1, 0, 8, 1000) == f"none {node.leases} is not this user's directory there: have it removed"
    assert guard.ask("lease_touch; echo $?") == "1"
    assert guard.ask("lease_drop; echo $?") == "0"
    assert guard.list() == []
    assert before == node.everything()


@in_one_shell
@as_root
def test_files_that_change_while_they_are_read(node):
    """Another user's file becomes a FIFO, an endless file, a link, time and again: nobody waits for it for long."""
    guard = node.guard("run1")
    node.write("a.1", lease_of(guard), user=NOBODY)
    with (node.top / "huge").open("wb") as file:
        file.truncate(1 << 40)
    swap = """
while :; do
    rm -f a.1; mkfifo a.1; rm -f a.1; echo x >a.1; rm -f a.1; ln -s ../huge a.1; rm -f a.1; echo x >a.1; rm -f a.1; ln -s /dev/zero a.1
done
"""
    with subprocess.Popen(["sh", "-c", swap], cwd=node.of(NOBODY), user=NOBODY, group=NOBODY, extra_groups=[], stderr=subprocess.DEVNULL) as swapper:
        try:
            for _ in range(5):
                began = time.monotonic()
                assert guard.take(8, 0, 8, 1000) == "ok"
                assert time.monotonic() - began < 60
        finally:
            swapper.kill()


@as_root
def test_place_where_others_could_rename(node):
    guard = node.guard("run1")
    for mode, owner in [(0o777, 0), (0o1777, NOBODY), (0o775, 0)]:
        node.top.chmod(mode)
        os.chown(node.top, owner, owner)
        assert guard.take(1, 0, 8, 1000) == f"none {node.top} is not root's there, or others can rename what is in it"
        assert not node.leases.exists()


def test_directory_cannot_be_made(node):
    node.script = node.script.replace(f"lease_parent={node.top}", f"lease_parent={node.top}/absent")
    guard = node.guard("run1")
    assert guard.take(1, 0, 8, 1000) == f"none {node.top}/absent is not root's there, or others can rename what is in it"


def test_another_container_s_guard(node):
    """They share /tmp, but none sees the other's processes: only its touches tell that it lives."""
    guard, other = node.guard("run1"), node.guard("run2")
    far = node.write("run3.5", lease_of(other, "ci@run3", 8, space="4026530000").replace(f" {other.pid} ", " 4194303 "))
    assert guard.list() == ["8 1 ci@run3"]
    assert guard.take(1, 0, 8, 1000) == "taken 8 1 ci@run3"
    age(far, 180)
    assert guard.list() == []


def test_no_room_for_files(node):
    """A limit of files' sizes ends who writes: it is said, and the guard goes on."""
    guard = node.guard("run1")
    guard.send("ulimit -f 0")
    assert guard.take(1, 0, 8, 1000).startswith(f"none {node.leases}: no file can be made there")
    assert guard.ask("echo alive") == "alive"
    assert [name for name in node.files() if not name.startswith(".")] == []


def garbage(holder):
    good = lease_of(holder)
    fields = good.split()[:10]
    yield ""
    yield "\n"
    yield "\n" * 600
    yield " " + good
    yield good.replace("2 ", "1 ", 1)
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
        7: ["", "x", "-1", "9" * 21],
        8: ["", "x", "1", "1.1", "1.123", ".12", "-1.00", "99999999999.00"],
        9: ["", "x", "$(id)", "1.2.3.4 1 5.6.7.8 2; id", "x" * 300],
    }.items():
        for value in values:
            yield " ".join([*fields[:place], value, *fields[place + 1 :]]) + "\n"


@in_two_shells
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
        node.leases.mkdir(exist_ok=True)
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


def test_what_is_held_and_nothing_else(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    node.write("held.1", "held\n")
    node.write("held.2", "held\n" + lease_of(holder))
    node.write("twice.1", lease_of(holder, held=False) * 2)
    assert guard.list() == ["1 1 x@y"] * 3
    assert guard.take(5, 0, 8, 1000) == "ok"


@in_two_shells
def test_large_file(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    node.write("long.1", lease_of(holder) + "more\n" * 1000)
    with node.write("large.1", lease_of(holder)).open("ab") as file:
        file.truncate(1 << 40)
    began = time.monotonic()
    assert guard.list() == []
    assert guard.take(8, 0, 8, 1000) == "ok"
    assert time.monotonic() - began < DEADLINE


@in_one_shell
def test_thousands_of_files(node):
    holder, guard = node.guard("run1"), node.guard("run2")
    for i in range(1500):
        node.write(f"x{i}.1", lease_of(holder))
    # those that are not read may be leases
    assert guard.take(8, 0, 8, 1000) == f"none more than 1000 files are in {node.leases} there: remove it"
    holder.kill()
    assert guard.take(8, 0, 8, 1000) == "ok"
    assert node.files() == [guard.file.name]


@in_one_shell
@as_root
def test_thousands_of_another_user_s_files_and_directories(node):
    """They are his own affair."""
    guard = node.guard("run2")
    for i in range(1500):
        node.write(f"x{i}.1", "garbage", user=NOBODY)
        (node.top / f"cloudplan-leases-{100000 + i}").mkdir()
    assert guard.take(8, 0, 8, 1000) == "ok"


@in_one_shell
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
    node.write("evil.1", lease_of(1, "evil@x", 8, 0))
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


@in_one_shell
@pytest.mark.parametrize(
    "who, shown",
    [("", "unknown"), ("a b", "unknown"), ("\033[2J", "unknown"), ("*", "unknown"), ("x" * 80, "x" * 64), ("a@::1", "a@::1")],
)
def test_who(node, who, shown):
    assert node.guard("run1", who=who).take(1, 2, 3, 4) == "ok"
    assert node.guard("run2").list() == [f"1 2 {shown}"]


@in_one_shell
@pytest.mark.parametrize("connection", ["", "x", "a\nb c d", "$(id) 1 2 3", "x" * 300])
def test_odd_connection(node, connection):
    guard = node.guard("run1", env={"SSH_CONNECTION": connection})
    assert guard.take(1, 2, 3, 4) == "ok"
    assert without_ticket(guard.file.read_text()) == lease_of(guard, "ci@run1", 1, 2, uid=os.getuid())


def test_hostile_environment(node):
    env = {"IFS": "/ .=0", "CDPATH": "/", "POSIXLY_CORRECT": "1", "GREP_OPTIONS": "-v", "GREP_COLORS": "x", "LC_ALL": "C.UTF-8",
           "lease_dir": "/", "lease_parent": "/", "lease_limit": "false", "lease_held": "x", "lease_ticket": "x", "lease_lines": "x", "lease_who": "evil"}  # fmt: skip
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
        done = subprocess.run(argv, input="".join(lines[:last]), cwd=node.top, capture_output=True, text=True)
        assert done.stdout == ""
    assert os.listdir(node.top) == []
