"""A small HTTP server around the WSGI application, for trying out.

The rule: what is logged is one line a request without its query, for the query carries the signature.
"""

from __future__ import annotations

import socketserver
import sys
from contextlib import suppress
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from .. import create_app
from ..errors import Unusable
from .terminal import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
        """A client that went away is told in one line."""
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
        """Whatever else there is to say may quote the query: nothing."""


class Quiet(Handler):
    """The same without a log."""

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing."""


def listen(home: str, host: str, port: int, handler: type[Handler] = Handler) -> Server:
    """A server for the installation that listens, and answers once `serve_forever` is called. Raises Unusable."""
    try:
        server = Server((host, port), handler)
    except (OSError, ValueError, TypeError) as error:  # the latter two for a host that is no name
        raise Unusable(f"{host}:{port} cannot be listened on ({getattr(error, 'strerror', None) or error}): "
                       "choose others with --host and --port")

    server.set_app(create_app(home))
    return server


def serve(home: str, host: str, port: int) -> None:
    """Serve until the keyboard interrupts."""
    with listen(home, host, port) as server:
        base = f"http://{host}:{server.server_port}"
        print(f"Serving {line(home)} on {base}/ until Ctrl-C: `webscheduler url NAME --base {base}` prints its URLs",
              flush=True)

        if not host.startswith("127.") and host != "localhost":
            print("webscheduler: plain HTTP shows signatures to whoever listens: put a proxy with TLS in front",
                  file=sys.stderr)

        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.2)
