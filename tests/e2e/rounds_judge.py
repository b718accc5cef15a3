"""What a random round (rounds.py) may end with, and what must be as it was.

Everything here compares with what is known beforehand: the outcome of the project's tests, the promises of cloudplan(1) about
exit statuses, and how the machines looked before.  Each function returns a list of faults, in words; none is fine.
"""
import os
import re
import xml.etree.ElementTree as ElementTree

# pytest's and ours, in whatever stream.  A plain report of pytest holds none of these.
NEVER_SAID = re.compile(
    r"INTERNALERROR|^Traceback \(most recent call last\)|AddressSanitizer|LeakSanitizer|runtime error:|"
    r"^(?:\S+: )?(?:line )?\d+: .*: (?:not found|bad number|syntax error)|Segmentation fault|dumped core|a bug in", re.M)
# What pytest says of a test whose worker was lost the second time.
LOST_TEST = re.compile(r"crashed while running|is lost|was lost", re.I)
TEMPORARY = ("tmp", "run", "var/tmp", "dev/shm")
SIGNALS = {"INT": 2, "KILL": 9, "TERM": 15, "HUP": 1}


def read_cases(path):
    """{test: [(result, words)]} of a JUnit file; None where there is none, or an unfinished one."""
    try:
        tree = ElementTree.parse(path)
    except (FileNotFoundError, ElementTree.ParseError):
        return None
    found = {}
    for case in tree.iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        words = " ".join(f"{child.get('message')} {child.text}" for child in bad)
        found.setdefault(case.get("name"), []).append(("/".join(child.tag for child in bad) or "passed", words))
    return found


def ended_by(signal):
    """Negative: by the signal itself, which it cannot help, or before it could begin to."""
    return {-SIGNALS[signal]} | ({128 + SIGNALS[signal]} if signal != "KILL" else set())


def statuses(run):
    """The exit statuses that what was done to a run allows, beside that of its tests."""
    allowed = set()
    for signal in run.signals:  # those that the round itself sent
        allowed |= ended_by(signal)
    for kind, signal in run.hits:
        number = SIGNALS.get(signal)
        if kind == "here cloudplan" and number:
            allowed |= ended_by(signal)
        elif kind == "here engine" and number:
            # "was ended by signal N: its results are incomplete"; of TERM pytest's own interrupted end is made.
            allowed |= {128 + number} | ({2} if signal == "TERM" else set())
        elif kind in ("here settings", "here parallel", "here other", "here rsync", "here ssh", "here cloudplan"):
            allowed |= {71, 78}  # whatever it was that could not be started, or asked
    if run.hurt >= set(run.places):
        allowed |= {69, 74}
    return allowed


def verdict(run, report, ran):
    """A run of pytest: its status against its JUnit file, that against what the tests are known to do, and what was run."""
    expected, known = run.tests, int("failure" in run.tests.values())
    if run.status not in (0, 1):
        return [] if run.status in statuses(run) else [f"status {run.status}, allowed are {sorted({known} | statuses(run))}"]
    cases = read_cases(report)
    if cases is None:
        return [f"status {run.status} without a report of the tests"]
    faults = [f"{name} has {len(results)} results" for name, results in cases.items() if len(results) != 1]
    faults += [f"{name} is told of, and is no test" for name in cases if name not in expected]
    faults += [f"status {run.status}, and {name} is not told of" for name in expected if name not in cases]
    faults += [f"{name} is told of, and was never run" for name in expected if name in cases and name not in ran
               and expected[name] != "skipped" and not any(LOST_TEST.search(words) for _, words in cases[name])]
    failed = False
    for name, results in cases.items():
        result, words = results[0]
        failed |= result not in ("passed", "skipped")
        if result == expected.get(name):
            continue
        if len(run.hits) < 2 or not LOST_TEST.search(words):
            faults.append(f"{name} is {result} and not {expected.get(name)}: {words[:200]}")
    if run.status != int(failed):
        faults.append(f"status {run.status}, and tests {'have' if failed else 'have not'} failed")
    return faults


def copies(run, nodes):
    """After status 0 of a sync every node that was not left out has the project as it is."""
    if run.status:
        return [] if run.status in statuses(run) else [f"status {run.status}, allowed are {sorted({0} | statuses(run))}"]
    return [f"status 0, and the copy on {node.name} is not the project's" for node in nodes
            if node.name in run.places and f"{node.name} is left out" not in run.words
            and not any((copy / run.file).exists() for copy in node.home.glob("pytest_ci_project*"))]


