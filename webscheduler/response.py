# SPDX-License-Identifier: LGPL-3.0-or-later
"""An HTTP response, as every door sends it: a trigger's JSON and the panel's pages alike.

The rules: `Content-Length` is always there, since some servers keep a client waiting without; nothing is stored by a
cache unless it says so; a header's value never holds a control character.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

PHRASES = {200: "OK", 202: "Accepted", 303: "See Other", 404: "Not Found", 503: "Service Unavailable"}
NOSNIFF = ("X-Content-Type-Options", "nosniff")


class Response:
    """Status, headers and body; after: a job that the door runs once the response is out."""

    __slots__ = ("after", "body", "headers", "kind", "status")

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        kind: str = "application/json",
        headers: Sequence[tuple[str, str]] = (NOSNIFF,),
        after: Callable[[], object] | None = None,
    ) -> None:
        self.body, self.status, self.kind, self.headers, self.after = body, status, kind, list(headers), after

    @property
    def line(self) -> str:
        """Status code and reason phrase (RFC 9110, 15); any status may be a task's `failureStatus`."""
        if self.status not in PHRASES:
            from http.client import responses

            return f"{self.status} {responses.get(self.status, 'Other')}"

        return f"{self.status} {PHRASES[self.status]}"

    def all_headers(self) -> list[tuple[str, str]]:
        """Every header of the response."""
        found = [("Content-Type", self.kind), ("Content-Length", str(len(self.body)))]

        if not any(name.lower() == "cache-control" for name, _ in self.headers):
            found.append(("Cache-Control", "no-store"))

        return [(name, value if value.isprintable() else "".join(filter(str.isprintable, value)))
                for name, value in (*found, *self.headers)]
