# SPDX-License-Identifier: LGPL-3.0-or-later
"""Setting up an installation that was uploaded without a shell: who may, what a stranger learns, and where its home
may be."""

from __future__ import annotations

import os
import re
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest

from tests import SCRIPT
from tests.admin.client import PASSWORD, Browser, Form, populate
from tests.installation import Installation
from tests.servers import KINDS, give, start, workplace
from webscheduler import admin
from webscheduler.admin import setup
from webscheduler.store import people
from webscheduler.store.settings import load_settings


@pytest.fixture
def uploaded(tmp_path: Path) -> Any:
    """A browser at an installation whose home is not there yet."""

    class Nothing:
        home = tmp_path / "account" / ".webscheduler"

    Nothing.home.parent.mkdir()
    script = tmp_path / "cgi-bin"
    script.mkdir()
    return Browser(Nothing, SCRIPT_FILENAME=str(script / "webscheduler.cgi"))  # type: ignore[arg-type]


GOOD = {"language": "fr", "timezone": "Europe/Paris", "baseUrl": "http://127.0.0.1:9/cron", "user": "zoe",
        "password": PASSWORD, "again": PASSWORD}


def begin(browser: Browser) -> Path:
    """Go as far as the form; the file of the code."""
    assert "Create the directory" in browser.get()
    browser.submit("setup")
    return Path(browser.home, setup.CODE)


def test_setting_up_by_the_code_in_the_home(uploaded: Browser) -> None:
    """The first visit makes the home and a code that only its owner can read; with it language, zone, address and the
    first owner are set, who is signed in by that; the code is gone."""
    code = begin(uploaded)
    assert stat.S_IMODE(os.stat(code).st_mode) == 0o600
    assert re.fullmatch("[0-9a-f]{32}\n", code.read_text())
    assert uploaded.page.form("setup")["fields"]["baseUrl"] == "http://example.org/cron"
    assert code.read_text().strip() not in uploaded.page
    page = uploaded.submit("setup", code=code.read_text(), **GOOD)
    assert page.url == "/cron/admin/"
    assert "Jamais appelée jusqu’ici" in page
    assert not code.exists()
    assert load_settings(uploaded.home)["timezone"] == "Europe/Paris"
    assert people.verify(uploaded.home, "zoe", PASSWORD) == people.Person("zoe", "owner")
    assert not list(Path(uploaded.home).glob("*.used"))


def test_setting_up_by_an_upload_beside_the_script(uploaded: Browser) -> None:
    """The text of this session, and of no other, in a file beside the script; then it is gone."""
    begin(uploaded)
    texts = re.findall(r'<code class="line">([0-9a-f]{32})</code>', uploaded.page.text)
    file = Path(uploaded.environ["SCRIPT_FILENAME"]).with_name(setup.UPLOAD)
    file.write_text(texts[0] + "\r\n")

    stranger = Browser(uploaded_home(uploaded), SCRIPT_FILENAME=uploaded.environ["SCRIPT_FILENAME"])
    stranger.get("setup")
    assert "This is not the code" in stranger.submit("setup", code="", **GOOD)
    uploaded.get("setup")
    assert uploaded.submit("setup", code="", **GOOD).url == "/cron/admin/"
    assert not file.exists()


def uploaded_home(browser: Browser) -> Any:
    class Place:
        home = Path(browser.home)

    return Place


@pytest.mark.parametrize("code", ["", "0" * 32, "../state.json", "é", "\x00"])
def test_a_wrong_code_sets_nothing(uploaded: Browser, code: str) -> None:
    """And says so; the right one is still good afterwards."""
    file = begin(uploaded)
    page = uploaded.submit("setup", code=code, **GOOD)
    assert page.status == 422
    assert "This is not the code" in page
    assert people.read(uploaded.home) == {}
    assert load_settings(uploaded.home)["baseUrl"] is None
    assert uploaded.submit("setup", code=file.read_text(), **GOOD).url == "/cron/admin/"


@pytest.mark.parametrize(("name", "text"), [("password", "short"), ("again", "other"), ("timezone", "x"), ("user", "-"),
                                            ("baseUrl", "example.org")])
