"""What a run may take: descriptors, memory, disk, here and there; and programs that are not what they should be."""
import json
import os
import re
import shutil

import pytest

from conftest import Site, World, PROGRAM, clean

PLAIN = {"test_one.py": "import pytest\n@pytest.mark.parametrize('x', range(20))\ndef test_one(x):\n    pass\n"}
NODES = 100  # more than there are descriptors

# Each address of the cluster is a login of its own, with a home of its own; or, with ~/flood, floods.
FORCED = """\
MaxStartups 4096
KexAlgorithms curve25519-sha256
ForceCommand set -- $SSH_CONNECTION; [ ! -e ~/flood ] || exec yes; export HOME=$HOME/of-$3; mkdir -p "$HOME"; cd; \
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


@pytest.fixture(scope="module")
def many():
    with World(visible=[os.path.dirname(os.path.realpath(PROGRAM))]) as world:
        cluster = world.cluster(NODES, sshd_config=FORCED)
        cluster.set_cores(4 * NODES)
        cluster.set_memory(available_mib=1024 * NODES, total_mib=2048 * NODES)
        site = Site(world)
        site.nodes = [cluster]
        site.write(PLAIN)
        yield site


def run_with_limit(site, limit, *args, count=NODES, **options):
    argv = site.argv(*args, nodes=list(site.nodes[0].names[:count]))
    return site.world.run(["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *argv], cwd="/home/ci/project", **options)


def test_many_nodes_few_descriptors(many):
    result = run_with_limit(many, 64, "run", "--cloud-max-processes=2", "--", "-q", timeout=60)
    assert result.returncode == 0 and "20 passed" in result.stdout, result
    assert "Too many open files" not in result.stdout + result.stderr
    out = re.findall(r"^cloudplan: ([\d.]+) is left out \((.*?)\): (.*)$", result.stderr, re.M)
    ready = set(many.nodes[0].names) - {name for name, _, _ in out}
    assert ready == set(many.nodes[0].names[:6]), (ready, result.stderr[-2000:])
    assert {(state, reason) for _, state, reason in out} == {
        ("unfit", "no room for it: the limit of open files is 64; raise it with ulimit -n")}
    assert len(re.findall(r": 1 worker, ", result.stdout)) == 6
    many.assert_nothing_left()


def test_processes_are_taken_off_evenly(many):
    result = run_with_limit(many, 64, "plan", "--cloud-max-processes=4", "--format=json", count=3)
    nodes = json.loads(result.stdout)["nodes"]
    assert [(node["processes"], node["limited_by"]) for node in nodes] == [(2, "files")] * 3
    short = run_with_limit(many, 64, "plan", "--cloud-max-processes=4", "--cloud-min-processes=7", count=3)
    assert short.returncode == 75 and "room for 6 of the 7 processes" in short.stderr


def test_memory_per_node(many):
    """All of them answer without end, at once."""
    flood = many.nodes[0].home / "flood"
    flood.touch()
    measure = ("import resource, subprocess, sys\n"
               "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
               "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n")
    argv = many.argv("probe", nodes=list(many.nodes[0].names))
    used = int(many.world.run(["python3", "-c", measure, *argv], cwd="/home/ci/project", check=True).stdout)
    flood.unlink()
    assert used < 20 * 1024 + NODES * 640  # KiB: an answer of 256, what libssh2 needs, and libssh2's window


# Disks


def test_no_room_for_the_copy(make_site):
    site = make_site(nodes=1, home_mib=1)
    roomy = site.world.node(home_mib=8)
    site.nodes = site.world.nodes
    site.write({**PLAIN, "large": "x" * 3_000_000})
    # TMPDIR: no control socket's path would fit, and it does not even exist.
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", env={"TMPDIR": "/home/ci/" + "long" * 30})
    assert result.returncode == 0 and "20 passed" in result.stdout, result
    full = site.nodes[0]
    assert re.search(rf"{full.name} is left out \(failed\): No space left on device for the copy: it takes 29\d\d KiB, and \d+ KiB are "
                     "free where pytest_ci_project will be$", result.stderr, re.M), result.stderr
    assert not list(full.home.glob("pytest_*"))
    # Where there is a copy, less is needed than the whole; what is missing rsync says.
    (site.project / "another").write_text("x" * 9_000_000)
    again = site.run("sync", nodes=[roomy])
    assert again.returncode == 74 and "sync failed, rsync status 11: " in again.stderr and "No space left on device" in again.stderr
    alone = site.run("sync", nodes=[full])
    assert alone.returncode == 74 and "the sync failed on every node; 10.0.120.1: No space left on device for the copy" in alone.stderr


@pytest.mark.parametrize("size", ["96k", "160k", "256k"])
def test_own_disk_is_full(site, size):
    """Wherever that strikes: an end with the reason, at once, and nothing left but what cannot be."""
    controller = site.world.controller
    site.write({**PLAIN, "large": "x" * 100_000})
    (controller.home / "tiny").mkdir(exist_ok=True)
    controller.as_root(["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", "/home/ci/tiny"])
    try:
        result = site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=site.nodes[:1], env={"TMPDIR": "/home/ci/tiny"}, timeout=40)
        left = controller.run(["ls", "-A", "/home/ci/tiny"]).stdout.split()
    finally:
        controller.as_root(["umount", "-l", "/home/ci/tiny"])  # who has just ended may be there still
    assert left == [], left
    if result.returncode == 0:
        assert "20 passed" in result.stdout
        return
    assert result.returncode in (71, 74), result
    assert "No space left on device" in result.stderr, result
    assert "Traceback" not in result.stderr, result


# Fills the disk when its turn has come: a plugin of pytest's, or a program that stands before the real one.
FILL_PY = """\
import os

