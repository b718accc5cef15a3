"""What pytest makes of its arguments and of the project's configuration, written down for cloudplan.

Asked in pytest's own process, when it has read the ini file and loaded the plugins: see __init__.py.  Values are
handed on as texts; cloudplan checks them, and names the file that they come from.
"""
import argparse
import difflib
import json
import os
import re
import shlex
import sys

import pytest

from pytest_cloudplan import environment, ship
from pytest_cloudplan.options import (DIST, ENV, FLAG, KINDS, LIST, OWN_MODULES, OWN_WORDS, RSYNC_OPTIONS, SHIP, TX,
                              ini_name, metadata_module, shown)
from pytest_cloudplan.ship import Refused, requirement_name

NODE_OPTIONS = {"cloud-node", "cloud-nodes", "cloud-nodes-from"}
PATH_OPTIONS = {"cloud-nodes-from", "cloud-virtualenv-path", "cloud-develop-egg"}
MAY_BE_EMPTY = {"cloud-rsync-cipher"}
STATUS_USAGE = 64
STATUS_SYSTEM = 71


def _plain(value):
    """A text whose bytes are the ones that were typed."""
    try:
        text = os.fsencode(value).decode("utf-8")
    except UnicodeError:
        raise Refused("%s: is not UTF-8: use another name" % ascii(os.fspath(value))) from None
    if "\0" in text:
        raise Refused("%s: holds a NUL character" % ascii(text))
    return text


def _near(path, directory):
    """A path as a reader in the directory would name it."""
    relative = os.path.relpath(path, directory)
    return path if relative.startswith(os.path.join("..", "..")) else relative


def _at_home(path):
    """A "~/x" or "~user/x" in a list of paths, before which pytest has put a directory: as a shell would have it, unless there is
    something of that name."""
    before, tilde, rest = path.partition(os.sep + "~")
    name = tilde[1:] + rest
    if not tilde or os.path.lexists(os.path.join(before, name.partition(os.sep)[0])):
        return path
    expanded = os.path.expanduser(name)
    return path if expanded.startswith("~") else expanded


