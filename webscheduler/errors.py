# SPDX-License-Identifier: LGPL-3.0-or-later
"""What can go wrong, as one family of exceptions. A leaf: its import imports nothing.

The rule: every error that a person can meet is one line that says what is wrong and what to do. The class carries
the exit status of the command line; a trigger that meets one answers 503. A trigger that loses a race, is refused or is
skipped has not failed: those are ordinary return values and not found here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class WebschedulerError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class BadInput(WebschedulerError):
    """A value from a person or a file breaks a rule; `field` names it (empty: the message says which)."""

    exit_code = 2

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Conflict(BadInput):
    """What is there stands against it: a name that is taken, a task that runs."""


class Stale(BadInput):
    """What is there was changed since the person saw it."""


class NoSuchTask(BadInput):
    """No task of that name. known: the names that there are."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(f"no task is named {name!r}{did_you_mean(name, known)}: `webscheduler list` shows the names",
                         "name")


class Unusable(WebschedulerError):
    """The installation cannot work: home gone, files unreadable, no locks. A trigger answers 503."""


class Busy(WebschedulerError):
    """A lock was not to be had in time; the same call may go through a moment later."""


def foreseen(error: Exception, home: str = "") -> str:
    """The line that tells a server's error log of an error; empty for one that nobody foresaw. home: where a system
    call failed that names no file; without it, none is foreseen."""
    ours = isinstance(error, WebschedulerError)
    denied: BaseException | None = error
    line = f"webscheduler: {error}" if ours else ""

    if isinstance(error, OSError) and home:
        line = f"webscheduler: {error.filename or home}: {error.strerror}"

    while isinstance(denied, WebschedulerError):
        denied = denied.__context__

    if line and isinstance(denied, PermissionError):
        from .accounts import both_users  # it is read only where something is wrong

        line += both_users(denied.filename or home)

    return line


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for what was typed wrongly; empty if nothing that is known is like it."""
    from difflib import get_close_matches

    close = get_close_matches(given, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
