"""refused.json: the last requests without a valid signature, so that a mangled paste leaves a trace.

The rule: rewritten at most once a minute and bounded, so nobody fills the disk from outside.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 50
EVERY = 60.0


def add_refusal(home: str, now: float, method: str, slug: str, address: str, problem: str) -> None:
    """Note a request without a valid signature, unless one was noted less than a minute ago. problem: what is wrong, in
    words. Never raises."""
    file = os.path.join(home, "refused.json")

    try:
        if 0 <= now - os.stat(file).st_mtime < EVERY:
            return
    except OSError:
        pass

    import json  # once a minute

    from ..times import format_time
    from .files import replace_file

    refusal = {"at": format_time(now), "ip": address, "method": method, "slug": slug, "problem": problem}

    try:
        replace_file(file, json.dumps([refusal, *read_refusals(home)[: MOST - 1]]).encode() + b"\n")
    except OSError:
        pass  # the answer is the same neutral one whether or not a trace could be left


def read_refusals(home: str) -> list[dict[str, Any]]:
    """The refusals noted last, newest first."""
    import json

    try:
        with open(os.path.join(home, "refused.json"), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return []

    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
