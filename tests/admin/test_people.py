# SPDX-License-Identifier: LGPL-3.0-or-later
"""Signing in and out, roles, sessions, and what strangers try."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.admin.client import OWNER, PASSWORD, Browser, populate, registered
from tests.installation import Installation
from webscheduler.admin import PAGES, session
from webscheduler.errors import BadInput, Unusable
from webscheduler.store import history, people, throttle
from webscheduler.store.settings import save_settings


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def test_signing_in_and_out(inhabited: Installation) -> None:
    """A stranger is led to the form, the right password leads to the page that was asked for, and after signing out
    the list is closed again."""
    browser = Browser(inhabited)
    assert "Sign in" in browser.get("history", name="x")
    page = browser.submit("sign-in", user=OWNER, password=PASSWORD)
    assert page.status == 200
    assert page.url == "/cron/admin/history?name=x"
    assert "You are signed out" in browser.submit("sign-out")
    assert "Sign in" in browser.get()


@pytest.mark.parametrize(("name", "password"), [(OWNER, "wrong"), ("nobody", PASSWORD), ("", ""), ("ALICE", PASSWORD),
                                                (OWNER, PASSWORD + " "), ("\ud800", "\x00")])
def test_a_wrong_name_and_a_wrong_password_read_the_same(inhabited: Installation, name: str, password: str) -> None:
    """Neither the answer nor its status tells which of the two was wrong."""
    browser = Browser(inhabited)
    browser.get("sign-in")
    name = name.encode("utf-8", "replace").decode()
    page = browser.post("/cron/admin/sign-in", {"token": browser.token(), "user": name, "password": password})
    assert page.status == 403
    assert "Wrong name or password." in page
    assert page.header("Set-Cookie") is None or "device" not in str(page.headers)


def test_the_files_are_for_the_owner_alone(owner: Browser) -> None:
    """Passwords are kept as scrypt with a salt each, and every file of the panel is 0600."""
    home = Path(owner.home)
    users = json.loads((home / "users.json").read_text())
    assert all(row["password"].startswith("scrypt$16384$8$5$") for row in users.values())
    assert len({row["password"] for row in users.values()}) == 3

    for name in ("users.json", "session.key", "throttle.json", "audit.jsonl"):
        assert stat.S_IMODE(os.stat(home / name).st_mode) == 0o600


def test_pbkdf2_where_scrypt_is_missing(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python whose OpenSSL has no scrypt keeps passwords as pbkdf2, and reads both."""
    home = str(installation.home)
    people.set_password(home, "scott", PASSWORD, now=1.0)
    method = hashlib.scrypt
    monkeypatch.delattr(hashlib, "scrypt")
    people.set_password(home, OWNER, PASSWORD, "owner", now=1.0)

    with pytest.raises(Unusable, match="set it anew"):
        people.verify(home, "scott", PASSWORD)

    for _ in range(2):
        assert people.read(home)[OWNER]["password"].startswith("pbkdf2$600000$")
        assert people.verify(home, OWNER, PASSWORD) == people.Person(OWNER, "owner")
        assert people.verify(home, OWNER, PASSWORD + "x") is None
        monkeypatch.setattr(hashlib, "scrypt", method, raising=False)


def test_a_host_without_the_memory_for_scrypt(installation: Installation) -> None:
    """Where 16 MiB more are not to be had a password is kept by pbkdf2, and one kept by scrypt says what to do."""
    people.set_password(str(installation.home), "scott", PASSWORD, now=1.0)
    script = """
import resource, sys
import filelock
from webscheduler.store import people
from webscheduler.errors import Unusable
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 8 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (size, size))
home, password = sys.argv[1:]
people.set_password(home, "small", password, now=1.0)
print(people.verify(home, "small", password))
try:
    people.verify(home, "scott", password)
except Unusable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(installation.home), PASSWORD], capture_output=True,
                          text=True, timeout=60)
    assert done.stderr == ""
    assert "Person(name='small', role='viewer')" in done.stdout
    assert "no memory for it" in done.stdout


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaa", "alice12345", "x" * 1001])
def test_weak_passwords_are_refused(installation: Installation, password: str) -> None:
    """Too short, too few different characters, the name with a number, or endless."""
    with pytest.raises(BadInput, match="password: "):
        people.set_password(str(installation.home), OWNER, password, now=1.0)


@pytest.mark.parametrize("name", ["", " x", "a b", "-x", "_x", "x" * 65, "a\nb", "../x", "<b>"])
def test_strange_names_are_refused(installation: Installation, name: str) -> None:
    with pytest.raises(BadInput, match="user: "):
        people.set_password(str(installation.home), name, PASSWORD, now=1.0)


def test_the_first_is_owner_and_one_remains(installation: Installation) -> None:
    """The first person owns the installation, later ones read; the last owner can be neither removed nor lowered."""
    home = str(installation.home)
    assert people.set_password(home, "first", PASSWORD, now=1.0)
    assert people.set_password(home, "second", PASSWORD, now=1.0)
    assert not people.set_password(home, "second", PASSWORD + "!", now=1.0)
    assert {name: row["role"] for name, row in people.read(home).items()} == {
        "first": "owner", "second": "viewer"}

    for act in (lambda: people.remove(home, "first"), lambda: people.set_role(home, "first", "viewer"),
                lambda: people.set_password(home, "first", PASSWORD, "editor", now=1.0)):
        with pytest.raises(BadInput, match="owner"):
            act()


ROW = {"role": "owner", "createdAt": None, "sessions": {}, "password": f"pbkdf2$1${'0' * 32}${'0' * 64}"}


@pytest.mark.parametrize("text", [
    "{", "[]", "\xff", "[" * 100000, *(json.dumps({OWNER: row}) for row in (
        None, [], {}, {**ROW, "role": "root"}, {**ROW, "sessions": []}, {**ROW, "password": None},
        {**ROW, "password": "$$"}, {**ROW, "password": PASSWORD}))], ids=str.__len__)
def test_a_damaged_file_lets_nobody_in(inhabited: Installation, text: str) -> None:
    """users.json that does not hold people is never taken for one without people: one line says so, to nobody but the
    server's log, and neither a session nor a password nor set-up is of use."""
    browser = Browser(inhabited)
    browser.sign_in()
    Path(inhabited.home, "users.json").write_text(text, "latin-1")

    for _ in range(2):
        for path in ("", "sign-in", "setup"):
            page = browser.get(path)
            assert page.status == 503
            assert "users.json" not in page
            assert "users.json cannot be read" in browser.errors
            assert len(browser.errors.splitlines()) == 1

        browser.cookies.pop(session.COOKIE, None)
        browser.get("account")
        browser.cookies.pop(session.DEVICE, None)

        if "Sign in" not in browser.page:
            break

    with pytest.raises(Unusable):
        people.set_password(str(inhabited.home), OWNER, PASSWORD, now=1.0)


