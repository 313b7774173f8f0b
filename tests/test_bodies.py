# SPDX-License-Identifier: LGPL-3.0-or-later
"""Bodies of requests: who may send how much of them, what reading one costs, and how long a script waits for one."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest

from tests.admin.client import OWNER, populate
from tests.installation import REFUSED, Answer, Installation, answered, asking, until
from webscheduler.admin import session
from webscheduler.body import MAX_FORM
from webscheduler.interchange import importing
from webscheduler.store import people

FORM = "application/x-www-form-urlencoded"
ROOM = 24 * 1024  # KiB that a request may take besides what a page takes


def asked(page: str, method: str = "GET", cookie: str = "", **variables: str) -> dict[str, str]:
    return asking(f"/admin/{page}", "", method, HTTP_HOST="localhost", HTTP_COOKIE=cookie, **variables)


def cookie_of(answer: Answer) -> str:
    return answer.headers["Set-Cookie"].partition(";")[0]


def token_of(answer: Answer) -> str:
    found = re.search(rb'name="token" value="([0-9a-f]{64})"', answer.body)
    assert found
    return found[1].decode()


def peak(installation: Installation, environ: Mapping[str, str], body: bytes = b"") -> tuple[Answer, int]:
    """The answer of the script, and the most memory that it had, in KiB."""
    process = installation.start_cgi(environ, body)
    assert process.stdout
    assert process.stderr
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    head, _, content = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
    return Answer(int(headers.pop("Status").split()[0]), headers, content, errors.decode()), usage.ru_maxrss


@pytest.fixture
def home(installation: Installation) -> Installation:
    populate(installation)
    return installation


def sign_in(home: Installation) -> tuple[str, str]:
    """The cookie and the token of the owner, who has signed in."""
    now = int(time.time())
    people.open_session(str(home.home), OWNER, "one", now)
    cookie = f"{session.COOKIE}={session.sign(str(home.home), 'session', ['one', OWNER, now, now])}"
    return cookie, token_of(home.cgi(asked("settings", cookie=cookie)))


FLOODS = {
    "escapes": b"user=" + b"%41" * 1398091,
    "escapes of a form": b"user=" + b"%41" * (MAX_FORM // 3 - 3),
    "fields": b"&a" * 2 ** 20,
    "one name": b"a" * 4 * 2 ** 20,
}


@pytest.mark.parametrize("page", ["sign-in", "setup", "edit", "settings", "backup"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_stranger_costs_no_more_memory_than_a_page(page: str, flood: str, home: Installation) -> None:
    """Four megabytes that are nothing but escapes took 350 MiB, and four such requests at once all of an account's
    memory."""
    first = home.cgi(asked("sign-in"))
    _, usual = peak(home, asked("sign-in"))
    answer, most = peak(home, asked(page, "POST", cookie_of(first), CONTENT_TYPE=FORM), FLOODS[flood])
    assert answer.status in (303, 400, 403, 413)
    assert most < usual + ROOM


@pytest.mark.parametrize("flood", FLOODS)
def test_a_trigger_costs_no_more_memory_than_another(flood: str, home: Installation) -> None:
    environ = asking(f"/run/{'0' * 32}", method="POST", CONTENT_TYPE=FORM)
    _, usual = peak(home, environ)
    answer, most = peak(home, environ, FLOODS[flood])
    assert answer.body == REFUSED
    assert most < usual + ROOM


def multipart(**parts: str) -> bytes:
    """A form with a file, as a browser sends it."""
    return "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.json"\r\n\r\n{content}\r\n'
                   for name, content in parts.items()).encode() + b"--x--\r\n"


PARTS = "multipart/form-data; boundary=x"


def test_a_backup_of_megabytes_is_restored(home: Installation) -> None:
    """What an owner sends to be restored may be longer than any form."""
    cookie, token = sign_in(home)
    rows = {f"task-{number}": {"command": "hello", "description": "é" * 1000} for number in range(1000)}
    document = {"format": importing.FORMAT, "version": importing.VERSION, "tasks": rows}
    answer = home.cgi(asked("backup", "POST", cookie, CONTENT_TYPE=PARTS),
                      multipart(token=token, file=json.dumps(document, ensure_ascii=False)))
    assert answer.status == 303
    assert home.row("task-999")["command"] == "hello"


class Client:
    """One end of a socket, at whose other end a script answers: as under mod_cgid, or behind any server."""

    def __init__(self, home: Installation, environ: Mapping[str, str]) -> None:
        self.socket, script = socket.socketpair()

        with script:
            self.process = home.start_cgi(environ, stdin=script, stdout=subprocess.PIPE)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize(("page", "role"), [("backup", "nobody"), ("backup", "owner"), ("settings", "nobody"),
                                            ("sign-in", "new")])
def test_nothing_is_waited_for_before_it_can_matter(page: str, role: str, home: Installation) -> None:
    """Of a form whose sender has no role, no session or no token, what it announces is not waited for: the script
    answers while the client has not sent it."""
    kind = FORM
    head = b""
    cookie = ""

    if role == "owner":
        cookie, _ = sign_in(home)
        kind, head = PARTS, multipart(token="0" * 64, file="x" * 2 * MAX_FORM)[:MAX_FORM]

    with Client(home, asked(page, "POST", cookie, CONTENT_TYPE=kind, CONTENT_LENGTH=str(4 * 2 ** 20 - 1)
                            if role == "owner" else str(MAX_FORM))) as client:
        client.socket.sendall(head)
        assert answered(client.process).status in (303, 403)


@pytest.mark.parametrize("path", ["/run/" + "0" * 32, "/admin/sign-in"])
@pytest.mark.parametrize("sent", [b"", b"sig="])
def test_a_body_that_does_not_come_is_not_waited_for(path: str, sent: bytes, home: Installation) -> None:
    """A client that announces a body and sends nothing, or stops in the middle, holds no process for longer than five
    seconds: the script ends although the client is still there."""
    cookie = cookie_of(home.cgi(asked("sign-in")))
    environ = asking(path, method="POST", CONTENT_TYPE=FORM, CONTENT_LENGTH="68", HTTP_COOKIE=cookie)

    with Client(home, environ) as client:
        client.socket.sendall(sent)
        assert answered(client.process).status == (408 if "admin" in path else 202)


def test_a_body_that_comes_in_drops_is_not_waited_for_ever() -> None:
    """A byte now and then is no stall, but all of a body has one limit; here most of it is over."""
    ours, theirs = socket.socketpair()
    code = ("import time; from webscheduler.body import STANDARD_INPUT, receive;"
            "print(receive({STANDARD_INPUT: time.monotonic() + 2}, 100000))")

    with ours, theirs, subprocess.Popen([sys.executable, "-c", code], stdin=theirs.fileno(),
                                        stdout=subprocess.PIPE) as process:
        until(lambda: ours.send(b"a") and process.poll() is not None, "the end of the wait")
        assert process.stdout
        assert process.stdout.read() == b"None\n"
