"""The nodes of cloudnodes.py are what they claim to be: without that no other test here means anything."""
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import cloudnodes
import cloudnodes_chroot
from cloudnodes import CloudnodesError, World, patience, promised, slowed, wait_until

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def world():
    with World(nodes=2) as made:
        yield made


@pytest.fixture(name="node")
def mended_afterwards(world):
    node = world.nodes[1]
    yield node
    node.up()
    node.thaw()
    node.set_sshd_config("")
    node.sshd_restart()
    answers(world, node)


def ssh(world, target, *command, seconds=5, **options):
    return world.run(["ssh", "-o", f"ConnectTimeout={slowed(seconds)}", "-o", "BatchMode=yes", target, *command], **options)


def answers(world, node):
    result = ssh(world, node.name, "hostname")
    assert (result.returncode, result.stdout) == (0, node.host + "\n"), result
    return True


def assert_nothing_left(machine):
    assert machine.processes() == []


def host_processes(text):
    """Process ids, on the host, whose command line holds text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def assert_gone(directory):
    wait_until(lambda: not os.path.exists(directory), what=f"{directory} to go")
    wait_until(lambda: not host_processes(directory), what="the world's processes to end")
    assert directory not in Path("/proc/self/mountinfo").read_text()


# What a node is.


def test_each_address_is_another_login(world):
    first, second = world.nodes
    (first.home / "mark").write_text("first")
    for target in (first.name, first.host, first.v6, f"ci@{first.name}"):
        assert ssh(world, target, "id -un; pwd; hostname; cat mark").stdout == "ci\n/home/ci\nnode1\nfirst"
    assert ssh(world, f"dev@{first.name}", "pwd; echo $HOME; ls").stdout == "/home/dev\n/home/dev\n"
    assert ssh(world, second.name, "hostname; ls").stdout == "node2\n"


def test_facts_are_the_test_s(world):
    first, second = world.nodes
    first.set_memory(available_mib=1234, total_mib=5678)
    first.set_cores(3, online=6)
    first.set_boot_id("same")
    second.set_boot_id("same")
    question = ("grep -E 'MemTotal|MemAvailable' /proc/meminfo; nproc; nproc --all; getconf _NPROCESSORS_ONLN;"
                "cat /proc/sys/kernel/random/boot_id")
    assert ssh(world, first.name, question).stdout.split() == [
        "MemTotal:", str(5678 * 1024), "kB", "MemAvailable:", str(1234 * 1024), "kB", "3", "6", "6", "same"]
    assert ssh(world, second.name, "nproc; cat /proc/sys/kernel/random/boot_id").stdout == "4\nsame\n"


@pytest.mark.parametrize("controller", ["", "memory"])
def test_cgroup_files_lie_where_proc_self_cgroup_says(world, controller):
    node = world.nodes[0]
    if controller not in node.cgroup_paths():
        pytest.skip(f"this kernel has no hierarchy {controller or 'of version 2'}")
    node.set_cgroup({"limit": 123}, controller=controller)
    node.set_cgroup({"at.root": 456}, controller=controller, path="/")
    pattern = f":{controller}:" if controller else "0::"
    found = ssh(world, node.name, f"path=$(sed -n 's/^.*{pattern}//p' /proc/self/cgroup);"
                f"cat /sys/fs/cgroup/{controller}$path/limit /sys/fs/cgroup/{controller}/at.root")
    assert found.stdout == "123\n456\n", found
    node.set_cgroup({"limit": None}, controller=controller)
    assert ssh(world, node.name, "find /sys/fs/cgroup -name limit").stdout == ""


def test_a_node_can_write_to_its_own_places_alone(world):
    first, second = world.nodes
    script = "for d in /tmp /var/tmp /run /dev/shm $HOME; do echo x > $d/own || exit; done; touch /etc/x /usr/x"
    result = first.run(["sh", "-c", script])
    assert result.returncode == 1 and result.stderr.count("Read-only file system") == 2
    for machine in (second, world.controller):
        assert machine.run(["ls", "/tmp", "/var/tmp", "/dev/shm"]).stdout.count("own") == 0
    assert not os.path.exists("/tmp/own")
    assert (first.root / "tmp/own").read_text() == "x\n"


def test_no_node_sees_the_source_tree(world):
    assert world.run(["ls", HERE]).stdout.split().count("test_fixture.py") == 1
    assert world.nodes[0].run(["ls", cloudnodes.SOURCE_ROOT]).stdout == ""


def test_a_visible_path_is_the_same_there(tmp_path):
    (tmp_path / "there").write_text("here")
    with World(visible=[tmp_path]) as world:
        assert world.run(["sh", "-c", "cat there; echo back > back; ls /tmp"], cwd=tmp_path).stdout.startswith("here")
        assert (tmp_path / "back").read_text() == "back\n"


@pytest.mark.parametrize("path", ["/", "/tmp", "/var", "/home"])
def test_a_visible_path_that_uncovers_too_much_is_refused(path):
    with pytest.raises(CloudnodesError, match=f"{path} cannot be made visible"):
        World(visible=[path])


def test_nothing_outside_can_be_reached(world):
    assert "Network is unreachable" in ssh(world, "192.0.2.1", "true").stderr
    started = time.monotonic()
    assert "Could not resolve" in ssh(world, "no.such.host.example", "true").stderr
    assert time.monotonic() - started < promised(2)


# Processes.


def test_processes_are_seen_and_their_absence_too(world):
    node = world.nodes[0]
    assert_nothing_left(node)
    ssh(world, node.name, "sleep 1234 > /dev/null 2>&1 < /dev/null &")
    # Its shell returns when it has forked, before the exec.
    wait_until(lambda: [words for _, words in node.processes()] == ["sleep 1234"])
    assert_nothing_left(world.nodes[1])
    node.run(["sh", "-c", f"kill {node.processes()[0][0]}"])
    wait_until(lambda: not node.processes())


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="must fail: a process is left")
def test_must_fail_where_a_process_is_left(world):
    node = world.nodes[0]
    with node.popen(["sleep", "1234"]):
        assert_nothing_left(node)


def test_must_fail_where_a_node_is_refused(world):
    world.nodes[0].sshd_stop()
    with pytest.raises(AssertionError, match="Connection refused"):
        answers(world, world.nodes[0])
    world.nodes[0].sshd_start()
    answers(world, world.nodes[0])


def test_connections_are_counted(world):
    node = world.nodes[0]
    assert node.sshd_connections() == []
    with world.popen(["ssh", node.name, "echo up; cat"]) as process:
        assert process.stdout.readline() == b"up\n"
        assert [peer.rpartition(":")[0] for peer in node.sshd_connections()] == ["10.0.120.254"]
        process.stdin.close()
        assert process.wait(10) == 0
    wait_until(lambda: not node.sshd_connections())
    assert "Accepted publickey for ci" in node.read_log()


def test_run(world):
    result = world.run(["sh", "-c", "cat; echo $A$LANG >&2; pwd; exit 3"], stdin="in\n", env={"A": "a", "LANG": None},
                       cwd="/tmp")
    assert (result.returncode, result.stdout, result.stderr) == (3, "in\n/tmp\n", "a\n")
    assert 0 < result.elapsed < promised(5)
    big = "x" * 3_000_000
    assert world.run(["cat"], stdin=big).stdout == big
    with pytest.raises(FileNotFoundError):
        world.run(["no-such-program"])
    with pytest.raises(subprocess.TimeoutExpired):
        world.run(["sh", "-c", "sleep 1234 & sleep 1234"], timeout=0.2)
    wait_until(lambda: not world.processes())


@pytest.mark.parametrize("group", [False, True])
def test_signals_reach_the_command(world, group):
    script = "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.01; done"
    with world.popen(["sh", "-c", script]) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT, group=group)
        assert process.stdout.readline() == b"interrupted\n"
        assert process.wait(10) == 7
    with world.popen(["sleep", "1234"]) as process:
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


def test_terminal(world):
    result = world.run_pty(["sh", "-c", "test -t 0 && test -t 2 && read x < /dev/tty && stty size && echo got $x"],
                           stdin="word\n")
    assert result.returncode == 0 and result.stdout.replace("\r", "") == "word\n24 80\ngot word\n"
    assert ssh(world, world.nodes[0].name, "-tt", "tty").stdout == "/dev/pts/0\r\n"
    assert world.run(["sh", "-c", ": < /dev/tty"]).returncode != 0
    with world.popen(["cat"], pty=True) as process:
        process.stdin.write(b"\x03")
        assert process.wait(10) == -signal.SIGINT


# Options of a node.


def test_options(world):
    node = world.node(ports=(22, 2222), hide=("python3", "rsync"), bashrc="echo noise\n", home_mib=1,
                      sshd_config="MaxSessions 3\nMatch User dev\n  ForceCommand echo forced\n")
    assert ssh(world, node.name, "-p", "2222", "hostname").stdout == f"noise\n{node.host}\n"
    assert ssh(world, f"dev@{node.name}", "hostname").stdout == "noise\nforced\n"
    assert ssh(world, node.name, "command -v python3 rsync bash").stdout == "noise\n/usr/bin/bash\n"
    full = ssh(world, node.name, "head -c 2000000 /dev/zero > big")
    assert "No space left on device" in full.stderr
    assert 0 < (node.home / "big").stat().st_size <= 1 << 20
    assert world.nodes[0].run(["sh", "-c", "command -v python3"]).returncode == 0


def test_a_home_of_its_own():
    """Nodes on which no path is the controller's, and each has another."""
    script = "pwd; echo $HOME; cd /; cd ~ci && pwd; echo x > file; ls $HOME/.."
    with World(nodes=2, home="/srv/ci-{}") as world:
        world.node(home="/home/other/ci", home_mib=1)
        assert [node.home_path for node in world.nodes] == ["/srv/ci-1", "/srv/ci-2", "/home/other/ci"]
        for node in world.nodes:
            where = node.home_path
            assert ssh(world, node.name, script).stdout == f"{where}\n" * 3 + f"{os.path.basename(where)}\n"
            assert (node.home / "file").read_text() == "x\n"
            assert node.run(["sh", "-c", "pwd; echo $HOME; cat file"]).stdout == f"{where}\n{where}\nx\n"
            assert not (node.root / "home/ci").exists() and not (node.dev_home / "file").exists()
            assert ssh(world, f"dev@{node.name}", "pwd").stdout == "/home/dev\n"
        assert world.run(["sh", "-c", "pwd; ls"]).stdout == "/home/ci\n"


