"""pytest's side of cloudplan: makes pytest-xdist run on nodes that hold a copy of the project already.

cloudplan loads it into the controller alone, by PYTEST_PLUGINS: -p would be repeated on every worker,
where the module does not exist.  It decides nothing about capacity.  It sees to it that

* the arguments reach the nodes as they were typed, and nothing is copied there by xdist itself;
* the planned --tx list survives -n, and the project's own --dist and --max-worker-restart are kept;
* a --tx that cannot be is refused before anything starts;
* SIGTERM ends the session as ^C does, with a report;
* all workers start at once, and one that does not start costs itself alone, not the run
  (pytest_cloudplan/gateways.py; what each does first is pytest_cloudplan/worker.py);
* a run in which no worker ever came up, or all refused the arguments, does not end like one without tests;
* status 0 is only for a run that has told of all tests (pytest_cloudplan/completion.py);
* a worker that is lost is replaced where that makes sense, and never where a node would be overloaded
  (pytest_cloudplan/losses.py); a run that ends before all tests were run is no success;
* what workers print on their standard error is shown with their names, and cleaned (pytest_cloudplan/stderr.py);
* what a worker tells is checked before xdist sees it (pytest_cloudplan/gate.py, pytest_cloudplan/stream.py);
* a worker that has imported other code than was copied is left out (pytest_cloudplan/origins.py);
* what failed can be told by node (pytest_cloudplan/results.py);
* a module that is broken or skipped counts once, not once for every worker (pytest_cloudplan/collect.py);
* a test whose worker was lost is run again (pytest_cloudplan/reruns.py);
* pytest-cov finds the project's files in what the nodes report (pytest_cloudplan/coverage.py).

Official hooks come first.  Where only an internal of xdist or execnet will do, its absence means that
they go their own way: slower or less kind, never a crash.  Tried with pytest-xdist 2.5, 3.1, 3.6 and 3.8.
"""
import argparse
import os
import re
import shlex
import signal
import sys

import pytest

from pytest_cloudplan import completion, paths
from pytest_cloudplan.collect import Collect
from pytest_cloudplan.coverage import Coverage
from pytest_cloudplan.environment import Environment
from pytest_cloudplan.gate import EXIT, Gates
from pytest_cloudplan.gateways import (
    STATUS_UNAVAILABLE,
    Gateways,
    check_all,
    has_copy,
    mark,
    place,
    plugin_sources,
    startable,
)
from pytest_cloudplan.losses import Losses
from pytest_cloudplan.options import leave
from pytest_cloudplan.results import Results, last_line, names_place, write_line
from pytest_cloudplan.reruns import Reruns


leave("PYTEST_PLUGINS", ",", [__name__])
ENVIRON = dict(os.environ)  # the user's own, before a conftest.py or a plugin changes it
FAILED_FILE = os.environ.pop("_CLOUDPLAN_FAILED", "")
FAILED_FILE = FAILED_FILE and os.path.abspath(FAILED_FILE)


# Arguments


def relative_to_start(word):
    """An absolute path inside the root, alone or as an option's value, becomes relative to the directory that pytest starts in."""
    option, value = re.match(r"(--[^=]*=|-[A-Za-z]=?)?(.*)", word, re.DOTALL).groups(default="")
    path, colons, rest = value.partition("::")
    place = paths.inside(path) if os.path.isabs(path) else None
    if place is None:
        return word
    return option + os.path.relpath(os.path.join(paths.ROOT, place), paths.START) + colons + rest


def node_args(args, copied=True):
    """The controller's arguments for a worker that has a copy of the root as its directory, or else as typed."""
    result = []
    words = iter(args)
    for word in words:
        # Every worker's own copy of the list of all workers would be most of what is sent.
        if word == "--tx":
            next(words, None)
        else:
            result.append(relative_to_start(word) if copied else word)
    return result


# Before the session


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    early_config.pluginmanager.register(completion.Completion(), "cloudplan-completion")
    if not hasattr(early_config.known_args_namespace, "tx"):
        raise pytest.UsageError(
            "cloudplan: pytest-xdist is switched off (-p no:xdist?), and without it no test can run on a node"
        )


