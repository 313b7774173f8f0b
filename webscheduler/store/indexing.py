"""Writes `index`, and makes what it holds of tasks: the one place that says what a request must know of a task.

The rules: it is written under state.json.lock, by those who changed state.json and by supervisors at their end, never
by refusals or readers. Files are read for it only once their identities have been seen to be the same SETTLE seconds
apart: an edit within the same tick of the file system's clock, which changes no identity, is over by then, and any
later one has another time.
"""

from __future__ import annotations

import os
import time

from .. import signing
from ..errors import BadInput, WebschedulerError
from . import capabilities, state
from .files import replace_file
from .index import (
    FORMAT,
    HEADER,
    LINE,
    NAME,
    NOBODY,
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

SETTLE = 0.02  # seconds; the clocks of file systems tick every 10 ms at the slowest
SETTLE_WHOLE = 1.1  # the same where times are whole seconds (ext4 with inodes of 128 bytes)


def known_of(name: str, row: Any) -> Known | None:
    """What a request must know of a task, by its row of state.json; None for a row that no slug names. One that breaks
    a rule is unusual, and says so when it is asked for in full."""
    slug = row.get("slug") if isinstance(row, dict) else None

    if not isinstance(slug, str) or len(slug) != 32 or not signing.HEX.issuperset(slug):
        return None

    secret = row.get("secret")

    if not isinstance(secret, str) or len(secret) != 64 or not signing.HEX.issuperset(secret):
        secret = NOBODY

    found = Known(name, slug, secret)

    try:
        task = load_task(name, row)
    except BadInput as error:
        found.problem, found.unusual = str(error), True
        return found

    return limits_of(task, found)


def limits_of(task: Task, found: Known | None = None) -> Known:
    """What decides about a run of the task, noted in `found`."""
    found = found or Known(task.name, "", NOBODY)
    found.kind, found.enabled, found.overlaps = task["signature"], task["enabled"], not task["preventOverlap"]
    found.interval, found.strategy, found.allowlist = task["minIntervalSeconds"], task["strategy"], task["ipAllowlist"]
    found.timeout = -1 if task["timeout"] is None else task["timeout"]
    found.probe = task["group"] == capabilities.PROBE
    return found


def refresh(home: str, unchanged: Index | None = None) -> bool:
    """Write the index anew where it is not what the files say; whether it is good now. Takes SETTLE seconds at least.
    Never raises for what is foreseen: without an index everything works, slower.

    unchanged: one that was believed just before a run was noted in state.json, by whoever did that: its lines stay.
    """
    try:
        if open_index(home):
            return True

        seen = identities(home)

        if seen[0] == "-" or not boot():
            return False

        whole = any(entry.split()[-1].endswith("0" * 9) for entry in seen if entry != "-")
        time.sleep(SETTLE_WHOLE if whole else SETTLE)

        lock = state.take_lock(home, 1.0)

        try:
            if identities(home) != seen:
                return False  # whoever changed it refreshes it

            content = _content(home, seen, unchanged)

            if content is None or identities(home) != seen:
                return False

            replace_file(f"{home}/{NAME}", content, sync="none")
        finally:
            os.close(lock)
    except (WebschedulerError, OSError):
        return False

    return True


def _content(home: str, seen: list[str], unchanged: Index | None) -> list[bytes] | None:
    if unchanged and unchanged.sources[1:] == seen[1:]:
        body = unchanged.body()
        values = unchanged.values
    else:
        settings, now = load_settings(home), time.time()
        found = {}

        for name, row in state.read_strictly(home).items():
            entry = known_of(name, row)

            if entry and entry.secret != NOBODY:
                entry.signature = signing.sign(entry.secret, signing.run_message(entry.slug))
                entry.status = signing.sign(entry.secret, signing.status_message(entry.slug))

            if entry:
                found[entry.slug] = line(entry)  # of two with one slug the later counts

        body = b"".join(found[slug] for slug in sorted(found))
        values = [str(settings["signatureWindowSeconds"]), str(settings["defaultTimeout"]),
                  " ".join(("proxies", *settings["trustedProxies"]))]

        for kind in capabilities.kinds(home):
            packed = capabilities.pack(capabilities.expect(kind, capabilities.read(home, kind, now)))
            values.append(f"{kind} {capabilities.valid_until(home, kind, now)!r} {packed}")

    head = "\n".join([FORMAT, boot(), str(len(body) // LINE), str(HEADER + len(body)), *seen, *values]) + "\n"

    if len(head) > HEADER or not head.isascii():
        return None  # more proxies or servers than anybody has: it costs time only

    return [head.ljust(HEADER).encode("ascii"), body]
