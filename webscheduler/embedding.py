# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions for applications that embed the scheduler: `webscheduler.trigger_url`, `run`, `run_due`.

The rule: they do what the command line does, with values instead of text and exceptions (`errors`) instead of lines.
The calling process supervises the run, so call them in its main thread, while it has no other threads.
"""

from __future__ import annotations

import time

from . import editing, signing
from .errors import BadInput
from .runs.supervisor import run_by_hand
from .store.settings import find_home, load_settings
from .store.task import DUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .shapes import Result


def trigger_url(name: str, home: str | None = None) -> str:
    """The signed URL that runs the task; for a task with timed signatures a URL that works once, within minutes. Raises
    NoSuchTask, and BadInput if no baseUrl is set."""
    settings = load_settings(home or find_home())
    task = editing.with_keys(settings.home, name)

    if not settings["baseUrl"]:
        raise BadInput("no baseUrl is set: `webscheduler config set baseUrl https://...`", "baseUrl")

    ts = int(time.time()) if task["signature"] == "timed" else None
    return signing.trigger_url(settings["baseUrl"], task["slug"], task["secret"], ts)


def run(name: str, home: str | None = None) -> Result | None:
    """Run a task now, whatever its schedule and limits say. Its line of history; None if it is already running."""
    return run_by_hand(home or find_home(), name, "cli", time.time)


def run_due(home: str | None = None) -> Result | None:
    """Run all due tasks and wait for them. The tick's line of history with `codes` (task -> 0 success, 1 failure, 3
    skipped); None if another tick is at work."""
    return run(DUE, home)
