"""The form of a task. Imports `tasks`, `show`, `web` and the core.

The rules: a form shows what is stored, and what comes back the same changes nothing: only controls that were changed
are written, so that a field whose text a form cannot carry exactly stays as it is. A form made from another state
than the present one is not saved unseen. Errors stand beside their fields, and nothing typed is lost. What names a
program, a directory or the environment is not here.
"""

from __future__ import annotations

import hashlib
import json
from itertools import islice

from .. import commands, due, editing, installation, store
from ..errors import BadInput
from ..schedule import check_expression, starts
from ..task import DUE, FIELDS, MAX_SECONDS, Task, format_time, from_text, load
from .show import field, moment, options, page, roughly, warning
from .show import schedule as schedule_text
from .tasks import label, named
from .web import Html, Response, error_text, escape, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .web import Visit

    Errors = dict[str, Html]

PRESETS = {"*/5 * * * *": "Every 5 minutes", "*/15 * * * *": "Every 15 minutes", "0 * * * *": "Every hour",
           "0 3 * * *": "Every day at 03:00", "30 9 * * 1-5": "Weekdays at 09:30", "0 4 * * 0": "Every Sunday at 04:00",
           "0 5 1 * *": "On the first day of the month at 05:00", "0 5 L * *": "On the last day of the month at 05:00"}
KINDS = {"none": "Only when its URL is called, or by hand", "cron": "By a cron expression",
         "interval": "At an interval"}
CHECKED = Html(" checked")
UNIT_NAMES = {86400: "days", 3600: "hours", 60: "minutes", 1: "seconds"}

# Control -> its label and the help beside it; its kind and limits are those of the field in FIELDS.
CONTROLS: dict[str, tuple[str, str]] = {
    "name": ("Name", "Short and stable: it names the files of the history. Letters, digits, : . _ -"),
    "title": ("Title", "What the list shows; empty: the name."),
    "description": ("Description", "What the task is for."),
    "group": ("Group", "Tasks of a group are listed together."),
    "enabled": ("Enabled", "Whether its URL and its schedule may run the task."),
    "command": ("Command", "One of the registered commands."),
    "arguments": ("Arguments", "Split at blanks; quotes keep words together. No shell sees them."),
    "timezone": ("Time zone", "Of the cron expression, as in Europe/Paris; empty: that of the settings."),
    "catchUpSeconds": ("Catch up within", "Seconds. Older missed starts are not made up for; empty: all are."),
    "retries": ("Retries", "How often a run that failed or timed out is tried again."),
    "retryDelaySeconds": ("Delay before a retry", "Seconds. Retries need calls of the URL for everything that is due."),
    "priority": ("Priority", "Lower numbers start first when several tasks are due."),
    "timeout": ("Time limit", "Seconds after which a run is ended; 0: never; empty: that of the settings."),
    "preventOverlap": ("Never twice at once", "A call during a run is skipped."),
    "minIntervalSeconds": ("Least interval", "Seconds between two starts by URL; calls in between are skipped."),
    "strategy": ("Strategy", "How a run is laid around the answer to the call; auto takes the best that works here."),
    "failureStatus": ("Status on failure", "HTTP status of a synchronous call whose run fails, as in 500; empty: 200."),
    "signature": ("Signature", "A static URL is pasted once; a timed signature is good once, for some minutes."),
    "ipAllowlist": ("Allowed addresses", "Addresses or networks that may call the URL, one a line; empty: all."),
    "logOutput": ("Keep output", "In the history."),
    "logErrorOutput": ("Keep error output", "In the history."),
    "logRetentionDays": ("Days of history", "0: for ever; empty: as in the settings."),
}
SECTIONS = (
    ("Task", ("name", "title", "group", "description", "enabled")),
    ("What it runs", ("command", "arguments")),
    ("When it runs", ("schedule", "timezone", "catchUpSeconds", "retries", "retryDelaySeconds", "priority")),
    ("How it runs", ("timeout", "preventOverlap", "strategy")),
    ("Its URL", ("signature", "minIntervalSeconds", "ipAllowlist", "failureStatus")),
    ("History", ("logOutput", "logErrorOutput", "logRetentionDays")),
)
OF_DUE = ("title", "description", "enabled", "strategy", "signature", "minIntervalSeconds", "ipAllowlist",
          "logRetentionDays")


def edit(visit: Visit) -> Response:
    """Make a task, or change one."""
    task = named(visit) if visit.query.get("name") else None
    start = _untouched(_start(visit, task))

    if visit.method != "POST":
        return _form(visit, task, start, start, {})

    form = {name: visit.form.get(name, "") for name in start}
    form["expression"] = visit.form.get("preset") or form["expression"]
    errors: Errors = {}
    fields = _fields(visit, task, start, form, errors)

    if visit.form.get("was", "") != _stamp(start):
        errors[""] = visit.t("The task was changed meanwhile by somebody else. What you typed is below; what differs "
                             "from what is stored now is saved when you send it again.")

    if not errors and visit.form.get("do") == "save":
        try:
            return _save(visit, task, fields, form["name"])
        except BadInput as error:
            control = {"intervalSeconds": "schedule", "expression": "schedule"}.get(error.field, error.field)
            errors[control if control in form or control == "schedule" else ""] = error_text(visit, error)

    return _form(visit, task, start, form, errors)


