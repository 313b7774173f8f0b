# SPDX-License-Identifier: LGPL-3.0-or-later
"""When a task is due, and when it is due next.

The rule: a task is due if a slot of its schedule came *since its last run*, not if the schedule matches this minute. So
nothing is missed, however often or seldom somebody calls. Slots count from the latest of last start, creation, enabling
and change of the schedule. Several missed slots are one run. A retry makes a task due as well. A stored time ahead of
the clock counts as now.
"""

from __future__ import annotations

from ..errors import BadInput
from ..store.task import Task
from ..times import format_time, instant, time_zone
from ..vocabulary import FAILED, TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from .cron import Cron

NEVER = float("inf")
CLOCK_ERROR = 60.0  # seconds that a stored time may be ahead of the clock before it is taken for a mistake


class Slot:
    """A time at which a task is due, or was. at: Unix seconds; attempt: 1, or more for a retry; too_late: by
    `catchUpSeconds`; after: the id of the run that it is to follow, or empty."""

    def __init__(self, at: float, attempt: int = 1, too_late: bool = False, after: str = "") -> None:
        self.at, self.attempt, self.too_late, self.after = at, attempt, too_late, after


def check_expression(text: str) -> None:
    """Check that an expression can be read and ever comes. Raises BadInput, with the part that is wrong."""
    from .cron import Cron, CronError

    try:
        expression = Cron(text)
    except CronError as error:
        raise BadInput("expression: " + str(error).replace("expression: ", "", 1), "expression")

    if expression.never_comes():
        raise BadInput(f"expression: {text!r} never comes: no such day exists", "expression")


def counted_from(task: Task, last_start: float, now: float) -> float:
    """The time from which slots of the task's schedule count, Unix seconds; 0 for a task without any time."""
    times = {task["lastRunAt"], task["createdAt"], task["scheduledSince"]}
    return min(max(last_start, *map(instant, times)), now)


def times_ahead(task: Task, now: float) -> list[str]:
    """The fields whose time is so far ahead that the clock must have been wrong once: they would keep the task from
    running until then."""
    return [field for field in ("lastRunAt", "createdAt", "scheduledSince")
            if instant(task[field]) > now + CLOCK_ERROR]


def slot(task: Task, default_zone: str, last_start: float, now: float) -> Slot | None:
    """The slot for which the task must run now, or None. last_start: from its gate, Unix seconds; 0 if not known."""
    if not task["enabled"]:
        return None

    at = _slot_at(task, default_zone, last_start, now)

    if at is not None and at <= now:
        limit = task["catchUpSeconds"]
        return Slot(at, 1, limit is not None and now - at > limit)

    retry = retry_at(task, last_start)

    if retry is not None and retry <= now:
        return Slot(retry, (task["lastRunAttempt"] or 1) + 1)

    return None


def next_at(task: Task, default_zone: str, now: float) -> float | None:
    """When the task is due next, Unix seconds: in the past if it is due already, None without schedule and retry."""
    if not task["enabled"]:
        return None

    times = (_slot_at(task, default_zone, 0.0, now), retry_at(task, 0.0))
    return min((at for at in times if at is not None), default=None)


def next_while(task: Task, default_zone: str, now: float) -> tuple[float, float]:
    """(since, due), Unix seconds: from `since` until `due`, `next_at` is `due`, whatever the time; NEVER stands for
    none. Both are 0 where it is due already, or where that depends on the time. Raises BadInput as `next_at` does."""
    since, due = counted_from(task, 0.0, NEVER), next_at(task, default_zone, now)

    if due is None and not (task["enabled"] and task["expression"]):
        return 0.0, NEVER

    return (since, due) if 0 < since <= now and due is not None and due > now else (0.0, 0.0)


def next_text(task: Task, default_zone: str, now: float) -> str | None:
    """`next_at` as state.json has it; also None if the schedule or the zone cannot be read."""
    try:
        at = next_at(task, default_zone, now)
    except BadInput:
        return None

    return None if at is None else format_time(at)


def starts(task: Task, default_zone: str, now: float, gap: float = 0.0) -> Iterator[float]:
    """All times from now on at which the task is due, Unix seconds, at least `gap` seconds apart; a disabled task is
    treated as enabled. Raises BadInput if the schedule or the zone cannot be read."""
    at = next_at(Task(task.name, {**task, "enabled": True}), default_zone, now)
    read = _read(task, default_zone) if task["expression"] else None

    while at is not None:
        at = max(at, now)
        yield at

        if read:
            at = _nearest(*read, at + gap, True)
        else:
            at = at + max(task["intervalSeconds"], gap) if task["intervalSeconds"] else None


