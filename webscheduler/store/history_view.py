# SPDX-License-Identifier: LGPL-3.0-or-later
"""The histories of several tasks as one, newest first, in pages.

The rules: only what is shown is read, however long the files are. A search that finds little stops after SCAN bytes and
says where to continue. Where a clock was wrong, lines are not in the order of their times: a run is shown where it was
recorded, and hides none that was recorded before it.
"""

from __future__ import annotations

import heapq
import json
import os
import time
from itertools import islice

from ..errors import NoSuchTask, Unusable
from ..vocabulary import SUCCESS
from . import history, history_reading, state
from .history_reading import ALWAYS, STRIDE
from .task import DUE, file_name, is_internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Callable, Entry, Iterable, Iterator, Mapping, Sequence


    Reader = Iterator[tuple[int, int, int, Entry]]

SCAN = 32 * 1024 * 1024  # bytes of history for one page
RECENT = 256 * 1024  # bytes of history for `recent`
FAR = 3600.0  # seconds: how much earlier a line is than the one after it, before it is doubted
# What the line of a tick that started nothing and met no problem holds.
IDLE = b'"status": "success", "exitCode": 0, "output": "", "errorOutput": ""'
LONGEST = 1500  # characters of a cursor, which is a part of a URL


class Cursor:
    """Where to go on in several histories: those that were read from a place in each, others from an instant. A place
    is where a line begins, with its mark if it was returned (else 0): clean-up moves lines."""

    def __init__(self, when: float, places: dict[str, tuple[int, int]] | None = None) -> None:
        self.when, self.places = when, places or {}

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """What `text` returned. Raises ValueError."""
        when, *places = text.split("~")
        found = {}

        for each in places:
            name, place, *mark = each.split("!")
            found[name] = abs(int(place)), int(mark[0], 16) if mark else 0

        return cls(float(when), found)

    def text(self, home: str) -> str:
        """All of it, for a URL. Of many histories, only of those where the instant does not lead to the place."""
        found = self._texts(self.places)

        if len("~".join(found)) > LONGEST:
            found = self._texts({name: place for name, place in self.places.items()
                                 if next(history_reading.placed(home, name, self.when), (0, 0))[1] != place[0]})

            while len("~".join(found)) > LONGEST:
                found.pop()

        return "~".join(found)

    def _texts(self, places: dict[str, tuple[int, int]]) -> list[str]:
        return [repr(self.when), *(f"{name}!{place}!{mark:x}" for name, (place, mark) in places.items()
                                   if not {"~", "!"} & set(name))]


def names(home: str, tasks: Mapping[str, object]) -> list[str]:
    """The tasks that have a history, but for internal ones; a task that is not in `tasks` (rows of state.json) by the
    name of its file. Raises Unusable."""
    known = {file_name(name): name for name in tasks}
    internal = {file_name(name) for name, row in tasks.items() if is_internal(name, row)}

    try:
        files = os.listdir(os.path.join(home, "logs"))
    except FileNotFoundError:
        raise Unusable(f"{home}/logs is gone: `webscheduler init` makes it again")

    return sorted(known.get(file[:-6], file[:-6]) for file in files
                  if file.endswith(".jsonl") and file[:-6] not in internal)


