"""pytest's side of cloudplan: makes pytest-xdist run on nodes that hold a copy of the project already.

cloudplan loads it into the controller alone, by PYTEST_PLUGINS: -p would be repeated on every worker,
where the module does not exist.  It decides nothing about capacity.  It sees to it that

* the arguments reach the nodes as they were typed, and nothing is copied there by xdist itself;
* the planned --tx list survives -n, and the project's own --dist and --max-worker-restart are kept;
* SIGTERM ends the session as ^C does, with a report;
* all workers start at once, and one that does not start costs itself alone, not the run;
* a run in which no worker ever came up, or all refused the arguments, does not end like one without tests;
* pytest-cov finds the project's files in what the nodes report.

Official hooks come first.  Where only an internal of xdist or execnet will do, its absence means that
they go their own way: slower or less kind, never a crash.  Tried with pytest-xdist 2.5, 3.1 and 3.8.
"""
import argparse
import copy
import os
import queue
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

STATUS_UNAVAILABLE = 69  # cloudplan's "no usable node"
STARTS_AT_ONCE = 32
START_SECONDS = 60  # for one worker, from its ssh to its answer
RETRY_PAUSES = (0.3, 0.6, 1.2, 2.4)  # seconds, at least
UNREACHED = "ssh could not reach it"

# What a worker needs, asked in its own interpreter without importing anything there.
MISSING = """
from importlib.util import find_spec
channel.send([name for name in ("pytest", "xdist", "execnet") if find_spec(name) is None])
"""


def _leave_environment():
    """Child processes (popen workers, tests that run pytest) shall not load this plugin."""
    for name, separator, own in (
        ("PYTEST_PLUGINS", ",", __name__),
        ("PYTHONPATH", os.pathsep, os.path.dirname(os.path.abspath(__file__))),
    ):
        if name in os.environ:
            rest = [word for word in os.environ[name].split(separator) if word != own]
            os.environ[name] = separator.join(rest)
            if not rest:
                del os.environ[name]


_leave_environment()


# Arguments


def _roots():
    """The project's root under its physical name and under the one that the shell knows."""
    roots = [os.getcwd()]
    logical = os.environ.get("PWD", "")
    if os.path.isabs(logical) and logical not in roots and os.path.isdir(logical):
        if os.path.samefile(logical, roots[0]):
            roots.append(os.path.normpath(logical))
    return roots


def relative_to_root(word, roots):
    """An absolute path inside the root, alone or as an option's value, becomes relative to the root."""
    option, value = re.match(r"(--[^=]*=|-[A-Za-z]=?)?(.*)", word, re.DOTALL).groups(default="")
    path, colons, rest = value.partition("::")
    if os.path.isabs(path):
        path = os.path.normpath(path)
        for root in roots:
            if os.path.commonpath([path, root]) == root:
                return option + os.path.relpath(path, root) + colons + rest
    return word


def node_args(args):
    """The controller's arguments for a worker that has a copy of the root as its directory."""
    roots = _roots()
    result = []
    words = iter(args)
    for word in words:
        # Every worker's own copy of the list of all workers would be most of what is sent.
        if word == "--tx":
            next(words, None)
        else:
            result.append(relative_to_root(word, roots))
    return result


# Before the session


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
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
        # xdist's own default is to restart for ever.
        if option.maxworkerrestart is None:
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
    config.pluginmanager.register(Controller(config), "cloudplan-controller")


# Workers


class StartError(Exception):
    """One line: why a worker did not start."""


