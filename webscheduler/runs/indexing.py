# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writes the file `index`.

The rules: it is written under state.json.lock, after changes of state.json and by supervisors at their end, never by
refusals or readers. Its sources are read only once the file system's clock has ticked since their last changes: an
edit within the same tick, which changes no identity, is over by then, and a later edit has another time.
"""

from __future__ import annotations

import os
import time

from .. import signing
from ..errors import BadInput, WebschedulerError
from ..schedule import slots
from ..store import capabilities, state
from ..store.files import close, replace_file
from ..store.index import COLUMNS, FLAGS, FORMAT, LINE, NAME, NO_KEY, NO_OLD, Index, Known, boot, identities, open_index
from ..store.lookup import known_of
from ..store.settings import Settings, load_settings
from ..store.task import load_task
from ..times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


    Idle = tuple[list[str], tuple[float, float]]

PLACE, DIGEST = (sum(width + 1 for _, width in COLUMNS[: [name for name, _ in COLUMNS].index(column)])
                 for column in ("place", "digest"))
SECOND = 10**9  # nanoseconds
PATIENCE = 1.1  # seconds in which the clock of any file system ticks
PAUSE = 0.001  # seconds; most tick every 1 to 10 ms
FAR_AHEAD = 2.0  # seconds


def refresh(home: str, before: Index | None = None, patience: float = PATIENCE, idle: Idle | None = None) -> bool:
    """Write the index, unless it is valid, after a tick of the file system's clock. Returns whether it is valid now.
    Raises nothing that is foreseen: without an index everything works, only slower.

    before: the index that was valid before a run was written into state.json; other tasks' lines are still true.
    patience: seconds to wait at most, once for the clock of the file system and once for the lock.
    idle: when no task is due, as a tick found it (`Index.idle`), and the sources of the index that was valid then.
    """
    try:
        if open_index(home, whole=True):  # which leaves no file open
            return True

        seen = identities(home)

        if seen[0] == "-" or not boot():
            return False

        if not _clock_passes(home, seen, patience):
            return False

        lock = state.take_lock(home, patience)

        try:
            if identities(home) != seen:
                return False  # whoever has changed them writes the index

            content = _content(home, seen, before, idle)

            if identities(home) != seen:
                return False

            replace_file(f"{home}/{NAME}", content, sync="none")
        finally:
            close(lock)
    except (WebschedulerError, OSError):
        return False

    return True


def _clock_passes(home: str, seen: list[str], patience: float) -> bool:
    """Wait until the clock of the file system, read as the ctime of a file that was changed just now, is past those
    that were seen: then no later edit gets one of them. Returns whether it is."""
    times = [int(entry.split()[-1]) for entry in seen if entry != "-"]
    other = max(at + (1 if at % SECOND else SECOND) for at in times)  # ext4 with inodes of 128 bytes has whole seconds
    deadline = time.monotonic() + patience
    descriptor = os.open(f"{state.path(home)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    try:
        while True:
            os.utime(descriptor)
            left = (other - os.fstat(descriptor).st_ctime_ns) / SECOND

            # Where it is far ahead, the clock was set back since, and takes as long to get there again.
            if left <= 0 or left > FAR_AHEAD:
                return True

            if left > deadline - time.monotonic():
                return False

            time.sleep(PAUSE)
    finally:
        close(descriptor)


def _content(home: str, seen: list[str], before: Index | None, idle: Idle | None = None) -> list[bytes]:
    with open(state.path(home), "rb") as file:
        content = file.read()

    settings = load_settings(home)
    written = before.written if before and before.sources[1:] == seen[1:] else None
    no_task_due = (0.0, 0.0)

    if before and written and written.content == hash(content):
        lines, values = _after_run(before, written, settings["timezone"]), before.values[1:]

        # Only the row of @due is another than when the tick began, and that is never due.
        if idle and idle[0] == before.sources:
            no_task_due = idle[1]
    else:
        lines, values = _lines(home, seen, content, settings["timezone"]), _values(settings)

    # The length of the header, which says itself how long it is, has a fixed width.
    rest = "\n".join(["", *seen, "{!r} {!r}".format(*no_task_due), *values, ""]).encode("ascii")
    words = [FORMAT, boot().encode(), b"%d" % (len(lines) // LINE)]
    head = sum(map(len, words)) + len(words) + 21 + len(rest)
    return [b"\n".join([*words, b"%010d" % head, b"%010d" % (head + len(lines))]), rest, lines]


def _values(settings: Settings) -> list[str]:
    """What the header says of settings and host."""
    home, now = settings.home, time.time()
    values = [str(settings["signatureWindowSeconds"]), str(settings["defaultTimeout"]),
              " ".join(("proxies", *settings["trustedProxies"]))]

    for kind in capabilities.kinds(home):
        packed = capabilities.pack(capabilities.expect(kind, capabilities.read(home, kind, now)))
        values.append(f"{kind} {capabilities.valid_until(home, kind, now)!r} {packed}")

    return values


def _lines(home: str, seen: list[str], content: bytes, zone: str) -> bytes:
    """The lines of all tasks. Those of rows that are byte for byte what they were are taken from the index that was."""
    from hashlib import blake2b

    tasks = state.parse(content, state.path(home))
    places = state.places(content, tasks)
    old = open_index(home, whole=True, current=False)
    lines = old.lines() if old and old.sources[1:] == seen[1:] else b""
    kept = {lines[at + DIGEST : at + DIGEST + 32].decode(): lines[at : at + LINE] for at in range(0, len(lines), LINE)}
    found = {}

    for number, (name, row) in enumerate(tasks.items()):
        place, size = places[number] if places else (0, 0)
        digest = blake2b(content[place : place + size], digest_size=16).hexdigest() if size else "-"
        was = kept.get(digest)

        if was:
            found[was[:32]] = _moved(was, place, size)
            continue

        entry = known_of(name, row)

        if entry:
            if entry.secret != NO_KEY:
                entry.signature, entry.status = _signatures(entry.slug, entry.secret)

            if entry.old != NO_OLD:
                entry.old = (*_signatures(entry.slug, entry.old[2]), *entry.old[2:])

            entry.place, entry.size = place, size
            found[entry.slug.encode()] = line(entry, row, zone, digest)  # of two with the same slug, the later counts

    return b"".join(found[slug] for slug in sorted(found))


def _signatures(slug: str, secret: str) -> tuple[str, str]:
    return signing.sign(secret, signing.run_message(slug)), signing.sign(secret, signing.status_message(slug))


def _after_run(before: Index, written: state.Written, zone: str) -> bytes:
    """The lines of `before`, as they are after a run has replaced its task's row."""
    lines, further = bytearray(before.lines()), written.new - written.size

    for at in range(0, len(lines) if further else 0, LINE):
        place = int(lines[at + PLACE : at + PLACE + 12])

        if place > written.place:
            lines[at + PLACE : at + PLACE + 12] = b"%-12d" % (place + further)

    slug = str(written.row.get("slug"))
    was, entry = before.find(slug), known_of(written.name, written.row)

    if was and entry and was.place == written.place:  # of two with the same slug, the later has the line
        at = before.place(slug)
        entry.signature, entry.status, entry.place, entry.size = was.signature, was.status, was.place, written.new
        entry.old = was.old if entry.old[2] == was.old[2] else NO_OLD  # its end may be past
        lines[at : at + LINE] = line(entry, written.row, zone, "-")

    return bytes(lines)


