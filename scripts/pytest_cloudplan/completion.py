"""Status 0 means that every test that was collected has been told of: the record that says so, for cloudplan.

Whatever ends pytest's process with status 0 before that (os._exit, sys.exit or exec in a conftest.py, or in a plugin) would
be a success without a test.  So cloudplan names a file, _CLOUDPLAN_RECORD="WORD PATH", and believes status 0 only where the
file holds its word and "complete".  Anything else that follows the word is the reason why the run is not complete, for the
case that the project replaces the exit status.

The record is written

* at the session's end, when all other plugins and the terminal's summary are done, and not before: what ends the process in
  pytest_unconfigure finds the run complete;
* where pytest.exit() asks for status 0, whenever that is;
* where pytest shows something and has no session (--help, --markers), or a plugin has a command of its own.

It is written by the process that pytest was started as: a child that a test forks, and that goes on as if it were pytest,
says nothing.
"""
import os
import sys

import pytest

STATUS_SYSTEM = 71
COMPLETE = "complete"
LINE_MAX = 300

WORD, _, PATH = os.environ.pop("_CLOUDPLAN_RECORD", "").partition(" ")
PID = os.getpid()


def write(reason):
    """Replaces what was said before.  None: the run is complete.  Returns why that cannot be written, or None."""
    if not WORD or os.getpid() != PID:
        return None
    text = "".join(c if c.isprintable() else "?" for c in reason or COMPLETE)[:LINE_MAX]
    try:
        # Over what is there, which is larger: so it takes no room on a full disk.
        record = os.open(PATH, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.write(record, ("%s %s\n" % (WORD, text)).encode("utf-8", "replace"))
        finally:
            os.close(record)
    except OSError as error:
        return "%s: %s" % (PATH, error.strerror)
    return None


def asks_for_success(error):
    return isinstance(error, pytest.exit.Exception) and error.returncode == 0


class Completion:
    """The hooks that see how pytest comes to its end; registered before any conftest.py is loaded."""

    def __init__(self):
        self.has_session = False
        self.exited = False  # by pytest.exit(returncode=0)
        self.finishing = False  # between the beginning and the end of pytest_sessionfinish

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self):
        self.has_session = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo):
        if asks_for_success(excinfo.value):
            self.exit()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_internalerror(self):
        outcome = yield
        if outcome.excinfo and asks_for_success(outcome.excinfo[1]):
            self.exit()

    def exit(self):
        self.exited = True
        write(None)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        self.finishing = True
        outcome = yield
        self.finishing = False
        if outcome.excinfo and not asks_for_success(outcome.excinfo[1]):
            return
        trouble = write(None if outcome.excinfo or self.exited else what_is_missing(session.config, exitstatus))
        if trouble:
            print("cloudplan: %s; whether the run is complete cannot be told" % trouble, file=sys.stderr)
            session.exitstatus = session.exitstatus or STATUS_SYSTEM

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self):
        # --help and the like have done by now what they do; not so where an exception leads here.  The only one that pytest
        # takes for its session's end is that of pytest.exit(), which pluggy before 1.2 does not show to all wrappers.
        if (self.finishing or not self.has_session) and sys.exc_info()[0] is None:
            write(None)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self):
        outcome = yield
        if not self.has_session and outcome.excinfo is None:
            write(None)


def what_is_missing(config, exitstatus):
    """Why the session that ends has not told of all tests, or None."""
    if exitstatus == pytest.ExitCode.INTERNAL_ERROR:
        return "it had an internal error"
    if not config.pluginmanager.hasplugin("dsession"):
        return None  # all tests are run by this process, which has come to its end
    controller = config.pluginmanager.getplugin("cloudplan-controller")
    return controller.what_is_missing() if controller else "cloudplan's plugin was switched off"


class Ledger:
    """Which tests were collected, and which of them have a result; of a session with workers."""

    def __init__(self, config, lineage):
        self.config = config
        self.lineage = lineage  # lineage(worker): an object that a lost worker shares with its successors
        self.collected = {}  # worker: node ids, as it numbers them
        self.done = set()

    @property
    def each(self):
        return self.config.option.dist == "each"

    def key(self, worker, nodeid):
        """With --dist=each every worker has its own tests, which its successor has inherited."""
        return nodeid, self.lineage(worker) if self.each else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        self.collected.setdefault(node, ids)

    @pytest.hookimpl(hookwrapper=True, optionalhook=True)
    def pytest_xdist_make_scheduler(self):
        yield
        session = self.config.pluginmanager.getplugin("dsession")
        complete = getattr(session, "worker_runtest_protocol_complete", None)
        if complete is None:
            return

        def note_and_complete(node, item_index, **more):
            ids = self.collected.get(node, ())
            if isinstance(item_index, int) and 0 <= item_index < len(ids):
                self.done.add(self.key(node, ids[item_index]))
            complete(node=node, item_index=item_index, **more)

        session.worker_runtest_protocol_complete = note_and_complete

    # A worker may be lost between the last word of a test and the word that it is complete.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        if report.when == "teardown" and hasattr(report, "node"):
            self.done.add(self.key(report.node, report.nodeid))

    @pytest.hookimpl(hookwrapper=True, optionalhook=True)
    def pytest_handlecrashitem(self, crashitem, report):
        yield
        if report.outcome in ("failed", "passed", "skipped"):  # else somebody has it run again
            self.done.add(self.key(report.node, crashitem))

    def expected(self, scheduler):
        """The keys of all tests that were collected.  What the scheduler has kept is what workers were given: it has no
        collection of a worker that was lost or refused before that."""
        if self.each:
            books = getattr(scheduler, "node2collection", self.collected)
            return {self.key(worker, nodeid) for worker, ids in books.items() for nodeid in ids}
        # All have collected the same, or the run has failed.
        ids = getattr(scheduler, "collection", None) or next(iter(self.collected.values()), ())
        return {(nodeid, None) for nodeid in ids}

    def missing(self, scheduler):
        """(how many have no result, how many there are)"""
        expected = self.expected(scheduler)
        return len(expected - self.done), len(expected)
