# SPDX-License-Identifier: LGPL-3.0-or-later
"""The program is replaced while a run of it lives: the run goes on and ends with one line, and what decides about the
task's next run keeps what it knew.

As pip does it, the folder of the package is renamed away, and another one put in its place; a bundle is one file, put
in the place of the other. The old program is 0.1.0, out of the repository's history, and the new one today's; and
today's is removed altogether during a run, since its supervisor must have imported all that it needs before its command
began.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import PACKAGE, SCRIPT
from tests.outside import BASE, Outside, installed, signature, until, waits_for
from tests.released import unpack

FORMS = ("package", "bundle")
ENDS = {"succeeds": "success", "fails": "failed", "told": "interrupted"}  # by a TERM to its supervisor
SCRIPT_THAT_WAITS = 'echo begun; while [ ! -e "$0" ]; do sleep 0.02; done; echo ended; exit 7'


class Site:
    """A program in one of FORMS, at a place where it is used, and an installation that it serves."""

    def __init__(self, folder: Path, form: str, version: str) -> None:
        self.folder, self.form = folder, form
        self.place = folder / "site"
        self.go = folder / "go"
        source = unpack(version, folder / version) if version != "today" else PACKAGE.parent
        self.place.mkdir()
        self.put(source)
        self.library = self.place if form == "package" else None
        self.script = self.place / ("cgi-bin/webscheduler.cgi" if form == "package" else "webscheduler.cgi")

    def put(self, source: Path) -> None:
        """Put the program that is in `source` in the place of what is there."""
        if self.form == "package":
            self.remove()
            shutil.copytree(source / "webscheduler", self.place / "webscheduler",
                            ignore=shutil.ignore_patterns("__pycache__"))

            if not (self.place / "cgi-bin").exists():  # whoever upgrades leaves the script as it is
                shutil.copytree(SCRIPT.parent, self.place / "cgi-bin")
        else:
            made = self.folder / "bundle"
            environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(source)}
            subprocess.run([sys.executable, "-m", "webscheduler", "bundle", "--output", str(made)], check=True,
                           capture_output=True, env=environment, cwd=self.folder)
            made.replace(self.place / "webscheduler.cgi")

    def remove(self) -> None:
        """Remove the program, and what of it is cached."""
        if self.form == "bundle":
            (self.place / "webscheduler.cgi").unlink()
            shutil.rmtree(self.folder / "home" / "cache", ignore_errors=True)
        elif (self.place / "webscheduler").exists():
            (self.place / "webscheduler").rename(self.place / "~ebscheduler")
            shutil.rmtree(self.place / "~ebscheduler")


@pytest.fixture
def hook() -> Iterator[str]:
    """The URL of a webhook where nobody listens: what would be sent has to be made all the same."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def begin(home: Outside, name: str) -> str:
    """Call the URL of a task, which runs detached, and wait until its command has begun; the run."""
    answer = home.cgi(home.of_url(home.json("url", name)["url"]))
    assert answer.document["detached"], answer
    run: str = answer.document["run"]

    def begun() -> bool:
        log = home.home / "output" / f"{run}.log"
        return log.exists() and log.read_text() == "begun\n"

    until(begun, "the command")
    return run


def end(home: Outside, site: Site, name: str) -> None:
    """Let the run end as its task is to."""
    if name == "told":
        (claim,) = home.claims()
        found = re.search(rb'"supervisor": \[(\d+), ', claim.read_bytes())
        assert found
        os.kill(int(found[1]), signal.SIGTERM)
    else:
        site.go.touch()

    home.gone()


def prepare(home: Outside, site: Site, hook: str) -> None:
    for name, argv in {"succeeds": waits_for(site.go), "told": waits_for(site.folder / "never"),
                       "fails": ["/bin/sh", "-c", SCRIPT_THAT_WAITS, str(site.go)]}.items():
        done = home.cli("add", name, "--cron", "30 4 * * 1", "--timezone", "America/New_York", "--strategy", "fork",
                        "--retries", "0", "--", *argv)
        assert done.status == 0, done.err

    assert home.cli("add", "timed", "--signature", "timed", "--strategy", "fork", "--", "true").status == 0
    assert home.cli("config", "set", "notify", f'{{"url": "{hook}"}}').status == 0


def timed(home: Outside, ts: int) -> Any:
    row = home.state()["timed"]
    sig = signature(row["secret"], f"{row['slug']}.{ts}")
    return home.cgi(home.request(f"/run/{row['slug']}", f"ts={ts}&sig={sig}")).document


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ENDS)
def test_an_upgrade_during_a_run(tmp_path: Path, form: str, name: str, hook: str) -> None:
    """One line, written once; the task is locked meanwhile, and runs again afterwards; no signature is taken twice."""
    site = Site(tmp_path, form, "0.1.0")

    with installed(tmp_path / "home", site.library, site.script) as home:
        prepare(home, site, hook)
        ts = int(time.time())
        assert timed(home, ts)["accepted"]
        home.idle()
        run = begin(home, name)
        site.put(PACKAGE.parent)

        url = home.json("url", name)["url"]
        assert home.cgi(home.of_url(url)).document == {"accepted": True, "run": None, "status": "skipped",
                                                       "reason": "locked"}
        assert [row["name"] for row in home.json("status")["running"]] == [name]
        assert home.cli("run", name).status == 1
        assert home.cli("rename", name, "other").status == 2
        assert timed(home, ts) == {"accepted": False}

        end(home, site, name)
        home.cli("doctor", "--offline")  # records what its supervisor may have left
        assert not home.claims()
        assert [(line["status"], line["output"]) for line in home.history(name) if line["run"] == run] == [
            (ENDS[name], "begun\n" if name == "told" else "begun\nended\n")]
        assert len([line for line in home.history(name) if line["run"]]) == 1
        row = home.json("show", name)
        assert (row["lastRunId"], row["lastRunStatus"]) == (run, ENDS[name])
        assert row["consecutiveFailures"] == (name != "succeeds")

        assert timed(home, ts) == {"accepted": False}
        assert timed(home, ts + 1)["accepted"]
        home.idle()
        assert [line["status"] for line in home.history("timed")] == ["success", "success"]
        site.go.touch()
        (tmp_path / "never").touch()
        assert home.cgi(home.of_url(url)).document["run"]
        home.idle()
        assert len([line for line in home.history(name) if line["run"]]) == 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ENDS)
