"""run --watch: again after every change, on the same nodes and connections."""
import re
import signal

import pytest

from cloudnodes import wait_until

DEADLINE = 60


class Watched:
    """A running `cloudplan run --watch`, read as it goes."""

    def __init__(self, site, *args, **options):
        self.site = site
        self.log = site.world.home / "watch.log"
        self.log.write_text("")
        command = site.argv("run", "--watch", *args, **options)
        self.process = site.world.popen(["sh", "-c", 'exec "$@" >/home/ci/watch.log 2>&1', "sh", *command], cwd="/home/ci/project")

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, count=1, timeout=DEADLINE):
        wait_until(lambda: len(re.findall(pattern, self.text(), re.M)) >= count, timeout=timeout,
                   what=lambda: f"{count} times {pattern} in:\n{self.text()}")

    def wait_idle(self, count, **options):
        self.wait_for(r"^cloudplan: .*waiting for a change in ", count, **options)

    def runs(self):
        """What each run of pytest said of itself: "1 failed, 2 passed"."""
        return re.findall(r"^=* ?((?:\d+ \w+(?:, )?)+) in [\d.]+s", self.text(), re.M)

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        self.site.finish(self.process)
        return self.process.returncode


PASSING = "def test_good():\n    pass\n"
FAILING = "def test_bad():\n    assert 0\n"


@pytest.mark.parametrize("args, words", [
    (["plan", "--watch"], "--watch: only run has something to run again; leave out plan"),
    (["run", "--watch", "--dist=each"], "--watch: cannot tell whose tests"),
    (["run", "--watch", "--", "--dist=each"], "--watch: cannot tell whose tests"),
])
def test_what_cannot_be_watched(site, args, words):
    site.write({"test_a.py": PASSING})
    result = site.run(*args)
    assert result.returncode == 64 and words in result.stderr, result


def test_failed_tests_first_then_all(site):
    site.write({"test_a.py": PASSING, "test_b.py": FAILING, "pkg/__init__.py": ""})
    watched = Watched(site, "--cloud-max-processes=1", "--", "-q")
    watched.wait_idle(1)
    assert watched.runs() == ["1 failed, 1 passed"]
    opened = [node.read_log().count("Accepted publickey") for node in site.nodes]
    # A change that repairs nothing: the failed test alone.
    (site.project / "pkg/__init__.py").write_text("x = 1\n")
    watched.wait_idle(2)
    assert watched.runs() == ["1 failed, 1 passed", "1 failed"]
    # The repair: the failed one, and since it passes, everything.
    (site.project / "test_b.py").write_text("def test_bad():\n    pass\n")
    watched.wait_idle(3)
    assert watched.runs() == ["1 failed, 1 passed", "1 failed", "1 passed", "2 passed"]
    # A new file: everything, since nothing had failed.
    (site.project / "test_c.py").write_text(PASSING)
    watched.wait_idle(4)
    assert watched.runs()[-1] == "3 passed"
    # No node was asked or connected to again.
    assert [node.read_log().count("Accepted publickey") for node in site.nodes] == opened
    assert "test_b.py has changed" in watched.text()
    assert watched.end() == 0


def test_reports_written_by_a_run_start_no_other(site):
    site.write({"test_a.py": FAILING})
    watched = Watched(site, "--cloud-max-processes=1", "--", "-q", "--junitxml=report.xml")
    watched.wait_idle(1)
    (site.project / "test_a.py").write_text(FAILING + "\n# changed\n")
    watched.wait_idle(2)
    assert len(watched.runs()) == 2
    assert watched.end(signal.SIGTERM) == 1


def test_a_change_during_a_run_is_not_missed(site):
    site.write({"test_a.py": "import time, os\ndef test_slow():\n    end = time.monotonic() + 2\n    while time.monotonic() < end: time.sleep(0.05)\n"})
    watched = Watched(site, "--cloud-max-processes=1", "--", "-q", nodes=[site.nodes[0]])
    watched.wait_for(r"^cloudplan: copied ")
    wait_until(lambda: any("execnet" in " ".join(p.argv) if hasattr(p, "argv") else "python" in str(p)
                           for p in site.nodes[0].processes()), timeout=DEADLINE, what="a worker")
    (site.project / "test_b.py").write_text(PASSING)
    watched.wait_idle(2)
    assert watched.runs()[-1] == "2 passed"
    assert watched.end() == 0


