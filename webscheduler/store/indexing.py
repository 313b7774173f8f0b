# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writes the file `index`, and says what a request must know about a task.

The rules: it is written under state.json.lock, after changes of state.json and by supervisors at their end, never by
refusals or readers. Its sources are read only once the file system's clock has ticked since their last changes: an
edit within the same tick, which changes no identity, is over by then, and a later edit has another time.
"""

from __future__ import annotations

import os
import time

from .. import signing
from ..errors import BadInput, WebschedulerError
from ..vocabulary import PROBE
from . import capabilities, state
from .files import close, replace_file
from .index import FORMAT, HEADER, LINE, NAME, NO_KEY, Index, Known, boot, identities, line, open_index
from .settings import load_settings
from .task import load_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .task import Task

    Idle = tuple[list[str], tuple[float, float]]

SECOND = 10**9  # nanoseconds
PATIENCE = 1.1  # seconds in which the clock of any file system ticks
PAUSE = 0.001  # seconds; most tick every 1 to 10 ms
FAR_AHEAD = 2.0  # seconds


def known_of(name: str, row: Any) -> Known | None:
    """What a request must know about a task, from its row of state.json; None for a row without a slug. A row that
    breaks a rule makes an unusual task with a problem."""
    slug = row.get("slug") if isinstance(row, dict) else None

    if not isinstance(slug, str) or len(slug) != 32 or not signing.HEX.issuperset(slug):
        return None

    secret = row.get("secret")

    if not isinstance(secret, str) or len(secret) != 64 or not signing.HEX.issuperset(secret):
        secret = NO_KEY

    found = Known(name, slug, secret)
    # Compared with the request before it comes out that the row breaks a rule.
    found.kind = row["signature"] if row.get("signature") in ("timed", "either") else found.kind

    try:
        task = load_task(name, row)
    except BadInput as error:
        found.problem, found.unusual = str(error), True
        return found

    return limits_of(task, found)


def limits_of(task: Task, found: Known | None = None) -> Known:
    """`found`, or a new one, with what decides whether and how the task runs."""
    found = found or Known(task.name, "", NO_KEY)
    found.kind, found.enabled, found.overlaps = task["signature"], task["enabled"], not task["preventOverlap"]
    found.interval, found.strategy, found.allowlist = task["minIntervalSeconds"], task["strategy"], task["ipAllowlist"]
    found.timeout = -1 if task["timeout"] is None else task["timeout"]
    found.probe = task["group"] == PROBE
    return found


def refresh(
    home: str, unchanged: Index | None = None, patience: float = PATIENCE, idle: Idle | None = None
) -> bool:
    """Write the index, unless it is valid, after a tick of the file system's clock. Returns whether it is valid now.
    Raises nothing that is foreseen: without an index everything works, only slower.

    unchanged: the index that was valid before a run was written into state.json; its lines are still true.
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

            content = _content(home, seen, unchanged, idle)

            if content is None or identities(home) != seen:
                return False

            replace_file(f"{home}/{NAME}", content, sync="none")
        finally:
            close(lock)
    except (WebschedulerError, OSError):
        return False

    return True


def _clock_passes(home: str, seen: list[str], patience: float) -> bool:
    """Wait until the clock of the file system, read as the ctime of a file that was changed just now, is past those
    that were seen: then no later edit gets one of them. Returns whether it is, for it may take longer than `patience`.
    """
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


def _hash(home: str) -> int:
    with open(state.path(home), "rb") as file:
        return hash(file.read())


def _content(home: str, seen: list[str], unchanged: Index | None, idle: Idle | None) -> list[bytes] | None:
    no_task_due = (0.0, 0.0)

    if unchanged and unchanged.sources[1:] == seen[1:] and _hash(home) == unchanged.content:
        body = unchanged.body()
        values = unchanged.values[1:]

        # Only the row of @due is another than when the tick began, and that is never due.
        if idle and idle[0] == unchanged.sources:
            no_task_due = idle[1]
    else:
        settings, now = load_settings(home), time.time()
        found = {}

        for name, row in state.read_strictly(home).items():
            entry = known_of(name, row)

            if entry and entry.secret != NO_KEY:
                entry.signature = signing.sign(entry.secret, signing.run_message(entry.slug))
                entry.status = signing.sign(entry.secret, signing.status_message(entry.slug))

            if entry:
                found[entry.slug] = line(entry)  # of two tasks with the same slug, the later one counts

        body = b"".join(found[slug] for slug in sorted(found))
        values = [str(settings["signatureWindowSeconds"]), str(settings["defaultTimeout"]),
                  " ".join(("proxies", *settings["trustedProxies"]))]

        for kind in capabilities.kinds(home):
            packed = capabilities.pack(capabilities.expect(kind, capabilities.read(home, kind, now)))
            values.append(f"{kind} {capabilities.valid_until(home, kind, now)!r} {packed}")

    values = ["{!r} {!r}".format(*no_task_due), *values]
    head = "\n".join([FORMAT, boot(), str(len(body) // LINE), str(HEADER + len(body)), *seen, *values]) + "\n"

    if len(head) > HEADER or not head.isascii():
        return None  # more proxies or kinds of servers than anybody has: everything works, only slower

    return [head.ljust(HEADER).encode("ascii"), body]
