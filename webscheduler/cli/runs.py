# SPDX-License-Identifier: LGPL-3.0-or-later
"""Verbs that start, end and show runs.

The rules: the exit status tells how a run ended, and its output is shown when it has ended; `logs --run RUN --follow`
shows it while it runs. Of each history only as much is read as is shown. Following a history survives clean-up, which
replaces the file, and renaming: no line is missed, and none is shown twice.
"""

from __future__ import annotations

import codecs
import json
import os
import resource
import sys
import time

from .. import editing
from ..errors import BadInput
from ..printable import escaped
from ..runs import cancel, recorder
from ..runs.by_hand import run_by_hand
from ..store import history, history_cleaning, history_reading, history_view, processes, state
from ..store.settings import load_settings
from ..store.task import file_name, is_internal
from ..vocabulary import FAILURES, FINISHED, SUCCESS
from .parser import JSON, YES, number
from .tasks import NAME
from .terminal import confirm, done, holders, line, local_time, print_error, print_json, print_table, progress, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping
    from typing import Any, BinaryIO

    from ..shapes import Entry, Result
    from .parser import Verb

PATIENCE = 12.0
PAUSE = 0.25


def _run(args: Namespace) -> int:
    entry = run_by_hand(args.home, args.name, "cli", time.time, own=True)

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


def outcome(name: str, entry: Mapping[str, Any]) -> str:
    """How a run ended, on one line."""
    reason = f" ({entry['reason']})" if entry.get("reason") else ""
    code = "" if entry.get("exitCode") in (None, 0) else f", exit status {entry['exitCode']}"
    return line(f"{name}: {entry.get('status')}{reason}{code} after {seconds(entry.get('duration'))}, "
                f"run {entry.get('run')}")


def _cancel(args: Namespace) -> int:
    alive = processes.live_runs(args.home, args.name)

    if not alive:  # what runs can be ended even where state.json cannot be read
        editing.row_of(state.read(args.home), args.name)

    runs = [str(facts.get("run")) for facts in alive]

    if args.run is not None and args.run not in runs:
        raise BadInput(f"{args.name} has no run {args.run!r} in progress" + (f": {', '.join(runs)}" if runs else ""))

    if not runs:
        print_error(f"{args.name} is not running")
        return 1

    if args.run is None and len(runs) > 1:
        raise BadInput(f"{args.name} has several runs in progress, name one: {', '.join(runs)}")

    run = args.run or runs[0]

    if not cancel.end(args.home, args.name, run, PATIENCE):
        print_error(f"run {run} of {args.name} did not end within {PATIENCE:.0f} s: try again")
        return 1

    entry = history_reading.find(args.home, [args.name], run)
    done(outcome(args.name, entry) if entry else f"run {line(run)} of {line(args.name)} has ended")
    return 0


def _status(args: Namespace) -> int:
    from ..host.overall import overall

    report = overall(load_settings(args.home), time.time(), local_time)

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

    names = history_view.chosen(args.home, args.name)
    # Before anything is read, so that no line is missed in between.
    followed = Followed(args.home, args.name) if args.follow else None
    shown = history_view.newest(args.home, names, args.status, args.limit)

    if followed:
        _follow(followed, shown[::-1], args)
    elif args.json:
        print_json(shown)
    elif shown:
        print_table(("FINISHED", "TASK", "STATUS", "TOOK", "TRIGGER", "RUN"), [_row(entry) for entry in shown])
        sys.stdout.flush()
        failed = next((entry for entry in shown if entry.get("run") and entry.get("status") in FAILURES), None)

        if failed:
            print(f"`webscheduler logs --run {line(failed['run'])}` shows what the failed run printed", file=sys.stderr)
    else:
        print("no runs")


def _row(entry: Entry) -> tuple[str, ...]:
    """An entry as the cells of a table."""
    status = str(entry.get("status"))
    code, reason, count = entry.get("exitCode"), entry.get("reason"), entry.get("count")
    status += f" {reason}" if reason else f" {code}" if code else ""
    status += f" x{count}" if isinstance(count, int) and count > 1 else ""
    return (local_time(entry.get("finishedAt")), str(entry.get("command")), status, seconds(entry.get("duration")),
            str(entry.get("trigger") or "-"), str(entry.get("run") or "-"))


