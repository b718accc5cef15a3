"""What is set here counts on nodes: the rows of section 3 of SAME.md.  The world's second node has a login that sets what it should not."""
import os
import re
import shutil

import pytest

from same import WAYS, Same

# What a login may set, and what must not decide there.
BASHRC = """\
export PYTHONOPTIMIZE=2 PYTHONPATH=/tmp/of-login PYTHONWARNINGS=error PYTHONHASHSEED=7 PYTHONDEVMODE=1 PYTHONUTF8=0
export TZ=Asia/Tokyo CI=login LC_ALL=C LANGUAGE=de PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 FROM_LOGIN=yes
"""
SHOW = """\
import os, sys, time, json, pytest
NAMES = {names!r}
@pytest.mark.parametrize("n", range(4))
def test_all(n):
    got = {{name: os.environb.get(name.encode()) for name in NAMES}}
    assert got == {wanted!r}
"""


@pytest.fixture
def same(site):
    (site.nodes[1].home / ".bashrc").write_text(BASHRC)
    yield Same(site)
    (site.nodes[1].home / ".bashrc").unlink()


def notes(there):
    """cloudplan's own lines of the run that say something of the environment."""
    return [line for line in there.result.stderr.splitlines() + there.result.stdout.splitlines()
            if line.startswith("cloudplan: ") and re.search("PYTHONPATH|locale|--cloud-env|TZ", line)]