@pytest.mark.parametrize("role", ["", "viewer", "editor", "owner"])
def test_what_each_role_may(inhabited: Installation, role: str) -> None:
    """Every page and every change of the table, by everybody: strangers are led to the form, and a role that is too low
    gets 403 and changes nothing."""
    inhabited.add("task", argv=["/bin/true"])
    browser = Browser(inhabited)

    if role:
        browser.sign_in({"viewer": "victor", "editor": "eve", "owner": OWNER}[role])

    rank = ["", "viewer", "editor", "owner"].index(role)
    state = Path(inhabited.home, "state.json").read_bytes()

    for page, (_, see, change) in PAGES.items():
        for method, needed in (("GET", see), ("POST", change)):
            if not needed or ["", "viewer", "editor", "owner"].index(needed) <= rank:
                continue

            browser.get("sign-in" if not role else "account")
            url = f"/cron/admin/{page}?name=task&run=x"
            answer = browser.post(url, {"token": browser.token(), "do": "save"}, follow=False) if method == "POST" \
                else browser.request(url, follow=False)

            if role:
                assert answer.status in (403, 405), (page, method)
            elif answer.status != 405:
                assert answer.status == 303, (page, method)
                assert str(answer.header("Location")).startswith("/cron/admin/sign-in"), (page, method)

    assert Path(inhabited.home, "state.json").read_bytes() == state


HOSTILE = [
    "", "x" * 2500, "é" * 450, "../" * 100 + "etc/passwd", "a/b", "..", ".", "\0", "a\0b", b"\xed\xa0\x80", b"\xff",
    "-", "@", "@due", "nan", "1e999", "-1", "9" * 2500, "1~x", "0~" + "9" * 400, "{0}", "{token}", "%", "\r\nX: y",
    "<script>", "task", "\u202e"]
NAMES = (
    "name", "run", "at", "stream", "before", "from", "to", "status", "copy", "kind", "expression", "amount", "unit",
    "timezone", "poll", "format", "v", "do", "user", "role", "code", "strategy")
SAMPLED = {"settings": 5, "crontab": 5, "update": 9}  # these ask other programs
FINE = {200, 303, 400, 403, 404, 405, 422}


@pytest.fixture
def busy(owner: Browser, inhabited: Installation) -> Iterator[Browser]:
    """The owner, with a task that ran."""
    registered(inhabited)
    history.append(owner.home, "task", {
        "command": "task", "run": "r1", "status": "failed", "exitCode": 1, "startedAt": "2026-01-01T00:00:00+00:00",
        "finishedAt": "2026-01-01T00:00:01+00:00", "duration": 1.0, "output": "o", "errorOutput": "e"})
    owner.get("account")
    yield owner
    inhabited.idle()


@pytest.mark.parametrize("page", [*PAGES, "nothing"])
def test_hostile_queries_are_no_fault(busy: Browser, page: str) -> None:
    """Every page with each hostile value in all places at once, and where a query says most in each place alone, beside
    good ones: nothing of it is a fault of the server, and its log stays empty."""
    good = {"name": "task", "run": "r1"}
    single = NAMES if page in ("run", "output", "history", "preview", "task", "edit") else ()

    for query in [dict.fromkeys(NAMES, value) for value in HOSTILE[::SAMPLED.get(page, 1)]] + [
            {**good, name: value} for name in single for value in HOSTILE[:: 1 if name in good else 3]]:
        assert busy.get(page, False, **query).status in FINE, query
        assert busy.errors == "", query


@pytest.mark.parametrize("page", [page for page, row in PAGES.items() if row[2] is not None and page not in (
    "sign-out", "check", "probe", "notify-test", "crontab")])
