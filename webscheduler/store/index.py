"""`index`: what a request must know of state.json and the settings, in a form that is read without parsing.

It is derived; deleting it is always safe, and one that is missing, torn or foreign costs time only. A header names the
files that it was made from, by inode, size, mtime and ctime; then comes a line of one length for each task, sorted by
slug, which is found by bisection. So a request costs the same whatever the number of tasks.

The rules:
- It is believed only while each of those files is what the header says, asked by fstat of files opened for it (NFS
  caches stat), and asked again under the gate. The header has the index's own length, since a file cut at the end of a
  line must refuse no valid URL; and the boot, since what was never synced may be zeros after a power cut.
- An edit in place within one tick of the file system's clock changes neither size nor times. `indexing`, which writes
  it, says how such an edit is never missed.
- A task that a line cannot describe is marked as unusual; for it, state.json is read once the signature is valid.
"""

from __future__ import annotations

import os

from ..version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

NAME = "index"
SOURCES = ("state.json", "config.json", "capabilities.json")
FORMAT = f"webscheduler-index 1 {__version__}"
HEADER = 4096
# A line: what is in it, and how wide. Flags are a letter each, or a blank.
COLUMNS = (("slug", 32), ("signature", 64), ("status", 64), ("secret", 64), ("kind", 6), ("flags", 4), ("interval", 9),
           ("timeout", 9), ("strategy", 5), ("name", 100))
LINE = sum(width for _, width in COLUMNS) + 1
FLAGS = "EOPU"  # enabled, overlaps, a task of a probe, unusual
NOBODY = "-" * 64  # stands where no secret is: no signature is equal to it


class Known:
    """What a request needs of the task that its slug names. secret: or NOBODY; signature, status: what a request has to
    bring to run it, and to ask how it is, where the view is `signed`; kind: static, timed or either; interval, timeout:
    seconds (timeout -1: as in the settings). unusual: a line cannot say all; problem: the row breaks a rule, in words.
    """

    __slots__ = ("allowlist", "enabled", "interval", "kind", "name", "overlaps", "probe", "problem", "secret",
                 "signature", "slug", "status", "strategy", "timeout", "unusual")

    def __init__(self, name: str, slug: str, secret: str) -> None:
        self.name, self.slug, self.secret, self.signature, self.status = name, slug, secret, NOBODY, NOBODY
        self.kind, self.strategy, self.problem = "static", "auto", ""
        self.enabled = self.overlaps = self.probe = self.unusual = False
        self.interval, self.timeout = 0, -1
        self.allowlist: Sequence[str] = ()


class Index:
    """An index that is believed. signed: it has the signatures that are expected; window: of timed signatures, seconds;
    proxies: those that are trusted; timeout: where a task names none; kinds: kind of server ->
    (Unix seconds until when it is so, what `capabilities.pack` made)."""

    __slots__ = ("_count", "_home", "_read", "kinds", "proxies", "sources", "timeout", "values", "window")

    def __init__(
        self, home: str, read: Callable[[int, int], bytes], count: int, sources: list[str], values: list[str]
    ) -> None:
        self._home, self._read, self._count, self.sources, self.values = home, read, count, sources, values
        self.window, self.timeout, self.proxies = int(values[0]), int(values[1]), values[2].split()[1:]
        self.kinds: dict[str, tuple[float, str]] = {}

        for value in values[3:]:
            kind, until, packed = value.split(" ", 2)
            self.kinds[kind] = (float(until), packed)

    signed = True

    def find(self, slug: str) -> Known | None:
        """The task of that slug (32 characters). Each slug costs the same reads, known or not."""
        key, low, high = slug.encode("ascii"), 0, self._count
        steps = self._count.bit_length()

        for _ in range(steps):
            middle = min((low + high) // 2, self._count - 1)
            below = self._read(HEADER + middle * LINE, 32) < key and low < high
            low, high = (middle + 1, high) if below else (low, middle)

        line = self._read(HEADER + min(low, self._count - 1) * LINE, LINE) if self._count else b""
        return known(line.decode()) if line.startswith(key) else None

    def in_full(self, known: Known) -> Known:
        """All that is to be known of a task, if it is not unusual."""
        return known

    def body(self) -> bytes:
        """All lines."""
        return self._read(HEADER, self._count * LINE)

    def still(self) -> bool:
        """Whether the files that it was made from are what they were."""
        return identities(self._home) == self.sources


def known(line: str) -> Known:
    """What a line of an index says."""
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
    """The line of an index for a task; one that it cannot describe is marked as unusual."""
    plain = entry.name.isascii() and len(entry.name) <= 100 and not entry.allowlist and not entry.unusual
    holds = (entry.enabled, entry.overlaps, entry.probe, not plain)
    flags = "".join(flag for flag, held in zip(FLAGS, holds) if held)
    values = (entry.slug, entry.signature, entry.status, entry.secret, entry.kind, flags, str(entry.interval),
              str(entry.timeout), entry.strategy, entry.name if plain else "?")
    return "".join(value.ljust(width) for value, (_, width) in zip(values, COLUMNS)).encode("ascii") + b"\n"


def open_index(home: str, whole: bool = False) -> Index | None:
    """The index of the installation, if there is one that is to be believed. whole: it is read at once, for a process
    that keeps it; else it stays open and is read where needed, for one that answers a request and ends."""
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
        return None  # torn, or of another time
    finally:
        if not keep:
            os.close(descriptor)


def identity(status: os.stat_result) -> str:
    """What changes whenever a file is replaced, or edited in another tick of the file system's clock."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def identities(home: str) -> list[str]:
    """Those of SOURCES, in their order; `-` for a file that is not there for us."""
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
            os.close(descriptor)

    return found


def boot() -> str:
    """The id of this boot of the machine (random(4)); empty where /proc does not say."""
    try:
        descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""

    try:
        return os.read(descriptor, 64).decode().strip()
    finally:
        os.close(descriptor)
