"""A machine of a world: its namespaces, what it is made of, the facts that it can be given, the commands run on it."""
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import cloudnodes_coverage as coverage
from cloudnodes_process import DEVNULL, PIPE, Channel, CloudnodesError, Process, run, wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = "/home/ci"
KEY_TYPES = ("ed25519", "ecdsa", "rsa")
OWN_TREES = {"/tmp": "mode=1777", "/var/tmp": "mode=1777", "/dev/shm": "mode=1777", "/run": "mode=0755",
             "/home": "mode=0755"}
# Where a home may be besides: what a node has of its own there hides nothing that it needs.
HOME_TREES = ("/home", "/srv", "/mnt", "/media")
TOOLS = {"unshare": "util-linux", "ip": "iproute2", "bridge": "iproute2", "ssh": "openssh-client",
         "ssh-keygen": "openssh-client", "sshd": "openssh-server"}
CORE_LISTS = ("online", "possible", "present")


def tool(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":" + PATH)
    if path is None:
        raise CloudnodesError(f"{name} is not installed: install {TOOLS[name]}")
    return path


def under(path, trees):
    return any(path == tree or path.startswith(tree + "/") for tree in trees)


def home_path(pattern, number):
    """The path that a node's `home` option means: {} is the node's number."""
    path = pattern.replace("{}", str(number))
    if not under(os.path.dirname(path), HOME_TREES) or os.path.normpath(path) != path or ":" in path \
            or under(path, ["/home/dev"]):
        raise CloudnodesError(f"home={pattern}: not a directory below {', '.join(HOME_TREES)}")
    return path


def make_keys(directory, comment, types=KEY_TYPES, name="ssh_host_{}_key"):
    """Starts the generation of all keys at once; returns the processes to wait for."""
    bits = {"rsa": ["-b", "2048"]}  # what takes longest: 0.1 s here, 0.6 s with the default of 3072
    return [subprocess.Popen([tool("ssh-keygen"), "-q", "-t", kind, *bits.get(kind, []), "-N", "", "-C", comment,
                              "-f", directory / name.format(kind)], stdin=subprocess.DEVNULL)
            for kind in types]


def wait_for_keys(processes):
    for process in processes:
        if process.wait():
            raise CloudnodesError("ssh-keygen failed")


class Namespace:
    """A pid 1 of ours with a network."""

    def __init__(self):
        self.channel = Channel()

    def as_root(self, argv, stdin=None):
        """As the namespace's root, who may change network and mounts; raises unless it succeeds."""
        process = Process(self.channel, argv, env={"PATH": PATH}, cwd="/", root=True)
        return run(process, stdin, timeout=30, check=True)

    # Sockets of its network, to be used from the test's own process.

    def socket(self, v6=False):
        _, (descriptor,) = self.channel.call("socket", v6=v6)
        made = socket.socket(fileno=descriptor)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return made

    def listen(self, port, address=""):
        listener = self.socket()
        listener.bind((address, port))
        listener.listen(128)
        return listener


