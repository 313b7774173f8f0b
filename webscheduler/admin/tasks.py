# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pages about one task, and what its buttons do.

The rules: no GET changes anything; each action ends with a redirect and a message. Tasks are changed by `editing`
alone. Viewers see no trigger URL, since anyone who has it can run the task. A secret is shown once, on the page after
it was created.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Union

from .. import editing, signing
from ..errors import BadInput
from ..http import Response
from ..runs import by_hand, health
from ..schedule import slots
from ..store import capabilities, chains, history_view, old_secret, processes, state
from ..store.task import DUE, Task, load_task, load_tasks, shown
from ..times import format_time
from ..vocabulary import RUNNING
from . import show
from .show import ask, badge, button, confirm, duration, facts, link, moment, outcome, page, paragraph
from .web import Html, Refused, Visit, error_text, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Entry

Coming = Union[float, None, Html]
KEPT = 86400  # seconds that an old URL may stay valid
LED = {"onSuccess": "After success of {names}.", "onFailure": "After failure of {names}."}
CHOSEN = "task:"  # with a task's name: its box in the list


def named(visit: Visit) -> Task:
    """The task that the query names; none of those that are the program's own."""
    name = visit.query.get("name", "")
    row = health.as_they_are(visit.home, shown(state.read(visit.home)), visit.now)[0].get(name)

    if row is None:
        raise Refused(404, "There is no such task.")

    return load_task(name, row)


def label(task: Task) -> str:
    """The task's name on pages: its title, if it has one."""
    return str(task["title"] or task.name)


def _names(visit: Visit, names: list[str]) -> Html:
    return Html(", ".join(h('<a href="{href}">{name}</a>', name=name, href=visit.href("task", name=name))
                          for name in names))


def schedule(visit: Visit, task: Task, leaders: dict[str, dict[str, list[str]]]) -> Html:
    """A task's schedule, and what it follows. leaders: of `led`."""
    parts = [show.schedule(visit, task)]

    for field, text in LED.items():
        names = leaders[field].get(task.name)
        parts += [h('<span class="sub">{text}</span>', text=visit.t(text, names=_names(visit, names)))] if names else []

    return Html(" ".join(parts))


def led(rows: state.Tasks) -> dict[str, dict[str, list[str]]]:
    """By field of LED, and by the name of a task, the tasks that it follows."""
    return {field: chains.leaders(shown(rows), (field,)) for field in LED}


def url_box(visit: Visit, task: Task) -> Html:
    """The trigger URL with a button that copies it, for people who may run the task."""
    base = visit.settings["baseUrl"]

    if not visit.may("editor"):
        return Html("")

    if not base:
        return visit.html("no-address", link=link(visit, "Settings", "settings"))

    if task["signature"] == "timed":
        return paragraph(visit, "This task accepts only timed signatures. Each call needs a new one, so there is no "
                         "URL to paste.", "sub")

    if not task["slug"] or not task["secret"]:
        return paragraph(visit, "This task has no URL yet: create a new secret.", "sub")

    url = signing.trigger_url(base, task["slug"], task["secret"])
    return visit.html("url", key="url-" + task["slug"], label=visit.t("Trigger URL"), text=url)


def command_line(task: Task) -> Html:
    text = shlex.join(task["argv"]) if task["argv"] else f"{task['command'] or ''} {task['arguments']}".strip()
    return h("<code>{text}</code>", text=text)


def badges(visit: Visit, task: Task, running: bool) -> list[Html]:
    """Whether the task runs, and whether it is disabled."""
    off = h('<span class="badge off">{text}</span>', text=visit.t("Disabled"))
    return [*([badge(visit, RUNNING)] if running else []), *([] if task["enabled"] else [off])]


def coming(visit: Visit, task: Task) -> Coming:
    """When the task starts next, in Unix seconds; None for never; HTML that says what is wrong with its schedule."""
    try:
        return slots.next_at(task, visit.settings["timezone"], visit.now)
    except BadInput as error:
        return error_text(visit, error)


def next_run(visit: Visit, at: Coming) -> Html:
    """The result of `coming` as HTML."""
    if isinstance(at, Html):
        return h('<span class="warning">{text}</span>', text=at)

    if at is None:
        return Html("–")

    return visit.t("due now") if at <= visit.now else moment(visit, format_time(at))


def last_run(visit: Visit, task: Task, entries: list[Entry], running: bool) -> Html:
    """How and when the task ran last, with a link to it. entries: its newest."""
    if not task["lastRunAt"]:
        return visit.t("never")

    if running and task["lastRunStatus"] == RUNNING:
        return h('{when} <a href="{href}">{text}</a>', when=moment(visit, task["lastRunAt"]), text=visit.t("watch"),
                 href=visit.href("run", name=task.name, run=task["lastRunId"]))

    run = next((entry for entry in entries if entry.get("run") and entry.get("run") == task["lastRunId"]), None)
    return h('{outcome} <a href="{href}">{when}</a> · {took}', when=moment(visit, task["lastRunAt"], linked=True),
             outcome=outcome(visit, run or {"status": task["lastRunStatus"], "exitCode": task["lastRunExitCode"]}),
             took=duration(visit, task["lastRunDuration"]),
             href=visit.href("run", name=task.name, run=task["lastRunId"]))


