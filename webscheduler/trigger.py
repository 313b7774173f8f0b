# SPDX-License-Identifier: LGPL-3.0-or-later
"""A request for /run or /status, from its environ to the answer: begin reading here.

It calls the stages of a trigger: environ -> authenticate -> claim -> strategy( run -> record -> release ). No stage
imports another, and what a stage needs is imported when it is reached, so that a refusal costs only the reading.

The rules:
- A request reads, claims and detaches, and nothing more. The supervisor writes state and history of a run, and imports
  what it needs for that itself, after the response.
- Every refusal is the same bytes, after the same work. What is compared depends on the shape of the request (with `ts`
  or without), never on what is stored: the task's secret and the one before it each cost one comparison for a static
  signature with an index, and otherwise one HMAC. The same is done with a dummy for what there is not. Whether the task
  takes that kind of signature is looked at after.
- Before a valid signature is seen, nothing is locked, written (but refused.json) or forked. One by the
  secret before the present one, after its end, takes that secret out of state.json, once.
"""

from __future__ import annotations

import os

from .http import NOT_FOUND, Request, Response, server_kind
from .store.index import NO_KEY, Known, open_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .runs.strategies import Started
    from .store.locks import Claim
    from .store.lookup import View

MAX_REPLY = 3800  # bytes
TRIES = 20  # how often a request is authenticated again because a file changed between its signature and the gate
REFUSED = b'{"accepted": false}'
OVER = "the signature was made with the secret before the present one, which is not valid now"
REFUSALS_EVERY = 60.0  # seconds between two refusals that are recorded, so that nobody can fill the disk from outside
# Called by `host.url_check`, which reads the answer itself: its refusals are not recorded.
CHECK_SLUG = "d0c7" * 8


def refused() -> Response:
    """The answer to every request that is not accepted."""
    return Response(REFUSED, 202)


def unavailable() -> Response:
    """The answer of an installation that cannot work. A scheduler that runs nothing must not be silent."""
    return Response(REFUSED, 503)


def answer(request: Request, home: str, in_process: bool, clock: Callable[[], float], report: Callable[[str], object],
           kept: dict[str, View] | None = None) -> Response:
    """Answer a request for /run or /status; any other gets 404. Raises nothing that is foreseen.

    in_process: this process has one thread and serves one request, so it may fork and supervise (CGI); otherwise a new
    process is started for that (WSGI). report: takes a line for the server's error log. kept: see `lookup.look`.
    """
    if request.kind == "run" and not request.may_run:
        return refused()

    try:
        if request.kind == "run":
            return _answer_run(request, home, kept, in_process, clock, report)

        if request.kind == "status":
            from . import status

            view, known, problem = _find(request, home, kept, now := clock())
            _drop_old(home, problem)
            return status.answer(home, view, known, now)
    except Exception as error:
        from .errors import foreseen

        line = foreseen(error, home)

        if not line:
            raise

        report(line)
        return unavailable()

    return Response(NOT_FOUND, 404)


def _answer_run(request: Request, home: str, kept: dict[str, View] | None, in_process: bool, clock: Callable[[], float],
                report: Callable[[str], object]) -> Response:
    now = clock()

    for attempt in range(TRIES):
        view, known, problem = _find(request, home, kept, now)

        if known is None:
            break

        if known.problem:
            from .errors import Unusable

            raise Unusable(f"state.json: {known.problem}: repair it with `webscheduler edit`")

        from .runs.admission import OPTIMISTIC_TRIES, Cause, Ticket, decide

        ts = None if request.ts is None else int(request.ts)
        ticket = Ticket(known, ts, view.window, client(request, view))
        again = None if attempt < OPTIMISTIC_TRIES else lambda: _find(request, home, kept, now)[:2]
        decision = decide(home, known.name, Cause("url", ticket), now, view, again)

        if decision.claim:
            from .runs.strategies import start_run

            server = server_kind(request.environ, in_process)
            started = start_run(home, decision.claim, known, view, in_process, clock, server)
            return _of_started(home, decision.claim, started, report)

        if decision.reason == "locked":
            return Response(b'{"accepted": true, "run": null, "status": "skipped", "reason": "locked"}', 202)

        if decision.status == "refused":
            problem = decision.reason or ""
            break

        if decision.status != "changed":
            return refused()
    else:
        from .errors import Busy

        raise Busy("state.json changes too often to decide anything: try again")

    _drop_old(home, problem)

    if request.slug != CHECK_SLUG and not _refused_lately(home, now, request.slug):
        from .store.refusals import add_refusal

        if request.problem and not (request.slug and 0 < len(request.signature) <= 64):
            from .pasted import slip

            problem = slip(request.environ) or problem

        add_refusal(home, now, request.method, request.slug, client(request, view), problem, view.find)

    return refused()


def _drop_old(home: str, problem: str) -> None:
    if problem is OVER:
        from .store.old_secret import seen_past

        seen_past(home)


