"""Nodes are not trusted: what they answer, how they break off, which keys they show, what lies on their disks, what they
print; and what a user's ssh_config, or a name from outside, would have us do."""
import json
import os
import re
import shutil
import subprocess
import threading

import pytest

from cloudnodes import promised, slowed, wait_until
from cloudnodes_peers import Peer

PLAIN = {"test_one.py": "import pytest\n@pytest.mark.parametrize('x', range(20))\ndef test_one(x):\n    pass\n"}
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028-\u202e]")


def assert_clean(text):
    """Nothing in it that a terminal would obey."""
    assert not CONTROLS.search(text), CONTROLS.search(text)


# What a node answers

PRELUDE = r"""
read -r line; nonce=${line#*\'}; nonce=${nonce%\'*}
begin() { echo "cloudplan-facts $nonce 1"; }
facts() { # cores, memory
    printf 'cores=%s\nmem_total=%s\nmem_available=%s\nos=Linux\ntarget=absent\nhome=/home/ci\ndisk_free=1000000000\n' "$1" "$2" "$2"
    printf 'boot_id=%s\nlogin_id=ci@1:2\n' "$nonce$SSH_CONNECTION"
}
tools() { printf 'python=3.11.2\npython_path=python3\nrsync=3.2.7\n'; }
end() { echo "cloudplan-end $nonce"; }
"""
# {what: (script, state, reason)}
ANSWERS = {
    "usual": ("begin; facts 4 8589934592; tools; end", "ready", None),
    "2^64 bytes": ("begin; facts 4 18446744073709551616; tools; end", "failed", "mem_total is too large"),
    "2^64 cores": ("begin; facts 18446744073709551617 8589934592; tools; end", "failed", "cores is too large"),
    "10^5 cores": ("begin; facts 100000 8589934592; tools; end", "failed", "cores is out of range"),
    "largest": ("begin; facts 65536 9223372036854775807; tools; end", "ready", None),
    "endless": ("begin; facts 4 8589934592; yes key=value", "failed", "answer malformed: more than 256 KiB"),
    "endless line": ("begin; printf home=; yes | tr -d '\\n'", "failed", "answer malformed: more than 256 KiB"),
    "long values": ("begin; facts 4 8589934592; tools; printf 'release='; head -c 200000 /dev/zero | tr '\\0' x; echo; end", "ready", None),
    "begins twice": ("begin; facts 4 8589934592; tools; begin; facts 64 8589934592; end", "failed", "it begins twice"),
    "second answer": ("begin; facts 4 8589934592; tools; end; begin; facts 64 8589934592; tools; end", "ready|failed", "it begins twice"),
    "another's nonce": ("nonce=00000000000000000000000000000000; begin; facts 4 8589934592; tools; end", "failed", "no facts in it"),
    "binary": ("begin; facts 4 8589934592; head -c 5000 /dev/urandom; printf '\\000\\n'; tools; end", "failed", "NUL byte"),
    "cut short": ("begin; facts 4 8589934592; tools", "failed", "cut short"),
    "a byte a second": ("while :; do printf x; sleep 1; done", "offline", f"timed out after {slowed(4)} s while waiting for the answer"),
    "control characters": (
        "begin; facts 4 8589934592; tools; printf 'release=6\\033]0;owned\\007\\302\\233\\033[2J\\narch=x\\342\\200\\256y\\r\\n'; end",
        "ready", None),
    "separators": (
        "begin; facts 4 8589934592; printf 'python=3.11.2//chdir=%s\\npython_path=p//ssh=q\\nrsync=3.2.7\\narch=a//b c\\n' /tmp; end",
        "ready", None),
}


