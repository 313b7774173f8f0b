# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs a task by hand, in the process of whoever asked for it."""

from __future__ import annotations

import signal

from ..vocabulary import SYNC
from . import detach
from .admission import Cause, decide
from .supervisor import supervise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from ..shapes import Result


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
