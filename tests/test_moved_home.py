# SPDX-License-Identifier: LGPL-3.0-or-later
"""A home that is moved or removed is never made again: by no lock, no log, no run that began before, and no request."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.admin.client import Browser, Form, populate
from tests.commandline import Done, call, finished, start
from tests.installation import DOORS, Installation, asking, waits_for

# What the command line can be asked that reads or writes a home.
ASKED = {words.split()[0]: words.split() for words in (
    "add new -- true", "edit task --title t", "enable task", "disable task", "remove task --yes", "rename task new",
    "rotate-secret task", "url task --base https://example.org", "run task", "run-due", "cancel task",
    "purge-logs --yes", "sync", "commands", "config set name n", "set-password alice",
    "api-key add new --role viewer", "doctor --offline", "import -",
    "export json", "crontab install", "probe --base http://127.0.0.1:9", "status", "list", "logs", "show task",
    "next task", "shim php --base https://example.org")}  # fmt: skip


def asked(home: Path, words: list[str]) -> Done:
    return call(home, *words, given=b"correct horse battery\n" if words[0] == "set-password" else b"{}")


def went(installation: Installation, how: str) -> Path:
    """Move the home, or remove it; where it is now."""
    place = installation.home.parent / "elsewhere"

    if how == "moved":
        installation.home.rename(place)
    else:
        while installation.home.exists():  # a file that is written at this moment makes a folder not empty
            shutil.rmtree(installation.home, ignore_errors=True)

    return place


def is_gone(installation: Installation) -> bool:
    return not os.path.lexists(installation.home)


@pytest.mark.parametrize("words", ASKED.values(), ids=ASKED)
def test_the_command_line(installation: Installation, words: list[str]) -> None:
    """Whatever it is asked, it says in one line that there is no home, and makes none."""
    installation.add()
    went(installation, "moved")
    done = asked(installation.home, words)
    assert done.status in (1, 2)
    assert str(installation.home) in done.complaint
    assert is_gone(installation)


@pytest.mark.parametrize("how", ["moved", "removed"])
@pytest.mark.parametrize("by", [*DOORS, "cli"])
def test_during_a_run(installation: Installation, by: str, how: str) -> None:
    """The command runs to its end. Once the home is back its outcome, which the claim has kept, is recorded, once."""
    go_on = installation.home.parent / "go-on"
    installation.add(argv=waits_for(go_on))
    started = [start(installation.home, "run", "task")] if by == "cli" else []

    if by != "cli":
        assert installation.trigger(by).document["status"] == "running"

    installation.command_runs()
    place = went(installation, how)
    time.sleep(1.2)  # until after state would say that it runs
    assert is_gone(installation)
    go_on.touch()

    for process in started:
        assert finished(process).status in (0, 1)

    installation.gone()
    assert is_gone(installation)

    if how == "moved":
        place.rename(installation.home)
        installation.gone()  # with its locks, which are there again
        assert installation.runs() == []
        installation.trigger("wsgi")
        installation.idle()
        assert [(run["status"], run["output"]) for run in installation.runs()] == [("success", "begun\nended\n")] * 2


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_at_an_idle_worker(installation: Installation, how: str) -> None:
    """A WSGI process that has served it answers 503 to everything."""
    installation.add()
    assert installation.trigger("wsgi").status == 202
    installation.idle()
    installation.gone()
    requests = [installation.signed(), installation.asking_status(), asking("/run/" + "ab" * 16, "sig=1")]
    went(installation, how)

    for environ in requests:
        for door in DOORS:
            answer = installation.call(door, environ)
            assert answer.status == 503
            assert answer.errors.startswith("webscheduler: ")
            assert answer.errors.count("\n") == 1

    assert is_gone(installation)


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_during_a_tick(installation: Installation, how: str) -> None:
    """A tick that has more to start ends, and so do those that it started."""
    go_on = installation.home.parent / "go-on"
    installation.configure(maxConcurrentTasks=1)

    for name in "abc":
        installation.add(name, waits_for(go_on), intervalSeconds=3600)

    tick = start(installation.home, "run-due")
    installation.command_runs()
    went(installation, how)
    go_on.touch()
    assert finished(tick).status == 1
    installation.gone()
    assert is_gone(installation)


def test_while_its_lock_is_awaited(installation: Installation) -> None:
    """Who waits for another's change of the tasks makes nothing when the home goes meanwhile."""
    installation.add()

    with open(installation.home / "state.json.lock", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = start(installation.home, "disable", "task")
        time.sleep(1.0)  # if it has not come so far, it finds no home at all
        place = went(installation, "moved")
        done = finished(waiting)

    assert done.status == 1
    assert str(installation.home) in done.complaint
    assert is_gone(installation)
    place.rename(installation.home)
    assert installation.row()["enabled"]


def test_in_the_panel(installation: Installation) -> None:
    """Who is signed in, and sends a form from before, makes no new home: only the button for that does."""
    installation.configure(baseUrl="https://example.org/cron")
    populate(installation)
    installation.add()
    browser = Browser(installation)
    assert browser.sign_in().status == 200
    pages = [browser.get(page, name="task") for page in ("task", "edit", "settings", "account", "crontab")]
    went(installation, "moved")
    forms = [form for page in pages for form in Form(page.text).forms if form["method"] == "post"]
    assert len(forms) > 10

    for form in forms:
        page = browser.post(form["action"], form["fields"], headers={"HTTP_SEC_FETCH_SITE": "same-origin"})
        assert page.status == 503
        assert is_gone(installation)

    assert "Set up" in browser.get()
    assert is_gone(installation)
