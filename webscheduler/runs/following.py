# SPDX-License-Identifier: LGPL-3.0-or-later
"""Starts the runs that follow others: by the supervisor of the run before, else by the next tick.

The rules: a run that follows another goes through the same admission as all, with the trigger `after`. Its mark counts
as used as soon as there is a claim that names the run before, or a line of history; so it is used at most once, whoever
is killed. If it is skipped, because its task is disabled or running, that is recorded and not tried again.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import islice

from ..errors import WebschedulerError
from ..schedule.slots import Slot
from ..store import chains, history_reading, locks, state
from ..store.files import close
from ..vocabulary import DETACHED, DISABLED, FORK, LOCKED
from .admission import Cause
from .children import run_one, start_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..shapes import Facts, Result
    from ..store.task import Task
    from .children import Supervise
    from .supervisor import Signals

SEARCHED = 200  # lines of history


def waiting(home: str, tasks: state.Tasks) -> list[tuple[str, str]]:
    """(task, id of the run that it is to follow) for each mark that is not used."""
    return [(name, run) for name, row in tasks.items() for run in chains.marks(row) if not _recorded(home, name, run)]


def start(home: str, task: Task, result: Result, clock: Callable[[], float], supervise: Supervise, facts: Facts,
          signals: Signals) -> None:
    """Start what follows a run of the task, which ended with that result, each in a process of its own. Where the run
    took place in a request, or there is no process, the next tick does it. facts: of its claim."""
    if facts.get("strategy") not in DETACHED and facts.get("trigger") != "cli" and not facts.get("free"):
        return

    run = str(result["run"])

    try:
        rows = state.read(home)
    except WebschedulerError:
        return

    for name in chains.followers(task, result):
        if run in chains.marks(rows.get(name)):
            try:
                start_child(partial(run_after, run, home, name, clock, supervise, {**facts, "strategy": FORK}), signals)
            except OSError:
                return


def run_after(run: str, home: str, name: str, clock: Callable[[], float], *how: Any) -> int:
    """Run the task after that run, in this process, which exists for it alone; returns an exit status. how: as of
    `due.run_one`."""
    def still_due(task: Task, _: float) -> Slot | None:
        # The claims first: state.json has a mark as used before the claim of its run is gone.
        free = not _claimed(home, name, run) and run in chains.marks(state.read_row(home, name))
        return Slot(clock(), after=run) if free else None

    status, why = run_one(home, name, Cause("after", still_due=still_due), clock, *how)

    if why in (LOCKED, DISABLED):
        state.update_row(home, name, lambda row: chains.use(row, run))

    return status


def _claimed(home: str, name: str, after: str) -> bool:
    """Whether a run of the task that follows that run has a claim; the caller holds the gate."""
    for taken in (False, True):
        for each in locks.runs(home, name, taken):
            try:
                descriptor = os.open(locks.claim_path(home, name, each, taken), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue

            try:
                if locks.facts_of(descriptor).get("after") == after:
                    return True
            finally:
                close(descriptor)

    return False


def _recorded(home: str, name: str, after: str) -> bool:
    """Whether history has a run of the task that follows that run, which an earlier copy of state.json does not
    know."""
    try:
        return any(entry.get("after") == after for entry in islice(history_reading.entries(home, name), SEARCHED))
    except WebschedulerError:
        return False
