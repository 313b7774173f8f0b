# SPDX-License-Identifier: LGPL-3.0-or-later
"""History: what became of each run, one JSON object a line, in logs/NAME.jsonl.

The rules: an append locks the file, makes sure that it is still the one that the name means (clean-up replaces it),
cuts off a last line that a kill left incomplete, writes one line and syncs. How it is read: `history_reading`; how old
lines are removed: `history_cleaning`. What a run printed is kept up to LIMIT bytes a stream, its beginning and its end,
whatever it printed.
"""

from __future__ import annotations

import json
import os

from ..errors import Unusable
from ..times import instant
from ..vocabulary import ENTRY
from .files import append_bytes, close, file_name, open_locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..shapes import Entry, Iterable, Iterator


LIMIT = 65536
HALF_IN_JSON = 48 * 1024  # four halves and the rest of a line stay below 200 KiB, whatever the bytes
LONGEST_LINE = 4 * 1024 * 1024  # bytes; an imported history may have such lines, and a longer one is damage
PATIENCE = 30.0  # seconds for its lock: clean-up of a large file may take some, and who has it may be stopped


def path(home: str, name: str) -> str:
    """Where the history of the task is."""
    return os.path.join(home, "logs", file_name(name) + ".jsonl")


def entry(**known: Unpack[Entry]) -> Entry:
    """An entry with all keys of the format, in their order; keys that are not given have their default of ENTRY."""
    return {**ENTRY, **known}


def append(home: str, name: str, entry: Entry, otherwise: Iterable[Entry] = ()) -> Entry:
    """Add one line; returns what was written. otherwise: what to try, one after the other, if it cannot be written.
    Raises Unusable; then nothing of them is in the file, unless it can no longer be cut off. Its context is a
    BlockingIOError if another process keeps it locked."""
    try:
        descriptor = open_locked(path(home, name), PATIENCE)

        try:
            return _append_line(descriptor, entry, iter(otherwise))
        finally:
            close(descriptor)
    except OSError as error:
        raise Unusable(f"{path(home, name)} cannot be written: {error.strerror}")


def _append_line(descriptor: int, entry: Entry, otherwise: Iterator[Entry]) -> Entry:
    end = whole_end(descriptor)

    while True:
        try:
            os.ftruncate(descriptor, end)
            data = json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
            append_bytes(descriptor, data)
            os.fsync(descriptor)
            return entry
        except OSError:
            # A line that was not synced may be zeros later, so it counts as unwritten. If it cannot be cut off, its
            # reader may see it: nothing is tried any more, or there would be two.
            os.ftruncate(descriptor, end)
            following = next(otherwise, None)

            if following is None:
                raise

            entry = following


def whole_end(descriptor: int) -> int:
    """Where the last whole line of a file ends; what follows was torn by a kill, or is being written."""
    end = os.fstat(descriptor).st_size

    while end:
        start = max(0, end - 8192)
        cut = os.pread(descriptor, end - start, start).rfind(b"\n")

        if cut >= 0:
            return start + cut + 1

        end = start

    return 0


def parse(text: bytes) -> Entry | None:
    """The entry of a line; None if it is not one of ours."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None

    return entry if isinstance(entry, dict) else None  # type: ignore[return-value]


def ended(entry: Entry | None) -> float:
    """When the run ended, or else started, Unix seconds; 0 if the entry does not say it."""
    return instant(entry.get("finishedAt") or entry.get("startedAt")) if entry else 0.0


def clip(head: bytes, tail: bytes, dropped: int) -> str:
    """A stream as text: bytes that are not UTF-8 are escaped, and a line says how many bytes are left out."""
    if not dropped:
        return _text(head + tail, 2 * HALF_IN_JSON)

    kept = len(head) + len(tail)
    head, tail = head[:whole(head)], tail[begins(tail):]
    dropped += kept - len(head) - len(tail)
    return f"{_text(head, HALF_IN_JSON)}\n... [truncated] {dropped} bytes ...\n{_text(tail, HALF_IN_JSON)}"


def whole(data: bytes) -> int:
    """How many bytes are left without the beginning of a character of UTF-8 at the end (RFC 3629, 3): it would be shown
    as if the command had printed a wrong byte."""
    for back in range(1, min(3, len(data)) + 1):
        if data[-back] & 0xC0 != 0x80:
            length = 1 + sum(data[-back] >= first for first in (0xC0, 0xE0, 0xF0)) if data[-back] < 0xF8 else 1
            return len(data) - (back if back < length else 0)

    return len(data)


def begins(data: bytes) -> int:
    """Where the first character begins: before it there may be the rest of one that is cut off."""
    return next((at for at in range(min(3, len(data))) if data[at] & 0xC0 != 0x80), min(3, len(data)))


def _text(data: bytes, most: int) -> str:
    text = data.decode("utf-8", "backslashreplace")

    # Control characters take six times as much room in JSON, and a line must not become longer for them.
    while len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace")) > most:
        text = text[: len(text) // 4] + "\n... [truncated] unprintable ...\n" + text[-len(text) // 4:]

    return text
