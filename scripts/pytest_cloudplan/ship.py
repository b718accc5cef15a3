"""pytest for nodes that have none.

The pure-Python distributions of pytest, pytest-xdist and some plugins, with what these require, are copied to one directory,
and tried there in an interpreter that sees nothing else: what works so, works on a node.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
import zlib

from pytest_cloudplan.options import STATUS_TOOL, metadata_module

STATUS_DATA = 65


class Refused(Exception):
    """One line for the user, and cloudplan's exit status."""

    def __init__(self, text, status=STATUS_DATA):
        super().__init__(" ".join(text.split()))
        self.status = status


def requirement_name(requirement):
    return re.match(r"\s*([\w.-]*)", requirement, re.ASCII).group(1)


# In an interpreter that sees nothing but its standard library and the tree.
IMPORT_ALL = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        print("cloudplan-import " + json.dumps([name, getattr(error, "name", None), str(error)]))
        break
"""


class Shipment:
    """The pure-Python distributions of pytest, pytest-xdist and some plugins, with what these require, in a
    directory that works with any other interpreter."""

    BASE = ("pytest", "pytest-xdist", "execnet", "pluggy", "iniconfig", "packaging")

    def __init__(self, directory, plugins):
        self.directory = directory
        self.metadata = metadata_module()
        self.done = {}  # name: (distribution, for which option)
        self.absent = {}  # marker: names
        self.notes = []
        self.wanted = [("pytest", "--cloud-ship-pytest"), ("pytest-xdist", "--cloud-ship-pytest")]
        self.wanted += [(name, "--cloud-ship-plugin=" + name) for name in plugins]

    def assemble(self):
        """["pytest 7.2.1", ...]"""
        os.makedirs(self.directory, exist_ok=True)
        for name, option in self.wanted:
            if not self.add(name, option):
                raise Refused("%s: %s is not installed here: %s -m pip install %s" % (option, name, sys.executable, name),
                              STATUS_TOOL)
        for name in self.BASE:
            self.add(name, "--cloud-ship-pytest")
        # pytest's own py.py is a small part of py, which plugins such as pytest-forked use more of.
        if len(self.wanted) > 2:
            self.add("py", "--cloud-ship-pytest")
        self.complete()
        if self.absent:
            absent = ", ".join("%s (%s)" % (" and ".join(names), marker) for marker, names in self.absent.items())
            self.notes.append("--cloud-ship-pytest: not installed here, and so not shipped to nodes that need it: " + absent)
        return ["%s %s" % (dist.metadata["Name"], dist.version) for dist, _ in self.done.values()]

    def holds(self, module):
        path = os.path.join(self.directory, module)
        return os.path.isdir(path) or os.path.isfile(path + ".py")

    def add(self, name, option):
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in self.done:
            return True
        try:
            dist = self.metadata.distribution(name)
        except (self.metadata.PackageNotFoundError, ValueError):
            return False
        self.done[key] = dist, option
        self.copy(dist, option)
        for requirement in dist.requires or []:
            needed, _, marker = requirement.partition(";")
            if re.search(r"\bextra\b", marker):
                continue
            needed = requirement_name(needed)
            if not self.add(needed, option) and "python_version" in marker:
                self.absent.setdefault(marker.strip(), []).append(needed)
        return True

    def copy(self, dist, option):
        files = _files(dist)
        for name in sorted(files):
            stem, extension = os.path.splitext(name)
            if extension in (".so", ".pyd", ".dylib"):
                stem = stem.partition(".")[0]
                # A compiled twin of a module that is there as Python, too.
                if stem + ".py" not in files and not stem.endswith("__mypyc"):
                    raise Refused("%s: %s is not pure Python (%s): install it on the nodes"
                                  % (option, dist.metadata["Name"], name), STATUS_TOOL)
                del files[name]
        for name, source in files.items():
            target = os.path.join(self.directory, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(source, target)  # with its time: rsync goes by that
        self.describe(dist, files)

    def describe(self, dist, files):
        """What pytest finds plugins by.  Written anew: what is there has one of three forms."""
        name = "%s-%s.dist-info" % (re.sub(r"[-_.]+", "_", dist.metadata["Name"]), dist.version)
        texts = {
            "METADATA": dist.read_text("METADATA") or dist.read_text("PKG-INFO"),
            "entry_points.txt": dist.read_text("entry_points.txt"),
            "RECORD": "".join('"%s",,\n' % file.replace('"', '""') for file in sorted(files)),
        }
        os.makedirs(os.path.join(self.directory, name), exist_ok=True)
        for file, text in texts.items():
            if text:
                path = os.path.join(self.directory, name, file)
                data = text.encode("utf-8", "surrogateescape")
                with open(path, "wb") as stream:
                    stream.write(data)
                stamp = zlib.crc32(data) >> 2  # a time that only another text changes
                os.utime(path, (stamp, stamp))

    def complete(self):
        """Adds what is imported though not required on paper; Debian's packages leave such names out."""
        while True:
            failure = self.failed_import()
            if not failure:
                return
            module, missing, text = failure
            option = self.option_of(module)
            missing = (missing or "").partition(".")[0]
            owners = getattr(self.metadata, "packages_distributions", dict)().get(missing) or [missing]
            before = len(self.done)
            if not missing or not self.add(owners[0], option) or len(self.done) == before:
                raise Refused("%s: %s cannot be imported from a copy: %s" % (option, module, text), STATUS_TOOL)

    def plugin_modules(self):
        return {
            entry.value.partition(":")[0].strip(): option
            for dist, option in self.done.values()
            for entry in dist.entry_points
            if entry.group == "pytest11"
        }

    def option_of(self, module):
        return self.plugin_modules().get(module, "--cloud-ship-pytest")

    def failed_import(self):
        """[module, the module that it misses or None, why] of the first one that does not work, or None."""
        words = [sys.executable, "-I", "-S", "-B", "-c", IMPORT_ALL, self.directory, "pytest", "xdist.remote"]
        try:
            done = subprocess.run(words + list(self.plugin_modules()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=50, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Refused("--cloud-ship-pytest: %s" % error, STATUS_TOOL) from None
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        for line in lines:
            if line.startswith("cloudplan-import "):
                return json.loads(line.partition(" ")[2])
        if done.returncode:
            return ["pytest", None, lines[-1] if lines else "exit status %d" % done.returncode]
        return None


def _shippable(parts):
    return (
        ".." not in parts
        and "__pycache__" not in parts
        and not parts[0].endswith((".dist-info", ".egg-info", ".data", ".pth"))
        and not parts[0].startswith(("/", "__editable__"))
        and not parts[-1].endswith((".pyc", ".pyo"))
    )


def _files(dist):
    """{name in the tree: path here} of a distribution's modules."""
    files = {}
    if dist.read_text("RECORD"):
        for file in dist.files or []:
            path = os.fspath(dist.locate_file(file))
            if _shippable(file.parts) and os.path.isfile(path):
                files["/".join(file.parts)] = path
    if any(name.endswith(".py") for name in files):
        return files
    # Debian's, or an editable installation.
    for name in (dist.read_text("top_level.txt") or dist.metadata["Name"].replace("-", "_")).split():
        spec = _find(name)
        for directory in spec and spec.submodule_search_locations or []:
            for parent, _, names in os.walk(directory):
                for file in names:
                    path = os.path.join(parent, file)
                    inside = os.path.join(name, os.path.relpath(path, directory))
                    if _shippable(inside.split(os.sep)):
                        files[inside] = path
        if spec and not spec.submodule_search_locations and spec.origin and os.path.isfile(spec.origin):
            files[os.path.basename(spec.origin)] = spec.origin
    return files


def _find(name):
    import importlib.machinery
    import importlib.util

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.util.find_spec(name)
        except (ImportError, ValueError):  # a module that has put something else in its place, as py does
            return importlib.machinery.PathFinder.find_spec(name)
