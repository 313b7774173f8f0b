"""What is due, starting it within a tick, and whether tasks are well.

The rules: by priority, lower first, then by the time a task became due; never more than `maxConcurrentTasks` due runs
alive at once over all ticks, which hold `@due`'s claim while they start them; what the budget leaves stays due. Each
task is started in a process of its own that decides, under the task's gate, whether it is due still; so a process
that cannot be had costs no slot. A task is failing when its last run did not succeed, and late when its schedule
asked for a run that has not begun; readers write nothing.
"""

from __future__ import annotations

import os
import signal
import time
from itertools import islice

from ..commands import registry
from ..errors import BadInput, WebschedulerError
from ..schedule import slots
from ..store import locks, state
from ..store.task import DUE, load_task
from ..times import format_time, instant, parse_time
from ..vocabulary import FAILURES, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..schedule.slots import Slot
    from ..store.settings import Settings
    from ..store.task import Task

    Start = Callable[[str, Callable[[Task, float], "Slot | None"]], int]

BUDGETS = {"fork": 55, "close": 25, "sync": 25}  # seconds in which a tick starts tasks
PAUSE = 0.02
SKIPPED = 3  # exit status of the process of a due task, besides 0 for a success and 1 for none
MIN_LATE = 900.0


def select(settings: Settings, now: float) -> tuple[list[tuple[str, Slot]], list[str]]:
    """(tasks that are due, in the order to start them; a line for each that cannot be told)."""
    found, problems = [], []
    # A run that has just begun has a claim before state knows of it, and until state knows how it ended.
    begun = {facts.get("name"): parse_time(facts["startedAt"]) for facts in locks.live_runs(settings.home)}

    for name, row in state.read(settings.home).items():
        if name == DUE or not (isinstance(row, dict) and row.get("enabled")):
            continue

        try:
            task = load_task(name, row)
            slot = slots.slot(task, settings["timezone"], begun.get(name, 0.0), now)

            if slot is not None:
                registry.argv(settings, task)  # without its command a task stays due until that is back
                found.append((task["priority"], slot.at, name, slot))
        except BadInput as error:
            problems.append(str(error))

    return [(name, slot) for _, _, name, slot in sorted(found, key=lambda entry: entry[:3])], problems


def tick(settings: Settings, start: Start, budget: float, now: float) -> tuple[dict[str, Any], dict[int, str]]:
    """Start all that is due. (what the tick can say: `started`, `left` and `problems`; processes that still run, by
    pid). start(name, still_due) forks a process that decides and runs, and returns its pid, or raises OSError."""
    home = settings.home
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored no child has an exit status
    problems = _refresh(settings, now)
    queue, unclear = select(settings, now)
    patience = _patience(home)
    late = [name for name, slot in queue if slot.attempt == 1 and now - slot.at > patience]
    children: dict[int, str] = {}
    report: dict[str, Any] = {"started": [], "late": late, "problems": problems + unclear, "codes": {}}
    begun = time.monotonic()
    end = begun + budget

    while queue and time.monotonic() < end:
        reap(children, report["codes"])
        others = [facts for facts in locks.live_runs(home) if facts.get("trigger") == "due"
                  and facts.get("starter", [0])[0] not in children]

        for name, _ in queue[: max(0, settings["maxConcurrentTasks"] - len(children) - len(others))]:
            try:
                pid = start(name, lambda task, last: slots.slot(task, settings["timezone"], last, now))
            except OSError as error:
                report["problems"].append(f"the host gave no process: {error.strerror}")
                end = 0.0
                break

            children[pid] = name
            report["started"].append(name)
            queue.pop(0)

        if queue:
            time.sleep(PAUSE)

    report["left"] = [name for name, _ in queue]
    report["duration"] = round(time.monotonic() - begun, 3)
    return report, children


def reap(children: dict[int, str], codes: dict[str, int], wait: bool = False) -> None:
    """Take the exit statuses of children that ended (with `wait`, of all) from `children` into `codes`."""
    for pid in list(children):
        try:
            ended, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
        except ChildProcessError:  # SIGCHLD is ignored here, and the kernel reaps
            ended, status = (pid, 0) if not os.path.exists(f"/proc/{pid}") or wait else (0, 0)

        if ended:
            codes[children.pop(pid)] = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1


