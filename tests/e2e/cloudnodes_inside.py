"""The part of cloudnodes that runs inside: pid 1 of the world and of every machine in it.

It decides nothing.  cloudnodes.py sends requests over a SOCK_SEQPACKET pair, one JSON
message each with descriptors attached, and gets one answer for each; when the other end
closes, by whatever death, pid 1 ends and the kernel ends everything below it.

A fork of one Python process that calls unshare(2), setns(2) and mount(2) itself makes a
machine in some 10 ms; a chain of unshare(1), nsenter(1) and mount(8) would take ten times
that, and a command started through nsenter(1) could not be sent a signal.
"""
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND, MS_REC = 0x1000, 0x4000
MOUNT_ATTR_RDONLY = 1
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SYS_MOUNT_SETATTR = 442  # the same number on every architecture; Linux 5.12

MESSAGE_MAX = 1 << 17
USER_ID = 1000

libc = ctypes.CDLL(None, use_errno=True)
libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]


def check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source, target, fstype=None, flags=0, options=None):
    encoded = [None if word is None else os.fsencode(word) for word in (source, target, fstype, options)]
    check(libc.mount(*encoded[:3], flags, encoded[3]), f"mount {target}")


def set_read_only(path, on, flags=0):
    class Attributes(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]

    attributes = Attributes(MOUNT_ATTR_RDONLY if on else 0, 0 if on else MOUNT_ATTR_RDONLY, 0, 0)
    check(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), flags, ctypes.byref(attributes),
                       ctypes.c_size_t(ctypes.sizeof(attributes))), f"mount_setattr {path}")


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def user_namespace():
    """A descriptor of a user namespace that knows one user, USER_ID: the owner of the world."""
    ready, child_ready = os.pipe()
    child = os.fork()
    if child == 0:
        check(libc.unshare(CLONE_NEWUSER), "unshare")
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{USER_ID} 0 1")
        write("/proc/self/gid_map", f"{USER_ID} 0 1")
        os.write(child_ready, b".")
        signal.pause()
    os.close(child_ready)
    if not os.read(ready, 1):
        raise OSError("a nested user namespace could not be made")
    os.close(ready)
    descriptor = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return descriptor


def make_target(target, source):
    """Mount points are made only where the machine has a file system of its own."""
    if os.path.lexists(target):
        return
    if os.path.isdir(source):
        os.makedirs(target)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def make_mounts(steps):
    # Sources are opened first: later steps may cover the paths that lead to them.
    sources = [os.open(step[1], os.O_PATH) if step[0] in ("bind", "layer") else None for step in steps]
    set_read_only("/", True, AT_RECURSIVE)
    for step, source in zip(steps, sources):
        kind, *words = step
        if kind == "proc":
            mount("proc", "/proc", "proc")
        elif kind == "tmpfs":
            target, options = words
            make_target(target, "/")
            mount("tmpfs", target, "tmpfs", options=options)
        elif kind == "devpts":
            mount("devpts", "/dev/pts", "devpts", options="newinstance,ptmxmode=0666,mode=0620")
            mount("/dev/pts/ptmx", "/dev/ptmx", flags=MS_BIND)
        elif kind == "bind":
            _, target, writable = words
            path = f"/proc/self/fd/{source}"
            make_target(target, path)
            mount(path, target, flags=MS_BIND | MS_REC)
            if writable:
                set_read_only(target, False)
        elif kind == "layer":
            _, target = words
            mount("overlay", target, "overlay", options=f"lowerdir=/proc/self/fd/{source}:{target}")
        else:
            raise ValueError(f"unknown mount step {kind}")
        if source is not None:
            os.close(source)


