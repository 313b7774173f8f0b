# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a page is made of: the request as the panel sees it, the answer, and HTML.

The rules: HTML is made by `h` from literals and from the parts of pages.html, and every value that is not HTML already
is escaped there, what is invisible in it shown. Links are made by `Visit.href` alone, since hosts that drop PATH_INFO
need them in another form. A header's value never holds a control character.
"""

from __future__ import annotations

import functools
import hashlib
import html
import pkgutil
import re
import time
from urllib.parse import quote, urlencode

from ..addresses import by_https, client
from ..body import MAX_BACKUP, MAX_FORM, receive, stated_length
from ..http import MAX_FIELDS, NOSNIFF, Response, fields, log
from ..printable import pictured
from . import language

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.people import Person
    from ..store.settings import Settings

FILES = {"style": ("panel.css", "text/css"), "script": ("panel.js", "text/javascript"),
         "icon": ("icon.svg", "image/svg+xml")}
MOST_PARTS = 10
POLICY = ("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
          "form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
HEADERS = (("Content-Security-Policy", POLICY), NOSNIFF, ("Referrer-Policy", "no-referrer"),
           ("X-Frame-Options", "DENY"), ("Cross-Origin-Opener-Policy", "same-origin"),
           ("Cross-Origin-Resource-Policy", "same-origin"))


class Html(str):
    """Text that is HTML."""

    __slots__ = ()


def escape(value: object) -> Html:
    """A value as HTML, for text and for quoted attributes alike. None is nothing."""
    if isinstance(value, Html):
        return value

    return Html("" if value is None else html.escape(pictured(str(value))))


def h(template: str, **values: object) -> Html:
    """The template, which must be a literal, with its `{names}` replaced by the values, escaped; lists are joined."""
    return Html(template.format_map({
        name: "".join(map(escape, value)) if isinstance(value, (list, tuple)) else escape(value)
        for name, value in values.items()}))


@functools.cache
def templates() -> dict[str, str]:
    """The parts of pages.html by name. In them `{name}` is a value and `[[text]]` a message to translate."""
    text = (pkgutil.get_data(__name__, "pages.html") or b"").decode()
    parts = re.split(r"^<!-- ([a-z-]+) -->\n", text, flags=re.MULTILINE)
    return {name: content.rstrip("\n") for name, content in zip(parts[1::2], parts[2::2])}


@functools.lru_cache(maxsize=1000)
def _said(tongue: str, message: str) -> str:
    """A message in the language as HTML, `text` in it as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(language.translate(tongue, message)))


@functools.lru_cache(maxsize=200)
def _translated(tongue: str, template: str) -> str:
    """A part of pages.html with its messages in the language."""
    return re.sub(r"\[\[(.*?)\]\]", lambda found: _said(tongue, found[1]), templates()[template])


def respond(body: str | bytes, status: int = 200, kind: str = "text/html", **headers: str) -> Response:
    """A page, or another response of the panel, with its security headers. Text is sent as UTF-8."""
    return Response(
        body if isinstance(body, bytes) else body.encode("utf-8", "backslashreplace"), status,
        kind + ("; charset=utf-8" if kind.startswith("text/") else ""),
        [*HEADERS, *((name.replace("_", "-"), value) for name, value in headers.items())])


@functools.cache
def content(name: str) -> bytes:
    """The content of one of FILES."""
    return pkgutil.get_data(__name__, FILES[name][0]) or b""


def version(name: str) -> str:
    """A hash of the content, for links: so browsers may keep the files for a year."""
    return hashlib.sha256(content(name)).hexdigest()[:12]


def serve(visit: Visit) -> Response:
    """One of FILES."""
    kept = "max-age=31536000, immutable" if visit.query.get("v") == version(visit.page) else "no-cache"
    return respond(content(visit.page), kind=FILES[visit.page][1], Cache_Control=kept)


