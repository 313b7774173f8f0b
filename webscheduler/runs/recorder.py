"""Records what became of a run, exactly once, whatever is killed and whenever.

The rule is an order, all of it while the claim is held: the outcome into the claim; the line of history; the state;
the claim removed; the lock let go. Whoever finds a dead claim, under the gate, does what is left of it: it writes the
outcome that the claim holds, else `interrupted` with the tail of the live output, unless history has a whole line of
that run already. State refers to the run's id, so a late finisher never touches what a newer run said.
"""

from __future__ import annotations

import os
import signal
import time

from ..errors import BadInput, Unusable, WebschedulerError
from ..schedule import slots
from ..store import history, locks, state
from ..store.task import load_task
from ..times import format_time, instant, parse_time
from ..vocabulary import ENTRY, FAILURES, INTERRUPTED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.index import Index
    from ..store.locks import Claim

GRACE = 5.0
START_TAKES = 2.0


def live_file(home: str, run: str) -> str:
    """Where the output of a run in progress is."""
    return os.path.join(home, "output", run + ".log")


def outcome(status: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """How a run ended, for `finish`; what `more` does not say is nothing."""
    return {"status": status, "reason": reason, "exitCode": None, "signal": None, "duration": 0.0, "output": "",
            "errorOutput": "", **more}


def mark_running(home: str, claim: Claim) -> None:
    """State says `running`, for a run that lasts; what it said before stands in the claim. It is older, even if the
    clock was set back since. State that cannot be written stops no run."""
    begun = claim.facts()["startedAt"]

    def change(row: dict[str, Any]) -> None:
        claim.append({"previousRunAt": row.get("lastRunAt"), "failuresBefore": row.get("consecutiveFailures") or 0})
        row.update(lastRunAt=begun, lastRunStatus=RUNNING, lastRunId=claim.run, lastRunDuration=None,
                   lastRunExitCode=None)

    try:
        state.update_row(home, claim.name, change)
    except WebschedulerError:
        pass


def finish(
    home: str, claim: Claim, ended: dict[str, Any], zone: str, now: float
) -> tuple[dict[str, Any], int, Index | None]:
    """Record a run that this process supervised, and let its claim go. (the line of history; how many runs before it
    failed in a row; what `indexing.refresh` takes). zone: of schedules whose task names none."""
    facts = claim.facts()
    entry = _entry(claim, facts, ended, now)

    try:
        claim.append({"outcome": entry})
    except OSError:  # the disk is full: how it ended is worth more than what it printed
        _remove_live_output(home, claim.run)
        claim.append({"outcome": {**entry, "output": "", "errorOutput": ""}})

    _append_history(home, claim, entry)
    _note_host_kill(home, facts, entry, now)

    # A host that gave no process ran nothing: the slot that a tick took for it is given back.
    unrun = entry["reason"] == "no_process" and entry["trigger"] == "due"

    if unrun:
        with locks.Gate(home, claim.name) as gate:
            gate.last_start = 0.0
            gate.save()

    failures, index = _update_state(home, claim, entry, zone, facts, unrun)
    return entry, failures, index


def record_dead_run(home: str, claim: Claim, now: float, reason: str = "found_dead") -> None:
    """Record a run whose supervisor is gone; the caller holds the task's gate."""
    facts = claim.facts()
    entry = facts.get("outcome")

    # The outcome stands in the claim before any line is written, so without one there is none to be looked for.
    if isinstance(entry, dict) and entry.get("run") == claim.run:
        told = history.find(home, claim.name, claim.run) is not None
    else:
        ended = outcome(INTERRUPTED, "cancelled" if facts.get("cancelled") else reason, duration=None,
                        output=_tail(live_file(home, claim.run)))
        entry, told = _entry(claim, facts, ended, now), False

        try:
            claim.append({"outcome": entry})
        except OSError as error:
            raise Unusable(f"{claim.path} cannot be written: {error.strerror}")

        _note_host_kill(home, facts, entry, now)

    if not told:
        _append_history(home, claim, entry)

    _update_state(home, claim, entry, facts=facts)


def _append_history(home: str, claim: Claim, entry: dict[str, Any]) -> None:
    try:
        history.append(home, claim.name, entry)
    except Unusable:
        if "outcome" not in claim.facts():
            raise

        # The claim has what it printed, and a full disk may need the room for the line.
        _remove_live_output(home, claim.run)
        history.append(home, claim.name, entry)


def _note_host_kill(home: str, facts: dict[str, Any], entry: dict[str, Any], now: float) -> None:
    """A run that was ended from outside tells what its strategy carries here. When one found dead died is not known:
    within its time limit, and before it was found."""
    if entry["status"] == INTERRUPTED and entry["reason"] != "cancelled" and facts.get("server"):
        from ..store import capabilities

        found = now - parse_time(entry["startedAt"])
        after = min(found, facts.get("timeout") or found) if entry["duration"] is None else entry["duration"]
        capabilities.record_death(home, facts, after, now)


def _update_state(
    home: str, claim: Claim, entry: dict[str, Any], zone: str | None = None, facts: dict[str, Any] | None = None,
    unrun: bool = False,
) -> tuple[int, Index | None]:
    def change(row: dict[str, Any]) -> int:
        failures = row.get("consecutiveFailures")
        failures = failures if isinstance(failures, int) and failures > 0 else 0

        if row.get("lastRunId") not in (claim.run, None) and (
                instant(row.get("lastRunAt")) >= instant(entry["startedAt"])) and (
                row["lastRunId"] != (facts or {}).get("previousRunId", claim.run)):
            return failures

        if row.get("lastRunId") == claim.run and row.get("lastRunStatus") == entry["status"]:
            return failures  # killed after this step: counted already

        before = facts.get("previousRunAt", row.get("lastRunAt")) if facts else None
        row.update(lastRunAt=entry["startedAt"], lastRunStatus=entry["status"], lastRunId=claim.run,
                   lastRunDuration=entry["duration"], lastRunExitCode=entry["exitCode"],
                   lastRunAttempt=entry["attempt"],
                   consecutiveFailures=failures + 1 if entry["status"] in FAILURES else 0)

        if unrun:
            row.update(lastRunAt=before, lastRunAttempt=max(1, (entry["attempt"] or 1) - 1))

        if zone:
            try:
                row["nextRunAt"] = slots.next_text(load_task(claim.name, row), zone, parse_time(entry["finishedAt"]))
            except BadInput:
                pass

        return failures

    failures, index = None, None

    try:
        failures, index = state.update_row(home, claim.name, change)
    except WebschedulerError:
        pass  # an unreadable state.json is not ours to overwrite; history has the run

    _remove_live_output(home, claim.run)
    claim.remove()
    claim.release()
    return (facts or {}).get("failuresBefore", failures or 0), index


def _remove_live_output(home: str, run: str) -> None:
    try:
        os.unlink(live_file(home, run))
    except OSError:
        pass


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


def _entry(claim: Claim, facts: dict[str, Any], ended: dict[str, Any], now: float) -> dict[str, Any]:
    begun = facts.get("startedAt")

    if not instant(begun):  # killed before it could say so
        begun = format_time(os.fstat(claim.descriptor).st_mtime)

    known = {key: facts[key] for key in ENTRY if key in facts}
    return {**ENTRY, "attempt": 1, **known, **ended, "command": claim.name, "startedAt": begun,
            "finishedAt": format_time(now), "run": claim.run}


def _tail(file: str) -> str:
    try:
        with open(file, "rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - history.LIMIT // 2))
            return history.clip(b"", source.read(), max(0, size - history.LIMIT // 2))
    except OSError:
        return ""
