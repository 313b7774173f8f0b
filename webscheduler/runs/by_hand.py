# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs a task by hand: in the process of whoever asked for it, or as its URL would."""

from __future__ import annotations

import signal

from ..vocabulary import SYNC
from . import detach
from .admission import Cause, decide
from .strategies import start_run
from .supervisor import supervise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Callable, Result
    from .strategies import Started


def run_by_hand(home: str, name: str, trigger: str, clock: Callable[[], float], strategy: str = SYNC,
                own: bool = False) -> Result | None:
    """Run a task now, in this process (one thread), whatever its schedule and limits say. None if it runs
    already. strategy: with `fork`, @due does not wait for what it started; own: as in `supervise`. Raises NoSuchTask,
    Unusable, Busy."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, detach.TO_END)  # from the claim on, a signal ends the run, not us

    try:
        claim = decide(home, name, Cause(trigger, by_hand=True), clock()).claim

        if claim is None:
            return None

        claim.try_append({"strategy": strategy})
        return supervise(home, claim, clock, own=own)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def start(home: str, name: str, trigger: str, in_process: bool, clock: Callable[[], float],
          server: str) -> tuple[str, Started] | None:
    """Start the task, so that the request can be answered at once if this host allows it: (id of the run, how it was
    started); None if it is running already. in_process, server: see `strategies.start_run`. Raises NoSuchTask,
    Unusable, Busy."""
    decided = decide(home, name, Cause(trigger, by_hand=True), clock())

    if decided.claim is None or decided.known is None or decided.view is None:
        return None

    run = decided.claim.run
    decided.known.strategy = "auto"  # whatever the URL does
    return run, start_run(home, decided.claim, decided.known, decided.view, in_process, clock, server)
