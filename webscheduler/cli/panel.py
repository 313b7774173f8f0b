# SPDX-License-Identifier: LGPL-3.0-or-later
"""The verb for the people who may use the panel: set-password.

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
from .terminal import done, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from .parser import Verb


def _set_password(args: Namespace) -> None:
    user = _user(args)
    people.check_name(user)
    new = people.set_password(args.home, user, _password(user), args.role, now=time.time())
    done(f"{line(user)} can sign in." if new else f"{line(user)} has a new password and is signed out everywhere.")


def _user(args: Namespace) -> str:
    known = list(people.read(args.home))

    if args.user is not None or len(known) == 1:
        return str(known[0] if args.user is None else args.user)

    if not account():
        raise BadInput("user: give a name: this account has none")

    return account()


def account() -> str:
    """The name of this account; empty if it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _password(user: str) -> str:
    if sys.stdin and sys.stdin.isatty():
        password = typed_password(f"Password for {user}: ")

        if password is None:
            raise BadInput("nothing was done")

        return password

    if not (text := sys.stdin.readline().rstrip("\r\n") if sys.stdin else ""):
        raise BadInput("password: none is given: type it on a terminal, or send it as a line of standard input")

    return text


def typed_password(question: str) -> str | None:
    """A password that is typed twice on the terminal; None if none is typed. Raises BadInput if the two differ."""
    try:
        first = getpass.getpass(question)
        again = getpass.getpass("Once more: ") if first else ""
    except EOFError:
        return None

    if first != again:
        raise BadInput("password: the two are not the same, so nothing was done", "password")

    return first or None


VERBS: dict[str, Verb] = {
    "set-password": (_set_password, "Set the panel password of a user, and end the user's sessions.",
                     ("[USER]", "The user; default: the only one, else named like this account."),
                     (f"--role {'|'.join(people.ROLES)}",
                      "What the user may do; default: as before; the first: owner.")),
}
