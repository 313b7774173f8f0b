"""History as pages need it: from the end, in parts, for one task or all. Imports files of the core.

The rules: a page costs what it shows, however long a file is: files are read from their end, an instant is found by
halving (lines are in the order of their ends), and a search that finds little stops after SCAN bytes and says where to
go on. A cursor is an instant and how many entries of that very instant were shown before.
"""

from __future__ import annotations

import heapq
import json
import os

from .. import history
from ..task import file_name, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, BinaryIO

    Found = tuple[float, dict[str, Any], int]  # when it ended, the entry, the length of its line

SCAN = 32 * 1024 * 1024
RECENT = 256 * 1024
PROBLEMS = ("failed", "timeout", "interrupted")


def recent(home: str, name: str, most: int = 20) -> list[dict[str, Any]]:
    """The newest entries of a task, fewer where they are long."""
    found: list[dict[str, Any]] = []
    size = 0

    for text in history.lines(home, name):
        size += len(text)
        entry = _parse(text)

        if entry is not None:
            found.append(entry)

        if len(found) >= most or size > RECENT:
            break

    return found


def page(
    home: str, names: Sequence[str], statuses: Sequence[str], since: float, until: float, skip: int, most: int = 50
) -> tuple[list[dict[str, Any]], tuple[float, int] | None]:
    """(entries of the tasks that ended from `since` to `until` with one of the statuses (none: all), newest first,
    after the first `skip` of the very instant `until`; the cursor of the next page, or None when there is no more)."""
    found: list[dict[str, Any]] = []
    last, same, scanned = until, skip, 0

    for when, entry, size in _merged(home, names, until):
        if when < since:
            break

        if when == until and skip > 0:
            skip -= 1
            continue

        if len(found) >= most or scanned > SCAN:
            return found, (last, same)

        last, same = when, same + 1 if when == last else 1
        scanned += size

        if not statuses or entry.get("status") in statuses:
            found.append(entry)

    return found, None


def find(home: str, name: str, run: str, ended: float | None = None) -> dict[str, Any] | None:
    """The record of a run; `ended` tells where to look."""
    needle = json.dumps(run).encode()

    for text in history.lines(home, name, None if ended is None else _offset(home, name, ended)):
        if needle in text:
            entry = _parse(text)

            if entry is not None and entry.get("run") == run:
                return entry

    return None


def ended(entry: dict[str, Any]) -> float:
    """When the run ended, Unix seconds."""
    try:
        return parse_time(entry["finishedAt"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def _merged(home: str, names: Sequence[str], until: float) -> Iterator[Found]:
    """All tasks' entries, newest first. A file is opened only when its turn comes: nothing in it is newer than its last
    change, and a host may allow fewer open files than there are tasks."""
    waiting = []

    for name in names:
        try:
            waiting.append((os.stat(history.path(home, name)).st_mtime + 1, name))
        except OSError:
            continue

    waiting.sort()
    heap: list[tuple[float, int, Found, Iterator[Found]]] = []

    while heap or waiting:
        while waiting and (not heap or waiting[-1][0] >= -heap[0][0]):
            reader = _entries(home, waiting.pop()[1], until)
            first = next(reader, None)

            if first:
                heapq.heappush(heap, (-first[0], len(waiting), first, reader))

        if heap:
            _, place, found, reader = heap[0]
            yield found
            following = next(reader, None)

            if following:
                heapq.heapreplace(heap, (-following[0], place, following, reader))
            else:
                heapq.heappop(heap)


def _entries(home: str, name: str, until: float) -> Iterator[Found]:
    for text in history.lines(home, name, _offset(home, name, until)):
        entry = _parse(text)

        if entry is not None:
            yield ended(entry), entry, len(text)


def _offset(home: str, name: str, instant: float) -> int | None:
    """Where the entries end that ended by the instant; None: at the end of the file, or there is none."""
    try:
        file = open(history.path(home, name), "rb")
    except FileNotFoundError:
        return None

    with file:
        low, high = 0, file.seek(0, os.SEEK_END)
        size = high

        while low < high:  # lines before `low` ended by the instant; the first that starts from `high` on did not
            middle = (low + high) // 2
            start, text = _line_from(file, middle)
            entry = _parse(text)

            if start < high and text.endswith(b"\n") and (entry is None or ended(entry) <= instant):
                low = start + len(text)
            else:
                high = middle

    return low if low < size else None


def _line_from(file: BinaryIO, position: int) -> tuple[int, bytes]:
    """The first whole line that starts at or after the position."""
    file.seek(max(0, position - 1))
    skipped = file.readline() if position else b""
    start = position - 1 + len(skipped) if position else 0
    return start, file.readline()


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(text)
    except ValueError:
        return None

    return entry if isinstance(entry, dict) else None


def names(home: str) -> list[str]:
    """All tasks' names that have a history, those that are gone by the name of their file."""
    from .. import store

    known = {file_name(name): name for name in store.read(home)}
    files = [entry[:-6] for entry in os.listdir(os.path.join(home, "logs")) if entry.endswith(".jsonl")]
    return sorted(known.get(file, file) for file in files)
