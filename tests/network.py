# SPDX-License-Identifier: LGPL-3.0-or-later
"""A small internet for one process, in a network namespace of its own: a public address, a private one, a name server,
and a web server at each address that says where it was called.

`python -m tests.network URL...` calls each URL as `http` does for a task that was saved in the panel, and prints as
JSON [[status, problem, body of each], the calls that arrived]. It needs root (`unshare --net --mount`), iproute2 and
mount(8).
It may import the package and the standard library.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests import CHECKOUT
from webscheduler.fetching import fetch

PUBLIC, PRIVATE = "93.184.216.34", "10.1.2.3"
NAMES = {
    "public.example": [PUBLIC], "private.example": [PRIVATE], "loop.example": ["127.0.0.1"],
    "own.example": [PRIVATE],
    "both.example": [PRIVATE, PUBLIC],
    # Each look-up has another answer, and the first leads nowhere.
    "changes.example": ["93.184.216.35"],
}
CHANGED = {"changes.example": ["127.0.0.1"]}
CALLS: list[str] = []


class Web(BaseHTTPRequestHandler):
    """`/to/URL` redirects there."""

    def do_GET(self) -> None:
        where = f"{self.connection.getsockname()[0]} {self.headers['Host']}{self.path}"
        CALLS.append(where)
        target = self.path.partition("/to/")[2]
        self.send_response(302 if target else 200)
        self.send_header(*("Location", target) if target else ("X-Nothing", "y"))
        self.end_headers()
        self.wfile.write(where.encode())

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


def answer_names(server: socket.socket) -> None:
    """Answer questions for addresses (RFC 1035, 4.1), for ever."""
    names = dict(NAMES)

    while True:
        question, client = server.recvfrom(512)
        end, labels = 12, []

        while question[end]:
            labels.append(question[end + 1:end + 1 + question[end]].decode())
            end += 1 + question[end]

        end += 5
        name = ".".join(labels)
        found = names.get(name, []) if question[end - 4:end - 2] == b"\0\1" else []
        names.update({name: CHANGED[name]} if found and name in CHANGED else {})
        records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(each) for each in found)
        header = question[:2] + b"\x81\x80\0\1" + len(found).to_bytes(2, "big") + bytes(4)
        server.sendto(header + question[12:end] + records, client)


def main(urls: list[str]) -> int:
    for words in (["ip", "link", "set", "lo", "up"], ["ip", "address", "add", PUBLIC, "dev", "lo"],
                  ["ip", "address", "add", PRIVATE, "dev", "lo"]):
        subprocess.run(words, check=True)

    with tempfile.NamedTemporaryFile("w") as file:
        file.write("nameserver 127.0.0.1\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names, ThreadingHTTPServer(("", 80), Web) as web:
            names.bind(("127.0.0.1", 53))
            threading.Thread(target=answer_names, args=(names,), daemon=True).start()
            threading.Thread(target=web.serve_forever, daemon=True).start()
            answers: list[Any] = [fetch(url, 10, follow=True, private={"own.example"}) for url in urls]
            print(json.dumps([[[each.status, each.problem, each.body.decode()] for each in answers], CALLS]))

    return 0


def able() -> bool:
    """Whether this account may make such a network here."""
    return all(map(shutil.which, ("unshare", "ip", "mount"))) and subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode == 0


def call(*urls: str) -> Any:
    """Call the URLs in such a network: (answers, calls)."""
    done = subprocess.run(["unshare", "--net", "--mount", sys.executable, "-m", "tests.network", *urls],
                          cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
