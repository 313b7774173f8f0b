# SPDX-License-Identifier: LGPL-3.0-or-later
"""One kind of server taken through all strategies: what the tests of the matrix look at, and the page made of it.

Rule: order is asserted, durations are only written down. A command goes on until the test lets it, so an answer that
came before that came before the command's end, however slow the machine. The client is a plain socket, which sees
when the body is complete and when the connection ends.
It may import the tests' installation and servers, and the standard library.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple
from urllib.parse import urlsplit

from tests import CHECKOUT, SCRIPT
from tests.installation import PATIENCE, Installation, until
from tests.servers import KINDS, Kind, Server, as_user, distribution, give, python, start, workplace

STRATEGIES = ("fork", "close", "sync")
ENDS_SCRIPTS = ("apache-cgi", "apache-cgid", "apache-suexec", "lighttpd")  # there a script cannot outlive its response
ONLY_AT_ROOT = ("passenger-standalone",)
APPLICATION = "from webscheduler.wsgi import application\n"
SECONDS = 2
SECONDS_OF_A_STOP = 7  # longer than mod_wsgi and Apache wait for a process that they told to end

# Tells its open descriptors and, by files, when it began and when it ended; goes on while NAME.hold is there.
COMMAND = """ls -l /proc/$$/fd; : >"$0.begun"; [ -e "$0.again" ] || sleep "$1"
while [ -e "$0.hold" ]; do sleep 0.02; done; : >"$0.ended" """


def used(kind: Kind, asked: str) -> str:
    """The strategy that a run gets where its task asks for one."""
    return "sync" if asked == "close" and kind.name in ENDS_SCRIPTS else asked


class Call:
    """A request on a connection of its own. Times are seconds since it was sent; None: not yet."""

    def __init__(self, url: str, connection: str = "close") -> None:
        self._host = urlsplit(url).netloc
        name, _, port = self._host.partition(":")
        self.socket = socket.create_connection((name, int(port)), PATIENCE)
        self.send(url, connection)

    def send(self, url: str, connection: str = "close") -> None:
        """Ask for something, or for something more."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.1", f"Host: {self._host}", f"Connection: {connection}"]
        self.data = b""
        self.completed: float | None = None
        self.ended: float | None = None
        self.begun = time.monotonic()

        try:
            self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        except (BrokenPipeError, ConnectionResetError):
            self.ended = 0.0

    def read(self, patience: float = PATIENCE) -> None:
        """Take what comes within so many seconds."""
        if self.ended is not None or not select.select([self.socket], [], [], patience)[0]:
            return

        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""

        now = time.monotonic() - self.begun
        self.data += data
        self.ended = None if data else now

        if self.completed is None and self._whole():
            self.completed = now

        if self.ended is not None:
            self.socket.close()  # as clients do; some servers wait for it

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        lines = self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def status(self) -> int:
        return int(self.data.split(b" ", 2)[1])

    @property
    def document(self) -> Any:
        body = self.data.partition(b"\r\n\r\n")[2]

        if self.headers.get("transfer-encoding") == "chunked":
            whole = b""

            while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
                rest = body.partition(b"\r\n")[2]
                whole, body = whole + rest[:size], rest[size + 2 :]

            body = whole

        return json.loads(body)

    @property
    def stays_open(self) -> bool:
        """Whether the answer lets the client use the connection again (RFC 9112, 9.3)."""
        said = self.headers.get("connection", "").lower()
        return "keep-alive" in said if self.data.startswith(b"HTTP/1.0") else "close" not in said

    def _whole(self) -> bool:
        _, found, body = self.data.partition(b"\r\n\r\n")

        if found and "content-length" in self.headers:
            return len(body) >= int(self.headers["content-length"])

        if found and self.headers.get("transfer-encoding") == "chunked":
            return body.endswith(b"0\r\n\r\n")

        return bool(found) and self.ended is not None

    def whole(self) -> Call:
        """Read until the answer is complete."""
        deadline = time.monotonic() + PATIENCE

        while self.completed is None:
            assert self.ended is None, f"the connection ended after {self.data!r}"
            assert time.monotonic() < deadline, f"no complete answer, only {self.data!r}"
            self.read(1)

        return self

    def hang_up(self) -> None:
        """End the connection by a reset, as when a client is killed with data unread."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Timed(NamedTuple):
    """How a run of SECONDS went by; the three times are seconds since the request was sent."""

    complete: float
    end: float
    run_ended: float
    command_had_ended: bool  # when the answer was complete
    document: Any
    headers: Mapping[str, str]


class Meanwhile(NamedTuple):
    """Other requests while a run goes on after its answer: `answered`, `after the run`, `closed`."""

    same_connection: str
    new_connection: str


class Result(NamedTuple):
    """What was seen of one kind of server."""

    timed: Mapping[str, Timed]  # by the strategy that the task asks for, as all that follows
    meanwhile: dict[str, Meanwhile]
    descriptors: list[str]  # what the detached supervisor has open
    forced: tuple[float, float] | None  # answer and end of the connection where a script was made to go on
    lines: dict[str, list[dict[str, Any]]]  # by task: the runs of requests, without those by hand

    def used(self, asked: str) -> str:
        """The strategy that history names."""
        return str(self.lines[f"timed-{asked}"][0]["strategy"])


def recorded_as(line: Mapping[str, Any]) -> str:
    return str(line["status"]) + (f" ({line['reason']})" if line["reason"] else "")


class Place:
    """An installation with a task for each thing to try, served by one kind of server."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self.kind = kind
        self.marks = directory / "marks"
        self.marks.mkdir(mode=0o755)
        self.installation = Installation(directory / "home")
        self.calls: list[Call] = []
        self.env = {"WEBSCHEDULER_HOME": str(self.installation.home)}
        self.file = SCRIPT

        if kind.family == "wsgi":
            self.file = directory / "application.py"
            self.file.write_text(APPLICATION)

        for asked in STRATEGIES:
            for what in ("timed", "meanwhile", "hangup"):
                self.add(what, asked, SECONDS)

            for what in ("reload", "stop"):
                self.add(what, asked, SECONDS if asked == "fork" else SECONDS_OF_A_STOP)

        for what in ("query", "mounted-path", "mounted-query"):
            self.add(what, "fork", 0)

        # The tasks of a probe get the strategy they ask for, wherever they are.
        self.add("forced", "close", SECONDS_OF_A_STOP, group="@probe")
        self.give()

    def add(self, what: str, asked: str, seconds: int, **fields: Any) -> None:
        """Add the task `what`-`asked` whose command takes so long."""
        name = f"{what}-{asked}"
        argv = ["/bin/sh", "-c", COMMAND, str(self.marks / name), str(seconds)]
        self.installation.add(name, argv, strategy=asked, **fields)

    def give(self) -> None:
        """Let the server's user own what the tests made."""
        give(self.marks, self.kind.user)
        give(self.installation.home, self.kind.user)

    def ask(self, url: str, connection: str = "close") -> Call:
        """A request whose socket `close` closes."""
        self.calls.append(Call(url, connection))
        return self.calls[-1]

    def close(self) -> None:
        for call in self.calls:
            call.socket.close()

    def mark(self, name: str, what: str) -> Path:
        return self.marks / f"{name}.{what}"

    def url(self, server: Server, name: str) -> str:
        return f"{server.url}/run/{self.installation.row(name)['slug']}?sig={self.installation.signature(name)}"

    def query_url(self, server: Server, name: str) -> str:
        slash = "" if self.kind.family == "cgi" else "/"
        slug = self.installation.row(name)["slug"]
        return f"{server.url}{slash}?task={slug}&sig={self.installation.signature(name)}"

    def claimed(self, name: str) -> list[dict[str, Any]]:
        """The facts of the task's claims."""
        return [facts for facts in self.installation.facts() if facts.get("name") == name]

    def recorded(self, name: str) -> bool:
        return not any((self.installation.home / "runs").glob(f"{name}@*")) and bool(self.installation.runs(name))

    def settled(self, name: str) -> bool:
        """Whether nothing of the task's run is left to happen: no process holds a claim of it any more."""
        for claim in (self.installation.home / "runs").glob(f"{name}@*"):
            try:
                with claim.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except FileNotFoundError:
                pass
            except BlockingIOError:
                return False

        return True

    def begin(self, server: Server, name: str) -> Call:
        """Make a request whose command has begun."""
        call = self.ask(self.url(server, name))
        until(self.mark(name, "begun").exists, f"the start of {name}")
        return call

    def time(self, server: Server, asked: str) -> tuple[Timed, list[str]]:
        """A run from request to record; and under `fork` what its supervisor has open."""
        name, strategy = f"timed-{asked}", used(self.kind, asked)
        hold, descriptors = self.mark(name, "hold"), list[str]()
        had_ended: bool | None = None
        recorded: float | None = None

        if strategy != "sync":
            hold.touch()

        call = self.ask(self.url(server, name))

        while None in (call.completed, call.ended, recorded):
            assert time.monotonic() < call.begun + PATIENCE, f"{name}: {vars(call)}, recorded {recorded}"
            call.read(0.005)

            if had_ended is None and call.completed is not None:
                had_ended = self.mark(name, "ended").exists()

            if hold.exists() and call.completed is not None and (strategy == "close" or call.ended is not None):
                if strategy == "fork":
                    until(self.mark(name, "begun").exists, f"the start of {name}")
                    (facts,) = self.claimed(name)
                    descriptors = opened(facts["supervisor"][0])

                hold.unlink()

            if recorded is None and self.recorded(name):
                recorded = time.monotonic() - call.begun

        assert call.completed is not None and call.ended is not None and recorded is not None
        timed = Timed(call.completed, call.ended, recorded, bool(had_ended), call.document, call.headers)
        return timed, descriptors

    def ask_meanwhile(self, server: Server, asked: str) -> Meanwhile:
        """Whether others are answered while a run goes on behind its answer."""
        name = f"meanwhile-{asked}"
        hold = self.mark(name, "hold")

        if asked == "fork":
            hold.touch()

        first = self.ask(self.url(server, name), "keep-alive").whole()
        calls = {"same": first, "new": self.ask(f"{server.url}/none")}
        seen = {} if first.stays_open else {"same": "closed"}

        if first.stays_open:
            first.send(f"{server.url}/none", "keep-alive")

        while len(seen) < 2:
            assert time.monotonic() < first.begun + PATIENCE, f"{name}: {seen}"

            for which, call in calls.items():
                call.read(0.005)

                if which not in seen and call.completed is not None:
                    seen[which] = "after the run" if self.mark(name, "ended").exists() else "answered"
                elif which not in seen and call.ended is not None:
                    seen[which] = "closed"

        if asked == "fork":
            hold.unlink()

        for call in calls.values():
            call.socket.close()

        until(lambda: self.recorded(name), f"the record of {name}")
        return Meanwhile(seen["same"], seen["new"])

    def disturb(self, server: Server, what: str, happens: Callable[[list[Call]], object]) -> None:
        """Let something happen to the server while a run of each strategy goes on. That of `fork` goes on until
        it has happened."""
        hold = self.mark(f"{what}-fork", "hold")
        hold.touch()
        # One that is to go on in close() comes last: Passenger might give the next to the same process.
        calls = [self.begin(server, f"{what}-{asked}") for asked in ("fork", "sync", "close")]
        happens(calls)
        hold.unlink()

        for asked in STRATEGIES:
            until(partial(self.settled, f"{what}-{asked}"), f"the end of {what}-{asked}")

    def force(self, server: Server) -> tuple[float, float]:
        """Let a script go on after its answer, where it should not: seconds until the answer, and until the end of the
        connection."""
        call = self.ask(self.url(server, "forced-close")).whole()

        while call.ended is None:
            assert time.monotonic() < call.begun + PATIENCE, "the connection does not end"
            call.read(1)

        until(partial(self.settled, "forced-close"), "the end of the script")
        assert call.completed is not None
        return call.completed, call.ended

    def run(self, url: str, name: str) -> None:
        """A whole run."""
        call = self.ask(url).whole()
        call.socket.close()
        assert call.status == 202
        until(partial(self.recorded, name), f"the record of {name}")

    def run_by_hand(self, name: str) -> None:
        """What the owner does next; that trigger records what was found dead."""
        self.mark(name, "again").touch()
        words = [python(), "-m", "webscheduler", "run", name]
        variables = {**self.env, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=PATIENCE, cwd="/",
                              **as_user(self.kind.user))  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def opened(pid: int) -> list[str]:
    """What the process has open, as /proc says it."""
    folder, found = f"/proc/{pid}/fd", []

    for entry in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{entry}"))
        except FileNotFoundError:
            pass

    return found


