"""Verbs for what became of runs: logs, purge-logs.

The rule: of each history only as much is read as is shown. Following one survives clean-up, which replaces the file,
and renaming: no line is lost, and none is shown again.
"""

from __future__ import annotations

import codecs
import json
import os
import resource
import sys
import time
from itertools import islice

from ..errors import BadInput, NoSuchTask
from ..printable import escaped
from ..runs import recorder
from ..store import history, history_view, locks, state
from ..store.task import file_name
from . import fields
from .runs import outcome
from .terminal import confirm, line, seconds, show, table, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any, BinaryIO, Callable

STATUSES = ("success", "failed", "timeout", "interrupted", "skipped", "rejected")
PAUSE = 0.25


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    logs = verb("logs", _logs, "Show what became of runs, newest first.", json=True)
    logs.add_argument("name", nargs="?", metavar="NAME", help="The task; unset: all.")
    logs.add_argument("--status", type=fields.rule("--status", "choice", STATUSES), metavar="|".join(STATUSES),
                      help="Only runs that ended like this.")
    logs.add_argument("--run", metavar="RUN", help="One run, with both of its output streams, also while it runs.")
    logs.add_argument("--limit", type=fields.rule("--limit", "int", (0, 10**9)), metavar="N", default=20,
                      help="How many lines; default: 20.")
    logs.add_argument("--follow", action="store_true",
                      help="Oldest first, and go on with new lines as they come; with --json, one object a line.")

    purge = verb("purge-logs", _purge, "Remove the history of a task, or of all.")
    purge.add_argument("name", nargs="?", metavar="NAME", help="The task; unset: all.")
    purge.add_argument("--yes", action="store_true", help="Do not ask.")


def _names(args: Namespace) -> list[str]:
    """The histories that are asked for: that of a task, be it empty or of a task removed since, or all."""
    if args.name is None:
        return history_view.names(args.home)

    if args.name not in state.read(args.home) and not os.path.exists(history.path(args.home, args.name)):
        raise NoSuchTask(args.name)

    return [args.name]


def _logs(args: Namespace) -> None:
    if args.run is not None:
        _one(args)
        return

    names = _names(args)
    # Before anything is read, so that no line falls between the two.
    followed = Followed(args.home, args.name) if args.follow else None
    found = (entry for _, entry in history_view.merged(args.home, names)
             if args.status in (None, entry.get("status")))
    shown = list(islice(found, args.limit))

    if followed:
        _follow(followed, shown[::-1], args)
    elif args.json:
        show(shown)
    elif shown:
        table(("FINISHED", "TASK", "STATUS", "TOOK", "TRIGGER", "RUN"), [_row(entry) for entry in shown])
    else:
        print("no run to show")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    """An entry as the cells of a table."""
    status = str(entry.get("status"))
    code, reason, count = entry.get("exitCode"), entry.get("reason"), entry.get("count")
    status += f" {reason}" if reason else f" {code}" if code else ""
    status += f" x{count}" if isinstance(count, int) and count > 1 else ""
    return (when(entry.get("finishedAt")), str(entry.get("command")), status, seconds(entry.get("duration")),
            str(entry.get("trigger") or "-"), str(entry.get("run") or "-"))


def _one(args: Namespace) -> None:
    """Show one run: its line and both streams, or what it has printed so far."""
    facts = next((facts for facts in locks.live_runs(args.home, args.name) if facts.get("run") == args.run), None)
    entry = next(filter(None, (history.find(args.home, name, args.run) for name in _names(args))), None)

    if entry is None:
        if facts is None:
            raise BadInput(f"no run has the id {args.run[:60]!r}: `webscheduler logs` shows them")

        entry = {"command": facts.get("name"), "run": args.run, "status": "running",
                 **{field: facts.get(field) for field in ("startedAt", "trigger", "strategy")},
                 "output": _live(args.home, args.run)[0].decode("utf-8", "backslashreplace")}

    if args.json:
        show([entry])
    elif entry.get("status") == "running":
        print(f"{line(entry['command'])}: running since {when(entry['startedAt'])}, run {line(args.run)}")
        print("--- output and error output so far")

        if args.follow:
            _watch(args.home, str(entry["command"]), args.run)
        else:
            _print_whole(entry["output"])
    else:
        print(outcome(entry.get("command", ""), entry))
        print(f"started {when(entry.get('startedAt'))} by {line(entry.get('trigger'))}, "
              f"strategy {line(entry.get('strategy'))}")

        for title, field in (("output", "output"), ("error output", "errorOutput")):
            print(f"--- {title}")
            _print_whole(str(entry.get(field) or ""))


