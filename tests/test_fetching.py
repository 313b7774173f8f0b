# SPDX-License-Identifier: LGPL-3.0-or-later
"""The HTTP client, against servers that answer, redirect, drip, flood and hang up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from webscheduler.commands import builtin
from webscheduler.fetching import fetch

ENDED = threading.Event()  # what drips does so until then


class Handler(BaseHTTPRequestHandler):
    """Does what the path says."""

    def do_GET(self) -> None:
        if self.path == "/gone":
            return  # and the connection is closed

        if self.path == "/drips":
            self.connection.sendall(b"HTTP/1.0 200 OK\r\n")

            while not ENDED.wait(0.02):
                self.connection.sendall(b"X: y\r\n")

            return

        status = {"/moved": 302, "/missing": 404}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Location", "/" if status == 302 else "/elsewhere")
        self.end_headers()
        self.wfile.write(b"x" * 100000 if self.path == "/flood" else f"{self.command} {self.path}".encode())

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.send_response(201)
        self.end_headers()
        self.wfile.write(self.headers["Content-Type"].encode() + b" " + self.rfile.read(length))

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def base() -> Iterator[str]:
    """The URL of a server."""
    ENDED.clear()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            ENDED.set()
            server.shutdown()
            thread.join()


def test_an_answer(base: str) -> None:
    """Status, body, and what was posted; a status of 400 or more is an answer like any other."""
    found = fetch(f"{base}/", 30)
    assert (found.status, found.body, found.location, found.problem) == (200, b"GET /", "", "")
    posted = fetch(f"{base}/", 30, {"Content-Type": "text/x"}, b"data")
    assert (posted.status, posted.body) == (201, b"text/x data")
    missing = fetch(f"{base}/missing", 30)
    assert (missing.status, missing.body, missing.location) == (404, b"GET /missing", "")


def test_a_redirect(base: str) -> None:
    """It is told, or followed by who asks for it."""
    stays, goes = fetch(f"{base}/moved", 30), fetch(f"{base}/moved", 30, follow=True)
    assert (stays.status, stays.location, stays.body) == (302, "/", b"GET /moved")
    assert (goes.status, goes.location, goes.body) == (200, "", b"GET /")


def test_no_more_is_read_than_was_asked_for(base: str) -> None:
    """A body may be of any length."""
    assert fetch(f"{base}/flood", 30, most=10).body == b"x" * 10


@pytest.mark.parametrize(("path", "problem"), [
    ("/drips", "no whole answer within 0.3 s"), ("/gone", "Remote end closed connection without response")])
def test_no_answer(base: str, path: str, problem: str) -> None:
    """The time limit holds for the whole, also where single bytes keep coming; and why there is none is one line."""
    found = fetch(base + path, 0.3 if path == "/drips" else 30)
    assert (found.status, found.body, found.problem) == (0, b"", problem)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://127.0.0.1:x/", "http:///", "http://\u00e9.invalid/\n"])
def test_what_cannot_be_called(url: str) -> None:
    """No URL and no network makes an exception."""
    found = fetch(url, 30)
    assert found.status == 0
    assert found.problem
    assert "\n" not in found.problem


def test_the_account_has_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the call is made all the same."""

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        found = fetch("http://127.0.0.1:9/", 30)

    assert found.problem == "[Errno 111] Connection refused"


@pytest.mark.parametrize(("words", "status", "out", "err"), [
    (["/"], 0, "200 {url}\nGET /\n", ""), (["/moved", "20"], 0, "200 {url}\nGET /\n", ""),
    (["/missing"], 1, "404 {url}\nGET /missing\n", ""),
    (["/drips", "1"], 1, "", "{url}: no whole answer within 1 s\n")])
def test_the_command(
    base: str, capsys: pytest.CaptureFixture[str], words: list[str], status: int, out: str, err: str
) -> None:
    """`http URL [SECONDS]`: its exit status is 0 for a 2xx answer, and 1 for any other or none."""
    url = base + words[0]
    assert builtin.http(url, *words[1:]) == status
    assert capsys.readouterr() == (out.format(url=url), err.format(url=url))


@pytest.mark.parametrize("words", [[], ["file:///etc/passwd"], ["http://x/", "0"], ["http://x/", "\u00b9"],
                                   ["http://x/", "1", "2"]])
def test_words_that_the_command_does_not_take(words: list[str]) -> None:
    """2 says so."""
    assert builtin.http(*words) == 2
