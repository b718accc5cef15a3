#!/usr/bin/env python3
"""make bench: asks 100 nodes for their facts with cloudplan, clush and GNU parallel, and compares.

The nodes are the addresses of one sshd on this machine (tests/e2e/cloudnodes.py).  All tools have the
same question put: scripts/node/facts.sh on the stdin of `sh -s`, so that the nodes' work is equal.
They take turns, round by round, each on a quiet machine, and only ratios within this run are judged: times of
another machine, or of another hour, say nothing.  README beside this file says how to read the table.

CLOUDPLAN names the program to measure.  Exit status: 0, 1 if a goal is missed, 78 if a tool is missing.
"""
import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SOURCE / "tests/e2e"))
sys.dont_write_bytecode = True

from cloudnodes import CloudnodesError, World  # noqa: E402
from cloudnodes_machine import TOOLS  # noqa: E402

PROGRAM = os.path.realpath(os.environ.get("CLOUDPLAN") or shutil.which("cloudplan") or SOURCE / "cloudplan")
INSTALL = "scripts/install-packages.sh bench run nodes"
PROJECT = "/home/ci/project"
QUESTION = "/home/ci/question.sh"
NONCE = "0123456789abcdef"
RELAYS_MAX = 50  # so many addresses World.relay() has to give
QUIET_SECONDS = 10  # to wait for at most before each run
# What each tool may take for a node: on a slow machine the last of them has to wait for all others' logins, and a tool that gives
# up measures nothing.
NODE_SECONDS = 600

WALL_GOAL, CPU_GOAL, NODE_GOAL_MS = 4, 40, 2

# With the one host key that all tools agree on: sshd reads all it has for each connection, which is the same for all.
# And with every key exchange that it knows, unlike other tests' nodes: the client's first choice is taken.
SSHD_CONFIG = """\
MaxStartups 4096
LogLevel INFO
LoginGraceTime 0
KexAlgorithms ^curve25519-sha256
HostKey /etc/ssh/ssh_host_ed25519_key
"""

# Alike for every node, and kind to a tool that pays for each ssh: no key is tried in vain, nothing is forwarded.
SSH = ["ssh", "-T", "-x", "-a", "-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oGSSAPIAuthentication=no"]
# What libssh2 agrees on with sshd; OpenSSH itself prefers sntrup761, which takes it most of its time.
SAME_KEX = "-oKexAlgorithms=curve25519-sha256"

# Runs in the controller.  It is the reaper of orphans, so that no process of the tool escapes the count;
# what a process has waited for is in its own usage.
MEASURE = """\
import ctypes, json, os, sys, time
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
stdin, stdout, *argv = sys.argv[1:]
def machine():
    return [int(word) for word in open("/proc/stat").readline().split()[1:9]]
before, start = machine(), time.monotonic()
tool = os.fork()
if tool == 0:
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.execvp(argv[0], argv)
cpu = 0
while True:
    try:
        pid, status, usage = os.wait4(-1, 0)
    except ChildProcessError:
        break
    cpu += usage.ru_utime + usage.ru_stime
    if pid == tool:
        wall, result = time.monotonic() - start, os.waitstatus_to_exitcode(status)
        ticks = [b - a for a, b in zip(before, machine())]
json.dump({"status": result, "wall": wall, "cpu": cpu, "idle": (ticks[3] + ticks[4]) / max(1, sum(ticks))}, sys.stdout)
"""


class Tool:
    """A command to measure, and how many nodes have answered in what it printed."""

    def __init__(self, name, argv, count, stdin="/dev/null", judged=True):
        self.name, self.argv, self.count, self.stdin, self.judged = name, argv, count, stdin, judged
        self.runs = []

    def run(self, world, nodes):
        result = world.run(["/usr/bin/python3", "-I", "-S", "/home/ci/measure.py", self.stdin, "/home/ci/answers",
                            *self.argv], cwd=PROJECT, env={"PARALLEL_SHELL": "/bin/sh"}, timeout=2 * NODE_SECONDS, check=True)
        run = json.loads(result.stdout)
        answers = (world.home / "answers").read_text("utf-8", "replace")
        answered = 0 if run["status"] else self.count(answers)
        if answered != nodes:
            raise CloudnodesError(f"{self.name}: exit status {run['status']}, {answered} of {nodes} nodes answered; "
                                  + " ".join(result.stderr.split())[-300:])
        return run

    def median(self, what):
        return statistics.median(run[what] for run in self.runs)


