"""pytest-cov over nodes: everything that the workers measure arrives, under the names that the files have here.

pytest-cov knows of workers on other hosts, but

* such a worker combines all data files of its directory that go by its own file's name, its neighbours' too:
  each gets a name of its own (the worker's side is in pytest_cloudplan/worker.py);
* a worker whose host name and directory are the controller's counts as one that shares its files, and its data
  stay where they are: machines made from one image have one name;
* the object that combines the data does not know where the nodes have the files;
* a configuration file outside of the project is read on every node: each worker gets a copy;
* for every worker that ends the controller warns that it collected no data itself;
* where everything is measured (--cov alone), this plugin is measured along, in a directory that will be gone;
* what a worker has measured is SQL, which coverage executes: here it is only read, and written anew, with what it says of
  files that are here too, in the project or among the modules of this Python, and of no other.

All but the first lean on names inside of pytest-cov: where they are absent it goes its own way.  Tried with
pytest-cov 4.0 and 5.0.
"""
import os
import re
import sys
import warnings
import zlib
from urllib.parse import quote

import pytest

from pytest_cloudplan.gateways import node_of, shares_directory
from pytest_cloudplan.paths import copy_of
from pytest_cloudplan.stream import line

DUMP_MAX = 512 << 20  # bytes of SQL
NUMBITS_MAX = 128 << 10  # bytes: a bit for each line of a file
LINE_MAX = 1 << 30
CONTEXT_MAX = 64 << 10
ID = r"(\d{1,18})"
STRING = r"'([^']*(?:''[^']*)*)'"
ROW = re.compile(
    r"INSERT INTO \"?(?:"
    r"file\"? VALUES\(%s,%s\)|"
    r"context\"? VALUES\(%s,%s\)|"
    r"line_bits\"? VALUES\(%s,%s,X'([0-9A-Fa-f]*)'\)|"
    r"arc\"? VALUES\(%s,%s,(-?\d{1,18}),(-?\d{1,18})\)|"
    r"tracer\"? VALUES\(%s,%s\)|"
    r"\w+\"? VALUES\((?:[^']|'[^']*')*?\)"  # of what we need not know
    r");\n" % (ID, STRING, ID, STRING, ID, ID, ID, ID, ID, STRING))
DATA_FILE = ".cloudplan-coverage-"
CONFIG_FILE = ".cloudplan-coveragerc-"


def file_part(worker):
    """A worker's id as a part of a file's name in which "." separates, and a pattern has no special characters."""
    return quote(worker, safe="").replace(".", ",")


class DataError(Exception):
    """Why what a worker has measured is of no use."""


