# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whether tasks are healthy, and how often ticks come: for the status URL, lists and `doctor`.

The rule: a task is failing if its last run did not succeed, and late if its schedule asked for a run that has not
begun. Nothing is written here.
"""

from __future__ import annotations

from itertools import islice

from ..errors import BadInput
from ..schedule import slots
from ..store import processes, state
from ..store.task import load_task, shown
from ..times import format_time, instant
from ..vocabulary import DUE, FAILURES, INTERRUPTED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..shapes import Facts
    from ..store.settings import Settings

MIN_LATE = 900.0  # seconds


def health(settings: Settings, tasks: state.Tasks, name: str, now: float) -> dict[str, Any]:
    """What /status answers about a task: `healthy`, `failing` or `late`, and its last and next run.

    The status of `@due` is the worst of all enabled tasks, with the names of those that are not healthy.
    """
    tasks, alive = as_they_are(settings.home, tasks)
    row, running = tasks[name], [facts for facts in alive if facts.get("name") == name]
    found = states(settings, shown(tasks) if name == DUE else {name: row}, now)
    worst = next((state for state in ("failing", "late") if state in found.values()), "healthy")
    report = {"task": name, "status": worst, "running": bool(running), "nextRunAt": None,
              **{field: row.get(field) for field in ("lastRunAt", "lastRunStatus", "lastRunDuration")}}

    if running:  # state mentions it only after a second
        report.update(lastRunAt=running[-1]["startedAt"], lastRunStatus=RUNNING, lastRunDuration=None)

    try:
        report["nextRunAt"] = slots.next_text(load_task(name, row), settings["timezone"], now)
    except BadInput:
        pass  # it is failing; what is wrong is shown on the command line and in the panel

    if name == DUE:
        report["unhealthy"] = sorted(each for each, state in found.items() if state != "healthy")[:20]

    return report


def as_they_are(home: str, tasks: state.Tasks) -> tuple[state.Tasks, list[Facts]]:
    """(the tasks, with how their last runs ended; facts of the runs that live). What a claim says counts where nobody
    could record it yet, as on a full disk; a run that state calls running and that does not live is `interrupted`."""
    alive, ended = processes.claimed_runs(home)
    running = {facts.get("name") for facts in alive}
    found = {**tasks}

    for facts in ended:
        entry, name = facts.get("outcome"), facts.get("name", "")

        if isinstance(entry, dict) and isinstance(found.get(name), dict):
            from .recorder import take_outcome

            found[name] = {**found[name]}
            take_outcome(found[name], entry, facts)

    for name, row in found.items():
        if isinstance(row, dict) and row.get("lastRunStatus") == RUNNING and name not in running:
            found[name] = {**row, "lastRunStatus": INTERRUPTED}

    return found, alive


def states(settings: Settings, tasks: state.Tasks, now: float) -> dict[str, str]:
    """`healthy`, `failing` or `late`, by task."""
    tasks, alive = as_they_are(settings.home, tasks)
    running = {facts.get("name") for facts in alive}
    return {name: _state(settings, row, name, name in running, now) for name, row in tasks.items()}


def places(home: str) -> list[Facts]:
    """The due runs in progress, the oldest first: each holds one of the `maxConcurrentTasks` places until it ends."""
    held = [facts for facts in processes.live_runs(home) if facts.get("trigger") == "due"]
    return sorted(held, key=lambda facts: instant(facts.get("startedAt")))


def patience(home: str) -> float:
    """Seconds after which a due task is late: twice the usual time between ticks, at least MIN_LATE."""
    return max(MIN_LATE, 2 * (rhythm(home)["every"] or 0))


def _state(settings: Settings, row: Any, name: str, running: bool, now: float) -> str:
    if not isinstance(row, dict):
        return "failing"

    if not row.get("enabled"):
        return "healthy"

    if row.get("lastRunStatus") in FAILURES:
        return "failing"

    try:
        slot = slots.slot(load_task(name, row), settings["timezone"], 0.0, now)
    except BadInput:
        return "failing"

    if slot is None or running or now - slot.at <= MIN_LATE:
        return "healthy"

    return "late" if now - slot.at > patience(settings.home) else "healthy"


def rhythm(home: str) -> dict[str, Any]:
    """How often ticks come, from `@due`'s history: `lastAt` (ISO 8601, or None) and `every` (seconds, the median of the
    last times between ticks; None if there were fewer than two ticks)."""
    from ..store import history_reading

    known = (instant(entry.get("startedAt")) for entry in history_reading.entries(home, DUE) if entry.get("run"))
    starts = list(islice(filter(None, known), 20))
    gaps = sorted(later - earlier for later, earlier in zip(starts, starts[1:]))
    return {"lastAt": format_time(starts[0]) if starts else None, "every": gaps[len(gaps) // 2] if gaps else None}
