"""The workers of a session: which xspecs make sense, where each worker runs, how it is started and replaced.

All are started side by side, and one that does not start costs itself alone.  Everything here leans on execnet's
Group.makegateway(); where another internal of execnet is of use, its absence makes a failure slower to
see, nothing else.
"""
import copy
import importlib
import inspect
import os
import queue
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import execnet
import pytest
from execnet.gateway import RInfo

from pytest_cloudplan import environment, paths, starter, worker
from pytest_cloudplan.gate import Nonsense, interpreter_info
from pytest_cloudplan.paths import copy_of
from pytest_cloudplan.stderr import Stderr
from pytest_cloudplan.stream import Streams

STATUS_UNAVAILABLE = 69  # cloudplan's "no usable node"
STARTS_AT_ONCE = 32
START_SECONDS = 60  # for one worker, from its ssh to its answer
WORKERS_MAX = 10000  # of one --tx: more is a slip of the finger
RETRY_PAUSES = (0.3, 0.6, 1.2, 2.4)  # seconds, at least
UNREACHED = "ssh could not reach it"
CONNECTION_LOST = "its connection is lost"
TYPES = ("popen", "ssh", "socket", "vagrant_ssh")
RUN_ID = os.environ.get("CLOUDPLAN_CONTROLLER", "")  # stays there: by it this machine's own processes are known as the run's
FILES = os.environ.pop("_CLOUDPLAN_FILES", None)  # the limit of open files that cloudplan was started with, if it has raised it
# Where the login has closed its standard error, execnet would take that number for its own stream, and pytest's capture would
# put a file in the stream's place.
OPEN_STDERR = "sh -c '(: >&2) || exec 2>/dev/null; exec \"$@\"' sh "
MARK = OPEN_STDERR + "env CLOUDPLAN_RUN=%s " % RUN_ID


# What an xspec says


def startable(spec):
    """Others (via=) depend on gateways that xdist makes in an order of its own."""
    return bool(spec.popen or spec.ssh or spec.socket) and not spec.via and not spec.installvia


def shares_directory(spec):
    """Whether the worker runs in the controller's own directory."""
    return bool(spec.popen) and not spec.chdir and not spec.via


def node_of(spec):
    """The name of the worker's node, where cloudplan has planned it: node= is cloudplan's own, and refused to others."""
    return str(spec.node) if spec.node and spec.ssh else None


def has_copy(spec):
    """Whether the worker's directory is a copy of the root, made by cloudplan.  What the user typed beside the plan has no
    copy that cloudplan knows of."""
    return bool(node_of(spec) or spec.popen) and not spec.via


def mark(spec):
    """Has the node's guard know the worker as this run's.  Those beyond sshd's MaxSessions come over a connection that
    the guard knows nothing of, and sshd takes no variable from us."""
    spec.cloudplan_python = str(spec.python or "python")
    if RUN_ID and spec.ssh and has_copy(spec):
        spec.python = MARK + spec.cloudplan_python


def python_of(spec):
    """The interpreter that was asked for; spec.python is what a shell is told to start it with."""
    return str(getattr(spec, "cloudplan_python", None) or spec.python or "python")


def hand_on(spec):
    """Has the worker's interpreter started with an environment that comes by its standard input: see starter.py."""
    if node_of(spec) and not spec.cloudplan_starts:
        spec.cloudplan_starts = True
        spec.python = (MARK if RUN_ID else "") + environment.command(python_of(spec))


def place(spec, group=()):
    """Where a worker runs: the name of its node, which is that node's alone; of what was typed beside the plan HOST or, with
    a port, HOST:PORT; "localhost" for this machine."""
    if node_of(spec):
        return node_of(spec)
    if spec.ssh:
        words = str(spec.ssh).split() or ["?"]
        port = words[words.index("-p") + 1 : -1][:1] if "-p" in words else []
        return ":".join([words[-1].rpartition("@")[2]] + port)
    through = spec.via or spec.installvia
    if through:
        masters = [gateway.spec for gateway in group if gateway.id == through and gateway.spec is not spec]
        return place(masters[0], group) if masters else str(through)
    return "localhost" if spec.popen else str(spec.vagrant_ssh or spec.socket)


