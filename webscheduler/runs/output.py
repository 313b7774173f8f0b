# SPDX-License-Identifier: LGPL-3.0-or-later
"""A run that people look at, whatever door they come through: whether it is alive, how it ended, and its output from an
offset on, in pieces, for who follows it while it runs and after it has ended.

The rules: a run that is looked at may end meanwhile, so its claim is asked before the history and after it. `both` is
what the run prints, in the order in which it came. Its offsets count the bytes since the run began, also when the file
of the live output starts again, whose first lines say how many bytes came before, and when the run ends: then that file
is removed, and whoever followed it goes on in another name of it, which clean-up removes after a day. Of a run that
nobody followed it is what history has: output, then error output. `stdout` and `stderr` are those of history alone. A
piece ends between characters. No more is read than it holds, and what is asked for around it.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..store import close, file_name, history, history_reading, locks, processes
from ..vocabulary import RUNNING
from .process import EARLIER
from .process import LIVE_LIMIT as LIVE_LIMIT
from .recorder import live_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Entry, Facts, Iterable


MOST = 256 * 1024  # bytes of a piece
BOTH, STREAMS = "both", {"stdout": "output", "stderr": "errorOutput"}
HEAD = re.compile(re.escape(EARLIER) + rb"(\d{1,15}) bytes \.\.\.\n")
LONGEST_HEAD = len(EARLIER) + 30
FOLLOWED = ".followed"  # what stands for `.log` in the other name of a live output


def look(home: str, name: str | None, names: Iterable[str], run: str) -> tuple[Facts | None, Entry | None]:
    """(facts of the run while it is alive, else how it ended). name: its task, if that is known; names: whose histories
    are searched. The entry has `recorded` False while only the claim says it. Both are None for a run that there is
    not, and for one whose process is gone and that nobody has recorded yet."""
    known, outcome = processes.claimed_run(home, name, run)
    entry: Entry | None = None if known else history_reading.find(home, names, run) or outcome
    # It, or its process, may have ended between one look and the next, or have begun.
    return known or (None if entry else processes.claimed_run(home, name, run)[0]), entry


def of_task(home: str, name: str, run: str) -> tuple[Facts | None, Entry | None] | None:
    """`look`, for a run of a task; None if there is no such run."""
    claim = f"{file_name(name)}@{run}"

    if len(claim) >= 200:  # it cannot be the name of a file
        return None

    found = look(home, name, [name], run)
    return found if any(found) or {claim, locks.TAKEN + claim} & set(locks.runs(home)) else None


def in_progress(facts: Facts, run: str) -> dict[str, Any]:
    """A run that is alive, as lists of runs show it."""
    return {"command": facts.get("name"), "run": run, "status": RUNNING, "startedAt": facts.get("startedAt"),
            "trigger": facts.get("trigger"), "strategy": facts.get("strategy")}


def so_far(home: str, run: str, most: int = MOST // 2) -> str:
    """The last part of what a run in progress has printed, at most so many bytes of it."""
    try:
        data, before = history_reading.tail(live_file(home, run), most)
    except FileNotFoundError:
        return ""

    return data[history.begins(data) if before else 0:].decode("utf-8", "backslashreplace")


class Piece(NamedTuple):
    """A part of an output. offset, next: where it begins and ends; skipped: how many bytes before it are nowhere any
    more; data: its bytes, in data[first:last], and what was asked for around them; ended: the run is recorded, and
    nothing follows."""

    offset: int
    next: int
    skipped: int
    data: bytes
    first: int
    last: int
    ended: bool

    def text(self, data: bytes | None = None) -> str:
        """The piece as text, after a line on what is missing before it; bytes that are not UTF-8 are escaped. data:
        what is shown instead of its bytes."""
        said = f"... [truncated] {self.skipped} bytes ...\n" if self.skipped else ""
        shown = self.data[self.first:self.last] if data is None else data
        return said + shown.decode("utf-8", "backslashreplace")


def piece(home: str, run: str, stream: str, offset: int, entry: Entry | None, most: int = MOST,
          around: int = 0) -> Piece:
    """The next piece of the output. stream: BOTH or one of STREAMS; entry: how the run ended, see `look`, asked
    for before; most: bytes of it, at least 4; around: bytes before and after it. Raises OSError."""
    recorded = entry is not None and entry.get("recorded", True)
    descriptor = _open(home, run, not recorded) if stream == BOTH else -1

    try:
        # The file is empty where it was the program that had something to say: why there is no command.
        if descriptor >= 0 and not (recorded and os.fstat(descriptor).st_size == 0):
            while (found := _of_file(descriptor, offset, bool(recorded), most, around)) is None:
                pass

            return found
    finally:
        close(descriptor)

    if not entry or not recorded:
        return Piece(offset, offset, 0, b"", 0, 0, False)

    fields = STREAMS.values() if stream == BOTH else (STREAMS[stream],)
    data = "".join(str(entry.get(field) or "") for field in fields).encode("utf-8", "backslashreplace")
    low = max(0, offset - around)
    return _cut(offset, 0, data[low:offset + most + around + 1], offset - low, True, most)


def _open(home: str, run: str, goes_on: bool) -> int:
    """The file with its live output, which gets a name that outlives the run; -1 if there is none."""
    live = live_file(home, run)
    followed = os.path.splitext(live)[0] + FOLLOWED

    if file_name(run) != run:  # an imported history may hold any text as an id
        return -1

    if goes_on:
        try:
            os.link(live, followed)
        except OSError:
            pass  # it has that name already, or no file yet; or the file system knows no second names

    for path in (followed, live):
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue

    return -1


def _of_file(descriptor: int, offset: int, final: bool, most: int, around: int) -> Piece | None:
    """The piece of a live output; None if that started again meanwhile."""
    head = HEAD.match(os.pread(descriptor, LONGEST_HEAD, 0))
    before, begin = (int(head[1]), head.end()) if head else (0, 0)
    at = max(offset, before)
    place = begin + at - before
    low = max(begin, place - around)
    data = os.pread(descriptor, place - low + most + around + 1, low)
    again = HEAD.match(os.pread(descriptor, LONGEST_HEAD, 0))

    if (again and again[1]) != (head and head[1]):
        return None

    return _cut(at, at - offset, data, place - low, final, most)


def _cut(at: int, skipped: int, data: bytes, first: int, final: bool, most: int) -> Piece:
    """The piece that begins at data[first]. final: nothing will follow the data, if that ends before what was asked."""
    first = min(first, len(data))
    last = min(first + most, len(data))

    if last < len(data) or not final:
        last = first + history.whole(data[first:last])

    return Piece(at, at + last - first, skipped, data, first, last, final and last == len(data))
