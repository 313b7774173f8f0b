# SPDX-License-Identifier: LGPL-3.0-or-later
"""Who may sign in to the panel (users.json), and what they did (audit.jsonl).

A session is valid only while users.json holds its id: signing out removes it; a new password and "sign out everywhere"
remove all.
The rules: passwords are stored as scrypt, or as pbkdf2 where this Python has no scrypt or the host too little memory
for it. An unknown name costs the same work as a known one. At least one owner remains.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from typing import Any, Callable, NamedTuple, TypedDict

from ..errors import BadInput, Unusable, WebschedulerError
from ..times import format_time
from . import rows
from .files import append_bytes, close, replace_file


class User(TypedDict):
    """One person of users.json. sessions: id -> Unix seconds of sign-in; createdAt: ISO 8601."""

    role: str
    password: str
    createdAt: str
    sessions: dict[str, int]


Users = dict[str, User]

ROLES = ("viewer", "editor", "owner")
LEAST_PASSWORD = 10
MOST_SESSIONS = 20
AUDIT_LIMIT = 1024 * 1024  # bytes
AUDIT_SUBJECT = 200  # characters
# scrypt with 16 MiB takes about 0.2 s, and so do the rounds of pbkdf2 (OWASP's password storage cheat sheet).
METHODS = ("scrypt$16384$8$5", "pbkdf2$600000")
KEPT = re.compile(r"(scrypt\$\d+\$\d+\$\d+|pbkdf2\$\d+)\$[0-9a-f]{32}\$[0-9a-f]{64}")
NAME = re.compile(r"[^\W_][\w.@+-]{0,63}")


class Person(NamedTuple):
    """A person who is signed in."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether the person has this role or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


def _is_sound(row: Any) -> bool:
    return isinstance(row, dict) and row.get("role") in ROLES and isinstance(row.get("sessions"), dict) and bool(
        KEPT.fullmatch(str(row.get("password"))))


_people = rows.Rows("users.json", _is_sound, "set passwords anew")
changing = _people.changing
read: Callable[[str], Users] = _people.read


def set_password(home: str, user: str, password: str, role: str | None = None, *, now: float) -> bool:
    """Give a person a password and a role; True if the person is new. Without `role` the first person becomes
    owner, and other new people viewers. Signs the person out everywhere. Raises BadInput."""
    check_password(user, password)

    if role is not None and role not in ROLES:
        raise BadInput("role: must be one of " + ", ".join(ROLES), "role")

    kept = _keep(password)

    with changing(home) as users:
        new = user not in users
        first = not any(row["role"] == "owner" for row in users.values())
        row: Any = users.get(user) or {
            "role": "owner" if first else "viewer", "createdAt": format_time(now), "password": "", "sessions": {}}
        row["password"], row["sessions"], row["role"] = kept, {}, role or row["role"]
        users[user] = row
        _keep_owner(users)
        return new


def set_role(home: str, user: str, role: str) -> None:
    """Give a person another role, which counts at once in every session. Raises BadInput."""
    with changing(home) as users:
        if user not in users or role not in ROLES:
            raise BadInput("role: no such person or role", "role")

        users[user]["role"] = role
        _keep_owner(users)


def remove(home: str, user: str) -> None:
    """Remove a person and sign them out. Raises BadInput for the last owner, and if there is no such person."""
    with changing(home) as users:
        if users.pop(user, None) is None:
            raise BadInput("role: no such person or role", "role")

        _keep_owner(users)


def _keep_owner(users: Users) -> None:
    if not any(row["role"] == "owner" for row in users.values()):
        raise BadInput("role: somebody must remain owner", "role")


def check_name(user: str) -> None:
    """Refuse a name that could be confused with another. Raises BadInput."""
    if not NAME.fullmatch(user):
        raise BadInput("user: must be 1 to 64 letters, digits, or . @ + - _", "user")


def check_password(user: str, password: str) -> None:
    """Refuse a password that is easy to guess, and an invalid name. Raises BadInput."""
    check_name(user)

    if not LEAST_PASSWORD <= len(password) <= 1000:
        raise BadInput(f"password: must have at least {LEAST_PASSWORD} characters", "password")

    named = bool(user) and user.casefold() in password.casefold()

    if len(set(password)) < 5 or (named and len(password) < 2 * len(user) + 6):
        raise BadInput("password: is too easy to guess", "password")


