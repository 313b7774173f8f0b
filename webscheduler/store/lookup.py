"""What a request must know of the installation and of the task that its slug names: by the index, else by state.json.

The rule: both ways give the same (`Known`), so that nothing is decided twice. What was read counts only while it is
true: `still` is asked again under the gate. A process that serves one request reads what it needs; one that serves many
keeps what it read, and a refusal parses nothing.
"""

from __future__ import annotations

import os
import time

from ..errors import WebschedulerError
from .index import NOBODY, Known, identities, open_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    from .index import Index

    View = Union[Index, "Parsed"]

SETTLE = 1.1  # seconds; by then the clock of any file system has ticked: see `still`
HEX = frozenset("0123456789abcdef")
WATCHED = ("state.json", "config.json")


class Parsed:
    """State and settings as they were read: what an Index tells, for when there is none that is to be believed."""

    signed = False  # whether it has the signatures that are expected
    __slots__ = ("_begun", "_bytes", "_home", "_names", "_settled", "_sources", "kinds", "proxies", "tasks", "timeout",
                 "window")

    def __init__(self, home: str) -> None:
        from . import state
        from .settings import load_settings

        self._home, self._begun, self._settled = home, time.monotonic(), False
        self._sources, self._bytes = identities(home), _contents(home)
        self.kinds: dict[str, tuple[float, str]] = {}
        settings = load_settings(home)
        self.window, self.timeout = settings["signatureWindowSeconds"], settings["defaultTimeout"]
        self.proxies = settings["trustedProxies"]

        try:
            self.tasks: dict[str, Any] = state.parse(self._bytes[0], state.path(home))
        except WebschedulerError:
            self.tasks = state.read(home)  # from the copy, or with a word on why not

        self._names = {row.get("slug"): name for name, row in self.tasks.items()
                       if isinstance(row, dict) and isinstance(row.get("slug"), str)}

    def find(self, slug: str) -> Known | None:
        """The task of that slug, as far as its signature needs it; of two the later counts. What a task asks for costs
        nobody anything before that is valid: see `in_full`."""
        name = self._names.get(slug)
        row = self.tasks[name] if name is not None else {}
        secret, kind = row.get("secret"), row.get("signature", "static")
        keyed = isinstance(secret, str) and len(secret) == 64 and HEX.issuperset(secret)
        found = Known(name or "", slug, str(secret) if keyed else NOBODY)
        found.kind, found.unusual = kind if kind in ("timed", "either") else "static", True
        return found if name is not None else None

    def in_full(self, known: Known) -> Known:
        """All that is to be known of a task that `find` found."""
        from .indexing import known_of

        return known_of(known.name, self.tasks[known.name]) or known

    def still(self) -> bool:
        """Whether the files are what was read. The same identity proves that only if the bytes were the same once more,
        when the clock of the file system had ticked since: an edit within one tick leaves no trace but the bytes."""
        if identities(self._home) != self._sources:
            return False

        if not self._settled:
            late = time.monotonic() - self._begun > SETTLE

            if _contents(self._home) != self._bytes:
                return False

            self._settled = late and self._sources[0] != "-"
            self._bytes = self._bytes if not self._settled else []

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
    """What is known of the installation now. kept: where a process that serves many requests keeps it. Raises Unusable
    where neither state.json nor its copy can be read."""
    if kept is None:
        return open_index(home) or Parsed(home)

    view = kept.get(home)

    if view is None or not view.still():
        view = kept[home] = open_index(home, whole=True) or Parsed(home)

    return view
