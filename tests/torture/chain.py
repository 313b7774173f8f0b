# SPDX-License-Identifier: LGPL-3.0-or-later
"""A chain of three tasks, of which two fail every other time and lead to others then; processes of them are killed at
random while ticks come. What history says of it at the end.

    python -m tests.torture.chain HOME KILLS SEED

Prints {"kills": ..., "lines": runs by task, "followed": how many runs had to be followed, by field, "problems": [...]}:
each run has one line, each that was a success or a failure is followed by one run of the task that is for that, and
nothing is followed twice, or for another reason.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import sys
import time

from tests.torture.requests import LOADED
from webscheduler.runs import following
from webscheduler.runs.by_hand import run_by_hand
from webscheduler.store import chains, history_reading, processes, state
from webscheduler.store.task import DUE, new_task

assert LOADED
assert following
# What a task runs, and which one follows when.
HALF = "exit $(($$ / 2 % 2))"
TASKS: dict[str, tuple[list[str], dict[str, str]]] = {
    "first": (["sh", "-c", HALF], {"onSuccess": "second", "onFailure": "mend"}),
    "second": (["sh", "-c", HALF], {"onSuccess": "third", "onFailure": "sorry"}), "third": (["true"], {}),
    "mend": (["true"], {"onSuccess": "mended"}), "mended": (["true"], {}), "sorry": (["true"], {})}
ENDS = {"onSuccess": ("success",), "onFailure": ("failed", "timeout")}
COMMON = {"enabled": True, "preventOverlap": False}
AT_ONCE = 3


def start(home: str, name: str) -> int:
    """Run a task by hand in a process of its own, without waiting for it; its pid."""
    pid = os.fork()

    if pid == 0:
        try:
            os.setsid()
            run_by_hand(home, name, "cli", time.time, "fork", own=True)
        finally:
            os._exit(0)

    return pid


def living(home: str) -> list[int]:
    """Supervisors and commands of runs in progress."""
    return [facts[who][0] for facts in processes.live_runs(home) for who in ("supervisor", "command", "starter")
            if who in facts]


def left(home: str) -> bool:
    """Whether something is still to come."""
    return bool(os.listdir(f"{home}/runs")) or any(map(chains.marks, state.read(home).values()))


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False

    return True


def main(home: str, most: str, seed: str) -> int:
    chance, kills, children = random.Random(int(seed)), 0, set()

    def add(tasks: state.Tasks) -> None:
        for name, (argv, links) in TASKS.items():
            tasks[name] = new_task(time.time(), {**COMMON, "argv": argv, **{
                field: [follower] for field, follower in links.items()}})

    state.update(home, add)

    while kills < int(most):
        while len(children) < AT_ONCE:
            children.add(start(home, chance.choice(("first", "first", DUE))))

        time.sleep(chance.random() * 0.05)
        kills += kill(chance.choice([*children, *living(home)]))
        children -= {pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]}

    for pid in children:
        os.waitpid(pid, 0)

    end = time.monotonic() + 120

    while left(home) and time.monotonic() < end:
        os.waitpid(start(home, DUE), 0)
        time.sleep(0.1)

    print(json.dumps({"kills": kills, **judged(home)}))
    return 0


def judged(home: str) -> dict[str, object]:
    """What history says."""
    entries = {name: [entry for entry in history_reading.entries(home, name) if entry["run"]] for name in TASKS}
    problems = ["something is left"] if left(home) else []
    followed = dict.fromkeys(ENDS, 0)

    for name, field, follower in [(name, *link) for name, (_, links) in TASKS.items() for link in links.items()]:
        after = collections.Counter(entry["after"] for entry in entries[follower])
        problems += [f"{run} of {name} is followed {n} times" for run, n in after.items() if n > 1 or not run]

        for entry in entries[name]:
            should = entry["status"] in ENDS[field]
            followed[field] += should

            if (after[entry["run"]] == 1) != should:
                problems.append(f"{entry['run']} of {name}, {entry['status']}, is followed {after[entry['run']]} times "
                                f"by {follower}")

    for name, found in entries.items():
        runs = collections.Counter(entry["run"] for entry in found)
        problems += [f"{run} of {name} has {n} lines" for run, n in runs.items() if n > 1]

    return {"lines": {name: len(found) for name, found in entries.items()}, "followed": followed,
            "problems": problems[:20]}


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
