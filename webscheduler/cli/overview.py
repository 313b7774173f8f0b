"""Verbs that tell how things stand: list show status commands next.

The rule: what is shown is true now. A run that state calls running is told from a dead one by its processes, and a
task that does not load is shown with what is wrong rather than left out.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from itertools import islice

from .. import editing
from ..commands import registry
from ..errors import BadInput, Unusable
from ..host import doctor
from ..host.home import check_owner
from ..printable import escaped
from ..runs import due
from ..schedule import slots
from ..schedule.describe import describe, render
from ..store import locks, state
from ..store.settings import load_settings
from ..store.task import DUE, FIELDS, load_task, load_tasks
from ..times import format_time, parse_time, time_zone
from . import fields
from .terminal import complain, in_a_word, line, show, table, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

    from ..store.settings import Settings
    from ..store.task import Task

NO_LONGER = "interrupted"  # what `running` in state means where nothing of the run is alive


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    listing = verb("list", _list, "List the tasks.", json=True)
    listing.add_argument("--group", metavar="GROUP", help="Only those of a group.")

    showing = verb("show", _show, "Show all about a task.", json=True)
    showing.add_argument("name", metavar="NAME", help="The task.")

    verb("status", _status, "Tell whether all is well; exit status 1 if not.", json=True)
    verb("commands", _commands, "List the commands that tasks may use.", json=True)

    coming = verb("next", _next, "Tell when a task, or any schedule, comes next.", json=True, owner=False)
    coming.add_argument("name", nargs="?", metavar="NAME", help="The task.")
    coming.add_argument("--cron", metavar="EXPR", help="A crontab(5) expression instead.")
    coming.add_argument("--every", type=fields.rule("intervalSeconds", "int", FIELDS["intervalSeconds"].limit),
                        metavar="SECONDS", help="An interval instead.")
    coming.add_argument("--timezone", metavar="ZONE", help="Zone of the expression; unset: the installation's, or UTC.")
    coming.add_argument("--from", dest="start", type=_instant, metavar="ISO8601",
                        help="Count from then; unset: from now.")
    coming.add_argument("--count", type=fields.rule("--count", "int", (1, 10000)), metavar="N", default=5,
                        help="How many; default: 5.")


def tasks_of(home: str) -> state.Tasks:
    """All tasks, raw. A state.json that only its copy stands in for is complained of."""
    try:
        return state.read_strictly(home)
    except Unusable as error:
        tasks = state.read(home)
        complain(f"{error}; what follows is from the copy")
        return tasks


def in_words(task: Task) -> str:
    """The schedule in words."""
    if task.name == DUE:
        return "When its URL is called"

    return render(*describe(task["expression"], task["intervalSeconds"]), str)


def _next_text(settings: Settings, task: Task, now: float) -> str:
    try:
        moment = slots.next_at(task, settings["timezone"], now)
    except BadInput as error:
        return f"never: {error}"

    return "now" if moment is not None and moment <= now else when(moment)


def _settled(task: Task, alive: set[Any]) -> Task:
    if task["lastRunStatus"] == "running" and task.name not in alive:
        task["lastRunStatus"] = NO_LONGER

    return task


def _list(args: Namespace) -> None:
    settings, now = load_settings(args.home), time.time()
    good, broken = load_tasks(tasks_of(args.home))
    alive = {facts.get("name") for facts in locks.live_runs(args.home)}
    shown = [_settled(task, alive) for task in good.values() if args.group in (None, task["group"])]

    if args.json:
        show([*(editing.public(settings, task, now) for task in shown),
              *({"name": name, "error": problem} for name, problem in broken.items() if args.group is None)])
        return

    rows = [(task.name, "yes" if task["enabled"] else "no", in_words(task), when(task["lastRunAt"]),
             task["lastRunStatus"] or "-", _next_text(settings, task, now), "yes" if task.name in alive else "-")
            for task in shown]
    table(("TASK", "ENABLED", "SCHEDULE", "LAST RUN", "STATUS", "NEXT", "RUNNING"), rows)

    for problem in broken.values():
        complain(f"{problem}: `webscheduler edit` mends it")


def _show(args: Namespace) -> None:
    settings, now = load_settings(args.home), time.time()
    task = load_task(args.name, editing.row_of(tasks_of(args.home), args.name))
    alive = locks.live_runs(args.home, args.name)
    _settled(task, {facts.get("name") for facts in alive})

    if args.json:
        show(editing.public(settings, task, now))
        return

    public = editing.public(settings, task, now)
    print(line(task.name) + (f": {line(task['title'])}" if task["title"] else ""))

    if task["description"]:
        print(escaped(task["description"]))

    facts = [("schedule", in_words(task)), ("next", _next_text(settings, task, now)),
             *(("running", f"{facts.get('run')} since {when(facts.get('startedAt'))}") for facts in alive)]
    hidden = ("secret", "title", "description", "nextRunAt", "name")
    facts += [(field, when(value) if field in FIELDS and FIELDS[field].kind == "time" else in_a_word(value))
              for field, value in public.items()
              if field not in hidden and value is not None and value not in ("", [], {})]
    width = max(len(label) for label, _ in facts)

    for label, text in facts:
        print(f"  {label:{width}}  {line(text)}")


def _status(args: Namespace) -> int:
    settings, now = load_settings(args.home), time.time()
    report = overall(settings, now)

    if args.json:
        show(report)
    else:
        print(f"{report['status']}: {len(report['unhealthy'])} of {report['tasks']} tasks need attention"
              if report["unhealthy"] else f"{report['status']}: {report['tasks']} tasks")

        if report["unhealthy"]:
            table(("TASK", "STATE", "LAST RUN", "STATUS"), [
                (each["name"], each["status"], when(each["lastRunAt"]), each["lastRunStatus"] or "-")
                for each in report["unhealthy"]])

        for facts in report["running"]:
            print(f"running: {line(facts['name'])} since {when(facts['startedAt'])}, run {line(facts['run'])}")

        print(f"last tick: {when(report['lastTickAt']) if report['lastTickAt'] else 'none so far'}")

        for warning in report["warnings"]:
            print(f"warning: {line(warning)}")

    return 0 if report["status"] == "healthy" else 1


def overall(settings: Settings, now: float) -> dict[str, Any]:
    """How the installation is: status (healthy, failing or late; failing too where a file or a task does not load),
    tasks (their number), unhealthy, running, lastTickAt, tickEverySeconds, warnings (what `doctor` finds of tasks)."""
    try:
        tasks, damage = state.read_strictly(settings.home), []
    except Unusable as error:
        tasks, damage = state.read(settings.home), [str(error)]

    good, broken = load_tasks(tasks)
    running = [{field: facts.get(field) for field in ("name", "run", "startedAt", "trigger")}
               for facts in locks.live_runs(settings.home)]
    alive = {facts["name"] for facts in running}
    unhealthy = [{"name": name, "status": "failing", "lastRunAt": None, "lastRunStatus": None} for name in broken]
    unhealthy += [{"name": name, "status": state, "lastRunAt": good[name]["lastRunAt"],
                   "lastRunStatus": _settled(good[name], alive)["lastRunStatus"]}
                  for name, state in due.states(settings, dict(good), now).items() if state != "healthy"]
    states = [each["status"] for each in unhealthy] + ["failing"] * len(damage)
    return {"status": next((state for state in ("failing", "late") if state in states), "healthy"), "tasks": len(tasks),
            "unhealthy": unhealthy, "running": running, "lastTickAt": good[DUE]["lastRunAt"] if DUE in good else None,
            "tickEverySeconds": due.rhythm(settings.home)["every"],
            "warnings": damage + [each.text(when) for each in doctor.of_tasks(settings, tasks, now)
                                  if each.state != doctor.OK]}


def _commands(args: Namespace) -> None:
    found = registry.registered(load_settings(args.home)).values()

    if args.json:
        show([{name: getattr(command, name) for name in ("name", "source", "description", "arguments", "cwd")}
              for command in found])
    else:
        table(("COMMAND", "SOURCE", "ARGUMENTS", "DESCRIPTION"),
              [(command.name, command.source, "yes" if command.arguments else "no", command.description)
               for command in found])


def _next(args: Namespace) -> None:
    if (args.name is not None) + (args.cron is not None) + (args.every is not None) != 1:
        raise BadInput("next: give a task, --cron or --every")

    start = time.time() if args.start is None else args.start
    name, row = args.name or "next", {"expression": args.cron, "intervalSeconds": args.every}

    if args.name is not None:
        check_owner(args.home)
        row = editing.row_of(tasks_of(args.home), name)

    if row.get("expression") is not None:
        slots.check_expression(row["expression"])

    task = load_task(name, row)

    if not (task["expression"] or task["intervalSeconds"]):
        raise BadInput(f"{name} has no schedule: `webscheduler edit NAME --cron EXPR` gives it one")

    # Anybody may ask about an expression; the setting counts only for whom the installation is.
    mine = os.path.isdir(args.home) and os.stat(args.home).st_uid == os.geteuid()
    default = load_settings(args.home)["timezone"] if mine or args.name else "UTC"
    zone_name = (task["timezone"] or default) if args.timezone is None else args.timezone
    zone = time_zone(zone_name)

    if args.name is None or args.start is not None:  # counted from there, whatever is known of the task's runs
        task = load_task(name, {field: task[field] for field in ("expression", "intervalSeconds")})
        task["lastRunAt"] = format_time(start)

    task["timezone"] = zone_name

    try:
        local = [datetime.fromtimestamp(moment, timezone.utc).astimezone(zone)
                 for moment in islice(slots.starts(task, zone_name, start), args.count)]
    except (ValueError, OverflowError, OSError):
        raise BadInput("next: that is beyond the year 9999")

    if args.json:
        show([moment.isoformat(timespec="seconds") for moment in local])
    else:
        for moment in local:
            print(moment.isoformat(" ", "seconds"))


def _instant(text: str) -> float:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise BadInput(f"--from: {text[:60]!r} is no instant like 2026-03-29T01:00:00+00:00")
