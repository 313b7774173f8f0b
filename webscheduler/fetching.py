# SPDX-License-Identifier: LGPL-3.0-or-later
"""Calling a URL: the one HTTP client, for the command `http`, notifications, doctor and probe.

The rules: a call ends at its time limit, whatever the other side does. A body is read to its end, since a script on the
other side may be ended when its reader goes, but only as much is kept as was asked for. What goes wrong is part of the
answer, never an exception. User and password of a URL are sent to its own server alone, and no text shows them. A call
for somebody who may not look into this network goes to public addresses: what counts is the address that is connected
to, at the first server and at each to which it redirects.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Container
    from typing import Any, Callable, TypeVar

    Result = TypeVar("Result")

REDIRECTS = (301, 302, 303, 307, 308)
REPEATED = (307, 308)  # the method stays; browsers turn a POST into a GET at the others (RFC 9110, 15.4)
MOST_REDIRECTS = 20  # as in browsers
BLOCK = 65536
LOOK_UP = 5.0  # seconds
# What a URL may contain as it is (RFC 3986). `%` too: what is encoded already is not encoded again.
AS_IT_IS = "!#$%&'()*+,/:;=?@[]~-._"


class NotPublic(OSError):
    """A host has no address but some that are not public. Its text says what to do, and not which they are: an editor
    is not to learn the addresses of an inner network."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} leads to what is not a public address: the setting privateHosts can allow this host")


class Answer:
    """status: of HTTP, 0 if none came. problem: why there is no whole answer, in a line; also if a body ended too soon.
    body: its first bytes; length: how many it has. url: where the answer came from, without user and password.
    headers: by their names in small letters. location: where a redirect leads that was not followed. seconds: until the
    body was read."""

    __slots__ = ("body", "headers", "length", "location", "problem", "seconds", "status", "url")

    def __init__(self, status: int = 0, seconds: float = 0.0, problem: str = "", url: str = "") -> None:
        self.status, self.seconds, self.problem, self.url = status, seconds, problem, url
        self.body, self.length, self.location = b"", 0, ""
        self.headers: dict[str, str] = {}


def fetch(url: str, limit: float, headers: dict[str, str] | None = None, data: bytes | None = None, *,
          follow: bool = False, most: int = 4096, private: Container[str] | None = None, method: str = "") -> Answer:
    """Call an http or https URL for at most `limit` seconds and keep `most` bytes. data: what to POST; else it is a
    GET. method: in place of these. follow: go where a redirect leads, but not where a POST would become a GET. private:
    the only hosts that may have an address that is not public (then no proxy is used, since it would choose the
    address); None: all may."""
    import time

    begun, answer = time.monotonic(), Answer()
    handlers = [] if private is None else _public_only(private)

    try:
        answer.url, sign_in = split_url(url)
        within(limit, lambda: _call(answer, sign_in, {"User-Agent": "webscheduler", **(headers or {})}, data, follow,
                                    most, begun + limit, handlers, method or None))
    except Exception as error:  # a server may answer anything
        found, answer = answer, Answer(answer.status, url=answer.url)  # its thread may go on with the first
        answer.body, answer.length, answer.problem = found.body, found.length, _problem(error, limit)
        answer.headers = found.headers

    answer.seconds = round(time.monotonic() - begun, 3)
    return answer


def within(limit: float, call: Callable[[], Result]) -> Result:
    """What the call returns or raises; TimeoutError if it takes longer than `limit` seconds, after which it goes on in
    a thread of its own. A socket's timeout begins again with each byte, and does not bound the look-up of a name."""
    import threading

    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)

    try:
        thread.start()
    except RuntimeError:  # the account may have no more threads: then the timeouts of sockets are the only limit
        work()
    else:
        thread.join(limit)

    if errors:
        raise errors[0]

    if not results:
        raise TimeoutError

    return results[0]


def split_url(url: str) -> tuple[str, str]:
    """(the URL in ASCII, as it is sent, without fragment; `user:password`, or empty). Raises ValueError, which shows no
    password."""
    from urllib.parse import quote, unquote, urlsplit, urlunsplit

    try:
        parts = urlsplit("".join(c for c in url.strip() if c not in "\t\r\n"))  # as browsers do (url.spec.whatwg.org)
        user, at, place = parts.netloc.rpartition("@")
        urlsplit(f"//{place}")  # its brackets, apart from those that a password may have
        port, host = parts.port, parts.hostname or ""
        host = host if ":" in host else host.encode("idna").decode()
    except (ValueError, UnicodeError):  # the message may hold all of the URL
        raise ValueError("this is no URL: its server or its port makes no sense")

    if parts.scheme not in ("http", "https"):
        raise ValueError("a URL must start with http:// or https://")

    if not host or not all("!" < c <= "~" and c not in '"/<>[\\]^`{|}%' for c in host):
        raise ValueError("this is no URL: its server makes no sense")

    host = f"[{host}]" if ":" in host else host
    place = host if port is None else f"{host}:{port}"
    sent = urlunsplit((parts.scheme, place, quote(parts.path or "/", AS_IT_IS), quote(parts.query, AS_IT_IS), ""))
    return sent, ":".join(map(unquote, user.partition(":")[::2])) if at else ""