def test_a_mistake_does_not_use_up_the_code(uploaded: Browser, name: str, text: str) -> None:
    file = begin(uploaded)
    code = file.read_text()
    page = uploaded.submit("setup", code=code, **{**GOOD, name: text})
    assert page.status == 422
    assert f'id="{name}-error"' in page
    assert file.read_text() == code


def test_a_code_is_good_once(uploaded: Browser) -> None:
    """Also for two who come at the same moment: of two renames one fails."""
    file = begin(uploaded)
    code = file.read_text()
    other = Browser(uploaded_home(uploaded))
    other.get("setup")
    uploaded.submit("setup", code=code, **GOOD)
    page = other.submit("setup", code=code, **{**GOOD, "user": "mallory"})
    assert "mallory" not in people.read(uploaded.home)
    assert page.url != "/cron/admin/"


def test_a_forgotten_password(owner: Browser, inhabited: Installation) -> None:
    """A new code, made by a button, sets a new password for somebody who is there, and keeps the role."""
    stranger = Browser(inhabited)
    stranger.get("setup")
    assert not Path(inhabited.home, setup.CODE).exists()
    stranger.submit("setup")
    code = Path(inhabited.home, setup.CODE).read_text()
    fresh = {"user": "eve", "password": "brand new password", "again": "brand new password"}
    assert "There is no person with this name." in stranger.submit("setup", code=code, **{**fresh, "user": "nobody"})
    page = stranger.submit("setup", code=code, **fresh)
    assert page.url == "/cron/admin/"
    assert people.verify(str(inhabited.home), "eve", "brand new password") == people.Person("eve", "editor")
    assert load_settings(str(inhabited.home))["baseUrl"] == "https://example.org/cron"


def test_an_old_code_is_replaced(uploaded: Browser) -> None:
    file = begin(uploaded)
    old = file.read_text()

    for each in (file, file.parent / "locks" / f".{setup.CODE}"):
        os.utime(each, (time.time() - 2 * setup.LATEST,) * 2)

    uploaded.get("setup")
    uploaded.post("/cron/admin/setup", {"token": uploaded.token(), "do": "code"})
    assert file.read_text() != old


def test_a_home_below_the_document_root_is_refused(tmp_path: Path) -> None:
    """Nothing is made there, and the page says what to change."""

    class Place:
        home = tmp_path / "public_html" / ".webscheduler"

    Place.home.parent.mkdir()
    browser = Browser(Place)  # type: ignore[arg-type]
    browser.get()
    page = browser.submit("setup")
    assert page.status == 409
    assert "may serve" in page
    assert "HOME" in page
    assert not Place.home.exists()


@pytest.mark.parametrize("variable", ["DOCUMENT_ROOT", "CONTEXT_DOCUMENT_ROOT"])
def test_a_home_below_what_the_server_says_it_serves_is_refused(tmp_path: Path, variable: str) -> None:
    """Whatever its name, in whatever language, and also by a link: of a request at either door, real paths count."""

    class Place:
        home = tmp_path / "account" / ".webscheduler"

    site = tmp_path / "été"
    (site / "account").mkdir(parents=True)
    Place.home.parent.symlink_to(site / "account")
    link = tmp_path / "link"
    link.symlink_to(site)
    named = os.fsencode(link).decode("latin-1")
    browser = Browser(Place, **{variable: named})  # type: ignore[arg-type]
    browser.get()
    assert browser.submit("setup").status == 409
    assert "may serve" in browser.page
    assert not Place.home.exists()
    browser = Browser(Place, **{variable: named + "-other"})  # type: ignore[arg-type]
    browser.get()
    assert browser.submit("setup").status == 200


STATES = {
    "nothing": lambda home: None,
    "a file in its place": lambda home: home.write_text(""),
    "no code": lambda home: Installation(home),
    "a code": lambda home: (Installation(home), wants_code(home, time.time())),
    "people": lambda home: populate(Installation(home)),
    "damaged settings": lambda home: (Installation(home) and home / "config.json").write_text("{"),
    "damaged people": lambda home: (Installation(home) and home / "users.json").write_text("{"),
    "no key": lambda home: (Installation(home) and home / "session.key").write_text(""),
}  # fmt: skip


