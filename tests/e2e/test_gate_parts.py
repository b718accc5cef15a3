"""What pytest_cloudplan/gate.py, _stream.py and _coverage.py make of single values. Nothing is started."""
import io
import os
import struct
import sys
import types
import warnings
import zlib
from pathlib import Path

import pytest

execnet = pytest.importorskip("execnet")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from pytest_cloudplan import gate as gate  # noqa: E402
from pytest_cloudplan import stream as stream  # noqa: E402

sys.path.remove(str(SCRIPTS))


def dump(branch=False, **files):
    coverage = pytest.importorskip("coverage")
    data = coverage.CoverageData(no_disk=True)
    data.set_context("it's\none|run")
    (data.add_arcs if branch else data.add_lines)(
        {name: [(-1, 1), (1, 2)] if branch else [1, 2, 70] for name in files.get("names", ["/n/p/a.py", "/n/p/it's.py", "/etc/shadow"])})
    return data.dumps()


def measured(text):
    from pytest_cloudplan.coverage import Measured

    return Measured(b"z" + zlib.compress(text.encode()))


def loaded(data):
    import coverage

    result = coverage.CoverageData(no_disk=True)
    result.loads(data)
    return result


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.mark.parametrize("branch", [False, True])
def test_coverage_comes_through(branch):
    from pytest_cloudplan.coverage import Measured

    own = {"/n/p/a.py": "/here/a.py", "/n/p/it's.py": "/here/it's.py"}
    result = loaded(Measured(dump(branch)).dumps(own.get, (), branch))
    assert result.measured_files() == set(own.values())
    if branch:
        assert set(result.arcs("/here/a.py")) == {(-1, 1), (1, 2)}
    else:
        assert sorted(result.lines("/here/it's.py")) == [1, 2, 70]
    assert result.measured_contexts() == {"it's\\none|run"}


@pytest.mark.parametrize("statement", [
    "ATTACH DATABASE '{made}' AS x; CREATE TABLE x.t(a);\n", "PRAGMA journal_mode=WAL;\n", "SELECT load_extension('{made}');\n",
    "VACUUM INTO '{made}';\n", "CREATE TRIGGER t AFTER INSERT ON file BEGIN SELECT 1; END;\n", ")", "'", "\nINSERT INTO x VALUES(';\n"])
def test_coverage_is_not_executed(tmp_path, statement):
    from pytest_cloudplan.coverage import DataError

    text = zlib.decompress(dump(names=["/n/a.py"])[1:]).decode()
    made = tmp_path / "made"
    for at in (0, text.index("INSERT INTO \"file\""), text.index("COMMIT")):
        try:
            data = measured(text[:at] + statement.format(made=made) + text[at:]).dumps(lambda name: name, (), False)
        except DataError:
            continue
        assert loaded(data).measured_files() <= {"/n/a.py"}
        assert str(made) not in zlib.decompress(data[1:]).decode()
    assert not made.exists()


def test_coverage_has_bounds(monkeypatch):
    from pytest_cloudplan import coverage as coverage

    monkeypatch.setattr(coverage, "DUMP_MAX", 1 << 20)
    for text in ["\n" * (2 << 20), "INSERT INTO \"line_bits\" VALUES(1,1,X'" + "FF" * coverage.NUMBITS_MAX * 2 + "');\n",
                 "INSERT INTO \"arc\" VALUES(1,1,1,99999999999999);\n"]:
        with pytest.raises(coverage.DataError):
            measured(text)
    with pytest.raises(coverage.DataError):
        coverage.Measured(b"z" + b"no zlib")


def test_only_own_files_have_names(tmp_path, monkeypatch):
    from pytest_cloudplan.coverage import Coverage

    root, outside = tmp_path / "p", tmp_path / "secret.py"
    root.mkdir()
    for path in root / "a.py", outside:
        path.touch()
    (root / "link.py").symlink_to(outside)
    monkeypatch.setattr(sys, "path", [os.path.dirname(os.__file__)])
    own_file = Coverage(None, [str(root)], None).own_file
    assert own_file("/n/p/a.py", "/n/p") == str(root / "a.py")
    assert own_file(os.__file__, "/n/p") == os.path.realpath(os.__file__)
    for path in str(outside), "/n/p/../../" + str(outside), "/n/p/link.py", "/n/p/b.py", "/etc/passwd", "a.py", "/n/p", "/n/p/a\0.py", "":
        assert own_file(path, "/n/p") is None, path
    assert own_file("/etc/passwd", "/") is None and own_file(str(outside), "..") is None


# Bytes


class Io:
    def __init__(self, data):
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize("header", [
    b"Welcome t", struct.pack("!bii", 3, 1, 5), struct.pack("!bii", 0, 1, 0), struct.pack("!bii", 4, 1, -1),
    struct.pack("!bii", 4, 1, 2**31 - 1), struct.pack("!bii", 99, 1, 1), struct.pack("!bii", -1, 1, 1), struct.pack("!bii", 2, 0, 0)])
def test_what_is_no_message_ends_the_stream(header):
    connection = Io(b"1" + header)
    watched = stream.Stream(connection)
    assert connection.read(1) == b"1"
    with pytest.raises(EOFError):
        connection.read(9)
    assert watched.trouble == "there is garbage on its stream"


