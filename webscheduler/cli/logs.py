"""Verbs for what became of runs: logs, purge-logs. Imports the files below the doors.

The rule: of each history only as much is read as is shown, newest first; the histories of several tasks are merged as
they are read. Following a history survives clean-up, which replaces the file: the lines of the old file that live on
in the new one are not shown again.
"""

from __future__ import annotations

import codecs
import heapq
import json
import os
import sys
import time

from .. import history, locks, record, store
from ..errors import BadInput, NoSuchTask, Unusable
from ..task import file_name, parse_time
from .runs import outcome
from .terminal import confirm, line, seconds, show, table, visible, when

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
    logs.add_argument("--status", metavar="|".join(STATUSES), help="Only runs that ended like this.")
    logs.add_argument("--run", metavar="RUN", help="One run, with both of its output streams, also while it runs.")
    logs.add_argument("--limit", metavar="N", default="20", help="How many lines; default: 20.")
    logs.add_argument("--follow", action="store_true",
                      help="Oldest first, and go on with new lines as they come; with --json, one object a line.")

    purge = verb("purge-logs", _purge, "Remove the history of a task, or of all.")
    purge.add_argument("name", nargs="?", metavar="NAME", help="The task; unset: all.")
    purge.add_argument("--yes", action="store_true", help="Do not ask.")


def files(home: str, name: str | None) -> list[str]:
    """The histories, as names without suffix: that of a task, be it empty or of a task removed since, or all."""
    if name is not None:
        if name not in store.read(home) and not os.path.exists(history.path(home, name)):
            raise NoSuchTask(name)

        return [file_name(name)]

    try:
        entries = os.listdir(os.path.join(home, "logs"))
    except FileNotFoundError:
        raise Unusable(f"{home}/logs is gone: `webscheduler init` makes it again")

    return sorted(entry[: -len(".jsonl")] for entry in entries if entry.endswith(".jsonl"))


def newest(home: str, name: str | None) -> Iterator[dict[str, Any]]:
    """The entries of one or all histories, newest first."""
    return heapq.merge(*(history.entries(home, each) for each in files(home, name)), key=_finished, reverse=True)


