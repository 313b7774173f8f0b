# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cleans up, at most once an hour, in the process that has just recorded a run.

The rules:
- History is kept for the days that the task or the settings say; failures longer (never shorter) if the settings say
  so. Nothing is removed while the clock cannot be believed, and never more than the lines of one day more than before
  (`store.clock`).
- The time in a line cannot be believed either, if the clock was wrong when it was written. So a line counts as no older
  than those before it, and one that is later than a good clock, or that was, as no younger than those after it.
- Dead runs of tasks that nobody triggers any more are recorded. Files that a kill left behind are removed after a day.
"""

from __future__ import annotations

import os

from ..errors import WebschedulerError
from ..store import clock, history, history_cleaning, locks, state
from ..store.files import file_name
from ..vocabulary import FAILURES
from . import dead_runs, task_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from ..shapes import Callable, ClockNotes, Entry
    from ..store.settings import Settings

EVERY = 3600  # seconds
STALE = 86400  # seconds since the last change of a file that a kill left behind
ALWAYS = float("inf")


def clean_hourly(settings: Settings, now: float, boot: clock.Boot | None = None) -> bool:
    """Clean up if nobody has within the hour; returns whether it was done. boot: None for this machine's. Never
    raises."""
    home = settings.home

    try:
        cleaned = clock.last_clean_up(home)

        if cleaned is not None and 0 <= now - cleaned < EVERY:
            return False

        notes = clock.observe(clock.read(home), cleaned, now, boot or clock.boot())
        clock.write(home, notes, now)
        clean(settings, now, notes)
    except (WebschedulerError, OSError):
        return False

    return True


def clean(settings: Settings, now: float, notes: ClockNotes | None = None) -> int:
    """Clean up now; returns how many lines of history were removed. notes: of the clock; None for one that is good."""
    home = settings.home
    tasks = state.read(home)
    record_all_dead(home, tasks, now)

    if notes and not clock.is_good(notes):
        return 0

    horizon, set_back = (notes["horizon"], notes["setBack"]) if notes else (now, [])
    dropped = 0

    for name, row in tasks.items():
        days = row.get("logRetentionDays") if isinstance(row, dict) else None
        days = settings["logRetentionDays"] if not isinstance(days, int) else days
        failures = settings["failureRetentionDays"]
        longer = days if failures is None else max(days, failures) if days and failures else 0
        judged = Judged(home, name, now, set_back)

        try:
            dropped += history_cleaning.clean(home, name, retention_filter(days, longer, horizon, judged.time_of))
        except OSError:
            pass  # `doctor` reports it; go on with the others
        finally:
            judged.close()

    running = {os.path.basename(entry).rpartition("@")[2] for entry in os.listdir(os.path.join(home, "runs"))}

    for directory in ("", "locks", "logs", "output"):
        for entry in os.listdir(os.path.join(home, directory)):
            path, ended = os.path.join(home, directory, entry), entry.rpartition(".")[0] not in running
            left_over = entry.endswith((".tmp", ".tmp.txt")) or (directory == "output" and ended)

            try:
                if left_over and horizon - os.stat(path).st_mtime > STALE:
                    os.unlink(path)
            except OSError:
                pass

    return dropped


def retention_filter(days: int, failure_days: int, horizon: float,
                     time_of: Callable[[Entry], float]) -> Callable[[Entry], bool]:
    """A filter of the entries of history to keep for so many days (0: for ever) before `horizon`; an entry without a
    time (0) is kept."""

    def keep(entry: Entry) -> bool:
        limit, moment = failure_days if entry.get("status") in FAILURES else days, time_of(entry)
        return not limit or not moment or horizon - moment <= limit * 86400

    return keep


class Judged:
    """When the lines of a history were written, as far as it is known; they are asked for in order, oldest first. now:
    by a good clock; set_back: see shapes.ClockNotes."""

    def __init__(self, home: str, name: str, now: float, set_back: list[list[float]]) -> None:
        self.path, self.now = history.path(home, name), now
        self.floor, self.asked = 0.0, 0
        self.ahead = [Ahead(self.path, 0.0, ALWAYS, now, ALWAYS),
                      *(Ahead(self.path, back - clock.TOLERANCE, back, good, highest)
                        for back, good, highest in set_back)]

    def time_of(self, entry: Entry) -> float:
        """Unix seconds; 0 if the entry does not say it."""
        self.asked += 1
        moment = told = history.ended(entry)

        for ahead in self.ahead:
            if ahead.good < moment <= ahead.highest and self.floor < ahead.back:
                moment = ahead.time_after(self.asked) or moment

        if not 0.0 < moment <= self.now:
            return moment

        moment = max(self.floor, moment)
        self.floor = moment if moment >= told else self.floor
        return moment

    def close(self) -> None:
        """Close the file."""
        for ahead in self.ahead:
            ahead.lines.close()


class Ahead:
    """A clock that was ahead, up to `highest`, until it was set back: to `back`, and at `good` it was good again. Lines
    with times between `good` and `highest` are from then if a line of the time from `back` to `good` comes later."""

    def __init__(self, path: str, least: float, back: float, good: float, highest: float) -> None:
        self.least, self.back, self.good, self.highest = least, back, good, highest
        self.lines = self._read(path)
        self.place, self.after = 0, 0.0  # the place of the next such line, and its time

    def _read(self, path: str) -> Generator[float, None, None]:
        """The times of all entries, oldest first."""
        with open(path, "rb") as file:
            for _, _, entry in history_cleaning.read(file):
                if entry is not None:
                    yield history.ended(entry)

    def time_after(self, place: int) -> float:
        """The time of the first such line after the entry at that place (from 1 on, never lower than before); 0 if
        there is none."""
        while self.place <= place or not self.least < self.after <= self.good:
            self.after = next(self.lines, ALWAYS)
            self.place += 1

            if self.after == ALWAYS:
                self.place = 1 << 62
                return 0.0

        return self.after


def record_all_dead(home: str, tasks: state.Tasks, now: float) -> bool:
    """Record every dead run, end every orphan past its time limit, and finish what renames and removals left: nobody
    may ever come to these tasks again. Returns whether there are other claims now than before."""
    task_files.finish_all(home)
    before = set(locks.runs(home))
    claimed = {entry.lstrip(locks.TAKEN).rpartition("@")[0] for entry in before}

    for name in tasks:
        if file_name(name) in claimed:
            try:
                dead_runs.record_dead_runs(home, name, now)
            except (WebschedulerError, OSError):
                pass

    return set(locks.runs(home)) != before
