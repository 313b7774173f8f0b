"""Verbs that begin and end runs: run, run-due, cancel. Imports everything below the doors.

The rule: the exit status tells what became of what was run, and what it printed is shown when it has ended; while it
runs, `logs --follow --run RUN` shows it.
"""

from __future__ import annotations

import sys
import time

from .. import cancel, config, due, editing, history, locks, record, store, trigger
from ..errors import BadInput
from ..task import DUE, format_time
from .terminal import complain, line, seconds, show, table, visible, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

PATIENCE = 12.0
DUE_CODES = {due.STARTED: "success", due.SKIPPED: "skipped: it ran, or was switched off, meanwhile"}


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    run = verb("run", _run, "Run a task now, in this process, whatever its schedule and limits say.", json=True)
    run.add_argument("name", metavar="NAME", help="The task.")

    ticking = verb("run-due", _run_due, "Run all that is due, as @due's URL does, and wait for its end.", json=True)
    ticking.add_argument("--dry-run", action="store_true", help="Only tell what is due.")
    ticking.add_argument("--no-wait", action="store_true", help="Start what is due and leave it to itself.")

    ending = verb("cancel", _cancel, "End a run in progress.")
    ending.add_argument("name", metavar="NAME", help="The task.")
    ending.add_argument("run", nargs="?", metavar="RUN", help="The run, where several are in progress.")


def _run(args: Namespace) -> int:
    entry = trigger.run_by_hand(args.home, args.name, "cli", time.time)

    if entry is None:
        complain(f"{args.name} is running already: `webscheduler logs {args.name}` shows it, `webscheduler cancel "
                 f"{args.name}` ends it")
        return 1

    if args.json:
        show(entry)
    else:
        print(visible(entry["output"]), end="")
        sys.stdout.flush()
        print(visible(entry["errorOutput"]), end="", file=sys.stderr)
        print(outcome(args.name, entry), file=sys.stderr)

    return 0 if entry["status"] == record.SUCCEEDED else 1


def _run_due(args: Namespace) -> int:
    if args.dry_run:
        return _tell_due(args)

    entry = trigger.run_by_hand(args.home, DUE, "cli", time.time, "fork" if args.no_wait else "sync")

    if entry is None:
        # Nothing is amiss: whoever is at it starts what is due.
        complain("another tick is starting what is due at this moment, so this one does nothing")
        return 0

    if args.json:
        show(entry)
    else:
        for name, code in entry["codes"].items():
            print(f"{line(name)}: {DUE_CODES.get(code, 'failed')}")

        print(visible(entry["errorOutput"]), end="", file=sys.stderr)
        print(outcome(DUE, entry), file=sys.stderr)

    return 0 if entry["status"] == record.SUCCEEDED and set(entry["codes"].values()) <= set(DUE_CODES) else 1


def _tell_due(args: Namespace) -> int:
    slots, problems = due.select(config.load(args.home), store.read(args.home), time.time())

    if args.json:
        show([{"name": name, "scheduledFor": format_time(slot.at), "attempt": slot.attempt, "tooLate": slot.too_late}
              for name, slot in slots])
    else:
        table(("TASK", "DUE SINCE", "ATTEMPT", ""), [
            (name, when(slot.at), str(slot.attempt), "too late, is skipped" if slot.too_late else "")
            for name, slot in slots])

    for problem in problems:
        complain(problem)

    return 1 if problems else 0


def outcome(name: str, entry: dict[str, Any]) -> str:
    """How a run ended, on one line."""
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    code = "" if entry.get("exitCode") in (None, 0) else f", exit status {entry['exitCode']}"
    return line(f"{name}: {entry.get('status')}{reason}{code} after {seconds(entry.get('duration'))}, "
                f"run {entry.get('run')}")


def _cancel(args: Namespace) -> int:
    alive = locks.peek(args.home, args.name)

    if not alive:  # an unreadable state.json keeps nobody from ending what runs
        editing.row_of(store.read(args.home), args.name)

    runs = [str(facts.get("run")) for facts in alive]

    if args.run is not None and args.run not in runs:
        raise BadInput(f"{args.name} has no run {args.run!r} in progress" + (f": {', '.join(runs)}" if runs else ""))

    if not runs:
        complain(f"{args.name} is not running")
        return 1

    if args.run is None and len(runs) > 1:
        raise BadInput(f"{args.name} has several runs in progress, name one: {', '.join(runs)}")

    run = args.run or runs[0]

    if not cancel.end(args.home, args.name, run, PATIENCE):
        complain(f"run {run} of {args.name} did not end within {PATIENCE:.0f} s: try again")
        return 1

    entry = next((entry for entry in history.entries(args.home, args.name) if entry.get("run") == run), None)
    print(outcome(args.name, entry) if entry else f"run {line(run)} of {line(args.name)} is gone")
    return 0
