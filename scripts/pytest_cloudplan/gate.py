"""What a worker tells is checked here before pytest-xdist or any other plugin sees it.

A node that runs tests may say what it likes.  xdist believes it: it would import a module and call a name of it that a
worker's warning names, end the whole run for an event that it does not know or for a number that is out of range, and
count the same result twice.  Here each message of each worker is made anew out of what xdist uses of it: known events at
their time, numbers and node ids of tests that this worker has collected and was given, plain data.  A worker that sends
anything else is left out like one that is lost (Nonsense is the error with which it went down), and costs itself alone:

* a warning's class is one that is loaded already, found without an import and made without its constructor;
* a source line is shown from a file of ours, or not at all: what a worker names is not opened;
* ids, places and names are one line each, without control characters; longer texts may have colours;
* each phase of a test has one result in a run of it; a plugin's own outcomes (rerun) begin a run anew;
* an internal error of a worker's pytest is shown, and what was sent after it is not heard;
* where a plugin here fails over what a worker sent, that worker is left out, and the run goes on.

The events are those of pytest-xdist 2.5 to 3.8.  A field that xdist does not use is left away, not refused: a worker may
have another version.
"""
import base64
import binascii
import enum
import io
import json
import linecache
import math
import os
import re
import sys
import threading
import traceback
import types
import warnings
from collections import Counter

import pytest

from pytest_cloudplan.origins import Origins
from pytest_cloudplan.results import last_line, renamed, write_line
from pytest_cloudplan.stream import cut, line, text, trouble
from pytest_cloudplan.worker import MODULES_MAX, NAME_MAX, PORTIONS_MAX
from pytest_cloudplan.worker import PATH_MAX as ENTRIES_MAX

DEPTH_MAX = 100
WORD_MAX = 100  # of an attribute's name, an outcome, a phase
SECONDS_MAX = 1e9
PATH_MAX = 8192  # characters
SHOWN_MAX = 200  # lines of an internal error
OUTCOMES = ("passed", "failed", "skipped")
SCALARS = (type(None), bool, int, float, complex, bytes)

MODULE_DICT = vars(types.ModuleType)["__dict__"]  # also where a module makes an attribute of that name on demand


class Nonsense(Exception):
    """One line: what a worker has told that cannot be."""


class InternalError(Nonsense):
    """pytest itself failed on the worker."""

    def __init__(self, words):
        super().__init__("an internal error of its pytest: " + line(last_line(words)))
        self.words = words


class OtherCode(Nonsense):
    """It has imported another module than the one that was copied to it."""


class PluginError(Nonsense):
    """A plugin in this process could not do with what a worker had told."""


def short(value):
    value = line(value if isinstance(value, str) else repr(value))
    return value if len(value) <= 80 else value[:77] + "..."


def need(condition, reason):
    if not condition:
        raise Nonsense(reason)


# Data


def plain(value, depth=0):
    """The same value, if it is made of builtin types alone: a plugin gets its own data as it has sent them."""
    kind = type(value)
    if kind is str or kind in SCALARS:
        return value
    need(depth < DEPTH_MAX, "data within data, more than %d times" % DEPTH_MAX)
    if kind in (list, tuple, set, frozenset):
        return kind([plain(item, depth + 1) for item in value])
    need(kind is dict, "an object of type " + kind.__name__)
    return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}


def string(value):
    need(type(value) is str, "no text: " + short(value))
    return text(value)


def one_line(value):
    need(type(value) is str, "no text: " + short(value))
    return line(value)


def node_id(value):
    clean = one_line(value)
    if clean != value:
        renamed.add(clean)
    return clean


def word(value):
    value = one_line(value)
    need(len(value) <= WORD_MAX, "no word: " + short(value))
    return value


def simple_word(value):
    """An outcome, a phase: "???" is that of a test that took its process along (pytest-forked)."""
    need(type(value) is str and re.fullmatch(r"[A-Za-z0-9_.?-]{1,40}", value), "no word: " + short(value))
    return value


