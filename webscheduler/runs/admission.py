# SPDX-License-Identifier: LGPL-3.0-or-later
"""Decides whether a task runs now: the second stage of a trigger. It returns a claim, or the reason why not.

The rules: the decision is taken once, under the task's gate, in milliseconds, from what is true then. What was read
before is used only if nothing changed since; else it is read again, and if changes do not end, under the gate. Under
the gate nothing is imported or synced, and neither history nor state written: dead runs are only taken over. The gate
is released before any fork.
"""

from __future__ import annotations

from .. import vocabulary as words
from ..errors import BadInput, Busy, NoSuchTask, Unusable, WebschedulerError
from ..store import locks
from ..times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ..schedule.slots import Slot
    from ..shapes import Any, Callable, Facts, Sequence
    from ..store.index import Known
    from ..store.lookup import View
    from ..store.task import Task

    Read = tuple[View, Known, Optional[Task]]

SKIP_LINE_EVERY = 60.0  # seconds between two lines of history about skips for the same reason
TRIES = 20  # how often the gate is taken again
OPTIMISTIC_TRIES = 5  # because what was read before it has changed; then it is read under it


class Ticket:
    """A request with a valid signature. known: the task; ts: Unix seconds of a timed signature, else None; window:
    seconds that it may be off; ip: the client's address."""

    def __init__(self, known: Known, ts: int | None, window: int, ip: str) -> None:
        self.known, self.ts, self.window, self.ip = known, ts, window, ip


class Cause:
    """Why a task should run.

    trigger: a key of vocabulary.TRIGGERS. ticket: of a signed request. by_hand: `enabled`, schedule, minimum interval
    and allowed addresses are ignored; the claim never is. still_due: called under the gate with the task and its last
    start (Unix seconds); returns the slot that the run is for, or None if the task is no longer due. after: the id of
    the run that it is to follow, else empty.
    """

    def __init__(self, trigger: str, ticket: Ticket | None = None, by_hand: bool = False,
                 still_due: Callable[[Task, float], Slot | None] | None = None, after: str = "") -> None:
        self.trigger, self.ticket, self.by_hand, self.still_due, self.after = trigger, ticket, by_hand, still_due, after


class Decision:
    """What was decided. status: `running` (with the claim), `skipped`, `rejected`, `refused` (answered as a request
    without a valid signature) or `changed`. reason: a key of vocabulary.REASONS, `not_due`, or for `refused` what is
    wrong, in words. known, view: what the decision was taken from."""

    def __init__(self, status: str, reason: str | None, claim: locks.Claim | None = None) -> None:
        self.status, self.reason, self.claim = status, reason, claim
        self.known: Known | None = None
        self.view: View | None = None


def decide(home: str, name: str, cause: Cause, now: float, view: View | None = None,
           again: Callable[[], tuple[View, Known | None]] | None = None) -> Decision:
    """Decide about one run of the task. view: what the ticket's signature was compared with; if that has changed since,
    nothing is decided and the status is `changed`. again: compares it once more, under the gate, instead.

    Writes a skip or rejection to history, at most one line a minute for each reason. Raises NoSuchTask, Unusable, Busy.
    """
    ticket = cause.ticket
    take_over: Callable[[str, str], Sequence[object] | None] = locks.supervised_runs

    if ticket:  # what is unusual about it may need an import
        _may_call(ticket.known, ticket.ip)
        _marks(ticket)
        locks.line({"name": name, "ip": ticket.ip})

    for attempt in range(TRIES):
        before = (view, ticket.known, None) if ticket and view else _by_name(home, name)

        with locks.Gate(home, name) as gate:
            read = None if gate.intent else _current(home, name, ticket, before, attempt, again)
            living = take_over(home, name) if read else None

            if read and living is not None:
                decision, facts = _judge(home, name, read[1], read[2], gate, cause, now, bool(living))
                count = _save_record(home, gate, decision, cause, now)
                decision.view, decision.known, _ = read
                break

        if ticket and not read and not gate.intent:
            return Decision("changed", None)

        # What does the rest is imported here, since under the gate nothing is imported.
        if gate.intent:
            from .task_files import finish

            finish(home, name)
        elif read:  # a run is dead, or has no supervisor
            from .dead_runs import record_dead_runs, record_taken, take_over

            record_dead_runs(home, name, now)
    else:
        raise Busy("state.json changes too often to decide anything: try again")

    if take_over is not locks.supervised_runs:  # that ended a moment ago
        try:
            record_taken(home, name, now)
        except WebschedulerError:
            pass  # it is decided; whoever comes next tries again

    if count:
        from ..store import history

        moment = format_time(now)
        history.append(home, name, history.entry(
            command=name, startedAt=moment, finishedAt=moment, duration=0.0, status=decision.status,
            reason=decision.reason, trigger=cause.trigger, triggeredAt=moment, count=count,
            ip=cause.ticket.ip if cause.ticket else None, scheduledFor=facts.get("scheduledFor"),
            after=cause.after or None))

    return decision


