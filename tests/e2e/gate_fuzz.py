"""A plugin for the controller: mutated messages of a worker, through the gate and into pytest-xdist and all plugins here.

One worker is real, and its run is an ordinary one.  Before its first event is handled, workers that have no process tell
mutated messages: each event GATE_FUZZ times, from the seed GATE_SEED.  All strings that a mutation brings have MARK in
them, and an audit hook looks for that in what is imported, opened, executed, connected to.  What it finds, and how many
messages passed, is written to GATE_REPORT.
"""
import copy
import json
import os
import queue
import random
import sys
import time
import types
import zlib

import execnet
import pytest
import xdist.scheduler
import xdist.workermanage

MARK = "3v1l"
SEED = int(os.environ["GATE_SEED"])
COUNT = int(os.environ["GATE_FUZZ"])
AUDITED = ("import", "open", "exec", "compile", "sqlite3.connect", "sqlite3.load_extension", "os.", "subprocess.", "shutil.",
           "ctypes.", "socket.", "pickle.", "marshal.", "glob.", "tempfile.", "urllib.")
HARMLESS = ("os.listdir",)

IDS = ["tests/test_x.py::test_%d" % n for n in range(4)]
INFO = dict(version="3.11.2", version_info=(3, 11, 2, "final", 0), sysplatform="linux", platform="Linux-6", executable="/usr/bin/python3",
            cwd="/home/ci/project")
PLACE = {"path": "tests/test_x.py", "lineno": 3, "message": "assert 0"}
ENTRY = {"type": "ReprEntry", "data": {"lines": ["    def test(): ", ">       assert 0", "E       assert 0"], "style": "long",
         "reprfuncargs": {"args": [("value", "1")]}, "reprlocals": {"lines": ["a = 1"]}, "reprfileloc": PLACE}}
NATIVE = {"type": "ReprEntryNative", "data": {"lines": ["Traceback\n", "KeyError: 1\n"], "style": "native"}}
TRACEBACK = {"reprentries": [ENTRY, NATIVE], "extraline": None, "style": "long"}
FAILURE = {"reprcrash": PLACE, "reprtraceback": TRACEBACK, "sections": [("s", "t", "-")],
           "chain": [(TRACEBACK, PLACE, None), (TRACEBACK, None, "The above exception was the direct cause")]}


def test_report(nodeid, **more):
    data = {"nodeid": nodeid, "location": ("tests/test_x.py", 1, "test"), "keywords": {"test": 1}, "outcome": "failed", "longrepr": FAILURE,
            "when": "call", "sections": [("Captured stdout call", "out\n")], "duration": 0.5, "user_properties": [("a", 1)],
            "$report_type": "TestReport", "item_index": IDS.index(nodeid), "worker_id": "evil", "testrun_uid": "u",
            "extra": [{"name": "shot", "format_type": "image", "content": "aGFsbG8=", "mime_type": "image/png", "extension": "png"},
                      {"name": "log", "format_type": "text", "content": "words", "mime_type": "text/plain", "extension": "txt"}]}
    data.update(more)
    return data


def sub_report(nodeid):
    data = test_report(nodeid, _report_type="SubTestReport")
    del data["$report_type"]
    data["_subtest.context"] = {"msg": "sub", "kwargs": {"i": 1}}
    return data


def coverage_dump():
    from coverage.data import CoverageData

    data = CoverageData(no_disk=True)
    data.add_lines({"/home/ci/project/tests/test_x.py": [1, 2, 3]})
    return data.dumps()


def examples():
    warning = dict(message_str="mind", message_module="builtins", message_class_name="UserWarning", message_args=("mind",),
                   category_module="builtins", category_class_name="UserWarning", filename="tests/test_x.py", lineno=1, line=None,
                   file=None, source=None)
    output = {"exitstatus": 0, "shouldfail": False, "shouldstop": False, "metadata": {"Python": "3.11", "Packages": {"pytest": "7"}},
              "cov_worker_node_id": "evil", "cov_worker_path": "/home/ci/project", "cov_worker_data": coverage_dump()}
    ready = ("workerready", {"workerinfo": INFO})
    collected = ("collectionfinish", {"topdir": "/home/ci/project", "ids": IDS})
    start = ("logstart", {"nodeid": IDS[0], "location": ("tests/test_x.py", 1, "test")})
    before = [ready, collected]
    return {
        "collectionstart": ([ready], ("collectionstart", {})),
        "workerready": ([], ready),
        "collectreport": ([ready], ("collectreport", {"data": {
            "nodeid": "tests/test_y.py", "outcome": "failed", "longrepr": "ImportError", "result": None, "sections": [],
            "$report_type": "CollectReport"}})),
        "collectionfinish": ([ready], collected),
        "logstart": (before, start),
        "logfinish": (before + [start], ("logfinish", start[1])),
        "testreport": (before, ("testreport", {"data": test_report(IDS[0])})),
        "subtests": (before, ("testreport", {"data": sub_report(IDS[0])})),
        "skipped": (before, ("testreport", {"data": test_report(IDS[0], outcome="skipped", longrepr=("tests/test_x.py", 3, "Skipped: no"))})),
        "runtest_protocol_complete": (before, ("runtest_protocol_complete", {"item_index": 0, "duration": 0.5})),
        "unscheduled": (before, ("unscheduled", {"indices": [3]})),
        "warning_recorded": ([ready], ("warning_recorded", {"warning_message_data": warning, "when": "runtest", "nodeid": IDS[0],
                                                            "location": None})),
        "internal_error": ([ready], ("internal_error", {"formatted_error": "KeyError: 1"})),
        "workerfinished": ([ready], ("workerfinished", {"workeroutput": output})),
        "exited": (before, ("workerfinished", {"workeroutput": dict(output, cloudplan_exit={"words": "enough", "status": 0})})),
    }


