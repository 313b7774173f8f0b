# SPDX-License-Identifier: LGPL-3.0-or-later
"""What people see: tables, times, questions, and errors.

The rules: texts of commands and files are printed through `line` or `printable.escaped`, never raw. Times are shown in
the installation's zone, else in the local one, with their offset. JSON is one document in plain ASCII, whatever the
locale.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager, suppress

from ..errors import BadInput, WebschedulerError
from ..printable import escaped
from ..store.settings import read_settings
from ..times import parse_time, time_zone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import tzinfo
    from typing import Any, Callable

PAUSE = 0.5  # seconds between two looks at how far work is

was_done: list[str] = []  # by this command line so far
at = ""  # what --at names, if anything
home = ""  # the installation in whose time zone times are shown; set once a command line is read
_zones: dict[str, tzinfo | None] = {}  # by home, looked up once


def line(text: object) -> str:
    """The text on one line, without anything that a terminal would obey."""
    return escaped(str(text), one_line=True)


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))


def done(sentence: str, show: bool = True) -> None:
    """Print what was done. If that, or anything after it, fails, the error says what was done."""
    was_done.append(sentence.rstrip("."))

    if show:
        print(sentence)


def print_error(*messages: object) -> None:
    """Print a line each on standard error; the exit status is the same where that cannot be written."""
    for message in messages:
        with suppress(OSError):
            print(f"webscheduler: {to_type(line(message))}", file=sys.stderr)


def to_type(text: str) -> str:
    """The text, where what it says to type is for the installation that this command line is about."""
    if not at:
        return text

    import re

    from .parser import FAR

    return re.sub(rf"`webscheduler (?=({'|'.join(FAR)})\b)", lambda _: f"`webscheduler --at {line(at)} ", text)


def use_site(name: str, zone: str | None) -> None:
    """Show times in the zone of an installation elsewhere, and have errors name it in what they say to type."""
    global at, home
    at, home = name, f"{name}\n"
    _zones[home] = None

    with suppress(WebschedulerError):
        _zones[home] = time_zone(zone) if zone else None


@contextmanager
def progress(text: str, shown: bool = True) -> Iterator[Callable[[str], object]]:
    """Show on one line what long work is at, and for how long, until it ends; what this yields changes the text. Only
    if standard error is a terminal: pipes and files get nothing."""
    now = [text]

    if not (shown and sys.stderr and sys.stderr.isatty()):
        yield now.append
        return

    from threading import Event, Thread

    ended, begun = Event(), time.monotonic()
    width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1  # in the last column some would wrap

    def show() -> None:
        over = False

        while not over:
            said = f"{line(now[-1])}, {time.monotonic() - begun:.0f} s"
            print(said[:width].ljust(width), end="\r", file=sys.stderr, flush=True)
            over = ended.wait(PAUSE)

        print(" " * width, end="\r", file=sys.stderr, flush=True)

    thread = Thread(target=show, daemon=True)
    thread.start()

    try:
        yield now.append
    finally:
        ended.set()
        thread.join()


def holders(runs: Sequence[Mapping[str, Any]]) -> str:
    """Which runs hold all places for due tasks, on one line."""
    held = ", ".join(f"{line(facts['name'])} since {local_time(facts['startedAt'])}" for facts in runs)
    return f"all places (maxConcurrentTasks) are held, by {held}"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings, in columns as wide as they need to be."""
    columns = [[*map(line, column)] for column in zip(head, *rows)]
    padded = [[cell.ljust(width) for cell in column] for column in columns for width in [max(map(len, column))]]
    print("\n".join("  ".join(row).rstrip() for row in zip(*padded)))


def local_time(moment: str | float | None) -> str:
    """A time (ISO 8601, or Unix seconds) in the zone of `home`, like 2026-03-29 03:00:00+02:00; `-` for none."""
    if moment is None:
        return "-"

    from datetime import datetime, timezone

    try:
        seconds = parse_time(moment) if isinstance(moment, str) else moment
        return datetime.fromtimestamp(seconds, timezone.utc).astimezone(_zone()).isoformat(" ", "seconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return line(moment)


def _zone() -> tzinfo | None:
    """The zone that the installation names; None, which is the local one, if it names none that can be used."""
    if home not in _zones:
        _zones[home] = None

        with suppress(WebschedulerError):
            name = read_settings(home).get("timezone") if home else None
            _zones[home] = time_zone(name) if isinstance(name, str) else None

    return _zones[home]


def as_text(value: Any) -> str:
    """The value of a field or setting: texts as they are, `-` for none, everything else as JSON."""
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value, ensure_ascii=False)


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone. Raises BadInput unless the answer is yes."""
    if yes:
        return

    if not (sys.stdin and sys.stdin.isatty()):
        raise BadInput(f"{question} There is no terminal to ask on, so nothing was done: --yes means yes")

    print(f"{line(question)} [y/N] ", end="", flush=True)

    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("nothing was done")
