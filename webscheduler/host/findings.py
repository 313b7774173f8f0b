# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a check of the installation finds, as data. A finding is a message with values, so that the panel can translate
it.
"""

from __future__ import annotations

from typing import Callable

OK, WARNING, ERROR = "ok", "note", "mend"  # as `doctor --json` has said since 0.1.0
MARKS = {ERROR: "error", WARNING: "warning", OK: "ok"}  # as people read them
MOMENTS = ("when", "until")


class Finding:
    """What a check found. state: OK, WARNING or ERROR; about: a word; message: one line with `{names}` of `values`, of
    which those in MOMENTS are times (ISO 8601) and others may be one-line errors."""

    def __init__(self, state: str, about: str, message: str, **values: object) -> None:
        self.state, self.about, self.message, self.values = state, about, message, values

    def text(self, when: Callable[[str], str] = str) -> str:
        """The line in English. when: formats times."""
        values = {name: when(str(value)) if name in MOMENTS else value for name, value in self.values.items()}
        return self.message.format(**values).replace("\n", " ")