def test_a_node_that_goes_away_meanwhile(make_site):
    site = make_site(nodes=2)
    site.write({"test_a.py": PASSING})
    watched = Watched(site, "--cloud-max-processes=1", "--", "-q")
    watched.wait_idle(1)
    site.nodes[1].sshd_stop()
    (site.project / "test_a.py").write_text(PASSING + "\n" + FAILING)
    watched.wait_idle(2, timeout=30)
    assert watched.runs()[-1] == "1 failed, 1 passed"
    assert re.search(rf"^cloudplan: {re.escape(site.nodes[1].name)} is left out \(", watched.text(), re.M), watched.text()
    assert watched.end() == 1


def test_what_is_copied_from_elsewhere(site):
    """A directory and a virtualenv from outside the project start a run; of the project itself what is not copied does not."""
    library = site.world.home / "library"
    library.mkdir(exist_ok=True)
    (library / "value").write_text("1")
    site.world.run(["python3", "-m", "venv", "--system-site-packages", "/home/ci/outer"], check=True)
    site.write({"tests/test_a.py": "def test_value():\n    assert open('library/value').read() == '2'\n", "doc/x": ""})
    watched = Watched(site, "--cloud-max-processes=1", "--rsyncdir=tests", "--rsyncdir=../library",
                      "--cloud-virtualenv-path=../outer", "--", "-q", "tests", nodes=[site.nodes[0]])
    watched.wait_idle(1)
    assert watched.runs() == ["1 failed"]
    (site.project / "doc/x").write_text("not copied")
    (library / "value").write_text("2")
    watched.wait_idle(2)
    assert watched.runs() == ["1 failed", "1 passed", "1 passed"]
    assert re.search(r"^cloudplan: library/value has changed$", watched.text(), re.M), watched.text()
    (site.project / "doc/x").write_text("not copied either")
    module = next((site.world.home / "outer").glob("lib/*/site-packages")) / "new_module.py"
    module.write_text("")
    watched.wait_idle(3)
    assert re.search(r"^cloudplan: outer/lib/\S+/new_module.py has changed$", watched.text(), re.M), watched.text()
    assert len(watched.runs()) == 4 and "doc" not in watched.text()
    assert watched.end() == 0


def test_a_directory_from_elsewhere_that_goes(site):
    library = site.world.home / "other"
    library.mkdir()
    site.write({"test_a.py": PASSING})
    watched = Watched(site, "--cloud-max-processes=1", "--rsyncdir=.", "--rsyncdir=../other", "--", "-q", nodes=[site.nodes[0]])
    watched.wait_idle(1)
    library.rename(site.world.home / "other-moved")
    site.finish(watched.process, timeout=DEADLINE)
    (site.world.home / "other-moved").rmdir()
    assert watched.process.returncode == 71
    assert watched.text().splitlines()[-1] == "cloudplan: /home/ci/other: this directory can no longer be watched: No such file or directory"


def test_a_failed_test_that_is_taken_away(site):
    """There is nothing left that could be run again: everything is."""
    site.write({"test_a.py": PASSING, "test_b.py": FAILING + "def test_other():\n    pass\n"})
    watched = Watched(site, "--cloud-max-processes=1", "--", "-q", nodes=[site.nodes[0]])
    watched.wait_idle(1)
    (site.project / "test_b.py").write_text("def test_other():\n    pass\n")
    watched.wait_idle(2)
    assert watched.runs()[-1] == "2 passed", watched.text()
    assert "what had failed can no longer be run: running everything" in watched.text()
    (site.project / "test_b.py").write_text(FAILING)
    watched.wait_idle(3)
    (site.project / "test_b.py").unlink()
    watched.wait_idle(4)
    assert watched.runs()[-1] == "1 passed", watched.text()
    assert watched.end() == 0
