# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which tasks are due, and how a tick starts them.

The rules: tasks start by priority, lower first, then by the time they became due. No more than `maxConcurrentTasks` due
runs are alive at once, over all ticks; a tick holds `@due`'s claim while it starts tasks, and what does not fit into
its budget stays due. Each task has a process of its own, which decides under the task's gate whether it is still due.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial

from ..commands import registry
from ..errors import BadInput, WebschedulerError
from ..schedule import slots
from ..store import locks, lookup, old_secret, processes, state
from ..store.files import close
from ..store.index import Index, open_index
from ..store.task import DUE, Task, is_internal, load_task, load_tasks
from ..times import format_time, instant, parse_time
from ..vocabulary import DETACHED, FAILED, INTERRUPTED, SUCCESS, SYNC, TOO_LATE
from . import dead_runs, indexing, recorder, retention
from .admission import Cause
from .children import run_one, start_child
from .health import MIN_LATE, as_they_are, forgotten, may_be_due, patience, places, rhythm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Outcome
    from ..store.settings import Settings
    from .children import Supervise
    from .supervisor import Signals

    StillDue = Callable[[Task, float], "slots.Slot | None"]
    Start = Callable[[str, StillDue, str], int]

# What the processes that a tick starts decide with: imported now, since the package may be replaced during the tick.
LOADED = (dead_runs, indexing, lookup)

BUDGET = 55  # seconds in which a tick starts tasks
BUDGET_IN_REQUEST = 25  # the same if a request waits for the tick
LONGEST_IDLE = 3600.0  # seconds; then schedules are read again, since the rules of a time zone may have changed
PAUSE = 0.02  # seconds


def select(settings: Settings, tasks: state.Tasks, now: float) -> tuple[list[tuple[str, slots.Slot]], list[str]]:
    """(the due tasks, in the order to start them; a line for each task of which it cannot be told)."""
    good, broken = load_tasks({name: row for name, row in as_they_are(settings.home, tasks, now)[0].items()
                               if name != DUE and isinstance(row, dict) and row.get("enabled")})
    found, problems = _select(settings, good, list(broken.values()), now)
    return _to_follow(settings.home, tasks, now) + found, problems


def _to_follow(home: str, tasks: state.Tasks, now: float, clean: bool = False) -> list[tuple[str, slots.Slot]]:
    marked = {name: row for name, row in tasks.items() if isinstance(row, dict) and row.get("followUps")}

    if marked:
        from ..store import chains

    if not marked or not any(map(chains.marks, marked.values())):
        return []

    from .following import waiting

    return [(name, slots.Slot(now, after=run)) for name, run in waiting(home, marked, clean)]


def _select(settings: Settings, tasks: dict[str, Task], problems: list[str],
            now: float) -> tuple[list[tuple[str, slots.Slot]], list[str]]:
    found = []
    # A run has a claim from before state mentions it until state says how it ended.
    begun = {facts.get("name"): parse_time(facts["startedAt"]) for facts in processes.live_runs(settings.home)}

    for name, task in tasks.items():
        try:
            slot = slots.slot(task, settings["timezone"], begun.get(name, 0.0), now)

            if slot is not None:  # unless its run was recorded since the tasks were read: its gate knows the start
                slot = slots.slot(task, settings["timezone"], locks.last_start(settings.home, name), now)

            if slot is not None:
                registry.argv(settings, task)  # a task without its command stays due until that is back
                found.append((task["priority"], slot.at, name, slot))
        except BadInput as error:
            problems.append(str(error))

    return [(name, slot) for _, _, name, slot in sorted(found, key=lambda entry: entry[:3])], problems


