# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which timed signatures were used: for each task, by its slug, the highest `ts` that was accepted with each secret.

The rules: a mark is never lowered, so that nothing is accepted twice, whatever became of the clock, of the task's
name, or of state.json. It belongs to a slug and a secret: a task that was renamed keeps it, one that was removed leaves
it for a restored copy, and a new secret begins a new one. The caller holds the task's gate; one write of a fixed size
replaces what the file has. Of a file that is damaged, the time when it was written is the mark.
"""

from __future__ import annotations

import hashlib
import os

from .files import close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .index import Known

MOST = 8  # secrets
SIZE = 512  # bytes
DAMAGED = ""  # in place of a secret


def highest(home: str, slug: str | None, secret: str | None) -> int:
    """The highest `ts` that was accepted with that secret; -1 if none was."""
    marks = _read(home, slug) if slug and secret else {}
    return marks.get(_digest(secret), marks.get(DAMAGED, -1)) if secret else -1


def problem(home: str, known: Known, ts: int, window: int, before: int, now: float) -> str:
    """Why a timed signature must not be accepted, for its owner to read; empty if it may. window: seconds that it may
    be off; before: the highest `ts` that versions without marks noted for a task of this name."""
    mark = highest(home, known.slug, known.secret)

    if mark < 0:
        mark = int(now) if before > now + window else before
    elif mark > now + window:
        return ("a timed signature of a time ahead of this clock was accepted before: if it was this clock that was "
                "wrong, `webscheduler rotate-secret`")

    return "this timed signature, or a later one, was used already" if ts <= mark else ""


def raise_to(home: str, known: Known, ts: int) -> None:
    """Note that a timed signature is accepted. Raises OSError."""
    marks, key = _read(home, known.slug), _digest(known.secret)
    newest = {key: max(ts, marks.pop(key, 0), marks.pop(DAMAGED, 0)), **marks}
    text = "".join(f"{each} {newest[each]}\n" for each in list(newest)[:MOST])
    descriptor = os.open(_path(home, known.slug), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    try:
        os.pwrite(descriptor, text.encode().ljust(SIZE), 0)
    finally:
        close(descriptor)


def _read(home: str, slug: str) -> dict[str, int]:
    """The marks, that of the secret used last first."""
    try:
        with open(_path(home, slug), "rb") as file:
            words = [line.split() for line in file.read(SIZE).decode("ascii", "replace").splitlines()]
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        return {}

    marks = {line[0]: int(line[1]) for line in words if len(line) == 2 and line[1].isdigit()}
    return marks if marks or not status.st_size else {DAMAGED: int(status.st_mtime)}


def _path(home: str, slug: str) -> str:
    return f"{home}/locks/{slug}.ts"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:32]