def too_fine_for_ticks(task: Task, default_zone: str, rhythm: float, now: float) -> str:
    """Why a task's schedule does not work well with a tick every `rhythm` seconds, or empty: it is finer, its interval
    is as long, so that calls that are a little early run nothing, or its `catchUpSeconds` are shorter. Raises BadInput
    if the schedule or the zone cannot be read."""
    margin = min(60.0, rhythm / 4)  # calls are not as regular as clocks
    least = round(rhythm - margin)
    step = _shortest_gap(task, default_zone, now)

    if step and task["catchUpSeconds"] is not None and task["catchUpSeconds"] < least:
        return (f"skips slots that are {task['catchUpSeconds']} s late, and ticks come every {rhythm:.0f} s: some of "
                "its slots, or all, never run; set a longer catchUpSeconds than that")

    if step and step < rhythm - 1.5 * margin:
        return f"is scheduled every {step:.0f} s, and ticks come every {rhythm:.0f} s: it runs at most once a tick"

    if not task["expression"] and step and step < rhythm + margin / 2 and step > least + margin / 2:
        return (f"has an interval of {step:.0f} s, and ticks come every {rhythm:.0f} s: those that come a little early "
                f"do not run it; set an interval of {least} s")

    return ""


def _shortest_gap(task: Task, default_zone: str, now: float) -> float:
    """The shortest time between two slots of the schedule, seconds; 0 without a schedule."""
    if not task["expression"]:
        return float(task["intervalSeconds"] or 0)

    expression, zone = _read(task, default_zone)
    minutes = [60 * hour + minute for hour in expression.hours for minute in expression.minutes]

    if len(minutes) > 1:
        return 60.0 * min(later - earlier for earlier, later in zip(minutes, minutes[1:]))

    slots: list[float] = []

    while len(slots) < 8 and (found := _nearest(expression, zone, slots[-1] if slots else now, True)) is not None:
        slots.append(found)

    return min((later - earlier for earlier, later in zip(slots, slots[1:])), default=0.0)


def _slot_at(task: Task, default_zone: str, last_start: float, now: float) -> float | None:
    """The last slot of the schedule if the task has not run for it, else the next one; Unix seconds."""
    if task["expression"]:  # wins over an interval
        read = _read(task, default_zone)
        at = _nearest(*read, counted_from(task, last_start, now) or now, True)
        return at if at is None or at > now else _nearest(*read, now, False)

    if task["intervalSeconds"]:
        # A task of this name that was removed may have left its last start.
        last_start = last_start if last_start >= instant(task["createdAt"]) else 0.0
        started = min(max(last_start, instant(task["lastRunAt"])), now)
        return max(started, min(instant(task["scheduledSince"]), now)) + task["intervalSeconds"] if started else now

    return None


def retry_at(task: Task, last_start: float) -> float | None:
    """When the task is due for a retry, Unix seconds, or None. `interrupted` is not retried: nobody knows how far the
    run got."""
    if task["lastRunStatus"] not in (FAILED, TIMEOUT) or (task["lastRunAttempt"] or 1) > task["retries"]:
        return None

    begun = instant(task["lastRunAt"])

    if last_start > begun + 0.01:
        return None

    return begun + (task["lastRunDuration"] or 0.0) + float(task["retryDelaySeconds"])


def _read(task: Task, default_zone: str) -> tuple[Cron, tzinfo]:
    """The task's expression and its zone. Raises BadInput that names the task."""
    from .cron import CronError, parsed

    try:
        return parsed(task["expression"]), time_zone(task["timezone"] or default_zone)
    except CronError as error:
        raise BadInput(f"task {task.name}: expression: {error}", "expression")
    except BadInput as error:
        where = f"task {task.name}" if task["timezone"] else "config.json"
        raise type(error)(f"{where}: {error}", "timezone")


def _nearest(expression: Cron, place: tzinfo, now: float, later: bool) -> float | None:
    """Unix seconds of the next or the previous time of the expression."""
    from datetime import datetime, timezone

    moment = datetime.fromtimestamp(now, timezone.utc)
    found = expression.next(moment, place) if later else expression.previous(moment, place)
    return None if found is None else found.timestamp()