@pytest.mark.parametrize("home", ["/", "/srv", "/home/dev", "/etc/ci", "/srv/../etc", "srv/ci", "/srv/a:b", "/srv/"])
def test_a_home_elsewhere_is_refused(home):
    with World() as world, pytest.raises(CloudnodesError, match="home="):
        world.node(home=home)


def test_authorized_keys(world):
    node = world.node(authorized_keys="")
    assert "Permission denied (publickey)" in ssh(world, node.name, "true").stderr


def test_hashed_known_hosts():
    with World(nodes=1, hashed_known_hosts=True) as world:
        assert world.nodes[0].name not in world.known_hosts.read_text()
        answers(world, world.nodes[0])
        world.forget_host_key(world.nodes[0])
        assert world.known_hosts.read_text() == ""


# Faults.


def test_host_key(world):
    node = world.node()
    world.forget_host_key(node)
    assert "Host key verification failed" in ssh(world, node.name, "true").stderr
    world.know_host_key(node)
    answers(world, node)
    node.new_host_key()
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in ssh(world, node.name, "true").stderr
    world.forget_host_key(node)
    world.know_host_key(node)
    answers(world, node)


@pytest.mark.parametrize("fault, error", [("down", "No route to host"), ("blackhole", "Connection timed out")])
def test_a_vanished_node_sends_no_reset(world, node, fault, error):
    with world.popen(["ssh", node.name, "echo up; cat"]) as process:
        assert process.stdout.readline() == b"up\n"
        getattr(node, fault)()
        process.stdin.write(b"lost?\n")
        result = ssh(world, node.name, "true", seconds=5)
        assert error in result.stderr and result.elapsed > 2, result
        assert process.poll() is None
        node.up()
        assert process.stdout.readline() == b"lost?\n"


