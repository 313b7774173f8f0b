# SPDX-License-Identifier: LGPL-3.0-or-later
"""Ends all of a run: at its time limit, when it is cancelled, or when its supervisor is told to end.

The rules: whatever is found of the run gets TERM once, and after the same grace KILL, each process by pid and start
time. Nothing is waited for here. When KILL is due stands in the claim, for whoever finds the run if the supervisor is
killed. After a command that ended by itself, its daemons are left alone.
"""

from __future__ import annotations

import os
import signal
import time

from ..store import locks, processes
from ..vocabulary import TIME_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

    from ..shapes import Callable, Facts

GRACE = 5.0  # seconds between TERM and KILL
GRACE_WHEN_TOLD = 2.0  # the same if we were told to end: some servers follow their own TERM with KILL after 3 seconds
LAST = 1.0  # seconds after KILL in which a process is still waited for; one of another user, or stuck, blocks no task
PAUSE = 0.05  # seconds between two looks at what is left
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER (prctl(2))


def adopt() -> int:
    """Let the orphans of this process's children come to it for good; it must reap them. Returns its pid; 0 where that
    cannot be. Only for a process that exists for one run."""
    try:
        import ctypes

        return 0 if ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0) else os.getpid()
    except Exception:  # no ctypes in this Python, no libffi, no memory that is writable and executable
        return 0


class Ending:
    """The end of one run. kill_at: monotonic seconds when KILL is due, or None before `begin`, by whoever called it.
    child: the command, if it is a child of this process."""

    def __init__(self, claim: locks.Claim, facts: Facts, command: list[int], adopts: int = 0,
                 child: Popen[bytes] | None = None) -> None:
        self.claim, self.facts, self.command, self.adopts, self.child = claim, facts, command, adopts, child
        self.kill_at: float | None = facts.get("killAt")

    def begin(self, reason: str) -> None:
        """Send TERM to all of the run. reason: why; a key of vocabulary.REASONS."""
        self.kill_at = time.monotonic() + (GRACE if reason == TIME_LIMIT else GRACE_WHEN_TOLD)
        self._note({"killAt": self.kill_at, "ending": reason})
        self._signal(signal.SIGTERM)

    def is_over(self) -> bool:
        """Whether nothing is left of the run that can be ended. Sends KILL if that is due."""
        now = time.monotonic()

        if not self._left():
            return True

        if self.kill_at is None or now < self.kill_at:
            return False

        if "killedAt" not in self.facts:
            self._note({"killedAt": now})

        self._signal(signal.SIGKILL)
        return now >= self.facts["killedAt"] + LAST

    def _signal(self, number: int) -> None:
        found, group = self._left(), self.command[0]

        # The group at once: no shell sees its child end and starts the next, and none of it is forked out of sight.
        if all(_group(pid) != group for pid in self._others()) and any(_group(pid) == group for pid, _ in found):
            _kill(os.killpg, group, number)
            found = [who for who in found if _group(who[0]) != group]

        for who in sorted(found, key=lambda who: who[1]):
            if locks.alive(who) or (who == self.command and self.child is not None):
                _kill(os.kill, who[0], number)

    def _left(self) -> list[list[int]]:
        found = processes.of_run(self.claim.run, self.command, self.adopts, self._others())
        # Where /proc shows nothing, a child that was not reaped still keeps its number.
        return found or [self.command] * (self.child is not None and self.child.returncode is None)

    def _others(self) -> list[int]:
        """The server or the program that started the run, its supervisor, and ourselves, who may stand in its midst."""
        known = [self.facts.get("starter"), self.facts.get("supervisor")]
        return [os.getpid(), *(who[0] for who in known if who and locks.alive(who))]

    def _note(self, facts: Facts) -> None:
        self.facts.update(facts)
        self.claim.try_append(facts)  # the disk may be full


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _kill(call: Callable[[int, int], None], who: int, number: int) -> None:
    try:
        call(who, number)
    except (ProcessLookupError, PermissionError):
        pass
