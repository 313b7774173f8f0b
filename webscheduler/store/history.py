"""History: what became of each run, one JSON object a line, in logs/NAME.jsonl.

The rules: an append locks the file, makes sure that it is still the one that the name means (clean-up replaces it),
cuts off a tail that a kill tore, writes one line and syncs. Readers take no lock, go from the end, skip what does not
parse, and find an instant by halving, for lines are in the order of their ends. What a run printed is kept up to LIMIT
bytes a stream, head and tail, whatever it printed.
Besides, refused.json: the last refusals of requests without a valid signature, rewritten at most once a minute, so
that a mangled paste leaves a trace and nobody fills the disk.
"""

from __future__ import annotations

import errno
import json
import os
import time
from itertools import dropwhile, islice

from ..errors import Unusable
from ..times import instant
from .files import append_bytes, is_same_file, replace_file
from .task import file_name

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment,unused-ignore]
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO, Callable

    from ..shapes import Entry
LIMIT = 65536
HALF_IN_JSON = 48 * 1024  # four halves and the rest of a line stay below 200 KiB, whatever the bytes
ALWAYS = float("inf")
PATIENCE = 30.0  # seconds: clean-up of a large file may take some


def path(home: str, name: str) -> str:
    """Where the history of the task is."""
    return os.path.join(home, "logs", file_name(name) + ".jsonl")


def append(home: str, name: str, entry: Entry) -> None:
    """Add one line. Raises Unusable when it cannot be written; then it is not there at all."""
    data = json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    try:
        descriptor = _open_locked(path(home, name))

        try:
            os.ftruncate(descriptor, whole_end(descriptor))
            append_bytes(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unusable(f"{path(home, name)} cannot be written: {error.strerror}")


def _open_locked(file: str) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

        try:
            _lock(descriptor)

            if is_same_file(descriptor, file):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise

        os.close(descriptor)  # replaced while we waited: what we would write were lost


def _lock(descriptor: int) -> None:
    """Wait for the lock, but not for ever: its holder may be stopped. Raises OSError."""
    assert fcntl  # without it nothing gets as far as here
    deadline = time.monotonic() + PATIENCE

    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EWOULDBLOCK, "another process keeps it locked")

        time.sleep(0.002)


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


def lines(home: str, name: str, until: float = ALWAYS) -> Iterator[bytes]:
    """Whole lines of the task's history, newest first, without reading more of the file than is asked for: of runs that
    ended by `until` (Unix seconds). Raises Unusable."""
    inode, end = 0, 1
    rest = last = b""  # the end of a line whose beginning is still to be found, and the line that was told last

    while end:
        # Opened for each part anew: a host may allow fewer open files than there are tasks whose histories are merged.
        try:
            # `_offset` reads a line here and there: not with the 128 KiB each that Python 3.14 buffers.
            file = open(path(home, name), "rb", 8192)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unusable(f"{path(home, name)} cannot be read ({error.strerror}): `webscheduler doctor` says more")

        with file:
            before, inode = inode, os.fstat(file.fileno()).st_ino

            if not before:
                end = whole_end(file.fileno())
                end = _offset(file, end, until) if until < ALWAYS else end
            elif inode != before:  # clean-up has replaced it
                again = lines(home, name, ended(parse(last) or {}) or until)
                yield from islice(dropwhile(last.__ne__, again), 1, None) if last else again
                return

            start = max(0, end - 65536)
            file.seek(start)
            first, *others = (file.read(end - start) + rest).split(b"\n")

        for last in filter(None, reversed(others)):
            yield last

        end, rest = start, first

    if rest:
        yield rest


def _offset(file: BinaryIO, end: int, until: float) -> int:
    """Where, up to `end`, the lines end of the runs that ended by `until`."""
    low, high = 0, end

    while low < high:  # lines before `low` ended by then; none from `high` on did
        middle = (low + high) // 2
        file.seek(max(0, middle - 1))
        start = middle and middle - 1 + len(file.readline())
        moment = 0.0

        while start < high and not moment:  # a line that tells no time is passed over
            text = file.readline()
            moment, start = ended(parse(text) or {}), start + (len(text) or high)

        low, high = (start, high) if 0.0 < moment <= until else (low, middle)

    return low


def parse(text: bytes) -> dict[str, Any] | None:
    """The entry that a line holds; None for what is no line of ours."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None

    return entry if isinstance(entry, dict) else None


def ended(entry: dict[str, Any]) -> float:
    """When the run ended, or at least began, Unix seconds; 0 if that cannot be read."""
    return instant(entry.get("finishedAt") or entry.get("startedAt"))


def entries(home: str, name: str, until: float = ALWAYS) -> Iterator[dict[str, Any]]:
    """The task's history, newest first, of runs that ended by then; lines that do not parse are skipped."""
    return (entry for text in lines(home, name, until) if (entry := parse(text)) is not None)


def find(home: str, name: str, run: str, until: float = ALWAYS) -> dict[str, Any] | None:
    """The record of that run, if a whole line is; it is looked for as in `lines`."""
    needle = json.dumps(run).encode()

    for text in lines(home, name, until):
        entry = parse(text) if needle in text else None  # parsing is a hundred times slower than looking

        if entry and entry.get("run") == run:
            return entry

    return None


def clean(home: str, name: str, keep: Callable[[dict[str, Any]], bool]) -> int:
    """Drop the entries that are not to be kept, and what does not parse; how many lines went. Appenders wait, and then
    append to the new file."""
    file = path(home, name)

    if not os.path.exists(file):
        return 0

    descriptor = _open_locked(file)

    try:
        with open(file, "rb") as source:
            dropped = sum(not _survives(text, keep) for text in source)
            source.seek(0)

            if dropped:
                replace_file(file, (text for text in source if _survives(text, keep)))
    finally:
        os.close(descriptor)

    return dropped


def _survives(text: bytes, keep: Callable[[dict[str, Any]], bool]) -> bool:
    entry = parse(text)
    return text.endswith(b"\n") and entry is not None and keep(entry)


def clip(head: bytes, tail: bytes, dropped: int) -> str:
    """What is kept of a stream as text: undecodable bytes escaped, and a line that says how many bytes went between."""
    if not dropped:
        return _text(head + tail, 2 * HALF_IN_JSON)

    return f"{_text(head, HALF_IN_JSON)}\n... [truncated] {dropped} bytes ...\n{_text(tail, HALF_IN_JSON)}"


def _text(data: bytes, most: int) -> str:
    text = data.decode("utf-8", "backslashreplace")

    # A stream of control characters grows sixfold in JSON; a line of history is to stay bounded all the same.
    while len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace")) > most:
        text = text[: len(text) // 4] + "\n... [truncated] unprintable ...\n" + text[-len(text) // 4:]

    return text
