"""The way of a trigger, composed: environ -> authenticate -> claim -> strategy( runner -> record -> release ).

The rule: a request reads, claims and detaches, and nothing more; state and
history of a run are written by the process that supervises it, and what that needs is imported there, after the
response. Every refusal is the same bytes.
"""

from __future__ import annotations

import json

from ..errors import WebschedulerError
from ..response import Response
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

def _json(status: int, document: dict[str, Any], after: Callable[[], object] | None = None) -> Response:
    return Response(json.dumps(document).encode("ascii"), status, after=after)


def refused() -> Response:
    """The one answer to whatever is not accepted."""
    return _json(202, {"accepted": False})


def unavailable() -> Response:
    """The answer of an installation that cannot work: a scheduler that silently runs nothing is the worst."""
    return _json(503, {"accepted": False})


def answer(
    environ: dict[str, Any], home: str, in_process: bool, clock: Callable[[], float], report: Callable[[str], object]
) -> Response:
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
        return _json(404, {"found": False})

    return unavailable()


def _answer_run(request: Request, home: str, in_process: bool, clock: Callable[[], float], server: str) -> Response:
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
            return _json(202, {"accepted": True, "run": None, "status": "skipped", "reason": "locked"})

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


def _answer_status(request: Request, home: str, now: float) -> Response:
    from ..runs import due

    settings = load_settings(home)
    tasks = state.read(home)
    ticket, _ = authentication.authenticate(request, tasks, settings, now)

    if ticket is None:
        return _json(404, {"found": False})

    report = due.health(settings, tasks, ticket.name, now)
    return _json(200 if report["status"] == "healthy" else 503, report)


def _of_started(task: Task, claim: Claim, started: Started) -> Response:
    entry = started.entry

    if entry is None:
        return _json(202, {"accepted": True, "run": claim.run, "strategy": started.strategy,
                           "detached": started.strategy == "fork", "status": "running"}, started.after)

    status = 200 if entry["status"] == SUCCESS or task.name == DUE else task["failureStatus"] or 200
    document = {"accepted": True, "run": entry["run"], "strategy": "sync", "detached": False, "status": entry["status"],
                "reason": entry["reason"], "exitCode": entry["exitCode"], "duration": entry["duration"], "output": ""}
    room = MAX_REPLY - len(json.dumps(document))
    output = (entry["output"] or entry["errorOutput"])[:room]

    while len(json.dumps(output)) > room:  # escapes count: a panel that reads 4 KiB is to read all
        output = output[: len(output) * 3 // 4]

    document["output"] = output
    return _json(status, document)
