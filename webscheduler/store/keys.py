# SPDX-License-Identifier: LGPL-3.0-or-later
"""Keys of the API (api-keys.json): who may call it from elsewhere, without a password.

The rules: a key is 256 random bits and is shown once; only its SHA-256 is kept, which needs no salt and no slow hash,
since nobody can guess such a key. Whatever key is given is compared with all, and each row's end and addresses are
looked at, so that all take the same work. The last use is written at most once a minute, if that can be done at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypedDict

from ..addresses import allowed
from ..errors import BadInput, WebschedulerError, did_you_mean
from ..times import format_time, instant
from . import rows
from .fields import HEX, PROBLEMS, Field, check
from .people import NAME, ROLES, Person


class Key(TypedDict):
    """What is known of a key. createdAt, expiresAt, lastUsedAt: ISO 8601; ipAllowlist: empty for all addresses."""

    role: str
    createdAt: str
    expiresAt: str | None
    ipAllowlist: list[str]
    lastUsedAt: str | None


FILE = "api-keys.json"
PREFIX = "wsk_"  # so that scanners for secrets find it, and we hide it
MOST_KEYS = 100
MOST_SECONDS = 10 * 366 * 86400
USED_EVERY = 60  # seconds
ADDRESSES = Field("networks", [], "Addresses that may use it")


def add(home: str, name: str, role: str, now: float, expires: float | None = None,
        allowlist: Sequence[str] = ()) -> str:
    """Make a key and return it: it cannot be read again. expires: Unix seconds. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput("name: must be 1 to 64 letters, digits, or . @ + - _", "name")

    if role not in ROLES:
        raise BadInput("role: must be one of " + ", ".join(ROLES), "role")

    if expires is not None and not now < expires <= now + MOST_SECONDS:
        raise BadInput("expires: must be a time to come, within ten years", "expires")

    check("ipAllowlist", ADDRESSES, list(allowlist))
    key = PREFIX + secrets.token_urlsafe(32)

    with _keys.changing(home) as found:
        if name in found:
            raise BadInput(f"there is a key {name!r} already: revoke it first, or choose another name", "name")

        if len(found) >= MOST_KEYS:
            raise BadInput(f"there are {MOST_KEYS} keys, and no more are possible: revoke one first", "name")

        found[name] = {"hash": _hash(key), "role": role, "createdAt": format_time(now),
                       "expiresAt": None if expires is None else format_time(expires),
                       "ipAllowlist": list(allowlist), "lastUsedAt": None}

    return key


def revoke(home: str, name: str) -> None:
    """Remove a key, which counts at once. Raises BadInput."""
    with _keys.changing(home) as found:
        if name not in found:
            raise BadInput(f"no key is named {name[:100]!r}{did_you_mean(name, found)}", "name")

        del found[name]


def listed(home: str) -> dict[str, Key]:
    """The keys by name, without what is kept of the key itself. Raises Unusable for a damaged file."""
    return {name: {column: row.get(column) for column in Key.__annotations__} for name, row in _keys.read(home).items()}  # type: ignore[misc]


def exists(home: str) -> bool:
    """Whether there is any key, be it expired: the API is off until then. Raises Unusable."""
    return bool(_keys.read(home))


def is_over(row: Key, now: float) -> bool:
    """Whether a key has expired."""
    return row.get("expiresAt") is not None and instant(row["expiresAt"]) <= now


def verify(home: str, given: str, address: str, now: float) -> Person | None:
    """Whose key it is, if it may be used now, from this address. Raises Unusable."""
    name, digest = "", _hash(given)
    found = _keys.read(home)

    for each, row in found.items():
        same = hmac.compare_digest(row["hash"], digest)
        near = not row["ipAllowlist"] or allowed(address, row["ipAllowlist"])
        over = is_over(row, now)
        name = each if same and near and not over else name

    if not name:
        return None

    if abs(now - instant(found[name].get("lastUsedAt"))) >= USED_EVERY:
        # Not now if another process changes the file, and never if it cannot be written.
        with suppress(WebschedulerError, OSError), _keys.changing(home, 0.0, "file") as changed:
            if name in changed:
                changed[name]["lastUsedAt"] = format_time(now)

    return Person(f"key {name}", found[name]["role"])


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _is_sound(row: Any) -> bool:
    if not isinstance(row, dict) or row.get("role") not in ROLES:
        return False

    kept, times = row.get("hash"), [row.get("createdAt"), *(row[name] for name in ("expiresAt", "lastUsedAt")
                                                            if row.get(name) is not None)]
    return (isinstance(kept, str) and len(kept) == 64 and HEX.issuperset(kept) and all(map(instant, times))
            and not PROBLEMS["networks"](row.get("ipAllowlist"), None))


_keys = rows.Rows(FILE, _is_sound, "make new keys")
