# SPDX-License-Identifier: LGPL-3.0-or-later
"""Records runs whose supervisor is gone, and ends the commands that they left, at their time limit.

The rules: whoever finds a dead run, under the gate, takes it over: its claim is renamed, and nothing more is done under
the gate. Then whoever holds the lock of the renamed claim records it; if that is killed, whoever comes next. The
outcome is the one in the claim, else `interrupted` with the end of the live output. History gets a line unless it has a
whole one of that run already.
"""

from __future__ import annotations

import os
import time

from ..errors import Unusable
from ..store import history, history_reading, locks, processes
from ..store.files import append_bytes, close
from ..vocabulary import CANCELLED, FOUND_DEAD, INTERRUPTED, SUPERVISOR_GONE, TIME_LIMIT
from . import recorder
from .ending import Ending

PAUSE = 0.02  # seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Facts


def record_dead_runs(home: str, name: str, now: float, patience: float = 0.0) -> list[Facts]:
    """Record every dead run of the task, and end every orphan past its time limit. Returns the facts of the runs that
    live. patience: seconds to wait at most for other processes that are recording some. Raises Unusable, Busy."""
    with locks.Gate(home, name):
        alive = take_over(home, name)

    deadline = time.monotonic() + patience
    record_taken(home, name, now)

    while locks.runs(home, name, taken=True) and time.monotonic() < deadline:
        time.sleep(PAUSE)
        record_taken(home, name, now)

    return alive


def take_over(home: str, name: str) -> list[Facts]:
    """Rename the claims of the task's dead runs, for `record_taken`, and end every orphan past its time limit, that is
    a run whose command lives without a supervisor; the caller holds the gate. Returns the facts of the runs that live.
    """
    alive: list[Facts] = []

    for claim, unlocked in locks.claims(home, name, locks.runs(home, name)):
        try:
            facts = claim.facts()
            dead, reason = _is_dead(claim, facts, unlocked)

            if dead:
                claim.try_append({"found": reason})
                _take(home, claim, unlocked)
            else:
                alive.append({**facts, "run": claim.run})
        finally:
            claim.close()

    return alive


def _take(home: str, claim: locks.Claim, unlocked: bool) -> None:
    path = locks.claim_path(home, claim.name, claim.run, taken=True)

    try:
        if unlocked:
            os.rename(claim.path, path)
            return

        # What the command left behind holds the lock, for as long as it lives, so the claim is copied.
        content = os.pread(claim.descriptor, os.fstat(claim.descriptor).st_size, 0)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

        try:
            append_bytes(descriptor, content)
        finally:
            close(descriptor)

        os.unlink(claim.path)
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror}")


def record_taken(home: str, name: str, now: float) -> None:
    """Record the task's dead runs that were taken over, but for those that another process is recording. No gate is
    needed. Raises Unusable."""
    waiting = set(locks.runs(home, name))  # before the others: what was taken over meanwhile is whole

    for claim, unlocked in locks.claims(home, name, locks.runs(home, name, taken=True), taken=True):
        try:
            if unlocked and claim.run not in waiting:
                _record(home, claim, now)
        except Unusable as error:
            # Another process waits for its disk: that is no reason to let a request wait, too.
            if not isinstance(error.__context__, BlockingIOError):
                raise
        except OSError as error:
            raise Unusable(f"{claim.path} cannot be read: {error.strerror}")
        finally:
            claim.close()


def _record(home: str, claim: locks.Claim, now: float) -> None:
    facts = claim.facts()
    # Looked for always: a claim that was copied during its run, and is restored after it, has no outcome.
    written = history_reading.find_by_scanning(home, claim.name, claim.run)
    entry = written or facts.get("outcome")

    if not isinstance(entry, dict) or entry.get("run") != claim.run:
        reason = CANCELLED if facts.get("cancelled") else facts.get("found", FOUND_DEAD)

        try:
            output = history.clip(b"", *history_reading.tail(recorder.live_file(home, claim.run), history.LIMIT // 2))
        except OSError:
            output = ""

        ended = recorder.outcome(INTERRUPTED, reason, duration=None, output=output)
        entry = recorder.record(home, claim, recorder.entry_of(claim, facts, ended, now))
        recorder.note_survival(home, facts, entry, now)
    elif written is None:
        recorder.append_history(home, claim, entry, entry)

    recorder.update_state(home, claim, entry, facts=facts)


def _is_dead(claim: locks.Claim, facts: Facts, unlocked: bool) -> tuple[bool, str]:
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
