# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writes the file `index`, and says what a request must know about a task.

The rules: it is written under state.json.lock, after changes of state.json and by supervisors at their end, never by
refusals or readers. Its sources are read only after their identities were the same for CLOCK_TICK seconds. An edit
within the same tick of the file system's clock, which changes no identity, is over by then, and a later edit has
another time.
"""

from __future__ import annotations

import time

from .. import signing
from ..errors import BadInput, WebschedulerError
from . import capabilities, state
from .files import close, replace_file
from .index import (
    FORMAT,
    HEADER,
    LINE,
    NAME,
    NO_KEY,
    Index,
    Known,
    boot,
    identities,
    line,
    open_index,
)
from .settings import load_settings
from .task import load_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .task import Task

CLOCK_TICK = 0.02  # seconds; the clocks of file systems tick every 10 ms at the slowest
CLOCK_TICK_OF_SECONDS = 1.1  # the same if times are whole seconds (ext4 with inodes of 128 bytes)


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
    found.probe = task["group"] == capabilities.PROBE
    return found


def refresh(home: str, unchanged: Index | None = None, patience: float = CLOCK_TICK_OF_SECONDS) -> bool:
    """Write the index, unless it is valid. Returns whether it is valid now. Takes at least CLOCK_TICK seconds. Raises
    nothing that is foreseen: without an index everything works, only slower.

    unchanged: the index that was valid before a run was written into state.json; its lines are still true.
    patience: seconds to wait at most, once for the clock of the file system and once for the lock.
    """
    try:
        if open_index(home, whole=True):  # which leaves no file open
            return True

        seen = identities(home)

        if seen[0] == "-" or not boot():
            return False

        whole = any(entry.split()[-1].endswith("0" * 9) for entry in seen if entry != "-")
        tick = CLOCK_TICK_OF_SECONDS if whole else CLOCK_TICK

        if tick > patience:
            return False

        time.sleep(tick)
        lock = state.take_lock(home, patience)

        try:
            if identities(home) != seen:
                return False  # whoever has changed them writes the index

            content = _content(home, seen, unchanged)

            if content is None or identities(home) != seen:
                return False

            replace_file(f"{home}/{NAME}", content, sync="none")
        finally:
            close(lock)
    except (WebschedulerError, OSError):
        return False

    return True


def _hash(home: str) -> int:
    with open(state.path(home), "rb") as file:
        return hash(file.read())


def _content(home: str, seen: list[str], unchanged: Index | None) -> list[bytes] | None:
    if unchanged and unchanged.sources[1:] == seen[1:] and _hash(home) == unchanged.content:
        body = unchanged.body()
        values = unchanged.values
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

    head = "\n".join([FORMAT, boot(), str(len(body) // LINE), str(HEADER + len(body)), *seen, *values]) + "\n"

    if len(head) > HEADER or not head.isascii():
        return None  # more proxies or kinds of servers than anybody has: everything works, only slower

    return [head.ljust(HEADER).encode("ascii"), body]
