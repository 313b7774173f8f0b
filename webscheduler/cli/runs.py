# SPDX-License-Identifier: LGPL-3.0-or-later
"""Verbs that start, end and show runs.

The rules: the exit status tells how a run ended, and its output is shown when it has ended; `logs --run RUN --follow`
shows it while it runs. Of each history only as much is read as is shown. Following a history survives clean-up, which
replaces the file, and renaming: no line is missed, and none is shown twice.
"""

from __future__ import annotations

import json
import sys
import time

from ..errors import BadInput
from ..printable import escaped
from ..vocabulary import FAILURES, FINISHED, SUCCESS
from .here import PATIENCE, of
from .parser import JSON, YES, number
from .tasks import NAME
from .terminal import confirm, done, holders, line, local_time, print_error, print_json, print_table, progress, to_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping
    from typing import Any

    from ..shapes import Entry, Result
    from .here import Place


def _run(args: Namespace) -> int:
    entry = of(args).run(args.name, args.json)

    if entry is None:
        print_error(f"{args.name} is running already: `webscheduler logs {args.name}` shows it, `webscheduler cancel "
                    f"{args.name}` ends it")
        return 1

    done(outcome(args.name, entry), show=False)

    if args.json:
        print_json(entry)
    else:
        print(escaped(entry["output"]), end="")
        sys.stdout.flush()
        print(escaped(entry["errorOutput"]), end="", file=sys.stderr)
        print(outcome(args.name, entry), file=sys.stderr)

    print_error(*unrecorded(args.name, entry))
    return 0 if entry["status"] == SUCCESS else 1


def unrecorded(name: str, entry: Result) -> list[str]:
    """A sentence about a run whose line of history could not be written."""
    return [] if entry.get("recorded", True) else [
        f"{name} has run, but that is not recorded yet: {entry.get('problem')}"]


def _amount(value: Any, unit: str, size: int = 1) -> str:
    """Like 1.5 s; `-` if it is not known. size: of the unit."""
    return f"{value / size:.1f} {unit}" if isinstance(value, (int, float)) else "-"


def outcome(name: str, entry: Mapping[str, Any]) -> str:
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    code = "" if entry.get("exitCode") in (None, 0) else f", exit status {entry['exitCode']}"
    return line(f"{name}: {entry.get('status')}{reason}{code} after {_amount(entry.get('duration'), 's')}, "
                f"run {entry.get('run')}")


def _cancel(args: Namespace) -> int:
    place = of(args)
    runs = [str(facts.get("run")) for facts in place.live_runs(args.name)]

    if args.run is not None and args.run not in runs:
        raise BadInput(f"{args.name} has no run {args.run!r} in progress" + (f": {', '.join(runs)}" if runs else ""))

    if not runs:
        print_error(f"{args.name} is not running")
        return 1

    if args.run is None and len(runs) > 1:
        raise BadInput(f"{args.name} has several runs in progress, name one: {', '.join(runs)}")

    run = args.run or runs[0]

    ended, entry = place.cancel(args.name, run)

    if not ended:
        print_error(f"run {run} of {args.name} did not end within {PATIENCE:.0f} s: try again")
        return 1

    done(outcome(args.name, entry) if entry else f"run {line(run)} of {line(args.name)} has ended")
    return 0


def _status(args: Namespace) -> int:
    report = of(args).report()

    if args.json:
        print_json(report)
    else:
        print(f"{report['status']}: {len(report['unhealthy'])} of {report['tasks']} tasks need attention"
              if report["unhealthy"] else f"{report['status']}: {report['tasks']} tasks")

        if report["unhealthy"]:
            print_table(("TASK", "STATE", "LAST RUN", "STATUS"), [
                (each["name"], each["status"], local_time(each["lastRunAt"]), each["lastRunStatus"] or "-")
                for each in report["unhealthy"]])

        for facts in report["running"]:
            print(f"running: {line(facts['name'])} since {local_time(facts['startedAt'])}, run {line(facts['run'])}")

        if report["places"]["held"]:
            print(holders(report["places"]["held"]))

        print(f"last tick: {local_time(report['lastTickAt']) if report['lastTickAt'] else 'none yet'}")

        for warning in report["warnings"]:
            print(f"{'error' if warning in report['errors'] else 'warning'}: {line(warning)}")

    return 0 if report["status"] == "healthy" else 1


