# SPDX-License-Identifier: LGPL-3.0-or-later
"""An installation as seen from outside: the command line, the CGI script, WSGI, and the files of its home.

Rule: of the package only `webscheduler.create_app` is imported, and signatures are made here by hand, so that these
tests say the same about every version, wherever its modules are.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from wsgiref.validate import validator

import webscheduler
from tests import PACKAGE, SCRIPT
from tests.processes import is_left, processes_of

BASE = "https://example.org/cgi-bin/webscheduler.cgi"
PATIENCE = 30.0  # seconds until a wait is given up; nothing is measured by it


class Done(NamedTuple):
    """What a call of the command line came to."""

    status: int
    out: str
    err: str


class Answer(NamedTuple):
    """What a client gets. status: code and reason; headers in their order."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.status.split()[0])

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def signature(secret: str, message: str) -> str:
    """As the documentation tells people to make it: hex of HMAC-SHA256 with the secret's ASCII bytes as the key."""
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + PATIENCE

    while True:
        found = condition()

        if found:
            return found

        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE:.0f} s"
        time.sleep(0.01)


def start_time(pid: int) -> int:
    """When a process was started, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5))."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


class Outside:
    """The installation at `home`, served by the package in the folder `library` or, if None, by the bundle `script`."""

    def __init__(self, home: Path, library: Path | None = PACKAGE.parent, script: Path = SCRIPT) -> None:
        self.home, self.library, self.script = home, library, script
        self.python = [sys.executable] if library else [sys.executable, "-IS"]  # as the first line of a bundle says

    def environment(self) -> dict[str, str]:
        options = {name: os.environ[name] for name in ("PYTHONDEVMODE", "PYTHONWARNINGS") if name in os.environ}
        library = {} if self.library is None else {"PYTHONPATH": str(self.library)}
        return {"PATH": os.environ["PATH"], "HOME": str(self.home.parent), "LANG": "C.UTF-8",
                "WEBSCHEDULER_HOME": str(self.home), **library, **options}

    def cli(self, *words: str, given: str = "") -> Done:
        """`webscheduler WORDS`, from beginning to end, with `given` on standard input."""
        program = ["-m", "webscheduler"] if self.library else [str(self.script)]
        ended = subprocess.run([*self.python, *program, *words], env=self.environment(), text=True, input=given,
                               capture_output=True, cwd=self.home.parent, timeout=PATIENCE)
        assert "Traceback" not in ended.stderr, ended.stderr
        return Done(ended.returncode, ended.stdout, ended.stderr)

    def json(self, *words: str) -> Any:
        """The one document that a call with --json prints."""
        done = self.cli(*words, "--json")
        assert done.out, done.err
        return json.loads(done.out)

    # Requests

    def request(self, path: str = "", query: str = "", method: str = "GET", **variables: str) -> dict[str, str]:
        return {"REQUEST_METHOD": method, "SCRIPT_NAME": "/cgi-bin/webscheduler.cgi", "PATH_INFO": path,
                "QUERY_STRING": query, "REMOTE_ADDR": "192.0.2.1", "SERVER_NAME": "example.org", "SERVER_PORT": "443",
                "SERVER_PROTOCOL": "HTTP/1.1", **variables}

    def of_url(self, url: str, method: str = "GET", **variables: str) -> dict[str, str]:
        """The request that somebody makes who calls this URL of BASE."""
        assert url.startswith(BASE), url
        path, _, query = url[len(BASE):].partition("?")
        return self.request(path, query, method, **variables)

    def cgi(self, environ: dict[str, str], body: bytes = b"") -> Answer:
        """The answer of the script (RFC 3875, 6)."""
        length = {"CONTENT_LENGTH": str(len(body))} if body else {}
        environment = {**self.environment(), "GATEWAY_INTERFACE": "CGI/1.1", **length, **environ}
        ended = subprocess.run([*self.python, str(self.script)], env=environment, input=body, capture_output=True,
                               cwd=self.script.parent, timeout=PATIENCE)
        assert ended.returncode == 0, ended.stderr.decode()
        head, _, content = ended.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode("latin-1").split("\r\n")]
        assert headers and headers[0][0] == "Status", ended.stdout
        return Answer(headers[0][1], headers[1:], content)  # type: ignore[arg-type]

    def wsgi(self, environ: dict[str, str], body: bytes = b"") -> Answer:
        """The answer of the application, in this process, by way of the validator of PEP 3333."""
        started: list[Any] = []
        length = {"CONTENT_LENGTH": str(len(body))} if body else {}
        given = {"wsgi.version": (1, 0), "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(body),
                 "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": True,
                 "wsgi.run_once": False, **length, **environ}

        def start_response(status: str, headers: list[tuple[str, str]], error: object = None) -> Callable[..., None]:
            started[:] = [status, list(headers)]
            return lambda data: None

        result = validator(webscheduler.create_app(str(self.home)))(given, start_response)

        try:
            content = b"".join(result)
        finally:
            result.close()

        return Answer(started[0], started[1], content)

    def sign_in(self, door: Callable[[dict[str, str], bytes], Answer], user: str, password: str) -> Answer:
        """What comes back to who fills in the form to sign in; the page itself brings the token of the form."""
        page = door(self.request("/admin/sign-in"), b"")
        token = re.search(rb'name="token" value="([0-9a-f]+)"', page.body)
        assert page.code == 200 and token, page
        cookies = "; ".join(value.partition(";")[0] for name, value in page.headers if name == "Set-Cookie")
        form = urlencode({"token": token[1].decode(), "user": user, "password": password}).encode()
        return door(self.request("/admin/sign-in", method="POST", HTTP_COOKIE=cookies, HTTP_HOST="example.org",
                                 CONTENT_TYPE="application/x-www-form-urlencoded"), form)

    # Files

    def write_task(self, name: str, **row: Any) -> dict[str, Any]:
        """Put a row into state.json by hand, as people do; what it does not say has its default."""
        rows = self.state()
        rows[name] = row
        (self.home / "state.json").write_text(json.dumps(rows))
        return row

    def state(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads((self.home / "state.json").read_bytes())
        return found

    def history(self, file: str) -> list[dict[str, Any]]:
        """All lines of logs/FILE.jsonl, oldest first; each must be whole."""
        path = self.home / "logs" / f"{file}.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def claims(self) -> list[Path]:
        return sorted((self.home / "runs").iterdir())

    def command_named(self) -> bytes:
        """What the claims say, once the command of a run has named itself in one; until then nothing."""
        text = b"".join(claim.read_bytes() for claim in self.claims())
        return text if b'"command": [' in text else b""

    def idle(self) -> None:
        """Wait until every run is recorded."""
        until(lambda: not self.claims(), "the end of all runs")

    def processes(self) -> list[int]:
        """Every living process, other than this one, that has to do with this home."""
        return processes_of(self.home)

    def gone(self) -> None:
        """Wait until no process of it is left."""
        until(lambda: not is_left(self.home), "the end of all processes")

    def end(self) -> None:
        """Kill what is left of it, and wait until it is gone."""
        while left := self.processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

            time.sleep(0.01)

        self.gone()


@contextmanager
def installed(home: Path, library: Path | None = PACKAGE.parent, script: Path = SCRIPT) -> Iterator[Outside]:
    """A new installation by `init`; what is left running in it is killed."""
    made = Outside(home, library, script)
    done = made.cli("init", "--base-url", BASE, "--timezone", "Europe/Paris")
    assert done.status == 0, done.err

    try:
        yield made
    finally:
        made.end()


def waits_for(file: Path) -> Sequence[str]:
    """argv of a command that goes on until `file` is there."""
    return ["/bin/sh", "-c", 'echo begun; while [ ! -e "$0" ]; do sleep 0.02; done; echo ended', str(file)]
