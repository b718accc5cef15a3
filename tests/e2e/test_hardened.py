"""Servers that allow only what libssh2 lacks, that let nobody in, or that answer with what they should not: each works
by libssh2 or by the OpenSSH client, or is reported with its reason in time.  For `run`, whose first stage is the probe."""
import json
import ctypes
import re

import pytest

from cloudnodes import promised, slowed

PLAIN = {"test_one.py": "import pytest\n@pytest.mark.parametrize('x', range(20))\ndef test_one(x):\n    pass\n"}

# One sshd each.
WORKS = {
    "chacha20 and EtM": "Ciphers chacha20-poly1305@openssh.com\nMACs hmac-sha2-256-etm@openssh.com\n",
    "AES-GCM": "Ciphers aes256-gcm@openssh.com\n",
    "EtM MACs": "MACs hmac-sha2-256-etm@openssh.com\nCiphers aes128-ctr\n",
    "post-quantum KEX": "KexAlgorithms sntrup761x25519-sha512@openssh.com\n",
    "RSA host key": "HostKeyAlgorithms rsa-sha2-512\n",
    "RSA user keys": "PubkeyAcceptedAlgorithms rsa-sha2-512,rsa-sha2-256\n",
    "one session": "MaxSessions 1\nMaxAuthTries 1\n",
    "MaxStartups": "MaxStartups 2:90:4\n",
    "new keys all the time": "RekeyLimit 4K\nClientAliveInterval 1\nDisableForwarding yes\nPermitTTY no\n",
    "long banner": "Banner /home/ci/banner\n",
}
BY_OPENSSH = ("chacha20 and EtM", "AES-GCM", "EtM MACs", "post-quantum KEX", "RSA host key", "RSA user keys", "long banner")
# libssh2 itself learnt some of them later.
LIBSSH2 = ctypes.CDLL("libssh2.so.1")
LIBSSH2.libssh2_version.restype = ctypes.c_char_p
EITHER_WAY = ("chacha20 and EtM", "AES-GCM", "EtM MACs", "RSA host key") if LIBSSH2.libssh2_version(0x10B00) else ()

# One address each of a single sshd: {name: (lines, state, reason)}.
REFUSED = {
    "forced words": ("ForceCommand echo This is not for you", "failed", "This is not for you"),
    "forced silence": ("ForceCommand /bin/false", "failed", "no answer"),
    "2FA": ("AuthenticationMethods publickey,keyboard-interactive", "refused", r"Permission denied \(keyboard-interactive"),
    "key and password": ("AuthenticationMethods publickey,password", "refused", r"Permission denied \(password"),
    "three keys": ("AuthenticationMethods publickey,publickey,publickey", "refused", "Permission denied|authentication refused"),
    "no keys": ("PubkeyAuthentication no", "refused", "takes password|Permission denied"),
    "user denied": ("DenyUsers ci", "refused", "authentication refused|Permission denied"),
    "no session": ("MaxSessions 0", "failed", "no SSH session could be opened"),
    "SFTP only": ("ForceCommand internal-sftp", "failed", "sftp connections only"),
    "forced prologue": ('ForceCommand echo This system is monitored; exec sh -c "$SSH_ORIGINAL_COMMAND"', "failed", "prints something by itself"),
    # A shell that floods or fakes.
    "endless line": ("ForceCommand yes | tr -d '\\n'", "failed", "answer malformed: more than 256 KiB"),
    "endless lines": ("ForceCommand yes", "failed", "answer malformed: more than 256 KiB"),
    "endless diagnostics": ("ForceCommand yes >&2", "failed", "answer malformed: more than 256 KiB of diagnostics"),
    "escape sequences": ("ForceCommand printf '\\033]0;owned\\007\\033[2J'", "failed", r"answer malformed: .*\(first line: \?\]0;owned\?\?\[2J"),
    "binary": ("ForceCommand head -c 100000 /dev/urandom", "failed", "answer malformed"),
    "silence": ("ForceCommand sleep 1000", "offline", f"timed out after {slowed(6)} s while waiting for the answer"),
}


def sshd_config(addresses):
    methods = "MaxStartups 100\nPasswordAuthentication yes\nKbdInteractiveAuthentication yes\n"
    return methods + "".join(f"Match LocalAddress {address}\n    {REFUSED[kind][0]}\n" for kind, address in addresses.items())


