# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reading the history of a task: from its end, by an instant, or for one run.

The rules: readers take no lock, read from the end, and skip lines that cannot be read. Lines are nearly always in the
order in which runs ended, so an instant is found by bisection. Where a clock was wrong they are not: then some lines at
growing distances say what is beyond. Where a mistake must not happen, as in whether a run has its line already, the
whole file is searched.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from itertools import dropwhile, islice

from ..errors import Unusable
from ..times import instant
from .files import file_name
from .history import LONGEST_LINE, ended, parse, path, whole_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from ..shapes import Entry, Iterable, Iterator


BLOCK = 65536
NEAR = 1024 * 1024  # bytes to search after the time when a run started, before all is searched: a day of skips
STRIDE = 1024 * 1024  # bytes: how far apart are the lines that `placed` returns of those that nobody wants
NEAREST = 128  # bytes: the least of the growing distances
ALWAYS = float("inf")
CLOCK_ERROR = 60.0  # seconds: a line that is further ahead of the clock is from a clock that was wrong


def lines(home: str, name: str, until: float = ALWAYS, about: bytes = b"",
          place: int | None = None, mark: int = 0) -> Iterator[tuple[int, bytes]]:
    """(where it begins, the line) of the whole lines of the task's history, newest first; no more of the file is read
    than the caller takes. until: only runs that ended by then, Unix seconds. about: skip blocks without these bytes.
    place: where the first of them ends, instead of `until`, unless clean-up has moved it: then no line ends there, or
    the one that begins there has not this mark. Raises Unusable."""
    inode, end = 0, 1
    rest = last = b""  # the end of a line whose beginning is not read yet; the last line that was returned
    in_damage = False  # the beginning of what is longer than any line is not read yet

    while end:
        # Opened for each block again: a host may allow fewer open files than there are histories to merge.
        file = _open(home, name)

        if file is None:
            return

        with file:
            before, inode = inode, os.fstat(file.fileno()).st_ino

            if not before:
                end = _first_end(file, until, place, mark)
            elif inode != before:  # clean-up has replaced the file
                yield from _after(lines(home, name, until, about), b"" if about else last)
                return

            start = max(0, end - BLOCK)
            file.seek(start)
            data = file.read(end - start) + rest

        if in_damage:
            data = data[:data.rfind(b"\n") + 1]
            in_damage = not data

        first, *others = data.split(b"\n") if about in data else (data.partition(b"\n")[0],)
        at = start + len(data)

        for text in reversed(others):
            at -= len(text)

            if text:
                last = text
                yield at, text

            at -= 1  # the line break before it

        in_damage = in_damage or len(first) > LONGEST_LINE
        end, rest = start, b"" if in_damage else first

    if rest:
        yield 0, rest


def _first_end(file: BinaryIO, until: float, place: int | None, mark: int) -> int:
    """Where the newest line to read ends."""
    end = whole_end(file.fileno())

    if place is not None and place <= end and (not place or os.pread(file.fileno(), 1, place - 1) == b"\n"):
        file.seek(place)

        if not mark or mark_of(file.readline(LONGEST_LINE)) == mark:
            return place

    return end if until == ALWAYS else _offset(file, end, until)


