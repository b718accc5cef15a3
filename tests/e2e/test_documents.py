"""--help, the man page and the program agree with each other.

CLOUDPLAN names the binary, CLOUDPLAN_SRC the source tree.  The option table in src/run/options.c is
seen through the program itself: --help is generated from it, and so are the parser's errors.
"""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cloudnodes import patience

SRC = Path(os.environ.get("CLOUDPLAN_SRC", Path(__file__).parents[2]))
CLOUDPLAN = os.environ.get("CLOUDPLAN", str(SRC / "cloudplan"))
MAN = SRC / "man" / "cloudplan.1"
COMMANDS = ["probe", "plan", "sync", "run"]


def cloudplan(*args, **kwargs):
    return subprocess.run(
        [CLOUDPLAN, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience(60), **kwargs
    )


def default_of(text):
    found = re.search(r"\(default: ([^)]*)\)", " ".join(text.split()))
    return found and found[1]


def options_of_help(text):
    """{name: (letter, argument, default)}"""
    heads = list(re.finditer(r"^(?:  -(\w), |      )--([\w-]+)(?:=(\S+))?", text, re.M))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        head[2]: (head[1], head[3], default_of(text[head.end() : end])) for head, end in zip(heads, ends)
    }


def section(man, title):
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", man, re.M | re.S)
    assert found, f"the man page has no section {title}"
    return found[1]


def options_of_man(man):
    text = section(man, "OPTIONS")
    heads = list(re.finditer(r"^\.It (?:Fl (\w) , )?Fl -([\w-]+)(?: Ns = Ns Ar (\S+))?$", text, re.M))
    assert len(heads) == len(re.findall(r"^\.It", text, re.M)), "an item of OPTIONS is not an option"
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        head[2]: (head[1], head[3], default_of(text[head.end() : end])) for head, end in zip(heads, ends)
    }


def keys_of_man(man):
    """Dotted paths of the JSON document's keys, from the nested lists of its subsection."""
    found = re.search(r"^\.Ss JSON\n(.*?)(?=^\.S[hs] |\Z)", man, re.M | re.S)
    path, keys = [], set()
    for line in found[1].splitlines():
        if line.startswith(".Bl"):
            path.append(None)
        elif line.startswith(".El"):
            path.pop()
        elif line.startswith(".It Cm "):
            path[-1] = line.split()[2]
            keys.add(".".join(path))
    return keys


def keys_of_json(value, prefix=""):
    if isinstance(value, list):
        return set().union(*(keys_of_json(item, prefix) for item in value))
    if not isinstance(value, dict):
        return set()
    return set().union(*({prefix + key} | keys_of_json(item, f"{prefix}{key}.") for key, item in value.items()))


def enum_of(header, prefix):
    """{name without prefix: value or None} of the constants of a header's enum."""
    text = re.sub(r"/\*.*?\*/", "", (SRC / "src" / header).read_text(), flags=re.S)
    return {name: value or None for name, value in re.findall(rf"^ +{prefix}(\w+)(?: = (\d+))?,?", text, re.M)}


@pytest.fixture(scope="module")
def man():
    return MAN.read_text()


@pytest.fixture(scope="module")
def help_text():
    done = cloudplan("--help")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_help_and_man_page_have_the_same_options(help_text, man):
    options = options_of_help(help_text)
    assert len(options) >= 20
    assert options == options_of_man(man)


@pytest.mark.parametrize(
    "old, new",
    [
        (".It Fl -cloud-chdir Ns = Ns Ar DIR\n", ".It Fl -cloud-chdirs Ns = Ns Ar DIR\n"),
        (".It Fl -cloud-chdir Ns = Ns Ar DIR\n", ".It Fl -cloud-chdir Ns = Ns Ar PATH\n"),
        (".It Fl q , Fl -quiet\n", ".It Fl -quiet\n"),
        ("(default: 5000)", "(default: 500)"),
        ("(default: 10)\n", ""),
    ],
)
def test_a_difference_would_be_noticed(help_text, man, old, new):
    assert old in section(man, "OPTIONS")
    assert options_of_help(help_text) != options_of_man(man.replace(old, new))


def test_groups_are_the_subsections(help_text, man):
    groups = re.findall(r"^(\w+):$", help_text, re.M)
    assert groups == ["Nodes", "Capacity", "Sync", "Engine", "Output"]
    assert groups == re.findall(r"^\.Ss (.*)$", section(man, "OPTIONS"), re.M)