@pytest.fixture(scope="module")
def outcome(three_nodes):
    site = three_nodes
    world = site.world
    world.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "/home/ci/.ssh/id_rsa"], check=True)
    keys = "".join((world.home / f".ssh/id_{kind}.pub").read_text() for kind in ("ed25519", "rsa"))
    names = {}
    for kind, lines in WORKS.items():
        node = world.nodes[len(names)] if len(names) < len(world.nodes) else world.node()
        (node.home / "banner").write_text("Property of nobody.\n" * 5_000)
        (node.home / ".ssh/authorized_keys").write_text(keys)
        node.set_sshd_config(lines)
        node.sshd_restart()
        names[kind] = node
    addresses = {kind: f"10.0.121.{number}" for number, kind in enumerate(REFUSED, 1)}
    closed = world.cluster(len(REFUSED), sshd_config=sshd_config(addresses), authorized_keys=keys)
    site.nodes = [*names.values()]  # what a forced command leaves is its own affair
    (world.home / ".ssh/config").write_text(
        f"Host behind\n  HostName {names['AES-GCM'].name}\n  User dev\n  ProxyJump {names['RSA host key'].name}\n")
    site.write(PLAIN)
    nodes = [*(node.name for node in names.values()), "behind", *closed.names]
    result = site.run("run", "-v", "--cloud-max-processes=2", f"--cloud-probe-timeout={slowed(6)}", "--", "-q", nodes=nodes, timeout=60)
    site.assert_nothing_left()
    yield names, addresses, result


def test_all_in_time(outcome):
    _, _, result = outcome
    assert result.returncode == 0 and "20 passed" in result.stdout, result
    assert result.elapsed < promised(40)
    assert "\033" not in result.stderr and "\007" not in result.stderr


@pytest.mark.parametrize("kind", WORKS)
def test_works(outcome, kind):
    names, _, result = outcome
    name = re.escape(names[kind].name)
    assert re.search(rf"^{name}: 2 workers", result.stdout, re.M), (kind, result)
    assert not re.search(rf"{name} is left out", result.stderr), (kind, result.stderr)
    if kind not in EITHER_WAY:
        assert bool(re.search(rf"{name} was asked by the OpenSSH client", result.stderr)) == (kind in BY_OPENSSH), result.stderr


def test_behind_a_jump_host(outcome):
    _, _, result = outcome
    assert re.search(r"^behind: 2 workers", result.stdout, re.M), result
    assert "behind was asked by the OpenSSH client: ProxyJump" in result.stderr


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_reason(outcome, kind):
    _, addresses, result = outcome
    _, state, words = REFUSED[kind]
    line = re.search(rf"^cloudplan: {re.escape(addresses[kind])} is left out \((.*?)\): (.*)$", result.stderr, re.M)
    assert line and line[1] == state and re.search(words, line[2]), result.stderr


@pytest.mark.parametrize("lines", ["", "MaxSessions 1\n"], ids=["ten sessions", "one session"])
def test_many_workers_above_max_startups(make_site, lines):
    """Two runs at the same time, with twelve workers each where there are sessions for ten, or for one on each connection: sshd
    closes most of the connections, and each is tried again."""
    site = make_site(nodes=1, sshd_config="MaxStartups 2:90:4\n" + lines)
    workers = 6 if lines else 12
    site.nodes[0].set_cores(2 * workers)
    site.write({"test_a.py": "import pytest, time\n@pytest.mark.parametrize('x', range(96))\ndef test_one(x):\n    time.sleep(0.1)\n"})
    runs = [site.popen("run", f"--cloud-max-processes={workers}", "--", "-v") for _ in range(2)]
    for run in runs:
        out, err = site.finish(run, timeout=60)
        assert run.returncode == 0 and "96 passed" in out and "did not start" not in out + err, (out, err)
        assert len(set(re.findall(r"^\[(10\S+)\]", out, re.M))) == workers, (out, err)
    assert "drop connection" in site.nodes[0].read_log()  # what comes behind it differs between versions
    site.assert_nothing_left()


# Peers that are no sshd, on one port each.
DATA = {
    "broken packets": b"SSH-2.0-x\r\n" + b"\xff" * 100_000,
    "long line": b"x" * 1_000_000,
    "old version": b"SSH-1.99-old\r\n",
    "empty lines": b"\r\n" * 100_000,
    "binary": bytes(range(256)) * 100,
}


def test_peers_that_are_no_sshd(make_site):
    site = make_site(nodes=1)
    node = site.nodes[0]
    cases = [(what, then) for what in DATA for then in ("stall", "close", "reset")]
    node.sshd_stop()
    for number, (what, then) in enumerate(cases):
        node.scripted(DATA[what], then=then, port=3001 + number)
    site.write(PLAIN)
    result = site.run("probe", "--format=json", f"--cloud-probe-timeout={slowed(3)}",
                      nodes=[f"{node.name}:{3001 + number}" for number in range(len(cases))])
    answers = json.loads(result.stdout)["nodes"]
    for case, answer in zip(cases, answers):
        assert answer["state"] in ("offline", "failed", "refused") and answer["reason"], (case, answer)
    assert len(answers) == len(cases) and result.returncode == 69
    assert result.elapsed < promised(6)
