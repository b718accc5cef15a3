"""One directory, one name: what is checked and marked is what is copied to, worked in and cleaned, wherever a login shell
stands and whatever it takes for its home.  And directories that somebody else has left: --cloud-adopt."""
import json
import re
import xml.etree.ElementTree

import pytest

from conftest import clean

WHERE = {"test_where.py": "import os\n\ndef test_where(record_property):\n    record_property('cwd', os.getcwd())\n"
                          "    record_property('home', os.path.expanduser('~'))\n    assert os.path.isfile('.cloudplan')\n"}
COPY = "pytest_ci_project"
FORCED = 'command="cd /tmp; HOME=/tmp; export HOME; exec sh -c \\"$SSH_ORIGINAL_COMMAND\\"" '


class Login:
    """A login of one of the site's nodes, which is as it was when the test is over."""

    def __init__(self, node, user):
        self.node, self.user, self.name = node, user, f"{user}@{node.name}"
        self.home = node.home if user == "ci" else node.dev_home
        self.made = []

    def bashrc(self, text):
        self.write(".bashrc", text)

    def write(self, name, text):
        path = self.home / name
        self.made.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def sh(self, text):
        """There, in its home."""
        return self.node.run(["sh", "-c", f"cd /home/{self.user} && " + text], check=True).stdout

    def tree(self, path):
        """What is there of a directory, with what is in its files."""
        return self.sh(f"cd {path} && find . -type f -exec sh -c 'echo \"$1\"; cat \"$1\"' sh {{}} \\; | LC_ALL=C sort")

    def clear(self):
        self.node.run(["sh", "-c", f"cd /home/{self.user} && chmod -R u+rwx . && find . ! -name . -prune ! -name .ssh "
                                   "-exec rm -rf {} + ; rm -rf /tmp/* /tmp/.[!.]*"])


@pytest.fixture
def logins(site):
    """ci and dev of each node, in order."""
    found = [Login(node, user) for node in site.nodes for user in ("ci", "dev")]
    keys = {login: (login.home / ".ssh/authorized_keys").read_text() for login in found}
    yield found
    for login in found:
        (login.home / ".ssh/authorized_keys").write_text(keys[login])
        login.clear()
    clean(site)


def precious(login, place):
    """Somebody's directory in a place where a shell may stand."""
    login.sh(f"mkdir -p {place} && echo ten years >{place}/precious")


def test_shells_that_stand_elsewhere(site, logins):
    """Each test case tells its node, its worker's directory and its home.  Nothing is touched where shells stand."""
    one, two, three, four, five, six = logins
    for login in one, two:  # a port that is named makes one more part of a name
        login.name += ":22"
    site.write(WHERE)
    one.bashrc("cd ~/work\n")
    precious(one, f"work/{COPY}")
    two.bashrc("export HOME=/home/dev/else\nmkdir -p ~\n")
    precious(two, COPY)
    three.bashrc("export CDPATH=/home/ci/others:.\ncd() { builtin cd /home/ci/others; }\npwd() { echo /home/ci/others; }\n"
                 "alias cd='cd /home/ci/others'\nexport -f cd pwd\ncd\n")
    precious(three, f"others/{COPY}")
    keys = four.home / ".ssh/authorized_keys"
    keys.write_text(FORCED.replace("HOME=/tmp; export HOME; ", "") + keys.read_text())
    precious(four, f"/tmp/{COPY}")
    five.bashrc("export HOME=/home/ci/link\ncd /\n")
    five.sh("mkdir real && ln -s real link")
    six.bashrc("set -- x; cd /tmp; ls() { :; }; mkdir() { :; }; export -f ls mkdir\n")
    precious(six, f"/tmp/{COPY}/deep")
    places = {one: "/home/ci", two: "/home/dev/else", three: "/home/ci", four: "/home/dev", five: "/home/ci/real", six: "/home/dev"}
    for round in range(2):  # an existing copy, too
        result = site.run("run", "--verify", "--", "-q", "--dist=each", "--junitxml=report.xml", nodes=[login.name for login in logins])
        assert result.returncode == 0, result
        cases = xml.etree.ElementTree.parse(site.project / "report.xml").iter("testcase")
        found = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
        assert {case["node"]: case["cwd"] for case in found} == {login.name: f"{place}/{COPY}" for login, place in places.items()}
        assert len(found) == 6 and all(case["worker"].startswith(case["node"] + "_") for case in found), found
    for login, place in ((one, f"work/{COPY}"), (two, COPY), (three, f"others/{COPY}"), (four, f"/tmp/{COPY}")):
        assert login.tree(place) == "./precious\nten years\n", login.name
    assert six.tree(f"/tmp/{COPY}") == "./deep/precious\nten years\n"