def _save(visit: Visit, task: Task | None, fields: dict[str, Any], name: str) -> Response:
    if task is None:
        made = editing.create(visit.settings, name, fields, visit.now, panel=True)
        visit.note("created", name)
        visit.tell("{name} is created.", name=label(made), secret=name)
        return visit.redirect("task", name=name)

    if task.name != DUE and name != task.name:
        editing.rename(visit.home, task.name, name, visit.now)
        visit.note("renamed", f"{task.name} {name}")
    else:
        name = task.name

    if fields:
        editing.edit(visit.settings, name, fields, visit.now, panel=True)
        visit.note("changed", f"{name} {' '.join(sorted(fields))}")

    changed = fields or name != task.name
    visit.tell("{name} is saved." if changed else "Nothing was changed.", name=label(task))
    return visit.redirect("task", name=name)


def _start(visit: Visit, task: Task | None) -> dict[str, str]:
    """What the controls show to begin with."""
    if task is None:
        copied = store.read(visit.home).get(visit.query.get("copy", ""))
        fields = load("copy", copied) if copied else {}
        shown = _texts(Task("", {**{name: field.default for name, field in FIELDS.items()}, "enabled": True, **fields}))
        return {**shown, "name": f"{visit.query['copy']}-2" if copied else "", "enabled": "true"}

    return _texts(task)


