# SPDX-License-Identifier: LGPL-3.0-or-later
"""The installation as a whole: health, commands, export, import, metrics.

The rules: what an import changes is decided by `applying`, as on the command line, and everything is checked before
anything is written. What names a program, a directory or the environment cannot be changed by it: that is for the
command line of the host, so that a stolen key is not a shell. Metrics are read from the state and the claims alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any, Callable
from urllib.parse import urlencode

from .. import __version__, applying
from ..commands import registry
from ..editing import stamp as stamp_of
from ..errors import BadInput, Stale
from ..host.overall import overall
from ..http import NOSNIFF, Response, fields
from ..interchange import exporting, importing
from ..runs import health
from ..store import state
from ..store.task import DUE, shown
from ..times import instant
from ..vocabulary import RUNNING, SUCCESS
from .table import CHANGES, Call, fit, page, respond
from .tasks import stamps

TEXT = "text/plain; charset=utf-8"
OF_HEALTH = ("unhealthy", "running", "warnings", "errors")  # what of it may be long
METRICS = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus, "Exposition formats"


def health_of(call: Call) -> Response:
    """GET /health. Viewers are not told where the home is. What is of no task is in the first part."""
    tasks: dict[str, str] = {}
    found = overall(call.settings, call.now, tasks=tasks)

    def of(row: Any) -> str:
        return tasks.get(row, "") if isinstance(row, str) else str(row["name"])

    def part(names: Collection[str], more: dict[str, Any]) -> Any:
        value = {**found, **{field: [row for row in found[field] if of(row) in names] for field in OF_HEALTH}, **more}
        return value if call.person.may("editor") else json.loads(
            json.dumps(value).replace(json.dumps(call.home)[1:-1], "…"))

    return page(call, {of(row) for field in OF_HEALTH for row in found[field]}, part)


def commands(call: Call) -> Response:
    """GET /commands."""
    rows = {row["name"]: {field: value for field, value in row.items() if field != "cwd"}
            for row in registry.documents(call.settings)}
    return page(call, rows, lambda names, more: {
        "commands": [row for name, row in rows.items() if name in names], **more})


def export(call: Call) -> Response:
    """GET /export. Parts that have the same stamp are of the same tasks."""
    kind, rows = call.query["format"], state.read_strictly(call.home)
    stamp = _checked_stamp(call, [*call.settings.items(), *((name, stamp_of(name, row)) for name, row in rows.items())])

    def part(names: Collection[str], more: dict[str, Any]) -> Response:
        body = exporting.whole(kind, call.settings, rows, call.query["secrets"], names, more)
        query = urlencode([*((name, text) for name, text in fields(str(call.environ.get("QUERY_STRING", "")))
                             if name != "after"), ("after", more.get("next"))], errors="surrogatepass")
        return Response(body, kind="application/json" if kind == "json" else TEXT, headers=[
            NOSNIFF, ("ETag", f'"{stamp}"'), *([("Link", f'<?{query}>; rel="next"')] if more.get("next") else [])])

    found = page(call, shown(rows), part)
    call.note("exported tasks", kind)
    return found


def _checked_stamp(call: Call, value: Any) -> str:
    """The stamp of what is read, or is to be changed. Raises Stale if it is none of If-Match."""
    stamp = hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
    seen = stamps(call)

    if seen and stamp not in seen:
        raise Stale("somebody changed it since it was looked at: do it again")

    return stamp


def import_tasks(call: Call) -> Response:
    """POST /import."""
    document = importing.decoded(call.body, "the body")

    if not document.lstrip().startswith("{"):  # the command line reads lists, too, but no export is one
        raise BadInput("the body must be the document of an export")

    arrival = importing.of_document(document, "the body")

    if arrival.logs:
        arrival.logs.clear()
        arrival.said.append(importing.NO_HISTORY)

    changes = applying.differences(call.settings, arrival, call.now, call.query["prune"], True)

    found = [change._asdict() for change in changes]
    stamp = _checked_stamp(call, found)
    written = not call.query["dryRun"] and applying.apply(call.settings, arrival, changes, call.now, True)

    if written:
        call.note("imported tasks", " ".join(change.task for change in changes if change.change != "same"))

    counts = {kind: sum(change.change == kind for change in changes) for kind in CHANGES}
    ordered = sorted(found, key=lambda change: CHANGES.index(change["change"]))

    def part(count: int) -> Response:
        more = len(found) - count
        return respond(call, {
            "changes": ordered[:count] if more > 0 else found, "counts": counts, "written": written,
            "said": arrival.said[:count] + [f"{more} more tasks are not listed: the answer has no room"] * (more > 0),
        }, ETag=f'"{stamp}"')

    return fit(max(len(found), len(arrival.said)), part)[0]


# Name -> its help, and its value for the row of a task; None: there is none.
OF_TASKS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "enabled": ("Whether URL and schedule start the task.", lambda row: bool(row.get("enabled"))),
    "last_run_timestamp_seconds": ("When the last run started.", lambda row: instant(row.get("lastRunAt")) or None),
    "last_success_timestamp_seconds": (
        "When the last run started, if it succeeded; there is no value while the last one did not.",
        lambda row: (instant(row.get("lastRunAt")) or None) if row.get("lastRunStatus") == SUCCESS else None),
    "last_duration_seconds": ("How long the last run took.", lambda row: row.get("lastRunDuration")),
    "last_exit_code": ("Exit status of the last run.", lambda row: row.get("lastRunExitCode")),
    "consecutive_failures": ("How many runs failed in a row.", lambda row: row.get("consecutiveFailures") or 0),
    "running": ("Whether a run is in progress.", lambda row: row[RUNNING]),
    "late": ("Whether its schedule asked for a run that has not begun.", lambda row: row["late"]),
}


def metrics(call: Call) -> Response:
    """GET /metrics."""
    rows, alive = health.as_they_are(call.home, state.read(call.home), call.now)
    tasks = {name: row for name, row in shown(rows).items() if isinstance(row, dict)}
    running = {facts.get("name") for facts in alive}
    late = set(health.late(call.settings, rows, list(tasks), call.now))
    labels = list(tasks)

    if not call.person.may("editor"):
        from ..admin.redaction import hide_in

        labels = hide_in(call.home, labels, call.settings)

    escapes = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r'\"'})
    known = {name: (label.translate(escapes), {**row, RUNNING: name in running, "late": name in late})
             for label, (name, row) in zip(labels, tasks.items())}
    last = instant(tasks.get(DUE, {}).get("lastRunAt"))

    def part(names: Collection[str], _: dict[str, Any]) -> Response:
        lines = _metric("up", "Whether this installation works.", [(f'{{version="{__version__}"}}', 1)])

        for metric, (about, value) in OF_TASKS.items():
            lines += _metric(f"task_{metric}", about, [
                (f'{{task="{label}"}}', value(row)) for name, (label, row) in known.items() if name in names])

        lines += _metric("tick_last_timestamp_seconds", "When due tasks were last looked for.", [("", last or None)])
        return Response("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"), kind=METRICS,
                        headers=[NOSNIFF])

    return page(call, known, part)


def _metric(name: str, about: str, values: list[tuple[str, Any]]) -> list[str]:
    """The lines of a metric, with what has a value."""
    samples = [f"webscheduler_{name}{labels} {float(value)!r}" for labels, value in values
               if isinstance(value, (bool, int, float))]
    return [f"# HELP webscheduler_{name} {about}", f"# TYPE webscheduler_{name} gauge", *samples]