class Answer:
    """Everything that cloudplan asks, of one pytest."""

    def __init__(self, config, parser, args):
        self.config = config
        self.parser = parser
        self.args = [str(word) for word in args]
        self.typed_words = [str(word) for word in config.invocation_params.args]
        self.root = str(config.invocation_params.dir)
        self.inifile = str(config.inipath) if config.inipath else None
        self.ini_place = _near(self.inifile, self.root) if self.inifile else ""
        self.ini_dir = os.path.dirname(self.inifile) if self.inifile else self.root
        self.option = self.parse(self.args)[0]
        self.notes = []
        self.conftest = ConftestLists(self)
        self.asks_conftests = self.conftest.unread

    def parse(self, words):
        """What pytest makes of words; dist is None where they do not say."""
        return self.parser.parse_known_and_unknown_args(words, namespace=argparse.Namespace(dist=None))

    def write(self, path):
        """At once: whoever reads it sees all of it or nothing.  Returns the exit status; where there is a reason for
        another one than 0, such as a full disk, it has been printed."""
        try:
            try:
                document = self.document()
            except Refused as refused:
                document = {"version": 1, "error": {"status": refused.status, "text": str(refused)}}
            with open(path + ".tmp", "w", encoding="ascii") as file:
                json.dump(document, file)
            os.replace(path + ".tmp", path)
        except OSError as error:
            print("ERROR: %s: %s" % (error.filename2 or error.filename or path, error.strerror), file=sys.stderr)
            return STATUS_SYSTEM
        return 0

    def document(self):
        self.look_for_slips()
        self.look_for_what_cannot_be()
        options = self.options()
        self.look_at_tx(options)
        self.look_at_environment(options)
        words = self.words()
        document = {
            "version": 1,
            "versions": {name: _version(name) for name in ("pytest", "xdist", "execnet")},
            "inifile": self.inifile and _plain(self.inifile),
            "rootdir": _plain(str(self.config.rootpath)),
            "options": [
                {"name": name, "value": None if value is None else _plain(value), "origin": _plain(origin)}
                for name, value, origin in options
            ],
            "args": [_plain(word) for word in words],
            "options_only": self.options_only(words),
            "dist": self.dist(),
            "here": self.runs_here(),
            "modules": self.modules(options),
        }
        named = SHIP["_PLUGINS"].split() or [value for name, value, _ in options if name == "cloud-ship-plugin"]
        if SHIP[""] and (SHIP["_FORCE"] or ("cloud-ship-pytest", None) in (option[:2] for option in options)):
            shipment = ship.Shipment(SHIP[""], named)
            document["ship"] = shipment.assemble()
            document["modules"] = [name for name in document["modules"] if not shipment.holds(name)]
            self.notes += shipment.notes
        document["notes"] = [_plain(note) for note in self.notes]
        return document

    # Values

    def options(self):
        """(name, value, origin) of all that is asked for."""
        typed = [(name, value, "") for name, value in getattr(self.option, "cloudplan_typed", None) or []]
        for name, _, _ in RSYNC_OPTIONS:
            typed += [(name, value, "") for value in getattr(self.option, name, None) or []]
        names = {name for name, _, _ in typed}
        if names & NODE_OPTIONS:
            names |= NODE_OPTIONS
        ini = [option for name in KINDS if name not in names or name == "cloud-env" for option in self.of_ini(name)]
        for name, ini_list, _ in RSYNC_OPTIONS:
            paths, place = self.ini(ini_list)
            for value, origin in [(path, place) for path in paths] + self.conftest.paths(ini_list):
                value = _at_home(value)
                value = self.rsync_pattern(value) if name == "rsyncignore" else value
                ini += [(name, value, origin)] if value else []
        tx = [] if getattr(self.option, "tx", None) else self.conftest.values("pytest_option_tx")
        return ini + typed + [("tx", value, origin) for value, origin in tx]

    def of_ini(self, name):
        key = ini_name(name)
        value, origin = self.ini(key)
        if KINDS[name] == LIST:
            values = map(_at_home, value) if name == "cloud-develop-egg" else self.split(key, value, origin)
            return [(name, self.place(name, word), origin) for word in values]
        if KINDS[name] == FLAG:
            return [(name, None, origin)] if self.truth(key, value, origin) else []
        value = value.strip() if isinstance(value, str) else value
        if value is False or (value == "" and name not in MAY_BE_EMPTY):
            return []
        if isinstance(value, (list, dict, bool)):
            raise Refused("%s: %s: needs one value" % (origin, key))
        return [(name, self.place(name, str(value)), origin)]

    def ini(self, key):
        """The ini file's value of a key, and where it comes from.  pytest refuses some that make sense, such as an
        integer where it would take a string, in TOML: these are taken as they stand in the file."""
        overridden = [word for word in getattr(self.option, "override_ini", None) or [] if word.split("=", 1)[0] == key]
        origin = "-o" if overridden else self.ini_place
        try:
            value = self.config.getini(key)
        except (AssertionError, TypeError, ValueError, pytest.UsageError):
            value = overridden[-1].partition("=")[2] if overridden else self.raw_ini(key)
            if key in ("cloud_develop_eggs", "rsyncdirs", "rsyncignore"):
                return [os.path.join(self.ini_dir, word) for word in self.split(key, value, origin)], origin
        if isinstance(value, list):
            value = [str(word) for word in value]
        return value, origin

    def raw_ini(self, key):
        value = self.ini_section().get(key, "")
        return getattr(value, "value", value)

    def ini_section(self):
        values = getattr(self.config, "_inicfg", None)  # pytest 9, where the other one warns
        return self.config.inicfg if values is None else values

    def look_for_slips(self):
        """pytest would complain of an unknown option only when all nodes have a copy, and of a name in the ini file never."""
        _, unknown = self.parse(self.args)
        for word in [word.partition("=")[0] for word in unknown if word.startswith("--cloud")]:
            for near in difflib.get_close_matches(word, OWN_WORDS, 1):
                raise Refused("%s: unknown option; is it %s?" % (word, near), STATUS_USAGE)
        keys = [ini_name(name) for name in KINDS]
        for key in [key for key in self.ini_section() if key.startswith("cloud_") and key not in keys]:
            for near in difflib.get_close_matches(key, keys, 1):
                self.notes.append("%s: %s: unknown; is it %s?" % (self.ini_place, key, near))

    @staticmethod
    def dist_of(option):
        return "load" if getattr(option, "distload", False) else option.dist

    def dist(self):
        """--dist=no counts where it was typed.  In addopts it is pytest-xdist's own default, over which nodes win that are
        named, as -n does."""
        dist = self.dist_of(self.option)
        return None if dist == "no" and self.dist_of(self.parse(self.typed_words)[0]) != "no" else dist

    def runs_here(self):
        """What pytest was asked for that takes no node, as its user would name it, or None."""
        typed = self.dist_of(self.parse(self.typed_words)[0]) or DIST
        return shown(self.option) or ("--dist=no" if typed == "no" else None)

    def look_for_what_cannot_be(self):
        """pytest would say so when all nodes have a copy, or not at all."""
        for name in OWN_MODULES + ("xdist",):
            if self.config.pluginmanager.is_blocked(name):
                needed = "pytest-xdist, which deals out the tests" if name == "xdist" else "its plugin"
                raise Refused("-p no:%s: cloudplan needs %s; leave this out" % (name, needed), STATUS_USAGE)
        if getattr(self.option, "looponfail", False):
            raise Refused("-f (--looponfail): runs tests on this machine alone, and never ends; cloudplan's is --watch",
                          STATUS_USAGE)
        for name, word in (("usepdb", "--pdb"), ("trace", "--trace")):
            if getattr(self.option, name, False) and not self.runs_here():
                raise Refused("%s: a test on a node cannot be debugged from here; leave it out, or add --dist=no, which runs all "
                              "tests here" % word, STATUS_USAGE)

    def look_at_tx(self, options):
        """execnet would complain only when all nodes have a copy."""
        try:
            from pytest_cloudplan.gateways import check_all
        except ImportError:
            return  # without execnet: cloudplan says so
        words = TX + [value for name, value, _ in options if name == "tx"] + (getattr(self.option, "tx", None) or [])
        try:
            check_all(words, getattr(self.option, "px", None) or [], planned=False)
        except pytest.UsageError as error:
            text = str(error).replace("cloudplan: ", "", 1)
            files = [place for name, value, place in options if name == "tx" and text.startswith("--tx=%s: " % value)]
            raise (Refused("%s: %s" % (files[0], text)) if files else Refused(text, STATUS_USAGE)) from None

    def look_at_environment(self, options):
        for item, origin in [(item, "") for item in ENV] + [option[1:] for option in options if option[0] == "cloud-env"]:
            try:
                environment.parse(item)
            except Refused as refused:
                raise (Refused("%s: %s" % (origin, refused)) if origin else refused) from None
            try:
                os.fsencode(item).decode("utf-8")
            except UnicodeError:
                if item not in ENV:
                    name = item.partition("=")[0]
                    raise Refused("--cloud-env=%s=...: is not UTF-8: set %s here, and leave the value out" % (ascii(name), ascii(name)),
                                  STATUS_USAGE) from None

    def split(self, key, value, origin):
        if isinstance(value, list):
            return [str(word) for word in value]
        if isinstance(value, (bool, dict)):
            raise Refused("%s: %s: is not a list of words" % (origin, key))
        try:
            return shlex.split(str(value))
        except ValueError as error:
            raise Refused("%s: %s: %s" % (origin, key, error)) from None

    @staticmethod
    def truth(key, value, origin):
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in ("1", "true", "yes", "on", "y", "t"):
            return True
        if word in ("0", "false", "no", "off", "n", "f", ""):
            return False
        raise Refused("%s: %s = %s: is neither true nor false" % (origin, key, value))

    def place(self, name, value):
        """A path in an ini file is relative to that file, as pytest's own are."""
        if name not in PATH_OPTIONS or value == "-" or "://" in value or value.startswith("~"):
            return value
        path = os.path.normpath(os.path.join(self.ini_dir, value))
        return _near(path, self.root)

    def rsync_pattern(self, path):
        """fnmatch(3)'s pattern of an absolute path, as xdist takes it, in rsync's words: "*" crosses "/" there.
        None: nothing of the project."""
        path = os.path.normpath(path)
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        root = os.path.realpath(self.root)
        wildcard = re.search(r"[*?\[]", path)
        if path.startswith(os.path.join(root, "")):
            inside = path[len(os.path.join(root, "")) :]
        elif wildcard and path[wildcard.start()] == "*" and root.startswith(path[: wildcard.start()]):
            inside = path[wildcard.start() :]  # "*" stands for the root's last directories, too
        else:
            return None
        if not wildcard:
            return "/" + inside
        return "/" + re.sub(r"\*+", "**", inside.replace("\\", "\\\\"))

    # The command line

    def words(self):
        """pytest's arguments without ours, as they were typed."""
        words = self.typed_words
        if pytest.version_tuple >= (8, 2):  # which reads @FILE
            words = _read_files(words) or words
        return _without_ours(words)

    def options_only(self, words):
        """The words that are not files, directories or tests; None where pytest's own parser does not tell for sure,
        since an option of a conftest.py may take a word for its value."""
        count = len(self.args) - len(self.typed_words)
        if self.args[count:] != self.typed_words or self.positional(self.args[:count]):
            return None
        words = words[: words.index("--")] if "--" in words else words
        candidates = [i for i, word in enumerate(words) if not word.startswith("-")]
        after_option = [i for i in candidates if i and words[i - 1].startswith("-") and "=" not in words[i - 1]]
        _, unknown = self.parse(words)
        if any(words[i - 1] in unknown for i in after_option):
            return None
        others = [i for i in candidates if i not in after_option]
        found = self.marked(words, others)
        if found is None:
            found = [i for i in others if self.marked(words, [i])]
        found += [i for i in after_option if self.marked(words, [i])]
        rest = [word for i, word in enumerate(words) if i not in found]
        if self.positional(rest) is not False or self.meaning(words) != self.meaning(rest):
            return None
        return [_plain(word) for word in rest]

    def marked(self, words, indices):
        """Those of the words that are positional: a mark in their place turns up among the positional ones.  None
        where pytest refuses the mark, which shows that one of them is an option's value."""
        marks = {"cloudplan\x01%d" % i: i for i in indices}
        places = {i: mark for mark, i in marks.items()}
        try:
            option, unknown = self.parse([places.get(i, word) for i, word in enumerate(words)])
        except Exception:  # whatever an option's own type or action does
            return None
        return [marks[word] for word in option.file_or_dir + unknown if word in marks]

    def positional(self, words):
        try:
            option, unknown = self.parse(words)
        except Exception:
            return None
        return bool(option.file_or_dir or [word for word in unknown if not word.startswith("-")])

    def meaning(self, words):
        option, unknown = self.parse(words)
        rest = {name: value for name, value in vars(option).items() if name != "file_or_dir"}
        return rest, [word for word in unknown if word.startswith("-")]

    # Workers

    def modules(self, options):
        """What a worker must be able to import.  What comes with the copy is not there yet when a node is asked."""
        copied = [self.root] + [value for name, value, _ in options if name == "rsyncdir"]
        copied = [os.path.join(os.path.realpath(os.path.join(self.root, path)), "") for path in copied]
        modules = ["pytest", "xdist", "execnet"]
        of_environment = os.environ.get("PYTEST_PLUGINS", "").split(",")
        for name in (getattr(self.option, "plugins", None) or []) + [word for word in of_environment if word]:
            plugin = self.config.pluginmanager.get_plugin(name)
            module = getattr(plugin, "__name__", name)
            file = os.path.realpath(getattr(plugin, "__file__", None) or os.sep)
            if name.startswith("no:") or not plugin or module.startswith("_pytest.") or name in OWN_MODULES:
                continue
            if not any(file.startswith(path) for path in copied) or _in_virtualenv(file):
                modules.append(module.partition(".")[0])
        for requirement in self.config.getini("required_plugins"):
            modules += _plugin_modules(requirement_name(requirement))
        return [name for name in dict.fromkeys(modules) if re.match(r"[\w.-]+\Z", name, re.ASCII)]