def test_stopped(world, node):
    with world.popen(["ssh", node.name, "echo up; cat"]) as process:
        assert process.stdout.readline() == b"up\n"
        node.sshd_stop(sessions=False)
        assert "Connection refused" in ssh(world, node.name, "true").stderr
        process.stdin.write(b"still\n")
        assert process.stdout.readline() == b"still\n"
        node.sshd_start()
        node.sshd_stop()
        assert process.wait(10) == 255
    wait_until(lambda: not node.processes(infrastructure=True)[1:])


def test_frozen(world, node):
    node.freeze()
    assert "Connection timed out during banner exchange" in ssh(world, node.name, "true", seconds=1).stderr
    node.thaw()
    answers(world, node)


def test_mute(world, node):
    peer = node.mute()
    assert "Connection timed out during banner exchange" in ssh(world, node.name, "true", seconds=1).stderr
    assert peer.accepted == 1


@pytest.mark.parametrize("script, then, error", [
    pytest.param(b"S", "stall", "Connection timed out during banner exchange", id="one byte, then silence"),
    pytest.param(b"S", "close", "Connection closed by", id="one byte, then the end"),
    pytest.param(b"", "reset", "Connection reset by ", id="reset"),
    pytest.param(b"garbage\0" * (1 << 17), "close", "banner", id="a megabyte"),
    pytest.param(lambda connection: connection.sendall(b"SSH-1.0-ancient\r\n"), "stall",
                 "Protocol major versions differ", id="a function"),
])
def test_scripted(world, node, script, then, error):
    node.scripted(script, then)
    assert error in ssh(world, node.name, "true", seconds=1).stderr


