# SPDX-License-Identifier: LGPL-3.0-or-later
"""The HTTP client, against servers that answer, redirect, drip, flood and hang up."""

from __future__ import annotations

import base64
import gc
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests import LIBRARY
from tests.installation import until
from tests.listeners import listening
from webscheduler.commands import builtin
from webscheduler.fetching import fetch

ENDED = threading.Event()  # what drips does so until then
WHOLE: list[int] = []  # bytes of the long bodies that were sent to their end


class Handler(BaseHTTPRequestHandler):
    """Does what the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, rest = self.path.lstrip("/").partition("/")
        self.close_connection = True

        if kind == "gone":
            return  # and the connection is closed

        if kind == "drips":
            self.drip(b"X: y\r\n")
        elif kind == "dripping-body":
            self.drip(b"\r\nx")
        elif kind.isdigit():  # a redirect, to what follows
            self.answer(int(kind), 6, [b"moved\n"], Location=rest if rest.startswith("http") else f"/{rest}")
        elif kind == "script":  # a long answer, and work after it, which a closed connection ends
            size = int(rest)
            self.answer(200, size, (b"x" * 1000 for _ in range(size // 1000)))
            WHOLE.append(size)
        elif kind == "short":
            self.answer(200, 200, [b"x" * 100])
        elif kind == "chunks":
            self.answer(200, None, [b"3\r\nabc\r\n", b"3\r\ndef\r\n", b"0\r\n\r\n" if rest == "whole" else b"5\r\nx"])
        elif kind == "cookie" and "seen=1" not in self.headers.get("Cookie", ""):
            self.answer(302, 0, [], Location="/cookie", Set_Cookie="seen=1")
        else:
            signed_in = self.headers.get("Authorization", "").partition(" ")[2]
            text = f"{self.command} {self.path} {base64.b64decode(signed_in).decode()}".strip().encode()
            self.answer(404 if kind == "missing" else 200, len(text), [text], Location="/elsewhere")

    def drip(self, part: bytes) -> None:
        self.connection.sendall(b"HTTP/1.0 200 OK\r\n")

        while not ENDED.wait(0.02):
            self.connection.sendall(part)

    def answer(self, status: int, length: int | None, parts: Iterable[bytes], **headers: str) -> None:
        self.send_response(status)
        headers.update({"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)})

        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)

        self.end_headers()

        for part in parts:
            self.wfile.write(part)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))

        if self.path.lstrip("/").partition("/")[0].isdigit():
            self.do_GET()
        else:
            text = self.headers["Content-Type"].encode() + b" " + body
            self.answer(201, len(text), [text])

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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect(base: str, status: int) -> None:
    """It is told, or followed by who asks for it, to where it ends."""
    stays, goes = fetch(f"{base}/{status}/there", 30), fetch(f"{base}/{status}/{status}/there", 30, follow=True)
    assert (stays.status, stays.location, stays.body) == (status, f"{base}/there", b"moved\n")
    assert (goes.status, goes.location, goes.body, goes.url) == (200, "", b"GET /there", f"{base}/there")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_what_is_posted(base: str, status: int) -> None:
    """307 and 308 lead to the same POST elsewhere; the others would make it a GET, so they are not followed."""
    found = fetch(f"{base}/{status}/there", 30, {"Content-Type": "text/x"}, b"data", follow=True)
    followed = status in (307, 308)
    assert (found.status, found.body) == ((201, b"text/x data") if followed else (status, b"moved\n"))
    assert found.location == ("" if followed else f"{base}/there")


@pytest.mark.parametrize("target", ["http://me:secret@[::1/", "http://me:secret@[zz]/", "//me:secret@[1:2/",
                                    "http://me:secret@example\u2100.org/", "http://me:secret@x:port/"])
def test_a_redirect_to_what_is_no_url(target: str) -> None:
    """It is said in our words, which show no password; the connection is closed."""
    with listening() as site:
        site.leads["/hook"] = 302, target.encode().decode("latin-1")
        found = fetch(site.url, 30, follow=True)
        gc.collect()

    assert "no URL" in found.problem
    assert "secret" not in found.problem


def test_redirects_that_do_not_end(base: str) -> None:
    """As many as browsers follow, and no more; a scheme that is not followed is an error, too."""
    found = fetch(base + "/302" * 21 + "/there", 30, follow=True)
    assert found.problem.startswith("more than 20 redirects, the last to ")
    assert fetch(base + "/302" * 20 + "/there", 30, follow=True).status == 200
    assert fetch(base + "/cookie", 30, follow=True).body == b"GET /cookie"
    elsewhere = fetch(base + "/302/http+unix://x", 30, follow=True)
    assert elsewhere.problem == "a URL must start with http:// or https://"


def test_all_is_read_and_little_is_kept(base: str) -> None:
    """A script on the other side comes to its end, however much it prints, and costs no memory here."""
    del WHOLE[:]
    assert fetch(f"{base}/script/3000000", 30, most=10).body == b"x" * 10
    # Not getrusage(2), whose peak includes that of the process which was forked for this one.
    program = ("import re, sys; from webscheduler.fetching import fetch; a = fetch(sys.argv[1], 60); "
               "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()); "
               "print(len(a.body), a.length, int(peak[1]) // 1024)")
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); {program}"]
    done = subprocess.run([*words, f"{base}/script/150000000"], capture_output=True, text=True, check=True)
    kept, length, megabytes = map(int, done.stdout.split())
    assert (kept, length) == (4096, 150000000)
    assert megabytes < 100
    until(lambda: WHOLE == [3000000, 150000000], "the end of both answers")  # as the server sees it


def test_a_body_that_ends_too_soon(base: str) -> None:
    """There is a status, and a problem."""
    for path, came in (("/short", "100 of 200 bytes"), ("/chunks/torn", "bytes")):
        found = fetch(base + path, 30)
        assert found.status == 200
        assert found.problem.startswith("the body of the answer (HTTP 200) ended too soon, after ")
        assert found.problem.endswith(came)

    whole = fetch(base + "/chunks/whole", 30)
    assert (whole.body, whole.length, whole.problem) == (b"abcdef", 6, "")


def test_user_and_password_of_a_url(base: str) -> None:
    """They are sent as Basic, decoded, and only to their own server; no text shows them."""
    there = base.replace("://", "://me:p%40ss%C3%A9:word@")
    assert fetch(f"{there}/x", 30).body == "GET /x me:p@ss\u00e9:word".encode()
    assert fetch(f"{there}/302/x", 30, follow=True).body.endswith(b":word")
    other = base.replace("127.0.0.1", "localhost")
    away = fetch(f"{there}/302/{other}/x", 30, follow=True)
    assert (away.url, away.body) == (f"{other}/x", b"GET /x")
    assert fetch(f"{base}/302/{there}/x", 30, follow=True).body.endswith(b":word")

    for url in (f"{there}/short", there.replace("127.0.0.1", "[127"), f"{there}x", "http://me:word@\u2100/"):
        found = fetch(url, 30)
        assert found.problem
        assert "word" not in found.problem + found.url


def test_what_is_not_ascii(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path and query go out as UTF-8 with percent signs, a server's name as IDNA; what is encoded already stays."""
    found = fetch(f"{base}/\u00e9 \u00e0%20?x=\u00fc&y=%zz#part", 30)
    assert found.body == b"GET /%C3%A9%20%C3%A0%20?x=%C3%BC&y=%zz"
    moved = fetch(f"{base}/302/\u00e9", 30, follow=True)
    assert moved.body == b"GET /%C3%A9"
    monkeypatch.setenv("http_proxy", base)  # it is asked for whole URLs
    assert fetch("http://b\u00fccher.example/\u00e9", 30).body == b"GET http://xn--bcher-kva.example/%C3%A9"


