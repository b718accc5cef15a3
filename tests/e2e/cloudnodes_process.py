"""The channel to a pid 1 of cloudnodes, and the processes that are started through it.

subprocess.Popen cannot be used for them: they are not our children, but a machine's.
Their exit status comes through a pipe of its own, so that waiting needs no thread.
"""
import array
import fcntl
import json
import os
import pty as ptys
import selectors
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

from cloudnodes_inside import MESSAGE_MAX
from cloudnodes_patience import patience

PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
ANSWER_SECONDS = 30  # as all numbers of seconds here: of a quiet machine, see cloudnodes_patience


class CloudnodesError(Exception):
    """The fixture itself failed: one line."""


def wait_until(condition, timeout=10, what="the condition"):
    """Waits for a true result of condition() and returns it; AssertionError when time is up.  what may be a function,
    which says at that time what was in the way."""
    allowed = patience(timeout)
    deadline = time.monotonic() + allowed
    pause = 0.005
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {allowed:.0f} s in vain for {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.1)  # a look costs something, too: it may read all of a machine's processes


class Channel:
    """Requests to one pid 1.  host_pid is that process as this process sees it."""

    def __init__(self):
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.ours.settimeout(patience(ANSWER_SECONDS))
        self.lock = threading.Lock()
        self.host_pid = None

    def hello(self):
        """The first message: the kernel says who sent it, in our numbering of processes."""
        self.theirs.close()
        message, ancillary, _, _ = self.ours.recvmsg(MESSAGE_MAX, socket.CMSG_SPACE(struct.calcsize("3i")))
        if not message:
            raise CloudnodesError("the namespace's first process ended")
        hello = json.loads(message)
        if "error" in hello:
            raise CloudnodesError(hello["error"])
        self.host_pid = struct.unpack("3i", ancillary[0][2])[0]
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return hello

    def call(self, do, fds=(), **words):
        with self.lock:
            message = json.dumps({"do": do, **words}).encode()
            if len(message) > MESSAGE_MAX:
                raise CloudnodesError(f"a command of more than {MESSAGE_MAX} bytes: pass the data on its stdin")
            self.ours.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            message, passed, _, _ = socket.recv_fds(self.ours, MESSAGE_MAX, 4)
        if not message:
            raise CloudnodesError("the machine has ended")
        reply = json.loads(message)
        if "errno" in reply:
            raise OSError(reply["errno"], reply["error"])
        if "error" in reply:
            raise CloudnodesError(reply["error"])
        return reply, passed

    def close(self):
        self.ours.close()


class Result(subprocess.CompletedProcess):
    """CompletedProcess with elapsed, in seconds from the request to the exit."""

    def __init__(self, args, returncode, stdout, stderr, elapsed):
        super().__init__(args, returncode, stdout, stderr)
        self.elapsed = elapsed


