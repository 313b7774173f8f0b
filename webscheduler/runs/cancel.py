# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cancels a run in progress.

The rule: signals go only to processes of the run, by pid and start time, never to the process that accepted the
trigger, which may be a worker of a web server. The claim says `cancelled` before any signal is sent, so that whoever
records the run knows why it ended.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from ..errors import BadInput, Busy
from ..store import locks, processes
from ..store.files import close
from . import dead_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Facts

PAUSE = 0.1  # seconds
ELSEWHERE = "The run is in another container or on another host: cancel it there."


def end(home: str, name: str, run: str, patience: float) -> bool:
    """Tell the run to end and wait, at most `patience` seconds, until it is recorded. Returns whether it is. Raises
    BadInput (ELSEWHERE) if its pids mean nothing here."""
    paths = [locks.claim_path(home, name, run, taken) for taken in (False, True)]
    told: set[int] = set()
    deadline = time.monotonic() + patience

    if any(facts.get("run") == run and not locks.is_here(facts.get("place", locks.place()))
           for facts in processes.live_runs(home, name)):
        raise BadInput(ELSEWHERE)

    try:
        # With the deadline, the run is ended by whoever finds it without a supervisor.
        _add_facts(paths[0], {"cancelled": True, "deadline": time.monotonic()})
    except FileNotFoundError:
        if not os.path.exists(paths[1]):
            return True

    while time.monotonic() < deadline:
        facts = next((facts for facts in processes.live_runs(home, name) if facts.get("run") == run), None)

        if not any(map(os.path.exists, paths)):
            return True

        supervisor = facts.get("supervisor") if facts else None

        if supervisor and locks.alive(supervisor):
            # One that records the outcome already has nothing left to end, and may have more to do after it.
            if supervisor[0] not in told and not (facts and "outcome" in facts):
                with suppress(ProcessLookupError):
                    os.kill(supervisor[0], signal.SIGTERM)

                told.add(supervisor[0])
        elif supervisor or not facts:
            # Nobody is left to record the run: do it, and end all of it.
            with suppress(Busy):
                dead_runs.record_dead_runs(home, name, time.time())

        time.sleep(PAUSE)

    return not any(map(os.path.exists, paths))


def _add_facts(path: str, facts: Facts) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    try:
        os.write(descriptor, locks.line(facts))
    finally:
        close(descriptor)
