# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs: started, followed, ended, listed.

The rules: runs are started as in the panel, by a strategy that lets the answer go at once where this host has one. A
run is found by its id; nothing from a request becomes a path. Lists are read from their ends, and only as far as an
answer has room. Who may not see a secret sees no part of it, wherever a piece of an output begins and ends.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ..errors import BadInput
from ..http import Response, server_kind
from ..runs import by_hand, cancel, output
from ..runs.output import MOST, STREAMS
from ..store import history, history_view, state
from ..store.task import DUE, is_internal, shown
from ..times import parse_time
from ..vocabulary import ENTRY, FINISHED, RUNNING
from .table import MAX_ANSWER, Call, Problem, respond

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Entry, Facts

ROOM = MAX_ANSWER * 2 // 5  # characters of a list, before the last entry of it
LONGEST_ENTRY = MAX_ANSWER // 2
AROUND = 16 * 1024  # bytes around a piece of an output in which a secret may be that goes over its ends
GRACE = 3.0  # seconds for a run to end
PAUSE, LONGEST_PAUSE = 0.02, 0.25  # seconds between two looks at a run


def run_now(call: Call) -> Response:
    name, rows = call.path["name"], shown(state.read(call.home))

    if name not in rows:
        raise Problem(404, f"there is no task {name[:100]!r}")

    return _start(call, name, call.body["wait"])


def run_due(call: Call) -> Response:
    return _start(call, DUE, 0)


def _start(call: Call, name: str, wait: float) -> Response:
    """Start a task. Where the host lets no run outlive its request, the answer comes after the run, however long that
    takes; where the run begins after the answer, nothing can be waited for."""
    found = by_hand.start(call.home, name, "api", call.in_process, call.clock,
                          server_kind(call.environ, call.in_process))

    if found is None:
        raise Problem(409, f"{name} is running already")

    run, started = found
    call.note("ran", name)
    entry: Any = started.entry and (output.look(call.home, name, [name], run)[1] or started.entry)
    until, pause = time.monotonic() + wait, PAUSE

    while not entry and not started.after and time.monotonic() < until:
        time.sleep(min(pause, max(0.0, until - time.monotonic())))
        pause = min(pause * 1.5, LONGEST_PAUSE)
        facts, entry = output.look(call.home, name, [name], run)

        if not facts and not entry:
            break  # its process is gone, and the next call of the task records that

    if entry:
        return respond(call, _bounded(entry))

    response = respond(call, {"task": name, "run": run, "status": RUNNING, "strategy": started.strategy}, 202)
    response.after = started.after
    return response


def _asked(call: Call) -> tuple[str, str, Facts | None, Entry | None]:
    """(task, run id, `output.look`) of the run that the path names."""
    name, run = call.path["name"], call.path["run"]
    found = None if is_internal(name, state.read(call.home).get(name)) else output.of_task(call.home, name, run)

    if found is None:
        raise Problem(404, "there is no such run; its history may have been cleared")

    return (name, run, *found)


def one(call: Call) -> Any:
    name, run, facts, entry = _asked(call)
    return _bounded(entry) if entry else {"task": name, **output.in_progress(facts or {}, run), "command": name}


def output_of(call: Call) -> dict[str, Any]:
    _, run, _, entry = _asked(call)
    stream, most, viewer = call.query["stream"], MOST, not call.person.may("editor")

    while True:
        piece = output.piece(call.home, run, stream, call.query["offset"], entry, most, AROUND if viewer else 0)
        text = piece.text(_hidden(call, piece) if viewer else None)

        if len(json.dumps(text)) < MAX_ANSWER - 1000:
            return {"stream": stream, "offset": piece.offset, "next": piece.next, "text": text, "ended": piece.ended}

        most //= 2


def _hidden(call: Call, piece: output.Piece) -> bytes:
    from ..admin.redaction import hide

    return hide(call.home, piece.data, False, call.settings, (piece.first, piece.last))


def cancel_run(call: Call) -> Response:
    name, run, facts, _ = _asked(call)

    if facts is None:
        raise Problem(409, "the run has ended already")

    call.note("cancelled", f"{name} {run}")

    try:
        ended = cancel.end(call.home, name, run, GRACE)
    except BadInput as error:
        raise Problem(409, str(error))

    return respond(call, {"task": name, "run": run, "ended": ended}, 202)


def index(call: Call) -> dict[str, Any]:
    query, rows = call.query, state.read(call.home)
    chosen = [each for name in query["task"] or [None] for each in history_view.chosen(call.home, name)
              if not is_internal(each, rows.get(each))]

    if wrong := set(query["status"] or ()) - set(FINISHED):
        raise Problem(400, f"status: {min(wrong)[:40]!r} must be one of {', '.join(FINISHED)}", "status")

    since, until = (absent if query[field] is None else parse_time(query[field])
                    for field, absent in (("since", 0.0), ("until", call.now + 86400)))

    try:
        entries, more = history_view.page(
            call.home, list(dict.fromkeys(chosen)), query["status"] or (), since, until, query["cursor"] or "",
            query["limit"], room=ROOM, shown=_bounded if query["output"] else _without_output)
    except (ValueError, OverflowError):
        raise Problem(400, "cursor: must be `next` of the answer before", "cursor")

    return {"runs": entries, "next": more or None}


def _without_output(entry: Entry) -> Any:
    return _bounded({key: value for key, value in entry.items()
                     if key not in STREAMS.values()})


def _bounded(entry: Any) -> Any:
    """The entry as it is, unless it is one that only an import can have brought: then its texts are cut."""
    if len(json.dumps(entry)) <= LONGEST_ENTRY:
        return entry

    found, half = {}, history.LIMIT // 4

    for key, value in entry.items():
        data = str(value).encode("utf-8", "backslashreplace")

        if key in STREAMS.values():
            more = len(data) - 2 * half
            found[key] = history.clip(data[:half], data[-half:], more) if more > 0 else value
        elif key in ENTRY or key == "recorded":
            found[key] = value if len(data) < 1000 else data[:1000].decode("utf-8", "ignore")

    return found