class Agent:
    """Answers requests until the other end closes; reaps every orphan, as pid 1 must."""

    def __init__(self, channel, userns):
        self.channel = channel
        self.userns = userns
        self.statuses = {}  # pid -> where its exit status is to be written

    def serve(self):
        awake, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup)
        # Handlers, not SIG_IGN: exec turns them into the default, so that a command can be interrupted even where
        # the test runs with these signals ignored (in the background, under nohup).
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            selector.register(awake, selectors.EVENT_READ)
            selector.register(self.channel, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if awake in ready:
                    os.read(awake, 4096)
                    self.reap()
                if self.channel in ready and not self.answer():
                    return

    def answer(self):
        message, fds, _, _ = socket.recv_fds(self.channel, MESSAGE_MAX, 8)
        if not message:
            return False
        for descriptor in fds:
            os.set_inheritable(descriptor, False)
        request = json.loads(message)
        reply, passed = {}, []
        try:
            reply, passed = getattr(self, "do_" + request["do"])(request, fds)
        except OSError as error:
            reply = {"errno": error.errno, "error": str(error)}
        except (ValueError, subprocess.SubprocessError) as error:
            reply = {"error": str(error)}
        finally:
            for descriptor in fds:
                if descriptor not in self.statuses.values():
                    os.close(descriptor)
        socket.send_fds(self.channel, [json.dumps(reply).encode()], passed)
        for descriptor in passed:
            os.close(descriptor)
        return True

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            descriptor = self.statuses.pop(pid, None)
            if descriptor is not None:
                try:
                    os.write(descriptor, b"%d %.6f" % (os.waitstatus_to_exitcode(status), time.monotonic()))
                except BrokenPipeError:
                    pass  # nobody waits for it any more
                os.close(descriptor)

    def do_spawn(self, request, fds):
        def enter():
            if request["terminal"]:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if not request["root"]:
                check(libc.setns(self.userns, CLONE_NEWUSER), "setns")

        child = subprocess.Popen(request["argv"], env=request["env"], cwd=request["cwd"], stdin=fds[0],
                                 stdout=fds[1], stderr=fds[2], preexec_fn=enter,
                                 start_new_session=request["session"])
        self.statuses[child.pid] = fds[3]
        child.returncode = 0  # reap() waits for it, not this object
        return {"pid": child.pid}, []

    def do_signal(self, request, _fds):
        try:
            os.kill(request["pid"], request["signal"])
        except ProcessLookupError:
            return {"sent": False}, []
        return {"sent": True}, []

    def do_socket(self, request, _fds):
        family = socket.AF_INET6 if request["v6"] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        return {}, [made.detach()]

    def do_machine(self, request, fds):
        if os.fork() == 0:
            machine_main(request, fds[0], self.userns)
        return {}, []


def machine_main(request, channel_fd, userns):
    """Becomes pid 1 of a machine.  Never returns."""
    channel = None
    try:
        # Only the channel and the user namespace may stay: a copy of another channel
        # would keep its owner from seeing the end.
        signal.set_wakeup_fd(-1)
        low, high = sorted((channel_fd, userns))
        for first, last in ((3, low), (low + 1, high), (high + 1, 1 << 20)):
            os.closerange(first, last)
        channel = socket.socket(fileno=channel_fd)
        check(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET), "unshare")
        if os.fork():
            os._exit(0)
        world_pid = int(os.readlink("/proc/self"))  # /proc is still the world's
        make_mounts(request["mounts"])
        for name, value in request["sysctls"].items():
            write("/proc/sys/" + name, value)
        socket.sethostname(request["hostname"])
        channel.send(json.dumps({"pid": world_pid}).encode())
        Agent(channel, userns).serve()
    except OSError as error:
        if channel is not None:
            channel.send(json.dumps({"error": f"{request['hostname']}: {error}"}).encode())
    finally:
        os._exit(1)


def world_main(channel_fd, directory):
    channel = socket.socket(fileno=channel_fd)
    channel.set_inheritable(False)
    agent = Agent(channel, user_namespace())
    channel.send(b"{}")
    try:
        agent.serve()
    finally:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    world_main(int(sys.argv[1]), sys.argv[2])