def whole(value):
    need(type(value) is int, "no number: " + short(value))
    return value


def seconds(value):
    need(type(value) in (int, float) and math.isfinite(value) and abs(value) <= 10 * SECONDS_MAX, "no time: " + short(value))
    return value


def or_none(check):
    return lambda value: None if value is None else check(value)


def list_of(check):
    def checked(value):
        need(type(value) in (list, tuple), "no list: " + short(value))
        return [check(item) for item in value]

    return checked


def tuple_of(*checks):
    def checked(value):
        need(type(value) in (list, tuple) and len(value) == len(checks), "not %d values: %s" % (len(checks), short(value)))
        return tuple(check(item) for check, item in zip(checks, value))

    return checked


def record(**checks):
    """A dictionary that has these keys. Others may be there: a newer pytest knows them."""
    def checked(value):
        need(type(value) is dict, "no record: " + short(value))
        for name in checks:
            need(name in value, "no %s in a record" % name)
        return {word(name): checks.get(name, plain)(item) for name, item in value.items()}

    return checked


# Reports


def scalar(value):
    need(type(value) in SCALARS or type(value) is str, "no name: " + short(value))
    return line(value) if type(value) is str else value


place = record(path=one_line, lineno=whole, message=string)
named_value = tuple_of(one_line, plain)
native_entry = record(lines=list_of(string))
full_entry = record(
    lines=list_of(string),
    reprfuncargs=or_none(record(args=list_of(named_value))),
    reprlocals=or_none(record(lines=list_of(string))),
    reprfileloc=or_none(place),
    style=word,
)
location = tuple_of(one_line, or_none(whole), one_line)


def entry(value):
    need(type(value) is dict and value.get("type") in ("ReprEntry", "ReprEntryNative"), "no entry of a traceback: " + short(value))
    check = full_entry if value["type"] == "ReprEntry" else native_entry
    return {"type": value["type"], "data": check(value.get("data"))}


repr_traceback = record(reprentries=list_of(entry), extraline=or_none(string), style=word)
failure = record(
    reprcrash=or_none(place),
    reprtraceback=repr_traceback,
    sections=list_of(tuple_of(one_line, string, one_line)),
    chain=or_none(list_of(tuple_of(repr_traceback, or_none(place), or_none(string)))),
)
skip = tuple_of(one_line, or_none(whole), string)


def long_repr(value):
    if type(value) is dict:
        return failure(value)
    return skip(value) if type(value) in (list, tuple) else or_none(string)(value)


def words_of(value):
    """A long representation that has been checked, as one text."""
    if isinstance(value, dict):
        return (value["reprcrash"] or {}).get("message", "")
    return value[2] if isinstance(value, tuple) else value or ""


def keywords(value):
    need(type(value) is dict, "no keywords: " + short(value))
    return {one_line(name): plain(item) for name, item in value.items()}


def attachment(value):
    """One of pytest-html's extras: it makes the name of a file out of the extension, and decodes pictures at the end."""
    value = record(format_type=or_none(word))(value)
    extension = value.get("extension")
    need(extension is None or type(extension) is str and re.fullmatch("[A-Za-z0-9]{0,16}", extension),
         "no extension of a file: " + short(extension))
    content, kind = value.get("content"), value["format_type"]
    for name in "name", "mime_type":
        or_none(string)(value.get(name))
    if kind in ("image", "video"):
        need(type(content) is str, "no picture: " + short(content))
        if not content.startswith(("file", "http")):
            try:
                base64.b64decode(content.encode("utf-8"))
            except binascii.Error:
                # A path on the node, say: plain text shows it, and nobody looks for it here.
                value.update(format_type="text", extension="txt", mime_type="text/plain")
    elif kind == "json":
        try:
            json.dumps(content)
        except (TypeError, ValueError):
            raise Nonsense("no JSON: " + short(content)) from None
    elif type(content) is bytes:
        value["content"] = text(content.decode("utf-8", "replace"))
    elif kind in ("text", "html", "url"):
        string(content)
    return value


