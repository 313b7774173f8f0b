# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whether a web server shows the home: tried with real ones, from `init`, the set-up and `doctor`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import SCRIPT, python_path
from tests.admin.client import PASSWORD
from tests.admin.test_setup import Client
from tests.installation import REFUSED, Installation
from tests.servers import KINDS, Server, as_user, give, python, start, workplace
from tests.test_doctor import site as answering
from webscheduler.admin import setup
from webscheduler.host import url_check
from webscheduler.host.findings import ERROR, OK, WARNING
from webscheduler.runs import retention
from webscheduler.store import people
from webscheduler.store.settings import load_settings

SERVERS = ("apache-cgid", "nginx-fcgiwrap")


class Site(NamedTuple):
    """A server that shows `directory/pages`, and at /~zoe the folder `directory/zoe/files`."""

    server: Server
    directory: Path
    user: str
    home: Path

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "WEBSCHEDULER_HOME": str(self.home)}
        return subprocess.run([python(), "-m", "webscheduler", *words], capture_output=True, text=True, env=env,
                              cwd=self.directory, **as_user(self.user))

    @property
    def zoe(self) -> str:
        return self.server.url.replace("/cgi-bin/", "/~zoe/cgi-bin/")


@contextmanager
def serving(name: str, place: str) -> Iterator[Site]:
    kind = KINDS[name]

    with workplace(kind) as directory:
        home = directory / place
        (directory / "pages").mkdir()
        (directory / "zoe" / "files").mkdir(parents=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        give(directory, kind.user)
        extra = [f"DocumentRoot {directory}/pages", f"ScriptAlias /~zoe/cgi-bin/ {directory}/cgi-bin/",
                 f"Alias /~zoe {directory}/zoe/files"]  # fmt: skip

        if name.startswith("nginx"):
            extra = [f"root {directory}/pages;", f"location /~zoe/ {{ alias {directory}/zoe/files/; }}"]

        env = {"WEBSCHEDULER_HOME": str(home).replace(" ", "")}  # no configuration takes it with a space

        with start(kind, directory, SCRIPT, env=env, extra=extra) as server:
            yield Site(server, directory, kind.user, home)


def markers(home: Path) -> list[str]:
    return [name for name in os.listdir(home) if name.startswith(url_check.MARKER)]


@pytest.mark.parametrize(("name", "place"), [
    *((name, place) for name in SERVERS for place in ("pages/.webscheduler", "pages/a b/é/files")),
    ("apache-cgid", "zoe/files/.webscheduler")])  # fmt: skip
def test_no_home_is_made_where_a_server_shows_it(name: str, place: str) -> None:
    """Not even an empty directory stays; a home that is there already is an error of `init` and of `doctor`."""
    with serving(name, place) as site:
        base = site.zoe if place.startswith("zoe") else site.server.url
        done = site.cli("init", "--base-url", base)
        assert done.returncode == 2, done.stdout
        assert "the web server shows http://127.0.0.1:" in done.stderr
        assert not site.home.exists()

        assert site.cli("init").returncode == 0
        assert site.cli("config", "set", "baseUrl", base).returncode == 0
        before = (site.home / "state.json").read_bytes()
        done = site.cli("init")
        assert (done.returncode, "the web server shows" in done.stderr) == (2, True)
        assert (site.home / "state.json").read_bytes() == before
        found = json.loads(site.cli("doctor", "--json").stdout)
        assert [each["state"] for each in found if "the web server shows" in each["text"]] == [ERROR]
        assert markers(site.home) == []


@pytest.mark.parametrize("name", SERVERS)
def test_a_home_that_no_server_shows(name: str) -> None:
    """`init` says so, and `doctor`."""
    with serving(name, "account/.webscheduler") as site:
        done = site.cli("init", "--base-url", site.server.url)
        assert done.returncode == 0, done.stderr
        assert f"{site.home}: the web server does not show it\n" in done.stdout
        found = json.loads(site.cli("doctor", "--json").stdout)
        assert [each["state"] for each in found if "does not show it" in each["text"]] == [OK]
        assert markers(site.home) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="the server must be another user than the home's owner")