def test_parser_knows_the_options_of_help(help_text):
    for name, (letter, argument, _) in options_of_help(help_text).items():
        done = cloudplan(f"--{name}" if argument else f"--{name}=yes")
        error = f"--{name}: needs a value, --{name}={argument}" if argument else f"takes no value, write --{name}"
        assert done.returncode == 64 and done.stdout == ""
        assert error in done.stderr and done.stderr.count("\n") == 1
        if letter and argument:
            assert error in cloudplan(f"-{letter}").stderr


def test_commands(help_text, man):
    assert re.findall(r"^  (\w+) +\w", help_text, re.M) == COMMANDS
    assert f".Op Cm {' | '.join(COMMANDS)}\n" in man
    for command in COMMANDS:
        assert f".It Cm {command}\n" in section(man, "DESCRIPTION")


def test_formats(man):
    """The error's list is the parser's own."""
    names = re.findall(r"\w+", cloudplan("--format=?").stderr.split("there are ")[1].replace(" and ", " "))
    assert names == re.findall(r"^\.It Cm (\w+)$", section(man, "OUTPUT").split(".Ss ")[0], re.M)


def test_exit_statuses(man):
    statuses = enum_of("base/error.h", "STATUS_")
    assert len(statuses) == 10 and statuses["OK"] == "0" and statuses["USAGE"] == "64"
    documented = re.findall(r"^\.It (\d+)(\+ Ns Ar N)?$", section(man, "EXIT STATUS"), re.M)
    assert sorted(number for number, _ in documented) == sorted(statuses.values())
    assert [number for number, signal in documented if signal] == [statuses["SIGNAL"]]


def test_states_and_terms(man):
    states = [name.lower() for name in enum_of("nodes/node.h", "NODE_(?!LIST|NAME)") if name != "PENDING"]
    assert states == re.findall(r"^\.It Cm (\w+)$", man.split(".Ss States\n")[1].split(".Ss ")[0], re.M)
    terms = [name.lower().replace("_", "-") for name in enum_of("nodes/node.h", "TERM_") if name != "NONE"]
    item = re.search(r"^\.It Cm limited_by\n\.Cm (.*)$", man, re.M)[1]
    assert terms == item.rstrip(" ,").split(" , ")
    for term in terms:
        assert term in section(man, "THE PLAN")


def test_json_keys(man, tmp_path):
    """This machine, asked without SSH, has all the keys."""
    done = cloudplan("plan", "--cloud-node=:", "--format=json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert document["nodes"][0]["facts"], done.stderr
    assert keys_of_json(document) == keys_of_man(man)


def test_what_is_left_out_is_documented(man):
    table = re.search(r"left_out\[\] = \{(.*?)\};", (SRC / "src" / "copy/rsync_cmd.c").read_text(), re.S)[1]
    names = re.findall(r'"([^"]+)"', table)
    assert names
    documented = re.findall(r"^\.Pa (.*)$", section(man, "THE SYNC").split("never copied")[1].split(".El")[0], re.M)
    assert sorted(" ".join(documented).split()) == sorted(names)


@pytest.fixture(scope="module")
def test_names():
    """Of all end-to-end tests: FILE, FILE::TEST, FILE::TEST[PARAMETERS]."""
    here = Path(__file__).parent
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--collect-only", f"--rootdir={here}", here]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience(120))
    ids = [line for line in done.stdout.splitlines() if "::" in line]
    assert done.returncode == 0 and len(ids) > 1000, done.stdout[-2000:] + done.stderr[-2000:]
    return {name for line in ids for name in (line, line.split("[")[0], line.split("::")[0])}


@pytest.mark.parametrize("document, least", [("FAULTS.md", 50), ("SAME.md", 30)])
def test_tables_name_tests_that_exist(test_names, document, least):
    """FILE, or FILE::TEST, or ::TEST of the file that was named before, as pytest names them."""
    rows = [line.split("|") for line in (Path(__file__).parent / document).read_text().splitlines() if line.startswith("|")]
    assert all(len(row) == 6 for row in rows), [row for row in rows if len(row) != 6]
    names = [row[4].strip() for row in rows if row[4].strip() not in ("test", "---")]
    assert len(names) >= least, names
    file, unknown = None, []
    for name in ", ".join(names).split(", "):
        file = name.split("::")[0] or file
        if name and (file + name if name.startswith("::") else name) not in test_names:
            unknown.append(name)
    assert unknown == []


def test_version():
    done = cloudplan("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"cloudplan \d\S*\n", done.stdout)


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_man_page_is_clean():
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", MAN], capture_output=True, text=True)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
