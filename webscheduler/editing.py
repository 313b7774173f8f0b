# SPDX-License-Identifier: LGPL-3.0-or-later
"""Changes to tasks, for the command line and the panel.

The rules: what a person enters is checked as a whole before anything is written, and an error names the field. A task
is not renamed or removed while it runs. A secret is shown once, by the call that makes it.
"""

from __future__ import annotations

import json

from . import signing
from .commands import registry
from .errors import BadInput, Conflict, NoSuchTask, Stale, did_you_mean
from .runs import task_files
from .schedule import slots
from .store import chains, old_secret, state
from .store.fields import check
from .store.files import file_name
from .store.settings import Settings, check_target, private_hosts
from .store.task import DUE, FIELDS, SECRETS, Task, check_name, check_printable, load_task, new_task
from .times import format_time, time_zone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Any

    Stamps = Collection[str]  # of `stamp`; none: whatever it is

OF_OWNERS = ("pingUrl",)  # fields that only they change, where roles count
OF_COMMAND_LINE = ("argv", "cwd", "environment")  # fields that are changed there alone


def create(settings: Settings, name: str, fields: dict[str, Any], now: float, panel: bool = False) -> Task:
    """Add a task with these fields (names of FIELDS), enabled unless they say otherwise. panel: as in `check_task`.
    Raises BadInput."""
    check_name(name)

    def change(tasks: state.Tasks) -> Task:
        _check_free(tasks, name)
        row = new_task(now, {"enabled": True, **fields, "publicOnly": panel})
        task = check_task(settings, name, row, panel)
        tasks[name] = row
        chains.check(tasks, [name])
        return task

    if panel:
        check_reach(settings, name, fields)

    task_files.finish(settings.home, name)
    return state.update(settings.home, change)


def edit(settings: Settings, name: str, fields: dict[str, Any], now: float, panel: bool = False, new: str = "",
         seen: Task | None = None, stamps: Stamps = ()) -> Task:
    """Change fields of a task, and its name if `new` is given: all or nothing. Other fields stay. Once enabled, or with
    another schedule, it is due from now on. seen: the task as the person saw it; none of the fields may have changed
    since. stamps: as in `row_of`. Raises BadInput."""

    def change(tasks: state.Tasks) -> Task:
        row = {**row_of(tasks, name, stamps), **fields}
        before = tasks[name]

        if seen is not None:
            present = load_task(name, before)

            for field in fields:
                if present[field] != seen[field]:
                    raise Stale(f"{field}: somebody else changed it just now: look at it, and save again", field)

        follow(row, before, now, panel)
        _reset_wrong(row)
        task = check_task(settings, new or name, row, panel, before)
        tasks[name] = row

        if any(row.get(field) != before.get(field) for field in chains.LINKS):
            chains.check(tasks, [name])

        return task

    if panel and not {"command", "arguments"}.isdisjoint(fields):
        check_reach(settings, name, {**row_of(state.read(settings.home), name), **fields})

    if new in ("", name):
        task_files.finish(settings.home, name)
        return state.update(settings.home, change)

    made: Task = rename(settings.home, name, new, now, change)
    return made


def follow(row: dict[str, Any], before: dict[str, Any], now: float, panel: bool) -> None:
    """Let what the program writes follow the fields of a task that a person changed."""
    if any(row.get(field) != before.get(field) for field in ("expression", "intervalSeconds", "timezone", "enabled")):
        row.update(scheduledSince=format_time(now), nextRunAt=None)

    if any(row.get(field) != before.get(field) for field in ("command", "arguments")):
        row["publicOnly"] = panel  # whoever changes it with a shell could call any address anyway


def remove(home: str, name: str, now: float, keep_logs: bool = False, stamps: Stamps = ()) -> None:
    """Remove a task, as `task_files.remove` does; not `@due`. stamps: as in `row_of`. Raises BadInput."""
    if name == DUE:
        raise BadInput("@due is built in and cannot be removed: `webscheduler disable @due` turns it off", "name")

    task_files.remove(home, name, now, keep_logs, lambda row: _check_stamp(name, row, stamps))


