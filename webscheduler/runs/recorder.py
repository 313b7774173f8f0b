"""Records what became of a run, exactly once, whatever is killed and whenever.

The rule is an order, all of it while the claim is held: the outcome into the claim; the line of history; the state;
the claim removed; the lock let go. Whoever finds a dead claim does what is left of it (`dead_runs`). State refers to
the run's id, so a late finisher never touches what a newer run said.
"""

from __future__ import annotations

import os

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
    entry = entry_of(claim, facts, ended, now)

    try:
        claim.append({"outcome": entry})
    except OSError:  # the disk is full: how it ended is worth more than what it printed
        _remove_live_output(home, claim.run)
        claim.append({"outcome": {**entry, "output": "", "errorOutput": ""}})

    append_history(home, claim, entry)
    note_host_kill(home, facts, entry, now)

    # A host that gave no process ran nothing: the slot that a tick took for it is given back.
    unrun = entry["reason"] == "no_process" and entry["trigger"] == "due"

    if unrun:
        with locks.Gate(home, claim.name) as gate:
            gate.last_start = 0.0
            gate.save()

    failures, index = update_state(home, claim, entry, zone, facts, unrun)
    return entry, failures, index


def append_history(home: str, claim: Claim, entry: dict[str, Any]) -> None:
    try:
        history.append(home, claim.name, entry)
    except Unusable:
        if "outcome" not in claim.facts():
            raise

        # The claim has what it printed, and a full disk may need the room for the line.
        _remove_live_output(home, claim.run)
        history.append(home, claim.name, entry)


def note_host_kill(home: str, facts: dict[str, Any], entry: dict[str, Any], now: float) -> None:
    """A run that was ended from outside tells what its strategy carries here. When one found dead died is not known:
    within its time limit, and before it was found."""
    if entry["status"] == INTERRUPTED and entry["reason"] != "cancelled" and facts.get("server"):
        from ..store import capabilities

        found = now - parse_time(entry["startedAt"])
        after = min(found, facts.get("timeout") or found) if entry["duration"] is None else entry["duration"]
        capabilities.record_death(home, facts, after, now)


def update_state(
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


def entry_of(claim: Claim, facts: dict[str, Any], ended: dict[str, Any], now: float) -> dict[str, Any]:
    begun = facts.get("startedAt")

    if not instant(begun):  # killed before it could say so
        begun = format_time(os.fstat(claim.descriptor).st_mtime)

    known = {key: facts[key] for key in ENTRY if key in facts}
    return {**ENTRY, "attempt": 1, **known, **ended, "command": claim.name, "startedAt": begun,
            "finishedAt": format_time(now), "run": claim.run}