def context(value):
    """pytest-subtests and pytest 9 show it in a heading."""
    value = record(msg=plain, kwargs=keywords)(value)
    if type(value["msg"]) is str:
        value["msg"] = line(value["msg"])
    value["kwargs"] = {name: line(item) if type(item) is str else item for name, item in value["kwargs"].items()}
    return value


ATTRIBUTES = {
    "nodeid": node_id,
    "location": location,
    "keywords": keywords,
    "outcome": simple_word,
    "longrepr": long_repr,
    "when": simple_word,
    "sections": list_of(tuple_of(one_line, string)),
    "duration": seconds,
    "start": seconds,
    "stop": seconds,
    "user_properties": list_of(tuple_of(scalar, plain)),
    "result": lambda value: None,
    "item_index": whole,
    # Of plugins that lean on it here.
    "wasxfail": string,
    "rerun": whole,
    "duration_formatter": string,
    "extra": list_of(attachment),
    "extras": list_of(attachment),
    "_subtest.context": context,
}
NEEDED = {
    "testreport": ("nodeid", "location", "keywords", "outcome", "longrepr", "when", "sections", "duration"),
    "collectreport": ("nodeid", "outcome", "longrepr", "sections"),
}
CLASSES = {"testreport": "TestReport", "collectreport": "CollectReport"}


def report_data(event, data):
    need(type(data) is dict, "no report: " + short(data))
    clean = {}
    for name, value in data.items():
        name = word(name)
        need(not name.startswith("__"), "an attribute %s of a report" % name)
        clean[name] = ATTRIBUTES.get(name, plain)(value)
    for name in NEEDED[event]:
        need(name in clean, "a report without " + name)
    need(clean.get("$report_type", CLASSES[event]) == CLASSES[event], "a report of another type")
    if clean["outcome"] == "skipped" and "wasxfail" not in clean and not isinstance(clean["longrepr"], tuple):
        # pytest takes it apart into three at the end.
        clean["longrepr"] = clean["nodeid"].split("::")[0], None, words_of(clean["longrepr"])
    elif clean["outcome"] == "failed" and clean["longrepr"] is None:
        clean["longrepr"] = ""
    return clean


def checked_report(report, event):
    """What plugins have made of the data is a report, and its attributes hide none of its methods."""
    from _pytest._io import TerminalWriter

    need(isinstance(report, getattr(pytest, CLASSES[event])), "a report of another type")
    for name in vars(report):
        known = getattr(type(report), name, None)
        need(not callable(known) and not isinstance(known, property), "an attribute %s of a report" % name)
    if hasattr(report.longrepr, "toterminal"):
        report.longrepr.toterminal(TerminalWriter(io.StringIO()))
    return report


# Warnings


class PlainWarning(Warning):
    """Stands for one whose class is not loaded here."""


def warning_class(module, name, made={}):
    """By its name, as the summary shows it; nothing is imported, and no module is asked for what it makes on demand."""
    loaded = sys.modules.get(module)
    found = MODULE_DICT.__get__(loaded).get(name) if isinstance(loaded, types.ModuleType) else None
    if isinstance(found, type) and issubclass(found, Warning):
        return found
    if not name.isidentifier() or not name.isascii() or len(name) > WORD_MAX or len(made) > 1000:
        return PlainWarning
    return made.setdefault(name, type(name, (PlainWarning,), {}))


def warning_object(cls, words):
    """No constructor is called, and no other conversion to a text than that of all exceptions."""
    if cls.__str__ is not Warning.__str__ or cls.__getattribute__ is not Warning.__getattribute__:
        return PlainWarning(words)
    return Warning.__new__(cls, words)


DETAILS = record(message_str=string, filename=one_line, lineno=whole)