def test_sshd_that_does_not_start_says_why(world, node):
    node.sshd_stop()
    node.set_sshd_config("Nonsense yes\n")
    with pytest.raises(CloudnodesError, match="Bad configuration option: Nonsense"):
        node.sshd_start()


def test_relay_delays(world, node):
    relay = world.relay(node, delay_ms=100)
    with world.popen(["ssh", relay.name, "cat"]) as process:
        process.stdin.write(b"1\n")
        process.stdout.readline()
        started = time.monotonic()
        process.stdin.write(b"2\n")
        process.stdout.readline()
        assert 0.1 <= time.monotonic() - started < promised(1)
    wait_until(lambda: not node.sshd_connections(), what="the relay to pass on the end")


def test_cluster(world):
    cluster = world.cluster(300)
    assert len(cluster.names) == 300 and cluster not in world.nodes
    assert cluster.names[0] == "10.0.121.1" and cluster.names[299] == "10.0.122.46"
    for name in (cluster.names[0], cluster.names[299]):
        assert ssh(world, name, "hostname").stdout == cluster.host + "\n"


# Beginning and end.


def test_three_nodes_take_less_than_two_seconds():
    def seconds():
        started = time.monotonic()
        with World(nodes=3) as world:
            assert world.names == ["10.0.120.1", "10.0.120.2", "10.0.120.3"]
            return time.monotonic() - started

    # Of a machine that others use, only a part is ours.
    busy = max(1, os.getloadavg()[0] / os.cpu_count())
    assert min(seconds() for _ in range(3)) < slowed(2) * busy