def _in_virtualenv(file):
    prefix = os.path.join(os.path.realpath(sys.prefix), "")
    return sys.prefix != sys.base_prefix and file.startswith(prefix)


def _version(name):
    try:
        return str(__import__(name).__version__)
    except (ImportError, AttributeError):
        return None


def _plugin_modules(name):
    """The top-level modules of a distribution's plugins."""
    metadata = metadata_module()
    try:
        entries = metadata.distribution(name).entry_points
    except (metadata.PackageNotFoundError, ValueError):
        return []
    return [re.split(r"[.:]", entry.value.strip())[0] for entry in entries if entry.group == "pytest11"]


def _without_ours(words):
    result = []
    words = iter(words)
    for word in words:
        if word == "--":
            return result + [word] + list(words)
        name, equals, _ = word.partition("=")
        if name in OWN_WORDS:
            if not equals and OWN_WORDS[name] != FLAG:
                next(words, None)
        elif word == "-p":
            plugin = next(words, "")
            result += [] if plugin.strip() in OWN_MODULES else [word, plugin]
        elif not (word.startswith("-p") and word[2:].strip() in OWN_MODULES):
            result.append(word)
    return result


def _read_files(words):
    """The words with those of each @FILE in its place, where there are some of ours among them; else None."""
    result = []
    for word in words:
        if not word.startswith("@"):
            result.append(word)
            continue
        try:
            with open(word[1:], encoding=sys.getfilesystemencoding(), errors="surrogateescape") as file:
                lines = file.read().splitlines()
        except OSError:
            return None  # pytest has read it: gone since
        result += _read_files(lines) or lines
    return result if len(_without_ours(result)) < len(result) else None