def examine(kind: Kind) -> Result:
    """Try everything with one kind of server."""
    timed: dict[str, Timed] = {}
    meanwhile: dict[str, Meanwhile] = {}
    descriptors: list[str] = []
    forced = None

    with workplace(kind) as directory, closing(Place(kind, directory)) as place:
        installation = place.installation

        with start(kind, directory, place.file, env=place.env) as server:
            for asked in STRATEGIES:
                timed[asked], opened_by_it = place.time(server, asked)
                descriptors += opened_by_it

            for asked in STRATEGIES:
                if used(kind, asked) != "sync":
                    meanwhile[asked] = place.ask_meanwhile(server, asked)

            place.run(place.query_url(server, "query-fork"), "query-fork")

            if kind.name in ENDS_SCRIPTS:
                forced = place.force(server)

            place.disturb(server, "hangup", lambda calls: list(map(Call.hang_up, calls)))
            place.disturb(server, "reload", lambda _: server.reload())
            place.disturb(server, "stop", lambda _: server.stop())

        if kind.family == "wsgi" and kind.name not in ONLY_AT_ROOT:
            with start(kind, directory, place.file, env=place.env, prefix="/cron") as server:
                place.run(place.url(server, "mounted-path-fork"), "mounted-path-fork")
                place.run(place.query_url(server, "mounted-query-fork"), "mounted-query-fork")

        for name in {facts["name"] for facts in installation.facts()}:  # whose processes were killed
            place.run_by_hand(name)

        names = [path.stem for path in (installation.home / "logs").glob("*.jsonl")]
        lines = {name: [line for line in installation.runs(name) if line["trigger"] == "url"] for name in names}
        return Result(timed, meanwhile, descriptors, forced, lines)


