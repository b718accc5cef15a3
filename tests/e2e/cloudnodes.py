#!/usr/bin/env python3
"""Real sshd nodes for tests, on one machine, without privileges and without a packet leaving it.

    with World(nodes=3) as world:
        world.nodes[0].set_memory(available_mib=4000)
        result = world.run(["cloudplan", "plan", "--cloud-nodes=" + " ".join(world.names)])

or, by hand:  python3 cloudnodes.py --nodes 2 -- ssh 10.0.120.1 hostname

How it is built.  A world is one tree of namespaces whose root is a user namespace
(unshare --map-root-user), so that an ordinary user may make mounts and networks in it.  It has a
bridge; every machine in it, that is every node and the controller, has its own network, mount,
process, IPC and host-name namespaces and a pid 1 (cloudnodes_inside.py) that starts commands there
on request.  The root file system of where the test runs stays visible, read-only; /tmp, /var/tmp,
/run, /home and /dev/shm are the machine's own, and so is what a program asks for facts:
/proc/meminfo, the boot id, cgroup files, the list of cores, nproc.  Commands and sshd run as user
ci in a second user namespace that knows one uid only: sshd that is not root neither needs another
nor switches to one.

Modules: cloudnodes (World, the command line), cloudnodes_machine (Machine), cloudnodes_node (Node,
Cluster), cloudnodes_process (what runs in one), cloudnodes_patience (how long to wait),
cloudnodes_keeper (a failed test spoils no other), cloudnodes_peers (peers that are no sshd; delay),
cloudnodes_inside (pid 1), cloudnodes_chroot (where the kernel refuses user namespaces).

Why so.  Containers would need a runtime, images and often root; a stub of sshd would not show
what sshd does.  Here the kernel cleans up: every process of a machine is in its process
namespace, "nothing left on the node" is a look at that node's /proc, and when the process that
made the world dies, of whatever, pid 1 reads the end of its socket, removes the world's directory
and takes everything along.
"""
import argparse
import base64
import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cloudnodes_inside
import cloudnodes_coverage as coverage
from cloudnodes_chroot import out_of_chroot, remedy
from cloudnodes_machine import OWN_TREES, PATH, TOOLS, Machine, Namespace, make_keys, tool, under, wait_for_keys
from cloudnodes_node import Cluster, Node
from cloudnodes_patience import patience, promised, slowed
from cloudnodes_peers import Peer, Relay
from cloudnodes_process import DEVNULL, PIPE, STDOUT, CloudnodesError, Process, Result, wait_until

__all__ = ["World", "Machine", "Node", "Cluster", "Process", "Result", "Peer", "Relay", "CloudnodesError",
           "wait_until", "patience", "promised", "slowed", "PIPE", "STDOUT", "DEVNULL"]

SOURCE_ROOT = Path(__file__).resolve().parents[2]

CONTROLLER_SSH_CONFIG = """\
Host *
    SendEnv LANG LC_*
    HashKnownHosts yes
    # From 10.1 on ssh warns of the key exchange that costs the nodes the least.
    IgnoreUnknown WarnWeakCrypto
    WarnWeakCrypto no
"""
# Debian's, as long as its ssh had it.
CONTROLLER_GSSAPI = "    GSSAPIAuthentication yes\n"


def controller_ssh_config():
    asked = subprocess.run(["ssh", "-G", "-F", "/dev/null", "-o", CONTROLLER_GSSAPI.strip(), "localhost"], stdin=subprocess.DEVNULL,
                           capture_output=True, check=False)
    return CONTROLLER_SSH_CONFIG + (CONTROLLER_GSSAPI if asked.returncode == 0 and not asked.stderr else "")


NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
PASSWD = """\
root:x:0:0:root:/root:/bin/bash
ci:x:1000:1000::/home/ci:/bin/bash
dev:x:1000:1000::/home/dev:/bin/bash
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
"""
# No group tty: sshd without privileges could not give it a terminal, and would refuse to make one.
GROUP = "root:x:0:\nci:x:1000:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
# Nothing listens there: a look-up of an unknown name fails at once.
RESOLV = "nameserver 127.0.0.1\n"


def hashed(name):
    """A host name as `HashKnownHosts yes` writes it."""
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))


def visible_paths(paths):
    """Real paths without those that would uncover what a machine is to have of its own."""
    real = dict.fromkeys(os.path.realpath(path) for path in paths)
    for path in real:
        if path == "/" or any(under(tree, [path]) for tree in OWN_TREES):
            raise CloudnodesError(f"{path} cannot be made visible: machines have their own /tmp, /run and /home; "
                                  "name a directory below it")
    return list(real)


def write_etc(directory):
    directory.mkdir()
    for name, text in {"passwd": PASSWD, "group": GROUP, "nsswitch.conf": NSSWITCH, "hosts": HOSTS,
                       "resolv.conf": RESOLV}.items():
        (directory / name).write_text(text)


# {host: {file name: bytes}}: made once in this process, for the node of that name in each of its worlds.
HOST_KEYS = {}


def start_host_keys(node):
    """As make_keys()."""
    if node.host not in HOST_KEYS:
        return make_keys(node.etc_ssh, node.host)
    for name, data in HOST_KEYS[node.host].items():
        (node.etc_ssh / name).touch(0o600)
        (node.etc_ssh / name).write_bytes(data)
    return []


