"""Pages about tasks: the list, one task, and what its buttons do.

The rules: no GET changes anything; each action ends in a redirect and a message. Everything that changes a task goes
through `editing`. Who may only read sees no trigger URL, since whoever has it can run the task. A secret is shown by
the page after its making, once.
"""

from __future__ import annotations

import shlex
from itertools import groupby, takewhile

from .. import editing, signing
from ..commands import registry
from ..errors import BadInput
from ..runs import admission, due
from ..runs.strategies import start_run
from ..schedule import slots
from ..store import capabilities, history, history_view, locks, state
from ..store.task import DUE, load_task, load_tasks
from ..times import format_time
from . import show
from .show import ask, badge, button, duration, facts, link, moment, outcome, page, roughly
from .web import Html, Refused, error_text, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..response import Response
    from ..store.task import Task
    from .web import Visit

DAY = 86400.0
TIMELINE_TASKS = 15
TIMELINE_SLOT = DAY / 99


def named(visit: Visit) -> Task:
    """The task that the query names."""
    name = visit.query.get("name", "")
    row = state.read(visit.home).get(name)

    if row is None:
        raise Refused(404, "There is no such task.")

    return load_task(name, row)


def label(task: Task) -> str:
    """What the task is called on pages."""
    return str(task["title"] or task.name)


def index(visit: Visit) -> Response:
    """All tasks, headed by @due."""
    tasks, broken = load_tasks(state.read(visit.home))
    running = {str(known.get("name")) for known in locks.live_runs(visit.home)}
    others = sorted((task for name, task in tasks.items() if name != DUE and task["group"] != capabilities.PROBE),
                    key=lambda task: (task["group"].casefold(), task["group"], label(task).casefold()))
    new = link(visit, visit.t("New task"), "edit", "main") if visit.may("editor") else ""
    known = registry.registered(visit.settings)
    groups = [visit.html("group", name=group, rows=[_row(visit, task, task.name in running, known) for task in members])
              for group, members in groupby(others, key=lambda task: str(task["group"]))]
    states = due.states(visit.settings, dict(tasks), visit.now)
    late = [label(task) for task in others if states[task.name] == "late"]
    return page(visit, visit.t("Tasks"), visit.html(
        "tasks", new=new if others else "", due=_due(visit, tasks[DUE], late) if DUE in tasks else "",
        broken=[show.warning(h("{name}: {why}", name=name, why=why)) for name, why in broken.items()],
        timeline=_timeline(visit, others), groups=groups or visit.html("no-tasks", new=new)))


def _due(visit: Visit, task: Task, late: list[str]) -> Html:
    rhythm = due.rhythm(visit.home)
    last = moment(visit, rhythm["lastAt"])
    call = _call(visit, history_view.recent(visit.home, DUE, 10))
    state, alarms = "good", []

    if rhythm["every"]:
        text = visit.t("Calls come about {time} apart; last {when}.", time=roughly(visit, rhythm["every"]), when=last)
    elif rhythm["lastAt"]:
        text = visit.t("Called once, {when}.", when=last)
    else:
        state = "waiting"
        text = visit.t("Never called so far. Have your hosting panel call this URL as often as it can: it runs every "
                       "task that is due.")

    if late and state == "good":
        alarms.append(visit.t("Late: {names}. Is the URL still called?", names=", ".join(late[:5])
                              + (" …" if len(late) > 5 else "")))

    if not task["enabled"]:
        alarms.append(visit.t("Disabled: nothing runs by schedule."))

    parts = [h("<p>{text}</p>", text=text), *(h('<p class="warning">{text}</p>', text=alarm) for alarm in alarms)]

    if call:
        parts.append(h('<p class="sub">{text} · {call}</p>', text=visit.t("Last call"), call=call))

    live = Html(' id="live" data-refresh="5"') if state == "waiting" else ""
    return visit.html("due", live=live, state="bad" if alarms else state, href=visit.href("task", name=DUE),
                      parts=parts, run=_buttons(visit, task, False)[:1], url=url_box(visit, task))


def _call(visit: Visit, entries: list[dict[str, Any]]) -> Html | None:
    """The last call of a URL: when, where from, and what became of it."""
    call = next((entry for entry in entries if entry.get("trigger") == "url"), None)
    return None if call is None else h("{when} · {ip} · {outcome}", when=moment(visit, call.get("triggeredAt")),
                                       ip=call.get("ip") or "–", outcome=outcome(visit, call))


def url_box(visit: Visit, task: Task) -> Html:
    """The trigger URL with a button that copies it, for those who may run the task."""
    base = visit.settings["baseUrl"]

    if not visit.may("editor"):
        return Html("")

    if not base:
        return h('<p class="warning">{text} {link}</p>', link=link(visit, visit.t("Settings"), "settings"),
                 text=visit.t("The address of this installation is not set, so no URL can be shown."))

    if task["signature"] == "timed":
        return h('<p class="sub">{text}</p>', text=visit.t(
            "Accepts timed signatures only: each call is signed anew, so there is no URL to paste."))

    if not task["slug"] or not task["secret"]:
        return h('<p class="sub">{text}</p>', text=visit.t("Has no URL yet: make a new secret."))

    url = signing.trigger_url(base, task["slug"], task["secret"])
    return visit.html("url", key="url-" + task["slug"], label=visit.t("Trigger URL"), text=url)


