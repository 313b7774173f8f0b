# SPDX-License-Identifier: LGPL-3.0-or-later
"""What an export takes along, history and time zone, and what an import says that stays behind."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import call
from tests.installation import Installation
from webscheduler.interchange.histories import LONGEST_FILE
from webscheduler.store import history, keys, people
from webscheduler.times import format_time

NOW = time.time()
ZONE = "tasks with an expression and no time zone of their own: 1; they ran in Europe/Paris, and"


@pytest.fixture
def other(tmp_path: Path) -> Installation:
    """A second installation, to carry things to."""
    return Installation(tmp_path / "other")


def ran(installation: Installation, name: str, *days: int, **more: Any) -> None:
    for day in days:
        history.append(str(installation.home), name, {
            "command": name, "run": f"{installation.home.name}-{day}",
            "finishedAt": format_time(NOW - 86400 * (20 - day)),
            "status": "success", "output": "é\n\"[\\]\n", **more})  # fmt: skip


def exported(installation: Installation, *words: str) -> Path:
    file = installation.home.parent / "export.json"
    done = call(installation.home, "export", "json", *words, "--output", str(file))
    assert (done.status, done.out, done.err) == (0, "", "")
    return file


def lines(installation: Installation, name: str) -> bytes:
    return Path(history.path(str(installation.home), name)).read_bytes()


def said(done: Any) -> list[str]:
    assert done.status == 0, done.err
    return [line.removeprefix("webscheduler: ") for line in done.err.splitlines()]


@pytest.mark.parametrize("way", ["file", "standard output and input", "written anew", "Windows"])
def test_history_goes_along(installation: Installation, other: Installation, way: str) -> None:
    """Line by line, of each task, into the history of the one that comes of it; nothing of tasks that are gone, and
    nothing of a line that a kill tore."""
    installation.add('a: "b" é')
    installation.add("empty")
    ran(installation, 'a: "b" é', 1, 2)
    ran(installation, "gone", 1)
    ran(installation, "@due", 3)
    wanted = lines(installation, 'a: "b" é')

    with open(history.path(str(installation.home), 'a: "b" é'), "ab") as file:
        file.write(b'garbage\n{"run": "torn')

    if way == "standard output and input":
        text = call(installation.home, "export", "json", "--history").out
        done = call(other.home, "import", "json", "--history", "-", given=text.encode())
    else:
        file = exported(installation, "--history")
        document = json.loads(file.read_text())
        assert list(document["history"]) == ["@due", 'a: "b" é', "empty"]
        assert [entry["run"] for entry in document["history"]["@due"]] == ["home-3"]

        if way == "written anew":
            file.write_text(json.dumps(document, sort_keys=True))
        elif way == "Windows":
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

        done = call(other.home, "import", "json", "--history", str(file))

    assert said(done) == []
    assert lines(other, 'a: "b" é').splitlines() == wanted.splitlines() or way == "written anew"
    assert [entry["run"] for entry in other.history('a: "b" é')] == ["home-1", "home-2"]
    assert other.history('a: "b" é')[0]["output"] == "é\n\"[\\]\n"
    assert sorted(file.name for file in (other.home / "logs").iterdir()) == ["_due.jsonl", "a___b___.jsonl"]
    assert not list(other.home.glob("import.*"))


def test_history_is_merged_by_time_and_not_doubled(installation: Installation, other: Installation) -> None:
    """Where the name had a history, both become one; another import of the same adds nothing."""
    installation.add()
    ran(installation, "task", 2, 6)
    file = exported(installation, "--history")
    ran(other, "task", 1, 5, 9)

    for _ in range(2):
        assert call(other.home, "import", "--history", str(file)).status == 0
        assert [entry["run"] for entry in other.history()] == ["other-1", "home-2", "other-5", "home-6", "other-9"]
        assert call(other.home, "remove", "task", "--keep-logs", "--yes").status == 0


def test_a_long_history_goes_along(installation: Installation, other: Installation) -> None:
    """More than an export without history may have."""
    installation.add()

    for day in range(1, 10):
        ran(installation, "task", day, output="x" * (LONGEST_FILE // 8))

    file = exported(installation, "--history")
    assert file.stat().st_size > LONGEST_FILE
    assert said(call(other.home, "import", str(file))) == ["their history stays behind: --history imports it, too"]
    assert other.history() == []
    assert call(other.home, "remove", "task", "--yes").status == 0
    assert call(other.home, "import", "--history", str(file)).status == 0
    assert len(other.history()) == 9


def test_history_that_is_not_there_is_said(installation: Installation, other: Installation) -> None:
    installation.add()
    ran(installation, "task", 1)
    file = exported(installation)
    assert "history" not in json.loads(file.read_text())
    assert said(call(other.home, "import", "--history", str(file))) == [
        f"{file} has no history: make it with `webscheduler export json --history`"]


def test_a_name_that_is_taken_lets_no_line_in(installation: Installation, other: Installation) -> None:
    installation.add("ta_sk")
    other.add("ta/sk")
    ran(installation, "ta_sk", 1)
    done = call(other.home, "import", "--history", str(exported(installation, "--history")))
    assert done.status == 2
    assert other.history("ta/sk") == []


def test_history_of_a_task_that_is_here_comes_in_once(installation: Installation, other: Installation) -> None:
    """The task itself may be the same in both."""
    installation.add()
    other.add()
    ran(installation, "task", 1)
    file = exported(installation, "--history")

    for _ in range(2):
        done = call(other.home, "import", "--history", str(file))
        assert (done.status, done.out) == (0, "nothing is different: all 2 tasks are as in the file\n")
        assert [line["run"] for line in other.history()] == ["home-1"]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("source", ["export", "directory"])
def test_the_time_zone_is_named_and_can_be_kept(
    installation: Installation, other: Installation, source: str, keep: bool
) -> None:
    """A task without a zone of its own would run at other times here."""
    installation.configure(timezone="Europe/Paris")
    installation.add("daily", expression="0 3 * * *")
    installation.add("own", expression="0 3 * * *", timezone="Asia/Tokyo")
    installation.add("every", intervalSeconds=600)
    file = exported(installation)
    assert json.loads(file.read_text())["timezone"] == "Europe/Paris"
    words = ["--keep-zone"] if keep else []
    done = call(other.home, "import", *words, str(file if source == "export" else installation.home))
    assert said(done) == [f"{ZONE} keep it" if keep else
                          f"{ZONE} here run in UTC: --keep-zone gives them Europe/Paris"]
    assert [other.row(name)["timezone"] for name in ("daily", "own", "every")] == [
        "Europe/Paris" if keep else None, "Asia/Tokyo", None]
    assert other.row("@due")["timezone"] is None


def test_the_same_zone_is_not_worth_a_word(installation: Installation, other: Installation) -> None:
    installation.add("daily", expression="0 3 * * *")
    assert said(call(other.home, "import", str(exported(installation)))) == []


@pytest.mark.parametrize("source", ["export", "directory"])
def test_settings_and_people_that_stay_behind_are_said(
    installation: Installation, other: Installation, source: str
) -> None:
    """By name, and no value of them is in an export: some are passwords."""
    installation.add()
    installation.configure(baseUrl="https://example.org/cron", notify={"email": "me@example.org"}, defaultTimeout=300)
    people.set_password(str(installation.home), "alice", "correct horse battery", "owner", now=0.0)
    key = keys.add(str(installation.home), "ci", "owner", 1.0)
    file = exported(installation)
    document = json.loads(file.read_text())
    assert (document["settings"], document["people"], document["keys"]) == (["baseUrl", "notify"], 1, 1)
    assert not any(text in file.read_text() for text in ("me@example.org", key, sha256(key.encode()).hexdigest()))
    assert said(call(other.home, "import", str(file if source == "export" else installation.home))) == [
        "settings stay behind: baseUrl, notify: `webscheduler config set` sets them here",
        "people of the panel stay behind: 1: `webscheduler set-password` lets them in here",
        "keys of the API stay behind: 1: `webscheduler api-key add` makes new ones here"]
    assert not keys.exists(str(other.home))


@pytest.mark.parametrize(("words", "says"), [
    (["export", "crontab", "--history"], "--history: only for json"),
    (["import", "crontab", "--history", "FILE"], "--history and --keep-zone: not for a crontab"),
    (["import", "crontab", "--keep-zone", "FILE"], "--history and --keep-zone: not for a crontab"),
    (["import", "--keep-zone", "FILE"], "--keep-zone: it is not known which time zone the tasks had"),
])  # fmt: skip
def test_options_that_mean_nothing_are_refused(installation: Installation, words: list[str], says: str) -> None:
    file = installation.home.parent / "tasks"
    file.write_text('{"x": {"argv": ["true"], "expression": "0 3 * * *"}}')
    done = call(installation.home, *(str(file) if word == "FILE" else word for word in words))
    assert done.status == 2
    assert done.complaint.startswith(says)


@pytest.mark.parametrize("inserted", [b'"x": [\n', b',{"a": 1\n', b"]\n}}\n", b"\xff\xfe\n", b'"\\ud800": [\n',
                                      b'"x\0": [\n', b'"\\x": [\n', b'"\xff": [\n',
                                      b"[" * 9999])  # fmt: skip
def test_a_damaged_history_harms_nothing(installation: Installation, other: Installation, inserted: bytes) -> None:
    """What can be read of it comes in; the tasks do in any case."""
    installation.add()
    ran(installation, "task", 1, 2)
    file = exported(installation, "--history")
    begun, marked, rest = file.read_bytes().partition(b'"task": [\n')
    first, _, others = rest.partition(b"\n")
    file.write_bytes(begun + marked + first + b"\n" + inserted + others)
    assert call(other.home, "import", "--history", str(file)).status == 0
    assert other.history()[0]["run"] == "home-1"