class Mutator:
    def __init__(self, rng, names):
        self.rng = rng
        self.names = names

    def string(self):
        rng = self.rng
        return rng.choice(["/tmp/%s", "../../%s", "%s", "\x1b]0;%s\x07", "%s\0", "%s\n" * 3, "a" * 400 + "/tmp/%s", "os.%s", "\\x%s",
                           "file:///%s", "ATTACH '/tmp/%s' AS x;", "%s::a::b", "__%s__", "\u202e%s", "{%s}", "%(%s)s"]).replace("%s", MARK)

    def value(self):
        rng = self.rng
        return rng.choice([
            self.string, self.string, self.string, lambda: None, lambda: True, lambda: -1, lambda: 10 ** 30, lambda: float("nan"),
            lambda: float("inf"), lambda: 1e300, lambda: -1e308, lambda: b"z" + self.string().encode(), lambda: [], lambda: {}, lambda: (),
            lambda: [self.string()], lambda: {self.string(): self.string()}, lambda: (self.string(),) * 3, lambda: {1, 2},
            lambda: [[]] * 50, lambda: self.nested(rng.choice([20, 150, 5000])), lambda: 0, lambda: 2, lambda: 3, lambda: "spared",
            lambda: "passed", lambda: "rerun", lambda: "skipped", lambda: [None], lambda: {None: None}, lambda: 1 + 2j, lambda: "",
            lambda: "os", lambda: "system", lambda: "ctypes", lambda: "__init__", lambda: "teardown"])()

    @staticmethod
    def nested(depth):
        value = []
        for _ in range(depth):
            value = [value]
        return value

    def mutate(self, value, depth=0):
        """A copy with a change somewhere in it."""
        rng = self.rng
        if type(value) is dict and value and rng.random() < 0.93 - 0.05 * depth:
            value = dict(value)
            what = rng.random()
            key = rng.choice(list(value))
            if what < 0.08:
                del value[key]
            elif what < 0.2:
                value[rng.choice(self.names + [self.string()])] = self.value()
            elif what < 0.23:
                value[self.string()] = value.pop(key)
            else:
                value[key] = self.mutate(value[key], depth + 1)
            return value
        if type(value) in (list, tuple) and value and rng.random() < 0.9 - 0.05 * depth:
            items = list(value)
            at = rng.randrange(len(items))
            what = rng.random()
            if what < 0.1:
                del items[at]
            elif what < 0.2:
                items.insert(at, self.value())
            elif what < 0.25:
                return items if type(value) is tuple else tuple(items)
            else:
                items[at] = self.mutate(items[at], depth + 1)
            return type(value)(items)
        if type(value) is bytes and rng.random() < 0.8:
            return self.dump(value)
        return self.value()

    def dump(self, value):
        try:
            text = zlib.decompress(value[1:]).decode()
        except zlib.error:  # a value of ours
            return self.value()
        rows = text.splitlines(True)
        at = self.rng.randrange(len(rows) + 1)
        rows.insert(at, self.rng.choice([
            "ATTACH DATABASE '/tmp/%s' AS x;\n", "INSERT INTO \"file\" VALUES(9,'/tmp/%s');\n", "SELECT load_extension('/tmp/%s');\n",
            "INSERT INTO \"tracer\" VALUES(1,'%s');\n", "INSERT INTO \"context\" VALUES(1,'%s');\n", "PRAGMA %s;\n", "');\n%s",
            "CREATE TRIGGER %s AFTER INSERT ON file BEGIN DELETE FROM file; END;\n",
            "INSERT INTO \"line_bits\" VALUES(1,1,X'FF');\n--%s\n", "INSERT INTO \"arc\" VALUES(1,1,-1,1);\n--%s\n"]).replace("%s", MARK))
        return b"z" + zlib.compress("".join(rows).encode())

    def message(self, message):
        rng = self.rng
        what = rng.random()
        name, fields = message
        if what < 0.03:
            return rng.choice([self.value(), (name,), (name, fields, 1), [name, fields], -1, None])
        if what < 0.06:
            return rng.choice(self.names + [self.string()]), fields
        fields = self.mutate(fields)
        while rng.random() < 0.3:
            fields = self.mutate(fields)
        return name, fields


