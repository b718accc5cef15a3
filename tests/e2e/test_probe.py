"""Asking real nodes: facts, states, reasons, deadlines."""
import json
import os
import re
import time

import pytest

from cloudnodes import World, promised, slowed, wait_until
from cloudnodes_keeper import Keeper
from cloudnodes_patience import SLOWNESS
from conftest import PROGRAM, Site, clean

PLAIN = {"test_one.py": "def test_one():\n    pass\n"}


def probe(site, *args, nodes=None, **options):
    """({name: node of the JSON document}, the process)"""
    site.project.mkdir(exist_ok=True)
    result = site.run("probe", "--format=json", *args, nodes=nodes, **options)
    assert result.stdout, result
    return {node["name"]: node for node in json.loads(result.stdout)["nodes"]}, result


def test_facts_are_the_nodes_own(site):
    first, second, third = site.nodes
    first.set_memory(available_mib=3000, total_mib=4000)
    first.set_cores(3, online=8)
    second.set_cgroup({"memory.max": 1 << 30, "memory.current": 600 << 20, "memory.stat": f"anon 1\ninactive_file {100 << 20}",
                       "cpu.max": "250000 100000"})
    try:
        nodes, result = probe(site)
    finally:
        second.set_cgroup({"memory.max": None, "memory.current": None, "memory.stat": None, "cpu.max": None})
    assert result.returncode == 0
    facts = nodes[first.name]["facts"]
    assert (facts["cores"], facts["cores_online"]) == (3, 8)
    assert (facts["mem_available"], facts["mem_total"]) == (3000 << 20, 4000 << 20)
    assert facts["boot_id"] == "00000000-0000-4000-8000-000000000001"
    assert (facts["os"], facts["home"]) == ("Linux", "/home/ci")
    assert re.fullmatch(r"3\.\d+\.\d+\S*", facts["python"]) and re.fullmatch(r"3\.\S+", facts["rsync"])
    assert facts["disk_free"] > 0
    facts = nodes[second.name]["facts"]
    assert (facts["cores"], facts["mem_available"], facts["mem_machine"]) == (2, (1024 - 500) << 20, 8192 << 20)
    assert nodes[third.name]["state"] == "ready" and nodes[third.name]["reason"] is None
    assert nodes[third.name]["user"] == "ci" and nodes[third.name]["port"] == 22


def test_a_chatty_start_up_file_does_no_harm(make_site):
    site = make_site(nodes=1, bashrc="echo Welcome to the machine; echo cloudplan-facts 00 1; printf 'no newline'; echo bad >&2\n")
    nodes, _ = probe(site)
    assert nodes[site.nodes[0].name]["state"] == "ready"


def test_ipv6_ports_users_and_ranges(make_site):
    site = make_site(nodes=2, ports=(22, 2222))
    first = site.nodes[0]
    words = [f"dev@{first.name}:2222", f"[{first.v6}]:2222", first.v6, "ci@10.0.120.{1..2}"]
    nodes, _ = probe(site, nodes=words)
    assert list(nodes) == [f"dev@{first.name}:2222", f"[{first.v6}]:2222", first.v6, "ci@10.0.120.1", "ci@10.0.120.2"]
    assert {n["state"] for n in nodes.values()} == {"ready"}, nodes
    assert nodes[words[0]]["facts"]["home"] == "/home/dev"


def test_the_user_s_ssh_config_counts(site):
    first, second, _ = site.nodes
    (site.world.home / ".ssh/config").write_text(
        f"Host build\n  HostName {first.name}\n  User dev\nHost via\n  HostName {second.name}\n  ProxyJump {first.name}\n")
    nodes, result = probe(site, "-v", nodes=["build", "via"])
    assert nodes["build"]["state"] == "ready" and nodes["build"]["facts"]["home"] == "/home/dev"
    assert nodes["build"]["user"] == "dev"
    assert nodes["via"]["state"] == "ready", nodes
    assert "via was asked by the OpenSSH client: ProxyJump" in result.stderr


