# SPDX-License-Identifier: LGPL-3.0-or-later
"""An installation for tests: a home with tasks, and its two doors, called as a server would call them.

Rule: nothing is faked. The CGI script is a process of its own with the environment of RFC 3875; the WSGI application
is called through `wsgiref.validate`. Everything that a test starts carries the home's path in its environment or its
words, so `end` finds all of it.
It may import the package, `processes` and the standard library.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, NamedTuple
from wsgiref.validate import validator

from tests import SCRIPT
from tests.processes import is_left, processes_of
from webscheduler import signing
from webscheduler.host.home import create_home
from webscheduler.store import history, locks, state
from webscheduler.store.task import new_task
from webscheduler.wsgi import create_app

DOORS = ("cgi", "wsgi")
REFUSED = b'{"accepted": false}'
SIMPLE = {"strategy": "fork"}  # what `auto` chooses depends on what was seen die before
PATIENCE = 30.0  # seconds until a wait is given up; nothing is measured by it


class Answer(NamedTuple):
    """What a client gets, and what went to the server's error log."""

    status: int
    headers: dict[str, str]
    body: bytes
    errors: str

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def refused(self) -> bool:
        return self.status == 202 and self.body == REFUSED


def until(condition: Callable[[], Any], what: str = "it") -> Any:
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + PATIENCE

    while True:
        found = condition()

        if found:
            return found

        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE:.0f} s"
        time.sleep(0.01)


def asking(path: str = "", query: str = "", method: str = "GET", **variables: str) -> dict[str, str]:
    """The environ of a request, in WSGI's encoding: each character is a byte (PEP 3333)."""
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "/cgi-bin/webscheduler.cgi",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "192.0.2.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        **variables,
    }


def python_options() -> dict[str, str]:
    """What the tests' own Python was told about warnings, for those that they start."""
    return {name: os.environ[name] for name in ("PYTHONDEVMODE", "PYTHONWARNINGS") if name in os.environ}


def ended(who: object) -> bool:
    """Whether the process that a claim names has ended."""
    return not locks.alive(who)