def rename(home: str, old: str, new: str, now: float, also: Callable[[state.Tasks], Any] = lambda tasks: None) -> Any:
    """Give a task another name; it keeps URL, history and limits. also: changes more in the same write; its result is
    returned. Raises BadInput while the task runs."""
    if DUE in (old, new):
        raise BadInput("@due is built in: it cannot be renamed, and no other task can have its name", "name")

    check_name(new)

    def change(tasks: state.Tasks) -> Any:
        row = row_of(tasks, old)
        _check_free([name for name in tasks if name != old], new)

        if not row.get("command") and not row.get("argv"):
            tasks[old] = {**row, "command": old}  # it was that of its name

        result = also(tasks)
        chains.rename(tasks, old, new)
        items = [(new if name == old else name, row) for name, row in tasks.items()]
        tasks.clear()
        tasks.update(items)
        return result

    return task_files.carry_out(home, {"old": old, "new": new, "keepLogs": True, "slug": None}, now,
                                lambda: state.update(home, change))


def set_enabled(home: str, names: Iterable[str], enabled: bool, now: float, stamps: Stamps = ()) -> None:
    """Enable or disable tasks: all, or on an error none. stamps: as in `row_of`."""

    def change(tasks: state.Tasks) -> None:
        for name in names:
            row = row_of(tasks, name, stamps)

            if row.get("enabled", False) != enabled:
                row.update(enabled=enabled, nextRunAt=None, **({"scheduledSince": format_time(now)} if enabled else {}))

    state.update(home, change)


def rotate_secret(home: str, name: str, keep_old: int = 0, now: float = 0.0, stamps: Stamps = ()) -> Task:
    """Give the task a new secret, and a slug if it has none. URLs that were signed before are no longer valid, or for
    `keep_old` seconds from `now` on, if it had keys. Returns the task: reading it again could fail, and nobody would
    ever see the secret. stamps: as in `row_of`."""

    def change(tasks: state.Tasks) -> Task:
        row = row_of(tasks, name, stamps)
        old_secret.end(row)

        if keep_old and row.get("slug") and row.get("secret"):
            old_secret.keep(row, keep_old, now)

        row.update(secret=signing.new_secret(), slug=row.get("slug") or signing.new_slug())
        return load_task(name, row)

    return state.update(home, change)


def end_old_secret(home: str, name: str) -> Task:
    """End the time of the secret that the task had before, now. Returns the task."""

    def change(tasks: state.Tasks) -> Task:
        old_secret.end(row_of(tasks, name))
        return load_task(name, tasks[name])

    return state.update(home, change)


def with_keys(home: str, name: str) -> Task:
    """The task. One without slug or secret, as another scheduler's state.json has it, gets them first."""
    row = row_of(state.read(home), name)

    if row.get("slug") and row.get("secret"):
        return load_task(name, row)

    def change(tasks: state.Tasks) -> Task:
        row = row_of(tasks, name)
        row.update(slug=row.get("slug") or signing.new_slug(), secret=row.get("secret") or signing.new_secret())
        return load_task(name, row)

    return state.update(home, change)


def public(settings: Settings, task: Task, now: float) -> dict[str, Any]:
    """A task as JSON shows it: its name, its fields without the secrets, when it is due next, until when URLs of the
    secret before this one are valid, and its URL if the setting baseUrl is set."""
    url, base = None, settings["baseUrl"]

    if base and task["slug"] and task["secret"] and task["signature"] != "timed":
        url = signing.trigger_url(base, task["slug"], task["secret"])

    fields = task | {"nextRunAt": slots.next_text(task, settings["timezone"], now)}
    return {"name": task.name, **{field: value for field, value in fields.items() if field not in SECRETS},
            "oldSecretUntil": old_secret.until(task, now), "url": url}


def row_of(tasks: state.Tasks, name: str, stamps: Stamps = ()) -> dict[str, Any]:
    """The task's row. stamps: if there are any, its stamp must be one of them. Raises NoSuchTask, Stale."""
    row = tasks.get(name)

    if not isinstance(row, dict):
        raise NoSuchTask(name, tasks)

    _check_stamp(name, row, stamps)
    return row


