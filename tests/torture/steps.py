# SPDX-License-Identifier: LGPL-3.0-or-later
"""Kills a trigger at each of its steps, and looks at what the next one makes of it.

    python -m tests.torture.steps HOME single|double COUNT SEED

A step is a call that changes something outside the process: open, write, fsync, rename, unlink, lock. The first trigger
is killed (SIGKILL, by itself) before its Nth step, or in the middle of it where it is a write; with `double`, the
second too, which finds what the first left. Then one trigger goes through, and this must hold: each run that was ever
claimed has exactly one line, no claim is left, state is whole and tells of the last run.

Prints {"steps": how many there are, "plan": how many tries, "kills": how many triggers were killed, "problems": [...]}.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sys
import time
from typing import Any, Callable

from tests.torture.requests import LOADED
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import history, state
from webscheduler.store.task import new_task

import filelock  # isort: skip

STEPS = [(os, name) for name in ("open", "write", "pwrite", "fsync", "replace", "unlink", "ftruncate", "close", "fork")]
STEPS += [(fcntl, "flock")]
NAME = "task"
assert LOADED
assert filelock


def counted(kill_at: int, torn: bool, claimed: Callable[[str], object]) -> list[str]:
    """Make each step count, and the process end before the step `kill_at`. Returns a list that grows with each step, by
    a `w` for a write and a `.` for another. Each run for which a claim is made is told to `claimed`."""
    done: list[str] = []

    def wrap(function: Callable[..., Any], is_write: bool) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            done.append("w" if is_write else ".")

            if len(done) - 1 == kill_at:
                if torn and is_write:
                    function(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
                os.kill(os.getpid(), signal.SIGKILL)

            result = function(*arguments, **named)

            if function is real_open and "/runs/" in str(arguments[0]) and arguments[1] & os.O_EXCL:
                claimed(arguments[0].rpartition("@")[2])

            return result

        return step

    real_open = os.open

    for module, name in STEPS:
        setattr(module, name, wrap(getattr(module, name), name in ("write", "pwrite")))

    return done


def one_run(home: str, kill_at: int, torn: bool) -> tuple[str | None, str]:
    """A run in a process of its own, killed at a step. (its steps, or None if it was killed; its id, or empty if it
    claimed none)."""
    reading, writing = os.pipe()
    pid = os.fork()

    if pid == 0:
        os.close(reading)
        write, status = os.write, 1

        try:
            steps = counted(kill_at, torn, lambda run: write(writing, run.encode()))
            run_by_hand(home, NAME, "cli", time.time)
            write(writing, f" {''.join(steps)}".encode())
            status = 0
        finally:
            os._exit(status)

    os.close(writing)
    data = b""

    while part := os.read(reading, 65536):
        data += part

    os.close(reading)
    _, status = os.waitpid(pid, 0)

    assert status == 0 or os.WIFSIGNALED(status), "a run raised"
    run, _, names = data.decode().partition(" ")
    return names or None, run


def through(home: str) -> str:
    """A run that is not killed, as soon as the task is free; its id."""
    while True:
        _, run = one_run(home, -1, False)

        if run:
            return run

        time.sleep(0.005)


def check(home: str, seen: set[str]) -> list[str]:
    """What is wrong after a run went through; `seen`: runs for which a claim was made before."""
    problems = []
    last = through(home)
    lines = [json.loads(text) for text in open(history.path(home, NAME), "rb")]
    runs = [line["run"] for line in lines]
    row = state.read_strictly(home)[NAME]

    if len(set(runs)) != len(runs):
        problems.append(f"doubled: {sorted(run for run in set(runs) if runs.count(run) > 1)}")

    if not {*seen, last} <= set(runs):
        problems.append(f"lost: {sorted({*seen, last} - set(runs))}")

    if os.listdir(os.path.join(home, "runs")):
        problems.append(f"left: {os.listdir(os.path.join(home, 'runs'))}")

    if (row["lastRunId"], row["lastRunStatus"], row["consecutiveFailures"]) != (last, "success", 0):
        problems.append(f"state tells of {row['lastRunId']} {row['lastRunStatus']}, the last was {last}")

    os.truncate(history.path(home, NAME), 0)
    return problems


def main(home: str, kind: str, count: str, seed: str) -> int:
    chance = random.Random(int(seed))
    row = new_task(time.time(), {"enabled": True, "argv": ["true"], "cwd": "/"})
    state.update(home, lambda tasks: tasks.update({NAME: row}))
    through(home)
    # Each run tidies up, too, or the steps of that would be counted once only.
    mark = os.path.join(home, "locks", ".housekeeping")
    os.unlink(mark)
    steps = one_run(home, -1, False)[0]
    assert steps
    problems, kills = [], 0

    if kind == "single":
        plan = [[(step, False)] for step in range(len(steps))]
        plan += [[(step, True)] for step, kind in enumerate(steps) if kind == "w"]
    else:
        plan = [[(chance.randrange(len(steps) + more), chance.random() < 0.5) for more in (0, 10)]
                for _ in range(int(count))]  # fmt: skip

    for kill_at in plan:
        seen: set[str] = set()

        for step, torn in kill_at:
            if os.path.exists(mark):
                os.unlink(mark)

            left, run = one_run(home, step, torn)
            kills += left is None
            seen |= {run} - {""}

        problems += [f"killed at {kill_at}: {problem}" for problem in check(home, seen)]

    print(json.dumps({"steps": len(steps), "plan": len(plan), "kills": kills, "problems": problems}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