def _refresh(settings: Settings, now: float) -> list[str]:
    """Keep nextRunAt true, begin to count for tasks of which nothing is known (an old state.json), and mend times that
    a wrong clock left. What is wrong, a line each: a state.json that only its copy stands in for stops no task."""
    changes: dict[str, dict[str, Any]] = {}

    def change(tasks: state.Tasks) -> None:
        for name, fields in changes.items():
            if isinstance(tasks.get(name), dict):
                tasks[name].update(fields)

    try:
        for name, row in state.read(settings.home).items():
            if name == DUE:
                continue

            try:
                task = load_task(name, row)
                found: dict[str, str | None] = dict.fromkeys(slots.ahead(task, now), format_time(now))

                if found:
                    task.update(found)

                    with locks.Gate(settings.home, name) as gate:
                        gate.last_start = min(gate.last_start, now)
                        gate.save()

            except BadInput:
                continue

            found["nextRunAt"] = slots.next_text(task, settings["timezone"], now)

            if task["enabled"] and task["expression"] and not slots.counted_from(task, 0.0, now):
                found["scheduledSince"] = format_time(now)

            if any(row.get(field) != value for field, value in found.items()):
                changes[name] = found

        if changes:
            state.update(settings.home, change)
    except WebschedulerError as error:
        return [str(error)]

    return []


def too_late(home: str, name: str, now: float) -> None:
    """The slot was skipped for good: count from now."""

    def change(tasks: state.Tasks) -> None:
        if isinstance(tasks.get(name), dict):
            tasks[name]["scheduledSince"] = format_time(now)

    state.update(home, change)


def health(settings: Settings, tasks: state.Tasks, name: str, now: float) -> dict[str, Any]:
    """How a task is, as /status tells it: status healthy, failing or late, and its last and next run.

    That of `@due` is the worst of all enabled tasks, with the names of those that are not healthy.
    """
    row = tasks[name]
    found = states(settings, tasks if name == DUE else {name: row}, now)
    worst = next((state for state in ("failing", "late") if state in found.values()), "healthy")
    running = locks.live_runs(settings.home, name)
    report = {"task": name, "status": worst, "running": bool(running), "nextRunAt": None,
              **{field: row.get(field) for field in ("lastRunAt", "lastRunStatus", "lastRunDuration")}}

    if running:  # state knows only of a run that lasts
        report.update(lastRunAt=running[-1]["startedAt"], lastRunStatus=RUNNING, lastRunDuration=None)

    try:
        report["nextRunAt"] = slots.next_text(load_task(name, row), settings["timezone"], now)
    except BadInput:
        pass  # failing, and what is wrong with it is told to those who may know

    if name == DUE:
        report["unhealthy"] = sorted(each for each, state in found.items() if state != "healthy")[:20]

    return report


def states(settings: Settings, tasks: state.Tasks, now: float) -> dict[str, str]:
    """How each task is: healthy, failing or late."""
    patience = _patience(settings.home)
    running = {facts.get("name") for facts in locks.live_runs(settings.home)}
    return {name: _state(settings, row, name, name in running, now, patience) for name, row in tasks.items()}


def _patience(home: str) -> float:
    """Seconds after which a task that is due is late: twice the rhythm of the ticks, at least a quarter of an hour."""
    return max(MIN_LATE, 2 * (rhythm(home)["every"] or 0))


def _state(settings: Settings, row: Any, name: str, running: bool, now: float, patience: float) -> str:
    if not isinstance(row, dict):
        return "failing"

    if not row.get("enabled"):
        return "healthy"

    # A run that died before it could be recorded still says `running`.
    if row.get("lastRunStatus") in FAILURES or row.get("lastRunStatus") == "running" and not running:
        return "failing"

    try:
        slot = slots.slot(load_task(name, row), settings["timezone"], 0.0, now)
    except BadInput:
        return "failing"

    return "late" if slot and not running and now - slot.at > patience else "healthy"


def rhythm(home: str) -> dict[str, Any]:
    """How often ticks come, from `@due`'s last starts in history: `lastAt` (instant or None) and `every` (the median
    of the last gaps in seconds, or None while fewer than two ticks are known)."""
    from ..store import history

    known = (instant(entry.get("startedAt")) for entry in history.entries(home, DUE) if entry.get("run"))
    starts = list(islice(filter(None, known), 20))
    gaps = sorted(later - earlier for later, earlier in zip(starts, starts[1:]))
    return {"lastAt": format_time(starts[0]) if starts else None, "every": gaps[len(gaps) // 2] if gaps else None}
