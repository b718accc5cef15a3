"""Whether a worker has imported the code that was copied to it.

A worker on a node tells after collection which files its top-level modules come from, and along which path it looks
(pytest_cloudplan/worker.py), both relative to its copy where they lie in it.  What this machine would have imported is

* what this process has imported already: pytest's plugins and the initial conftest.py files;
* else what is found along the path that a worker here would have: its own, without what belongs to its node, and with this process's
  path in the place of that.  That is a search, not an import: only the finders of editable installs are asked beside it.

A name is compared where that is inside the root and in no virtualenv there.  Modules that a path does not explain are no difference:
which of two modules of one name was imported first depends on when pytest put their directories into the path, here as there.  So
a worker that has another module of the copy differs only where ours lies in a directory that its path does not have.  Those of the standard
library were mostly imported before there was a path to the project: they differ only from what this process has imported.
"""
import os
import sys
import threading
from importlib.machinery import PathFinder

from pytest_cloudplan import paths

SKIPPED = ("__main__", "__mp_main__", "conftest")
REPORTS_MAX = 100  # different ones that are remembered
ENTRIES_MAX = 1000  # of a directory, where code is looked for


def told(path):
    """As a worker would tell it: what is no UTF-8 cannot be sent."""
    return os.fsencode(path).decode("utf-8", "replace")


def stem(place):
    """A module without its suffix: that of an extension module is its Python's."""
    folder, name = os.path.split(place)
    return os.path.join(folder, name.split(".")[0])


def shown(place):
    """A package is its directory."""
    folder, name = os.path.split(place)
    return folder if folder and name.startswith("__init__.") else place


def is_environment(folder):
    return (os.path.isfile(os.path.join(folder, "pyvenv.cfg")) or os.path.isdir(os.path.join(folder, "conda-meta"))
            or folder in (os.path.realpath(sys.prefix), sys.prefix))


def in_environment(place, known={}):
    """Whether a place relative to the root lies in a virtualenv.  Where the root is one itself, that is what it has installed."""
    folder = os.path.dirname(place)
    if folder not in known:
        if folder:
            known[folder] = is_environment(os.path.join(paths.ROOT, folder)) or in_environment(folder)
        else:
            known[folder] = False
    return known[folder] or "site-packages" in place.split(os.sep) and is_environment(paths.ROOT)


def places(path):
    """The names that a path here has relative to the root: as it is and physical, as far as they lie inside and in no virtualenv."""
    found = []
    for name in path, os.path.realpath(path):
        place = paths.inside(name)
        if place is not None and not in_environment(place):
            found.append(told(place))
    return found


def is_editable(finder):
    """Of setuptools, hatchling, meson-python and scikit-build-core: each installs a module of its own for that."""
    module = getattr(finder, "__module__", None)
    return isinstance(module, str) and "editable" in module


def own_path():
    return list(dict.fromkeys(entry or os.getcwd() for entry in sys.path if isinstance(entry, str)))


class Here:
    """Where this machine has a name: file, or the portions of a namespace package."""

    def __init__(self, file=None, portions=(), imported=False):
        self.imported = imported  # by this process
        self.is_namespace = file is None
        self.file = file
        self.portions = list(dict.fromkeys(path for path in portions if isinstance(path, str) and os.path.isabs(path)))
        self.names = []  # of each file or portion: places()
        for path in [file] if file else self.portions:
            self.names.append(places(path))

    @property
    def place(self):
        """The first that is inside the root, or None."""
        return next((names[0] for names in self.names if names), None)

    @property
    def entry(self):
        """The directory in the path that leads to it."""
        place = self.place
        name = os.path.basename(place)
        folder = os.path.dirname(place)
        return os.path.normpath(os.path.dirname(folder) if not self.is_namespace and name.startswith("__init__.") else folder or os.curdir)


def imported(name):
    module = sys.modules.get(name)
    try:
        file = vars(module).get("__file__")
    except TypeError:
        return None
    # The portions of a namespace package are those of the path at hand, and that is not a worker's.
    return Here(file, imported=True) if isinstance(file, str) and os.path.isabs(file) else None


