"""History: what became of each run, one JSON object a line, in logs/NAME.jsonl.

The rules: an append locks the file, makes sure that it is still the one that the name means (clean-up replaces it),
cuts off a last line that a kill left incomplete, writes one line and syncs. Readers take no lock, go from the end, and
skip what does not parse. Lines are nearly always in the order of their ends, so readers find an instant by bisection;
what nobody may miss, like whether a run has its line already, is looked for in all of the file.
What a run printed is kept up to LIMIT bytes a stream, its beginning and its end, whatever it printed.
"""

from __future__ import annotations

import errno
import json
import os
import time
from itertools import dropwhile, islice

from ..errors import Unusable
from ..times import instant
from ..vocabulary import ENTRY
from .files import append_bytes, file_name, is_same_file, lock_file, replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO, Callable

    from typing_extensions import Unpack

    from ..shapes import Entry

LIMIT = 65536
HALF_IN_JSON = 48 * 1024  # four halves and the rest of a line stay below 200 KiB, whatever the bytes
LONGEST_LINE = 4 * 1024 * 1024  # of an imported history, perhaps; what is longer is damage, and is not kept in memory
BLOCK = 65536
NEAR = 1024 * 1024  # how far after its beginning a run's line is looked for before all is read: a day of skips
ALWAYS = float("inf")
PATIENCE = 30.0  # seconds: clean-up of a large file may take some
CLOCK_ERROR = 60.0  # seconds that a line may be ahead of the clock before a clock must have been wrong


def path(home: str, name: str) -> str:
    """Where the history of the task is."""
    return os.path.join(home, "logs", file_name(name) + ".jsonl")


def entry(**known: Unpack[Entry]) -> Entry:
    """An entry with all the keys of the format in their order; what is not known is as ENTRY has it."""
    return {**ENTRY, **known}


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
            # Not for ever: who has the lock may be stopped.
            if not lock_file(descriptor, PATIENCE):
                raise OSError(errno.EWOULDBLOCK, "another process keeps it locked")

            if is_same_file(descriptor, file):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise

        os.close(descriptor)  # replaced while we waited: what we would write were lost


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


def parse(text: bytes) -> Entry | None:
    """The entry that a line holds; None for what is no line of ours."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None

    return entry if isinstance(entry, dict) else None  # type: ignore[return-value]


def ended(entry: Entry | None) -> float:
    """When the run ended, or at least began, Unix seconds; 0 if that cannot be read."""
    return instant(entry.get("finishedAt") or entry.get("startedAt")) if entry else 0.0


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


def clean(home: str, name: str, keep: Callable[[Entry], bool]) -> int:
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


def _survives(text: bytes, keep: Callable[[Entry], bool]) -> bool:
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
