"""Verbs that see to what is due: run-due, sync, crontab.

The rule of `run-due`: it goes well with cron, which mails whatever is said. What was started is told on standard
output, which our line of a crontab drops; what went wrong on standard error, which it does not.
"""

from __future__ import annotations

import sys
import time

from ..commands import discovery
from ..interchange import crontab
from ..printable import escaped
from ..runs import due
from ..runs.supervisor import run_by_hand
from ..store import locks
from ..store.settings import load_settings
from ..store.task import DUE
from ..times import format_time
from ..vocabulary import SUCCESS
from . import fields
from .terminal import complain, line, show, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

ACTIONS = ("install", "uninstall", "status")
OUTCOMES = {0: "success", 1: "not successful", due.SKIPPED: "skipped"}


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    run_due = verb("run-due", _run_due, "Run everything that is due, once, and wait for it.", json=True)
    run_due.add_argument("--dry-run", action="store_true", help="Only list what would start, in order.")
    run_due.add_argument("--no-wait", action="store_true", help="Do not wait for what was started.")

    verb("sync", _sync, "Look for commands in the code that the settings name, and give each a task.")

    line_of = verb("crontab", _crontab, "Have cron call run-due, on a host that has one.", json=True)
    line_of.add_argument("action", type=fields.rule("crontab", "choice", ACTIONS), metavar="|".join(ACTIONS),
                         help="What to do.")
    line_of.add_argument("--every", type=fields.rule("--every", "int", (1, 1440)), metavar="MINUTES", default=1,
                         help="How often; default: 1.")


def _run_due(args: Namespace) -> int:
    if args.dry_run:
        return _foretell(args)

    entry = run_by_hand(args.home, DUE, "cli", time.time, "fork" if args.no_wait else "sync")

    if entry is None:
        if args.json:
            show({"status": "skipped", "reason": "locked", "tasks": [], "left": [], "problems": []})
        else:
            print("another tick is at work: it starts what is due")

        return 0

    codes = entry.get("codes", {})
    tasks = [{"name": name, "status": OUTCOMES.get(codes[name], OUTCOMES[1]) if name in codes else "running"}
             for name in entry.get("started", [])]
    problems = entry["errorOutput"].splitlines()
    bad = [task["name"] for task in tasks if task["status"] == OUTCOMES[1]]

    if args.json:
        show({"status": entry["status"], "reason": entry["reason"], "run": entry["run"], "tasks": tasks,
              "left": entry.get("left", []), "problems": problems})
    else:
        for task in tasks:
            print(f"{line(task['name'])}: {task['status']}")

        for name in entry.get("left", []):
            print(f"{line(name)}: left due, the time for this tick is up")

    sys.stdout.flush()

    for problem in problems:
        complain(problem)

    for name in bad:
        complain(f"{name} did not succeed: `webscheduler logs {name}` says more")

    return int(bool(bad) or entry["status"] != SUCCESS)


def _foretell(args: Namespace) -> int:
    settings, now = load_settings(args.home), time.time()
    queue, problems = due.select(settings, now)
    alive = {facts.get("name") for facts in locks.live_runs(args.home)}
    tasks = [{"name": name, "due": format_time(slot.at), "attempt": slot.attempt,
              "status": "too late" if slot.too_late else "running already" if name in alive else "would start"}
             for name, slot in queue]

    if args.json:
        show({"status": "dry run", "tasks": tasks, "problems": problems})
    else:
        for task, (_, slot) in zip(tasks, queue):
            retry = f", attempt {slot.attempt}" if slot.attempt > 1 else ""
            print(f"{line(task['name'])}: {task['status']}, due since {when(slot.at)}{retry}")

        if not tasks:
            print("nothing is due")

    for problem in problems:
        complain(problem)

    return int(bool(problems))


def _sync(args: Namespace) -> int:
    status, output, errors = discovery.search(load_settings(args.home))
    print(escaped(output) if output or errors else "nothing has changed\n", end="")
    sys.stdout.flush()
    print(escaped(errors), end="", file=sys.stderr)
    return status


def _crontab(args: Namespace) -> int:
    settings = load_settings(args.home)
    changed, said = False, ""

    if args.action == "install":
        changed = crontab.install(settings, args.every)
        said = "the crontab has our line now" if changed else "the crontab has our line already"
    elif args.action == "uninstall":
        changed = crontab.uninstall(args.home)
        said = "our line is gone from the crontab" if changed else "the crontab has no line of ours"

    lines = crontab.installed(args.home)
    said = said or ("the crontab has our line" if lines else "the crontab has no line of ours")

    if args.json:
        show({"installed": bool(lines), "changed": changed, "lines": lines})
    else:
        print("\n".join([said + (":" if lines else ""), *map(line, lines)]))

    return int(args.action == "status" and not lines)
