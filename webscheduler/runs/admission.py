"""Whether a task runs now: the second stage of a trigger, which ends with a claim in hand or a reason why not.

The rule: it is decided once, under the task's gate, in milliseconds, from
what is true then; what was read before counts only as long as nothing changed. Dead runs are recorded first. Losing
is an ordinary return value. The gate is let go before anything is forked.
"""

from __future__ import annotations

from ..errors import BadInput, NoSuchTask, Unusable
from ..store import locks, state
from ..store.task import file_name, load_task
from ..times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    from ..schedule.slots import Slot
    from ..store.locks import Claim, Gate
    from ..store.task import Task
    from ..trigger.authentication import Ticket

    T = TypeVar("T")

SKIP_LINE_EVERY = 60.0


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
    had never been signed. reason: a word of vocabulary.REASONS, or for `refused` what is wrong, in words."""

    __slots__ = ("claim", "reason", "status", "task")

    def __init__(self, status: str, reason: str | None, task: Task | None = None, claim: Claim | None = None) -> None:
        self.status, self.reason, self.task, self.claim = status, reason, task, claim


def decide(home: str, name: str, cause: Cause, now: float, known: tuple[object, state.Tasks] | None = None) -> Decision:
    """Decide about one run of the task. `known`: (stamp, tasks) read before; used if the stamp still fits.

    A skip or rejection is written to history here, at most one line a minute for each reason. Raises NoSuchTask,
    Unusable (no promise can be made: 503), Busy.
    """
    with locks.Gate(home, name) as gate:
        tasks = known[1] if known and known[0] == state.stamp(home) else state.read(home)
        row = tasks.get(name)
        ticket = cause.ticket

        keys = (row.get("slug"), row.get("secret")) if isinstance(row, dict) else None

        if ticket and keys != (ticket.slug, ticket.secret):
            return Decision("refused", "the task's secret changed at this moment")

        if row is None:
            raise NoSuchTask(name)

        try:
            task = load_task(name, row)
        except BadInput as error:
            raise Unusable(f"state.json: {error}: mend it with `webscheduler edit`")

        # A stored time ahead of the clock counts as now, or a clock that was wrong once would block for as long.
        # A `ts` may be ahead by the window, and be sent again for as long.
        gate.last_start = min(gate.last_start, now)

        if ticket and ticket.ts is not None:
            if gate.last_ts > now + ticket.window:
                gate.last_ts = int(now)

            if ticket.ts <= gate.last_ts:
                return Decision("refused", "this timed signature, or a later one, was used already")

        decision, facts = _judge(home, task, gate, cause, now)

        if decision.status == "running":
            run = locks.new_run(now)
            decision.claim = locks.make_claim(home, name, run, {
                "run": run, "name": name, "startedAt": format_time(now), "trigger": cause.trigger,
                "triggeredAt": format_time(now), "ip": ticket.ip if ticket else None,
                "starter": locks.identity(), **facts})
            gate.last_start = now

        if ticket and ticket.ts is not None and decision.reason != "ip_denied":
            gate.last_ts = ticket.ts

        count = _count_skip(gate, decision.reason, now)

        try:
            gate.save()
        except OSError:
            if decision.claim:
                decision.claim.remove()
                decision.claim.close()
            raise

    if count:
        from ..store import history

        moment = format_time(now)
        entry = {"command": name, "startedAt": moment, "finishedAt": moment, "duration": 0.0,
                 "status": decision.status, "exitCode": None, "output": "", "errorOutput": "", "run": None,
                 "reason": decision.reason, "strategy": None, "trigger": cause.trigger, "triggeredAt": moment,
                 "ip": ticket.ip if ticket else None, "scheduledFor": facts.get("scheduledFor"), "signal": None,
                 "attempt": None, "count": count}
        history.append(home, name, entry)

    return decision


def _judge(home: str, task: Task, gate: Gate, cause: Cause, now: float) -> tuple[Decision, dict[str, Any]]:
    if cause.ticket and task["ipAllowlist"]:
        from ..addresses import allowed

        if not allowed(cause.ticket.ip, task["ipAllowlist"]):
            return Decision("rejected", "ip_denied", task), {}

    if not cause.by_hand and not task["enabled"]:
        return Decision("skipped", "disabled", task), {}

    if _alive(home, task.name, now) and task["preventOverlap"]:
        return Decision("skipped", "locked", task), {}

    if cause.ticket and now - gate.last_start < task["minIntervalSeconds"]:
        return Decision("skipped", "rate_limited", task), {}

    if cause.still_due is None:
        return Decision("running", None, task), {}

    slot = cause.still_due(task, gate.last_start)

    if slot is None:
        return Decision("skipped", "not_due", task), {}

    facts = {"scheduledFor": format_time(slot.at), "attempt": slot.attempt}
    return Decision("skipped", "too_late", task) if slot.too_late else Decision("running", None, task), facts


def _alive(home: str, name: str, now: float) -> list[dict[str, Any]]:
    """The task's runs that live; the dead are recorded. Most often there is no claim at all, and what records them
    need not be imported before a response."""
    if not locks.runs(home, name):
        return []

    from .recorder import record_dead_runs

    return record_dead_runs(home, name, now)


def _count_skip(gate: Gate, reason: str | None, now: float) -> int:
    """How many events the line to be written now stands for; 0: no line, the last is less than a minute old."""
    if reason is None or reason not in gate.skips:
        return 0

    last, count = gate.skips[reason]

    if 0 <= now - last < SKIP_LINE_EVERY:
        gate.skips[reason] = (last, count + 1)
        return 0

    gate.skips[reason] = (now, 0)
    return count + 1


def with_gates(home: str, names: list[str], now: float, act: Callable[[], T]) -> T:
    """Do something to tasks that must not run meanwhile (rename, remove), under their gates; what it returns. Raises
    BadInput naming the task that runs."""
    if not names:
        return act()

    with locks.Gate(home, names[0]):
        if _alive(home, names[0], now):
            raise BadInput(f"{names[0]} is running: wait for its end, or `webscheduler cancel {file_name(names[0])}`")

        return with_gates(home, names[1:], now, act)
