# SPDX-License-Identifier: LGPL-3.0-or-later
"""HTTP as all doors share it: what a request asks for (RFC 3875; PEP 3333), and a response.

The rules of a request: nothing is decided here and nothing can fail; a malformed one becomes one for which no signature
is valid. Paths are compared segment by segment and contain only `[A-Za-z0-9_-]`, since each server decodes the rest in
its own way. What panels and editors do to a URL is forgiven where it cannot be meant otherwise: `&amp;` for `&`, a
second query, capitals, and blanks, line ends or quotes at its end; `pasted` names the rest. A body is read only if
neither query nor header have a signature. Work is bounded: of a query that is too long, or has too many fields, the
rest is left out.

The rules of a response: `Content-Length` is always there, since some servers keep a client waiting without; nothing is
stored by a cache unless it says so; a header's value never holds a control character.

It is one module, since each that a request imports costs it as much as its work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Callable

MAX_FIELDS = 500
MAX_LENGTH = 65536  # characters
HEX = frozenset("0123456789abcdef")
# What is forgiven at the end of a slug, a signature or a time; the last ones are the bytes of typographic quotes and of
# a blank that does not break, in UTF-8.
ENDS = " \t\r\n\"'\u201c\u201d\u2019\xa0\xe2\x80\x9c\x9d\x99\xc2"
# What the user agents of link previews hold: of Slack, Facebook (and iMessage), X, Telegram, WhatsApp (and Signal),
# Discord, Teams and Skype, LinkedIn, Bluesky, Zoom, and others of their kind. Not of robots as such: some monitors say
# they are one.
PREVIEWS = ("preview", "slackbot", "slack-imgproxy", "facebookexternal", "facebot", "meta-external", "twitterbot",
            "telegrambot", "whatsapp", "discordbot", "microsoft teams", "linkedinbot", "redditbot", "pinterest",
            "viber", "vkshare", "mastodon", "synapse", "mattermost", "iframely", "embedly", "applebot",
            "google (+https", "cardyb", "linkbot", "keybasebot", "summalybot", "misskey", "lemmy", "pleroma", "akkoma",
            "friendica", "onebox", "unfurl", "bitlybot", "odklbot")
PHRASES = {200: "OK", 202: "Accepted", 303: "See Other", 404: "Not Found", 503: "Service Unavailable"}
NOT_FOUND = b'{"found": false}'
NOSNIFF = ("X-Content-Type-Options", "nosniff")


class Request:
    """One request for /run or /status. kind: `run`, `status`, `admin`, `api`, empty (the bare URL) or `none` (any
    other).

    slug: 32 hexadecimal digits, or empty; signature: as given, or empty; ts: digits, or None; problem: what is wrong
    with the request, for the owner to read; may_run: its method and purpose allow to run something.
    """

    __slots__ = ("environ", "forwarded", "kind", "may_run", "method", "peer", "problem", "signature", "slug", "ts")

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.method = str(environ.get("REQUEST_METHOD", "GET")).upper()
        self.may_run = self.method in ("GET", "POST") and not _is_early(environ)
        self.peer = str(environ.get("REMOTE_ADDR", ""))
        self.forwarded = str(environ.get("HTTP_X_FORWARDED_FOR", ""))
        self.problem = self.signature = ""
        self.ts: str | None = None

        query = fields(environ.get("QUERY_STRING", "").replace("&amp;", "&").replace("?", "&"))
        self.kind, slug = _target(environ.get("PATH_INFO", ""), query)
        slug = slug.rstrip(ENDS).lower()
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
            from .body import receive_form

            body = receive_form(environ)
            form = fields(body or "")
            given, times = _values(form, "sig"), _values(form, "ts")
            self.problem = "the body is too long, comes too slowly or has no length" if body is None else self.problem

        self.signature = given[0].rstrip(ENDS) if given else ""
        self.ts = times[0].rstrip(ENDS) if times else None

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


def _is_early(environ: dict[str, Any]) -> bool:
    """Whether the link was not opened by whoever it is for: a browser fetches it in advance, or a service shows what is
    behind it."""
    agent = environ.get("HTTP_USER_AGENT", "").lower()

    purpose = (environ.get("HTTP_SEC_PURPOSE", "") + environ.get("HTTP_PURPOSE", "") + environ.get("HTTP_X_PURPOSE", "")
               + environ.get("HTTP_X_MOZ", ""))
    return any(word in agent for word in PREVIEWS) or (
        purpose != "" and any(word in purpose.lower() for word in ("prefetch", "prerender", "preview")))


def fields(text: str, length: int = MAX_LENGTH) -> list[tuple[str, str]]:
    """The fields of a query string or a form (application/x-www-form-urlencoded; WHATWG URL, 5.1) in their order, each
    a name and a value, both decoded as UTF-8; a name may come more than once."""
    found = []

    for part in text[:length].split("&", MAX_FIELDS)[:MAX_FIELDS]:
        if part:
            name, _, value = part.replace("+", " ").partition("=")

            if "%" in part:
                from urllib.parse import unquote  # 5 ms; the URLs that we hand out need none of it

                name, value = unquote(name), unquote(value)

            found.append((name, value))

    return found


def log(stream: Any, line: str) -> None:
    """Write one line to the server's error log. If that cannot be written (a full disk, a closed or broken stream), the
    answer is the same."""
    try:
        stream.write(line.replace("\n", " ") + "\n")
        stream.flush()
    except Exception:  # noqa: S110 (there is nowhere left to say it; what a server gives us may raise anything)
        pass


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


def _target(path: str, query: list[tuple[str, str]]) -> tuple[str, str]:
    segments = [segment for segment in path.split("/") if segment]

    if len(segments) == 2 and segments[0] in ("run", "status"):
        return segments[0], segments[1]

    if segments:
        return (segments[0], "") if segments[0] in ("run", "status", "admin", "api") else ("none", "")

    # `api` first, since the others may be filters of its lists; but a signature is never for it.
    for key, kind in (("api", "api"), ("task", "run"), ("admin", "admin"), ("status", "status")):
        found = [value for name, value in query if name.partition("=")[0] == key]  # `%3D` for `=` is to be named

        if found and not (kind == "api" and _values(query, "sig")):
            return kind, found[0] if len(found) == 1 else ""

    return "", ""


def _values(given: list[tuple[str, str]], key: str) -> list[str]:
    return [value for name, value in given if name == key]


class Response:
    """Status, headers and body; after: a job that the door runs once the response is out."""

    __slots__ = ("after", "body", "headers", "kind", "status")

    def __init__(self, body: bytes, status: int = 200, kind: str = "application/json",
                 headers: Sequence[tuple[str, str]] = (NOSNIFF,), after: Callable[[], object] | None = None) -> None:
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
        # What has no content (204) has neither (RFC 9110, 8.6).
        found = [] if self.status == 204 else [("Content-Type", self.kind), ("Content-Length", str(len(self.body)))]

        if not any(name.lower() == "cache-control" for name, _ in self.headers):
            found.append(("Cache-Control", "no-store"))

        return [(name, value if value.isprintable() else "".join(filter(str.isprintable, value)))
                for name, value in (*found, *self.headers)]