# The page

FILE = CHECKOUT / "docs" / "reference" / "servers.md"

HEAD = f"""# Servers

What real servers do with each strategy. This page is written by the tests of the server matrix
(`WEBSCHEDULER_WRITE_DOCS=1 pytest tests/test_matrix.py`), which try everything below on one machine. They check the
order of events, and that no run is lost; durations are only measured.

## Durations

Seconds from the request, for a command of {SECONDS} s, on a machine with other work. *Answer*: the client has the whole
body. *Connection*: the server ended it; the client had asked for `Connection: close`. *Run*: its line of history is
written. A server's first request, here that of `fork`, also loads the application.

| server | strategy | used | answer | connection | run |
|---|---|---|--:|--:|--:|
"""

MEANWHILE = """
## Requests while a run continues after its answer

On the connection of the trigger, if the server keeps it open, and on another one. *after the run*: the client waits.
The application sends no `Connection: close` (PEP 3333 forbids it), so a client that keeps the connection may have to
wait for its next answer, but never for this one.

| server | strategy | same connection | another |
|---|---|---|---|
"""

LIVES = f"""
## What a run survives

How a run is recorded when, while its command runs, the client resets the connection, the server is reloaded, the server
is stopped. The last two meet commands of {SECONDS_OF_A_STOP} s under `close` and `sync`, and under `fork` one that ends
only afterwards. Each run has exactly one line.

| server | strategy | client gone | reload | stop |
|---|---|---|---|---|
"""

