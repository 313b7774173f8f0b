# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a request must know about the installation and a task: from the index, else from state.json.

The rules: both give the same (`Known`), so that later stages need not care. What was read is used only while it is
current: `is_current` is asked again under the gate. A process that serves one request reads what it needs; one that
serves many keeps what it read, so that a refusal parses nothing.
"""

from __future__ import annotations

import os
import time

from ..errors import BadInput, WebschedulerError
from .index import NO_KEY, Index, Known, identities, open_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    from .task import Task

    View = Union[Index, "Parsed"]

CLOCK_TICK = 1.1  # seconds in which the clock of any file system has ticked: see `is_current`
HEX = frozenset("0123456789abcdef")
WATCHED = ("state.json", "config.json")


class Parsed:
    """State and settings as they were read, with the attributes of an Index, where none is valid. only: the one task
    that is looked for; then `tasks` may lack the others."""

    signed = False  # it does not have the expected signatures

    def __init__(self, home: str, only: str = "") -> None:
        from . import state
        from .settings import load_settings

        self._home, self._begun, self._proven = home, time.monotonic(), False
        self.sources, self._bytes = identities(home), _contents(home)
        self.kinds: dict[str, tuple[float, str]] = {}
        settings = load_settings(home)
        self.window, self.timeout = settings["signatureWindowSeconds"], settings["defaultTimeout"]
        self.proxies = settings["trustedProxies"]

        line = state.line_of(self._bytes[0], only) if only else None

        try:
            found = {only: line[2]} if line else state.parse(self._bytes[0], state.path(home))
            self.tasks: dict[str, Any] = found
        except WebschedulerError:
            self.tasks = state.read(home)  # from the copy, or Unusable with what is wrong

        self._names = {row.get("slug"): name for name, row in self.tasks.items()
                       if isinstance(row, dict) and isinstance(row.get("slug"), str)}

    def find(self, slug: str) -> Known | None:
        """The task with that slug, but only what its signature needs; of two, the later. The rest costs nothing before
        the signature is valid: see `in_full`."""
        name = self._names.get(slug)
        found = _signed(name or "", slug, self.tasks[name] if name is not None else {})
        found.unusual = True
        return found if name is not None else None

    def row(self, known: Known) -> None:
        """No place of a row is known."""

    def is_current(self) -> bool:
        """Whether the files are what was read. Equal identities prove it only after the bytes were compared once more,
        when the clock of the file system has ticked: an edit within the same tick changes only those."""
        before = self._bytes  # taken first: another thread empties it once all is proven

        if identities(self._home) != self.sources:
            return False

        if not self._proven:
            ticked = time.monotonic() - self._begun > CLOCK_TICK

            if _contents(self._home) != before:
                return False

            self._proven = ticked and self.sources[0] != "-"
            self._bytes = self._bytes if not self._proven else []

        return True


def _contents(home: str) -> list[bytes]:
    found = []

    for name in WATCHED:
        try:
            with open(os.path.join(home, name), "rb") as file:
                found.append(file.read())
        except OSError:
            found.append(b"")

    return found


def look(home: str, kept: dict[str, View] | None = None) -> View:
    """What is known about the installation now. kept: views by home, of a process that serves many requests. Raises
    Unusable if neither state.json nor its copy can be read."""
    if kept is None:
        return open_index(home) or Parsed(home)

    view = kept.get(home)

    if view is None or not view.is_current():
        view = kept[home] = open_index(home, whole=True) or Parsed(home)

    return view


def in_full(view: View, known: Known) -> Known | None:
    """The whole of a task that the view knows but as unusual; None if its row cannot be found by the index."""
    if isinstance(view, Parsed):
        row: tuple[str, Any] | None = (known.name, view.tasks[known.name])
    else:
        row = one_row(view.row(known))

    found = known_of(*row) if row else None

    if found:
        found.secret = known.secret  # of two, that which has signed

    return found


def known_of(name: str, row: Any) -> Known | None:
    """What a request must know about a task, from its row of state.json; None for a row without a slug. A row that
    breaks a rule makes an unusual task with a problem."""
    slug = row.get("slug") if isinstance(row, dict) else None

    if not isinstance(slug, str) or len(slug) != 32 or not HEX.issuperset(slug):
        return None

    found = _signed(name, slug, row)

    from .task import load_task

    try:
        task = load_task(name, row)
    except BadInput as error:
        found.problem, found.unusual = str(error), True
        return found

    return limits_of(task, found)


def _signed(name: str, slug: str, row: dict[str, Any]) -> Known:
    """What is compared with a request, before it comes out whether the row breaks a rule."""
    found = Known(name, slug, _key(row.get("secret")))
    found.kind = row["signature"] if row.get("signature") in ("timed", "either") else found.kind

    if row.get("oldSecret"):
        from .old_secret import of

        old, since, until = of(row)
        found.old = (NO_KEY, NO_KEY, _key(old), since, until)

    return found


def _key(secret: Any) -> str:
    good = isinstance(secret, str) and len(secret) == 64 and HEX.issuperset(secret)
    return str(secret) if good else NO_KEY


def limits_of(task: Task, found: Known | None = None) -> Known:
    """`found`, or a new one, with what decides whether and how the task runs."""
    from ..vocabulary import PROBE

    found = found or Known(task.name, "", NO_KEY)
    found.kind, found.enabled, found.overlaps = task["signature"], task["enabled"], not task["preventOverlap"]
    found.interval, found.strategy, found.allowlist = task["minIntervalSeconds"], task["strategy"], task["ipAllowlist"]
    found.timeout = -1 if task["timeout"] is None else task["timeout"]
    found.probe = task["group"] == PROBE
    return found


def one_row(text: bytes | None) -> tuple[str, Any] | None:
    """(name, row) of a row as `Index.row` gives it; None if it is no such."""
    import json

    try:
        found = json.loads(b"{" + text + b"}") if text else None
    except (ValueError, RecursionError):
        return None

    return next(iter(found.items())) if isinstance(found, dict) and len(found) == 1 else None
