# SPDX-License-Identifier: LGPL-3.0-or-later
"""Calls the stages of a trigger: environ -> authenticate -> claim -> strategy( run -> record -> release ).

The rules: a request reads, claims and detaches, and nothing more. The supervisor writes state and history of a run, and
imports what it needs for that itself, after the response. Every refusal is the same bytes. What a stage needs is
imported when it is reached, so that a refusal costs only the reading.
"""

from __future__ import annotations

from ..errors import Busy, Unusable, WebschedulerError
from ..response import Response
from ..store.index import open_index
from .authentication import authenticate, client
from .request import Request, server_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..runs.strategies import Started
    from ..store.locks import Claim
    from ..store.lookup import View

MAX_REPLY = 3800  # bytes
TRIES = 50  # how often a request is authenticated again because a file changed between its signature and the gate
REFUSED = b'{"accepted": false}'


def refused() -> Response:
    """The answer to every request that is not accepted."""
    return Response(REFUSED, 202)


def unavailable() -> Response:
    """The answer of an installation that cannot work. A scheduler that runs nothing must not be silent."""
    return Response(REFUSED, 503)


def answer(
    environ: dict[str, Any],
    home: str,
    in_process: bool,
    clock: Callable[[], float],
    report: Callable[[str], object],
    kept: dict[str, View] | None = None,
) -> Response:
    """Answer a request for /run or /status; any other gets 404. Raises nothing that is foreseen.

    in_process: this process has one thread and serves one request, so it may fork and supervise (CGI); otherwise a new
    process is started for that (WSGI). report: takes a line for the server's error log. kept: see `lookup.look`.
    """
    request = Request(environ)

    if request.kind == "run" and not request.may_run:
        return refused()

    try:
        if request.kind == "run":
            return _answer_run(request, home, kept, in_process, clock, server_kind(environ, in_process))

        if request.kind == "status":
            return _answer_status(request, home, kept, clock())
    except WebschedulerError as error:
        report(f"webscheduler: {error}")
    except OSError as error:
        report(f"webscheduler: {error.filename or home}: {error.strerror}")
    else:
        return _json(404, {"found": False})

    return unavailable()


def _answer_run(
    request: Request, home: str, kept: dict[str, View] | None, in_process: bool, clock: Callable[[], float], server: str
) -> Response:
    now = clock()

    for _ in range(TRIES):
        view = _look(home, kept)
        known, problem = authenticate(request, view, now)

        if known and known.unusual and view.signed:  # a line of the index cannot describe it
            view = _parsed(home)
            known, problem = authenticate(request, view, now)

        if known is None:
            break

        known = view.in_full(known)

        if known.problem:
            raise Unusable(f"state.json: {known.problem}: repair it with `webscheduler edit`")

        from ..runs.admission import Cause, Ticket, decide

        ts = None if request.ts is None else int(request.ts)
        ticket = Ticket(known, ts, view.window, client(request, view))
        decision = decide(home, known.name, Cause("url", ticket), now, view)

        if decision.claim:
            from ..runs.strategies import start_run

            started = start_run(home, decision.claim, known, view, in_process, clock, server)
            return _of_started(home, decision.claim, started)

        if decision.reason == "locked":
            return Response(b'{"accepted": true, "run": null, "status": "skipped", "reason": "locked"}', 202)

        if decision.status == "refused":
            problem = decision.reason or ""
            break

        if decision.status != "changed":
            return refused()
    else:
        raise Busy("state.json changes too often to decide anything: try again")

    from ..store.refusals import add_refusal

    add_refusal(home, now, request.method, request.slug, client(request, view), problem)
    return refused()


def _look(home: str, kept: dict[str, View] | None) -> View:
    """What is known about the installation. If this process serves one request and there is an index, without another
    import."""
    found = open_index(home) if kept is None else None

    if found:
        return found

    from ..store.lookup import look

    return look(home, kept)


def _parsed(home: str) -> View:
    from ..store.lookup import Parsed

    return Parsed(home)


def _answer_status(request: Request, home: str, kept: dict[str, View] | None, now: float) -> Response:
    known, _ = authenticate(request, _look(home, kept), now)

    if known is None:
        return _json(404, {"found": False})

    from ..runs.health import health
    from ..store import state
    from ..store.settings import load_settings
    from ..vocabulary import DUE

    if known.unusual:  # its name is too long for the index
        known = _parsed(home).find(request.slug) or known

    # What @due says is about all tasks; of another its own line is enough.
    tasks = state.read(home) if known.name == DUE else {known.name: state.read_row(home, known.name)}

    if not isinstance(tasks.get(known.name), dict):
        return _json(404, {"found": False})  # removed since its signature was compared

    report = health(load_settings(home), tasks, known.name, now)
    return _json(200 if report["status"] == "healthy" else 503, report)


def _json(status: int, document: dict[str, Any], after: Callable[[], object] | None = None) -> Response:
    import json

    return Response(json.dumps(document).encode("ascii"), status, after=after)


def _of_started(home: str, claim: Claim, started: Started) -> Response:
    from ..vocabulary import DETACHED, DUE, SUCCESS

    entry = started.entry

    if entry is None:
        text = (f'{{"accepted": true, "run": "{claim.run}", "strategy": "{started.strategy}", "detached": '
                f'{"true" if started.strategy in DETACHED else "false"}, "status": "running"}}')
        return Response(text.encode("ascii"), 202, after=started.after)

    import json

    from ..store import state

    status = 200

    if entry["status"] != SUCCESS and claim.name != DUE:
        try:
            row = state.read_row(home, claim.name)
        except WebschedulerError:
            row = None  # the command has run, and that is what the caller must hear

        status = row.get("failureStatus") or 200 if isinstance(row, dict) else 200

    document = {"accepted": True, "run": entry["run"], "strategy": "sync", "detached": False, "status": entry["status"],
                "reason": entry["reason"], "exitCode": entry["exitCode"], "duration": entry["duration"], "output": ""}
    room = MAX_REPLY - len(json.dumps(document))
    output = (entry["output"] or entry["errorOutput"])[:room]

    while len(json.dumps(output)) > room:  # with its escapes: a panel that reads 4 KiB must get all
        output = output[: len(output) * 3 // 4]

    document["output"] = output
    return _json(status, document)