FORCED = f"""
## Scripts that continue after their response

On these servers, a task with the strategy `close` gets `sync`. If it is forced to use `close`, as in a probe, a run of
{SECONDS_OF_A_STOP} s ends so (*found_dead*: killed, and recorded by the next trigger):

| server | answer | connection | recorded as |
|---|--:|--:|---|
"""

FACTS = """
## Good to know

Seen with the versions below.

- WSGI: a run that a request waits for (`close`, `sync`) is supervised by a process in a session of its own, so it
  survives the worker. Under CGI, the script itself supervises, and a signal to it ends the run.
- Apache mod_cgi: when it stops, TERM goes to the whole process group, with all scripts, also those of suexec. A
  detached run has left the group. mod_cgid waits for its scripts when it stops.
- lighttpd ends a script whose client is gone if it notices in time: in some tries it does, in most it does not.
- Apache CGI: the script's `Content-Length` is dropped. The client gets that of Apache, or chunks, depending on whether
  the script had ended when Apache looked.
- Apache with suexec: a worker cannot send signals to the script of another user. A script that continues survives,
  and the connection stays open until it ends.
- mod_wsgi, embedded or in a daemon's default sub-interpreter: a child of `os.fork` that continues in Python ends
  with status 1, and `preexec_fn` raises RuntimeError. A new Python process works.
- The listening sockets of mod_wsgi's daemon and uWSGI are inherited: a child that closes nothing keeps the port
  in use.
- mod_wsgi does not pass `Authorization` to the application.
- uWSGI: `sys.executable` is `uwsgi-core`; the interpreter for runs is derived from `sys.prefix`.
- uWSGI (`--http-socket`), gunicorn's sync worker and wsgiref end the connection after each answer.
- Passenger: `PATH_INFO` arrives undecoded (`%20`), HEAD calls the application, and a `Connection` header of the
  application is dropped.
- Passenger regards a process as free once its answer is sent: with `close`, the next request may go to the busy one
  and wait.
- gunicorn's gthread worker waits up to 2 s for a client that keeps its side open after the end of the connection, and
  accepts no other meanwhile.
- waitress and wsgiref answer 500 if an application sends `Connection: close`.
- cheroot leaves `%2F` in `PATH_INFO` as it is; Apache answers it with 404.
"""

