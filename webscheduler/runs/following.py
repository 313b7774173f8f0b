# SPDX-License-Identifier: LGPL-3.0-or-later
"""Starts the runs that follow others: by the supervisor of the run before, else by the next tick.

The rules: such a run goes through the same admission as all, with the trigger `after`. Its mark counts as used as soon
as a claim names the run before, or a line of history does; so it is used at most once, whoever is killed. If it is
skipped, because its task is disabled or running, that is recorded and not tried again. It holds one of the
`maxConcurrentTasks` places; without a free one it waits for a tick.
"""

from __future__ import annotations

import json
from functools import partial

from ..errors import WebschedulerError
from ..schedule import slots
from ..schedule.slots import Slot
from ..store import chains, history, history_reading, lookup, old_secret, processes, state
from ..vocabulary import DETACHED, DISABLED, FORK, LOCKED
from . import dead_runs, health, notifications, process
from .admission import Cause
from .children import run_one, start_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Result
    from ..store.locks import Claim
    from ..store.settings import Settings
    from ..store.task import Task
    from .children import Supervise
    from .supervisor import Signals

# What a run that follows may need: imported now, since the package may be replaced during the run before.
LOADED = (dead_runs, lookup, notifications, old_secret, process)


def waiting(home: str, tasks: state.Tasks, clean: bool = False) -> list[tuple[str, str]]:
    """(task, id of the run that it is to follow) for each mark that is not used. clean: a mark that history knows as
    used, in an earlier copy of state.json that was put back, is noted as that."""
    found = []

    alive, ended = processes.claimed_runs(home)
    claimed = {(facts.get("name"), facts.get("after")) for facts in alive + ended}

    for name, row in tasks.items():
        for run in chains.marks(row):
            if (name, run) in claimed:
                continue  # it runs

            if not _recorded(home, name, run):
                found.append((name, run))
            elif clean:
                _use(home, name, run)

    return found


def starter(settings: Settings, task: Task, claim: Claim, clock: Callable[[], float], supervise: Supervise,
            signals: Signals) -> Callable[[Result], None]:
    """What starts, once the run of that claim is recorded, the runs that follow it, each in a process of its own. Where
    the run takes place in a request, or there is no process or no place, the next tick does it."""
    home, facts = settings.home, claim.facts()

    if task["onFailure"] and facts.get("attempt", 1) == 1 and task["lastRunId"] and slots.retry_at(task, 0.0):
        facts["overtakes"] = task["lastRunId"]
        claim.try_append({"overtakes": task["lastRunId"]})

    runs = {claim.run, facts.get("overtakes")}
    free = facts.get("strategy") in DETACHED or facts.get("trigger") == "cli" or facts.get("free")
    facts["strategy"] = FORK

    def start(_: Result) -> None:
        try:
            marked = [(run, name) for name, row in state.read(home).items() for run in chains.marks(row)
                      if free and run in runs]

            for run, name in marked[: max(0, settings["maxConcurrentTasks"] - len(health.places(home)))]:
                start_child(partial(run_after, run, home, name, clock, supervise, facts), signals)
        except (WebschedulerError, OSError):
            pass

    return start


def run_after(run: str, home: str, name: str, clock: Callable[[], float], *how: Any) -> int:
    """Run the task after that run, in this process, which exists for it alone; returns an exit status. how: as of
    `children.run_one`."""
    def still_due(task: Task, _: float) -> Slot | None:
        # The claims first: state.json has a mark as used before the claim of its run is gone.
        claimed = any(facts.get("after") == run for found in processes.claimed_runs(home, name) for facts in found)
        return None if claimed or run not in chains.marks(state.read_row(home, name)) else Slot(clock())

    status, why = run_one(home, name, Cause("after", still_due=still_due, after=run), clock, *how)

    if why in (LOCKED, DISABLED):
        _use(home, name, run)

    return status


def _use(home: str, name: str, run: str) -> None:
    try:
        state.update_row(home, name, lambda row: chains.use(row, run))
    except WebschedulerError:
        pass  # history knows it


def _recorded(home: str, name: str, after: str) -> bool:
    """Whether history says that the task followed that run, or was skipped."""
    needle = json.dumps(after).encode()
    return any((history.parse(text) or {}).get("after") == after
               for _, text in history_reading.lines(home, name, about=needle) if needle in text)