@pytest.fixture(scope="module")
def hostile(three_nodes):
    """A site whose cluster answers as each of ANSWERS says: {what: name}."""
    names = {what: f"10.0.121.{number}" for number, what in enumerate(ANSWERS, 1)}
    forced = 'MaxStartups 100\nForceCommand set -- $SSH_CONNECTION; exec sh "$HOME/answers/$3"\n'
    cluster = three_nodes.world.cluster(len(names), sshd_config=forced)
    folder = cluster.home / "answers"
    folder.mkdir()
    for what, name in names.items():
        (folder / name).write_text(PRELUDE + ANSWERS[what][0] + "\n")
    three_nodes.project.mkdir(exist_ok=True)
    return three_nodes, names


def test_answers(hostile):
    site, names = hostile
    result = site.run("probe", "--format=json", f"--cloud-probe-timeout={slowed(4)}", nodes=list(names.values()))
    answers = dict(zip(names, json.loads(result.stdout)["nodes"]))
    for what, (_, state, words) in ANSWERS.items():
        node = answers[what]
        assert re.fullmatch(state, node["state"]) and (node["reason"] is None or words in node["reason"]), (what, node)
        for value in [node["reason"] or "", *(node["facts"] or {}).values()]:
            assert_clean(str(value))
    # What comes after the end is not waited for; what has come by then condemns the answer.
    assert answers["second answer"]["facts"] is None or answers["second answer"]["facts"]["cores"] == 4
    assert answers["largest"]["facts"]["cores"] == 65536
    assert result.elapsed < promised(7)
    assert_clean(result.stderr)
    shown = site.run("probe", nodes=[names["control characters"], names["separators"], names["long values"]])
    assert shown.returncode == 0
    assert_clean(shown.stdout + shown.stderr)


def test_what_a_node_says_becomes_no_xspec(hostile):
    """With --dist=each its words are part of the ids."""
    site, names = hostile
    result = site.run("plan", "--dist=each", "--format=tx", nodes=[names[what] for what in ("separators", "control characters", "largest")])
    assert result.returncode == 0, result
    assert_clean(result.stdout + result.stderr)
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        keys = [part.partition("=")[0] for part in line.removeprefix("--tx=").split("//")]
        assert keys == ["ssh", "id", "node", "chdir", "python"], line
        assert "chdir=pytest_ci_project//" in line and line.endswith("//python=python3")


def test_numbers_do_not_overflow(hostile):
    site, names = hostile
    result = site.run("plan", "--format=json", "--cloud-mem-per-process=1", "--cloud-max-processes=3",
                      nodes=[names["largest"], names["usual"]])
    assert [node["processes"] for node in json.loads(result.stdout)["nodes"]] == [3, 3]


# How a connection breaks off


class Cut:
    """Passes bytes between a peer and a node's sshd, until so many have come from sshd; then closes or stalls.

    limits: for the first, second ... connection; the last one holds for all further ones.  None: no limit."""

    def __init__(self, world, name, node, limits, then="close"):
        world.bridge.as_root(["ip", "addr", "add", name + "/21", "dev", "br0"])
        world._know([name], node.public_keys())
        self.world, self.name, self.nodes, self.limits, self.then = world, name, [node], limits, then
        self.count = 0
        self.peer = Peer(world.bridge.listen(22, name), self.serve)

    def serve(self, connection):
        number, self.count = self.count, self.count + 1
        limit = self.limits[min(number, len(self.limits) - 1)]
        node = self.nodes[min(number, len(self.nodes) - 1)]
        far = self.world.bridge.socket()
        far.connect((node.name, node.port))

        def forward(source, target):
            try:
                while data := source.recv(1 << 16):
                    target.sendall(data)
            except OSError:
                pass
            try:
                target.shutdown(1)
            except OSError:
                pass

        there = threading.Thread(target=forward, args=[connection, far], daemon=True)
        there.start()
        passed = 0
        while limit is None or passed < limit:
            data = far.recv(1 << 16 if limit is None else min(1 << 16, limit - passed))
            if not data:
                break
            connection.sendall(data)
            passed += len(data)
        if self.then == "close" or passed != limit:
            far.close()
            connection.shutdown(2)
            connection.close()


