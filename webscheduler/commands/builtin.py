"""The built-in commands. Each takes words and returns an exit status."""

from __future__ import annotations

import sys

MAX_SHOWN = 2000


def hello(*words: str) -> int:
    """Print a greeting."""
    print("Hello" + (", " + " ".join(words) if words else "") + "!")
    return 0


def http(*words: str) -> int:
    """Fetch a URL; exit status 0 for a 2xx answer, 1 for any other or none, 2 for wrong words."""
    if not 1 <= len(words) <= 2 or not words[0].lower().startswith(("http://", "https://")):
        print("http takes a URL that starts with http:// or https://, and optionally seconds", file=sys.stderr)
        return 2

    limit = words[1] if len(words) == 2 else "60"

    if not (limit.isascii() and limit.isdigit()) or not 0 < int(limit[:6]) <= 86400:
        print("http: the time limit must be from 1 to 86400 seconds", file=sys.stderr)
        return 2

    return _fetch(words[0], int(limit))


def _fetch(url: str, seconds: int) -> int:
    import http.client
    import signal
    import urllib.error
    import urllib.request

    # A socket's timeout starts again with each byte; an alarm bounds the whole.
    signal.alarm(seconds)
    request = urllib.request.Request(url, headers={"User-Agent": "webscheduler"})  # noqa: S310 (checked)

    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            body = answer.read(MAX_SHOWN)
            status = answer.status
    except urllib.error.HTTPError as error:
        body, status = error.read(MAX_SHOWN), error.code
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{url}: {getattr(error, 'reason', None) or error}", file=sys.stderr)
        return 1

    print(f"{status} {url}")
    print(body.decode("utf-8", "replace"))
    return 0 if 200 <= status < 300 else 1