def merged(home: str, names: Iterable[str], until: float = ALWAYS, since: float = 0.0,
           cursor: Cursor | None = None, idle: bool = True) -> Iterator[tuple[float, Entry]]:
    """(when it ended, the entry) of the tasks' runs that ended in between, newest first. A file is opened only when an
    entry of it may be next: nothing in it is newer than its last change, and a host may allow fewer open files than
    there are tasks. cursor: where to begin; it says afterwards where to go on. idle: also all ticks that started
    nothing, not one in a STRIDE."""
    waiting = []
    latest = time.time() + history_reading.CLOCK_ERROR
    cursor = cursor or Cursor(until)
    start, places = cursor.when, cursor.places

    for name in names:
        try:
            waiting.append((os.stat(history.path(home, name)).st_mtime + 1, name))
        except OSError:
            continue

    waiting.sort()
    heap: list[tuple[float, int, str, tuple[int, int], Entry, Reader]] = []

    while heap or (waiting and waiting[-1][0] >= since):
        if waiting and (not heap or waiting[-1][0] >= -heap[0][0]):
            changed, name = waiting.pop()
            when, most, number = min(changed, start), start, len(waiting)
            place, mark = places.get(name, (None, 0))
            reader = history_reading.placed(home, name, start, place, mark, IDLE if name == DUE and not idle else b"")
        else:
            negative, number, name, read, entry, reader = heapq.heappop(heap)
            when = most = -negative
            yield when, entry
            cursor.when, places[name] = when, read

        for begin, end, mark, entry in reader:
            ended = history.ended(entry)

            if until < ended <= latest:
                continue

            if ended < since or 0.0 < ended < when - FAR:
                ended = max(ended, history_reading.latest_before(home, name, begin, latest))

            # One that has no time, or one ahead of the clock, goes with the one after it; so does one ahead of that.
            ended = min(ended, most) if 0.0 < ended <= latest else when

            if ended >= since:
                places.setdefault(name, (end, 0))
                heapq.heappush(heap, (-ended, number, name, (begin, mark), entry, reader))

            break


def chosen(home: str, name: str | None) -> list[str]:
    """Whose histories are meant: that of a task, which may be removed by now, or all. Raises NoSuchTask, Unusable."""
    tasks = state.read(home)

    if name is None:
        return names(home, tasks)

    if name not in tasks and not os.path.exists(history.path(home, name)):
        raise NoSuchTask(name, tasks)

    return [name]


def newest(home: str, names: Iterable[str], status: str | None, limit: int) -> list[Entry]:
    """The newest entries of the tasks (with that status), newest first, at most `limit`."""
    found = (entry for _, entry in merged(home, names) if status in (None, entry.get("status")))
    return list(islice(found, limit))


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


def cost(entry: Mapping[str, Any], key: str) -> float | None:
    """What a run took, `cpuSeconds` or `maxRssBytes`, where its line knows it. A hand may have written the line."""
    value = entry.get(key)
    return value if isinstance(value, (int, float)) and 0 <= value < 1e18 else None


def _is_idle(entry: Entry) -> bool:
    """Whether this is a tick that started nothing and met no problem."""
    return entry.get("command") == DUE and entry.get("status") == SUCCESS and not (
        entry.get("output") or entry.get("errorOutput"))


def _size(entry: Entry) -> int:
    return 500 + len(str(entry.get("output"))) + len(str(entry.get("errorOutput")))


def page(home: str, names: Sequence[str], statuses: Sequence[str], since: float, until: float, cursor: str = "",
         most: int = 50, idle: bool = True, room: float = ALWAYS,
         shown: Callable[[Entry], Entry] = lambda entry: entry) -> tuple[list[Entry], str]:
    """(entries of the tasks that ended from `since` to `until` with one of the statuses (none: all), newest first, from
    a cursor on; the cursor of the next page, or "" when there is no more). idle: also ticks that started nothing. room:
    characters of JSON after which no entry is added; shown: what is returned of an entry. Raises ValueError for what is
    no cursor."""
    found: list[Entry] = []
    at = Cursor.parse(cursor) if cursor else Cursor(until)
    scanned = 0

    for _, entry in merged(home, names, until, since, at, idle):
        if len(found) >= most or scanned > SCAN or room < 0:
            return found, at.text(home)

        hidden = not idle and _is_idle(entry)
        scanned += STRIDE if hidden else _size(entry)

        if not hidden and (not statuses or entry.get("status") in statuses):
            found.append(shown(entry))
            room -= len(json.dumps(found[-1])) if room < ALWAYS else 0

    return found, ""
