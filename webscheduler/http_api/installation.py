# SPDX-License-Identifier: LGPL-3.0-or-later
"""The installation as a whole: health, commands, export, import, metrics.

The rules: what an import changes is decided by `applying`, as on the command line, and everything is checked before
anything is written. What names a program, a directory or the environment cannot be changed by it: that is for the
command line of the host, so that a stolen key is not a shell. Metrics are read from the state and the claims alone.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Callable

from .. import __version__, applying
from ..commands import registry
from ..errors import BadInput, Stale
from ..host.overall import overall
from ..http import NOSNIFF, Response
from ..interchange import exporting, importing
from ..runs import health
from ..store import state
from ..store.task import DUE, shown
from ..times import instant
from ..vocabulary import RUNNING, SUCCESS
from .table import Call, respond
from .tasks import stamps

TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus, "Exposition formats"


def health_of(call: Call) -> dict[str, Any]:
    """GET /health. Viewers are not told where the home is."""
    found = overall(call.settings, call.now)

    if not call.person.may("editor"):
        found = json.loads(json.dumps(found).replace(json.dumps(call.home)[1:-1], "…"))

    return found


def commands(call: Call) -> dict[str, Any]:
    """GET /commands."""
    return {"commands": [{field: value for field, value in row.items() if field != "cwd"}
                         for row in registry.documents(call.settings)]}


def export(call: Call) -> Response:
    """GET /export."""
    kind = call.query["format"]
    body = exporting.whole(kind, call.settings, state.read_strictly(call.home), call.query["secrets"])
    call.note("exported tasks", kind)
    return Response(body, kind="application/json" if kind == "json" else TEXT, headers=[NOSNIFF])


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
    stamp = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:32]
    seen = stamps(call)

    if seen and stamp not in seen:
        raise Stale("what the import changes is not what it was: look at it again")

    written = not call.query["dryRun"] and applying.apply(call.settings, arrival, changes, call.now, True)

    if written:
        call.note("imported tasks", " ".join(change.task for change in changes if change.change != "same"))

    return respond(call, {"changes": found, "written": written, "said": arrival.said}, ETag=f'"{stamp}"')


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

    known = [(_escaped(label), {**row, RUNNING: name in running, "late": name in late})
             for label, (name, row) in zip(labels, tasks.items())]
    lines = [*_metric("up", "Whether this installation works.", [(f'{{version="{__version__}"}}', 1)])]

    for metric, (about, value) in OF_TASKS.items():
        lines += _metric(f"task_{metric}", about, [(f'{{task="{label}"}}', value(row)) for label, row in known])

    last = instant(tasks.get(DUE, {}).get("lastRunAt"))
    lines += _metric("tick_last_timestamp_seconds", "When due tasks were last looked for.", [("", last or None)])
    return Response("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"), kind=METRICS,
                    headers=[NOSNIFF])


def _metric(name: str, about: str, values: list[tuple[str, Any]]) -> list[str]:
    """The lines of a metric, with what has a value."""
    samples = [f"webscheduler_{name}{labels} {float(value)!r}" for labels, value in values
               if isinstance(value, (bool, int, float))]
    return [f"# HELP webscheduler_{name} {about}", f"# TYPE webscheduler_{name} gauge", *samples]


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