def _call(answer: Answer, sign_in: str, headers: dict[str, str], data: bytes | None, follow: bool, most: int,
          end: float, handlers: list[Any], method: str | None) -> None:
    """Fill the answer. handlers: of urllib, in place of its own."""
    import base64
    import time
    import urllib.request
    from http.cookiejar import CookieJar
    from urllib.parse import urljoin, urlsplit

    class AnyStatus(urllib.request.HTTPErrorProcessor):
        """Return errors and redirects, too. urllib would parse where they lead, and where that is no URL keep the
        connection open and show all of it, with its password."""

        def http_response(self, request: urllib.request.Request, response: Any) -> Any:
            return response

        https_response = http_response

    # A site may set a cookie and lead back to the same URL, which it answers once the cookie comes.
    opener = urllib.request.build_opener(AnyStatus, urllib.request.HTTPCookieProcessor(CookieJar()), *handlers)
    origin = urlsplit(answer.url)[:2]

    for count in range(MOST_REDIRECTS + 1):
        request = urllib.request.Request(answer.url, data, headers, method=method)  # noqa: S310 (split_url checks)
        answer.status = 0

        if sign_in and urlsplit(answer.url)[:2] == origin:
            request.add_header("Authorization", "Basic " + base64.b64encode(sign_in.encode()).decode())

        with opener.open(request, timeout=max(0.001, end - time.monotonic())) as response:
            target = response.headers["Location"] if response.status in REDIRECTS else None
            answer.status = response.status
            answer.headers = {name.lower(): value for name, value in response.headers.items()}
            _read(answer, response, most, end)

        if not target:
            return

        try:  # a header is read as Latin-1, and servers send UTF-8
            target = urljoin(answer.url, target.encode("latin-1", "replace").decode("utf-8", "replace"))
        except ValueError:  # as in `split_url`
            raise ValueError(f"HTTP {answer.status} leads to what is no URL")

        if not follow or (data is not None and response.status not in REPEATED):
            answer.location = target
            return

        if count < MOST_REDIRECTS:
            answer.url, found = split_url(target)
            sign_in, origin = (found, urlsplit(answer.url)[:2]) if found else (sign_in, origin)

    raise ValueError(f"more than {MOST_REDIRECTS} redirects, the last to {answer.url[:200]}")


def host_of(url: str) -> str:
    """The host of a URL as calls name it: in ASCII, lower case, without brackets. Empty if it is no URL."""
    from urllib.parse import urlsplit

    try:
        return urlsplit(split_url(url)[0]).hostname or ""
    except ValueError:
        return ""


def check_public(url: str, private: Container[str]) -> None:
    """Raises NotPublic if a call of the URL with this `private` would now be refused. A name that is not found within
    LOOK_UP seconds, or is no name, is left to the call."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(split_url(url)[0])
        within(LOOK_UP, lambda: _places(parts.hostname or "", parts.port or 80, private))
    except NotPublic:
        raise
    except (OSError, ValueError):
        pass


def _places(host: str, port: int, private: Container[str]) -> list[Any]:
    """What getaddrinfo(3) finds for the host, without addresses that may not be called. Raises NotPublic if none of
    them may, other OSErrors if there are none."""
    import socket

    from .addresses import is_public

    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    good = [row for row in found if host in private or is_public(str(row[4][0]))]

    if found and not good:
        raise NotPublic(host)

    return good


def _public_only(private: Container[str]) -> list[Any]:
    """Handlers of urllib that look a name up once, and connect to an address that was looked at: a second look-up, as
    that of the standard library, may find another address."""
    import http.client
    import socket
    import ssl
    import urllib.request

    def connected(host: str, port: int, limit: float | None) -> socket.socket:
        problem = OSError(f"{host} has no address")

        for *_, place in _places(host, port, private):
            try:
                return socket.create_connection(place[:2], limit)  # an address in digits: nothing is looked up
            except OSError as error:
                problem = error

        raise problem

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = connected(self.host, self.port, self.timeout)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            plain = connected(self.host, self.port, self.timeout)
            self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(Plain, request)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(Secure, request)

    return [PlainHandler, SecureHandler, urllib.request.ProxyHandler({})]


def _read(answer: Answer, response: Any, most: int, end: float) -> None:
    """Read the body to its end and keep `most` bytes. Raises ValueError if it ends too soon."""
    import http.client
    import time

    answer.body, answer.length, whole = b"", 0, True
    expected = getattr(response, "length", None)  # None: in chunks, or up to the end of the connection

    try:
        while block := response.read(BLOCK):
            answer.body += block[:most - len(answer.body)]
            answer.length += len(block)

            if time.monotonic() > end:
                raise TimeoutError
    except http.client.IncompleteRead:
        whole = False

    if not whole or (expected and answer.length < expected):
        what = f"{answer.length} of {expected}" if expected else f"{answer.length}"
        raise ValueError(f"the body of the answer (HTTP {answer.status}) ended too soon, after {what} bytes")


def _problem(error: Exception, limit: float) -> str:
    """An error as one line."""
    import socket

    reason = getattr(error, "reason", None) or error

    # With a number it is the kernel that gave up sooner.
    if isinstance(reason, (TimeoutError, socket.timeout)) and reason.errno is None:
        return f"no whole answer within {limit:g} s, its time limit"

    return " ".join(str(reason or type(error).__name__).split())[:300]
