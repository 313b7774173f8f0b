"""Records runs whose supervisor is gone, and ends the commands that they left and whose time is up.

The rule: under the gate, what is left of a record is done: the outcome that the claim holds, else `interrupted` with
the tail of the live output, unless history has a whole line of that run already.
"""

from __future__ import annotations

import os
import signal
import time

from ..errors import Unusable
from ..store import history, locks
from ..vocabulary import INTERRUPTED
from . import recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.locks import Claim

GRACE = 5.0  # seconds from TERM to KILL
START_TAKES = 2.0


def record_dead_run(home: str, claim: Claim, now: float, reason: str = "found_dead") -> None:
    """Record a run whose supervisor is gone; the caller holds the task's gate."""
    facts = claim.facts()
    entry = facts.get("outcome")

    # The outcome stands in the claim before any line is written, so without one there is none to be looked for.
    if isinstance(entry, dict) and entry.get("run") == claim.run:
        told = history.find(home, claim.name, claim.run) is not None
    else:
        ended = recorder.outcome(INTERRUPTED, "cancelled" if facts.get("cancelled") else reason, duration=None,
                        output=_tail(recorder.live_file(home, claim.run)))
        entry, told = recorder.entry_of(claim, facts, ended, now), False

        try:
            claim.append({"outcome": entry})
        except OSError as error:
            raise Unusable(f"{claim.path} cannot be written: {error.strerror}")

        recorder.note_host_kill(home, facts, entry, now)

    if not told:
        recorder.append_history(home, claim, entry)

    recorder.update_state(home, claim, entry, facts=facts)


def record_dead_runs(home: str, name: str, now: float) -> list[dict[str, Any]]:
    """Record every dead run of the task and end every orphan whose time is up; the caller holds the gate.

    Returns the facts of the runs that live. An orphan is a run whose supervisor is gone while its command lives: its
    claim is locked, and nobody but the next holder of the gate is there to end it.
    """
    alive = []

    for claim, unlocked in locks.claims(home, name):
        try:
            facts = claim.facts()
            watched = "supervisor" not in facts or locks.alive(facts["supervisor"])
            dead, reason = unlocked, "found_dead"

            # An unlocked claim may belong to a command that closed what it inherited, as ssh and sudo do.
            if unlocked or not watched:
                command = _command_of(claim, facts)

                if not unlocked or locks.alive(command):
                    reason = "time_limit" if _end_orphan({**facts, "command": command}) else "supervisor_gone"
                    # With the command gone too, only a stray descendant holds the descriptor: the run is over.
                    dead = not locks.alive(command) and not _just_starting(claim, command)

            if dead:
                record_dead_run(home, claim, now, reason)
            else:
                alive.append({**facts, "run": claim.run})
        finally:
            claim.close()

    return alive


def _command_of(claim: Claim, facts: dict[str, Any]) -> list[int] | None:
    """The command of a run without a supervisor: as the claim names it, or else by the run's id in its environment."""
    command: list[int] | None = facts.get("command") or locks.process_of(claim.run)

    if command and "command" not in facts:
        claim.append({"command": command})

    return command


def _just_starting(claim: Claim, command: list[int] | None) -> bool:
    """Whether the supervisor may have been killed between fork and exec, when its command is known by nothing yet but
    the lock that it holds; that takes milliseconds."""
    return command is None and time.time() - os.fstat(claim.descriptor).st_mtime < START_TAKES


def _end_orphan(facts: dict[str, Any]) -> bool:
    """TERM when the time of an orphan is up, and KILL when its grace is, too; to its whole group. Whether its time was
    up."""
    command, deadline = facts.get("command"), facts.get("deadline")
    late = time.monotonic() - deadline if isinstance(deadline, (int, float)) else -1.0

    if late < 0 or not isinstance(command, list) or not locks.alive(command):
        return False

    for number in (signal.SIGTERM, signal.SIGKILL):
        # What is left of the group when its leader has ended is stubborn; its number is not given anew meanwhile.
        if number == signal.SIGTERM or late > GRACE or not locks.alive(command):
            try:
                os.killpg(command[0], number)
            except (ProcessLookupError, PermissionError):
                pass

        for _ in range(15):  # 0.3 seconds: those who wait for the gate wait a whole one
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