def answers_in_json(text):
    nodes = json.loads(text)["nodes"]
    return sum(node["state"] == "ready" and node["facts"]["mem_available"] > 0 and node["facts"]["cores"] > 0
               for node in nodes)


def answers_in_text(text):
    """Whole answers: clush writes the node's name before each line."""
    return min(len(re.findall(rf"^(?:\S+: )?{line}$", text, re.M))
               for line in (r"mem_available=\d+", r"cores=\d+", f"cloudplan-end {NONCE}"))


def clush(nodes, *options):
    return ["clush", "-S", "-t", str(NODE_SECONDS), "-f", str(len(nodes)), "-w", ",".join(nodes), "-o", " ".join([*SSH[1:], *options]), "sh -s"]


def parallel(nodes, *options):
    command = " ".join([*SSH, *options, "{}", "sh", "-s", "<", QUESTION])
    return ["parallel", "--plain", f"-j{len(nodes)}", command, ":::", *nodes]


def tools(nodes):
    return [
        Tool("cloudplan", [PROGRAM, "probe", "--format=json", f"--cloud-probe-timeout={NODE_SECONDS}",
                           *(f"--cloud-node={node}" for node in nodes)],
             answers_in_json),
        Tool("clush", clush(nodes), answers_in_text, QUESTION),
        Tool("parallel ssh", parallel(nodes), answers_in_text),
        Tool("clush, curve25519", clush(nodes, SAME_KEX), answers_in_text, QUESTION, judged=False),
        Tool("parallel ssh, curve25519", parallel(nodes, SAME_KEX), answers_in_text, judged=False),
    ]


def missing_tools():
    missing = [name for name in ("clush", "parallel", *TOOLS)
               if shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin") is None]
    if "parallel" not in missing:
        version = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=False).stdout
        if not version.startswith("GNU parallel"):
            missing.append("parallel (GNU's: there is another program of that name)")
    return missing


def prepare(world):
    (world.home / "project").mkdir()
    (world.home / "measure.py").write_text(MEASURE)
    assign = f"CLOUDPLAN_NONCE={NONCE}\nCLOUDPLAN_CHDIR=pytest_ci_project\nCLOUDPLAN_PYTHON=python3\n"
    (world.home / "question.sh").write_text(assign + (SOURCE / "scripts/node/facts.sh").read_text())


def wait_for_quiet():
    """Until sshd has cleared up after the tool before.  False if something else keeps the machine busy."""
    for _ in range(QUIET_SECONDS * 5):
        before = Path("/proc/stat").read_text().split(maxsplit=6)
        time.sleep(0.2)
        after = Path("/proc/stat").read_text().split(maxsplit=6)
        user, nice, system, idle, _ = (int(b) - int(a) for a, b in zip(before[1:6], after[1:6]))
        if user + nice + system <= idle / 10:
            return True
    return False


def measure(count, rounds, round_trip_ms):
    with World(visible=[os.path.dirname(PROGRAM)]) as world:
        cluster = world.cluster(count, sshd_config=SSHD_CONFIG)
        prepare(world)
        nodes = cluster.names
        if round_trip_ms:
            nodes = [world.relay(cluster, round_trip_ms).name for _ in nodes]
        measured, quiet = tools(nodes), True
        for number in range(-1, rounds):  # the first warms up the page cache and does not count
            for tool in measured:
                quiet = wait_for_quiet() and quiet
                run = tool.run(world, count)
                if number >= 0:
                    tool.runs.append(run)
            if number >= 0:
                print(f"round {number + 1} of {rounds}", file=sys.stderr)
    if not quiet:
        print("bench: this machine did other work meanwhile: wall times are not to be trusted", file=sys.stderr)
    return measured


