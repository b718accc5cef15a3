"""The machines of a world: the controller, and nodes with sshd, which can be given facts and faults."""
import functools
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

from cloudnodes_peers import Peer
from cloudnodes_process import DEVNULL, PIPE, STDOUT, Channel, CloudnodesError, Process, run, wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = "/home/ci"
KEY_TYPES = ("ed25519", "ecdsa", "rsa")
OWN_TREES = {"/tmp": "mode=1777", "/var/tmp": "mode=1777", "/dev/shm": "mode=1777", "/run": "mode=0755",
             "/home": "mode=0755"}
TOOLS = {"unshare": "util-linux", "ip": "iproute2", "bridge": "iproute2", "ssh": "openssh-client",
         "ssh-keygen": "openssh-client", "sshd": "openssh-server"}
CORE_LISTS = ("online", "possible", "present")

SSHD_CONFIG = """\
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""


def tool(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":" + PATH)
    if path is None:
        raise CloudnodesError(f"{name} is not installed: install {TOOLS[name]}")
    return path


@functools.cache
def no_penalties():
    """From 9.8 on sshd refuses an address for a while that failed before: our tests fail on purpose."""
    version = subprocess.run([tool("ssh"), "-V"], capture_output=True, text=True, check=True).stderr
    numbers = re.match(r"OpenSSH_(\d+)\.(\d+)", version)
    return "PerSourcePenalties no\n" if numbers and tuple(map(int, numbers.groups())) >= (9, 8) else ""


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

    def __init__(self, world, number, host, addresses, *, hide=(), home_mib=None, own_terminals=True):
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
        steps += [["bind", str(own / user), f"/home/{user}", True] for user in ("ci", "dev")]
        if self.home_mib:
            steps.append(["tmpfs", HOME, f"size={self.home_mib}m,mode=0755"])
        steps += self._hiding_mounts()
        steps += self.world._visible_mounts(self)
        names = os.listdir(self.world.directory / "etc")
        steps += self._layer("etc", "/etc", [name for name in names if not os.path.lexists(f"/etc/{name}")], Path.touch)
        steps += [["bind", str(self.world.directory / "etc" / name), os.path.realpath(f"/etc/{name}"), False]
                  for name in names]
        steps += [["bind", str(self.etc_ssh), "/etc/ssh", False],
                  ["bind", str(own / "meminfo"), "/proc/meminfo", False],
                  ["bind", str(own / "boot_id"), "/proc/sys/kernel/random/boot_id", False],
                  ["bind", str(self.cgroup), "/sys/fs/cgroup", False],
                  ["bind", str(own / "nproc"), "/usr/bin/nproc", False]]
        steps += [["bind", str(own / "cores"), f"/sys/devices/system/cpu/{name}", False] for name in CORE_LISTS]
        return steps

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
        return self.root / HOME[1:] if self.home_mib else self.directory / "ci"

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
        base = {"HOME": HOME, "USER": "ci", "LOGNAME": "ci", "SHELL": "/bin/bash", "PATH": PATH, "LANG": "C.UTF-8",
                "TERM": "xterm", **(extra or {})}
        return {name: str(value) for name, value in base.items() if value is not None}

    def popen(self, argv, *, env=None, cwd=HOME, **options):
        """Process (see cloudnodes_process) as user ci.  env is added to a small fixed environment; None removes."""
        return Process(self.channel, argv, env=self.environment(env), cwd=os.fspath(cwd), **options)

    def run(self, argv, *, env=None, cwd=HOME, stdin=None, timeout=60, check=False):
        """Result with text; kills and raises subprocess.TimeoutExpired after timeout seconds."""
        source = DEVNULL if stdin is None else PIPE
        return run(self.popen(argv, env=env, cwd=cwd, stdin=source), stdin, timeout, check)

    def run_pty(self, argv, *, env=None, cwd=HOME, stdin=None, timeout=60, check=False):
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


class Node(Machine):
    """A machine with sshd.  name is its IPv4 address, v6 its other one, host its name in /etc/hosts."""

    def __init__(self, world, number, *, ports=(22,), sshd_config="", authorized_keys=None, bashrc=None,
                 addresses=None, **options):
        host = f"node{number}"
        super().__init__(world, number, host, addresses or [f"10.0.120.{number}", f"fd00:120::{number:x}"],
                         **options)
        self.v6 = next((address for address in self.addresses if ":" in address), None)
        self.ports = tuple(ports)
        self.port = self.ports[0]
        self.log = self.directory / "sshd.log"
        self._authorized_keys, self._bashrc = authorized_keys, bashrc
        self._peers, self._known, self._sshd = [], [], None
        self.set_sshd_config(sshd_config)

    def set_sshd_config(self, lines):
        """Extra lines of sshd_config, which win over the fixture's.  For a running sshd: stop and start it."""
        common = re.split(r"(?mi)^(?=match\s)", lines, 1)[0]
        blocks = lines[len(common):]  # Match blocks reach to the end of the file
        ports = "".join(f"Port {port}\n" for port in self.ports)
        (self.etc_ssh / "sshd_config").write_text(f"{ports}{common}\n{SSHD_CONFIG}{no_penalties()}{blocks}\n")

    def _fill_homes(self):
        keys = self._authorized_keys
        if keys is None:
            keys = (self.world.home / ".ssh/id_ed25519.pub").read_text()
        for home in (self.home, self.dev_home):
            (home / ".ssh").mkdir(mode=0o700)
            (home / ".ssh/authorized_keys").write_text(keys)
            if self._bashrc is not None:
                (home / ".bashrc").write_text(self._bashrc)

    def close(self):
        self._stop_peers()
        super().close()
        if self._sshd is not None:
            self._sshd.wait()

    def public_keys(self):
        return [" ".join((self.etc_ssh / f"ssh_host_{kind}_key.pub").read_text().split()[:2]) for kind in KEY_TYPES]

    def known_names(self):
        """As known_hosts calls it: every address and the host name, on every port."""
        return [name if port == 22 else f"[{name}]:{port}"
                for port in self.ports for name in (self.host, *self.addresses)]

    # sshd.

    def sshd_start(self):
        """Starts sshd, in the place of whatever was put there, and returns when it listens."""
        self._sshd_launch()
        self._sshd_wait()

    def _sshd_launch(self):
        self._stop_peers()
        self._log_start = len(self.read_log())
        with open(self.log, "ab") as log:
            self._sshd = self.popen([tool("sshd"), "-D", "-e"], stdin=DEVNULL, stdout=log, stderr=STDOUT)

    def _stop_peers(self):
        for peer in self._peers:
            peer.stop()
        self._peers = []

    def _sshd_wait(self):
        def listens():
            text = self.read_log()[self._log_start:]
            if self._sshd.poll() is not None:
                raise CloudnodesError(f"sshd on {self.name} does not start: {text.strip()}")
            return all(re.search(rf"^Server listening on \S+ port {port}\.", text, re.M) for port in self.ports)

        wait_until(listens, 10, f"sshd on {self.name} to listen")

    def sshd_pids(self):
        return [pid for pid, words in self.processes(infrastructure=True)
                if re.match(r"(\S*/)?sshd", words)]

    def sshd_stop(self, sessions=True):
        """Kills sshd: new connections are refused.  Without sessions, running connections go on."""
        self._sshd.kill()
        self._sshd.wait()

        def none_left():
            pids = self.sshd_pids()
            for pid in pids:
                self.channel.call("signal", pid=pid, signal=int(signal.SIGKILL))
            return not pids

        if sessions:
            wait_until(none_left, 10, f"sshd on {self.name} to end")

    def sshd_restart(self):
        self.sshd_stop()
        self.sshd_start()

    def read_log(self):
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def sshd_connections(self):
        """Peers ("address:port") of the established connections to its ports."""
        found = []
        for table in ("tcp", "tcp6"):
            path = Path(f"/proc/{self.channel.host_pid}/net/{table}")
            for line in path.read_text().splitlines()[1:] if path.exists() else ():
                local, remote, state = line.split()[1:4]
                if state == "01" and int(local.split(":")[1], 16) in self.ports:
                    found.append(readable_address(remote))
        return found

    # Faults.

    def down(self):
        """Unplugs it: nothing arrives, nothing is answered, no RST.  New connections end after some 3 s without an
        answer to ARP with "No route to host", as on any LAN."""
        self._plug("0")
        self._neighbour("flush to {address} dev eth0")

    def blackhole(self):
        """As down, behind a router that does not mind: new connections hang until they time out."""
        self._plug("0")
        self._neighbour("replace {address} lladdr {mac} dev eth0 nud permanent")

    def up(self):
        """Ends down and blackhole.  TCP tries again by its own clock: after 10 s of silence that takes some seconds."""
        self._neighbour("flush to {address} dev eth0 nud permanent")
        self._plug("3")

    def _plug(self, port_state):
        """Not `ip link set down`: a lost carrier takes a second to come back, a bridge port does not."""
        self.world.bridge.as_root(["bridge", "link", "set", "dev", self.link, "state", port_state])

    def _neighbour(self, command):
        addresses = [address for address in self.addresses if self.world.has_v6 or ":" not in address]
        lines = ("neigh " + command.format(address=address, mac=self.mac) for address in addresses)
        self.world.controller.as_root(["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def freeze(self):
        """Stops all its processes, sshd too; the kernel still accepts connections.  thaw() ends it."""
        self.channel.call("signal", pid=-1, signal=int(signal.SIGSTOP))

    def thaw(self):
        self.channel.call("signal", pid=-1, signal=int(signal.SIGCONT))

    def scripted(self, handle, then="stall", port=None):
        """Puts a Peer in the place of sshd; sshd_start() puts it back.  handle: bytes, or a function of the
        connection, which runs in a thread of the test."""
        if self._sshd.poll() is None:
            self.sshd_stop()
        peer = Peer(self.listen(port or self.port), handle, then)
        self._peers.append(peer)
        return peer

    def mute(self):
        """Puts a listener in the place of sshd that accepts and says nothing."""
        return self.scripted(b"")

    def new_host_key(self, types=KEY_TYPES):
        """Other host keys, of which known_hosts knows nothing.  Restarts sshd."""
        for kind in KEY_TYPES:
            for suffix in ("", ".pub") if kind in types else ():
                (self.etc_ssh / f"ssh_host_{kind}_key{suffix}").unlink()
        wait_for_keys(make_keys(self.etc_ssh, self.host, types))
        self.sshd_restart()


class Cluster(Node):
    """One sshd with many addresses, names: what a probe takes for many nodes (of one machine)."""

    def __init__(self, world, number, count, **options):
        addresses = [f"10.0.{121 + index // 254}.{1 + index % 254}" for index in range(count)]
        super().__init__(world, number, addresses=addresses, **options)
        self.names = addresses


def readable_address(text):
    """An address of /proc/net/tcp: network order in words of the host's order."""
    digits, port = text.split(":")
    words = [bytes.fromhex(digits[at:at + 8]) for at in range(0, len(digits), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return f"{address.removeprefix('::ffff:')}:{int(port, 16)}"