def _logs(args: Namespace) -> None:
    if args.run is not None:
        _one(args)
        return

    place = of(args)
    followed = place.follow(args.name) if args.follow else None  # before anything is read: no line is missed in between
    shown = place.entries(args.name, args.status, args.limit, args.json)

    if followed:
        _follow(followed, shown[::-1], args)
    elif args.json:
        print_json(shown)
    elif shown:
        print_table(("FINISHED", "TASK", "STATUS", "TOOK", "TRIGGER", "RUN"), [_row(entry) for entry in shown])
        sys.stdout.flush()
        failed = next((entry for entry in shown if entry.get("run") and entry.get("status") in FAILURES), None)

        if failed:
            print(to_type(f"`webscheduler logs --run {line(failed['run'])}` shows what the failed run printed"),
                  file=sys.stderr)
    else:
        print("no runs")


def _row(entry: Entry) -> tuple[str, ...]:
    status = str(entry.get("status"))
    code, reason, count = entry.get("exitCode"), entry.get("reason"), entry.get("count")
    status += f" {reason}" if reason else f" {code}" if code else ""
    status += f" x{count}" if isinstance(count, int) and count > 1 else ""
    return (local_time(entry.get("finishedAt")), str(entry.get("command")), status, _amount(entry.get("duration"), "s"),
            str(entry.get("trigger") or "-"), str(entry.get("run") or "-"))


def _one(args: Namespace) -> None:
    """Show one run: how it ended and all its output, or what it has printed so far."""
    entry = of(args).one(args.name, args.run)

    if args.json:
        print_json([entry])
    elif entry.get("status") == "running":
        print(f"{line(entry['command'])}: running since {local_time(entry['startedAt'])}, run {line(args.run)}")
        print("--- output and error output so far")

        if args.follow:
            _watch(of(args), str(entry["command"]), args.run)
        else:
            _print_whole(entry["output"])
    else:
        print(outcome(entry.get("command", ""), entry) + (", not recorded yet" if "recorded" in entry else ""))
        print(f"started {local_time(entry.get('startedAt'))} by {line(entry.get('trigger'))}, "
              f"strategy {line(entry.get('strategy'))}")

        if entry.get("maxRssBytes") is not None:
            print(f"took {_amount(entry.get('cpuSeconds'), 's')} of processor time, and at most "
                  f"{_amount(entry['maxRssBytes'], 'MiB', 2**20)} of memory")

        for title, field in (("output", "output"), ("error output", "errorOutput")):
            print(f"--- {title}")
            _print_whole(str(entry.get(field) or ""))


def _print_whole(text: str) -> None:
    print(escaped(text), end="" if text.endswith("\n") or not text else "\n")


def _watch(place: Place, name: str, run: str) -> None:
    """Print what a run prints until it ends, or until Ctrl-C."""
    try:
        for text in place.watch(name, run):
            print(escaped(text), end="", flush=True)
    except KeyboardInterrupt:
        return

    print(to_type(f"\n--- the run has ended: `webscheduler logs --run {run}` shows all of its output"))


def _follow(followed: Any, shown: list[Entry], args: Namespace) -> None:
    """Print entries, and then new ones as they come, until Ctrl-C."""
    entries = shown

    try:
        while True:
            for entry in entries:
                if args.status in (None, entry.get("status")):
                    print(json.dumps(entry) if args.json else "  ".join(line(cell) for cell in _row(entry)))

            sys.stdout.flush()
            time.sleep(followed.pause)
            entries = [entry for entry in followed.new() if entry not in shown]  # what was added while those were read
    except KeyboardInterrupt:
        pass
    finally:
        followed.close()


def _purge_logs(args: Namespace) -> None:
    from ..store import history_cleaning, history_view

    names = history_view.chosen(args.home, args.name)
    confirm(f"Remove the history of {'all tasks' if args.name is None else args.name}?", args.yes)

    with progress("removing history") as say:
        def each() -> Iterator[str]:
            for number, name in enumerate(names, 1):
                say(f"removing history {number} of {len(names)}")
                yield name

        gone = history_cleaning.purge(args.home, each())

    done(f"{gone} {'line is' if gone == 1 else 'lines are'} removed.")


TASK_OR_ALL = ("[NAME]", "The task; default: all tasks.")
VERBS = {
    "run": (_run, "Run a task now, whatever its schedule and limits, and show its output.", NAME, JSON),
    "cancel": (_cancel, "End a run in progress.", NAME, ("[RUN]", "The run; needed if several are in progress.")),
    "status": (_status, "Show whether all tasks are healthy; exit status 1 if not.", JSON),
    "logs": (_logs, "Show past runs, newest first.", TASK_OR_ALL,
             (f"--status {'|'.join(FINISHED)}", "Only runs with this status."),
             ("--run RUN", "One run with all its output, even while it runs."),
             number("--limit N", "How many runs; default: 20.", 0, 10**9, 20),
             ("--follow", "Oldest first, then new runs as they end; with --json one object a line."), JSON),
    "purge-logs": (_purge_logs, "Remove the history of a task, or of all tasks.", TASK_OR_ALL, YES),
}
