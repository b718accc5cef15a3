"""Coverage over nodes: pytest-cov's reports and data are those of a local run, and nothing stays behind.

The nodes have homes of their own, so that no path on any of them is the controller's.  What is compared is the
contents of the reports and of the data file, with every file name; only times are taken out.
"""
import json
import os
import re
import shutil

import pytest

from cloudnodes import World
from conftest import PROGRAM, PROJECT, Site

pytest.importorskip("pytest_cov")

SUITE = {
    "pytest.ini": "[pytest]\ntestpaths = tests\n",
    "pkg/__init__.py": """\
def sign(x):
    if x > 20:
        return 1
    for _ in range(x):
        pass
    return 0

def never():
    return 1 if sign(1) else 2
""",
    "pkg/untouched.py": "def g():\n    return 2\n",
    "pkg/sub/__init__.py": "",
    "pkg/sub/deep.py": "VALUE = 1\ndef h(flag):\n    if flag:\n        return VALUE\n    return None\n",
    "pkg/child.py": """\
import sys

def main(words):
    if words:
        return 3
    return 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
""",
    "other/__init__.py": "def unasked():\n    return 1\n",
    "tests/test_a.py": """\
import pytest
import other
from pkg import sign
from pkg.sub.deep import h

@pytest.mark.parametrize("x", range(40))
def test_sign(x):
    assert sign(x) == (x > 20)

def test_deep(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert h(True)
""",
}
# What pytest-cov measures in child processes, too; with the children's own working directory.
CHILDREN = {
    "tests/test_children.py": """\
import multiprocessing, os, subprocess, sys

METHOD = "fork"

def test_module():
    assert subprocess.run([sys.executable, "-m", "pkg.child"]).returncode == 0

def test_elsewhere(tmp_path):
    environ = dict(os.environ, PYTHONPATH=os.getcwd())
    assert subprocess.run([sys.executable, "-m", "pkg.child", "word"], cwd=tmp_path, env=environ).returncode == 3

def test_pool():
    from pkg.sub.deep import h
    with multiprocessing.get_context(METHOD).Pool(2) as pool:
        assert pool.map(h, [False, False]) == [None, None]
        pool.close()
        pool.join()
""",
}
REPORTS = ["--cov-report=xml", "--cov-report=html", "--cov-report=lcov", "--cov-report=term-missing"]
LEFT = re.compile(r"\.coverage\.|\.cloudplan-cov")

# What the data file holds, in words; line numbers are those of a set of bits.
DATA = """
import json, sys
from coverage import CoverageData
data = CoverageData(sys.argv[1])
data.read()
result = {}
for name in sorted(data.measured_files()):
    contexts = data.contexts_by_lineno(name)
    result[name] = {"lines": sorted(data.lines(name)), "arcs": sorted(data.arcs(name) or []),
                    "contexts": {line: sorted(contexts[line]) for line in sorted(contexts)}}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def three_nodes():
    with World(nodes=3, home="/srv/ci-{}", visible=[os.path.dirname(os.path.realpath(PROGRAM))]) as world:
        yield Site(world)


@pytest.fixture
def cloud(site):
    return Cloud(site)


ONE_EACH = ["--cloud-max-processes=1"]  # where it does not matter that workers share a node


class Cloud:
    """A project run here and over the nodes, one of which is another user's."""

    def __init__(self, site):
        self.site, self.project = site, site.project
        first, *others = site.nodes
        self.all = [f"dev@{first.name}", *others]
        self.nodes = self.all[:2]  # mostly enough

    def local(self, *args, **options):
        return self.site.world.run(["python3", "-m", "pytest", "-q", *args], cwd=PROJECT, **options)

    def far(self, *args, own=(), nodes=None, **options):
        return self.site.run("run", "--cloud-max-processes=2", *own, "--", "-q", *args, nodes=nodes or self.nodes, **options)

    def take(self, data=".coverage"):
        """{file: text without times} of all that was reported, which is removed."""
        found = {}
        if (self.project / data).exists():
            text = self.site.world.run(["python3", "-c", DATA, data], cwd=PROJECT, check=True).stdout
            found["data"] = json.loads(text)
            (self.project / data).unlink()
        for path in sorted([*self.project.glob("coverage.*"), *self.project.rglob("*,cover"), *self.project.glob("htmlcov/*")]):
            if path.suffix != ".png" and path.name != ".gitignore":
                found[str(path.relative_to(self.project))] = timeless(path.read_text())
            path.unlink()
        shutil.rmtree(self.project / "htmlcov", ignore_errors=True)
        return found

    def compare(self, *args, own=(), nodes=None, status=0, data=".coverage", **options):
        """Runs both; the same status, the same table, the same reports; returns the second run's result and reports."""
        here = self.local(*args, **options)
        expected = self.take(data)
        for path in self.project.glob(".coverage.*"):  # of children that ended too late for pytest-cov
            path.unlink()
        before = self.files()
        there = self.far(*args, own=own, nodes=nodes, **options)
        assert here.returncode == there.returncode == status, (here, there)
        seen = self.take(data)
        assert table(there) == table(here), there
        assert sorted(seen) == sorted(expected)
        for name, text in expected.items():
            assert seen[name] == text, name
        self.assert_nothing_left(before)
        return there, seen

    def files(self):
        return sorted(str(path.relative_to(self.project)) for path in self.project.rglob("*")
                      if not {"__pycache__", ".pytest_cache"} & set(path.parts))

    def left_on_nodes(self):
        """Data files of coverage in any copy."""
        return [str(path) for node in self.site.nodes for home in (node.home, node.dev_home)
                for path in home.rglob("*") if LEFT.match(path.name)]

    def assert_nothing_left(self, before):
        assert self.files() == before
        assert self.left_on_nodes() == []


