# SPDX-License-Identifier: LGPL-3.0-or-later
"""Removing lines of a history, however long the file is and whatever is in it.

The rules: each line is read once, in order, and no more of it than a line may have; what is kept is copied without
being read again. Lines that cannot be read are removed, too. Processes that append wait, and then append to the new
file.
"""

from __future__ import annotations

import heapq
import os

from ..errors import Unusable
from .files import close, open_locked, replace_file
from .history import LONGEST_LINE, PATIENCE, ended, parse, path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from ..shapes import Callable, Entry, Iterable, Iterator


BLOCK = 65536
MOST_GAPS = 10000  # places from which lines are removed in one clean-up; the next one does the rest


def clean(home: str, name: str, keep: Callable[[Entry], bool]) -> int:
    """Remove the entries that `keep`, called once for each, oldest first, refuses, and lines that cannot be read.
    Returns how many lines. Raises OSError."""
    file, dropped = path(home, name), 0

    def change(source: BinaryIO) -> Iterator[bytes] | None:
        nonlocal dropped
        dropped, gaps = _gaps(source, keep)
        return _without(source, gaps) if gaps else None

    if os.path.exists(file):
        rewrite(file, change)

    return dropped


def purge(home: str, names: Iterable[str]) -> int:
    """Remove these histories, line by line; returns how many lines. Raises Unusable, which says what was removed."""
    gone = 0

    for name in names:
        try:
            gone += clean(home, name, lambda entry: False)
        except OSError as error:
            raise Unusable(f"{path(home, name)} cannot be written: {error.strerror}" + (
                f" (lines of others that are removed: {gone})" if gone else ""))

    return gone


def read(source: BinaryIO) -> Iterator[tuple[int, bytes, Entry | None]]:
    """(start, text, entry) of each line of an open history, oldest first; None for one that cannot be read, of which
    the text may be a part."""
    start, whole = 0, True

    while text := source.readline(LONGEST_LINE):
        begins, whole = whole, text.endswith(b"\n")
        yield start, text, parse(text) if begins and whole else None
        start += len(text)


def by_time(lines: Iterable[bytes]) -> Iterator[tuple[float, bytes]]:
    """(when it ended, the line) of lines in their order; one with an earlier time than that before it, or with none,
    stays where it is."""
    latest = 0.0

    for line in lines:
        latest = max(latest, ended(parse(line)))
        yield latest, line


def rewrite(path: str, change: Callable[[BinaryIO], Iterable[bytes] | None]) -> None:
    """Replace a history by what `change` makes of the open file; None: leave it. Who appends waits. Raises OSError;
    then the file is what it was."""
    descriptor = open_locked(path, PATIENCE)

    try:
        with open(path, "rb") as source:
            content = change(source)

            if content is not None:
                replace_file(path, content)
    finally:
        close(descriptor)


def merged(*lines: Iterable[tuple[float, bytes]]) -> Iterator[bytes]:
    """The lines of several histories, each as of `by_time`, as one."""
    return (line for _, line in heapq.merge(*lines, key=lambda each: each[0]))


def _gaps(source: BinaryIO, keep: Callable[[Entry], bool]) -> tuple[int, list[tuple[int, int]]]:
    """(how many lines to remove; from where to where they are, without what is between neighbours)."""
    dropped, gaps = 0, [(0, 0)]

    for start, text, entry in read(source):
        if entry is None or not keep(entry):
            first, last = gaps[-1]
            end = start + len(text)

            if start == last:
                gaps[-1] = (first, end)
            elif len(gaps) < MOST_GAPS:
                gaps.append((start, end))
            else:
                break

            dropped += 1

    return dropped, gaps if gaps[0] != (0, 0) else gaps[1:]


def _without(source: BinaryIO, gaps: list[tuple[int, int]]) -> Iterator[bytes]:
    """The file without its gaps."""
    size = source.seek(0, os.SEEK_END)
    at = 0

    for start, end in (*gaps, (size, size)):
        source.seek(at)

        while at < start:
            data = source.read(min(BLOCK, start - at))
            at += len(data)
            yield data

        at = end
