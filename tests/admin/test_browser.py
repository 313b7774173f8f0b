# SPDX-License-Identifier: LGPL-3.0-or-later
"""The panel in Debian's Chromium and Firefox, behind gunicorn and as CGI under Apache, with and without its script."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import CHECKOUT, SCRIPT
from tests.admin import browsers
from tests.admin.client import OWNER, PASSWORD, populate
from tests.admin.sample import PAGES, fill
from tests.installation import Installation, until, waits_for
from tests.servers import KINDS, Server, give, start, workplace
from webscheduler.admin import setup
from webscheduler.store import state

SERVERS = ("gunicorn-sync", "apache-cgid")
WSGI = "from webscheduler import application\n"


class Site(NamedTuple):
    """An installation behind a server."""

    installation: Installation
    server: Server
    user: str

    def own(self) -> None:
        """What the test wrote belongs to the user that the server runs as."""
        give(self.installation.home, self.user)


@pytest.fixture(scope="module")
def programs() -> Iterator[Any]:
    with browsers.browsers() as found:
        yield found


@pytest.fixture(params=browsers.PROGRAMS)
def browser(request: pytest.FixtureRequest, programs: Any) -> Any:
    return programs(request.param)


def cases(names: str, *both: tuple[Any, ...], chromium: Iterable[tuple[Any, ...]] = ()) -> pytest.MarkDecorator:
    """Cases for each browser, and those for Chromium alone: Firefox takes longer, and need not see each pair."""
    return pytest.mark.parametrize(["browser", *names.split()], [
        *(("chromium", *case) for case in (*both, *chromium)), *(("firefox", *case) for case in both)],
        indirect=sorted({"browser", "site"} & {"browser", *names.split()}))


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with serving(request.param, tmp_path) as found:
        yield found


def serving(name: str, tmp_path: Path, make: bool = True) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def running() -> Iterator[Site]:
        kind = KINDS[name]
        source = SCRIPT

        if kind.family == "wsgi":
            source = tmp_path / "app.py"
            source.write_text(WSGI)

        with workplace(kind) as directory:
            home = directory / "account" / ".webscheduler"
            home.parent.mkdir()
            give(home.parent, kind.user)
            installation = Installation(home) if make else Installation.__new__(Installation)
            installation.home = home

            try:
                with start(kind, directory, source, env={"WEBSCHEDULER_HOME": str(home)}) as server:
                    if make:
                        installation.configure(baseUrl=server.url)
                        populate(installation)
                        give(home, kind.user)

                    yield Site(installation, server, kind.user)
            finally:
                installation.end()

    return running()


class Visitor:
    """A person at the browser; whatever goes wrong in the page's console is an error."""

    def __init__(self, browser: Any, site: Site, script: bool = True, host: str = "127.0.0.1", **options: Any) -> None:
        self.url = site.server.url.replace("127.0.0.1", host)
        self.context = browser.new_context(java_script_enabled=script, locale=options.pop("locale", "en-GB"), **options)
        self.context.set_default_timeout(15000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()

    def go(self, page: str = "") -> None:
        from playwright.sync_api import Error

        try:
            self.page.goto(f"{self.url}/admin/{page}")
        except Error as error:  # Firefox: what a click before it began
            if "interrupted by another navigation" not in str(error):
                raise

            self.page.wait_for_load_state()
            self.page.goto(f"{self.url}/admin/{page}")

    def sign_in(self, name: str = OWNER, password: str = PASSWORD) -> None:
        self.go()
        self.page.fill("#user", name)
        self.page.fill("#password", password)
        self.page.click("button.main")
        self.page.wait_for_selector(".who")
        self.page.wait_for_load_state()

    def post(self, page: str) -> bytes:
        """Press a button that leads to the page; what came back."""
        with self.page.expect_navigation() as found:
            self.page.evaluate("to => { const form = document.querySelector('form[action$=sign-out]'); "
                               "form.action = to; form.submit(); }", f"{self.url}/admin/{page}")

        answer = found.value
        assert answer.status == 200, page
        assert answer.url.endswith(page), "led elsewhere"
        return bytes(answer.body())

    def says(self, text: str) -> None:
        """Wait until the page shows the text, and is there as a whole, with what its script does at once."""
        self.page.get_by_text(text).locator("visible=true").first.wait_for()
        self.page.wait_for_load_state()

    def draws(self) -> None:
        """Wait until the page was drawn as it is now: the second frame begins when the first is done."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def fetch(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return dict(json.loads(answer.read()))


@cases("site script", ("gunicorn-sync", True), chromium=[("gunicorn-sync", False), ("apache-cgid", True),
                                                         ("apache-cgid", False)])
def test_the_whole_way(browser: Any, site: Site, script: bool) -> None:
    """Sign in, make a task, copy its URL, call it, watch its live output, make a new secret (the old URL is refused),
    filter the history, delete the task, sign out."""
    go_on = site.installation.home / "go-on"
    site.installation.configure(baseUrl=site.server.url, commands={"watched": {"argv": waits_for(go_on),
                                                                               "description": "Waits"}})
    site.own()

    with Visitor(browser, site, script) as visitor:
        if script:
            visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])

        page = visitor.page
        visitor.sign_in()
        visitor.says("No tasks yet")
        page.click("text=New task")
        page.fill("#name", "shop:watched")
        page.select_option("#command", "watched")
        page.click("summary:has-text('More')")
        page.fill("#title", "Watched <task>")
        page.select_option("#kind", "daily")
        page.fill("input[name=at]", "03:00")

        if script:
            visitor.says("Every day at 03:00")
            assert not page.is_visible("input[name=amount]")
        else:
            page.click("text=Check the schedule")
            visitor.says("Every day at 03:00")

        page.click("button:has-text('Save')")
        visitor.says("Secret of this task")
        field = page.locator("input[id^=url-]")

        if script:
            page.click("button[data-copy^=url-]")
            visitor.says("Copied")
            url = page.evaluate("navigator.clipboard.readText()")
            assert url == field.input_value()
        else:
            url = field.input_value()
            assert not page.is_visible("button.copy")

        page.reload()
        assert "Secret of this task" not in page.content()
        assert "is created" not in page.content()
        assert page.locator("h1").inner_text() == "Watched <task>"

        answer = fetch(url)
        assert answer["accepted"] is True
        assert answer["status"] == "running"
        visitor.go("task?name=shop%3Awatched")
        page.click("tbody tr:first-child a")
        visitor.says("begun")
        go_on.touch()
        visitor.says("ended")
        page.locator(".badge.success").first.wait_for()

        page.click("text=Watched <task>") if page.locator("a:has-text('Watched <task>')").count() else visitor.go(
            "task?name=shop%3Awatched")
        page.click("text=New secret")
        page.click("button:has-text('Create a new secret')")
        visitor.says("The old URL no longer works.")
        fresh = page.locator("input[id^=url-]").input_value()
        assert fresh != url
        assert fetch(url) == {"accepted": False}

        visitor.go("history")
        page.select_option("select[name=status]", "problems")
        page.click("button:has-text('Filter')")
        visitor.says("No runs found")
        page.select_option("select[name=status]", "success")

        with page.expect_navigation():
            page.click("button:has-text('Filter')")

        assert page.locator("tbody tr").count() == 1

        visitor.go("task?name=shop%3Awatched")
        page.click("a:has-text('Delete')")
        page.click("button:has-text('Delete')")
        visitor.says("Watched <task> is deleted.")
        assert fetch(fresh) == {"accepted": False}
        page.click("button:has-text('Sign out')")
        visitor.says("You are signed out.")
        visitor.go()
        assert page.locator("#password").count() == 1
        assert visitor.complaints == []


@cases("site", ("gunicorn-sync",), chromium=[("apache-cgid",)])
def test_run_now_and_cancel(browser: Any, site: Site) -> None:
    """The button opens the live output at once; cancelling ends the run."""
    site.installation.add("long", argv=["/bin/sh", "-c", "echo started; exec sleep 600"])
    site.own()

    with Visitor(browser, site) as visitor:
        visitor.sign_in()
        visitor.page.click(".list button:has-text('Run now')")
        visitor.says("started")
        visitor.page.click("button:has-text('Cancel the run')")
        visitor.says("cancelled by hand")
        assert site.installation.runs("long")[0]["reason"] == "cancelled"
        assert visitor.complaints == []


@cases("script", (True,), chromium=[(False,)])
def test_many_tasks(browser: Any, tmp_path: Path, script: bool) -> None:
    """Of 500 tasks 20 are in sight; two letters typed into the search show the one that begins with them first, without
    a reload; the box in the head ticks all; and without the script the same by buttons."""
    with serving("gunicorn-sync", tmp_path) as site:
        row = site.installation.row(site.installation.add("t", argv=["/bin/true"], expression="*/10 * * * *"))
        tasks = {f"site{number:03}:job": {**row, "group": "abc"[number % 3], "slug": f"{number:032x}",
                                          "title": f"Nightly backup of site {number}"} for number in range(500)}
        tasks["invoices"] = {**row, "slug": "f" * 32}
        tasks["billing"] = {**row, "slug": "e" * 32}
        state.update(str(site.installation.home), lambda rows: rows.update(tasks))
        site.own()

        with Visitor(browser, site, script, viewport={"width": 1280, "height": 800}) as visitor:
            visitor.sign_in()
            page = visitor.page
            rows = page.locator(".list tbody tr")
            bottom = rows.nth(19).bounding_box()
            assert bottom["y"] + bottom["height"] <= 800
            page.focus("input[name=search]")
            page.keyboard.type("in")

            if not script:
                page.keyboard.press("Enter")

            visitor.says("Tasks 1 to 2 of 2")
            assert rows.first.locator("a").first.inner_text() == "invoices"
            boxes = page.locator("tbody input[type=checkbox]")

            if script:
                page.check("#all")
            else:
                boxes.first.check()

            assert boxes.first.is_checked()
            page.click("#selection button[value=disable]")
            visitor.says(f"Tasks disabled: {2 if script else 1}.")
            assert site.installation.row("invoices")["enabled"] is False
            assert site.installation.row("site000:job")["enabled"] is True
            assert visitor.complaints == []


@cases("site", chromium=[(name,) for name in SERVERS])
def test_french(browser: Any, site: Site) -> None:
    """A browser that asks for French gets it, errors included."""
    site.installation.add("task", argv=["/bin/true"], expression="0 3 * * *")
    site.own()

    with Visitor(browser, site, locale="fr-FR") as visitor:
        visitor.sign_in()
        assert visitor.page.locator("html").get_attribute("lang") == "fr"
        visitor.says("Tous les jours à 03:00")
        visitor.go("edit?name=task")
        visitor.page.fill("#priority", "beaucoup")
        visitor.page.click("button:has-text('Enregistrer')")
        visitor.says("doit être un nombre entier")
        assert visitor.page.input_value("#priority") == "beaucoup"


@cases("name host", ("gunicorn-sync", browsers.PLAIN), chromium=[
    ("gunicorn-sync", "127.0.0.1"), ("apache-cgid", "127.0.0.1"), ("apache-cgid", browsers.PLAIN)])
def test_setting_up(browser: Any, tmp_path: Path, name: str, host: str) -> None:
    """The first visit to an installation without a home leads to its owner and to the URL, which turns green at its
    first call; also over plain http, where browsers say little of where a form comes from."""
    with serving(name, tmp_path, make=False) as site, Visitor(
            browser, site, host=host, timezone_id="Asia/Tokyo") as visitor:
        page = visitor.page
        page.goto(visitor.url)
        page.click("text=Create the directory")
        visitor.says("First prove that this hosting account is yours")
        page.fill("#code", (site.installation.home / setup.CODE).read_text())
        assert page.input_value("#timezone") == "Asia/Tokyo"
        page.fill("#timezone", "Europe/Paris")
        assert page.input_value("#baseUrl") == visitor.url
        page.fill("#user", "zoe")
        page.fill("#password", PASSWORD)
        page.fill("#again", PASSWORD)
        page.click("button:has-text('Save')")
        visitor.says("Welcome.")
        assert page.locator(".due.waiting").count() == 1
        called = page.locator("input[id^=url-]").input_value().replace(host, "127.0.0.1")
        assert fetch(called)["accepted"] is True
        page.locator(".due.good").wait_for()
        site.installation.application = None
        assert [said for said in visitor.complaints if "Cross-Origin-Opener-Policy" not in said] == []  # https only


@cases("site", chromium=[(name,) for name in SERVERS])
def test_the_probe_is_made_by_the_browser(browser: Any, site: Site) -> None:
    """One click calls the three URLs one after the other, and what lived is shown with its time."""
    with Visitor(browser, site) as visitor:
        visitor.context.set_default_timeout(120000)
        visitor.sign_in()
        visitor.go("diagnostics")
        visitor.page.click("button:has-text('Probe again')")
        visitor.says("The probe has ended")
        visitor.says("A probe of 10 s finished")
        assert '"fork"' in (site.installation.home / "capabilities.json").read_text()


@cases("site", ("gunicorn-sync",), chromium=[("apache-cgid",)])
def test_the_keyboard_is_enough(browser: Any, site: Site) -> None:
    """The first key leads to the content; every link, field and button can be reached and shows that it is."""
    site.installation.add("task", argv=["/bin/true"])
    site.own()

    with Visitor(browser, site) as visitor:
        visitor.sign_in()
        page = visitor.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.wait_for_url("**/#main")
        visitor.draws()  # the next Tab goes on from there once that is in sight
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('main') !== null")
        visitor.go()
        reached = set()

        for _ in range(40):
            page.keyboard.press("Tab")
            inside, outline, label = page.evaluate("(e => [document.hasFocus(), getComputedStyle(e).outlineStyle, "
                                                   "e.outerHTML.slice(0, 60)])(document.activeElement)")

            if not inside:  # Firefox goes on to its own buttons
                break

            reached.add(label)

            if label.startswith(("<a", "<button", "<input", "<summary")):
                assert outline != "none", label

        wanted = page.evaluate("[...document.querySelectorAll('a, button, input:not([type=hidden]), summary')].filter("
                               "e => e.checkVisibility()).map(e => e.outerHTML.slice(0, 60))")
        assert set(wanted) - reached == set()


TITLE = "e => (e.querySelector('time') || e).title"


@cases("site", ("gunicorn-sync",), chromium=[("apache-cgid",)])
def test_the_keyboard_shows_the_other_form_of_a_time(browser: Any, site: Site) -> None:
    """As the mouse does: of one that is in a link, and of one that is not."""
    site.installation.add("task", expression="0 3 * * *")
    site.installation.trigger("wsgi", "task")
    site.installation.idle()
    site.own()
    shown = "e => getComputedStyle(e.querySelector('time') || e, '::after').content"

    with Visitor(browser, site) as visitor:
        visitor.sign_in()
        visitor.go("task?name=task")
        page = visitor.page

        for selector in ("dd > time", "td a:has(time)"):
            found = page.locator(selector).first
            assert found.evaluate(shown) == "none"
            found.focus()
            page.keyboard.press("Shift+Tab")
            page.keyboard.press("Tab")
            said = found.evaluate(shown).replace("attr(title)", f'"{found.evaluate(TITLE)}"')  # which Firefox leaves
            assert re.fullmatch(r'"\d{4}-\d\d-\d\d \d\d:\d\d \w+"', said)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, str]]]:
    """A filled installation, served once for all checks of its pages."""
    with serving("gunicorn-sync", tmp_path_factory.mktemp("full")) as site:
        pages = fill(site.installation, site.server.url)
        site.own()
        yield site, {**pages, "crontab": "crontab"}


# Tables that are wider than their place; the timeline may be.
CUT = """[...document.querySelectorAll(".scroll:not(:has(svg.timeline))")].filter(
  e => e.scrollWidth > e.clientWidth).length"""
POSTED = ("check", "update", "probe")  # pages that answer a button, and are not to be had otherwise


@cases("width scheme", (1280, "light"), chromium=[(1280, "dark"), (360, "light"), (360, "dark")])
def test_no_page_violates_accessibility(
    browser: Any, full: tuple[Site, dict[str, str]], scheme: str, width: int
) -> None:
    """axe-core finds nothing, contrast included, on any page; and none is wider than its window."""
    site, pages = full

    with Visitor(browser, site, color_scheme=scheme, viewport={"width": width, "height": 800},
                 reduced_motion="reduce") as visitor:
        visitor.go("sign-in")
        found = {"sign-in": browsers.violations(visitor.page)}
        visitor.sign_in()

        for name, path in pages.items():
            visitor.go(path)
            found[name] = browsers.violations(visitor.page)
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert visitor.page.evaluate(CUT) == 0, name

        for name in POSTED:
            visitor.post(name)
            found[name] = browsers.violations(visitor.page)
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width, name

        assert {name: wrong for name, wrong in found.items() if wrong} == {}


@cases("locale", ("fr-FR",), chromium=[("en-GB",)])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, full: tuple[Site, dict[str, str]], locale: str) -> None:
    """At 360 px, in the longer language, too: no page is wider, and the menu has one line."""
    site, pages = full

    with Visitor(browser, site, locale=locale, viewport={"width": 360, "height": 740}) as visitor:
        visitor.sign_in()

        for name, path in pages.items():
            visitor.go(path)
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360, name
            lines = {box["y"] for link in visitor.page.locator(".top nav a").all() if (box := link.bounding_box())}
            assert len(lines) == 1, name


def test_live_output_grows(browser: Any, tmp_path: Path) -> None:
    """What was shown stays where it is, with what a person selected in it; the rest is added."""
    with serving("gunicorn-sync", tmp_path) as site:
        go_on = site.installation.home / "go-on"
        site.installation.add("task", argv=["/bin/sh", "-c", (
            f"echo first; while ! [ -e '{go_on}' ]; do sleep 0.1; done; echo second; exec sleep 600")])
        site.own()

        with Visitor(browser, site) as visitor:
            visitor.sign_in()
            visitor.page.click(".list button:has-text('Run now')")
            visitor.says("first")
            visitor.page.evaluate("getSelection().selectAllChildren(document.querySelector('.output'))")
            go_on.touch()
            visitor.says("second")
            assert visitor.page.evaluate("getSelection().toString().trim()").startswith("first")
            assert visitor.page.locator(".output").inner_text().split() == ["first", "second"]
            visitor.page.click("button:has-text('Cancel the run')")
            visitor.says("cancelled by hand")
            assert visitor.complaints == []


def test_what_is_wrong_with_a_schedule_is_said_once(browser: Any, full: tuple[Site, dict[str, str]]) -> None:
    """Beside it, also when the script has fetched the preview; what is wrong with a zone is said at the zone alone."""
    with Visitor(browser, full[0]) as visitor:
        visitor.sign_in()
        visitor.go("edit")
        page = visitor.page
        page.select_option("#kind", "cron")
        page.fill("input[name=expression]", "61 * * * *")
        visitor.says("is not within 0-59")

        for fields, said in (({}, "is not within 0-59"), ({"expression": "0 3 * * *", "timezone": "Paris"},
                                                          "did you mean 'Europe/Paris'?")):
            for name, text in fields.items():
                page.fill(f"input[name={name}]", text)

            with page.expect_navigation():
                page.click("button:has-text('Save')")

            assert page.locator("details[open] #timezone").is_visible()

            with page.expect_response("**/preview?*"):
                page.fill("#title", said[:5])

            page.wait_for_timeout(100)
            assert page.locator("main").inner_text().count(said) == 1


@pytest.mark.parametrize("browser", ["chromium"], indirect=True)
def test_every_page_is_valid_html(browser: Any, full: tuple[Site, dict[str, str]], tmp_path: Path) -> None:
    """The Nu HTML checker has nothing to say about any page, in either language."""
    site, pages = full

    for locale in ("en-GB", "fr-FR"):
        with Visitor(browser, site, locale=locale) as visitor:
            visitor.go("sign-in")
            sign_in = f"{site.server.url}/admin/sign-in"
            (tmp_path / f"{locale}-sign-in.html").write_bytes(visitor.context.request.get(sign_in).body())
            visitor.sign_in()

            for name, path in pages.items():
                body = visitor.context.request.get(f"{site.server.url}/admin/{path}").body()
                (tmp_path / f"{locale}-{name}.html").write_bytes(body)

            for name in POSTED:
                (tmp_path / f"{locale}-{name}.html").write_bytes(visitor.post(name))

    assert browsers.invalid(tmp_path) == []


@cases("site", ("gunicorn-sync",), chromium=[("apache-cgid",)])
def test_hostile_content_does_nothing_in_a_browser(browser: Any, site: Site) -> None:
    """Titles, names and output that are markup: no dialog opens, nothing is fetched from elsewhere, no element of
    theirs is there, and the policy has nothing to report."""
    evil = "\"'><script>alert(1)</script><img src=//evil.example/x onerror=alert(2)><style>*{display:none}</style>"
    site.installation.add("task", argv=["/bin/echo", evil], title=evil, description=evil, group=evil[:100])
    site.installation.configure(baseUrl=site.server.url, name=evil[:100])
    site.own()

    with Visitor(browser, site) as visitor:
        asked: list[str] = []
        visitor.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        visitor.page.on("request", lambda request: asked.append(request.url) if "evil" in request.url else None)
        visitor.sign_in()
        visitor.go("task?name=task")
        visitor.page.click("button:has-text('Run now')")
        until(lambda: site.installation.runs("task"), "the run")

        for page in ("", "task?name=task", "edit?name=task", "history", "delete?name=task",
                     f"run?name=task&run={site.installation.runs('task')[0]['run']}"):
            visitor.go(page)
            assert visitor.page.locator("img, style, script:not([src])").count() == 0
            assert visitor.page.is_visible("h1")

        assert asked == []
        assert visitor.complaints == []


FORM = ('<form method="post" action="{}"><input name="enabled" value="no"></form>'
        "<script>document.forms[0].submit()</script>")
ATTACKS = {
    "page": FORM,
    "hidden": '<meta name="referrer" content="no-referrer">' + FORM,
    "frame": f"<iframe sandbox='allow-forms allow-scripts' srcdoc='{FORM}'></iframe>",
}
REFUSED = ("chrome-error:", "about:neterror")  # in the place of a page that may not be in a frame


@cases("attack host", *((attack, browsers.PLAIN) for attack in ATTACKS),
       chromium=[(attack, "127.0.0.1") for attack in ATTACKS])
def test_another_site_cannot_send_a_form(browser: Any, tmp_path: Path, attack: str, host: str) -> None:
    """A page from elsewhere that posts with the visitor's browser, openly, or hiding where it comes from, or from a
    frame in a sandbox: no cookie goes along, and nothing changes, whether or not the browser says more than that; not
    even the visitor's session ends."""
    with serving("gunicorn-sync", tmp_path) as site:
        site.installation.add("task", argv=["/bin/true"])
        site.own()

        with Visitor(browser, site, host=host) as visitor:
            target = f"{visitor.url}/admin/enable?name=task"
            visitor.sign_in()
            evil = visitor.context.new_page()
            evil.route("**/evil", lambda route: route.fulfill(
                content_type="text/html", body=ATTACKS[attack].format(target)))


            if attack == "frame":  # what it is answered is not even shown: X-Frame-Options
                evil.goto("http://evil.example/evil")
                until(lambda: evil.wait_for_timeout(50) or evil.frames[1].url.startswith(REFUSED), "an answer")
            else:
                with visitor.context.expect_event("requestfinished", lambda request: request.url == target) as found:
                    evil.goto("http://evil.example/evil")

                headers = found.value.all_headers()
                assert "cookie" not in headers
                assert headers["origin"] == ("http://evil.example" if attack == "page" else "null")
                assert found.value.response().status == 403

            assert site.installation.row("task")["enabled"] is True
            visitor.go("task?name=task")
            visitor.page.click("button:has-text('Disable')")
            visitor.page.locator(".badge.off").first.wait_for()
            assert site.installation.row("task")["enabled"] is False


@cases("site", chromium=[(name,) for name in SERVERS])
def test_the_clock_of_this_machine_is_used(browser: Any, site: Site) -> None:
    """Relative times are those of the server: a run of now is seconds ago."""
    site.installation.add("task", argv=["/bin/true"])
    site.own()

    with Visitor(browser, site) as visitor:
        visitor.sign_in()
        site.installation.trigger("wsgi", "task")
        site.installation.idle()
        site.own()
        visitor.go()
        shown = visitor.page.locator("table.list a time").first.text_content()
        assert re.fullmatch(r"now|one second ago|\d+ seconds ago|one minute ago", shown or "")
        assert time.time() > 0


def test_there_are_pictures_of_each_page_and_no_others() -> None:
    """In docs/screenshots: of each page that the sample has, and of the three before somebody signs in."""
    from tests.admin.screenshots import SIZES

    pages = ("begin", "setup", "sign-in", "run", "live", *PAGES)
    assert {file.name for file in (CHECKOUT / "docs" / "screenshots").iterdir()} == {
        f"{page}-{size}-{scheme}.jpg" for page in pages for size in SIZES for scheme in ("light", "dark")}
