#!/usr/bin/env python3
"""Random rounds: any process of a run, here or on a node, is killed, stopped or told to end at a random moment of any stage.

    tests/e2e/rounds.py --rounds 1000 --seed 1 --jobs 4 --keep-going

A round is a real run (or sync, probe, plan) of a small project with a known outcome, on real sshd nodes of a World
(cloudnodes.py), and one to three events.  An event is a signal (KILL, TERM, STOP; to cloudplan also INT and HUP) to a process of
a kind, such as "there guard" or "here rsync": at a random time, to a kind chosen from those that are there then; or
soon after the first process of a given kind has appeared, which finds those that live for an instant.  What has been stopped goes on
later, or is never heard of again.

Judged (rounds_judge.py): the run ends in time, with a status that what was done to it allows, 0 only where every test was run and
told of; its words hold no traceback and no shell's or sanitizer's complaint; nothing is left here or there, within ten
seconds, or within six beats where a node cannot know that its controller is gone; copies keep their marks, nothing beside
them is touched; afterwards a plain run passes.

All choices of a round come from its seed, so that `--rounds 1 --seed S` makes the same ones again; the moments are a
machine's own, so that it may take some tries until a fault is seen again (--repeat N).

Why no fixed list of faults: FAULTS.md and test_killed.py have that.  This finds what nobody has thought of.
"""
import argparse
import math
import multiprocessing
import os
import queue
import random
import re
import shlex
import signal
import sys
import time
import traceback

from cloudnodes import CloudnodesError, World
from conftest import PROGRAM, Site
from rounds_judge import Scene, copies, said, status_alone, verdict

NOMINAL_SECONDS = 3.5  # what a plain run takes on a quiet machine: times are longer as it is slower
END_SECONDS = 100      # a run that was hit ends within this: a stalled copy is given up after 60 s, a lost node is known after 20 s
PATIENCE_SECONDS = 8   # what is stopped for good is waited for so long; then the run is told to end
SIGNAL_SECONDS = 30    # a run that was told to end has ended: 15 s are the engine's, some are the nodes'
LEFT_SECONDS = 10      # what a run leaves is gone, see SIGNALS in cloudplan(1)
POLL_SECONDS = 0.03

# In this order: the first pattern that fits the command line gives a process its kind.
HERE = [
    ("settings", r"\S*python3? -m pytest (?!.*--dist)"),
    ("engine", r"\S*python3? -m pytest "),
    ("worker", r"\S*python\S* .*exec\(eval\("),
    ("master", r"ssh .* -M\b"),
    ("ssh", r"ssh "),
    ("parallel", r"(perl .*|\S*/)?parallel|perl "),
    ("rsync", r"rsync "),
    ("janitor", r"(?s).*cloudplan-janitor"),
    ("guard", r"/bin/sh -s "),
    ("sleep", r"sleep (?!1000)"),
    ("cloudplan", re.escape(PROGRAM) + " "),
]
THERE = [
    ("worker", r"\S*python\S* .*exec\(eval\("),
    ("rsync", r"rsync "),
    ("guard", r"/bin/sh -s \d"),
    ("sleep", r"sleep (?!1000)"),
    ("session", r"sshd"),
]
AWAITED = [f"here {kind}" for kind, _ in HERE] + [f"there {kind}" for kind, _ in THERE] + ["there other", "here other"]

SUITE = """\
import subprocess, time, pytest

@pytest.mark.parametrize("x", range({count}))
def test_{token}(x):
    subprocess.Popen(["sleep", "1000"])
    open(f"ran-{token}-{{x}}", "w").close()
    time.sleep({seconds})
    if x == {skipped}: pytest.skip("known")
    assert x != {failing}
"""


