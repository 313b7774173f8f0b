# SPDX-License-Identifier: LGPL-3.0-or-later
"""state.json: the tasks, and what is known about their last runs.

The rules: readers need no lock, since the file is always replaced as a whole. A change reads, modifies and writes under
`state.json.lock`. A file that cannot be parsed is never overwritten. Every write leaves a copy, state.json.bak, with an
inode of its own, so that a mistake in an editor damages only one of them. Fields and tasks that this version does not
know are kept as they are.
"""

from __future__ import annotations

import json
import os

from ..errors import Busy, Unusable
from .files import close, open_locked, replace_file
from .index import Index, identity, open_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    Tasks = dict[str, dict[str, Any]]
    T = TypeVar("T")

PATIENCE = 10.0  # seconds
changed: set[str] = set()  # homes whose tasks this process has changed: the command line refreshes their index


class Written:
    """A row that a run has replaced. place, size: where it was, bytes; new: its new size; content: the hash of the file
    as it is now."""

    def __init__(self, name: str, row: dict[str, Any], place: int, size: int, new: int, content: int) -> None:
        self.name, self.row, self.place, self.size, self.new, self.content = name, row, place, size, new, content


def path(home: str) -> str:
    """The path of state.json."""
    return os.path.join(home, "state.json")


def read(home: str) -> Tasks:
    """All tasks, unchecked, by name; from the copy if state.json cannot be read. Raises Unusable."""
    try:
        return read_strictly(home)
    except Unusable as error:
        try:
            return _parse(path(home) + ".bak")
        except Unusable:
            raise error


def read_strictly(home: str) -> Tasks:
    """All tasks, unchecked, from state.json itself. Raises Unusable, which says what to do."""
    return _parse(path(home))


def update(home: str, change: Callable[[Tasks], T]) -> T:
    """Read, let `change` modify the tasks in place, write if they are different, and return what `change` returned.

    If `change` raises, nothing is written. Raises Unusable if the file cannot be parsed; Busy after PATIENCE seconds of
    waiting for the lock.
    """
    from .change_lock import locked  # filelock's import takes 40 ms, and only who edits tasks needs it

    with locked(path(home), PATIENCE):
        tasks = read_strictly(home)
        before = json.dumps(tasks)
        result = change(tasks)

        if json.dumps(tasks) != before:
            _write(home, _content(tasks))
            changed.add(home)

    return result


def read_row(home: str, name: str) -> Any:
    """The row of one task, unchecked; None if there is none of that name. Other rows are not parsed, unless the file is
    not as we write it. Raises Unusable."""
    try:
        with open(path(home), "rb") as file:
            content = file.read()
    except OSError:
        return read(home).get(name)

    found = line_of(content, name)
    return read(home).get(name) if found is None else found[2]


