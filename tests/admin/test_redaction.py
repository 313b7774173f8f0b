# SPDX-License-Identifier: LGPL-3.0-or-later
"""Viewers see no secret and no signature, however a command prints it; any other digest they can read."""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import Callable

import pytest

from tests.admin.client import Browser
from tests.installation import Installation
from webscheduler import editing
from webscheduler.admin import redaction
from webscheduler.admin.redaction import hide
from webscheduler.admin.session import keys
from webscheduler.store import keys as api_keys
from webscheduler.store.history import LIMIT

# How a value that is printed may look.
LOOKS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "upper case": str.upper,
    "in other text": lambda text: f"deadbeef{text}cafe",
    "folded": lambda text: "\n".join(text[start:start + 16] for start in range(0, 64, 16)),
    "folded and indented": lambda text: "\r\n    ".join(text[start:start + 7] for start in range(0, 64, 7)),
    "coloured": lambda text: f"{text[:20]}\033[1;31m{text[20:41]}\033[0m{text[41:]}",
    "each digit coloured": lambda text: "".join(f"\033[3{index % 8}m{c}" for index, c in enumerate(text)) + "\033[0m",
    "spaced": " ".join,
    "as bytes": lambda text: ":".join(text[start:start + 2] for start in range(0, 64, 2)),
    "with marks that are not seen": "\u200b".join,
    "as a list": lambda text: str(list(text)),
    "as JSON": lambda text: json.dumps([text[start:start + 8] for start in range(0, 64, 8)]),
    "quoted lines": lambda text: "".join(f'"{text[start:start + 16]}" \\\n' for start in range(0, 64, 16)),
    "between signs": lambda text: f"<{text[:9]}>&<{text[9:20]}>='{text[20:40]}'=={text[40:]}",
    "coloured by others": lambda text: f"{text[:9]}\033[38:5:9m{text[9:20]}\033[K{text[20:40]}\033(B{text[40:]}",
    "a cursor that is hidden": "\033[?25l".join,
    "links of terminals": lambda text: f"{text[:30]}\033]8;;https://a.b/c\033\\{text[30:]}\033]8;;\a",
    "in columns": lambda text: (" " * 150).join(text[start:start + 16] for start in range(0, 64, 16)),
}


def seen(installation: Installation, who: str, text: str) -> bool:
    """Whether the person's page of a run that printed the text shows all of it, as does its raw output."""
    browser = Browser(installation)
    browser.sign_in(who)
    page = browser.get("run", name="task", run=installation.runs()[-1]["run"])
    assert page.status == 200
    assert page.text.count("zqz") == page.text.count("zyz")
    raw = browser.get("output", name="task", run=installation.runs()[-1]["run"])
    shown = ["…" not in each.text.rpartition("zqz")[2].partition("zyz")[0] for each in (page, raw)]
    assert shown[0] == shown[1]
    return shown[0]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("what", ["secret", "signature", "status signature", "of another task", "the one before it",
                                  "the signature before it"])
def test_a_viewer_reads_no_secret_by_value(inhabited: Installation, what: str, look: str) -> None:
    inhabited.add("task")
    inhabited.add("other", argv=["/bin/true"])
    before = {"the one before it": inhabited.row("task")["secret"],
              "the signature before it": inhabited.signature("task")}
    editing.rotate_secret(str(inhabited.home), "task", 3600, time.time())
    value = {"secret": inhabited.row("task")["secret"], "signature": inhabited.signature("task"),
             "status signature": inhabited.signature("task", status=True),
             "of another task": inhabited.row("other")["secret"], **before}[what]
    inhabited.edit("task", argv=["/bin/echo", f"zqz\n{LOOKS[look](value)}\nzyz"])
    inhabited.trigger("wsgi", "task")
    inhabited.idle()
    assert not seen(inhabited, "victor", value)
    assert seen(inhabited, "alice", value)


@pytest.mark.parametrize("look", LOOKS)
def test_a_viewer_reads_any_other_digest(inhabited: Installation, look: str) -> None:
    digest = hashlib.sha256(b"a file that was checked").hexdigest()
    inhabited.add("task", argv=["/bin/echo", f"zqz\n{LOOKS[look](digest)}\nzyz"])
    inhabited.trigger("wsgi", "task")
    inhabited.idle()
    assert seen(inhabited, "victor", digest)


