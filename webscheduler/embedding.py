"""What an application that embeds the scheduler calls: `webscheduler.trigger_url`, `run`, `run_due`. A door.

The rule: the same as on the command line, with values instead of text and exceptions (`errors`) instead of lines. Runs
are supervised in the calling process, which for that needs its main thread and no others.
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
    from typing import Any


def trigger_url(name: str, home: str | None = None) -> str:
    """The signed URL that runs the task; of one that takes timed signatures alone, a URL that is good now, and once.
    Raises NoSuchTask, and BadInput where no baseUrl is set."""
    settings = load_settings(home or find_home())
    task = editing.with_keys(settings.home, name)

    if not settings["baseUrl"]:
        raise BadInput("no baseUrl is set: `webscheduler config set baseUrl https://...`", "baseUrl")

    ts = int(time.time()) if task["signature"] == "timed" else None
    return signing.trigger_url(settings["baseUrl"], task["slug"], task["secret"], ts)


def run(name: str, home: str | None = None) -> dict[str, Any] | None:
    """Run a task now, whatever its schedule and limits say; its line of history, or None if it is running already."""
    return run_by_hand(home or find_home(), name, "cli", time.time)


def run_due(home: str | None = None) -> dict[str, Any] | None:
    """Run all that is due and wait for it; the tick's line of history with `codes` (task -> 0 success, 1 not, 3
    skipped), or None if another tick is at it."""
    return run(DUE, home)