def _current(home: str, name: str, ticket: Ticket | None, before: Read, attempt: int,
             again: Callable[[], tuple[View, Known | None]] | None) -> Read | None:
    """What is true now, under the gate: what was read before, if that is current, or what is read now; else None."""
    if ticket and again:
        view, known = again()

        if known is None or known.name != name:
            return None

        ticket.known = known
        return view, known, None

    if not ticket and attempt >= OPTIMISTIC_TRIES:
        return _by_name(home, name)

    return before if before[0].is_current() else None


def _by_name(home: str, name: str) -> Read:
    from ..store.lookup import Parsed, limits_of
    from ..store.task import load_task

    view = Parsed(home, name)

    if name not in view.tasks:
        raise NoSuchTask(name, view.tasks)

    try:
        task = load_task(name, view.tasks[name])
    except BadInput as error:
        raise Unusable(f"state.json: {error}: repair it with `webscheduler edit`")

    return view, limits_of(task), task


def _judge(home: str, name: str, known: Known, task: Task | None, gate: locks.Gate, cause: Cause, now: float,
           living: bool) -> tuple[Decision, Facts]:
    """(the decision; the facts of the claim that only a tick knows)."""
    ticket, too_late = cause.ticket, False
    facts: Facts = {}

    # A stored time ahead of the clock counts as now; else a clock that was wrong once would block the task until then.
    gate.last_start = min(gate.last_start, now)

    if ticket and ticket.ts is not None:
        problem = _marks(ticket).problem(home, known, ticket.ts, ticket.window, gate.last_ts, now)

        if problem:
            return Decision("refused", problem), {}

    if ticket and not _may_call(known, ticket.ip):
        return Decision(words.REJECTED, words.IP_DENIED), {}

    if cause.still_due is not None and task is not None:  # before all else: it may be locked by the run of this slot
        slot = cause.still_due(task, gate.last_start)

        if slot is None:
            return Decision(words.SKIPPED, "not_due"), {}

        too_late = slot.too_late
        facts.update({"after": cause.after} if cause.after else {
            "scheduledFor": format_time(slot.at), "attempt": slot.attempt})

    if not cause.by_hand and not known.enabled:
        return Decision(words.SKIPPED, words.DISABLED), {}

    if living and not known.overlaps:
        return Decision(words.SKIPPED, words.LOCKED), {}

    if ticket and now - gate.last_start < known.interval:
        return Decision(words.SKIPPED, words.RATE_LIMITED), {}

    if too_late:
        return Decision(words.SKIPPED, words.TOO_LATE), facts

    run, moment = locks.new_run(now), format_time(now)
    claim = locks.make_claim(home, name, run, {
        "run": run, "name": name, "startedAt": moment, "trigger": cause.trigger, "triggeredAt": moment,
        "ip": ticket.ip if ticket else None, "starter": locks.identity(), "place": locks.place(), **facts})
    gate.last_start = now
    return Decision(words.RUNNING, None, claim), facts


def _marks(ticket: Ticket) -> Any:
    """The module that knows which timed signatures were used, where the request has one."""
    if ticket.ts is None:
        return None

    from ..store import marks

    return marks


def _may_call(known: Known, ip: str) -> bool:
    """Whether the task takes calls from this address."""
    if not known.allowlist:
        return True

    from ..addresses import allowed

    return allowed(ip, known.allowlist)


def _save_record(home: str, gate: locks.Gate, decision: Decision, cause: Cause, now: float) -> int:
    """Save the gate's record after the decision. Returns how many skips the line of history stands for that is to be
    written now; 0: no line."""
    ticket, reason, count = cause.ticket, decision.reason, 0

    if decision.status == "refused":
        return 0

    if reason in words.COUNTED_REASONS:
        last, before = gate.skips[reason]
        due = not 0 <= now - last < SKIP_LINE_EVERY
        count = before + 1 if due else 0
        gate.skips[reason] = (now, 0) if due else (last, before + 1)

    try:
        if ticket and ticket.ts is not None and reason != words.IP_DENIED:
            _marks(ticket).raise_to(home, ticket.known, ticket.ts)

        gate.save()
    except OSError:
        if decision.claim:
            decision.claim.remove()
            decision.claim.close()
        raise

    return count
