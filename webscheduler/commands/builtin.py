# SPDX-License-Identifier: LGPL-3.0-or-later
"""The built-in commands. Each takes words and returns an exit status."""

from __future__ import annotations

import sys

from ..fetching import fetch

MAX_SHOWN = 2000  # bytes of the answer's body


def hello(*words: str) -> int:
    """Print a greeting."""
    print("Hello" + (", " + " ".join(words) if words else "") + "!")
    return 0


def http(*words: str) -> int:
    """Fetch a URL; exit status 0 for a 2xx response, 1 for another or none, 2 for wrong words."""
    if not 1 <= len(words) <= 2 or not words[0].lower().startswith(("http://", "https://")):
        print("http: give a URL that starts with http:// or https://, and if needed seconds", file=sys.stderr)
        return 2

    limit = words[1] if len(words) == 2 else "60"

    if not (limit.isascii() and limit.isdigit()) or not 0 < int(limit[:6]) <= 86400:
        print("http: the time limit must be from 1 to 86400 seconds", file=sys.stderr)
        return 2

    answer = fetch(words[0], int(limit), follow=True, most=MAX_SHOWN)

    if not answer.status:
        print(f"{words[0]}: {answer.problem}", file=sys.stderr)
        return 1

    print(f"{answer.status} {words[0]}")
    print(answer.body.decode("utf-8", "replace"))
    return 0 if 200 <= answer.status < 300 else 1
