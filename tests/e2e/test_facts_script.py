"""The facts script as a node runs it: sent to `sh -s`, in every shell that is here.

Linux: prepared trees over /proc and /sys/fs/cgroup in a user and mount namespace of its own, which takes
no privileges. Darwin, FreeBSD: commands that replay what these systems print (recorded/SYSTEM/NAME/COMMAND).
What the script says is read by src/nodes/facts.c (facts_parse.c; $CLOUDPLAN_FACTS_PARSE is one built already).
"""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from cloudnodes import patience
from cloudnodes_chroot import out_of_chroot

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
LEASES = "lease_parent=/tmp\n"
LEASE_SCRIPT = (SOURCE / "scripts" / "node/lease.sh").read_text()
FACTS_SCRIPT = (SOURCE / "scripts" / "node/facts.sh").read_text()
SCRIPT = LEASE_SCRIPT + FACTS_SCRIPT  # as they are sent
RECORDED = HERE / "recorded"
NONCE = "0123456789abcdef"

SHELLS = {
    "dash": ["dash"],
    # Without this option it is nobody's /bin/sh.
    "bash-posix": ["bash", "--posix"],
    "busybox": ["busybox", "sh"],
    "mksh": ["mksh"],
    "ksh93": ["ksh93"],
    "yash": ["yash"],
    "zsh": ["zsh", "--emulate", "sh"],
}

MEMINFO = """\
MemTotal:       16316412 kB
MemFree:          402132 kB
MemAvailable:    9123456 kB
Buffers:          300000 kB
Cached:          7000000 kB
SwapCached:            0 kB
"""


@functools.cache
def prefers_itself(shell):
    """Debian's busybox-static runs its own uname, df and so on, whatever PATH says: nothing can be replayed to it."""
    with tempfile.TemporaryDirectory() as commands:
        write(Path(commands, "uname"), "#!/bin/sh\necho replayed\n", 0o755)
        said = subprocess.run([*shell, "-c", "uname"], env={"PATH": commands}, capture_output=True, text=True)
        return said.stdout != "replayed\n"


@pytest.fixture(params=[name for name, argv in SHELLS.items() if shutil.which(argv[0])])
def shell(request):
    program, *options = SHELLS[request.param]
    argv = (shutil.which(program), *options)
    if prefers_itself(argv):
        pytest.skip(f"{request.param} prefers its own commands to those in PATH")
    return argv


@pytest.fixture(scope="session")
def facts_parse(tmp_path_factory):
    built = os.environ.get("CLOUDPLAN_FACTS_PARSE") or os.path.join(os.environ.get("CLOUDPLAN_BUILD", ""), "tests/e2e/facts_parse")
    if os.path.exists(built):
        return built
    program = tmp_path_factory.mktemp("build") / "facts_parse"
    subprocess.run(
        [*shlex.split(os.environ.get("CC", "cc")), "-D_GNU_SOURCE", f"-I{SOURCE}/src", "-o", program, HERE / "facts_parse.c",
         SOURCE / "src/nodes/facts.c", SOURCE / "src/base/error.c", SOURCE / "src/base/text.c", "-ljansson"],
        check=True,
    )  # fmt: skip
    return program


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


