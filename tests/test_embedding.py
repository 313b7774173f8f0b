# SPDX-License-Identifier: LGPL-3.0-or-later
"""The application inside other sites: Flask's dispatcher and Django's URL space, behind a real server.

Rule: the sites are those of the documentation, `tests/embedding/`, each in a process of its own, and are talked to by
HTTP alone.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from tests import CHECKOUT, python_path
from tests.commandline import call
from tests.embedding import needs, shown
from tests.installation import PATIENCE, Installation, asking, python_options, until, waits_for
from tests.servers.server import free_port
from webscheduler import create_app

SITES = {"flask": "", "django": "/shop"}  # and where the site itself is mounted

# What somebody may send who wants to be somebody else.
IMPOSTURES = {
    "Remote-User": "olga", "X-Remote-User": "olga", "X-Forwarded-User": "olga", "Webscheduler.user": "olga",
    "Webscheduler-User": '{"name": "olga", "role": "owner"}', "Authorization": "Basic b2xnYTpvbGdh",
    "Cookie": "webscheduler=olga; session=olga; sessionid=olga",
}

# What a test adds to the function of a site that the documentation shows.
ADDED = """
    from django.apps import apps
    from django.conf import settings

    print(apps.ready, settings.CURRENCY)
"""


class Page(NamedTuple):
    """What the client of a site gets."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)


