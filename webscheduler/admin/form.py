# SPDX-License-Identifier: LGPL-3.0-or-later
"""The form of a task.

The rules: those of `controls`. If the task changed since the form was made, the form is shown again before it is
saved. Programs, directories and the environment cannot be changed here, and some fields by owners alone.
"""

from __future__ import annotations

import re
from datetime import datetime
from itertools import islice
from typing import Any

from .. import editing
from ..commands import registry
from ..errors import BadInput
from ..http import Response
from ..runs import health
from ..schedule.slots import check_expression, starts, too_fine_for_ticks
from ..store import state
from ..store.fields import MAX_SECONDS, Field, from_text
from ..store.task import DUE, FIELDS, Task, check_name, load_task, new_task, shown
from ..times import time_zone
from . import scripts
from .controls import Form
from .language import error as translated
from .show import field, in_words, options, page, paragraph, relative, warning
from .show import schedule as schedule_text
from .tasks import label, named, strategy
from .web import Html, Visit, error_text, h, respond

# Kinds of a schedule -> name; the day fields of those that are at a time of day.
KINDS = {"none": "Only by its URL or by hand", "interval": "At a fixed interval", "daily": "Every day",
         "weekdays": "Monday to Friday", "weekly": "Every week", "monthly": "Every month", "cron": "Cron expression"}
DAYS = {"daily": "* * *", "weekdays": "* * 1-5", "weekly": "* * {weekday}", "monthly": "{monthday} * *"}
UNIT_NAMES = {86400: "days", 3600: "hours", 60: "minutes", 1: "seconds"}
WEEKDAYS = {"1": "Monday", "2": "Tuesday", "3": "Wednesday", "4": "Thursday", "5": "Friday", "6": "Saturday",
            "0": "Sunday"}
SCHEDULE = ("kind", "expression", "amount", "unit", "at", "weekday", "monthday")

# Heading -> control -> label; kind, limits and help come from FIELDS.
FIRST = {"Task": {"command": "Command", "schedule": "Schedule", "name": "Name", "enabled": "Enabled"}}
MORE = {
    "What it is": {"arguments": "Arguments", "title": "Title", "group": "Group", "description": "Description"},
    "When it runs": {"timezone": "Time zone", "catchUpSeconds": "Catch up within", "priority": "Priority"},
    "What follows it": {"onSuccess": "After success", "onFailure": "After a failure"},
    "When it fails": {"retries": "Retries", "retryDelaySeconds": "Delay before a retry", "notify": "Notify",
                      "pingUrl": "Ping URL"},
    "How it runs": {"timeout": "Time limit", "preventOverlap": "One run at a time", "strategy": "Strategy"},
    "Its URL": {"signature": "Signature", "minIntervalSeconds": "Minimum interval", "ipAllowlist": "Allowed addresses",
                "failureStatus": "HTTP status on failure"},
    "History": {"logOutput": "Keep output", "logErrorOutput": "Keep error output",
                "logRetentionDays": "Keep history (days)"},
}
SECTIONS = {**FIRST, **MORE}
NAME = Field("text", "", "Keep it short: files are named after it. Letters, digits, : . _ -")
RULES = {"name": NAME, **{name: FIELDS[name] for labels in SECTIONS.values() for name in labels if name in FIELDS},
         **dict.fromkeys(SCHEDULE, Field("text", "", ""))}
OF_DUE = ("title", "description", "enabled", "strategy", "signature", "minIntervalSeconds", "ipAllowlist", "notify",
          "pingUrl", "logRetentionDays")
OF_COMMAND = ("command", "arguments")


def edit(visit: Visit) -> Response:
    task = named(visit) if visit.query.get("name") else None
    copied = shown(state.read(visit.home)).get(visit.query.get("copy", "")) if task is None else None
    source = task or (load_task(visit.query["copy"], copied) if copied else None)
    left_out = OF_COMMAND if task is not None and task["argv"] else ()
    names = OF_DUE if task is not None and task.name == DUE else [name for name in RULES if name not in left_out]
    form = Form(visit, {name: RULES[name] for name in names if visit.may("owner") or name not in editing.OF_OWNERS},
                _values(task, source))
    sent = visit.method == "POST"
    fields = {}

    if sent:
        form.meet(visit.t(
            "Somebody else changed this task in the meantime. Your input is still below: check it and save again."),
            SCHEDULE, "schedule", in_words(visit, source or {}))
        fields = _fields(form, every=task is None)

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

    return _page(visit, task, form)


