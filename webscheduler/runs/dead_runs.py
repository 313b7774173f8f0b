# SPDX-License-Identifier: LGPL-3.0-or-later
"""Records runs whose supervisor is gone, and ends the commands that they left, at their time limit.

The rule: whoever finds a dead run, under the gate, does the steps of its record that are left. The outcome is the one
in the claim, else `interrupted` with the end of the live output. History gets a line unless it has a whole one of that
run already.
"""

from __future__ import annotations

import os
import time

from ..store import history, history_reading, locks, processes
from ..vocabulary import CANCELLED, FOUND_DEAD, INTERRUPTED, SUPERVISOR_GONE, TIME_LIMIT
from . import recorder
from .ending import Ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Facts
    from ..store.locks import Claim


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
            dead, reason = _is_dead(claim, facts, unlocked)

            if dead:
                record_dead_run(home, claim, now, reason)
            else:
                alive.append({**facts, "run": claim.run})
        finally:
            claim.close()

    return alive


def _is_dead(claim: Claim, facts: Facts, unlocked: bool) -> tuple[bool, str]:
    """(whether the run is dead, why). Signals its processes if its supervisor is gone and they are to end."""
    # A claim is unlocked, too, if the command closed what it inherited, as ssh and sudo do.
    if not locks.is_here(facts.get("place", locks.place())):
        return unlocked and processes.command_of(claim.run) is None, FOUND_DEAD

    if not unlocked and ("supervisor" not in facts or locks.alive(facts["supervisor"])):
        return False, ""

    command = facts.get("command") or processes.command_of(claim.run)

    if command is None:  # locked: between fork and exec, which may take its time, or where we may not look
        return unlocked, FOUND_DEAD

    if "command" not in facts:
        claim.try_append({"command": command})

    ending, living, cancelled = Ending(claim, facts, command), locks.alive(command), facts.get("cancelled")
    deadline = facts.get("deadline")

    # A command that ended by itself leaves its daemons alone, unless somebody cancels the run.
    if ending.kill_at is None and (living or cancelled) and isinstance(deadline, (int, float)) and (
            time.monotonic() >= deadline):
        ending.begin(CANCELLED if cancelled else TIME_LIMIT)

    if ending.kill_at is not None:
        return ending.is_over(), facts.get("ending", TIME_LIMIT)

    # If the command is gone, too, a process that it left behind may hold the lock: the run is over.
    return not living, FOUND_DEAD if unlocked and not living else SUPERVISOR_GONE


def _tail(file: str) -> str:
    try:
        with open(file, "rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - history.LIMIT // 2))
            return history.clip(b"", source.read(), max(0, size - history.LIMIT // 2))
    except OSError:
        return ""