class Gateways:
    """Starts a group's gateways side by side, and hands them out when xdist comes to ask for each."""

    def __init__(self, group, say):
        self.group = group
        self.say = say
        self.ready = {}  # spec.id: gateway
        self.popens = {}  # id(spec): the local process behind it, ssh or python
        self.group_makegateway = group.makegateway
        group.makegateway = self.makegateway
        gateway_io = sys.modules.get("execnet.gateway_io")
        create_io = getattr(gateway_io, "create_io", None)

        def recording_create_io(spec, *args, **kwargs):
            io = create_io(spec, *args, **kwargs)
            self.popens[id(spec)] = getattr(io, "popen", None)
            return io

        if create_io:
            gateway_io.create_io = recording_create_io

    def start(self, spec):
        """A gateway that has answered, or StartError."""
        overdue = threading.Event()

        def kill():
            overdue.set()
            popen = self.popens.get(id(spec))
            if popen is not None:
                popen.kill()  # the end of its stream wakes the reader

        timer = threading.Timer(START_SECONDS, kill)
        timer.daemon = True
        timer.start()
        try:
            gateway = self.group_makegateway(spec)
            channel = gateway.remote_exec(MISSING)
            missing = channel.receive()
            channel.waitclose()
            if missing:
                what = spec.python or "python", ", ".join(missing)
                raise StartError("its Python (%s) has no module %s" % what)
            return gateway
        except Exception as error:
            # execnet registers a gateway before it is of use: its id must be free again.
            for gateway in self.group:
                if gateway.spec is spec:
                    gateway.exit()
            if overdue.is_set():
                raise StartError("no answer within %d s" % START_SECONDS) from error
            raise StartError(self.reason(spec, error)) from error
        finally:
            timer.cancel()
            self.popens.pop(id(spec), None)

    def start_with_patience(self, spec):
        """As start(). Sessions beyond sshd's MaxSessions connect anew, all at once, and sshd closes some of
        so many unauthenticated connections (MaxStartups): while the host's master lives they are worth more tries."""
        for pause in RETRY_PAUSES:
            try:
                return self.start(spec)
            except StartError as error:
                if str(error) != UNREACHED or not spec.ssh_config or self.is_lost(spec):
                    raise
            time.sleep(pause * (1 + random.random()))
        return self.start(spec)

    def reason(self, spec, error):
        if isinstance(error, StartError):
            return str(error)
        popen = self.popens.get(id(spec))
        try:
            status = popen.wait(5) if popen is not None and isinstance(error, (EOFError, OSError)) else None
        except subprocess.TimeoutExpired:
            status = None
        if type(error).__name__ == "HostNotFound" or (spec.ssh and status == 255):
            return UNREACHED
        if status:
            return "its Python (%s) ended with status %d" % (spec.python or "python", status)
        # The far side's traceback ends with the exception itself.
        lines = str(error).strip().splitlines()
        return lines[-1] if lines else type(error).__name__

    def start_all(self, specs):
        """Starts all; returns [(spec, reason)] of those that failed, in the order of specs."""
        todo, done, failures = queue.Queue(), queue.Queue(), {}
        for spec in specs:
            todo.put(spec)

        def work():
            while True:
                try:
                    spec = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    self.ready[spec.id] = self.start_with_patience(spec)
                except BaseException as error:
                    failures[id(spec)] = str(error)
                done.put(spec)

        for _ in range(min(STARTS_AT_ONCE, len(specs))):
            threading.Thread(target=work, daemon=True).start()
        for _ in specs:
            done.get()
        return [(spec, failures[id(spec)]) for spec in specs if id(spec) in failures]

    @staticmethod
    def is_lost(spec):
        """Whether the control master that cloudplan keeps for the host is gone. Without one ssh would connect
        anew, and wait for a host that may be dead."""
        if not spec.ssh or not spec.ssh_config:
            return False
        check = ["ssh", "-F", str(spec.ssh_config), "-O", "check"] + spec.ssh.split()
        try:
            return subprocess.run(check, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=5).returncode != 0
        except (OSError, subprocess.TimeoutExpired):
            return True

    def makegateway(self, spec=None):
        """In the place of Group.makegateway(): what was started beforehand, or xdist's replacement of a worker
        that died; where its host died with it, on another host."""
        if not startable(spec):
            return self.group_makegateway(spec)
        if spec.id in self.ready:
            return self.ready.pop(spec.id)
        try:
            if self.is_lost(spec):
                raise StartError("its connection is lost")
            return self.start(spec)
        except StartError as error:
            failure = error
        live = Counter(gateway.spec.ssh for gateway in self.group if gateway.hasreceiver())
        del live[spec.ssh]
        for ssh, _ in reversed(live.most_common()):
            other = copy.copy(next(gateway.spec for gateway in self.group if gateway.spec.ssh == ssh))
            other.id = spec.id
            try:
                if self.is_lost(other):
                    continue
                gateway = self.start(other)
            except StartError:
                continue
            self.say("%s could not be replaced where it ran (%s); its successor runs on %s" % (
                spec.ssh or "a local worker", failure, ssh or "this machine"))
            return gateway
        pytest.exit("cloudplan: no worker is left: %s" % failure, STATUS_UNAVAILABLE)


