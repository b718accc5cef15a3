"""The comparison of same.py itself: that it finds a difference, and none where there is none."""
import pytest

from same import WAYS, Same

SUITE = {"test_all.py": """\
import os, pytest
@pytest.mark.parametrize("n", range(3))
def test_passes(n): pass
def test_fails(): assert 0
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail
def test_xfailed(): assert 0
@pytest.fixture
def broken():
    yield
    assert 0
def test_error(broken): pass
"""}
ALL = {"test_all::test_passes[0]": "passed", "test_all::test_passes[1]": "passed", "test_all::test_passes[2]": "passed",
       "test_all::test_fails": "failed", "test_all::test_skipped": "skipped", "test_all::test_xfailed": "xfailed",
       "test_all::test_error": "error"}


@pytest.mark.parametrize("way", WAYS)
def test_every_outcome(site, way):
    site.write(SUITE)
    here, _ = Same(site).check(way=way)
    assert here.status == 1 and here.tests == ALL


@pytest.mark.parametrize("way", WAYS)
def test_a_difference_is_found(site, way):
    site.write({"test_where.py": "import os\ndef test_here(): assert os.getcwd() == '/home/ci/project'\n"})
    with pytest.raises(AssertionError, match="failed"):
        Same(site).check(way=way)