def _timeline(visit: Visit, tasks: list[Task]) -> Html:
    rows = []

    for task in tasks:
        if not task["enabled"] or not (task["expression"] or task["intervalSeconds"]):
            continue

        try:
            coming = list(takewhile(lambda at: at <= visit.now + DAY,
                                    slots.starts(task, visit.settings["timezone"], visit.now, TIMELINE_SLOT)))
        except (BadInput, ValueError):
            continue  # its row says what is wrong

        if coming:
            rows.append((label(task), coming, show.in_words(visit, task)))

    rows.sort(key=lambda row: row[1][0])
    rest = len(rows) - TIMELINE_TASKS
    more = h('<p class="sub">{text}</p>', text=visit.count(rest, "And one more task.", "And {n} more tasks."))
    return visit.html("timeline", picture=show.timeline(visit, rows[:TIMELINE_TASKS]), more=more if rest > 0 else "") \
        if rows else Html("")


def _command(task: Task) -> Html:
    text = shlex.join(task["argv"]) if task["argv"] else f"{task['command'] or ''} {task['arguments']}".strip()
    return h("<code>{text}</code>", text=text)


def _row(visit: Visit, task: Task, running: bool, known: dict[str, Any]) -> Html:
    entries = history_view.recent(visit.home, task.name)
    buttons, call = _buttons(visit, task, running), _call(visit, entries)
    notes = [h('<p class="sub">{text}</p>', text=text)
             for text in (task.name if task["title"] else "", _command(task)) if text]

    if task["command"] and task["command"] not in known:
        notes.append(h('<p class="warning">{text}</p>', text=visit.t(
            "No such command is registered any more: the task cannot run.")))

    return visit.html(
        "row", state="" if task["enabled"] else "off", href=visit.href("task", name=task.name), title=label(task),
        badge=_badges(visit, task, running), notes=notes, strip=show.strip(visit, entries), facts=facts([
            (visit.t("Schedule"), show.schedule(visit, task)),
            (visit.t("Last run"), _last(visit, task, entries, running)), (visit.t("Next run"), _next_run(visit, task)),
            (visit.t("Last call"), call) if call else None,
            (visit.t("Strategy"), task["strategy"])]),
        actions=buttons[:2],
        more=visit.html("more", url=url_box(visit, task), buttons=buttons[2:]) if buttons else "")


def _badges(visit: Visit, task: Task, running: bool) -> list[Html]:
    off = h('<span class="badge off">{text}</span>', text=visit.t("Disabled"))
    return [*([badge(visit, "running")] if running else []), *([] if task["enabled"] else [off])]


def _next_run(visit: Visit, task: Task) -> Html:
    try:
        at = slots.next_at(task, visit.settings["timezone"], visit.now)
    except BadInput as error:
        return h('<span class="warning">{text}</span>', text=error_text(visit, error))

    if at is None:
        return Html("–")

    return visit.t("due now") if at <= visit.now else moment(visit, format_time(at))


def _last(visit: Visit, task: Task, entries: list[dict[str, Any]], running: bool) -> Html:
    if not task["lastRunAt"]:
        return visit.t("never")

    if running and task["lastRunStatus"] == "running":
        return h('{when} <a href="{href}">{text}</a>', when=moment(visit, task["lastRunAt"]), text=visit.t("watch"),
                 href=visit.href("run", name=task.name, run=task["lastRunId"]))

    run = next((entry for entry in entries if entry.get("run") and entry.get("run") == task["lastRunId"]), None)
    status = "interrupted" if task["lastRunStatus"] == "running" else task["lastRunStatus"]
    return h('{outcome} <a href="{href}">{when}</a> · {took}', when=moment(visit, task["lastRunAt"]),
             outcome=outcome(visit, run or {"status": status, "exitCode": task["lastRunExitCode"]}),
             took=duration(task["lastRunDuration"]),
             href=visit.href("run", name=task.name, run=task["lastRunId"], at=run and history.ended(run)))


def _buttons(visit: Visit, task: Task, running: bool) -> list[Html]:
    """What may be done to the task: run it, edit it, and what is needed less often."""
    if not visit.may("editor"):
        return []

    name, on = task.name, task["enabled"]
    run = Html("") if running and task["preventOverlap"] else button(visit, "run-now", visit.t("Run now"), name=name)
    found = [run, link(visit, visit.t("Edit"), "edit", name=name),
             button(visit, "enable", visit.t("Disable" if on else "Enable"), name=name, fields={
                 "enabled": "no" if on else "yes", "back": visit.page})]
    return found if name == DUE else [*found, link(visit, visit.t("Duplicate"), "edit", copy=name),
                                      link(visit, visit.t("Delete"), "delete", name=name)]