class Node:
    """A machine as the script sees it: files over /proc and /sys/fs/cgroup, commands before the real ones."""

    def __init__(self, top, shell, facts_parse):
        self.home = top / "home"
        self.home.mkdir()
        self.commands = top / "bin"
        self.commands.mkdir()
        self.proc = top / "proc"
        self.cgroup = top / "cgroup"
        self.online = top / "online"  # /sys/devices/system/cpu/online
        self.online.write_text("0-15\n")
        self.shell = shell
        self.facts_parse = facts_parse
        self.env = {"HOME": str(self.home), "PATH": str(self.commands)}
        self.leases = top / f"cloudplan-leases-{os.getuid()}"
        assert LEASES in SCRIPT
        self.script = SCRIPT.replace(LEASES, f"lease_parent={top}\n")
        self.covered = False

    def command(self, name, body):
        write(self.commands / name, "#!/bin/sh\n" + body + "\n", 0o755)

    def without(self, *names):
        for name in names:
            self.command(name, "exit 127")

    def prepare_linux(self, meminfo=MEMINFO, own="", cgroup=None, status="Name:\tsh\n"):
        self.covered = True
        write(self.proc / "meminfo", meminfo)
        write(self.proc / "loadavg", "1.52 0.58 0.59 2/597 1234\n")
        write(self.proc / "sys/kernel/random/boot_id", "1b9bbf9c-4f4a-4c0c-9d2c-0f4c1d1f2a3b\n")
        write(self.proc / "self/cgroup", own)
        write(self.proc / "self/status", status)
        self.cgroup.mkdir(exist_ok=True)
        for path, text in (cgroup or {}).items():
            write(self.cgroup / path, text + "\n")
        self.command("nproc", "echo ${OMP_NUM_THREADS:-8}")
        self.without("getconf")

    def replay(self, recorded):
        """Every command that the script may call says what was recorded, or is missing. No /proc, no /sys."""
        self.covered = True
        self.env["LOGNAME"] = "ci"  # sshd sets it
        self.proc.mkdir()
        self.cgroup.mkdir()
        read = f"cat {shlex.quote(str(recorded))}/"
        for name in ["uname", "sysctl", "vm_stat", "df", "stat", "getconf", "nproc", "id", "rsync", "python3"]:
            if not (recorded / name).exists():
                self.without(name)
        for name, wanted in {"uname": "-s -r -m", "getconf": "_NPROCESSORS_ONLN", "nproc": "", "id": "-un",
                             "rsync": "--version", "vm_stat": "", "df": "-P -k *", "python3": "-V"}.items():  # fmt: skip
            if (recorded / name).exists():
                pattern = wanted.replace(" ", "\\ ") or '""'
                self.command(name, f'case "$*" in {pattern}) {read}{name} ;; *) exit 64 ;; esac')
        self.command("stat", f'[ "$1 $2 $3" = "-L -f %d:%i" ] && exec {read}stat; echo "stat: illegal option" >&2; exit 1')
        self.command(
            "sysctl",
            f'for name; do {read}sysctl | grep "^$name: " || {{ echo "sysctl: unknown oid \'$name\'" >&2; bad=1; }}; done;'
            " exit ${bad:-0}",
        )

    def answer(self, chdir="copy", python="", modules=""):
        values = {"NONCE": NONCE, "CHDIR": chdir, "PYTHON": python, "MODULES": modules}
        head = "".join(
            "CLOUDPLAN_%s='%s'\n" % (name, value.replace("'", "'\\''")) for name, value in values.items()
        )
        argv = [*self.shell, "-s"]
        if self.covered:
            mounts = ('mount --bind "$3" /sys/devices/system/cpu/online && mount --bind "$1" /proc &&'
                      ' mount --bind "$2" /sys/fs/cgroup && shift 3 && exec "$@"')
            argv = [*out_of_chroot(), "unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c",
                    f"PATH=/usr/bin:/bin; {mounts}", "sh", str(self.proc), str(self.cgroup), str(self.online),
                    "/usr/bin/env", "-i", *(f"{k}={v}" for k, v in self.env.items()), *argv]  # fmt: skip
        env = None if self.covered else self.env
        done = subprocess.run(
            argv, input=(head + self.script).encode(), env=env, cwd=self.home, capture_output=True, timeout=patience(60)
        )
        assert done.stderr == b""
        return done.stdout

    def raw(self, **how):
        """The answer as (key, value) pairs, as they stand."""
        text = self.answer(**how).decode()
        assert text.startswith(f"\ncloudplan-facts {NONCE} 1\n")
        assert text.endswith(f"\ncloudplan-end {NONCE}\n")
        return [tuple(line.split("=", 1)) for line in text.splitlines()[2:-1]]

    def lines(self, key, **how):
        return [value for name, value in self.raw(**how) if name == key]

    def facts(self, **how):
        parsed = self.parse(self.answer(**how))
        assert parsed.returncode == 0, parsed.stderr
        return json.loads(parsed.stdout)

    def parse(self, answer):
        return subprocess.run([self.facts_parse, NONCE], input=answer, capture_output=True)


@pytest.fixture
def node(tmp_path, shell, facts_parse):
    return Node(tmp_path, shell, facts_parse)


# This machine as it is


