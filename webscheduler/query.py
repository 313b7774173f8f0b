# SPDX-License-Identifier: LGPL-3.0-or-later
"""The fields of a query string or a form (application/x-www-form-urlencoded; WHATWG URL, 5.1), for triggers and panel.

The rule: nothing here can fail, and work is bounded: of a text that is too long, or has too many fields, the rest is
left out. urllib is imported (5 ms) only where something is percent-encoded; the URLs that we hand out need none of it.
"""

from __future__ import annotations

MAX_FIELDS = 500
MAX_LENGTH = 65536  # characters


def pairs(text: str, length: int = MAX_LENGTH) -> list[tuple[str, str]]:
    """The fields in their order, each a name and a value, both decoded as UTF-8; a name may come more than once."""
    found = []

    for part in text[:length].split("&", MAX_FIELDS)[:MAX_FIELDS]:
        if part:
            name, _, value = part.replace("+", " ").partition("=")

            if "%" in part:
                from urllib.parse import unquote

                name, value = unquote(name), unquote(value)

            found.append((name, value))

    return found
