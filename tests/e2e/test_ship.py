"""--cloud-ship-pytest on nodes whose interpreter has nothing but its standard library."""
import pytest

from conftest import clean

BARE = "--cloud-python=/var/tmp/bare/bin/python3"
ARGS = [BARE, "--cloud-max-processes=1", "--cloud-rsync-bandwidth-limit=0"]
SUITE = """\
import os, subprocess, sys, pytest

@pytest.mark.parametrize("x", range(6))
def test_child(x):
    done = subprocess.run([sys.executable, "-m", "pytest", "--version"], stdout=subprocess.PIPE)
    assert done.returncode == 0 and pytest.__file__.startswith(os.getcwd())
"""


@pytest.fixture(scope="module")
def bare(three_nodes):
    clean(three_nodes)
    for node in three_nodes.nodes:
        node.run(["python3", "-m", "venv", "--without-pip", "/var/tmp/bare"], check=True)
    yield three_nodes


@pytest.fixture
def site(bare):
    clean(bare)
    yield bare
    bare.assert_nothing_left()


def test_what_is_missing_is_named_before_the_run(site):
    site.write({"test_a.py": SUITE})
    result = site.run("run", *ARGS, nodes=site.nodes[:1])
    assert result.returncode == 69, result
    assert "pytest, xdist, execnet are missing for /var/tmp/bare/bin/python3 on the node" in result.stderr
    assert not (site.nodes[0].home / "pytest_ci_project").exists()


def test_what_is_not_shipped_is_named_before_the_run(site):
    site.write({"test_a.py": SUITE, "pytest.ini": "[pytest]\nrequired_plugins = pytest-xdist pytest-cov\n"})
    result = site.run("run", "--cloud-ship-pytest", *ARGS, nodes=site.nodes[:1])
    assert result.returncode == 69, result
    assert "pytest_cov are missing for" not in result.stderr and "pytest_cov is missing for" in result.stderr, result
    assert not (site.nodes[0].home / "pytest_ci_project").exists()


def test_shipped(site):
    site.write({"tests/test_a.py": SUITE})
    result = site.run("run", "--cloud-ship-pytest", *ARGS, "--", "tests")
    assert result.returncode == 0 and "6 passed" in result.stdout, result
    # And with a part of the project alone.
    result = site.run("run", "--cloud-ship-pytest", "--rsyncdir=tests", *ARGS, "--", "tests")
    assert result.returncode == 0 and "6 passed" in result.stdout, result


def test_a_plugin_is_shipped_with_what_it_uses(site):
    """pytest-forked uses more of py than the part that comes with pytest."""
    pytest.importorskip("pytest_forked")
    site.write({"test_a.py": SUITE + "\ndef test_dies():\n    os._exit(3)\n"})
    result = site.run("run", "--cloud-ship-pytest", "--cloud-ship-plugin=pytest-forked", *ARGS, "--", "--forked")
    assert result.returncode == 1 and "1 failed, 6 passed" in result.stdout, result


def test_a_name_that_the_project_has(site):
    site.write({"test_a.py": SUITE, "cloudplan-site/x": ""})
    result = site.run("run", "--cloud-ship-pytest", *ARGS, nodes=site.nodes[:1])
    assert result.returncode == 64, result
    assert "cloudplan-site, which the project itself has" in result.stderr.splitlines()[-1]
    assert not (site.nodes[0].home / "pytest_ci_project").exists()
