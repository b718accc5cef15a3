"""How long the tests wait, in one place: a number of seconds in a test is what a quiet machine with two processors needs
at most, and becomes here what this machine needs.

    patience(10)   a deadline for what is expected: it costs nothing where it is kept, so it is always a generous one
    promised(20)   what the program promises, to be compared with what it took: twice as long on a quiet machine
    slowed(4)      a time that the program itself is given, such as --cloud-probe-timeout: it may be waited out, and is
                   what it says on a quiet machine

SLOWNESS is how many times slower than a quiet machine this one is, from 1 to 10: CLOUDPLAN_TEST_SLOWNESS says it, else what a
process costs here and now.
"""
import math
import os
import subprocess
import time

QUIET_MS = 2.0  # to start /bin/true and to wait for it, from Python; 1 ms and less where nothing else runs
SLOWNESS_MAX = 10


def process_ms(count=20):
    """What the start and the end of a process take here and now."""
    start = time.monotonic()
    for _ in range(count):
        subprocess.run(["/bin/true"], check=True)
    return (time.monotonic() - start) / count * 1000


def slowness(said=None):
    measured = float(said) if said else process_ms() / QUIET_MS
    return min(max(measured, 1), SLOWNESS_MAX)


SLOWNESS = slowness(os.environ.get("CLOUDPLAN_TEST_SLOWNESS"))


def patience(seconds):
    """At least five times as long: what else runs here may come and go."""
    return seconds * max(5, 2 * SLOWNESS)


def promised(seconds):
    return seconds * 2 * SLOWNESS


def slowed(seconds):
    return math.ceil(seconds * SLOWNESS)
