# SPDX-License-Identifier: LGPL-3.0-or-later
"""The verbs for who may use the panel and the API: set-password, api-key.

The rules: a password is never a word of the command line, where every user of the host could read it. It is typed
twice on a terminal, or is the first line of standard input. A key is the only line of standard output when it is made,
so that a script can keep it.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from argparse import Namespace

from ..errors import BadInput
from ..store import keys, people
from ..store.fields import from_text
from .parser import JSON, checked
from .terminal import done, line, local_time, print_error, print_json, print_table

ACTIONS = {"add": " NAME --role ROLE", "list": "", "revoke": " NAME"}  # of `api-key`, with their arguments
COMMAND_LINE = people.Person("command line", "owner")  # no user can have this name: it has a space


def _set_password(args: Namespace) -> None:
    user = _user(args)
    people.check_name(user)
    password, now = _password(user), time.time()  # not before it was typed
    new = people.set_password(args.home, user, password, args.role, now=now)
    done(f"{line(user)} can sign in." if new else f"{line(user)} has a new password and is signed out everywhere.")
    people.note_done(args.home, now, COMMAND_LINE, "", "set the password of", user,
                     lambda text: print_error(text.partition(" ")[2]))


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
        import pwd

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


def _api_key(args: Namespace) -> None:
    given = args.role or args.expires or args.ip_allowlist

    if (args.name is None) != (args.action == "list") or (given and args.action != "add"):
        raise BadInput(f"api-key {args.action} is written `webscheduler api-key {args.action}{ACTIONS[args.action]}`")

    now = time.time()

    if args.action == "list":
        _list_keys(keys.listed(args.home), args.json, now)
    elif args.action == "revoke":
        keys.revoke(args.home, args.name)
        done(f"The key {line(args.name)} no longer opens the API.")
        people.note(args.home, now, COMMAND_LINE, "", "revoked", f"key {args.name}")
    else:
        _add_key(args, now)


def _add_key(args: Namespace, now: float) -> None:
    if not args.role:
        raise BadInput("--role: what may the key do? " + ", ".join(people.ROLES))

    networks = from_text("ipAllowlist", keys.ADDRESSES, " ".join(args.ip_allowlist))
    key = keys.add(args.home, args.name, args.role, now, args.expires and now + args.expires, networks)
    done(f"the key {args.name} is made", show=False)

    if args.json:
        print_json({"name": args.name, **keys.listed(args.home)[args.name], "key": key})
    else:
        print(key, flush=True)
        print(f"The key {line(args.name)} is shown once: keep it where only you can read it.", file=sys.stderr)

    people.note(args.home, now, COMMAND_LINE, "", "made", f"key {args.name}")


def _list_keys(found: dict[str, keys.Key], as_json: bool, now: float) -> None:
    if as_json:
        print_json([{"name": name, **row} for name, row in found.items()])
    elif not found:
        print("There is no key, so the API is off: `webscheduler api-key add NAME --role viewer` makes one")
    else:
        print_table(("KEY", "ROLE", "ENDS", "LAST USED", "ADDRESSES"), [
            (name, row["role"], ("ended " if keys.is_over(row, now) else "") + local_time(row["expiresAt"]),
             local_time(row["lastUsedAt"]), " ".join(row["ipAllowlist"]) or "all") for name, row in found.items()])


VERBS = {
    "set-password": (_set_password, "Set the panel password of a user, and end the user's sessions.",
                     ("[USER]", "The user; default: the only one, else named like this account."),
                     (f"--role {'|'.join(people.ROLES)}",
                      "What the user may do; default: as before; the first: owner.")),
    "api-key": (_api_key, "Make, list or revoke keys of the API. A key is shown once, when it is made.",
                ("|".join(ACTIONS), "What to do.", {"dest": "action"}), ("[NAME]", "The name of the key."),
                (f"--role {'|'.join(people.ROLES)}", "What the key may do, as in the panel."),
                ("--expires SECONDS", "How long it is valid, with a unit as in 90d; default: until it is revoked.",
                 {"type": checked("--expires", "seconds", (1, keys.MOST_SECONDS))}),
                ("--ip-allowlist CIDR...", "Addresses or networks that may use it; default: all.",
                 {"nargs": "+", "action": "extend", "default": []}), JSON),
}
