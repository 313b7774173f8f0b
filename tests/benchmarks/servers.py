# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a request costs in a server that keeps running: gunicorn with one sync worker; adnanh/webhook as a peer."""

from __future__ import annotations

import json
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import psutil

from .installed import Installed, webhook
from .measuring import Effort, Pairs, paired, settle

AT_ONCE = 4  # connections that keep the worker busy
USER, PASSWORD = "alice", "correct horse battery"
OURS = "from webscheduler import create_app\napplication = create_app({home!r})\n"
NO_OP = """\
import subprocess
def application(environ, start_response):
    {work}
    body = {body!r}
    start_response("202 Accepted", [("Content-Type", "application/json"), ("Content-Length", str(len(body))),
                                    ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")])
    return [body]
"""
HOOKS = [{"id": "true", "execute-command": "/bin/true", "response-message": "started",
          "trigger-rule": {"match": {"type": "value", "value": "right",
                                     "parameter": {"source": "url", "name": "token"}}},
          "trigger-rule-mismatch-http-response-code": 202}]  # fmt: skip

_SERVERS: set[int] = set()  # pids of those that run


class Server:
    """A server on loopback. workers: pids of the processes that it keeps."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port, self.workers = process, port, frozenset[int]()

    def ask(self, target: tuple[str, str], method: str = "GET", body: bytes = b"", header: str = "") -> bytes:
        """The whole response, head and body."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(_request(target, method, body, header))
            parts = []

            while part := connection.recv(65536):
                parts.append(part)

        return b"".join(parts)

    def seconds(self, target: tuple[str, str], expected: bytes, header: str = "") -> float:
        """Until the response is whole and the connection closed."""
        begun = time.perf_counter()
        response = self.ask(target, header=header)
        taken = time.perf_counter() - begun
        assert expected in response, response[:2000]
        return taken

    def many(self, target: tuple[str, str], expected: bytes, count: int) -> float:
        """Seconds that so many requests take, some of them at once, so that the server always has one to do."""
        begun = time.perf_counter()

        with selectors.DefaultSelector() as waiting:
            opened = ended = 0

            while ended < count:
                while opened < count and opened - ended < AT_ONCE:
                    connection = socket.create_connection(("127.0.0.1", self.port))
                    connection.sendall(_request(target))
                    waiting.register(connection, selectors.EVENT_READ, [])
                    opened += 1

                for key, _ in waiting.select():
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    part = connection.recv(65536)

                    if part:
                        key.data.append(part)
                    else:
                        assert expected in b"".join(key.data), key.data
                        waiting.unregister(connection)
                        connection.close()
                        ended += 1

        return time.perf_counter() - begun

    def idle(self) -> None:
        """Wait until no process but the server's own, and none that it left behind, runs."""
        known = {self.process.pid, *self.workers}

        def left() -> list[psutil.Process]:
            below = [child for child in psutil.Process(self.process.pid).children(True) if child.pid not in known]
            return below + [child for child in psutil.Process().children() if child.pid not in _SERVERS]

        while any(map(_runs, left())):
            time.sleep(0.002)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _request(target: tuple[str, str], method: str = "GET", body: bytes = b"", header: str = "") -> bytes:
    path = target[0] + ("?" + target[1] if target[1] else "")
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]

    if header:
        lines.append(header)

    if body:
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]

    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@contextmanager
def served(place: Installed, name: str, text: str) -> Iterator[Server]:
    """The application under gunicorn, one sync worker."""
    (place.place / f"{name}.py").write_text(text)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening, place.errors.open("ab") as errors:
        words = [str(place.peers / "python3"), "-m", "gunicorn", "--workers", "1", "--bind",
                 f"fd://{listening.fileno()}", "--chdir", str(place.place), "--worker-tmp-dir", "/dev/shm",
                 f"{name}:application"]  # fmt: skip
        process = subprocess.Popen(words, env=place.environ, pass_fds=[listening.fileno()], stderr=errors,
                                   stdout=errors)  # fmt: skip
        server = Server(process, listening.getsockname()[1])
        _SERVERS.add(process.pid)

        try:
            server.ask(("/", ""))  # answered as soon as the worker is there
            server.workers = frozenset(child.pid for child in psutil.Process(process.pid).children())
            yield server
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    _SERVERS.discard(process.pid)

    if not _SERVERS:
        settle()


def no_op(body: bytes, work: str = "pass") -> str:
    return NO_OP.format(work=work, body=body)


