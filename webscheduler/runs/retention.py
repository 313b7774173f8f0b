# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cleans up, at most once an hour, in the process that has just recorded a run.

The rules: history is kept for the days that the task or the settings say; failures longer (never shorter) if the
settings say so. Dead runs of tasks that nobody triggers any more are recorded. Files that a kill left behind are
removed after a day.
"""

from __future__ import annotations

import os

from ..errors import WebschedulerError
from ..store import history, locks, state
from ..store.files import close, file_name
from ..vocabulary import FAILURES
from . import dead_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from ..shapes import Entry
    from ..store.settings import Settings

EVERY = 3600  # seconds
STALE = 86400  # seconds since the last change of a file that a kill left behind


def clean_hourly(settings: Settings, now: float) -> bool:
    """Clean up if nobody has within the hour; returns whether it was done. Never raises."""
    mark = os.path.join(settings.home, "locks", ".housekeeping")

    try:
        if os.path.exists(mark) and 0 <= now - os.stat(mark).st_mtime < EVERY:
            return False

        close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(mark, (now, now))
        clean(settings, now)
    except (WebschedulerError, OSError):
        return False

    return True


def clean(settings: Settings, now: float) -> int:
    """Clean up now; returns how many lines of history were removed."""
    home = settings.home
    tasks = state.read(home)
    dropped = 0

    for name, row in tasks.items():
        days = row.get("logRetentionDays") if isinstance(row, dict) else None
        days = settings["logRetentionDays"] if not isinstance(days, int) else days
        failures = settings["failureRetentionDays"]
        longer = days if failures is None else max(days, failures) if days and failures else 0

        try:
            dropped += history.clean(home, name, retention_filter(days, longer, now))
        except OSError:
            pass  # `doctor` reports it; go on with the others

    record_all_dead(home, tasks, now)
    running = {os.path.basename(entry).rpartition("@")[2] for entry in os.listdir(os.path.join(home, "runs"))}

    for directory in ("", "output", "logs"):
        for entry in os.listdir(os.path.join(home, directory)):
            left_over = entry.endswith(".tmp") or (directory == "output" and entry.rpartition(".")[0] not in running)
            path = os.path.join(home, directory, entry)

            try:
                if left_over and now - os.stat(path).st_mtime > STALE:
                    os.unlink(path)
            except OSError:
                pass

    return dropped


def retention_filter(days: int, failure_days: int, now: float) -> Callable[[Entry], bool]:
    """A filter of the entries of history to keep for so many days (0: for ever); an entry without a time is kept."""

    def keep(entry: Entry) -> bool:
        limit, ended = failure_days if entry.get("status") in FAILURES else days, history.ended(entry)
        return not limit or not ended or now - ended <= limit * 86400

    return keep


def record_all_dead(home: str, tasks: state.Tasks, now: float) -> bool:
    """Record every dead run, and end every orphan past its time limit: nobody may ever trigger its task again. Returns
    whether there are other claims now than before."""
    before = set(locks.runs(home))
    claimed = {entry.rpartition("@")[0] for entry in before}

    for name in tasks:
        if file_name(name) in claimed:
            try:
                with locks.Gate(home, name):
                    dead_runs.record_dead_runs(home, name, now)
            except (WebschedulerError, OSError):
                pass

    return set(locks.runs(home)) != before
