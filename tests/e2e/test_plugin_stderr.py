"""What workers print on their standard error: shown line by line with their names, cleaned, and not without end."""
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(os.environ.get("CLOUDPLAN_SRC") or Path(__file__).resolve().parents[2]) / "scripts"))

from pytest_cloudplan import stderr as stderr  # noqa: E402


@pytest.mark.parametrize("line, shown", [
    ("", ""),
    ("plain, with a\ttab and ü", "plain, with a\ttab and ü"),
    ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
    ("\x1b[1;31mred", "\x1b[1;31mred\x1b[0m"),
    ("\x1b[2J\x1b[H", "?[2J?[H"),
    ("\x1b[?25l", "?[?25l"),
    ("\x1b]0;title\x07", "?]0;title?"),
    ("\x1bP1\x1b\\", "?P1?\\"),
    ("\x9b2J\x85\x7f\b\v\f\0", "?2J??????"),
    ("\u202eright to left", "?right to left"),
    ("\x1b[" + "1" * 4096 + "x", "?[" + "1" * 4096 + "x"),
])
def test_clean(line, shown):
    assert stderr.clean(line) == shown


def relayed(data, monkeypatch, limit=None):
    """What is shown of the bytes of a worker w."""
    if limit:
        monkeypatch.setattr(stderr, "BYTES_MAX", limit)
    (theirs, ours), (read, shown) = os.pipe(), os.pipe()
    relay = stderr.Relay("w", os.fdopen(theirs, "rb"), shown, stderr.Told())
    with os.fdopen(ours, "wb") as stream:
        stream.write(data)
    relay.thread.join(10)
    assert not relay.thread.is_alive()
    os.close(shown)
    with os.fdopen(read, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("data, shown", [
    (b"", b""),
    (b"one\ntwo", b"[w] one\n[w] two\n"),
    (b"a\r\nb\rc\n\n", b"[w] a\n[w] b\n[w] c\n[w] \n"),
    (b"\xff\xfe\n", "[w] \ufffd\ufffd\n".encode()),
    (b"x" * 5000 + b"\n", b"[w] " + b"x" * 4096 + b"\n[w] " + b"x" * 904 + b"\n"),
])
def test_lines(data, shown, monkeypatch):
    assert relayed(data, monkeypatch) == shown


UNSUPPORTED = b'/etc/ssh/ssh_config line 4: Unsupported option "gssapiauthentication"\n'
BAD = b"/home/ci/.ssh/config: line 3: Bad configuration option: foo\n"


def relayed_in_turn(*workers):
    """What is shown of workers w0, w1 ... of one session."""
    session = stderr.Stderr()
    os.close(session.descriptor)
    read, session.descriptor = os.pipe()
    for number, data in enumerate(workers):
        theirs, ours = os.pipe()
        with os.fdopen(ours, "wb") as stream:
            stream.write(data)
        session.add(type("Spec", (), {"id": "w%d" % number}), os.fdopen(theirs, "rb"))
        session.end(10)
    os.close(session.descriptor)
    with os.fdopen(read, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("workers, shown", [
    ((UNSUPPORTED, UNSUPPORTED), b"[w0] " + UNSUPPORTED),
    ((UNSUPPORTED + b"a\n", UNSUPPORTED + b"a\n"), b"[w0] " + UNSUPPORTED + b"[w0] a\n[w1] a\n"),
    ((UNSUPPORTED + BAD, BAD + UNSUPPORTED.replace(b"4", b"5")),
     b"[w0] " + UNSUPPORTED + b"[w0] " + BAD + b"[w1] " + UNSUPPORTED.replace(b"4", b"5")),
    # Twice by one ssh: there are two of it, and a ProxyJump is one more.
    ((UNSUPPORTED * 3,), b"[w0] " + UNSUPPORTED),
    # A test's own words are its own, whatever they are.
    ((b"a\n" + BAD, b"a\n" + BAD), b"".join(b"[%s] a\n[%s] %s" % (w, w, BAD) for w in (b"w0", b"w1"))),
    ((b"ab line 4: Bad thing\n", b"ab line 4: Bad thing\n"), b"[w0] ab line 4: Bad thing\n[w1] ab line 4: Bad thing\n"),
])
def test_what_ssh_says_of_its_configuration_is_shown_once(workers, shown):
    assert relayed_in_turn(*workers) == shown


def test_what_is_remembered_has_an_end():
    lines = b"".join(b"f line %d: Unsupported option x\n" % n for n in range(2 * stderr.LINES_MAX))
    shown = relayed_in_turn(lines, lines)
    assert shown.count(b"[w0]") == 2 * stderr.LINES_MAX and shown.count(b"[w1]") == stderr.LINES_MAX


def test_no_end(monkeypatch):
    """All of it is read: what fills a pipe stops a worker."""
    shown = relayed(b"x\n" * 100000, monkeypatch, limit=1 << 10)
    assert shown.count(b"\n") == 513 and shown.endswith(b"[w] more than 0 MiB on its standard error: the rest is not shown\n")


def test_nobody_reads(monkeypatch):
    read, shown = os.pipe()
    os.close(read)
    theirs, ours = os.pipe()
    relay = stderr.Relay("w", os.fdopen(theirs, "rb"), shown, stderr.Told())
    with os.fdopen(ours, "wb") as stream:
        stream.write(b"x\n" * 100000)
    relay.thread.join(10)
    assert not relay.thread.is_alive()
    os.close(shown)
