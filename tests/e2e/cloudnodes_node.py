"""The nodes of a world: machines with sshd, and the faults that they can be given."""
import functools
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from cloudnodes_machine import KEY_TYPES, Machine, make_keys, tool, wait_for_keys
from cloudnodes_peers import Peer
from cloudnodes_process import DEVNULL, STDOUT, CloudnodesError, wait_until

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
KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha256
"""
# KexAlgorithms: what OpenSSH prefers, sntrup761, takes a client 0.1 s of CPU for each connection.  test_hardened has it.


@functools.cache
def no_penalties():
    """From 9.8 on sshd refuses an address for a while that failed before: our tests fail on purpose."""
    version = subprocess.run([tool("ssh"), "-V"], capture_output=True, text=True, check=True).stderr
    numbers = re.match(r"OpenSSH_(\d+)\.(\d+)", version)
    return "PerSourcePenalties no\n" if numbers and tuple(map(int, numbers.groups())) >= (9, 8) else ""


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
        common = re.split(r"(?mi)^(?=match\s)", lines, maxsplit=1)[0]
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

    def mend(self):
        """Ends every fault that it has been given, and every session."""
        self.up()
        self.thaw()
        self.sshd_restart()

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
