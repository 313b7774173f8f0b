# SPDX-License-Identifier: LGPL-3.0-or-later
"""The form of a task.

The rules: those of `controls`. If the task changed since the form was made, the form is shown again before it is
saved. Programs, directories and the environment cannot be changed here, and some fields by owners alone.
"""

from __future__ import annotations

import hashlib
import json
from itertools import islice

from .. import editing
from ..commands import registry
from ..errors import BadInput
from ..runs import health
from ..schedule.slots import check_expression, starts, too_fine_for_ticks
from ..store import state
from ..store.fields import MAX_SECONDS, Field, from_text
from ..store.task import DUE, FIELDS, Task, load_task, new_task
from ..times import format_time
from .controls import CHECKED, Form
from .language import error as translated
from .show import field, moment, options, page, paragraph, warning
from .show import schedule as schedule_text
from .tasks import label, named
from .web import Html, error_text, h, respond

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..http import Response
    from .web import Visit

PRESETS = {"*/5 * * * *": "Every 5 minutes", "*/15 * * * *": "Every 15 minutes", "0 * * * *": "Every hour",
           "0 3 * * *": "Every day at 03:00", "30 9 * * 1-5": "Weekdays at 09:30", "0 4 * * 0": "Every Sunday at 04:00",
           "0 5 1 * *": "On the first day of the month at 05:00", "0 5 L * *": "On the last day of the month at 05:00"}
KINDS = {"none": "No schedule: only by its URL or by hand", "cron": "Cron expression", "interval": "Fixed interval"}
UNIT_NAMES = {86400: "days", 3600: "hours", 60: "minutes", 1: "seconds"}
SCHEDULE = ("kind", "expression", "amount", "unit")

# Heading -> control -> label; kind, limits and help come from FIELDS.
SECTIONS = {
    "Task": {"name": "Name", "title": "Title", "group": "Group", "description": "Description", "enabled": "Enabled"},
    "What it runs": {"command": "Command", "arguments": "Arguments"},
    "When it runs": {"schedule": "Schedule", "timezone": "Time zone", "catchUpSeconds": "Catch up within",
                     "priority": "Priority"},
    "When it fails": {"retries": "Retries", "retryDelaySeconds": "Delay before a retry", "notify": "Notify",
                      "pingUrl": "Ping URL"},
    "How it runs": {"timeout": "Time limit", "preventOverlap": "One run at a time", "strategy": "Strategy"},
    "Its URL": {"signature": "Signature", "minIntervalSeconds": "Minimum interval", "ipAllowlist": "Allowed addresses",
                "failureStatus": "HTTP status on failure"},
    "History": {"logOutput": "Keep output", "logErrorOutput": "Keep error output",
                "logRetentionDays": "Keep history (days)"},
}
NAME = Field("text", "", "Keep it short: files are named after it. Letters, digits, : . _ -")
RULES = {"name": NAME, **{name: FIELDS[name] for labels in SECTIONS.values() for name in labels if name in FIELDS},
         **dict.fromkeys(SCHEDULE, Field("text", "", ""))}
OF_DUE = ("title", "description", "enabled", "strategy", "signature", "minIntervalSeconds", "ipAllowlist", "notify",
          "pingUrl", "logRetentionDays")
OF_OWNERS = ("pingUrl",)
OF_COMMAND = ("command", "arguments")


