# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks: listed, read, made and changed.

The rules: tasks are changed by `editing` alone, as in the panel: no program, directory or environment, and some fields
by owners alone. If a request says which stamp it has seen (`If-Match`), the task must still have it when it is written.
What an answer shows of a task is what was written, not what another has written since.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import quote

from .. import editing, signing
from ..errors import BadInput, Conflict
from ..http import NOSNIFF, Response
from ..runs import health
from ..schedule import slots
from ..store import state
from ..store.task import FIELDS, Task, check_name, load_task, load_tasks, shown
from ..times import parse_time, time_zone
from .table import OF_TASK, Call, Problem, page, respond

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Facts

NEXT_RUNS = 5
LATEST = parse_time("9999-01-01T00:00:00+00:00")
HIDDEN = (*editing.OF_COMMAND_LINE, "slug")


def index(call: Call) -> Response:
    """GET /tasks."""
    query = call.query
    rows, alive = health.as_they_are(call.home, state.read(call.home), call.now)
    running = {facts.get("name") for facts in alive}
    places = {name: place for place, name in enumerate(rows)}
    names = list(shown(rows))

    for field in ("group", "command"):
        if query[field] is not None:
            names = [name for name in names if isinstance(rows[name], dict) and query[field] == (
                rows[name].get(field, FIELDS[field].default) or (name if field == "command" else ""))]

    if query["state"] is not None:
        late = set(health.late(call.settings, rows, names, call.now) if query["state"] in health.UNLESS_LATE else ())
        names = [name for name in names if health.state_of(rows[name], name in running, name in late) == query["state"]]

    def part(names: Collection[str], more: dict[str, Any]) -> dict[str, Any]:
        late = set(health.late(call.settings, rows, list(names), call.now))
        tasks, broken = load_tasks({name: rows[name] for name in names})
        return {"tasks": [{**_public(call, tasks[name], alive, name in late), "position": places[name]}
                          if name in tasks else {"name": name, "error": broken[name]} for name in names], **more}

    return page(call, names, part)


def _public(call: Call, task: Task, alive: list[Facts], late: bool) -> dict[str, Any]:
    """The task as the key's role may see it."""
    public = editing.public(call.settings, task, call.now)
    hidden = (*HIDDEN, *(() if call.person.may("editor") else ("url",)),
              *(() if call.person.may("owner") else editing.OF_OWNERS))
    running = [facts.get("run") for facts in alive if facts.get("name") == task.name]
    return {**{field: value for field, value in public.items() if field not in hidden},
            "state": health.state_of(task, bool(running), late), "running": running}


def _answer(call: Call, name: str, row: Any, status: int = 200, **more: Any) -> Response:
    """A task, as a row of state.json or loaded, with its stamp."""
    rows, alive = health.as_they_are(call.home, {name: row}, call.now)
    stamp = f'"{editing.stamp(name, row)}"'

    try:
        task = load_task(name, rows[name])
    except BadInput as error:
        return respond(call, {"name": name, "error": str(error)}, status, ETag=stamp)

    late = bool(health.late(call.settings, rows, [name], call.now))
    document = {**_public(call, task, alive, late), "nextRuns": _starts(call, task, call.now, NEXT_RUNS), **more}
    headers = {"Location": _path(call, name)} if status == 201 else {}
    return respond(call, document, status, ETag=stamp, **headers)


def _path(call: Call, name: str) -> str:
    """Where a task is, in the form in which the request came."""
    root = quote(str(call.environ.get("SCRIPT_NAME", "")).encode("latin-1", "replace").rstrip(b"/"))
    path = quote(name, "", errors="surrogatepass")
    return f"{root}?api={quote(f'v1/tasks/{path}', '')}" if call.by_query else f"{root}/api/v1/tasks/{path}"


def _starts(call: Call, task: Task, at: float, count: int) -> list[str]:
    """When the task starts next from then on; nothing where its schedule cannot be read."""
    zone = task["timezone"] or call.settings["timezone"]

    try:
        return [datetime.fromtimestamp(start, time_zone(zone)).isoformat(timespec="seconds")
                for start in islice(slots.starts(task, zone, at), count)]
    except BadInput:
        return []
    except (ValueError, OverflowError, OSError):
        raise BadInput("from: that is beyond the year 9999", "from")


def _row(call: Call) -> tuple[str, Any]:
    """(name, row) of the task that the path names, also one that cannot be loaded; none of the program's own."""
    name, rows = call.path["name"], shown(state.read(call.home))
    return name, rows[name] if name in rows else editing.row_of(rows, name)