@pytest.fixture
def cuts(three_nodes):
    made = []

    def make(node, limits, then="close"):
        made.append(Cut(three_nodes.world, f"10.0.120.{150 + make.number}", node, limits, then))
        make.number += 1
        return made[-1]

    make.number = cuts_so_far[0]
    yield make
    cuts_so_far[0] = make.number
    for cut in made:
        cut.peer.stop()


cuts_so_far = [0]


@pytest.mark.parametrize("openssh", [False, True], ids=["libssh2", "OpenSSH"])
def test_closed_in_every_phase(three_nodes, cuts, openssh):
    """Banner, key exchange, authentication, channel, command, answer: noticed, not waited out."""
    site, node = three_nodes, three_nodes.nodes[0]
    made = [cuts(node, [limit]) for limit in (0, 1, 20, 60, 500, 1200, 1700, 2000, 2200, 2500, 2800, 3000)]
    site.project.mkdir(exist_ok=True)
    (site.world.home / ".ssh/config").write_text("Host *\n  CheckHostIP yes\n" if openssh else "")
    result = site.run("probe", "-v", "--format=json", f"--cloud-probe-timeout={slowed(4)}", nodes=[cut.name for cut in made])
    (site.world.home / ".ssh/config").write_text("")
    # OpenSSH's, before and since 10; or it was being tried again when the time was up.
    words = r"kex_exchange_identification|Connection closed by \S+ port 22|connecting with ssh"
    assert bool(re.search(words, json.loads(result.stdout)["nodes"][0]["reason"])) == openssh
    for cut, answer in zip(made, json.loads(result.stdout)["nodes"]):
        assert cut.count > 0
        if answer["state"] != "ready":  # the answer had come before the cut
            before = cut.limits[0] <= 1700  # authentication
            # A server may close the connection because it has seen enough keys.
            states = ("offline",) if before and openssh else ("offline", "failed") + ("refused",) * (
                "closed during authentication" in answer["reason"])
            assert answer["state"] in states, (cut.limits, answer["state"], answer["reason"])
            words = "(?i)clos|reset|disconnect|cut short|no answer|banner|KEX|ended|Broken pipe|unexpected|exchange"
            if before or openssh:
                # It is tried again until then, as after a MaxStartups; newer versions exchange longer keys before authentication.
                words += "|timed out"
            assert re.search(words, answer["reason"]), (cut.limits, answer)
    assert sum(answer["state"] != "ready" for answer in json.loads(result.stdout)["nodes"]) >= 8
    assert result.elapsed < promised(7)


def test_closed_after_the_probe(three_nodes, cuts):
    """The same, of the master's connection: the others' run goes on, and nothing is left."""
    site = three_nodes
    first, second, third = site.nodes
    site.write(PLAIN)
    closed, half = cuts(first, [None, 1500]), cuts(second, [None, 3300])
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=[closed.name, half.name, third], timeout=60)
    assert result.returncode == 0 and "20 passed" in result.stdout, result
    for cut in (closed, half):
        # At the latest when its worker starts: how many bytes come before that is not the same each time.
        words = rf"{cut.name} is left out \((offline|failed)\): .|{cut.name}_0 did not start: .+; going on without it"
        assert re.search(words, result.stderr + result.stdout), (cut.limits, result)
    assert result.elapsed < promised(20)
    site.assert_nothing_left()


def test_dropped_once_after_the_probe(three_nodes, cuts):
    """As sshd drops connections beyond MaxStartups: the master is opened again."""
    site, node = three_nodes, three_nodes.nodes[0]
    site.write(PLAIN)
    dropped = cuts(node, [None, 0, 1, None])
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=[dropped.name])
    assert result.returncode == 0 and "20 passed" in result.stdout, result
    assert dropped.count >= 4
    site.assert_nothing_left()


# Whose keys they show


