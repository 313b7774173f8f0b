# SPDX-License-Identifier: LGPL-3.0-or-later
"""Passwords for the panel, and keys of the API, from the command line."""

from __future__ import annotations

import json
import os
import pty
import pwd
import re
import time

import pytest

from tests.commandline import Done, call, finished, start
from tests.installation import Installation
from webscheduler.store import keys, people
from webscheduler.times import instant

PASSWORD = "correct horse battery"
TYPED: list[float] = []  # when, Unix seconds


def piped(installation: Installation, *words: str, password: str = PASSWORD) -> Done:
    return call(installation.home, "set-password", *words, given=password.encode("utf-8", "surrogateescape"))


def typed(installation: Installation, *passwords: str) -> Done:
    ours, theirs = pty.openpty()
    process = start(installation.home, "set-password", "anna", stdin=theirs, start_new_session=True)
    os.close(theirs)

    assert process.stderr

    for password in passwords:
        while not process.stderr.read1().endswith(b": "):  # type: ignore[attr-defined]
            pass  # what is typed before it is asked for is dropped

        time.sleep(0.01)  # a moment to type
        TYPED.append(time.time())
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
    assert audit(installation)[-1] == ("command line", "set the password of", "bert")


def test_a_password_is_set_though_the_audit_cannot_tell_of_it(installation: Installation) -> None:
    """Who is told of an error would set it again."""
    (installation.home / "audit.jsonl").mkdir()
    done = piped(installation, "anna")
    assert (done.status, done.out, role(installation, "anna")) == (0, "anna can sign in.\n", "owner")
    assert done.complaint.startswith("audit.jsonl: ")


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
    (line,) = map(json.loads, (installation.home / "audit.jsonl").read_text().splitlines())
    assert instant(line["at"]) > TYPED[-1] - 0.001  # it has milliseconds


KEY = re.compile(r"wsk_[A-Za-z0-9_-]{43}\n")


def audit(installation: Installation) -> list[tuple[str, str, str]]:
    lines = map(json.loads, (installation.home / "audit.jsonl").read_text().splitlines())
    return [(line["who"], line["did"], line["to"]) for line in lines]


def test_a_key_alone_is_printed_once(installation: Installation) -> None:
    """So that a script can keep it; that it is not shown again is said beside it. It has what it was given, opens at
    once, and no longer once it is revoked; who did that is in the audit, and the key is in no file."""
    home = str(installation.home)
    made = call(installation.home, "api-key", "add", "ci", "--role", "editor", "--expires", "90d",
                "--ip-allowlist", "192.0.2.1", "2001:db8::/32")
    assert (made.status, made.err) == (0, "The key ci is shown once: keep it where only you can read it.\n")
    assert KEY.fullmatch(made.out)
    assert keys.verify(home, made.out.strip(), "192.0.2.1", time.time()) == ("key ci", "editor")
    (row,) = call(installation.home, "api-key", "list", "--json").document
    assert row["ipAllowlist"] == ["192.0.2.1", "2001:db8::/32"]
    assert instant(row["expiresAt"]) - instant(row["createdAt"]) == 90 * 86400
    shown = call(installation.home, "api-key", "list").out
    assert "192.0.2.1 2001:db8::/32" in shown
    assert "ended" not in shown
    document = call(installation.home, "api-key", "add", "other", "--role", "viewer", "--json").document
    assert KEY.fullmatch(document["key"] + "\n")
    assert {**document, "key": None} == {**keys.listed(home)["other"], "name": "other", "key": None}
    assert call(installation.home, "api-key", "revoke", "ci").status == 0
    assert keys.verify(home, made.out.strip(), "192.0.2.1", time.time()) is None
    assert audit(installation) == [("command line", "made", "key ci"), ("command line", "made", "key other"),
                                   ("command line", "revoked", "key ci")]
    found = "".join(file.read_text("latin-1") for file in installation.home.rglob("*") if file.is_file())
    assert "wsk_" not in found


@pytest.mark.parametrize(("words", "says"), [
    ("", "the following arguments are required: add|list|revoke"),
    ("show", "api-key: must be one of add, list, revoke"),
    ("add", "api-key add is written `webscheduler api-key add NAME --role ROLE`"),
    ("add new", "--role: what may the key do? viewer, editor, owner"),
    ("add new --role king", "--role: must be one of viewer, editor, owner"),
    ("add n,ew --role viewer", "name: must be 1 to 64 letters"),
    ("add deploy --role viewer", "there is a key 'deploy' already"),
    ("add new --role viewer --expires 0", "--expires: must be from 1 to"),
    ("add new --role viewer --expires soon", "--expires: 'soon' must be seconds"),
    ("add new --role viewer --ip-allowlist here", "--ip-allowlist: 'here' is not an address"),
    ("list deploy", "api-key list is written `webscheduler api-key list`"),
    ("revoke", "api-key revoke is written `webscheduler api-key revoke NAME`"),
    ("revoke deploy --role viewer", "api-key revoke is written"),
    ("revoke deplay", "no key is named 'deplay' (did you mean 'deploy'?)"),
])  # fmt: skip
def test_a_bad_key_is_refused(words: str, says: str, installation: Installation) -> None:
    """Status 2, what is wrong in a line, nothing on standard output, and no key made or lost."""
    keys.add(str(installation.home), "deploy", "viewer", time.time())
    before = keys.listed(str(installation.home))
    done = call(installation.home, "api-key", *words.split())
    assert (done.status, done.out) == (2, "")
    assert done.complaint.startswith(says)
    assert keys.listed(str(installation.home)) == before


def test_without_a_key_the_list_says_that_the_api_is_off(installation: Installation) -> None:
    assert "the API is off" in call(installation.home, "api-key", "list").out
    assert call(installation.home, "api-key", "list", "--json").document == []
    keys.add(str(installation.home), "old", "viewer", 1000.0, 2000.0)
    assert "ended " in call(installation.home, "api-key", "list").out


def test_keys_that_cannot_be_read_are_said(installation: Installation) -> None:
    """A damaged file is never taken for one without keys: status 1, one line, and it stays."""
    (installation.home / "api-keys.json").write_text("{")

    for words in (["list"], ["list", "--json"], ["add", "new", "--role", "viewer"], ["revoke", "new"]):
        done = call(installation.home, "api-key", *words)
        assert (done.status, done.out) == (1, "")
        assert "api-keys.json cannot be read" in done.complaint

    assert (installation.home / "api-keys.json").read_text() == "{"