def timeless(text):
    text = re.sub(r' timestamp="\d+"', "", text)
    text = re.sub(r'"globals":"\w+"', "", text)  # a digest of coverage's settings, the nodes' directories among them
    text = re.sub(r"created at \d{4}-\d\d-\d\d \d\d:\d\d [+-]\d{4}", "created", text)
    return text


def table(result):
    """The table of the terminal, and what is said of it."""
    found = re.search(r"^Name +Stmts.*?^TOTAL[^\n]*$", result.stdout, re.M | re.S)
    said = re.findall(r"^(?:FAIL )?Required test coverage.*$", result.stdout, re.M)
    return (found.group() if found else None), said


# What is wrong is said.


def test_must_fail_where_a_node_does_not_cover_what_is_covered_here(cloud):
    """The comparison can fail: by the table, and by data alone."""
    here = "import socket\nfrom pkg.sub.deep import h\ndef test_h():\n    h(socket.gethostname() != 'controller')\n"
    cloud.site.write({**SUITE, "tests/test_where.py": here, "tests/test_a.py": ""})
    with pytest.raises(AssertionError):
        cloud.compare("--cov=pkg")
    cloud.take()
    with pytest.raises(AssertionError):
        cloud.compare("--cov=pkg", "--cov-report=")


def test_fail_under(cloud):
    cloud.site.write(SUITE)
    there, _ = cloud.compare("--cov=pkg", "--cov-fail-under=99", status=1)
    assert table(there)[1] == ["FAIL Required test coverage of 99% not reached. Total coverage: 50.00%"]
    there, _ = cloud.compare("--cov=pkg", "--cov-fail-under=50")
    assert table(there)[1] == ["Required test coverage of 50% reached. Total coverage: 50.00%"]
    cloud.site.write({**SUITE, ".coveragerc": "[report]\nfail_under = 50.1\n"})
    cloud.compare("--cov=pkg", status=1)


@pytest.mark.parametrize("config", ["nowhere.cfg", "/nowhere.cfg"])
def test_a_configuration_that_is_not_there(cloud, config):
    cloud.site.write(SUITE)
    result = cloud.far("--cov=pkg", f"--cov-config={config}")
    assert result.returncode == cloud.local("--cov=pkg", f"--cov-config={config}").returncode != 0
    assert f"Couldn't read '{config}' as a config file" in result.stdout + result.stderr
    assert "passed" not in result.stdout


def test_a_package_that_is_not_there(cloud):
    """Nothing is covered: the same total of nothing, the same status."""
    cloud.site.write(SUITE)
    here, there = cloud.local("--cov=nothing"), cloud.far("--cov=nothing")
    assert here.returncode == there.returncode
    assert "No data to report" in here.stdout and "No data to report" in there.stdout


