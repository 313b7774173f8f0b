# SPDX-License-Identifier: LGPL-3.0-or-later
"""A browser of texts for the panel: keeps cookies as RFC 6265 says, follows redirects, finds forms and fills them in.

Each response goes through `wsgiref.validate`. It may import the package and the standard library.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from wsgiref.validate import validator

from tests.installation import Installation, asking
from webscheduler import create_app
from webscheduler.store import people

OWNER, PASSWORD = "alice", "correct horse battery"


class Form(HTMLParser):
    """The forms of a page: action, method, and the fields with what they hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.select: str | None = None
        self.area: str | None = None
        self.depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        name = given.get("name")

        if tag == "form":
            assert self.depth == 0, "a form in a form"
            self.depth = 1
            self.forms.append({"action": given["action"], "method": given.get("method", "get"), "fields": {}})
        elif not self.depth:
            return
        elif tag == "input" and name:
            kind = given.get("type", "text")

            if kind not in ("checkbox", "radio") or "checked" in given:
                self.forms[-1]["fields"][name] = given.get("value") or ""
        elif tag == "select":
            self.select = name
        elif tag == "option" and self.select:
            if "selected" in given or self.select not in self.forms[-1]["fields"]:
                self.forms[-1]["fields"][self.select] = given.get("value") or ""
        elif tag == "textarea":
            self.area = name
            self.forms[-1]["fields"][name] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.depth = 0
        elif tag == "select":
            self.select = None
        elif tag == "textarea" and self.area:
            fields = self.forms[-1]["fields"]
            fields[self.area] = fields[self.area].removeprefix("\n")  # HTML, 13.2.6.4.7
            self.area = None

    def handle_data(self, data: str) -> None:
        if self.area and self.depth:
            self.forms[-1]["fields"][self.area] += data


class Elements(HTMLParser):
    """The elements of a page with their attributes, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


class Page:
    """An answer."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes, url: str) -> None:
        self.status, self.headers, self.body, self.url = status, headers, body, url
        self.text = body.decode()

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each.lower() == name.lower()), None)

    def form(self, action: str) -> dict[str, Any]:
        """The form whose action holds the text; `get` is the one that changes nothing."""
        return next(form for form in Form(self.text).forms if action == form["method"] or action in form["action"])

    def __contains__(self, text: str) -> bool:
        return text in self.text


class Browser:
    """One visitor. `environ` goes along with every request."""

    def __init__(self, installation: Installation, user: Any = None, clock: Any = time.time, **environ: Any) -> None:
        self.home = str(installation.home)
        self.panel = create_app(self.home, user, clock)
        self.cookies: dict[str, str] = {}
        self.environ = {"HTTP_HOST": "example.org", "SCRIPT_NAME": "/cron", **environ}
        self.page = Page(0, [], b"", "")

    def request(self, url: str, method: str = "GET", body: bytes = b"", follow: bool = True, **environ: Any) -> Page:
        parts = urlsplit(url)
        mount = self.environ["SCRIPT_NAME"]
        assert parts.path.startswith(mount), url
        errors = io.StringIO()
        given = {
            **asking(parts.path[len(mount):], parts.query, method),
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
            "wsgi.errors": errors, "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
            "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            **self.environ, **environ,
        }
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], error: object = None) -> Any:
            started[:] = [status, headers]
            return lambda data: None

        if method == "HEAD":
            result: Any = self.panel(given, start_response)
        else:
            result = validator(self.panel)(given, start_response)

        try:
            content = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()

        self.errors = errors.getvalue()
        page = Page(int(started[0][:3]), started[1], content, url)

        for name, value in page.headers:
            if name == "Set-Cookie":
                self._keep(value)

        self.page = page
        target = page.header("Location")
        return self.request(target) if follow and page.status == 303 and target else page

    def _keep(self, header: str) -> None:
        pair, *rest = header.split("; ")
        name, _, value = pair.partition("=")
        self.last_cookie = header
        assert len(header) < 4096, "browsers drop it (RFC 6265, 6.1)"

        if "Max-Age=0" in rest:
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value

    def get(self, page: str = "", /, follow: bool = True, **query: Any) -> Page:
        return self.request(f"{self.environ['SCRIPT_NAME']}/admin/{page}" + (f"?{urlencode(query)}" if query else ""),
                            follow=follow)

    def submit(self, action: str, follow: bool = True, headers: dict[str, Any] | None = None, **fields: Any) -> Page:
        """Send the form of the present page whose action holds the text, with fields changed; None leaves one out."""
        form = self.page.form(action)
        filled = {name: value for name, value in {**form["fields"], **fields}.items() if value is not None}

        if form["method"] == "get":
            return self.request(f"{form['action'].partition('?')[0]}?{urlencode(filled)}", follow=follow)

        return self.post(form["action"], filled, follow, headers)

    def post(
        self, url: str, fields: dict[str, Any], follow: bool = True, headers: dict[str, Any] | None = None
    ) -> Page:
        body = urlencode({name: value.replace("\n", "\r\n") for name, value in fields.items()}).encode()
        return self.request(url, "POST", body, follow, **(headers or {}))

    def sign_in(self, name: str = OWNER, password: str = PASSWORD) -> Page:
        self.get("sign-in")
        return self.submit("sign-in", user=name, password=password)

    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.page.url).query))

    def token(self) -> str:
        """The token of the present session, from the button that every page has."""
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.page.text)
        assert found
        return found[1]


def registered(installation: Installation, name: str = "task", command: str = "hello", **fields: Any) -> None:
    """Add an enabled task that runs a registered command."""
    installation.add(name)
    installation.edit(name, argv=None, cwd=None, command=command, **fields)


@functools.cache
def users() -> str:
    """users.json of an owner, an editor and a viewer with the same password; made once, for that is slow on purpose."""
    with tempfile.TemporaryDirectory() as home:
        for name, role in ((OWNER, "owner"), ("eve", "editor"), ("victor", "viewer")):
            people.set_password(home, name, PASSWORD, role, now=time.time())

        return Path(home, "users.json").read_text()


def populate(installation: Installation) -> None:
    """Give the installation its people."""
    file = installation.home / "users.json"
    file.write_text(users())
    file.chmod(0o600)


def restore(owner: Browser, document: object, query: str = "") -> Any:
    """Send the file as a browser does."""
    owner.get("settings")
    content = document if isinstance(document, str) else json.dumps(document)
    body = (f'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n{owner.token()}\r\n'
            f'--x\r\nContent-Disposition: form-data; name="file"; filename="b.json"\r\nContent-Type: application/json'
            f"\r\n\r\n{content}\r\n--x--\r\n").encode()
    return owner.request("/cron/admin/backup" + query, "POST", body, CONTENT_TYPE="multipart/form-data; boundary=x")
