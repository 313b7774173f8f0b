# SPDX-License-Identifier: LGPL-3.0-or-later
"""A running server of a test: what it is started from, and its life from start to stop.

Rule: one that is started is ended, in every case, with all that it left; no wait is without a bound; nothing is
guessed by time: a server is up when its own log says so and its port answers.
It may import `keeper` and the standard library.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

from tests.servers import keeper

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
PATIENCE = 20.0  # seconds for a server to start, reload or stop


class Site(NamedTuple):
    """What a server is to serve, and where; `configure` functions make a `Plan` of it."""

    directory: Path  # the test's, which the user can traverse
    run: Path  # a new one below it, owned by `user`, for the server's own files
    port: int
    user: str
    file: Path  # the CGI script or WSGI file, at its place below `directory`
    prefix: str  # where a WSGI application is mounted: "" or "/cron"
    env: Mapping[str, str]
    extra: Sequence[str]  # lines for the configuration, or arguments of the command
    python: str  # the interpreter with the package and its servers

    @property
    def log(self) -> Path:
        return self.run / "error.log"

    def write(self, name: str, *lines: str) -> str:
        """Write a configuration file; its path."""
        path = self.run / name
        path.write_text("\n".join(lines) + "\n")
        return str(path)


class Process(NamedTuple):
    """One process to start, as the tests' own user or as another."""

    argv: Sequence[str]
    address: int | Path  # the port or socket where it listens
    user: str | None = None
    env: Mapping[str, str] = {}
    cwd: Path | None = None
    whole_group: bool = False  # it leaves its children alone when it stops, so all its group is told to, as by systemd


class Plan(NamedTuple):
    """How a server is run. The last process is the one that listens and that signals go to."""

    processes: Sequence[Process]
    ready: str  # a text that its log shows at each start and each reload
    path: str = ""  # of the script or application, below the server's root
    reload: signal.Signals | None = None  # none: it can only be started anew
    secure_port: int | None = None
    certificate: Path | None = None
    workers: int = 1  # how often it says that it is ready
    agent: str | None = None  # a program whose processes are the server's, too, and end some time after it


def as_user(user: str | None) -> dict[str, Any]:
    """The arguments that make `subprocess` run a program as `user`; none where the tests themselves are not root."""
    if user is None or os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


_ports: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to outgoing connections, and that no other test
    on this machine is given while this process lives: a name in the abstract namespace (unix(7)) stands for it until
    its server listens."""
    while True:
        port = secrets.choice(range(20000, 32000))  # `random` is seeded alike in each test
        name = socket.socket(socket.AF_UNIX)
        with socket.socket() as listener:
            try:
                name.bind(f"\0webscheduler-test-port-{port}")
                listener.bind(("127.0.0.1", port))
            except OSError:
                name.close()
                continue
        _ports.append(name)
        return port


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    return keeper.parent(pid) is not None


def exists(target: int) -> bool:
    """Whether a process is left, or of a process group (a negative number) any."""
    try:
        os.kill(target, 0)
    except ProcessLookupError:
        return False
    return True


def answers(address: int | Path) -> bool:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as caller:
        caller.settimeout(1)
        try:
            caller.connect(str(address) if isinstance(address, Path) else ("127.0.0.1", address))
        except OSError:
            return False
        return True


class Server:
    """A server under test. `stop` and the end of the `with` block differ: the first is what a host does, and lets
    live what survives it; the second also ends the jobs that were left."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self._plan = plan
        self.port = site.port
        self._pids: list[int] = []
        self.user = site.user
        self.directory = site.directory
        self.error_log = site.log
        self.url = f"http://127.0.0.1:{site.port}{plan.path}"
        self.secure_url = f"https://127.0.0.1:{plan.secure_port}{plan.path}" if plan.secure_port else None
        self.certificate = plan.certificate
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Server:
        try:
            self._await(self._start)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if any(error):  # pytest shows it beside the failure
            print(f"--- {self.error_log}\n{self.log_text()[-4000:]}", file=sys.stderr)
        assert self._keeper.stdin and self._keeper.stdout
        self._keeper.stdin.close()
        try:
            self._keeper.wait(PATIENCE)
        finally:
            self._keeper.stdout.close()

    @property
    def pid(self) -> int:
        """The process that listens and takes signals."""
        return self._pids[-1]

    def processes(self) -> list[int]:
        """Everything that lives of it: its own processes, running scripts, and the jobs they detached."""
        return keeper.descendants(self._keeper.pid)

    def log_text(self) -> str:
        return self.error_log.read_text(errors="backslashreplace") if self.error_log.exists() else ""

    def reload(self) -> None:
        """What the host does for a changed configuration: a graceful reload, or a new start where there is none."""
        if self._plan.reload is None:
            self.stop()
            self._await(self._start)
        else:
            signalled = self._plan.reload
            old = set(keeper.descendants(self.pid))
            self._await(lambda: os.kill(self.pid, signalled))
            # An old worker of mod_wsgi may still take a request, for a daemon that is gone. Those that stay have work.
            deadline = time.monotonic() + 2
            while old.intersection(self.processes()) and time.monotonic() < deadline:
                time.sleep(0.01)

    def stop(self) -> None:
        """SIGTERM to the server's own processes, the one in front first."""
        for process, pid in reversed(list(zip(self._plan.processes, self._pids))):
            target = -pid if process.whole_group else pid
            if exists(target):
                os.kill(target, signal.SIGTERM)
            self._until(lambda target=target: not exists(target), f"{process.argv[0]} does not stop")  # type: ignore[misc]
        self._until(lambda: not any(map(self._is_agent, self.processes())), "its agents do not stop")

    def _is_agent(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/exe") == self._plan.agent
        except FileNotFoundError:
            return True  # it ended this moment, and may have left another: look again

    def _start(self) -> None:
        self._pids = []
        for process in self._plan.processes:
            request = {
                "args": list(process.argv),
                "env": {**ENVIRONMENT, **process.env},
                "cwd": str(process.cwd or self.directory),
                "log": str(self.error_log),
                **as_user(process.user),
            }
            assert self._keeper.stdin and self._keeper.stdout
            self._keeper.stdin.write(json.dumps(request).encode() + b"\n")
            self._keeper.stdin.flush()
            answer = json.loads(self._keeper.stdout.readline())
            if not isinstance(answer, int):
                raise RuntimeError(f"{process.argv[0]} cannot be started: {answer}")
            self._pids.append(answer)

    def _await(self, act: Callable[[], None]) -> None:
        """Do something that makes the server say once more that it is ready, and wait until it is."""
        before = self.log_text().count(self._plan.ready)
        act()

        def is_ready() -> bool:
            if not all(map(alive, self._pids)):
                raise RuntimeError(f"the server ended at once:\n{self.log_text()[-4000:]}")
            said = self.log_text().count(self._plan.ready) - before
            return said >= self._plan.workers and all(answers(process.address) for process in self._plan.processes)

        self._until(is_ready, "the server does not answer")

    def _until(self, condition: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{failure} within {PATIENCE:.0f} s:\n{self.log_text()[-4000:]}")
            time.sleep(0.01)