def test_a_node_without_pytest_cov(cloud):
    """It refuses the option that all others know: the others do its work, and the status says what happened."""
    cloud.site.write({**SUITE, "tests/conftest.py": ""})
    lone = cloud.site.nodes[1]
    (lone.home / ".local/lib").mkdir(parents=True)
    version = cloud.site.world.run(["python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"]).stdout.strip()
    user_site = lone.home / f".local/lib/{version}/site-packages"
    user_site.mkdir(parents=True)
    (user_site / "pytest_cov.py").write_text("raise ImportError('no pytest-cov here')\n")
    try:
        result = cloud.far("--cov=pkg")
    finally:
        shutil.rmtree(lone.home / ".local")
    assert "no pytest-cov here" in result.stdout + result.stderr, result
    assert result.returncode in (0, 1, 3, 69), result


def test_nothing_is_said_that_a_local_run_does_not_say(cloud):
    """pytest-cov's controller warns of its own workings: "No data was collected."."""
    cloud.site.write(SUITE)
    result = cloud.far("--cov=pkg")
    assert "CoverageWarning" not in result.stdout + result.stderr, result


def test_warnings_as_errors(cloud):
    cloud.site.write({**SUITE, "pytest.ini": "[pytest]\ntestpaths = tests\nfilterwarnings = error\n"})
    cloud.compare("--cov=pkg")
    cloud.compare("--cov=pkg", env={"PYTHONWARNINGS": "error"})


# The same reports.


@pytest.mark.parametrize("source", [["--cov=pkg"], ["--cov=pkg/sub", "--cov=other"], ["--cov=./pkg"], [f"--cov={PROJECT}/pkg"],
                                    ["--cov"], ["--cov=."], ["--cov=pkg", "--cov-branch"]])
def test_sources(cloud, source):
    """--cov alone measures all that is not installed where Python keeps what is: by Debian that is pytest, too."""
    cloud.site.write({**SUITE, ".coveragerc": "[run]\nomit = /usr/*\n"})
    there, seen = cloud.compare(*source, "--cov-report=term-missing", own=ONE_EACH)
    assert table(there)[0] and all(name.startswith(PROJECT + "/") for name in seen["data"])


@pytest.mark.parametrize("branch", [[], ["--cov-branch"]])
def test_reports(cloud, branch):
    cloud.site.write(SUITE)
    _, seen = cloud.compare("--cov=pkg", *branch, *REPORTS, nodes=cloud.all)
    assert {"data", "coverage.xml", "coverage.lcov", "htmlcov/index.html"} <= set(seen)
    assert "SF:pkg/sub/deep.py" in seen["coverage.lcov"] and f"<source>{PROJECT}/pkg</source>" in seen["coverage.xml"]
    cloud.compare("--cov=pkg", *branch, "--cov-report=annotate", "--cov-report=term:skip-covered")


def test_reports_where_the_user_wants_them(cloud):
    cloud.site.write({**SUITE, ".coveragerc": "[run]\ndata_file = coverage.data\n[html]\ndirectory = htmlcov\n"})
    _, seen = cloud.compare("--cov=pkg", "--cov-report=html", "--cov-report=xml:coverage.here", data="coverage.data")
    assert {"data", "coverage.here", "htmlcov/index.html"} <= set(seen)


def in_order(value, key=None):
    """Contexts have none; newer versions of coverage have them for each function and class, too."""
    if isinstance(value, dict):
        return {name: in_order(part, key == "contexts" or name) for name, part in value.items()}
    return sorted(value) if key is True else value


def test_json_report(cloud):
    """By coverage's own command, from the data: pytest-cov 4.0 has no such report."""
    cloud.site.write(SUITE)

    def report():
        command = ["python3", "-m", "coverage", "json", "-q", "--show-contexts", "-o", "-"]
        text = json.loads(cloud.site.world.run(command, cwd=PROJECT, check=True).stdout)
        del text["meta"]["timestamp"]
        cloud.take()
        return in_order(text)

    args = ["--cov=pkg", "--cov-branch", "--cov-context=test"]
    assert cloud.local(*args).returncode == 0
    expected = report()
    assert cloud.far(*args).returncode == 0
    assert report() == expected
    assert "tests/test_a.py::test_sign[39]|run" in json.dumps(expected)