class Site:
    """A site in a process of its own, and a browser that keeps its cookies."""

    def __init__(self, name: str, installation: Installation, directory: Path, mount: str) -> None:
        self.mount, self.installation = mount, installation
        self.cookies: SimpleCookie = SimpleCookie()
        self.port = free_port()
        file = CHECKOUT / "tests" / "embedding" / f"{name}_site.py"
        environment = {
            "PATH": os.environ["PATH"], **python_path(), "WEBSCHEDULER_HOME": str(installation.home),
            "SITE_KEY": "a key that only this test knows", "SITE_DATABASE": str(directory / "site.sqlite"),
            **python_options(),
        }

        if name == "django":
            subprocess.run([sys.executable, str(file)], env=environment, check=True)

        self.process = subprocess.Popen(
            [sys.executable, str(CHECKOUT / "tests" / "servers" / "serve.py"), "waitress", str(self.port), mount,
             str(file)], env=environment, stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == b"the server is ready\n"

    def ask(
        self, path: str, method: str = "GET", form: Mapping[str, str] | None = None, **headers: str
    ) -> Page:
        """Make a request below the site, with its cookies unless a header says otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}

        if self.cookies:
            sent.setdefault("Cookie", "; ".join(f"{one.key}={one.value}" for one in self.cookies.values()))

        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"

        try:
            connection.request(method, self.mount + path, None if form is None else urlencode(form), sent)
            answer = connection.getresponse()
            # As a client that has all it was promised: it does not wait for the end of the connection.
            text = answer.read(int(answer.headers["Content-Length"])).decode()
        finally:
            connection.close()

        for cookie in answer.headers.get_all("Set-Cookie") or ():
            self.cookies.load(cookie)

        return Page(answer.status, answer.headers, text)

    def trigger_path(self, name: str = "task") -> str:
        """Where `webscheduler url` would point, below the site."""
        row = self.installation.row(name)
        return f"/cron/run/{row['slug']}?sig={self.installation.signature(name)}"

    def sign_in(self, name: str) -> None:
        assert self.ask("/login", "POST", {"name": name, "password": name}).text == "welcome"

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, installation: Installation, tmp_path: Path) -> Iterator[Site]:
    """Each of the sites; one at the root of its server, one below a prefix."""
    needs(request.param)
    needs("waitress")
    made = Site(request.param, installation, tmp_path, SITES[request.param])

    try:
        yield made
    finally:
        made.end()


def test_the_site_goes_on(site: Site) -> None:
    """What is not below the mount point is the site's own."""
    assert site.ask("/").text == f"the site itself, at {site.mount}"
    assert site.ask("/cronies").status == 404


@pytest.mark.parametrize("strategy", ["fork", "sync"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_signed_url_runs_its_task(site: Site, strategy: str, method: str) -> None:
    """Below the mount a signed URL runs its task once, to its end, by the strategy that the task asks for."""
    site.installation.add(argv=["echo", "done"], strategy=strategy)
    answer = site.ask(site.trigger_path(), method)
    assert (answer.status, answer.document["strategy"]) == (200 if strategy == "sync" else 202, strategy)

    site.installation.idle()
    run, = site.installation.runs()
    assert (run["status"], run["output"], run["strategy"]) == ("success", "done\n", strategy)
    assert run["run"] == answer.document["run"]


def test_close_runs_after_the_answer(site: Site, tmp_path: Path) -> None:
    """`close` keeps its word in a site: the client has the whole answer while the command still runs, and the run
    ends well."""
    gate = tmp_path / "gate"
    site.installation.add(argv=waits_for(gate), strategy="close")
    answer = site.ask(site.trigger_path())
    assert (answer.status, answer.document["strategy"]) == (202, "close")

    facts = site.installation.command_runs()  # the command is alive and its answer already here
    assert facts["run"] == answer.document["run"]
    assert not site.installation.runs()

    gate.touch()
    site.installation.idle()
    run, = site.installation.runs()
    assert (run["status"], run["output"], run["strategy"]) == ("success", "begun\nended\n", "close")


def test_the_signature_may_be_in_a_form(site: Site) -> None:
    """A POST body reaches the scheduler through the site."""
    site.installation.add(argv=["true"], strategy="sync")
    path = site.trigger_path().partition("?")[0]
    assert site.ask(path, "POST", {"sig": "0" * 64}).document == {"accepted": False}
    assert site.ask(path, "POST", {"sig": site.installation.signature()}).document["status"] == "success"


def test_path_and_query_are_the_same(site: Site) -> None:
    """The query variant works at the mount point itself."""
    site.installation.add(argv=["true"], strategy="sync")
    path, _, signature = site.trigger_path().partition("?")
    slug = path.rpartition("/")[2]
    assert site.ask(f"/cron?task={slug}&{signature}").document["status"] == "success"


def test_refusals_are_the_same_bytes(site: Site) -> None:
    """Through the site, too, a wrong signature and an unknown slug cannot be told apart, and run nothing."""
    site.installation.add(argv=["true"])
    path = site.trigger_path().partition("?")[0]
    answers = {(page.status, page.text) for page in (
        site.ask(path), site.ask(f"{path}?sig={'0' * 64}"), site.ask(f"/cron/run/{'0' * 32}?sig={'0' * 64}"))}
    assert answers == {(202, '{"accepted": false}')}
    assert site.ask("/cron/nothing").status == 404
    assert not site.installation.history()


@pytest.mark.parametrize("strategy", ["fork", "close", "sync"])
def test_nothing_of_the_request_reaches_the_command(site: Site, strategy: str) -> None:
    """No header, cookie, query, body or variable of the site is seen by the command: argv, input and environment are
    those of the task."""
    site.sign_in("olga")
    site.installation.add(argv=["/bin/sh", "-c", 'echo "$#" "$@"; cat; env', "sh", "fixed"], strategy=strategy)
    needle = "needle-in-the-request"
    site.ask(f"{site.trigger_path()}&argument={needle}&argv={needle}", "POST",
             {"arguments": needle, "environment": needle}, X_Webscheduler_Arguments=needle, Proxy=needle,
             User_Agent=needle, Referer=needle, Authorization=f"Basic {needle}")
    site.installation.idle()
    run, = site.installation.runs()
    assert run["status"] == "success"
    first, *variables = run["output"].splitlines()
    assert first == "1 fixed"
    assert needle not in json.dumps(run)

    names = {line.partition("=")[0] for line in variables}
    assert not {name for name in names if name.startswith(("HTTP_", "SITE_", "REQUEST_", "SERVER_"))}
    assert not names & {"QUERY_STRING", "PATH_INFO", "SCRIPT_NAME", "REMOTE_ADDR", "REMOTE_USER", "CONTENT_TYPE"}
    assert "a key that only this test knows" not in run["output"]


def test_the_panel_knows_the_sites_people(site: Site) -> None:
    """Who is signed in at the site is signed in at the panel, in the role that the site gives."""
    site.installation.add("nightly")
    site.installation.configure(baseUrl="https://example.org/cron")

    for name, sees_url in (("olga", True), ("vera", False)):
        site.cookies.clear()
        site.sign_in(name)
        page = site.ask("/cron/admin/")
        assert page.status == 200
        assert "nightly" in page.text
        detail = site.ask("/cron/admin/task?name=nightly")
        assert detail.status == 200
        assert (site.installation.signature("nightly") in detail.text) is sees_url
        assert (site.ask("/cron/admin/edit").status == 200) is sees_url


def test_links_and_cookies_stay_below_the_mount(site: Site) -> None:
    """The panel's links, forms and cookies carry the mount, and the bare address leads to the panel."""
    site.sign_in("olga")
    root = f"{site.mount}/cron"
    bare = site.ask("/cron")
    assert (bare.status, bare.headers["Location"]) == (303, f"{root}/admin/")

    page = site.ask("/cron/admin/")
    own = [cookie for cookie in page.headers.get_all("Set-Cookie") or () if cookie.strip().startswith("webscheduler")]
    assert own
    assert all(f"path={root};" in cookie.lower() + ";" for cookie in own), own
    links = re.findall(r'(?:href|src|action)="([^"]*)"', page.text)
    assert links
    assert all(link.startswith((f"{root}/admin", "#", "?")) for link in links), links


def test_a_form_of_the_panel_works(site: Site) -> None:
    """A button of the panel does its work through the site, with the panel's token and not without."""
    site.installation.add("nightly", argv=["true"], enabled=True)
    site.sign_in("olga")
    page = site.ask("/cron/admin/task?name=nightly")
    form = re.search(r'<form[^>]* action="([^"]*/run-now[^"]*)".*?</form>', page.text, re.DOTALL)
    assert form
    fields = {unescape(name): unescape(value) for name, value in re.findall(r'name="([^"]*)" value="([^"]*)"', form[0])}
    path = unescape(form[1])[len(site.mount):]
    origin = f"http://127.0.0.1:{site.port}"

    assert site.ask(path, "POST", {**fields, "token": "0" * 64}, Origin=origin).status == 403
    assert site.ask(path, "POST", fields, Origin="http://elsewhere.example").status == 403
    assert not site.installation.runs("nightly")

    assert site.ask(path, "POST", fields, Origin=origin).status == 303
    run, = until(lambda: site.installation.runs("nightly"), "the run")
    assert run["trigger"] == "admin"


def test_strangers_stay_out(site: Site) -> None:
    """Who is not signed in at the site, or is nobody there, sees nothing of the panel, whatever the headers say."""
    site.installation.add("nightly")
    pages = [site.ask("/cron/admin/", **headers) for headers in (
        {}, *({name: value} for name, value in IMPOSTURES.items()), IMPOSTURES)]
    site.cookies.clear()
    site.sign_in("nobody")
    pages.append(site.ask("/cron/admin/"))
    assert {page.status for page in pages} == {403}
    assert not [page for page in pages if "nightly" in page.text]


@pytest.mark.parametrize("user", [
    "olga", {"name": "olga"}, {"name": "olga", "role": "root"}, {"name": "olga", "role": None},
    {"name": None, "role": "owner"}, {"role": "owner"}, ["olga", "owner"], True,
])
@pytest.mark.parametrize("way", ["parameter", "variable"])
def test_only_a_name_and_a_known_role_let_in(installation: Installation, user: object, way: str) -> None:
    """A site that hands over anything but {"name", "role"} lets nobody in."""
    installation.add("nightly")
    status, text = _panel(installation, way, user)
    assert status == 403
    assert "nightly" not in text


@pytest.mark.parametrize("way", ["parameter", "variable"])
def test_a_site_may_hand_over_its_user_either_way(installation: Installation, way: str) -> None:
    """create_app(user=…) and environ["webscheduler.user"] mean the same."""
    installation.add("nightly")
    assert "nightly" in _panel(installation, way, {"name": "olga", "role": "viewer"})[1]
    assert _panel(installation, way, None)[0] == 403


def test_server_variables_sign_nobody_in(installation: Installation) -> None:
    """REMOTE_USER, which some servers fill from an unchecked header, is not believed."""
    installation.add("nightly")
    answer = installation.wsgi(asking("/admin/", REMOTE_USER="olga", AUTH_TYPE="Basic", HTTP_REMOTE_USER="olga"))
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/cgi-bin/webscheduler.cgi/admin/sign-in")


def test_functions_of_a_site_are_commands(installation: Installation, tmp_path: Path) -> None:
    """The steps of the documentation make a function of a Django site a command, which runs after the site's set-up."""
    needs("django")
    shop = tmp_path / "site" / "shop"
    shop.mkdir(parents=True)
    (shop / "__init__.py").touch()
    (shop / "settings.py").write_text("SECRET_KEY = 'x'\nUSE_TZ = True\nCURRENCY = 'CHF'\n")
    (shop / "tasks.py").write_text(shown("site_tasks.py") + ADDED)
    (shop / "more.py").write_text(shown("arguments.py"))
    variables = json.dumps({"DJANGO_SETTINGS_MODULE": "shop.settings", "PYTHONPATH": str(tmp_path / "site")})

    for words in (["config", "set", "modules", "shop.tasks shop.more"], ["config", "set", "setup", "django:setup"],
                  ["config", "set", "environment", variables], ["sync"], ["run", "shop:clean"],
                  ["edit", "app:cleanup:expired", "--arguments", "a 'b c'"], ["run", "app:cleanup:expired"]):
        done = call(installation.home, *words)
        assert done.status == 0, done

    run, = installation.history("shop:clean")
    assert run["output"] == "True CHF\n"
    run, = installation.history("app:cleanup:expired")
    assert run["output"] == "removed: a b c\n"
    assert installation.row("shop:clean")["expression"] == "0 3 * * *"


def _panel(installation: Installation, way: str, user: object) -> tuple[int, str]:
    """(status, text) of the panel's first page for what a site says of its user."""
    application = create_app(str(installation.home), user=(lambda environ: user) if way == "parameter" else None)
    environ: dict[str, Any] = {**asking("/admin/"), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
                               "wsgi.errors": io.StringIO()}

    if way == "variable":
        environ["webscheduler.user"] = user

    started: list[str] = []
    body = b"".join(application(environ, lambda status, headers: started.append(status)))
    return int(started[0][:3]), body.decode()