def _values(task: Task | None, source: Task | None) -> dict[str, Any]:
    """Values of the controls: those of the task, or for a new one those of the task to copy, or the defaults."""
    values = {name: known.default for name, known in FIELDS.items()} | (source or {})
    seconds = values["intervalSeconds"] or 3600
    unit = next(size for size in UNIT_NAMES if seconds % size == 0)
    kind, parts = _kind(values)
    name = task.name if task is not None else f"{source.name}-2" if source else ""
    return {**values, "enabled": values["enabled"] if task is not None else True, "name": name, "kind": kind,
            "amount": seconds // unit, "unit": unit, **parts}


def _kind(values: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """(the kind of a task's schedule; its time of day, weekday and day of the month, or what is shown at first)."""
    parts = {"at": "03:00", "weekday": "1", "monthday": "1"}
    expression = values["expression"] or ""
    found = re.fullmatch(r"([0-5]?\d) ([01]?\d|2[0-3]) (\*|[1-9]|[12]\d|3[01]|L) \* (\*|1-5|[0-6])", expression)

    if found is None or (found[3] != "*" and found[4] != "*"):
        return "cron" if expression else "interval" if values["intervalSeconds"] else "none", parts

    kind = "weekdays" if found[4] == "1-5" else "weekly" if found[4] != "*" else "monthly" if found[3] != "*" else \
        "daily"
    parts["at"] = f"{int(found[2]):02}:{int(found[1]):02}"
    parts.update({"weekly": {"weekday": found[4]}, "monthly": {"monthday": found[3]}}.get(kind, {}))
    return kind, parts


def _fields(form: Form, every: bool) -> dict[str, Any]:
    """The fields that the form changes, and `name`; all fields for a new task."""
    found = form.changed(every, _parse)

    if "command" in form.rules and not form.typed["command"]:
        form.errors["command"] = form.visit.t("Choose a command.")

    if any(name in found for name in SCHEDULE):
        try:
            found.update(_schedule(form.typed))
        except BadInput as error:
            form.errors.setdefault("schedule", error_text(form.visit, error))

    return {name: value for name, value in found.items() if name in ("name", *FIELDS)}


def _parse(name: str, rule: Field, text: str) -> Any:
    value = from_text(name, rule, text)

    if name == "name":
        check_name(value)
    elif name == "timezone" and value:
        time_zone(value)

    return value


def _save(visit: Visit, task: Task | None, fields: dict[str, Any]) -> Response:
    name = fields.pop("name", None if task is None else task.name)

    if task is None:
        made = editing.create(visit.settings, name, fields, visit.now, panel=True)
        visit.note("created", name)
        visit.tell("{name} is created.", name=label(made), secret=name)
    elif fields or name != task.name:
        made = editing.edit(visit.settings, task.name, fields, visit.now, panel=True, new=name, seen=task)

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
    if form["kind"] in ("cron", *DAYS):
        expression = form["expression"].strip()

        if form["kind"] in DAYS:
            at = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)(:00)?", form["at"].strip(), re.ASCII)

            if at is None:
                raise BadInput("expression: give a time of day like 03:00", "expression")

            expression = f"{int(at[2])} {int(at[1])} {DAYS[form['kind']].format_map(form)}"
        elif not expression:
            raise BadInput("expression: is empty", "expression")

        check_expression(expression)
        return {"expression": from_text("expression", FIELDS["expression"], expression), "intervalSeconds": None}

    if form["kind"] == "interval":
        amount = from_text("intervalSeconds", FIELDS["intervalSeconds"], form["amount"].strip() or "x")
        unit = int(form["unit"]) if form["unit"] in map(str, UNIT_NAMES) else 1

        if amount * unit > MAX_SECONDS:
            raise BadInput("intervalSeconds: is longer than 366 days", "intervalSeconds")

        return {"expression": None, "intervalSeconds": amount * unit}

    return {"expression": None, "intervalSeconds": None}


def preview(visit: Visit) -> Response:
    """The part of the form that says when the task would run; the script fetches it."""
    form = {name: visit.query.get(name, "") for name in (*SCHEDULE, "timezone")}
    return respond(_preview(visit, form))


def _preview(visit: Visit, form: dict[str, str]) -> Html:
    if form["kind"] not in ("cron", "interval", *DAYS):
        text = visit.t("Runs only when its URL is called or somebody starts it.")
        return h('<div id="preview" aria-live="polite"><p>{text}</p></div>', text=text)

    try:
        fields = {**_schedule(form), "timezone": form["timezone"].strip() or None}
        task = load_task("preview", new_task(visit.now, fields))
        coming = list(islice(starts(task, visit.settings["timezone"], visit.now), 5))
        place = time_zone(task["timezone"] or visit.settings["timezone"])
    except BadInput as error:  # of a wrong zone, which is said beside that
        return h('<div id="preview" aria-live="polite"><p class="error" id="schedule-error">{text}</p></div>',
                 text="" if error.field == "timezone" else error_text(visit, error))

    days = [(datetime.fromtimestamp(at, place), at) for at in coming]
    return visit.html("preview", words=schedule_text(visit, task), warning=_warning(visit, task), times=[
        h('<li><time datetime="{iso}">{day} {date}</time> · {relative}</li>', iso=day.isoformat(timespec="seconds"),
          day=visit.t(WEEKDAYS[f"{day:%w}"]), date=f"{day:%Y-%m-%d %H:%M %Z}", relative=relative(visit, at))
        for day, at in days])


def _warning(visit: Visit, task: Task) -> Html:
    """A warning if the calls of `@due` are missing, or too rare for this schedule."""
    rhythm, text = health.rhythm(visit.home), Html("")

    if rhythm["lastAt"] is None:
        text = visit.t("Schedules work only if the URL of `@due` is called. There has been no call so far.")
    elif rhythm["every"] and (said := too_fine_for_ticks(task, visit.settings["timezone"], rhythm["every"], visit.now)):
        text = visit.t("The task {said}.", said=translated(visit.language, said))

    return paragraph(visit, text, "warning") if text else text


def _page(visit: Visit, task: Task | None, form: Form) -> Response:
    title = visit.t("New task") if task is None else visit.t("Edit {name}", name=label(task))
    made = {"schedule": _schedule_row(visit, form)} if "kind" in form.rules else {}

    if "command" in form.rules:
        form.choices["command"] = _commands(visit, form.typed["command"])
        form.about["command"] = scripts.place(visit)
    elif made:
        fixed = h('<input common value="{value}" readonly>', value=visit.t("set on the command line"))
        made.update({name: field(visit, name, name.capitalize(), fixed) for name in OF_COMMAND})

    if not visit.settings["notify"]:
        form.about["notify"] = visit.t("Send a message when the task starts to fail and when it recovers. Nobody is "
                                       "told yet: the settings have no address.")

    form.about["arguments"] = h("{rule} {http}", rule=visit.t(FIELDS["arguments"].sentence), http=visit.t(
        "`http URL` reaches public addresses, the host of this address, and what the owner allows in the settings."))

    if "strategy" in form.rules:
        now = strategy(visit, task or load_task("new", new_task(visit.now, {})))
        form.choices["strategy"] = [(name, now if name == "auto" else name) for name in FIELDS["strategy"].limit]

    query = {"name": task.name} if task is not None else {"copy": visit.query.get("copy", "")}
    body = visit.html("form", title=title, problem=warning(form.problem()), action=visit.href("edit", **query),
                      preview=visit.href("preview"), was=form.stamp(), refused=scripts.refused(
                          visit) if "command" in form.rules else "", first=form.sections(FIRST, made),
                      more=form.sections(MORE, made), open=Html(" open") if task is not None or form.errors else "",
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
    shown = _preview(visit, typed)
    apart = h('<p class="error" id="kind-error">{text}</p>', text=problem) if problem and problem not in shown \
        else ""
    wrong = {"interval": "amount", "cron": "expression", "none": "kind"}.get(typed["kind"], "at")
    lists = {"kinds": ("kind", KINDS), "units": ("unit", {str(size): name for size, name in UNIT_NAMES.items()}),
             "weekdays": ("weekday", WEEKDAYS),
             "monthdays": ("monthday", {**{str(day): str(day) for day in range(1, 32)}, "L": "the last"})}
    return visit.html(
        "schedule", expression=typed["expression"], amount=typed["amount"], at=typed["at"],
        error=apart, preview=shown, described="kind-error preview" if apart else "preview",
        **{f"{name}_mark": Html(' aria-invalid="true"') if problem and name == wrong else ""
           for name in ("kind", "amount", "at", "expression")},
        **{name: options([(value, visit.t(text)) for value, text in texts.items()], typed[control])
           for name, (control, texts) in lists.items()})