def test_host_keys(three_nodes):
    site = three_nodes
    world, node = site.world, site.nodes[0]
    site.project.mkdir(exist_ok=True)
    folder = world.directory / "ca"
    folder.mkdir()
    for name in ("ca", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "host.pub").write_text((node.etc_ssh / "ssh_host_ed25519_key.pub").read_text())
    subprocess.run(["ssh-keygen", "-q", "-s", folder / "ca", "-h", "-I", "node", "-n", "by-ca,by-other-ca", folder / "host.pub"], check=True)
    (node.etc_ssh / "host-cert.pub").write_text((folder / "host-cert.pub").read_text())
    node.set_sshd_config("HostCertificate /etc/ssh/host-cert.pub\n")
    node.sshd_restart()
    keys = node.public_keys()
    ca, other = (" ".join((folder / f"{name}.pub").read_text().split()[:2]) for name in ("ca", "other"))
    hashed = world.run(["sh", "-c", f"printf 'by-hash {keys[0]}\n' >h; ssh-keygen -q -H -f h; cat h; rm -f h h.old"], check=True).stdout
    before = world.known_hosts.read_text()
    # {alias: (lines of known_hosts, what is refused or None)}
    table = {
        "by-name": ([f"by-name {key}" for key in keys], None),
        "by-hash": ([hashed.strip()], None),
        "by-pattern": ([f"by-patt?rn {keys[0]}"], None),
        "by-ca": ([f"@cert-authority by-ca {ca}"], None),
        "by-other-ca": ([f"@cert-authority by-other-ca {other}"], "host key unknown|No .* host key is known|key verification failed"),
        "nobody": ([], "host key unknown: (SHA256:|it is not in known_hosts)"),
        "negated": ([f"neg*,!negated {keys[0]}"], "host key unknown"),
        "changed": ([f"changed {other}"], "host key changed: SHA256:"),
        "revoked": ([f"revoked {key}" for key in keys] + [f"@revoked revoked {key}" for key in keys], "host key revoked"),
        "revoked-by-pattern": ([f"revoked-by-pattern {key}" for key in keys] + [f"@revoked revoked-by-* {key}" for key in keys],
                               "host key revoked"),
        "revoked-lax": ([f"@revoked revoked-lax {key}" for key in keys], "host key revoked"),
        "ca-revoked": ([f"@cert-authority ca-revoked {ca}", f"@revoked ca-revoked {ca}"], "host key"),
    }
    world.known_hosts.write_text(before + "".join(f"{line}\n" for lines, _ in table.values() for line in lines))
    aliases = (f"Host {alias}\n  HostName {node.name}\n  HostKeyAlias {alias}\n" for alias in table)
    (world.home / ".ssh/config").write_text("Host *-lax\n  StrictHostKeyChecking no\n" + "".join(aliases))
    try:
        result = site.run("probe", "-v", "--format=json", nodes=list(table))
    finally:
        (world.home / ".ssh/config").write_text("")
        world.known_hosts.write_text(before)
        node.set_sshd_config("")
        node.sshd_restart()
    for (alias, (_, words)), answer in zip(table.items(), json.loads(result.stdout)["nodes"]):
        # Where libssh2 agreed on the certificate the OpenSSH client was asked, which warns and goes on.
        if words is None or (alias == "revoked-lax" and f"{alias} was asked by the OpenSSH client" in result.stderr):
            assert answer["state"] == "ready", (alias, answer)
        else:
            assert answer["state"] == "refused" and re.search(words, answer["reason"]), (alias, answer)


def test_another_key_after_the_probe(site, cuts):
    """Whoever takes a node's place between the stages is not given the files."""
    first, second, third = site.nodes
    site.write(PLAIN)
    swapped = cuts(first, [None])
    swapped.nodes = [first, second]
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=[swapped.name, third])
    assert result.returncode == 0, result
    assert re.search(rf"{swapped.name} is left out \(refused\): host key changed", result.stderr), result.stderr
    assert not list(second.home.glob("pytest_*"))


# What lies on their disks


