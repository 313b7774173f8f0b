# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions for programs that use an installation: `webscheduler.tasks`, `history`, `trigger_url`, `run`, `run_due`.

The rule: they do what the command line does, with values instead of text and exceptions (`errors`) instead of lines.
`home` is the home directory; without it WEBSCHEDULER_HOME, else ~/.webscheduler.
"""

from __future__ import annotations

import time

from . import editing, signing
from .errors import BadInput
from .runs import health
from .runs.by_hand import run_by_hand
from .store import history_view, state
from .store.settings import find_home, load_settings
from .store.task import DUE, load_tasks, shown
from .vocabulary import FINISHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .shapes import Entry, Result, TaskRow


def tasks(home: str | None = None) -> list[TaskRow]:
    """All tasks, as `webscheduler list --json` prints them; it changes nothing. Raises Unusable if the home's files
    cannot be read."""
    settings, now = load_settings(home or find_home()), time.time()
    good, broken = load_tasks(shown(health.as_they_are(settings.home, state.read_strictly(settings.home), now)[0]))
    found: list[Any] = [editing.public(settings, task, now) for task in good.values()]
    return [*found, *({"name": name, "error": problem} for name, problem in broken.items())]


def history(name: str | None = None, home: str | None = None, *, status: str | None = None,
            limit: int = 20) -> list[Entry]:
    """The last runs of a task, or of all if `name` is None, newest first, as `webscheduler logs --json` prints them; a
    task that is removed still has the history that was kept. status: only runs that ended so, like `failed`; limit:
    how many at most. It changes nothing, and of long histories it reads the end only. Raises NoSuchTask, BadInput for
    another status or a limit below 0, Unusable."""
    if status is not None and status not in FINISHED:
        raise BadInput(f"status: {status[:40]!r} must be one of {', '.join(FINISHED)}", "status")

    if limit < 0:
        raise BadInput(f"limit: {limit} must be 0 or more", "limit")

    home = home or find_home()
    return history_view.newest(home, history_view.chosen(home, name), status, limit)


def trigger_url(name: str, home: str | None = None) -> str:
    """The signed URL that runs the task; for a task with timed signatures alone a URL that works once, within
    `signatureWindowSeconds`. Raises NoSuchTask, BadInput if no `baseUrl` is set, Unusable."""
    settings = load_settings(home or find_home())
    task = editing.with_keys(settings.home, name)

    if not settings["baseUrl"]:
        raise BadInput("no baseUrl is set: `webscheduler config set baseUrl https://...`", "baseUrl")

    ts = int(time.time()) if task["signature"] == "timed" else None
    return signing.trigger_url(settings["baseUrl"], task["slug"], task["secret"], ts)


def run(name: str, home: str | None = None) -> Result | None:
    """Run a task now, whatever its schedule and limits say, and wait for its end. Returns its line of history, also
    where it failed; None if it is already running. Call it in the main thread of a process that has no other threads:
    this process supervises the run, and a signal that ends it ends the run. Raises NoSuchTask, Unusable, and Busy if
    a lock was held for 10 seconds."""
    return run_by_hand(home or find_home(), name, "cli", time.time)


def run_due(home: str | None = None) -> Result | None:
    """Run all tasks that are due and wait for them. Returns the line of history of the tick with `codes` (name of the
    task -> 0 success, 1 not successful, 3 skipped); None if another tick is at work. Call it as `run`. Raises Unusable,
    Busy."""
    return run(DUE, home)
