# SPDX-License-Identifier: LGPL-3.0-or-later
"""The secret that a task had before: what was signed with it may stay valid for a while after a rotation, so that a URL
can be changed in a panel without a missed run.

The rules: it is valid from the rotation until the end that was asked for, by the clock. Whoever sees that end past (a
trigger that is signed with it, a run of the task, a tick) takes it out of state.json, so that no clock that is set back
revives it. It goes into no export and comes in with none.
"""

from __future__ import annotations

from time import time

from ..errors import WebschedulerError
from ..times import format_time, instant
from . import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIELD = "oldSecret"
LONGEST = 30 * 86400  # seconds


def keep(row: dict[str, Any], seconds: int, now: float) -> None:
    """Keep the row's present secret as its old one, for so long."""
    row[FIELD] = {"secret": row["secret"], "from": format_time(now), "until": format_time(now + seconds)}


def of(row: Any) -> tuple[str, float, float]:
    """(the row's old secret, since when and until when it is valid, Unix seconds); with an empty text if it has none.
    """
    found = row.get(FIELD) if isinstance(row, dict) else None
    found = found if isinstance(found, dict) else {}
    secret = found.get("secret")
    return (secret, instant(found.get("from")), instant(found.get("until"))) if isinstance(secret, str) else ("", 0, 0)


def end(row: dict[str, Any]) -> None:
    """The row's old secret is not valid any more."""
    if row.get(FIELD):
        row[FIELD] = None


def until(row: Any, now: float) -> str | None:
    """Until when what was signed with the old secret is valid, as text; None if it is not."""
    _, since, last = of(row)
    return row[FIELD]["until"] if since <= now < last else None


def is_past(row: Any, now: float) -> bool:
    """Whether the row has an old secret of which the end is past."""
    return isinstance(row, dict) and bool(row.get(FIELD)) and of(row)[2] <= now


def end_past(rows: Any, now: float) -> None:
    """Take the old secrets out of those of the rows in which they are past."""
    for row in rows:
        if is_past(row, now):
            row[FIELD] = None


def seen_past(home: str) -> None:
    """The same in state.json, if it can be written now."""
    now = time()

    try:
        state.update(home, lambda tasks: end_past(tasks.values(), now))
    except WebschedulerError:
        pass  # whoever sees it next does it
