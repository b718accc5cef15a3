"""What every worker does before pytest-xdist's own code: execnet sends this file and runs it there.

The controller says what it is about: {"local": the worker shares the controller's directory, "kept": names of
environment variables that the xspec sets, "plugin": names and sources of the plugin's modules, "coverage": names of
pytest-cov's files, or None where nothing is measured, "copy": the directory of the copy on a node, or None, "files": the limit of
open files that is the user's own, or None, "start": whether the directory that pytest starts in is in sys.path there, or None where
that is not cloudplan's matter, "zone": the time zone as numbers, or None}.  The answer is the list of the modules that a worker needs
and that its Python does not have, what execnet's Gateway._rinfo() would ask for, whether the node has kept its own locale, and
whether the zone is the same.

* Tests find the commands of the interpreter that runs them: a virtualenv is as if activated; any other
  interpreter's directory comes last in PATH, so that no command that was found before becomes another one.
* What cloudplan shipped (CHDIR/cloudplan-site) comes before what is installed there.
* pytest_cloudplan is there even where it is not installed: pytest reads the project's addopts again on every
  worker, --cloud-... and cloud_... among them.  Where it is installed, this one is the one that is imported,
  and pytest registers a name only once.
* pytest-cov's data file has a name of the worker's own, which the tests do not see: they may run coverage
  themselves.  Nothing of it stays in the directory.
* Modules are looked for where they are looked for on the controller: xdist's own code puts the directory first in sys.path
  and in PYTHONPATH, and the interpreter has "" in sys.path, the directory that a test may have changed to.
* Where a test calls pytest.exit(), the controller is told with which words and status: xdist tells the status alone, and the
  controller's pytest is to end as this one does.
* Where the directory is a copy on a node, the controller is told which files the top-level modules come from: after collection, and at
  the end what has been imported since (pytest_cloudplan/origins.py compares that).
"""
import glob
import os
import sys
import sysconfig
import time
import types
from importlib.util import find_spec

NEEDED = ("pytest", "xdist", "execnet")
SITE = "cloudplan-site"
PLUGIN = "pytest_cloudplan"
LOADER = "cloudplan_worker"
LOCALE_KEPT = "_CLOUDPLAN_LOCALE_KEPT"  # by starter.py
MODULES_MAX = 10000  # that are told, of top-level names
NAME_MAX = 200
PORTIONS_MAX = 100  # of a namespace package
PATH_MAX = 1000


def find_commands(environ, kept):
    """PATH and VIRTUAL_ENV as the interpreter's own commands need them."""
    path = environ.get("PATH") or os.defpath
    words = path.split(os.pathsep)
    if sys.prefix != sys.base_prefix:
        own = os.path.join(sys.prefix, "bin")
        # In PATH already, and no other virtualenv active: the user's own order.
        if own in words and environ.get("VIRTUAL_ENV", sys.prefix) == sys.prefix:
            words = []
        path = own + os.pathsep + path
        if "VIRTUAL_ENV" not in kept:
            environ["VIRTUAL_ENV"] = sys.prefix
    else:
        own = os.path.dirname(sys.executable or "")
        if not own or own in words:
            words = []
        path += os.pathsep + own
    if words and "PATH" not in kept:
        environ["PATH"] = path


def limit_files(soft):
    """cloudplan raises the limit for its connections and for the controller: tests shall see what they would see without it."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (OSError, ValueError):
        pass  # above the hard limit, which somebody has lowered meanwhile


def find_shipped(environ):
    site = os.path.join(os.getcwd(), SITE)
    if os.path.isdir(site):
        sys.path.insert(0, site)
        others = environ.get("PYTHONPATH")
        environ["PYTHONPATH"] = site + os.pathsep + others if others else site


def leave_shipped_alone():
    """A hook: packages that were shipped may hold tests of their own, which are none of the project's."""
    site = os.path.join(os.getcwd(), SITE)

    def pytest_ignore_collect(collection_path):
        return True if str(collection_path) == site else None

    return [pytest_ignore_collect]


