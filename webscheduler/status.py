# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a status URL answers.

The rule: `runs.health` decides. Of a task that is neither running nor due, its line of the index and its row say all of
that, and the same bytes are made of them without the modules that know schedules, zones and JSON: monitors ask often.
"""

from __future__ import annotations

import os

from .http import NOT_FOUND, Response
from .store import file_name
from .vocabulary import DUE, FAILURES, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store.index import Known
    from .store.lookup import View


def answer(home: str, view: View, known: Known | None, now: float) -> Response:
    """The answer: 200 healthy, 503 not; 404 with the same bytes for each that is refused. known: None for those."""
    found = report(home, view, known, now) if known else None
    return Response(found[1].encode("ascii"), 200 if found[0] else 503) if found else Response(NOT_FOUND, 404)


def report(home: str, view: View, known: Known, now: float) -> tuple[bool, str] | None:
    """(whether the task is healthy, the answer as JSON); None if it was removed meanwhile. known, view: the task, and
    what its signature was compared with."""
    return plain_report(home, view, known, now) or _report(home, view, known, now)


def _report(home: str, view: View, known: Known, now: float) -> tuple[bool, str] | None:
    import json

    from .runs.health import health
    from .store import state
    from .store.lookup import one_row
    from .store.settings import load_settings

    # What @due says is about all tasks; of another its own row is enough.
    if known.name == DUE:
        tasks = state.read(home)
    else:
        row = one_row(view.row(known))
        tasks = dict([row]) if row else {known.name: state.read_row(home, known.name)}

    if not isinstance(tasks.get(known.name), dict):
        return None

    found = health(load_settings(home), tasks, known.name, now)
    return found["status"] == "healthy", json.dumps(found)


def plain_report(home: str, view: View, known: Known, now: float) -> tuple[bool, str] | None:
    """The same of a task that is neither running nor due, from its line of the index and its row; None for another."""
    if not known.since <= now < known.due or known.name == DUE or any(
            entry.lstrip("~").startswith(f"{file_name(known.name)}@") for entry in os.listdir(f"{home}/runs")):
        return None

    row = view.row(known) or b""
    braces = 1 + row.count(b'"environment": {}')
    values = [_plain(row, field) for field in ("lastRunAt", "lastRunStatus", "lastRunDuration")]

    # No object within the row, in which there might be another field of such a name.
    if not row.startswith(b'"%s": {' % known.name.encode()) or not row.count(b"{") == row.count(b"}") == braces:
        return None

    if None in values or values[1] == f'"{RUNNING}"':
        return None

    failing = known.enabled and values[1] in [f'"{status}"' for status in FAILURES]
    coming = "null" if known.next == "-" else f'"{known.next}"'
    text = (f'{{"task": "{known.name}", "status": "{"failing" if failing else "healthy"}", "running": false, '
            f'"nextRunAt": {coming}, "lastRunAt": {values[0]}, "lastRunStatus": {values[1]}, '
            f'"lastRunDuration": {values[2]}}}')
    return not failing, text


def _plain(row: bytes, field: str) -> str | None:
    """A field's value as `json` would write it again; None if that takes more than to copy it."""
    _, _, rest = row.partition(b'"%s": ' % field.encode())
    quoted = rest.startswith(b'"')
    text = (rest[1:].partition(b'"')[0] if quoted else rest.partition(b",")[0].rstrip(b"}")).decode("latin-1")

    if b'"%s": ' % field.encode() in rest:
        return None

    if quoted:
        return f'"{text}"' if text.isascii() and text.isprintable() and "\\" not in text else None

    try:
        return text if text == "null" or text in (repr(float(text)), str(int(float(text)))) else None
    except (ValueError, OverflowError):
        return None
