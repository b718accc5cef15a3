"""Which of the environment here the workers on nodes are given, and how.

It is the user's environment, as cloudplan was started with it.  What the interpreter reads at its start and what decides which
tests there are is handed on by itself: HANDED.  What is unset here is unset there, too: a login's own settings decide nothing.  All
else stays as the node's login has it, unless --cloud-env asks for it.

Not in the list, and why:
* PYTHONHOME, PYTHONPLATLIBDIR, PYTHONEXECUTABLE, PYTHONUSERBASE tell where an interpreter and its packages are on one machine;
  PYTHONSTARTUP, PYTHONINSPECT, PYTHON_HISTORY, PYTHON_BASIC_REPL are of interactive sessions; PYTHON_PRESITE, PYTHONDUMPREFS and
  PYTHONTHREADDEBUG of debug builds;
* PYTHONDEBUG, PYTHONVERBOSE, PYTHONPROFILEIMPORTTIME, PYTHONMALLOCSTATS, PYTHONPERFSUPPORT, PYTHON_PERF_JIT_SUPPORT print or
  record what goes on, and change nothing of it; PYTHONPYCACHEPREFIX is a place of this machine;
* PYTEST_ADDOPTS goes its own way (controller.py); PYTEST_DEBUG, PYTEST_THEME and PYTEST_THEME_MODE are about the report, which is
  written here; PYTEST_DEBUG_TEMPROOT is a place of this machine; PYTEST_CURRENT_TEST, PYTEST_VERSION and PYTEST_XDIST_* are
  set by pytest.
"""
import fnmatch
import inspect
import os
import time

from pytest_cloudplan import paths, starter
from pytest_cloudplan.options import ENV, OWN_MODULES
from pytest_cloudplan.ship import Refused

HANDED = frozenset(
    # the interpreter's
    "PYTHONPATH PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONHASHSEED PYTHONWARNINGS PYTHONDEVMODE PYTHONUTF8 PYTHONIOENCODING "
    "PYTHONCOERCECLOCALE PYTHONDONTWRITEBYTECODE PYTHONNOUSERSITE PYTHONINTMAXSTRDIGITS PYTHONBREAKPOINT PYTHONUNBUFFERED "
    "PYTHONCASEOK PYTHONFAULTHANDLER PYTHONTRACEMALLOC PYTHONASYNCIODEBUG PYTHONMALLOC PYTHONWARNDEFAULTENCODING "
    "PYTHONNODEBUGRANGES PYTHON_FROZEN_MODULES PYTHON_GIL PYTHON_JIT PYTHON_TLBC PYTHON_COLORS PYTHON_CPU_COUNT "
    "PYTHON_THREAD_INHERIT_CONTEXT PYTHON_CONTEXT_AWARE_WARNINGS PYTHON_DISABLE_REMOTE_DEBUG "
    # pytest's, and what pytest and programs under test look at in the same way
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD PYTEST_PLUGINS PY_COLORS NO_COLOR FORCE_COLOR CI BUILD_NUMBER "
    "TZ".split()
)
# True of one machine or one interpreter alone.
NEVER = frozenset("PYTHONHOME PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONUSERBASE PYTHONSTARTUP PYTHONINSPECT __PYVENV_LAUNCHER__".split())
# Set by cloudplan, pytest and pytest-xdist themselves.
OWNED = ("CLOUDPLAN_RUN", "CLOUDPLAN_CONTROLLER", "_CLOUDPLAN_*", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION",
         "PYTEST_XDIST_*")
# What a pattern does not mean: it is the login's, the session's or the machine's, here and there.
OF_SESSION = ("CLOUDPLAN*", "HOME", "HOSTNAME", "LD_*", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "SSH_*", "SUDO_*", "TERM",
              "TMPDIR", "USER", "VIRTUAL_ENV", "XDG_*", "DBUS_*", "_")
PATTERN = "*?["
STATUS_USAGE = 64
# --cloud-there: prefixes of paths that nodes have, too.
THERE = [prefix for prefix in os.environ.pop("_CLOUDPLAN_THERE", "").split("\x1f") if prefix]
OWN_DIRECTORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # whose modules workers are given
START_SECONDS = 60
# The interpreter is first started with this.  No quote, backslash or "!": csh and fish are logins' shells, too.
START = ('import _signal;_signal.alarm(%d);exec(eval(open(0,\"rb\",0,closefd=False).readline()or\"str()\"))' % START_SECONDS)
STARTER_SOURCE = inspect.getsource(starter)
TOO_LARGE = "the environment is too large for a process there: hand on less by --cloud-env"


# --cloud-env


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_pattern(name):
    return any(letter in name for letter in PATTERN)


def parse(item):
    """(take out, name or pattern, value or None) of one --cloud-env; Refused, which says nothing of the value."""
    out = item.startswith("!")
    name, equals, value = item[out:].partition("=")
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    said = "--cloud-env=%s%s%s: " % ("!" if out else "", shown, "=..." if equals else "")
    if not name:
        raise Refused(said + "no name: write NAME, NAME=VALUE, a pattern such as MYAPP_*, or !NAME", STATUS_USAGE)
    if shown != name:
        raise Refused(said + "a character in the name cannot be printed", STATUS_USAGE)
    if equals and (out or is_pattern(name)):
        raise Refused(said + "%s takes no value: leave out what follows the name" % ("!NAME" if out else "a pattern"), STATUS_USAGE)
    if not out and matches(name, OWNED):
        raise Refused(said + "pytest or cloudplan itself sets it on nodes: leave it out", STATUS_USAGE)
    if not out and name in NEVER:
        raise Refused(said + "is about the Python of this machine, and not handed on to another one: leave it out", STATUS_USAGE)
    return out, name, value if equals else None