def _after(found: Iterator[tuple[int, bytes]], last: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines after one that was returned before; all if none was."""
    return islice(dropwhile(lambda each: each[1] != last, found), 1, None) if last else found


def _open(home: str, name: str) -> BinaryIO | None:
    try:
        # `_offset` reads a line here and there: not with the 128 KiB each that Python 3.14 buffers.
        return open(path(home, name), "rb", 8192)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{path(home, name)} cannot be read ({error.strerror}): `webscheduler doctor` says more")


def _lines_from(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(position, line) of each line that begins from `position` on and before `end`, oldest first."""
    at = max(0, position - 1)
    file.seek(at)
    begins = position == 0  # whether a line begins here

    while at < end and (text := file.readline(LONGEST_LINE)):
        whole = text.endswith(b"\n")

        if begins and whole:
            yield at, text

        at += len(text)
        begins = whole


def _offset(file: BinaryIO, end: int, until: float) -> int:
    """The position, up to `end`, where the lines of runs that ended by `until` end. Lines of a clock that was ahead may
    lead the bisection astray, so lines at growing distances are looked at."""
    latest = time.time() + CLOCK_ERROR
    low = _bisect(file, 0, end, until, latest)
    distance = NEAREST

    while low + distance < end:
        place, text = next(_lines_from(file, low + distance, end), (end, b""))
        distance *= 2

        if 0.0 < ended(parse(text)) <= min(until, latest):
            low, distance = _bisect(file, place + len(text), end, until, latest), NEAREST

    return low


def _bisect(file: BinaryIO, low: int, high: int, until: float, latest: float) -> int:
    while low < high:  # lines before `low` ended by then; none from `high` on did
        middle = (low + high) // 2

        for start, text in _lines_from(file, middle, high):
            moment = ended(parse(text))

            if 0.0 < moment <= latest:  # skip a line without a time, or with one ahead of the clock
                low, high = (start + len(text), high) if moment <= until else (low, middle)
                break
        else:
            high = middle

    return low


def latest_before(home: str, name: str, place: int, latest: float) -> float:
    """The latest time, up to `latest`, of some lines at growing distances before a place: a line before them all that
    says an earlier one is of a clock that was behind. 0 if none says a time. Raises Unusable."""
    file = _open(home, name)
    found, distance = 0.0, NEAREST

    if file is None:
        return found

    with file:
        while distance < 2 * place:
            for _, text in _lines_from(file, max(0, place - distance), place):
                moment = ended(parse(text))
                found = max(found, moment if moment <= latest else 0.0)
                break

            distance *= 2

    return found


def entries(home: str, name: str, until: float = ALWAYS) -> Iterator[Entry]:
    """The entries of `lines`, without the lines that cannot be read; with the task's present name."""
    return (entry for _, _, _, entry in placed(home, name, until))


def placed(home: str, name: str, until: float = ALWAYS, place: int | None = None, mark: int = 0,
           unless: bytes = b"") -> Iterator[tuple[int, int, int, Entry]]:
    """The same, with where each line begins, where it ends, and its mark. mark: of the line that was read last.
    unless: lines with these bytes are left out unread, but for one in a STRIDE, so that the caller can stop."""
    returned = ALWAYS
    found = lines(home, name, until, place=place, mark=mark)

    for at, text in _unread(found, until, mark) if mark else found:
        if unless and unless in text and returned - at < STRIDE:
            continue

        if (entry := parse(text)) is not None:
            returned = at
            yield at, at + len(text) + 1, mark_of(text), _named(entry, name)


def mark_of(text: bytes) -> int:
    """What tells a line from others, never 0."""
    return zlib.crc32(text.rstrip(b"\n")) or 1


def _unread(found: Iterator[tuple[int, bytes]], until: float, mark: int) -> Iterator[tuple[int, bytes]]:
    """The lines without those that were read before: if an instant led to them, the one with the mark, and those after
    it that ended at the same instant, may be among them."""
    same: list[tuple[int, bytes]] = []

    for each in found:
        same.append(each)

        if mark_of(each[1]) == mark:
            same.clear()
        elif ended(parse(each[1])) != until:
            break

    yield from same
    yield from found


def tail(path: str, most: int) -> tuple[bytes, int]:
    """(the last bytes of a file, at most so many; how many come before them). Raises OSError."""
    with open(path, "rb") as file:
        before = max(0, file.seek(0, os.SEEK_END) - most)
        file.seek(before)
        return file.read(), before


def _named(entry: Entry, name: str) -> Entry:
    """The entry with the present name of its task. What was written before a renaming has the former. name: of the
    task, or of its file, which tells less."""
    written = entry.get("command")

    if isinstance(written, str) and (name != file_name(name) or file_name(written) != name):
        entry["command"] = name

    return entry


def find(home: str, names: Iterable[str], run: str) -> Entry | None:
    """The entry of a run, in the history of one of the tasks: where the time in its id leads to, in each of them, else,
    since lines may be out of order, anywhere."""
    names = list(names)
    return next((_named(entry, name) for search in (_find_by_time, find_by_scanning) for name in names
                 if (entry := search(home, name, run))), None)


def _begun(run: str) -> float:
    """When a run started, from its id (`locks.new_run`), Unix seconds; 0 for another kind of id."""
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
        first = _offset(file, end, begun - 1)  # a run's line comes after those of runs that ended before it started

        for _, text in _lines_from(file, first, min(end, first + NEAR)):
            if (entry := _entry_of(text, run, needle)):
                return entry

    return None


def find_by_scanning(home: str, name: str, run: str) -> Entry | None:
    """The entry of a run, if there is a whole line of it anywhere in the file."""
    needle = json.dumps(run).encode()
    return next(filter(None, (_entry_of(text, run, needle) for _, text in lines(home, name, about=needle))), None)


def _entry_of(text: bytes, run: str, needle: bytes) -> Entry | None:
    entry = parse(text) if needle in text else None  # parsing takes a hundred times as long
    return entry if entry and entry.get("run") == run else None
