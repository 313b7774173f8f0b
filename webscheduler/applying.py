# SPDX-License-Identifier: LGPL-3.0-or-later
"""Making the tasks what a file says: what is different first, then the change.

The rules: a field that the file does not name stays as it is. What runs and the program write is neither compared nor
changed, and a slug only together with its secret, so that URLs stay. Everything is checked before anything is written.
Each step leaves a whole installation: tasks take their new names, all changes are one write, then tasks go that are not
in the file. Who is cut off does it again: what was done is no difference any more.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, NamedTuple

from . import editing
from .errors import BadInput, Unusable, WebschedulerError
from .interchange import histories, importing
from .interchange.importing import Arrival
from .runs import task_files
from .store import chains, processes, state
from .store.fields import HIDDEN, Field
from .store.settings import Settings
from .store.task import DUE, FIELDS, load_task, new_task, shown

KEYS = ("slug", "secret")
UNKNOWN = Field("any", None, "A field that another version knows.")


class Change(NamedTuple):
    """What becomes of one task. change: `add`, `edit`, `rename`, `remove` or `same`; fields: of a task that comes or
    changes, name -> [before, after], with `***` for secrets; `name` of one that is renamed."""

    task: str
    change: str
    fields: dict[str, list[Any]]


def differences(settings: Settings, arrival: Arrival, now: float, prune: bool = False,
                panel: bool = False) -> list[Change]:
    """What `apply` would do, and in arrival.said what there is to say of it. prune: tasks that are not in the file go,
    or take the name of one in it that has their slug. panel: as in `editing.create`. Raises BadInput."""
    if prune and not arrival.tasks:
        raise BadInput("there is no task in it, and --prune would remove all others: is it the right file?", "prune")

    for name, given in arrival.tasks.items():
        load_task(name, given)

    importing.keep_old(settings, arrival, now)
    importing.advise(settings, arrival)
    tasks = copy.deepcopy(state.read_strictly(settings.home))
    here = {name: row for name, row in shown(tasks).items() if prune and name not in (DUE, *arrival.tasks)}
    slugs = _slugs(here)
    renamed = {}

    for name, given in arrival.tasks.items():
        if name not in tasks and given.get("slug") in slugs:
            renamed[name] = old = slugs.pop(given["slug"])
            tasks[name] = tasks.pop(old)
            chains.rename(tasks, old, name)

    gone = [name for name in here if name not in renamed.values()]

    for name, field in [(name, field) for name in arrival.tasks for field in chains.LINKS]:
        lost = [each for each in chains.texts(arrival.tasks[name], field) if each in gone]

        if lost:
            raise BadInput(f"task {name}: {field}: {lost[0]!r} is not in the file, and would be removed", field)

    changes = _merge(settings, tasks, arrival, now, panel)

    for change in changes:
        if panel and not {"command", "arguments"}.isdisjoint(change.fields):
            editing.check_reach(settings, change.task, tasks[change.task])

    running = {facts.get("name") for facts in processes.claimed_runs(settings.home)[0]}
    arrival.said.extend(f"{name} is running: it is {what} only after its end" for names, what in (
        (gone, "removed"), (renamed.values(), "renamed")) for name in names if name in running)
    return [change if change.task not in renamed else Change(change.task, "rename", {
        "name": [renamed[change.task], change.task], **change.fields}) for change in changes
    ] + [Change(name, "remove", {}) for name in gone]


def apply(settings: Settings, arrival: Arrival, changes: list[Change], now: float, panel: bool = False,
          keep_logs: bool = False, say: Callable[[str], object] = str) -> bool:
    """Carry out these changes, which `differences` returned, and take in the history; returns whether any task is
    another one now. say: gets what it is at. Raises BadInput, before anything is written, also while a task runs that
    is to be renamed or removed; Unusable if that failed at last."""
    home, failed = settings.home, []
    renamed = [(change.fields["name"][0], change.task) for change in changes if change.change == "rename"]
    gone = [change.task for change in changes if change.change == "remove"]

    for name in (*(old for old, _ in renamed), *gone):
        task_files.check_idle(home, name, now)

    for old, new in renamed:
        editing.rename(home, old, new, now)

    histories.merge_in(home, arrival.logs, lambda: state.update(home, lambda tasks: _merge(
        settings, tasks, arrival, now, panel)), say)

    for name in gone:
        try:
            editing.remove(home, name, now, keep_logs)
        except WebschedulerError as error:
            failed.append(f"{name} is not removed: {error}")

    if failed:
        raise Unusable("; ".join(["all else is done", *failed]))

    return any(change.change != "same" for change in changes)


def _slugs(tasks: state.Tasks) -> dict[str, str]:
    """slug -> name of the task that has it."""
    return {row["slug"]: name for name, row in tasks.items()
            if isinstance(row, dict) and isinstance(row.get("slug"), str)}


def _merge(settings: Settings, tasks: state.Tasks, arrival: Arrival, now: float, panel: bool) -> list[Change]:
    """Put the tasks of the file among those that are here; what that changes. Raises BadInput."""
    changes: list[Change] = []
    owners = _slugs(tasks)

    def row(name: str, given: dict[str, Any], present: dict[str, Any]) -> dict[str, Any] | None:
        slug = given.get("slug")
        own = slug and owners.setdefault(slug, name) == name

        if slug and not (own and (given.get("secret") or not present)):
            given = {field: value for field, value in given.items() if field not in (KEYS if present else KEYS[:1])}

        wanted = {field: value for field, value in given.items()
                  if not present or FIELDS.get(field, UNKNOWN).by == "user" or field in KEYS}
        defaults = {field: FIELDS.get(field, UNKNOWN).default for field in wanted}
        before = {**defaults, **present}
        fields = {field: [HIDDEN, HIDDEN] if field == "secret" else [before[field] if present else None, value]
                  for field, value in wanted.items() if value != before[field]
                  and (present or FIELDS.get(field, UNKNOWN).by == "user")}
        changes.append(Change(name, "add" if not present else "edit" if fields else "same", fields))

        if present and not fields:
            return None

        found = new_task(now, {**present, **wanted})
        public = panel or given.get("publicOnly") is True

        if present:
            editing.follow(found, present, now, public)
        else:
            found["publicOnly"] = public

        if panel:
            try:
                editing.check_task(settings, name, found, True, present or None)
            except BadInput as error:
                raise BadInput(f"task {name}: " + str(error).replace(f"task {name}: ", "", 1), error.field)

        return found

    importing.merge(tasks, arrival.tasks, row, arrival.changes)
    importing.check_logs(tasks, arrival)
    return changes
