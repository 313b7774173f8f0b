# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pages about runs: history, one run, its raw output, cancelling it.

The rules: the output of a command is text, never markup; raw output is sent as text/plain. Of a run in progress only
the last part of its output file is read. A run is found by its id; nothing from a request becomes a path.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ..errors import BadInput
from ..runs import cancel, output
from ..store import chains, history_cleaning, history_reading, history_view, processes, state
from ..store.task import shown
from ..times import time_zone
from ..vocabulary import FAILURES, RUNNING, STATUSES, TRIGGERS
from . import show
from .controls import CHECKED
from .show import badge, button, confirm, duration, facts, link, moment, options, outcome, page, paragraph
from .web import Html, Refused, Visit, h, respond

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..http import Response
    from ..shapes import Entry, Facts

REFRESH = 2  # seconds


def table(visit: Visit, entries: Sequence[Entry], alive: Sequence[Facts], single: bool) -> Html:
    """Runs as a table, those in progress first. single: all belong to one task."""
    # `command` is a process in a claim, and the task's name in a line of history.
    running: list[Any] = [{**known, "command": known.get("name"), "status": RUNNING, "finishedAt": None}
                          for known in alive]
    rows = [_row(visit, entry, single) for entry in (*running, *entries)]

    if not rows:
        sought = not single and any(visit.query.get(each) for each in ("status", "from", "to", "before"))
        return paragraph(visit, "No runs found." if sought else "No runs yet: each appears here once it begins.",
                         "empty")

    return show.table(visit, "Runs", ["Time", *([] if single else ["Task"]), "Outcome", "Duration", "Started by"], rows)


def _row(visit: Visit, entry: Entry, single: bool) -> Html:
    name, run, count = str(entry.get("command") or ""), entry.get("run"), entry.get("count")
    when = moment(visit, entry.get("startedAt"), linked=bool(run))
    href = visit.href("run", name=name, run=run)
    return h("<tr><td>{when}</td>{task}<td>{outcome}{times}</td><td>{took}</td><td>{by}</td></tr>",
             when=h('<a href="{href}">{when}</a>', when=when, href=href) if run else when,
             task="" if single else h('<td><a href="{href}">{name}</a></td>', name=name,
                                      href=visit.href("task", name=name)),
             outcome=outcome(visit, entry), took=duration(visit, entry.get("duration")) if run else "",
             by=_by(visit, entry),
             times=h(' <span class="sub">× {n}</span>', n=count) if isinstance(count, int) and count > 1 else "")


def _by(visit: Visit, entry: Entry) -> Html:
    return h('{by} <span class="sub">{ip}</span>', by=visit.t(TRIGGERS.get(str(entry.get("trigger")), "–")),
             ip=entry.get("ip"))


def index(visit: Visit) -> Response:
    """The history of one task or of all, newest first."""
    query = visit.query
    name, status = query.get("name", ""), query.get("status", "")
    rows = state.read(visit.home)
    internal = rows.keys() - shown(rows)
    known = history_view.names(visit.home, rows)
    names = [each for each in known if name in ("", each)]
    statuses = FAILURES if status == "problems" else (status,) if status in STATUSES else ()
    since, until = _day(visit, query.get("from", ""), 0, 0.0), _day(visit, query.get("to", ""), 1, visit.now + 86400)
    cursor, idle = query.get("before", ""), query.get("idle")

    try:
        entries, more = history_view.page(visit.home, names, statuses, since, until, cursor, idle=bool(idle))
    except (ValueError, OverflowError):
        raise Refused(400, "The request cannot be read.")

    alive = [] if cursor or status not in ("", RUNNING) else [
        each for each in processes.live_runs(visit.home)
        if name in ("", each.get("name")) and each.get("name") not in internal]
    kept: dict[str, Any] = {"name": name, "status": status, "from": query.get("from"), "to": query.get("to"),
                            "idle": idle}
    older = h("<p>{link}</p>", link=link(visit, "Older", "history", before=more, **kept)) if more else ""
    clear = link(visit, "Clear…", "clear", name=name) if visit.may("editor") and known else ""
    tasks = options([("", visit.t("All tasks")), *((each, each) for each in known)], name)
    outcomes = options([("", visit.t("All outcomes")), ("problems", visit.t("Problems")),
                        *((each, visit.t(text)) for each, text in STATUSES.items())], status)
    return page(visit, "History", visit.html(
        "history", clear=clear, table=table(visit, entries, alive, False), older=older, tasks=tasks, statuses=outcomes,
        action=visit.href("history").partition("?")[0], hidden=visit.hidden("history"), since=kept["from"],
        until=kept["to"], idle=CHECKED if idle else ""))


