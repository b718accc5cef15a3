"""What happened where: in the JUnit report, on the terminal, and as a list of failed tests for a next run.

* Every test case of --junitxml has the properties `node` and `worker`.  They travel as user properties; a case
  that pytest closes without looking at those (a crashed worker's, a failure whose teardown fails too) gets
  them from LogXML itself, an internal of pytest, or not at all.  A property of that name that the test itself
  recorded stays alone.
* Once all workers are ready: a line for each node.  At the end: where tests failed, if there is more than one
  node; with --dist=each what every worker made of them.
* _CLOUDPLAN_FAILED names a file for the failed tests: a JSON list of arguments for pytest in this directory.
"""
import json
import os
import tempfile

import pytest

renamed: set = set()  # node ids in which a control character was escaped: no arguments for pytest

ORDER = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


def write_line(config, text):
    """A line of its own, whatever stands on the terminal's last one."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if not reporter:
        return False
    reporter.ensure_newline()
    if getattr(getattr(reporter, "_tw", None), "width_of_current_line", 0):
        reporter.line("")
    reporter.write_line(text)
    return True


def plural(count, noun):
    return "%d %s%s" % (count, noun, "" if count == 1 else "s")


def last_line(error):
    """What ended a worker.  After argparse's words pytest says where it found its ini file."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    while len(lines) > 1 and lines[-1].startswith(("inifile:", "rootdir:")):
        lines.pop()
    return lines[-1] if lines else "?"


def names_place(worker, place):
    """Whether a worker's id says where it runs: HOST_0, or USER@HOST_0 where several nodes have that host."""
    return worker.startswith((place + "_", place.rpartition("@")[2] + "_"))


def junit_log(config):
    try:
        from _pytest.junitxml import xml_key

        return config.stash.get(xml_key, None)
    except (ImportError, AttributeError):
        return None


def is_open(log, report):
    """Whether LogXML will close this test's failed call before it looks at the teardown."""
    return any(other.nodeid == report.nodeid and getattr(other, "node", None) is report.node
               for other in getattr(log, "open_reports", ()))


def without_group(nodeid):
    """--dist=loadgroup appends @GROUP to a test's name; read as its scheduler reads it."""
    at = nodeid.rfind("@")
    return nodeid[:at] if at > max(nodeid.rfind("]"), nodeid.rfind("::")) else nodeid


def as_argument(nodeid, root, directory):
    """A node id, relative to the root, as a word for a pytest that is started in the directory.  What cannot be
    one, and JSON, gives way to what it is a part of."""
    path, colons, rest = nodeid.partition("::")
    if nodeid in renamed:
        colons = rest = ""
    path = os.path.relpath(os.path.join(str(root), path), str(directory))
    if path[0] in "-@":  # an option, a file with more arguments
        path = os.path.join(".", path)
    if is_word(path + colons + rest):
        return path + colons + rest
    while not is_word(path):
        path = os.path.dirname(path) or "."
    return path