def _print_whole(text: str) -> None:
    print(escaped(text), end="" if text.endswith("\n") or not text else "\n")


def _live(home: str, run: str, offset: int = 0) -> tuple[bytes, int]:
    """What the run printed from `offset` on, and the offset to go on from; a run that prints very much begins its file
    anew."""
    try:
        with open(recorder.live_file(home, run), "rb") as file:
            file.seek(offset if offset <= file.seek(0, os.SEEK_END) else 0)
            return file.read(), file.tell()
    except FileNotFoundError:
        return b"", offset


def _watch(home: str, name: str, run: str) -> None:
    """Print what a run prints until it ends or the keyboard interrupts."""
    offset = 0
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    try:
        while any(facts.get("run") == run for facts in locks.live_runs(home, name)):
            data, offset = _live(home, run, offset)
            print(escaped(decoder.decode(data)), end="", flush=True)
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        return

    print(f"\n--- the run is over: `webscheduler logs --run {run}` shows all of it")


class Followed:
    """Histories that are watched for new lines, from where they end now.

    A file is known by its inode, whatever it is called. One that was not there before is new, but for the lines that
    clean-up took over from a file that is there no more.
    """

    def __init__(self, home: str, name: str | None) -> None:
        self.home, self.name = home, name
        self.open: dict[tuple[int, int], BinaryIO] = {}
        self.absent: set[tuple[int, int]] = set()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # it keeps each of them open

        for key in self._look():
            self.open[key].seek(history.whole_end(self.open[key].fileno()))

    def new(self) -> list[dict[str, Any]]:
        """The entries that came since it was last asked, oldest first."""
        absent_before = self.absent
        appeared = self._look()
        found = [text for key, file in self.open.items() if key not in appeared for text in _from(file, file.tell())]
        old = {hash(text) for key in self.absent if appeared for text in _from(self.open[key], 0)}
        found += [text for key in appeared for text in _from(self.open[key], 0) if hash(text) not in old]

        for key in absent_before & self.absent:  # absent once, it may be on its way to another name
            self.open.pop(key).close()

        return sorted(filter(None, map(history.parse, found)), key=history.ended)

    def _look(self) -> set[tuple[int, int]]:
        """Open what is new under the names, and note what is absent; what was opened."""
        present, appeared = set(), set()

        for name in history_view.names(self.home):
            try:
                file = open(history.path(self.home, name), "rb")
            except FileNotFoundError:
                continue

            status = os.fstat(file.fileno())
            key = (status.st_dev, status.st_ino)
            present.add(key)

            if key not in self.open and (self.name is None or name == file_name(self.name)):
                self.open[key] = file
                appeared.add(key)
            else:
                file.close()

        self.absent = self.open.keys() - present
        return appeared


def _from(file: BinaryIO, position: int) -> Iterator[bytes]:
    """The whole lines from a position on; one without its end stays for the next time (or is cut off, if a kill tore
    it)."""
    end = history.whole_end(file.fileno())
    file.seek(0, os.SEEK_END)  # forgets what was read ahead: it may have been cut off since
    file.seek(position)

    while file.tell() < end:
        yield file.readline()


def _follow(followed: Followed, shown: list[dict[str, Any]], args: Namespace) -> None:
    """Print entries, and then those that come, until the keyboard interrupts."""
    entries = shown

    try:
        while True:
            for entry in entries:
                if args.status in (None, entry.get("status")):
                    print(json.dumps(entry) if args.json else "  ".join(line(cell) for cell in _row(entry)))

            sys.stdout.flush()
            time.sleep(PAUSE)
            entries = [entry for entry in followed.new() if entry not in shown]  # what came while those were read
    except KeyboardInterrupt:
        pass
    finally:
        for file in followed.open.values():
            file.close()


def _purge(args: Namespace) -> None:
    names = _names(args)
    confirm(f"Remove the history of {'all tasks' if args.name is None else args.name}?", args.yes)
    gone = sum(history.clean(args.home, each, lambda entry: False) for each in names)
    print(f"{gone} {'line is' if gone == 1 else 'lines are'} removed.")