class Measured:
    """The rows of CoverageData.dumps(), read without a database."""

    def __init__(self, dump):
        self.files, self.contexts, self.tracers = {}, {}, {}  # by id
        self.lines, self.arcs = [], []  # (id of the file, id of the context, ...)
        if type(dump) is not bytes or dump[:1] != b"z":
            raise DataError("its data are not coverage's")
        decoder = zlib.decompressobj()
        try:
            text = decoder.decompress(dump[1:], DUMP_MAX)
            if decoder.unconsumed_tail:
                raise DataError("it has measured more than %d MiB" % (DUMP_MAX >> 20))
            self.read(text.decode("utf-8"))
        except (zlib.error, UnicodeDecodeError):
            raise DataError("its data are not coverage's") from None

    def read(self, text):
        at = 0
        while True:
            match = ROW.match(text, at)
            if match is None:
                # A statement that makes a table. Rows follow each other without a gap: no value is taken for one.
                at = text.find("\nINSERT INTO ", max(0, at - 1)) + 1
                if not at:
                    return
                match = ROW.match(text, at)
                if match is None:
                    raise DataError("its data are not coverage's")
            self.take(match.groups())
            at = match.end()

    def take(self, row):
        file, path, context, name, line_file, line_context, bits, arc_file, arc_context, start, end, traced, tracer = row
        if file:
            self.files[int(file)] = path.replace("''", "'")
        elif context:
            self.contexts[int(context)] = name.replace("''", "'")
        elif line_file:
            if len(bits) > 2 * NUMBITS_MAX or len(bits) % 2:
                raise DataError("its data are not coverage's")
            self.lines.append((int(line_file), int(line_context), bytes.fromhex(bits)))
        elif arc_file:
            if not max(abs(int(start)), abs(int(end))) < LINE_MAX:
                raise DataError("its data are not coverage's")
            self.arcs.append((int(arc_file), int(arc_context), (int(start), int(end))))
        elif traced:
            self.tracers[int(traced)] = tracer.replace("''", "'")

    def dumps(self, name_here, tracers, branches):
        """Made anew by coverage itself. name_here(path): the file's name, or None."""
        from coverage.data import CoverageData
        from coverage.numbits import numbits_to_nums

        if self.lines if branches else self.arcs:
            raise DataError("it has measured %s" % ("no branches" if branches else "branches"))
        names = {number: name_here(path) for number, path in self.files.items()
                 if self.tracers.get(number, "") in ("", *tracers)}
        found = {}  # context: {name: lines or arcs}
        for file, context, what in self.lines or self.arcs:
            name, of = names.get(file), self.contexts.get(context)
            if name and of is not None and len(of) <= CONTEXT_MAX:
                nums = numbits_to_nums(what) if self.lines else [what]
                found.setdefault(line(of), {}).setdefault(name, set()).update(nums)
        data = CoverageData(no_disk=True)
        files = sorted(set(filter(None, names.values())))
        if files:
            (data.add_arcs if branches else data.add_lines)({})
        for name in files:
            data.touch_file(name)  # also what was not executed
        for context, files in found.items():
            data.set_context(context)
            (data.add_lines if self.lines else data.add_arcs)(files)
        data.add_file_tracers({name: self.tracers[number] for number, name in names.items()
                               if name and self.tracers.get(number)})
        return data.dumps()


def is_below(path, directory):
    return path.startswith(directory.rstrip("/") + "/")


