# SPDX-License-Identifier: LGPL-3.0-or-later
"""The body of a request (RFC 3875, 4.2; PEP 3333), which is read only where it can matter. A leaf.

The rule: under CGI each process waits for its own client, so it does not wait for long: STALL seconds without a byte,
LONGEST in all. Under WSGI that is the server's to limit.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FORM = 65536  # bytes
MAX_BACKUP = 4 * 1024 * 1024  # bytes: one with a thousand tasks
STALL, LONGEST = 5.0, 60.0  # seconds
STANDARD_INPUT = "webscheduler.input"  # in the environ: the body comes on descriptor 0; when waiting for it ends


def stated_length(environ: dict[str, Any]) -> int | None:
    """The length that the request states for its body, in bytes; None if it states none, or not as a number."""
    text = str(environ.get("CONTENT_LENGTH") or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def receive_form(environ: dict[str, Any]) -> str | None:
    """The whole body, each byte as a character; None if it is too long, states no length, or does not come in time."""
    length = stated_length(environ)
    body = receive(environ, length) if length is not None and length <= MAX_FORM else None
    return None if body is None else body.decode("latin-1")


def receive(environ: dict[str, Any], size: int) -> bytes | None:
    """The next `size` bytes of the body; fewer if it ends before. None if they do not come in time, or the client is
    gone."""
    try:
        if STANDARD_INPUT in environ:
            return _receive(environ, size)

        found = environ["wsgi.input"].read(size)
    except (AttributeError, OSError):  # a server without such a stream, or whose client is gone
        return None

    return found if isinstance(found, bytes) else None


def _receive(environ: dict[str, Any], size: int) -> bytes | None:
    import select
    import time

    found, poller = bytearray(), select.poll()
    poller.register(0, select.POLLIN)
    until = environ[STANDARD_INPUT] = environ[STANDARD_INPUT] or time.monotonic() + LONGEST

    while len(found) < size:
        wait = min(STALL, until - time.monotonic())

        if wait <= 0 or not poller.poll(wait * 1000):
            return None

        data = os.read(0, min(65536, size - len(found)))
        found += data

        if not data:
            break

    return bytes(found)
