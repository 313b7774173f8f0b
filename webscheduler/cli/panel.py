"""The verb for people of the panel: set-password. Imports `admin.people` and the files below the doors.

The rule: a password is never a word of the command line, where every user of the host could read it. It is typed
twice on a terminal, or is the first line of standard input.
"""

from __future__ import annotations

import getpass
import os
import pwd
import sys
import time

from ..errors import BadInput
from ..store import people
from . import fields
from .terminal import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verb to the parser."""
    setting = verb("set-password", _set_password, "Give somebody a password for the panel, and end their sessions.")
    setting.add_argument("user", nargs="?", metavar="USER", help="Who; unset: the only one, else this account.")
    setting.add_argument("--role", type=fields.rule("role", "choice", people.ROLES), metavar="|".join(people.ROLES),
                         help="What they may do; unset: as before, and owner for the first.")


def _set_password(args: Namespace) -> None:
    user = _whom(args)
    people.check_name(user)
    new = people.set_password(args.home, user, _password(user), args.role, now=time.time())
    print(f"{line(user)} may sign in." if new else f"{line(user)} has a new password and is signed out everywhere.")


def _whom(args: Namespace) -> str:
    known = list(people.read(args.home))

    if args.user is not None or len(known) == 1:
        return str(known[0] if args.user is None else args.user)

    if not account():
        raise BadInput("user: name one: this account has no name")

    return account()


def account() -> str:
    """The name of this account; empty if it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _password(user: str) -> str:
    if not (sys.stdin and sys.stdin.isatty()):
        text = sys.stdin.readline().rstrip("\r\n") if sys.stdin else ""

        if not text:
            raise BadInput("password: none is given: type it on a terminal, or send it as a line of standard input")

        return text

    password = typed(f"Password for {user}: ")

    if password is None:
        raise BadInput("nothing was done")

    return password


def typed(question: str) -> str | None:
    """A password that is typed twice on the terminal; None for none at all. Raises BadInput if the two differ."""
    try:
        first = getpass.getpass(question)
        again = getpass.getpass("Once more: ") if first else ""
    except EOFError:
        return None

    if first != again:
        raise BadInput("password: the two are not the same, so nothing was done", "password")

    return first or None
