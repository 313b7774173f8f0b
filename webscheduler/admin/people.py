"""The panel's people: who may sign in, with what password, in what role; and what they did. Imports files of the core.

    set_password(home, user, password, role=None, now=…)    what `webscheduler set-password` calls; raises BadInput

users.json: {NAME: {"role", "password", "createdAt", "sessions": {ID: Unix seconds of sign-in}}}. A session counts only
while its id stands there: signing out takes it out, a new password and "sign out everywhere" take out all.
The rules: passwords are kept as scrypt, or as pbkdf2 where this Python's OpenSSL has no scrypt; an unknown name costs
the same work as a known one; at least one owner remains. Each file is changed under a lock of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from typing import NamedTuple

from .. import atomic
from ..errors import BadInput, Busy, Unusable
from ..task import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    T = TypeVar("T")

ROLES = ("viewer", "editor", "owner")
LEAST_PASSWORD = 10
MOST_SESSIONS = 20
AUDIT_LIMIT = 1024 * 1024
# 16 MiB for about 0.2 s, or as many rounds as take as long; OWASP's password storage cheat sheet.
METHOD = ("scrypt", "16384", "8", "5") if hasattr(hashlib, "scrypt") else ("pbkdf2", "600000")
NOBODY = "$".join([*METHOD, "00" * 16, ""])  # no key is empty
NAME = re.compile(r"[^\W_][\w.@+-]{0,63}")


class Person(NamedTuple):
    """Who is signed in."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether the person's role includes this one."""
        return ROLES.index(self.role) >= ROLES.index(role)


def read(home: str, file: str) -> dict[str, Any]:
    """A file of the panel's; empty where it is not there yet. Raises Unusable: never taken for empty when damaged."""
    try:
        with open(os.path.join(home, file), "rb") as source:
            found = json.loads(source.read())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Unusable(f"{home}/{file} cannot be read ({error}): mend it, or remove it and set passwords anew")

    if not isinstance(found, dict):
        raise Unusable(f"{home}/{file} must hold an object: mend it, or remove it and set passwords anew")

    return found


def update(home: str, file: str, change: Callable[[dict[str, Any]], T]) -> T:
    """Change a file of the panel's under its lock; if `change` raises, nothing is written."""
    from filelock import FileLock, Timeout

    lock = FileLock(os.path.join(home, file + ".lock"), mode=0o600)

    try:
        with lock.acquire(timeout=10, poll_interval=0.01):
            found = read(home, file)
            before = json.dumps(found)
            result = change(found)

            if json.dumps(found) != before:
                atomic.replace(os.path.join(home, file), json.dumps(found, ensure_ascii=False).encode() + b"\n")

            return result
    except Timeout:
        raise Busy(f"{file} is locked by another process for too long: try again")
    except OSError as error:
        raise Unusable(f"{home}/{file} cannot be written: {error.strerror}")


def set_password(home: str, user: str, password: str, role: str | None = None, *, now: float) -> bool:
    """Give a person a password, and a role (a new one is owner where there is none yet, else viewer); True if the
    person is new. Ends all sessions of that person and forgives failed sign-ins. Raises BadInput."""
    check_name(user)
    check_password(user, password)

    if role is not None and role not in ROLES:
        raise BadInput("role: must be one of " + ", ".join(ROLES), "role")

    hashed = _hash(password)

    def change(users: dict[str, Any]) -> bool:
        new = user not in users
        first = not any(row["role"] == "owner" for row in users.values())
        row = users.setdefault(user, {"role": "owner" if first else "viewer", "createdAt": format_time(now)})
        row.update(password=hashed, sessions={}, role=role or row["role"])
        _keep_owner(users)
        return new

    new = update(home, "users.json", change)
    update(home, "throttle.json", dict.clear)
    return new