def test_hostile_forms_are_no_fault(busy: Browser, page: str) -> None:
    """The same with what a form sends, token and all; also by strangers, where they may. 429: too many tries."""
    if page in ("sign-in", "setup"):
        busy.cookies.clear()
        busy.get("sign-in")

    token = busy.token()

    for value in HOSTILE[::SAMPLED.get(page, 1)]:
        for do in ("save", "code", value):
            form = urlencode({**dict.fromkeys(NAMES, value), "do": do, "token": token})
            answer = busy.request(f"/cron/admin/{page}?{urlencode({'name': value, 'run': value})}", "POST",
                                  form.encode(), follow=False)
            assert answer.status in {*FINE, 429}, (value, do)
            assert busy.errors == "", (value, do)


@pytest.mark.parametrize("path", ["task", "sign-in", "history", "setup"])
def test_bytes_that_are_no_text_are_no_fault(inhabited: Installation, path: str) -> None:
    """A stranger's query that is not UTF-8 is answered like any other."""
    assert Browser(inhabited).request(f"/cron/admin/{path}?name=%FF&to=%FF", follow=False).status in (200, 303)


@pytest.mark.parametrize("name", ["", "victor", "eve"])
def test_only_a_backup_comes_in_parts(inhabited: Installation, name: str) -> None:
    """Nobody but an owner has a multipart body parsed, which takes minutes for four hostile megabytes."""
    browser = Browser(inhabited)

    if name:
        browser.sign_in(name)

    browser.get("account" if name else "sign-in")
    part = f'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n{browser.token()}\r\n--x--\r\n'
    answer = browser.request("/cron/admin/sign-in", "POST", part.encode(), follow=False,
                             CONTENT_TYPE="multipart/form-data; boundary=x")
    assert answer.status == 400


def test_who_may_only_read_sees_no_secret_of_others(inhabited: Installation) -> None:
    """Neither passwords in the commands' environment, which owners alone see, nor a trigger URL that a task calls or
    prints."""
    signature = "ab" * 32
    url = f"https://example.org/cron/run/{'c' * 32}?sig={signature}"
    registered(inhabited, "task", command="http", arguments=url)
    inhabited.add("free", argv=["/bin/echo", url])
    save_settings(str(inhabited.home), {"environment": {"PASSWORD": "of-the-database"}})
    history.append(str(inhabited.home), "task", {
        "command": "task", "run": "r1", "status": "failed", "exitCode": 1, "startedAt": "2026-01-01T00:00:00+00:00",
        "finishedAt": "2026-01-01T00:00:01+00:00", "duration": 1.0, "output": url, "errorOutput": url})

    for name, sees, owns in (("victor", False, False), ("eve", True, False), (OWNER, True, True)):
        browser = Browser(inhabited)
        browser.sign_in(name)
        assert ("of-the-database" in browser.get("settings")) == owns

        for page, query in (("", {}), ("task", {"name": "task"}), ("task", {"name": "free"}),
                            ("run", {"name": "task", "run": "r1"}), ("output", {"name": "task", "run": "r1"}),
                            ("output", {"name": "task", "run": "r1", "stream": "errorOutput"})):
            assert (signature in browser.get(page, **query)) == sees, (name, page)


@pytest.mark.parametrize("text", [
    "?sig={}", "?sig%3D{}", '"sig": "{}"', "\x1b[01;31msig=\x1b[m\x1b[K{}", "X-Webscheduler-Signature: {}", "SIG={}"])
def test_who_may_only_read_sees_nothing_like_a_signature(inhabited: Installation, text: str) -> None:
    """However it is written, in what a task is called or in what it printed; nor the greater part of one that was
    cut. Forms still work: their token is no secret of others."""
    inhabited.add("task", argv=["/bin/true"])
    signature = inhabited.signature("task")
    said = text.format(signature)
    inhabited.edit("task", title=said.replace("\x1b", ""), description=said.replace("\x1b", ""))
    history.append(str(inhabited.home), "task", {
        "command": "task", "run": "r1", "status": "failed", "exitCode": 1, "startedAt": "2026-01-01T00:00:00+00:00",
        "finishedAt": "2026-01-01T00:00:01+00:00", "duration": 1.0, "output": said,
        "errorOutput": f"sig={signature[:50]}"})

    for name, sees in (("victor", False), ("eve", True)):
        browser = Browser(inhabited)
        browser.sign_in(name)

        for page in (browser.get(), browser.get("task", name="task"), browser.get("run", name="task", run="r1"),
                     browser.get("output", name="task", run="r1"),
                     browser.get("output", name="task", run="r1", stream="errorOutput")):
            assert (signature[:50] in page) == sees, page.url

        browser.get()
        assert "You are signed out." in browser.submit("sign-out")


@pytest.mark.parametrize(("environ", "said"), [
    ({}, True), ({"wsgi.url_scheme": "https"}, False), ({"HTTP_X_FORWARDED_PROTO": "https"}, False),
    ({"REMOTE_ADDR": "127.0.0.1"}, False), ({"REMOTE_ADDR": "::1"}, False), ({"REMOTE_ADDR": ""}, False)])
def test_plain_http_is_said(inhabited: Installation, environ: dict[str, str], said: bool) -> None:
    """Where passwords and settings are typed, unless it is this machine or something before it speaks https."""
    browser = Browser(inhabited, **environ)
    assert ("without encryption" in browser.get("sign-in")) == said
    browser.sign_in()
    assert ("without encryption" in browser.get("settings")) == said
    assert "without encryption" not in browser.get()