def stamps(call: Call) -> tuple[str, ...]:
    """What If-Match says (RFC 9110, 13.1.1); none if it leaves it open."""
    text = str(call.environ.get("HTTP_IF_MATCH", "")).strip()
    return () if text in ("", "*") else ("", *(tag for weak, tag in re.findall(r'(W/)?"([^"]*)"', text) if not weak))


def _given(call: Call) -> tuple[str | None, dict[str, Any]]:
    """(the name, the fields) of the body; a schedule replaces that of the other kind."""
    fields = dict(call.body)
    name = fields.pop("name", None)

    for field in editing.OF_OWNERS:
        if field in fields and not call.person.may("owner"):
            raise Problem(403, f"{field}: can only be changed by owners", field)

    if fields.get("expression") and fields.get("intervalSeconds"):
        raise BadInput("expression: give either it or intervalSeconds", "expression")

    for one, other in (("expression", "intervalSeconds"), ("intervalSeconds", "expression")):
        if fields.get(one):
            fields[other] = None

    return name, fields


def one(call: Call) -> Response:
    return _answer(call, *_row(call))


def create(call: Call) -> Response:
    name, fields = _given(call)
    return _created(call, str(name), fields)


def _created(call: Call, name: str, fields: dict[str, Any]) -> Response:
    task = editing.create(call.settings, name, fields, call.now, panel=True)
    call.note("created", name)
    return _answer(call, name, task, 201, secret=task["secret"])


def edit(call: Call) -> Response:
    old, row = _row(call)
    new, fields = _given(call)
    new = old if new is None else check_name(new)

    if not fields and new == old:
        editing.row_of({old: row}, old, stamps(call))
        return _answer(call, old, row)

    task = editing.edit(call.settings, old, fields, call.now, panel=True, new=new, stamps=stamps(call))

    if new != old:
        call.note("renamed", f"{old} {new}")

    if fields:
        call.note("changed", f"{new} {' '.join(sorted(fields))}")

    return _answer(call, new, task)


def remove(call: Call) -> Response:
    name, _ = _row(call)
    editing.remove(call.home, name, call.now, call.query["keepLogs"], stamps(call))
    call.note("removed", name)
    return Response(b"", 204, headers=[NOSNIFF])


def enable(call: Call, on: bool = True) -> Response:
    name, _ = _row(call)
    editing.set_enabled(call.home, [name], on, call.now, stamps(call))
    call.note("enabled" if on else "disabled", name)
    return one(call)


def disable(call: Call) -> Response:
    return enable(call, False)


def duplicate(call: Call) -> Response:
    name, row = _row(call)
    task = load_task(name, row)

    for field in editing.OF_COMMAND_LINE:
        if task[field] != FIELDS[field].default:
            raise Conflict(f"{field}: was set on the command line, and cannot be copied here", field)

    editing.row_of({name: row}, name, stamps(call))
    owner = call.person.may("owner")
    return _created(call, call.body["name"], {
        field: task[field] for field in OF_TASK if owner or field not in editing.OF_OWNERS})


def rotate(call: Call) -> dict[str, Any]:
    name, _ = _row(call)
    task = editing.rotate_secret(call.home, name, call.body["keepOld"], call.now, stamps(call))
    call.note("made a new secret", name)
    return {"url": editing.public(call.settings, task, call.now)["url"], "secret": task["secret"]}


def url(call: Call) -> dict[str, Any]:
    task, kind, base = load_task(*_row(call)), call.query["kind"], call.settings["baseUrl"]

    if not base or not task["slug"] or not task["secret"]:
        raise Conflict("the task has no URL yet: make a new secret" if base else
                       "the setting baseUrl is empty: `webscheduler config set baseUrl https://...`")

    if kind == "status":
        return {"url": signing.status_url(base, task["slug"], task["secret"])}

    if task["signature"] == ("static" if kind == "timed" else "timed"):
        raise Conflict(f"kind: {task.name} takes {task['signature']} signatures only: `webscheduler edit {task.name} "
                       "--signature either` lets it take both", "kind")

    at = int(call.now) if kind == "timed" else None
    return {"url": signing.trigger_url(base, task["slug"], task["secret"], at)}


def next_starts(call: Call) -> dict[str, Any]:
    at = call.now if call.query["from"] is None else parse_time(call.query["from"])

    if not 0 <= at < LATEST:
        raise BadInput("from: must be from 1970 to 9998", "from")

    name, row = _row(call)
    task = load_task(name, health.as_they_are(call.home, {name: row}, call.now)[0][name])

    if call.query["from"] is not None:  # counted from there, whatever is known of its runs
        kept = {field: task[field] for field in ("expression", "intervalSeconds", "timezone")}
        task = load_task(name, {**kept, "lastRunAt": call.query["from"]})

    return {"next": _starts(call, task, at, call.query["count"])}
