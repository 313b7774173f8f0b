# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reading the history of a task: from its end, by an instant, or for one run.

The rules: readers take no lock, go from the end, and skip what does not parse. Lines are nearly always in the order of
their ends, so an instant is found by bisection; what nobody may miss, like whether a run has its line already, is
looked for in all of the file.
"""

from __future__ import annotations

import json
import os
import time
from itertools import dropwhile, islice

from ..errors import Unusable
from ..times import instant
from .history import ended, parse, path, whole_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from ..shapes import Entry

LONGEST_LINE = 4 * 1024 * 1024  # of an imported history, perhaps; what is longer is damage, and is not kept in memory
BLOCK = 65536
NEAR = 1024 * 1024  # how far after its beginning a run's line is looked for before all is read: a day of skips
ALWAYS = float("inf")
CLOCK_ERROR = 60.0  # seconds that a line may be ahead of the clock before a clock must have been wrong


def lines(home: str, name: str, until: float = ALWAYS, about: bytes = b"") -> Iterator[bytes]:
    """Whole lines of the task's history, newest first, without reading more of the file than is asked for: of runs that
    ended by `until` (Unix seconds; by bisection). `about`: leave out what lies far from these bytes. Raises Unusable.
    """
    inode, end = 0, 1
    rest = last = b""  # the end of a line whose beginning is still to be found; the last line that was given
    in_damage = False  # within what is longer than any line

    while end:
        # Opened for each part anew: a host may allow fewer open files than there are tasks whose histories are merged.
        file = _open(home, name)

        if file is None:
            return

        with file:
            before, inode = inode, os.fstat(file.fileno()).st_ino

            if not before:
                end = whole_end(file.fileno())
                end = _offset(file, end, until) if until < ALWAYS else end
            elif inode != before:  # clean-up has replaced it
                if about or not last:
                    yield from lines(home, name, until, about)
                else:
                    again = lines(home, name, ended(parse(last)) or until)
                    yield from islice(dropwhile(last.__ne__, again), 1, None)
                return

            start = max(0, end - BLOCK)
            file.seek(start)
            data = file.read(end - start) + rest

        if in_damage:
            data = data[:data.rfind(b"\n") + 1]
            in_damage = not data

        first, *others = data.split(b"\n") if about in data else (data.partition(b"\n")[0],)

        for last in filter(None, reversed(others)):
            yield last

        in_damage = in_damage or len(first) > LONGEST_LINE
        end, rest = start, b"" if in_damage else first

    if rest:
        yield rest


def _open(home: str, name: str) -> BinaryIO | None:
    try:
        # `_offset` reads a line here and there: not with the 128 KiB each that Python 3.14 buffers.
        return open(path(home, name), "rb", 8192)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{path(home, name)} cannot be read ({error.strerror}): `webscheduler doctor` says more")


def _lines_from(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(where it begins, the line) for each that begins from a position on and before `end`, oldest first."""
    at = max(0, position - 1)
    file.seek(at)
    begins = position == 0  # what is read next is the beginning of a line

    while at < end and (text := file.readline(LONGEST_LINE)):
        whole = text.endswith(b"\n")

        if begins and whole:
            yield at, text

        at += len(text)
        begins = whole


def _offset(file: BinaryIO, end: int, until: float) -> int:
    """Where, up to `end`, the lines end of the runs that ended by `until`: by bisection."""
    low, high = 0, end
    latest = time.time() + CLOCK_ERROR

    while low < high:  # lines before `low` ended by then; none from `high` on did
        middle = (low + high) // 2

        for start, text in _lines_from(file, middle, high):
            moment = ended(parse(text))

            if 0.0 < moment <= latest:  # a line that tells no time, or a wrong one, is passed over
                low, high = (start + len(text), high) if moment <= until else (low, middle)
                break
        else:
            high = middle

    return low


def entries(home: str, name: str, until: float = ALWAYS) -> Iterator[Entry]:
    """The task's history, newest first, of runs that ended by then; lines that do not parse are skipped."""
    return (entry for text in lines(home, name, until) if (entry := parse(text)) is not None)


def find(home: str, names: Iterable[str], run: str) -> Entry | None:
    """The record of a run in the history of one of the tasks, for readers: first where the time that its id begins with
    leads to, and if it is not there, since lines may be out of order, in all of the files."""
    names = list(names)
    return (next(filter(None, (_find_by_time(home, name, run) for name in names)), None)
            or next(filter(None, (find_by_scanning(home, name, run) for name in names)), None))


def _begun(run: str) -> float:
    """When a run began, by its id (`locks.new_run`): Unix seconds; 0 for another kind of id."""
    year, month, day, hour, minute, second = (run[:4], *(run[at:at + 2] for at in range(4, 14, 2)))
    return instant(f"{year}-{month}-{day}T{hour}:{minute}:{second}Z") if run[14:15] == "-" else 0.0


def _find_by_time(home: str, name: str, run: str) -> Entry | None:
    begun = _begun(run)
    file = _open(home, name) if begun else None

    if file is None:
        return None

    needle = json.dumps(run).encode()

    with file:
        end = whole_end(file.fileno())
        first = _offset(file, end, begun - 1)  # a run's line comes after those that ended before it began

        for _, text in _lines_from(file, first, min(end, first + NEAR)):
            if (entry := _entry_of(text, run, needle)):
                return entry

    return None


def find_by_scanning(home: str, name: str, run: str) -> Entry | None:
    """The record of that run, if a whole line is, wherever in the file."""
    needle = json.dumps(run).encode()
    return next(filter(None, (_entry_of(text, run, needle) for text in lines(home, name, about=needle))), None)


def _entry_of(text: bytes, run: str, needle: bytes) -> Entry | None:
    entry = parse(text) if needle in text else None  # parsing is a hundred times slower than looking
    return entry if entry and entry.get("run") == run else None
