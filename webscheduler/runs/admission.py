"""Whether a task runs now: the second stage of a trigger, which ends with a claim in hand or a reason why not.

The rule: it is decided once, under the task's gate, in milliseconds, from what is true then; what was read before
counts only if nothing changed since, else it is read again before the gate is entered anew. Dead runs are recorded
first. Losing is an ordinary return value. The gate is let go before anything is forked.
"""

from __future__ import annotations

from ..errors import BadInput, Busy, NoSuchTask, Unusable
from ..store import locks
from ..store.files import file_name
from ..times import format_time
from ..vocabulary import COUNTED_REASONS, ENTRY, REJECTED, RUNNING, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    from ..schedule.slots import Slot
    from ..store.index import Known
    from ..store.locks import Claim, Gate
    from ..store.lookup import View
    from ..store.task import Task

    T = TypeVar("T")

SKIP_LINE_EVERY = 60.0
TRIES = 50  # how often a decision is taken anew because state.json was changed meanwhile


class Ticket:
    """A request that a valid signature vouches for. known: the task; ts: Unix seconds of a timed signature, else None;
    window: how far it may be from the clock; ip: the client's address."""

    __slots__ = ("ip", "known", "ts", "window")

    def __init__(self, known: Known, ts: int | None, window: int, ip: str) -> None:
        self.known, self.ts, self.window, self.ip = known, ts, window, ip


class Cause:
    """Why a task is to run.

    trigger: url, cli, admin or due. ticket: of a signed request. by_hand: enabled, schedule, least interval and
    addresses do not count (the claim always does). still_due: asked under the gate with the task and its last start
    (Unix seconds); returns the slot that the run is for, or None if the task is due no more.
    """

    __slots__ = ("by_hand", "still_due", "ticket", "trigger")

    def __init__(
        self,
        trigger: str,
        ticket: Ticket | None = None,
        by_hand: bool = False,
        still_due: Callable[[Task, float], Slot | None] | None = None,
    ) -> None:
        self.trigger, self.ticket, self.by_hand, self.still_due = trigger, ticket, by_hand, still_due


class Decision:
    """What was decided. status: `running` (then the claim is held), `skipped`, `rejected`, or `refused`: as though it
    had never been signed. reason: a word of vocabulary.REASONS, or for `refused` what is wrong, in words. known, view:
    what it was decided from."""

    __slots__ = ("claim", "known", "reason", "status", "view")

    def __init__(self, status: str, reason: str | None, claim: Claim | None = None) -> None:
        self.status, self.reason, self.claim = status, reason, claim
        self.known: Known | None = None
        self.view: View | None = None


def decide(home: str, name: str, cause: Cause, now: float, view: View | None = None) -> Decision:
    """Decide about one run of the task. view: what the ticket's signature was compared with; if it is true no more,
    nothing is decided and the status is `changed`.

    A skip or rejection is written to history here, at most one line a minute for each reason. Raises NoSuchTask,
    Unusable (no promise can be made: 503), Busy.
    """
    record_dead: Callable[[str, str, float], list[Any]] | None = None

    for _ in range(TRIES):
        if cause.ticket and view:
            known, task = cause.ticket.known, None
        else:
            view, known, task = _by_name(home, name)

        with locks.Gate(home, name) as gate:
            if view.still():
                living = record_dead(home, name, now) if record_dead else locks.living(home, name)

                if living is not None:
                    decision, facts = _judge(home, name, known, task, gate, cause, now, bool(living))
                    count = _settle(gate, decision, cause, now)
                    decision.known, decision.view = known, view
                    break
            elif cause.ticket:
                return Decision("changed", None)

        # Something of the task is dead: what records it is not imported under the gate.
        from .dead_runs import record_dead_runs

        record_dead = record_dead_runs
    else:
        raise Busy("state.json changes too often to decide anything: try again")

    if count:
        from ..store import history

        moment = format_time(now)
        history.append(home, name, {
            **ENTRY, "command": name, "startedAt": moment, "finishedAt": moment, "duration": 0.0,
            "status": decision.status, "reason": decision.reason, "trigger": cause.trigger, "triggeredAt": moment,
            "ip": cause.ticket.ip if cause.ticket else None, "scheduledFor": facts.get("scheduledFor"), "count": count})

    return decision


