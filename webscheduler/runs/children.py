# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs that are started from another run, by a tick or by what they follow: each in a process of its own.

The rule: such a process has a session of its own and none of our descriptors, decides under the task's gate whether it
runs, and supervises that run.
"""

from __future__ import annotations

import os
import signal

from ..vocabulary import SUCCESS, SYNC
from . import detach
from .admission import Cause, decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Callable, Facts, Result
    from ..store.locks import Claim
    from .supervisor import Signals

    Supervise = Callable[[str, Claim, Callable[[], float]], Result]

SKIPPED = 3  # exit status of the process; 0: success, 1: not successful


def run_one(home: str, name: str, cause: Cause, clock: Callable[[], float], supervise: Supervise, facts: Facts,
            decided: Callable[[], object] = lambda: None) -> tuple[int, str | None]:
    """Run a task in this process, which exists for it alone. Returns (an exit status, why it was skipped). facts: of
    the claim of who starts it. decided: called once the task has a claim, or never gets one."""
    decision = decide(home, name, cause, clock())
    decided()

    if decision.claim is None:
        return SKIPPED, decision.reason

    decision.claim.try_append({"strategy": facts.get("strategy", SYNC), "server": facts.get("server"),
                               "free": facts.get("trigger") == "cli" or facts.get("free", False)})
    return int(supervise(home, decision.claim, clock)["status"] != SUCCESS), None


def start_child(job: Callable[[], int], signals: Signals, *keep: int) -> int:
    """Run `job` in a child with a session of its own and no descriptor but `keep`; returns its pid. Its exit status is
    what the job returns. Signals that tell it to end are blocked until it takes them. Raises OSError if no process can
    be made."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, detach.TO_END)

    try:
        child = os.fork()

        if child == 0:
            status = 1

            try:
                os.setsid()
                signals.__exit__()
                detach.close_descriptors(set(keep))
                status = job()
            finally:
                os._exit(status)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return child
