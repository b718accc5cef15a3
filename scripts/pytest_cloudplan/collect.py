"""What cannot be collected, or is skipped as a whole, is reported once, as for a run here.

Every worker collects everything, and reports each module that is broken or skips itself.  xdist passes on what it
has not seen, but compares by the report's text alone: that names the files of a node, which are elsewhere on every
other one, and a traceback is never equal to another.  So one module counts once for every worker; two modules that
are skipped in the same line of a helper count as one.

Here outcomes are the same where the test's id, the outcome and the last words are: the reason, or the exception's
message, in which the worker's directory reads as ours.  What only some workers have found stays apart, and names
them.  With --dist=each every worker's outcome is a result of its own.

The files that reports name as the places of a failure or of a skip are named as they are here, which is where
their user has them.
"""
import os
import re
from collections import Counter

import pytest


class Finding:
    """A report, and who has made it or one like it."""

    def __init__(self, report):
        self.report = report
        self.workers = set()  # ids


class Collect:
    def __init__(self, config, results):
        self.config = config
        self.results = results
        self.root = os.getcwd()
        self.findings = {}  # key: Finding
        self.times = Counter()  # (worker, key): pytest reports a module for each argument that names a part of it
        self.finished = set()  # ids of workers that have collected everything

    @property
    def each(self):
        return self.config.option.dist == "each"

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self):
        session = self.config.pluginmanager.getplugin("dsession")
        pass_on = getattr(session, "_failed_worker_collectreport", None)
        if pass_on is None:
            return

        def once(node, rep):
            if self.is_new(node, rep):
                getattr(session, "_failed_collection_errors", {}).clear()  # by which xdist would compare again
                pass_on(node, rep)

        session._failed_worker_collectreport = once

    def is_new(self, node, report):
        worker = node.gateway.id
        self.localize(report, node)
        key = (report.nodeid, report.outcome, self.read_here(last_words(report.longrepr), node))
        if self.each:
            key += (self.results.workers[worker].first,)
        self.times[worker, key] += 1
        key += (self.times[worker, key],)
        finding = self.findings.get(key)
        if finding is not None:
            finding.workers.add(worker)
            return False
        self.findings[key] = finding = Finding(report)
        finding.workers.add(worker)
        report.node = node
        self.results.mark_collected(report, worker)
        if self.each:
            self.results.count_collected(report, worker)
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node):
        self.finished.add(node.gateway.id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        if hasattr(report, "node"):
            self.localize(report, report.node)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self):
        if self.each:
            return
        for finding in self.findings.values():
            if self.finished <= finding.workers:
                # Everyone's; the section of errors would name the one that was first.
                vars(finding.report).pop("node", None)
            else:
                for worker in sorted(finding.workers):
                    self.results.count_collected(finding.report, worker)

    def read_here(self, text, node):
        """The worker's directory is a copy of ours."""
        directory = getattr(node, "workerinfo", {}).get("cwd", "/")
        if directory in ("/", self.root):
            return text
        return re.sub(r"(?<![\w.-])%s(?![\w.-])" % re.escape(directory), lambda match: self.root, text)

    def localize(self, report, node):
        longrepr = report.longrepr
        if isinstance(longrepr, str):  # an import that failed, a fixture or a doctest
            report.longrepr = self.read_here(longrepr, node)
        elif isinstance(longrepr, tuple):
            report.longrepr = (self.read_here(str(longrepr[0]), node),) + longrepr[1:]
        for place in places(longrepr):
            if isinstance(getattr(place, "path", None), str):
                place.path = self.read_here(place.path, node)


def places(longrepr):
    """Where pytest's representation of a failure names files.  Messages stay as they are."""
    whole = getattr(longrepr, "reprtraceback", None), getattr(longrepr, "reprcrash", None)
    for traceback, crash, *_ in getattr(longrepr, "chain", None) or [whole]:
        yield crash
        for entry in getattr(traceback, "reprentries", ()):
            yield getattr(entry, "reprfileloc", None)


def last_words(longrepr):
    """What a report comes to, whatever way led there."""
    if isinstance(longrepr, tuple):
        text = str(longrepr[-1])
    else:
        crash = getattr(longrepr, "reprcrash", None)
        text = getattr(crash, "message", None) or str(longrepr)
        # A module that cannot be imported: a text in which these lines are the exception's.
        text = "\n".join(re.findall(r"^E .*$", text, re.M)) or text
    return re.sub(r"\b0x[0-9a-fA-F]+", "0x", text)
