"""A server that goes silent, in every phase: before its banner, after it, after the login, between the stages, while it is
asked for a lease.  The node is left out in time, with its reason; the others run everything."""
import re

import pytest

from cloudnodes import promised, slowed
from test_bounded import FORCED
from test_hostile import PLAIN, Cut

SECONDS = 85  # for the whole run: 4 for the probe, 20 for opening, 35 for leases, and the run itself

# After how many bytes which of these begins depends on what OpenSSH and libssh2 agree on.
PROBE_SECONDS = slowed(4)
LATER = f"timed out after {PROBE_SECONDS} s while (waiting for the SSH banner and key exchange|authenticating|opening an SSH session|" \
        "starting a shell|waiting for the answer)"
# {so many bytes come from sshd: (the reason where it is the probe's connection, the one of the master's)}
BYTES = {
    0: (f"timed out after {PROBE_SECONDS} s while waiting for the SSH banner", "Connection timed out during banner exchange"),
    60: (f"timed out after {PROBE_SECONDS} s while waiting for the SSH banner", r"Connection to \S+ port 22 timed out"),
    1200: (LATER, r"Connection to \S+ port 22 timed out"),
    1900: (LATER, r"Timeout, server \S+ not responding"),
    2500: (LATER, r"Timeout, server \S+ not responding"),
}
BEAT = {"CLOUDPLAN_BEAT": "7"}  # internal: what hangs there is ended after six of these, and not before the lease is given up
STOP = "kill -STOP -1"  # all of the node's processes, sshd too; the kernel still accepts connections
# {what: (~/.bashrc, the program mv there, state, reason)}: mv is what the lease takes for its claim, and nothing else does when
# the copy is new
NODES = {
    "stopped after the probe": (f"if [ ! -e ~/seen ]; then (while kill -0 $PPID; do :; done; {STOP}) >/dev/null 2>&1 </dev/null & fi; : >~/seen\n", None,
                                "offline", "timed out|not responding"),
    "stopped at the master's login": (f"if [ -e ~/seen ]; then {STOP}; fi; : >~/seen\n", None, "offline", r"Timeout, server \S+ not responding"),
    "its shell does not start": ("if [ -e ~/seen ]; then sleep 30; fi; : >~/seen\n", None, "offline",
                                 "timed out after 20 s while opening the control master"),
    "stopped while it is asked for a lease": ("PATH=~/fake:$PATH\n", STOP, "offline", r"lease failed: Timeout, server \S+ not responding"),
    "no answer to the question for a lease": ("PATH=~/fake:$PATH\n", "sleep 1000", "failed", "lease failed: timed out after 35 s"),
}


class Login:
    """One address of a cluster, as Cut takes a node."""

    port = 22

    def __init__(self, cluster, name):
        self.name, self.public_keys = name, cluster.public_keys


@pytest.fixture(scope="module")
def outcome(three_nodes):
    site, world = three_nodes, three_nodes.world
    good, *nodes = [*world.nodes, *(world.node() for _ in range(len(NODES) - 2))]
    for node, (bashrc, mv, _, _) in zip(nodes, NODES.values()):
        (node.home / ".bashrc").write_text(bashrc)
        (node.home / "fake").mkdir()
        if mv:
            (node.home / "fake/mv").write_text(f"#!/bin/sh\ncase $* in *cloudplan-leases*) {mv} ;; esac\nexec /bin/mv \"$@\"\n")
            (node.home / "fake/mv").chmod(0o755)
    cluster = world.cluster(2 * len(BYTES), sshd_config=FORCED)
    cluster.set_cores(100)
    limits = [[count] for count in BYTES] + [[None, count] for count in BYTES]
    cuts = [Cut(world, f"10.0.120.{150 + i}", Login(cluster, cluster.names[i]), limit, "stall") for i, limit in enumerate(limits)]
    site.write(PLAIN)
    result = site.run("run", "--cloud-max-processes=1", f"--cloud-probe-timeout={PROBE_SECONDS}", "--", "-q", timeout=2 * SECONDS, env=BEAT,
                      nodes=[*(cut.name for cut in cuts), *nodes, good])
    for cut in cuts:
        cut.peer.stop()
    for node in nodes:
        node.thaw()
    site.nodes = [good, *nodes, cluster]
    site.assert_nothing_left()
    left_out = dict(re.findall(r"^cloudplan: (\S+) is left out (.*)$", result.stderr, re.M))
    half = len(BYTES)
    return result, {
        **{("probe", count): left_out.get(cut.name) for count, cut in zip(BYTES, cuts[:half])},
        **{("master", count): left_out.get(cut.name) for count, cut in zip(BYTES, cuts[half:])},
        **{what: left_out.get(node.name) for what, node in zip(NODES, nodes)},
    }


def test_the_others_run_in_time(outcome):
    result, _ = outcome
    assert result.returncode == 0 and "20 passed" in result.stdout, result
    assert result.elapsed < promised(SECONDS)


@pytest.mark.parametrize("count", BYTES)
@pytest.mark.parametrize("which", ["probe", "master"])
def test_silent_after_so_many_bytes(outcome, which, count):
    result, reasons = outcome
    reason = reasons[which, count]
    assert reason and re.match(r"\(offline\): " + BYTES[count][which == "master"], reason), (reason, result.stderr)


@pytest.mark.parametrize("what", NODES)
def test_silent_between_the_stages(outcome, what):
    result, reasons = outcome
    _, _, state, words = NODES[what]
    assert reasons[what] and re.match(rf"\({state}\): .*({words})", reasons[what]), (reasons, result.stderr)
