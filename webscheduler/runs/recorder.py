# SPDX-License-Identifier: LGPL-3.0-or-later
"""Records how a run ended: exactly one line of history, whatever is killed and whenever.

The rule is an order of steps, all while the claim is held: write the outcome into the claim; append the line of
history; update state; remove the claim; release its lock. Whoever finds a dead run does the steps that are left
(`dead_runs`). State has the run's id, so a late step never overwrites what a newer run wrote.
"""

from __future__ import annotations

import os

from ..errors import BadInput, WebschedulerError
from ..schedule import slots
from ..store import history, locks, state
from ..store.files import remove
from ..store.task import load_task
from ..times import format_time, instant, parse_time
from ..vocabulary import CANCELLED, ENTRY, FAILURES, INTERRUPTED, NO_PROCESS, RUNNING, TERMINATED
from . import indexing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Entry, Facts, Iterator, Outcome, Result
    from ..store.index import Index

BRIEFLY = 0.1  # seconds


def live_file(home: str, run: str) -> str:
    """The file with the output of a run in progress."""
    return os.path.join(home, "output", run + ".log")


def outcome(status: str, reason: str | None = None, exit_code: int | None = None, signal: int | None = None,
            duration: float | None = 0.0, output: str = "", error_output: str = "") -> Outcome:
    """How a run ended, for `finish`."""
    return {"status": status, "reason": reason, "exitCode": exit_code, "signal": signal, "duration": duration,
            "output": output, "errorOutput": error_output}


def reason_to_end(claim: locks.Claim) -> str:
    """Why a run ends whose supervisor was told to end."""
    return CANCELLED if claim.facts().get("cancelled") else TERMINATED


def mark_running(home: str, claim: locks.Claim) -> None:
    """Write `running` into state, for a run that lasts. The index stays valid, or each request would parse state.json
    until the run ends. A state.json that cannot be written stops no run."""

    def change(row: dict[str, Any]) -> None:
        row.update(lastRunAt=claim.facts()["startedAt"], lastRunStatus=RUNNING, lastRunId=claim.run,
                   lastRunDuration=None, lastRunExitCode=None)

    try:
        _, index = state.update_row(home, claim.name, change)
    except WebschedulerError:
        return

    indexing.refresh(home, index, BRIEFLY)  # nobody watches the command meanwhile


def finish(home: str, claim: locks.Claim, ended: Outcome, zone: str, now: float) -> tuple[Result, int, Index | None]:
    """Record a run that this process supervised, and release its claim. Returns (the line of history; how many runs
    before it failed in a row; an index for `indexing.refresh`). zone: for a task without a time zone.

    The command has run, so an error is no exception: the line then has `recorded` False and `problem`, and what the
    claim could take of it waits there for whoever records dead runs.
    """
    facts: Facts = {}
    entry = history.entry(command=claim.name, run=claim.run, **ended)

    try:
        facts = claim.facts()
        entry = record(home, claim, entry_of(claim, facts, ended, now))
    except (WebschedulerError, OSError) as error:
        claim.release()
        unrecorded: Any = {**entry, "recorded": False, "problem": str(error)}
        return unrecorded, facts.get("failuresBefore", 0), None

    note_survival(home, facts, entry, now)
    # If the host gave no process, nothing ran: the task stays due.
    still_due = entry["reason"] == NO_PROCESS and entry["trigger"] == "due"

    if still_due:
        try:
            with locks.Gate(home, claim.name) as gate:
                gate.last_start = 0.0
                gate.save()
        except (WebschedulerError, OSError):
            pass  # it is due again at its next slot

    failures, index = update_state(home, claim, entry, zone, facts, still_due)
    return {**entry}, failures, index  # type: ignore[typeddict-item]


def record(home: str, claim: locks.Claim, entry: Entry) -> Entry:
    """Write the outcome into the claim, and the line of history. Returns that line: where the disk is full, how the run
    ended matters more than what it printed. Raises Unusable; then whoever finds the claim records it."""
    short: Any = entry

    try:
        claim.append({"outcome": entry})
    except OSError as error:
        said = f"... [not kept] {error.strerror} ...\n"
        short = {**entry, "output": entry["output"] and said, "errorOutput": entry["errorOutput"] and said}
        claim.try_append({"outcome": short})

    return append_history(home, claim, entry, short)