def line_of(content: bytes, name: str) -> tuple[int, int, dict[str, Any]] | None:
    """(where the task's line begins and ends, its row) in a file as `_content` makes it; None if it may be another."""
    key = b"\n" + json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass") + b": {"
    start = content.find(key) + 1

    if (not start or content.find(key, start) >= 0 or not content.startswith(b'{\n"') or not content.endswith(b"}\n}\n")
            or content.count(b"\n") != content.count(b'},\n"') + 3):
        return None

    end = content.index(b"\n", start)
    end -= content[end - 1 : end] == b","

    try:
        found = json.loads(b"{" + content[start:end] + b"}")
    except (ValueError, RecursionError):
        return None

    row = found.get(name) if isinstance(found, dict) and len(found) == 1 else None
    return (start, end, row) if isinstance(row, dict) and "enabled" in row else None


def take_lock(home: str, patience: float = PATIENCE) -> int:
    """Take the same lock as filelock by flock(2), without its import, which costs a short run half of its time. Returns
    a descriptor; closing it releases the lock. Raises Busy, Unusable."""
    try:
        return open_locked(path(home) + ".lock", patience)  # some versions of filelock unlink it when they release it
    except BlockingIOError:
        raise Busy("state.json is locked by another process for too long: try again, or see `webscheduler doctor`")
    except OSError as error:
        raise Unusable(f"{path(home)}.lock cannot be opened: {error.strerror}")


def create(home: str) -> None:
    """Create state.json if there is none: from its copy if there is one, else without tasks."""
    copy = path(home) + ".bak"

    if not os.path.exists(path(home)):
        _write(home, _content(_parse(copy) if os.path.exists(copy) else {}))


def update_row(home: str, name: str, change: Callable[[dict[str, Any]], T],
               others: Callable[[Tasks | None, dict[str, Any]], object] | None = None) -> tuple[T | None, Index | None]:
    """`update` for the row of one task, by a run. Returns (what `change` returned, None without such a task; the index
    that was valid before, whose lines are true of what was written, since a run changes nothing that is in them).
    others: called with None and the row, it says whether rows of other tasks change, too; then with all tasks, it
    changes them, before `change`.

    Only the task's line is parsed and replaced, and the lock is taken without filelock. It is synced once: what is lost
    in a power cut is in history.
    """
    lock = take_lock(home)

    try:
        index = open_index(home, whole=True)

        with open(path(home), "rb") as file:
            content = file.read()
            read = identity(os.fstat(file.fileno()))

        # An index that was made from this very content tells that all of it can be parsed. Otherwise it is parsed, or
        # an edit by hand that broke another line would be copied over the last good state.json.bak.
        index = index if index and index.sources[0] == read else None
        found = line_of(content, name)
        found = None if found and others and others(None, found[2]) else found
        tasks = {} if found and index else parse(content, path(home))

        if found is None:
            row, result = tasks.get(name), None

            if isinstance(row, dict):
                if others:
                    others(tasks, row)

                result = change(row)

            after = _content(tasks)
        else:
            start, end, row = found
            result = change(row)
            after = content[:start] + _line(name, row) + content[end:]

        if after != content:
            _write(home, after, sync="file")

        if index and found:
            start, end, row = found
            index.written = Written(name, row, start, end - start, len(_line(name, row)), hash(after))

        return result, index if found else None
    except OSError as error:
        raise Unusable(f"{path(home)} cannot be read: {error.strerror}")
    finally:
        close(lock)


def places(content: bytes, tasks: Tasks) -> list[tuple[int, int]] | None:
    """Where each task's row begins in a file as `_content` makes it, and how long it is, bytes; None for another file.
    tasks: what was parsed from it."""
    lines, found, at = content[2:-3].split(b"\n"), [], 2

    if len(lines) != len(tasks) or not content.startswith(b"{\n") or not content.endswith(b"}\n}\n"):
        return None

    for name, line in zip(tasks, lines):
        if not line.startswith(_line(name, {})[:-1]) or not line.endswith((b"},", b"}")):
            return None

        found.append((at, len(line) - line.endswith(b",")))
        at += len(line) + 1

    return found


def _line(name: str, row: Any) -> bytes:
    return json.dumps({name: row}, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")


def _content(tasks: Tasks) -> bytes:
    # Each task on a line of its own: a diff can be read, and a run can replace its line.
    return b"{\n" + b",\n".join(_line(name, row) for name, row in tasks.items()) + b"\n}\n"


def _write(home: str, content: bytes, sync: str = "all") -> None:
    try:
        # The copy first, so that nothing that was revoked can come back from it.
        replace_file(path(home), content, sync=sync, copy=path(home) + ".bak")
    except OSError as error:
        raise Unusable(f"{error.filename2 or path(home)} cannot be written: {error.strerror}")


def _parse(file_name: str) -> Tasks:
    try:
        with open(file_name, "rb") as file:
            return parse(file.read(), file_name)
    except FileNotFoundError:
        raise Unusable(f"{file_name} is missing: `webscheduler init` makes a new one, or copy state.json.bak to it")
    except OSError as error:
        raise Unusable(f"{file_name} cannot be read: {error.strerror}")


def parse(content: bytes, file_name: str) -> Tasks:
    """All tasks, unchecked, from the content of that file. Raises Unusable, which says what to do."""
    try:
        tasks = json.loads(content)
    except (ValueError, RecursionError) as error:
        # What Python says of too deep a nesting differs from call to call (3.14).
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
        raise Unusable(f"{file_name} cannot be parsed ({why}): repair it, or copy state.json.bak over it")

    if not isinstance(tasks, dict):
        raise Unusable(f"{file_name} must hold an object keyed by task name: repair it, or copy state.json.bak over it")

    return tasks
