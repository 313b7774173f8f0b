# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is read from a request's environ: whatever it holds, a value comes of it, and nothing that runs by accident."""

from __future__ import annotations

import io
import itertools
from typing import Any
from urllib.parse import quote

import pytest

from tests.installation import asking
from webscheduler.body import MAX_FORM
from webscheduler.http import Request

SLUG, OTHER = "0123456789abcdef" * 2, "ab" * 16
SIG, BAD = "a" * 64, "b" * 64


class Body:
    """An input that tells whether it was read, and that no more is read than was promised."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: int | None = None

    def read(self, size: int) -> bytes:
        assert self.asked is None
        self.asked = size
        return self.content[:size]


def request(
    path: str = f"/run/{SLUG}", query: str = "", method: str = "GET", more: dict[str, Any] | None = None
) -> Request:
    return Request({**asking(path, query, method), **(more or {})})


@pytest.mark.parametrize(
    ("path", "query", "kind", "slug"),
    [
        (f"/run/{SLUG}", "", "run", SLUG),
        (f"/run/{SLUG}/", "", "run", SLUG),
        (f"//run//{SLUG}", "", "run", SLUG),
        (f"/run/{SLUG}", f"task={OTHER}", "run", SLUG),
        ("", f"task={SLUG}", "run", SLUG),
        ("/", f"task={SLUG}", "run", SLUG),
        ("", f"a=1&task={SLUG}", "run", SLUG),
        ("", f"t%61sk={SLUG[:-1]}%66", "run", SLUG),
        (f"/status/{SLUG}", "", "status", SLUG),
        ("", f"status={SLUG}", "status", SLUG),
        ("", f"status={SLUG}&task={OTHER}", "run", OTHER),
        ("", "status=success&admin=history", "admin", ""),
        ("/run", f"task={SLUG}", "run", ""),
        ("/run/", "", "run", ""),
        (f"/run/{SLUG}/x", "", "run", ""),
        (f"/run/{SLUG[1:]}", "", "run", ""),
        (f"/run/{SLUG}0", "", "run", ""),
        (f"/run/{SLUG.upper()}", "", "run", SLUG),
        (f"/run/{SLUG[:-1]}g", "", "run", ""),
        (f"/run/{SLUG[:-1]}\u0661", "", "run", ""),
        (f"/run/{SLUG[:-1]}\x00", "", "run", ""),
        (f"/run/..{SLUG}", "", "run", ""),
        ("/run/\xff\xfe", "", "run", ""),
        ("", f"task={SLUG}&task={SLUG}", "run", ""),
        ("", "task=", "run", ""),
        ("", f"TASK={SLUG}", "", ""),
        ("", "", "", ""),
        ("/", "", "", ""),
    ],
)
def test_what_is_asked_for(path: str, query: str, kind: str, slug: str) -> None:
    """The path decides, and only without one the query; a slug is 32 hexadecimal digits or none."""
    found = request(path, query)
    assert (found.kind, found.slug) == (kind, slug)


@pytest.mark.parametrize("path", [f"/RUN/{SLUG}", f"/runs/{SLUG}", f"/x/run/{SLUG}", f"/{SLUG}", f"/run;{SLUG}"])
def test_what_runs_nothing(path: str) -> None:
    """Other paths are no trigger, whatever they hold besides, and whatever the query says."""
    assert request(path, f"task={SLUG}&sig={SIG}").kind not in ("run", "status")


@pytest.mark.parametrize("method", ["GET", "POST", "get", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "", "X"])
@pytest.mark.parametrize("header", ["HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ"])
@pytest.mark.parametrize("purpose", ["", "prefetch", "prefetch;prerender", "Prefetch", "preview", "prerender", "x"])
def test_what_may_run(method: str, header: str, purpose: str) -> None:
    """Only GET and POST that nobody made ahead of time may run anything."""
    expected = method.upper() in ("GET", "POST") and purpose in ("", "x")
    assert request(method=method, more={header: purpose}).may_run is expected


@pytest.mark.parametrize(
    ("query", "header", "time", "found"),
    [
        (f"sig={SIG}", None, None, (SIG, None)),
        (f"sig={SIG}&ts=5", None, None, (SIG, "5")),
        (f"ts=5&sig={SIG}", None, "7", (SIG, "5")),
        ("", SIG, None, (SIG, None)),
        ("", SIG, "5", (SIG, "5")),
        ("ts=9", SIG, None, (SIG, None)),
        ("ts=9", SIG, "5", (SIG, "5")),
        (f"sig={SIG}&ts=5", SIG, "7", (SIG, "5")),
        (f"sig={SIG}", SIG, "7", (SIG, None)),
        (f"sig={SIG.upper()}", None, None, (SIG.upper(), None)),
    ],
)
def test_signature_and_time(query: str, header: str | None, time: str | None, found: tuple[str, str | None]) -> None:
    """A signature comes from query or header, and its time from where it came from."""
    variables = {"HTTP_X_WEBSCHEDULER_SIGNATURE": header, "HTTP_X_WEBSCHEDULER_TIMESTAMP": time}
    asked = request(query=query, more={name: value for name, value in variables.items() if value is not None})
    assert (asked.signature, asked.ts, asked.problem) == (*found, "")


ENDS = [" ", "\t", "\r\n", '"', "'", " \"\n", "\xa0", "\u201d", "\u2019"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("place", ["path", "task", "sig", "ts", "header", "body"])
def test_what_stands_at_an_end_is_forgiven(end: str, place: str) -> None:
    """Of each part that may be the last of what was pasted; a server gives each byte of the path as a character."""
    ends, raw = {place: quote(end)}, {place: end.encode().decode("latin-1")}
    query = f"ts=5{ends.get('ts', '')}" if place == "ts" else ""
    query = f"sig={SIG}{ends.get('sig', '')}&{query}" if place in ("sig", "ts", "path", "task") else ""
    body = f"sig={SIG}{ends['body']}".encode() if place == "body" else b""
    more: dict[str, Any] = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}

    if place == "header":
        more["HTTP_X_WEBSCHEDULER_SIGNATURE"] = SIG + raw["header"]

    asked = request(f"/run/{SLUG}{raw.get('path', '')}" if place != "task" else "",
                    f"task={SLUG}{ends['task']}&{query}" if place == "task" else query, "POST", more)  # fmt: skip
    assert (asked.slug, asked.signature, asked.ts, asked.problem) == (SLUG, SIG, "5" if place == "ts" else None, "")


SHAPES = ["", "x", SIG[1:], SIG + "a", SIG[1:] + "g", SIG[1:] + "\xe9", SIG[1:] + "%C3%A9", SIG[1:] + "%00",
          "%2B" + SIG[1:], SIG[1:] + "+", f"{SIG}&sig={SIG}", f"{SIG}&sig={BAD}", f"{SIG}&ts=1&ts=1", f"{SIG}&ts=",
          f"{SIG}&ts=x", f"{SIG}&ts=%2B1", f"{SIG}&ts=-1", f"{SIG}&ts=1_0", f"{SIG}&ts=%C2%B9", f"{SIG}&ts=%D9%A3",
          f"{SIG}&ts=1.0", f"{SIG}&ts=1e9", f"{SIG}&ts=+1", f"{SIG}&ts=%001", f"{SIG}&ts={'1' * 13}",
          f"{SIG}&ts=0x10"]  # fmt: skip


@pytest.mark.parametrize(("shape", "place"), list(itertools.product(SHAPES, ["query", "body"])))
def test_wrong_shapes(shape: str, place: str) -> None:
    """A signature or time of another shape is a problem, wherever it stands; what is signed stays a text of digits."""
    text = f"sig={shape}"
    body = text.encode("latin-1") if place == "body" else b""
    found = request(query=text if place == "query" else "", method="POST",
                    more={"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})  # fmt: skip
    assert found.problem
    assert found.ts is None or (found.ts.isascii() and found.ts.isdigit())
    assert ("ts=" in shape) is (found.ts is not None)


@pytest.mark.parametrize(
    ("method", "query", "header", "length", "read"),
    [
        ("POST", "", None, "68", 68),
        ("POST", "", None, str(MAX_FORM), MAX_FORM),
        ("POST", "", None, "0", 0),
        ("POST", f"sig={BAD}", None, "68", None),
        ("POST", "", BAD, "68", None),
        ("GET", "", None, "68", None),
        ("PUT", "", None, "68", None),
        ("POST", "", None, str(MAX_FORM + 1), None),
        ("POST", "", None, "99999999999999999999", None),
        ("POST", "", None, "-68", None),
        ("POST", "", None, "+68", None),
        ("POST", "", None, "6_8", None),
        ("POST", "", None, "\xb2", None),
        ("POST", "", None, "", None),
        ("POST", "", None, None, None),
    ],
)
def test_a_body_is_read_only_where_it_must_be(
    method: str, query: str, header: str | None, length: str | None, read: int | None
) -> None:
    """A body is read where neither query nor header carry a signature, up to its length, and to 64 KiB at most."""
    body = Body(f"sig={SIG}".encode())
    variables = {"wsgi.input": body, "CONTENT_LENGTH": length, "HTTP_X_WEBSCHEDULER_SIGNATURE": header}
    asked = request(query=query, method=method,
                    more={key: value for key, value in variables.items() if value is not None})  # fmt: skip
    assert body.asked == read
    assert asked.signature == (SIG if read else (BAD if query or header else ""))


def test_a_prefetch_is_not_read() -> None:
    """Nothing is read of what may not run."""
    body = Body(f"sig={SIG}".encode())
    request(method="POST", more={"wsgi.input": body, "CONTENT_LENGTH": "68", "HTTP_SEC_PURPOSE": "prefetch"})
    assert body.asked is None


@pytest.mark.parametrize("name", ["PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REQUEST_METHOD", "HTTP_X_FORWARDED_FOR",
                                  "CONTENT_LENGTH", "HTTP_X_WEBSCHEDULER_SIGNATURE", "HTTP_SEC_PURPOSE"])  # fmt: skip
@pytest.mark.parametrize("value", [None, "", "\x00", "\xff" * 1000, "%" * 1000, "&" * 1000, "=" * 1000, "%zz&%&=&sig",
                                   "a" * 100000, "/" * 1000, "\r\n", "😀", "%ed%a0%80=%ff"])  # fmt: skip
def test_nothing_raises(name: str, value: str | None) -> None:
    """Whatever a server puts into a variable, or leaves out, reading the request does not fail."""
    environ: dict[str, Any] = {**asking(f"/run/{SLUG}", "", "POST"), "wsgi.input": io.BytesIO(b"")}
    environ.pop(name, None)

    if value is not None:
        environ[name] = value

    found = Request(environ)
    assert found.slug in ("", SLUG)
