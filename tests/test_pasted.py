# SPDX-License-Identifier: LGPL-3.0-or-later
"""URLs as panels, editors and shells mangle them, over HTTP at every door: forgiven, or refused for what was seen."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import pytest

from tests import SCRIPT
from tests.installation import REFUSED, Installation, asking
from tests.servers import KINDS, Server, give, start, workplace
from webscheduler import pasted
from webscheduler.admin import language

# What arrives of a URL: {slug} and {sig} as they are, {SLUG} and {SIG} in capitals.
FORGIVEN = {
    "as it is": "/run/{slug}?sig={sig}",
    "as it is, by query": "?task={slug}&sig={sig}",
    "blank": "/run/{slug}?sig={sig}%20",
    "blanks": "/run/{slug}?sig={sig}+++",
    "blank that does not break": "/run/{slug}?sig={sig}%C2%A0",
    "blank, in front of another field": "?sig={sig}&task={slug}%20",
    "line end": "/run/{slug}?sig={sig}%0A",
    "line end of Windows": "/run/{slug}?sig={sig}%0D%0A",
    "quote": "/run/{slug}?sig={sig}%22",
    "quote, not escaped": "/run/{slug}?sig={sig}'",
    "quote of a text": "/run/{slug}?sig={sig}%E2%80%9D",
    "quote as HTML": "/run/{slug}?sig={sig}&quot;",
    "quote and line end": "/run/{slug}?sig={sig}%27%0D%0A",
    "&amp;": "?task={slug}&amp;sig={sig}",
    "&amp; by another order": "?sig={sig}&amp;task={slug}",
    "a query more": "/run/{slug}?sig={sig}&utm_source=panel",
    "a query more, with ?": "/run/{slug}?sig={sig}?nocache=1",
    "a query more, in front": "/run/{slug}?nocache=1?sig={sig}",
    "a query more, by query": "?task={slug}&sig={sig}?nocache=1&x=%3F",
    "slug in capitals": "/run/{SLUG}?sig={sig}",
    "all in capitals": "?task={SLUG}&sig={SIG}",
}
NAMED = {
    "%3F": ("/run/{slug}%3Fsig={sig}", "`%3F` stands where `?` should"),
    "& for ?": ("/run/{slug}&sig={sig}", "`&` stands where `?` should"),
    "%3D": ("/run/{slug}?sig%3D{sig}", "`%3D` stands where `=` should"),
    "%3D by query": ("?task%3D{slug}&sig%3D{sig}", "`%3D` stands where `=` should"),
    "%3D of the slug": ("?task%3d{slug}&sig={sig}", "`%3D` stands where `=` should"),
    "%26": ("?task={slug}%26sig={sig}", "`%26` stands where `&` should"),
    "all of it escaped": ("?task%3D{slug}%26sig%3D{sig}", "`%26` stands where `&` should"),
    "&amp; escaped again": ("?task={slug}&amp;amp;sig={sig}", "`&amp;` stands where `&` should"),
    "backslash": ("?task={slug}%5C&sig={sig}", "`\\&` stands where `&` should"),
    "semicolon": ("?task={slug};sig={sig}", "`;` stands where `&` should"),
    "quoted-printable": ("/run/{slug}?sig=3D{sig}", "`=3D` stands where `=` should"),
    "SIG": ("/run/{slug}?SIG={sig}", "`SIG` stands where `sig` should"),
    "full stop": ("/run/{slug}?sig={sig}.", "`.` follows the signature"),
    "slash": ("/run/{slug}?sig={sig}/", "`/` follows the signature"),
    "NUL": ("/run/{slug}?sig={sig}%00", "`\\x00` follows the signature"),
    "quote of elsewhere": ("/run/{slug}%C2%BB?sig={sig}", "`\xbb` follows the slug"),
    "comma": ("?task={slug},&sig={sig}", "`,` follows the slug"),
    "blank in front": ("/run/{slug}?sig=%20{sig}", "` ` stands before the signature"),
    "cut by a shell": ("?task={slug}", "there is no signature: where a command calls it, the URL must stand in quotes"),
    "cut": ("/run/{slug}?sig={sig:.63}", "the signature is not 64 hexadecimal digits"),
    "cut slug": ("/run/{slug:.31}?sig={sig}", "the slug is not 32 hexadecimal digits"),
    "no query": ("/run/{slug}", "there is no signature"),
    "another's": ("?task={slug}&amp;sig=0{sig:.63}", "slug and signature do not belong together"),
}  # fmt: skip
DOORS = {"CGI": ("apache-cgid", True), "CGI without an index": ("apache-cgid", False), "WSGI": ("wsgiref", True)}
APPLICATION = "from webscheduler.wsgi import application\n"


class Door(NamedTuple):
    """An installation behind a server."""

    installation: Installation
    server: Server

    def ask(self, form: str) -> bytes:
        """The body of the answer to a request for the task, sent byte for byte."""
        slug, sig = self.installation.row()["slug"], self.installation.signature()
        target = form.format(slug=slug, sig=sig, SLUG=slug.upper(), SIG=sig.upper())
        path = self.server.url.partition(f":{self.server.port}")[2]
        path = path or ("" if target.startswith("/") else "/")

        (self.installation.home / "refused.json").unlink(missing_ok=True)

        with socket.create_connection(("127.0.0.1", self.server.port), 30) as client, client.makefile("rb") as answer:
            client.sendall(f"GET {path}{target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("latin-1"))
            head, _, body = answer.read().partition(b"\r\n\r\n")

        assert b" 202 " in head.partition(b"\r\n")[0], head
        return body


@pytest.fixture(scope="module", params=DOORS)
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    kind, indexed = KINDS[DOORS[request.param][0]], DOORS[request.param][1]

    with workplace(kind) as directory:
        installation = Installation(directory / "home")
        installation.add(slug="0123456789abcdef" * 2)

        if not indexed:  # nothing can be written in its place
            (installation.home / "index").unlink(missing_ok=True)
            (installation.home / "index").mkdir()

        give(installation.home, kind.user)
        file = SCRIPT

        if kind.family == "wsgi":
            file = directory / "application.py"
            file.write_text(APPLICATION)

        try:
            with start(kind, directory, file, env={"WEBSCHEDULER_HOME": str(installation.home)}) as server:
                yield Door(installation, server)
        finally:
            installation.end()


@pytest.mark.parametrize("form", FORGIVEN.values(), ids=FORGIVEN)
def test_what_cannot_be_meant_otherwise_is_forgiven(door: Door, form: str) -> None:
    """The task runs, or still runs for the one before."""
    assert json.loads(door.ask(form))["accepted"] is True


@pytest.mark.parametrize(("form", "problem"), NAMED.values(), ids=NAMED)
def test_what_is_not_forgiven_is_named(door: Door, form: str, problem: str) -> None:
    """The caller gets the answer of every refusal, and the owner reads what to change."""
    assert door.ask(form) == REFUSED
    refusal, = json.loads((door.installation.home / "refused.json").read_text())
    assert refusal["problem"] == problem
    assert language.error("fr", problem) != problem


@pytest.mark.parametrize(("end", "problem"), [("?sig=1", "`%3F` stands where `?` should"),
                                              ("\xc2\xbb", "`\xbb` follows the slug"), (" .", "` ` follows the slug")])
def test_a_path_is_read_the_same_whether_the_server_decodes_it(end: str, problem: str) -> None:
    """Passenger leaves it as it came."""
    for path in (end, quote(end, encoding="latin-1")):
        assert pasted.slip(asking("/run/" + "0" * 32 + path)) == problem


@pytest.mark.parametrize("path", ["", "/run/" + "\xff" * 9999, "/run/" + "0" * 32 + "\xe2\x80", "/run/\x00"])
@pytest.mark.parametrize("query", ["", "&" * 99999, "sig=" * 9999, "sig=" + "%" * 99999, "sig=%ed%a0%80" + "0" * 64])
def test_any_text_is_named_or_not(path: str, query: str) -> None:
    """Whatever comes, at most a character of it is told, and it can be printed."""
    said = pasted.slip(asking(path, query))
    assert said.isprintable()
    assert len(said) < 90
