"""Verbs that begin and end runs: run, cancel. Imports everything below the doors.

The rule of `cancel`: what is told to end is a process of the run itself, named by pid and start time in its claim;
who merely accepted the trigger (a worker of a web server, perhaps) is never touched. The claim says `cancelled` before
anybody is told, so whoever records the run knows why it ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from .. import editing, history, locks, record, store, trigger
from ..errors import BadInput, Busy
from ..task import file_name
from .terminal import complain, line, seconds, show, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

PATIENCE = 12.0
PAUSE = 0.1


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    run = verb("run", _run, "Run a task now, in this process, whatever its schedule and limits say.", json=True)
    run.add_argument("name", metavar="NAME", help="The task.")

    cancel = verb("cancel", _cancel, "End a run in progress.")
    cancel.add_argument("name", metavar="NAME", help="The task.")
    cancel.add_argument("run", nargs="?", metavar="RUN", help="The run, where several are in progress.")


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


def outcome(name: str, entry: dict[str, Any]) -> str:
    """How a run ended, on one line."""
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    code = "" if entry.get("exitCode") in (None, 0) else f", exit status {entry['exitCode']}"
    return line(f"{name}: {entry.get('status')}{reason}{code} after {seconds(entry.get('duration'))}, "
                f"run {entry.get('run')}")


def _cancel(args: Namespace) -> int:
    editing.row_of(store.read(args.home), args.name)
    alive = locks.peek(args.home, args.name)
    runs = [str(facts.get("run")) for facts in alive]

    if args.run is not None and args.run not in runs:
        raise BadInput(f"{args.name} has no run {args.run!r} in progress" + (f": {', '.join(runs)}" if runs else ""))

    if not runs:
        complain(f"{args.name} is not running")
        return 1

    if args.run is None and len(runs) > 1:
        raise BadInput(f"{args.name} has several runs in progress, name one: {', '.join(runs)}")

    run = args.run or runs[0]

    if not _end(args.home, args.name, run):
        complain(f"run {run} of {args.name} did not end within {PATIENCE:.0f} s: try again")
        return 1

    entry = next((entry for entry in history.entries(args.home, args.name) if entry.get("run") == run), None)
    print(outcome(args.name, entry) if entry else f"run {line(run)} of {line(args.name)} is gone")
    return 0


def _end(home: str, name: str, run: str) -> bool:
    """Tell the run to end and wait until it is recorded; whether that came about."""
    path = os.path.join(home, "runs", f"{file_name(name)}@{run}")
    told: set[int] = set()
    deadline = time.monotonic() + PATIENCE

    try:
        # The deadline lets whoever finds the run without a supervisor end it.
        _note(path, {"cancelled": True, "deadline": time.monotonic()})
    except FileNotFoundError:
        return True

    while time.monotonic() < deadline:
        facts = next((facts for facts in locks.peek(home, name) if facts.get("run") == run), None)

        if not os.path.exists(path):
            return True

        supervisor = facts.get("supervisor") if facts else None

        if supervisor and locks.alive(supervisor):
            if supervisor[0] not in told:
                _tell(supervisor[0])
                told.add(supervisor[0])
        elif supervisor or not facts:
            # Nobody is left to record the run: that is done under the gate, which also ends the command by its group.
            try:
                with locks.Gate(home, name):
                    record.clear_dead(home, name, time.time())
            except Busy:
                pass

        time.sleep(PAUSE)

    return not os.path.exists(path)


def _tell(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass


def _note(path: str, facts: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    try:
        os.write(descriptor, locks.line(facts))
    finally:
        os.close(descriptor)