def status_alone(run):
    """probe and plan."""
    allowed = {0} | statuses(run)
    return [] if run.status in allowed else [f"status {run.status}, allowed are {sorted(allowed)}"]


# What Python itself says of a local worker whose engine was killed while it started: nobody is left who could filter it.
ORPHAN = re.compile(r"^Traceback \(most recent call last\):\n(?:  .*\n)+BrokenPipeError: .*\n", re.M)


# And of a ^C while it begins, before pytest can have a say; as when pytest is started by hand.
INTERRUPTED = re.compile(r"(?:^Exception ignored in: .*\n|^Fatal Python error: init_import_site: .*\nPython runtime state: .*\n)?"
                         r"^Traceback \(most recent call last\):\n(?:  .*\n)+KeyboardInterrupt(?:: )?\n", re.M)


def said(run):
    killed = any(kind in ("here engine", "here cloudplan") and name != "STOP" for kind, name in run.hits) or run.signals
    words = ORPHAN.sub("", run.words) if killed else run.words
    if ("here cloudplan", "INT") in run.hits or "INT" in run.signals:
        words = INTERRUPTED.sub("", words)
    found = NEVER_SAID.search(words)
    return [f"it says {words[max(0, found.start() - 80):found.end() + 120]!r}"] if found else []


def tree(path):
    """{name: what it is} below a directory."""
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            full = os.path.join(folder, name)
            with open(full, "rb") as file:
                found[os.path.relpath(full, path)] = (os.lstat(full).st_mtime_ns, os.lstat(full).st_mode, file.read())
    return found


class Scene:
    """How the machines look before a round, and what of that must be so afterwards."""

    CANARY = "pytest_ci_projects"  # begins as a copy's name does

    def __init__(self, site):
        self.site = site
        self.machines = [*site.nodes, site.world.controller]
        for machine in self.machines:
            folder = machine.home / self.CANARY
            (folder / "deep").mkdir(parents=True, exist_ok=True)
            for name in ("file", "deep/file", ".hidden"):
                (folder / name).write_text(f"{machine.host} {name}")
        self.before = {machine.host: (tree(machine.home / self.CANARY), self.homes(machine), self.temporary(machine))
                       for machine in self.machines}

    @staticmethod
    def homes(machine):
        return {path.name for path in machine.home.iterdir() if not re.match(r"pytest_ci_project(~|$)|project$|report-", path.name)}

    @staticmethod
    def temporary(machine):
        """All but the leases' directories and pytest's own: those stay."""
        return {f"{folder}/{path.name}" for folder in TEMPORARY if (machine.root / folder).is_dir()
                for path in (machine.root / folder).iterdir() if not path.name.startswith(("cloudplan-leases", "pytest-of-"))}

    @staticmethod
    def leases(machine):
        return [path for folder in (machine.root / "tmp").glob("cloudplan-leases*") if folder.is_dir()
                for path in folder.iterdir() if re.match("[0-9a-z]", path.name)]

    def left(self, machine):
        """What is there now that a run has left."""
        _, homes, temporary = self.before[machine.host]
        sessions = [words for pid, words in machine.processes(infrastructure=True)
                    if re.match(r"sshd(-session)?: ci\b", words)]
        return [*(f"process {words[:150]}" for _, words in machine.processes()), *sessions,
                *(f"lease {path.name}" for path in self.leases(machine)),
                *(f"/{name}" for name in sorted(self.temporary(machine) - temporary)),
                *(f"~/{name}" for name in sorted(self.homes(machine) - homes))]

    def changed(self):
        """What nobody may touch, and copies without their mark."""
        faults = []
        for machine in self.machines:
            canary, homes, _ = self.before[machine.host]
            if tree(machine.home / self.CANARY) != canary:
                faults.append(f"{machine.host}: what is beside the copy was changed")
            faults += [f"{machine.host}: ~/{name} is gone" for name in homes - self.homes(machine)]
        for node in self.site.nodes:
            faults += [f"{node.host}: ~/{copy.name} has lost its mark" for copy in node.home.glob("pytest_ci_project*")
                       if copy.name != self.CANARY and any(copy.iterdir()) and not (copy / ".cloudplan").is_file()]
        return faults