def names():
    """Keys and attributes that mean something to somebody."""
    found = set()

    def walk(value):
        if isinstance(value, dict):
            found.update(key for key in value if isinstance(key, str))
            for item in value.values():
                walk(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                walk(item)

    for before, message in examples().values():
        walk(message[1])
    return sorted(found | set(examples()) | set(dir(pytest.TestReport)) | {
        "node", "self", "duration_formatter", "rerun", "extras", "wasxfail", "full_text", "teardownreport", "logwarning", "errordown",
        "item", "code", "warning_captured", "context", "scenario", "id", "spec"})


class Fuzz:
    def __init__(self, config):
        self.config = config
        self.report = {"seed": SEED, "found": [], "passed": {}, "seconds": {}}
        self.message = None  # the one at hand

    def audit(self, event, arguments):
        if self.message is None or not event.startswith(AUDITED) or event in HARMLESS:
            return
        if MARK in repr(arguments):
            self.report["found"].append([event, repr(arguments)[:300], repr(self.message)[:3000]])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self):
        session = self.config.pluginmanager.getplugin("dsession")
        gates = self.config.pluginmanager.getplugin("cloudplan-gates")
        assert gates, "no gate"
        sys.addaudithook(self.audit)
        kept = dict(vars(session))
        rng = random.Random(SEED)
        mutator = Mutator(rng, names())
        real = next(iter(session._active_nodes))
        node = self.make_node(session, real)
        blank = dict(vars(node))
        for event, (before, message) in examples().items():
            passed, began = 0, time.monotonic()
            for _ in range(COUNT):
                passed += self.one(session, gates, node, blank, before, mutator.message(message), real)
            self.report["passed"][event], self.report["seconds"][event] = passed, round(time.monotonic() - began, 1)
        vars(session).update(kept)
        self.message = None
        self.write()

    def make_node(self, session, real):
        spec = execnet.XSpec("popen//id=evil//chdir=/home/ci/project")
        gateway = types.SimpleNamespace(id="evil", spec=spec, _io=None, exit=lambda: None, _rinfo=lambda: None)
        gateway._rinfo = lambda: types.SimpleNamespace(platform="linux", version_info=(3, 11, 2, "final", 0))
        node = xdist.workermanage.WorkerController(session.nodemanager, gateway, self.config, None)
        node.channel = types.SimpleNamespace(send=lambda item: None, close=lambda: None, _getremoteerror=lambda: None)
        self.config.pluginmanager.getplugin("cloudplan-results").add("evil", "evil")
        return node

    def one(self, session, gates, node, blank, before, message, real):
        """Whether the message passed."""
        events = queue.Queue()
        vars(node).clear()
        vars(node).update(blank, putevent=events.put)
        gates.gates.clear()
        gates.pytest_configure_node(node)
        gate = gates.gates[node]
        session.sched = xdist.scheduler.LoadScheduling(self.config, session.log)
        session.sched.numnodes = 1
        session._active_nodes = {real, node}
        session.shuttingdown = session.shouldstop = False
        session._session.shouldstop = session._session.shouldfail = False
        try:
            message = execnet.loads(execnet.dumps(message))
        except (execnet.DataFormatError, RecursionError):
            return False
        for told in before:
            node.process_from_remote(copy.deepcopy(told))
            self.handle(session, events, node)
        if hasattr(session, "worker_unscheduled"):
            node.sendcommand("steal", indices=[3])
        self.message = message
        node.process_from_remote(message)
        passed = not gate.closed
        self.handle(session, events, node)
        self.message = None
        return passed

    def handle(self, session, events, node):
        while not events.empty():
            name, fields = events.get()
            try:
                getattr(session, "worker_" + name)(**fields)
            except pytest.exit.Exception:
                pass  # its own scheduler has no other worker
            except KeyboardInterrupt:
                pass

    def write(self):
        with open(os.environ["GATE_REPORT"], "w") as file:
            json.dump(self.report, file)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Fuzz(config), "gate-fuzz")
