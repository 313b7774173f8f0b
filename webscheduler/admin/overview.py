# SPDX-License-Identifier: LGPL-3.0-or-later
"""The list of tasks, a page of 50 at a time, headed by the card of `@due`.

The rule: all tasks are sorted by their raw rows. Fields, history, schedule and next run are read only for the tasks on
the page. Links to other pages keep the rest of the query.
"""

from __future__ import annotations

from itertools import groupby, islice, takewhile

from ..commands import registry
from ..runs import health
from ..schedule import slots
from ..store import history_view, state
from ..store.task import DUE, load_tasks, shown
from ..times import instant
from . import show
from .show import facts, link, moment, outcome, page, paragraph, roughly
from .tasks import badges, buttons, coming, command_line, label, last_run, next_run, url_box
from .web import Html, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from ..http import Response
    from ..shapes import Entry
    from ..store.task import Task
    from .tasks import Coming
    from .web import Visit

PAGE = 50  # tasks
DAY = 86400.0
TIMELINE_TASKS = 15
TIMELINE_SLOT = DAY / 99  # closer starts would be drawn over each other
LATE_NAMES = 5


def index(visit: Visit) -> Response:
    """One page of the tasks, by group."""
    rows, alive = health.as_they_are(visit.home, state.read(visit.home), visit.now)
    names = _sorted(rows)
    number, pages = _page_number(visit, len(names))
    listed_names = names[(number - 1) * PAGE:number * PAGE]
    tasks, broken = load_tasks({name: rows[name] for name in (DUE, *listed_names) if name in rows})
    running = {str(known.get("name")) for known in alive}
    commands = registry.registered(visit.settings).keys()
    listed = [tasks[name] for name in listed_names if name in tasks]
    next_starts = {task.name: coming(visit, task) for task in listed}
    new = link(visit, "New task", "edit", "main") if visit.may("editor") else ""
    groups = [visit.html("group", name=group, rows=[
        _row(visit, task, task.name in running, commands, next_starts[task.name]) for task in members])
        for group, members in groupby(listed, key=lambda task: str(task["group"]))]
    return page(visit, "Tasks", visit.html(
        "tasks", new=new if names else "", due=_due(visit, tasks[DUE], rows, names) if DUE in tasks and number == 1
        else "", broken=[*show.undelivered(visit), *(show.warning(h("{name}: {why}", name=name, why=why))
                                                     for name, why in broken.items())],
        timeline=_timeline(visit, listed, next_starts, pages > 1), pages=_pages(visit, number, pages, len(names)),
        groups=groups if names else visit.html("no-tasks", new=new)))


def _sorted(rows: state.Tasks) -> list[str]:
    """The names of all tasks but the built-in ones, sorted by group and then by title or name."""

    def key(name: str) -> tuple[str, str, str]:
        row = rows[name] if isinstance(rows[name], dict) else {}
        group = str(row.get("group", "default"))
        return group.casefold(), group, str(row.get("title") or name).casefold()

    return sorted((name for name in shown(rows) if name != DUE), key=key)