def last_call(visit: Visit, entries: list[Entry]) -> Html | None:
    """The last call of the URL: when, from which address, and its outcome."""
    call = next((entry for entry in entries if entry.get("trigger") == "url"), None)
    return None if call is None else h("{when} · {ip} · {outcome}", when=moment(visit, call.get("triggeredAt")),
                                       ip=call.get("ip") or "–", outcome=outcome(visit, call))


def strategy(visit: Visit, task: Task) -> Html:
    """The task's strategy; of `auto` also the one that it would choose now."""
    if task["strategy"] != "auto":
        return h("{name}", name=task["strategy"])

    limit = visit.settings["defaultTimeout"] if task["timeout"] is None or task.name == DUE else task["timeout"]
    expected = capabilities.expect(visit.server, capabilities.read(visit.home, visit.server, visit.now))
    return visit.t("auto: now {name}", name=capabilities.order(expected, "auto", limit)[0])


def buttons(visit: Visit, task: Task, running: bool) -> list[Html]:
    """Buttons of the task's page, the most used first: run it, edit it, and so on."""
    if not visit.may("editor"):
        return []

    name, on = task.name, task["enabled"]
    run = Html("") if running and task["preventOverlap"] else button(visit, "run-now", "Run now", name=name)
    found = [run, link(visit, "Edit", "edit", name=name),
             button(visit, "enable", "Disable" if on else "Enable", name=name, fields={
                 "enabled": "no" if on else "yes"})]
    return found if name == DUE else [*found, link(visit, "Duplicate", "edit", copy=name),
                                      link(visit, "Delete", "delete", name=name)]


def one(visit: Visit) -> Response:
    """One task: its state, URL, settings and last runs."""
    from . import runs

    task = named(visit)
    entries = history_view.recent(visit.home, task.name, 100)
    alive, call = processes.live_runs(visit.home, task.name), last_call(visit, entries)
    editor, kept = visit.may("editor"), old_secret.until(task, visit.now)
    secret = _secret(visit, task) if editor and visit.notice.get("secret") == task.name else ""
    limit = visit.settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]
    return page(visit, h("{title}", title=label(task)), visit.html(
        "task", title=label(task), badges=badges(visit, task, bool(alive)), secret=secret,
        notes=[h('<p class="sub">{text}</p>', text=text)
               for text in (task.name if task["title"] else "", task["description"]) if text],
        actions=buttons(visit, task, bool(alive)), facts=facts(visit, [
            *([] if task.name == DUE else [
                ("Command", command_line(task)), ("Schedule", schedule(visit, task, led(state.read(visit.home)))),
                ("Next run", next_run(visit, coming(visit, task)))]),
            ("Last run", last_run(visit, task, entries, bool(alive))),
            ("Last call", call) if call else None, ("Group", task["group"]),
            ("Strategy", strategy(visit, task)), ("Time limit", duration(visit, limit) if limit else "–"),
            ("After success", _names(visit, task["onSuccess"])) if task["onSuccess"] else None,
            ("After a failure", _names(visit, task["onFailure"])) if task["onFailure"] else None,
            ("Created", moment(visit, task["createdAt"], "–")),
            ("Old URL works until", h("{time} {end}", time=moment(visit, kept, exact=True), end=button(
                visit, "secret", "End it now", name=task.name, fields={"old": "end"}) if editor else "")) if kept
            else None]),
        chart=show.chart(visit, entries), url="" if secret else url_box(visit, task),
        rotate=link(visit, "New secret…", "secret", name=task.name) if editor else "",
        table=runs.table(visit, entries[:10], alive, single=True), all=visit.href(
            "history", name=task.name, idle=1 if task.name == DUE else None)))


def _secret(visit: Visit, task: Task) -> Html:
    """The secret, which is shown once, and how to use the URL."""
    base, ways = visit.settings["baseUrl"], []

    if base and task["signature"] != "timed":
        url = signing.trigger_url(base, task["slug"], task["secret"])
        ways = [(visit.t("On the command line"), f"curl -fsS {shlex.quote(url)}"),
                (visit.t("In cPanel, “Cron Jobs”, as the command"), f"curl -fsS {shlex.quote(url)} >/dev/null"),
                (visit.t("At Infomaniak, “Scheduled tasks”, as the URL"), url)]

    return visit.html(
        "secret", secret=visit.html("url", key="secret", label=visit.t("Secret"), text=task["secret"]),
        url=url_box(visit, task),
        ways=facts(visit, [(name, h('<code class="line">{text}</code>', text=text)) for name, text in ways]))


def run_now(visit: Visit) -> Response:
    name = named(visit).name
    started = _start(visit, name)

    if started is None:
        visit.tell("{name} is already running.", name=name, kind="bad")
        return visit.redirect("task", name=name)

    run, after = started
    response = visit.redirect("run", name=name, run=run)
    response.after = after
    return response


