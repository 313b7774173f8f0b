# SPDX-License-Identifier: LGPL-3.0-or-later
"""The end of a run is the end of all of it, whatever its processes do to get away; and nothing else ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests import LIBRARY, commandline
from tests.commandline import environment
from tests.installation import DOORS, Installation, until, waits_for
from webscheduler.runs import cancel
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import locks, processes

# Each leaves one process that writes its pid into the file that it is given, while the command itself goes on.
# What a process may do to get away from its run; `shed` is done by the last fork.
FORKS = """
import os, sys, time
word, file = sys.argv[1:]

def leave(shed):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        shed()
        os._exit(1)
    os.wait()

def known():
    with open(file + ".new", "w") as pid:
        pid.write(str(os.getpid()))
    os.rename(file + ".new", file)

def stays():
    known()
    time.sleep(600)

def closes():
    os.closerange(0, 1000)
    stays()

def forgets():
    known()
    os.execve("/bin/sleep", ["sleep", "600"], {})

def closes_and_forgets():
    os.closerange(0, 1000)
    forgets()

if word == "closes_and_forgets":
    time.sleep(0.5)  # orphans come to a supervisor only after a moment

leave(globals()[word])
while True:
    time.sleep(0.02)
"""


def forks(word: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", FORKS, word]


SHELL = {
    "in another group": 'timeout 600 sh -c \'echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 600; :\' "$0"; :',
    "setsid": 'setsid sh -c \'echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 600; :\' "$0" & wait; :',
    "nohup": 'nohup sh -c \'echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 600; :\' "$0" > /dev/null 2>&1 & wait; :',
}
LEAVES = {
    **{name: ["sh", "-c", script] for name, script in SHELL.items()},
    "two forks": forks("stays"),
    "two forks, closed descriptors": forks("closes"),
    "two forks, another environment": forks("forgets"),
}
SHED_ALL = {"two forks, closed descriptors, another environment": forks("closes_and_forgets")}


@pytest.fixture
def left(installation: Installation) -> Path:
    """The file with the pid of what a command leaves."""
    return installation.home / "left"


def started(installation: Installation, left: Path, argv: list[str], **fields: Any) -> tuple[dict[str, Any], list[int]]:
    """Run such a command; (the facts of its run, the identity of what it left)."""
    installation.add(argv=[*argv, str(left)], **fields)
    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(left.exists)
    return facts, locks.identity(int(left.read_text()))


def kill(who: list[int], number: int = signal.SIGKILL) -> None:
    os.kill(who[0], number)
    until(lambda: not locks.alive(who))


def finds(installation: Installation) -> None:
    """Trigger the task, which does nothing more now, until the run before is over."""
    installation.edit(argv=["true"])
    until(lambda: installation.trigger("wsgi").document["status"] == "running")
    installation.idle()


@pytest.mark.parametrize("start", [0, 1])
def test_a_start_that_nobody_could_read_ends_nobody_else(start: int) -> None:
    """A claim may name a command whose start /proc did not tell: then nothing is younger than it, and what has no
    parent is not its child. Every process of this machine would be ended."""
    run = locks.new_run(0.0)
    assert processes.of_run(run, [2**22, start], 0, []) == []


NO_PROC = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$@"', "sh"]


@pytest.mark.parametrize("script", ["sleep 600", "trap '' TERM; while :; do sleep 0.05; done"])
def test_a_command_is_ended_where_proc_shows_nothing(installation: Installation, script: str) -> None:
    """Its supervisor, whose child it is, needs no /proc for that; what shed its marks cannot be found there."""
    if os.geteuid() or subprocess.run([*NO_PROC, "true"], capture_output=True).returncode:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") and not os.geteuid() else pytest.skip)(
            "only root may mount something over /proc")

    installation.add(argv=["sh", "-c", script], timeout=1)
    words = [*NO_PROC, sys.executable, "-m", "webscheduler", "run", "task"]
    done = subprocess.run(words, env=environment(installation.home), cwd=LIBRARY, capture_output=True, timeout=60)
    assert done.returncode == 1, done.stderr
    line, = installation.runs()
    assert line["status"] == "timeout"
    assert installation.claims() == []


@pytest.mark.parametrize("by", ["time limit", "cancel", "TERM"])
@pytest.mark.parametrize("argv", {**LEAVES, **SHED_ALL}.values(), ids={**LEAVES, **SHED_ALL})
def test_nothing_outlives_the_end_of_its_run(installation: Installation, left: Path, argv: list[str], by: str) -> None:
    """Another group or session, a second fork, closed descriptors, an empty environment: nothing gets away."""
    facts, who = started(installation, left, argv, timeout=3 if by == "time limit" else 600)

    if by == "cancel":
        assert cancel.end(str(installation.home), "task", facts["run"], 30)
    elif by == "TERM":
        os.kill(facts["supervisor"][0], signal.SIGTERM)

    installation.idle()
    assert not locks.alive(who)
    (line,) = installation.runs()
    assert (line["status"], line["reason"]) == {
        "time limit": ("timeout", None), "cancel": ("interrupted", "cancelled"), "TERM": ("interrupted", "terminated"),
    }[by]  # fmt: skip


@pytest.mark.parametrize("by", ["time limit", "cancel"])
@pytest.mark.parametrize("argv", LEAVES.values(), ids=LEAVES)
def test_nothing_outlives_the_end_of_an_orphan(
    installation: Installation, left: Path, argv: list[str], by: str
) -> None:
    """The same, where the supervisor was killed: whoever holds the gate ends what is found, and waits for nothing."""
    facts, who = started(installation, left, argv)
    kill(facts["supervisor"])

    if by == "cancel":
        assert cancel.end(str(installation.home), "task", facts["run"], 30)
    else:
        installation.end_of_time()
        finds(installation)

    assert not locks.alive(who)
    assert not locks.alive(facts["command"])
    line = installation.runs()[0]
    assert (line["status"], line["reason"]) == ("interrupted", "time_limit" if by == "time limit" else "cancelled")


def test_the_orphans_of_a_run_of_the_command_line(installation: Installation, left: Path) -> None:
    """`webscheduler run` is a supervisor, too: what gets away from everything else comes to it."""
    (argv,) = SHED_ALL.values()
    installation.add(argv=[*argv, str(left)])
    process = commandline.start(installation.home, "run", "task")
    until(left.exists)
    who = locks.identity(int(left.read_text()))
    process.terminate()
    assert commandline.finished(process).status == 1
    assert not locks.alive(who)


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "orphan"])
def test_the_daemons_of_a_command_that_ended_by_itself_stay(
    installation: Installation, left: Path, code: int, supervised: bool
) -> None:
    """Whatever its exit status, and also past the time limit."""
    go_on = installation.home / "go-on"
    script = 'setsid sleep 600 & echo $! > "$0"; sleep 600 & while [ ! -e "$1" ]; do sleep 0.02; done; exit $2'
    installation.add(argv=["sh", "-c", script, str(left), str(go_on), str(code)])
    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(lambda: left.exists() and left.read_text())
    who = locks.identity(int(left.read_text()))

    if not supervised:
        kill(facts["supervisor"])

    go_on.touch()
    until(lambda: not locks.alive(facts["command"]))

    if not supervised:
        installation.end_of_time()

    finds(installation)
    assert installation.runs()[0]["status"] == ("interrupted" if not supervised else "failed" if code else "success")
    assert locks.alive(who)
    assert len(installation.processes()) >= 2


# Grace

# It says nothing: nobody reads the output of an orphan, so SIGPIPE ends one that does.
GRACEFUL = """
(trap 'sleep 0.5; echo finished > "$0"; exit 0' TERM; echo > "$0.ready"; while :; do sleep 0.02; done) 2> /dev/null &
wait
"""


@pytest.fixture
def finished(installation: Installation) -> Path:
    """What a child of the shell writes that takes its time to end."""
    installation.add(argv=["sh", "-c", GRACEFUL, str(installation.home / "finished")])
    return installation.home / "finished"


@pytest.mark.parametrize("by", ["time limit", "cancel", "TERM"])
@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "orphan"])
def test_a_child_has_the_grace_of_its_command(
    installation: Installation, finished: Path, by: str, supervised: bool
) -> None:
    """A shell is gone at once; what it had started may end in its own time, as with GNU timeout -k."""
    if supervised and by == "time limit":
        installation.edit(timeout=3)

    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(Path(f"{finished}.ready").exists)

    if not supervised:
        kill(facts["supervisor"])

        if by == "time limit":
            installation.end_of_time()

    if by == "cancel" or (by == "TERM" and not supervised):
        assert cancel.end(str(installation.home), "task", facts["run"], 30)
    elif by == "TERM":
        os.kill(facts["supervisor"][0], signal.SIGTERM)

    if supervised:
        installation.idle()
    else:
        finds(installation)

    assert finished.read_text() == "finished\n"


def test_what_a_child_says_in_its_grace_is_kept(installation: Installation) -> None:
    """Its output belongs to the run."""
    script = "(trap 'sleep 1; echo finished; exit 0' TERM; echo begun; while :; do sleep 0.02; done) & wait"
    installation.add(argv=["sh", "-c", script], timeout=1)
    line = run_by_hand(str(installation.home), "task", "cli", time.time)
    assert line is not None
    assert (line["status"], line["output"], line["signal"]) == ("timeout", "begun\nfinished\n", signal.SIGTERM)


def test_each_process_is_told_once(installation: Installation) -> None:
    """No handler of TERM runs twice, and what it starts is not told at all."""
    cleans = "trap 'echo twice' TERM; sleep 1; echo cleaned"
    script = """trap 'echo told; sh -c "$0"; exit 0' TERM; while :; do sleep 0.02; done"""
    installation.add(argv=["sh", "-c", script, cleans], timeout=1)
    line = run_by_hand(str(installation.home), "task", "cli", time.time)
    assert line is not None
    assert line["output"] == "told\ncleaned\n"


def test_a_supervisor_that_is_killed_while_it_ends_its_run(installation: Installation) -> None:
    """As by a server that waits for three seconds: whoever finds the run goes on where it stopped."""
    script = "(trap '' TERM; echo begun; while :; do sleep 0.02; done) & wait"
    installation.add(argv=["sh", "-c", script])
    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(lambda: any(file.read_bytes() == b"begun\n" for file in (installation.home / "output").iterdir()))
    os.kill(facts["supervisor"][0], signal.SIGTERM)
    until(lambda: "killAt" in installation.facts()[0])
    until(lambda: not locks.alive(facts["command"]))
    kill(facts["supervisor"])
    assert installation.trigger("wsgi").document["reason"] == "locked"
    finds(installation)
    assert [(run["status"], run["reason"]) for run in installation.runs()] == [
        ("interrupted", "terminated"), ("success", None)]  # fmt: skip
    installation.gone()


# Told to end at once


def holder(claim: Path) -> list[int]:
    """The identity of the oldest process but ours that has the claim open."""
    found = []

    for pid in filter(str.isdigit, os.listdir("/proc")):
        links = set()

        with suppress(OSError):
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):  # closed since
                    links.add(os.readlink(f"/proc/{pid}/fd/{entry}"))

        if str(claim) in links and int(pid) != os.getpid():
            found.append(locks.identity(int(pid)))

    return min(found, key=lambda who: who[1])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ["task", "@due"])
def test_a_supervisor_that_is_told_to_end_at_once(installation: Installation, door: str, name: str) -> None:
    """From the answer on, TERM ends the run as `terminated`, and the supervisor itself records that."""
    installation.add(argv=["sleep", "600"])
    installation.edit("@due", strategy="fork")

    for number, delay in enumerate([0, 0, 0, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.45], 1):
        assert installation.trigger(door, name).document["status"] == "running"
        claims = [claim for claim in installation.claims() if claim.name.startswith(name.replace("@", "_"))]

        if not claims:  # a tick with nothing to do may be over
            continue

        time.sleep(delay)

        try:
            os.kill(holder(claims[0])[0], signal.SIGTERM)
        except ValueError:
            assert name == "@due"

        installation.idle()

        if name == "task":
            runs = installation.runs()
            assert [(run["status"], run["reason"]) for run in runs] == [("interrupted", "terminated")] * number, delay

    assert {run["reason"] for run in installation.runs(name)} <= {"terminated", None}


def test_a_tick_that_is_told_to_end(installation: Installation) -> None:
    """It starts nothing more, and says so; what it has started goes on."""
    go_on = installation.home / "go-on"

    for name in ("one", "two"):
        installation.add(name, argv=waits_for(go_on), intervalSeconds=3600)

    installation.configure(maxConcurrentTasks=1)
    installation.trigger("wsgi", "@due")
    until(lambda: any("command" in facts for facts in installation.facts()))
    (tick,) = [facts for facts in installation.facts() if facts["name"] == "@due"]
    os.kill(tick["supervisor"][0], signal.SIGTERM)
    until(lambda: installation.runs("@due"))
    (line,) = installation.runs("@due")
    assert (line["status"], line["reason"]) == ("interrupted", "terminated")
    until(lambda: len(installation.claims()) == 1)
    go_on.touch()
    installation.idle()
    assert sorted(len(installation.runs(name)) for name in ("one", "two")) == [0, 1]


def test_what_a_tick_started_is_told_to_end(installation: Installation) -> None:
    """A supervisor that a tick forked takes its own signals."""
    installation.add(argv=["sleep", "600"], intervalSeconds=3600)
    installation.trigger("cgi", "@due")
    facts = installation.command_runs()
    os.kill(facts["supervisor"][0], signal.SIGTERM)
    installation.idle()
    assert [(run["status"], run["reason"]) for run in installation.runs()] == [("interrupted", "terminated")]


# What is left alone


def test_who_reads_a_claim_is_not_of_its_run(installation: Installation, tmp_path: Path) -> None:
    """A back-up or a person may have it open; only who inherited it is ended."""
    installation.add(argv=["sh", "-c", "trap '' TERM; while :; do sleep 0.02; done"], timeout=2)
    installation.trigger("wsgi")
    installation.command_runs()
    (claim,) = installation.claims()

    with claim.open("rb") as file, subprocess.Popen(["sleep", "600"], stdin=file) as reader:
        try:
            installation.idle()
            assert reader.poll() is None
        finally:
            reader.kill()


@pytest.mark.parametrize("strategy", ["sync", "close"])
def test_a_server_is_not_of_a_run_that_it_waits_for(installation: Installation, strategy: str) -> None:
    """It has closed the claim as soon as the supervisor has started, is no subreaper, and lives on."""
    installation.add(argv=[*forks("stays"), str(installation.home / "left")], strategy=strategy)
    thread = Thread(target=installation.trigger, args=["wsgi"])
    thread.start()
    until((installation.home / "left").exists)
    claims = [str(claim) for claim in installation.claims()]
    mine = []

    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed since
            if os.readlink(f"/proc/self/fd/{number}") in claims:
                mine.append(Path(f"/proc/self/fdinfo/{number}").read_text())

    assert not any("lock:" in each for each in mine)  # it may still read it
    assert cancel.end(str(installation.home), "task", installation.facts()[0]["run"], 30)
    thread.join()
    assert [run["status"] for run in installation.runs()] == ["interrupted"]
    assert not is_subreaper()


def is_subreaper() -> bool:
    """Whether orphans come to this process (PR_GET_CHILD_SUBREAPER)."""
    import ctypes

    found = ctypes.c_int()
    assert ctypes.CDLL(None).prctl(37, ctypes.byref(found), 0, 0, 0) == 0
    return bool(found.value)


def test_a_program_that_runs_a_task_is_no_subreaper(installation: Installation) -> None:
    """It has other children, which are not the run's."""
    installation.add(argv=["sleep", "0.3"])

    with subprocess.Popen(["sleep", "0.1"]) as other:
        line = run_by_hand(str(installation.home), "task", "cli", time.time)
        assert line is not None
        assert other.wait() == 0  # nobody else has reaped it

    assert not is_subreaper()