class Event:
    """What is done once: signal `name` to a process, and how that goes on."""

    def __init__(self, choice):
        self.kind = choice.choice(AWAITED) if choice.random() < 0.5 else None  # awaited; None: what is there at `moment`
        self.moment = choice.random()  # of the time that such a run takes
        self.delay = choice.choice([0, 0, 0.05, 0.2, 0.5, 1]) * choice.random()
        self.name = choice.choices(["KILL", "TERM", "STOP"], [5, 2, 3])[0]
        self.to_cloudplan = choice.choice(["KILL", "TERM", "INT", "HUP", "STOP", "STOP"])
        self.goes_on = choice.choice([0.5, 2, 6, None, None])  # seconds after a STOP; None: never
        self.pick = choice.random()
        self.seen = self.until = self.victim = self.stopped = None

    def __str__(self):
        when = f"{self.delay:.2f} s after the first {self.kind}" if self.kind else f"at {self.moment:.2f} of the run"
        after = f", goes on after {self.goes_on} s" if self.goes_on else ", never goes on"
        return f"{self.name} ({self.to_cloudplan} to cloudplan) {when}{after if 'STOP' in (self.name, self.to_cloudplan) else ''}"


class Process:
    """One that could be hit."""

    def __init__(self, site, machine, pid, words):
        self.machine, self.pid, self.words = machine, pid, words
        here = machine is site.world.controller
        name = next((name for name, pattern in (HERE if here else THERE) if re.match(pattern, words)), "other")
        self.kind = f"{'here' if here else 'there'} {name}"
        self.places = {node.name for node in site.nodes if re.search(rf"\b{re.escape(node.name)}\b", words)} if here else {machine.name}
        if here and name in ("worker", "guard"):
            self.places = {":"}

    def signal(self, name):
        return self.machine.channel.call("signal", pid=self.pid, signal=int(getattr(signal, "SIG" + name)))[0]["sent"]

    def __str__(self):
        return f"{self.kind} {self.machine.host} {self.pid} {self.words[:110]!r}"


def listener(node):
    """The pid of the node's sshd itself: it belongs to the machine, not to the run."""
    return node._sshd.pid


def processes(site):
    for machine in [site.world.controller, *site.nodes]:
        here = machine is site.world.controller
        for pid, words in machine.processes(infrastructure=not here):
            if pid != 1 and words != "sleep 1000" and (here or pid != listener(machine)):
                yield Process(site, machine, pid, words)