def fill():
    try:
        with open("/home/ci/tiny/fill", "wb", 0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
"""
FILL_SH = """\
#!/bin/sh
case " $* " in %s) dd if=/dev/zero of=/home/ci/tiny/fill bs=4k 2>/dev/null ;; esac
exec /usr/bin/${0##*/} "$@"
"""
EARLY = {"pytest.ini": "[pytest]\naddopts = -p early\n", "early.py": FILL_PY + "if '_CLOUDPLAN_SETTINGS' in os.environ:\n    fill()\n"}
NO_ROOM = "GNU parallel in /home/ci/tiny/cloudplan.*: No space left on device"
# {phase: (the tmpfs, files, {program: its arguments then}, option, the last line)}
FULL = {
    "plugin": ("64k", {}, {}, "-q", "/home/ci/tiny/cloudplan.*/plugin/pytest_cloudplan.*: No space left on device"),
    "settings": ("4m", EARLY, {}, "-q", "pytest could not tell its configuration: /home/ci/tiny/.*: No space left on device"),
    "shipping": ("8m", EARLY, {}, "--cloud-ship-pytest",
                 "pytest could not tell its configuration: /home/ci/tiny/.*/cloudplan-site/.*: No space left on device"),
    "list of jobs": ("4m", {}, {"rsync": "*' --stats '*"}, "-q", "/home/ci/tiny/cloudplan.*/ssh_config: No space left on device"),
    "GNU parallel": ("4m", {}, {"parallel": "*' --joblog '*"}, "-q", NO_ROOM),
    "rsync": ("4m", {}, {"rsync": "*' --info=progress2 '*"}, "-q", NO_ROOM),
    "verify": ("4m", {}, {"rsync": "*' -n -c '*"}, "--verify", NO_ROOM),
    "run": ("4m", {"conftest.py": FILL_PY + "def pytest_sessionstart(session):\n    fill()\n"}, {}, "-q", None),
}


@pytest.mark.parametrize("phase", FULL)
def test_own_disk_is_full_in_each_phase(site, phase):
    size, files, programs, option, words = FULL[phase]
    controller = site.world.controller
    site.write({**PLAIN, **files})
    (controller.home / "tiny").mkdir(exist_ok=True)
    (controller.home / "full").mkdir(exist_ok=True)
    for name, arguments in programs.items():
        (controller.home / "full" / name).write_text(FILL_SH % arguments)
        (controller.home / "full" / name).chmod(0o755)
    controller.as_root(["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", "/home/ci/tiny"])
    try:
        result = site.run("run", "--cloud-max-processes=1", option, "--", "-q", nodes=site.nodes[:1], timeout=40,
                          env={"TMPDIR": "/home/ci/tiny", "PATH": "/home/ci/full:/usr/bin:/bin"})
        left = controller.run(["ls", "-A", "/home/ci/tiny"]).stdout.split()
    finally:
        controller.as_root(["umount", "-l", "/home/ci/tiny"])  # who has just ended may be there still
        shutil.rmtree(controller.home / "full")
    assert left == ([] if phase == "plugin" else ["fill"]), left
    if words is None:  # what runs now needs no more room
        assert result.returncode == 0 and "20 passed" in result.stdout, result
        return
    assert result.returncode == 71, result
    assert re.fullmatch("cloudplan: " + words, result.stderr.splitlines()[-1]), result.stderr
    assert "Traceback" not in result.stderr, result


# Programs

RSYNC = "cloudplan: rsync: {}; rsync 3.1 or newer is needed (Debian: apt-get install rsync)\n"
PARALLEL = "cloudplan: parallel: {}; GNU parallel is needed, 20160222 or newer; moreutils has another"


@pytest.mark.parametrize("name,says,words", [
    ("rsync", None, RSYNC.format("not found")),
    ("rsync", "rsync  version 3.0.9  protocol version 30", RSYNC.format("too old")),
    ("rsync", "openrsync: protocol version 29\nrsync version 2.6.9 compatible", RSYNC.format("not the program that it should be")),
    ("parallel", "GNU parallel 20130922", PARALLEL.format("too old")),
    ("parallel", "parallel [OPTIONS] command -- arguments", PARALLEL.format("not the program that it should be")),
    ("ssh", None, "cloudplan: ssh: not found; the OpenSSH client is needed"),
])
@pytest.mark.parametrize("command", ["sync", "run"])
def test_programs(site, name, says, words, command):
    clean(site)
    site.write(PLAIN)
    folder = site.world.home / "programs"
    folder.mkdir(exist_ok=True)
    for tool in ("sh", "ssh", "rsync", "parallel", "perl", "env", "python3"):
        (folder / tool).unlink(missing_ok=True)
        if tool != name:
            (folder / tool).symlink_to("/usr/bin/" + tool)
    if says:
        (folder / name).write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\n")
        (folder / name).chmod(0o755)
    result = site.run(command, env={"PATH": "/home/ci/programs"})
    assert result.returncode == 78 and result.stderr.startswith(words) and len(result.stderr.splitlines()) == 1, result
    assert not any(list(node.home.glob("pytest_*")) for node in site.nodes)


OLD = "#!/bin/sh\necho 'rsync  version 2.6.9  protocol version 29'\n"
OTHER = "#!/bin/sh\necho 'rsync: a program of that name'\n"


@pytest.mark.parametrize("command", ["sync", "run"])
def test_rsync_of_a_node(make_site, command):
    """Missing, too old, another program: the node is left out with its reason, the others go on."""
    site = make_site(nodes=3)
    good, old, other = site.nodes
    missing = site.world.node(hide=("rsync",))
    for node, text in ((old, OLD), (other, OTHER)):
        (node.home / "fake").mkdir()
        (node.home / "fake/rsync").write_text(text)
        (node.home / "fake/rsync").chmod(0o755)
        (node.home / ".bashrc").write_text("PATH=~/fake:$PATH\n")
    site.write(PLAIN)
    result = site.run(command, "--cloud-max-processes=1", "--", "-q")
    assert result.returncode == 0, result
    assert ("20 passed" in result.stdout) == (command == "run") and (good.home / "pytest_ci_project/test_one.py").exists()
    for node, state, words in ((missing, "unfit", "rsync is missing on the node"),
                               (old, "unfit", "rsync 2.6.9 on the node is too old: 3.0 or newer is needed there"),
                               (other, "unfit", 'rsync on the node is not the program that it should be: it says "rsync: a program of that name"')):
        assert f"{node.name} is left out ({state}): {words}\n" in result.stderr, (node.host, result.stderr)


# Directories for sockets


@pytest.mark.parametrize("length,used", [(32, True), (33, False), (120, False)])
@pytest.mark.parametrize("variable", ["TMPDIR", "XDG_RUNTIME_DIR"])
def test_a_directory_whose_sockets_would_not_fit(site, variable, length, used):
    """Another one is taken; workers beyond the master's sessions, whose ssh looks for the same socket, are there, too."""
    site.write({"conftest.py": "import glob\n\ndef pytest_sessionfinish(session):\n"
                               "    if not hasattr(session.config, 'workerinput'):\n"
                               "        open('/home/ci/sockets', 'w').write(' '.join(glob.glob('/home/ci/t*/cloudplan.*/*') + glob.glob('/tmp/cloudplan.*/*')))\n",
                **PLAIN})
    folder = "/home/ci/" + "t" * (length - len("/home/ci/"))
    site.world.run(["mkdir", folder], check=True)
    result = site.run("run", "--cloud-max-processes=2", "--", "-q", nodes=site.nodes[:1], env={variable: folder})
    left = site.world.run(["ls", "-A", folder], check=True).stdout
    site.world.run(["rm", "-r", folder], check=True)
    assert result.returncode == 0 and "20 passed" in result.stdout and "cloudplan" not in left, (result, left)
    sockets = [name for name in (site.world.home / "sockets").read_text().split() if re.search(r"/[0-9a-f]{40}$", name)]
    assert len(sockets) == 1 and sockets[0].startswith((folder if used else "/tmp") + "/cloudplan."), sockets


def test_no_directory_whose_sockets_would_fit(make_site):
    site = make_site(nodes=1)
    site.write(PLAIN)
    site.world.controller.as_root(["chmod", "555", "/tmp", "/var/tmp"])
    folder = "/home/ci/" + "t" * 40
    site.world.run(["mkdir", folder], check=True)
    result = site.run("run", "--", "-q", env={"TMPDIR": folder})
    (line,) = result.stderr.splitlines()
    assert result.returncode == 71 and line.startswith("cloudplan: no private directory can be made: set TMPDIR to "), result
    for word in ("TMPDIR: its path is too long", "/tmp: Permission denied", "/var/tmp: Permission denied", "~/.cache: "):
        assert word in line, (word, line)


def test_a_directory_in_which_others_could_replace_ours(site):
    site.write(PLAIN)
    site.world.run(["mkdir", "-m", "777", "open"], check=True)
    found = "import os\nopen('/home/ci/found', 'w').write(' '.join(os.listdir('/home/ci/open')))\n"
    (site.project / "conftest.py").write_text(found)
    result = site.run("run", "--cloud-max-processes=1", "--", "-q", nodes=[":"], env={"TMPDIR": "/home/ci/open"})
    assert result.returncode == 0 and "cloudplan" not in (site.world.home / "found").read_text(), result
    site.world.run(["rm", "-r", "open"], check=True)
