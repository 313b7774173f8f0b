# SPDX-License-Identifier: LGPL-3.0-or-later
"""Histories in an export, and how those of an import get among those that are here.

The rules: lines are copied as they are, and one at a time, since a history may be longer than the memory. They are put
where their times say, under the lock of the history; a line that is here already is not doubled. So an export has each
line on a line of its own, after the document and below the name of its task; a document that another program has
written anew is read as a whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import IO, Any, BinaryIO, Callable, TypeVar

from ..errors import BadInput, Unusable, WebschedulerError
from ..store import history, history_cleaning
from ..store.fields import TOO_DEEP, parse_json
from ..store.files import file_name
from ..store.history import LONGEST_LINE

Logs = dict[str, list[Callable[[], Iterator[bytes]]]]  # by name of a history file: what returns lines for it
T = TypeVar("T")

LONGEST_FILE = 16 * 1024 * 1024  # bytes without history: ten thousand tasks
BEGIN = b'  "history": {\n'
NAME = re.compile(rb',?("(?:[^"\\]|\\.)*"): \[\n')


def exported(document: dict[str, Any], home: str, names: Iterable[str]) -> Iterator[bytes]:
    """The text of a document together with the histories of these tasks."""
    yield json.dumps(document, indent=2).encode()[:-2] + b",\n" + BEGIN

    for number, name in enumerate(names):
        lines = filter(history.parse, lines_here(history.path(home, name)))
        yield b"," * (number > 0) + json.dumps(name).encode() + b": [\n"
        yield from (b"," * (place > 0) + line for place, line in enumerate(lines))
        yield b"]\n"

    yield b"}}\n"


def read(file: IO[bytes], source: str) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """(the text of a document without the histories that `exported` has put into it; where the lines of each are in
    the file, bytes). Raises BadInput if it is too large to be one."""
    head, size, name = [], 0, ""
    places: dict[str, tuple[int, int]] = {}

    while (line := file.readline(LONGEST_LINE)) and line != BEGIN:
        head.append(line)
        size += len(line)

        if size > LONGEST_FILE:
            raise BadInput(f"{source} is larger than {LONGEST_FILE // 2**20} MiB: import it in parts")

    at = size + len(line)

    while text := file.readline(LONGEST_LINE):
        found, at = _name_in(text), at + len(text)
        name = name if found is None else found
        places[name] = (places[name][0] if found is None and name in places else at, at)

    return b"".join([*head, b'"history": {}}' if line else b""]), places


def _name_in(text: bytes) -> str | None:
    """The task whose history begins with this line of an export; None for any other line."""
    found = NAME.fullmatch(text)

    try:
        return str(json.loads(found[1])) if found else None
    except ValueError:  # damaged
        return None


def between(file: IO[bytes], at: int, end: int) -> Iterator[bytes]:
    """The lines of a history that are between two places of an export."""
    while at < end:
        file.seek(at)
        text = file.readline(LONGEST_LINE)
        at += len(text) or end

        try:
            entry = parse_json(text.lstrip(b","))
        except ValueError:
            continue

        if isinstance(entry, dict) and entry:
            yield text.lstrip(b",")


def written(entries: list[Any]) -> Iterator[bytes]:
    """The lines of a history that another program has written as a part of a document."""
    return (json.dumps(entry).encode() + b"\n" for entry in entries if isinstance(entry, dict))


def of_file(target: str, file: str, tasks: Collection[str]) -> Iterator[bytes]:
    """The lines of a file that are for the history file `target`."""
    return (line for to, line in of_files(file, tasks) if to == target)


def of_files(file: str, tasks: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """(history file that it belongs to, line) of each line: that of the task which it names, else that of its file. A
    line that no reader would read, since it is too long or nested too deeply, is left out."""
    with open(file, "rb") as source:
        whole = True

        while text := source.readline(LONGEST_LINE):
            begins, whole = whole, text.endswith(b"\n") or len(text) < LONGEST_LINE

            if not (begins and whole):
                continue

            try:
                entry = parse_json(text)
            except ValueError as error:
                if str(error) == TOO_DEEP:
                    continue

                entry = None

            command = entry.get("command") if isinstance(entry, dict) else None
            target = command if isinstance(command, str) and command in tasks else os.path.basename(file)[:-6]
            yield file_name(target), text.rstrip(b"\n") + b"\n"


def merge_in(home: str, logs: Logs, commit: Callable[[], T], say: Callable[[str], object]) -> T:
    """Put lines into the histories, and then `commit`, which makes the tasks; what that returns. If it raises, the
    lines are taken back."""
    # History before tasks: if a kill comes between, the next attempt finds the lines and does not double them.
    given: list[tuple[str, bool, set[int]]] = []

    try:
        for number, name in enumerate(logs, 1):
            say(f"importing history {number} of {len(logs)}")
            path = os.path.join(home, "logs", name + ".jsonl")
            new = set(map(hash, lines_of(logs, name))) - set(map(hash, lines_here(path)))
            given.append((path, os.path.exists(path), new))
            arriving = history_cleaning.by_time(line for line in lines_of(logs, name) if hash(line) in new)

            if new:
                history_cleaning.rewrite(path, partial(_merged, arriving))

        say("importing the tasks")
        return commit()
    except BaseException as error:
        left = [os.path.basename(path) for path, was_there, new in given if not _take_back(path, was_there, new)]
        why = f"{home}/logs cannot be written: {error.strerror}" if isinstance(error, OSError) else str(error)

        if left or isinstance(error, OSError):
            raise Unusable(why + (f" (no task is imported, but their lines stay in {', '.join(left)}; the next import "
                                  "does not double them)" if left else ""))

        raise


def lines_of(logs: Logs, name: str) -> Iterator[bytes]:
    return chain.from_iterable(source() for source in logs.get(name, ()))


def lines_here(path: str) -> Iterator[bytes]:
    """The lines of a history of this installation; what a kill left incomplete at its end is none."""
    if os.path.exists(path):
        with open(path, "rb") as file:
            yield from _whole(file)


def _whole(file: BinaryIO) -> Iterator[bytes]:
    end = history.whole_end(file.fileno())
    return (text for start, text, _ in history_cleaning.read(file) if start + len(text) <= end)


def _merged(arriving: Iterator[tuple[float, bytes]], here: BinaryIO) -> Iterator[bytes]:
    return history_cleaning.merged(arriving, history_cleaning.by_time(_whole(here)))


def _without(new: set[int], was_there: bool, here: BinaryIO) -> Iterator[bytes] | None:
    rest = (line for line in _whole(here) if hash(line) not in new)
    first = next(rest, b"")

    if first or was_there:
        return chain((first,), rest)

    os.unlink(here.name)
    return None


def _take_back(path: str, was_there: bool, new: set[int]) -> bool:
    """Remove the lines that an import has added to a history; returns whether they are gone. What runs have added
    meanwhile stays."""
    try:
        if os.path.exists(path):
            history_cleaning.rewrite(path, partial(_without, new, was_there))
    except (OSError, WebschedulerError):
        return False

    return True
