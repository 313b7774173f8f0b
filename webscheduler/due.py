"""What is due, and whether tasks are well. Imports the files below the work.

The rule: a task is failing when its last run did not succeed, and late when its schedule asked for a run that has not
begun; reading this writes nothing.
"""

from __future__ import annotations

from . import locks
from .record import FAILURES
from .task import DUE, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .config import Config

LATE_AFTER = 3600.0


def health(settings: Config, tasks: dict[str, dict[str, Any]], name: str, now: float) -> dict[str, Any]:
    """How a task is, as /status tells it: status healthy, failing or late, and its last and next run.

    That of `@due` is the worst of all enabled tasks, with the names of those that are not healthy.
    """
    row = tasks[name]
    running = {facts.get("name") for facts in locks.peek(settings.home)}
    states = {each: _state(tasks[each], each in running, now) for each in (tasks if name == DUE else [name])}
    worst = next((state for state in ("failing", "late") if state in states.values()), "healthy")
    report = {"task": name, "status": worst, "running": name in running,
              **{field: row.get(field) for field in ("lastRunAt", "lastRunStatus", "lastRunDuration", "nextRunAt")}}

    if name == DUE:
        report["unhealthy"] = sorted(each for each, state in states.items() if state != "healthy")[:20]

    return report


def _state(row: dict[str, Any], running: bool, now: float) -> str:
    if not row.get("enabled"):
        return "healthy"

    # A run that died before it could be recorded still says `running`.
    if row.get("lastRunStatus") in FAILURES or row.get("lastRunStatus") == "running" and not running:
        return "failing"

    try:
        late = now - parse_time(row.get("nextRunAt") or "") > LATE_AFTER
    except ValueError:
        late = False

    return "late" if late and not running else "healthy"
