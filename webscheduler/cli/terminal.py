"""What people see: tables, times, questions, and text that is safe to show.

The rules: what a command printed, or a file holds, never reaches the terminal raw, since an escape sequence can rewrite
what was said before it and a bidirectional mark can turn it round. Times are shown in the local zone with its offset.
JSON is plain ASCII, one document, whatever the locale.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime

from ..errors import BadInput
from ..printable import escaped
from ..times import parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def line(text: object) -> str:
    """The text without what a terminal would obey, on one line."""
    return escaped(str(text), one_line=True)


def show(document: Any) -> None:
    """Print a document as JSON."""
    print(json.dumps(document, indent=2))


def complain(message: object) -> None:
    """One line for standard error."""
    print(f"webscheduler: {line(message)}", file=sys.stderr)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings, in columns as wide as they need to be."""
    lines = [[line(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in lines) for column in range(len(head))]

    for row in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def when(moment: str | float | None) -> str:
    """An instant (ISO 8601, or Unix seconds) in the local zone: 2026-03-29 03:00:00+02:00; `-` for none."""
    if moment is None:
        return "-"

    try:
        seconds = parse_time(moment) if isinstance(moment, str) else moment
        return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return line(moment)


def in_a_word(value: Any) -> str:
    """A value of a field or setting: texts as they are, `-` for none, the rest as JSON."""
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value, ensure_ascii=False)


def seconds(duration: Any) -> str:
    """A duration for people."""
    return f"{duration:.1f} s" if isinstance(duration, (int, float)) else "-"


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone. Raises BadInput unless the answer is yes."""
    if yes:
        return

    if not (sys.stdin and sys.stdin.isatty()):
        raise BadInput(f"{question} Nobody is there to answer, so nothing was done: --yes answers")

    print(f"{line(question)} [y/N] ", end="", flush=True)

    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("nothing was done")