def tick(settings: Settings, tasks: state.Tasks, start: Start, budget: float, now: float,
         told: Callable[[], object] = lambda: None) -> tuple[dict[str, Any], dict[int, str]]:
    """Start the due tasks. Returns (a report: `started`, `left`, `late` (names), `held` (facts of the runs that hold
    the places for which the rest waits), `problems` (lines), `codes` (name -> exit status), `next` (Unix seconds before
    which nothing else is due), `duration`; names of tasks whose processes still run, by pid).

    start(name, still_due, after) forks a process that decides and runs, and returns its pid, or raises OSError; after:
    the id of a run that it is to follow, or empty. told: whether no more are to start.
    """
    home = settings.home
    enabled, problems = _refresh(settings, tasks, now)
    queue, problems = _select(settings, enabled, problems, now)
    late = _late(home, queue, now)
    queue = _to_follow(home, tasks, now, clean=True) + queue
    children: dict[int, str] = {}
    report: dict[str, Any] = {"started": [], "problems": problems, "codes": {}}
    report["next"] = min([instant(task["nextRunAt"]) for task in enabled.values() if task["nextRunAt"]]
                         + [old_secret.of(row)[2] for row in tasks.values() if old_secret.of(row)[2] > now],
                         default=now + LONGEST_IDLE)
    begun = time.monotonic()
    end = begun + budget

    if queue:
        from . import process

        assert process  # for the runs: imported once, before the forks

    while queue and time.monotonic() < end and not told():
        reap(children, report["codes"])
        others = [facts for facts in places(home) if facts.get("starter", [0])[0] not in children]

        for name, slot in queue[: max(0, settings["maxConcurrentTasks"] - len(children) - len(others))]:
            try:
                pid = start(name, lambda task, last: slots.slot(task, settings["timezone"], last, now), slot.after)
            except OSError as error:
                report["problems"].append(f"the host gave no process: {error.strerror}")
                end = 0.0
                break

            children[pid] = name
            report["started"].append(name)
            queue.pop(0)

        if queue:
            time.sleep(PAUSE)

    held = places(home) if queue else []
    report["left"] = [name for name, _ in queue]
    report["late"] = [name for name in late if name in report["started"]]  # the others wait for a place
    report["held"] = held if len(held) >= settings["maxConcurrentTasks"] else []
    report["duration"] = round(time.monotonic() - begun, 3)
    return report, children


def _late(home: str, queue: list[tuple[str, slots.Slot]], now: float) -> list[str]:
    """The due tasks that are late because no tick came in time. One that an earlier tick saw was told of by that, or
    waits for a place; one that still runs is not waited for."""
    old = [(name, slot.at) for name, slot in queue if slot.attempt == 1 and now - slot.at > MIN_LATE]

    if not old:
        return []

    before, longest = instant(rhythm(home)["lastAt"]), patience(home)
    running = {facts.get("name") for facts in processes.live_runs(home)}
    return [name for name, at in old if now - at > longest and at > before and name not in running]


def reap(children: dict[int, str], codes: dict[str, int], wait: bool = False) -> None:
    """Move children that have ended (with `wait`, all) from `children` to `codes`, with their exit statuses."""
    for pid in list(children):
        try:
            ended, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
        except ChildProcessError:  # SIGCHLD is ignored here, and the kernel reaps
            ended, status = (pid, 0) if not os.path.exists(f"/proc/{pid}") or wait else (0, 0)

        if ended:
            codes[children.pop(pid)] = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1


def _refresh(settings: Settings, rows: state.Tasks, now: float) -> tuple[dict[str, Task], list[str]]:
    """Update nextRunAt, start the schedule of tasks without any time (an old state.json), correct times that a wrong
    clock left, and add the runs that an earlier copy of state.json does not know. Returns (the enabled tasks; a line
    for each problem). If only the copy of state.json can be read, tasks run all the same."""
    changes: dict[str, dict[str, Any]] = {}
    enabled: dict[str, Task] = {}
    problems: list[str] = []

    try:
        names = [name for name, row in rows.items() if name != DUE and isinstance(row, dict)]
        later = forgotten(settings.home, rows, [name for name in names if may_be_due(rows[name], now)], now)

        for name in names:
            row = rows[name]

            try:
                task = load_task(name, later.get(name, row))
            except BadInput as error:
                problems += [str(error)] if row.get("enabled") else []
                continue

            try:
                found = _times(settings, task, now)
            except WebschedulerError as error:  # its gate, which stops no other task
                problems.append(str(error))
                continue

            task.update(found)
            known = {**later.get(name, {}), **found}
            # Nothing else: somebody may edit the task, or change its secret, before this is written.
            changed = {field: value for field, value in known.items() if row.get(field) != value}

            if changed:
                changes[name] = changed

            if task["enabled"]:
                enabled[name] = task

        if any(old_secret.is_past(row, now) for row in rows.values()):
            old_secret.seen_past(settings.home)

        if changes:
            state.update(settings.home, lambda tasks: _merge(tasks, changes, rows))
    except WebschedulerError as error:
        problems.append(str(error))

    return enabled, problems


def _merge(tasks: state.Tasks, changes: dict[str, dict[str, Any]], before: state.Tasks) -> None:
    """Take the changed fields into the rows that are still there, and that no run has changed since `before`."""
    for name, fields in changes.items():
        row = tasks.get(name)

        if isinstance(row, dict) and row.get("lastRunAt") == before[name].get("lastRunAt"):
            row.update(fields)


