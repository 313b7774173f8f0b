# SPDX-License-Identifier: LGPL-3.0-or-later
"""What an import changes, as people read it: here, and from an installation elsewhere."""

from __future__ import annotations

from .terminal import as_text, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


def described(changes: Sequence[dict[str, Any]], keep_logs: bool = False) -> Iterator[str]:
    """Lines on changes as `applying.Change` and the API have them: one for each task that is not the same, and below it
    its fields, before -> after."""
    for change in changes:
        name, what, fields = line(change["task"]), change["change"], dict(change["fields"])

        if what == "add":
            after = {field: value for field, (_, value) in fields.items()}
            interval = after.get("intervalSeconds")
            schedule = after.get("expression") or (f"every {interval} s" if interval else "no schedule")
            yield f"{name}: {line(schedule)}{'' if after.get('enabled') else ', disabled'}"
        elif what == "remove":
            yield f"{name}: removed{'; its history is kept' if keep_logs else ', and its history'}"
        elif what != "same":
            old = fields.pop("name", None)
            yield f"{name}: {'changed' if old is None else f'renamed from {line(old[0])}'}"
            yield from (f"  {line(field)}: {line(as_text(before))} -> {line(as_text(after))}"
                        for field, (before, after) in fields.items())


def counted(changes: Sequence[dict[str, Any]], dry_run: bool) -> str:
    kinds = [change["change"] for change in changes]
    same, gone = kinds.count("same"), kinds.count("remove")
    number, would = len(kinds) - same - gone, "would be " if dry_run else ""

    if same and not number and not gone:
        return f"nothing is different: {'the task is' if same == 1 else f'all {same} tasks are'} as in the file"

    return (f"{number} tasks {would}imported" + (f", {gone} {would}removed" if gone else "")
            + (f", {same} the same" if same else ""))