def test_this_machine(node):
    facts = node.facts(python="python3")
    uname = os.uname()
    assert (facts["os"], facts["release"], facts["arch"]) == (uname.sysname, uname.release, uname.machine)
    assert 1 <= facts["cores"] <= len(os.sched_getaffinity(0))
    assert facts["cores_online"] >= facts["cores"]
    meminfo = Path("/proc/meminfo").read_text()
    assert facts["mem_total"] == int(re.search(r"MemTotal: *(\d+)", meminfo)[1]) * 1024
    assert 0 < facts["mem_available"] <= facts["mem_machine"] <= facts["mem_total"]
    assert facts["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    home = os.stat(node.home)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert facts["login_id"] == f"{user}@{home.st_dev}:{home.st_ino}"
    assert facts["home"] == str(node.home)
    free = shutil.disk_usage(node.home).free
    assert abs(facts["disk_free"] - free) < 1 << 30
    assert re.fullmatch(r"\d+\.\d+\.\d+", facts["python"])
    assert Path(facts["python_path"]).is_absolute()
    assert (facts["pythons"], facts["missing"]) == ([facts["python"]], "")


def test_broken_script_is_noticed(node):
    node.script = SCRIPT.rsplit("main </dev/null", 1)[0]
    parsed = node.parse(node.answer())
    assert (parsed.returncode, parsed.stderr) == (65, b"no answer\n")
    parsed = node.parse(b"This account is currently not available.\n")
    assert parsed.returncode == 65
    assert parsed.stderr.startswith(b"answer malformed: no facts in it (first line: This account is")


def test_script_cut_short_does_nothing(node):
    last = len(SCRIPT.rstrip("\n"))
    cuts = [*range(0, last - 60, 397), *range(last - 60, last - len("main </dev/null") + 1)]
    # from `main` on it is complete, or its last word is a file that does not exist
    for cut in cuts:
        node.script = SCRIPT[:cut]
        done = subprocess.run(
            [*node.shell, "-s"], input=f"CLOUDPLAN_NONCE={NONCE}\n{node.script}", env=node.env, cwd=node.home,
            capture_output=True, text=True
        )  # fmt: skip
        assert done.stdout == "", cut
    assert os.listdir(node.home) == []


def test_no_child_reads_the_script(node):
    node.command("uname", "cat >&2; echo Linux 6.1 x86_64")
    node.command("rsync", "cat >&2")
    assert node.facts()["os"] == "Linux"


def test_chatty_login(node):
    answer = node.answer()
    parsed = node.parse(b"Welcome!\nLast login: today\n$ " + answer.replace(b"\n", b"\r\n") + b"logout\n")
    assert parsed.returncode == 0


def test_hostile_environment(node):
    node.prepare_linux()
    node.env.update(OMP_NUM_THREADS="1", OMP_THREAD_LIMIT="1", IFS="/=0", CDPATH="/", GLOBIGNORE="*", LC_ALL="C.UTF-8",
                    POSIXLY_CORRECT="1", BLOCKSIZE="1", DF_BLOCK_SIZE="1", nl="x", answer="evil=1",
                    CLOUDPLAN_MODULES="evil", number="7", version="evil", said="evil", find_modules="evil")  # fmt: skip
    write(node.home / "copy/file", "")
    raw = dict(node.raw())
    assert (raw["cores"], raw["target"], "evil" in raw) == ("8", "unmarked", False)
    assert abs(int(raw["disk_free"]) - shutil.disk_usage(node.home).free) < 1 << 30


def test_no_home_no_path(node):
    for name in ("HOME", "PATH"):
        del node.env[name]
    facts = node.facts()
    assert facts["home"] == str(node.home)
    assert facts["mem_total"] > 0


SPACE = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))


def lease(node, name, pid, numbers="4 1000", who="jenkins@ci1"):
    """A lease that the process holds."""
    node.leases.mkdir(exist_ok=True)
    node.leases.chmod(0o755)
    started = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[19]
    write(node.leases / name, f"2 {os.getuid()} {who} {numbers} {pid} {started} {SPACE} 1.00 -\nheld\n")


def count_processes(node, pythons="/usr/bin/python3", modules=""):
    """In a PID namespace, where the next process's number says how many there were."""
    count = '"$@" >/dev/null; exec /bin/sh -c \'/bin/sh -c "echo \\$\\$"; :\''
    argv = [*out_of_chroot(), "unshare", "--user", "--map-root-user", "--pid", "--fork", "/bin/sh", "-c", count, "sh"]
    run = {"env": node.env | {"PATH": "/usr/bin:/bin"}, "capture_output": True, "text": True}
    none = subprocess.run([*argv, "/bin/true"], input="", **run)
    if none.returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    script = f"CLOUDPLAN_NONCE=n\nCLOUDPLAN_PYTHON='{pythons}'\nCLOUDPLAN_MODULES='{modules}'\n{node.script}"
    all_of_it = subprocess.run([*argv, *node.shell, "-s"], input=script, **run)
    return int(all_of_it.stdout) - int(none.stdout)


def test_few_processes(node):
    # one for each question; a shell without printf or 64-bit arithmetic (mksh) needs more
    one = count_processes(node)
    assert one <= (16 if "mksh" in node.shell[0] else 8)
    # modules are asked for by the process that says the version; another interpreter takes one process more
    assert count_processes(node, modules="pytest xdist") == one
    assert count_processes(node, pythons="/usr/bin/python3\n/usr/bin/python3\nno-such-python") == one + 1
    # a directory for leases costs nothing, until there is one
    node.leases.mkdir()
    node.leases.chmod(0o755)
    assert count_processes(node) == one
    lease(node, "run1.1", os.getpid())
    assert one < count_processes(node) <= one + 13


