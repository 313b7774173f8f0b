"""Ending a run in progress by hand.

The rule: what is told to end is a process of the run itself, named by pid and start time in its claim; who merely
accepted the trigger (a worker of a web server, perhaps) is never touched. The claim says `cancelled` before anybody is
told, so whoever records the run knows why it ended.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from ..errors import Busy
from ..store import locks
from ..store.task import file_name
from . import dead_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAUSE = 0.1


def end(home: str, name: str, run: str, patience: float) -> bool:
    """Tell the run to end and wait until it is recorded; whether that came about."""
    path = os.path.join(home, "runs", f"{file_name(name)}@{run}")
    told: set[int] = set()
    deadline = time.monotonic() + patience

    try:
        # The deadline lets whoever finds the run without a supervisor end it.
        _note(path, {"cancelled": True, "deadline": time.monotonic()})
    except FileNotFoundError:
        return True

    while time.monotonic() < deadline:
        facts = next((facts for facts in locks.live_runs(home, name) if facts.get("run") == run), None)

        if not os.path.exists(path):
            return True

        supervisor = facts.get("supervisor") if facts else None

        if supervisor and locks.alive(supervisor):
            # One that records the outcome already has nothing left to end, and may have other things to do after.
            if supervisor[0] not in told and not (facts and "outcome" in facts):
                with suppress(ProcessLookupError):
                    os.kill(supervisor[0], signal.SIGTERM)

                told.add(supervisor[0])
        elif supervisor or not facts:
            # Nobody is left to record the run: that is done under the gate, which also ends the command by its group.
            with suppress(Busy), locks.Gate(home, name):
                dead_runs.record_dead_runs(home, name, time.time())

        time.sleep(PAUSE)

    return not os.path.exists(path)


def _note(path: str, facts: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    try:
        os.write(descriptor, locks.line(facts))
    finally:
        os.close(descriptor)
