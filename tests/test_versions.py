# SPDX-License-Identifier: LGPL-3.0-or-later
"""Homes and versions: a home that any released version made is opened, upgraded and used; one of this version is used
by 0.1.0, which keeps what it does not know; one of a newer format is refused in a sentence.

`python -m tests.test_versions --write` makes the home of the present version, `tests/vectors/vX_Y_Z/home`, with what
its trigger URLs are; it is not made again once the version is released. tests/test_old_home.py looks closer at 0.1.0's.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

import webscheduler
from tests import CHECKOUT, PACKAGE
from tests.outside import Outside, installed, until, waits_for
from tests.released import unpack
from tests.test_old_home import FOLDERS, NOBODY, OWNER, PASSWORD
from webscheduler.store.task import FIELDS
from webscheduler.vocabulary import ENTRY

VECTORS = Path(__file__).parent / "vectors"
RELEASED = re.findall(r"^## \[(.*)\] - \d", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
KEPT = {"kept": "a field of somebody else"}
NEWER = "was written by a newer webscheduler (format 2): update this one"


def vectors(version: str) -> Path:
    return VECTORS / f"v{version.replace('.', '_')}"


def fill(home: Outside) -> dict[str, str]:
    """Use all of the present version that leaves something in the home; the URLs of tasks."""
    def done(*words: str, status: int = 0, given: str = "") -> str:
        ended = home.cli(*words, given=given)
        assert ended.status == status, ended.err
        return ended.out

    def add(name: str, *words: str) -> None:
        done("add", name, "--strategy", "fork", "--cwd", "/", *words)

    done("config", "set", "notifyKey", "signs-what-is-posted")
    done("config", "set", "logRetentionDays", "36500")
    add("app:report", "--cron", "0 3 * * *", "--group", "reports", "--", "/bin/sh", "-c", "echo report")
    add("cleans up", "--", "true")
    add("fails", "--every", "1h", "--on-failure", "cleans up", "--", "/bin/sh", "-c", "exit 7")
    add("timed", "--signature", "timed", "--", "true")
    add("killed", "--", *waits_for(home.home / "never"))
    add("renamed before", "--min-interval-seconds", "60", "--", "true")
    done("rename", "renamed before", "renamed")
    done("rotate-secret", "app:report", "--keep-old", "30d")
    home.write_task("app:report", **home.state()["app:report"], **KEPT)
    urls = {name: home.json("url", name)["url"] for name in home.state() if name != "timed"}
    timed = home.json("url", "timed", "--timed")["url"]

    for url in (urls["app:report"], urls["renamed"], urls["renamed"], timed, timed):
        home.cgi(home.of_url(url))
        home.idle()

    done("run", "fails", status=1)
    until(lambda: home.history("cleans_up"), "what follows a run")
    home.idle()
    done("set-password", OWNER, given=PASSWORD + "\n")
    done("api-key", "add", "monitor", "--role", "viewer")
    home.cgi(home.request("/run/" + "9" * 32, "sig=" + "0" * 64))
    assert home.cgi(home.of_url(urls["killed"])).document["run"]
    until(home.command_named, "the command")
    home.end()
    assert home.claims()
    return urls


def opened(version: str, folder: Path) -> Outside:
    """A copy of the home of that version, with the modes that Git does not keep."""
    home = folder / "home"
    shutil.copytree(vectors(version) / "home", home)

    for name in FOLDERS:
        (home / name).mkdir(exist_ok=True)

    for path in (home, *home.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)

    return Outside(home)


@pytest.mark.parametrize("version", RELEASED)
def test_each_release_has_left_its_home(version: str) -> None:
    """A version with a date in the CHANGELOG has a home among the vectors: `python -m tests.test_versions --write`."""
    assert (vectors(version) / "home" / "state.json").exists()
    assert json.loads((vectors(version) / "home_urls.json").read_text())


def test_the_home_of_this_version_has_all_that_it_writes() -> None:
    """Before a release, not of an earlier state: each field of a task and each key of a line of history. What comes
    under Unreleased is for the next one."""
    home = vectors(webscheduler.__version__) / "home"
    unreleased = (CHECKOUT / "CHANGELOG.md").read_text().partition("\n## [Unreleased]\n")[2].partition("\n## [")[0]

    if unreleased.strip():
        pytest.skip("there are changes after the release")

    tasks = json.loads((home / "state.json").read_text()).values()
    lines = [json.loads(line) for file in (home / "logs").iterdir() for line in file.read_text().splitlines()]
    assert tasks and not [set(FIELDS) - set(task) for task in tasks if not set(FIELDS) <= set(task)]
    assert lines and {tuple(line) for line in lines} == {tuple(ENTRY)}


@pytest.mark.parametrize("version", RELEASED)
def test_the_home_of_each_version_is_opened_upgraded_and_used(tmp_path: Path, version: str) -> None:
    """Nothing that it says is lost: tasks with all their fields and URLs, runs, people; a dead run is recorded once."""
    home = opened(version, tmp_path)
    urls = {name: url for name, url in json.loads((vectors(version) / "home_urls.json").read_text()).items()
            if "ts=" not in url}

    try:
        before, lines = home.state(), sum(len(home.history(file.stem)) for file in (home.home / "logs").iterdir())
        dead = len(home.claims())
        listed = {row["name"]: row for row in home.json("list")}
        assert listed.keys() == before.keys()
        assert {name: listed[name]["url"] for name in urls} == urls
        assert len(home.json("logs", "--limit", "1000")) == lines > 5
        assert home.state() == before

        run = home.cgi(home.of_url(urls["app:report"])).document["run"]
        until(lambda: run in [line["run"] for line in home.history("app_report")], "the line of the run")
        until(lambda: home.state()["app:report"]["lastRunId"] == run, "the state of the run")
        assert home.cli("edit", "app:report", "--priority", "5").status == 0
        assert home.sign_in(home.cgi, OWNER, PASSWORD).code == 303
        home.cli("doctor", "--offline")  # records what died
        assert not home.claims() and dead
        runs = [line["run"] for file in (home.home / "logs").iterdir() for line in home.history(file.stem)]
        assert len(set(runs) - {None}) == len([run for run in runs if run])

        for name, row in home.state().items():
            assert before[name].keys() <= row.keys()
            assert row.get("kept") == before[name].get("kept")
    finally:
        home.end()


def test_version_0_1_0_uses_a_home_of_today_and_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    """After a downgrade tasks, URLs, history and people are there; what 0.1.0 writes leaves the fields and settings of
    later versions as they are, and after an upgrade all of it is used again."""
    library = unpack("0.1.0", tmp_path / "old")

    with installed(tmp_path / "home") as home:
        urls = fill(home)
        before, settings = home.state(), json.loads((home.home / "config.json").read_bytes())
        keys = (home.home / "api-keys.json").read_bytes()
        old = Outside(home.home, library, library / "cgi-bin" / "webscheduler.cgi")

        assert {row["name"]: row["url"] for row in old.json("list") if row["url"]} == urls
        told = old.json("logs", "--limit", "1000")
        assert told == home.json("logs", "--limit", "1000") and len(told) > 5
        run = old.cgi(old.of_url(urls["app:report"])).document["run"]
        until(lambda: run in [line["run"] for line in home.history("app_report")], "the line of the run")
        assert old.cli("run", "fails").status == 1
        assert old.cli("edit", "fails", "--priority", "5").status == 0
        assert old.cli("rename", "timed", "by the clock").status == 0
        assert old.cli("config", "set", "name", "An installation").status == 0
        assert old.sign_in(old.cgi, OWNER, PASSWORD).code == 303
        old.cli("doctor", "--offline")  # records what died
        assert [line["status"] for line in old.history("killed")] == ["interrupted"]
        until(lambda: not home.claims(), "the record of all runs")

        after = home.state()
        assert after.keys() == {name if name != "timed" else "by the clock" for name in before}
        changed = {"priority", *(field for field in before["fails"] if re.match("last|next|consecutive|follow", field))}

        for name, row in before.items():
            now = after["by the clock" if name == "timed" else name]
            assert {field: now[field] for field in row if field not in changed} == {
                field: row[field] for field in row if field not in changed}

        assert json.loads((home.home / "config.json").read_bytes()) == {**settings, "name": "An installation"}
        assert (home.home / "api-keys.json").read_bytes() == keys

        assert home.json("show", "fails")["onFailure"] == ["cleans up"]
        assert home.json("show", "app:report")["oldSecretUntil"]
        assert home.cli("run", "fails").status == 1
        until(lambda: home.state()["cleans up"]["lastRunId"] != after["cleans up"]["lastRunId"], "what follows a run")


@pytest.mark.parametrize("version", ["0.1.0", "today"])
def test_a_home_of_a_newer_format_is_refused_in_a_sentence(tmp_path: Path, version: str) -> None:
    """The `version` in config.json is that of all files of the home: whoever meets one that is newer touches nothing.
    The command line says it, the panel too to those who are signed in; a valid trigger is answered 503."""
    library = unpack(version, tmp_path / "old") if version != "today" else PACKAGE.parent
    script = library / "cgi-bin" / "webscheduler.cgi"

    with installed(tmp_path / "home", library, *([script] if version != "today" else [])) as home:
        assert home.cli("add", "task", "--", "true").status == 0
        url = home.json("url", "task")["url"]
        assert home.cli("set-password", OWNER, given=PASSWORD + "\n").status == 0
        signed_in = home.sign_in(home.cgi, OWNER, PASSWORD)
        cookies = "; ".join(value.partition(";")[0] for name, value in signed_in.headers if name == "Set-Cookie")
        config = home.home / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_bytes()), "version": 2}))
        before = {path: path.read_bytes() for path in home.home.rglob("*.json")}

        for words in ("list", "show task", "status", "run task", "run-due", "edit task --priority 5", "url task",
                      "add other -- true", "config set name x"):
            done = home.cli(*words.split())
            assert done.status == 1, words
            assert NEWER in done.err and done.err.count("\n") == 1, words

        for door in (home.cgi, home.wsgi) if version == "today" else (home.cgi,):
            answer = door(home.of_url(url))
            assert (answer.code, answer.document) == (503, {"accepted": False})
            page = door(home.request("/admin/", HTTP_COOKIE=cookies))
            assert page.code == 503 and NEWER in page.body.decode()

        assert {path: path.read_bytes() for path in home.home.rglob("*.json")} == before
        assert not home.claims() and not home.history("task")


def make(folder: Path) -> None:
    """Make the home of the present version, as one that is on no machine any more."""
    target = vectors(webscheduler.__version__)

    with installed(folder / "home") as home:
        urls = fill(home)
        time.sleep(1)  # an index is written after a run's record

        for number, claim in enumerate(home.claims()):
            claim.write_text(re.sub(r'("(?:starter|supervisor|command)": )\[\d+, ', rf"\1[{NOBODY + number}, ",
                                    claim.read_text()))

        for path in home.home.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes().replace(str(folder).encode(), b"/home/me"))

        shutil.rmtree(target / "home", ignore_errors=True)
        shutil.copytree(home.home, target / "home", ignore=shutil.ignore_patterns(
            ".gitignore", ".*", "*.tmp", "index", "*.lock.lock", "cache"))
        (target / "home_urls.json").write_text(json.dumps(urls, indent=1) + "\n")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory))