def test_a_length_of_many_digits_is_too_long(owner: Browser) -> None:
    """It is not read as what its first digits say."""
    assert owner.request("/cron/admin/sign-out", "POST", CONTENT_LENGTH="0" * 10 + "9" * 10).status == 413


def test_a_viewer_sees_no_trigger_url(inhabited: Installation) -> None:
    """Whoever has a trigger URL can run the task."""
    inhabited.add("task", argv=["/bin/true"])
    slug = inhabited.row("task")["slug"]
    browser = Browser(inhabited)
    browser.sign_in("victor")
    due = inhabited.row("@due")["slug"]

    for page in (browser.get(), browser.get("task", name="task"), browser.get("task", name="@due"),
                 browser.get("diagnostics"), browser.get("settings"), browser.get("history")):
        assert slug not in page
        assert due not in page
        assert "sig=" not in page

    browser.submit("sign-out")
    browser.sign_in("eve")
    assert slug in browser.get("task", name="task")


def test_the_cookie(inhabited: Installation) -> None:
    """HttpOnly, SameSite=Strict, the mount's path; Secure under https, also if only the installation's address says so,
    and by the word of a proxy only if that is trusted."""
    browser = Browser(inhabited)
    browser.get("sign-in")
    assert browser.last_cookie.split("; ")[1:] == ["Path=/cron", "HttpOnly", "SameSite=Strict", "Secure"]
    browser.cookies.clear()  # as a browser does that opened the page over http
    assert "open it by its https address" in browser.submit("sign-in", user=OWNER, password=PASSWORD)

    inhabited.configure(baseUrl="http://example.org/cron")
    browser = Browser(inhabited)
    browser.get("sign-in")
    assert browser.last_cookie.split("; ")[1:] == ["Path=/cron", "HttpOnly", "SameSite=Strict"]

    browser = Browser(inhabited, **{"wsgi.url_scheme": "https"})
    browser.get("sign-in")
    assert browser.last_cookie.endswith("; Secure")

    browser = Browser(inhabited, HTTP_X_FORWARDED_PROTO="https")
    browser.get("sign-in")
    assert "Secure" not in browser.last_cookie

    inhabited.configure(trustedProxies=["192.0.2.1"])
    browser.cookies.clear()
    browser.get("sign-in")
    assert browser.last_cookie.endswith("; Secure")


def test_a_forged_cookie_is_nobodys(owner: Browser) -> None:
    """A cookie with another name in it, with a signature for another purpose, cut off, or of nonsense."""
    good = owner.cookies[session.COOKIE]
    payload, _, mac = good.partition(".")
    data = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    other = base64.urlsafe_b64encode(json.dumps([data[0], "eve", *data[2:]]).encode()).decode().rstrip("=")
    wrong = session.sign(owner.home, "notice", data)

    for cookie in (f"{other}.{mac}", wrong, good[:-1], payload, "", ".", "é", f"{payload}.{'0' * 64}", "a" * 9000):
        owner.cookies = {session.COOKIE: cookie}
        assert "Sign in" in owner.get(), cookie

    owner.cookies = {session.COOKIE: good}
    assert "Sign out" in owner.get()


def test_a_session_that_was_signed_out_is_dead(owner: Browser) -> None:
    """A copy of the cookie is of no use after signing out, in whatever browser."""
    thief = dict(owner.cookies)
    owner.get()
    owner.submit("sign-out")
    owner.cookies = thief
    assert "Sign in" in owner.get()


def test_signing_out_everywhere(inhabited: Installation) -> None:
    """One click ends the sessions of all browsers of that person, and nobody else's."""
    one, two, other = Browser(inhabited), Browser(inhabited), Browser(inhabited)
    one.sign_in()
    two.sign_in()
    other.sign_in("eve")
    one.get("account")
    form = next(form for form in [one.page.form("sign-out")] if form)
    one.post(form["action"], {"token": one.token(), "everywhere": "yes"})
    assert "Sign in" in two.get()
    assert "Sign out" in other.get()


def test_a_new_password_ends_every_other_session(inhabited: Installation) -> None:
    """Whoever changes the password stays; all other sessions of that person end, also after `set-password`."""
    one, two = Browser(inhabited), Browser(inhabited)
    one.sign_in()
    two.sign_in()
    one.get("account")
    typed = {"password": "a fresh password", "again": "x"}
    assert "This is not your current password." in one.submit("account", old="wrong", **typed)
    assert "The two passwords are different." in one.submit("account", old=PASSWORD, **typed)
    page = one.submit("account", old=PASSWORD, password="a fresh password", again="a fresh password")
    assert "Your password is changed" in page
    assert "Sign in" in two.get()
    people.set_password(str(inhabited.home), OWNER, PASSWORD, now=time.time())
    assert "Sign in" in one.get()


def test_a_session_id_is_never_adopted(inhabited: Installation) -> None:
    """Fixation: signing in makes a new id, whatever cookie the browser came with."""
    victim, attacker = Browser(inhabited), Browser(inhabited)
    attacker.get("sign-in")
    planted = dict(attacker.cookies)
    victim.cookies = dict(planted)
    victim.sign_in()
    assert victim.cookies[session.COOKIE] not in planted.values()
    attacker.cookies = planted
    assert "Sign in" in attacker.get()