def plant(node, path, kind):
    there = node.home / path
    if kind in ("fifo", "file", "link"):
        node.run({"fifo": ["mkfifo", path], "file": ["touch", path], "link": ["ln", "-s", ".ssh", path]}[kind], check=True)
        return
    there.mkdir()
    (there / "precious").write_text("ten years")
    mark = f"{path}/.cloudplan"
    node.run({"mark-link": ["ln", "-s", "precious", mark], "mark-fifo": ["mkfifo", mark], "mark-dir": ["mkdir", mark],
              "dangling": ["ln", "-s", "nothing", mark]}[kind], check=True)


@pytest.mark.parametrize("kinds", [("mark-link", "mark-fifo", "mark-dir"), ("fifo", "file", "link"), ("dangling",)], ids=" ".join)
def test_planted_in_the_copy_s_place(site, kinds):
    site.write(PLAIN)
    for node, kind in zip(site.nodes, kinds):
        plant(node, "pytest_ci_project", kind)
    before = [sorted(str(path) for path in node.home.rglob("*")) for node in site.nodes]
    result = site.run("sync", nodes=site.nodes[:len(kinds)], timeout=20)
    after = [sorted(str(path) for path in node.home.rglob("*")) for node in site.nodes]
    for node in site.nodes:
        node.run(["rm", "-rf", "pytest_ci_project"])  # also when this fails: the next test's clean() would wait for a FIFO's writer
    assert result.returncode == 69 and result.elapsed < promised(10), result
    for node in site.nodes[:len(kinds)]:
        assert re.search(rf"{node.name} is left out \(unfit\): pytest_ci_project exists there and was not made by cloudplan", result.stderr), (
            result.stderr)
    assert before == after


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to give a directory away")
def test_a_copy_that_belongs_to_another(site):
    """Whoever owns the directory could change what is run there."""
    site.write(PLAIN)
    node = site.nodes[0]
    theirs = node.home / "theirs"
    for kind in ("with the mark", "empty"):
        theirs.mkdir()
        if kind == "with the mark":
            (theirs / ".cloudplan").touch()
        theirs.chmod(0o777)
        os.chown(theirs, 12345, 12345)
        result = site.run("sync", "--cloud-chdir=theirs", nodes=[node])
        left = [path.name for path in theirs.iterdir()]
        shutil.rmtree(theirs)
        assert result.returncode == 69 and "was not made by cloudplan" in result.stderr, (kind, result)
        assert left == ([".cloudplan"] if kind == "with the mark" else [])


# What the user's ssh_config would open

LOOK = """
import glob, os
def ports():
    found = []
    for table in glob.glob("/proc/net/tcp*"):
        with open(table) as file:
            found += [line.split()[1].split(":")[1] for line in list(file)[1:] if line.split()[3] == "0A"]
    return sorted({int(port, 16) for port in found})
"""


OPENS = """\
Host *
  ForwardAgent yes
  ForwardX11 yes
  ForwardX11Trusted yes
  LocalForward 5555 localhost:22
  RemoteForward 6666 localhost:22
  DynamicForward 7777
  LocalForward /home/ci/forwarded /tmp/x
  RemoteForward /home/ci/forwarded /tmp/x
  Tunnel yes
  ExitOnForwardFailure yes
  PermitLocalCommand yes
  LocalCommand touch /home/ci/local-command
  RemoteCommand touch /home/ci/remote-command
  RequestTTY force
  ControlMaster auto
  ControlPath ~/.ssh/master-%C
  ControlPersist 10m
  LogLevel DEBUG
"""
ALLOWS = "X11Forwarding yes\nAllowAgentForwarding yes\nAllowTcpForwarding yes\n"


def with_agent(site, argv):
    """A command with an agent that has the key, and a display."""
    script = 'eval "$(ssh-agent)" >/dev/null; ssh-add -q; "$@"; status=$?; kill "$SSH_AGENT_PID"; exit $status'
    return ["env", "DISPLAY=localhost:99", "sh", "-c", script, "sh", *argv]


