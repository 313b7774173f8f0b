# SPDX-License-Identifier: LGPL-3.0-or-later
"""refused.json: the last requests without a valid signature, so that a URL pasted wrongly leaves a trace.

The rules: it has a limit, and is written at most once a minute, which `trigger` sees to. A slug has one place for each
problem. When there is no more room, the slug with most places loses its oldest, where all that are unknown count as
one: who guesses slugs removes nothing of what the owner of one is to read. What is read and written does not depend on
whether a slug is known.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Callable, Refusal


MOST = 50


def add_refusal(home: str, now: float, method: str, slug: str, address: str, problem: str,
                find: Callable[[str], object]) -> None:
    """Record a request without a valid signature. problem: what was wrong, in words; find: returns None for a slug of
    32 characters that no task has. Never raises."""
    import json

    from ..times import format_time
    from .files import replace_file

    file = os.path.join(home, "refused.json")
    newest: Refusal = {"at": format_time(now), "ip": address, "method": method, "slug": slug, "problem": problem}
    places: dict[tuple[str, str], Refusal] = {}

    for each in [newest, *read_refusals(home)[:MOST]]:
        places.setdefault((str(each.get("slug")), str(each.get("problem"))), each)

    owners = [slug if len(slug) == 32 and slug.isascii() and find(slug) else "" for slug, _ in places]
    kept = list(places.values())

    if len(kept) > MOST:
        del kept[max(range(len(kept)), key=lambda number: (owners.count(owners[number]), number))]

    try:
        replace_file(file, json.dumps(kept).encode() + b"\n")
        os.utime(file, (now, now))  # the clock of the file system may be ahead of ours: each refusal would write
    except OSError:
        pass  # the response is the same, whether or not this could be written


def read_refusals(home: str) -> list[Refusal]:
    """The recorded refusals, newest first."""
    from .files import read_json

    found: list[Refusal] = read_json(os.path.join(home, "refused.json"))
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