@pytest.mark.parametrize(("state", "account"), [("nothing", "account/public_html"), *(
    (state, "account") for state in STATES)])
def test_a_stranger_learns_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, account: str) -> None:
    """Of no page, whatever is there or broken, and whether it is asked for or posted to."""

    class Place:
        home = tmp_path / account / ".webscheduler"

    Place.home.parent.mkdir(parents=True)
    script = tmp_path / "account" / "cgi-bin" / "webscheduler.cgi"
    monkeypatch.setenv("HOME", str(tmp_path / "account"))
    STATES[state](Place.home)

    for name in (*admin.PAGES, "nonsense"):
        for method in ("GET", "POST"):
            stranger = Browser(Place, SCRIPT_FILENAME=str(script))  # type: ignore[arg-type]
            stranger.get("setup")
            token = re.search(r'name="token" value="([0-9a-f]{64})"', stranger.page.text)
            url = f"/cron/admin/{name}"
            sent = {"token": token[1] if token else "", "do": "code", "name": "task"}
            page = stranger.get(name) if method == "GET" else stranger.post(url, sent)
            assert str(tmp_path) not in page
            assert not re.search(r"(?<![\w.~…/])/(tmp|home|root|var)/(?!account/)", page.text)


def where(home: Path, **environ: Any) -> str:
    class Place:
        pass

    Place.home = home  # type: ignore[attr-defined]
    text = Browser(Place, **environ).get().text  # type: ignore[arg-type]
    found = re.search(r'<code class="line">(.*?)</code><p class="sub">(.*?)</p>', text)
    assert found
    return f"{found[1]} {re.sub('<[^<>]*>', '', found[2])}"


def test_the_owner_is_told_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what somebody knows who has the account by FTP alone: where FTP begins, and where the script is."""
    account, script = tmp_path / "account", tmp_path / "account" / "www" / "cgi-bin" / "webscheduler.cgi"
    script.parent.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(account))
    home = account / ".webscheduler"
    said = where(home, SCRIPT_FILENAME=str(script))
    assert said.startswith("~/.webscheduler ~ is the home directory of your account")
    assert "From the directory of webscheduler.cgi the way is ../../.webscheduler." in said
    assert "the way" not in where(home)
    monkeypatch.setenv("HOME", "/")
    said = where(home, SCRIPT_FILENAME=str(script))
    assert said.startswith("…/.webscheduler From the directory of webscheduler.cgi the way is ../../.webscheduler.")
    assert "The line HOME" not in said
    said = where(tmp_path / "elsewhere" / ".webscheduler", SCRIPT_FILENAME=str(script))
    assert said.startswith("…/.webscheduler The line HOME at the top of the script")
    assert "elsewhere" not in said


@pytest.mark.parametrize("headers", [
    {"HTTP_ORIGIN": "https://evil.example"}, {"HTTP_ORIGIN": "http://example.org:9090", "SERVER_PORT": "8080"},
    {"HTTP_ORIGIN": "http://example.org", "HTTP_SEC_FETCH_SITE": "same-site"}, {"HTTP_ORIGIN": "null"}])
def test_the_first_step_is_not_taken_from_another_site(uploaded: Browser, headers: dict[str, str]) -> None:
    uploaded.get()
    assert uploaded.submit("setup", headers=headers).status == 403
    assert not Path(uploaded.home).exists()


@pytest.mark.parametrize("headers", [
    {"HTTP_ORIGIN": "http://example.org:8080", "SERVER_PORT": "8080"},
    {"HTTP_ORIGIN": "https://example.org", "HTTP_HOST": "127.0.0.1:8001", "HTTP_SEC_FETCH_SITE": "same-origin"}])
def test_the_first_step_is_taken_from_our_own_page(uploaded: Browser, headers: dict[str, str]) -> None:
    """Debian's nginx passes the host on without its port, and a proxy may put another in its place."""
    uploaded.get()
    assert uploaded.submit("setup", headers=headers).status == 200
    assert Path(uploaded.home).exists()