def make_module(name, source):
    module = types.ModuleType(name)
    module.__file__ = os.path.join("<cloudplan>", *name.split(".")) + ".py"
    module.__path__ = []  # it may be a package, whose other modules are not here
    sys.modules[name] = module
    try:
        exec(compile(source, module.__file__, "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    # pytest warns of a plugin that was imported before it could rewrite its assertions.
    module.__doc__ = (module.__doc__ or "") + "\nPYTEST_DONT_REWRITE"
    return module


def leave_plugins():
    """Child processes of the tests shall not look for a module that exists in this process alone."""
    rest = [name for name in os.environ.get("PYTEST_PLUGINS", "").split(",") if name not in ("", LOADER)]
    if rest:
        os.environ["PYTEST_PLUGINS"] = ",".join(rest)
    else:
        os.environ.pop("PYTEST_PLUGINS", None)


def add_plugin(modules):
    """Makes pytest load the plugin from memory."""
    os.environ["_CLOUDPLAN_ENGINE"] = "1"  # it shall only know its options
    try:
        for name, source in modules:
            make_module(name, source)
    finally:
        os.environ.pop("_CLOUDPLAN_ENGINE", None)


def measure(order):
    """pytest-cov's files for this worker alone; returns hooks that take them away."""
    import pytest

    data = os.path.abspath(order["data"])
    config = os.path.abspath(order["config"]) if order["config"] else None
    before = os.environ.get("COVERAGE_FILE")

    def remove():
        for path in glob.glob(glob.escape(data) + ".*") + [data, config]:
            try:
                os.unlink(path)
            except (OSError, TypeError):
                pass

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(session):
        # pytest-cov has read it, and tells children.  Those of coverage's own multiprocessing read it themselves.
        controller = getattr(session.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
        concurrency = getattr(getattr(getattr(controller, "cov", None), "config", None), "concurrency", None)
        if controller is None or "multiprocessing" in (concurrency or ()):
            return
        if before is None:
            os.environ.pop("COVERAGE_FILE", None)
        else:
            os.environ["COVERAGE_FILE"] = before

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure():
        remove()

    remove()  # what a worker of that name left that was killed
    os.environ["COVERAGE_FILE"] = data
    if config:
        with open(config, "wb") as file:
            file.write(order["text"])
    return [pytest_sessionstart, pytest_unconfigure]


def tell_exit():
    """Hooks that put what pytest.exit() was given into what xdist sends at the worker's end."""
    import pytest

    outputs = []

    def pytest_configure(config):
        outputs.append(getattr(config, "workeroutput", {}))

    def pytest_keyboard_interrupt(excinfo):
        if isinstance(excinfo.value, pytest.exit.Exception):
            code = excinfo.value.returncode
            words = str(excinfo.value.msg).encode("utf-8", "replace").decode("utf-8")  # or execnet could not send it
            told = {"words": words, "status": None if code is None else int(code)}
            for output in outputs:
                output["cloudplan_exit"] = told

    return [pytest_configure, pytest_keyboard_interrupt]


def path_keeper(start):
    """Undoes what xdist does after this, when pytest has not yet imported anything of the project; start: whether the directory
    stays in sys.path."""
    given = os.environ.get("PYTHONPATH")

    def keep():
        if given is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = given
        if not start and sys.path[:1] == [os.getcwd()]:
            del sys.path[0]
        sys.path[:] = [path for path in sys.path if path]

    return keep


class Copy:
    """Names places in the copy relative to it, all others by their absolute paths."""

    def __init__(self, directory):
        self.roots = [directory, os.path.realpath(directory)]
        self.prefixes = [sys.prefix, os.path.realpath(sys.prefix)]  # a virtualenv that was copied is no code of the project's

    def place(self, path):
        path = os.path.normpath(path)
        for root in self.roots:
            inside = [prefix for prefix in self.prefixes if is_below(prefix, root) and prefix != root and is_below(path, prefix)]
            if is_below(path, root) and not inside:
                path = os.path.relpath(path, root)
                break
        return os.fsencode(path).decode("utf-8", "replace")  # or execnet could not send it

    def names(self, path):
        return self.place(path), self.place(os.path.realpath(path))


def is_below(path, folder):
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def is_standard(path):
    rest = [path[len(folder):].split(os.sep) for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
            if folder and is_below(path, folder)]
    return bool(rest) and not any(name in parts for parts in rest for name in ("site-packages", "dist-packages"))


def origins(copy, left_out, path=None):
    """(name, whether it is a namespace package, whether it is the standard library's, where its files are) of top-level modules.
    path: only of what lies below it."""
    found = []
    for name, module in sorted(sys.modules.items(), key=lambda item: str(item[0])):
        if type(name) is not str or not name.isidentifier() or len(name) > NAME_MAX or name in left_out or name in sys.builtin_module_names:
            continue
        try:
            known = vars(module)
            file = known.get("__file__")
            files = [file] if file else list(dict.fromkeys(map(str, known.get("__path__", ()))))
        except Exception:
            continue  # no module, or one that makes trouble when it is looked at
        files = [item for item in files if isinstance(item, str) and os.path.isabs(item)][:PORTIONS_MAX]
        if files and (path is None or any(is_below(item, folder) for item in files for folder in path)):
            found.append((name, not file, is_standard(files[0]), tuple(map(copy.names, files))))
    return tuple(found[:MODULES_MAX])


def tell_origins(directory):
    import pytest

    copy = Copy(directory)
    first, path = set(), []

    def known_path():
        return [os.path.abspath(item) for item in sys.path if isinstance(item, str)][:PATH_MAX]

    def place_path():
        return tuple(copy.place(item) for item in known_path())

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(session):
        tests = {getattr(getattr(item, "module", None), "__name__", None) for item in session.items}
        path[:] = known_path()
        found = origins(copy, tests)
        first.update(tests, (name for name, *_ in found))
        for plugin in session.config.pluginmanager.get_plugins():
            if type(plugin).__name__ == "WorkerInteractor" and hasattr(plugin, "sendevent"):
                plugin.sendevent("cloudplan_origins", modules=found, path=place_path())

    def pytest_sessionfinish(session):
        # What tests import from directories that they have made is theirs.
        output = getattr(session.config, "workeroutput", None)
        if output is not None and path:
            output["cloudplan_origins"] = {"modules": origins(copy, first, path), "path": tuple(map(copy.place, path))}

    return [pytest_collection_finish, pytest_sessionfinish]


def add_loader(plugins, hooks, keep_path):
    """A plugin of this process alone, by which pytest loads what is in memory, and which then removes the traces."""
    loader = make_module(LOADER, "pytest_plugins = %r" % plugins)

    def pytest_addhooks():  # called as soon as pytest has it
        leave_plugins()
        keep_path()

    loader.pytest_addhooks = pytest_addhooks
    for hook in hooks:
        setattr(loader, hook.__name__, hook)
    others = os.environ.get("PYTEST_PLUGINS")
    os.environ["PYTEST_PLUGINS"] = others + "," + LOADER if others else LOADER


if __name__ == "__channelexec__":
    controller = globals()["channel"]
    order = controller.receive()
    find_commands(os.environ, order["kept"])
    if order["files"]:
        limit_files(order["files"])
    if not order["local"]:
        find_shipped(os.environ)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not missing:
        if order["plugin"]:
            add_plugin(order["plugin"])
        add_loader([PLUGIN] if order["plugin"] else [],
                   tell_exit() + leave_shipped_alone() + (tell_origins(order["copy"]) if order["copy"] else [])
                   + (measure(order["coverage"]) if order["coverage"] else []),
                   (lambda: None) if order["start"] is None else path_keeper(order["start"]))
    controller.send((missing, {"executable": sys.executable, "version_info": tuple(sys.version_info)[:5],
                               "platform": sys.platform, "cwd": os.getcwd(), "pid": os.getpid()},
                     os.environ.pop(LOCALE_KEPT, None) is not None,
                     order["zone"] in (None, [time.timezone, time.altzone, time.daylight])))
