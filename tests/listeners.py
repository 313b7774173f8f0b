# SPDX-License-Identifier: LGPL-3.0-or-later
"""Servers on loopback that notifications go to: a webhook and pings by HTTP or HTTPS, and mail with TLS and a password.

Rule: the certificate is made by openssl for the test, and trusted by SSL_CERT_FILE alone, as a private CA would be.
It may import the standard library, aiosmtpd, and `free_port` of `servers.server`.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.servers.server import free_port

PASSWORD = "p@ss:word/%41"


class Hook:
    """What was answered, as (method, path, headers, body), and how: status, and seconds before that; nothing while
    `answers` is cleared."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status, self.wait = 204, 0.0
        self.answers = threading.Event()
        self.answers.set()
        self.url = ""
        self.leads: dict[str, tuple[int, str]] = {}  # path -> (status, where it leads)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for method, _, _, body in self.calls if method == "POST"]

    @property
    def texts(self) -> list[str]:
        return [document["text"].partition("] ")[2] for document in self.documents]

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.calls]


@contextmanager
def listening(certificate: Path | None = None) -> Iterator[Hook]:
    """A web server, with TLS if there is a certificate."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            time.sleep(hook.wait)
            hook.answers.wait()
            status, target = hook.leads.get(self.path, (hook.status, ""))

            if not target:
                hook.calls.append((self.command, self.path, dict(self.headers), body))

            try:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.send_header(*("Location", target) if target else ("X", "y"))
                self.end_headers()
            except OSError:
                pass  # nobody waits any more

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that trusts another certificate goes away."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)

        hook.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        try:
            yield hook
        finally:
            hook.answers.set()
            server.shutdown()
            thread.join()


def make_certificate(folder: Path) -> Path:
    """A key and its certificate for 127.0.0.1, in one file."""
    file = folder / "certificate.pem"
    key = folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)],
                   check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file


@contextmanager
def mail_server(certificate: Path | None, secure: bool) -> Iterator[tuple[str, list[EmailMessage]]]:
    """(`USER:PASSWORD@HOST:PORT` of a server that wants them, over TLS; the messages that it took). secure: TLS from
    the start, else STARTTLS; without a certificate it offers none."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import SMTP, AuthResult

    took: list[EmailMessage] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            message: Any = message_from_bytes(envelope.content, policy=policy.default)
            message["X-Envelope"] = f"{envelope.mail_from} {','.join(envelope.rcpt_tos)}"
            took.append(message)
            return "250 OK"

    def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = (data.login, data.password) == (b"me@example.org", PASSWORD.encode())
        return AuthResult(success=good, handled=False)

    context = None

    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    class Server(Controller):
        def factory(self) -> SMTP:
            return SMTP(self.handler, hostname="mail.example.org", authenticator=authenticator,
                        auth_required=bool(context), auth_require_tls=not secure,
                        tls_context=None if secure else context, require_starttls=bool(context) and not secure)

    server = Server(Handler(), hostname="127.0.0.1", port=free_port(), ssl_context=context if secure else None)
    server.start()

    try:
        yield f"me@example.org:{PASSWORD}@127.0.0.1:{server.port}", took
    finally:
        server.stop()
