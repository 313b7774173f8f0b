# SPDX-License-Identifier: LGPL-3.0-or-later
"""The histories of several tasks as one, newest first, in pages.

The rules: only what is shown is read, however long the files are. A search that finds little stops after SCAN bytes and
says where to continue. A cursor is an instant and how many entries of that very instant were shown before.
"""

from __future__ import annotations

import heapq
import os
import time

from ..errors import Unusable
from . import history, history_reading
from .task import file_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..shapes import Entry

SCAN = 32 * 1024 * 1024  # bytes of history for one page
RECENT = 256 * 1024  # bytes of history for `recent`


def names(home: str, tasks: Iterable[str] = ()) -> list[str]:
    """The tasks that have a history; a task that is not in `tasks` by the name of its file. Raises Unusable."""
    known = {file_name(name): name for name in tasks}

    try:
        files = os.listdir(os.path.join(home, "logs"))
    except FileNotFoundError:
        raise Unusable(f"{home}/logs is gone: `webscheduler init` makes it again")

    return sorted(known.get(file[:-6], file[:-6]) for file in files if file.endswith(".jsonl"))


def merged(home: str, names: Iterable[str], until: float = history_reading.ALWAYS) -> Iterator[tuple[float, Entry]]:
    """(when it ended, the entry) of the tasks' runs that ended by then, newest first. A file is opened only when an
    entry of it may be next: nothing in it is newer than its last change, and a host may allow fewer open files than
    there are tasks."""
    waiting = []
    latest = time.time() + history_reading.CLOCK_ERROR

    for name in names:
        try:
            waiting.append((os.stat(history.path(home, name)).st_mtime + 1, name))
        except OSError:
            continue

    waiting.sort()
    heap: list[tuple[float, int, Entry, Iterator[Entry]]] = []

    while heap or waiting:
        if waiting and (not heap or waiting[-1][0] >= -heap[0][0]):
            changed, name = waiting.pop()
            when, place, reader = min(changed, until), len(waiting), history_reading.entries(home, name, until)
        else:
            negative, place, entry, reader = heapq.heappop(heap)
            when = -negative
            yield when, entry

        following = next(reader, None)

        if following is not None:
            ended = history.ended(following)
            # One that has no time, or one ahead of the clock, goes with the one before it.
            heapq.heappush(heap, (-(ended if 0.0 < ended <= latest else when), place, following, reader))


def recent(home: str, name: str, most: int = 20) -> list[Entry]:
    """The newest entries of a task, fewer where they are long."""
    found: list[Entry] = []
    size = 0

    for entry in history_reading.entries(home, name):
        found.append(entry)
        size += _size(entry)

        if len(found) >= most or size > RECENT:
            break

    return found


def _size(entry: Entry) -> int:
    return 500 + len(str(entry.get("output"))) + len(str(entry.get("errorOutput")))


def page(
    home: str, names: Sequence[str], statuses: Sequence[str], since: float, until: float, skip: int, most: int = 50
) -> tuple[list[Entry], tuple[float, int] | None]:
    """(entries of the tasks that ended from `since` to `until` with one of the statuses (none: all), newest first,
    after the first `skip` of the very instant `until`; the cursor of the next page, or None when there is no more)."""
    found: list[Entry] = []
    last, same, scanned = until, skip, 0

    for when, entry in merged(home, names, until):
        if when < since:
            break

        if when == until and skip > 0:
            skip -= 1
            continue

        if len(found) >= most or scanned > SCAN:
            return found, (last, same)

        last, same = when, same + 1 if when == last else 1
        scanned += _size(entry)

        if not statuses or entry.get("status") in statuses:
            found.append(entry)

    return found, None