@pytest.mark.parametrize("kind,fallback", [("ed25519", False), ("ecdsa", False), ("rsa", True)])
def test_key_types(site, kind, fallback):
    first = site.nodes[0]
    ssh = site.world.home / ".ssh"
    key = site.world.run(["sh", "-c", f"rm -f ~/key*; ssh-keygen -q -t {kind} -N '' -f ~/key && cat ~/key.pub"], check=True)
    authorized = first.home / ".ssh/authorized_keys"
    before = authorized.read_text()
    authorized.write_text(key.stdout)
    (ssh / "config").write_text("IdentityFile ~/key\nIdentitiesOnly yes\n")
    try:
        nodes, result = probe(site, "-v", nodes=[first])
    finally:
        authorized.write_text(before)
    assert nodes[first.name]["state"] == "ready", nodes
    assert ("OpenSSH client" in result.stderr) == fallback


def test_keys_of_an_agent(site):
    first = site.nodes[0]
    script = r"""
        rm -f ~/akey*; ssh-keygen -q -t ed25519 -N secret -f ~/akey; ssh-keygen -q -t rsa -N '' -f ~/akey2
        cp ~/akey.pub ~/akeys
        eval "$(ssh-agent)" >/dev/null
        printf '#!/bin/sh\necho secret\n' >~/ask; chmod +x ~/ask
        SSH_ASKPASS=$HOME/ask SSH_ASKPASS_REQUIRE=force ssh-add -q ~/akey ~/akey2
        rm -f ~/akey ~/akey2
        "$@"; status=$?; kill "$SSH_AGENT_PID"; exit $status"""
    authorized = first.home / ".ssh/authorized_keys"
    before = authorized.read_text()
    (site.world.home / ".ssh/config").write_text("IdentityFile none\n")
    site.project.mkdir(exist_ok=True)
    make = site.world.run(["sh", "-c", "rm -f ~/akey*; ssh-keygen -q -t ed25519 -N secret -f ~/akey; cat ~/akey.pub"], check=True)
    authorized.write_text(make.stdout)
    try:
        result = site.world.run(["sh", "-c", script.replace("rm -f ~/akey*; ssh-keygen -q -t ed25519 -N secret -f ~/akey;", "rm -f ~/akey2*;"),
                                 "sh", *site.argv("probe", "-v", "--format=json", nodes=[first])], cwd="/home/ci/project")
    finally:
        authorized.write_text(before)
    assert json.loads(result.stdout)["nodes"][0]["state"] == "ready", result
    assert "OpenSSH client" not in result.stderr


def test_hashed_known_hosts(make_site):
    site = make_site(nodes=1, hashed_known_hosts=True)
    assert "|1|" in site.world.known_hosts.read_text()
    nodes, result = probe(site, "-v")
    assert nodes[site.nodes[0].name]["state"] == "ready"
    assert "OpenSSH client" not in result.stderr


# Nodes that cannot be used: each with its own state and reason, and none of them holds up the others.


def one_bad(site, bad, timeout=3):
    start = time.monotonic()
    nodes, result = probe(site, f"--cloud-probe-timeout={slowed(timeout)}", nodes=[*site.nodes, *([bad] if bad not in site.nodes else [])])
    elapsed = time.monotonic() - start
    name = bad if isinstance(bad, str) else bad.name
    for node in site.nodes:
        if node is not bad:
            assert nodes[node.name]["state"] == "ready", nodes
    assert result.returncode == 0
    assert elapsed < promised(timeout + 3)
    assert f"cloudplan: {name} is left out ({nodes[name]['state']}): {nodes[name]['reason']}" in result.stderr
    return nodes[name]["state"], nodes[name]["reason"]


@pytest.fixture(scope="module")
def two_nodes():
    with World(nodes=2, visible=[os.path.dirname(os.path.realpath(PROGRAM))]) as world:
        yield Site(world)


@pytest.fixture
def pair(two_nodes):
    """Put back as it was after each test, which may break it."""
    keeper = Keeper([two_nodes.world])
    clean(two_nodes)
    yield two_nodes
    keeper.restore()


