# SPDX-License-Identifier: LGPL-3.0-or-later
"""The list of tasks, a page of 50 at a time, below the strip of `@due`.

The rules: all tasks are searched, filtered and sorted by their raw rows. Fields, history, schedule and next run are
read only for the tasks on the page. Links to other pages keep the rest of the query.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection
from itertools import islice, takewhile
from typing import Any

from ..commands import registry
from ..http import Response
from ..runs import health
from ..runs.health import STATES
from ..schedule import slots
from ..store import history_view, state
from ..store.task import DUE, Task, load_tasks, shown
from ..times import instant
from . import language, scripts, show
from .show import badge, button, exit_words, link, moment, options, page, paragraph, roughly
from .tasks import LED, Coming, coming, command_line, label, last_call, led, next_run, schedule, url_box
from .web import Html, Visit, h

PAGE = 50  # tasks
DAY = 86400.0
TIMELINE_TASKS = 15
TIMELINE_SLOT = DAY / 99  # closer starts would be drawn over each other
LATE_NAMES = 5
# Columns: what the list can be sorted by -> heading. A key with a leading `-` sorts the other way round.
COLUMNS = (("state", "State"), ("name", "Task"), ("group", "Group"), ("", "Schedule"), ("-last", "Last run"),
           ("next", "Next run"), ("", "Last runs"))


def index(visit: Visit) -> Response:
    """One page of the tasks that were asked for."""
    rows, alive = health.as_they_are(visit.home, state.read(visit.home), visit.now)
    running = {str(known.get("name")) for known in alive}
    all_names = _sorted(rows)
    whole = visit.query.get("state") in health.UNLESS_LATE or "state" in visit.query.get("sort", "")
    late_names = health.late(visit.settings, rows, all_names, visit.now, None if whole else LATE_NAMES)
    late = set(late_names)

    def state_of(name: str) -> str:
        return health.state_of(rows[name], name in running, name in late)

    names = _asked_for(visit, rows, all_names, state_of)
    number, pages = _page_number(visit, len(names))
    listed_names = names[(number - 1) * PAGE:number * PAGE]
    late.update(health.late(visit.settings, rows, listed_names, visit.now))
    tasks, broken = load_tasks({name: rows[name] for name in (DUE, *listed_names) if name in rows})
    commands = registry.registered(visit.settings).keys()
    listed = [tasks[name] for name in listed_names if name in tasks]
    next_starts = {task.name: coming(visit, task) for task in listed}
    leaders = led(rows)
    editor = visit.may("editor")
    new = link(visit, "New task", "edit", "main") if editor else ""

    if names:
        found = visit.html(
            "list", head=[visit.html("pick-all") if editor else "", *_head(visit), Html("<td></td>" if editor else "")],
            rows=[_row(visit, task, state_of(task.name), commands, next_starts[task.name], leaders) for task in listed],
            selection=visit.html("selection", one=visit.href("run-now"),
                                 action=visit.href("selection", **visit.query)) if editor else "",
            pages=_pages(visit, number, pages, len(names)))
    else:
        found = paragraph(visit, "No task matches.", "empty") if all_names else visit.html(
            "no-tasks", new=new, place=paragraph(visit, scripts.place(visit)) if editor else "",
            refused=scripts.refused(visit))

    return page(visit, "Tasks", visit.html(
        "tasks", new=new if all_names else "", find=_find(visit, rows, all_names) if all_names else "",
        due=_due(visit, tasks[DUE], rows, late_names) if DUE in tasks else "", broken=[
            *show.undelivered(visit), *(show.warning(h(
                "{name}: {why} {act}", name=name, why=language.error(visit.language, why),
                act=link(visit, "Delete", "delete", name=name) if editor else "")) for name, why in broken.items())],
        list=found, timeline=_timeline(visit, listed, next_starts, rows, pages > 1)))


def _sorted(rows: state.Tasks) -> list[str]:
    """The names of all tasks but the built-in ones, sorted by group and then by title or name."""

    def key(name: str) -> tuple[str, str, str]:
        row = rows[name] if isinstance(rows[name], dict) else {}
        group = str(row.get("group", "default"))
        return group.casefold(), group, str(row.get("title") or name).casefold()

    return sorted((name for name in shown(rows) if name != DUE), key=key)


def _asked_for(visit: Visit, rows: state.Tasks, names: list[str], state_of: Callable[[str], str]) -> list[str]:
    """Those of the names that the query asks for, in its order; of a search the best matches first."""
    query = visit.query
    text, group, wanted = query.get("search", "").strip().casefold(), query.get("group"), query.get("state")
    sort = query.get("sort", "")
    raw = {name: rows[name] if isinstance(rows[name], dict) else {} for name in names}
    keys: dict[str, Callable[[str], Any]] = {
        "state": lambda name: list(STATES).index(state_of(name)),
        "name": lambda name: str(raw[name].get("title") or name).casefold(),
        "last": lambda name: instant(raw[name].get("lastRunAt")),
        "next": lambda name: instant(raw[name].get("nextRunAt")) or float("inf")}
    found = [name for name in names if (not group or raw[name].get("group", "default") == group)
             and (not wanted or state_of(name) == wanted)]

    if sort.lstrip("-") in keys:
        found.sort(key=keys[sort.lstrip("-")], reverse=sort.startswith("-"))
    elif sort == "-group":
        found.reverse()

    return sorted((name for name in found if _rank(raw[name], name, text) < 3),
                  key=lambda name: _rank(raw[name], name, text)) if text else found


def _rank(row: dict[str, Any], name: str, text: str) -> int:
    """How well a task matches a search: 0, its title or name begins with the text; 1, a word of it does; 2, the text is
    within it; 3, it is not."""
    words = f"{row.get('title') or ''}\n{name}\n{row.get('group', 'default')}\n{row.get('command') or ''}".casefold()

    if text not in words:
        return 3

    begins = name.casefold().startswith(text) or words.startswith(text)
    return 0 if begins else 1 if re.search(r"(?<![^\W_])" + re.escape(text), words) else 2


def _find(visit: Visit, rows: state.Tasks, names: list[str]) -> Html:
    groups = sorted({str(rows[name].get("group", "default")) for name in names if isinstance(rows[name], dict)})
    query = visit.query
    return visit.html(
        "find", search=query.get("search"), action=visit.href("").partition("?")[0],
        hidden=visit.hidden("", sort=query.get("sort")),
        groups=options([("", visit.t("All groups")), *((group, group) for group in groups)], query.get("group")),
        states=options([("", visit.t("All states")), *((key, visit.t(text)) for key, text in STATES.items())],
                       query.get("state")))


def _head(visit: Visit) -> list[Html]:
    """The headings, which sort the list; that of the present order sorts it the other way round."""
    present, cells = visit.query.get("sort") or "group", []

    for number, (key, text) in enumerate(COLUMNS):
        here = key.strip("-") == present.strip("-")
        to = (present[1:] if present.startswith("-") else f"-{present}") if here else key
        order = "descending" if present.startswith("-") else "ascending"
        cells.append(h(
            '<th scope="col" class="w{number}"{order}>{text}</th>', number=number,
            order=h(' aria-sort="{order}"', order=order) if here and key else "", text=h(
                '<a href="{href}">{text}</a>', text=visit.t(text),
                href=visit.href("", **{**visit.query, "sort": to, "page": None})) if key else visit.t(text)))

    return cells


def _page_number(visit: Visit, count: int) -> tuple[int, int]:
    """(number of the page to show, from 1; number of pages). A page that does not exist becomes the nearest one."""
    asked, pages = visit.query.get("page", ""), max(1, -(-count // PAGE))
    return min(max(int(asked), 1), pages) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1, pages


def _pages(visit: Visit, number: int, pages: int, count: int) -> Html:
    """How many tasks there are, and links to the first, the last and the nearest pages."""
    text = visit.t("Tasks {first} to {last} of {n}", first=(number - 1) * PAGE + 1, last=min(number * PAGE, count),
                   n=count)
    links, before = [], 0

    for each in sorted({1, *range(max(1, number - 3), min(pages, number + 3) + 1), pages}) if pages > 1 else ():
        links += [h("<li>…</li>")] if each > before + 1 else []
        links.append(h('<li><a href="{href}"{current}>{each}</a></li>', each=each, href=visit.href(
            "", **{**visit.query, "page": each}), current=Html(' aria-current="page"') if each == number else ""))
        before = each

    return visit.html("pages", links=links, text=text) if links else h('<p class="sub">{text}</p>', text=text)


def _due(visit: Visit, task: Task, rows: state.Tasks, late: list[str]) -> Html:
    rhythm = health.rhythm(visit.home)
    last = moment(visit, rhythm["lastAt"])
    call = last_call(visit, history_view.recent(visit.home, DUE, 10))
    state, alarms = "good", []

    if rhythm["every"]:
        text = visit.t("Called about every {time}, last {when}.", when=last, time=roughly(visit, rhythm["every"]))
    elif rhythm["lastAt"]:
        text = visit.t("Called once so far: {when}.", when=last)
    else:
        state = "waiting"
        text = visit.t("Never called so far. Set up your hosting panel to call this URL as often as it can. Each call "
                       "runs all due tasks.")

    if state == "good" and late:
        names = ", ".join(str(rows[name].get("title") or name) for name in late[:LATE_NAMES])
        alarms.append(visit.t("Late: {names}. Is the URL still called?",
                              names=names + (" …" if len(late) > LATE_NAMES else "")))

    if not task["enabled"]:
        alarms.append(visit.t("Disabled: no task runs on its schedule."))

    parts = [*(paragraph(visit, alarm, "warning") for alarm in alarms), _places(visit)]
    live = Html(' id="live" data-refresh="5"') if state == "waiting" else ""
    act = button(visit, "run-now", "Run now", name=DUE) if visit.may("editor") else ""
    details = [url_box(visit, task), h('<p class="sub">{text} · {call}</p>', text=visit.t("Last call"), call=call)
               if call else ""]
    return visit.html("due", live=live, state="bad" if alarms else state, href=visit.href("task", name=DUE), text=text,
                      parts=parts, run=act, open=Html(" open") if state == "waiting" else "", details=details)


def _places(visit: Visit) -> Html:
    """Which runs hold all places for due tasks."""
    held = health.places(visit.home)

    if len(held) < visit.settings["maxConcurrentTasks"]:
        return Html("")

    names = Html(", ".join(visit.t("{name} (since {when})", name=facts.get("name"), when=moment(
        visit, facts.get("startedAt"), exact=True)) for facts in held))
    return paragraph(visit, visit.t("No other due task can start until one of these ends: {names}.", names=names),
                     "warning")


def _timeline(visit: Visit, tasks: list[Task], next_starts: dict[str, Coming], others: state.Tasks,
              partial: bool) -> Html:
    """The starts in the next 24 hours of the tasks on this page, and what follows them. others: all tasks. partial:
    there are other pages."""
    soon = sorted((at, place, task) for place, task in enumerate(tasks) if (task["expression"] or task[
        "intervalSeconds"]) and isinstance(at := next_starts[task.name], float) and at <= visit.now + DAY)
    rest = len(soon) - TIMELINE_TASKS
    rows = []

    for _, _, task in islice(soon, TIMELINE_TASKS):
        starts = list(takewhile(lambda at: at <= visit.now + DAY, slots.starts(
            task, visit.settings["timezone"], visit.now, TIMELINE_SLOT)))
        rows.append((label(task), starts, show.in_words(visit, task)))
        rows += [(f"↳ {name}", starts, html.unescape(visit.t(LED["onSuccess"], names=task.name)))
                 for name in task["onSuccess"] if isinstance(row := others.get(name), dict) and row.get("enabled")]

    more = visit.count(rest, "And one more task.", "And {n} more tasks.") if rest > 0 else ""
    about = visit.t("For the tasks on this page.") if partial else ""
    return visit.html("timeline", picture=show.timeline(visit, rows), more=h(
        '<p class="sub">{about} {more}</p>', about=about, more=more) if about or more else "") if rows else Html("")


def _row(visit: Visit, task: Task, state: str, commands: Collection[str], at: Coming,
         leaders: dict[str, dict[str, list[str]]]) -> Html:
    entries = history_view.recent(visit.home, task.name)
    name = task.name
    notes = [h('<span class="sub">{text}</span> ', text=text)
             for text in (name if task["title"] else "", command_line(task)) if text]

    if task["command"] and task["command"] not in commands:
        notes.append(visit.html("no-command"))

    status = badge(visit, task["lastRunStatus"]) if state == "failing" else h(
        '<span class="badge {kind}">{text}</span>', kind=state, text=visit.t(STATES[state]))
    words = exit_words(visit, task["lastRunExitCode"])
    last = h('<a href="{href}">{when}</a> <span class="sub">{took} {words}</span>', words=words, took=show.duration(
        visit, task["lastRunDuration"]), when=moment(visit, task["lastRunAt"], linked=True), href=visit.href(
        "run", name=name, run=task["lastRunId"])) if task["lastRunAt"] else "–"
    return visit.html(
        "row", state="" if task["enabled"] else "off", href=visit.href("task", name=name), title=label(task),
        badge=status, notes=notes, group=task["group"], schedule=schedule(visit, task, leaders), last=last,
        next=next_run(visit, at), strip=show.strip(visit, entries), **{side: visit.html(
            side, name=name, run=visit.href("run-now", name=name)) if visit.may("editor") else "" for side in (
            "pick", "act")})