def test_leases(node):
    assert node.lines("lease") == []
    lease(node, "run1.1", os.getpid())
    lease(node, "run2.7", os.getppid(), "2 0", "ci@::1")
    # its guard is gone: there is no such process
    write(node.leases / "run3.1", f"2 0 x@y 8 8 4194303 1 {SPACE} 1.00 -\nheld\n")
    write(node.leases / "run4.1", "lease=8 8 x@y\n")
    facts = node.facts()
    assert (facts["lease_count"], facts["lease_cores"], facts["lease_mem"]) == (2, 6, 1000 << 20)
    assert facts["lease_holder"] in ("jenkins@ci1", "ci@::1")
    node.env["CLOUDPLAN_RUN"] = "run1"
    assert node.lines("lease") == ["2 0 ci@::1"]


def test_no_leases_of_a_directory_that_others_can_write_to(node):
    lease(node, "run1.1", os.getpid())
    node.leases.chmod(0o777)
    assert node.lines("lease") == []


def test_nothing_is_written(node):
    code = "\n".join(line for line in FACTS_SCRIPT.splitlines() if not line.lstrip().startswith("#"))
    assert "<<" not in code
    assert set(re.findall(r"\d?>+\S*", re.sub(r"'[^'\n]*'", "", code))) <= {">/dev/null", "2>/dev/null"}
    write(node.home / "copy/.cloudplan", "")
    write(node.home / "site/sitecustomize.py", "")  # Python would keep what it made of it
    node.env["PYTHONPATH"] = str(node.home / "site")
    lease(node, "run1.1", 1)
    top = node.home.parent
    before = {path: path.stat() for path in top.rglob("*")}
    lines = node.lines("lease", python="python3", modules="pytest no_such_module")
    after = {path: path.stat() for path in top.rglob("*")}
    assert lines == ["4 1000 jenkins@ci1"]
    assert {path: (st.st_ino, st.st_mtime_ns) for path, st in after.items()} == {
        path: (st.st_ino, st.st_mtime_ns) for path, st in before.items()
    }


# Memory and cores on Linux


def test_meminfo(node):
    node.prepare_linux()
    facts = node.facts()
    assert facts["mem_total"] == 16316412 * 1024
    assert facts["mem_available"] == facts["mem_machine"] == 9123456 * 1024
    assert facts["load1"] == 1.52
    assert facts["boot_id"] == "1b9bbf9c-4f4a-4c0c-9d2c-0f4c1d1f2a3b"
    assert (facts["cores"], facts["cores_online"]) == (8, 16)


def test_meminfo_before_3_14(node):
    node.prepare_linux(meminfo=re.sub("MemAvailable.*\n", "", MEMINFO))
    assert node.facts()["mem_available"] == (402132 + 300000 + 7000000) * 1024


def test_many_terabytes(node):
    node.prepare_linux(meminfo="MemTotal: 25769803776 kB\nMemFree: 1 kB\nMemAvailable: 25769803775 kB\n")
    assert node.facts()["mem_available"] == 25769803775 * 1024


@pytest.mark.parametrize("meminfo", ["", "MemTotal: many kB\n", "MemTotal:\nMemAvailable: x kB\n"])
def test_meminfo_of_no_use(node, meminfo):
    node.prepare_linux(meminfo=meminfo)
    parsed = node.parse(node.answer())
    assert (parsed.returncode, parsed.stderr) == (65, b"answer malformed: mem_total is missing (os: Linux)\n")


@pytest.mark.parametrize(
    "allowed, online, cores",
    [("0-3,8,10-11", "16", "7"), ("5", "16", "1"), ("0-127", "4", "4"), ("0-1023", "", "1024"), ("", "16", "16")],
)
def test_cores_without_nproc(node, allowed, online, cores):
    node.prepare_linux(status=f"Name:\tsh\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\nMems_allowed:\t1\n")
    node.without("nproc")
    node.online.write_text(f"0-{int(online) - 1}\n" if online else "")
    assert node.lines("cores") == [cores]
    assert node.lines("cores_online") == ([online] if online else [])


def test_online_without_sys(node):
    node.prepare_linux()
    node.online.write_text("")
    node.command("getconf", "echo 12")
    assert node.lines("cores_online") == ["12"]


# Control groups. stat files are cut to the lines that matter, with their neighbours.


def v2(limit="max", usage=0, inactive=0, cpu="max 100000"):
    return {
        "memory.max": f"{limit}",
        "memory.current": f"{usage}",
        "memory.stat": f"anon 1\ninactive_anon 2\ninactive_file {inactive}\nactive_file 3",
        "cpu.max": cpu,
    }


