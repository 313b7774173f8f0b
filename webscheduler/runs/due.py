"""What is due, and starting it within a tick.

The rules: by priority, lower first, then by the time a task became due; never more than `maxConcurrentTasks` due runs
alive at once over all ticks, which hold `@due`'s claim while they start them; what the budget leaves stays due. Each
task is started in a process of its own that decides, under the task's gate, whether it is due still; so a process
that cannot be had costs no slot.
"""

from __future__ import annotations

import os
import signal
import time

from ..commands import registry
from ..errors import BadInput, WebschedulerError
from ..schedule import slots
from ..store import locks, state
from ..store.task import DUE, load_task, load_tasks
from ..times import format_time, parse_time
from .health import MIN_LATE, patience

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


def select(settings: Settings, tasks: state.Tasks, now: float) -> tuple[list[tuple[str, Slot]], list[str]]:
    """(tasks that are due, in the order to start them; a line for each that cannot be told)."""
    good, broken = load_tasks({name: row for name, row in tasks.items()
                               if name != DUE and isinstance(row, dict) and row.get("enabled")})
    return _select(settings, good, list(broken.values()), now)


def _select(
    settings: Settings, tasks: dict[str, Task], problems: list[str], now: float
) -> tuple[list[tuple[str, Slot]], list[str]]:
    found = []
    # A run that has just begun has a claim before state knows of it, and until state knows how it ended.
    begun = {facts.get("name"): parse_time(facts["startedAt"]) for facts in locks.live_runs(settings.home)}

    for name, task in tasks.items():
        try:
            slot = slots.slot(task, settings["timezone"], begun.get(name, 0.0), now)

            if slot is not None:
                registry.argv(settings, task)  # without its command a task stays due until that is back
                found.append((task["priority"], slot.at, name, slot))
        except BadInput as error:
            problems.append(str(error))

    return [(name, slot) for _, _, name, slot in sorted(found, key=lambda entry: entry[:3])], problems


def tick(
    settings: Settings, tasks: state.Tasks, start: Start, budget: float, now: float
) -> tuple[dict[str, Any], dict[int, str]]:
    """Start all that is due. (what the tick can say: `started`, `left` and `problems`; processes that still run, by
    pid). start(name, still_due) forks a process that decides and runs, and returns its pid, or raises OSError."""
    home = settings.home
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored no child has an exit status
    enabled, problems = _refresh(settings, tasks, now)
    queue, problems = _select(settings, enabled, problems, now)
    late = [name for name, slot in queue
            if slot.attempt == 1 and now - slot.at > MIN_LATE and now - slot.at > patience(home)]
    children: dict[int, str] = {}
    report: dict[str, Any] = {"started": [], "late": late, "problems": problems, "codes": {}}
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


def _refresh(settings: Settings, rows: state.Tasks, now: float) -> tuple[dict[str, Task], list[str]]:
    """Keep nextRunAt true, begin to count for tasks of which nothing is known (an old state.json), and correct times
    that a wrong clock left. (the enabled tasks; what is wrong, a line each: a state.json that only its copy stands in
    for stops no task)."""
    changes: dict[str, dict[str, Any]] = {}
    enabled: dict[str, Task] = {}
    problems: list[str] = []

    def change(tasks: state.Tasks) -> None:
        for name, fields in changes.items():
            if isinstance(tasks.get(name), dict):
                tasks[name].update(fields)

    try:
        for name, row in rows.items():
            if name == DUE or not isinstance(row, dict):
                continue

            try:
                task = load_task(name, row)
            except BadInput as error:
                problems += [str(error)] if row.get("enabled") else []
                continue

            found: dict[str, str | None] = dict.fromkeys(slots.ahead(task, now), format_time(now))

            if found:
                task.update(found)

                with locks.Gate(settings.home, name) as gate:
                    gate.last_start = min(gate.last_start, now)
                    gate.save()

            found["nextRunAt"] = slots.next_text(task, settings["timezone"], now)

            if task["enabled"] and task["expression"] and not slots.counted_from(task, 0.0, now):
                found["scheduledSince"] = format_time(now)

            if any(row.get(field) != value for field, value in found.items()):
                changes[name] = found
                task.update(found)

            if task["enabled"]:
                enabled[name] = task

        if changes:
            state.update(settings.home, change)
    except WebschedulerError as error:
        problems.append(str(error))

    return enabled, problems


def too_late(home: str, name: str, now: float) -> None:
    """The slot was skipped for good: count from now."""

    def change(tasks: state.Tasks) -> None:
        if isinstance(tasks.get(name), dict):
            tasks[name]["scheduledSince"] = format_time(now)

    state.update(home, change)