def test_a_supervisor_reaps_all_that_comes_to_it(installation: Installation) -> None:
    """Forty helpers that a command leaves to themselves leave no zombies."""
    go_on = installation.home / "go-on"
    script = 'sleep 0.5; for n in $(seq 40); do (sleep 0.1 &); done; sleep 1; exec "$@"'
    installation.add(argv=["sh", "-c", script, "sh", *waits_for(go_on)])
    installation.trigger("wsgi")
    facts = installation.command_runs()
    until(lambda: any(file.read_bytes() == b"begun\n" for file in (installation.home / "output").iterdir()))
    supervisor = facts["supervisor"][0]
    assert Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split() == [str(facts["command"][0])]
    go_on.touch()
    installation.idle()


# A slow exec


@pytest.fixture
def slow_exec(installation: Installation) -> Iterator[tuple[list[int], list[int], Callable[[], None]]]:
    """A supervisor whose command takes minutes for its exec; (its identity, that of the fork, what lets it go on)."""
    if shutil.which("strace") is None:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("strace is missing")

    installation.add(argv=["/bin/sleep", "600"])
    words = ["strace", "-f", "-o", "/dev/null", "-P", "/bin/sleep", "-e", "trace=execve",
             "-e", "inject=execve:delay_enter=600s", sys.executable, "-m", "webscheduler", "run", "task"]

    with subprocess.Popen(words, env=environment(installation.home), stdout=subprocess.DEVNULL) as strace:
        (facts,) = until(lambda: [facts for facts in installation.facts() if "deadline" in facts])
        supervisor = facts["supervisor"]
        children = Path(f"/proc/{supervisor[0]}/task/{supervisor[0]}/children")
        fork = locks.identity(int(until(children.read_text).split()[0]))
        yield supervisor, fork, strace.kill
        strace.kill()


def test_an_exec_that_takes_long(
    installation: Installation, slow_exec: tuple[list[int], list[int], Callable[[], None]]
) -> None:
    """Between fork and exec a command has nothing but the lock; that it has it is enough, however long it takes."""
    supervisor, fork, go_on = slow_exec
    kill(supervisor)
    (claim,) = installation.claims()
    until(lambda: time.time() > claim.stat().st_mtime + 2.5)
    assert locks.alive(fork)
    assert b"sleep" not in Path(f"/proc/{fork[0]}/cmdline").read_bytes()
    assert installation.trigger("wsgi").document["reason"] == "locked"
    go_on()
    until(lambda: b"sleep" in Path(f"/proc/{fork[0]}/cmdline").read_bytes())
    assert installation.trigger("wsgi").document["reason"] == "locked"
    os.kill(fork[0], signal.SIGKILL)
    finds(installation)
    assert [run["status"] for run in installation.runs()] == ["interrupted", "success"]