class Machine(Namespace):
    """A namespace of its own with user ci's home, /tmp and facts.  Made by World."""

    def __init__(self, world, number, host, addresses, *, hide=(), home=HOME, home_mib=None, own_terminals=True):
        self.home_path = home_path(home, number)  # home of ci, as the machine sees it
        super().__init__()
        self.world, self.number, self.host, self.addresses = world, number, host, addresses
        self.name = addresses[0]
        self.link = f"m{number}"
        self.mac = f"02:00:0a:00:78:{number:02x}"
        self.directory = world.directory / host
        self.hide, self.home_mib, self.own_terminals = hide, home_mib, own_terminals
        self.cgroup = self.directory / "cgroup"  # seen there as /sys/fs/cgroup
        self.etc_ssh = self.directory / "etc-ssh"  # seen there as /etc/ssh
        for path in (self.cgroup, self.etc_ssh, self.directory / "ci", self.directory / "dev"):
            path.mkdir(parents=True)
        (self.directory / "nproc").touch(0o755)
        (self.directory / "nproc").chmod(0o755)
        self.set_memory(available_mib=8192, total_mib=16384)
        self.set_cores(4)
        self.set_boot_id(f"00000000-0000-4000-8000-{number:012d}")

    # What it is made of.

    def _mounts(self):
        own = self.directory
        steps = [["proc"], *(["tmpfs", path, options] for path, options in OWN_TREES.items() if os.path.isdir(path))]
        if self.own_terminals:
            steps.append(["devpts"])
        tree = self.home_path[:self.home_path.index("/", 1)]
        if tree not in OWN_TREES:
            steps.append(["tmpfs", tree, "mode=0755"])
        steps += [["bind", str(own / "ci"), self.home_path, True], ["bind", str(own / "dev"), "/home/dev", True]]
        if self.home_mib:
            steps.append(["tmpfs", self.home_path, f"size={self.home_mib}m,mode=0755"])
        steps += self._hiding_mounts()
        steps += self.world._visible_mounts(self)
        files = self._etc_files()
        steps += self._layer("etc", "/etc", [name for name in files if not os.path.lexists(f"/etc/{name}")], Path.touch)
        steps += [["bind", str(file), os.path.realpath(f"/etc/{name}"), False] for name, file in files.items()]
        steps += [["bind", str(self.etc_ssh), "/etc/ssh", False],
                  ["bind", str(own / "meminfo"), "/proc/meminfo", False],
                  ["bind", str(own / "boot_id"), "/proc/sys/kernel/random/boot_id", False],
                  ["bind", str(self.cgroup), "/sys/fs/cgroup", False],
                  ["bind", str(own / "nproc"), "/usr/bin/nproc", False]]
        steps += [["bind", str(own / "cores"), f"/sys/devices/system/cpu/{name}", False] for name in CORE_LISTS]
        return steps

    def _etc_files(self):
        """{name below /etc: the file that is seen there}: the world's, but for the home of ci where it is another."""
        files = {file.name: file for file in (self.world.directory / "etc").iterdir()}
        if self.home_path != HOME:
            text = files["passwd"].read_text()
            files["passwd"] = self.directory / "passwd"
            files["passwd"].write_text(text.replace(f":{HOME}:", f":{self.home_path}:"))
        return files

    def _hiding_mounts(self):
        """White-outs over the programs to hide: really not there, for a shell also names a file that may not be
        executed."""
        steps = []
        for number, folder in enumerate(sorted({os.path.realpath(folder) for folder in PATH.split(":")})):
            names = [name for name in self.hide if os.path.lexists(f"{folder}/{name}")]
            steps += self._layer(f"hidden{number}", folder, names, lambda path: os.mknod(path, stat.S_IFCHR, 0))
        return steps

    def _layer(self, name, folder, names, make):
        """The step that lays what make(path) makes for each of names over a folder; none without names."""
        if not names:
            return []
        layer = self.directory / name
        layer.mkdir()
        for each in names:
            make(layer / each)
        return [["layer", str(layer), folder]]

    def _address_commands(self):
        commands = ["link set lo up", "link set eth0 up"]
        for address in self.addresses:
            if ":" not in address:
                commands.append(f"addr add {address}/21 dev eth0")
            elif self.world.has_v6:
                commands.append(f"addr add {address}/64 dev eth0 nodad")
        return commands

    @property
    def root(self):
        """Its root directory as the test sees it.  Do not resolve() paths below it: it is a link of /proc."""
        return Path(f"/proc/{self.channel.host_pid}/root")

    @property
    def home(self):
        """Home of ci, as the test sees it."""
        return self.root / self.home_path[1:] if self.home_mib else self.directory / "ci"

    @property
    def dev_home(self):
        """Home of the second login name, dev."""
        return self.directory / "dev"

    def close(self):
        """Its pid 1 takes that as the end, and takes all its processes along."""
        self.channel.close()

    # Facts.

    def set_memory(self, *, available_mib, total_mib=None):
        total = max(available_mib, 16384) if total_mib is None else total_mib
        lines = {"MemTotal": total, "MemFree": available_mib // 2, "MemAvailable": available_mib, "Buffers": 0,
                 "Cached": available_mib // 2, "SwapTotal": 0, "SwapFree": 0}
        (self.directory / "meminfo").write_text(
            "".join(f"{name + ':':15} {mib * 1024:8d} kB\n" for name, mib in lines.items()))

    def set_cores(self, count, online=None):
        """count: what nproc says; online: what the machine has, as nproc --all and getconf say (count by default)."""
        online = count if online is None else online
        (self.directory / "nproc").write_text(
            f'#!/bin/sh\ncase "$1" in --all) echo {online} ;; *) echo {count} ;; esac\n')
        (self.directory / "cores").write_text(f"0-{online - 1}\n" if online > 1 else "0\n")

    def set_boot_id(self, text):
        (self.directory / "boot_id").write_text(text + "\n")

    def cgroup_paths(self):
        """{controller: path} of /proc/self/cgroup there; version 2 is controller "".  A process cannot be shown others
        than its real ones, so they depend on where the test runs."""
        lines = Path(f"/proc/{self.channel.host_pid}/cgroup").read_text().splitlines()
        return {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}

    def set_cgroup(self, files, *, path=None, controller=""):
        """Writes {name: text} to the cgroup that the processes there are in, or to `path`, such as "/".

        controller "" is version 2 at /sys/fs/cgroup itself; "memory" or "cpu" is version 1, one level below.
        None as text removes the file.
        """
        if path is None:
            path = self.cgroup_paths().get(controller, "/")
        if controller == "":
            (self.cgroup / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        folder = self.cgroup / controller / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if text is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_text(f"{text}\n")

    # Commands.

    def environment(self, extra=None):
        base = {"HOME": self.home_path, "USER": "ci", "LOGNAME": "ci", "SHELL": "/bin/bash", "PATH": PATH,
                "LANG": "C.UTF-8", "TERM": "xterm", **(extra or {})}
        if coverage.WANTED:
            base["GCOV_PREFIX"] = self.home_path + "/" + coverage.FOLDER
        return {name: str(value) for name, value in base.items() if value is not None}

    def popen(self, argv, *, env=None, cwd=None, **options):
        """Process (see cloudnodes_process) as user ci, in the home of ci where cwd says no other place.
        env is added to a small fixed environment; None removes."""
        return Process(self.channel, argv, env=self.environment(env), cwd=os.fspath(cwd or self.home_path), **options)

    def run(self, argv, *, env=None, cwd=None, stdin=None, timeout=60, check=False):
        """Result with text; kills and raises subprocess.TimeoutExpired after timeout seconds."""
        source = DEVNULL if stdin is None else PIPE
        return run(self.popen(argv, env=env, cwd=cwd, stdin=source), stdin, timeout, check)

    def run_pty(self, argv, *, env=None, cwd=None, stdin=None, timeout=60, check=False):
        """As run, on a controlling terminal: stdout is all that it showed, stderr is None."""
        return run(self.popen(argv, env=env, cwd=cwd, pty=True), stdin, timeout, check)

    def processes(self, infrastructure=False):
        """[(pid, command line)] of what runs there, pid 1 and sshd only if infrastructure is asked for."""
        found = []
        for entry in (self.root / "proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                pid, comm, state = re.match(r"(\d+) \((.*)\) (\S)", (entry / "stat").read_text(), re.S).groups()
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            if state == "Z" or not infrastructure and (pid == "1" or comm.startswith("sshd")):
                continue
            found.append((int(pid), b" ".join(words).decode("utf-8", "replace").strip() or f"[{comm}]"))
        return sorted(found)

    def end_processes(self):
        """Kills all that processes() tells of, by pid, until nothing is left; returns the command lines that it found first."""
        left = self.processes()

        def none_left():
            now = self.processes()
            for pid, _ in now:
                self.channel.call("signal", pid=pid, signal=int(signal.SIGKILL))
            return not now

        wait_until(none_left, 10, lambda: f"{self.host} to be empty: {self.processes()}")
        return [words for _, words in left]
