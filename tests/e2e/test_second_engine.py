"""An engine that is no part of cloudplan (tests/engine/each.c), on real nodes: the contract has all that one needs."""
import os
import shutil
from pathlib import Path

import pytest

from conftest import PROJECT

EACH = str(Path(os.environ["CLOUDPLAN_BUILD"]) / "tests/engine/cloudplan-each")


def run(site, *args, **options):
    return site.world.run([EACH, *site.argv(*args, **options)[1:]], cwd=PROJECT, timeout=120)


@pytest.fixture(autouse=True)
def no_copies(site):
    yield
    for node in site.nodes:
        shutil.rmtree(node.home / "each_ci_project", ignore_errors=True)


def test_bad_input_is_its_own(site):
    site.write({"data.txt": "x\n"})
    for args, words in [(["run", "--each-label=", "--", "true"], "--each-label: needs a value"),
                        (["run", "--dist=each", "--", "true"], "--dist: unknown option"),
                        (["run"], "give one command after --"),
                        (["run", "--watch", "--", "true"], "--watch: each has nothing to watch")]:
        result = run(site, *args)
        assert result.returncode == 64 and words in result.stderr, result


def test_it_runs_in_the_copies(site):
    site.write({"data.txt": "x\n"})
    result = run(site, "run", "--each-label=>", "--", "cat data.txt; cat .each-was-here | wc -l; pwd")
    assert result.returncode == 0, result
    assert "cloudplan: each: one command for each node" in result.stderr
    copies = [f"{node.home_path}/each_ci_project" for node in site.nodes]
    assert result.stdout == "".join(f"> x\n1\n{copy}\n" for copy in copies), result
    site.assert_nothing_left()


def test_its_status_and_its_words(site):
    site.write({"data.txt": "x\n"})
    assert run(site, "run", "--", "exit 3").returncode == 3
    result = run(site, "plan", "--format=tx", "--", "true")
    assert result.returncode == 0 and len(result.stdout.splitlines()) == len(site.nodes), result
    assert all(line.startswith("exec ssh ") for line in result.stdout.splitlines())


def test_a_node_that_lacks_what_it_needs(site):
    site.write({"data.txt": "x\n"})
    node = site.nodes[0]
    (node.home / ".no-each").touch()
    try:
        result = run(site, "run", "--", "pwd")
    finally:
        (node.home / ".no-each").unlink()
    assert result.returncode == 0 and len(result.stdout.splitlines()) == len(site.nodes) - 1, result
    assert f"{node.name} is left out (unfit): it has a ~/.no-each: remove that" in result.stderr, result