SRC_LAYOUT = {
    "src/package/__init__.py": "def one(): return 1\n",
    "lib/helper.py": "two = 2\n",
    "tests/test_src.py": """\
import os, subprocess, sys
import helper, package
def test_import(): assert package.one() + helper.two == 3
def test_child(): subprocess.run([sys.executable, "-c", "import helper, package"], check=True)
def test_script(tmp_path):
    (tmp_path / "script.py").write_text("import conftest_free_module_of_the_root")
    assert subprocess.run([sys.executable, str(tmp_path / "script.py")]).returncode == 1
def test_nothing_of_a_login(): assert "/tmp/of-login" not in sys.path
def test_another_directory(tmp_path, monkeypatch):
    (tmp_path / "only_there.py").touch()
    monkeypatch.chdir(tmp_path)
    try:
        import only_there
    except ImportError:
        return
    assert 0
""",
    "conftest_free_module_of_the_root.py": "",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", ["src:lib", "{root}/src:{root}/./lib", "lib:../project/src"])
def test_python_path(same, way, value):
    same.site.write(SRC_LAYOUT)
    here, there = same.check("tests", way=way, env={"PYTHONPATH": value.format(root="/home/ci/project")})
    assert set(here.tests.values()) == {"passed"} and len(here.tests) == 5


@pytest.mark.parametrize("way", WAYS)
def test_python_path_elsewhere(same, way):
    """What is outside of the copy is left out and named, once; what is not there is not worth a word."""
    same.site.write({"test_path.py": "import sys\ndef test(): assert '/home/ci/other' not in sys.path\n"})
    other = same.site.world.home / "other"
    other.mkdir(exist_ok=True)
    there = same.there(way, env={"PYTHONPATH": "/home/ci/other:/home/ci/no/such"})
    other.rmdir()
    assert there.status == 0, there.result
    [note] = notes(there)
    assert "/home/ci/other" in note and "no/such" not in note, note


@pytest.mark.parametrize("way", WAYS)
def test_unset_here_is_unset_there(same, way):
    names = ["PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONHASHSEED", "PYTHONDEVMODE", "PYTHONUTF8", "TZ", "CI", "LC_ALL", "LANGUAGE",
             "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONPATH" if way == "cloudplan" else "PYTHONINTMAXSTRDIGITS"]
    same.site.write({"test_unset.py": SHOW.format(names=names, wanted=dict.fromkeys(names))
                     + "def test_assert(): assert sys.flags.optimize == 0 and __debug__ and '/tmp/of-login' not in sys.path\n"})
    here, there = same.check(way=way)
    assert here.status == 0 and (way == "pytest" or notes(there) == [])


HASH = """\
import pytest
WORDS = {str(n) for n in range(50)}
ORDER = ",".join(WORDS)
def test_order(): assert ORDER == %r
@pytest.mark.parametrize("word", sorted(WORDS, key=hash)[:5])
def test_word(word): assert word in WORDS
"""
OPTIMIZE = {"module.py": "def check(n):\n    assert n > 0\n    return n\n",
            "test_optimize.py": "import module, sys\ndef test(): assert module.check(-1) == -1\n"
                                "def test_flag(): assert sys.flags.optimize == 1\n"}
FLAGS = """\
import os, sys, subprocess, time, warnings
def test_flags():
    assert (sys.flags.dev_mode, sys.flags.utf8_mode, sys.flags.dont_write_bytecode, sys.flags.no_user_site) == (True, 0, 1, 1)
    assert getattr(sys.flags, "safe_path", True)
def test_child():
    assert subprocess.run([sys.executable, "-c", "import sys; print(sys.stdout.encoding, sys.flags.dev_mode)"], capture_output=True,
                          text=True).stdout.split()[0] in ("latin-1", "iso8859-1")
def test_digits():
    try:
        int("1" * 700)
    except ValueError:
        return
    assert 0
def test_breakpoint(): breakpoint()
def test_zone(): assert time.tzname[0] == "CET" and os.environ["CI"] == "" and os.environ["BUILD_NUMBER"] == "12"
def test_colour(): assert os.environ["NO_COLOR"] == "1" and "FORCE_COLOR" not in os.environ
"""


@pytest.mark.parametrize("way", WAYS)
def test_hash_seed(same, way):
    same.site.write({"test_hash.py": HASH % "?"})
    order = same.site.world.run(["python3", "-c", "print(','.join({str(n) for n in range(50)}))"], env={"PYTHONHASHSEED": "0"}).stdout
    same.site.write({"test_hash.py": HASH % order.strip()})
    here, _ = same.check(way=way, env={"PYTHONHASHSEED": "0"})
    assert here.status == 0 and len(here.tests) == 6


@pytest.mark.parametrize("way", WAYS)
def test_warnings(same, way):
    same.site.write({"test_warn.py": "import pytest, warnings\n@pytest.mark.parametrize('n', range(4))\n"
                                     "def test(n): warnings.warn('old', DeprecationWarning)\n"})
    here, _ = same.check(way=way, env={"PYTHONWARNINGS": "error::DeprecationWarning"})
    assert here.status == 1


@pytest.mark.parametrize("way", WAYS)
def test_optimize(same, way):
    same.site.write(OPTIMIZE)
    here, _ = same.check(way=way, env={"PYTHONOPTIMIZE": "1"})
    assert here.tests["test_optimize::test"] == "passed"


@pytest.mark.parametrize("way", WAYS)
def test_flags(same, way):
    same.site.write({"test_flags.py": FLAGS})
    here, _ = same.check(way=way, env={
        "PYTHONDEVMODE": "1", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1", "PYTHONINTMAXSTRDIGITS": "640", "PYTHONBREAKPOINT": "0", "TZ": "CET-1CEST,M3.5.0,M10.5.0/3", "CI": "",
        "BUILD_NUMBER": "12", "NO_COLOR": "1"})
    assert set(here.tests.values()) == {"passed"} and len(here.tests) == 6, here.result


@pytest.mark.parametrize("way", WAYS)
def test_safe_path(same, way):
    """With it the current directory is not searched for modules; xdist would have put it first."""
    same.site.write({"at_root.py": "", "tests/test_import.py": "def test(): import at_root\n"})
    here, _ = same.check("tests", way=way, env={"PYTHONSAFEPATH": "1"})
    assert here.status == 1


LOCALE = """\
import locale, os
def test_locale(): assert locale.setlocale(locale.LC_ALL, "") and (os.environ.get("LC_ALL"), os.environ.get("LANG")) == (%r, None)
"""


@pytest.mark.parametrize("way", WAYS)
def test_locale(same, way):
    same.site.write({"test_locale.py": LOCALE % "C.UTF-8"})
    here, there = same.check(way=way, env={"LC_ALL": "C.UTF-8", "LANG": None})
    assert here.status == 0 and not [line for line in notes(there) if "locale" in line]


def test_locale_that_nodes_lack(same):
    """It is there here alone, by LOCPATH: nodes keep their own one, which is said once."""
    same.site.write({"test_locale.py": "import os\ndef test(): assert os.environ.get('LC_ALL') in (None, 'C'), os.environ['LC_ALL']\n"})
    world = same.site.world
    world.run(["sh", "-c", "mkdir -p locales && localedef -i POSIX -f UTF-8 ./locales/xx_XX.UTF-8 || "
               "cp -r /usr/lib/locale/C.utf8 locales/xx_XX.UTF-8"], check=True)
    there = same.there("cloudplan", env={"LC_ALL": "xx_XX.UTF-8", "LOCPATH": "/home/ci/locales"})
    shutil.rmtree(world.home / "locales")
    assert there.status == 0, there.result
    [note] = [line for line in notes(there) if "locale" in line]
    assert "LC_ALL=xx_XX.UTF-8" in note and "1 more do not have" in note, note


CANARY = "can't \"guess\"\nthis: $(c4n4ry) \\101 %s \t"
WANTED = """\
import os, pytest
@pytest.mark.parametrize("n", range(4))
def test(n):
    assert {name: os.environb.get(name.encode()) for name in %r} == %r
"""


@pytest.mark.parametrize("way", WAYS)
def test_cloud_env(same, way):
    """By name, by pattern, with a value, from the ini file; newlines and quotes; !NAME leaves the node its own."""
    wanted = {"MYAPP_TOKEN": CANARY.encode(), "MYAPP_URL": b"x", "GIVEN": b"a=b\nc", "OF_FILE": b"two words", "NOT.A-NAME": b"1",
              "OTHER": None, "EMPTY": b"", "FROM_LOGIN": None}
    same.site.write({"test_env.py": WANTED % (list(wanted), wanted),
                     "pytest.ini": "[pytest]\ncloud_env = MYAPP_* 'OF_FILE=two words' GIVEN=no\n"})
    there = same.there(way, env={"MYAPP_TOKEN": CANARY, "MYAPP_URL": "x", "NOT.A-NAME": "1", "OTHER": "o", "EMPTY": ""},
                       options=["--cloud-env=GIVEN=a=b\nc", "--cloud-env=NOT.A*", "--cloud-env=EMPTY", "--cloud-env=FROM_LOGIN",
                                "--cloud-env=NO_SUCH_*"])
    assert there.status == 0 and set(there.tests.values()) == {"passed"}, there.result
    assert [re.sub("cloudplan: ", "", note) for note in notes(there) if "--cloud-env" in note] == [
        "--cloud-env=NO_SUCH_*: no variable has such a name here"]


def test_bytes_and_what_is_taken_out(same):
    wanted = {"RAW": bytes(range(1, 256)), "LATIN": b"caf\xe9"}
    same.site.write({"test_env.py": WANTED % (list(wanted), wanted) + "def test_own(): assert os.environ.get('CI') in (None, 'login')\n"})
    there = same.there("cloudplan", env={"LATIN": os.fsdecode(b"caf\xe9"), "RAW": os.fsdecode(bytes(range(1, 256))), "CI": "1"},
                       options=["--cloud-env=RAW", "--cloud-env=LATIN", "--cloud-env=!CI"])
    assert there.status == 0, there.result


@pytest.mark.parametrize("item, reason", [
    ("=x", "--cloud-env==...: no name: write NAME, NAME=VALUE, a pattern such as MYAPP_*, or !NAME"),
    ("!", "--cloud-env=!: no name: write NAME, NAME=VALUE, a pattern such as MYAPP_*, or !NAME"),
    ("!NAME=s3cret", "--cloud-env=!NAME=...: !NAME takes no value: leave out what follows the name"),
    ("MYAPP_*=s3cret", "--cloud-env=MYAPP_*=...: a pattern takes no value: leave out what follows the name"),
    ("A\nB=s3cret", "--cloud-env=A?B=...: a character in the name cannot be printed"),
    ("CLOUDPLAN_RUN=s3cret", "--cloud-env=CLOUDPLAN_RUN=...: pytest or cloudplan itself sets it on nodes: leave it out"),
    ("PYTEST_XDIST_WORKER", "--cloud-env=PYTEST_XDIST_WORKER: pytest or cloudplan itself sets it on nodes: leave it out"),
    ("PYTHONHOME", "--cloud-env=PYTHONHOME: is about the Python of this machine, and not handed on to another one: leave it out"),
])
def test_bad_cloud_env(site, item, reason):
    site.write({"test_x.py": "def test(): pass\n"})
    result = site.run("run", "--cloud-env=" + item)
    assert (result.returncode, result.stderr) == (64, f"cloudplan: {reason}\n"), result
    result = site.run("run", "--", "--cloud-env=" + item)
    assert (result.returncode, result.stderr) == (64, f"cloudplan: {reason}\n"), result
    if "\n" not in item:
        site.write({"test_x.py": "def test(): pass\n", "pytest.ini": f"[pytest]\ncloud_env = '{item}'\n"})
        result = site.run("run")
        assert (result.returncode, result.stderr) == (65, f"cloudplan: pytest.ini: {reason}\n"), result
    assert "s3cret" not in result.stderr


def test_an_environment_that_is_too_large(site):
    """A variable of over 128 KiB can be in no process's environment on Linux."""
    site.write({"test_x.py": "def test(): pass\n"})
    large = site.world.home / "large.ini"
    large.write_text("[pytest]\ncloud_env = LARGE=" + 200000 * "x" + "\n")
    result = site.run("run", "--", "-c", "/home/ci/large.ini", "--rootdir=.", timeout=90)
    large.unlink()
    assert result.returncode in (64, 69, 71), result
    assert "too large" in result.stderr + result.stdout or "too long" in result.stderr, result
    assert (result.stdout + result.stderr).count("x" * 1000) == 0


def test_no_value_is_anywhere(make_site):
    """Neither in a command line of ours or a node's, nor in sshd's log, nor in a file that stays, nor in what is written."""
    site = make_site(nodes=2, sshd_config="LogLevel DEBUG3\n")
    canary = "c4n4ry-0123456789"
    trace = "/tmp/trace"
    site.write({"test_env.py": "import os, pytest, subprocess, sys\n@pytest.mark.parametrize('n', range(8))\ndef test(n):\n"
                               f"    assert os.environ['TOKEN'] == {canary[::-1]!r}[::-1]\n"
                               "def test_command_lines():\n    import glob\n    lines = []\n"
                               "    for path in glob.glob('/proc/[0-9]*/cmdline'):\n        try: lines.append(open(path, 'rb').read())\n"
                               f"        except OSError: pass\n    assert len(lines) > 3 and not [l for l in lines if {canary[::-1].encode()!r}[::-1] in l]\n"})
    strace = shutil.which("strace")
    before = [strace, "-f", "-qq", "-s", "100000", "-e", "trace=execve,execveat", "-o", trace] if strace else []
    argv = site.argv("run", "--cloud-env=TOKEN", "-v", "--", "--junitxml=r.xml", "-v")
    result = site.world.run([*before, *argv], cwd="/home/ci/project", env={"TOKEN": canary}, timeout=120)
    assert result.returncode == 0 and canary not in result.stdout + result.stderr, result
    assert "9 passed" in result.stdout + result.stderr, result
    plan = site.run("plan", "--cloud-env=TOKEN", "--format=json", env={"TOKEN": canary})
    assert plan.returncode == 0 and canary not in plan.stdout + plan.stderr, plan
    logs = [node.read_log() for node in site.nodes]
    assert all("Starting session" in log and canary not in log for log in logs)
    if strace:
        text = (site.world.controller.root / "tmp/trace").read_text()
        assert "cloudplan" in text and "-m" in text and "ssh" in text and canary not in text
    for machine in [*site.nodes, site.world.controller]:
        found = machine.run(["grep", "-rlsI", canary, "/home/ci", "/tmp", "/var/tmp", "/run", "/dev/shm"])
        assert found.stdout == "", found
    if not strace:
        pytest.skip("no strace here: command lines were looked for in /proc alone")
