"""User namespaces where the kernel refuses them: out of a chroot, or with a line that says why.

The kernel makes no user namespace for a process whose "/" is not the root of its mount namespace, which is
so in every chroot.  Root may lay "/" over that root, in a mount namespace of its own; nobody else sees it:

    python3 cloudnodes_chroot.py unshare --user --map-root-user COMMAND
"""
import functools
import os
import subprocess
import sys
from pathlib import Path

from cloudnodes_inside import CLONE_NEWNS, MS_BIND, MS_REC, check, libc, mount

MS_PRIVATE = 1 << 18

# What may forbid user namespaces: a file of /proc/sys, what it then says, what to do.
SWITCHES = [
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=1000"),
]


@functools.cache
def out_of_chroot():
    """What to put before an unshare(1) that makes a user namespace: nothing, where the kernel makes one."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode == 0:
        return []
    return [sys.executable, "-E", "-s", "-S", "-B", os.path.abspath(__file__)]


def remedy(root="/proc/sys"):
    """What to do where user namespaces are refused."""
    for name, forbidden, command in SWITCHES:
        path = Path(root) / name
        if path.exists() and path.read_text().strip() == forbidden:
            return command
    if os.geteuid() != 0:
        return "in a chroot be root; start a container with --privileged"
    return "start the container with --privileged"


def leave_chroot():
    check(libc.unshare(CLONE_NEWNS), "unshare")
    here = os.open("/", os.O_PATH)
    # A mount namespace is entered at its root, also by those who are in it.
    myself = os.pidfd_open(os.getpid())
    check(libc.setns(myself, CLONE_NEWNS), "setns")
    mount(None, "/", flags=MS_REC | MS_PRIVATE)
    os.fchdir(here)
    mount(".", "/", flags=MS_BIND | MS_REC)
    check(libc.setns(myself, CLONE_NEWNS), "setns")
    if not os.path.ismount("/sys"):
        mount("sysfs", "/sys", "sysfs")


if __name__ == "__main__":
    try:
        leave_chroot()
    except OSError as error:
        sys.exit(f"leaving the chroot: {error}")
    os.execvp(sys.argv[1], sys.argv[1:])
