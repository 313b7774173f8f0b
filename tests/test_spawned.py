# SPDX-License-Identifier: LGPL-3.0-or-later
"""The process that supervises a run for a WSGI worker: what it takes over from the worker, and what it must not."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests import LIBRARY
from tests.installation import Installation, until
from webscheduler.runs import detach

spawn = os.posix_spawn

CLOSED = """
import json, os, sys
home, environ, library = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
sys.path.insert(0, library)
sys.stdin = sys.stdout = sys.stderr = open(os.devnull, "w")
for number in (0, 1, 2):
    os.close(number)
from webscheduler import create_app
body = create_app(home=home)(dict(environ, **{"wsgi.input": None, "wsgi.errors": sys.stderr}), lambda *given: None)
os.write(int(sys.argv[4]), b"".join(body))
"""


# A server in which the writing end of a pipe has the number; prints what became of the run, and whether the reading end
# saw that closed before the supervisor's exec.
INHERITS = """
import fcntl, json, os, select, sys
home, environ, library, number = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
sys.path.insert(0, library)
from webscheduler import create_app
application = create_app(home=home)
reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 300) for end in os.pipe())
os.dup2(writing, number)  # inheritable
os.close(writing)
os.closerange(3, number)
os.closerange(number + 1, 300)
body = application(dict(environ, **{"wsgi.errors": sys.stderr}), lambda *given: None)
status = json.loads(b"".join(body))["status"]
os.close(number)
print(json.dumps([status, bool(select.select([reading], [], [], 0)[0]) and os.read(reading, 1) == b""]))
"""


def own_session(installation: Installation) -> bool:
    supervisor = installation.command_runs()["supervisor"][0]
    return os.getsid(supervisor) == supervisor and os.readlink(f"/proc/{supervisor}/cwd") == "/"


@pytest.mark.parametrize("number", [3, 4, 5, 200])
def test_a_supervisor_has_no_descriptor_of_the_server(installation: Installation, number: int) -> None:
    """A C server opens sockets that an exec inherits, with any number: their other end sees them closed all the same
    as soon as the request is answered, while the run goes on. The server is a process of its own: what it does with
    such a number, this one, to which pytest-xdist talks by the same numbers, must not."""
    installation.add(argv=["sleep", "60"])
    done = subprocess.run([sys.executable, "-c", INHERITS, str(installation.home), json.dumps(installation.signed()),
                           str(LIBRARY), str(number)], capture_output=True, check=True, timeout=60)  # fmt: skip
    assert json.loads(done.stdout) == ["running", True], done.stderr
    command = installation.command_runs()["command"][0]
    assert own_session(installation)
    ours = {os.devnull, str(installation.claims()[0])}

    def inherited() -> set[str]:
        links = set()

        for entry in os.listdir(f"/proc/{command}/fd"):
            with suppress(FileNotFoundError):  # a library or a locale that it opens for a moment as it starts
                links.add(os.readlink(f"/proc/{command}/fd/{entry}"))

        return {link for link in links if not link.startswith("pipe:")}

    until(lambda: inherited() <= ours, f"that {command} has nothing open but {ours}")


def test_a_limit_that_was_lowered(installation: Installation) -> None:
    """Descriptors above the limit of today are no reason to start nothing, and are closed by the supervisor."""
    installation.add(argv=["sleep", "60"])
    reading, writing = os.pipe()
    os.dup2(writing, 200)
    os.close(writing)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        assert installation.trigger("wsgi").document["status"] == "running"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(200)

    installation.command_runs()
    assert select.select([reading], [], [], 30)[0] and os.read(reading, 1) == b""
    os.close(reading)


def test_what_another_thread_opens_meanwhile(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor that was not there yet when the list was made is closed by the supervisor."""
    installation.add(argv=["sleep", "60"])
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    others = detach.others
    monkeypatch.setattr(detach, "others", lambda: [number for number in others() if number != writing])
    installation.trigger("wsgi")
    os.close(writing)
    installation.command_runs()
    assert select.select([reading], [], [], 30)[0] and os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize("strategy", ["fork", "sync"])
def test_a_c_library_that_makes_no_session(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """Where posix_spawn cannot make one (before glibc 2.26), the supervisor does, before the request is answered."""

    def old(path: str, argv: Sequence[str], env: Any, *, setsid: bool = False, **options: Any) -> int:
        if setsid:
            raise NotImplementedError("setsid")

        return spawn(path, argv, env, **options)

    monkeypatch.setattr(os, "posix_spawn", old)
    installation.add("quick", strategy=strategy)
    status = installation.trigger("wsgi", "quick").document["status"]
    assert status == {"fork": "running", "sync": "success"}[strategy]
    installation.idle()
    assert installation.history("quick")[-1]["status"] == "success"

    installation.add("slow", argv=["sleep", "60"], strategy="fork")
    installation.trigger("wsgi", "slow")
    assert own_session(installation)


@pytest.mark.parametrize("strategy", ["fork", "sync"])
def test_a_server_without_standard_streams(installation: Installation, strategy: str) -> None:
    """Then the claim, or the pipe of a request that waits, may have the number 0, 1 or 2."""
    installation.add(strategy=strategy, argv=["echo", "done"])
    environ = {key: value for key, value in installation.signed().items() if isinstance(value, str)}
    reading, writing = os.pipe()
    subprocess.run([sys.executable, "-c", CLOSED, str(installation.home), json.dumps(environ), str(LIBRARY),
                    str(writing)], pass_fds=[writing], check=True, timeout=60)  # fmt: skip
    os.close(writing)

    with open(reading, "rb") as answer:
        document = json.loads(answer.read())

    assert document["status"] == {"fork": "running", "sync": "success"}[strategy], document
    assert document.get("output", "done\n") == "done\n"
    installation.idle()
    assert installation.history()[-1]["output"] == "done\n"


@pytest.fixture
def many() -> Iterator[None]:
    """All descriptors below 1,100 are taken: select(2) takes none that comes after."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    taken = [os.open(os.devnull, os.O_RDONLY)]

    while taken[-1] < 1100:
        taken.append(os.open(os.devnull, os.O_RDONLY))

    yield

    for number in taken:
        os.close(number)

    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_server_with_many_descriptors(installation: Installation, many: None) -> None:
    """A request that waits is told of its run there too."""
    installation.add(strategy="sync", argv=["echo", "done"])
    document = installation.trigger("wsgi").document
    assert (document["status"], document["output"]) == ("success", "done\n")