def is_word(text):
    """No NUL, and none of the surrogates that stand for bytes of another encoding."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def write_at_once(path, text):
    descriptor, draft = tempfile.mkstemp(prefix=os.path.basename(path) + ".", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


class Worker:
    """A worker and those that came in its place."""

    def __init__(self, first, place):
        self.first = first  # id
        self.place = place  # of the latest
        self.python = None  # "linux Python 3.11.2" as soon as it is ready
        self.successors = []  # ids
        self.end = None  # why it came to nothing
        self.counts = {}


class Results:
    """The hooks that see reports."""

    def __init__(self, config, say, failed_file):
        self.config = config
        self.say = say
        self.failed_file = failed_file
        self.failed = {}  # node ids, in order
        self.workers = {}  # id: Worker, successors under their own ids too
        self.places = {}  # id: the node, which a successor may have left
        self.awaited = set()  # ids that were not heard of yet
        self.troubles = {}  # node id of a test: {id of the worker: what it was}
        self.tests = {}  # place: node ids that ran there
        self.down = None  # id of the worker that went last

    # Who is there

    def expect(self, ids):
        self.awaited = set(ids)

    def not_started(self, worker, place, reason):
        self.workers[worker] = Worker(worker, place)
        self.workers[worker].end = "did not start: " + reason

    def add(self, worker, place):
        """A gateway is there: one of those awaited, or the successor of the one that went down last."""
        self.places[worker] = place
        former = self.workers.get(self.down)
        if worker not in self.awaited and former is not None:
            former.successors.append(worker)
            former.place = place
            self.workers[worker] = former
        else:
            self.workers[worker] = Worker(worker, place)

    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_testnodeready(self, node):
        info = getattr(node, "workerinfo", {})
        worker = self.workers.get(node.gateway.id)
        if worker is not None and "version_info" in info:
            version = ".".join(map(str, info["version_info"][:3]))
            worker.end = None
            worker.python = "%s Python %s" % (info.get("sysplatform", "?"), version)
        self.heard(node.gateway.id)

    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_testnodedown(self, node, error):
        self.down = node.gateway.id
        if node.gateway.id in self.awaited and error:
            self.workers[node.gateway.id].end = "ended before it was ready: " + last_line(error)
        self.heard(node.gateway.id)

    def lost(self, reason, tests_left):
        """The worker that went down last has no successor."""
        worker = self.workers[self.down]
        worker.end = "lost (%s)%s" % (reason, ", %s not run" % plural(tests_left, "test") if tests_left else "")
        self.say("%s on %s is %s" % (self.down, worker.place, worker.end))

    def heard(self, worker):
        if worker in self.awaited:
            self.awaited.discard(worker)
            if not self.awaited:
                self.show_nodes()

    def show_nodes(self):
        """xdist says as much for each worker with -v, and only their number without."""
        if len(self.workers) < 2 or self.config.option.verbose not in (0, -1):
            return
        groups = {}
        for worker in dict.fromkeys(self.workers.values()):
            if worker.python:
                key = worker.place, worker.python
                groups[key] = groups.get(key, 0) + 1
        for (place, python), count in groups.items():
            write_line(self.config, "%s: %s, %s" % (place, plural(count, "worker"), python))

    # What they report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed[report.nodeid] = None
        worker = getattr(getattr(getattr(report, "node", None), "gateway", None), "id", None)
        if worker not in self.places:
            return
        if self.awaited:
            self.awaited = set()
            self.show_nodes()
        self.count(report, worker)
        self.mark(report, [("node", self.places[worker]), ("worker", worker)])

    def count(self, report, worker):
        self.tally(report, worker, self.config.hook.pytest_report_teststatus(report=report, config=self.config)[0])

    def count_collected(self, report, worker):
        """A module of which this worker made something that others need not have made of it."""
        self.tally(report, worker, "error" if report.failed else report.outcome)

    def tally(self, report, worker, category):
        counts = self.workers[worker].counts
        self.tests.setdefault(self.places[worker], set()).add(report.nodeid)
        if category:
            counts[category] = counts.get(category, 0) + 1
        if report.failed:
            self.troubles.setdefault(report.nodeid, {})[worker] = category

    def mark_collected(self, report, worker):
        log = junit_log(self.config)
        if log is not None:
            self.mark_case(log, report, [("node", self.places[worker]), ("worker", worker)])

    def forget(self, report, worker, category):
        """The test is run again: this is not its result."""
        self.workers[worker].counts[category] -= 1
        self.failed.pop(report.nodeid, None)
        where = self.troubles.get(report.nodeid, {})
        where.pop(worker, None)
        if not where:
            self.troubles.pop(report.nodeid, None)

    def mark(self, report, ours):
        log = junit_log(self.config)
        if report.when == "teardown":
            if report.failed and log is not None and is_open(log, report):
                self.mark_case(log, report, ours)
            recorded = {name for name, _ in report.user_properties}
            report.user_properties = list(report.user_properties) + [
                (name, value) for name, value in ours if name not in recorded
            ]
        elif report.when not in ("setup", "call") and report.failed and log is not None:
            self.mark_case(log, report, ours)

    @staticmethod
    def mark_case(log, report, ours):
        try:
            case = log.node_reporter(report)
            for name, value in ours:
                case.add_property(name, value)
        except AttributeError:
            pass

    def pytest_collectreport(self, report):
        # xdist reports a worker that has collected other tests under the worker's id.
        if report.failed and report.nodeid not in self.workers:
            self.failed[report.nodeid] = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem, report, sched):
        """A planned worker's id begins with its host's name.  A successor has one of xdist's (gw0), which does not tell the node."""
        worker = report.node.gateway.id
        if worker in self.places and not names_place(worker, self.places[worker]):
            report.longrepr = "%s on %s" % (report.longrepr, self.places[worker])

    # At the end

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self):
        if not self.failed_file:
            return
        grouped = self.config.getoption("dist", "no") == "loadgroup"
        words = [as_argument(without_group(nodeid) if grouped else nodeid, self.config.rootpath,
                             self.config.invocation_params.dir) for nodeid in self.failed]
        words = list(dict.fromkeys(words))
        try:
            write_at_once(self.failed_file, json.dumps(words) + "\n")
        except OSError as error:
            self.say("%s: %s; the failed tests are not noted" % (self.failed_file, error.strerror))

    def pytest_terminal_summary(self, terminalreporter):
        # Newer versions of pytest ask for it with --no-summary, too.
        if self.config.option.verbose < -1 or getattr(self.config.option, "no_summary", False) or not self.workers:
            return
        if self.config.getoption("dist", "no") == "each":
            self.summarize_each(terminalreporter)
        elif self.troubles and len(set(self.places.values())) > 1:
            self.summarize_failures(terminalreporter)

    def name(self, nodeid):
        return self.config.cwd_relative_nodeid(nodeid)

    def summarize_failures(self, terminalreporter):
        places = {}
        for nodeid, where in self.troubles.items():
            for worker, category in where.items():
                places.setdefault(self.places[worker], []).append((worker, category, nodeid))
        terminalreporter.write_sep("=", "failures by node")
        for place, troubles in places.items():
            count = len({nodeid for _, _, nodeid in troubles})
            terminalreporter.write_line("%s: %d of %s" % (place, count, plural(len(self.tests[place]), "test")))
            for worker, category, nodeid in troubles:
                terminalreporter.write_line("  [%s] %s %s" % (worker, category, self.name(nodeid)))

    def summarize_each(self, terminalreporter):
        workers = list(dict.fromkeys(self.workers.values()))
        terminalreporter.write_sep("=", "results by worker")
        for worker in workers:
            terminalreporter.write_line(self.line_of(worker))
        for nodeid, where in self.troubles.items():
            ids = list(dict.fromkeys(self.workers[worker].first for worker in where))
            everywhere = len(ids) == len(workers) > 1
            terminalreporter.write_line("%s failed on %s" % (
                self.name(nodeid), "all %d" % len(ids) if everywhere else ", ".join(ids)))

    @staticmethod
    def line_of(worker):
        words = [word for word in ORDER if worker.counts.get(word)]
        words += [word for word in worker.counts if word not in ORDER]
        results = ["%d %s" % (worker.counts[word], word) for word in words] + [worker.end] * bool(worker.end)
        name = worker.first + "".join(", then " + successor for successor in worker.successors)
        return "%s%s: %s" % (name, " " + worker.python if worker.python else "", ", ".join(results) or "no test")
