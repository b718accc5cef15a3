"""The code that is tested is the code that was copied: a worker that has imported another one runs no test (SAME.md, section 4)."""
import shutil

import pytest

from conftest import PROJECT
from same import WAYS, Same

USER_SITE = ".local/lib/python3.11/site-packages"
TEST = """\
import pytest
from shop import price
@pytest.mark.parametrize("n", range(6))
def test_price(n): assert price(n) == 2 * n
"""
OURS = "def price(n): return 2 * n\n"
OTHER = "RELEASE = 1\ndef price(n): return n + n\n"  # passes as well: no test can tell
APPENDED = "import os, sys\nsys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'src'))\n"
NO_WORKER = 69
FINDER = f"""\
import sys
from importlib.util import spec_from_file_location
class _EditableFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return spec_from_file_location(name, "{PROJECT}/src/shop/__init__.py") if name == "shop" else None
def install(): sys.meta_path.append(_EditableFinder)
"""


class Installed:
    """Files in the user's site-packages of a machine."""

    def __init__(self):
        self.made = []

    def add(self, home, files):
        self.made.append(home / USER_SITE)
        for name, text in files.items():
            path = home / USER_SITE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def remove(self):
        for folder in self.made:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def installed(site):
    installed = Installed()
    yield installed
    installed.remove()


def all_refused(site, here, there, *words):
    assert here.status == 0 and set(here.tests.values()) == {"passed"}, here
    assert there.status == NO_WORKER and not there.tests, there
    output = there.result.stdout + there.result.stderr
    for word in words:
        assert word in output, (word, output)


def both(site, way, *args, **options):
    same = Same(site)
    return same.here(*args), same.there(way, *args, **options)


def text_of(outcome):
    return outcome.result.stdout + outcome.result.stderr


@pytest.mark.parametrize("way", WAYS)
def test_one_node_has_another_release(site, installed, way):
    site.write({"conftest.py": APPENDED, "src/shop/__init__.py": OURS, "test_price.py": TEST})
    installed.add(site.nodes[0].home, {"shop/__init__.py": OTHER})
    _, there = Same(site).check(way=way)
    assert f"shop comes from /home/ci/{USER_SITE}/shop there, from src/shop here" in text_of(there), there
    assert there.status == 0 and len(there.tests) == 6
    assert text_of(there).count("is lost (shop comes from") == 2, there  # its two processes


@pytest.mark.parametrize("way", WAYS)
def test_a_path_of_this_machine(site, installed, way):
    site.write({"conftest.py": f"import sys\nsys.path.insert(0, '{PROJECT}/src')\n", "src/shop.py": OURS, "test_price.py": TEST})
    for node in site.nodes[:2]:
        installed.add(node.home, {"shop/__init__.py": OTHER})
    all_refused(site, *both(site, way), f"no worker is left: shop comes from /home/ci/{USER_SITE}/shop there, from src/shop.py here")


@pytest.mark.parametrize("kind", ["pth", "finder"])
@pytest.mark.parametrize("way", WAYS)
def test_an_editable_install_here(site, installed, way, kind):
    site.write({"src/shop/__init__.py": OURS, "tests/test_price.py": TEST})
    files = {"shop.pth": f"{PROJECT}/src\n"}
    if kind == "finder":
        files = {"shop.pth": "import __editable___shop_finder; __editable___shop_finder.install()\n", "__editable___shop_finder.py": FINDER}
    installed.add(site.world.home, files)
    installed.add(site.nodes[0].home, {"shop.py": OTHER})
    all_refused(site, *both(site, way, nodes=site.nodes[:1]), f"shop comes from /home/ci/{USER_SITE}/shop.py there, from src/shop here")


@pytest.mark.parametrize("way", WAYS)
def test_a_namespace_package_of_two_places(site, installed, way):
    site.write({"conftest.py": APPENDED, "src/company/shop.py": OURS, "test_price.py": TEST.replace("from shop", "from company.shop")})
    installed.add(site.nodes[0].home, {"company/shop.py": OTHER})
    all_refused(site, *both(site, way, nodes=site.nodes[:1]), f"company comes from /home/ci/{USER_SITE}/company:src/company there, from src/company here")


@pytest.mark.parametrize("way", WAYS)
def test_a_package_that_is_a_pytest_plugin(site, installed, way):
    """Installed there with its entry point, so that it is imported before any conftest.py is."""
    plugin = "import pytest\n@pytest.fixture\ndef doubled(): return lambda n: 2 * n\n"
    entry = {"doubling-1.dist-info/entry_points.txt": "[pytest11]\ndoubling = doubling\n",
             "doubling-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: doubling\nVersion: 1\n"}
    site.write({"src/doubling.py": plugin, "tests/test_it.py": "def test_it(doubled): assert doubled(2) == 4\n"})
    installed.add(site.world.home, {"doubling.pth": f"{PROJECT}/src\n", **entry})
    installed.add(site.nodes[0].home, {"doubling/__init__.py": plugin, **entry})
    all_refused(site, *both(site, way, nodes=site.nodes[:1]), f"doubling comes from /home/ci/{USER_SITE}/doubling there, from src/doubling.py here")


@pytest.mark.parametrize("way", WAYS)
def test_an_import_in_a_test(site, installed, way):
    site.write({"conftest.py": APPENDED, "src/shop.py": OURS, "test_late.py": "def test_late():\n    import shop\n    assert shop.price(1) == 2\n"})
    installed.add(site.nodes[0].home, {"shop.py": OTHER})
    here, there = both(site, way, nodes=site.nodes[:1])
    assert here.status == 0 and there.status == NO_WORKER, there
    assert there.tests == here.tests
    assert f"shop comes from /home/ci/{USER_SITE}/shop.py there, from src/shop.py here" in text_of(there), there
    assert "the tests have not run with the code that was copied" in text_of(there), there


# What looks like a difference, and is none.

SAME_CODE = {
    "conftest.py": APPENDED + "import helpers\n",
    "helpers.py": "WHERE = 'root'\n",
    "tests/helpers.py": "WHERE = 'tests'\n",  # which nobody sees: the other one was imported first
    "tests/queue.py": "",  # hides nothing: the standard library's is imported already
    "yaml/data.txt": "",
    "src/shop/__init__.py": "from shop.prices import price\n",
    "src/shop/prices.py": OURS,
    "src/company/one.py": "ONE = 1\n",
    "tests/test_price.py": TEST + """\
import helpers, queue, company.one, late
def test_helpers(): assert helpers.WHERE == 'root' and queue.Queue
def test_own_package(tmp_path, monkeypatch):
    (tmp_path / 'src_made.py').write_text('MADE = 1')
    monkeypatch.syspath_prepend(str(tmp_path))
    import src_made
    assert src_made.MADE
def test_installed(): assert late.RELEASE == 1
""",
    "src/src_made.py": "MADE = 0\n",
    "src/late.py": "RELEASE = 2\n",
}


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_the_same_code(site, installed, way, mode):
    site.write(SAME_CODE)
    (site.project / "src/linked").symlink_to("shop")
    (site.project / "tests/test_linked.py").write_text("import linked\ndef test_linked(): assert linked.price(1) == 2\n")
    for home in site.world.home, *(node.home for node in site.nodes[:2]):
        installed.add(home, {"late.py": "RELEASE = 1\n"})  # a release of the project's own that is everywhere
    _, there = Same(site).check("--import-mode=" + mode, way=way)
    assert there.status == 0, there
    assert "comes from" not in text_of(there), there