def listening(machine):
    lines = [line.split() for table in ("tcp", "tcp6")
             for line in open(f"/proc/{machine.channel.host_pid}/net/{table}", encoding="ascii") if " 0A " in line]
    return sorted({int(words[1].split(":")[1], 16) for words in lines})


def test_nothing_is_forwarded_by_the_probe(site):
    """By the OpenSSH client, that is: libssh2 has no such options."""
    world, node = site.world, site.nodes[0]
    site.project.mkdir()
    (world.home / ".ssh/config").write_text(OPENS + "  CheckHostIP yes\n")
    node.set_sshd_config(ALLOWS)
    node.sshd_restart()
    node.run(["mkfifo", "go"], check=True)
    (node.home / ".bashrc").write_text("env >~/env.new; mv ~/env.new ~/env; read -r line <~/go\n")
    running = world.popen(with_agent(site, site.argv("probe", "-v", nodes=[node])), cwd="/home/ci/project")
    wait_until((node.home / "env").exists, what="the probe's shell")
    here, there, seen = listening(world.controller), listening(node), (node.home / "env").read_text()
    node.run(["sh", "-c", "echo >go; rm go env .bashrc"], check=True)
    out, err = site.finish(running)
    assert running.returncode == 0 and "was asked by the OpenSSH client: CheckHostIP" in err, (out, err)
    assert (here, there) == ([], [22])
    assert not re.search("^(SSH_AUTH_SOCK|DISPLAY|SSH_TTY)=", seen, re.M), seen
    for machine in (world.controller, node):
        assert not [name for name in ("local-command", "remote-command", "forwarded") if (machine.home / name).exists()]


def test_nothing_is_forwarded(site):
    world, (first, second, _) = site.world, site.nodes
    site.write({"look.py": LOOK,
                "conftest.py": "import look\ndef pytest_sessionfinish(session):\n    if not hasattr(session.config, 'workerinput'):\n"
                               "        open('/home/ci/ports', 'w').write(str(look.ports()))\n",
                "test_look.py": "import os, look\ndef test_look():\n    names = 'SSH_AUTH_SOCK', 'DISPLAY', 'SSH_TTY'\n"
                                "    assert [n for n in names if n in os.environ] == [] and look.ports() == [22]\n"})
    through = f'sh -c "touch /home/ci/proxied-%h-%p; exec ssh -F none -W %h:%p {first.name}"'
    (world.home / ".ssh/config").write_text(f"Host {second.name}\n  ProxyCommand {through}\n{OPENS}")
    for node in (first, second):
        node.set_sshd_config(ALLOWS)
        node.sshd_restart()
    argv = site.argv("run", "--cloud-max-processes=1", "--dist=each", "--", "-q", nodes=[first, second])
    result = world.run(with_agent(site, argv), cwd="/home/ci/project")
    assert result.returncode == 0 and "2 passed" in result.stdout, result
    assert (world.home / "ports").read_text() == "[]"
    assert (world.home / f"proxied-{second.name}-22").exists()
    for node in (world.controller, first, second):
        assert not [name for name in ("local-command", "remote-command", "forwarded") if (node.home / name).exists()]
    # ControlPersist would keep a master for 10 minutes.
    site.assert_nothing_left()
    assert not list((world.home / ".ssh").glob("master-*"))


@pytest.mark.parametrize("line,words", [("SessionType none", "SessionType is not default"), ("StdinNull yes", "StdinNull yes"),
                                        ("ForkAfterAuthentication yes", "Cannot fork into background")])
def test_no_command_can_be_run(site, line, words):
    site.write(PLAIN)
    (site.world.home / ".ssh/config").write_text(f"Host *\n  {line}\n")
    result = site.run("run", nodes=site.nodes[:1])
    assert result.returncode == 69 and words in result.stderr and result.elapsed < promised(5), result


# What they print

