# SPDX-License-Identifier: LGPL-3.0-or-later
"""Thousands of triggers from several processes while requests, supervisors and commands are killed at random.

    python -m tests.torture.swarm HOME TRIGGERS PROCESSES SEED

Prints what was counted and `problems`, which is to be empty: each run that was accepted has exactly one line, no other
run has more than one, no two commands of a task were alive at once, no command began without a line, state is whole,
and no claim is left.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.torture.requests import LOADED, answer, ask, environ_of
from webscheduler.store import history, locks, processes, state
from webscheduler.store.task import new_task

TASKS = 8
assert LOADED


def worker(home: str, rows: list[dict[str, Any]], count: int, seed: int, report: int) -> None:
    """Trigger tasks, and kill one request in ten within its first milliseconds."""
    chance = random.Random(seed)
    said: dict[str, Any] = {"accepted": [], "answers": collections.Counter()}

    for _ in range(count):
        pid, reading = ask(home, environ_of(chance.choice(rows)))

        if chance.random() < 0.1:
            time.sleep(chance.random() * 0.01)
            os.kill(pid, signal.SIGKILL)

        given = answer(pid, reading)
        kind = "killed" if given is None else f"{given[0]} {given[1].get('status', given[1]['accepted'])}"
        said["answers"][kind] += 1

        if given and given[1].get("run"):
            said["accepted"].append(given[1]["run"])

    with open(report, "w") as file:
        json.dump(said, file)


def killer(home: str, seed: int) -> None:
    """Kill supervisors, commands or both, one run in three, until ended."""
    chance = random.Random(seed)

    while True:
        for facts in processes.live_runs(home):
            if chance.random() < 0.3:
                for who in chance.choice((("supervisor",), ("command",), ("supervisor", "command"))):
                    if locks.alive(facts.get(who)):
                        try:
                            os.kill(facts[who][0], signal.SIGKILL)
                        except ProcessLookupError:
                            pass

        time.sleep(chance.random() * 0.05)


def spawn(function: Any, *arguments: Any) -> int:
    pid = os.fork()

    if pid == 0:
        status = 1

        try:
            function(*arguments)
            status = 0
        finally:
            os._exit(status)

    return pid


def settle(home: str, rows: list[dict[str, Any]]) -> None:
    """Let all commands end, and have each task triggered once more, which records what died."""
    for row in rows:
        while True:
            given = answer(*ask(home, environ_of(row)))
            assert given

            if given[1].get("status") == "running":
                break

            time.sleep(0.02)

    while os.listdir(os.path.join(home, "runs")):
        time.sleep(0.02)


def main(home: str, triggers: str, processes: str, seed: str) -> int:
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("witness.py"))]
    rows = []

    for number in range(TASKS):
        witness = os.path.join(home, f"witness{number}")
        fields = {"enabled": True, "argv": [*program, witness], "cwd": "/", "strategy": "fork", "timeout": 20}
        rows.append(new_task(time.time(), fields))

    state.update(home, lambda tasks: tasks.update({f"task{number}": row for number, row in enumerate(rows)}))
    reports = [os.path.join(home, f"report{number}") for number in range(int(processes))]
    ending = spawn(killer, home, int(seed))
    share = int(triggers) // len(reports)
    workers = [spawn(worker, home, rows, share, int(seed) + 1 + number, report)
               for number, report in enumerate(reports)]  # fmt: skip
    problems = [f"worker {pid} failed" for pid in workers if os.waitpid(pid, 0)[1]]
    os.kill(ending, signal.SIGKILL)
    os.waitpid(ending, 0)
    settle(home, rows)

    accepted: list[str] = []
    answers: collections.Counter[str] = collections.Counter()

    for report in reports:
        said = json.loads(Path(report).read_text())
        accepted += said["accepted"]
        answers.update(said["answers"])

    lines: collections.Counter[str] = collections.Counter()
    statuses: collections.Counter[str] = collections.Counter()
    begun = 0
    tasks = state.read_strictly(home)

    for number in range(TASKS):
        entries = [json.loads(text) for text in open(history.path(home, f"task{number}"), "rb")]
        runs = [entry for entry in entries if entry["run"]]
        lines.update(entry["run"] for entry in runs)
        statuses.update(entry["status"] for entry in runs)
        notes = Path(home, f"witness{number}").read_text().split()
        begun += notes.count("start")

        if "overlap" in notes:
            problems.append(f"task{number}: {notes.count('overlap')} overlaps")

        if notes.count("start") > len(runs):
            problems.append(f"task{number}: {notes.count('start')} commands began, {len(runs)} lines")

        if notes.count("end") < sum(entry["status"] == "success" for entry in runs):
            problems.append(f"task{number}: more successes than commands that ended")

        if tasks[f"task{number}"]["lastRunStatus"] != "success":
            problems.append(f"task{number}: state says {tasks[f'task{number}']['lastRunStatus']}")

    problems += [f"doubled: {run}" for run, count in lines.items() if count > 1]
    problems += [f"lost: {run}" for run in accepted if run not in lines]
    print(json.dumps({"answers": answers, "accepted": len(accepted), "lines": len(lines), "statuses": statuses,
                      "begun": begun, "problems": problems[:20]}))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