def _outside_functions(tree):
    import ast

    todo = [tree]
    for node in todo:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return todo


# Lists of a root conftest.py, as older versions of pytest-xdist and py.test took them


class ConftestLists:
    NAMES = ("pytest_option_tx", "rsyncdirs", "rsyncignore")

    def __init__(self, answer):
        self.answer = answer
        self.found = {}  # name: (path of the conftest.py, list), the list None: it must be loaded first
        if getattr(answer.option, "noconftest", False):
            return
        for directory in dict.fromkeys([answer.root, str(answer.config.rootpath)]):
            path = os.path.join(directory, "conftest.py")
            for name, values in self.read(path).items():
                self.found.setdefault(name, (path, values))

    @property
    def unread(self):
        return any(values is None for _, values in self.found.values())

    def read(self, path):
        import ast

        try:
            with open(path, "rb") as file:
                text = file.read()
            tree = ast.parse(text if any(name.encode() in text for name in self.NAMES) else b"")
        except (OSError, SyntaxError, ValueError):
            return {}  # pytest will say it better
        result = {}
        for name in self.NAMES:
            uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
            if any(isinstance(node.ctx, ast.Store) for node in _outside_functions(tree) if node in uses):
                plain = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets == uses]
                try:
                    result[name] = ast.literal_eval(plain[0])
                except (IndexError, ValueError):
                    result[name] = None
        return result

    def values(self, name):
        """[(value, origin)]; a note says where the list belongs today."""
        if name not in self.found:
            return []
        path, values = self.found[name]
        place = _near(path, self.answer.root)
        if values is None:
            for plugin in self.answer.config.pluginmanager.get_plugins():
                if os.path.realpath(getattr(plugin, "__file__", None) or "") == os.path.realpath(path):
                    values = getattr(plugin, name, None)
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, (list, tuple)) or not all(isinstance(v, (str, os.PathLike)) for v in values):
            self.answer.notes.append("%s: %s is not a list of strings: not used" % (place, name))
            return []
        values = [os.fspath(value) for value in values]
        self.note(place, name, values)
        return [(value, place) for value in values]

    def paths(self, name):
        """The same, relative to the conftest.py."""
        directory = os.path.dirname(self.found[name][0]) if name in self.found else ""
        return [(os.path.join(directory, value), place) for value, place in self.values(name)]

    def note(self, place, name, values):
        here = self.answer.ini_place or "pytest.ini"
        words = " ".join(shlex.quote(value) for value in values)
        if name == "pytest_option_tx":
            better = "addopts = " + " ".join("--tx " + shlex.quote(value) for value in values)
        else:
            better = "%s = %s" % (name, words)
        if len(better) > 200:
            better = "addopts = --tx ..." if name == "pytest_option_tx" else name + " = ..."
        note = "%s: %s is no longer read by pytest-xdist: move it to %s in %s"
        self.answer.notes.append(note % (place, name, better, here))