def _day(visit: Visit, text: str, more: int, absent: float) -> float:
    """Unix seconds at which a day (YYYY-MM-DD) begins in the installation's zone, or with `more` just before it ends;
    `absent` for what is no day."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=time_zone(visit.settings["timezone"]))
        return (day + timedelta(days=more)).timestamp() - (0.001 if more else 0.0)
    except (ValueError, OverflowError):
        return absent


def one(visit: Visit) -> Response:
    """One run with its output; the page refreshes itself while the run is in progress."""
    name, run, known, entry = _asked(visit)
    title = visit.t("Run of {name}", name=name)
    again = visit.href("run", name=name, run=run, poll=1)
    return page(visit, title, visit.html(
        "run", href=visit.href("task", name=name), name=name, title=title,
        body=_ended(visit, entry) if entry else _running(visit, name, run, known)), head="" if entry else h(
            '\n<noscript><meta http-equiv="refresh" content="{n}; url={again}"></noscript>', n=REFRESH, again=again))


def _asked(visit: Visit) -> tuple[str, str, Facts | None, Entry | None]:
    """(task, run id, `output.look`) of the run that the query names. Raises Refused."""
    name, run = visit.query.get("name", ""), visit.query.get("run", "")
    found = output.of_task(visit.home, name, run)

    if found is None:
        raise Refused(404, "There is no such run; its history may have been cleared.")

    return (name, run, *found)


def _running(visit: Visit, name: str, run: str, known: Facts | None) -> Html:
    state = h("{badge} {text}", badge=badge(visit, RUNNING), text=visit.t(
        "since {when}", when=moment(visit, known.get("startedAt"), exact=True))) if known else visit.t(
            "Its process is gone. The next call of the task records how far it got.")
    return visit.html(
        "running", seconds=REFRESH if known else 0, state=state,
        stop=button(visit, "cancel", "Cancel the run", "danger", name=name, run=run)
        if known and visit.may("editor") else "",
        output=_output(visit, visit.t("Output so far"), output.so_far(visit.home, run),
                       visit.href("output", name=name, run=run)))


def _ended(visit: Visit, entry: Entry) -> Html:
    name, run = str(entry.get("command")), str(entry.get("run"))
    query = {"name": name, "run": run}
    note = visit.html("unrecorded") if "recorded" in entry else ""
    again = button(visit, "run-now", "Run again", name=name) if (
        visit.may("editor") and name in state.read(visit.home)) else ""
    return visit.html(
        "ended", outcome=[outcome(visit, entry), note], again=again, facts=facts(visit, [
            ("Started", moment(visit, entry.get("startedAt"), exact=True)),
            ("Ended", moment(visit, entry.get("finishedAt"), exact=True)),
            ("Duration", duration(visit, entry.get("duration"))),
            *((title, show.amount(visit, key, value)) for key, title in show.COSTS.items()
              if (value := history_view.cost(entry, key)) is not None), ("Started by", _by(visit, entry)),
            ("Strategy", entry.get("strategy") or "–"),
            ("Scheduled for", moment(visit, entry["scheduledFor"])) if entry.get("scheduledFor") else None,
            ("Followed", _before(visit, name, entry["after"] or "")) if entry.get("after") else None,
            ("Attempt", entry["attempt"]) if (entry.get("attempt") or 1) > 1 else None,
            ("Run", h("<code>{run}</code>", run=run))]),
        streams=[_output(visit, title, str(entry.get(stream) or ""), visit.href("output", stream=stream, **query))
                 for title, stream in ((visit.t("Output"), "output"), (visit.t("Error output"), "errorOutput"))])


def _before(visit: Visit, name: str, run: str) -> Html:
    """The run that one of the task followed."""
    leading = chains.leaders(state.read(visit.home)).get(name, [])
    found = history_reading.find(visit.home, leading, run)
    return h('<a href="{href}">{name}</a>', name=found["command"], href=visit.href(
        "run", name=found["command"], run=run)) if found else h("{run}", run=run)


def _output(visit: Visit, title: Html, text: str, raw: str) -> Html:
    return visit.html("output" if text else "no-output", title=title, raw=raw, text=show.output(text))


def raw(visit: Visit) -> Response:
    _, run, _, entry = _asked(visit)
    stream = "errorOutput" if visit.query.get("stream") == "errorOutput" else "output"
    return respond(str(entry.get(stream) or "") if entry else output.so_far(visit.home, run), kind="text/plain")


def stop(visit: Visit) -> Response:
    name, run, known, _ = _asked(visit)

    if known is None:
        visit.tell("The run had already ended.")
    else:
        visit.note("cancelled", f"{name} {run}")

        try:
            visit.tell("The run is cancelled." if cancel.end(visit.home, name, run, 3.0) else
                       "The run was asked to stop. It has a few seconds to do so.")
        except BadInput:
            visit.tell(cancel.ELSEWHERE)

    return visit.redirect("run", name=name, run=run)


def clear(visit: Visit) -> Response:
    name = visit.query.get("name", "")
    names = [each for each in history_view.names(visit.home, state.read(visit.home)) if name in ("", each)]

    if visit.method != "POST":
        title = visit.t("Clear the history of {name}?" if name else "Clear the history of all tasks?", name=name)
        return confirm(visit, title, "This deletes the records of past runs and their output, and cannot be undone.",
                       "Clear", "history", name)

    if name and not names:
        raise Refused(404, "There is no such task.")

    history_cleaning.purge(visit.home, names)
    visit.note("cleared history", name)
    visit.tell("The history is cleared.")
    return visit.redirect("history", name=name)
