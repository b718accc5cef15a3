"""A test that was running when its worker was lost is run again, once.

xdist reports such a test as failed.  Mostly it is the node that went, or the kernel that took memory back, and the
test is another worker's to finish: the report becomes a "rerun", which fails nothing and is shown as R.  A test
that is hit a second time is what ended its worker: that is its result, and it is not run a third time.

Each test keeps exactly one final result: what a worker had said of a test that it did not finish is forgotten
when the test runs again.

Schedulers differ: load and worksteal take a test back by mark_test_pending(); the loadscope family puts all that
a lost worker had not finished back by itself, the test that was hit included, as often as that happens; each has
nobody else who could run it, and the test stays failed.
"""
import pytest

from pytest_cloudplan_results import junit_log


def scope_work(scheduler, node):
    """The tests of a worker by the loadscope family's books: {scope: {node id: whether it is done}}."""
    return getattr(scheduler, "assigned_work", {}).get(node, {})


def first_left(work):
    return next((nodeid for unit in work.values() for nodeid, done in unit.items() if not done), None)


def only_to_those_who_collected(scheduler):
    """When a worker is lost the loadscope family deals out its tests to all others: also to one that is there already and has
    not told yet what it has collected.  That ends the run in a KeyError; it gets its part when it has told."""
    reschedule = getattr(scheduler, "_reschedule", None)
    if reschedule is None or not hasattr(scheduler, "registered_collections") or not hasattr(scheduler, "workqueue"):
        return

    def reschedule_later(node):
        if node in scheduler.registered_collections or not scheduler.workqueue:
            reschedule(node)

    scheduler._reschedule = reschedule_later


def nothing_from_those_sent_home(scheduler):
    """A successor that is ready when the last tests are running is told to end at once, and not added.  Where another worker is
    lost then the run goes on, and what that successor has collected meanwhile would end it in an AssertionError."""
    add_node_collection = scheduler.add_node_collection

    def add_unless_sent_home(node, collection):
        if node in scheduler.nodes or not node.shutting_down:
            add_node_collection(node, collection)

    scheduler.add_node_collection = add_unless_sent_home


class Reruns:
    def __init__(self, config, say, results):
        self.config = config
        self.say = say
        self.results = results
        self.hits = {}  # node id: how often its worker was lost
        self.unfinished = {}  # (worker, node id): reports of a test whose teardown has not been reported
        self.judged = None  # the node id that we report ourselves
        self.spared = False  # the test that xdist names next had not begun

    @property
    def session(self):
        return self.config.pluginmanager.getplugin("dsession")

    def may_restart(self):
        """Whether another worker will come: at xdist's limit nobody would run the test."""
        limit = getattr(self.session, "_max_worker_restart", None)
        return limit is None or getattr(self.session, "_failed_nodes_count", 0) < limit

    @pytest.hookimpl(hookwrapper=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self):
        outcome = yield
        scheduler = outcome.get_result()
        only_to_those_who_collected(scheduler)
        nothing_from_those_sent_home(scheduler)

    # Before xdist looks for the test that was hit.
    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self, node, error):
        self.spared = False
        if not error:
            return
        work = scope_work(getattr(self.session, "sched", None), node)
        hit = first_left(work)
        if self.hits.get(hit):
            # Left to itself it would be run for ever.
            next(unit for unit in work.values() if hit in unit)[hit] = True
            self.judged = hit
            self.session.handle_crashitem(hit, node)
            self.judged = None
            self.spared = True
        # xdist would hand out what is done as well; a worker that gets nothing else waits for ever.
        for scope in [scope for scope, unit in work.items() if all(unit.values())]:
            del work[scope]

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_handlecrashitem(self, crashitem, report, sched):
        if self.spared and crashitem != self.judged:
            report.outcome = "spared"
            return
        self.hits[crashitem] = self.hits.get(crashitem, 0) + 1
        if crashitem == self.judged or self.hits[crashitem] > 1 or not self.may_restart():
            return
        if self.config.option.dist == "each":
            return
        if not hasattr(sched, "workqueue"):
            try:
                sched.mark_test_pending(crashitem)
            except NotImplementedError:  # a scheduler of the project's own
                return
        # Where the last tests were running already, pytest-xdist before 3.0 lets no successor begin anything.
        self.session.shuttingdown = False
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
            self.unfinished.pop(key, None)
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
