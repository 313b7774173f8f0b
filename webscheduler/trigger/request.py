# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a request asks for, read from its environ (RFC 3875; PEP 3333).

The rules: nothing is decided here and nothing can fail; a malformed request becomes one for which no signature is
valid. Paths are compared segment by segment and contain only `[A-Za-z0-9_-]`, since each server decodes the rest in its
own way. A body is read only if neither query nor header have a signature.
"""

from __future__ import annotations

from ..query import pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEX = frozenset("0123456789abcdef")


class Request:
    """One request. kind: `run`, `status`, `admin`, empty (the bare URL) or `none` (any other).

    slug: 32 hexadecimal digits, or empty; signature: as given, or empty; ts: digits, or None; problem: what is wrong
    with the request, for the owner to read; may_run: its method and purpose allow to run something.
    """

    __slots__ = ("forwarded", "kind", "may_run", "method", "peer", "problem", "signature", "slug", "ts")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method = str(environ.get("REQUEST_METHOD", "GET")).upper()
        purpose = (environ.get("HTTP_SEC_PURPOSE", "") + environ.get("HTTP_PURPOSE", "")).lower()
        early = any(word in purpose for word in ("prefetch", "prerender", "preview"))
        self.may_run = self.method in ("GET", "POST") and not early
        self.peer = str(environ.get("REMOTE_ADDR", ""))
        self.forwarded = str(environ.get("HTTP_X_FORWARDED_FOR", ""))
        self.problem = ""
        self.signature = ""
        self.ts: str | None = None

        query = pairs(environ.get("QUERY_STRING", ""))
        self.kind, slug = _target(environ.get("PATH_INFO", ""), query)
        self.slug = slug if len(slug) == 32 and HEX.issuperset(slug) else ""

        if self.kind not in ("run", "status"):
            return

        if not self.slug:
            self.problem = "the slug is not 32 hexadecimal digits"

        self._read_signature(environ, query)

    def _read_signature(self, environ: dict[str, Any], query: list[tuple[str, str]]) -> None:
        given, times = _values(query, "sig"), _values(query, "ts")
        header = environ.get("HTTP_X_WEBSCHEDULER_SIGNATURE", "").strip()

        if header:
            if not given:
                times = [time] if (time := environ.get("HTTP_X_WEBSCHEDULER_TIMESTAMP", "").strip()) else []
                given = [header]
            elif given != [header]:
                self.problem = "query and header carry different signatures"
        elif not given and self.method == "POST" and self.may_run and self.slug:
            body = _body(environ)
            form = pairs(body or "")
            given, times = _values(form, "sig"), _values(form, "ts")
            self.problem = "the body is too long, comes too slowly or has no length" if body is None else self.problem

        self.signature = given[0] if given else ""
        self.ts = times[0] if times else None

        if len(given) > 1 or len(times) > 1:
            self.problem = "sig or ts is given more than once"
        elif not given:
            self.problem = self.problem or "there is no signature"
        elif len(self.signature) != 64 or not HEX.issuperset(self.signature.lower()):
            self.problem = self.problem or "the signature is not 64 hexadecimal digits"
        elif self.ts is not None and not (self.ts.isascii() and self.ts.isdigit() and len(self.ts) <= 12):
            self.problem = self.problem or "ts is not Unix seconds"

        if self.ts is not None and not (self.ts.isascii() and self.ts.isdigit()):
            self.ts = "0"  # it stays a timed request, and this instant is within no window


def server_kind(environ: dict[str, Any], in_process: bool) -> str:
    """The kind of server of a request, like `cgi/apache` or `wsgi/gunicorn`, without its version."""
    software = str(environ.get("SERVER_SOFTWARE", ""))

    if "mod_wsgi.version" in environ:
        name = "mod_wsgi"
    elif "uwsgi.version" in environ:
        name = "uwsgi"
    elif "Passenger" in software or "passenger.hijack" in environ:
        name = "passenger"
    else:
        name = "".join(c for c in software.partition("/")[0].partition(" ")[0].lower() if c.isalnum() or c in "_-")

    return ("cgi/" if in_process else "wsgi/") + (name[:40] or "unknown")


def kind(environ: dict[str, Any]) -> str:
    """Request.kind, without reading a body."""
    return _target(environ.get("PATH_INFO", ""), pairs(environ.get("QUERY_STRING", "")))[0]


def _target(path: str, query: list[tuple[str, str]]) -> tuple[str, str]:
    segments = [segment for segment in path.split("/") if segment]

    if len(segments) == 2 and segments[0] in ("run", "status"):
        return segments[0], segments[1]

    if segments:
        return (segments[0], "") if segments[0] in ("run", "status", "admin") else ("none", "")

    for key, kind in (("task", "run"), ("status", "status"), ("admin", "admin")):
        found = _values(query, key)

        if found:
            return kind, found[0] if len(found) == 1 else ""

    return "", ""


def _values(fields: list[tuple[str, str]], key: str) -> list[str]:
    return [value for name, value in fields if name == key]


def _body(environ: dict[str, Any]) -> str | None:
    from ..body import MAX_FORM, receive, stated_length

    length = stated_length(environ)
    body = receive(environ, length) if length is not None and length <= MAX_FORM else None
    return None if body is None else body.decode("latin-1")