class Installation:
    """A home, made as `init` makes it, with tasks to be triggered."""

    def __init__(self, home: Path) -> None:
        self.home = home
        create_home(str(home), time.time())
        self.application = create_app(str(home))

    def add(self, name: str = "task", argv: Sequence[str] = ("true",), **fields: Any) -> str:
        """Add an enabled task that runs `argv`; its name."""
        row = new_task(time.time(), {"enabled": True, "argv": list(argv), "cwd": "/", **SIMPLE, **fields})
        state.update(str(self.home), lambda tasks: tasks.update({name: row}))
        return name

    def edit(self, name: str = "task", **fields: Any) -> None:
        state.update(str(self.home), lambda tasks: tasks[name].update(fields))

    def configure(self, **settings: Any) -> None:
        file = self.home / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))

    def row(self, name: str = "task") -> dict[str, Any]:
        return state.read_strictly(str(self.home))[name]

    # Requests

    def signature(self, name: str = "task", ts: object = None, status: bool = False) -> str:
        row = self.row(name)
        slug = row["slug"]
        message = signing.status_message(slug) if status else signing.run_message(slug, None if ts is None else str(ts))
        return signing.sign(row["secret"], message)

    def signed(self, name: str = "task", ts: object = None, method: str = "GET", **variables: str) -> dict[str, str]:
        """The environ of a request that `url` would make."""
        timed = "" if ts is None else f"ts={ts}&"
        path, query = f"/run/{self.row(name)['slug']}", f"{timed}sig={self.signature(name, ts)}"
        return asking(path, query, method, **variables)

    def asking_status(self, name: str = "task") -> dict[str, str]:
        return asking(f"/status/{self.row(name)['slug']}", f"sig={self.signature(name, status=True)}")

    def call(self, door: str, environ: Mapping[str, str], body: bytes = b"") -> Answer:
        """Make the request at one of DOORS."""
        return self.cgi(environ, body) if door == "cgi" else self.wsgi(environ, body)

    def trigger(self, door: str = "cgi", name: str = "task", **variables: str) -> Answer:
        return self.call(door, self.signed(name, **variables))

    def cgi(self, environ: Mapping[str, str], body: bytes = b"") -> Answer:
        with self.start_cgi(environ, body) as process:
            return answered(process)

    def start_cgi(
        self,
        environ: Mapping[str, str],
        body: bytes = b"",
        words: Sequence[str] = (),
        script: Path = SCRIPT,
        **popen: Any,
    ) -> subprocess.Popen[bytes]:
        """Start the script as a server does; `answered` waits for what it says."""
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "WEBSCHEDULER_HOME": str(self.home), **python_options()}

        if body:
            variables.setdefault("CONTENT_LENGTH", str(len(body)))

        variables.update(environ)
        process = subprocess.Popen(
            [*(words or [sys.executable]), str(script)],
            env={key.encode("latin-1"): value.encode("latin-1") for key, value in variables.items()},
            **{
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "cwd": script.parent,
                **popen,
            },
        )

        if process.stdin:
            with suppress(BrokenPipeError), process.stdin:  # it may answer without reading the body
                process.stdin.write(body)

            process.stdin = None

        return process

    def wsgi(self, environ: Mapping[str, str], body: bytes = b"") -> Answer:
        errors = io.StringIO()
        started: list[Any] = []
        given = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": errors,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **({"CONTENT_LENGTH": str(len(body))} if body else {}),
            **environ,
        }

        def start_response(status: str, headers: list[tuple[str, str]], error: object = None) -> Callable[..., None]:
            started[:] = [status, headers]
            return lambda data: None

        # What the validator does not let a server say, a bad one may still say.
        sound = environ.get("CONTENT_LENGTH", str(len(body))) == str(len(body))
        result = (validator(self.application) if sound else self.application)(given, start_response)

        try:
            content = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()

        status, headers = started
        return Answer(int(status.split()[0]), dict(headers), content, errors.getvalue())

    # What became of them

    def history(self, name: str = "task") -> list[dict[str, Any]]:
        """All lines, oldest first; each must be whole."""
        file = Path(history.path(str(self.home), name))
        return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []

    def runs(self, name: str = "task") -> list[dict[str, Any]]:
        """The lines of runs, without those of skips."""
        return [line for line in self.history(name) if line["run"]]

    def claims(self) -> list[Path]:
        return sorted((self.home / "runs").iterdir())

    def facts(self) -> list[dict[str, Any]]:
        """What the claims say."""
        found = []

        for claim in self.claims():
            try:
                descriptor = os.open(claim, os.O_RDONLY)
            except FileNotFoundError:
                continue

            try:
                found.append(locks.facts_of(descriptor))
            finally:
                os.close(descriptor)

        return found

    def command_runs(self) -> dict[str, Any]:
        """Wait until a command is what it is to be, not the fork that becomes it; the facts of its run."""

        def words(who: list[int]) -> bytes:
            return Path(f"/proc/{who[0]}/cmdline").read_bytes()

        def begun() -> dict[str, Any] | None:
            for facts in self.facts():
                if locks.alive(facts.get("command")) and words(facts["command"]) != words(facts["supervisor"]):
                    return facts

            return None

        facts: dict[str, Any] = until(begun, "a command")
        return facts

    def end_of_time(self) -> None:
        """Let the time limits of the runs in progress be over, for whoever finds them without a supervisor."""
        for claim in self.claims():
            with claim.open("ab") as file:
                file.write(locks.line({"deadline": time.monotonic()}))

    def idle(self) -> None:
        """Wait until every run is recorded."""
        until(lambda: not self.claims(), "the end of all runs")

    def processes(self) -> list[int]:
        """Every living process that has to do with this home."""
        return processes_of(self.home)

    def gone(self) -> None:
        """Wait until no process of it is left."""
        until(lambda: not is_left(self.home), "the end of all processes")

    def end(self) -> None:
        """Kill what a test left, and wait until it is gone."""
        while left := self.processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

            time.sleep(0.01)

        self.gone()


def answered(process: subprocess.Popen[bytes]) -> Answer:
    """The answer of a CGI script (RFC 3875, 6)."""
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors.decode()
    head, _, content = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
    return Answer(int(headers.pop("Status").split()[0]), headers, content, errors.decode())


def waits_for(file: Path) -> list[str]:
    """argv of a command that goes on until `file` is there."""
    return ["/bin/sh", "-c", 'echo begun; while [ ! -e "$0" ]; do sleep 0.02; done; echo ended', str(file)]