def test_a_directory_that_is_named(site, logins):
    """By a path with a link in it, relative or absolute; the virtualenv, too."""
    one, two = logins[:2]
    site.write(WHERE)
    site.world.run(["python3", "-m", "venv", "--system-site-packages", "--without-pip", "venv"], cwd="/home/ci/project", check=True)
    for login in one, two:
        login.bashrc("cd /tmp\n")
        login.sh("mkdir -p far/away && ln -s far near && mkdir -p /tmp/near/away/copy && echo ten years >/tmp/near/away/copy/precious")
    for chdir, place in (("near/away/copy", "/home/{}/far/away/copy"), ("/tmp/over/copy", "/tmp/{}/copy")):
        one.sh("ln -sfn /tmp/ci /tmp/over && mkdir -p /tmp/ci")
        chosen = [one] if chdir.startswith("/") else [one, two]
        result = site.run("run", f"--cloud-chdir={chdir}", "--cloud-max-processes=1", "--", "-v", "--dist=each", "--junitxml=report.xml",
                          nodes=[login.name for login in chosen])
        assert result.returncode == 0, result
        cases = xml.etree.ElementTree.parse(site.project / "report.xml").iter("testcase")
        found = {p.get("value") for case in cases for p in case.iter("property") if p.get("name") == "cwd"}
        assert found == {place.format(login.user) for login in chosen}
        activate = one.sh(f"cat {place.format('ci')}/venv/bin/activate")
        assert place.format("ci") + "/venv" in activate
    assert one.tree("/tmp/near/away/copy") == "./precious\nten years\n"


def test_a_home_that_is_none(site, logins):
    """Each has its reason; an absolute directory needs no home."""
    site.write(WHERE)
    nowhere, unset, relative, blank, good, holds = logins
    nowhere.bashrc("export HOME=/no/such/home\n")
    unset.bashrc("unset HOME\n")
    relative.bashrc("export HOME=work\n")
    blank.bashrc("export HOME='/home/dev/my home'\nmkdir -p \"$HOME\"\n")
    reasons = {nowhere: "the home directory, /no/such/home, does not exist there or cannot be entered",
               unset: "HOME is not set there, or is no absolute path",
               relative: "HOME is not set there, or is no absolute path",
               blank: f"its directory /home/dev/my home/{COPY} has a character that .* ' ': choose another --cloud-chdir"}
    names = [login.name for login in logins[:5]]
    result = site.run("sync", nodes=names)
    assert result.returncode == 0, result
    for login, reason in reasons.items():
        assert re.search(rf"{re.escape(login.name)} is left out \(unfit\): ({reason})", result.stderr), (login.name, result.stderr)
    assert good.sh(f"cat {COPY}/test_where.py") == WHERE["test_where.py"]
    planned = site.run("plan", "--format=json", nodes=[nowhere.name, unset.name, relative.name])
    assert planned.returncode == 69 and "does not exist there" in planned.stderr, planned
    result = site.run("sync", "--cloud-chdir=/tmp/own/copy", nodes=[nowhere.name])
    assert result.returncode == 0 and nowhere.sh("ls /tmp/own/copy") == "test_where.py\n", result
    # What holds the home is not for a copy, though it be the login's own and empty but for it.
    holds.bashrc("export HOME=/tmp/top/home\nmkdir -p ~\n")
    for adopt in [], ["--cloud-adopt"]:
        result = site.run("sync", "--cloud-chdir=/tmp/top", *adopt, nodes=[holds.name])
        assert result.returncode == 69 and not holds.sh("ls -A /tmp/top").split() == [".cloudplan"], result
    assert "is the home directory there, or holds it" in result.stderr
    assert holds.sh("ls -A /tmp/top") == "home\n"


FILES = {**WHERE, "pkg/__init__.py": "", "pkg/a.py": "A = 1\n"}
LEFT = ("mkdir -p {0}/pkg/__pycache__ {0}/gone/__pycache__ {0}/.pytest_cache/v {0}/old.egg-info {0}/.git && echo old >{0}/pkg/a.py && "
        "touch {0}/pkg/__pycache__/a.pyc {0}/gone/__pycache__/b.pyc {0}/gone/c.pyc {0}/.pytest_cache/v/x {0}/old.egg-info/PKG-INFO {0}/.git/config")


