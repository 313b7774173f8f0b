# SPDX-License-Identifier: LGPL-3.0-or-later
"""Verbs to try it out: demo, and serve, a small HTTP server around the WSGI application.

The rules: `demo` pretends nothing. A real server answers on the loopback interface, signed URLs are called over HTTP,
and each line says whether it is as expected; if one is not, the exit status is 1. `serve` logs one line for each
request without its query, since the query holds the signature.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socketserver
import sys
import tempfile
import threading
import time
from argparse import Namespace
from contextlib import suppress
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from .. import create_app, editing, signing
from ..errors import Unusable
from ..fetching import Answer, fetch
from ..host.home import create_home
from ..store import history_reading, processes
from ..store.settings import load_settings, save_settings
from ..store.task import Task
from ..vocabulary import STRATEGIES
from .parser import number
from .terminal import line, local_time

HOST = "127.0.0.1"  # of the demo, and where `serve` listens unless it is told
PATIENCE = 8.0  # seconds
SLOW = "import time; print('working', flush=True); time.sleep(1.5); print('done')"


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """A server with a thread for each request."""

    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        """Bind without asking a name server what this host is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a client that went away in one line."""
        print(f"{client_address[0]} {type(sys.exc_info()[1]).__name__}", file=sys.stderr)


class Handler(WSGIRequestHandler):
    """Answers one connection and logs its requests to standard error."""

    timeout = 60

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Address, method, path without its query, status."""
        path = getattr(self, "path", "?").partition("?")[0]
        method = getattr(self, "command", None) or "?"
        print(line(f"{self.client_address[0]} {method} {path} {str(code).split()[0]}"), file=sys.stderr, flush=True)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing else: it might quote the query."""


class Quiet(Handler):
    """The same, without a log."""

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log nothing."""


def listen(home: str, host: str, port: int, handler: type[Handler] = Handler) -> Server:
    """A server that listens, and answers when `serve_forever` is called. Raises Unusable."""
    try:
        server = Server((host, port), handler)
    except (OSError, ValueError, TypeError) as error:  # the latter two for a host that is no name
        raise Unusable(f"{host}:{port} cannot be used ({getattr(error, 'strerror', None) or error}): "
                       "choose others with --host and --port")

    server.set_app(create_app(home))
    return server