def set_role(home: str, user: str, role: str) -> None:
    """Give a person another role. Raises BadInput."""

    def change(users: dict[str, Any]) -> None:
        if user not in users or role not in ROLES:
            raise BadInput("role: no such person or role", "role")

        users[user]["role"] = role
        _keep_owner(users)

    update(home, "users.json", change)


def remove(home: str, user: str) -> None:
    """Remove a person, who is signed out by that. Raises BadInput for the last owner."""

    def change(users: dict[str, Any]) -> None:
        users.pop(user, None)
        _keep_owner(users)

    update(home, "users.json", change)


def _keep_owner(users: dict[str, Any]) -> None:
    if not any(row["role"] == "owner" for row in users.values()):
        raise BadInput("role: somebody must remain owner", "role")


def check_name(user: str) -> None:
    """Refuse a name that could be mistaken. Raises BadInput."""
    if not NAME.fullmatch(user):
        raise BadInput("user: must be 1 to 64 letters, digits, or . @ + - _", "user")


def check_password(user: str, password: str) -> None:
    """Refuse a password that is guessed at once. Raises BadInput."""
    if not LEAST_PASSWORD <= len(password) <= 1000:
        raise BadInput(f"password: must have at least {LEAST_PASSWORD} characters", "password")

    if len(set(password)) < 5 or user and user.casefold() in password.casefold() and len(password) < 2 * len(user) + 6:
        raise BadInput("password: is too easy to guess", "password")


def verify(home: str, user: str, password: str) -> Person | None:
    """The person whose name and password these are."""
    row = read(home, "users.json").get(user, {})
    method, *numbers, salt, expected = (row.get("password") or NOBODY).split("$")
    found = _derive(method, [int(number) for number in numbers], password, bytes.fromhex(salt))
    good = hmac.compare_digest(found.hex(), expected)
    return Person(user, row["role"]) if good and row.get("role") in ROLES else None


def _hash(password: str) -> str:
    salt = os.urandom(16)
    method, *numbers = METHOD
    return "$".join([method, *numbers, salt.hex(), _derive(method, list(map(int, numbers)), password, salt).hex()])


def _derive(method: str, numbers: list[int], password: str, salt: bytes) -> bytes:
    data = password.encode("utf-8", "surrogateescape")

    if method == "scrypt":
        if not hasattr(hashlib, "scrypt"):
            raise Unusable("this Python has no scrypt, with which the password was kept: set it anew")

        n, r, p = numbers
        return hashlib.scrypt(data, salt=salt, n=n, r=r, p=p, maxmem=64 * 1024 * 1024, dklen=32)

    return hashlib.pbkdf2_hmac("sha256", data, salt, numbers[0])


def open_session(home: str, user: str, session: str, now: float) -> None:
    """Note that the person signed in; of too many sessions the oldest end."""

    def change(users: dict[str, Any]) -> None:
        if user in users:
            sessions = {**users[user].get("sessions", {}), session: int(now)}
            users[user]["sessions"] = dict(list(sessions.items())[-MOST_SESSIONS:])

    update(home, "users.json", change)


def close_sessions(home: str, user: str, session: str | None = None) -> None:
    """End one session of the person, or all."""

    def change(users: dict[str, Any]) -> None:
        if user in users:
            rest = {one: when for one, when in users[user].get("sessions", {}).items() if session not in (None, one)}
            users[user]["sessions"] = rest

    update(home, "users.json", change)


def note(home: str, now: float, person: Person | None, address: str, action: str, subject: str = "") -> None:
    """Add a line to audit.jsonl: who did what, when, from where. One file of AUDIT_LIMIT bytes before it is kept."""
    path = os.path.join(home, "audit.jsonl")
    entry = {"at": format_time(now), "who": person.name if person else None, "ip": address, "did": action,
             "to": subject}
    data = json.dumps(entry).encode() + b"\n"

    try:
        if os.path.exists(path) and os.path.getsize(path) > AUDIT_LIMIT:
            os.replace(path, path + ".1")

        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unusable(f"{path} cannot be written: {error.strerror}")

    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