def _texts(task: Task) -> dict[str, str]:
    found = {"name": task.name}

    for name in CONTROLS:
        value = task.get(name)

        if isinstance(value, bool):
            found[name] = "true" if value else "false" if FIELDS[name].nullable else ""
        elif isinstance(value, list):
            found[name] = "\n".join(value)
        elif name != "name":
            found[name] = "" if value is None else str(value)

    seconds = task["intervalSeconds"] or 3600
    unit = next(size for size in UNIT_NAMES if seconds % size == 0)
    kind = "cron" if task["expression"] else "interval" if task["intervalSeconds"] else "none"
    return {**found, "kind": kind, "expression": task["expression"] or "", "amount": str(seconds // unit),
            "unit": str(unit)}


def _untouched(texts: dict[str, str]) -> dict[str, str]:
    """The texts as a browser would send them back: what is invisible is shown, a single line has no line breaks."""
    import html

    several = ("description", "ipAllowlist")
    return {name: html.unescape(escape(text if name in several else text.replace("\n", "␊")))
            for name, text in texts.items()}


def _stamp(start: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(start).encode("utf-8", "replace")).hexdigest()[:16]


def _fields(
    visit: Visit, task: Task | None, start: dict[str, str], form: dict[str, str], errors: Errors
) -> dict[str, Any]:
    """The fields that the form changes; of a new task all."""
    found: dict[str, Any] = {}
    allowed = OF_DUE if task is not None and task.name == DUE else tuple(CONTROLS)

    for name in allowed:
        if name == "name" or task is not None and form[name] == start[name]:
            continue

        if task is not None and task["argv"] and name in ("command", "arguments"):
            continue

        text = form[name] or ("false" if FIELDS[name].kind == "bool" and not FIELDS[name].nullable else "")

        try:
            found[name] = from_text(name, FIELDS[name], text.strip() if FIELDS[name].kind == "int" else text)
        except BadInput as error:
            errors[name] = error_text(visit, error)

    if "command" in allowed and not (task is not None and task["argv"]) and not form["command"]:
        errors["command"] = visit.t("Choose a command.")

    schedule = ("kind", "expression", "amount", "unit")

    if "command" in allowed and (task is None or any(form[name] != start[name] for name in schedule)):
        try:
            found.update(_schedule(form))
        except BadInput as error:
            errors["schedule"] = error_text(visit, error)

    return found


def _schedule(form: dict[str, str]) -> dict[str, Any]:
    """The two fields of a schedule. Raises BadInput."""
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
    """The part of the form that says when the task would run, for the script to put in place."""
    form = {name: visit.query.get(name, "") for name in ("kind", "expression", "amount", "unit", "timezone")}
    return Response(_preview(visit, form))


def _preview(visit: Visit, form: dict[str, str]) -> Html:
    if form["kind"] not in ("cron", "interval"):
        text = visit.t("Runs only when its URL is called, or by hand.")
        return h('<div id="preview" aria-live="polite"><p>{text}</p></div>', text=text)

    try:
        fields = {**_schedule(form), "timezone": form["timezone"].strip() or None}
        task = load("preview", installation.new_task(visit.now, fields))
        coming = list(islice(starts(task, visit.settings["timezone"], visit.now), 5))
    except BadInput as error:
        return h('<div id="preview" aria-live="polite"><p class="error">{text}</p></div>',
                 text=error_text(visit, error))

    return visit.html("preview", words=schedule_text(visit, task), warning=_warning(visit, coming),
                      times=[h("<li>{when}</li>", when=moment(visit, format_time(at))) for at in coming])


def _warning(visit: Visit, coming: list[float]) -> Html:
    rhythm = due.rhythm(visit.home)

    if rhythm["lastAt"] is None:
        text = visit.t("Schedules need calls of the URL for everything that is due; none has come so far.")
    else:
        gap = min((later - earlier for earlier, later in zip(coming, coming[1:])), default=0.0)
        every = rhythm["every"]

        if not every or not gap or gap >= every * 0.95:
            return Html("")

        text = visit.t("Calls come about {time} apart: runs start at the next call, and what was missed in between "
                       "runs once.", time=roughly(visit, every))

    return h('<p class="warning">{text}</p>', text=text)


def _form(visit: Visit, task: Task | None, start: dict[str, str], form: dict[str, str], errors: Errors) -> Response:
    title = visit.t("New task") if task is None else visit.t("Edit {name}", name=label(task))
    built_in = task is not None and task.name == DUE
    sections = []

    for heading, names in SECTIONS:
        rows = [_schedule_row(visit, form, errors) if name == "schedule" else _row(visit, task, name, form, errors)
                for name in names if not built_in or name in OF_DUE]

        if rows:
            sections.append(visit.html("section", name=visit.t(heading), rows=rows))

    problem = errors.get("") or visit.t("Nothing is saved yet: see the fields marked below.") if errors else None
    query = {"name": task.name} if task is not None else {"copy": visit.query.get("copy", "")}
    body = visit.html("form", title=title, problem=warning(problem), action=visit.href("edit", **query),
                      preview=visit.href("preview"), was=_stamp(start), sections=sections,
                      back=visit.href("task" if task is not None else "", name=task and task.name))
    return page(visit, title, body, 422 if errors else 200)


def _row(visit: Visit, task: Task | None, name: str, form: dict[str, str], errors: Errors) -> Html:
    text, about = CONTROLS[name]
    value, rule = form[name], FIELDS.get(name)
    kind = rule.kind if rule is not None else "text"
    template = "field"

    if kind == "bool" and rule is not None and not rule.nullable:
        template = "check"
        control = h('<input common type="checkbox" value="true"{checked}>', checked=CHECKED if value else "")
    elif name in ("command", "arguments") and task is not None and task["argv"]:
        control = h('<input common value="{value}" readonly>', value=visit.t("set on the command line"))
    elif name == "command":
        control = _commands(visit, value)
    elif kind == "choice" and rule is not None:
        control = h("<select common>{options}</select>", options=options([(each, each) for each in rule.limit], value))
    elif kind == "bool":
        control = h("<select common>{options}</select>", options=options([
            ("", visit.t("as in the settings")), ("true", visit.t("yes")), ("false", visit.t("no"))], value))
    elif name in ("description", "ipAllowlist"):
        control = h('<textarea common rows="3">\n{value}</textarea>', value=value)
    else:
        more = Html(' inputmode="numeric" class="short"' if kind == "int" else " required" if name == "name" else "")
        control = h('<input common value="{value}" autocomplete="off"{more}>', value=value, more=more)

    return field(visit, name, visit.t(text), control, visit.t(about), errors.get(name), template)


def _commands(visit: Visit, value: str) -> Html:
    known = commands.registry(visit.settings)
    choices: list[tuple[str, object]] = [("", visit.t("Choose…"))]
    choices += [(name, f"{name} — {command.description}" if command.description else name)
                for name, command in sorted(known.items())]

    if value and value not in known:
        choices.append((value, visit.t("{name} (no longer registered)", name=value)))

    return h("<select common>{options}</select>", options=options(choices, value))


def _schedule_row(visit: Visit, form: dict[str, str], errors: Errors) -> Html:
    problem = errors.get("schedule")
    return visit.html(
        "schedule", radios=[visit.html("radio", kind=kind, text=visit.t(text), checked=CHECKED if form["kind"] == kind
                                       else "") for kind, text in KINDS.items()],
        expression=form["expression"], amount=form["amount"],
        presets=options([("", visit.t("as typed")), *((text, visit.t(name)) for text, name in PRESETS.items())], ""),
        units=options([(str(size), visit.t(name)) for size, name in UNIT_NAMES.items()], form["unit"]),
        error=h('<p class="error" id="schedule-error">{text}</p>', text=problem) if problem else "",
        invalid=Html(' aria-invalid="true" aria-describedby="schedule-error"') if problem else "",
        preview=_preview(visit, form))