def stamp(name: str, row: Any) -> str:
    """A hash of what people set of a task: edits and new secrets change it, runs do not. row: of state.json, or the
    task."""
    try:
        task = load_task(name, row)
        # An old secret goes by itself once its time is over.
        kept = {field: task[field] for field, rule in FIELDS.items() if rule.by != "run" and field != "oldSecret"}
    except BadInput:
        kept = row

    import hashlib  # 5 ms, which most commands need not pay

    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]


def _check_stamp(name: str, row: Any, stamps: Stamps) -> None:
    if stamps and stamp(name, row) not in stamps:
        raise Stale(f"somebody else changed {name} since it was read: read it again")


def _reset_wrong(row: dict[str, Any]) -> None:
    """Reset fields written by runs that have wrong values after an edit by hand: no option could set them."""
    for field, rule in FIELDS.items():
        if rule.by == "run":
            try:
                check(field, rule, row.get(field, rule.default))
            except BadInput:
                row[field] = rule.default


def _check_free(taken: Iterable[str], name: str) -> None:
    for other in taken:
        if other == name:
            raise Conflict(f"name: a task named {name!r} exists already", "name")

        if file_name(other) == file_name(name):
            raise Conflict(f"name: {name!r} would share its files with {other!r}: choose another", "name")


def _check_command(settings: Settings, name: str, arguments: str) -> None:
    known = registry.registered(settings)
    command = known.get(name)

    if command is None:
        raise BadInput(f"command: {name!r} is not registered{did_you_mean(name, known)}, see `webscheduler commands`",
                       "command")

    registry.arguments(command, arguments)


def check_reach(settings: Settings, name: str, row: dict[str, Any]) -> None:
    """Refuse a URL that the task could not call, as its run would. It is asked before the tasks are locked, since the
    look-up of a name may take seconds. Raises BadInput."""
    command = registry.registered(settings).get(row.get("command") or name)

    if command is None or not registry.calls_urls(command):
        return

    from .fetching import NotPublic, check_public

    try:
        for url in registry.arguments(command, row.get("arguments", ""))[:1]:
            check_public(url, private_hosts(settings))
    except NotPublic as error:
        raise BadInput(f"arguments: {error}", "arguments")


def _check_ping_url(url: str | None, before: str | None) -> None:
    if url and url != before:
        check_target("pingUrl", FIELDS["pingUrl"], url)


def check_task(settings: Settings, name: str, row: dict[str, Any], panel: bool = False,
               before: dict[str, Any] | None = None) -> Task:
    """Check a task as a whole, after the rules of single fields. before: the row that it replaces, whose command is not
    checked again. panel: a program, directory or environment may not differ from `before`. Raises BadInput."""
    task = load_task(name, row)
    check_printable(row, before)

    if panel:
        for field in OF_COMMAND_LINE:
            if task[field] != check(field, FIELDS[field], (before or {}).get(field, FIELDS[field].default)):
                raise BadInput(f"{field}: can only be changed on the command line", field)

    _check_ping_url(task["pingUrl"], (before or {}).get("pingUrl"))

    if name == DUE:
        if task["expression"] or task["intervalSeconds"] or task["command"] or task["argv"]:
            raise BadInput("@due runs all due tasks: it has no command and no schedule of its own", "name")

        return task

    own = before is not None and not before.get("command") and not before.get("argv")  # it has that of its name

    if bool(row.get("argv")) == bool(row.get("command")) and not (own and not row.get("argv")):
        raise BadInput("command: give either a registered command, or a program with its arguments", "command")

    if task["argv"] and task["arguments"]:
        raise BadInput("arguments: only for a registered command; those of a program are part of its argv", "arguments")

    if task["command"] and (before is None or (name if own else before.get("command")) != task["command"]
                            or before.get("arguments", "") != task["arguments"]):
        _check_command(settings, task["command"], task["arguments"])

    time_zone(task["timezone"] or settings["timezone"])

    if task["expression"]:
        slots.check_expression(task["expression"])

    return task