def machine():
    """Kernel, cores and processor in a line."""
    words = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0]
    return f"{len(os.sched_getaffinity(0))} cores ({words[1] if words else platform.machine()}), " \
           f"Linux {platform.release()}, {ssh}"


def ratio(tool, best, what):
    """The median of the rounds' own ratios: what slows a whole round down does not count."""
    return statistics.median(theirs[what] / ours[what] for theirs, ours in zip(tool.runs, best.runs))


def report(measured, count, rounds, round_trip_ms):
    ours = measured[0]
    cores = len(os.sched_getaffinity(0))
    print(f"{count} nodes, {rounds} rounds, round trip {round_trip_ms or 'of a local bridge'}"
          f"{' ms' if round_trip_ms else ''}; {machine()}\n")
    print(f"{'':26}{'wall':>8} {'ratio':>7} {'client CPU':>11} {'ratio':>7} {'per node':>9} {'idle':>6}")
    for tool in measured:
        cpu = tool.median("cpu")
        print(f"{tool.name:26}{tool.median('wall'):6.2f} s {ratio(tool, ours, 'wall'):6.1f}x {cpu:9.2f} s "
              f"{ratio(tool, ours, 'cpu'):6.1f}x {cpu / count * 1000:6.2f} ms {tool.median('idle'):6.0%}")
    wall, cpu, idle = (ours.median(what) for what in ("wall", "cpu", "idle"))
    nodes_share = 1 - idle - cpu / (wall * cores)
    print(f"\nWhile cloudplan probes, this machine's {cores} cores are {1 - idle:.0%} busy, {nodes_share:.0%} with the "
          f"nodes' side (sshd,\nthe facts script) and {cpu / (wall * cores):.0%} with cloudplan: "
          + ("the nodes' side limits.\n" if nodes_share > 0.5 else "waiting for answers limits.\n"))


def judge(measured, count):
    """Prints each goal; true if all are met.  The tools are judged as they are installed: with OpenSSH's own choice of
    key exchange.  The lines with curve25519 show how much of the difference that choice makes."""
    ours, *others = measured
    goals = [(f"{what}: {goal} times less than {tool.name}", ratio(tool, ours, key),
              ratio(tool, ours, key) >= goal, "x")
             for tool in others if tool.judged
             for what, key, goal in (("wall time", "wall", WALL_GOAL), ("client CPU", "cpu", CPU_GOAL))]
    per_node = ours.median("cpu") / count * 1000
    goals.append((f"client CPU: at most {NODE_GOAL_MS} ms a node", per_node, per_node <= NODE_GOAL_MS, " ms"))
    for text, value, met, unit in goals:
        print(f"{'met' if met else 'MISSED':7} {text:44} {value:6.2f}{unit}")
    return all(met for _, _, met, _ in goals)


def main():
    parser = argparse.ArgumentParser(description="Compares cloudplan probe with clush and GNU parallel.")
    parser.add_argument("--nodes", type=int, metavar="N", help=f"how many (100; {RELAYS_MAX} with --round-trip)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how many turns each tool has (5)")
    parser.add_argument("--round-trip", type=int, default=0, metavar="MS",
                        help="delay to add, by a relay for each node")
    options = parser.parse_args()
    count = options.nodes or (RELAYS_MAX if options.round_trip else 100)
    if options.rounds < 1 or count < 1 or options.round_trip and count > RELAYS_MAX:
        parser.error(f"at least one round and one node; with --round-trip at most {RELAYS_MAX} nodes")

    missing = missing_tools()
    if missing:
        print(f"bench: missing: {', '.join(missing)}: {INSTALL}", file=sys.stderr)
        return 78
    if not os.access(PROGRAM, os.X_OK):
        print(f"bench: {PROGRAM} is not there: make, or set CLOUDPLAN", file=sys.stderr)
        return 78
    measured = measure(count, options.rounds, options.round_trip)
    report(measured, count, options.rounds, options.round_trip)
    return 0 if judge(measured, count) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CloudnodesError, OSError) as error:
        sys.exit(f"bench: {error}")
