# SPDX-License-Identifier: LGPL-3.0-or-later
"""Calling a URL: the one HTTP client, for the command `http`, notifications, doctor and probe.

The rules: a call ends at its time limit, whatever the other side does, and no more is read than was asked for. What
goes wrong is part of the answer, never an exception.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Answer:
    """status: of HTTP, 0 without a whole answer, and `problem` says why in a line. seconds: until `body` was read.
    location: where a redirect leads that was not followed."""

    __slots__ = ("body", "location", "problem", "seconds", "status")

    def __init__(
        self, status: int = 0, seconds: float = 0.0, body: bytes = b"", location: str = "", problem: str = ""
    ) -> None:
        self.status, self.seconds, self.body = status, seconds, body
        self.location, self.problem = location, problem


def fetch(
    url: str, limit: float, headers: dict[str, str] | None = None, data: bytes | None = None, *,
    follow: bool = False, most: int = 4096,
) -> Answer:
    """Call an http or https URL for at most `limit` seconds and read `most` bytes. data: what to POST; else it is a
    GET. follow: go where a redirect leads."""
    import threading
    import time

    answers: list[Answer] = []
    begun = time.monotonic()

    def call() -> None:
        answers.append(_call(url, limit, {"User-Agent": "webscheduler", **(headers or {})}, data, follow, most))

    # The timeout of a socket starts again with each byte, and does not bound the look-up of the host's name.
    thread = threading.Thread(target=call, daemon=True)

    try:
        thread.start()
    except RuntimeError:  # the account may have no more threads: then that timeout is the only limit
        call()
    else:
        thread.join(limit)

    answer = answers[0] if answers else Answer(problem=f"no whole answer within {limit:g} s")
    answer.seconds = round(time.monotonic() - begun, 3)
    return answer


def _call(url: str, limit: float, headers: dict[str, str], data: bytes | None, follow: bool, most: int) -> Answer:
    import http.client
    import urllib.error
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    try:
        request = urllib.request.Request(url, data, headers)  # noqa: S310 (callers pass no other schemes)
        response: Any

        try:
            response = urllib.request.build_opener(*([] if follow else [Stay])).open(request, timeout=limit)
        except urllib.error.HTTPError as error:
            response = error

        with response:
            location = response.headers["Location"] if 300 <= response.status < 400 else ""
            return Answer(response.status, body=response.read(most), location=location or "")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(problem=" ".join(str(getattr(error, "reason", None) or error or type(error)).split())[:200])