def test_an_option_that_ssh_does_not_have(site):
    """Each ssh says so: the masters', rsync's, every worker's."""
    site.write(PLAIN)
    (site.world.home / ".ssh/config").write_text("Host *\n  CompressionLevel 9\n")
    result = site.run("run", "--cloud-max-processes=2", "--", "-q", nodes=site.nodes)
    (site.world.home / ".ssh/config").write_text("")
    assert result.returncode == 0 and result.stderr.count('Unsupported option "compressionlevel"') == 1, result.stderr


FLOOD = """case $BASH_EXECUTION_STRING in
%s) if [ -e ~/seen ]; then yes "$(printf 'noise\\033]0;owned\\007')" >&2 & fi; : >~/seen ;;
esac
"""


def test_gigabytes_of_diagnostics(site):
    """In the master's session as long as the run lasts; during the sync, where all of it goes to a file."""
    world, (first, second, _) = site.world, site.nodes
    site.write(PLAIN)
    (first.home / ".bashrc").write_text(FLOOD % "*'/bin/sh -s'*")  # the second one: the probe was the first
    (second.home / ".bashrc").write_text(FLOOD % "*'rsync --server'*")
    (second.home / "seen").touch()
    running = site.popen("run", "--cloud-max-processes=1", "--", "-q")
    largest = {"memory": 0, "disk": 0}
    ended = threading.Event()

    def watch():
        while not ended.wait(0.02):
            try:
                status = (world.controller.root / f"proc/{running.pid}/status").read_text()
                largest["memory"] = max(largest["memory"], int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10)
                blocks = sum(path.stat().st_blocks for path in (world.controller.root / "tmp").glob("cloudplan*/*"))
                largest["disk"] = max(largest["disk"], blocks * 512)
            except (OSError, TypeError):
                pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, err = site.finish(running, timeout=60)
    finally:
        ended.set()
        watcher.join()
    for node in (first, second):
        (node.home / ".bashrc").unlink()
        (node.home / "seen").unlink()
    assert running.returncode == 0 and "20 passed" in out, (out, err)
    assert f"{second.name} is left out (failed): more than 4 MiB of diagnostics during the sync, such as: noise?]0;owned" in err
    assert first.name + " is left out" not in err
    assert_clean(err)
    assert largest["memory"] < 40 << 20 and largest["disk"] < 1 << 30, largest


def test_tools_there_that_are_fakes(site):
    """A node whose rsync is something else drops out by itself; one whose Python is drops out of the run."""
    first, second, third = site.nodes
    site.write(PLAIN)
    for node, name, text in ((first, "rsync", "#!/bin/sh\n[ \"$1\" != --version ] || exec /usr/bin/rsync \"$@\"\n"
                                              "exec head -c 3000000 /dev/urandom\n"),
                             (second, "python3", "#!/bin/sh\ncase $* in *sys.stdin.readline*) exec head -c 3000000 /dev/urandom ;; esac\n"
                                                 "exec /usr/bin/python3 \"$@\"\n")):
        (node.home / "fake").mkdir()
        (node.home / "fake" / name).write_text(text)
        (node.home / "fake" / name).chmod(0o755)
        (node.home / ".bashrc").write_text("PATH=~/fake:$PATH\n")
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", timeout=60)
    for node in (first, second):
        node.run(["rm", "-r", "fake", ".bashrc"])
    assert result.returncode == 0 and "20 passed" in result.stdout, result
    assert re.search(rf"{first.name} is left out \(failed\): sync failed", result.stderr), result.stderr
    assert re.search(rf"{second.name}_0 did not start: ", result.stdout + result.stderr), result
    assert_clean(result.stderr)
    assert result.elapsed < promised(30)


# Names from outside

STRANGE = "we\033[31mird // $(touch owned);'\"`touch owned` --option\tx"