def parse(word):
    """The xspecs of one --tx, [NUM*]XSPEC, or UsageError."""
    if not word.isprintable():
        raise refusal(word, "a character in it cannot be printed")
    number, text = re.fullmatch(r"(?:\s*([+-]?\d+)\s*\*)?(.*)", word, re.DOTALL).groups()
    if int(number or 1) > WORKERS_MAX:
        raise refusal(word, "more than %d workers" % WORKERS_MAX)
    try:
        specs = [execnet.XSpec(text) for _ in range(int(number or 1))]
    except IndexError:
        raise refusal(word, "a part of it is empty") from None
    except (AttributeError, ValueError) as error:
        raise refusal(word, str(error)) from None
    for spec in specs:
        check(word, spec)
    return specs


def refusal(word, reason):
    clean = "".join(c if c.isprintable() else "?" for c in "--tx=%s: %s" % (word, reason))
    return pytest.UsageError("cloudplan: " + clean)


def check(word, spec):
    """What execnet would find out one by one, with workers running already."""
    kinds = [name for name in TYPES if getattr(spec, name, None)]
    if not kinds:
        raise refusal(word, "it names no way to a worker: popen, ssh=[USER@]HOST or socket=HOST:PORT")
    for name in kinds[:1] + ["id", "via", "installvia", "chdir", "python"]:
        if name != "popen" and getattr(spec, name, None) is True:
            raise refusal(word, "%s= has no value" % name)
    if spec.nice and not str(spec.nice).lstrip("+-").isdigit():
        raise refusal(word, "nice=%s is not a number" % spec.nice)
    if kinds[0] == "socket":
        host, colon, port = str(spec.socket).partition(":")
        if not spec.installvia and not (host and port.isdigit() and 0 < int(port) < 65536):
            raise refusal(word, "socket=HOST:PORT is needed, with a name or an IPv4 address")
        for name in "python", "via":
            if getattr(spec, name, None):
                raise refusal(word, "%s= does not go together with socket=" % name)


def check_all(tx, px, planned=True):
    """UsageError for the first --tx that cannot be started, before any worker runs.  planned=False: the planned workers,
    HOST_0 and so on, are not yet among them, but will be; all are the user's own."""
    ids = {part[3:] for word in px for part in word.split("//") if part.startswith("id=")}
    automatic = 0
    for word in tx:
        for spec in parse(word):
            if spec.node and not planned:
                raise refusal(word, "node= is for the workers that cloudplan plans: leave it out")
            if spec.id is None:
                spec.id = "gw%d" % automatic  # as execnet numbers them
                automatic += 1
            if spec.id in ids:
                raise refusal(word, "the id %s is used twice" % spec.id)
            for name in spec.via, spec.installvia:
                if name and name not in ids and (planned or not re.search(r"_\d+$", name)):
                    raise refusal(word, "no --tx before it has the id %s" % name)
            ids.add(spec.id)


# Preparing workers


def plugin_sources(pluginmanager):
    """(name, text) of the modules of the plugin pytest_cloudplan in the order in which they are to be made, where this pytest
    has it; else nothing."""
    if not pluginmanager.hasplugin("pytest_cloudplan"):
        return []
    try:
        return [(name, inspect.getsource(sys.modules[name])) for name in ("pytest_cloudplan.options", "pytest_cloudplan")]
    except (KeyError, OSError, TypeError):
        return []


def checked_answer(answer):
    """(names of missing modules, what execnet's Gateway._rinfo() would tell, whether it keeps its own locale, whether its time zone
    is ours) of what the worker's side has said."""
    if not isinstance(answer, (list, tuple)) or len(answer) != 4 or not isinstance(answer[0], list):
        raise StartError("its answer makes no sense")
    try:
        return [str(name) for name in answer[0]], interpreter_info(answer[1]), answer[2] is True, answer[3] is True
    except Nonsense as error:
        raise StartError("its answer makes no sense: %s" % error) from None


# Whether modules of the directory that pytest starts in can be imported here: not so with Python's -P, PYTHONSAFEPATH.
START_IN_PATH = any(path in ("", paths.START) for path in sys.path)
# Read once: inspect's cache of lines is not made for many threads.
WORKER_SOURCE = inspect.getsource(worker)


def prepare(gateway, plugin, coverage, handed=None):
    """Runs pytest_cloudplan/worker.py there; StartError where its Python is of no use.  handed: the environment.Environment that it was
    started with.  Returns whether it keeps its own locale."""
    spec = gateway.spec
    channel = gateway.remote_exec(WORKER_SOURCE)
    channel.send({"local": shares_directory(spec), "copy": copy_of(spec) if node_of(spec) else None,
                  "kept": sorted(spec.env) + (sorted(handed.given) if handed else []),
                  "plugin": plugin, "coverage": coverage, "files": FILES if spec.popen and not spec.via else None,
                  "start": START_IN_PATH if handed else None, "zone": handed.zone if handed else None})
    missing, info, own_locale, same_zone = checked_answer(channel.receive())
    channel.waitclose()
    if info:
        # xdist and pytest-cov ask for it later, when nobody watches how long the answer takes.
        gateway._cache_rinfo = RInfo(info)
    if missing:
        raise StartError("its Python (%s) has no module %s" % (python_of(spec), ", ".join(missing)))
    if not same_zone:
        raise StartError("TZ=%s is another time zone there: install tzdata, or use --cloud-env=!TZ" % handed.given["TZ"])
    return own_locale