def _by_name(home: str, name: str) -> tuple[View, Known, Task]:
    from ..store.indexing import limits_of
    from ..store.lookup import Parsed
    from ..store.task import load_task

    view = Parsed(home)

    if name not in view.tasks:
        raise NoSuchTask(name)

    try:
        task = load_task(name, view.tasks[name])
    except BadInput as error:
        raise Unusable(f"state.json: {error}: repair it with `webscheduler edit`")

    return view, limits_of(task), task


def _judge(
    home: str, name: str, known: Known, task: Task | None, gate: Gate, cause: Cause, now: float, living: bool
) -> tuple[Decision, dict[str, Any]]:
    ticket = cause.ticket

    # A stored time ahead of the clock counts as now, or a clock that was wrong once would block for as long.
    # A `ts` may be ahead by the window, and be sent again for as long.
    gate.last_start = min(gate.last_start, now)

    if ticket and ticket.ts is not None:
        if gate.last_ts > now + ticket.window:
            gate.last_ts = int(now)

        if ticket.ts <= gate.last_ts:
            return Decision("refused", "this timed signature, or a later one, was used already"), {}

    if ticket and known.allowlist:
        from ..addresses import allowed

        if not allowed(ticket.ip, known.allowlist):
            return Decision(REJECTED, "ip_denied"), {}

    if not cause.by_hand and not known.enabled:
        return Decision(SKIPPED, "disabled"), {}

    if living and not known.overlaps:
        return Decision(SKIPPED, "locked"), {}

    if ticket and now - gate.last_start < known.interval:
        return Decision(SKIPPED, "rate_limited"), {}

    facts: dict[str, Any] = {}

    if cause.still_due is not None and task is not None:
        slot = cause.still_due(task, gate.last_start)

        if slot is None:
            return Decision(SKIPPED, "not_due"), {}

        facts = {"scheduledFor": format_time(slot.at), "attempt": slot.attempt}

        if slot.too_late:
            return Decision(SKIPPED, "too_late"), facts

    run, moment = locks.new_run(now), format_time(now)
    claim = locks.make_claim(home, name, run, {
        "run": run, "name": name, "startedAt": moment, "trigger": cause.trigger, "triggeredAt": moment,
        "ip": ticket.ip if ticket else None, "starter": locks.identity(), **facts})
    gate.last_start = now
    return Decision(RUNNING, None, claim), facts


def _settle(gate: Gate, decision: Decision, cause: Cause, now: float) -> int:
    """Save what the gate's record says after the decision; how many events the line to be written now stands for (0: no
    line, the last is less than a minute old)."""
    ticket, reason, count = cause.ticket, decision.reason, 0

    if decision.status == "refused":
        return 0

    if ticket and ticket.ts is not None and reason != "ip_denied":
        gate.last_ts = ticket.ts

    if reason in COUNTED_REASONS:
        last, before = gate.skips[reason]
        due = not 0 <= now - last < SKIP_LINE_EVERY
        count = before + 1 if due else 0
        gate.skips[reason] = (now, 0) if due else (last, before + 1)

    try:
        gate.save()
    except OSError:
        if decision.claim:
            decision.claim.remove()
            decision.claim.close()
        raise

    return count


def with_gates(home: str, names: list[str], now: float, act: Callable[[], T]) -> T:
    """Do something to tasks that must not run meanwhile (rename, remove), under their gates; what it returns. Raises
    BadInput naming the task that runs."""
    from .dead_runs import record_dead_runs

    if not names:
        return act()

    with locks.Gate(home, names[0]):
        if record_dead_runs(home, names[0], now):
            raise BadInput(f"{names[0]} is running: wait for its end, or `webscheduler cancel {file_name(names[0])}`")

        return with_gates(home, names[1:], now, act)