class Wanted:
    """What is handed on of an environment."""

    def __init__(self, environ, items):
        self.given = {}  # name: value of all that is set there
        self.names = set(HANDED)  # whose absence counts, too
        self.own = set()  # which the node has as its login has it, by !NAME
        self.unmatched = []  # patterns
        for name, value in environ.items():
            if name in HANDED or starter.is_locale(os.fsencode(name)):
                self.given[name] = value
        for item in items:
            self.take(environ, *parse(item))

    def take(self, environ, out, name, value):
        if out:
            self.own.add(name)
            self.names = {one for one in self.names if not fnmatch.fnmatchcase(one, name)}
            self.given = {one: text for one, text in self.given.items() if not fnmatch.fnmatchcase(one, name)}
            return
        if is_pattern(name):
            refused = OWNED + OF_SESSION + tuple(NEVER)
            found = [one for one in fnmatch.filter(environ, name) if not matches(one, refused)]
            self.unmatched += [] if found else [name]
        else:
            found = [name]
        for one in found:
            self.own.discard(one)
            self.names.add(one)
            text = environ.get(one) if value is None else value
            if text is None:
                self.given.pop(one, None)
            else:
                self.given[one] = text


# PYTHONPATH


def is_there(path, prefixes):
    path = os.path.normpath(path)
    return any(os.path.commonpath([path, os.path.abspath(prefix)]) == os.path.abspath(prefix) for prefix in prefixes)


def python_path(value, prefixes):
    """(entries, dropped): each entry ("copy", the place in the root) or ("there", the path); dropped: those that no node is
    known to have."""
    entries, dropped = [], []
    for word in value.split(os.pathsep):
        path = os.path.join(paths.START, word)
        place = paths.inside(path)
        if place is not None:
            entries.append(("copy", place))
        elif is_there(path, prefixes):
            entries.append(("there", os.path.normpath(path)))
        elif os.path.exists(path) and not os.path.samefile(path, OWN_DIRECTORY):  # what is not there brings nothing here, either
            dropped.append(word)
    return entries, dropped


def mapped(entries, directory):
    return os.pathsep.join(os.path.normpath(os.path.join(directory, path)) if kind == "copy" else path for kind, path in entries)


# The whole


def lacks_locale(given):
    """Whether this machine does not know the locale that its own environment asks for: then it goes on with "C", and a node
    that does not know it does the same."""
    import locale

    asked = given.get("LC_ALL") or given.get("LC_CTYPE") or given.get("LANG") or "C"
    return asked not in ("C", "POSIX") and locale.setlocale(locale.LC_CTYPE, None) == "C"


class Environment:
    """For the workers of planned nodes."""

    def __init__(self, environ, say, items=ENV, prefixes=THERE):
        wanted = Wanted(environ, items)
        self.say = say
        self.given = dict(wanted.given)
        self.path = None  # entries of PYTHONPATH, whose place differs from node to node
        if "PYTHONPATH" in self.given:
            value = self.given.pop("PYTHONPATH")
            if value:
                self.path, dropped = python_path(value, prefixes)
                if dropped:
                    self.say("PYTHONPATH: %s: not in what is copied, and left out on nodes; --cloud-there=PREFIX says that they have it"
                             % os.pathsep.join(dropped))
        for name in wanted.unmatched:
            self.say("--cloud-env=%s: no variable has such a name here" % name)
        if "PYTEST_PLUGINS" in self.given:
            modules = [word for word in self.given["PYTEST_PLUGINS"].split(",") if word.strip() not in OWN_MODULES]
            self.given["PYTEST_PLUGINS"] = ",".join(modules)
        # Empty is as good as unset to those who read it, and `env` shows none where we have taken our own part out of it.
        for name in "PYTEST_PLUGINS", "PYTHONPATH":
            if self.given.get(name) == "":
                del self.given[name]
        self.locale = {name: self.given.pop(name) for name in list(self.given) if starter.is_locale(os.fsencode(name))}
        if matches("LANG", wanted.own) or matches("LC_ALL", wanted.own):
            self.locale = None
        self.checks_locale = not lacks_locale(self.locale or {})
        self.own = sorted(name for name in wanted.own if not is_pattern(name))
        self.unset = sorted(wanted.names - set(self.given))
        # A zone that the C library does not know is UTC to it, in silence.
        same = self.given.get("TZ") and self.given["TZ"] == environ.get("TZ")
        self.zone = [time.timezone, time.altzone, time.daylight] if same else None

    def locale_note(self, nodes):
        names = ", ".join("%s=%s" % (name, self.locale[name]) for name in sorted(self.locale))
        return "%s: a locale that %s not have: the locale of the login counts there" % (
            names, nodes[0] + " does" if len(nodes) == 1 else "%s and %d more do" % (nodes[0], len(nodes) - 1))

    def order(self, directory):
        given = dict(self.given)
        path = mapped(self.path, directory) if self.path else ""
        unset = self.unset
        if path:
            given["PYTHONPATH"] = path
            unset = [name for name in unset if name != "PYTHONPATH"]
        return {
            "set": encoded(given),
            "unset": [os.fsencode(name) for name in unset],
            "locale": None if self.locale is None else encoded(self.locale),
            "own": [os.fsencode(name) for name in self.own],
            "flags": [],
        }

    def block(self, spec):
        """What the starter is sent before execnet's first line."""
        order = repr(self.order(paths.copy_of(spec))).encode("ascii")
        source = "%s\nmain(%d)\n" % (STARTER_SOURCE, len(order))
        return ascii(source).encode("ascii") + b"\n" + order


def encoded(variables):
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def command(python):
    """The interpreter's words for a shell on a node, which execnet's own follow."""
    return "%s -I -S -c '%s' %s" % (python, START, python)
