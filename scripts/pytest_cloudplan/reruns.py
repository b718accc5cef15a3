"""A test that was running when its worker was lost is run again, once.

xdist reports such a test as failed.  Mostly it is the node that went, or the kernel that took memory back, and the
test is another worker's to finish: the report becomes a "rerun", which fails nothing and is shown as R.  A test
that is hit a second time is what ended its worker: that is its result, and it is not run a third time.

xdist names the first test that the worker had been given, begun or not.  One that had not begun is run elsewhere without
a word, but once only: a test may take its machine down before anybody hears of its beginning.

Each test keeps exactly one final result: what a worker had said of a test that it did not finish is forgotten
when the test runs again.

Schedulers differ: load and worksteal take a test back by mark_test_pending(); the loadscope family puts all that
a lost worker had not finished back by itself, the test that was hit included, as often as that happens; each has
nobody else who could run it, and the test stays failed.
"""
import pytest

from pytest_cloudplan.results import junit_log
from pytest_cloudplan.scheduling import give_back, give_nothing_to_the_dead, scope_work


def first_left(work):
    return next((nodeid for unit in work.values() for nodeid, done in unit.items() if not done), None)


def mark_done(work, nodeid):
    next(unit for unit in work.values() if nodeid in unit)[nodeid] = True


def put_last(scheduler, nodeid):
    """Where nobody has taken it at once, the successor would: on a node where no test can be run that would be its second hit."""
    pending = getattr(scheduler, "pending", None)
    if pending and pending[0] == scheduler.collection.index(nodeid):
        pending.append(pending.pop(0))


class Reruns:
    def __init__(self, config, say, results):
        self.config = config
        self.say = say
        self.results = results
        self.hits = {}  # node id: how often its worker was lost
        self.unfinished = {}  # (worker, node id): reports of a test whose teardown has not been reported
        self.judged = None  # the node id that we report ourselves
        self.spared = False  # the test that xdist names next is not the one that was hit
        self.running = {}  # worker: the test that it began last
        self.finished = {}  # worker: the test of which it has told the result last; xdist is told a little later
        self.passed_on = set()  # tests that were the next of a lost worker

    @property
    def session(self):
        return self.config.pluginmanager.getplugin("dsession")

    def may_restart(self):
        """Whether another worker will come: at xdist's limit nobody would run the test."""
        limit = getattr(self.session, "_max_worker_restart", None)
        return limit is None or getattr(self.session, "_failed_nodes_count", 0) < limit

    @pytest.hookimpl(hookwrapper=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self):
        yield
        self.note_beginnings()

    def note_beginnings(self):
        """The hook pytest_runtest_logstart does not tell which worker it is."""
        logstart = getattr(self.session, "worker_logstart", None)
        if logstart is None:
            return

        def note_and_log(node, nodeid, location):
            self.running[node] = nodeid
            logstart(node=node, nodeid=nodeid, location=location)

        self.session.worker_logstart = note_and_log

    def had_begun(self, node, nodeid):
        return self.running.get(node) == nodeid or self.test_of(node, nodeid) in self.passed_on

    def test_of(self, node, nodeid):
        """With --dist=each every worker has its own."""
        each = self.config.option.dist == "each"
        return nodeid, self.results.workers[node.gateway.id].first if each else None

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_testnodeready(self, node):
        give_nothing_to_the_dead(node)

    # Before xdist looks for the test that was hit.
    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self, node, error):
        self.spared = False
        if not error:
            return
        work = scope_work(getattr(self.session, "sched", None), node)
        hit = first_left(work)
        if hit is not None and hit == self.finished.get(node):
            mark_done(work, hit)
            hit = first_left(work)
        if self.hits.get(hit) and self.had_begun(node, hit):
            # Left to itself it would be run for ever.
            mark_done(work, hit)
            self.judged = hit
            self.session.handle_crashitem(hit, node)
            self.judged = None
            self.spared = True
        # xdist would hand out what is done as well; a worker that gets nothing else waits for ever.
        for scope in [scope for scope, unit in work.items() if all(unit.values())]:
            del work[scope]

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_handlecrashitem(self, crashitem, report, sched):
        if (self.spared and crashitem != self.judged) or crashitem == self.finished.get(report.node):
            report.outcome = "spared"
            return
        if getattr(self.config, "cloudplan_limits_restarts", False):
            # Each test bears a few at most, and then has a result: the others shall have theirs, too.
            self.session._failed_nodes_count -= 1
        begun = self.had_begun(report.node, crashitem)
        if begun:
            self.hits[crashitem] = self.hits.get(crashitem, 0) + 1
        if crashitem == self.judged or self.hits.get(crashitem, 0) > 1 or not self.may_restart():
            return
        if self.config.option.dist == "each":
            if not begun and give_back(sched, report.node, crashitem):
                self.passed_on.add(self.test_of(report.node, crashitem))
                report.outcome = "spared"
            return
        if not hasattr(sched, "workqueue"):
            try:
                sched.mark_test_pending(crashitem)
            except NotImplementedError:  # a scheduler of the project's own
                return
            put_last(sched, crashitem)
        # Where the last tests were running already, pytest-xdist before 3.0 lets no successor begin anything.
        self.session.shuttingdown = False
        if not begun:
            self.passed_on.add(self.test_of(report.node, crashitem))
            report.outcome = "spared"
            return
        report.outcome = "rerun"
        self.forget(report.node, crashitem)
        worker = report.node.gateway.id
        self.say("%s was running on %s when its worker %s was lost; it is run again" % (
            crashitem, self.results.places.get(worker, "?"), worker))

    # What a worker had said of a test that it did not finish

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        node = getattr(report, "node", None)
        if node is None:
            return
        key = node, report.nodeid
        if report.outcome in ("rerun", "spared"):
            self.forget_junit(node, report.nodeid, [])  # LogXML has begun a test case to note its duration
        elif report.when == "teardown":
            reports = self.unfinished.pop(key, ())
            # Not so for an attempt that pytest-rerunfailures repeats.
            if reports and (reports[-1].when == "call" or not reports[-1].passed):
                self.finished[node] = report.nodeid
        elif report.when in ("setup", "call"):
            self.unfinished.setdefault(key, []).append(report)

    def forget(self, node, nodeid):
        reports = self.unfinished.pop((node, nodeid), [])
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        for report in reports:
            if report.failed:
                self.session._session.testsfailed -= 1
            for category, kept in getattr(reporter, "stats", {}).items():
                if report in kept:
                    kept.remove(report)
                    if category:
                        self.results.forget(report, node.gateway.id, category)
        self.forget_junit(node, nodeid, reports)

    def forget_junit(self, node, nodeid, reports):
        log = junit_log(self.config)
        try:
            case = log.node_reporters.pop((nodeid, node))
            log.node_reporters_ordered.remove(case)
            kinds = [child.tag for child in case.nodes]
            kinds += ["passed" for report in reports if report.when == "call" and report.passed]
            for kind in kinds:
                if kind in log.stats:
                    log.stats[kind] -= 1
        except (AttributeError, KeyError, ValueError):
            pass  # no report is written, or there is nothing of it yet

    def pytest_report_teststatus(self, report):
        if report.outcome == "rerun":
            return "rerun", "R", ("RERUN", {"yellow": True})
        if report.outcome == "spared":
            return "", "", ""
