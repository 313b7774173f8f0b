# SPDX-License-Identifier: LGPL-3.0-or-later
"""The built-in commands. Each takes words and returns an exit status."""

from __future__ import annotations

import codecs
import sys

from ..fetching import fetch, split_url

MAX_SHOWN = 2000  # bytes of the answer's body


def hello(*words: str) -> int:
    """Print a greeting."""
    print("Hello" + (", " + " ".join(words) if words else "") + "!")
    return 0


def http(*words: str) -> int:
    """Fetch a URL; exit status 0 for a whole 2xx response, 1 for another or none, 2 for wrong words."""
    return _http(None, *words)


def public_http(home: str, *words: str) -> int:
    """The same for somebody who may not look into this network: only public addresses, and the hosts of `private_hosts`
    in the settings of `home`."""
    from ..store.settings import load_settings, private_hosts

    return _http(private_hosts(load_settings(home)), *words)


def _http(private: set[str] | None, *words: str) -> int:
    if not 1 <= len(words) <= 2:
        print("http: give a URL that starts with http:// or https://, and if needed seconds", file=sys.stderr)
        return 2

    limit = words[1] if len(words) == 2 else "60"

    if not (limit.isascii() and limit.isdigit()) or not 0 < int(limit[:6]) <= 86400:
        print("http: the time limit must be from 1 to 86400 seconds", file=sys.stderr)
        return 2

    try:
        asked, _ = split_url(words[0])
    except ValueError as error:
        print(f"http: {error}", file=sys.stderr)
        return 2

    answer = fetch(words[0], int(limit), follow=True, most=MAX_SHOWN, private=private)
    where = answer.url if answer.url == asked else f"{answer.url} (redirected from {asked})"

    more = answer.length - len(answer.body)

    if answer.status:
        print(f"{answer.status} {where}")
        print(codecs.getincrementaldecoder("utf-8")("replace").decode(answer.body, final=not more))

    if more:
        print(f"... [{more} more bytes]")

    if answer.problem:
        print(f"{where}: {answer.problem}", file=sys.stderr)

    return 0 if 200 <= answer.status < 300 and not answer.problem else 1