def warning_message(data, own_file):
    """own_file(path): where we have the file that the worker means, or None."""
    data = DETAILS(data)
    names = [data.get(key) for key in ("message_module", "message_class_name", "category_module", "category_class_name")]
    need(all(type(name) is str or name is None for name in names), "no name of a warning")
    message, category = data["message_str"], None
    if names[0] and names[1]:
        message = warning_object(warning_class(names[0], names[1]), message)
    if names[2] and names[3]:
        category = warning_class(names[2], names[3])
    shown, path = data.get("line"), own_file(data["filename"])
    if shown is None:
        shown = linecache.getline(path, data["lineno"]) if path else ""
    source = data.get("source")
    known = {"filename": path or data["filename"], "lineno": data["lineno"], "line": string(shown),
             "source": source if type(source) is str else None}
    details = getattr(warnings.WarningMessage, "_WARNING_DETAILS", ())
    more = {name: known.get(name) for name in details if name not in ("message", "category")}
    return warnings.WarningMessage(message=message, category=category or UserWarning, **more)


# The worker's own words about itself


def version_info(value):
    need(type(value) in (list, tuple) and len(value) >= 5, "no version: " + short(value))
    return tuple(scalar(item) for item in value)


worker_info = record(version=one_line, version_info=version_info, sysplatform=one_line, platform=one_line,
                     executable=one_line, cwd=one_line)


def interpreter_info(data):
    """What execnet would ask the worker for when others want to know it."""
    return record(executable=or_none(one_line), version_info=version_info, platform=one_line, cwd=one_line, pid=whole)(data)


def worker_output(data, worker):
    output = record(exitstatus=whole)(data)
    need(0 <= output["exitstatus"] <= 255, "no exit status: %d" % output["exitstatus"])
    for name in "shouldfail", "shouldstop":  # unknown before pytest-xdist 3.6
        value = output.setdefault(name, False)
        need(type(value) in (bool, str), "no reason to stop: " + short(value))
        output[name] = line(value) if type(value) is str else value
    if "cov_worker_node_id" in output:
        output["cov_worker_node_id"] = worker  # becomes a part of a file's name
    if "metadata" in output:
        output["metadata"] = metadata(output["metadata"])
    if ORIGINS in output:
        output[ORIGINS] = origins(output[ORIGINS])
    if EXIT in output:
        output[EXIT] = test_exit(output[EXIT])
    return output


# In workeroutput, by pytest_cloudplan/worker.py: what a test there has given to pytest.exit().
EXIT = "cloudplan_exit"
test_exit = record(words=string, status=or_none(whole))


# Of pytest_cloudplan/worker.py, too: where its modules come from.
ORIGINS = "cloudplan_origins"


def name_of_module(value):
    need(type(value) is str and value.isidentifier() and len(value) <= NAME_MAX, "no name of a module: " + short(value))
    return value


def path_there(value):
    """It is compared, and never opened: pytest_cloudplan/origins.py looks in the root alone."""
    need(type(value) is str and len(value) <= PATH_MAX and "\0" not in value, "no path: " + short(value))
    return value


def truth(value):
    need(type(value) is bool, "no truth value: " + short(value))
    return value


def tuple_up_to(limit, check):
    def checked(value):
        need(type(value) in (list, tuple) and len(value) <= limit, "no list, or too long a one: " + short(value))
        return tuple(check(item) for item in value)

    return checked


module_there = tuple_of(name_of_module, truth, truth, tuple_up_to(PORTIONS_MAX, tuple_of(path_there, path_there)))


def origins(value):
    value = record(modules=plain, path=plain)(value)
    return tuple_up_to(MODULES_MAX, module_there)(value["modules"]), tuple_up_to(ENTRIES_MAX, path_there)(value["path"])


def metadata(value):
    """pytest-metadata's, which pytest-html sorts and writes as JSON at the end."""
    try:
        value = {one_line(name): item for name, item in plain(value).items()}
        json.dumps(value, sort_keys=True)
    except (AttributeError, TypeError, ValueError):
        raise Nonsense("metadata that is no JSON") from None
    return value


# One worker


