# SPDX-License-Identifier: LGPL-3.0-or-later
"""The file `index`: what a request must know about tasks and settings, in a form that is read without parsing.

It is made from other files; deleting it is always safe, and without a valid one everything works, only slower. Its
header has inode, size, mtime and ctime of the files that it was made from. Then there is a line of fixed length for
each task, sorted by slug and found by bisection, so that a request costs the same for any number of tasks.

The rules:
- It is valid only while each of those files is what the header says: by fstat of files opened for that (NFS caches
  stat), and once more under the gate. The header has the length of the index, since one that is cut off at the end of a
  line must not refuse a valid URL; and the boot id, since after a power cut a file that was not synced may be zeros.
- An edit in place within one tick of the file system's clock changes neither size nor times. `indexing`, which writes
  the file, says how such an edit is noticed.
- A task that a line cannot describe is marked as unusual; for it, state.json is read once the signature is valid.
"""

from __future__ import annotations

import os

from .. import __version__
from . import close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

NAME = "index"
SOURCES = ("state.json", "config.json", "capabilities.json")
FORMAT = f"webscheduler-index 2 {__version__}"
HEADER = 4096  # bytes
# The fields of a line, with their widths. Each flag is a letter or missing.
COLUMNS = (("slug", 32), ("signature", 64), ("status", 64), ("secret", 64), ("kind", 6), ("flags", 4), ("interval", 9),
           ("timeout", 9), ("strategy", 8), ("name", 100))
LINE = sum(width for _, width in COLUMNS) + 1
FLAGS = "EOPU"  # enabled, may overlap, of a probe, unusual
NO_KEY = "-" * 64  # in place of a missing secret or signature: no signature is equal to it


class Known:
    """What a request must know about a task.

    secret: or NO_KEY; signature, status: the signatures that run it and that ask for its status, if the view is
    `signed`; kind: static, timed or either; interval, timeout: seconds (timeout -1: as in the settings); unusual: a
    line of the index cannot describe it; problem: what is wrong with its row, or empty.
    """

    __slots__ = ("allowlist", "enabled", "interval", "kind", "name", "overlaps", "probe", "problem", "secret",
                 "signature", "slug", "status", "strategy", "timeout", "unusual")

    def __init__(self, name: str, slug: str, secret: str) -> None:
        self.name, self.slug, self.secret, self.signature, self.status = name, slug, secret, NO_KEY, NO_KEY
        self.kind, self.strategy, self.problem = "static", "auto", ""
        self.enabled = self.overlaps = self.probe = self.unusual = False
        self.interval, self.timeout = 0, -1
        self.allowlist: Sequence[str] = ()


