"""refused.json: the last requests without a valid signature, so that a mangled paste leaves a trace.

The rule: rewritten at most once a minute and bounded, so nobody fills the disk from outside.
"""

from __future__ import annotations

import json
import os

from .files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
MOST = 50


def add_refusal(home: str, now: float, refusal: dict[str, Any]) -> None:
    """Note a request without a valid signature, unless one was noted less than a minute ago. Never raises."""
    file = os.path.join(home, "refused.json")

    try:
        status = os.stat(file)

        if 0 <= now - status.st_mtime < 60:
            return
    except OSError:
        pass

    try:
        known = read_refusals(home)[: MOST - 1]
        replace_file(file, json.dumps([refusal, *known]).encode() + b"\n")
    except OSError:
        pass  # the answer is the same neutral one whether or not a trace could be left


def read_refusals(home: str) -> list[dict[str, Any]]:
    """The refusals noted last, newest first."""
    try:
        with open(os.path.join(home, "refused.json"), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return []

    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