def v1(limit=9223372036854771712, usage=0, inactive=0):
    return {
        "memory.limit_in_bytes": f"{limit}",
        "memory.usage_in_bytes": f"{usage}",
        "memory.stat": f"inactive_file 77\ntotal_cache 5\ntotal_inactive_file {inactive}\ntotal_unevictable 0",
    }


def v1_cpu(quota=-1):
    return {"cpu.cfs_quota_us": f"{quota}", "cpu.cfs_period_us": "100000"}


def tree(*places):
    return {os.path.join(place, name): text for place, files in places for name, text in files.items()}


GIB = 1 << 30
FREE = 9123456 * 1024

CGROUPS = {
    "v2 without limits": ("0::/user.slice/s\n", tree(("user.slice", v2()), ("user.slice/s", v2())), 8, FREE),
    "v2 own": ("0::/a/b\n", tree(("a", v2()), ("a/b", v2(4 * GIB, 3 * GIB, GIB, "250000 100000"))), 2, 2 * GIB),
    "v2 ancestors": (
        "0::/a/b/c d\n",
        tree(
            ("a", v2(6 * GIB, 5 * GIB, 0, "150000 50000")),
            ("a/b", v2(2 * GIB, GIB // 2, 0, "800000 100000")),
            ("a/b/c d", v2(8 * GIB, 0, 0)),
        ),
        3,
        GIB,
    ),
    "v2 namespace": ("0::/\n", tree((".", v2(GIB, 0, 0, "50000 100000"))), 1, GIB),
    "v2 outside the namespace": (
        "0::/../../x\n",
        tree((".", v2(3 * GIB)), ("x", v2(1)), ("../../x", {})),
        8,
        3 * GIB,
    ),
    "v2 path of the host": ("0::/docker/0123\n", tree((".", v2(2 * GIB, GIB, GIB // 2))), 8, 3 * GIB // 2),
    "v2 removed": ("0::/a/b (deleted)\n", tree(("a", v2(2 * GIB))), 8, 2 * GIB),
    "v2 dots in a name": ("0::/a..b/..c\n", tree(("a..b/..c", v2(2 * GIB))), 8, 2 * GIB),
    "v2 full": ("0::/a\n", tree(("a", v2(GIB, GIB + 4096, 0))), 8, 0),
    "v1": (
        "12:pids:/a\n4:memory:/a/b\n3:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/a\n",
        tree(
            ("memory", v1()),
            ("memory/a", v1(4 * GIB, 2 * GIB, GIB)),
            ("memory/a/b", v1(8 * GIB, GIB, 0)),
            ("cpu,cpuacct", v1_cpu()),
            ("cpu,cpuacct/a", v1_cpu(500000)),
        ),
        5,
        3 * GIB,
    ),
    "v1 cpu mount": ("2:cpu:/a/b\n", tree(("cpu/a", v1_cpu(200000)), ("cpu/a/b", v1_cpu(300000))), 2, FREE),
    "v1 cpuacct first": ("2:cpuacct,cpu:/a\n", tree(("cpuacct,cpu/a", v1_cpu(700000))), 7, FREE),
    "v1 path of the host": ("4:memory:/docker/01:23\n", tree(("memory", v1(GIB, 10, 0))), 8, GIB - 10),
    "v1 outside the namespace": ("4:memory:/..\n", tree(("memory", v1(GIB))), 8, GIB),
    "v1 no controller of ours": ("2:cpuset:/a\n3:cpuacct:/a\n", tree(("cpuset/a", v1(1)), ("cpuacct/a", v1_cpu(1))), 8, FREE),
    "hybrid": (
        "4:memory:/a\n0::/s\n",
        tree(("memory/a", v1(2 * GIB)), ("unified/s", v2(GIB, 0, 0, "300000 100000"))),
        3,
        GIB,
    ),
    "without stat": ("0::/a\n", {"a/memory.max": "1000", "a/memory.current": "300"}, 8, 700),
    "none": ("", {}, 8, FREE),
}


@pytest.mark.parametrize("own, files, cores, available", CGROUPS.values(), ids=CGROUPS)
def test_cgroup(node, own, files, cores, available):
    node.prepare_linux(own=own, cgroup={k: v for k, v in files.items() if not k.startswith("..")})
    facts = node.facts()
    assert (facts["cores"], facts["mem_available"], facts["mem_machine"]) == (cores, available, FREE)


def test_cgroup_lines(node):
    node.prepare_linux(
        own="0::/a/b\n",
        cgroup=tree((".", v2(9, 8, 7, "3 2")), ("a", v2(6, 5, 4, "max 1")), ("a/b", v2("max", cpu="5 4"))),
    )
    raw = node.raw()
    assert [v for k, v in raw if k == "cgroup_mem"] == ["6 5 4", "9 8 7"]
    assert [v for k, v in raw if k == "quota"] == ["5 4", "3 2"]


def test_unlimited_v1_is_not_measured(node):
    node.prepare_linux(own="4:memory:/a\n", cgroup=tree(("memory", v1()), ("memory/a", v1(9223372036854710272))))
    assert node.lines("cgroup_mem") == []


# The target


def make_link(path):
    path.symlink_to(path.parent)


def make_broken_link(path):
    path.symlink_to("nowhere")


def make_mark_link(path):
    path.mkdir()
    (path / ".cloudplan").symlink_to("/etc/passwd")


TARGETS = {
    "absent": (lambda path: None, "absent"),
    "empty": (lambda path: path.mkdir(), "absent"),
    "ours": (lambda path: write(path / ".cloudplan", ""), "ours"),
    "ours and full": (lambda path: [write(path / name, "") for name in (".cloudplan", "a", "*")], "ours"),
    "a file": (lambda path: write(path, ""), "foreign"),
    "a link": (make_link, "foreign"),
    "a broken link": (make_broken_link, "foreign"),
    "full": (lambda path: write(path / "file", ""), "unmarked"),
    "a hidden file": (lambda path: write(path / ".x", ""), "unmarked"),
    "a file of dots": (lambda path: write(path / "..x", ""), "unmarked"),
    "a file called *": (lambda path: write(path / "*", ""), "unmarked"),
    "a broken link in it": (lambda path: (path.mkdir(), make_broken_link(path / "x")), "unmarked"),
    "mark is a link": (make_mark_link, "foreign"),
    "mark is a directory": (lambda path: (path / ".cloudplan").mkdir(parents=True), "foreign"),
}


@pytest.mark.parametrize("make, state", TARGETS.values(), ids=TARGETS)
def test_target(node, make, state):
    make(node.home / "copy")
    assert node.lines("target") == [state]
    assert node.lines("target", chdir="copy/") == [state]


@pytest.mark.parametrize("mark", [False, True])
def test_the_home_itself_is_foreign(node, mark):
    """However it is written, and though it be empty: what is not in the project would be deleted there."""
    if mark:
        write(node.home / ".cloudplan", "")
    link = node.home.parent / "link"
    link.symlink_to(node.home.parent)
    for chdir in (node.home, f"{node.home}/", link / node.home.name):
        assert node.lines("target", chdir=str(chdir)) == ["foreign"], chdir


@pytest.mark.parametrize("name", ["a b'c/*[x]$(id)", "-n", "/absolute", "a/../b", "back\\n"])
def test_target_name(node, name):
    chdir = str(node.home) + name if name.startswith("/") else name
    path = node.home / name.lstrip("/")
    write(path.parent / "file", "")
    assert node.lines("target", chdir=chdir) == ["absent"]
    make_link(path)
    assert node.lines("target", chdir=chdir) == ["foreign"]
    path.unlink()
    write(path / ".cloudplan", "")
    assert node.lines("target", chdir=chdir) == ["ours"]
    assert int(node.lines("disk_free", chdir=chdir)[0]) > 0


def test_no_home_is_nowhere(node):
    """A relative directory has no place then; an absolute one has."""
    node.env["HOME"] = str(node.home / "missing")
    assert node.lines("target") == ["nowhere"] and node.lines("disk_free") == []
    assert node.lines("target", chdir=str(node.home / "copy")) == ["absent"]
    for home in "relative", "":
        node.env["HOME"] = home
        assert node.lines("target") == ["homeless"]
        assert node.lines("target", chdir=str(node.home / "copy")) == ["absent"]


def test_unreadable_target_is_foreign(node):
    path = node.home / "copy"
    write(path / "file", "")
    path.chmod(0o300)
    if os.access(path, os.R_OK):  # root: as somebody else then, where that can be done
        if not shutil.which("setpriv"):
            pytest.skip("setpriv is missing")
        for directory in [path, *path.parents]:
            if directory.is_relative_to("/tmp") and directory != Path("/tmp"):
                directory.chmod(0o711 if directory != path else 0o300)
        os.chown(path, 65534, 65534)
        node.shell = [shutil.which("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", *node.shell]
    found = node.lines("target")
    path.chmod(0o700)  # for pytest, which removes it
    assert found == ["foreign"]


def test_disk_free_of_the_nearest_ancestor(node):
    node.command("df", f'[ "$3" = "{node.home}/a" ] || exit 1; echo head; echo "//s/a b 100 60 40 60% /mnt/c d"')
    (node.home / "a").mkdir()
    assert node.lines("disk_free", chdir="a/b/c") == [str(40 * 1024)]
    assert node.lines("disk_free", chdir="b") == []


@pytest.mark.parametrize(
    "line, free",
    [
        ("/dev/sda1 100 120 -20 120% /", ["0"]),
        ("none 0 0 0 - /x", []),
        ("none 0 0 0 0% /x", []),
        ("cloud 999999999999999999 0 999999999999999999 0% /x", []),
        ("big 899999999999999 0 899999999999999 0% /x", [str(899999999999999 * 1024)]),
        ("", []),
    ],
)
def test_odd_df(node, line, free):
    node.command("df", f"echo head; echo '{line}'")
    assert node.lines("disk_free") == free


# Programs


def test_python(node):
    assert node.lines("python") == []
    assert node.lines("python", python="no-such-python") == []
    assert node.lines("python", python="-c") == []
    assert node.lines("python", python="/dev/null") == []
    node.command("broken", "echo Python 3.1.2; exit 1")
    assert node.lines("python", python="broken") == []
    node.command("other", "echo 3.1.2")
    assert node.lines("python", python="other") == []
    node.command("pypy", "echo 'Python 3.9.16 (7.3.11+dfsg-2)'; echo '[PyPy 7.3.11 with GCC 12.2.0]'")
    assert node.lines("python", python="pypy") == ["3.9.16"]
    node.command("mute", "echo 'Python '")
    assert node.lines("python", python="mute") == []
    found = dict(node.raw(python="/usr/bin/python3"))
    assert found["python_path"] == "/usr/bin/python3"
    assert found["python"].startswith("3.")
    assert not {"interpreter", "missing"} & {*found}


def test_python_called_as_a_part_of_the_script(node):
    """The program is meant, where there is one by that name; and it does not end in running itself for ever."""
    node.command("python", "echo Python 3.10.1")
    assert node.lines("python", python="python") == ["3.10.1"]


def test_several_pythons(node):
    node.command("broken", "echo Python 3.1.2; exit 1")
    node.command("mute", "echo 'Python '")
    node.command("python3.9", "echo Python 3.9.18")
    node.command("pypy3", "echo 'Python 3.10.14 (7.3.17)'; echo '[PyPy 7.3.17 with GCC Python 5]'")
    raw = node.raw(python="python3.9\n-c\nno-such-python\npypy3\nbroken\nmute\n/dev/null\npython3.9")
    raw = [(key, value) for key, value in raw if key in ("python", "python_path", "interpreter", "missing")]
    assert raw == [("python", "3.9.18"), ("python_path", str(node.commands / "python3.9")),
                   ("interpreter", "4 3.10.14"), ("interpreter", "8 3.9.18")]  # fmt: skip
    facts = node.facts(python="broken\npypy3")
    assert (facts["python"], facts["python_path"], facts["pythons"]) == ("", "", ["", "3.10.14"])
    assert node.facts(python="no-such-python\nmute")["pythons"] == []
    # an empty line is none
    assert node.facts(python="\npython3.9\n\npypy3\n")["pythons"] == ["3.9.18", "3.10.14"]
    # a name is a name
    assert node.facts(python="python3.9 pypy3\n*\npython3.9")["pythons"] == ["", "", "3.9.18"]


def test_modules(node):
    package = node.home / "site"
    write(package / "parent/__init__.py", "raise SystemExit('imported')")
    write(package / "broken.py", "raise SystemExit('imported')")
    # what sees to every import there
    write(package / "sitecustomize.py", """\
print("chatty\\ncloudplan-python evil")
import sys
class Finder:
    def find_spec(name, path, target=None):
        if name == "odd":
            raise OSError("no such drive")
sys.meta_path.insert(0, Finder)
print("no newline at the end", end="")
""")
    node.env["PYTHONPATH"] = str(package)
    # on the path of python -c, but not of a worker: it works in the copy
    write(node.home / "homely.py", "")
    write(node.home / "importlib/util.py", "raise SystemExit('imported')")
    write(node.home / "types.py", "raise SystemExit('imported')")
    python = "/usr/bin/python3"
    modules = "  nope parent broken parent.sub no.such.thing odd homely sys  -x * . os.path "
    assert node.lines("missing", python=python, modules=modules) == ["1 nope no.such.thing homely -x * ."]
    assert node.lines("python", python=python, modules=modules) == node.lines("python", python=python)
    assert node.lines("python_path", python=python, modules=modules) == [python]
    assert node.lines("missing", python=python, modules="parent sys") == []
    assert node.lines("missing", python=python, modules=" ") == []


def test_modules_of_several_pythons(node):
    node.command("other", 'PYTHONPATH=$HOME/site exec /usr/bin/python3 "$@"')
    node.command("broken", "case $1 in -V) echo Python 3.1.2 ;; *) echo SyntaxError >&2; exit 1 ;; esac")
    node.command("mute", "exit 0")
    write(node.home / "site/mine.py", "")
    python = "/usr/bin/python3\nbroken\nmute\nother"
    version = node.lines("python", python="/usr/bin/python3")[0]
    assert node.lines("missing", python=python, modules="mine nope") == ["1 mine nope", "4 nope"]
    assert node.lines("interpreter", python=python, modules="mine nope") == [f"4 {version}"]
    facts = node.facts(python=python, modules="mine nope")
    assert facts["pythons"] == [version, "", "", version]
    assert (facts["missing"], facts["missing_python"]) == ("mine nope", 0)
    facts = node.facts(python=python, modules="mine")
    assert (facts["missing"], facts["missing_python"]) == ("mine", 0)
    facts = node.facts(python="other\n/usr/bin/python3", modules="mine")
    assert (facts["missing"], facts["missing_python"]) == ("mine", 1)


@pytest.mark.parametrize(
    "said, version",
    [
        ("rsync  version 3.2.7  protocol version 31", "3.2.7"),
        ("rsync  version v3.4.0dev  protocol version 32", "v3.4.0dev"),
        ("openrsync: protocol version 29\nrsync version 2.6.9 compatible", "openrsync-29"),
        ("something else 1.0\nmore", "something else 1.0"),
    ],
)
def test_rsync(node, said, version):
    node.command("rsync", f"printf '%s\\n' '{said}'")
    assert node.lines("rsync") == [version]


def test_no_rsync(node):
    node.without("rsync")
    assert node.facts()["rsync"] == ""


def test_no_stat(node):
    node.without("stat")
    assert node.facts()["login_id"] == ""


# Other systems


def test_darwin(node):
    node.replay(RECORDED / "darwin/14-arm64")
    facts = node.facts(python="python3")
    assert facts == {
        "os": "Darwin", "release": "23.6.0", "arch": "arm64", "cores": 10, "cores_online": 10, "load1": 2.35,
        "mem_total": 16 * GIB, "mem_machine": (7514 + 323908 + 13480 + 9203) * 16384,
        "mem_available": (7514 + 323908 + 13480 + 9203) * 16384, "disk_free": 141863208 * 1024,
        "boot_id": "5E9B9A3C-0C4F-4C53-9C1B-6B3E4E2F7A11", "login_id": "ci@16777234:412903",
        "home": str(node.home), "target": "absent", "rsync": "openrsync-29", "python": "3.12.4",
        "python_path": str(node.commands / "python3"), "pythons": ["3.12.4"], "missing": "", "missing_python": 0,
        "lease_count": 0, "lease_cores": 0, "lease_mem": 0, "lease_holder": "",
    }  # fmt: skip


def test_darwin_without_vm_stat(node):
    node.replay(RECORDED / "darwin/11-x86_64-no-vm_stat")
    facts = node.facts(python="python3")
    assert (facts["cores"], facts["cores_online"]) == (8, 8)
    assert facts["mem_available"] == (100000 + 20000 + 3000) * 4096
    assert facts["boot_id"] == "1699999999"
    assert facts["disk_free"] is None
    assert (facts["rsync"], facts["python"]) == ("2.6.9", "")


def test_darwin_python_without_developer_tools(node):
    node.replay(RECORDED / "darwin/14-arm64")
    node.command("xcode-select", "exit 2")
    assert node.lines("python", python="/usr/bin/python3") == []
    assert node.lines("interpreter", python="/usr/bin/python3\n/usr/bin/python3") == []
    node.command("xcode-select", "echo /Library/Developer/CommandLineTools")
    assert node.lines("python_path", python="/usr/bin/python3") == ["/usr/bin/python3"]


def test_freebsd(node):
    node.replay(RECORDED / "freebsd/13.2-amd64")
    facts = node.facts(python="python3")
    assert facts == {
        "os": "FreeBSD", "release": "13.2-RELEASE-p4", "arch": "amd64", "cores": 3, "cores_online": 4, "load1": 0.26,
        "mem_total": 8465674240, "mem_machine": (1404219 + 239871) * 4096, "mem_available": (1404219 + 239871) * 4096,
        "disk_free": 71991296 * 1024, "boot_id": "4c4c4544-0037-5710-8052-b4c04f4d3132:1700000000",
        "login_id": "ci@3459487232:34", "home": str(node.home), "target": "absent", "rsync": "3.2.7",
        "python": "3.9.18", "python_path": str(node.commands / "python3"), "pythons": ["3.9.18"], "missing": "", "missing_python": 0,
        "lease_count": 0, "lease_cores": 0, "lease_mem": 0, "lease_holder": "",
    }  # fmt: skip
