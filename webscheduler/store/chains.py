# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks that run after others: who follows whom, and which of such runs are still to start.

The rules: `onSuccess` and `onFailure` name the tasks that a run of theirs is followed by. A failed run is followed only
if it was the last attempt, and one that was interrupted, skipped or rejected by nothing. What is to start is a mark in
the follower's row (field `followUps`): the id of the run that it follows, and how many runs came before it in a row. It
is written together with how that run ended, and is used in the same write as how the follower's run ended, or where it
was skipped; used marks stay a while, so that no mark is made twice. Nothing here reads or writes a file.
"""

from __future__ import annotations

from ..errors import BadInput, did_you_mean
from ..vocabulary import DUE, FAILED, SUCCESS, TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..shapes import Entry

FIELD = "followUps"
LINKS = ("onSuccess", "onFailure")
MOST_IN_A_ROW = 16
MOST_WAITING = 100  # marks of one task; later ones are not made
KEPT = 100  # used marks of one task
USED = "-"  # begins a mark that is used


def followers(row: dict[str, Any], entry: Entry) -> list[str]:
    """The tasks that follow a run of the row's task that ended as `entry` says."""
    if entry["status"] == SUCCESS:
        return list(row.get("onSuccess") or [])

    last = (entry["attempt"] or 1) > (row.get("retries") or 0)
    return list(row.get("onFailure") or []) if last and entry["status"] in (FAILED, TIMEOUT) else []


def marks(row: Any) -> dict[str, int]:
    """The runs that a run of the row's task is still to follow, the oldest first: id -> how many runs there are in a
    row with it."""
    found = {}

    for text in (row.get(FIELD) or []) if isinstance(row, dict) else []:
        run, _, number = str(text).partition(" ")

        if not run.startswith(USED) and number.isascii() and number.isdigit():
            found[run] = int(number)

    return found


def mark(tasks: dict[str, Any], name: str, entry: Entry) -> list[str]:
    """Mark the followers of a run of the task `name`, unless that was done; returns their names."""
    run, before = entry["run"], tasks[name]
    number = marks(before).get(entry.get("after") or "", 0) + 1
    found = []

    for follower in followers(before, entry) if number < MOST_IN_A_ROW else []:
        row = tasks.get(follower)

        if isinstance(row, dict) and len(marks(row)) < MOST_WAITING and not any(
                text.lstrip(USED).split(" ")[0] == run for text in row.get(FIELD) or []):
            row[FIELD] = [*(row.get(FIELD) or []), f"{run} {number}"]
            found.append(follower)

    return found


def use(row: dict[str, Any], run: str) -> None:
    """The mark of that run is used."""
    every = [f"{USED}{run}" if text.split(" ")[0] == run else text for text in row.get(FIELD) or []]
    used = [text for text in every if text.startswith(USED)][-KEPT:]
    row[FIELD] = [*used, *(text for text in every if not text.startswith(USED))]


def check(tasks: dict[str, Any], name: str) -> None:
    """Refuse what the task `name` names as followers if it is no task, leads back to the task, or makes more than
    MOST_IN_A_ROW runs in a row. Raises BadInput."""
    for field in LINKS:
        for follower in tasks[name].get(field) or []:
            if follower == DUE or not isinstance(tasks.get(follower), dict):
                raise BadInput(f"{field}: no task is named {follower!r}{did_you_mean(follower, tasks)}", field)

            if _reaches(tasks, follower, name):
                raise BadInput(f"{field}: {follower!r} leads back to {name!r}: a chain must have an end", field)

    if _longest(tasks, name, {}, True) + _longest(tasks, name, {}, False) - 1 > MOST_IN_A_ROW:
        field = next(field for field in LINKS if tasks[name].get(field))
        raise BadInput(f"{field}: that makes more than {MOST_IN_A_ROW} runs in a row", field)


def check_all(tasks: dict[str, Any], names: Iterable[str]) -> None:
    """`check` for several tasks; the error says which."""
    for name in names:
        try:
            check(tasks, name)
        except BadInput as error:
            raise BadInput(f"task {name}: {error}", error.field)


def rename(tasks: dict[str, Any], old: str, new: str | None) -> list[str]:
    """Let all that name `old` as a follower name `new`, or nothing; returns their names."""
    found = []

    for name, row in tasks.items():
        for field in LINKS if isinstance(row, dict) else ():
            if old in (row.get(field) or []):
                row[field] = [new if each == old else each for each in row[field] if new or each != old]
                found.append(name)

    return found


def links(row: Any) -> list[str]:
    """The tasks that the row of a task names as its followers."""
    return [each for field in LINKS for each in row.get(field) or []] if isinstance(row, dict) else []


def _reaches(tasks: dict[str, Any], start: str, goal: str) -> bool:
    seen, left = set(), [start]

    while left:
        each = left.pop()

        if each == goal:
            return True

        if each not in seen:
            seen.add(each)
            left += links(tasks.get(each))

    return False


def _longest(tasks: dict[str, Any], name: str, known: dict[str, int], back: bool) -> int:
    """How many tasks there are at most in a row that begins, or with `back` ends, with the task."""
    if name not in known:
        known[name] = 1  # in a circle that was written by hand
        next_ones = [each for each in tasks if name in links(tasks[each])] if back else links(tasks.get(name))
        known[name] = 1 + max((_longest(tasks, each, known, back) for each in next_ones), default=0)

    return known[name]