def test_name_not_resolved(pair):
    state, reason = one_bad(pair, "no-such-host.invalid")
    assert state == "offline" and "not resolved" in reason


def test_connection_refused(pair):
    pair.nodes[1].sshd_stop()
    state, reason = one_bad(pair, pair.nodes[1])
    assert state == "offline" and "refused" in reason


def test_node_down(pair):
    pair.nodes[1].down()
    state, reason = one_bad(pair, pair.nodes[1])
    assert state == "offline" and re.search("timed out .*connecting|No route", reason)


def test_node_that_accepts_and_says_nothing(pair):
    pair.nodes[1].mute()
    assert one_bad(pair, pair.nodes[1]) == (
        "offline", f"timed out after {slowed(3)} s while waiting for the SSH banner and key exchange")


def test_sshd_that_stops_in_the_middle(pair):
    pair.nodes[1].scripted(b"SSH-2.0-OpenSSH_9.2\r\n", then="stall")
    state, reason = one_bad(pair, pair.nodes[1])
    assert state == "offline" and f"timed out after {slowed(3)} s while waiting for the SSH" in reason


def test_garbage_instead_of_a_banner(pair):
    pair.nodes[1].scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n", then="close")
    state, _ = one_bad(pair, pair.nodes[1])
    assert state in ("offline", "failed")


def test_unknown_host_key(pair):
    pair.world.forget_host_key(pair.nodes[1])
    state, reason = one_bad(pair, pair.nodes[1])
    assert state == "refused" and "host key unknown: SHA256:" in reason and "ssh-keyscan" in reason


def test_changed_host_key(pair):
    pair.nodes[1].new_host_key()
    state, reason = one_bad(pair, pair.nodes[1])
    assert state == "refused" and "host key changed: SHA256:" in reason and "known_hosts:" in reason


def test_accept_new_is_left_to_openssh(pair):
    pair.world.forget_host_key(pair.nodes[1])
    (pair.world.home / ".ssh/config").write_text("StrictHostKeyChecking accept-new\n")
    nodes, result = probe(pair, "-v")
    assert nodes[pair.nodes[1].name]["state"] == "ready", nodes
    assert "was asked by the OpenSSH client: StrictHostKeyChecking" in result.stderr
    assert pair.nodes[1].name in pair.world.run(["ssh-keygen", "-F", pair.nodes[1].name]).stdout


def test_wrong_key(pair):
    (pair.nodes[1].home / ".ssh/authorized_keys").write_text("")
    state, reason = one_bad(pair, pair.nodes[1])
    assert state == "refused" and "authentication refused for ci" in reason and "publickey" in reason


def test_node_without_python(pair):
    bad = pair.world.node(hide=("python3",))
    state, reason = one_bad(pair, bad)
    assert state == "unfit" and "python is missing" in reason


def test_node_without_rsync(pair):
    bad = pair.world.node(hide=("rsync",))
    state, reason = one_bad(pair, bad)
    assert state == "unfit" and "rsync is missing" in reason


def test_a_shell_that_does_not_answer(pair):
    bad = pair.world.node(bashrc="echo This account is closed.; exit 1\n")
    state, reason = one_bad(pair, bad)
    assert state == "failed" and "answer malformed" in reason and "This account is closed." in reason


def test_a_shell_that_hangs(pair):
    bad = pair.world.node(bashrc="read -r line </dev/zero\n")
    state, reason = one_bad(pair, bad)
    assert state == "offline" and reason == f"timed out after {slowed(3)} s while waiting for the answer"


def test_no_usable_node_at_all(pair):
    for node in pair.nodes:
        node.sshd_stop()
    pair.project.mkdir()
    result = pair.run("plan")
    assert result.returncode == 69
    assert "no usable node" in result.stderr and "refused" in result.stderr


def test_all_at_once_not_one_after_the_other(make_site):
    """With a round trip of 200 ms one node takes some 2 s; four must not take four times as long, however slow this machine is."""
    site = make_site(nodes=1)
    relays = [site.world.relay(site.nodes[0], 200).name for _ in range(4)]
    one = probe(site, nodes=relays[:1])[1].elapsed
    nodes, result = probe(site, nodes=relays)
    assert all(n["state"] == "ready" for n in nodes.values())
    assert result.elapsed < 3 * one


