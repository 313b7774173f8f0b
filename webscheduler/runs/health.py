"""Whether tasks are well, and how often ticks come: for the status URL, lists and the doctor.

The rule: a task is failing when its last run did not succeed, and late when its schedule asked for a run that has not
begun; readers write nothing.
"""

from __future__ import annotations

from itertools import islice

from ..errors import BadInput
from ..schedule import slots
from ..store import locks, state
from ..store.task import load_task
from ..times import format_time, instant
from ..vocabulary import DUE, FAILURES, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.settings import Settings

MIN_LATE = 900.0  # seconds


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
    running = {facts.get("name") for facts in locks.live_runs(settings.home)}
    return {name: _state(settings, row, name, name in running, now) for name, row in tasks.items()}


def patience(home: str) -> float:
    """Seconds after which a task that is due is late: twice the rhythm of the ticks, at least a quarter of an hour."""
    return max(MIN_LATE, 2 * (rhythm(home)["every"] or 0))


def _state(settings: Settings, row: Any, name: str, running: bool, now: float) -> str:
    if not isinstance(row, dict):
        return "failing"

    if not row.get("enabled"):
        return "healthy"

    # A run that died before it could be recorded still says `running`.
    if row.get("lastRunStatus") in FAILURES or row.get("lastRunStatus") == RUNNING and not running:
        return "failing"

    try:
        slot = slots.slot(load_task(name, row), settings["timezone"], 0.0, now)
    except BadInput:
        return "failing"

    if slot is None or running or now - slot.at <= MIN_LATE:
        return "healthy"

    return "late" if now - slot.at > patience(settings.home) else "healthy"


def rhythm(home: str) -> dict[str, Any]:
    """How often ticks come, from `@due`'s last starts in history: `lastAt` (instant or None) and `every` (the median
    of the last gaps in seconds, or None while fewer than two ticks are known)."""
    from ..store import history

    known = (instant(entry.get("startedAt")) for entry in history.entries(home, DUE) if entry.get("run"))
    starts = list(islice(filter(None, known), 20))
    gaps = sorted(later - earlier for later, earlier in zip(starts, starts[1:]))
    return {"lastAt": format_time(starts[0]) if starts else None, "every": gaps[len(gaps) // 2] if gaps else None}