def test_adopt(site, logins):
    """What an old copy has left is used again, where nothing but caches would be deleted; all else stays as it is."""
    old, files, names, link, empty, made = logins
    site.write(FILES)
    old.sh(LEFT.format(COPY))
    files.sh(LEFT.format(COPY) + f" && mkdir {COPY}/notes {COPY}/nothing && echo ten years >{COPY}/notes/precious")
    names.sh(f"mkdir {COPY} && cd {COPY} && touch \"$(printf 'red\\033[31m')\" 'a b' \"$(printf 'two\\nlines')\" && "
             "for n in 1 2 3 4 5 6 7 8 9; do touch a-name-that-is-rather-long-$n; done")
    link.sh(f"mkdir theirs && touch theirs/x && ln -s theirs {COPY}")
    empty.sh(f"mkdir {COPY}")
    made.sh(f"mkdir {COPY} && touch {COPY}/.cloudplan {COPY}/gone")
    before = {login: login.tree(COPY + "/") for login in (old, files, names, link)}
    everyone = [login.name for login in logins]

    def left_out(login, result):
        return re.search(rf"{re.escape(login.name)} is left out \((\w+)\): (.*)", result.stderr).groups()

    result = site.run("sync", nodes=everyone)
    assert result.returncode == 0, result
    for login in old, files, names:
        assert left_out(login, result)[1].endswith("or have --cloud-adopt look whether it can be used"), result.stderr
    assert "--cloud-adopt" not in left_out(link, result)[1]
    assert {login: login.tree(COPY + "/") for login in before} == before
    assert made.sh(f"ls {COPY}") == empty.sh(f"ls {COPY}") == "pkg\ntest_where.py\n"

    result = site.run("sync", "--cloud-adopt", nodes=everyone)
    assert result.returncode == 0, result
    assert left_out(files, result) == ("unfit", f"{COPY} was not made by cloudplan, and --cloud-adopt would delete 3 of what is in it: "
                                       "nothing/, notes/precious, notes/; move that away, or choose another --cloud-chdir")
    state, reason = left_out(names, result)
    assert state == "unfit" and "would delete 12 of what is in it: " in reason and reason.isprintable() and "..." in reason, reason
    assert "was not made by cloudplan" in left_out(link, result)[1] or "symbolic link" in left_out(link, result)[1]
    assert {login: login.tree(COPY + "/") for login in (files, names, link)} == {login: before[login] for login in (files, names, link)}
    assert old.sh(f"cd {COPY} && cat pkg/a.py && find . -type f | LC_ALL=C sort").split() == [
        "A", "=", "1", "./.cloudplan", "./.git/config", "./.pytest_cache/v/x", "./pkg/__init__.py", "./pkg/__pycache__/a.pyc",
        "./pkg/a.py", "./test_where.py"]
    # From now on it is as any other, and for all who have nobody else's the option changes nothing.
    assert site.run("sync", nodes=[old.name]).returncode == 0
    assert site.run("sync", "--cloud-adopt", nodes=[files.name, link.name]).returncode == 69


def test_one_of_this_machine_s_own(site):
    """--dist=each here: the interpreter of the pytest that was started, not the python3 of PATH."""
    site.write({"test_a.py": "def test_a(): pass\n"})
    bin = site.world.home / "bin"
    bin.mkdir(exist_ok=True)
    (bin / "python3").write_text("#!/bin/sh\ncase $1 in -V) echo Python 3.99.0; exit ;; esac\nexec false\n")
    (bin / "python3").chmod(0o755)
    real = site.world.run(["sh", "-c", "command -v python3"], check=True).stdout.strip()
    env = {"CLOUDPLAN_PYTHON": real, "PATH": f"/home/ci/bin:{site.world.run(['sh', '-c', 'echo $PATH'], check=True).stdout.strip()}"}
    planned = json.loads(site.run("plan", "--dist=each", "--format=json", nodes=[":"], env=env).stdout)
    assert len(planned["tx"]) == 1 and "python=python3" not in planned["tx"][0] and "3.99" not in planned["tx"][0], planned
    result = site.run("run", "--dist=each", "--", "-q", nodes=[":"], env=env)
    assert result.returncode == 0 and "1 passed" in result.stdout, result
