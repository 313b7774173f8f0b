# SPDX-License-Identifier: LGPL-3.0-or-later
"""Verbs about when tasks run: next, run-due, crontab.

The rules of `run-due`: cron mails whatever a command prints. What was started goes to standard output, which our line
of a crontab drops; errors go to standard error, which it does not. And it may be called every minute, so what only its
neighbours need is imported by these.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace

from ..errors import BadInput
from ..runs import health
from ..runs.children import SKIPPED
from ..store import processes, state
from ..store.settings import load_settings
from ..store.task import DUE, FIELDS, load_task
from ..times import format_time, parse_time
from ..vocabulary import SUCCESS
from .parser import JSON, checked, number
from .terminal import done, holders, line, local_time, print_error, print_json

OUTCOMES = {0: "success", 1: "not successful", SKIPPED: "skipped"}  # by exit status of a due task's process


def _next(args: Namespace) -> None:
    if (args.name is not None) + (args.cron is not None) + (args.every is not None) != 1:
        raise BadInput("next: give a task, --cron or --every")

    if args.place and args.name is not None:
        _next_elsewhere(args)
        return

    from datetime import datetime, timezone
    from itertools import islice

    from ..editing import row_of
    from ..host.home import check_owner
    from ..schedule import slots
    from ..times import time_zone
    from .here import read_tasks

    start = time.time() if args.start is None else args.start
    name, row = args.name or "next", {"expression": args.cron, "intervalSeconds": args.every}

    if args.name is not None:
        check_owner(args.home)
        row = row_of(health.as_they_are(args.home, read_tasks(args.home, name), start)[0], name)

    if row.get("expression") is not None:
        slots.check_expression(row["expression"])

    task = load_task(name, row)

    if not (task["expression"] or task["intervalSeconds"]):
        raise BadInput(f"{name} has no schedule: `webscheduler edit NAME --cron EXPR` gives it one")

    # Anybody may ask about an expression, but the settings are read only for the owner.
    mine = not args.place and os.path.isdir(args.home) and os.stat(args.home).st_uid == os.geteuid()
    default = (args.place.site.timezone or "UTC") if args.place else (
        load_settings(args.home)["timezone"] if mine or args.name else "UTC")
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
        print_json([moment.isoformat(timespec="seconds") for moment in local])
    else:
        for moment in local:
            print(moment.isoformat(" ", "seconds"))


def _next_elsewhere(args: Namespace) -> None:
    if args.timezone is not None:
        raise BadInput("--timezone: with --at only for --cron and --every")

    found = args.place.starts(args.name, args.start, args.count)

    if not found:
        raise BadInput(f"{args.name} has no schedule: `webscheduler edit NAME --cron EXPR` gives it one")

    if args.json:
        print_json(found)
    else:
        print("\n".join(line(each.replace("T", " ")) for each in found))


def _start(text: str) -> float:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise BadInput(f"--from: {text[:60]!r} is no time like 2026-03-29T01:00:00+00:00")


def _run_due(args: Namespace) -> int:
    if args.dry_run:
        return _dry_run(args)

    from ..runs.by_hand import run_by_hand
    from .runs import unrecorded  # the module of other verbs

    entry = run_by_hand(args.home, DUE, "cli", time.time, "fork" if args.no_wait else "sync")

    if entry is None:
        if args.json:
            print_json({"status": "skipped", "reason": "locked", "tasks": [], "left": [], "problems": []})
        else:
            print("another tick is running: it starts what is due")

        return 0

    done(f"@due has run: {entry['status']}", show=False)
    codes = entry.get("codes", {})
    tasks = [{"name": name, "status": OUTCOMES.get(codes[name], OUTCOMES[1]) if name in codes else "running"}
             for name in entry.get("started", [])]
    problems, held = [*entry["errorOutput"].splitlines(), *unrecorded(DUE, entry)], entry.get("held", [])
    bad = [task["name"] for task in tasks if task["status"] == OUTCOMES[1]]

    if args.json:
        print_json({"status": entry["status"], "reason": entry["reason"], "run": entry["run"], "tasks": tasks,
                    "left": entry.get("left", []), "problems": problems,
                    **({"held": [facts["name"] for facts in held]} if held else {})})
    else:
        for task in tasks:
            print(f"{line(task['name'])}: {task['status']}")

        for name in entry.get("left", []):
            print(f"{line(name)}: still due, " + ("no place is free" if held else "this tick has no time left"))

        if held:
            print(holders(held))

    sys.stdout.flush()
    print_error(*problems, *(f"{name} did not succeed: `webscheduler logs {name}` shows why" for name in bad))
    return int(bool(bad) or entry["status"] != SUCCESS)


def _dry_run(args: Namespace) -> int:
    from ..runs import due

    settings, now = load_settings(args.home), time.time()
    queue, problems = due.select(settings, state.read(settings.home), now)
    alive = {facts.get("name") for facts in processes.live_runs(args.home)}
    tasks = [{"name": name, "due": format_time(slot.at), "attempt": slot.attempt,
              "status": "too late" if slot.too_late else "running already" if name in alive else "would start"}
             for name, slot in queue]

    if args.json:
        print_json({"status": "dry run", "tasks": tasks, "problems": problems})
    else:
        for task, (_, slot) in zip(tasks, queue):
            retry = f", attempt {slot.attempt}" if slot.attempt > 1 else ""
            print(f"{line(task['name'])}: {task['status']}, due since {local_time(slot.at)}{retry}")

        if not tasks:
            print("nothing is due")

    print_error(*problems)
    return int(bool(problems))


def _crontab(args: Namespace) -> int:
    from ..interchange import crontab

    settings = load_settings(args.home)
    changed, said = False, ""

    if args.action == "install":
        changed = crontab.install(settings, args.every)
        said = "the crontab has our line now" if changed else "the crontab has our line already"
    elif args.action == "uninstall":
        changed = crontab.uninstall(args.home)
        said = "our line is removed from the crontab" if changed else "the crontab has no line of ours"

    if changed:
        done(said, show=False)

    lines = crontab.installed(args.home)
    said = said or ("the crontab has our line" if lines else "the crontab has no line of ours")

    if args.json:
        print_json({"installed": bool(lines), "changed": changed, "lines": lines})
    else:
        print("\n".join([said + (":" if lines else ""), *map(line, lines)]))

    return int(args.action == "status" and not lines)


VERBS = {
    "next": (_next, "Show when a task, or any schedule, runs next.", ("[NAME]", "The task."),
             ("--cron EXPR", "A crontab(5) expression instead of a task."),
             ("--every SECONDS", "An interval instead of a task.",
              {"type": checked("intervalSeconds", "seconds", FIELDS["intervalSeconds"].limit)}),
             ("--timezone ZONE", "Time zone of the expression; default: the installation's, else UTC."),
             ("--from ISO8601", "Start at this time; default: now.", {"dest": "start", "type": _start}),
             number("--count N", "How many times to show; default: 5.", 1, 10000, 5), JSON),
    "run-due": (_run_due, "Run all due tasks once and wait for them.",
                ("--dry-run", "Only list what would run, in order."),
                ("--no-wait", "Do not wait for the runs to end."), JSON),
    "crontab": (_crontab, "Add a line to the crontab that calls run-due, remove it, or show it.",
                ("install|uninstall|status", "What to do.", {"dest": "action"}),
                number("--every MINUTES", "How often; default: 1.", 1, 1440, 1), JSON),
}