class Index:
    """A valid index.

    idle: (since, until), Unix seconds, between which no task is due; signed: it has the expected signatures; window:
    seconds that a timed signature may be off; proxies: those that are trusted; timeout: for a task without one; kinds:
    by kind of server, (Unix seconds until when that is valid, text of `capabilities.pack`).
    """

    __slots__ = ("_count", "_home", "_read", "content", "idle", "kinds", "proxies", "sources", "timeout", "values",
                 "window")

    def __init__(
        self, home: str, read: Callable[[int, int], bytes], count: int, sources: list[str], values: list[str]
    ) -> None:
        self._home, self._read, self._count, self.sources, self.values = home, read, count, sources, values
        self.content: int | None = None
        since, until = values[0].split()
        self.idle = float(since), float(until)
        self.window, self.timeout, self.proxies = int(values[1]), int(values[2]), values[3].split()[1:]
        self.kinds: dict[str, tuple[float, str]] = {}

        for value in values[4:]:
            kind, until, packed = value.split(" ", 2)
            self.kinds[kind] = (float(until), packed)

    signed = True

    def find(self, slug: str) -> Known | None:
        """The task with that slug (32 characters). It takes the same reads whether the slug exists or not."""
        key, low, high = slug.encode("ascii"), 0, self._count
        steps = self._count.bit_length()

        for _ in range(steps):
            middle = min((low + high) // 2, self._count - 1)
            below = self._read(HEADER + middle * LINE, 32) < key and low < high
            low, high = (middle + 1, high) if below else (low, middle)

        line = self._read(HEADER + min(low, self._count - 1) * LINE, LINE) if self._count else b""
        return known(line.decode()) if line.startswith(key) else None

    def in_full(self, known: Known) -> Known:
        """The task in full; it is already, unless it is unusual."""
        return known

    def body(self) -> bytes:
        """All lines."""
        return self._read(HEADER, self._count * LINE)

    def is_current(self) -> bool:
        """Whether the files that it was made from are unchanged."""
        return identities(self._home) == self.sources


def known(line: str) -> Known:
    """The task that a line of the index describes."""
    values, start = [], 0

    for _, width in COLUMNS:
        values.append(line[start : start + width].rstrip())
        start += width

    slug, signature, status, secret, kind, flags, interval, timeout, strategy, name = values
    found = Known(name, slug, secret)
    found.signature, found.status = signature, status
    found.kind, found.strategy, found.interval, found.timeout = kind, strategy, int(interval), int(timeout)
    found.enabled, found.overlaps, found.probe, found.unusual = (flag in flags for flag in FLAGS)
    return found


def line(entry: Known) -> bytes:
    """The line of the index for a task. A task that it cannot describe is marked as unusual."""
    values = [entry.slug, entry.signature, entry.status, entry.secret, entry.kind, "", str(entry.interval),
              str(entry.timeout), entry.strategy, entry.name]
    plain = not entry.allowlist and not entry.unusual and entry.name.isascii() and all(
        len(value) <= width for value, (_, width) in zip(values, COLUMNS))

    if not plain:
        values[6:] = ["0", "-1", "auto", "?"]

    holds = (entry.enabled, entry.overlaps, entry.probe, not plain)
    values[5] = "".join(flag for flag, held in zip(FLAGS, holds) if held)
    return "".join(value.ljust(width) for value, (_, width) in zip(values, COLUMNS)).encode("ascii") + b"\n"


def open_index(home: str, whole: bool = False) -> Index | None:
    """The index of the installation, if there is a valid one. whole: read it at once, for a process that keeps it; else
    it stays open and parts are read when needed, for a process that answers one request."""
    try:
        descriptor = os.open(f"{home}/{NAME}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None

    keep = False

    try:
        head = os.pread(descriptor, HEADER, 0)
        words = head.decode("ascii").rstrip().split("\n")
        count = int(words[2])

        if (words[0] != FORMAT or words[1] != boot() or not words[1] or len(head) != HEADER
                or words[3] != str(HEADER + count * LINE) or os.fstat(descriptor).st_size != HEADER + count * LINE
                or words[4:7] != identities(home)):
            return None

        if whole:
            data = os.pread(descriptor, HEADER + count * LINE, 0)
            found = Index(home, lambda start, size: data[start : start + size], count, words[4:7], words[7:])
        else:
            keep = True
            found = Index(home, lambda start, size: os.pread(descriptor, size, start), count, words[4:7], words[7:])

        return found
    except (OSError, ValueError, IndexError):
        return None  # damaged, or of another format
    finally:
        if not keep:
            close(descriptor)


def identity(status: os.stat_result) -> str:
    """A text that changes when a file is replaced, or edited in another tick of the file system's clock."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def identities(home: str) -> list[str]:
    """The identities of SOURCES, in this order; `-` for a file that is missing or that we may not read."""
    found = []

    for name in SOURCES:
        try:
            descriptor = os.open(f"{home}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            found.append("-")
            continue

        try:
            found.append(identity(os.fstat(descriptor)))
        finally:
            close(descriptor)

    return found


_boot: list[str] = []  # no process outlives it


def boot() -> str:
    """The id of this boot of the machine (random(4)); empty if /proc does not show it."""
    if _boot:
        return _boot[0]

    try:
        descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""

    try:
        _boot.append(os.read(descriptor, 64).decode().strip())
    finally:
        close(descriptor)

    return _boot[0]
