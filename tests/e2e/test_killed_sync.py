"""cloudplan is killed with SIGKILL at a random moment of the sync: what GNU parallel does afterwards brings nothing back.

CLOUDPLAN_KILLS says how often (3 by default); CLOUDPLAN_SEED takes a seed that was printed.
"""
import os
import random
import signal
import time

from cloudnodes import wait_until

KILLS = int(os.environ.get("CLOUDPLAN_KILLS", "3"))
SEED = int(os.environ.get("CLOUDPLAN_SEED") or random.SystemRandom().randrange(1 << 32))
LONGEST = 1.5  # seconds after GNU parallel has begun, which takes about as long until it copies


def test_nothing_comes_back(site):
    print(f"CLOUDPLAN_SEED={SEED}")
    rounds = random.Random(SEED)
    controller = site.world.controller
    site.write({"test_a.py": "def test_a(): pass\n", "blob": os.urandom(300 * 1024).hex()})
    for number in range(KILLS):
        pause = rounds.uniform(0, LONGEST)
        running = site.popen("sync", "--cloud-rsync-bandwidth-limit=200", nodes=site.nodes[:1])
        wait_until(lambda: any("parallel" in words and "--joblog" in words for _, words in controller.processes()), timeout=60,
                   what="GNU parallel")
        time.sleep(pause)  # not a wait for anything: the moment
        running.send_signal(signal.SIGKILL)
        site.finish(running, timeout=60)
        try:
            site.assert_nothing_left()
        except AssertionError as error:
            raise AssertionError(f"kill {number} of {KILLS}, {pause:.3f} s after the start of GNU parallel: {error}") from error
