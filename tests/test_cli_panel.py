# SPDX-License-Identifier: LGPL-3.0-or-later
"""Passwords for the panel, from the command line."""

from __future__ import annotations

import os
import pty
import pwd
import subprocess

import pytest

from tests.commandline import Done, finished, start
from tests.installation import Installation
from webscheduler.store import people

PASSWORD = "correct horse battery"


def piped(installation: Installation, *words: str, password: str = PASSWORD) -> Done:
    process = start(installation.home, "set-password", *words, stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(password.encode("utf-8", "surrogateescape"))
    process.stdin.close()
    process.stdin = None
    return finished(process)


def typed(installation: Installation, *passwords: str) -> Done:
    ours, theirs = pty.openpty()
    process = start(installation.home, "set-password", "anna", stdin=theirs, start_new_session=True)
    os.close(theirs)

    assert process.stderr

    for password in passwords:
        while not process.stderr.read1().endswith(b": "):  # type: ignore[attr-defined]
            pass  # what is typed before it is asked for is dropped

        os.write(ours, password.encode() + b"\n")

    done = finished(process)

    try:
        shown = os.read(ours, 10000).decode()
    except OSError:  # EIO: nothing was echoed, and nobody is there any more
        shown = ""

    os.close(ours)
    return done._replace(out=done.out + shown)


def role(installation: Installation, user: str, password: str = PASSWORD) -> str | None:
    person = people.verify(str(installation.home), user, password)
    return person.role if person else None


def test_a_password_comes_from_standard_input(installation: Installation) -> None:
    """The first is owner, later ones viewers unless told; without a name it is the only one's, or this account's."""
    assert piped(installation).status == 0
    account = pwd.getpwuid(os.getuid()).pw_name
    assert role(installation, account) == "owner"
    assert piped(installation, password=PASSWORD + "!\r\nsecond line\n").status == 0
    assert role(installation, account) is None
    assert role(installation, account, PASSWORD + "!") == "owner"
    assert piped(installation, "anna").status == 0
    assert piped(installation, "bert", "--role", "editor").status == 0
    assert (role(installation, "anna"), role(installation, "bert")) == ("viewer", "editor")
    assert PASSWORD not in (installation.home / "users.json").read_text()


@pytest.mark.parametrize(("words", "password", "field"), [
    (["anna"], "", "password"),
    (["anna"], "short", "password"),
    (["anna"], "anna", "password"),
    (["anna", "--role", "king"], PASSWORD, "role"),
    (["an na"], PASSWORD, "user"),
    ([""], PASSWORD, "user"),
    (["\u202eanna"], PASSWORD, "user"),
])
def test_a_bad_one_is_refused(words: list[str], password: str, field: str, installation: Installation) -> None:
    """Status 2, the field's name, and nobody may sign in."""
    done = piped(installation, *words, password=password)
    assert done.status == 2
    assert field in done.complaint
    assert not (installation.home / "users.json").exists()


def test_a_terminal_is_asked_twice_and_shows_nothing(installation: Installation) -> None:
    """Two that differ change nothing; two that are the same do; neither is shown."""
    done = typed(installation, PASSWORD, PASSWORD + "x")
    assert done.status == 2
    assert "not the same" in done.err
    assert role(installation, "anna") is None
    done = typed(installation, PASSWORD, PASSWORD)
    assert done.status == 0
    assert PASSWORD not in done.out + done.err
    assert role(installation, "anna") == "owner"