class Coverage:
    """What pytest-cov's own plugin needs beside it in the controller."""

    def __init__(self, config, roots, say):
        self.config = config
        self.roots = roots  # the project's, under all its names
        self.say = say
        self.own = {}  # path on a worker: what own_file() says
        self.modules = None  # directories of this Python's modules
        self.worker = None  # the spec of the one that xdist is about to set up
        self.places = []  # where the project is: here first, then on the nodes

    def controller(self):
        """pytest-cov's, or None where nothing is measured."""
        return getattr(self.config.pluginmanager.getplugin("_cov"), "cov_controller", None)

    def share_paths(self):
        """pytest-cov notes where each node has its files, but not for the object that combines their data."""
        controller = self.controller()
        noted, combining = (
            getattr(getattr(getattr(controller, name, None), "config", None), "paths", None)
            for name in ("cov", "combining_cov")
        )
        if isinstance(noted, dict) and isinstance(combining, dict) and "source" in noted:
            self.places = noted["source"]  # one list: it grows as nodes end
            combining["cloudplan"] = self.places

    def outside_config(self):
        """The configuration file where the nodes have no copy of it, or None."""
        path = getattr(self.config.option, "cov_config", None)
        if not path or not os.path.isfile(path):
            return None
        path = os.path.abspath(path)
        if any(os.path.commonpath([path, root]) == root for root in self.roots):
            return None
        return path

    def config_file(self, spec, path):
        # coverage reads .toml in a way of its own.
        return CONFIG_FILE + file_part(spec.id) + os.path.splitext(path)[1]

    def order(self, spec):
        """What the worker is told, or None."""
        if self.controller() is None or shares_directory(spec):
            return None
        order = {"data": DATA_FILE + file_part(spec.id), "config": None, "text": b""}
        path = self.outside_config()
        if path:
            with open(path, "rb") as file:
                order.update(config=self.config_file(spec, path), text=file.read())
        return order

    def args(self, words):
        """A worker's arguments: the last --cov-config counts, wherever the first stands."""
        path = self.outside_config()
        if self.controller() is None or self.worker is None or shares_directory(self.worker) or not path:
            return words
        end = words.index("--") if "--" in words else len(words)
        return words[:end] + ["--cov-config=" + self.config_file(self.worker, path)] + words[end:]

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_newgateway(self, gateway):
        self.worker = gateway.spec

    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_configure_node(self, node):
        # Where a planned worker's copy is has been found out, and is not the worker's to say.
        spec = node.gateway.spec
        if node_of(spec) and os.path.isabs(str(spec.chdir)) and copy_of(spec) not in self.places and self.controller():
            self.places.append(copy_of(spec))
        if "cov_master_host" in node.workerinput and not shares_directory(node.gateway.spec):
            node.workerinput["cov_master_host"] = None

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtestloop(self):
        yield
        # Before pytest-cov's own wrapper saves the data.
        collector = getattr(getattr(self.controller(), "cov", None), "_collector", None)
        measured = getattr(collector, "data", None)
        if isinstance(measured, dict):
            own = os.path.dirname(os.path.realpath(__file__))
            for name in [name for name in measured if os.path.dirname(os.path.realpath(name)) == own]:
                del measured[name]

    def own_file(self, path, directory):
        """Our own file, with its real name, for what a worker whose directory is a copy of ours calls so; None where we have
        none: it is in the project, or among this Python's modules."""
        key = path, directory
        if key not in self.own:
            self.own[key] = self.find_own(path, directory)
        return self.own[key]

    def find_own(self, path, directory):
        if not os.path.isabs(path) or "\0" in path or len(path) > 4096:
            return None
        root = os.path.realpath(self.roots[0])
        path = os.path.normpath(path)
        if directory and os.path.isabs(directory) and is_below(path, os.path.normpath(directory)):
            path = os.path.join(root, os.path.relpath(path, os.path.normpath(directory)))
        if self.modules is None:
            places = {os.path.realpath(place) for place in sys.path if place and os.path.isabs(place)}
            self.modules = [place for place in places if os.path.isdir(place) and place != "/"]
        real = os.path.realpath(path)
        inside = any(is_below(real, place) for place in [root] + self.modules)
        return real if inside and os.path.isfile(real) else None

    def name_here(self, path, there):
        if os.path.isabs(path):
            return self.own_file(path, there)
        # With coverage's relative_files.
        path = os.path.normpath(path)
        return path if self.own_file(os.path.join(there, path), there) else None

    def take_measured(self, node):
        """pytest-cov finds data that it may execute, and directories in which it may look for files, or nothing."""
        output = getattr(node, "workeroutput", {})
        if "cov_worker_data" not in output:
            return
        data, there = output.pop("cov_worker_data"), output.pop("cov_worker_path", None)
        controller = self.controller()
        if controller is None:
            return
        tracers = getattr(getattr(getattr(controller, "cov", None), "_plugins", None), "names", ())
        try:
            if type(there) is not str or not os.path.isabs(there):
                raise DataError("its directory has no name")
            output["cov_worker_data"] = Measured(data).dumps(
                lambda path: self.name_here(path, there), tracers, bool(controller.cov.config.branch))
        except Exception as error:  # also of coverage, which may have rules of its own
            output.pop("cov_worker_node_id", None)
            self.say("%s: its coverage is left out: %s" % (node.gateway.id, error))
            return
        # The names are ours already.
        output["cov_worker_path"] = controller.topdir

    @pytest.hookimpl(hookwrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self, node):
        self.take_measured(node)
        category = getattr(sys.modules.get("coverage.exceptions"), "CoverageWarning", None)
        if category is None:
            yield
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category)
            yield