# Starting them


class StartError(Exception):
    """One line: why a worker did not start.  is_final: nor would any of its kind."""

    def __init__(self, words, is_final=False):
        super().__init__(words)
        self.is_final = is_final


class Gateways:
    """Starts a group's gateways side by side, and hands them out when xdist comes to ask for each."""

    def __init__(self, group, say, plugin=(), coverage=lambda spec: None, handed=None):
        self.group = group
        self.say = say
        self.coverage = coverage  # what the worker of a spec is told of it
        self.planned = []  # the specs of all that were started at first
        self.plugin = list(plugin)  # what each worker is given of it: see plugin_sources()
        self.ready = {}  # spec.id: gateway
        self.latest = None  # the gateway that xdist had last
        self.prepared = set()  # ids
        self.connections = {}  # id(spec): execnet's IO, with the local process or the socket behind it
        self.stderr = Stderr()
        self.streams = Streams()
        self.group_makegateway = group.makegateway
        group.makegateway = self.makegateway
        recorded = [self.record_connections(name) for name in ("execnet.gateway_io", "execnet.gateway_socket")]
        self.handed = handed if recorded[0] else None  # the environment for planned nodes; None: their own, for want of a way
        self.own_locale = set()  # nodes that keep their locale, and were said to

    def record_connections(self, name):
        """Whether it can be done with this execnet."""
        try:
            module = importlib.import_module(name)
            create_io = module.create_io
        except (ImportError, AttributeError):
            return False

        def recording_create_io(spec, *args, **kwargs):
            if spec.ssh and "execmodel" in kwargs:
                kwargs["execmodel"] = self.stderr.execmodel(kwargs["execmodel"], spec)
            io = create_io(spec, *args, **kwargs)
            self.streams.add(io)
            self.connections[id(spec)] = io
            if self.handed and spec.cloudplan_starts:
                io.write(self.handed.block(spec))
            return io

        module.create_io = recording_create_io
        return True

    def popen(self, spec):
        return getattr(self.connections.get(id(spec)), "popen", None)

    def cut(self, spec):
        """Ends the worker's stream, which wakes the thread that reads it."""
        popen = self.popen(spec)
        if popen is not None:
            popen.kill()
        sock = getattr(self.connections.get(id(spec)), "sock", None)
        if sock is not None:
            try:
                sock.shutdown(2)
            except OSError:
                pass

    def prepare(self, gateway):
        handed = self.handed if gateway.spec.cloudplan_starts else None
        if prepare(gateway, self.plugin, self.coverage(gateway.spec), handed):
            self.own_locale.add(node_of(gateway.spec))

    def start(self, spec):
        """A gateway that has answered, or StartError."""
        if not spec.socket:
            return self.start_here(spec)
        # Nothing can wake a thread that waits for a connection: it is left alone, and undoes what comes of it.
        answer = queue.Queue()

        def work():
            try:
                answer.put((self.start_here(spec), None))
            except StartError as error:
                answer.put((None, error))

        threading.Thread(target=work, daemon=True).start()
        try:
            gateway, error = answer.get(timeout=START_SECONDS + 1)
        except queue.Empty:
            raise StartError("no answer within %d s" % START_SECONDS) from None
        if error:
            raise error
        return gateway

    def start_here(self, spec):
        overdue = threading.Event()

        def end():
            overdue.set()
            self.cut(spec)

        timer = threading.Timer(START_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            gateway = self.group_makegateway(spec)
            self.prepare(gateway)
            if overdue.is_set():
                raise StartError("too late")
            self.prepared.add(gateway.id)
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
            self.connections.pop(id(spec), None)

    def start_with_patience(self, spec):
        """As start(). Sessions beyond sshd's MaxSessions connect anew, all at once, and sshd closes some of
        so many unauthenticated connections (MaxStartups): while the host's master lives they are worth more tries."""
        for pause in RETRY_PAUSES:
            try:
                return self.start(spec)
            except StartError as error:
                if str(error) != UNREACHED or not node_of(spec) or self.is_lost(spec):
                    raise
            time.sleep(pause * (1 + random.random()))
        return self.start(spec)

    def reason(self, spec, error):
        if isinstance(error, StartError):
            return str(error)
        popen = self.popen(spec)
        try:
            status = popen.wait(5) if popen is not None and isinstance(error, (EOFError, OSError)) else None
        except subprocess.TimeoutExpired:
            status = None
        if spec.socket and type(error).__name__ == "HostNotFound":
            return re.sub(r"^\[Errno [^]]*\] ", "", str(error.__cause__ or error))
        if spec.socket and isinstance(error, OSError) and error.strerror:
            return error.strerror
        if spec.socket and isinstance(error, EOFError):
            return "the server closed the connection"
        if type(error).__name__ == "HostNotFound" or (spec.ssh and status == 255):
            return UNREACHED
        if status == starter.STATUS_TOO_LARGE and spec.cloudplan_starts:
            return environment.TOO_LARGE
        if status:
            return "its Python (%s) ended with status %d" % (python_of(spec), status)
        # The far side's traceback ends with the exception itself.
        lines = str(error).strip().splitlines()
        return lines[-1] if lines else type(error).__name__

    def start_all(self, specs):
        """Starts all; returns [(spec, reason)] of those that failed, in the order of specs."""
        todo, done, failures = queue.Queue(), queue.Queue(), {}
        for spec in specs:
            if self.handed:
                hand_on(spec)
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
        # Where a master is gone its guard is, too: ssh has connected anew, and what runs there would outlive the run.
        nodes = {node_of(spec): spec for spec in specs if spec.id in self.ready and node_of(spec)}
        with ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            lost = {node for node, is_lost in zip(nodes, pool.map(self.is_lost, nodes.values())) if is_lost}
        for spec in specs:
            if node_of(spec) in lost and spec.id in self.ready:
                self.ready.pop(spec.id).exit()
                failures[id(spec)] = CONNECTION_LOST
        if self.own_locale:
            self.say(self.handed.locale_note(sorted(self.own_locale)))
        return [(spec, failures[id(spec)]) for spec in specs if id(spec) in failures]

    def prepare_late(self, gateway):
        """For those that xdist has made by itself.  What goes wrong here goes wrong again in xdist's own code,
        which knows what to do."""
        if gateway.id in self.prepared:
            return
        self.prepared.add(gateway.id)
        try:
            self.prepare(gateway)
        except Exception as error:
            self.say("%s: %s" % (gateway.id, self.reason(gateway.spec, error)))

    @staticmethod
    def is_lost(spec):
        """Whether the control master that cloudplan keeps for the node is gone. Without one ssh would connect
        anew, and wait for a host that may be dead."""
        if not node_of(spec) or not spec.ssh_config:
            return False
        check = ["ssh", "-F", str(spec.ssh_config), "-O", "check"] + spec.ssh.split()
        try:
            return subprocess.run(check, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=5).returncode != 0
        except (OSError, subprocess.TimeoutExpired):
            return True

    def makegateway(self, spec=None):
        """In the place of Group.makegateway(): what was started beforehand, or xdist's replacement of a worker that died;
        StartError where its host died with it."""
        if spec is None or not startable(spec):
            self.latest = self.group_makegateway(spec)
        elif spec.id in self.ready:
            self.latest = self.ready.pop(spec.id)
        else:
            self.latest = self.replacement(spec)
        return self.latest

    def replacement(self, spec):
        if self.is_lost(spec):
            raise StartError(CONNECTION_LOST)
        gateway = self.start_with_patience(spec)
        if self.is_lost(spec):
            gateway.exit()
            raise StartError(CONNECTION_LOST)
        return gateway

    def room_beside(self, running, but):
        """Specs of further workers, the most room first, on nodes on which fewer run than were planned, but for that of the
        spec `but`. running: the specs of those that do. A socket server has room for one only."""
        taken = Counter(map(place, running))
        planned = Counter(map(place, self.planned))
        patterns = {place(spec): spec for spec in self.planned if startable(spec) and not spec.socket}
        for name in sorted(patterns, key=lambda name: taken[name] - planned[name]):
            if name == place(but) or taken[name] >= planned[name] or self.is_lost(patterns[name]):
                continue
            # Those that have ended keep their Python, and its memory, until they are told.
            for gateway in list(self.group):
                if place(gateway.spec) == name and not any(gateway.spec is spec for spec in running):
                    gateway.exit()
            yield copy.copy(patterns[name])
