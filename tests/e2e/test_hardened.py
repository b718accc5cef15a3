"""Servers that allow only what libssh2 lacks, or answer with what they should not: each works by the OpenSSH client, or
is reported with its reason in time."""
import json
import re

import pytest

PLAIN = {"test_one.py": "def test_one():\n    pass\n"}


@pytest.mark.parametrize("lines", [
    "Ciphers chacha20-poly1305@openssh.com\n",
    "Ciphers aes256-gcm@openssh.com\n",
    "MACs hmac-sha2-256-etm@openssh.com\nCiphers aes128-ctr\n",
    "KexAlgorithms sntrup761x25519-sha512@openssh.com\n",
    "HostKeyAlgorithms rsa-sha2-512\n",
    "MaxSessions 1\n",
    "MaxAuthTries 1\n",
])
def test_only_what_openssh_has(make_site, lines):
    site = make_site(nodes=1, sshd_config=lines)
    site.write(PLAIN)
    result = site.run("run", "--cloud-max-processes=2", "--", "-q")
    assert result.returncode == 0 and "1 passed" in result.stdout, result
    site.assert_nothing_left()


@pytest.mark.parametrize("lines,state,words", [
    ("ForceCommand echo This is not for you\n", "failed", "This is not for you"),
    ("ForceCommand /bin/false\n", "failed", "no answer"),
    ("AuthenticationMethods publickey,publickey\n", "refused", "authentication refused|Permission denied"),
    ("AuthenticationMethods none,publickey\n", "refused|offline|failed", "."),
    ("PubkeyAuthentication no\nPasswordAuthentication yes\n", "refused", "password"),
    ("DenyUsers ci\n", "refused", "authentication refused"),
    ("Banner /etc/services\nForceCommand cat /etc/services; cat\n", "failed", "answer malformed"),
])
def test_refused_with_the_reason(make_site, lines, state, words):
    site = make_site(nodes=1, sshd_config=lines)
    site.write(PLAIN)
    result = site.run("probe", "--format=json", "--cloud-probe-timeout=5")
    node, = json.loads(result.stdout)["nodes"]
    if node["state"] == "ready":  # sshd does not take such a line, or lets in all the same
        assert "none" in lines
        return
    assert re.fullmatch(state, node["state"]) and re.search(words, node["reason"]), node
    assert result.returncode == 69 and result.elapsed < 8


@pytest.mark.parametrize("text", [
    "yes | tr -d '\\n'",  # no line, without end
    "yes",
    "head -c 300000 /dev/zero | tr '\\0' x",
    "printf '\\033]0;owned\\007\\033[2J'",
    "head -c 100000 /dev/urandom",
])
def test_a_shell_that_floods_or_fakes(make_site, text):
    site = make_site(nodes=1, sshd_config=f"ForceCommand {text}\n")
    site.write(PLAIN)
    result = site.run("probe", "--format=json", "--cloud-probe-timeout=5")
    node, = json.loads(result.stdout)["nodes"]
    assert node["state"] == "failed" and "answer malformed" in node["reason"], node
    assert "\033" not in result.stdout + result.stderr and "\007" not in result.stdout + result.stderr
    assert result.elapsed < 8


@pytest.mark.parametrize("data", [
    b"SSH-2.0-x\r\n" + b"\xff" * 100_000,
    b"x" * 1_000_000,
    b"SSH-1.99-old\r\n",
    b"\r\n" * 100_000,
    bytes(range(256)) * 100,
], ids=["broken packets", "long line", "old version", "empty lines", "binary"])
@pytest.mark.parametrize("then", ["stall", "close", "reset"])
def test_a_peer_that_is_no_sshd(make_site, data, then):
    site = make_site(nodes=1)
    site.nodes[0].scripted(data, then=then)
    site.write(PLAIN)
    result = site.run("probe", "--format=json", "--cloud-probe-timeout=3")
    node, = json.loads(result.stdout)["nodes"]
    assert node["state"] in ("offline", "failed", "refused") and node["reason"], node
    assert result.elapsed < 6 and result.returncode == 69