def _dist_of_addopts(config):
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--dist")
    words = config.getini("addopts") + shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    return parser.parse_known_args(words)[0].dist


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_cmdline_main(config):
    option = config.option
    if option.tx:
        # cloudplan's first word is --dist=load, a default: there already when options are parsed, since
        # pytest-cov looks then.  What the project's addopts say is better, what was typed later is best.
        typed = config.invocation_params.args[1:]
        if not any(word in ("-d", "--dist") or word.startswith("--dist=") for word in typed):
            dist = _dist_of_addopts(config)
            if dist not in (None, "no"):
                option.dist = dist
        # Left to itself xdist would put NUM popen workers in the place of the list.  To "auto" the plan
        # is the answer.
        local, option.numprocesses = option.numprocesses, None
        if isinstance(local, int):
            if option.maxprocesses:
                local = min(local, option.maxprocesses)
            option.tx = option.tx + ["popen"] * local
        # xdist's own default is to restart for ever.  Ours does not count losses that a test pays for.
        config.cloudplan_limits_restarts = option.maxworkerrestart is None
        if config.cloudplan_limits_restarts:
            option.maxworkerrestart = str(max(4, len(option.tx)))
    yield


def _interrupt(number, frame):
    # The group's signal and cloudplan's may both come: the second must not break the report.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def pytest_configure(config):
    # SIGINT is ignored in a shell's background jobs, CI's among them; SIGTERM alone would leave no report.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)
    option = config.option
    if option.tx and option.dist != "no" and not (option.collectonly or option.help):
        check_all(option.tx, getattr(option, "px", []))
    config.pluginmanager.register(Controller(config), "cloudplan-controller")


# The session


class AskedToExit:
    """A test that calls pytest.exit() ends the whole run, as here."""

    # Last: other plugins take what the worker has measured.
    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_testnodedown(self, node, error):
        asked = getattr(node, "workeroutput", {}).get(EXIT)
        if asked and not error:
            # Not pytest.exit(), which refuses to exit without words: a test can, by the exception itself.
            raise pytest.exit.Exception(asked["words"], asked["status"])