@pytest.mark.parametrize("name", SERVERS)
def test_a_home_in_the_site_that_only_its_mode_protects(name: str) -> None:
    """As on hosts where scripts run as the account and the server as another: it may not open the directory, and says
    so, as it does not of one that is not there."""
    with serving(name, "pages/account/.webscheduler") as site:
        Installation(site.home)
        found = url_check.look(str(site.home), site.server.url)
        assert found.state == ERROR
        assert "is in the site, at http" in found.text()
        assert markers(site.home) == []


def test_what_is_not_known_is_not_believed(installation: Installation) -> None:
    """Without an address, where nothing answers, and where something else does: it is never said that no server shows
    the home."""
    home = str(installation.home)

    with serving("apache-cgid", "account/.webscheduler") as site:
        for base in (None, "", "http://127.0.0.1:9/x.cgi", site.server.url.replace("webscheduler.cgi", "other.cgi")):
            found = url_check.look(home, base)
            assert (found.state, found.about) == (WARNING, "home")
            assert "is not known" in found.text()
            assert markers(installation.home) == []


def test_what_a_killed_look_has_left_is_removed(installation: Installation) -> None:
    """By the next clean-up; its content is nothing but chance."""
    asked, over = threading.Event(), threading.Event()

    def answer(path: str, agent: str) -> tuple[int, dict[str, str], bytes]:
        if url_check.MARKER in path:
            asked.set()
            over.wait(60)

        return (202, {}, REFUSED) if "/run/" in path else (404, {}, b"")

    with answering(answer) as base:
        code = "import sys; from webscheduler.host import url_check; url_check.look(*sys.argv[1:])"
        looking = subprocess.Popen([sys.executable, "-c", code, str(installation.home), base],
                                   env={**os.environ, **python_path()})
        assert asked.wait(60)
        looking.kill()
        looking.wait()
        over.set()

    (left,) = markers(installation.home)
    settings = load_settings(str(installation.home))
    retention.clean(settings, time.time())
    assert markers(installation.home) == [left]
    retention.clean(settings, time.time() + 3 * 86400)
    assert markers(installation.home) == []


GOOD = {"language": "en", "timezone": "Europe/Paris", "user": "zoe", "password": PASSWORD, "again": PASSWORD}


def test_set_up_refuses_a_home_that_is_shown() -> None:
    """At the first step by what the server says of its root, and with the address by calling it: nothing is written."""
    with serving("apache-cgid", "pages/.webscheduler") as site:
        visitor = Client(site.server.url)
        visitor.open(site.server.url)
        assert visitor.submit() == 409
        assert "may serve" in visitor.text
        assert not site.home.exists()

    with serving("apache-cgid", "zoe/files/.webscheduler") as site:
        visitor = Client(site.zoe)
        visitor.open(site.zoe)
        assert visitor.submit() == 200
        code = (site.home / setup.CODE).read_text()
        assert visitor.submit(**GOOD, baseUrl=site.zoe, code=code) == 422
        assert "the web server shows" in visitor.text
        assert people.read(str(site.home)) == {}
        assert load_settings(str(site.home))["baseUrl"] is None
        assert markers(site.home) == []


@pytest.mark.parametrize("reached", [True, False])
def test_set_up_says_what_is_known(reached: bool) -> None:
    """That no server shows the home where calls arrive, and else that it is not known. It calls for its owner alone."""
    with serving("apache-cgid", "account/.webscheduler") as site:
        base = site.server.url if reached else "http://127.0.0.1:9/x.cgi"
        visitor = Client(site.server.url)
        visitor.open(site.server.url)
        assert visitor.submit() == 200

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            trap = f"http://127.0.0.1:{listener.getsockname()[1]}/x.cgi"
            assert visitor.submit(**GOOD, baseUrl=trap, code="0" * 32) == 422

            with pytest.raises(BlockingIOError):
                listener.accept()

        assert visitor.submit(**GOOD, baseUrl=base, code=(site.home / setup.CODE).read_text()) == 200
        assert ("The web server does not show the home directory." in visitor.text) is reached
        assert ("Whether a web server shows the home directory is not known" in visitor.text) is not reached