@pytest.mark.parametrize("rest", [63, 40, 32])
@pytest.mark.parametrize("what", ["beginning", "end"])
def test_a_viewer_reads_no_secret_that_an_output_was_cut_in(inhabited: Installation, what: str, rest: int) -> None:
    """Of a long output the middle is left out; who sees most of a secret can guess what is missing."""
    inhabited.add("task")
    value, half = inhabited.row("task")["secret"], LIMIT // 2
    fill, more = "z" * (half - rest), "z" * (half + 1000)
    text = f"{fill}{value}{more}" if what == "beginning" else f"{more}{value}{fill}"
    inhabited.edit("task", argv=["/bin/sh", "-c", f"printf %s {text}"])
    inhabited.trigger("wsgi", "task")
    inhabited.idle()
    part = value[:rest] if what == "beginning" else value[-rest:]
    assert part in str(inhabited.runs()[-1]["output"])

    for who, seen in (("alice", True), ("victor", False)):
        browser = Browser(inhabited)
        browser.sign_in(who)

        for page in ("run", "output"):
            assert (part in browser.get(page, name="task", run=inhabited.runs()[-1]["run"])) == seen


def test_what_follows_sig_is_kept_back(inhabited: Installation) -> None:
    """A timed signature is none of those that are known, and a long URL may be cut."""
    inhabited.add("task", argv=["/bin/echo", "zqz\nhttps://example.org/run/x?ts=1&sig=0123456789ab\nzyz"])
    inhabited.trigger("wsgi", "task")
    inhabited.idle()
    assert not seen(inhabited, "victor", "0123456789ab")


def test_without_readable_tasks_all_that_could_be_one_is_kept_back(inhabited: Installation) -> None:
    digest = "ab" * 32
    for name in ("state.json", "state.json.bak"):
        (inhabited.home / name).write_text("{")
    assert hide(str(inhabited.home), f"x {digest} y".encode()) == "x … y".encode()


def test_a_stranger_costs_no_look_at_the_tasks(inhabited: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that anybody can ask for has a token, which is as long as a secret, and is shown."""
    looked: list[str] = []
    monkeypatch.setattr(redaction, "_values", lambda home: looked.append(home) or [])
    page = Browser(inhabited).get("sign-in")
    assert len(re.findall(r'name="token" value="[0-9a-f]{64}"', page.text)) == 1
    assert looked == []


@pytest.mark.parametrize("what", ["the key of sessions", "notifyKey", "the password of the mail server"])
def test_a_viewer_reads_no_secret_of_the_installation(inhabited: Installation, what: str) -> None:
    """With the first of these, anybody's session could be made."""
    password = "p'<w>&d 12"
    inhabited.configure(notifyKey="k-0123456789abcdef", smtp=f"smtps://me:{password}@mail.example.org")
    value = {"the key of sessions": keys(str(inhabited.home))[-1].decode(), "notifyKey": "k-0123456789abcdef",
             "the password of the mail server": password}[what]
    inhabited.add("task", argv=["/bin/echo", f"zqz\n{value}\nzyz"])
    inhabited.trigger("wsgi", "task")
    inhabited.idle()
    assert not seen(inhabited, "victor", value)
    assert seen(inhabited, "alice", value)


OF_KEYS = {"quoted": lambda text: f"curl -H 'Authorization: Bearer {text}' x", "cut": lambda text: text[:30],
           **{look: LOOKS[look] for look in ("plain", "in other text", "coloured", "each digit coloured", "folded",
                                             "with marks that are not seen")}}


@pytest.mark.parametrize("look", OF_KEYS)
def test_a_viewer_reads_no_key_of_the_api(inhabited: Installation, look: str) -> None:
    """Which is known by its beginning alone. A word that begins like one stays."""
    key = api_keys.add(str(inhabited.home), "ci", "owner", time.time())
    inhabited.add("task", argv=["/bin/echo", f"zqz\n{OF_KEYS[look](key)}\nzyz"])
    inhabited.trigger("wsgi", "task")
    inhabited.idle()
    assert not seen(inhabited, "victor", key)
    assert seen(inhabited, "alice", key)
    text = b"wsk_ begins each key, as in wsk_short"
    assert hide(str(inhabited.home), text) == text