def _refused_lately(home: str, now: float, slug: str) -> bool:
    """Whether no refusal is to be recorded now. Those without a slug, as scanners make them, wait twice as long: half
    of the time there is room for others, however many come."""
    try:
        return 0 <= now - os.stat(f"{home}/refused.json").st_mtime < REFUSALS_EVERY * (1 if slug else 2)
    except OSError:
        return False


def authenticate(request: Request, view: View, now: float) -> tuple[Known | None, str]:
    """(the task if the signature is valid for it, else None; what is wrong, for the owner to read)."""
    found: Known | None = view.find(request.slug or NO_KEY[:32])
    seen = found or Known("", request.slug or NO_KEY[:32], NO_KEY)
    status, timed = request.kind == "status", request.kind == "run" and request.ts is not None

    if view.signed and not timed:
        expected, former = (seen.status, seen.old[1]) if status else (seen.signature, seen.old[0])
    else:
        from .signing import signatures

        expected, former = signatures(seen.slug, request.ts, status, seen.secret, seen.old[2])

    valid, formerly = same(expected, request.signature), same(former, request.signature) and seen.old[2] != NO_KEY

    if request.problem:
        return None, request.problem

    ts = int(request.ts) if timed and request.ts else None

    if ts is not None and abs(now - ts) > view.window:
        return None, "the signature's time is outside the window: is this clock right, and that one?"

    if not (valid or formerly) or found is None or found.secret == NO_KEY:
        return None, "slug and signature do not belong together"

    if not valid:
        if not seen.old[3] <= now < seen.old[4]:
            return None, OVER

        found.secret = seen.old[2]  # whose marks count

    if request.kind == "run" and found.kind not in ("either", "static" if ts is None else "timed"):
        return None, "the task asks for the other kind of signature"

    return found, ""


def client(request: Request, view: View) -> str:
    """The address of the client, as far as it can be trusted; at most 64 characters."""
    if not view.proxies:
        return request.peer[:64]

    from .addresses import client as trusted_client

    return trusted_client(request.peer, request.forwarded, view.proxies)


def same(expected: str, given: str) -> bool:
    """Whether two signatures of 64 characters are equal. The time that it takes does not tell where they differ."""
    one, other = expected.encode("ascii"), given.lower().encode("ascii", "replace")
    different = len(one) ^ len(other)

    for a, b in zip(one, other):
        different |= a ^ b

    return different == 0


def _look(home: str, kept: dict[str, View] | None) -> View:
    """What is known about the installation. If this process serves one request and there is an index, without another
    import."""
    found = open_index(home) if kept is None else None

    if found:
        return found

    from .store.lookup import look

    return look(home, kept)


def _find(request: Request, home: str, kept: dict[str, View] | None, now: float) -> tuple[View, Known | None, str]:
    """(what the task was looked up in; the task in full if the signature is valid for it, else None; what is wrong)."""
    view = _look(home, kept)
    known, problem = authenticate(request, view, now)

    if known is None or not known.unusual:
        return view, known, problem

    from .store.lookup import Parsed, in_full

    found = in_full(view, known)

    if found is None:  # where its row is, the index cannot tell of a state.json that somebody has formatted
        view = Parsed(home)
        known, problem = authenticate(request, view, now)
        found = in_full(view, known) if known else None

    return view, found, problem


def _of_started(home: str, claim: Claim, started: Started, report: Callable[[str], object]) -> Response:
    from .errors import WebschedulerError
    from .vocabulary import DETACHED, DUE, SUCCESS

    entry = started.entry

    if entry is None:
        text = (f'{{"accepted": true, "run": "{claim.run}", "strategy": "{started.strategy}", "detached": '
                f'{"true" if started.strategy in DETACHED else "false"}, "status": "running"}}')
        return Response(text.encode("ascii"), 202, after=started.after)

    import json

    from .store import state

    status = 200

    if entry["status"] != SUCCESS and claim.name != DUE:
        try:
            row = state.read_row(home, claim.name)
        except WebschedulerError:
            row = None  # the command has run, and that is what the caller must hear

        status = row.get("failureStatus") or 200 if isinstance(row, dict) else 200

    document = {"accepted": True, "run": entry["run"], "strategy": "sync", "detached": False, "status": entry["status"],
                "reason": entry["reason"], "exitCode": entry["exitCode"], "duration": entry["duration"], "output": ""}

    if not entry.get("recorded", True):  # never 503: the caller would repeat what has run
        document["recorded"] = False
        report(f"webscheduler: run {claim.run} of {claim.name} is not recorded yet: {entry.get('problem')}")

    room = MAX_REPLY - len(json.dumps(document))
    output = (entry["output"] or entry["errorOutput"])[:room]

    while len(json.dumps(output)) > room:  # with its escapes: a panel that reads 4 KiB must get all
        output = output[: len(output) * 3 // 4]

    document["output"] = output
    return Response(json.dumps(document).encode("ascii"), status)