class World:
    """Nodes, a network and a controller, from which commands are run.

    nodes: how many to begin with; node_options go to each of them (see node()).
    visible: paths that the controller sees, writable, where they are here; the source tree always is.
    Nodes do not see them: what a test finds there has been copied.
    hashed_known_hosts: names in the controller's known_hosts are hashed.
    foreground: stay in the terminal's session, for a command that is to use the terminal itself.
    """

    def __init__(self, nodes=0, *, visible=(), hashed_known_hosts=False, foreground=False, **node_options):
        self.nodes, self.cluster_node = [], None
        self.visible = visible_paths([SOURCE_ROOT, *visible])
        self.hashed_known_hosts = hashed_known_hosts
        self.has_v6 = os.path.exists("/proc/sys/net/ipv6")
        self._first, self._node_options, self._foreground = nodes, node_options, foreground
        self._relays = []
        self._machines = []
        self._number = 0
        self._unshare = self.directory = None
        self.bridge = Namespace()  # the world's own pid 1 and network, which the machines are plugged into

    def __enter__(self):
        for name in TOOLS:
            tool(name)
        if not os.path.exists("/proc/self"):
            raise CloudnodesError("/proc is not mounted: mount -t proc proc /proc")
        self.directory = Path(tempfile.mkdtemp(prefix="cloudnodes-"))
        self.directory.chmod(0o755)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self):
        write_etc(self.directory / "etc")
        self._launch()
        self.controller = Machine(self, 254, "controller", ["10.0.120.254", "fd00:120::fe"], own_terminals=False)
        self.home = self.controller.home
        (self.controller.etc_ssh / "ssh_config").write_text(controller_ssh_config())
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700)
        for name in ("config", "known_hosts"):
            (ssh / name).touch(0o600)
        key = make_keys(ssh, "ci@controller", ["ed25519"], "id_{}")
        self.bridge.as_root(["ip", "-batch", "-"], "link add br0 type bridge mcast_snooping 0\nlink set br0 up\n"
                     "addr add 10.0.120.250/21 dev br0\n")
        wait_for_keys(key)
        self._add([self.controller, *(Node(self, self._next(), **self._node_options) for _ in range(self._first))])

    def _launch(self):
        log = self.directory / "world.log"
        descriptor = self.bridge.channel.theirs.fileno()
        command = [*out_of_chroot(), tool("unshare"), "--user", "--map-root-user", "--net", "--mount", "--pid",
                   "--fork", "--kill-child", "--mount-proc", sys.executable, "-I", "-S", cloudnodes_inside.__file__,
                   str(descriptor), str(self.directory)]
        with open(log, "wb") as output:
            self._unshare = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                             pass_fds=[descriptor], start_new_session=not self._foreground,
                                             # A terminal that goes takes us alone; the rest cleans up after us.
                                             preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        try:
            self.bridge.channel.hello()
        except (CloudnodesError, OSError):
            words = log.read_text().strip().splitlines()
            raise CloudnodesError(
                f"user namespaces are not permitted here ({words[-1] if words else 'no word why'}): {remedy()}"
            ) from None

    def _next(self):
        self._number += 1
        return self._number

    def _visible_mounts(self, machine):
        steps = []
        for path in self.visible:
            has_own = under(path, OWN_TREES) or any(under(folder, [path]) for folder in PATH.split(":"))
            if not isinstance(machine, Node):
                steps.append(["bind", path, path, True])
            elif os.path.isdir(path) and not has_own:
                steps.append(["tmpfs", path, "mode=0555"])
        return steps

    def _add(self, machines):
        """Brings up machines, all at once in each step."""
        nodes = [machine for machine in machines if isinstance(machine, Node)]
        keys = [process for node in nodes for process in start_host_keys(node)]
        with open(self.directory / "etc/hosts", "a", encoding="ascii") as hosts:
            hosts.writelines(f"{machine.name} {machine.host}\n" for machine in machines)
        self._machines += machines
        for machine in machines:
            self.bridge.channel.call("machine", [machine.channel.theirs.fileno()], hostname=machine.host,
                              mounts=machine._mounts(), sysctls={"net/ipv4/ip_unprivileged_port_start": "0"})
        links = []
        for machine in machines:
            pid = machine.channel.hello()["pid"]
            links += [f"link add {machine.link} type veth peer name eth0 address {machine.mac} netns {pid}",
                      f"link set {machine.link} master br0 up"]
        self.bridge.as_root(["ip", "-batch", "-"], "\n".join(links) + "\n")
        for machine in machines:
            machine.as_root(["ip", "-batch", "-"], "\n".join(machine._address_commands()) + "\n")
        wait_for_keys(keys)
        for node in nodes:
            HOST_KEYS.setdefault(node.host, {path.name: path.read_bytes() for path in node.etc_ssh.glob("ssh_host_*")})
            node._fill_homes()
            node._sshd_launch()
            self.know_host_key(node)
        for node in nodes:
            node._sshd_wait()
            if not isinstance(node, Cluster):
                self.nodes.append(node)

    # Nodes.

    def node(self, **options):
        """One more node.

        ports=(22,)            where sshd listens
        sshd_config=""         extra lines, which win
        authorized_keys=text   instead of the controller's id_ed25519.pub
        bashrc=text            ~/.bashrc of both logins: noise, for instance
        hide=("python3",)      programs that are not executable there
        home="/srv/ci-{}"      where the home of ci is: below /home, /srv, /mnt or /media; {} is the node's number, so
                               that as an option of World it names another path on each node; node.home_path says it,
                               node.home stays that directory as the test sees it
        home_mib=2             the home of ci is a file system of that size
        """
        made = Node(self, self._next(), **{**self._node_options, **options})
        self._add([made])
        return made

    def remove(self, node):
        """Ends a node for good."""
        node.close()
        self._machines.remove(node)
        self.nodes.remove(node)

    def cluster(self, count, **options):
        """count addresses (10.0.121.1 ...) of one sshd; returns a Cluster, whose names they are.  Once per world."""
        if self.cluster_node is not None:
            raise CloudnodesError("a world has one cluster")
        options.setdefault("sshd_config", "MaxStartups 4096\n")
        self.cluster_node = Cluster(self, self._next(), count, **options)
        self._add([self.cluster_node])
        return self.cluster_node

    @property
    def names(self):
        return [node.name for node in self.nodes]

    @property
    def machines(self):
        """The controller, the nodes, the cluster."""
        return list(self._machines)

    def relay(self, node, delay_ms, port=None):
        """A Relay to the node's sshd with delay_ms of round trip added, known by the node's host keys."""
        name = f"10.0.120.{200 + len(self._relays)}"
        self.bridge.as_root(["ip", "addr", "add", name + "/21", "dev", "br0"])
        relay = Relay(name, self.bridge.listen(22, name), self.bridge.socket,
                      (node.name, port or node.port), delay_ms)
        self._relays.append(relay)
        self._know([name], node.public_keys())
        return relay

    # Host keys, in the controller's ~/.ssh/known_hosts.

    @property
    def known_hosts(self):
        return self.home / ".ssh/known_hosts"

    def know_host_key(self, node):
        node._known += self._know(node.known_names(), node.public_keys())

    def _know(self, names, keys):
        lines = [f"{hashed(name) if self.hashed_known_hosts else name} {key}\n" for name in names for key in keys]
        with open(self.known_hosts, "a", encoding="ascii") as file:
            file.writelines(lines)
        return lines

    def forget_host_key(self, node):
        lines = self.known_hosts.read_text().splitlines(keepends=True)
        self.known_hosts.write_text("".join(line for line in lines if line not in node._known))
        node._known = []

    # The controller.

    def run(self, argv, **options):
        return self.controller.run(argv, **options)

    def run_pty(self, argv, **options):
        return self.controller.run_pty(argv, **options)

    def popen(self, argv, **options):
        return self.controller.popen(argv, **options)

    def processes(self):
        return self.controller.processes()

    @property
    def pid(self):
        """Of the process, a child of ours, below which all others of the world are; None when it is closed."""
        return self._unshare.pid if self._unshare else None

    def close(self):
        """Ends everything and returns when it has ended.  May be called twice."""
        for relay in self._relays:
            relay.stop()
        self._relays = []
        for machine in self._machines:
            machine.close()
        self._machines = []
        self.bridge.channel.close()  # its pid 1 takes that as the end
        if self._unshare is not None:
            try:
                self._unshare.wait(patience(20))
            except subprocess.TimeoutExpired:
                self._unshare.kill()
                self._unshare.wait()
            self._unshare = None
        if self.directory is not None:
            if hasattr(self, "home"):
                coverage.collect(self.home)
            shutil.rmtree(self.directory, ignore_errors=True)


