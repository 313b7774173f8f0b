# SPDX-License-Identifier: LGPL-3.0-or-later
"""An editor's tasks and the network behind the web server, over HTTP and with real listeners."""

from __future__ import annotations

import html
import json

import pytest

from tests.admin.client import Browser
from tests.admin.test_settings import backup, restore
from tests.commandline import call
from tests.installation import Installation
from tests.listeners import Hook, listening

REFUSAL = "is not a public address: the setting privateHosts can allow this host"
NEW = {"name": "probe", "command": "http", "kind": "none", "do": "save"}


@pytest.fixture
def editor(inhabited: Installation) -> Browser:
    browser = Browser(inhabited)
    assert browser.sign_in("eve").status == 200
    return browser


def save(browser: Browser, url: str, **fields: str) -> bool:
    """Save a task that calls the URL. False if it was refused, which must be said at the field."""
    browser.get("edit", **({"name": fields["of"]} if "of" in fields else {}))
    given = {"arguments": url} if "of" in fields else {**NEW, "arguments": url}
    page = browser.submit("edit", **{"do": "save", **given})

    if page.status == 422:
        assert REFUSAL in html.unescape(page.text).partition('id="arguments-error"')[2][:400]

    return page.status == 200


def ran(installation: Installation, hook: Hook, name: str = "probe") -> tuple[int, int]:
    """(how a run by hand ended, how many calls arrived)."""
    hook.calls.clear()
    done = call(installation.home, "run", name)
    return done.status, len(hook.calls)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_an_editor_reaches_nothing_inside(editor: Browser, inhabited: Installation, host: str) -> None:
    """It is said where it is typed, and before."""
    with listening() as hook:
        assert not save(editor, hook.url.replace("127.0.0.1", host))
        assert "probe" not in json.loads((inhabited.home / "state.json").read_text())
        assert "reaches public addresses" in editor.get("edit")


def test_a_name_that_leads_inside_after_it_was_saved(editor: Browser, inhabited: Installation) -> None:
    """What was right when it was saved is looked at again when it runs, at its first server and at each redirect."""
    with listening() as inside, listening() as site:
        site.leads["/hook"] = 302, inside.url
        inhabited.configure(privateHosts=["127.0.0.1"])
        assert save(editor, inside.url)
        assert ran(inhabited, inside) == (0, 1)
        inhabited.configure(privateHosts=[])
        assert ran(inhabited, inside) == (1, 0)
        assert REFUSAL in inhabited.runs("probe")[-1]["errorOutput"]

        inhabited.configure(baseUrl=site.url.replace("127.0.0.1", "localhost"))
        assert save(editor, site.url.replace("127.0.0.1", "localhost"), of="probe")
        assert ran(inhabited, inside) == (1, 0)
        assert "redirected from http://localhost:" in inhabited.runs("probe")[-1]["errorOutput"]


def test_the_own_site_and_what_the_owner_allows(editor: Browser, owner: Browser, inhabited: Installation) -> None:
    """On shared hosts the own site often has a private address. The owner allows other hosts in the panel."""
    with listening() as hook:
        inhabited.configure(baseUrl=f"{hook.url}/webscheduler.cgi")
        assert save(editor, hook.url)
        assert ran(inhabited, hook) == (0, 1)
        elsewhere = hook.url.replace("127.0.0.1", "localhost")
        assert not save(editor, elsewhere, of="probe")
        owner.get("settings")
        owner.submit("settings", privateHosts="localhost\nintranet.example.org")
        assert save(editor, elsewhere, of="probe")
        assert ran(inhabited, hook) == (0, 1)


def test_tasks_that_are_there_go_on(editor: Browser, inhabited: Installation) -> None:
    """Until somebody changes in the panel what they call; with a shell anything may be called."""
    with listening() as hook:
        call(inhabited.home, "add", "probe", "--command", "http", "--arguments", hook.url)
        assert ran(inhabited, hook) == (0, 1)
        editor.get("edit", name="probe")
        assert editor.submit("edit", do="save", title="Mine").status == 200
        assert ran(inhabited, hook) == (0, 1)
        assert not save(editor, hook.url + "/other", of="probe")
        inhabited.configure(privateHosts=["127.0.0.1"])
        assert save(editor, hook.url + "/other", of="probe")
        assert ran(inhabited, hook) == (0, 1)
        inhabited.configure(privateHosts=[])
        assert ran(inhabited, hook) == (1, 0)
        assert save(editor, "http://93.184.216.34/", of="probe")
        assert not save(editor, hook.url, of="probe")
        assert call(inhabited.home, "edit", "probe", "--arguments", hook.url).status == 0
        assert ran(inhabited, hook) == (0, 1)


def test_no_copy_and_no_other_name_lifts_it(editor: Browser, inhabited: Installation) -> None:
    """A copy is saved in the panel, whatever it is a copy of; a task takes it along when it is renamed."""
    with listening() as hook:
        call(inhabited.home, "add", "probe", "--command", "http", "--arguments", hook.url)
        editor.get("edit", copy="probe")
        assert editor.submit("edit", do="save", name="copied").status == 422
        inhabited.configure(privateHosts=["127.0.0.1"])
        editor.get("edit", copy="probe")
        assert editor.submit("edit", do="save", name="copied").status == 200
        inhabited.configure(privateHosts=[])
        editor.get("edit", name="copied")
        assert editor.submit("edit", do="save", name="renamed").status == 200
        assert ran(inhabited, hook, "renamed") == (1, 0)


def test_a_backup_lifts_it_only_if_it_is_ours(owner: Browser, inhabited: Installation) -> None:
    """What an owner restores from another file is as if it were typed; a sealed backup comes back as it was."""
    with listening() as hook:
        call(inhabited.home, "add", "probe", "--command", "http", "--arguments", hook.url)
        document = backup(owner)
        call(inhabited.home, "remove", "probe", "--yes")
        restore(owner, {name: value for name, value in document.items() if name != "seal"})
        assert ran(inhabited, hook) == (1, 0)
        restore(owner, document)
        assert ran(inhabited, hook) == (0, 1)