def append_history(home: str, claim: locks.Claim, entry: Entry, short: Entry) -> Entry:
    """Add the line, or else, once the live output has made room, `short`; returns what was added. Raises Unusable."""

    def with_more_room() -> Iterator[Entry]:
        remove(live_file(home, claim.run))
        yield short

    return history.append(home, claim.name, entry, with_more_room())


def note_survival(home: str, facts: Facts, entry: Entry, now: float) -> None:
    """Note how long the run's strategy let it live here, unless it was cancelled. When a run that was found dead died
    is not known: within its time limit, and before it was found."""
    if facts.get("server") and entry["reason"] != CANCELLED:
        from ..store import capabilities

        found = now - parse_time(entry["startedAt"])

        if entry["status"] != INTERRUPTED:
            capabilities.record_end(home, facts, entry["duration"] or 0.0, now)
        elif entry["duration"] is None:
            capabilities.record_death(home, facts, min(found, facts.get("timeout") or found), now, known=False)
        else:
            capabilities.record_death(home, facts, entry["duration"], now)


def update_state(home: str, claim: locks.Claim, entry: Entry, zone: str | None = None, facts: Facts | None = None,
                 still_due: bool = False) -> tuple[int, Index | None]:
    """Update the task's row, unless a newer run has; then remove and release the claim. Returns (how many runs before
    failed in a row; the index that was valid before)."""

    def change(row: dict[str, Any]) -> int:
        if row.get("oldSecret"):
            from ..store.old_secret import end_past

            end_past([row], instant(entry["finishedAt"]))

        return take_outcome(row, entry, facts or {}, zone, still_due)

    def others(tasks: state.Tasks | None, row: dict[str, Any]) -> object:
        if row.get("onSuccess") or row.get("onFailure"):
            from ..store import chains

            return chains.mark(tasks, row, entry, (facts or {}).get("overtakes"))

        return None

    failures, index = None, None

    try:
        failures, index = state.update_row(home, claim.name, change, others)
    except WebschedulerError:
        pass  # a state.json that cannot be parsed is never overwritten; history has the run

    remove(live_file(home, claim.run))
    claim.remove()
    claim.release()
    return (facts or {}).get("failuresBefore", failures or 0), index


def take_outcome(row: dict[str, Any], entry: Entry, facts: Facts, zone: str | None = None,
                 still_due: bool = False) -> int:
    """Take how a run ended into its task's row, unless a newer run is there. Returns how many runs before failed in a
    row. facts: of its claim."""
    run, failures = entry["run"], row.get("consecutiveFailures")
    failures = failures if isinstance(failures, int) and failures > 0 else 0

    if entry.get("after"):
        from ..store import chains

        chains.use(row, entry["after"] or "")

    if row.get("lastRunId") not in (run, None) and (
            instant(row.get("lastRunAt")) >= instant(entry["startedAt"])) and (
            row["lastRunId"] != facts.get("previousRunId", run)):
        return failures

    if row.get("lastRunId") == run and row.get("lastRunStatus") == entry["status"]:
        return failures  # counted already: whoever recorded it was killed after this step

    before = facts.get("previousRunAt", row.get("lastRunAt")) if facts else None
    row.update(lastRunAt=entry["startedAt"], lastRunStatus=entry["status"], lastRunId=run,
               lastRunDuration=entry["duration"], lastRunExitCode=entry["exitCode"], lastRunAttempt=entry["attempt"],
               consecutiveFailures=failures + 1 if entry["status"] in FAILURES else 0)

    if still_due:
        row.update(lastRunAt=before, lastRunAttempt=max(1, (entry["attempt"] or 1) - 1))

    if zone:
        try:
            row["nextRunAt"] = slots.next_text(load_task(entry["command"], row), zone, parse_time(entry["finishedAt"]))
        except BadInput:
            pass

    return failures


def entry_of(claim: locks.Claim, facts: Facts, ended: Outcome, now: float) -> Entry:
    """The line of history of a run: `ended`, and what its claim says."""
    started = facts.get("startedAt", "")

    if not instant(started):  # killed before it was written
        started = format_time(os.fstat(claim.descriptor).st_mtime)

    known: Any = {"attempt": 1, **{key: value for key, value in facts.items() if key in ENTRY}, **ended}
    known.update(command=claim.name, startedAt=started, finishedAt=format_time(now), run=claim.run)
    return history.entry(**known)