class Gate:
    """Stands before WorkerController.process_from_remote(), in the thread that reads the worker's stream."""

    def __init__(self, node, own_file, code):
        self.node = node
        self.own_file = own_file
        self.code = code  # Origins
        self.ids = None  # what it has collected, as soon as it has told
        self.ready = False
        self.ended = False  # has told its end
        self.closed = False  # is not heard any more
        self.lock = threading.Lock()  # of the two that follow: tests are given in the main thread
        self.given = Counter()  # index: how often it was sent and is not finished
        self.given_ids = Counter()  # the same by node ids
        self.asked_back = None  # indices that it was asked to give back, until it answers
        self.phases = {}  # index: phases of the run at hand that have a result
        self.told = set()  # indices of which there was any report
        self.pass_on = node.process_from_remote
        self.sendcommand = node.sendcommand
        if hasattr(node, "ENDMARK"):
            node.ENDMARK = object()  # -1 is a number that a worker may send
        node.process_from_remote = self.receive
        node.sendcommand = self.send

    def send(self, name, **kwargs):
        """Before it is sent: the answer comes in another thread."""
        indices = kwargs.get("indices", ())
        if name == "runtests":
            self.give(indices)
        elif name == "runtests_all":
            self.give(range(len(self.ids or ())))
        elif name == "steal":
            self.asked_back = set(indices)
        self.sendcommand(name, **kwargs)

    def give(self, indices):
        with self.lock:
            self.given.update(indices)
            self.given_ids.update(self.ids[index] for index in indices)

    def take_back(self, index):
        with self.lock:
            self.given[index] -= 1
            self.given_ids[self.ids[index]] -= 1
        self.phases.pop(index, None)
        self.told.discard(index)

    def receive(self, message):
        if message is getattr(self.node, "ENDMARK", None) or isinstance(message, enum.Enum):
            self.end(message)
        elif not self.closed:
            try:
                self.check(message)
            except Nonsense as error:
                self.refuse(error)
            except Exception as error:  # of a plugin that could not make a report of it, of too little memory
                self.refuse(Nonsense("%s: %s" % (type(error).__name__, short(str(error)))))

    def end(self, marker):
        reason = trouble(self.node.gateway)
        if reason and not self.node._down:
            self.refuse(Nonsense(reason))
        self.pass_on(marker)

    def refuse(self, error):
        """In xdist's own words it is down.  Its connection ends: what it still sends would only be thrown away."""
        self.close()
        if not self.node._down:
            self.node._down = True
            self.node.notify_inproc("errordown", node=self.node, error=error)
        if not isinstance(error, InternalError):  # which ends by itself, after its fixtures
            cut(self.node.gateway._io)

    def close(self):
        self.closed = True

    def check(self, message):
        need(type(message) is tuple and len(message) == 2, "a message that is no event")
        name, kwargs = message
        need(type(name) is str and type(kwargs) is dict, "a message that is no event")
        handler = EVENTS.get(name)
        need(handler is not None, "an unknown event, " + short(name))
        if self.ended and name != "warning_recorded":
            return
        need(self.ready or name in EARLY, "%s before it was ready" % name)
        handler(self, kwargs)

    def tell(self, event, **kwargs):
        self.node.notify_inproc(event, **kwargs)

    # Events

    def collectionstart(self, kwargs):
        pass

    def workerready(self, kwargs):
        need(not self.ready, "that it is ready, twice")
        info = worker_info(kwargs.get("workerinfo"))
        self.ready = True
        self.tell("workerready", node=self.node, workerinfo=info)

    def collectreport(self, kwargs):
        need(self.ids is None, "more of its collection after the end of it")
        data = report_data("collectreport", kwargs.get("data"))
        need(data["outcome"] in ("failed", "skipped") and "when" not in data, "a report of what was collected")
        self.tell("collectreport", node=self.node, rep=self.report("collectreport", data))

    def collectionfinish(self, kwargs):
        ids = list_of(node_id)(kwargs.get("ids"))
        if self.ids is not None:
            need(ids == self.ids, "two different collections")
            return
        self.ids = ids
        self.tell("collectionfinish", node=self.node, ids=list(ids))

    def cloudplan_origins(self, kwargs):
        need(self.ids is None, "more of its collection after the end of it")
        modules, path = origins(kwargs)
        difference = self.code.difference(modules, path)
        if difference:
            raise OtherCode(line(difference))

    def test_given(self, index):
        need(type(index) is int and self.given.get(index, 0) > 0 and self.ids is not None and 0 <= index < len(self.ids),
             "a test that it was not given, number " + short(index))
        return self.ids[index]

    def begun_or_ended(self, event, kwargs):
        nodeid = one_line(kwargs.get("nodeid"))
        need(self.given_ids.get(nodeid, 0) > 0, "a test that it was not given, " + short(nodeid))
        self.tell(event, node=self.node, nodeid=nodeid, location=location(kwargs.get("location")))

    def logstart(self, kwargs):
        self.begun_or_ended("logstart", kwargs)

    def logfinish(self, kwargs):
        self.begun_or_ended("logfinish", kwargs)

    def testreport(self, kwargs):
        data = report_data("testreport", kwargs.get("data"))
        index = data.get("item_index")
        nodeid = self.test_given(index)
        need(data["nodeid"] == nodeid, "a result of a test that it was not given, " + short(data["nodeid"]))
        need(data["outcome"] != "spared", "an outcome that is no outcome")
        data["worker_id"] = self.node.gateway.id
        data["testrun_uid"] = self.node.workerinput.get("testrunuid")
        report = self.report("testreport", data)
        if type(report) is pytest.TestReport:
            self.note_phase(index, report)
        self.told.add(index)
        self.tell("testreport", node=self.node, rep=report)

    def note_phase(self, index, report):
        phases = self.phases.setdefault(index, set())
        if report.outcome not in OUTCOMES:  # pytest-rerunfailures: it begins again
            phases.clear()
            return
        need(report.when not in phases, "two results of %s (%s)" % (short(report.nodeid), report.when))
        phases.add(report.when)

    def report(self, event, data):
        node = self.node
        return checked_report(node.config.hook.pytest_report_from_serializable(config=node.config, data=data), event)

    def runtest_protocol_complete(self, kwargs):
        index, duration = kwargs.get("item_index"), seconds(kwargs.get("duration"))
        nodeid = self.test_given(index)
        need(index in self.told, "the end of a test without a result, " + short(nodeid))
        self.take_back(index)
        self.tell("runtest_protocol_complete", node=self.node, item_index=index, duration=duration)

    def unscheduled(self, kwargs):
        asked, self.asked_back = self.asked_back, None
        need(asked is not None, "tests that it was not asked to give back")
        indices = list_of(whole)(kwargs.get("indices"))
        need(set(indices) <= asked and len(set(indices)) == len(indices), "tests that it was not asked to give back")
        for index in indices:
            self.test_given(index)
            need(not self.phases.get(index), "to give back a test that it has run")
        for index in indices:
            self.take_back(index)
        self.tell("unscheduled", node=self.node, indices=indices)

    def warning_recorded(self, kwargs):
        message = warning_message(kwargs.get("warning_message_data"), self.own_file)
        self.tell("warning_recorded", warning_message=message, when=simple_word(kwargs.get("when")),
                  nodeid=one_line(kwargs.get("nodeid")), location=or_none(location)(kwargs.get("location")))

    def internal_error(self, kwargs):
        raise InternalError(string(kwargs.get("formatted_error")))

    def workerfinished(self, kwargs):
        output = worker_output(kwargs.get("workeroutput"), self.node.gateway.id)
        with self.lock:
            left = sum(self.given.values())
        stops = (output["shouldfail"] or output["shouldstop"] or EXIT in output
                 or output["exitstatus"] == pytest.ExitCode.INTERRUPTED)
        need(stops or not left, "its end, with status %d, before it had run all of its tests" % output["exitstatus"])
        self.ended = True
        self.node._down = True
        late = output.pop(ORIGINS, None)
        if late:
            self.code.at_end(self.node.gateway.id, *late)
        self.node.workeroutput = output
        self.tell("workerfinished", node=self.node)


