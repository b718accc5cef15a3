"""cloudplan's options in pytest: on its command line, and in the project's ini file.

Loaded in four ways.

* A user's pytest (entry point, -p pytest_cloudplan, PYTEST_PLUGINS).  Where an option --cloud-... was typed, the
  process becomes `cloudplan run -- ARGS`, before anything of the project is loaded.  A value in the ini file alone
  starts nothing: a developer's plain `pytest` stays where it is.
* _CLOUDPLAN_SETTINGS=FILE: cloudplan asks what pytest makes of the arguments and of the project's configuration.
  So rootdir, ini file, addopts and plugins are found by the very code that finds them in the run.  The answer is
  written as JSON, and the process ends, as a rule before any conftest.py is loaded.
* _CLOUDPLAN_ENGINE=1 without it: the run's own pytest.  The options are known, so that addopts may hold them, and have
  no effect.
* The same on a worker, which has this file and options.py from the controller: it reads the same addopts and ini file.

Official interfaces of pytest come first; 7.0 to 9 are served.  Python 3.7 and newer.
"""
import argparse
import os
import shutil
import sys

import pytest

from pytest_cloudplan.options import (
    ENGINE,
    FLAG,
    KINDS,
    LIST,
    OPTIONS,
    RSYNC_OPTIONS,
    SETTINGS,
    STATUS_TOOL,
    ini_name,
    metadata_module,
    shown,
)


# Options


class Typed(argparse.Action):
    """Keeps the value as others would, and the order of all of them together in cloudplan_typed."""

    def __call__(self, parser, namespace, value, option_string=None):
        name = self.option_strings[0][2:]
        kind = KINDS[name]
        if kind == LIST:
            setattr(namespace, self.dest, (getattr(namespace, self.dest, None) or []) + [value])
        else:
            setattr(namespace, self.dest, True if kind == FLAG else value)
        typed = getattr(namespace, "cloudplan_typed", None) or []
        namespace.cloudplan_typed = typed + [(name, None if kind == FLAG else value)]


def _known_options(parser):
    groups = list(getattr(parser, "_groups", ())) + [getattr(parser, "_anonymous", None)]
    return {name for group in groups if group for option in group.options for name in option.names()}


def _refuse_pytest_cloud(parser, pluginmanager):
    """pytest-cloud has options of these names: found in time, before argparse ends in a traceback."""
    found = "--cloud-node" in _known_options(parser)
    if not found and not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        metadata = metadata_module()
        try:
            names = [entry.name for entry in metadata.distribution("pytest-cloud").entry_points if entry.group == "pytest11"]
        except metadata.PackageNotFoundError:
            return
        found = names and not any(pluginmanager.is_blocked(name) for name in names)
    if found:
        raise pytest.UsageError(
            "cloudplan takes the place of pytest-cloud, and both have the option --cloud-node: "
            "uninstall pytest-cloud (%s -m pip uninstall pytest-cloud)" % sys.executable
        )


def _load_xdist(pluginmanager):
    """With PYTEST_DISABLE_PLUGIN_AUTOLOAD pytest loads no plugin that is not named, and cloudplan cannot do without this one;
    here and, since this module is there as well, on workers."""
    if pluginmanager.hasplugin("xdist") or pluginmanager.is_blocked("xdist"):
        return
    try:
        pluginmanager.import_plugin("xdist", consider_entry_points=True)
    except (AttributeError, ImportError, TypeError):
        pass  # missing or broken: cloudplan says so


def pytest_addoption(parser, pluginmanager):
    _refuse_pytest_cloud(parser, pluginmanager)
    if ENGINE:
        _load_xdist(pluginmanager)
    group = parser.getgroup("cloudplan", "tests on other machines (cloudplan)")
    for name, kind, metavar, text in OPTIONS:
        more = {"nargs": 0} if kind == FLAG else {"metavar": metavar}
        group.addoption("--" + name, action=Typed, default=None, help=text, **more)
        default = [] if kind == LIST else False  # False: not there, in contrast to the empty string
        ini_type = "paths" if name == "cloud-develop-egg" else "args" if kind == LIST else None
        parser.addini(ini_name(name), text, type=ini_type, default=default)
    if pluginmanager.hasplugin("xdist"):
        _add_rsync_options(parser)


def _add_rsync_options(parser):
    """Where pytest-xdist has them no longer.  Which is known only when it is loaded, or is not going to be."""
    known = _known_options(parser)
    for name, ini, text in RSYNC_OPTIONS:
        if "--" + name not in known:
            group = parser.getgroup("cloudplan")
            group.addoption("--" + name, action="append", default=[], metavar="PATH", help=text)
        if ini not in getattr(parser, "_inidict", {}):
            parser.addini(ini, text, type="paths", default=[])


# A user's pytest becomes cloudplan


def _stays_here(option):
    """Whether this pytest is not the one that runs tests, or runs them for cloudplan."""
    return (
        ENGINE
        or "PYTEST_XDIST_WORKER" in os.environ  # also a child of one: nodes do not ask nodes in their turn
        or not getattr(option, "cloudplan_typed", None)
        or shown(option)
    )


def _program():
    named = os.environ.get("CLOUDPLAN")
    beside = os.path.join(os.path.dirname(sys.executable or ""), "cloudplan")
    for path in [named] if named else [beside, "cloudplan"]:
        found = shutil.which(path)
        if found:
            return found
    if named:
        reason = "CLOUDPLAN=%s: no such program: correct it, or unset it" % named
    else:
        reason = "--cloud-...: there is no program cloudplan in PATH: install it, or name it with CLOUDPLAN=/path/of/cloudplan"
    print("ERROR: " + reason, file=sys.stderr)
    raise SystemExit(STATUS_TOOL)


def _become_cloudplan(config):
    words = ["cloudplan", "run", "--"] + [os.fspath(word) for word in config.invocation_params.args]
    environ = dict(os.environ)
    if sys.executable:
        environ["CLOUDPLAN_PYTHON"] = sys.executable
    program = _program()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program, words, environ)
    except OSError as error:
        print("ERROR: %s: %s" % (program, error.strerror), file=sys.stderr)
        raise SystemExit(STATUS_TOOL)


# A wrapper of wrappers: the terminal and the standard streams are not yet captured.
@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config, parser, args):
    _add_rsync_options(parser)
    if SETTINGS:
        from pytest_cloudplan import settings

        answer = settings.Answer(early_config, parser, args)
        if answer.asks_conftests:
            outcome = yield
            outcome.get_result()
        status = answer.write(SETTINGS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if not _stays_here(early_config.known_args_namespace):
        _become_cloudplan(early_config)
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """For a plugin that only a conftest.py names, which comes too late for the hook above."""
    if not _stays_here(config.option):
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture:
            capture.suspend_global_capture(in_=True)
        _become_cloudplan(config)


# The run


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if not ENGINE:
        return
    # What these ask for has been done; xdist would warn of them, and copy.
    for name, ini, _ in RSYNC_OPTIONS:
        setattr(config.option, name, [])
        try:
            config.getini(ini).clear()
        except (AssertionError, AttributeError, TypeError, ValueError, pytest.UsageError):
            pass  # not a list of paths: reported when cloudplan asked
