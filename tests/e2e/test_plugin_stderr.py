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
    relay = stderr.Relay("w", os.fdopen(theirs, "rb"), shown)
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


def test_no_end(monkeypatch):
    """All of it is read: what fills a pipe stops a worker."""
    shown = relayed(b"x\n" * 100000, monkeypatch, limit=1 << 10)
    assert shown.count(b"\n") == 513 and shown.endswith(b"[w] more than 0 MiB on its standard error: the rest is not shown\n")


def test_nobody_reads(monkeypatch):
    read, shown = os.pipe()
    os.close(read)
    theirs, ours = os.pipe()
    relay = stderr.Relay("w", os.fdopen(theirs, "rb"), shown)
    with os.fdopen(ours, "wb") as stream:
        stream.write(b"x\n" * 100000)
    relay.thread.join(10)
    assert not relay.thread.is_alive()
    os.close(shown)