NAMES = ("collectionstart", "workerready", "collectreport", "collectionfinish", "logstart", "logfinish", "testreport",
         "runtest_protocol_complete", "unscheduled", "warning_recorded", "internal_error", "workerfinished", ORIGINS)
EVENTS = {name: getattr(Gate, name) for name in NAMES}
EARLY = ("workerready", "warning_recorded", "internal_error")  # pytest's configuration may warn


# All workers


# A plugin's way to end the session, here as in a process that runs the tests itself; no fault of a worker's.
ENDS_THE_RUN = (pytest.Session.Failed, pytest.UsageError, pytest.exit.Exception)


class Gates:
    def __init__(self, config, results, own_file, say):
        self.config = config
        self.results = results
        self.own_file = own_file
        self.say = say
        self.code = Origins()
        self.gates = {}  # node: Gate
        self.shown = set()  # last lines of internal errors
        self.only_internal = None  # whether all that went down had one; None: nobody went down

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_configure_node(self, node):
        if hasattr(node, "process_from_remote"):
            self.gates[node] = Gate(node, lambda path: self.own_file(path, getattr(node, "workerinfo", {}).get("cwd")), self.code)

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_setupnodes(self):
        session = self.config.pluginmanager.getplugin("dsession")
        for name in NAMES:
            handler = getattr(session, "worker_" + name, None)
            if handler is not None:
                setattr(session, "worker_" + name, self.guarded(session, name, handler))
        html = getattr(self.config, "_html", None)
        if html is not None and getattr(html, "rerun", 0) is None:
            html.rerun = 0  # pytest-html 3 counts them only where pytest-rerunfailures is there; tests of lost workers are rerun, too

    def guarded(self, session, name, handler):
        def handle(**kwargs):
            try:
                handler(**kwargs)
            except ENDS_THE_RUN:
                raise
            except Exception as error:
                node = kwargs.get("node")
                words = self.words_of(name, error)
                if node not in getattr(session, "_active_nodes", ()):
                    self.say(words)
                    return
                gate = self.gates.get(node)
                if gate is not None:
                    gate.close()
                node._down = True
                cut(node.gateway._io)
                session.worker_errordown(node=node, error=PluginError(words))

        return handle

    @staticmethod
    def words_of(name, error):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "what it told (%s) broke a plugin: %s: %s (%s:%d)" % (
            name, type(error).__name__, short(str(error)), os.path.basename(frame.filename), frame.lineno)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self, node, error):
        if error:
            gate = self.gates.get(node)
            if gate is not None:
                gate.close()
            internal = isinstance(error, InternalError)
            self.only_internal = internal and self.only_internal is not False
            if internal:
                self.show(node, error)
        outcome = yield
        failed = outcome.excinfo and outcome.excinfo[1]
        if isinstance(failed, Exception) and not isinstance(failed, ENDS_THE_RUN):
            # Of a plugin that misses something in workeroutput, say.
            outcome.force_result([])
            self.say("%s: %s" % (node.gateway.id, self.words_of("its end", failed)))
            self.results.pytest_testnodedown(node, error)

    def show(self, node, error):
        key = last_line(error.words)
        if key in self.shown:
            return
        self.shown.add(key)
        for shown in error.words.splitlines()[-SHOWN_MAX:]:
            if not write_line(self.config, "[%s] INTERNALERROR> %s" % (node.gateway.id, shown)):
                print("[%s] INTERNALERROR> %s" % (node.gateway.id, shown), file=sys.stderr)

    def status(self, otherwise):
        """Of a run whose workers have all gone: pytest's own, where each of them had an internal error."""
        return pytest.ExitCode.INTERNAL_ERROR if self.only_internal else otherwise