def test_nothing_is_left_after_a_failure():
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), World(nodes=1) as world:
        directory = str(world.directory)
        world.popen(["setsid", "sleep", "1234"], stdin=cloudnodes.DEVNULL, stdout=cloudnodes.DEVNULL,
                    stderr=cloudnodes.DEVNULL)
        world.nodes[0].freeze()
        raise ZeroDivisionError
    assert not os.path.exists(directory) and not host_processes(directory)
    assert_gone(directory)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # the status of sleep, which nobody asked for


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_test_is_killed(number):
    code = ("import signal, time; from cloudnodes import World\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "with World(nodes=1) as world: print(world.directory, flush=True); time.sleep(1234)")
    with subprocess.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as process:
        directory = process.stdout.readline().strip()
        assert len(host_processes(directory)) >= 3
        process.send_signal(number)
        assert process.wait(patience(20)) != 0
    assert_gone(directory)


def by_hand(*arguments, **options):
    return subprocess.run([sys.executable, HERE / "cloudnodes.py", *arguments], capture_output=True, text=True,
                          timeout=patience(60), check=False, **options)


def test_by_hand(tmp_path):
    result = by_hand("--nodes", "2", "--", "sh", "-c",
                     'cat; pwd; for n in $NODES; do ssh -n $n hostname; done; exit 9', input="in\n", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (9, f"in\n{tmp_path}\nnode1\nnode2\n", "")
    assert by_hand("--nodes", "0", "--", "sh", "-c", "kill -TERM $$", cwd=tmp_path).returncode == 128 + signal.SIGTERM


def test_by_hand_on_a_terminal():
    """The command is in the terminal's foreground: ^C is for it, and it may ask the user."""
    master, slave = pty.openpty()
    script = "trap 'echo interrupted; exit 5' INT; read x < /dev/tty; echo read $x; while :; do sleep 0.01; done"
    process = subprocess.Popen([sys.executable, HERE / "cloudnodes.py", "--nodes", "0", "--", "sh", "-c", script],
                               stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    os.write(master, b"word\n")
    seen = b""
    while b"read word" not in seen:
        seen += os.read(master, 1000)
    os.write(master, b"\x03")
    assert process.wait(patience(20)) == 5
    os.close(master)


def test_nothing_is_left_when_the_terminal_is_gone(tmp_path):
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, HERE / "cloudnodes.py", "--nodes", "1", "--", "sh", "-c", "echo up; sleep 1234"],
                               stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                               env={**os.environ, "TMPDIR": str(tmp_path)},
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    seen = b""
    while b"up" not in seen:
        seen += os.read(master, 1000)
    (directory,) = tmp_path.iterdir()
    os.close(master)
    assert process.wait(patience(20)) == -signal.SIGHUP
    assert_gone(str(directory))


def test_refusal_is_one_line_that_names_the_remedy(tmp_path):
    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2; exit 1\n")
    fake.chmod(0o755)
    result = by_hand("--", "true", env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "Operation not permitted" in result.stderr and "container with --privileged" in result.stderr


@pytest.mark.parametrize("name, text, command", cloudnodes_chroot.SWITCHES)
def test_remedy(tmp_path, name, text, command):
    switch = tmp_path / name
    switch.parent.mkdir()
    switch.write_text(text + "\n")
    assert cloudnodes_chroot.remedy(tmp_path) == command
    switch.write_text("7\n")
    assert cloudnodes_chroot.remedy(tmp_path) != command


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may chroot")
def test_in_a_chroot(tmp_path):
    def chroot(*command):
        script = 'mount --rbind / "$1" && root=$1 && shift && exec chroot "$root" env --chdir="$0" "$@"'
        return subprocess.run([*cloudnodes_chroot.out_of_chroot(), "unshare", "--mount", "--propagation", "private",
                               "sh", "-c", script, HERE, tmp_path, *command],
                              capture_output=True, text=True, timeout=patience(60), check=False)

    assert "Operation not permitted" in chroot("unshare", "--user", "true").stderr
    result = chroot(sys.executable, HERE / "cloudnodes.py", "--nodes", "1", "--", "ssh", "10.0.120.1", "hostname")
    assert (result.returncode, result.stdout, result.stderr) == (0, "node1\n", "")
    assert os.listdir(tmp_path) == []