@pytest.mark.parametrize("files, args", [
    ({".coveragerc": "[run]\nbranch = true\nsource = pkg\n"}, ["--cov"]),
    ({".coveragerc": "[run]\nsource = .\nomit =\n    tests/*\n    */untouched.py\n"}, ["--cov"]),
    ({".coveragerc": "[run]\ninclude = pkg/sub/*\n"}, ["--cov"]),
    ({".coveragerc": "[run]\nparallel = true\n"}, ["--cov=pkg"]),
    ({".coveragerc": "[run]\nrelative_files = true\n"}, ["--cov=pkg"]),
    ({".coveragerc": "[run]\nrelative_files = true\nparallel = true\nbranch = true\n"}, ["--cov=pkg", "--cov-context=test"]),
    ({".coveragerc": "[paths]\nsource =\n    pkg\n    */site-packages/pkg\n"}, ["--cov=pkg"]),
    ({".coveragerc": "[paths]\nsource =\n    pkg\n    */pkg\n"}, ["--cov=pkg"]),
    ({".coveragerc": "[run]\ndynamic_context = test_function\n"}, ["--cov=pkg"]),
    ({".coveragerc": "[report]\nexclude_lines =\n    never\nprecision = 2\nskip_covered = true\nsort = cover\n"}, ["--cov=pkg"]),
    ({"setup.cfg": "[coverage:run]\nbranch = true\nsource = pkg\n"}, ["--cov"]),
    ({"tox.ini": "[coverage:run]\nbranch = true\nsource = pkg\n"}, ["--cov"]),
    ({"config/cov.cfg": "[run]\nbranch = true\nomit = */sub/*\n"}, ["--cov=pkg", "--cov-config=config/cov.cfg"]),
    ({"config/cov.cfg": "[run]\nbranch = true\nomit = */sub/*\n"}, ["--cov=pkg", "--cov-config", f"{PROJECT}/config/cov.cfg"]),
    ({"pytest.ini": "[pytest]\naddopts = --cov=pkg --cov-branch --cov-config=config/c\n", "config/c": "[run]\nomit = */sub/*\n"}, []),
])
def test_configurations(cloud, files, args):
    cloud.site.write({**SUITE, **files})
    cloud.compare(*args, "--cov-report=term-missing", "--cov-report=xml", own=ONE_EACH)


def test_a_configuration_outside_of_the_project(cloud):
    """The nodes have no copy of that place."""
    cloud.site.write(SUITE)
    config = cloud.site.world.home / "elsewhere.cfg"
    config.write_text("[run]\nbranch = true\nomit = */sub/*\n")
    for words in (["--cov-config=/home/ci/elsewhere.cfg"], ["--cov-config", "../elsewhere.cfg"]):
        cloud.compare("--cov=pkg", *words)
    config.unlink()


def test_source_layout(cloud):
    layout = {name.replace("pkg/", "src/pkg/"): text for name, text in SUITE.items()}
    cloud.site.write({**layout, "pytest.ini": "[pytest]\npythonpath = src\n", ".coveragerc": "[paths]\nsource =\n    src\n    */site-packages\n"})
    there, _ = cloud.compare("--cov=pkg", "--cov-report=term-missing", "--cov-report=xml")
    assert "src/pkg/sub/deep.py" in table(there)[0]


def test_append(cloud):
    """Of a local and a distributed run, and of two distributed ones."""
    cloud.site.write(SUITE)
    one, two = ["--cov=pkg", "-k", "deep"], ["--cov=pkg", "--cov-append", "-k", "sign"]
    cloud.local(*one)
    alone = cloud.take()["data"]
    cloud.local(*one)
    cloud.local(*two)
    expected = cloud.take()["data"]
    assert expected != alone
    for first in (cloud.local, cloud.far):
        first(*one)
        cloud.far(*two)
        assert cloud.take()["data"] == expected
        assert cloud.left_on_nodes() == []


def test_an_older_run_s_data_do_not_come_in(cloud):
    """Not even where only parts of the project are copied, so that the rest of the copy is not looked at."""
    cloud.site.write(SUITE)
    own = ["--rsyncdir=pkg", "--rsyncdir=tests", "--rsyncdir=other"]
    cloud.far("--cov=pkg", "tests", own=own)
    cloud.take()
    cloud.compare("--cov=pkg", "-k", "deep", "tests", own=own)
    cloud.compare("--cov=pkg", "-k", "deep", "--cov-append", "tests", own=own)


@pytest.mark.parametrize("chdir", ["some/where/else", "/tmp/else", "project"])
def test_other_directories_on_the_nodes(cloud, chdir):
    cloud.site.write(SUITE)
    cloud.compare("--cov=pkg", *REPORTS, own=[f"--cloud-chdir={chdir}"])