VERSIONS = """
## Versions

| | |
|---|---|
"""

PARTS = (HEAD, MEANWHILE, LIVES, FORCED, FACTS, VERSIONS)


def page(results: Mapping[str, Result]) -> str:
    """docs/reference/servers.md for what was seen of all kinds."""
    rows: dict[str, list[Sequence[object]]] = {"timed": [], "meanwhile": [], "lives": [], "forced": []}

    for name, result in results.items():
        for asked in STRATEGIES:
            timed, strategy = result.timed[asked], result.used(asked)
            durations = (f"{seconds:.2f}" for seconds in (timed.complete, timed.end, timed.run_ended))
            rows["timed"].append([name, asked, strategy, *durations])

            if asked in result.meanwhile:
                rows["meanwhile"].append([name, asked, *result.meanwhile[asked]])

            if strategy == asked:
                ends = (recorded_as(result.lines[f"{what}-{asked}"][0]) for what in ("hangup", "reload", "stop"))
                rows["lives"].append([name, asked, *ends])

        if result.forced:
            times = (f"{seconds:.2f}" for seconds in result.forced)
            rows["forced"].append([name, *times, recorded_as(result.lines["forced-close"][0])])

    parts = [HEAD, table(rows["timed"]), MEANWHILE, table(rows["meanwhile"]), LIVES, table(rows["lives"])]
    return "".join([*parts, FORCED, table(rows["forced"]), FACTS, VERSIONS, table(versions())])


def table(rows: Iterable[Sequence[object]]) -> str:
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def versions() -> list[tuple[str, str]]:
    """Of everything the kinds are made of: Debian's packages and PyPI's, this Python and this kernel."""
    names = sorted({name for kind in KINDS.values() for name in kind.packages.split()})
    found = [("Python", subprocess.run([python(), "-V"], capture_output=True, text=True).stdout.split()[1])]

    for name in names:
        pypi = distribution(name)
        words = ["dpkg-query", "--show", "--showformat", "${Version}", name]
        found.append((name, pypi.version if pypi else subprocess.run(words, capture_output=True, text=True).stdout))

    return [*found, ("Linux", re.sub(r"[^\d.].*", "", platform.release()))]
