# SPDX-License-Identifier: LGPL-3.0-or-later
"""The page of the API's keys: made and shown once, listed with their last use, revoked, by owners alone."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import PASSWORD, Browser, Form
from tests.installation import Installation
from webscheduler.store import keys
from webscheduler.times import instant

KEY = re.compile(r"wsk_[A-Za-z0-9_-]{43}")


def audit(home: str) -> list[tuple[str, str, str]]:
    lines = map(json.loads, Path(home, "audit.jsonl").read_text().splitlines())
    return [(line["who"], line["did"], line["to"]) for line in lines]


def test_a_key_is_shown_once(owner: Browser) -> None:
    """On the page that answers the form; never again, in no cookie, file, address or log. The same form sent again
    makes no second one."""
    owner.get("keys")
    assert "There is no key, so the API is off." in owner.page
    token, form = owner.token(), owner.page.form("keys")
    typed = {"name": "ci", "role": "editor", "expires": "90d", "ipAllowlist": "192.0.2.0/24\n2001:db8::/32"}
    page = owner.submit("keys", **typed)
    assert (page.status, page.header("Cache-Control")) == (200, "no-store")
    (key,) = KEY.findall(page.text)
    assert key not in str(page.headers) + page.url + str(owner.cookies) + owner.errors
    assert keys.verify(owner.home, key, "192.0.2.7", time.time()) == ("key ci", "editor")
    assert "in 90 days</time>" in page
    row = keys.listed(owner.home)["ci"]
    assert row["ipAllowlist"] == ["192.0.2.0/24", "2001:db8::/32"]
    assert round(instant(row["expiresAt"]) - instant(row["createdAt"])) == 90 * 86400

    for name in ("ci", "other"):
        again = owner.post(form["action"], {**form["fields"], **typed, "token": token, "name": name})
        assert again.status == 422
        assert not KEY.search(again.text)

    assert list(keys.listed(owner.home)) == ["ci"]
    assert not KEY.search(owner.get("keys").text)
    assert not any(key.encode() in file.read_bytes() for file in Path(owner.home).rglob("*") if file.is_file())
    assert (owner.page.text.count(">ci<"), audit(owner.home)[-1]) == (1, ("alice", "made", "key ci"))


def test_a_revoked_key_is_gone_at_once(owner: Browser) -> None:
    """Unless another of that name was made meanwhile, which its owner looks at first. A use in between is no change."""
    key = keys.add(owner.home, "ci", "viewer", time.time() - 60)
    owner.get("keys")
    assert keys.verify(owner.home, key, "", time.time())
    revoke = {"name": "ci", "do": "revoke"}
    assert "The key ci no longer opens the API." in owner.submit("keys", **revoke)
    assert audit(owner.home)[-1] == ("alice", "revoked", "key ci")
    assert not keys.exists(owner.home)
    keys.add(owner.home, "ci", "viewer", time.time() - 60)
    owner.get("keys")
    keys.revoke(owner.home, "ci")
    keys.add(owner.home, "ci", "viewer", time.time())
    page = owner.submit("keys", **revoke)
    assert (page.status, "Somebody else changed this in the meantime" in page) == (422, True)
    assert keys.exists(owner.home)
    owner.submit("keys", **revoke)
    page = owner.submit("keys", **{**revoke, "name": "cj"})
    assert (page.status, "no key is named &#x27;cj&#x27;" in page) == (422, True)


@pytest.mark.parametrize("typed", [
    {"name": ""}, {"name": "a b"}, {"name": "taken"}, {"name": "x" * 65}, {"role": "king"}, {"expires": "soon"},
    {"expires": "0"}, {"expires": "9999d"}, {"ipAllowlist": "here"}], ids=str)
def test_what_is_wrong_is_said_at_its_control(owner: Browser, typed: dict[str, str]) -> None:
    """Nothing is made, and nothing typed is lost."""
    keys.add(owner.home, "taken", "viewer", time.time())
    owner.get("keys")
    page = owner.submit("keys", **{"do": "add", "name": "new", "role": "editor", **typed})
    (field,) = typed
    assert page.status == 422
    assert f'id="{field}-error"' in page
    assert not KEY.search(page.text)
    (form,) = (form for form in Form(page.text).forms if "ipAllowlist" in form["fields"])
    assert {**form["fields"], **typed, "role": "x"} == {**form["fields"], "role": "x"}
    assert list(keys.listed(owner.home)) == ["taken"]


@pytest.mark.parametrize("name", ["eve", "victor"])
def test_keys_are_for_owners(inhabited: Installation, name: str) -> None:
    """Nobody else sees them, makes or revokes one, or sees a link that leads there; nor does a stranger."""
    keys.add(str(inhabited.home), "ci", "owner", time.time())
    before = (inhabited.home / "api-keys.json").read_text()
    browser = Browser(inhabited)
    browser.sign_in(name)
    assert browser.get("keys").status == 403

    for page in ("", "settings", "account"):
        assert "/keys" not in browser.get(page)

    for sent in ({"do": "revoke", "name": "ci"}, {"do": "add", "name": "mine", "role": "owner"}):
        assert browser.post("/cron/admin/keys", {"token": browser.token(), **sent}).status == 403

    assert Browser(inhabited).post("/cron/admin/keys", {"do": "revoke", "name": "ci"}).status == 403
    assert (inhabited.home / "api-keys.json").read_text() == before


@pytest.mark.parametrize("wrong", [{"token": None}, {"token": "0" * 64}, {"was": None}], ids=str)
def test_a_form_needs_its_token_and_stamp(owner: Browser, wrong: dict[str, Any]) -> None:
    owner.get("keys")
    assert owner.submit("keys", **{"name": "new", "role": "owner", **wrong}).status in (403, 422)
    assert owner.get("keys").status == 200
    assert owner.submit("keys", headers={"HTTP_SEC_FETCH_SITE": "cross-site"}, name="new").status == 403
    assert not keys.exists(owner.home)


def test_an_embedding_site_has_keys_as_well(inhabited: Installation) -> None:
    """Its people are its own, but programs on other machines have no other way in."""
    browser = Browser(inhabited, user=lambda environ: {"name": "olga", "role": "owner"})
    assert "/cron/admin/keys" in browser.get("settings")
    assert browser.get("keys").status == 200


def test_damaged_keys_are_said_and_not_replaced(owner: Browser) -> None:
    """One sentence and 503 on this page; the others work, and nobody signs in by it or is kept out."""
    Path(owner.home, "api-keys.json").write_text("{")

    for answer in (owner.get("keys"), owner.get(""), owner.get("settings"), owner.get("people")):
        assert answer.status == (503 if answer.url.endswith("keys") else 200)
        assert ("api-keys.json cannot be read" in answer) == answer.url.endswith("keys")

    assert Path(owner.home, "api-keys.json").read_text() == "{"
    assert "Sign out" in Browser(Installation(Path(owner.home))).sign_in("alice", PASSWORD)


def test_the_page_is_french(inhabited: Installation) -> None:
    inhabited.configure(language="fr")
    browser = Browser(inhabited)
    browser.sign_in()
    keys.add(str(inhabited.home), "ci", "viewer", 1000.0, 2000.0)
    text = browser.get("keys").text
    assert all(word in text for word in ("Clés de l’API", "Lecteur", "expirée", "Révoquer", "Durée de validité"))
    assert "aucune clé ne s’appelle" in browser.submit("keys", name="x", do="revoke")
