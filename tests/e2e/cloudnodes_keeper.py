"""A test that fails spoils no other: what it has started ends, here and in the worlds, and nodes are put back as they were.

    keeper = Keeper(worlds, children())   before a test
    keeper.restore()                      after one that failed
"""
import os
import shutil
import signal
from pathlib import Path

from cloudnodes_node import Node

SMALL = 1 << 16  # bytes: larger files in a home are not kept


def children(pid="self"):
    """Pids of a process's children."""
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found |= set(map(int, path.read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def descendants(pid):
    """A process and all below it, it first."""
    found = [pid]
    for each in found:
        found += children(each)
    return found


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def end_children(but):
    """Kills what this process has started since and that still runs, with all below it; returns the command lines."""
    ended = []
    for child in children() - but:
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words:  # else it is a zombie, which its Popen waits for some time
            ended.append(words)
            for pid in descendants(child):
                kill(pid)
    return ended


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class Folder:
    """The names in a directory, and its small files: one level, and .ssh."""

    def __init__(self, path):
        self.path = path
        self.names = set(os.listdir(path))
        self.files = {file: (file.stat().st_mode & 0o7777, file.read_bytes()) for folder in (path, path / ".ssh") if folder.is_dir()
                      for file in folder.iterdir() if file.is_file() and not file.is_symlink() and file.stat().st_size < SMALL}

    def restore(self):
        for name in set(os.listdir(self.path)) - self.names:
            remove(self.path / name)
        for file, (mode, data) in self.files.items():
            if not file.is_file() or file.is_symlink() or file.read_bytes() != data or file.stat().st_mode & 0o7777 != mode:
                file.parent.mkdir(exist_ok=True)
                remove(file)
                file.touch(mode)
                file.write_bytes(data)
                file.chmod(mode)


class Keeper:
    def __init__(self, worlds):
        self.worlds = worlds
        machines = [machine for world in worlds for machine in world.machines]
        self.folders = [Folder(path) for machine in machines for path in (machine.home, machine.dev_home, machine.etc_ssh)]
        self.machines = set(machines)
        self.known = {machine: list(machine._known) for machine in machines if isinstance(machine, Node)}

    def restore(self):
        """Returns {host: command lines of what was left}, without hosts where nothing was."""
        for world in self.worlds:
            for node in set(world.machines) - self.machines - {world.cluster_node}:
                world.remove(node)
        for folder in self.folders:
            folder.restore()
        for node, known in self.known.items():
            node._known = known
            node.mend()
        left = {}
        for machine in [machine for world in self.worlds for machine in world.machines]:
            found = machine.end_processes()
            if found:
                left[machine.host] = found
            for folder in ("tmp", "var/tmp", "run", "dev/shm"):
                for path in (machine.root / folder).glob("cloudplan*"):
                    remove(path)
        return left