def _times(settings: Settings, task: Task, now: float) -> dict[str, str | None]:
    """What its row should say of the times of a task."""
    found: dict[str, str | None] = dict.fromkeys(slots.times_ahead(task, now), format_time(now))

    if found:
        task.update(found)

        with locks.Gate(settings.home, task.name) as gate:
            gate.last_start = min(gate.last_start, now)
            gate.save()

    found["nextRunAt"] = slots.next_text(task, settings["timezone"], now)

    if task["enabled"] and task["expression"] and not slots.counted_from(task, 0.0, now):
        found["scheduledSince"] = format_time(now)

    return found


def restart_schedule(home: str, name: str, now: float) -> None:
    """Count the slots of a task from now on: an older one was too late."""

    state.update_row(home, name, lambda row: row.update(scheduledSince=format_time(now)))


def run_tick(settings: Settings, claim: locks.Claim, clock: Callable[[], float], supervise: Supervise,
             signals: Signals) -> tuple[Outcome, dict[str, Any], dict[int, str]]:
    """The run of @due: start what is due, each task under a supervisor of its own (`supervise`). Returns (outcome; what
    `tick` reports; names of tasks whose supervisors still run, by pid)."""
    home, facts, begun = settings.home, claim.facts(), clock()
    index = open_index(home, whole=True)  # before the tasks are read: it says of which state.json it is
    idle = index is not None and _is_idle(home, index, claim, begun)
    tasks = {} if idle else state.read(home)

    if retention.record_all_dead(home, tasks, clock()):
        tasks = state.read(home)  # a run that died may have left its task not due

    if probed := any(map(is_internal, tasks, tasks.values())):
        from . import probes

        probed = not probes.collect_left(home, clock())

    strategy = facts.get("strategy", SYNC)
    # The next tick counts claims, so this tick ends only when each child has decided, and closed its copy of the pipe.
    reading, writing = os.pipe()

    def start(name: str, still_due: StillDue, after: str) -> int:
        run: Callable[..., int] = partial(_run_due, still_due)

        if after:
            from .following import run_after  # it was loaded when the mark was found

            run = partial(run_after, after)

        return start_child(partial(run, home, name, clock, supervise, facts, lambda: close(writing)), signals, writing)

    changed = registry.may_have_changed(settings, None if idle else tasks)

    if changed:
        _discover(settings, signals)

    # Hosts limit the time of requests only.
    free = facts.get("trigger") == "cli" or strategy in DETACHED
    budget = settings["tickBudgetSeconds"] or (BUDGET if free else BUDGET_IN_REQUEST)
    report, children = tick(settings, tasks, start, budget, clock(), lambda: signals.told)
    close(writing)
    os.read(reading, 1)
    close(reading)
    late = [name for name in report["late"] if tasks.get(name, {}).get("notify", True)]
    report["late"] = late if tasks else None
    lines = [f"started {name}" for name in report["started"]] + [f"left due {name}" for name in report["left"]]
    lines += [f"place held by {facts['name']} since {facts['startedAt']}, run {facts['run']}"
              for facts in report["held"]]
    status = FAILED if report["problems"] else SUCCESS
    reason = None

    if signals.told:
        status, reason = INTERRUPTED, recorder.reason_to_end(claim)

    outcome = recorder.outcome(status, reason, exit_code=int(status != SUCCESS), duration=report["duration"],
                               output="".join(f"{line}\n" for line in lines[:1000]),
                               error_output="".join(f"{line}\n" for line in report["problems"][:1000]))
    quiet = not (changed or probed or report["started"] or report["left"] or report["problems"])
    report["strategy"] = strategy

    if index and quiet:
        found = index.idle if idle else (begun, min(report["next"], begun + LONGEST_IDLE))
        report["idle"] = (index.sources, found)

    return outcome, report, children


def _run_due(still_due: StillDue, home: str, name: str, clock: Callable[[], float], *how: Any) -> int:
    status, why = run_one(home, name, Cause("due", still_due=still_due), clock, *how)

    if why == TOO_LATE:
        restart_schedule(home, name, clock())

    return status


def _discover(settings: Settings, signals: Signals) -> None:
    """Look for commands in a process of its own, since that imports their code."""
    argv = registry.python(settings, "webscheduler.commands.discovery:sync", settings.home)
    variables = registry.environment(settings.home, settings["environment"])

    def job() -> int:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(argv[0], argv, variables)  # noqa: S606 (no shell is wanted)

    try:
        start_child(job, signals)
    except OSError:
        pass  # there can be no process; if that lasts, the due tasks report it


def _is_idle(home: str, index: Index, claim: locks.Claim, now: float) -> bool:
    """Whether an earlier tick found that nothing is due before some time to come, and nothing changed since: neither a
    task nor a setting, or the index would not be valid, and no run but our own is in progress."""
    since, until = index.idle
    return since <= now < until and locks.runs(home) == [os.path.basename(claim.path)]
