"""pytest-cov over nodes: everything that the workers measure arrives, under the names that the files have here.

pytest-cov knows of workers on other hosts, but

* such a worker combines all data files of its directory that go by its own file's name, its neighbours' too:
  each gets a name of its own (the worker's side is in pytest_cloudplan_worker.py);
* a worker whose host name and directory are the controller's counts as one that shares its files, and its data
  stay where they are: machines made from one image have one name;
* the object that combines the data does not know where the nodes have the files;
* a configuration file outside of the project is read on every node: each worker gets a copy;
* for every worker that ends the controller warns that it collected no data itself;
* where everything is measured (--cov alone), this plugin is measured along, in a directory that will be gone.

All but the first lean on names inside of pytest-cov: where they are absent it goes its own way.  Tried with
pytest-cov 4.0 and 5.0.
"""
import os
import sys
import warnings
from urllib.parse import quote

import pytest

from pytest_cloudplan_gateways import node_of, shares_directory

DATA_FILE = ".cloudplan-coverage-"
CONFIG_FILE = ".cloudplan-coveragerc-"


def file_part(worker):
    """A worker's id as a part of a file's name in which "." separates, and a pattern has no special characters."""
    return quote(worker, safe="").replace(".", ",")


class Coverage:
    """What pytest-cov's own plugin needs beside it in the controller."""

    def __init__(self, config, roots):
        self.config = config
        self.roots = roots  # the project's, under all its names
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
        if node_of(spec) and os.path.isabs(str(spec.chdir)) and spec.chdir not in self.places and self.controller():
            self.places.append(str(spec.chdir))
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

    @pytest.hookimpl(hookwrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self):
        category = getattr(sys.modules.get("coverage.exceptions"), "CoverageWarning", None)
        if category is None:
            yield
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category)
            yield