def test_a_run_needs_nothing_of_the_program_once_its_command_has_begun(
    tmp_path: Path, form: str, name: str, hook: str
) -> None:
    """Nobody else is there to record it: the program is gone."""
    site = Site(tmp_path, form, "today")

    with installed(tmp_path / "home", site.library, site.script) as home:
        prepare(home, site, hook)
        assert timed(home, int(time.time()))["accepted"]  # what a run needs is compiled and cached by now
        home.idle()
        run = begin(home, name)
        site.remove()
        end(home, site, name)
        assert [(line["run"], line["status"]) for line in home.history(name)] == [(run, ENDS[name])]
        row = home.state()[name]
        assert (row["lastRunStatus"], row["consecutiveFailures"]) == (ENDS[name], name != "succeeds")
        assert row["nextRunAt"] > row["lastRunAt"]
        assert not home.claims() and not list((home.home / "output").iterdir())


@pytest.mark.parametrize("version", ["0.1.0", "today"])
@pytest.mark.parametrize("form", FORMS)
def test_a_tick_goes_on_when_the_program_is_replaced(tmp_path: Path, form: str, version: str) -> None:
    """What it starts afterwards is run by the program that the tick began with, once, and recorded by it."""
    site = Site(tmp_path, form, version)

    with installed(tmp_path / "home", site.library, site.script) as home:
        assert home.cli("config", "set", "maxConcurrentTasks", "1").status == 0
        tick = home.of_url(home.json("url", "@due")["url"])
        home.cgi(tick)  # what a tick needs is compiled and cached by now
        home.idle()
        assert home.cli("add", "first", "--every", "86400", "--priority", "1", "--", *waits_for(site.go)).status == 0
        assert home.cli("add", "second", "--every", "86400", "--priority", "2", "--", "echo", "second").status == 0
        assert home.cli("edit", "@due", "--strategy", "fork").status == 0
        assert home.cgi(tick).document["detached"]
        until(lambda: any("begun" in log.read_text() for log in (home.home / "output").iterdir()), "the first run")

        if version == "today":
            site.remove()
        else:
            site.put(PACKAGE.parent)

        site.go.touch()
        home.gone()
        assert [(name, [line["status"] for line in home.history(name)]) for name in ("first", "second", "_due")] == [
            ("first", ["success"]), ("second", ["success"]), ("_due", ["success", "success"])]
        assert not home.claims()


def test_what_follows_a_run_needs_no_program_any_more(tmp_path: Path) -> None:
    """It is run by the program that the run before it began with, whatever it asks for."""
    site = Site(tmp_path, "package", "today")

    with installed(tmp_path / "home", site.library, site.script) as home:
        for words in (["second", "--ping-url", "http://127.0.0.1:9/", "--", "echo", "second"],
                      ["first", "--on-success", "second", "--", *waits_for(site.go)]):
            assert home.cli("add", *words).status == 0

        assert home.cgi(home.of_url(home.json("url", "first")["url"])).document["detached"]
        until(lambda: any("begun" in log.read_text() for log in (home.home / "output").iterdir()), "the first run")
        site.remove()
        site.go.touch()
        until(lambda: home.history("second"), "what follows")
        home.gone()
        assert [line["after"] for line in home.history("second")] == [home.history("first")[0]["run"]]
        assert not home.claims() and home.history("second")[0]["status"] == "success"


@pytest.mark.parametrize("version", ["0.1.0", "today"])
def test_a_run_that_a_server_started_goes_on(tmp_path: Path, version: str) -> None:
    """Under WSGI the supervisor is a Python of its own."""
    site = Site(tmp_path, "package", version)

    with installed(tmp_path / "home", site.library, site.script) as home:
        assert home.cli("add", "slow", "--strategy", "fork", "--", *waits_for(site.go)).status == 0
        environ = home.of_url(home.json("url", "slow")["url"])
        serves = ("import io, sys, webscheduler; from wsgiref.util import setup_testing_defaults as rest\n"
                  f"environ = {environ!r}; rest(environ); environ['wsgi.errors'] = sys.stderr\n"
                  "result = webscheduler.create_app()(environ, lambda status, headers: print(status))\n"
                  "list(result); getattr(result, 'close', int)()")
        done = subprocess.run([sys.executable, "-c", serves], env=home.environment(), capture_output=True, text=True,
                              check=True, cwd=tmp_path)
        assert done.stdout == "202 Accepted\n", done
        until(lambda: any("begun" in log.read_text() for log in (home.home / "output").iterdir()), "the run")

        if version == "today":
            site.remove()
        else:
            site.put(PACKAGE.parent)
            assert home.cgi(home.of_url(f"{BASE}{environ['PATH_INFO']}?{environ['QUERY_STRING']}")).document[
                "reason"] == "locked"

        site.go.touch()
        home.gone()
        assert [line["status"] for line in home.history("slow") if line["run"]] == ["success"] and not home.claims()