def _serve(args: Namespace) -> None:
    """Serve until Ctrl-C."""
    load_settings(args.home)  # an installation that cannot work says so here, not to each request

    with listen(args.home, args.host, args.port) as server:
        base = f"http://{args.host}:{server.server_port}"
        print(f"Serving {line(args.home)} on {base}/ until Ctrl-C: `webscheduler url NAME --base {base}` prints its "
              "URLs", flush=True)

        if not args.host.startswith("127.") and args.host != "localhost":
            print("webscheduler: plain HTTP does not hide signatures: put a proxy with TLS in front", file=sys.stderr)

        # A thread that is ended while it holds the lock of a buffered stream aborts the process.
        unbuffered = cast("Any", io.FileIO(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(unbuffered, errors="backslashreplace", write_through=True)

        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.2)


def request(url: str, method: str = "GET") -> tuple[Answer, dict[str, Any]]:
    """Call a URL of the server on this machine: its answer, and the JSON object in it, empty if there is none."""
    answer = fetch(url, PATIENCE, private=(HOST,), method=method)
    answer.headers.pop("date", None)  # answers are compared

    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None

    return answer, found if isinstance(found, dict) else {}


def demo() -> int:
    place = os.path.realpath(tempfile.mkdtemp(prefix="webscheduler-demo-"))
    home = os.path.join(place, "home")
    good = False

    try:
        create_home(home, time.time())

        with listen(home, HOST, 0, Quiet) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()

            try:
                good = _steps(home, f"http://{HOST}:{server.server_port}")
            finally:
                server.shutdown()
                thread.join()
    finally:
        _wait_for_runs(home)
        end = time.monotonic() + PATIENCE

        # A recorded run may still write its index: a folder that gets another file meanwhile is removed again.
        while os.path.isdir(place) and time.monotonic() < end:
            shutil.rmtree(place, ignore_errors=True)

    print("\nEverything worked; the temporary installation is removed. Yours begins with: webscheduler init"
          if good else "\nSomething did not work: see the lines that say BAD.")
    return 0 if good else 1


def _steps(home: str, base: str) -> bool:
    """Carry out each step; whether everything was as expected. base: of the server's URLs."""
    seen = []

    def check(expected: bool, text: str) -> None:
        seen.append(expected)
        print(f"  {'ok ' if expected else 'BAD'} {line(text)}", flush=True)

    save_settings(home, {"baseUrl": base})
    settings = load_settings(home)

    def task(name: str, **fields: Any) -> Task:
        return editing.create(settings, name, fields, time.time())

    def url(of: Task) -> str:
        return signing.trigger_url(base, of["slug"], of["secret"])

    three = {name: task(name, command="hello", arguments=name, strategy=name) for name in STRATEGIES}
    slow = task("slow", argv=[sys.executable, "-I", "-c", SLOW], cwd=home, strategy="fork")

    print(f"A temporary installation, served on {base}. A task has a signed URL for your panel to call:")
    print(f"  {base}/run/{slow['slug'][:6]}...?sig={signing.sign(slow['secret'], slow['slug'])[:6]}...")
    print("\n1. Calling it runs the task, before the answer, after it, or detached from it:")

    for name, one in three.items():
        answer, reply = request(url(one), "POST" if name == "close" else "GET")
        good = (answer.status, reply.get("accepted"), reply.get("strategy"), reply.get("status")) == (
            200 if name == "sync" else 202, True, name, "success" if name == "sync" else "running")
        said = f", {reply.get('output', '').strip()!r}" if name == "sync" else ""
        check(good, f"{name:5}  {answer.status} in {answer.seconds:.2f} s, {reply.get('status')}{said}: "
                    f"{STRATEGIES[name]}")

    print("\n2. Without a valid signature nothing runs, and the answer says nothing:")
    right = url(three["fork"])
    refusals = {"a wrong signature": request(right[:-64] + "0" * 64),
                "an unknown task": request(f"{base}/run/{'0' * 32}?sig={'0' * 64}"),
                "no signature": request(right.partition("?")[0])}
    head, _ = request(right, "HEAD")

    for what, (answer, reply) in refusals.items():
        check(answer.status == 202 and reply == {"accepted": False},
              f"{what:17}  {answer.status} {answer.body.decode('latin-1').strip()}")

    wrong, _ = refusals["a wrong signature"]
    check((head.status, head.headers, head.body) == (wrong.status, wrong.headers, b""),
          f"{'HEAD, signed':17}  {head.status}, the same headers, and nothing runs")
    same = all((answer.status, answer.headers, answer.body) == (wrong.status, wrong.headers, wrong.body)
               for answer, _ in refusals.values())
    check(same, "all of them are the same to the byte")

    print("\n3. A task that is still running is not started twice:")
    first, second = (request(url(slow))[1] for _ in range(2))
    check(first.get("status") == "running", f"first call   {first.get('status')}, run {first.get('run')}")
    check((second.get("status"), second.get("reason")) == ("skipped", "locked"),
          f"second call  {second.get('status')}, {second.get('reason')}")

    print("\n4. You can see what happened (webscheduler logs):")
    check(_wait_for_runs(home), "every run has ended and is recorded")

    for name in (*STRATEGIES, "slow"):
        entries = list(history_reading.entries(home, name))
        runs = [entry for entry in entries if entry.get("run")]

        for entry in entries:
            alone = len(runs) == 1 and entry in runs
            good = (alone and entry["status"] == "success") or entry.get("reason") == "locked"
            output = " ".join(str(entry.get("output")).split())
            check(good, f"{local_time(entry.get('finishedAt'))}  {name:5}  {entry['status']:7}  "
                        f"{output or entry.get('reason') or ''}")

        if not runs:
            check(False, f"{name}: no run is recorded")

    return all(seen)


def _wait_for_runs(home: str) -> bool:
    """Wait until no run is in progress; False if one still is after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE

    while time.monotonic() < end:
        if not os.path.isdir(os.path.join(home, "runs")) or not os.listdir(os.path.join(home, "runs")):
            return True

        time.sleep(0.02)

    return not processes.live_runs(home)


VERBS = {
    "demo": (lambda args: demo(), "Show how it works, in a temporary installation with a real server."),
    "serve": (_serve, "Serve the installation over HTTP, for testing or behind a proxy.",
              ("--host ADDRESS", f"Address to listen on; default: {HOST}.", {"default": HOST}),
              number("--port N", "Port; 0: any free one; default: 8000.", 0, 65535, 8000)),
}