def test_more_nodes_than_descriptors(make_site):
    site = make_site(nodes=0)
    cluster = site.world.cluster(100)
    site.project.mkdir()
    result = site.world.run(["sh", "-c", 'ulimit -n 64; exec "$@"', "sh",
                             *site.argv("probe", "--format=json", nodes=list(cluster.names))], cwd="/home/ci/project")
    nodes = json.loads(result.stdout)["nodes"]
    assert len(nodes) == 100
    assert {(n["state"], n["reason"]) for n in nodes} == {("ready", None)}


@pytest.mark.parametrize("lines", ["", "KexAlgorithms sntrup761x25519-sha512@openssh.com\n"], ids=["libssh2", "openssh"])
def test_max_startups_is_lived_with(make_site, lines):
    site = make_site(nodes=0)
    cluster = site.world.cluster(30, sshd_config="MaxStartups 2:90:4\n" + lines)
    site.project.mkdir()
    result = site.run("probe", "--format=json", f"--cloud-probe-timeout={slowed(20)}", nodes=list(cluster.names))
    nodes = json.loads(result.stdout)["nodes"]
    ready = [n for n in nodes if n["state"] == "ready"]
    # Some seven without a second try.  There are seven tries, in which a slow machine has fewer logins done.
    assert len(ready) > max(10, 20 / SLOWNESS), nodes
    # What sshd's end of it looks like differs: the end of the stream, or a reset where the client has said something by then.
    reasons = {n["reason"] for n in nodes if n not in ready}
    assert all(re.search("closed|reset|timed out", reason) for reason in reasons), reasons


def test_interrupted(pair):
    peer = pair.nodes[1].mute()
    pair.project.mkdir()
    running = pair.popen("probe")
    wait_until(lambda: peer.accepted, what="the probe to be under way")
    running.terminate()
    _, err = pair.finish(running, timeout=5)
    assert running.returncode == 128 + 15
    assert "Terminated while asking the nodes" in err


def test_cores_and_memory_of_one_machine_are_shared(site):
    site.write(PLAIN)
    first, second, third = site.nodes
    for node in (first, second):
        node.set_boot_id("one-machine")
        node.set_memory(available_mib=3000)
    result = site.run("plan", "--cloud-mem-per-process=1000", "--format=json")
    nodes = json.loads(result.stdout)["nodes"]
    assert [n["processes"] for n in nodes] == [2, 1, 4]
    assert [n["limited_by"] for n in nodes] == ["machine", "machine", "cores"]


def test_two_names_for_one_login(site):
    site.write(PLAIN)
    first = site.nodes[0]
    result = site.run("plan", "--format=json", nodes=[first.name, f"ci@{first.name}", first.v6, f"dev@{first.name}"])
    nodes = json.loads(result.stdout)["nodes"]
    assert [n["state"] for n in nodes] == ["ready", "unfit", "unfit", "ready"]
    assert "same login" in nodes[1]["reason"] and first.name in nodes[1]["reason"]


def test_terminal_and_log(pair):
    pair.project.mkdir()
    shown = pair.world.run_pty(pair.argv("probe"), cwd="/home/ci/project").stdout
    assert "ready" in shown and "\033[32m" in shown
    plain = pair.world.run_pty(pair.argv("probe"), cwd="/home/ci/project", env={"NO_COLOR": "1"}).stdout
    assert "\033[3" not in plain
    assert "\033" not in pair.run("probe").stdout + pair.run("probe").stderr


def test_standard_streams_closed_and_a_bare_environment(pair):
    pair.project.mkdir()
    argv = pair.argv("probe", "--format=json")
    result = pair.world.run(["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *argv], cwd="/home/ci/project",
                            env={"LOGNAME": None, "SHELL": None, "LANG": None, "TERM": None})
    assert [n["state"] for n in json.loads(result.stdout)["nodes"]] == ["ready", "ready"]
    assert os.path.exists(pair.project)