def test_a_project_with_a_strange_name(site):
    """Its path is in argv, in filters, in messages; the copy's name is made of it."""
    world = site.world
    site.write(PLAIN)
    folder = world.home / STRANGE.replace("/", "_")
    site.project.rename(folder)
    (folder / "-rf").write_text("")
    (folder / "$(touch owned)").mkdir()
    try:
        where = "/home/ci/" + folder.name
        result = site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=site.nodes[:1], cwd=where)
        assert result.returncode == 0 and "20 passed" in result.stdout, result
        assert_clean(result.stderr)
        plan = site.run("plan", "--format=tx", nodes=site.nodes[:1], cwd=where)
        assert_clean(plan.stdout + plan.stderr)
        for line in plan.stdout.splitlines():
            assert re.fullmatch(r"--tx=ssh=ci@[\d.]+//id=[\d._]+//node=[\w.@]+//chdir=[\w.-]+//python=python3", line), line
        refused = site.run("plan", "--rsyncdir=" + STRANGE, nodes=site.nodes[:1], cwd=where)
        assert_clean(refused.stdout + refused.stderr)
    finally:
        folder.rename(world.home / "strange")
        world.run(["rm", "-rf", "/home/ci/strange"])
    assert not list(world.home.rglob("owned")) and not list(site.nodes[0].home.rglob("owned"))


@pytest.mark.parametrize("text", [
    "cloud_node = -oProxyCommand=touch${IFS}owned", "cloud_node = -v", "cloud_node = -lroot@10.0.120.1", "cloud_nodes = a\033[31mb", "cloud_chdir = a;touch owned",
    "cloud_chdir = $(touch owned)", "cloud_chdir = -rf", "cloud_python = python3//chdir=/tmp", "cloud_python = x\033]0;owned\007",
    "cloud_rsync_cipher = aes\033[31m", "cloud_virtualenv_path = \033[31m", "cloud_nodes_from = \033[2J/none",
])
def test_values_of_an_ini_file(site, text):
    site.write({**PLAIN, "pytest.ini": f"[pytest]\n{text}\n"})
    named = "node" in text
    result = site.run("plan", nodes=[] if named else site.nodes[:1])
    assert result.returncode in (64, 65), result
    assert_clean(result.stdout + result.stderr)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not list(site.world.home.rglob("owned"))


def test_private_directory(site):
    """0700, and what is in it is nobody else's to read: the sockets there are as good as the keys."""
    site.write({"test_slow.py": "import time\ndef test_slow():\n    time.sleep(1000)\n"})
    running = site.popen("run", "--cloud-max-processes=1", "--", "-q", nodes=site.nodes[:1])
    root = site.world.controller.root / "tmp"
    wait_until(lambda: [p for p in root.glob("cloudplan.*/*") if p.is_socket()], what="a control socket")
    folder, = root.glob("cloudplan.*")
    modes = {folder: folder.stat().st_mode & 0o777, **{p: p.stat().st_mode & 0o777 for p in folder.rglob("*") if p.is_socket()}}
    running.terminate()
    site.finish(running, timeout=30)
    assert set(modes.values()) == {0o700, 0o600} and modes[folder] == 0o700, modes


def test_what_workers_print_on_standard_error(make_site):
    """Past pytest's capture, as a crash does, or a node that is not what it seems."""
    site = make_site(nodes=2)
    site.write({"test_it.py": "import os, pytest\n@pytest.fixture(scope='session', autouse=True)\ndef noise():\n"
                              "    os.write(NOISE, b'one\\x1b]0;title\\x07\\x1b[2J\\n')\n"
                              "    for _ in range(24): os.write(NOISE, b'y' * (1 << 20))\n"
                              "NOISE = os.dup(2)\n"
                              "@pytest.mark.parametrize('x', range(8))\ndef test_it(x): pass\n"})
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", "-s", timeout=120)
    assert result.returncode == 0 and "8 passed" in result.stdout, result.stdout
    assert_clean(result.stderr)
    for node in site.nodes:
        assert f"[{node.name}_0] one?]0;title??[2J\n" in result.stderr
        assert f"[{node.name}_0] more than 16 MiB on its standard error: the rest is not shown\n" in result.stderr
    assert 32 << 20 < len(result.stderr) < 34 << 20