def share_coverage_paths(config):
    """pytest-cov notes where each node has its files, but not for the object that combines their data."""
    controller = getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    noted, combining = (
        getattr(getattr(getattr(controller, name, None), "config", None), "paths", None)
        for name in ("cov", "combining_cov")
    )
    if isinstance(noted, dict) and isinstance(combining, dict) and "source" in noted:
        combining["cloudplan"] = noted["source"]  # one list: it grows as nodes end


def startable(spec):
    """Others (via=, socket=) depend on gateways that xdist makes in an order of its own."""
    return bool(getattr(spec, "popen", None) or getattr(spec, "ssh", None)) and not spec.via


class Controller:
    """The hooks of a distributed session."""

    def __init__(self, config):
        self.config = config
        self.unheard = set()  # ids of first workers that were not ready yet
        self.any_ready = False
        self.any_collected = False
        self.any_usage_error = False

    def say(self, text):
        line = "cloudplan: " + "".join(c if c.isprintable() else "?" for c in text)
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter:
            reporter.ensure_newline()
            reporter.write_line(line)
        else:
            print(line, file=sys.stderr)

    # Before xdist's own reporter, which remembers the list.
    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_setupnodes(self, config, specs):
        import xdist.workermanage

        # It would map every argument to a directory that xdist has copied, and fail for all others.
        if hasattr(xdist.workermanage, "make_reltoroot"):
            xdist.workermanage.make_reltoroot = lambda roots, args: node_args(args)
        share_coverage_paths(config)
        for spec in specs:
            if not spec.popen or spec.chdir:
                # pytest-cov's workers combine all data files of their directory: each may find its own only.
                spec.env.setdefault("COVERAGE_FILE", ".cloudplan-coverage-" + spec.id)
        if "PYTEST_ADDOPTS" in os.environ:
            words = shlex.split(os.environ["PYTEST_ADDOPTS"])
            for spec in specs:
                if spec.ssh:
                    spec.env.setdefault("PYTEST_ADDOPTS", " ".join(map(shlex.quote, node_args(words))))
        manager = getattr(config.pluginmanager.getplugin("dsession"), "nodemanager", None)
        if manager is not None:
            manager.roots = []  # nothing to copy
            group = getattr(manager, "group", None)
            if hasattr(group, "makegateway"):
                self.start(Gateways(group, self.say), config, specs)
        self.unheard = {spec.id for spec in specs}

    def start(self, gateways, config, specs):
        failed = gateways.start_all([spec for spec in specs if startable(spec)])
        if not failed:
            return
        dead = {id(spec) for spec, _ in failed}
        specs[:] = [spec for spec in specs if id(spec) not in dead]
        config.option.tx = [str(spec) for spec in specs]  # xdist's schedulers count these
        groups = {}
        for spec, reason in failed:
            groups.setdefault((spec.ssh, reason), []).append(spec.id)
        for (_, reason), ids in groups.items():
            name = ids[0] if len(ids) == 1 else "%s and %d more" % (ids[0], len(ids) - 1)
            without = "it" if len(ids) == 1 else "them"
            self.say("%s did not start: %s%s" % (name, reason, "; going on without " + without if specs else ""))
        if not specs:
            pytest.exit("cloudplan: no worker could be started", STATUS_UNAVAILABLE)

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
                lines = str(error).strip().splitlines() or ["?"]
                pytest.exit("cloudplan: every worker ended before it was ready: " + lines[-1], STATUS_UNAVAILABLE)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        self.any_collected = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session, exitstatus):
        if exitstatus != pytest.ExitCode.NO_TESTS_COLLECTED or not self.config.pluginmanager.hasplugin("dsession"):
            return
        if self.any_usage_error:
            self.say("the workers refused the arguments: is a path among them that the nodes do not have?")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif not self.any_collected:
            self.say("no worker came so far as to collect the tests")
            session.exitstatus = STATUS_UNAVAILABLE