def test_idle_and_absolute_limits(inhabited: Installation) -> None:
    """Half an hour without a request ends a session, requests prolong it, and twelve hours end it anyway."""
    clock = Clock()
    browser = Browser(inhabited, clock=clock)
    browser.sign_in()
    first = dict(browser.cookies)
    clock.now += session.IDLE - 1
    assert "Sign out" in browser.get()
    clock.now += session.IDLE - 1
    assert "Sign out" in browser.get()
    kept, browser.cookies = browser.cookies, first
    assert "Sign in" in browser.get()  # the old copy was not prolonged
    browser.cookies = kept
    clock.now += session.IDLE + 1
    assert "Sign in" in browser.get()

    browser.sign_in()

    for _ in range(session.ABSOLUTE // 1000):
        clock.now += 1000
        assert "Sign out" in browser.get()

    clock.now += 1000
    assert "Sign in" in browser.get()


@pytest.mark.parametrize("page", ["run", ""])
def test_a_page_that_refreshes_itself_is_no_use(inhabited: Installation, page: str) -> None:
    """What a page asks for by itself prolongs no session, so one that is left open ends; nor does it wake one that has
    ended, or take the place of a request by the person."""
    inhabited.add("task")
    clock = Clock()
    browser = Browser(inhabited, clock=clock)
    browser.sign_in()

    for _ in range(session.IDLE // 100 - 1):
        clock.now += 100
        assert "Sign out" in browser.get(page, name="task", poll=1)
        assert browser.page.header("Set-Cookie") is None

    asleep = dict(browser.cookies)
    clock.now += 101

    for _ in range(2):
        assert "Sign in" in browser.get(page, name="task", poll=1)
        browser.cookies = asleep

    browser.sign_in()
    clock.now += 100
    browser.get(page, name="task", poll=1)
    clock.now += 100
    browser.get(page, name="task")
    clock.now += session.IDLE - 100
    assert "Sign out" in browser.get()


def test_what_comes_from_elsewhere_signs_nobody_out(owner: Browser) -> None:
    """A link or form on another site brings no cookie along (SameSite=Strict), and what it is given takes no session's
    place. Where the browser says that a link comes from elsewhere, our own page asks once more."""
    for method in ("GET", "POST"):
        owner.request("/cron/admin/", method, follow=False, HTTP_COOKIE="")
        owner.request("/cron/admin/sign-in", method, follow=False, HTTP_COOKIE="")
        assert "Sign out" in owner.get()

    page = owner.request("/cron/admin/history?name=x", HTTP_COOKIE="", HTTP_SEC_FETCH_SITE="cross-site")
    assert page.url.endswith("?name=x")
    assert '<meta http-equiv="refresh" content="0">' in page
    assert "<form" not in page


def test_a_new_role_holds_at_once(inhabited: Installation) -> None:
    """In sessions that are open already; and who was removed is out, also after somebody of that name came."""
    eve = Browser(inhabited)
    eve.sign_in("eve")
    home = str(inhabited.home)
    assert eve.get("edit").status == 200
    people.set_role(home, "eve", "viewer")
    assert eve.get("edit").status == 403
    people.remove(home, "eve")
    assert "Sign in" in eve.get()
    kept = dict(eve.cookies)
    people.set_password(home, "eve", PASSWORD, "owner", now=time.time())
    eve.cookies = kept
    assert "Sign in" in eve.get()


def test_a_password_that_changes_meanwhile_lets_nobody_in(inhabited: Installation) -> None:
    """A sign-in that looked at the old password begins no session once the new one is set: who hammers with a stolen
    one is out, too."""
    home = str(inhabited.home)
    old = people.read(home)[OWNER]["password"]
    people.set_password(home, OWNER, "a fresh password", now=1.0)
    people.open_session(home, OWNER, "late", 2.0, old)
    assert people.read(home)[OWNER]["sessions"] == {}


def test_without_the_key_every_session_ends(owner: Browser) -> None:
    """session.key is made anew where it was removed, and what was signed by the old one is nobody's; one that was
    emptied is said in the server's log."""
    key = Path(owner.home, "session.key")
    old = key.read_text()
    key.unlink()
    assert "Sign in" in owner.get()
    assert key.read_text() != old
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.write_text("")
    assert owner.get().status == 503
    assert "holds no key" in owner.errors


def test_an_older_key_goes_on_until_it_is_removed(owner: Browser) -> None:
    """A line added to session.key signs from then on; cookies of the line before it still count."""
    key = Path(owner.home, "session.key")
    key.write_text(key.read_text() + "ab" * 32 + "\n")
    assert "Sign out" in owner.get()
    key.write_text("ab" * 32 + "\n")
    assert "Sign in" in owner.get()


def test_another_installation_on_the_same_host(inhabited: Installation, tmp_path: Path) -> None:
    """Its cookie, under the same name, is nobody's here, and ours counts beside it; each has the path of its mount."""
    other = Installation(tmp_path / "other")
    populate(other)
    theirs, ours = Browser(other, SCRIPT_NAME=""), Browser(inhabited)
    theirs.sign_in()
    assert "; Path=/; " in theirs.last_cookie
    ours.cookies = dict(theirs.cookies)
    assert "Sign in" in ours.get()
    ours.sign_in()
    both = "; ".join(f"{session.COOKIE}={each.cookies[session.COOKIE]}" for each in (ours, theirs))
    assert "Sign out" in ours.request("/cron/admin/", HTTP_COOKIE=both)  # the longer path comes first: RFC 6265, 5.4


def test_a_secret_is_shown_once_whatever_is_kept(inhabited: Installation) -> None:
    """A copy of the cookies shows it no second time, and another session never."""
    registered(inhabited)
    eve = Browser(inhabited)
    eve.sign_in("eve")
    eve.get("secret", name="task")
    page = eve.submit("secret", follow=False)
    kept = dict(eve.cookies)
    assert session.NOTICE in kept
    other = Browser(inhabited)
    other.sign_in()
    other.cookies[session.NOTICE] = kept[session.NOTICE]
    secret = inhabited.row("task")["secret"]
    assert secret not in other.request(str(page.header("Location")))
    assert secret in eve.request(str(page.header("Location")))

    for _ in range(2):
        eve.cookies = dict(kept)
        assert secret not in eve.request(str(page.header("Location")))


def test_brute_force_is_slowed_and_locks_nobody_out(inhabited: Installation) -> None:
    """One address gets ten tries, whatever the names; others go on; the right password does not help while it waits;
    minutes later it does. A browser that signed in before is not disturbed by anybody."""
    clock = Clock()
    known = Browser(inhabited, clock=clock, REMOTE_ADDR="192.0.2.99")
    known.sign_in()
    known.submit("sign-out")
    attacker = Browser(inhabited, clock=clock, REMOTE_ADDR="192.0.2.66")
    attacker.get("sign-in")

    for number in range(10):
        assert "Wrong name or password." in attacker.submit("sign-in", user=f"user{number}", password="guess")

    assert "Too many failed sign-ins" in attacker.submit("sign-in", user=OWNER, password=PASSWORD)
    other = Browser(inhabited, clock=clock, REMOTE_ADDR="192.0.2.67")
    assert "Sign out" in other.sign_in()

    with throttle.changing(str(inhabited.home)) as found:
        for number in range(200):  # from many addresses: all strangers wait
            throttle.count(found, [f"ip {number}", "all"], clock.now)

    stranger = Browser(inhabited, clock=clock, REMOTE_ADDR="192.0.2.68")
    assert "Too many failed sign-ins" in stranger.sign_in()
    assert "Sign out" in known.sign_in()
    clock.now += 600
    assert "Sign out" in stranger.sign_in()
    assert "Sign out" in attacker.sign_in()


def test_one_password_is_no_way_to_others(inhabited: Installation) -> None:
    """Signing in as oneself, and changing one's own password, forgive no try at the password of somebody else."""
    clock = Clock()
    viewer = Browser(inhabited, clock=clock)

    for _ in range(9):
        viewer.get("sign-in")
        viewer.submit("sign-in", user=OWNER, password="guess")

    viewer.sign_in("victor")
    viewer.get("account")
    assert "Your password is changed" in viewer.submit("account", old=PASSWORD, password="a fresh password",
                                                       again="a fresh password")
    viewer.cookies.clear()
    viewer.get("sign-in")
    assert "Wrong name or password." in viewer.submit("sign-in", user=OWNER, password="guess")
    assert "Too many failed sign-ins" in viewer.submit("sign-in", user=OWNER, password="guess")


def test_a_clock_that_was_wrong_locks_nobody_out(inhabited: Installation) -> None:
    """Tries that were counted in a year that has not come are forgotten like those of the past."""
    now = time.time()
    found: dict[str, Any] = {"ip x": [10.0, now + 10 * 365 * 86400]}
    assert throttle.count(found, ["ip x"], now)


def audit(installation: Installation) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (installation.home / "audit.jsonl").read_text().splitlines()]
    return [(line["who"], line["did"], line["to"]) for line in lines]


def test_tries_leave_a_line_a_minute(inhabited: Installation) -> None:
    """Whoever cannot sign in can neither fill audit.jsonl nor wash away what it holds; failed tries and refused ones
    have a line each, and the next minute has its own. What was typed for a name is kept only if somebody has it: it may
    be a password in the wrong field."""
    Path(inhabited.home, "users.json").write_text(json.dumps({OWNER: ROW}))
    clock = Clock()
    attackers = [Browser(inhabited, clock=clock, REMOTE_ADDR=f"192.0.2.{number}") for number in range(3)]

    for number in range(40):
        attacker = attackers[number % 3]
        attacker.get("sign-in")
        attacker.submit("sign-in", user=OWNER if number % 2 == 0 else "my secret", password="guess")

    assert audit(inhabited) == [(None, "sign-in failed", OWNER), (None, "sign-in refused", OWNER)]
    clock.now += 61
    attackers[0].submit("sign-in", user="my secret", password="guess")
    assert audit(inhabited)[2:] == [(None, "sign-in failed", "")]


def test_the_address_that_a_proxy_added_counts(inhabited: Installation) -> None:
    """However much the client wrote before it: the last address is the proxy's word, and what is counted."""
    inhabited.configure(trustedProxies=["192.0.2.1"])
    browser = Browser(inhabited, HTTP_X_FORWARDED_FOR="198.51.100.1, " * 900 + "203.0.113.5")
    browser.get("sign-in")
    browser.submit("sign-in", user=OWNER, password="guess")
    line, = map(json.loads, (inhabited.home / "audit.jsonl").read_text().splitlines())
    assert line["ip"] == "203.0.113.5"


def test_what_was_done_is_kept_to_a_size(inhabited: Installation) -> None:
    """audit.jsonl and the one file before it: two MiB, whatever happens, and nothing of them is lost on the way."""
    home = str(inhabited.home)
    file = inhabited.home / "audit.jsonl"
    lines = [f'{{"did": "{number}"}}\n' for number in range(people.AUDIT_LIMIT // 15)]
    file.write_text("".join(lines))
    people.note(home, 1.0, None, "", "first")
    people.note(home, 1.0, None, "", "second")
    assert [line["did"] for line in map(json.loads, file.read_text().splitlines())] == ["first", "second"]
    before = (inhabited.home / "audit.jsonl.1").read_text()
    assert people.AUDIT_LIMIT - 20 < len(before) <= people.AUDIT_LIMIT
    assert "".join(lines).endswith(before)
    assert sorted(each.name for each in inhabited.home.glob("audit*") if each.suffix != ".lock") == [
        "audit.jsonl", "audit.jsonl.1"]


def test_nobody_washes_out_what_others_did(inhabited: Installation) -> None:
    """However much one person does: of each the newest lines stay, and what somebody names is not kept at length."""
    home, file = str(inhabited.home), inhabited.home / "audit.jsonl"
    people.note(home, 1.0, people.Person(OWNER, "owner"), "192.0.2.1", "restored a backup")
    people.note(home, 1.0, people.Person("eve", "editor"), "192.0.2.1", "enabled", "x" * 5000)
    assert file.stat().st_size < 500

    for turn in range(3):
        with open(file, "a") as lines:
            for number in range(people.AUDIT_LIMIT // 40):
                lines.write(json.dumps({"who": "eve", "did": "enabled", "to": f"{turn} {number}"}) + "\n")

        people.note(home, 1.0, people.Person("eve", "editor"), "192.0.2.1", "disabled", str(turn))

    before = [json.loads(line) for line in (inhabited.home / "audit.jsonl.1").read_text().splitlines()]
    assert (before[0]["who"], before[0]["did"]) == (OWNER, "restored a backup")
    assert before[-1]["to"].startswith("2 ")
    assert (inhabited.home / "audit.jsonl.1").stat().st_size <= people.AUDIT_LIMIT


def test_what_does_not_exist_is_not_noted(inhabited: Installation) -> None:
    """Neither the name of a task nor of a person that there is not, at whatever length."""
    browser = Browser(inhabited)
    browser.sign_in()
    browser.get("account")
    before = audit(inhabited)

    for page in ("clear", "run-now", "enable", "secret", "delete", "cancel", "edit"):
        answer = browser.post(f"/cron/admin/{page}?name={'x' * 4000}", {"token": browser.token(), "do": "save"}, False)
        assert answer.status == 404, page

    browser.get("people")
    assert browser.submit("people", do="remove", user="x" * 4000).status == 422
    assert audit(inhabited) == before


def test_simultaneous_tries_are_counted_before_they_are_looked_at(inhabited: Installation) -> None:
    """The count is taken under a lock before the password is checked, so that a burst cannot outrun it."""
    home = str(inhabited.home)
    taken = []

    for _ in range(30):
        with throttle.changing(home) as found:
            taken.append(throttle.count(found, ["ip x"], 1000.0))

    assert taken == [True] * 10 + [False] * 20


def cheap(password: str, role: str) -> dict[str, Any]:
    """A person whose password is checked at once, for tests of many sign-ins."""
    key = hashlib.scrypt(password.encode(), salt=b"0" * 16, n=2, r=1, p=1, dklen=32).hex()
    return {"role": role, "password": f"scrypt$2$1$1${(b'0' * 16).hex()}${key}", "sessions": {}}


def test_counters_make_no_room_for_successes(inhabited: Installation) -> None:
    """Whoever has used up the tries of an address gets no others by signing in a thousand times as somebody else, which
    once pushed out what was counted; the file stays small."""
    Path(inhabited.home, "users.json").write_text(json.dumps({OWNER: cheap("out of reach", "owner"),
                                                              "victor": cheap(PASSWORD, "viewer")}))
    clock = Clock()
    attacker, viewer = (Browser(inhabited, clock=clock) for _ in range(2))
    attacker.get("sign-in")

    for number in range(10):
        assert "Wrong name or password." in attacker.submit("sign-in", user=OWNER, password=f"guess{number}")

    assert "Too many failed sign-ins" in attacker.submit("sign-in", user=OWNER, password="guess")
    home = str(inhabited.home)
    viewer.cookies[session.DEVICE] = session.sign(home, "device", ["victor", "first"])
    viewer.get("sign-in")
    stranger, token = viewer.cookies[session.STRANGER], viewer.token()

    for _ in range(1001):
        viewer.cookies = {session.STRANGER: stranger, session.DEVICE: viewer.cookies[session.DEVICE]}
        form = {"token": token, "user": "victor", "password": PASSWORD}
        assert viewer.post("/cron/admin/sign-in", form, follow=False).status == 303

    assert "Too many failed sign-ins" in attacker.submit("sign-in", user=OWNER, password="guess")
    assert len(json.loads(Path(inhabited.home, "throttle.json").read_text())) < 10


@pytest.mark.parametrize("addresses", [
    [f"2001:db8:1:{number:x}::1" for number in range(256)],
    [f"2001:db8:1:{256 * number:x}::1" for number in range(256)],
    [f"203.0.113.{number}" for number in range(256)]], ids=["a /56", "a /48", "a /24"])
def test_a_network_locks_out_no_strangers(inhabited: Installation, addresses: list[str]) -> None:
    """All that a customer's network can send, each try from another address and for an hour, leaves room for a new
    browser."""
    Path(inhabited.home, "users.json").write_text(json.dumps({OWNER: cheap(PASSWORD, "owner")}))
    clock = Clock()
    attacker = Browser(inhabited, clock=clock)
    attacker.get("sign-in")
    form = {"token": attacker.token(), "user": OWNER, "password": "guess"}

    for place, address in enumerate(addresses * 4):
        attacker.post("/cron/admin/sign-in", form, headers={"REMOTE_ADDR": address})

        if place % 100 == 99:
            stranger = Browser(inhabited, clock=clock, REMOTE_ADDR="198.51.100.7")
            assert "Sign out" in stranger.sign_in()
            clock.now += 360
            attacker.get("sign-in")
            form["token"] = attacker.token()


def test_addresses_are_bounded_and_networks_count_as_one() -> None:
    """The file does not grow with the number of attackers or of a person's browsers, and one /64 of IPv6 is one
    attacker."""
    found: dict[str, list[float]] = {}

    for number in range(5000):
        throttle.count(found, [f"ip {number}", "all"], float(number))
        throttle.count(found, [f"device somebody {number}"], float(number))

    assert len(found) < 200
    assert throttle.networks("2001:db8:1:2::1") == throttle.networks("2001:db8:1:2:ffff::9")
    near, far = throttle.networks("2001:db8:1:2::1"), throttle.networks("2001:db8:1:3::1")
    assert (near[0] != far[0], near[1:]) == (True, far[1:])
    assert throttle.networks("::ffff:192.0.2.1") == throttle.networks("192.0.2.1")
    assert len(throttle.networks("unix")) == len(throttle.networks("")) == 1


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)",
                                "../../evil", "sign-out", "task?name=x\r\nSet-Cookie: a=b", "sign-in?to=sign-in",
                                "history?admin=evil", "task?page=x", "task?self=x", "task?name=%FF"])
def test_signing_in_leads_nowhere_else(inhabited: Installation, to: str) -> None:
    """The page to go on to is one of this panel's, whatever a link says; nothing of it becomes a header of its own."""
    browser = Browser(inhabited)
    browser.get("sign-in", to=to)
    page = browser.submit("sign-in", follow=False, user=OWNER, password=PASSWORD)
    assert page.status == 303
    assert str(page.header("Location")).startswith("/cron/admin/")
    assert "evil.example" not in str(page.header("Location"))
    assert not any("\r" in value or "\n" in value for _, value in page.headers)
    assert [name for name, value in page.headers if name == "Set-Cookie" and value.startswith("a=")] == []


def test_remote_user_and_headers_are_never_believed(inhabited: Installation) -> None:
    browser = Browser(inhabited, REMOTE_USER=OWNER, HTTP_REMOTE_USER=OWNER, HTTP_X_REMOTE_USER=OWNER,
                      HTTP_X_WEBSCHEDULER_USER=OWNER, AUTH_TYPE="Basic")
    assert "Sign in" in browser.get()


def test_an_embedding_site_says_who_is_signed_in(inhabited: Installation) -> None:
    """By a callable or in the environ; then the site's word alone counts, and the panel's own door is closed."""
    said = {"name": "Zoë", "role": "editor"}
    browser = Browser(inhabited, user=lambda environ: said)
    assert "Zoë" in browser.get()
    assert "New task" in browser.page
    assert "sign-out" not in browser.page
    assert browser.get("people").status == 403
    assert browser.get("sign-in").url == "/cron/admin/"

    for nobody in (None, {}, {"name": "x", "role": "root"}, {"role": "owner"}, "al", {"name": None, "role": "owner"},
                   {"name": "", "role": "owner"}):
        assert Browser(inhabited, user=lambda environ, nobody=nobody: nobody).get().status == 403

    assert "Zoë" in Browser(inhabited, **{"webscheduler.user": said}).get()
    stranger = Browser(inhabited, **{"webscheduler.user": None})
    assert stranger.get().status == 403
    assert stranger.get("sign-in").url == "/cron/admin/"


def test_people_are_managed_by_owners(owner: Browser) -> None:
    """Adding, another role, a new password, removing; each told, noted in audit.jsonl, and refused where nobody would
    be owner any more."""
    owner.get("people")
    add = {"do": "set", "user": "nina", "password": "another password", "role": "editor"}
    assert "nina can sign in" in owner.submit("people", **add)
    assert people.verify(owner.home, "nina", "another password") == people.Person("nina", "editor")
    owner.submit("people", **{**add, "role": ""})  # the form's own choice: as before
    assert people.verify(owner.home, "nina", "another password") == people.Person("nina", "editor")
    owner.submit("people", do="role", user="nina", role="viewer")
    assert people.verify(owner.home, "nina", "another password") == people.Person("nina", "viewer")
    assert owner.submit("people", do="remove", user=OWNER).status == 422
    owner.submit("people", do="remove", user="nina")
    assert "nina" not in people.read(owner.home)
    lines = [json.loads(line) for line in Path(owner.home, "audit.jsonl").read_text().splitlines()]
    assert [(line["who"], line["did"], line["to"]) for line in lines] == [
        (OWNER, "signed in", ""), (OWNER, "set the password of", "nina"), (OWNER, "set the password of", "nina"),
        (OWNER, "changed the role of", "nina"), (OWNER, "removed the person", "nina")]
