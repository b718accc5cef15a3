"""What workers on nodes print on their standard error, and ssh for them: line by line, with the worker's id before it.

A node is not trusted: what would move a cursor or set a title becomes "?", and no worker fills a log or a disk.  Colours
stay.  Here are no hooks: the gateways of execnet are given pipes in the place of our own standard error.
"""
import os
import re
import threading
import time

BYTES_MAX = 16 << 20  # of one worker
LINE_MAX = 4096
LINES_MAX = 100  # that are remembered
COLOUR = re.compile("(\x1b\\[[0-9;]*m)")
RESET = "\x1b[0m"
# What ssh says of an option in its configuration that this ssh does not have: before all else, and for each worker anew.
OF_CONFIGURATION = re.compile(r"\S.*\bline \d+: (Bad configuration|Unsupported|Deprecated) option\b")


def clean(line):
    """A line, without its end, as it may be shown."""
    parts = COLOUR.split(line)
    parts[::2] = ["".join(c if c.isprintable() or c == "\t" else "?" for c in part) for part in parts[::2]]
    return "".join(parts) + (RESET if len(parts) > 1 else "")


class Told:
    """Lines that several workers' relays show once."""

    def __init__(self):
        self.lines = set()
        self.lock = threading.Lock()


class Relay:
    """Reads one worker's standard error to its end."""

    def __init__(self, name, stream, descriptor, told):
        self.name = name
        self.told = told  # lines about ssh's configuration, of all workers: each is shown once
        self.stream = stream
        self.descriptor = descriptor
        self.left = BYTES_MAX
        self.started = False  # ssh's own first lines are over
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with self.stream:
            while True:
                line = self.stream.readline(LINE_MAX)
                if not line:
                    return
                # Read on, all the same: a full pipe would stop ssh, and with it the worker.
                if self.left > 0:
                    self.show(line)

    def show(self, line):
        self.left -= len(line)
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        lines = [clean(part) for part in text.split("\r")]
        if self.left <= 0:
            lines.append("more than %d MiB on its standard error: the rest is not shown" % (BYTES_MAX >> 20))
        for shown in lines:
            if not self.is_known(shown):
                self.write(("[%s] %s\n" % (self.name, shown)).encode("utf-8", "replace"))

    def is_known(self, line):
        self.started = self.started or not OF_CONFIGURATION.match(line)
        if self.started:
            return False
        with self.told.lock:
            known = line in self.told.lines
            if len(self.told.lines) < LINES_MAX:
                self.told.lines.add(line)
        return known

    def write(self, data):
        try:
            while data:
                data = data[os.write(self.descriptor, data):]
        except OSError:
            self.left = 0  # nobody reads it


class Stderr:
    """The relays of a session."""

    def __init__(self):
        self.relays = []
        self.told = Told()
        try:
            self.descriptor = os.dup(2)  # pytest may put a file in its place
        except OSError:
            self.descriptor = None

    def execmodel(self, model, spec):
        """An execnet model whose child for the spec has a pipe for its standard error."""
        return model if self.descriptor is None else Model(model, lambda stream: self.add(spec, stream))

    def add(self, spec, stream):
        self.relays.append(Relay(str(spec.id), stream, self.descriptor, self.told))

    def end(self, seconds=1):
        """What has been printed is shown; a worker that has not ended is not waited for."""
        deadline = time.monotonic() + seconds
        for relay in self.relays:
            relay.thread.join(max(0, deadline - time.monotonic()))


class Model:
    """An execnet model, but for its children's standard error."""

    def __init__(self, model, take):
        self._model = model
        self.subprocess = Subprocess(model.subprocess, take)

    def __getattr__(self, name):
        return getattr(self._model, name)

    def PopenPiped(self, args):  # execnet 1
        pipe = self.subprocess.PIPE
        return self.subprocess.Popen(args, stdin=pipe, stdout=pipe)


class Subprocess:
    """The module subprocess of a model."""

    def __init__(self, module, take):
        self._module = module
        self._take = take

    def __getattr__(self, name):
        return getattr(self._module, name)

    def Popen(self, *args, **options):
        child = self._module.Popen(*args, stderr=self._module.PIPE, **options)
        self._take(child.stderr)
        return child
