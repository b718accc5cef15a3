"""The bytes that come from a worker, before execnet makes objects of them.

A message of execnet is a header of 9 bytes, which tells its kind, its channel and its size, and a payload.  Taken by their
word they could wait for 2 GiB that never come, or make a list of 2**31 elements out of ten bytes.  What a worker never
sends (an order to execute code, which execnet refuses by itself, a status, another configuration) ends its stream.
Nothing here knows of pytest: what the messages say is checked in pytest_cloudplan/gate.py.
"""
import re
import struct
import threading
import time

from execnet import gateway_base

SIZE_MAX = 512 << 20  # bytes of one message
CHUNK = 64 << 10
STALL_SECONDS = 60  # for one chunk of a message that has begun
DIGITS_MAX = 1000
ERROR_MAX = 64 << 10  # characters of the traceback that ended a channel
HEADER = "!bii"
HEADER_SIZE = struct.calcsize(HEADER)

# What moves a cursor, sets a title, or changes the direction of writing.
SINGLE = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
IN_LINE = re.compile("[%s\t\n\r]" % SINGLE)
IN_TEXT = re.compile("\x1b\\[[0-9;]*m|[%s]" % SINGLE)
RESET = "\x1b[0m"


def escape(match):
    return match.group().encode("unicode_escape").decode("ascii")


def line(text):
    """One line that a terminal shows as it is."""
    return IN_LINE.sub(escape, text)


def text(text):
    """Lines, with colours, which do not outlive it."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    coloured = False

    def show(match):
        nonlocal coloured
        if len(match.group()) == 1:
            return escape(match)
        coloured = True
        return match.group()

    text = IN_TEXT.sub(show, text)
    return text + RESET if coloured and not text.endswith(RESET) else text


def kinds():
    message = gateway_base.Message
    return {message.CHANNEL_DATA, message.CHANNEL_CLOSE, message.CHANNEL_CLOSE_ERROR, message.CHANNEL_LAST_MESSAGE}


def cut(io):
    """Ends a connection at once, which wakes the thread that reads it.  It asks the worker for nothing: it may not listen."""
    popen = getattr(io, "popen", None)
    sock = getattr(io, "sock", None)
    if popen is not None:
        popen.kill()
    elif sock is not None:
        try:
            sock.shutdown(2)
        except OSError:
            pass


class Stream:
    """Reads for one of execnet's IO objects."""

    def __init__(self, io):
        self.io = io
        self.read_exactly = io.read
        self.kinds = kinds()
        self.message = None  # kind and size of the one whose header was read
        self.since = None  # when it began to wait for a part of a message
        self.trouble = None  # why it was ended
        io.read = self.read
        io.cloudplan_stream = self

    def read(self, size):
        if self.message is None:
            # Anything but a header is execnet's own beginning.
            return self.read_header() if size == HEADER_SIZE else self.read_exactly(size)
        kind, size = self.message
        data = self.read_payload(size)
        self.message = None
        return clean_error(data) if kind == gateway_base.Message.CHANNEL_CLOSE_ERROR else data

    def read_header(self):
        header = self.read_exactly(HEADER_SIZE)
        kind, _, size = struct.unpack(HEADER, header)
        if kind not in self.kinds or not 0 <= size <= SIZE_MAX:
            self.trouble = "there is garbage on its stream"
            raise EOFError(self.trouble)
        self.message = kind, size
        return header

    def read_payload(self, size):
        data = bytearray()
        try:
            while len(data) < size:
                self.since = time.monotonic()
                data += self.read_exactly(min(CHUNK, size - len(data)))
        finally:
            self.since = None
        return bytes(data)

    def end_where_it_stalls(self, now):
        since = self.since
        if since is not None and now - since > STALL_SECONDS:
            self.trouble = "a message on its stream has no end"
            cut(self.io)


def clean_error(data):
    try:
        error = gateway_base.loads_internal(data)
    except Exception:
        error = None
    return gateway_base.dumps_internal(text(error[-ERROR_MAX:]) if isinstance(error, str) else "?")


class Streams:
    """All of a session."""

    def __init__(self):
        self.streams = []
        self.thread = None
        bound_objects()

    def add(self, io):
        if not hasattr(io, "read") or not hasattr(gateway_base, "Message"):
            return
        self.streams.append(Stream(io))
        if self.thread is None:
            self.thread = threading.Thread(target=self.watch, daemon=True)
            self.thread.start()

    def watch(self):
        while True:
            time.sleep(STALL_SECONDS / 12)
            for stream in list(self.streams):
                stream.end_where_it_stalls(time.monotonic())


def trouble(gateway):
    """Why a gateway's stream was ended here, or None."""
    return getattr(getattr(getattr(gateway, "_io", None), "cloudplan_stream", None), "trouble", None)


def bound_objects():
    """In the place of those of execnet's loaders that make much of little."""
    unserializer = gateway_base.Unserializer
    opcode = gateway_base.opcode

    def load_newlist(self):
        length = self._read_int4()
        left = len(self.stream.getbuffer()) - self.stream.tell() if hasattr(self.stream, "getbuffer") else length
        if not 0 <= length <= left:  # each element takes seven bytes at least
            raise gateway_base.LoadError("a list that is longer than its message")
        self.stack.append([None] * length)

    def load_longint(self):
        digits = self._read_byte_string()
        if len(digits) > DIGITS_MAX:
            raise gateway_base.LoadError("a number of more than %d digits" % DIGITS_MAX)
        self.stack.append(int(digits))

    for name, load in ("NEWLIST", load_newlist), ("LONGINT", load_longint), ("LONGLONG", load_longint):
        if hasattr(opcode, name):
            unserializer.num2func[getattr(opcode, name)] = load
