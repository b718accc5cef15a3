"""What becomes of a worker that is lost: it is replaced where it ran, or elsewhere, or not at all.

A node never gets more workers than it was planned for.  So a worker whose node is gone has a successor elsewhere only
where one of that node's own has ended; mostly the workers that are left take its tests.  Near the end xdist has told
those already to end, and then the first that does makes room.

A worker that fails in the same way each time would use up all restarts, or take one test after the other with it:

* one that has collected other tests than there are (what tests have written was collected, too) would run others than meant;
* an exception on the far side before it could run a test will be there the next time, too: it is left out at once;
* without words ("Not properly terminated") it has a second try, COLLECTING_TRIES in all, as long as there are others;
* one that has imported other code than was copied (pytest_cloudplan/origins.py) is left out at once; where nobody else is
  left, the others were left out before it, and no successor is tried in their places;
* one that has told nonsense (pytest_cloudplan/gate.py) would do so again: it is left out at once;
* the same of one after the other that ends later, and no test finished in between: FRUITLESS_TRIES.

The last one goes on: each test that is hit has a result after the second time, and there is xdist's limit of restarts.

With --dist=each nobody else can do what one worker did not do: it is replaced where it ran or not at all.
"""
import types
from collections import Counter

import pytest

from pytest_cloudplan.gate import InternalError, Nonsense, OtherCode, PluginError
from pytest_cloudplan.gateways import STATUS_UNAVAILABLE, StartError
from pytest_cloudplan.results import last_line
from pytest_cloudplan.scheduling import forget_collection, has_work_for_successor, mend, predecessors

COLLECTING_TRIES = 2
FRUITLESS_TRIES = 4


