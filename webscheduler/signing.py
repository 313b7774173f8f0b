# SPDX-License-Identifier: LGPL-3.0-or-later
"""HMAC signatures of trigger and status URLs, and the keys they are made with. A value: imports nothing of the package.

The rule: which message was signed follows from the shape of the request (with `ts` or without), never from what is
stored, so each request costs one HMAC for the secret and one for that before it; whoever names an unknown slug pays the
same with a key of nobody.
The key is the ASCII text of the secret, so `printf %s SLUG | openssl dgst -sha256 -hmac SECRET` makes the same.
"""

from __future__ import annotations

import os

DUMMY_SECRET = "0" * 64
HEX = frozenset("0123456789abcdef")


def new_slug() -> str:
    """128 random bits as 32 hexadecimal digits."""
    return os.urandom(16).hex()


def new_secret() -> str:
    """256 random bits as 64 hexadecimal digits."""
    return os.urandom(32).hex()


def run_message(slug: str, ts: str | None = None) -> str:
    """What a trigger's signature signs: the slug, or slug and Unix seconds for a timed one."""
    return slug if ts is None else f"{slug}.{ts}"


def status_message(slug: str) -> str:
    """What a status URL's signature signs; it can therefore run nothing."""
    return f"status:{slug}"


def sign(secret: str, message: str) -> str:
    """HMAC-SHA256 (RFC 2104) as 64 lower-case hexadecimal digits."""
    import hmac  # 3 ms: a request with a static signature needs none

    return hmac.digest(secret.encode("ascii"), message.encode("ascii"), "sha256").hex()


def signatures(slug: str, ts: str | None, status: bool, *secrets: str) -> list[str]:
    """What a request of that shape is signed with, by each of the secrets; by a key of nobody for what is none."""
    message = status_message(slug) if status else run_message(slug, ts)
    return [sign(secret if HEX.issuperset(secret) else DUMMY_SECRET, message) for secret in secrets]


def trigger_url(base: str, slug: str, secret: str, ts: int | None = None) -> str:
    """The URL that runs the task; with `ts` (Unix seconds) it is good once and for a few minutes."""
    signature = sign(secret, run_message(slug, None if ts is None else str(ts)))
    timed = "" if ts is None else f"ts={ts}&"
    return f"{base.rstrip('/')}/run/{slug}?{timed}sig={signature}"


def status_url(base: str, slug: str, secret: str) -> str:
    """The URL that tells how the task is, for uptime monitors."""
    return f"{base.rstrip('/')}/status/{slug}?sig={sign(secret, status_message(slug))}"


def by_query(url: str) -> str:
    """The same URL for hosts that drop the path behind a script: `?task=SLUG&...`, or `?status=SLUG&...`."""
    path, _, query = url.rpartition("?")
    base, kind, slug = path.rsplit("/", 2)
    root = "/" if base.count("/") == 2 else ""  # a host alone has no path yet
    return f"{base}{root}?{'task' if kind == 'run' else kind}={slug}&{query}"