def _page_number(visit: Visit, count: int) -> tuple[int, int]:
    """(number of the page to show, from 1; number of pages). A page that does not exist becomes the nearest one."""
    asked, pages = visit.query.get("page", ""), max(1, -(-count // PAGE))
    return min(max(int(asked), 1), pages) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1, pages


def _pages(visit: Visit, number: int, pages: int, count: int) -> Html:
    """Links to the first, the last and the nearest pages."""
    if pages == 1:
        return Html("")

    links, before = [], 0

    for each in sorted({1, *range(max(1, number - 3), min(pages, number + 3) + 1), pages}):
        links += [h("<li>…</li>")] if each > before + 1 else []
        links.append(h('<li><a href="{href}"{current}>{each}</a></li>', each=each, href=visit.href(
            "", **{**visit.query, "page": each}), current=Html(' aria-current="page"') if each == number else ""))
        before = each

    return visit.html("pages", links=links, text=visit.t(
        "Tasks {first} to {last} of {n}", first=(number - 1) * PAGE + 1, last=min(number * PAGE, count), n=count))


def _due(visit: Visit, task: Task, rows: state.Tasks, names: list[str]) -> Html:
    rhythm = health.rhythm(visit.home)
    last = moment(visit, rhythm["lastAt"])
    call = _last_call(visit, history_view.recent(visit.home, DUE, 10))
    state, alarms = "good", []

    if rhythm["every"]:
        text = visit.t("Time between calls: about {time}. Last call: {when}.", when=last,
                       time=roughly(visit, rhythm["every"]))
    elif rhythm["lastAt"]:
        text = visit.t("Called once so far: {when}.", when=last)
    else:
        state = "waiting"
        text = visit.t("Never called so far. Set up your hosting panel to call this URL as often as it can. Each call "
                       "runs all due tasks.")

    if state == "good" and (late := _late(visit, rows, names)):
        alarms.append(visit.t("Late: {names}. Is the URL still called?", names=", ".join(late[:LATE_NAMES])
                              + (" …" if len(late) > LATE_NAMES else "")))

    if not task["enabled"]:
        alarms.append(visit.t("Disabled: no task runs on its schedule."))

    parts = [paragraph(visit, text), *(paragraph(visit, alarm, "warning") for alarm in alarms), _places(visit), h(
        '<p class="sub">{text} · {call}</p>', text=visit.t("Last call"), call=call) if call else ""]
    live = Html(' id="live" data-refresh="5"') if state == "waiting" else ""
    return visit.html("due", live=live, state="bad" if alarms else state, href=visit.href("task", name=DUE),
                      parts=parts, run=buttons(visit, task, False)[:1], url=url_box(visit, task))


def _places(visit: Visit) -> Html:
    """Which runs hold all places for due tasks."""
    held = health.places(visit.home)

    if len(held) < visit.settings["maxConcurrentTasks"]:
        return Html("")

    names = Html(", ".join(visit.t("{name} (since {when})", name=facts.get("name"), when=moment(
        visit, facts.get("startedAt"))) for facts in held))
    return paragraph(visit, visit.t("No other due task can start until one of these ends: {names}.", names=names),
                     "warning")


def _late(visit: Visit, rows: state.Tasks, names: list[str]) -> list[str]:
    """Titles of late tasks, at most one more than the card shows. Only tasks whose stored `nextRunAt` is past or
    unknown are examined; every tick keeps that field up to date."""
    past = [name for name in names if isinstance(row := rows[name], dict) and row.get("enabled") and (
        row.get("nextRunAt") or row.get("expression") or row.get("intervalSeconds"))
        and instant(row.get("nextRunAt")) < visit.now - health.MIN_LATE]
    late: list[str] = []

    for place in range(0, len(past), PAGE):
        states = health.states(visit.settings, {name: rows[name] for name in past[place:place + PAGE]}, visit.now)
        late += [str(rows[name].get("title") or name) for name, state in states.items() if state == "late"]

        if len(late) > LATE_NAMES:
            break

    return late[:LATE_NAMES + 1]


def _last_call(visit: Visit, entries: list[Entry]) -> Html | None:
    """The last call of the URL: when, from which address, and its outcome."""
    call = next((entry for entry in entries if entry.get("trigger") == "url"), None)
    return None if call is None else h("{when} · {ip} · {outcome}", when=moment(visit, call.get("triggeredAt")),
                                       ip=call.get("ip") or "–", outcome=outcome(visit, call))


def _timeline(visit: Visit, tasks: list[Task], next_starts: dict[str, Coming], partial: bool) -> Html:
    """The starts in the next 24 hours of the tasks on this page. partial: there are other pages."""
    soon = sorted((at, place, task) for place, task in enumerate(tasks) if (task["expression"] or task[
        "intervalSeconds"]) and isinstance(at := next_starts[task.name], float) and at <= visit.now + DAY)
    rest = len(soon) - TIMELINE_TASKS
    rows = [(label(task), list(takewhile(lambda at: at <= visit.now + DAY, slots.starts(
        task, visit.settings["timezone"], visit.now, TIMELINE_SLOT))), show.in_words(visit, task))
        for _, _, task in islice(soon, TIMELINE_TASKS)]
    more = visit.count(rest, "And one more task.", "And {n} more tasks.") if rest > 0 else ""
    about = visit.t("For the tasks on this page.") if partial else ""
    return visit.html("timeline", picture=show.timeline(visit, rows), more=h(
        '<p class="sub">{about} {more}</p>', about=about, more=more) if about or more else "") if rows else Html("")


def _row(visit: Visit, task: Task, running: bool, commands: Collection[str], at: Coming) -> Html:
    entries = history_view.recent(visit.home, task.name)
    actions, call = buttons(visit, task, running), _last_call(visit, entries)
    notes = [h('<p class="sub">{text}</p>', text=text)
             for text in (task.name if task["title"] else "", command_line(task)) if text]

    if task["command"] and task["command"] not in commands:
        notes.append(paragraph(visit, "Its command is no longer registered, so the task cannot run.", "warning"))

    return visit.html(
        "row", state="" if task["enabled"] else "off", href=visit.href("task", name=task.name), title=label(task),
        badge=badges(visit, task, running), notes=notes, strip=show.strip(visit, entries), facts=facts(visit, [
            ("Schedule", show.schedule(visit, task)),
            ("Last run", last_run(visit, task, entries, running)), ("Next run", next_run(visit, at)),
            ("Last call", call) if call else None,
            ("Strategy", task["strategy"])]),
        actions=actions[:2],
        more=visit.html("more", url=url_box(visit, task), buttons=actions[2:]) if actions else "")