class Run:
    """One cloudplan of a round."""

    def __init__(self, site, number, command, args, places, token):
        self.site, self.command, self.places = site, command, places
        self.report = site.world.home / f"report-{number}.xml"
        self.log = site.world.home / f"report-{number}.log"
        self.report.unlink(missing_ok=True)
        self.token = token
        self.hits, self.signals, self.hurt = [], [], set()
        self.status = self.tests = self.file = self.told = None
        engine = ["--", "-q", f"--junitxml=/home/ci/{self.report.name}"] if command == "run" else []
        argv = site.argv(command, *args, *engine, nodes=places)
        self.process = site.world.popen(["sh", "-c", f'exec "$@" >/home/ci/{self.log.name} 2>&1', "sh", *argv], cwd="/home/ci/project",
                                        env={"CLOUDPLAN_BEAT": site.beat})
        self.argv, self.since = argv, 0  # seconds of the round: when it began, or went on at last

    @property
    def words(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send(self, name):
        self.signals.append(name)
        self.process.send_signal(getattr(signal, "SIG" + name))
        self.told = time.monotonic()

    def ended(self):
        self.status = self.process.poll()
        return self.status is not None


class Round:
    def __init__(self, site, seed, say=lambda *_: None):
        self.site, self.seed, self.say = site, seed, say
        choice = self.choice = random.Random(seed)
        self.command = choice.choices(["run", "sync", "probe", "plan"], [14, 3, 2, 1])[0]
        names = [node.name for node in site.nodes]
        self.places = choice.choice([names, names, names[:1], [*names, ":"], [":"]])
        self.watch = self.command == "run" and choice.random() < 0.1
        self.twice = choice.random() < 0.15
        self.waits = self.command != "probe" and choice.random() < 0.08
        self.room_after = choice.random() * 3
        self.count, self.seconds = choice.randint(3, 8), choice.choice([0, 0.05, 0.2, 0.4])
        self.failing = choice.choice([-1, -1, -1, 1])
        self.skipped = choice.choice([-1, 0])
        self.processes = choice.choice([1, 1, 2])
        self.events = [Event(choice) for _ in range(choice.choice([1, 1, 2, 3]))]
        self.asked = choice.choice(["INT", "TERM"])  # how what does not end by itself is ended
        self.outlives = choice.random() < 0.5        # a cloudplan that was stopped for good goes on at last, or is killed
        self.token = f"round{seed}"
        self.runs, self.faults, self.story = [], [], []
        self.mute = False

    def __str__(self):
        extra = "".join(f" {name}" for name in ("watch", "twice", "waits") if getattr(self, name))
        return f"{self.command} on {' '.join(self.places)}{extra}; " + "; ".join(map(str, self.events))

    def note(self, text):
        self.story.append(f"{time.monotonic() - self.began:6.2f} {text}")

    # The run.

    def start(self):
        self.site.write({f"test_{self.token}.py": SUITE.format(**vars(self)), "data": self.token * 20000})
        args = [f"--cloud-max-processes={self.processes}"]
        if self.waits:
            args += ["--cloud-wait=60s", "--cloud-mem-per-process=1000"]
            for machine in [*self.site.nodes, self.site.world.controller]:
                machine.set_memory(available_mib=100)
        if self.watch:
            args.append("--watch")
        self.began = time.monotonic()
        for number in range(1 + self.twice):
            run = Run(self.site, number, self.command, args, self.places, self.token)
            run.file = f"test_{self.token}.py"
            run.tests = {f"test_{self.token}[{x}]": "failure" if x == self.failing else "skipped" if x == self.skipped else "passed"
                         for x in range(self.count)}
            self.runs.append(run)

    def go(self):
        """Until all runs have ended, and what was stopped for good has, too."""
        self.start()
        self.roomy = not self.waits
        while not all([run.ended() for run in self.runs]):
            self.turn()
            time.sleep(POLL_SECONDS)
        for run in self.runs:
            self.note(f"status {run.status}")
        self.release()
        self.site.mend()

    def turn(self):
        now = time.monotonic() - self.began
        if not self.roomy and now > self.room_after * self.site.slow:
            self.site.mend()
            self.roomy = True
        for event in self.events:
            if event.victim is None:
                self.try_event(event, now)
            elif event.stopped and event.goes_on and now > event.stopped + event.goes_on:
                self.go_on(event)
        for run in self.runs:
            if run.status is None:
                self.look_after(run, now)

    def try_event(self, event, now):
        if event.kind is None:
            if now < event.moment * self.site.usual[self.command]:
                return
            found = list(processes(self.site))
            kinds = sorted({process.kind for process in found})
            if not kinds:
                return
            kind = kinds[int(event.pick * 997) % len(kinds)]
        else:
            if event.until and now < event.until:
                return
            kind = event.kind
            found = list(processes(self.site))
            if event.until is None and any(process.kind == kind for process in found):
                event.until = now + event.delay * self.site.slow
                if event.delay:
                    return
        # A run's own process that has not yet become cloudplan cannot be asked for anything.
        chosen = [process for process in found if process.kind == kind and not (kind == "here other" and process.pid in self.own())]
        if chosen:
            self.hit(event, chosen[int(event.pick * len(chosen))])

    def own(self):
        """The runs' own processes."""
        return {run.process.pid for run in self.runs}

    def hit(self, event, process):
        own = process.kind == "here cloudplan" and process.pid in self.own()
        # A child has cloudplan's command line until it has become what it is to be.
        kind = "here other" if process.kind == "here cloudplan" and not own else process.kind
        event.name = event.to_cloudplan if own else event.name
        if not process.signal(event.name):
            return
        event.victim = process
        if event.name == "STOP":
            event.stopped = time.monotonic() - self.began
        self.mute |= event.name == "STOP"
        for run in self.runs:
            # Of two runs it cannot always be told whose process it was.
            if own and process.pid != run.process.pid:
                continue
            run.hits.append((kind, event.name))
            run.hurt |= process.places or set(run.places)
        self.note(f"{event.name} {process}")

    def go_on(self, event):
        event.victim.signal("CONT")
        event.stopped = None
        self.note(f"CONT {event.victim}")

    def stopped_for_good(self):
        return [event for event in self.events if event.stopped is not None]

    def look_after(self, run, now):
        """Ends what does not end by itself; finds fault with what does not end even so."""
        slow = self.site.slow
        if run.told:
            if time.monotonic() - run.told > SIGNAL_SECONDS * slow:
                self.faults.append(f"does not end by {run.signals}: {[p.words[:100] for p in processes(self.site)]}")
                run.send("KILL")
                run.told = float("inf")
            return
        halted = [event for event in self.stopped_for_good() if event.victim.pid == run.process.pid and event.victim.kind == "here cloudplan"]
        since = max([event.stopped for event in self.stopped_for_good() if not event.goes_on], default=None)
        if halted:
            if not halted[0].goes_on and now > halted[0].stopped + 6 * self.site.beat + LEFT_SECONDS * slow:
                self.halted_for_good(run, halted[0])
        elif since is not None and now > since + PATIENCE_SECONDS * slow:
            self.end(run, "something is stopped for good")
        elif self.watch and ("waiting for a change" in run.words or now > run.since + END_SECONDS * slow):
            self.end(run, "watching")
        elif now > run.since + END_SECONDS * slow:
            self.faults.append(f"has not ended within {now:.0f} s: {[p.words[:100] for p in processes(self.site)]}")
            self.end(run, "too late")

    def end(self, run, why):
        self.note(f"{self.asked} to cloudplan: {why}")
        run.send(self.asked)

    def halted_for_good(self, run, event):
        """Its nodes have given it up by now, also those whose connections are open still.

        A shell that waits for the rest of the probe's script cannot: it has not been told yet what to do.  It takes nothing, and ends
        with its connection.  (A guard's command line ends in its slot.)"""
        for node in self.site.nodes if len(self.runs) == 1 and len(self.stopped_for_good()) == 1 else ():
            left = [process for process in node.processes() if process[1].strip() != "/bin/sh -s"]
            if left:
                self.faults.append(f"{node.host}: six beats after cloudplan was stopped there still is {left}")
        event.stopped = None
        if self.outlives:
            run.hurt |= set(run.places)
            event.victim.signal("CONT")
            run.since = time.monotonic() - self.began
            self.note("CONT to cloudplan, at last")
        else:
            self.note("KILL to cloudplan")
            run.send("KILL")

    def release(self):
        """What is still stopped is killed, as whoever finds it would do."""
        for event in self.stopped_for_good():
            event.victim.signal("KILL" if event.goes_on is None else "CONT")
            event.stopped = None

    # The judgement.

    def judge(self):
        ran = {f"test_{self.token}[{path.name.rsplit('-', 1)[1]}]" for folder in self.folders() for path in folder.glob(f"ran-{self.token}-*")}
        for run in self.runs:
            self.faults += said(run)
            if not any(run.hits for run in self.runs) and not run.signals and run.status not in (0, 1):
                self.faults.append(f"nothing was done to it, and its status is {run.status}")
            elif self.command == "run":
                self.faults += verdict(run, run.report, ran)
            elif self.command == "sync":
                self.faults += copies(run, self.site.nodes)
            else:
                self.faults += status_alone(run)
        self.judge_left()
        self.faults += self.site.scene.changed()

    def folders(self):
        return [self.site.project, *(folder for node in self.site.nodes for folder in node.home.glob("pytest_ci_project*"))]

    def judge_left(self):
        scene, limit = self.site.scene, LEFT_SECONDS * self.site.slow + (6 * self.site.beat if self.mute else 0)
        excused = self.excused()
        deadline = time.monotonic() + limit
        for machine in scene.machines:
            while (left := scene.left(machine)) and time.monotonic() < deadline:
                time.sleep(0.1)
            if left and machine.host not in excused:
                self.faults.append(f"{machine.host}: {limit:.0f} s after the end there is still: " + "; ".join(left))
            self.site.dirty |= bool(left)

    def excused(self):
        """Machines where all that would clean up was hit."""
        guards, here = {}, []
        for event in self.events:
            if event.victim and event.name == "KILL":
                name = event.victim.kind.split()[1]
                if name == "guard":
                    guards[event.victim.machine.host] = guards.get(event.victim.machine.host, 0) + 1
                elif name in ("janitor", "cloudplan"):
                    here.append(name)
        return {host for host, count in guards.items() if count > 1} | ({self.site.world.controller.host} if len(here) > 1 else set())

    def tell(self):
        lines = [f"seed {self.seed}: {self}", *self.story, *(f"FAULT {fault}" for fault in self.faults)]
        for run in self.runs:
            lines += [f"$ {shlex.join(run.argv)}", *(f"    | {line}" for line in run.words.splitlines()[-40:])]
        return "\n".join([*lines, f"again: {again(self.seed)}"])


def again(seed, rounds=1):
    return f"CLOUDPLAN={PROGRAM} {sys.executable} {os.path.abspath(__file__)} --rounds {rounds} --seed {seed}"


class Rounds(Site):
    """A site for many rounds: what a plain run takes there says how slow the machine is."""

    def __init__(self, world):
        super().__init__(world)
        self.beat, self.slow = 15, 1.0
        self.usual, self.dirty = {}, False
        self.mend()
        self.scene = Scene(self)
        self.slow = max(1.0, self.plain("usual") / NOMINAL_SECONDS)
        self.beat = min(15, math.ceil(2 * self.slow))
        usual = self.slow * NOMINAL_SECONDS
        self.usual = {"run": usual * 1.1, "sync": usual * 0.7, "plan": usual * 0.3, "probe": usual * 0.3}

    def mend(self):
        for machine in [*self.nodes, self.world.controller]:
            machine.set_memory(available_mib=8192)

    def plain(self, token):
        """A run to which nothing is done passes; seconds."""
        plain = Round(self, 0)
        plain.token, plain.command, plain.places, plain.events = token, "run", [*(n.name for n in self.nodes), ":"], []
        plain.watch = plain.twice = plain.waits = False
        plain.failing = plain.skipped = -1
        plain.count, plain.seconds, plain.processes = 3, 0, 1
        plain.go()
        took = time.monotonic() - plain.began
        plain.judge()
        if plain.runs[0].status != 0 or "left out" in plain.runs[0].words:
            plain.faults.append("a plain run does not pass")
        if plain.faults:
            raise AssertionError(plain.tell())
        return took


def new_world():
    """Two nodes: enough for one to be lost, and a round is the cheaper for it."""
    return World(nodes=2, visible=[os.path.dirname(os.path.realpath(PROGRAM))])


def play(seeds, done, *, plain_every=8, stop=lambda: False, say=print, verbose=False):
    """Plays rounds in worlds of their own: one for many, and a new one after a fault.  done(seed, None or what was wrong)."""
    seeds, since = list(seeds), []
    while seeds and not stop():
        with new_world() as world:
            site = Rounds(world)
            say(f"a plain run takes {site.slow * NOMINAL_SECONDS:.1f} s" if site.slow > 1 else "this machine is quick", f"beat {site.beat} s")
            while seeds and not stop() and not site.dirty:
                seed = seeds.pop(0)
                wrong = one(site, seed, say, verbose)
                since.append(seed)
                if wrong is None and (len(since) % plain_every == 0 or not seeds) and not site.dirty:
                    wrong = afterwards(site, since)
                    since = []
                done(seed, wrong)
                if wrong:
                    break
        since = []


def one(site, seed, say, verbose):
    round = Round(site, seed)
    round.go()
    round.judge()
    say(f"seed {seed}: {'FAULT' if round.faults else 'ok'} in {time.monotonic() - round.began:.1f} s: {round.command}, "
        f"{', '.join(str(run.status) for run in round.runs)}; "
        + "; ".join(f"{event.name} {event.victim.kind}" for event in round.events if event.victim))
    if verbose and not round.faults:
        say(round.tell())
    return round.tell() if round.faults else None


def afterwards(site, seeds):
    try:
        site.plain(f"after{seeds[-1]}")
    except AssertionError as error:
        return f"after the rounds {seeds}:\n{error}\nagain: {again(seeds[0], len(seeds))}"
    return None


def job(seeds, results, stop, options):
    def say(*words):
        if not options.quiet:
            print(*words, flush=True)

    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        play(seeds, lambda seed, wrong: results.put((seed, wrong)), say=say, verbose=options.verbose,
             stop=lambda: stop.is_set() or os.getppid() != parent)
        results.put((None, None))
    except BaseException:  # of the harness itself: told as one
        results.put((None, traceback.format_exc()))


def command_line(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="how many (20)")
    parser.add_argument("--seed", type=int, metavar="S", help="of the first round; the next one has the next number (random)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="play each seed so many times (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="J", help="so many worlds at once (one for each processor)")
    parser.add_argument("--keep-going", action="store_true", help="do not end with the first fault")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what happened in each round, and what was said")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong, and the sum")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.jobs < 1 or options.repeat < 1:
        parser.error("--rounds, --jobs and --repeat take positive numbers")
    if not os.access(PROGRAM, os.X_OK):
        parser.error(f"{PROGRAM} is no program: set CLOUDPLAN to the built cloudplan")
    first = random.randrange(10**9) if options.seed is None else options.seed
    seeds = [seed for seed in range(first, first + options.rounds) for _ in range(options.repeat)]
    print(f"{len(seeds)} rounds from seed {first}", flush=True)
    return all_jobs(seeds, options)


def all_jobs(seeds, options):
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    count = min(options.jobs, len(seeds))
    began, cpu = time.monotonic(), os.times()
    workers = [multiprocessing.Process(target=job, args=(seeds[at::count], results, stop, options)) for at in range(count)]
    for worker in workers:
        worker.start()
    played, wrong, broken, left = 0, [], [], count
    while left:
        try:
            seed, words = results.get(timeout=1)
        except KeyboardInterrupt:
            stop.set()
            continue
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers) and results.empty():
                broken.append("a job has died")
                break
            continue
        if seed is None:
            left -= 1
            broken += [words] if words else []
        else:
            played += 1
            wrong += [seed] if words else []
        if words:
            print("\n" + words, flush=True)
            if not options.keep_going:
                stop.set()
    for worker in workers:
        worker.join()
    used = [now - before for now, before in zip(os.times()[2:4], cpu[2:4])]
    print(f"{played} rounds in {time.monotonic() - began:.0f} s, {len(wrong)} with a fault" + (f": seeds {wrong}" if wrong else "")
          + (f"; {sum(used) / played:.1f} s of CPU each" if played else "") + (f"; {len(broken)} jobs broke" if broken else ""))
    return 1 if wrong or broken or not played else 0


if __name__ == "__main__":
    try:
        sys.exit(command_line(sys.argv[1:]))
    except CloudnodesError as error:
        sys.exit(f"rounds: {error}")
