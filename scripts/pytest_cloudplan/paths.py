"""Which place in a node's copy belongs to a path here.

The root is the directory here that a copy holds; pytest is started in it or below it, and a worker's directory (chdir= of its
xspec) is the same place in the copy.
"""
import os

START = os.getcwd()
ROOT = START


def roots():
    """The root under its physical name and under the one that the shell knows."""
    names = [ROOT]
    logical = os.environ.get("PWD", "")
    if os.path.isabs(logical) and logical not in names and os.path.isdir(logical):
        if os.path.samefile(logical, START):
            logical = os.path.normpath(logical)
            below = os.path.relpath(START, ROOT)
            if below != os.curdir:
                logical = logical[: -len(below) - 1] if logical.endswith(os.sep + below) else ROOT
            names.append(logical)
    return list(dict.fromkeys(names))


def inside(path):
    """The place of an absolute path relative to the root, "." for the root itself; None outside of it."""
    path = os.path.normpath(path)
    for root in roots():
        if os.path.commonpath([path, root]) == root:
            return os.path.relpath(path, root)
    return None


def copy_of(spec):
    """The copy's directory on the node of a planned worker."""
    below = os.path.relpath(START, ROOT)
    directory = str(spec.chdir)
    return directory if below == os.curdir else directory[: -len(below) - 1]