def one(visit: Visit) -> Response:
    """One task: its state, URL, settings and last runs."""
    from . import runs

    task = named(visit)
    entries = history_view.recent(visit.home, task.name)
    alive = locks.live_runs(visit.home, task.name)
    editor = visit.may("editor")
    secret = _secret(visit, task) if editor and visit.notice.get("secret") == task.name else ""
    limit = visit.settings["defaultTimeout"] if task["timeout"] is None else task["timeout"]
    return page(visit, h("{title}", title=label(task)), visit.html(
        "task", title=label(task), badges=_badges(visit, task, bool(alive)), secret=secret,
        notes=[h('<p class="sub">{text}</p>', text=text)
               for text in (task.name if task["title"] else "", task["description"]) if text],
        actions=_buttons(visit, task, bool(alive)), facts=facts([
            *([] if task.name == DUE else [
                (visit.t("Command"), _command(task)), (visit.t("Schedule"), show.schedule(visit, task)),
                (visit.t("Next run"), _next_run(visit, task))]),
            (visit.t("Last run"), _last(visit, task, entries, bool(alive))), (visit.t("Group"), task["group"]),
            (visit.t("Strategy"), task["strategy"]), (visit.t("Time limit"), duration(limit) if limit else "–"),
            (visit.t("Created"), moment(visit, task["createdAt"], "–"))]),
        strip=show.strip(visit, entries), url="" if secret else url_box(visit, task),
        rotate=link(visit, visit.t("New secret…"), "secret", name=task.name) if editor else "",
        table=runs.table(visit, entries[:10], alive, single=True), all=visit.href("history", name=task.name)))


def _secret(visit: Visit, task: Task) -> Html:
    """What is shown once: the secret, and how to use the URL."""
    base, ways = visit.settings["baseUrl"], []

    if base and task["signature"] != "timed":
        url = signing.trigger_url(base, task["slug"], task["secret"])
        ways = [(visit.t("On a command line"), f"curl -fsS {shlex.quote(url)}"),
                (visit.t("cPanel, under “Cron Jobs”, as the command"), f"curl -fsS {shlex.quote(url)} >/dev/null"),
                (visit.t("Infomaniak, under “Scheduled tasks”, as the URL"), url)]

    return visit.html(
        "secret", secret=visit.html("url", key="secret", label=visit.t("Secret"), text=task["secret"]),
        url=url_box(visit, task),
        ways=facts([(name, h('<code class="line">{text}</code>', text=text)) for name, text in ways]))


def run_now(visit: Visit) -> Response:
    """Start the task, and open its output."""
    name = named(visit).name
    cause = admission.Cause("admin", by_hand=True)
    decided = admission.decide(visit.home, name, cause, visit.now)

    if decided.claim is None or decided.known is None or decided.view is None:
        visit.tell("{name} is running already.", name=name, kind="bad")
        return visit.redirect("task", name=name)

    run = decided.claim.run
    decided.known.strategy = "auto"  # the page answers at once where the host allows it, whatever the URL does

    try:
        started = start_run(visit.home, decided.claim, decided.known, decided.view, visit.in_process, visit.clock,
                            visit.server)
    except BaseException:
        decided.claim.close()
        raise

    visit.note("ran", name)
    response = visit.redirect("run", name=name, run=run)
    response.after = started.after
    return response


def enable(visit: Visit) -> Response:
    """Enable or disable the task."""
    task, on = named(visit), visit.form.get("enabled") == "yes"
    editing.set_enabled(visit.home, [task.name], on, visit.now)
    visit.note("enabled" if on else "disabled", task.name)
    visit.tell("{name} is enabled." if on else "{name} is disabled.", name=label(task))
    return visit.redirect("task" if visit.form.get("back") == "task" else "", name=visit.form.get("back") and task.name)


def secret(visit: Visit) -> Response:
    """Ask, and give the task a new secret."""
    task = named(visit)

    if visit.method != "POST":
        return ask(visit, visit.t("New secret for {name}?", name=label(task)), visit.t(
            "Every URL of this task that was pasted anywhere stops working at once. The new one is shown on the next "
            "page."), [button(visit, "secret", visit.t("Make a new secret"), "danger", name=task.name),
                       link(visit, visit.t("Keep it as it is"), "task", name=task.name)])

    editing.rotate_secret(visit.home, task.name)
    visit.note("made a new secret", task.name)
    visit.tell("The old URL is refused from now on.", secret=task.name)
    return visit.redirect("task", name=task.name)


def delete(visit: Visit) -> Response:
    """Ask, and remove the task with its history."""
    task = named(visit)

    if visit.method != "POST":
        return ask(visit, visit.t("Delete {name}?", name=label(task)), visit.t(
            "The task, its URL and its history are removed. This cannot be undone."),
            [button(visit, "delete", visit.t("Delete"), "danger", name=task.name),
             link(visit, visit.t("Keep it as it is"), "task", name=task.name)])

    try:
        editing.remove(visit.home, task.name, visit.now)
    except BadInput:
        visit.tell("{name} is running: cancel the run first.", name=label(task), kind="bad")
        return visit.redirect("task", name=task.name)

    visit.note("removed", task.name)
    visit.tell("{name} is removed.", name=label(task))
    return visit.redirect("")