def test_a_message_comes_through():
    payload = b"x" * 200000
    connection = Io(struct.pack("!bii", 4, 1, len(payload)) + payload + struct.pack("!bii", 5, 1, 0))
    stream.Stream(connection)
    assert len(connection.read(9)) == 9 and connection.read(len(payload)) == payload
    assert len(connection.read(9)) == 9 and connection.read(0) == b""


@pytest.mark.parametrize("error, shown", [("a\x1b]0;t\x07\nKeyError", "a\\x1b]0;t\\x07\nKeyError"), (["no", "text"], "?")])
def test_a_remote_error_is_text(error, shown):
    data = execnet.gateway_base.dumps_internal(error)
    connection = Io(struct.pack("!bii", 6, 1, len(data)) + data)
    stream.Stream(connection)
    connection.read(9)
    assert execnet.gateway_base.loads_internal(connection.read(len(data))) == shown


def test_a_message_without_an_end_is_not_waited_for(monkeypatch):
    connection = Io(b"")
    ended = []
    connection.popen = types.SimpleNamespace(kill=lambda: ended.append(True))
    watched = stream.Stream(connection)
    watched.end_where_it_stalls(1000)
    assert not ended
    watched.since = 1000
    watched.end_where_it_stalls(1000 + stream.STALL_SECONDS)
    assert not ended
    watched.end_where_it_stalls(1001 + stream.STALL_SECONDS)
    assert ended and watched.trouble == "a message on its stream has no end"


def test_little_does_not_become_much():
    stream.bound_objects()
    opcode = execnet.gateway_base.opcode
    for data in (opcode.NEWLIST + struct.pack("!i", 2**31 - 1), opcode.LONGINT + struct.pack("!i", 5000) + b"9" * 5000):
        with pytest.raises(execnet.DataFormatError):
            execnet.gateway_base.loads_internal(data + opcode.STOP)
    kept = [[1, None], 2**40, -5, {"a": [()]}]
    assert execnet.loads(execnet.dumps(kept)) == kept


# Values


@pytest.mark.parametrize("value", [object(), {"a": object()}, [gate], __import__("functools").reduce(lambda a, _: [a], range(5000), [])])
def test_not_plain(value):
    with pytest.raises(gate.Nonsense):
        gate.plain(value)


def test_texts():
    assert gate.line("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"
    assert gate.text("\x1b[31mred\x1b]0;t\x07\r\nx\ry\tz") == "\x1b[31mred\\x1b]0;t\\x07\nx\ny\tz\x1b[0m"
    assert gate.text("plain\n") == "plain\n"


@pytest.mark.parametrize("extra", [
    {"format_type": "text", "content": "x", "extension": "/../../x"}, {"format_type": "text", "content": "x", "extension": "a" * 300},
    {"format_type": "image", "content": 5}, {"format_type": "json", "content": {1, 2}}, {"format_type": ["text"], "content": "x"},
    {"content": "x"}, "text"])
def test_attachments_that_are_none(extra):
    with pytest.raises(gate.Nonsense):
        gate.attachment(extra)


def test_attachments():
    extra = {"format_type": "image", "content": "aGFsbG8=", "extension": "png", "mime_type": "image/png", "name": "Image"}
    assert gate.attachment(dict(extra)) == extra
    assert gate.attachment(dict(extra, content="/home/ci/x.png"))["format_type"] == "text"


def warning(**more):
    data = dict(message_str="mind", message_module=None, message_class_name=None, message_args=None, category_module="builtins",
                category_class_name="UserWarning", filename="/etc/passwd", lineno=1, line=None, file=None, source=None)
    data.update(more)
    return gate.warning_message(data, lambda path: None)


def test_a_warning_s_class_is_loaded_or_plain(monkeypatch):
    class Told(UserWarning):
        def __init__(self, *args):
            raise AssertionError("called")

    class Spoken(UserWarning):
        def __str__(self):
            raise AssertionError("called")

    class Module(types.ModuleType):
        def __getattr__(self, name):
            raise AssertionError("asked")

        __dict__ = property(lambda self: self.asked)

    here = types.ModuleType("warn_here")
    here.Told, here.Spoken, here.system = Told, Spoken, os.system
    monkeypatch.setitem(sys.modules, "warn_here", here)
    monkeypatch.setitem(sys.modules, "warn_lazy", Module("warn_lazy"))
    told = warning(message_module="warn_here", message_class_name="Told", message_args=("x",))
    assert type(told.message) is Told and str(told.message) == "mind"
    assert str(warning(message_module="warn_here", message_class_name="Spoken").message) == "mind"
    for module, name in ("warn_here", "system"), ("antigravity", "fly"), ("warn_lazy", "Any"), ("os", "system"), ("__main__", "x y"):
        found = warning(message_module=module, message_class_name=name, message_args=("true",), category_module=module,
                        category_class_name=name)
        assert isinstance(found.message, gate.PlainWarning) and issubclass(found.category, gate.PlainWarning)
        assert found.category.__name__ in (name, "PlainWarning")
    assert "antigravity" not in sys.modules
    shown = warnings.formatwarning(str(told.message), told.category, told.filename, told.lineno, told.line)
    assert shown == "/etc/passwd:1: UserWarning: mind\n"  # and no line of that file
