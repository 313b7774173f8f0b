# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whether tasks are healthy, and how often ticks come: for the status URL, lists and `doctor`.

The rule: a task is failing if its last run did not succeed, and late if its schedule asked for a run that has not
begun. Nothing is written here.
"""

from __future__ import annotations

from itertools import islice

from ..errors import BadInput
from ..schedule import slots
from ..store import file_name, locks, processes, state
from ..store.task import load_task, shown
from ..times import format_time, instant
from ..vocabulary import DUE, FAILURES, INTERRUPTED, RUNNING, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Facts, Iterable
    from ..store.settings import Settings

MIN_LATE = 900.0  # seconds
SAME_START = 0.01  # seconds by which two notes of the same start may differ
# State of a task in lists -> its name, in the order of a list sorted by state.
STATES = {"failing": "Failing", "late": "Late", RUNNING: "Running", "never": "Never ran", SUCCESS: "Success",
          "disabled": "Disabled"}
UNLESS_LATE = ("late", "never", SUCCESS)  # which of these it is, only its schedule tells
AT_ONCE = 50  # tasks that are looked at
SEARCHED = 200  # lines of history, of which some may be skips since that start


def health(settings: Settings, tasks: state.Tasks, name: str, now: float) -> dict[str, Any]:
    """What /status answers about a task: `healthy`, `failing` or `late`, and its last and next run.

    The status of `@due` is the worst of all enabled tasks, with the names of those that are not healthy.
    """
    tasks, alive = as_they_are(settings.home, tasks, now)
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


def as_they_are(home: str, tasks: state.Tasks, now: float) -> tuple[state.Tasks, list[Facts]]:
    """(the tasks, with how their last runs ended; facts of the runs that live). What a claim says counts where nobody
    could record it yet; a run that state calls running and that does not live is `interrupted`; and of a task that
    state calls due, what its gate knows (`forgotten`)."""
    missed = forgotten(home, tasks, [name for name, row in tasks.items() if may_be_due(row, now)], now)
    alive, ended = processes.claimed_runs(home)
    running = {facts.get("name") for facts in alive}
    found = {**tasks, **missed}

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


def may_be_due(row: Any, now: float) -> bool:
    """Whether the row of a task says that it is due, of which its gate may know better."""
    coming = isinstance(row, dict) and row.get("enabled") and (row.get("expression") or row.get("intervalSeconds"))
    return bool(coming) and instant(row.get("nextRunAt")) <= now


def forgotten(home: str, tasks: state.Tasks, names: Iterable[str], now: float) -> dict[str, dict[str, Any]]:
    """The rows of those of the tasks whose gates know a later start than state.json, an earlier copy of which was put
    back: with that start, and how its run ended if history tells."""
    # Asked before the claims: who starts a run makes its claim before the gate knows the start.
    starts = {name: locks.last_start(home, name) for name in names}
    later = {name: start for name, start in starts.items() if start <= now + slots.CLOCK_ERROR and start > max(
        instant(tasks[name].get("lastRunAt")) + SAME_START, instant(tasks[name].get("createdAt")))}
    claimed = {entry.lstrip(locks.TAKEN).rpartition("@")[0] for entry in locks.runs(home)} if later else set()
    found = {}

    for name, start in later.items():
        if file_name(name) in claimed:
            continue  # it runs, or is recorded soon

        from ..store import history_reading
        from .recorder import take_outcome

        row = {**tasks[name], "lastRunAt": format_time(start), "lastRunId": None, "lastRunStatus": None,
               "lastRunDuration": None, "lastRunExitCode": None, "lastRunAttempt": 1}

        for entry in islice(history_reading.entries(home, name), SEARCHED):
            if entry.get("run") and abs(instant(entry.get("startedAt")) - start) < SAME_START:
                take_outcome(row, entry, {})
                break

        found[name] = row

    return found


def states(settings: Settings, tasks: state.Tasks, now: float) -> dict[str, str]:
    """`healthy`, `failing` or `late`, by task."""
    tasks, alive = as_they_are(settings.home, tasks, now)
    running = {facts.get("name") for facts in alive}
    return {name: _state(settings, row, name, name in running, now) for name, row in tasks.items()}


def state_of(row: Any, running: bool, late: bool) -> str:
    """One of STATES, for the row of a task."""
    row = row if isinstance(row, dict) else {}
    return ("disabled" if not row.get("enabled") else RUNNING if running else "failing" if row.get(
        "lastRunStatus") in FAILURES else "late" if late else SUCCESS if row.get("lastRunAt") else "never")


def late(settings: Settings, rows: state.Tasks, names: list[str], now: float, most: int | None = None) -> list[str]:
    """Those of the names whose tasks are late; some more than `most` are enough. Only tasks whose stored `nextRunAt`,
    which each tick corrects, is past or unknown are examined."""
    past = [name for name in names if isinstance(row := rows[name], dict) and row.get("enabled") and (
        row.get("nextRunAt") or row.get("expression") or row.get("intervalSeconds"))
        and instant(row.get("nextRunAt")) < now - MIN_LATE]
    found: list[str] = []

    for place in range(0, len(past), AT_ONCE):
        how = states(settings, {name: rows[name] for name in past[place:place + AT_ONCE]}, now)
        found += [name for name, state in how.items() if state == "late"]

        if most is not None and len(found) > most:
            break

    return found


def places(home: str) -> list[Facts]:
    """The due runs in progress, the oldest first: each holds one of the `maxConcurrentTasks` places until it ends."""
    held = [facts for facts in processes.live_runs(home) if facts.get("trigger") in ("due", "after")]
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