def find(name, path):
    """Along a path, without an import."""
    for finder in list(sys.meta_path):
        try:
            if finder is PathFinder:
                spec = PathFinder.find_spec(name, path)
            elif is_editable(finder):
                spec = finder.find_spec(name, None)
            else:
                continue
        except Exception:
            continue  # an import of it would fail here
        if spec is None:
            continue
        if spec.has_location and spec.origin:
            return Here(os.path.abspath(spec.origin))
        return Here(portions=list(spec.submodule_search_locations or ()))
    return None


def has_code(folders):
    """Whether a directory that would be a namespace package has any module in it: most directories of a project are none."""
    def any_module(folder, deeper):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[:ENTRIES_MAX]
        except OSError:
            return False
        return any(entry.name.endswith((".py", ".so", ".pyd")) for entry in entries) or deeper and any(
            entry.is_dir() and any_module(entry.path, False) for entry in entries)

    return any(any_module(folder, True) for folder in folders)


class Report:
    """What a worker has told, checked by the gate.

    modules: ((name, whether it is a namespace package, whether it is the standard library's, ((as it is, physical), ...)), ...);
    path: its sys.path.  Places in the copy are relative, all others absolute."""

    def __init__(self, modules, path):
        inside = [os.path.normpath(entry) for entry in path if entry and not os.path.isabs(entry)]
        self.modules = modules
        self.entries = {entry for entry in inside if entry.split(os.sep)[0] != os.pardir}
        self.path = []
        ours = own_path()
        self.ours = {place for entry in ours for place in places(entry)}
        spliced = False
        for entry in path:
            place = os.path.normpath(entry) if entry and not os.path.isabs(entry) else None
            if place not in self.entries:
                if not spliced:
                    spliced = True
                    self.path += ours
            elif place not in self.ours:
                self.path.append(os.path.join(paths.ROOT, place))
        if not spliced:
            self.path += ours

    def difference(self):
        """One line for the first module that is another one, or None."""
        for name, is_namespace, is_standard, there in self.modules:
            if name in SKIPPED or not there:
                continue
            here = imported(name)
            if here is None:
                here = None if is_standard else find(name, self.path)
            if here is None or here.place is None:
                continue
            reason = self.namespace(here, there) if here.is_namespace and is_namespace else self.module(name, here, there)
            if reason:
                return "%s comes from %s there, from %s here" % (name, *reason)
        return None

    def module(self, name, here, there):
        names = {stem(place) for names in here.names for place in names}
        if any(stem(place) in names for place in there[0]):
            return None
        copied = any(not os.path.isabs(place) for place in there[0])
        if not here.imported:
            if here.is_namespace and not has_code(here.portions):
                return None
            if copied and here.entry in self.entries:
                return None
            if not copied and here.entry not in self.ours:
                installed = find(name, own_path())
                if installed and installed.place is None:
                    return None  # here, too, and pytest puts the other's directory into the path later
        return shown(there[0][0]), shown(here.place)

    @staticmethod
    def namespace(here, there):
        """What is inside must be there in the same order, and with nothing in front of it that is not in front of it here."""
        mine, theirs = [names or None for names in here.names], [[p for p in pair if not os.path.isabs(p)] or None for pair in there]
        first = [portions.index(next(filter(None, portions), None)) for portions in (mine, theirs)]
        both = [names for names in mine if names], [names for names in theirs if names]
        same = len(both[0]) == len(both[1]) and all(set(a) & set(b) for a, b in zip(*both))
        if same and bool(first[1]) <= bool(first[0]):
            return None
        return (os.pathsep.join(pair[0] for pair in there),
                os.pathsep.join(names[0] if names else path for names, path in zip(here.names, here.portions)))


class Origins:
    """The comparison for all workers; most tell the same."""

    def __init__(self):
        self.lock = threading.Lock()  # each worker has a thread that reads it
        self.known = {}  # (modules, path): the difference
        self.late = {}  # difference: ids of the workers that had imported it at their end

    def difference(self, modules, path):
        key = modules, path, tuple(sys.path)
        with self.lock:
            if key not in self.known:
                if len(self.known) >= REPORTS_MAX:
                    self.known.clear()
                self.known[key] = Report(modules, path).difference()
            return self.known[key]

    def at_end(self, worker, modules, path):
        difference = self.difference(modules, path)
        if difference:
            self.late.setdefault(difference, []).append(worker)

    def lines(self):
        for difference, workers in self.late.items():
            more = " and %d more" % (len(workers) - 1) if len(workers) > 1 else ""
            yield "%s%s: %s" % (workers[0], more, difference)
