# SPDX-License-Identifier: LGPL-3.0-or-later
"""No form undoes what somebody else saved while it was open: those that save carry a stamp of what they showed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser, Form, registered
from tests.installation import Installation
from webscheduler import editing
from webscheduler.admin import PAGES
from webscheduler.errors import BadInput
from webscheduler.store import people, state
from webscheduler.store.settings import load_settings, save_settings
from webscheduler.store.task import load_task

# Pages whose forms save what somebody typed or chose.
SAVE = {"edit", "settings", "people", "keys", "crontab", "setup", "account"}
# Pages that do one thing, which the button says, whatever else was saved.
DO = {"run-now", "enable", "selection", "secret", "delete", "cancel", "clear", "check", "probe", "update",
      "notify-test", "permissions", "sign-in", "sign-out",
      "backup"}  # it says that tasks with the same name are replaced
# What an owner sees, and what is in it to see.
SEEN = ("", "task?name=task", "edit", "edit?name=task", "edit?name=%40due", "edit?copy=task", "secret?name=task",
        "delete?name=task", "history", "clear", "diagnostics", "settings", "crontab", "account", "people",
        "keys")


def test_every_form_that_saves_has_a_stamp(owner: Browser, inhabited: Installation) -> None:
    """A page that takes a form is in one of two lists, and what holds a control to type or choose in has a stamp."""
    assert {page for page, (_, _, change) in PAGES.items() if change is not None} == SAVE | DO
    assert not SAVE & DO
    registered(inhabited, "task", "hello")
    saved = set()

    for page in SEEN:
        text = owner.request(f"/cron/admin/{page}").text
        assert owner.page.status == 200, page

        for found in re.findall(r"<form.*?</form>", text, re.DOTALL):
            form = Form(found).forms[0]
            to = form["action"].partition("?")[0].rpartition("/admin/")[2]

            if form["method"] == "post" and to in SAVE:
                assert form["fields"].get("was"), (page, to)
                saved.add(to)
            elif form["method"] == "post":
                assert to in DO
                assert to == "backup" or not re.search(r'<select|<textarea|<input (?!type="hidden")', found), (page, to)

    assert saved >= SAVE - {"setup", "crontab"}  # the one has no people, the other a crontab


def test_a_secret_that_somebody_else_typed_is_said(owner: Browser, inhabited: Installation) -> None:
    """A form shows `***` for a password before and after it was changed; who did not type one is not asked."""
    server = "smtps://me@example.org:{}@mail.example.org"
    inhabited.configure(smtp=server.format("first"))
    owner.get("settings")
    inhabited.configure(smtp=server.format("theirs"))
    page = owner.submit("settings", smtp=server.format("mine"))
    assert page.status == 422
    assert 'id="smtp-error">Somebody else changed this in the meantime' in page
    assert load_settings(owner.home)["smtp"] == server.format("theirs")
    assert owner.submit("settings", smtp=server.format("mine")).status == 200
    assert load_settings(owner.home)["smtp"] == server.format("mine")
    inhabited.configure(smtp=server.format("theirs"))
    assert "The settings are saved." in owner.submit("settings", name="Shop")
    assert load_settings(owner.home)["smtp"] == server.format("theirs")


@pytest.mark.parametrize("sent", [
    {"do": "role", "user": "eve", "role": "owner"}, {"do": "remove", "user": "eve"},
    {"do": "set", "user": "eve", "password": "another password", "role": ""}], ids=lambda sent: sent["do"])
def test_people_whom_somebody_else_changed_are_looked_at_first(owner: Browser, sent: dict[str, str]) -> None:
    """A role, a password, who is removed; a form without a stamp saves nothing either."""
    owner.get("people")
    people.set_role(owner.home, "victor", "editor")
    before = people.read(owner.home)
    page = owner.submit("people", **sent)
    assert page.status == 422
    assert "Somebody else changed this in the meantime" in page
    assert owner.submit("people", was=None, **sent).status == 422
    assert people.read(owner.home) == before
    assert owner.submit("people", **sent).status == 200
    assert people.read(owner.home) != before


def test_settings_of_a_set_up_that_were_set_meanwhile_stay(installation: Installation) -> None:
    """By the command line, while the form for the first owner was open."""
    browser = Browser(installation)
    browser.get("setup")
    browser.submit("setup")
    code = Path(installation.home, "setup-code").read_text().strip()
    installation.configure(timezone="Europe/Paris")
    typed = {"code": code, "user": "zoe", "password": "another password", "again": "another password"}
    page = browser.submit("setup", **typed)
    assert page.status == 422
    assert 'id="timezone-error">Somebody else saved this in the meantime: Europe/Paris<' in page
    assert browser.submit("setup", **typed).status == 200
    assert json.loads((installation.home / "config.json").read_text())["timezone"] == "Europe/Paris"


def test_what_was_saved_between_look_and_write_stays(inhabited: Installation) -> None:
    """Under the lock it is looked at again, but only at what is about to be changed."""
    registered(inhabited, "task", "hello")
    home, settings = str(inhabited.home), load_settings(str(inhabited.home))
    seen = load_task("task", state.read(home)["task"])
    inhabited.edit("task", priority=7)

    with pytest.raises(BadInput, match="priority: somebody else changed it"):
        editing.edit(settings, "task", {"priority": 8}, 0.0, seen=seen)

    editing.edit(settings, "task", {"retries": 1}, 0.0, seen=seen)
    row: dict[str, Any] = inhabited.row("task")
    assert (row["priority"], row["retries"]) == (7, 1)
    inhabited.configure(timezone="Europe/Paris")

    with pytest.raises(BadInput, match="timezone: somebody else changed it"):
        save_settings(home, {"timezone": "UTC"}, settings)

    save_settings(home, {"name": "Mine"}, settings)
    found = load_settings(home)
    assert (found["timezone"], found["name"]) == ("Europe/Paris", "Mine")
