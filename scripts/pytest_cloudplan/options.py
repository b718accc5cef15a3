"""cloudplan's options as pytest knows them, and what cloudplan has told its own pytest by the environment.

Imports nothing of this package: it goes to workers as it is.
"""
import os

STATUS_TOOL = 78

LIST, VALUE, FLAG = "list", "value", "flag"

# Name, kind, the value's name, help.  cloudplan --help has the same ones; a test compares.
OPTIONS = (
    ("cloud-node", LIST, "NODE", "a node to run tests on: [USER@]HOST[:PORT], with ranges like 10.0.0.{1..40}"),
    ("cloud-nodes", LIST, "NODES", "nodes, separated by blanks"),
    ("cloud-nodes-from", LIST, "FILE", "nodes from a file"),
    ("cloud-probe-timeout", VALUE, "SECONDS", "how long a node may take to answer"),
    ("cloud-mem-per-process", VALUE, "MIB", "memory that one process needs, in MiB"),
    ("cloud-mem-reserve", VALUE, "MIB", "memory to leave free on every machine, in MiB"),
    ("cloud-max-processes", VALUE, "N", "at most so many processes on a node"),
    ("cloud-min-processes", VALUE, "N", "give up where all nodes together hold fewer"),
    ("cloud-wait", VALUE, "DURATION", "wait so long until so many are free: seconds, or 90s, 10m, 2h"),
    ("cloud-no-lease", FLAG, None, "neither respect what other runs have leased on the nodes nor lease anything"),
    ("cloud-chdir", VALUE, "DIR", "directory on the nodes"),
    ("cloud-adopt", FLAG, None, "use a directory on the nodes that cloudplan did not make, where nothing but caches would be deleted"),
    ("cloud-copy-links", FLAG, None, "copy what symbolic links point to that lead out of what is copied"),
    ("cloud-virtualenv-path", VALUE, "DIR", "virtualenv to use on the nodes"),
    ("cloud-rsync-bandwidth-limit", VALUE, "KIB", "KiB/s for each rsync, 0 for no limit"),
    ("cloud-rsync-max-processes", VALUE, "N", "copy to so many nodes at once, 0 for all"),
    ("cloud-rsync-cipher", VALUE, "NAME", "cipher that OpenSSH is to prefer, empty for its own choice"),
    ("cloud-python", LIST, "NAME", "interpreter on the nodes"),
    ("cloud-develop-egg", LIST, "DIR", "package to install in development mode in the nodes' virtualenv"),
    ("cloud-ship-pytest", FLAG, None, "copy this machine's pytest along, for nodes that have none"),
    ("cloud-ship-plugin", LIST, "NAME", "a pure-Python plugin to copy along with pytest"),
    ("cloud-env", LIST, "NAME[=VALUE]", "a variable of the environment to hand on to nodes"),
)
KINDS = {name: kind for name, kind, _, _ in OPTIONS}

# pytest-xdist's, up to 4.0.
RSYNC_OPTIONS = (("rsyncdir", "rsyncdirs", "directory to copy"), ("rsyncignore", "rsyncignore", "what not to copy"))
OWN_WORDS = {"--" + name: kind for name, kind in KINDS.items()}
OWN_WORDS.update(("--" + name, LIST) for name, _, _ in RSYNC_OPTIONS)
OWN_MODULES = ("pytest_cloudplan", "pytest_cloudplan.controller")

# pytest's options, by the name of their value, that show something and run no test: none of them takes a node.
SHOWS = {
    "help": "--help",
    "version": "--version",
    "markers": "--markers",
    "cacheshow": "--cache-show",
    "showfixtures": "--fixtures",
    "show_fixtures_per_test": "--fixtures-per-test",
    "collectonly": "--collect-only",
    "setuponly": "--setup-only",
    "setupplan": "--setup-plan",
}


def shown(option):
    """The first of these that is asked for, or None."""
    return next((word for name, word in SHOWS.items() if getattr(option, name, None)), None)


def ini_name(name):
    return "cloud_develop_eggs" if name == "cloud-develop-egg" else name.replace("-", "_")


def leave(name, separator, own):
    """Takes a word out of a list in the environment."""
    rest = [word for word in os.environ.get(name, "").split(separator) if word not in own]
    if rest != [""] and rest:
        os.environ[name] = separator.join(rest)
    else:
        os.environ.pop(name, None)


def items(text):
    """What cloudplan has written as LENGTH:ITEM after LENGTH:ITEM, so that an item may hold any byte."""
    result = []
    while text:
        length, _, text = text.partition(b":")
        result.append(os.fsdecode(text[: int(length)]))
        text = text[int(length):]
    return result


# Child processes (popen workers, tests that run pytest or cloudplan) are not to see what was meant for this one.
ENGINE = bool(os.environ.pop("_CLOUDPLAN_ENGINE", ""))
SETTINGS = os.environ.pop("_CLOUDPLAN_SETTINGS", "")
DIST = os.environ.pop("_CLOUDPLAN_DIST", "")  # cloudplan's own --dist
TX = [word for word in os.environ.pop("_CLOUDPLAN_TX", "").split("\x1f") if word]  # cloudplan's own --tx
ENV = items(os.environb.pop(b"_CLOUDPLAN_ENV", b""))  # --cloud-env of all kinds, in order
SHIP = {name: os.environ.pop("_CLOUDPLAN_SHIP" + name, "") for name in ("", "_FORCE", "_PLUGINS")}
if ENGINE:
    leave("PYTEST_PLUGINS", ",", ("pytest_cloudplan",))
    leave("PYTHONPATH", os.pathsep, [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))])


def metadata_module():
    try:
        import importlib.metadata as metadata
    except ImportError:  # Python 3.7, where pytest itself needs the backport
        import importlib_metadata as metadata
    return metadata
