"""The way of a trigger, composed: environ -> authenticate -> claim -> strategy( runner -> record -> release ).

Imports everything below the doors. The rule: a request reads, claims and detaches, and nothing more; state and
history of a run are written by the process that supervises it, and what that needs is imported there, after the
response. Every refusal is the same bytes.
"""

from __future__ import annotations

import json
import os
import time

from . import access, capabilities, config, store, strategies
from .decision import Cause, decide
from .errors import BadInput, WebschedulerError
from .request import Request
from .task import DUE, format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .config import Config
    from .decision import Decision
    from .locks import Claim
    from .schedule import Slot
    from .task import Task

MAX_REPLY = 3800
REASONS = {200: "OK", 202: "Accepted", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}


class Reply:
    """What a door sends: status and JSON body, and perhaps a job that it runs once the response is out."""

    __slots__ = ("after", "body", "status")

    def __init__(self, status: int, document: dict[str, Any], after: Callable[[], object] | None = None) -> None:
        self.status, self.after = status, after
        self.body = json.dumps(document).encode("ascii")

    @property
    def line(self) -> str:
        """Status and reason; any status may be a task's `failureStatus`."""
        return f"{self.status} {REASONS.get(self.status, 'Other')}"

    def all_headers(self) -> list[tuple[str, str]]:
        """Every header of the answer."""
        return [("Content-Type", "application/json"), ("Content-Length", str(len(self.body))),
                ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


def refused() -> Reply:
    """The one answer to whatever is not accepted."""
    return Reply(202, {"accepted": False})


def unavailable() -> Reply:
    """The answer of an installation that cannot work: a scheduler that silently runs nothing is the worst."""
    return Reply(503, {"accepted": False})


def answer(
    environ: dict[str, Any], home: str, in_process: bool, clock: Callable[[], float], report: Callable[[str], object]
) -> Reply:
    """Answer a request for /run or /status, and any other with 404. Does not raise for anything foreseen.

    in_process: this process serves the one request with one thread, so it may fork and supervise (CGI); otherwise a
    process is started for that (WSGI). report: takes one line for the server's error log.
    """
    request = Request(environ)

    if request.kind == "run" and not request.may_run:
        return refused()

    try:
        if request.kind == "run":
            return _answer_run(request, home, in_process, clock, capabilities.server_kind(environ, in_process))

        if request.kind == "status":
            return _answer_status(request, home, clock())
    except WebschedulerError as error:
        report(f"webscheduler: {error}")
    except OSError as error:
        report(f"webscheduler: {error.filename or home}: {error.strerror}")
    else:
        return Reply(404, {"found": False})

    return unavailable()


def _answer_run(request: Request, home: str, in_process: bool, clock: Callable[[], float], server: str) -> Reply:
    settings = config.load(home)
    now = clock()

    for last in (False, True):
        known = store.stamp(home), store.read(home)
        ticket, problem = access.authenticate(request, known[1], settings, now)

        if ticket is None:
            break

        decision = decide(home, ticket.name, Cause("url", ticket), now, known)

        if decision.claim:
            return lay(settings, decision, in_process, clock, server)

        if decision.reason == "locked":
            return Reply(202, {"accepted": True, "run": None, "status": "skipped", "reason": "locked"})

        if decision.status != "refused":
            return refused()

        problem = decision.reason or ""

        if last or known[0] == store.stamp(home):
            break  # else the task was renamed at this moment: look again

    from .history import refuse

    refuse(home, now, {"at": format_time(now), "ip": access.client(request, settings), "method": request.method,
                       "slug": request.slug, "problem": problem})
    return refused()


def _answer_status(request: Request, home: str, now: float) -> Reply:
    from . import due

    settings = config.load(home)
    tasks = store.read(home)
    ticket, _ = access.authenticate(request, tasks, settings, now)

    if ticket is None:
        return Reply(404, {"found": False})

    report = due.health(settings, tasks, ticket.name, now)
    return Reply(200 if report["status"] == "healthy" else 503, report)


def lay(settings: Config, decision: Decision, in_process: bool, clock: Callable[[], float], server: str) -> Reply:
    """Lay a claimed run around the response, by the first of the strategies that works here."""
    task, claim = decision.task, decision.claim
    assert task is not None and claim is not None

    def job() -> dict[str, Any]:
        return supervise(settings, task, claim, clock) if in_process else _supervise_elsewhere(settings, claim, clock)

    try:
        for strategy in _strategies(settings, task, server, clock()):
            claim.append({"strategy": strategy, "server": server})

            if strategy == "close":
                return _started(claim, "close", job)

            if strategy == "fork":
                try:
                    if not in_process:
                        strategies.spawn(_resuming(settings, claim), [claim.descriptor])
                    elif not strategies.detach(job, [claim.descriptor]):
                        continue

                    claim.close()
                    return _started(claim, "fork")
                except OSError:
                    pass  # no process to be had: the next strategy says so in history, if it has none either

        return _finished(task, job())
    except BaseException:
        claim.close()  # a long-lived process must not keep locked what it could not start
        raise


def _strategies(settings: Config, task: Task, server: str, now: float) -> list[str]:
    wanted = task["strategy"]

    if task["group"] == capabilities.PROBE:
        return [wanted, "sync"]

    if wanted != "auto":
        return capabilities.following(settings.home, server, wanted, now)

    # A tick itself ends within its budget; what it starts has the time limits of the tasks.
    timeout = settings["defaultTimeout"] if task["timeout"] is None or task.name == DUE else task["timeout"]
    return capabilities.elect(settings.home, server, timeout, now)


def _started(claim: Claim, strategy: str, after: Callable[[], object] | None = None) -> Reply:
    return Reply(202, {"accepted": True, "run": claim.run, "strategy": strategy, "detached": strategy == "fork",
                       "status": "running"}, after)


def _finished(task: Task, entry: dict[str, Any]) -> Reply:
    status = 200 if entry["status"] == "success" or task.name == DUE else task["failureStatus"] or 200
    document = {"accepted": True, "run": entry["run"], "strategy": "sync", "detached": False, "status": entry["status"],
                "reason": entry["reason"], "exitCode": entry["exitCode"], "duration": entry["duration"], "output": ""}
    room = MAX_REPLY - len(json.dumps(document))
    output = (entry["output"] or entry["errorOutput"])[:room]

    while len(json.dumps(output)) > room:  # escapes count: a panel that reads 4 KiB is to read all
        output = output[: len(output) * 3 // 4]

    document["output"] = output
    return Reply(status, document)


def supervise(settings: Config, task: Task, claim: Claim, clock: Callable[[], float]) -> dict[str, Any]:
    """Run a claimed task in this process, which must have no other thread; record it, let the claim go, and return
    its line of history."""
    from . import locks

    try:
        # Before anything is imported: until then readers know the run by who started it, and that process may be gone.
        claim.append({"supervisor": locks.identity()})

        from . import housekeeping, notify, record, runner

        record.started(settings.home, claim, claim.facts())

        report: dict[str, Any] = {}
        children: dict[int, str] = {}
        facts = claim.facts()

        if task.name == DUE:
            outcome, report, children = _tick(settings, facts, clock)
            entry = record.finish(settings.home, claim, outcome, settings["timezone"], clock())
        else:
            with runner.Signals() as signals:
                try:
                    live = record.live_file(settings.home, claim.run)
                    outcome = runner.run(_invocation(settings, task), claim, live, signals)
                except BadInput as error:
                    outcome = record.outcome("failed", "not_started", errorOutput=f"{error}\n")

                entry = record.finish(settings.home, claim, outcome, settings["timezone"], clock())

        notify.after_run(settings, task, entry, facts.get("failuresBefore", 0))
        housekeeping.maybe(settings, clock())

        if children and facts.get("strategy") != "fork":
            from .due import reap

            reap(children, report["codes"], wait=True)

        return {**entry, **{key: report[key] for key in ("codes", "started", "left") if key in report}}
    finally:
        claim.close()


def _tick(
    settings: Config, facts: dict[str, Any], clock: Callable[[], float]
) -> tuple[dict[str, Any], dict[str, Any], dict[int, str]]:
    """The run of @due: start what is due. Each task gets a supervisor of its own, which does not inherit our claim.
    (outcome; what `due.tick` reports; tasks still running, by pid)."""
    from . import due, housekeeping, record
    from .commands import python

    home = settings.home
    tasks = store.read(home)
    housekeeping.bury(home, tasks, clock())
    strategy = facts.get("strategy", "sync")
    # The next tick counts claims, so each child must have decided before this one is over: it closes its end then.
    reading, writing = os.pipe()

    def start(name: str, still_due: Callable[[Task, float], Slot | None]) -> int:
        def job() -> int:
            decision = decide(home, name, Cause("due", still_due=still_due), clock())
            os.close(writing)

            if decision.reason == "too_late":
                due.too_late(home, name, clock())

            if decision.task is None or decision.claim is None:
                return due.SKIPPED

            decision.claim.append({"strategy": strategy, "server": facts.get("server")})
            return int(supervise(settings, decision.task, decision.claim, clock)["status"] != "success")

        return strategies.start(job, [writing])

    # What the code declares may have changed; in a process of its own, for it imports that code.
    argv = python(settings, "webscheduler.functions:sync", home)

    try:
        strategies.start(lambda: os.execv(argv[0], argv))  # noqa: S606 (no shell is wanted)
    except OSError:
        pass  # no process to be had: if that lasts, what is due says so

    # Only a request has a host's limit on its time.
    budget = settings["tickBudgetSeconds"] or due.BUDGETS["fork" if facts.get("trigger") == "cli" else strategy]
    report, children = due.tick(settings, start, budget, clock())
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    late = [name for name in report["late"] if tasks.get(name, {}).get("notify", True)]

    if late and settings["notify"]:
        from .notify import try_send

        try_send(settings, f"{len(late)} tasks come late, the first {late[0]}", {"late": ", ".join(late[:50])})

    lines = [f"started {name}" for name in report["started"]] + [f"left due {name}" for name in report["left"]]
    status = "failed" if report["problems"] else "success"
    outcome = record.outcome(status, exitCode=int(status != "success"), duration=report["duration"],
                             output="".join(f"{line}\n" for line in lines[:1000]),
                             errorOutput="".join(f"{line}\n" for line in report["problems"][:1000]))
    return outcome, report, children


def _invocation(settings: Config, task: Task) -> Any:
    from .commands import argv as command_argv
    from .runner import Invocation, environment

    argv, cwd = command_argv(settings, task)
    variables = environment(settings.home, {**settings["environment"], **task["environment"]})
    timeout = settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]
    keep = tuple(settings[name] if task[name] is None else task[name] for name in ("logOutput", "logErrorOutput"))
    account = variables["HOME"] if os.path.isdir(variables["HOME"]) else settings.home
    return Invocation(argv, task["cwd"] or cwd or account, variables, timeout, keep)


def _resuming(settings: Config, claim: Claim) -> list[str]:
    """argv of a fresh Python that supervises the run in our stead."""
    from .commands import python

    return python(settings, "webscheduler.trigger:resume", settings.home, str(claim.descriptor))


def _supervise_elsewhere(settings: Config, claim: Claim, clock: Callable[[], float]) -> dict[str, Any]:
    """Hand the claim to such a Python, and wait for the line of history that it reports."""
    argv = _resuming(settings, claim)

    try:
        reported = strategies.spawn(argv, [claim.descriptor], wait=True)
    except OSError as error:
        from . import record

        why = f"the host gave no process: {argv[0]}: {error.strerror}\n"
        return record.finish(settings.home, claim, record.outcome("failed", "no_process", errorOutput=why),
                             settings["timezone"], clock())

    claim.close()

    try:
        entry = json.loads(reported)
    except ValueError:
        entry = {}

    return {"run": claim.run, "status": "interrupted", "reason": "found_dead", "exitCode": None, "duration": None,
            "output": "", "errorOutput": "", **entry}


def resume(home: str, descriptor: str) -> int:
    """What `_resuming` starts, a door of its own: supervise the run whose claim is open as `descriptor`."""
    from .locks import Claim, facts_of
    from .task import file_name, load

    facts = facts_of(int(descriptor))
    name, run = facts["name"], facts["run"]
    claim = Claim(os.path.join(home, "runs", f"{file_name(name)}@{run}"), int(descriptor), name, run)
    entry = supervise(config.load(home), load(name, store.read(home)[name]), claim, time.time)
    print(json.dumps({**entry, "output": entry["output"][:MAX_REPLY], "errorOutput": entry["errorOutput"][:MAX_REPLY]}))
    return 0


def run_by_hand(
    home: str, name: str, trigger: str, clock: Callable[[], float], strategy: str = "sync"
) -> dict[str, Any] | None:
    """Run a task now, in this process (one thread), whatever its schedule and limits say; its line of history, or None
    if it is running already. For @due the line has besides `started` and `left` (names of tasks) and `codes`: task
    -> 0 success, 1 not, 3 skipped; with the strategy `fork` what it started is not awaited. Raises NoSuchTask,
    Unusable, Busy."""
    settings = config.load(home)
    decision = decide(home, name, Cause(trigger, by_hand=True), clock())

    if decision.task is None or decision.claim is None:
        return None

    try:
        decision.claim.append({"strategy": strategy})
        return supervise(settings, decision.task, decision.claim, clock)
    finally:
        decision.claim.close()