def _start(visit: Visit, name: str) -> tuple[str, Callable[[], object] | None] | None:
    """Start the task: (id of the run, what is to be called after the response); None if it is running already."""
    found = by_hand.start(visit.home, name, "admin", visit.in_process, visit.clock, visit.server)

    if found is None:
        return None

    visit.note("ran", name)
    return found[0], found[1].after


def enable(visit: Visit) -> Response:
    task, on = named(visit), visit.form.get("enabled") == "yes"
    editing.set_enabled(visit.home, [task.name], on, visit.now)
    visit.note("enabled" if on else "disabled", task.name)
    visit.tell("{name} is enabled." if on else "{name} is disabled.", name=label(task))
    return visit.redirect("task", name=task.name)


def selection(visit: Visit) -> Response:
    """Enable, disable, run or, after a question, delete the tasks that were selected in the list."""
    tasks, broken = load_tasks(shown(state.read(visit.home)))
    names = [name for name in (*tasks, *broken) if CHOSEN + name in visit.form and name != DUE]
    back, do, count = visit.redirect("", **visit.query), visit.form.get("do"), str(len(names))

    if not names:
        visit.tell("Select tasks first.", kind="bad")
    elif do in ("enable", "disable"):
        editing.set_enabled(visit.home, names, do == "enable", visit.now)
        visit.tell("Tasks enabled: {n}." if do == "enable" else "Tasks disabled: {n}.", n=count)

        for name in names:
            visit.note("enabled" if do == "enable" else "disabled", name)
    elif do == "run":
        _run_selected(visit, names, back)
    elif do == "delete":
        return ask(visit, visit.count(len(names), "Delete the selected task?", "Delete {n} tasks?"),
                   visit.html("to-delete", names=", ".join(names)), [
            button(visit, "selection", "Delete", "danger", {"do": "sure", **{CHOSEN + name: "on" for name in names}},
                   **visit.query), link(visit, "Cancel", "", **visit.query)])
    elif do == "sure":
        _delete_selected(visit, names)

    return back


def _run_selected(visit: Visit, names: list[str], back: Response) -> None:
    """Start the tasks. After the response those jobs run, one after the other, that this host cannot detach from it."""
    most = visit.settings["maxConcurrentTasks"]

    if len(names) > most:
        visit.tell("At most {n} tasks run at the same time here: select fewer.", n=str(most), kind="bad")
        return

    started = {name: found for name in names if (found := _start(visit, name))}
    jobs = [after for _, after in started.values() if after]
    back.after = (lambda: [job() for job in jobs]) if jobs else None
    busy = [name for name in names if name not in started]
    visit.tell("Tasks started: {n}. Already running: {names}" if busy else "Tasks started: {n}.", n=str(len(started)),
               names=", ".join(busy), kind="bad" if busy else "good")


def _delete_selected(visit: Visit, names: list[str]) -> None:
    busy = []

    for name in names:
        try:
            editing.remove(visit.home, name, visit.now)
            visit.note("removed", name)
        except BadInput:
            busy.append(name)

    visit.tell("Tasks deleted: {n}. These are running, so cancel their runs first: {names}" if busy else
               "Tasks deleted: {n}.", n=str(len(names) - len(busy)), names=", ".join(busy),
               kind="bad" if busy else "good")


def secret(visit: Visit) -> Response:
    task = named(visit)

    if visit.method != "POST":
        return ask(visit, visit.t("New secret for {name}?", name=label(task)), (
            "The present URL of this task stops working at once, wherever it was pasted; or after 24 hours, so that no "
            "run is missed while you paste the new one. The next page shows the new URL."),
            [button(visit, "secret", "Create a new secret", "danger", name=task.name),
             button(visit, "secret", "Create one; the old URL works for 24 hours", name=task.name,
                    fields={"old": "keep"}), link(visit, "Cancel", "task", name=task.name)])

    if visit.form.get("old") == "end":
        editing.end_old_secret(visit.home, task.name)
        visit.note("ended the old secret", task.name)
        visit.tell("The old URL no longer works.")
        return visit.redirect("task", name=task.name)

    keep = KEPT if visit.form.get("old") == "keep" else 0
    editing.rotate_secret(visit.home, task.name, keep, visit.now)
    visit.note("made a new secret", task.name)
    visit.tell("The old URL works for 24 hours." if keep else "The old URL no longer works.", secret=task.name)
    return visit.redirect("task", name=task.name)


def delete(visit: Visit) -> Response:
    name = visit.query.get("name", "")
    broken = name in load_tasks(state.read(visit.home))[1]  # it has no page of its own
    title, back = (name, "") if broken else (label(named(visit)), "task")

    if visit.method != "POST":
        return confirm(visit, visit.t("Delete {name}?", name=title),
                       "This deletes the task, its URL and its history, and cannot be undone.", "Delete", back, name)

    try:
        editing.remove(visit.home, name, visit.now)
    except BadInput:
        visit.tell("{name} is running: cancel the run first.", name=title, kind="bad")
        return visit.redirect(back, name=name)

    visit.note("removed", name)
    visit.tell("{name} is deleted.", name=title)
    return visit.redirect("")