def command_line(argv):
    parser = argparse.ArgumentParser(
        description="Starts nodes with sshd, runs COMMAND beside them, and takes all down when it ends.  "
                    "The nodes are 10.0.120.1, 10.0.120.2 and so on, for COMMAND also in $NODES.")
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="how many (2)")
    parser.add_argument("--cluster", type=int, default=0, metavar="N", help="so many more addresses of one sshd")
    parser.add_argument("--visible", action="append", default=[], metavar="PATH",
                        help="what COMMAND may see and write to, besides the source tree and the current directory")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="and its arguments, after --")
    options = parser.parse_args(argv)

    here = os.getcwd()
    keep = {name: os.environ[name] for name in ("TERM", "LANG", "NO_COLOR") if name in os.environ}
    with World(options.nodes, visible=[here, *options.visible], foreground=True) as world:
        names = world.names + (world.cluster(options.cluster).names if options.cluster else [])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the terminal, it is for the command
        with world.popen(options.command, env={**keep, "NODES": " ".join(names)}, cwd=here, stdin=sys.stdin,
                         stdout=sys.stdout, stderr=sys.stderr, session=False) as process:
            status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(command_line(sys.argv[1:]))
    except (CloudnodesError, OSError) as error:
        sys.exit(f"cloudnodes: {error}")