class Controller:
    """The hooks of a distributed session."""

    def __init__(self, config):
        self.config = config
        self.results = Results(config, self.say, FAILED_FILE)
        config.pluginmanager.register(self.results, "cloudplan-results")
        self.collect = Collect(config, self.results)
        config.pluginmanager.register(self.collect, "cloudplan-collect")
        config.pluginmanager.register(Reruns(config, self.say, self.results), "cloudplan-reruns")
        self.coverage = Coverage(config, paths.roots(), self.say)
        config.pluginmanager.register(self.coverage, "cloudplan-coverage")
        self.told = completion.Ledger(config, lambda worker: self.results.workers[worker.gateway.id].first)
        config.pluginmanager.register(self.told, "cloudplan-told")
        self.gates = Gates(config, self.results, self.coverage.own_file, self.say)
        config.pluginmanager.register(self.gates, "cloudplan-gates")
        config.pluginmanager.register(AskedToExit(), "cloudplan-exit")
        self.gateways = None
        self.copied = True  # whether the worker that xdist is about to set up has a copy of the root
        self.unheard = set()  # ids of first workers that were not ready yet
        self.any_ready = False
        self.any_usage_error = False

    def say(self, text):
        line = "cloudplan: " + "".join(c if c.isprintable() else "?" for c in text)
        if not write_line(self.config, line):
            print(line, file=sys.stderr)

    # Before xdist's own reporter, which remembers the list.
    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_setupnodes(self, config, specs):
        import xdist.workermanage

        # It would map every argument to a directory that xdist has copied, and fail for all others.
        if hasattr(xdist.workermanage, "make_reltoroot"):
            xdist.workermanage.make_reltoroot = lambda roots, args: self.coverage.args(
                node_args(args, self.copied)
            )
        self.coverage.share_paths()
        if "PYTEST_ADDOPTS" in os.environ:
            words = shlex.split(os.environ["PYTEST_ADDOPTS"])
            for spec in specs:
                if not spec.popen:
                    there = node_args(words, has_copy(spec))
                    spec.env.setdefault("PYTEST_ADDOPTS", " ".join(map(shlex.quote, there)))
        # Plugins that are not loaded here are not to be loaded there either; planned nodes have it from their starter.
        autoload = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        for spec in specs:
            if autoload and not spec.popen and not has_copy(spec):
                spec.env.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", autoload)
            mark(spec)
        self.start(config, specs)
        self.unheard = {spec.id for spec in specs}
        self.results.expect(self.unheard)

    def start(self, config, specs):
        session = config.pluginmanager.getplugin("dsession")
        manager = getattr(session, "nodemanager", None)
        if manager is None:
            return
        manager.roots = []  # nothing to copy
        group = getattr(manager, "group", None)
        if hasattr(group, "makegateway"):
            self.gateways = Gateways(group, self.say, plugin_sources(config.pluginmanager), self.coverage.order,
                                     Environment(ENVIRON, self.say))
            if hasattr(session, "_clone_node"):
                losses = Losses(session, self.gateways, self.results, self.collect, self.gates, self.say)
                config.pluginmanager.register(losses, "cloudplan-losses")
            self.leave_out(self.gateways.start_all([spec for spec in specs if startable(spec)]), config, specs)
            self.gateways.planned = list(specs)

    def leave_out(self, failed, config, specs):
        """Takes those that failed, and those that would go through them, out of the lists."""
        dead = {spec.id: spec for spec, _ in failed}
        for spec in specs:
            through = spec.via or spec.installvia
            if through in dead and spec.id not in dead:
                dead[spec.id] = spec
                failed.append((spec, "%s did not start" % through))
        if not failed:
            return
        specs[:] = [spec for spec in specs if spec.id not in dead]
        config.option.tx = [str(spec) for spec in specs]  # xdist's schedulers count these
        groups = {}
        for spec, reason in failed:
            where = place(spec, self.gateways.group)
            self.results.not_started(spec.id, where, reason)
            groups.setdefault((where, reason), []).append(spec.id)
        for (where, reason), ids in groups.items():
            name = ids[0] if len(ids) == 1 else "%s and %d more" % (ids[0], len(ids) - 1)
            if where != "localhost" and not names_place(ids[0], where):
                name += " (%s)" % where
            without = "it" if len(ids) == 1 else "them"
            self.say("%s did not start: %s%s" % (name, reason, "; going on without " + without if specs else ""))
        if not specs:
            pytest.exit("cloudplan: no worker could be started", STATUS_UNAVAILABLE)

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_newgateway(self, gateway):
        self.copied = has_copy(gateway.spec)
        if self.gateways is not None:
            self.gateways.prepare_late(gateway)
        self.results.add(gateway.id, place(gateway.spec, getattr(self.gateways, "group", ())))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node):
        self.any_ready = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        if getattr(node, "workeroutput", {}).get("exitstatus") == pytest.ExitCode.USAGE_ERROR:
            self.any_usage_error = True
        # What ended every one of them before it was ready would end its replacements too.
        if not self.any_ready and error:
            self.unheard.discard(node.gateway.id)
            if not self.unheard:
                reason = last_line(error)
                status = self.gates.status(STATUS_UNAVAILABLE)
                pytest.exit("cloudplan: every worker ended before it was ready: " + reason, status)

    def what_is_missing(self):
        """Why the session that ends has not told of all tests, or None."""
        session = self.config.pluginmanager.getplugin("dsession")
        scheduler = getattr(session, "sched", None)
        completion = self.config.pluginmanager.getplugin("cloudplan-completion")
        if getattr(completion, "exited", False):
            return None
        if getattr(session, "shouldstop", False):
            return None  # --maxfail and the like: that was said, and is no success unless the project wants it to be
        if not self.collect.finished:
            return "no worker came so far as to collect the tests"
        late = next(self.gates.code.lines(), None)
        if late:
            return late
        left = getattr(scheduler, "has_pending", False) or not getattr(scheduler, "collection_is_completed", True)
        missing, collected = self.told.missing(scheduler)
        if missing:
            return "%d of the %d tests that were collected have no result" % (missing, collected)
        return "not all tests were run" if left else None

    def pytest_unconfigure(self):
        if self.gateways is not None:
            self.gateways.stderr.end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        # It ends already: an interrupt would take the report away.  cloudplan has other signals where this takes too long.
        if signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not self.config.pluginmanager.hasplugin("dsession"):
            return
        other_code = list(self.gates.code.lines())
        for line in other_code:
            self.say(line + " (imported while tests ran)")
        missing = exitstatus == pytest.ExitCode.OK and self.what_is_missing()
        if missing and other_code:
            self.say("the tests have not run with the code that was copied: no success")
            session.exitstatus = STATUS_UNAVAILABLE
        elif missing:
            # xdist's words for that it has started no more of them.
            restarted_enough = getattr(self.config.pluginmanager.getplugin("dsession"), "_summary_report", None)
            self.say("not all tests were run: " + ("too many workers were lost" if restarted_enough else missing))
            session.exitstatus = STATUS_UNAVAILABLE
        if exitstatus != pytest.ExitCode.NO_TESTS_COLLECTED:
            return
        if self.any_usage_error:
            self.say("the workers refused the arguments: is a path among them that the nodes do not have?")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif not self.collect.finished:
            self.say("no worker came so far as to collect the tests")
            session.exitstatus = STATUS_UNAVAILABLE