def test_a_node_with_the_controller_s_name_and_path(cloud):
    """pytest-cov takes it for the controller itself, whose files it finds by itself."""
    cloud.site.write(SUITE)
    for node in cloud.site.nodes:
        node.as_root(["hostname", "controller"])
    try:
        cloud.compare("--cov=pkg", own=[f"--cloud-chdir={PROJECT}"], nodes=cloud.site.nodes)
    finally:
        for node in cloud.site.nodes:
            node.as_root(["hostname", node.host])


def test_this_machine_along(cloud):
    cloud.site.write({**SUITE, **CHILDREN})
    cloud.compare("--cov=pkg", "--cov-branch", own=["-n1"], nodes=[":", *cloud.nodes])
    cloud.compare("--cov=pkg", nodes=[":"])


def test_children(cloud):
    """As pytest-xdist does it on this machine, data of a multiprocessing pool included."""
    cloud.site.write({**SUITE, **CHILDREN})
    here = cloud.local("--cov=pkg", "-n2")
    assert here.returncode == 0
    expected = cloud.take()["data"]
    there, seen = cloud.compare("--cov=pkg", "--cov-report=term-missing")
    assert seen["data"] == expected
    assert re.search(r"^pkg/child.py +7 +0 +100%", table(there)[0], re.M)


def test_children_by_coverage_itself(cloud):
    cloud.site.write({**SUITE, **CHILDREN, ".coveragerc": "[run]\nconcurrency = multiprocessing,thread\nsource = pkg\n"})
    assert cloud.local("--cov", "-n2").returncode == 0
    expected = cloud.take()["data"]
    before = cloud.files()
    for _ in range(2):
        assert cloud.far("--cov").returncode == 0
        assert cloud.take()["data"] == expected
        cloud.assert_nothing_left(before)


def test_a_child_that_outlives_its_worker(cloud):
    """multiprocessing's resource tracker does, and leaves its data as it would here: until the next sync."""
    spawn = CHILDREN["tests/test_children.py"].replace('"fork"', '"spawn"')
    cloud.site.write({**SUITE, "tests/test_children.py": spawn})
    assert cloud.local("--cov=pkg", "-n2").returncode == 0
    expected = cloud.take()["data"]
    for path in cloud.project.glob(".coverage.*"):
        path.unlink()
    for _ in range(2):
        assert cloud.far("--cov=pkg").returncode == 0
        assert cloud.take()["data"] == expected
        assert len(cloud.left_on_nodes()) <= 1
    assert cloud.far("-k", "module").returncode == 0
    assert cloud.left_on_nodes() == []


def test_coverage_of_its_own_in_a_test(cloud):
    """A project's tests may run coverage themselves, and look for its data where it is by default."""
    cloud.site.write({**SUITE, "tests/test_own.py": """\
import os, subprocess, sys

def test_own(tmp_path):
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COV_CORE")}
    (tmp_path / "script.py").write_text("x = 1")
    subprocess.run([sys.executable, "-m", "coverage", "run", "script.py"], cwd=tmp_path, env=environ, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".coverage", "script.py"]
"""})
    assert cloud.local().returncode == 0
    assert cloud.far().returncode == 0
    cloud.compare("--cov=pkg")


def test_each_merges_all_nodes(cloud):
    """Lines that only one of the nodes runs are all covered."""
    cloud.site.write({**SUITE, "pkg/where.py": """\
import socket
NAME = socket.gethostname()
if NAME == "node1":
    x = 1
if NAME == "node2":
    x = 2
if NAME == "node3":
    x = 3
if NAME == "controller":
    x = 4
""", "tests/test_a.py": "import pkg.where\ndef test_one(): pass\n"})
    result = cloud.far("--cov=pkg", "--cov-report=term-missing", "--dist=each", nodes=cloud.all)
    assert result.returncode == 0, result
    assert re.search(r"^pkg/where.py +10 +1 +90% +10$", result.stdout, re.M), result
    assert cloud.left_on_nodes() == []


def test_a_worker_that_dies(cloud):
    """What it had measured is lost, as in any run of pytest-xdist; it is named, and all else is there."""
    cloud.site.write({**SUITE, "tests/test_die.py": "import os\ndef test_die():\n    os._exit(1)\n"})
    result = cloud.far("--cov=pkg")
    assert result.returncode == 1 and "1 failed, 41 passed" in result.stdout, result
    assert re.search(r"^-+ coverage: failed workers -+$", result.stdout, re.M)
    assert re.search(r"^pkg/untouched.py +2 +2 +0%$", result.stdout, re.M)
    assert not list(cloud.project.glob(".coverage.*"))