def _finished(entry: dict[str, Any]) -> float:
    try:
        return parse_time(entry["finishedAt"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def _logs(args: Namespace) -> None:
    if args.status is not None and args.status not in STATUSES:
        raise BadInput(f"--status: {args.status[:40]!r} must be one of {', '.join(STATUSES)}")

    if not (args.limit.isascii() and args.limit.isdigit()) or len(args.limit) > 9:
        raise BadInput(f"--limit: {args.limit[:40]!r} must be a whole number")

    if args.run is not None:
        _one(args)
        return

    # Before anything is read, so that no line falls between the two.
    followed = Followed(args.home, args.name) if args.follow else None
    found: list[dict[str, Any]] = []

    for entry in newest(args.home, args.name):
        if len(found) >= int(args.limit):
            break

        if args.status in (None, entry.get("status")):
            found.append(entry)

    if followed:
        _follow(followed, found[::-1], args)
    elif args.json:
        show(found)
    else:
        table(("FINISHED", "TASK", "STATUS", "TOOK", "TRIGGER", "RUN"), [_row(entry) for entry in found])


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
    facts = next((facts for facts in locks.peek(args.home, args.name) if facts.get("run") == args.run), None)
    entry = next((entry for entry in newest(args.home, args.name) if entry.get("run") == args.run), None)

    if entry is None and facts is None:
        raise BadInput(f"no run has the id {args.run[:60]!r}: `webscheduler logs` shows them")

    if entry is not None:
        if args.json:
            show([entry])
        else:
            print(outcome(entry.get("command", ""), entry))
            print(f"started {when(entry.get('startedAt'))} by {line(entry.get('trigger'))}, "
                  f"strategy {line(entry.get('strategy'))}")

            for title, field in (("output", "output"), ("error output", "errorOutput")):
                print(f"--- {title}")
                _print_whole(visible(str(entry.get(field) or "")))

        return

    assert facts is not None
    text = _live(args.home, args.run)[0].decode("utf-8", "backslashreplace")

    if args.json:
        show([{"command": facts.get("name"), "run": args.run, "status": "running", "startedAt": facts.get("startedAt"),
               "trigger": facts.get("trigger"), "strategy": facts.get("strategy"), "output": text}])
        return

    print(f"{line(facts.get('name'))}: running since {when(facts.get('startedAt'))}, run {line(args.run)}")
    print("--- output and error output so far")

    if args.follow:
        _watch(args.home, str(facts.get("name")), args.run)
    else:
        _print_whole(visible(text))


def _print_whole(text: str) -> None:
    print(text, end="" if text.endswith("\n") or not text else "\n")


def _live(home: str, run: str, offset: int = 0) -> tuple[bytes, int]:
    """What the run printed from `offset` on, and the offset to go on from; a run that prints very much begins its file
    anew."""
    try:
        with open(record.live_file(home, run), "rb") as file:
            file.seek(offset if offset <= file.seek(0, os.SEEK_END) else 0)
            return file.read(), file.tell()
    except FileNotFoundError:
        return b"", offset


def _watch(home: str, name: str, run: str) -> None:
    """Print what a run prints until it ends or the keyboard interrupts."""
    offset = 0
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    try:
        while any(facts.get("run") == run for facts in locks.peek(home, name)):
            data, offset = _live(home, run, offset)
            print(visible(decoder.decode(data)), end="", flush=True)
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        return

    print(f"\n--- the run is over: `webscheduler logs --run {run}` shows all of it")


class Followed:
    """Histories that are watched for new lines, from where they end now."""

    def __init__(self, home: str, name: str | None) -> None:
        self.home, self.name = home, name
        self.open: dict[str, BinaryIO] = {}

        for each in files(home, name):
            file = self._open(each)

            if file:
                self.open[each] = file
                end = file.seek(0, os.SEEK_END)
                file.seek(_line_start(file, end))

    def close(self) -> None:
        """Close the files."""
        for file in self.open.values():
            file.close()

    def new(self) -> list[dict[str, Any]]:
        """The entries that came since it was last asked, oldest first."""
        found = [text for file in self.open.values() for text in _whole_lines(file)]

        for each in [file_name(self.name)] if self.name is not None else files(self.home, None):
            before, now = self.open.get(each), self._open(each)

            if now is None:
                continue  # gone: it may come back, or be known by another name the next time

            if before and _same(before, now):
                now.close()
                continue

            renamed = next((name for name, file in self.open.items() if _same(file, now)), None)

            if renamed is not None:
                now.close()
                now = self.open.pop(renamed)
            elif before:
                found += _whole_lines(before)  # what came between the reading above and the replacement
                before.seek(0)
                old = {hash_of(text) for text in before}
                found += [text for text in _whole_lines(now) if hash_of(text) not in old]
            else:
                found += _whole_lines(now)

            if before:
                before.close()

            self.open[each] = now

        return sorted(_parsed(found), key=_finished)

    def _open(self, each: str) -> BinaryIO | None:
        try:
            return open(history.path(self.home, each), "rb")
        except FileNotFoundError:
            return None


def _same(one: BinaryIO, other: BinaryIO) -> bool:
    return os.path.sameopenfile(one.fileno(), other.fileno())


def hash_of(text: bytes) -> bytes:
    """What stands for a line in memory: some histories are long."""
    import hashlib

    return hashlib.blake2b(text, digest_size=16).digest()


def _line_start(file: BinaryIO, end: int) -> int:
    """Where the line begins that is unfinished at `end`; `end` itself if none is."""
    while end:
        start = max(0, end - 8192)
        file.seek(start)
        cut = file.read(end - start).rfind(b"\n")

        if cut >= 0:
            return start + cut + 1

        end = start

    return 0


def _whole_lines(file: BinaryIO) -> list[bytes]:
    """The lines that follow; one without its end stays for the next time (or is cut off, if a kill tore it)."""
    found: list[bytes] = []

    while True:
        start = file.tell()
        text = file.readline()

        if not text.endswith(b"\n"):
            file.seek(start)
            return found

        found.append(text)


def _parsed(texts: list[bytes]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    for text in texts:
        try:
            entry = json.loads(text)
        except ValueError:
            continue

        if isinstance(entry, dict):
            found.append(entry)

    return found


def _follow(followed: Followed, entries: list[dict[str, Any]], args: Namespace) -> None:
    """Print entries, and then those that come, until the keyboard interrupts."""
    try:
        while True:
            for entry in entries:
                if args.status in (None, entry.get("status")):
                    print(json.dumps(entry) if args.json else "  ".join(line(cell) for cell in _row(entry)))

            sys.stdout.flush()
            time.sleep(PAUSE)
            entries = followed.new()
    except KeyboardInterrupt:
        pass
    finally:
        followed.close()


def _purge(args: Namespace) -> None:
    names = files(args.home, args.name)
    confirm(f"Remove the history of {'all tasks' if args.name is None else args.name}?", args.yes)
    gone = sum(history.clean(args.home, each, lambda entry: False) for each in names)
    print(f"{gone} {'line is' if gone == 1 else 'lines are'} removed.")
