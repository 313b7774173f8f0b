"""The way of a trigger, composed: environ -> authenticate -> claim -> strategy( runner -> record -> release ).

The rule: a request reads, claims and detaches, and nothing more; state and
history of a run are written by the process that supervises it, and what that needs is imported there, after the
response. Every refusal is the same bytes.
"""

from __future__ import annotations

import json

from ..errors import WebschedulerError
from ..runs.admission import Cause, decide
from ..runs.strategies import start_run
from ..store import capabilities, state
from ..store.settings import load_settings
from ..store.task import DUE
from ..times import format_time
from ..vocabulary import SUCCESS
from . import authentication
from .request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..runs.strategies import Started
    from ..store.locks import Claim
    from ..store.task import Task
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
    settings = load_settings(home)
    now = clock()

    for last in (False, True):
        known = state.stamp(home), state.read(home)
        ticket, problem = authentication.authenticate(request, known[1], settings, now)

        if ticket is None:
            break

        decision = decide(home, ticket.name, Cause("url", ticket), now, known)

        if decision.claim:
            assert decision.task is not None
            started = start_run(settings, decision.task, decision.claim, in_process, clock, server)
            return _of_started(decision.task, decision.claim, started)

        if decision.reason == "locked":
            return Reply(202, {"accepted": True, "run": None, "status": "skipped", "reason": "locked"})

        if decision.status != "refused":
            return refused()

        problem = decision.reason or ""

        if last or known[0] == state.stamp(home):
            break  # else the task was renamed at this moment: look again

    from ..store.refusals import add_refusal

    address = authentication.client(request, settings)
    add_refusal(home, now, {"at": format_time(now), "ip": address, "method": request.method, "slug": request.slug,
                            "problem": problem})
    return refused()


def _answer_status(request: Request, home: str, now: float) -> Reply:
    from ..runs import due

    settings = load_settings(home)
    tasks = state.read(home)
    ticket, _ = authentication.authenticate(request, tasks, settings, now)

    if ticket is None:
        return Reply(404, {"found": False})

    report = due.health(settings, tasks, ticket.name, now)
    return Reply(200 if report["status"] == "healthy" else 503, report)


def _of_started(task: Task, claim: Claim, started: Started) -> Reply:
    entry = started.entry

    if entry is None:
        return Reply(202, {"accepted": True, "run": claim.run, "strategy": started.strategy,
                           "detached": started.strategy == "fork", "status": "running"}, started.after)

    status = 200 if entry["status"] == SUCCESS or task.name == DUE else task["failureStatus"] or 200
    document = {"accepted": True, "run": entry["run"], "strategy": "sync", "detached": False, "status": entry["status"],
                "reason": entry["reason"], "exitCode": entry["exitCode"], "duration": entry["duration"], "output": ""}
    room = MAX_REPLY - len(json.dumps(document))
    output = (entry["output"] or entry["errorOutput"])[:room]

    while len(json.dumps(output)) > room:  # escapes count: a panel that reads 4 KiB is to read all
        output = output[: len(output) * 3 // 4]

    document["output"] = output
    return Reply(status, document)