def wants_code(home: Path, now: float) -> tuple[int, str]:
    """A new visitor presses the button for a code: the status of the answer, and the code that is there then."""

    class Place:
        pass

    Place.home = home  # type: ignore[attr-defined]
    visitor = Browser(Place, clock=lambda: now)  # type: ignore[arg-type]
    visitor.get("setup")
    page = visitor.post("/cron/admin/setup", {"token": visitor.token(), "do": "code"})
    file = home / setup.CODE
    return page.status, file.read_text() if file.exists() else ""


def test_a_code_is_made_once_a_minute(installation: Installation) -> None:
    """Whether the last one was used or not, and wherever a clock is set to: then from that moment on."""
    file, now = installation.home / setup.CODE, time.time()
    status, first = wants_code(installation.home, now)
    assert (status, bool(first)) == (200, True)
    file.unlink()  # used
    assert wants_code(installation.home, now) == (429, "")
    assert wants_code(installation.home, now + 59) == (429, "")
    assert wants_code(installation.home, now - 86400 * 3) == (429, "")
    assert wants_code(installation.home, now - 86400 * 3 + 59) == (429, "")
    status, second = wants_code(installation.home, now - 86400 * 3 + 60)
    assert (status, len(second)) == (200, 33)
    assert second != first


class Client:
    """A visitor over HTTP, with cookies of their own."""

    def __init__(self, url: str) -> None:
        self.url, self.text = url, ""
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def open(self, url: str, fields: dict[str, str] | None = None) -> int:
        try:
            with self.opener.open(url, urlencode(fields).encode() if fields else None, timeout=60) as answer:
                self.text, self.url = answer.read().decode(), answer.url
                return int(answer.status)
        except urllib.error.HTTPError as error:
            self.text = error.read().decode()
            return error.code

    def submit(self, **fields: str) -> int:
        """Send the form of the present page."""
        form = Form(self.text).forms[0]
        return self.open(urljoin(self.url, form["action"]), {"x": "", **form["fields"], **fields})


@contextmanager
def two_servers() -> Iterator[tuple[Path, list[str]]]:
    """A home that is not there yet, and the URLs of two servers for it: CGI, and WSGI with four processes."""
    cgi, wsgi = KINDS["apache-cgid"], KINDS["gunicorn-sync"]

    with workplace(cgi) as directory:
        home = directory / "account" / ".webscheduler"
        home.parent.mkdir()
        give(home.parent, cgi.user)
        source = directory / "app.py"
        source.write_text("from webscheduler.wsgi import application\n")
        env = {"WEBSCHEDULER_HOME": str(home)}

        with start(cgi, directory, SCRIPT, env=env) as one, start(wsgi, directory, source, env=env) as other:
            yield home, [one.url, other.url]


def test_whoever_comes_first_has_the_same_code_as_the_others() -> None:
    """Many who come at the same moment, by CGI and WSGI, get one code: no one's is replaced by another's, neither at
    the first visit nor where the code that is there is too old. None is made within a minute of the last."""
    with two_servers() as (home, urls), ThreadPoolExecutor(12) as pool:
        file = home / setup.CODE
        visitors = [Client(urls[number % 2]) for number in range(12)]

        def visit(visitor: Client) -> int:
            return visitor.open(visitor.url)

        def press(visitor: Client) -> tuple[int, str]:
            status = visitor.submit()
            return status, file.read_text() if status == 200 else ""

        assert set(pool.map(visit, visitors)) == {200}
        # Whose form came when the home was there already begins again: 403.
        assert {answer for answer in pool.map(press, visitors) if answer[0] != 403} == {(200, file.read_text())}
        assert set(pool.map(visit, visitors)) == {200}
        assert all('name="code"' in visitor.text for visitor in visitors)

        for _ in range(3):
            file.unlink()
            assert set(pool.map(visit, visitors)) == {200}
            file.write_text("0" * 32)
            give(file, KINDS["apache-cgid"].user)
            os.utime(file, (time.time() - 2 * setup.LATEST,) * 2)
            (home / "locks" / f".{setup.CODE}").unlink()
            (answer,) = set(pool.map(press, visitors))
            assert answer == (200, file.read_text())
            assert answer[1] != "0" * 32

        file.unlink()
        assert set(pool.map(visit, visitors)) == {200}
        assert {visitor.submit() for visitor in visitors} == {429}
        assert "less than a minute ago" in visitors[0].text
        assert not file.exists()