class Refused(Exception):
    """The request is refused. status: of HTTP; message: for the person, to be translated."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Visit:
    """One request. page: the path below /admin, without slashes; query and form: the last value of each name.

    person: who is signed in; token: what forms of this session must carry; new_session: it begins with this request,
    so no form can have its token; address: of the client; secure: it came by https; secure_cookies: the cookies that we
    set are sent by https alone; in_process, server, clock: for starting a run (`strategies.start_run`); notice: the
    message of the action before, or (told) of this one; cookies: to set, by name.
    """

    def __init__(self, environ: dict[str, Any], settings: Settings, now: float) -> None:
        self.environ, self.settings, self.home, self.now = environ, settings, settings.home, now
        self.method = str(environ.get("REQUEST_METHOD", "GET")).upper()
        self.query = _last(str(environ.get("QUERY_STRING", "")))
        self.by_query = not str(environ.get("PATH_INFO", "")).strip("/")
        path = self.query.pop("admin", "") if self.by_query else str(environ["PATH_INFO"]).strip("/")[len("admin"):]
        self.page = path.strip("/")
        self.form: dict[str, str] = {}
        self._upload = "", b"", 0  # type and beginning of a body with a file, and how many bytes follow
        self.mount = mount(environ)
        self.person: Person | None = None
        self.embedded = False
        self.session = self.token = ""
        self.new_session = True
        self.notice: dict[str, str] = {}
        self.told = False
        self.cookies: dict[str, str] = {}
        peer, trusted = str(environ.get("REMOTE_ADDR", "")), settings["trustedProxies"]
        self.address = client(peer, str(environ.get("HTTP_X_FORWARDED_FOR", "")), trusted)
        self.secure = by_https(environ, trusted)
        # Before a server that sees http there may be a proxy that speaks https, trusted or not.
        self.secure_cookies = self.secure or str(settings["baseUrl"] or "").lower().startswith("https:")
        self.in_process, self.server, self.clock = False, "", time.time
        self.language = language.choose(settings["language"], str(environ.get("HTTP_ACCEPT_LANGUAGE", "")))

    def may(self, role: str) -> bool:
        """Whether the visitor is signed in and has this role or a higher one."""
        return self.person is not None and self.person.may(role)

    def href(self, page: str, /, **query: object) -> str:
        """A link to a page of the panel, in the form that this host understands."""
        pairs = {name: value for name, value in query.items() if value not in (None, "")}

        if self.by_query:
            return f"{self.mount}?{urlencode({'admin': page, **pairs})}"

        return f"{self.mount.rstrip('/')}/admin/{page}" + (f"?{urlencode(pairs)}" if pairs else "")

    def hidden(self, page: str, /, **query: object) -> Html:
        """Hidden fields that a form with method GET needs to reach the page."""
        pairs = {**({"admin": page} if self.by_query else {}), **query}
        return h("{fields}", fields=[h('<input type="hidden" name="{name}" value="{value}">', name=name, value=value)
                                     for name, value in pairs.items() if value not in (None, "")])

    def t(self, message: str, **values: object) -> Html:
        """The message in the visitor's language as HTML, with its values escaped; `text` becomes code."""
        return h(_said(self.language, message), **values)

    def said(self, text: str) -> Html:
        """HTML as it is; any other text translated, if it is a message without values, and escaped."""
        return text if isinstance(text, Html) else Html(_said(self.language, text))

    def html(self, template: str, **values: object) -> Html:
        """A part of pages.html, translated, with its values escaped."""
        text = _translated(self.language, template)
        return h(text, **{"token": self.token, "language": self.language, **values})

    def count(self, number: int, one: str, several: str) -> Html:
        """The message for this number: `one`, or `several`, which holds {n}."""
        return self.t(one if number in language.singular(self.language) else several, n=number)

    def read_form(self) -> None:
        """Read a form into `form`. Of one with a file, which only owners may send, and only to restore a backup, no
        more is read than any form may have: see `uploaded`. Raises Refused."""
        kind = str(self.environ.get("CONTENT_TYPE", ""))
        parts = kind.lower().startswith("multipart/form-data")
        length = stated_length(self.environ) if self.environ.get("CONTENT_LENGTH") else 0

        if parts and not (self.page == "backup" and self.may("owner")):
            raise Refused(400, "The request cannot be read.")

        if length is None or length > (MAX_BACKUP if parts else MAX_FORM):
            raise Refused(413, "The request is too long.")

        body = self._receive(min(length, MAX_FORM))

        if parts:
            self._upload = kind, body, length - len(body)
            self.form = _complete_parts(kind, body)
        else:
            self.form = {name: value.replace("\r\n", "\n") for name, value in _last(body.decode("latin-1")).items()}

    def uploaded(self, name: str) -> str:
        """The text of a file that the form has. The rest of the body is read now: first the token must be checked."""
        kind, body, rest = self._upload
        return _complete_parts(kind, body + self._receive(rest) if rest else body).get(name, "")

    def _receive(self, size: int) -> bytes:
        found = receive(self.environ, size) if size else b""

        if found is None:
            raise Refused(408, "The request came too slowly.")

        return found

    def redirect(self, page: str, /, **query: object) -> Response:
        """Redirect to a page of the panel, as each action does at its end."""
        return respond("", 303, Location=self.href(page, **query))

    def note(self, action: str, subject: str = "") -> None:
        """Add a line about the visitor's action to audit.jsonl, as `people.note_done` does."""
        from ..store import people

        people.note_done(self.home, self.now, self.person, self.address, action, subject,
                         lambda line: log(self.environ.get("wsgi.errors"), line))

    def tell(self, message: str, **values: str) -> None:
        """Show a message once, on the next page, translated; of its values, `problem` is a one-line error, and
        `more` text for a line below it. Long values are cut, because a cookie carries them and browsers drop cookies
        above 4 KiB (RFC 6265, 6.1)."""
        if "problem" in values:
            values["problem"] = language.error(self.language, values["problem"])

        short = {name: value if len(value) < 400 else value[:400] + " …" for name, value in values.items()}
        self.notice, self.told = {"message": message, **short}, True


def mount(environ: dict[str, Any]) -> str:
    """The path of the application, for links; never one that leads to another host (`//name`)."""
    return "/" + quote(str(environ.get("SCRIPT_NAME", "")).encode("latin-1", "replace").strip(b"/"))


def error_text(visit: Visit, error: Exception) -> Html:
    """An error in the visitor's language, without the name of its field."""
    text, field = str(error), getattr(error, "field", "")
    text = text.partition(f"{field}: ")[2] or text if field else text
    return escape(language.error(visit.language, text))


def _last(text: str) -> dict[str, str]:
    """The last value of each name. Raises Refused where some would be left out: half a form changes nothing."""
    if text.count("&") >= MAX_FIELDS:
        raise Refused(400, "The request cannot be read.")

    return dict(fields(text))


def _complete_parts(kind: str, body: bytes) -> dict[str, str]:
    """The parts of a form by name (RFC 7578) that have come to their end."""
    boundary = re.search(r'boundary="?([^";,\s]{1,70})', kind)
    found = {}

    for part in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode("latin-1"), MOST_PARTS)[1:-1] if boundary else ():
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'[ ;]name="([^"]{1,99})"', head[:1000])

        if name:
            found[name[1].decode("latin-1")] = content.decode("utf-8", "surrogateescape")

    return found