def verify(home: str, user: str, password: str) -> Person | None:
    """The person with this name and password, or None."""
    users = read(home)
    row = users.get(user) or next(iter(users.values()), None)  # for an unknown name another row: the same work
    good = row and hmac.compare_digest(_keep(password, row["password"]), row["password"])
    return Person(user, users[user]["role"]) if good and user in users else None


def _keep(password: str, like: str = "") -> str:
    """The password as it is stored: with a new salt, or with method and salt of the stored one `like`."""
    method, *numbers, salt, _ = (like or f"{METHODS[0]}${os.urandom(16).hex()}$").split("$")
    data, seed = password.encode("utf-8", "surrogateescape"), bytes.fromhex(salt)

    try:
        if method == "scrypt":
            n, r, p = map(int, numbers)
            key = hashlib.scrypt(data, salt=seed, n=n, r=r, p=p, maxmem=64 * 1024 * 1024, dklen=32)
        else:
            key = hashlib.pbkdf2_hmac("sha256", data, seed, int(numbers[0]))
    except (AttributeError, ValueError, MemoryError):  # an OpenSSL without scrypt, or too little memory for it
        if like:
            raise Unusable("this Python has no scrypt, or no memory for it, by which the password is kept: set it anew")

        return _keep(password, f"{METHODS[1]}${salt}$")

    return "$".join([method, *numbers, salt, key.hex()])


def open_session(home: str, user: str, session: str, now: float, password: str | None = None) -> None:
    """Store a new session, unless the stored password is no longer `password`. Above MOST_SESSIONS the oldest end."""
    with changing(home) as users:
        if user in users and password in (None, users[user]["password"]):
            sessions = {**users[user]["sessions"], session: int(now)}
            users[user]["sessions"] = dict(list(sessions.items())[-MOST_SESSIONS:])


def close_sessions(home: str, user: str, session: str | None = None) -> None:
    """End one session of the person, or all."""
    with changing(home) as users:
        for one in list(users[user]["sessions"]) if user in users else ():
            if session in (None, one):
                del users[user]["sessions"][one]


def note(home: str, now: float, person: Person | None, address: str, action: str, subject: str = "") -> None:
    """Add a line to audit.jsonl: who did what, when, from where. At AUDIT_LIMIT bytes its lines go to audit.jsonl.1."""
    subject = subject if len(subject) <= AUDIT_SUBJECT else subject[:AUDIT_SUBJECT] + "…"
    line = {"at": format_time(now), "who": person.name if person else None, "ip": address, "did": action, "to": subject}

    with rows.locked(home, "audit.jsonl") as path:
        if os.path.exists(path) and os.path.getsize(path) > AUDIT_LIMIT:
            _move_audit(path)

        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

        try:
            append_bytes(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            close(descriptor)


def note_done(home: str, now: float, person: Person | None, address: str, action: str, subject: str,
              report: Callable[[str], object]) -> None:
    """`note` what has been done. Never raises: an answer that says it failed would have it repeated; `report` gets what
    cannot be written."""
    try:
        note(home, now, person, address, action, subject)
    except (WebschedulerError, OSError) as error:
        report(f"webscheduler: audit.jsonl: {error}: {person.name if person else '-'} {action} {subject}")


def _move_audit(path: str) -> None:
    """Move the lines to audit.jsonl.1, which has room for as much of each person: of those who did more, the oldest go.
    So nobody can push out what others did."""
    lines: list[bytes] = []

    for each in (path + ".1", path):
        if os.path.exists(each):
            with open(each, "rb") as file:
                lines += file.read().splitlines(keepends=True)

    by_person: dict[str, list[bytes]] = {}

    for line in dict.fromkeys(lines):  # a kill before the end of this leaves some in both files
        by_person.setdefault(_who(line), []).append(line)

    kept: set[bytes] = set()

    for own in by_person.values():
        room = AUDIT_LIMIT // len(by_person)

        while own and room >= len(own[-1]):
            room -= len(own[-1])
            kept.add(own.pop())

    replace_file(path + ".1", [line for line in dict.fromkeys(lines) if line in kept])
    os.unlink(path)


def _who(line: bytes) -> str:
    try:
        return str(json.loads(line)["who"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
