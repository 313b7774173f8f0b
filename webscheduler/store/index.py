# SPDX-License-Identifier: LGPL-3.0-or-later
"""The file `index`: what a request must know about tasks and settings, in a form that is read without parsing.

It is made from other files; without a valid one everything works, only slower. Its header has inode, size, mtime and
ctime of the files that it was made from. Then there is a line of fixed length for each task, sorted by slug and found
by bisection, so that a request costs the same for any number of tasks. A line says where the task's row is in
state.json, so that one row is read of it, and when the task is due next.

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
    from ..shapes import Callable, Sequence
    from .state import Written

NAME = "index"
SOURCES = ("state.json", "config.json", "capabilities.json")
FORMAT = b"webscheduler-index 4 " + __version__.encode()
FIRST_READ = 8192  # bytes
# The fields of a line, with their widths; none is empty or has a blank but the last. Flags are letters, or `-`.
COLUMNS = (("slug", 32), ("signature", 64), ("status", 64), ("secret", 64), ("kind", 6), ("flags", 4), ("interval", 9),
           ("timeout", 9), ("strategy", 8), ("place", 12), ("size", 8), ("since", 20), ("due", 20), ("next", 29),
           ("digest", 32), ("old signature", 64), ("old status", 64), ("old secret", 64), ("old since", 20),
           ("old until", 20), ("name", 100))
LINE = sum(width + 1 for _, width in COLUMNS)
FLAGS = "EOPU"  # enabled, may overlap, of a probe, unusual
NO_KEY = "-" * 64  # in place of a missing secret or signature: no signature is equal to it
NO_OLD = (NO_KEY, NO_KEY, NO_KEY, 0.0, 0.0)


class Known:
    """What a request must know about a task.

    secret: or NO_KEY; signature, status: the signatures that run it and that ask for its status, if the view is
    `signed`; kind: static, timed or either; interval, timeout: seconds (timeout -1: as in the settings); unusual: a
    line of the index cannot describe it; problem: what is wrong with its row, or empty; old: (signature, status,
    secret) of the secret before this one, and since when and until when it is valid, Unix seconds.
    Of a line of the index, besides: place, size: where its row is in state.json, bytes (size 0: not known); since, due:
    Unix seconds, from the one until the other the task is due next at `due`, which `next` is as text (`-`: never).
    """

    __slots__ = ("allowlist", "due", "enabled", "interval", "kind", "name", "next", "old", "overlaps", "place",
                 "probe", "problem", "secret", "signature", "since", "size", "slug", "status", "strategy", "timeout",
                 "unusual")

    def __init__(self, name: str, slug: str, secret: str) -> None:
        self.name, self.slug, self.secret, self.signature, self.status = name, slug, secret, NO_KEY, NO_KEY
        self.kind, self.strategy, self.problem, self.next = "static", "auto", "", "-"
        self.enabled = self.overlaps = self.probe = self.unusual = False
        self.interval, self.timeout, self.place, self.size, self.since, self.due = 0, -1, 0, 0, 0.0, 0.0
        self.allowlist: Sequence[str] = ()
        self.old: tuple[str, str, str, float, float] = NO_OLD


class Index:
    """A valid index.

    idle: (since, until), Unix seconds, between which no task is due; signed: it has the expected signatures; window,
    proxies, timeout: of the settings; kinds: by kind of server, (Unix seconds until when that is valid, text of
    `capabilities.pack`). written: what `state.update_row` has changed since.
    """

    def __init__(self, home: str, read: Callable[[int, int], bytes], head: int, words: list[str]) -> None:
        self._home, self._read, self.head, self.count = home, read, head, int(words[2])
        self.sources, self.values = words[5:8], words[8:-1]
        since, until = words[8].split()
        self.idle = float(since), float(until)
        self.window, self.timeout, self.proxies = int(words[9]), int(words[10]), words[11].split()[1:]
        self.kinds: dict[str, tuple[float, str]] = {}
        self.written: Written | None = None

        for word in self.values[4:]:
            kind, until, packed = word.split(" ", 2)
            self.kinds[kind] = (float(until), packed)

    signed = True

    def find(self, slug: str) -> Known | None:
        """The task with that slug (32 characters). It takes the same reads whether the slug exists or not."""
        line = self._read(self.head + self.place(slug), LINE)
        return known(line) if line.startswith(slug.encode("ascii")) else None

    def place(self, slug: str) -> int:
        """Where among the lines that of the slug is, bytes; else where it would be, or the last one."""
        key, low, high = slug.encode("ascii"), 0, self.count

        for _ in range(self.count.bit_length()):
            middle = min((low + high) // 2, self.count - 1)
            below = self._read(self.head + middle * LINE, 32) < key and low < high
            low, high = (middle + 1, high) if below else (low, middle)

        return max(0, min(low, self.count - 1)) * LINE

    def row(self, known: Known) -> bytes | None:
        """The task's row of state.json, as `"NAME": {...}`; None if that is not known, or not valid any more."""
        if not known.size:
            return None

        try:
            descriptor = os.open(f"{self._home}/{SOURCES[0]}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

        try:
            valid = identity(os.fstat(descriptor)) == self.sources[0]
            return os.pread(descriptor, known.size, known.place) if valid else None
        except OSError:
            return None
        finally:
            close(descriptor)

    def lines(self) -> bytes:
        """All lines."""
        return self._read(self.head, self.count * LINE)

    def is_current(self) -> bool:
        """Whether the files that it was made from are unchanged."""
        return identities(self._home) == self.sources


def known(line: bytes) -> Known:
    """The task that a line of the index describes."""
    (slug, signature, status, secret, kind, flags, interval, timeout, strategy, place, size, since, due, coming, _,
     *old, old_since, old_until, name) = line.decode().split(None, len(COLUMNS) - 1)
    found = Known(name.rstrip(), slug, secret)
    found.signature, found.status = signature, status
    found.kind, found.strategy, found.interval, found.timeout = kind, strategy, int(interval), int(timeout)
    found.enabled, found.overlaps, found.probe, found.unusual = [flag in flags for flag in FLAGS]
    found.place, found.size = int(place), int(size)
    found.since, found.due, found.next = float(since), float(due), coming
    found.old = (old[0], old[1], old[2], float(old_since), float(old_until))
    return found


def open_index(home: str, whole: bool = False, current: bool = True) -> Index | None:
    """The index of the installation, if there is a valid one. whole: read it at once, for a process that keeps it; else
    it stays open and parts are read when needed. current: false to get one of this boot whose sources may have changed
    since."""
    try:
        descriptor = os.open(f"{home}/{NAME}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None

    keep = False

    try:
        data = os.pread(descriptor, FIRST_READ, 0)
        words = data.split(b"\n", 5)
        count, head, size = int(words[2]), int(words[3]), int(words[4])

        if (words[0] != FORMAT or not words[1] or words[1].decode() != boot() or size != head + count * LINE
                or os.fstat(descriptor).st_size != size):
            return None

        # All of a small one is at hand; of another, each line is read, so that the slug's place makes no difference.
        keep = len(data) < size and not whole

        if len(data) < size:
            data = os.pread(descriptor, head if keep else size, 0)

        found = Index(home, _from(descriptor) if keep else _from(data), head, data[:head].decode("ascii").split("\n"))

        if current and found.sources != identities(home):
            keep = False
            return None

        return found
    except (OSError, ValueError, IndexError):
        return None  # damaged, or of another format
    finally:
        if not keep:
            close(descriptor)


def _from(source: int | bytes) -> Callable[[int, int], bytes]:
    """A function that reads (start, size) of a file or of its content."""
    if isinstance(source, int):
        return lambda start, size: os.pread(source, size, start)

    return lambda start, size: source[start : start + size]


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