def _one(args: Namespace) -> None:
    """Show one run: how it ended and all its output, or what it has printed so far."""
    facts, outcome_only = processes.claimed_run(args.home, args.name, args.run)
    entry: Any = history_reading.find(args.home, history_view.chosen(args.home, args.name), args.run) or outcome_only

    if entry is None:
        if facts is None:
            raise BadInput(f"no run has the id {args.run[:60]!r}: `webscheduler logs` shows them")

        entry = {"command": facts.get("name"), "run": args.run, "status": "running",
                 **{field: facts.get(field) for field in ("startedAt", "trigger", "strategy")},
                 "output": _live(args.home, args.run)[0].decode("utf-8", "backslashreplace")}

    if args.json:
        print_json([entry])
    elif entry.get("status") == "running":
        print(f"{line(entry['command'])}: running since {local_time(entry['startedAt'])}, run {line(args.run)}")
        print("--- output and error output so far")

        if args.follow:
            _watch(args.home, str(entry["command"]), args.run)
        else:
            _print_whole(entry["output"])
    else:
        print(outcome(entry.get("command", ""), entry) + (", not recorded yet" if "recorded" in entry else ""))
        print(f"started {local_time(entry.get('startedAt'))} by {line(entry.get('trigger'))}, "
              f"strategy {line(entry.get('strategy'))}")

        for title, field in (("output", "output"), ("error output", "errorOutput")):
            print(f"--- {title}")
            _print_whole(str(entry.get(field) or ""))


def _print_whole(text: str) -> None:
    print(escaped(text), end="" if text.endswith("\n") or not text else "\n")


def _live(home: str, run: str, offset: int = 0) -> tuple[bytes, int]:
    """What the run printed from `offset` on, and the offset of what follows. The file of a run that prints very much is
    started again."""
    try:
        with open(recorder.live_file(home, run), "rb") as file:
            file.seek(offset if offset <= file.seek(0, os.SEEK_END) else 0)
            return file.read(), file.tell()
    except FileNotFoundError:
        return b"", offset


def _watch(home: str, name: str, run: str) -> None:
    """Print what a run prints until it ends, or until Ctrl-C."""
    offset = 0
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    try:
        while any(facts.get("run") == run for facts in processes.live_runs(home, name)):
            data, offset = _live(home, run, offset)
            print(escaped(decoder.decode(data)), end="", flush=True)
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        return

    print(f"\n--- the run has ended: `webscheduler logs --run {run}` shows all of its output")


class Followed:
    """Histories that are watched for new lines, from where they end now.

    A file is known by its inode, whatever its name. All lines of a file that appears are new, except those that
    clean-up copied into it from a file that is gone.
    """

    def __init__(self, home: str, name: str | None) -> None:
        self.home, self.name = home, name
        self.open: dict[tuple[int, int], BinaryIO] = {}
        self.absent: set[tuple[int, int]] = set()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each of them stays open

        for key in self._look():
            self.open[key].seek(history.whole_end(self.open[key].fileno()))

    def new(self) -> list[Entry]:
        """The entries that were added since the last call, oldest first."""
        absent_before = self.absent
        appeared = self._look()
        found = [text for key, file in self.open.items() if key not in appeared for text in _from(file, file.tell())]
        old = {hash(text) for key in self.absent if appeared for text in _from(self.open[key], 0)}
        found += [text for key in appeared for text in _from(self.open[key], 0) if hash(text) not in old]

        for key in absent_before & self.absent:  # absent only once, it may be in the middle of a renaming
            self.open.pop(key).close()

        return sorted(filter(None, map(history.parse, found)), key=history.ended)

    def _look(self) -> set[tuple[int, int]]:
        """Open the files that appeared and note which are absent; the keys of those that were opened."""
        present, appeared = set(), set()

        for name in history_view.names(self.home, {}):
            try:
                file = open(history.path(self.home, name), "rb")
            except FileNotFoundError:
                continue

            status = os.fstat(file.fileno())
            key = (status.st_dev, status.st_ino)
            present.add(key)

            wanted = name == file_name(self.name) if self.name else key in self.open or not is_internal(
                name, state.read(self.home).get(name))

            if key not in self.open and wanted:
                self.open[key] = file
                appeared.add(key)
            else:
                file.close()

        self.absent = self.open.keys() - present
        return appeared


def _from(file: BinaryIO, position: int) -> Iterator[bytes]:
    """The whole lines from a position on. One without its end is left for the next call, or cut off if a kill tore
    it."""
    end = history.whole_end(file.fileno())
    file.seek(0, os.SEEK_END)  # drops what was read ahead: it may have been cut off since
    file.seek(position)

    while file.tell() < end:
        yield file.readline()


def _follow(followed: Followed, shown: list[Entry], args: Namespace) -> None:
    """Print entries, and then new ones as they come, until Ctrl-C."""
    entries = shown

    try:
        while True:
            for entry in entries:
                if args.status in (None, entry.get("status")):
                    print(json.dumps(entry) if args.json else "  ".join(line(cell) for cell in _row(entry)))

            sys.stdout.flush()
            time.sleep(PAUSE)
            entries = [entry for entry in followed.new() if entry not in shown]  # what was added while those were read
    except KeyboardInterrupt:
        pass
    finally:
        for file in followed.open.values():
            file.close()


def _purge_logs(args: Namespace) -> None:
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
VERBS: dict[str, Verb] = {
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
