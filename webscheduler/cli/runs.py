"""Verbs that begin and end runs: run, cancel.

The rule: the exit status tells what became of what was run, and what it printed is shown when it has ended; while it
runs, `logs --follow --run RUN` shows it.
"""

from __future__ import annotations

import sys
import time

from .. import editing
from ..errors import BadInput
from ..printable import escaped
from ..runs import cancel
from ..runs.supervisor import run_by_hand
from ..store import history, locks, state
from ..vocabulary import SUCCESS
from .terminal import complain, line, seconds, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

PATIENCE = 12.0


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    run = verb("run", _run, "Run a task now, in this process, whatever its schedule and limits say.", json=True)
    run.add_argument("name", metavar="NAME", help="The task.")

    ending = verb("cancel", _cancel, "End a run in progress.")
    ending.add_argument("name", metavar="NAME", help="The task.")
    ending.add_argument("run", nargs="?", metavar="RUN", help="The run, where several are in progress.")


def _run(args: Namespace) -> int:
    entry = run_by_hand(args.home, args.name, "cli", time.time)

    if entry is None:
        complain(f"{args.name} is running already: `webscheduler logs {args.name}` shows it, `webscheduler cancel "
                 f"{args.name}` ends it")
        return 1

    if args.json:
        show(entry)
    else:
        print(escaped(entry["output"]), end="")
        sys.stdout.flush()
        print(escaped(entry["errorOutput"]), end="", file=sys.stderr)
        print(outcome(args.name, entry), file=sys.stderr)

    return 0 if entry["status"] == SUCCESS else 1


def outcome(name: str, entry: dict[str, Any]) -> str:
    """How a run ended, on one line."""
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    code = "" if entry.get("exitCode") in (None, 0) else f", exit status {entry['exitCode']}"
    return line(f"{name}: {entry.get('status')}{reason}{code} after {seconds(entry.get('duration'))}, "
                f"run {entry.get('run')}")


def _cancel(args: Namespace) -> int:
    alive = locks.live_runs(args.home, args.name)

    if not alive:  # an unreadable state.json keeps nobody from ending what runs
        editing.row_of(state.read(args.home), args.name)

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