class Process:
    """A running command: as subprocess.Popen where the names are the same; streams are raw bytes.

    With pty=True the command leads a session on a new terminal of 24 x 80, and stdin and
    stdout are both the terminal's master.
    """

    def __init__(self, channel, argv, *, env, cwd, stdin=PIPE, stdout=PIPE, stderr=PIPE, pty=False,
                 root=False, session=True):
        self.args = argv
        self.stdin = self.stdout = self.stderr = None
        self.returncode = self.elapsed = None
        self._channel = channel
        given = []  # for the command; ours to close when it has been started
        if pty:
            try:
                master, slave = ptys.openpty()
            except OSError as error:
                raise CloudnodesError(f"no terminal ({error}): mount -t devpts devpts /dev/pts") from None
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
            self.stdin = self.stdout = os.fdopen(master, "r+b", buffering=0)
            given = [slave, os.dup(slave), os.dup(slave)]
        else:
            given.append(self._stream("stdin", stdin, None))
            given.append(self._stream("stdout", stdout, None))
            given.append(self._stream("stderr", stderr, given[1]))
        self._status, status = os.pipe()
        given.append(status)
        self._started = time.monotonic()
        try:
            reply, _ = channel.call("spawn", given, argv=[os.fspath(word) for word in argv], env=env, cwd=cwd,
                                    terminal=pty, root=root, session=session)
        except BaseException:
            os.close(self._status)
            self.close()
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        self.pid = reply["pid"]  # as the machine sees it

    def _stream(self, name, kind, stdout):
        if kind == PIPE:
            reading, writing = os.pipe()
            mine, theirs = (writing, reading) if name == "stdin" else (reading, writing)
            setattr(self, name, os.fdopen(mine, "wb" if name == "stdin" else "rb", buffering=0))
            return theirs
        if kind == STDOUT:
            return os.dup(stdout)
        if kind == DEVNULL:
            return os.open(os.devnull, os.O_RDWR)
        return os.dup(kind if isinstance(kind, int) else kind.fileno())

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout=None):
        """timeout: in seconds of a quiet machine; 0 does not wait."""
        return self._wait(timeout and patience(timeout))

    def _wait(self, allowed):
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if not selector.select(allowed):
                    raise subprocess.TimeoutExpired(self.args, allowed)
            words = os.read(self._status, 100).split()
            os.close(self._status)
            # No words: the machine has ended, and with it the command.
            self.returncode = int(words[0]) if words else -signal.SIGKILL
            self.elapsed = (float(words[1]) if words else time.monotonic()) - self._started
        return self.returncode

    def send_signal(self, number, group=False):
        """To the process, or with group=True to its whole process group, as a terminal does."""
        if self.poll() is None:
            self._channel.call("signal", pid=-self.pid if group else self.pid, signal=int(number))

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL, group=True)

    def communicate(self, input=None, timeout=None):
        """Feeds input, reads both streams to their ends, waits.  On TimeoutExpired all goes on, as in Popen."""
        allowed = timeout and patience(timeout)
        deadline = None if timeout is None else time.monotonic() + allowed
        remaining = memoryview(input or b"")
        collected = {stream: [] for stream in (self.stdout, self.stderr) if stream}
        with selectors.DefaultSelector() as selector:
            for stream in collected:
                selector.register(stream, selectors.EVENT_READ)
            if self.stdin and remaining:
                if self.stdin is self.stdout:
                    selector.modify(self.stdin, selectors.EVENT_READ | selectors.EVENT_WRITE)
                else:
                    selector.register(self.stdin, selectors.EVENT_WRITE)
            elif self.stdin and self.stdin is not self.stdout:
                self.stdin.close()
            while selector.get_map():
                left = None if deadline is None else max(0, deadline - time.monotonic())
                ready = selector.select(left)
                if not ready:
                    raise subprocess.TimeoutExpired(self.args, allowed, *self._joined(collected))
                for key, events in ready:
                    if events & selectors.EVENT_WRITE:
                        remaining = self._feed(selector, remaining)
                    if events & selectors.EVENT_READ and not self._drain(key.fileobj, collected):
                        selector.unregister(key.fileobj)
        self._wait(None if deadline is None else max(0, deadline - time.monotonic()))
        self.close()
        return self._joined(collected)

    def _feed(self, selector, remaining):
        try:
            remaining = remaining[os.write(self.stdin.fileno(), remaining[:4096]):]
        except OSError:  # it reads no more
            remaining = remaining[:0]
        if not remaining:
            if self.stdin is self.stdout:
                selector.modify(self.stdin, selectors.EVENT_READ)
            else:
                selector.unregister(self.stdin)
                self.stdin.close()
        return remaining

    def _drain(self, stream, collected):
        try:
            data = os.read(stream.fileno(), 1 << 16)
        except OSError:  # EIO: the last user of the terminal has gone
            return False
        collected[stream].append(data)
        return bool(data)

    def _joined(self, collected):
        return tuple(b"".join(collected[stream]) if stream else None for stream in (self.stdout, self.stderr))

    def close(self):
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream:
                stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Kills what still runs."""
        if self.returncode is None:
            self.kill()
            self.wait(ANSWER_SECONDS)
        self.close()


def run(process, stdin, timeout, check):
    """Process to Result, with text; kills the process group and raises TimeoutExpired when time is up."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    with process:
        out, err = process.communicate(data, timeout)
    text = [None if data is None else data.decode("utf-8", "surrogateescape") for data in (out, err)]
    result = Result(process.args, process.returncode, *text, process.elapsed)
    if check and result.returncode:
        raise CloudnodesError(f"{process.args} ended with {result.returncode}: {(text[1] or text[0] or '').strip()}")
    return result
