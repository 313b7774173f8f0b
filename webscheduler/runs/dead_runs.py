# SPDX-License-Identifier: LGPL-3.0-or-later
"""Records runs whose supervisor is gone, and ends the commands that they left, at their time limit.

The rule: whoever finds a dead run, under the gate, does the steps of its record that are left. The outcome is the one
in the claim, else `interrupted` with the end of the live output. History gets a line unless it has a whole one of that
run already.
"""

from __future__ import annotations

import os
import signal
import time

from ..store import history, history_reading, locks, processes
from ..vocabulary import CANCELLED, FOUND_DEAD, INTERRUPTED, SUPERVISOR_GONE, TIME_LIMIT
from . import recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Facts
    from ..store.locks import Claim

GRACE = 5.0  # seconds between TERM and KILL
START_TAKES = 2.0  # seconds that a supervisor may take from its fork to the exec of its command


def record_dead_run(home: str, claim: Claim, now: float, reason: str = FOUND_DEAD) -> None:
    """Record a run whose supervisor is gone; the caller holds the task's gate. reason: unless it was cancelled."""
    facts = claim.facts()
    # Looked for always: a claim that was copied during its run, and is restored after it, has no outcome.
    written = history_reading.find_by_scanning(home, claim.name, claim.run)
    entry = written or facts.get("outcome")

    if not isinstance(entry, dict) or entry.get("run") != claim.run:
        ended = recorder.outcome(INTERRUPTED, CANCELLED if facts.get("cancelled") else reason, duration=None,
                                 output=_tail(recorder.live_file(home, claim.run)))
        entry = recorder.record(home, claim, recorder.entry_of(claim, facts, ended, now))
        recorder.note_survival(home, facts, entry, now)
    elif written is None:
        recorder.append_history(home, claim, entry, entry)

    recorder.update_state(home, claim, entry, facts=facts)


def record_dead_runs(home: str, name: str, now: float) -> list[Facts]:
    """Record every dead run of the task, and end every orphan past its time limit; the caller holds the gate.

    Returns the facts of the runs that live. An orphan is a run whose supervisor is gone while its command lives: its
    claim is locked, and only a holder of the gate can end it.
    """
    alive: list[Facts] = []

    for claim, unlocked in locks.claims(home, name):
        try:
            facts = claim.facts()
            supervised = "supervisor" not in facts or locks.alive(facts["supervisor"])
            dead, reason = unlocked, FOUND_DEAD

            # A claim is unlocked, too, if the command closed what it inherited, as ssh and sudo do.
            if not locks.is_here(facts.get("place", locks.place())):
                dead = unlocked and processes.command_of(claim.run) is None
            elif unlocked or not supervised:
                command = _command_of(claim, facts)

                if not unlocked or locks.alive(command):
                    reason = TIME_LIMIT if _end_orphan(command, facts.get("deadline")) else SUPERVISOR_GONE
                    # If the command is gone, too, a process that it left behind holds the lock: the run is over.
                    dead = not locks.alive(command) and not _just_starting(claim, command)

            if dead:
                record_dead_run(home, claim, now, reason)
            else:
                alive.append({**facts, "run": claim.run})
        finally:
            claim.close()

    return alive


def _command_of(claim: Claim, facts: Facts) -> list[int] | None:
    """The command of a run without a supervisor: by the claim, else by the run's id in its environment."""
    command = facts.get("command") or processes.command_of(claim.run)

    if command and "command" not in facts:
        claim.try_append({"command": command})

    return command


def _just_starting(claim: Claim, command: list[int] | None) -> bool:
    """Whether the supervisor may have been killed between fork and exec, when only the lock shows that there is a
    command; that takes milliseconds."""
    return command is None and time.time() - os.fstat(claim.descriptor).st_mtime < START_TAKES


def _end_orphan(command: list[int] | None, deadline: float | None) -> bool:
    """Send TERM to the whole group of an orphan past its time limit, and KILL after the grace period. Returns whether
    it was past its time limit."""
    late = time.monotonic() - deadline if isinstance(deadline, (int, float)) else -1.0

    if late < 0 or not isinstance(command, list) or not locks.alive(command):
        return False

    for number in (signal.SIGTERM, signal.SIGKILL):
        # Processes of the group that outlive their leader ignore TERM; while they live, its number is not reused.
        if number == signal.SIGTERM or late > GRACE or not locks.alive(command):
            try:
                os.killpg(command[0], number)
            except (ProcessLookupError, PermissionError):
                pass

        for _ in range(15):  # 0.3 seconds: the gate is held meanwhile
            if locks.alive(command):
                time.sleep(0.02)

    return True


def _tail(file: str) -> str:
    try:
        with open(file, "rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - history.LIMIT // 2))
            return history.clip(b"", source.read(), max(0, size - history.LIMIT // 2))
    except OSError:
        return ""