def edit(visit: Visit) -> Response:
    """Create or change a task."""
    task = named(visit) if visit.query.get("name") else None
    copied = state.read(visit.home).get(visit.query.get("copy", "")) if task is None else None
    source = task or (load_task(visit.query["copy"], copied) if copied else None)
    left_out = OF_COMMAND if task is not None and task["argv"] else ()
    names = OF_DUE if task is not None and task.name == DUE else [name for name in RULES if name not in left_out]
    form = Form(visit, {name: RULES[name] for name in names if visit.may("owner") or name not in OF_OWNERS},
                _values(task, source))
    stamp = hashlib.sha256(json.dumps(form.start).encode("utf-8", "replace")).hexdigest()[:16]
    form.typed.update(expression=visit.form.get("preset") or form.typed.get("expression", ""))

    sent = visit.method == "POST"
    fields = _fields(form, every=task is None) if sent else {}

    if sent and visit.form.get("was", "") != stamp:
        form.errors[""] = visit.t(
            "Somebody else changed this task in the meantime. Your input is still below: check it and save again.")

    if task is None and source and source["argv"] and not form.typed["command"]:
        form.errors["command"] = visit.t(
            "The program of {name} was set on the command line and cannot be copied in the panel: choose a command.",
            name=label(source))

    if sent and not form.errors and visit.form.get("do") == "save":
        try:
            return _save(visit, task, fields)
        except BadInput as error:
            control = "schedule" if error.field in ("expression", "intervalSeconds") else error.field
            form.errors[control if control in (*form.typed, "schedule") else ""] = error_text(visit, error)

    return _page(visit, task, form, stamp)