@pytest.mark.parametrize(("path", "status", "problem"), [
    ("/drips", 0, "no whole answer within 0.3 s, its time limit"),
    ("/dripping-body", 200, "no whole answer within 0.3 s, its time limit"),
    ("/gone", 0, "Remote end closed connection without response")])
def test_no_answer(base: str, path: str, status: int, problem: str) -> None:
    """The time limit holds for the whole, also where single bytes keep coming; and why there is none is one line."""
    found = fetch(base + path, 30 if path == "/gone" else 0.3)
    assert (found.status, found.problem) == (status, problem)


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
    (["/"], 0, "200 {base}/\nGET /\n", ""),
    (["/302/there", "20"], 0, "200 {base}/there (redirected from {base}/302/there)\nGET /there\n", ""),
    (["/missing"], 1, "404 {base}/missing\nGET /missing\n", ""),
    (["/script/3000"], 0, "200 {base}/script/3000\n" + "x" * 2000 + "\n... [1000 more bytes]\n", ""),
    (["/short"], 1, "200 {base}/short\n" + "x" * 100 + "\n",
     "{base}/short: the body of the answer (HTTP 200) ended too soon, after 100 of 200 bytes\n"),
    (["/drips", "1"], 1, "", "{base}/drips: no whole answer within 1 s, its time limit\n")])
def test_the_command(
    base: str, capsys: pytest.CaptureFixture[str], words: list[str], status: int, out: str, err: str
) -> None:
    """`http URL [SECONDS]`: its exit status is 0 for a whole 2xx answer, and 1 for any other or none."""
    assert builtin.http(base + words[0], *words[1:]) == status
    assert capsys.readouterr() == (out.format(base=base), err.format(base=base))


def test_the_command_keeps_a_password_to_itself(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints goes into history."""
    there = base.replace("://", "://me:secret@")
    assert [builtin.http(f"{there}{path}") for path in ("/302/302/short", "/gone")] == [1, 1]
    shown = "".join(capsys.readouterr())
    assert f"200 {base}/short (redirected from {base}/302/302/short)\n" in shown
    assert "secret" not in shown


@pytest.mark.parametrize("words", [[], ["file:///etc/passwd"], ["http://x/", "0"], ["http://x/", "\u00b9"], ["http://x:y/"],
                                   ["http://x/", "1", "2"]])
def test_words_that_the_command_does_not_take(words: list[str]) -> None:
    """2 says so."""
    assert builtin.http(*words) == 2
