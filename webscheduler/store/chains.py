# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks that run after others: who follows whom, and which of such runs are still to start.

The rules: `onSuccess` and `onFailure` name the tasks that a run of theirs is followed by. A failed run is followed only
if it was the last attempt, or if another run came before the next one and failed, too; one that was interrupted,
skipped or rejected by nothing. What is to start is a mark in the follower's row (field `followUps`): the id of the run
that it follows, and how many runs are in a row before it. It is written with how that run ended, and used with how the
follower's run ended, or was skipped; used marks stay a while, so that none is made twice. No file is touched here.
"""

from __future__ import annotations

from ..errors import BadInput, did_you_mean
from ..vocabulary import DUE, FAILED, SUCCESS, TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Entry, Iterable


FIELD = "followUps"
LINKS = ("onSuccess", "onFailure")
MOST_IN_A_ROW = 16
MOST_WAITING = 100  # marks of one task; later ones are not made
KEPT = 32  # used marks of one task
USED = "-"  # begins a mark that is used


def texts(row: Any, *fields: str) -> list[str]:
    """The texts in lists of the row; nothing of what a wrong edit by hand has left."""
    found = [row.get(field) for field in fields] if isinstance(row, dict) else []
    return [text for each in found if isinstance(each, list) for text in each if isinstance(text, str)]


def followers(row: dict[str, Any], entry: Entry) -> list[str]:
    """The tasks that follow a run of the row's task that ended as `entry` says."""
    if entry["status"] == SUCCESS:
        return texts(row, "onSuccess")

    retries = row.get("retries") if row.get("enabled") else 0  # what is disabled is not tried again
    left = isinstance(retries, int) and (entry["attempt"] or 1) <= retries
    return [] if left or entry["status"] not in (FAILED, TIMEOUT) else texts(row, "onFailure")


def marks(row: Any) -> dict[str, int]:
    """The runs that a run of the row's task is still to follow, the oldest first: id -> how many runs there are in a
    row with it."""
    found = {}

    for text in texts(row, FIELD):
        run, _, number = text.partition(" ")

        if not run.startswith(USED) and number.isascii() and number.isdigit():
            found[run] = int(number)

    return found


def mark(tasks: dict[str, Any] | None, before: dict[str, Any], entry: Entry, overtakes: str | None = None) -> bool:
    """Mark the followers of a run of the task with the row `before`, unless that was done. Returns whether there are
    any, which is all without `tasks`. overtakes: the failed run before, if this one came before its retry."""
    number = marks(before).get(entry.get("after") or "", 0) + 1
    found = [(entry["run"], name) for name in followers(before, entry)]
    found += [(overtakes, name) for name in texts(before, "onFailure")
              if overtakes and entry["status"] in (FAILED, TIMEOUT)]

    for run, name in found if tasks and number < MOST_IN_A_ROW else ():
        row = tasks.get(name) if tasks else None
        known = texts(row, FIELD)

        if isinstance(row, dict) and len(marks(row)) < MOST_WAITING and all(
                text.lstrip(USED).split(" ")[0] != run for text in known):
            row[FIELD] = [*known, f"{run} {number}"]

    return bool(found)


def use(row: dict[str, Any], run: str) -> None:
    """The mark of that run is used."""
    every = [f"{USED}{run}" if text.split(" ")[0] == run else text for text in texts(row, FIELD)]
    used = [text for text in every if text.startswith(USED)][-KEPT:]
    row[FIELD] = [*used, *(text for text in every if not text.startswith(USED))]


def check(tasks: dict[str, Any], names: Iterable[str], told: bool = False) -> None:
    """Refuse what these tasks name as followers if it is no task, leads back to the task, or makes more than
    MOST_IN_A_ROW runs in a row. Raises BadInput, which with `told` says which task it is about."""
    ahead = {name: texts(row, *LINKS) for name, row in tasks.items()}
    behind = leaders(tasks)

    for name in names:
        try:
            _check(tasks, name, ahead, behind)
        except BadInput as error:
            raise BadInput(f"task {name}: {error}", error.field) if told else error


def _check(tasks: dict[str, Any], name: str, ahead: dict[str, list[str]], behind: dict[str, list[str]]) -> None:
    longest = {}

    for field, follower in [(link, each) for link in LINKS for each in texts(tasks[name], link)]:
        if follower == DUE or not isinstance(tasks.get(follower), dict):
            raise BadInput(f"{field}: no task is named {follower!r}{did_you_mean(follower, tasks)}", field)

        rest = _rows(ahead, follower)
        longest[len(rest)] = field

        if any(name in row for row in rest):
            raise BadInput(f"{field}: {follower!r} leads back to {name!r}: a chain must have an end", field)

    if longest and len(_rows(behind, name)) + max(longest) > MOST_IN_A_ROW:
        field = longest[max(longest)]
        raise BadInput(f"{field}: that makes more than {MOST_IN_A_ROW} runs in a row", field)


def rename(tasks: dict[str, Any], old: str, new: str | None) -> None:
    """Let all that name `old` as a follower name `new`, or nothing."""
    for row in tasks.values():
        for field in LINKS:
            if old in texts(row, field):
                row[field] = [new if each == old else each for each in row[field] if new or each != old]


def leaders(tasks: dict[str, Any], fields: tuple[str, ...] = LINKS) -> dict[str, list[str]]:
    """The tasks that name a task as a follower in one of the fields, by the follower's name."""
    found: dict[str, list[str]] = {}

    for name, row in tasks.items():
        for follower in texts(row, *fields):
            found.setdefault(follower, []).append(name)

    return found


def _rows(ways: dict[str, list[str]], start: str) -> list[set[str]]:
    """The task, those that are one step from it, two steps, and so on; at most one more than may be in a row."""
    found: list[set[str]] = []
    last = {start}

    while last and len(found) <= MOST_IN_A_ROW:
        found.append(last)
        last = {each for name in last for each in ways.get(name, ())}

    return found