def _values(task: Task | None, source: Task | None) -> dict[str, Any]:
    """Values of the controls: those of the task, or for a new one those of the task to copy, or the defaults."""
    values = {name: known.default for name, known in FIELDS.items()} | (source or {})
    seconds = values["intervalSeconds"] or 3600
    unit = next(size for size in UNIT_NAMES if seconds % size == 0)
    kind = "cron" if values["expression"] else "interval" if values["intervalSeconds"] else "none"
    name = task.name if task is not None else f"{source.name}-2" if source else ""
    return {**values, "enabled": values["enabled"] if task is not None else True, "name": name, "kind": kind,
            "amount": seconds // unit, "unit": unit}


def _fields(form: Form, every: bool) -> dict[str, Any]:
    """The fields that the form changes, and `name`; all fields for a new task."""
    found = form.changed(every)

    if "command" in form.rules and not form.typed["command"]:
        form.errors["command"] = form.visit.t("Choose a command.")

    if any(name in found for name in SCHEDULE):
        try:
            found.update(_schedule(form.typed))
        except BadInput as error:
            form.errors["schedule"] = error_text(form.visit, error)

    return {name: value for name, value in found.items() if name in ("name", *FIELDS)}


def _save(visit: Visit, task: Task | None, fields: dict[str, Any]) -> Response:
    name = fields.pop("name", None if task is None else task.name)

    if task is None:
        made = editing.create(visit.settings, name, fields, visit.now, panel=True)
        visit.note("created", name)
        visit.tell("{name} is created.", name=label(made), secret=name)
    elif fields or name != task.name:
        made = editing.edit(visit.settings, task.name, fields, visit.now, panel=True, new=name)

        if name != task.name:
            visit.note("renamed", f"{task.name} {name}")

        if fields:
            visit.note("changed", f"{name} {' '.join(sorted(fields))}")

        visit.tell("{name} is saved.", name=label(made))
    else:
        visit.tell("Nothing was changed.")

    return visit.redirect("task", name=name)


def _schedule(form: dict[str, str]) -> dict[str, Any]:
    """`expression` and `intervalSeconds`, of which one is None. Raises BadInput."""
    if form["kind"] == "cron":
        if not form["expression"].strip():
            raise BadInput("expression: is empty", "expression")

        check_expression(form["expression"])
        return {"expression": form["expression"].strip(), "intervalSeconds": None}

    if form["kind"] == "interval":
        amount = from_text("intervalSeconds", FIELDS["intervalSeconds"], form["amount"].strip() or "x")
        unit = int(form["unit"]) if form["unit"] in map(str, UNIT_NAMES) else 1

        if amount * unit > MAX_SECONDS:
            raise BadInput("intervalSeconds: is longer than 366 days", "intervalSeconds")

        return {"expression": None, "intervalSeconds": amount * unit}

    return {"expression": None, "intervalSeconds": None}


def preview(visit: Visit) -> Response:
    """The part of the form that says when the task would run; the script fetches it."""
    form = {name: visit.query.get(name, "") for name in ("kind", "expression", "amount", "unit", "timezone")}
    return respond(_preview(visit, form))


def _preview(visit: Visit, form: dict[str, str]) -> Html:
    if form["kind"] not in ("cron", "interval"):
        text = visit.t("Runs only when its URL is called or somebody starts it.")
        return h('<div id="preview" aria-live="polite"><p>{text}</p></div>', text=text)

    try:
        fields = {**_schedule(form), "timezone": form["timezone"].strip() or None}
        task = load_task("preview", new_task(visit.now, fields))
        coming = list(islice(starts(task, visit.settings["timezone"], visit.now), 5))
    except BadInput as error:
        return h('<div id="preview" aria-live="polite"><p class="error">{text}</p></div>',
                 text=error_text(visit, error))

    return visit.html("preview", words=schedule_text(visit, task), warning=_warning(visit, task),
                      times=[h("<li>{when}</li>", when=moment(visit, format_time(at))) for at in coming])


def _warning(visit: Visit, task: Task) -> Html:
    """A warning if the calls of `@due` are missing, or too rare for this schedule."""
    rhythm, text = health.rhythm(visit.home), Html("")

    if rhythm["lastAt"] is None:
        text = visit.t("Schedules work only if the URL of `@due` is called. There has been no call so far.")
    elif rhythm["every"] and (said := too_fine_for_ticks(task, visit.settings["timezone"], rhythm["every"], visit.now)):
        text = visit.t("The task {said}.", said=translated(visit.language, said))

    return paragraph(visit, text, "warning") if text else text


def _page(visit: Visit, task: Task | None, form: Form, stamp: str) -> Response:
    title = visit.t("New task") if task is None else visit.t("Edit {name}", name=label(task))
    made = {"schedule": _schedule_row(visit, form)} if "kind" in form.rules else {}

    if "command" in form.rules:
        form.choices["command"] = _commands(visit, form.typed["command"])
    elif made:
        fixed = h('<input common value="{value}" readonly>', value=visit.t("set on the command line"))
        made.update({name: field(visit, name, text, fixed) for name, text in SECTIONS["What it runs"].items()})

    if not visit.settings["notify"]:
        form.about["notify"] = visit.t("Send a message when the task starts to fail and when it recovers. Nobody is "
                                       "told yet: the settings have no address.")

    form.about["arguments"] = h("{rule} {http}", rule=visit.t(FIELDS["arguments"].sentence), http=visit.t(
        "`http URL` reaches public addresses, the host of this address, and what the owner allows in the settings."))
    query = {"name": task.name} if task is not None else {"copy": visit.query.get("copy", "")}
    body = visit.html("form", title=title, problem=warning(form.problem()), action=visit.href("edit", **query),
                      preview=visit.href("preview"), was=stamp, sections=form.sections(SECTIONS, made),
                      back=visit.href("task" if task is not None else "", name=task and task.name))
    return page(visit, title, body, 422 if form.errors and visit.method == "POST" else 200)


def _commands(visit: Visit, value: str) -> list[tuple[str, object]]:
    known = registry.registered(visit.settings)
    choices: list[tuple[str, object]] = [("", visit.t("Choose…"))]
    choices += [(name, f"{name} — {command.description}" if command.description else name)
                for name, command in sorted(known.items())]
    gone = [(value, visit.t("{name} (no longer registered)", name=value))] if value and value not in known else []
    return choices + gone


def _schedule_row(visit: Visit, form: Form) -> Html:
    problem, typed = form.errors.get("schedule"), form.typed
    return visit.html(
        "schedule", radios=[visit.html("radio", kind=kind, text=visit.t(text), checked=CHECKED if typed["kind"] == kind
                                       else "") for kind, text in KINDS.items()],
        expression=typed["expression"], amount=typed["amount"],
        presets=options([("", visit.t("as typed")), *((text, visit.t(name)) for text, name in PRESETS.items())], ""),
        units=options([(str(size), visit.t(name)) for size, name in UNIT_NAMES.items()], typed["unit"]),
        error=h('<p class="error" id="schedule-error">{text}</p>', text=problem) if problem else "",
        invalid=Html(' aria-invalid="true" aria-describedby="schedule-error"') if problem else "",
        preview=_preview(visit, typed))