class Losses:
    def __init__(self, session, gateways, results, collect, gates, say):
        self.session = session  # xdist's DSession
        self.gates = gates
        self.gateways = gateways
        self.results = results
        self.collect = collect
        self.say = say
        self.each = collect.each
        self.set_up = session.nodemanager.setup_node
        session.nodemanager.setup_node = self.set_up_or_lose
        self.clone = session._clone_node
        session._clone_node = self.replace
        # Of a Worker, which successors share: how many were lost one after the other, before they had collected, and without
        # a test that was finished.
        self.uncollected = Counter()
        self.fruitless = Counter()
        self.refused = set()  # workers
        self.failure = None  # StartError: why the worker that went last would fail again
        self.waiting = []  # (worker, failure): those whose successor waits for room

    def set_up_or_lose(self, spec, putevent):
        """A worker may end between its start and its first task: the run ended in an OSError.  It is lost like any other."""
        import xdist.workermanage

        try:
            return self.set_up(spec, putevent)
        except (EOFError, OSError):
            gateway = self.gateways.latest
            worker = getattr(gateway, "node", None)
            if worker is None:
                worker = xdist.workermanage.WorkerController(self.session.nodemanager, gateway, self.session.config, putevent)
                gateway.node = worker  # as xdist has it
            if not worker.shutting_down:
                worker.notify_inproc("errordown", node=worker, error="Not properly terminated")
                worker._down = True
            return worker

    # What is heard of workers

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node):
        self.uncollected.pop(self.lineage(node), None)

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown" and hasattr(report, "node"):
            self.fruitless.pop(self.lineage(report.node), None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        self.failure = None
        if error:
            forget_collection(self.session.sched, node)
            self.failure = self.judge(node, error)
        elif self.waiting and not self.session.sched.tests_finished:
            # Now there is room on its node.
            worker, failure = self.waiting[0]
            if self.replace_elsewhere(worker, failure, ended=node):
                del self.waiting[0]
            elif not self.others(node):
                self.no_worker_is_left(failure)

    @pytest.hookimpl(hookwrapper=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self):
        outcome = yield
        mend(outcome.get_result(), self.refuse)

    def refuse(self, worker):
        """It is as lost."""
        self.refused.add(worker)
        worker.channel.close()
        worker.gateway.exit()

    def no_worker_is_left(self, failure):
        pytest.exit("cloudplan: no worker is left: %s" % failure, self.gates.status(STATUS_UNAVAILABLE))

    def lineage(self, worker):
        return self.results.workers[worker.gateway.id]

    def judge(self, worker, error):
        if worker in self.refused:
            return StartError("has collected other tests than those before it")
        if isinstance(error, Nonsense):
            if isinstance(error, OtherCode):
                return StartError(str(error), is_final=True)
            told = isinstance(error, (InternalError, PluginError))
            return StartError(str(error) if told else "it tells what cannot be: %s" % error)
        collected = worker.gateway.id in self.collect.finished
        if not collected and not isinstance(error, str):
            return StartError("ended before it could run a test: " + last_line(error))
        if collected:
            tries, limit, what = self.fruitless, FRUITLESS_TRIES, "finished"
        else:
            tries, limit, what = self.uncollected, COLLECTING_TRIES, "begun"
        tries[self.lineage(worker)] += 1
        if tries[self.lineage(worker)] >= limit and self.others(worker):
            return StartError("ended %d times in a row before it had %s a test" % (limit, what))
        return None

    def others(self, *workers):
        return [other for other in getattr(self.session, "_active_nodes", ()) if other not in workers]

    # In the place of DSession._clone_node()

    def replace(self, worker):
        scheduler = self.session.sched
        failure, self.failure = self.failure, None
        if not hasattr(scheduler, "numnodes"):
            return self.clone(worker)
        if not has_work_for_successor(scheduler, worker):
            return None
        try:
            if failure is None:
                return self.clone(worker)
            # It would fail elsewhere, too, and there is somebody else.
            others = self.others(worker)
            # With an internal error, as all before it; or with other code, which its node's Python finds again.
            alone = not others and (self.gates.status(None) is not None or failure.is_final)
            replaced = not alone and all(other.shutting_down for other in others) and self.replace_elsewhere(worker, failure)
        except StartError as error:
            failure = error
            worker.gateway.spec.id = worker.gateway.id  # xdist's line of states is by id
            replaced = self.replace_elsewhere(worker, failure)
        if not replaced:
            self.leave(worker, failure)
        return None

    def replace_elsewhere(self, worker, failure, ended=None):
        """False: those who are left can do all."""
        if self.each:
            return False
        others = self.others(worker, ended)
        spec = worker.gateway.spec
        message = "%s could not be replaced where it ran (%s); its successor " % (
            spec.ssh or spec.socket or "a local worker", failure)
        for other in self.gateways.room_beside([other.gateway.spec for other in others], but=spec):
            try:
                successor = self.clone(types.SimpleNamespace(gateway=types.SimpleNamespace(spec=other)))
            except StartError:
                continue
            for tries in self.uncollected, self.fruitless:
                tries.pop(self.lineage(successor), None)
            self.say(message + "runs on " + (other.ssh or "this machine"))
            return True
        if ended is not None or not others or not all(other.shutting_down for other in others):
            return False
        self.waiting.append((worker, failure))
        self.say(message + "waits for room elsewhere")
        return True

    def leave(self, worker, failure):
        """xdist's scheduler would wait for its collection, or with --dist=each for its tests, for ever."""
        scheduler = self.session.sched
        left = 0
        for dead in predecessors(scheduler, worker)[:1]:
            left = len(scheduler._removed2pending.pop(dead))
        waits = not scheduler.collection_is_completed
        if waits:
            scheduler.numnodes -= 1
        if not scheduler.numnodes or not (self.each or self.others(worker)):
            self.no_worker_is_left(failure)
        if waits:
            if self.each and len(scheduler.node2collection) >= scheduler.numnodes:
                scheduler.collection_is_completed = True
            if scheduler.collection_is_completed:
                scheduler.schedule()
        self.session._failed_nodes_count -= 1  # nothing was restarted
        self.results.lost(failure, left)