def refusals(place: Installed, effort: Effort) -> Pairs:
    """Requests without a valid signature against a no-op application: seconds for as many."""
    home, count = place.home(1000), 100 if effort.full else 10
    refused = b'{"accepted": false}'

    with served(place, "ours", OURS.format(home=str(home.path))) as ours, \
            served(place, "noop", no_op(refused)) as other:  # fmt: skip
        return paired(lambda: ours.many(home.urls["unknown"], refused, count),
                      lambda: other.many(home.urls["unknown"], refused, count), effort)  # fmt: skip


def accepted(place: Installed, effort: Effort) -> Pairs:
    """Accepted and detached against an application that only does Popen(["/bin/true"]): until the answer."""
    home = place.home(1000)

    with served(place, "ours", OURS.format(home=str(home.path))) as ours:
        answer = ours.ask(home.urls["quick"]).partition(b"\r\n\r\n")[2]
        assert b'"running"' in answer, answer
        ours.idle()

        with served(place, "popen", no_op(answer, 'subprocess.Popen(["/bin/true"])')) as other:
            return paired(lambda: ours.seconds(home.urls["quick"], b'"running"'),
                          lambda: other.seconds(home.urls["quick"], b"accepted"), effort, after=ours.idle)


def waited_for(place: Installed, effort: Effort) -> Pairs:
    """`sync` of /bin/true against a bare start."""
    home = place.home(1000)

    with served(place, "ours", OURS.format(home=str(home.path))) as server:
        return paired(lambda: server.seconds(home.urls["waits"], b'"success"'),
                      lambda: place.bare("-IS").seconds, effort, after=server.idle)  # fmt: skip


def panel(place: Installed, effort: Effort, tasks: int) -> Pairs:
    """The panel's list of tasks against `python3 -c pass`."""
    home = place.home(tasks, "panel")
    place.cli(home.path, "init", "--password-stdin", USER, given=PASSWORD + "\n")

    with served(place, "ours", OURS.format(home=str(home.path))) as server:
        cookie = _sign_in(server)
        return paired(lambda: server.seconds(("/admin/", ""), b"</html>", cookie),
                      lambda: place.bare().seconds, effort)  # fmt: skip


def api(place: Installed, effort: Effort) -> Pairs:
    """The API's list of 100 tasks against the panel's page of as many."""
    home = place.home(100, "api")
    place.cli(home.path, "init", "--password-stdin", USER, given=PASSWORD + "\n")
    key = place.cli(home.path, "api-key", "add", "bench", "--role", "viewer").split()[0]

    with served(place, "ours", OURS.format(home=str(home.path))) as server:
        cookie, header = _sign_in(server), f"X-Webscheduler-Key: {key}"
        return paired(lambda: server.seconds(("/api/v1/tasks", "limit=100"), b'"next"', header),
                      lambda: server.seconds(("/admin/", ""), b"</html>", cookie), effort)  # fmt: skip


def _sign_in(server: Server) -> str:
    """The header that says who has signed in."""
    page = server.ask(("/admin/sign-in", ""))
    token = re.search(rb'name="token" value="([0-9a-f]+)"', page)
    assert token, page
    form = urlencode({"token": token[1].decode(), "user": USER, "password": PASSWORD}).encode()
    answer = server.ask(("/admin/sign-in", ""), "POST", form, _cookies(page))
    cookie = _cookies(answer)
    assert b"sign-in" not in server.ask(("/admin/", ""), header=cookie).partition(b"\r\n\r\n")[0], answer
    return cookie


def _cookies(response: bytes) -> str:
    return "Cookie: " + "; ".join(re.findall(r"(?im)^Set-Cookie: ([^;\r]+)", response.decode("latin-1")))


# A peer, for information


def webhook_peer(place: Installed, effort: Effort, kind: str) -> Pairs | None:
    """adnanh/webhook, which is resident, against a no-op application under gunicorn: accepted, or refusals at once."""
    program = webhook()

    if program is None:
        print("webhook is not here (Debian: webhook)", file=sys.stderr)
        return None

    hooks = place.place / "hooks.json"
    hooks.write_text(json.dumps(HOOKS))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    process = subprocess.Popen([program, "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    _SERVERS.add(process.pid)
    there = Server(process, port)

    try:
        _until_it_listens(port)

        if kind == "accepted":
            with served(place, "popen", no_op(b"started", 'subprocess.Popen(["/bin/true"])')) as other:
                return paired(lambda: there.seconds(("/hooks/true", "token=right"), b"started"),
                              lambda: other.seconds(("/", ""), b"started"), effort)

        count = 100 if effort.full else 10

        with served(place, "noop", no_op(b"refused")) as other:
            return paired(lambda: there.many(("/hooks/true", "token=wrong"), b" 202 ", count),
                          lambda: other.many(("/", ""), b"refused", count), effort)
    finally:
        _end(process)


def _until_it_listens(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
