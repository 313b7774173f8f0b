# SPDX-License-Identifier: LGPL-3.0-or-later
"""refused.json: the last requests without a valid signature, so that a URL pasted wrongly leaves a trace.

The rule: it has a limit, and is written at most once a minute, which `trigger` sees to, so that nobody can fill the
disk from outside.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Refusal

MOST = 50


def add_refusal(home: str, now: float, method: str, slug: str, address: str, problem: str) -> None:
    """Record a request without a valid signature. problem: what was wrong, in words. Never raises."""
    import json

    from ..times import format_time
    from .files import replace_file

    file = os.path.join(home, "refused.json")
    refusal = {"at": format_time(now), "ip": address, "method": method, "slug": slug, "problem": problem}

    try:
        replace_file(file, json.dumps([refusal, *read_refusals(home)[: MOST - 1]]).encode() + b"\n")
        os.utime(file, (now, now))  # the clock of the file system may be ahead of ours: each refusal would write
    except OSError:
        pass  # the response is the same, whether or not this could be written


def read_refusals(home: str) -> list[Refusal]:
    """The recorded refusals, newest first."""
    import json

    try:
        with open(os.path.join(home, "refused.json"), "rb") as file:
            found: list[Refusal] = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return []

    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