def _moved(line: bytes, place: int, size: int) -> bytes:
    return line[:PLACE] + b"%-12d %-8d" % (place, size) + line[PLACE + 21 :]


def line(entry: Known, row: dict[str, Any], zone: str, digest: str) -> bytes:
    """The line of the index for a task, of which `since`, `due` and `next` are found here. A task that a line cannot
    describe is marked as unusual."""
    try:
        entry.since, entry.due = slots.next_while(load_task(entry.name, row), zone, time.time())
        entry.next = format_time(entry.due) if 0 < entry.due < slots.NEVER else "-"
    except (BadInput, OverflowError, ValueError):
        entry.since, entry.due, entry.next = 0.0, 0.0, "-"

    values = [entry.slug, entry.signature, entry.status, entry.secret, entry.kind, "-", str(entry.interval),
              str(entry.timeout), entry.strategy, str(entry.place), str(entry.size), repr(entry.since),
              repr(entry.due), entry.next, digest, *entry.old[:3], *map(repr, entry.old[3:]), entry.name]
    plain = not entry.allowlist and not entry.unusual and entry.name.isascii() and entry.name.strip() and all(
        len(value) <= width for value, (_, width) in zip(values, COLUMNS)) and entry.name == entry.name.strip()

    if not plain:
        values[6:9], values[11:14], values[-1] = ["0", "-1", "auto"], ["0.0", "0.0", "-"], "?"

    holds = (entry.enabled, entry.overlaps, entry.probe, not plain)
    values[5] = "".join(flag for flag, held in zip(FLAGS, holds) if held) or "-"
    return " ".join(value.ljust(width) for value, (_, width) in zip(values, COLUMNS)).encode("ascii") + b"\n"
