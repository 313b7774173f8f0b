# SPDX-License-Identifier: LGPL-3.0-or-later
"""Renaming and removing: state.json and the task's files change as a whole, whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import LIBRARY
from tests.commandline import call
from tests.installation import Installation
from tests.test_injected import inject
from webscheduler import editing
from webscheduler.errors import BadInput
from webscheduler.runs import task_files
from webscheduler.store import history, locks, state
from webscheduler.times import format_time

CUT_OFF = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from webscheduler import editing
from webscheduler.runs import task_files
task_files._complete = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
getattr(editing, sys.argv[2])(sys.argv[3], *sys.argv[4:], time.time())
"""


def cut_off(installation: Installation, what: str, *names: str) -> None:
    """Rename or remove, and be killed once state.json is changed."""
    words = [sys.executable, "-c", CUT_OFF, str(LIBRARY), what, str(installation.home), *names]
    assert subprocess.run(words, check=False).returncode == -9


def add_line(installation: Installation, name: str, run: str, ago: float) -> None:
    at = format_time(time.time() - ago)
    history.append(str(installation.home), name, {"run": run, "command": name, "status": "success", "startedAt": at,
                                                  "finishedAt": at})  # fmt: skip


def runs(installation: Installation, name: str) -> list[str]:
    return [line["run"] for line in installation.history(name)]


def unfinished(installation: Installation) -> list[str]:
    return sorted(file.name for file in (installation.home / "locks").glob("*.lock") if file.stat().st_size > 256)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", ["rename", "rename-join", "remove", "remove-logs"])
def test_killed_at_any_call(scenario: str) -> None:
    """Whichever system call is the last: the next trigger of the task, or a tick, finds all of it done or nothing. No
    line is lost, doubled, or left under the old name."""
    done = inject("--only", f"{scenario} kill at", "--only", f"{scenario} torn at")
    assert done.returncode == 0, done.stdout
    assert "\nall " in done.stdout


@pytest.mark.parametrize("follow", [
    ["run", "new"], ["run-due"], ["doctor", "--offline"], ["edit", "new", "--title", "New"],
    ["add", "old", "--", "true"], ["remove", "new", "--keep-logs", "--yes"], ["rename", "new", "newer"],
    ["rename", "other", "old"],
])  # fmt: skip
def test_who_comes_next_finishes_a_rename(installation: Installation, follow: list[str]) -> None:
    """Not the next trigger alone: any change of one of both names, a tick, or `doctor`."""
    installation.add("old")
    installation.add("other")
    add_line(installation, "old", "a", 60)
    cut_off(installation, "rename", "old", "new")
    assert runs(installation, "old") == ["a"]
    assert unfinished(installation) == ["new.lock", "old.lock"]
    call(installation.home, *follow)
    assert runs(installation, "newer" if follow[-1] == "newer" else "new")[0] == "a"
    assert runs(installation, "old") == []
    assert unfinished(installation) == []


@pytest.mark.parametrize("follow", [["run-due"], ["doctor", "--offline"], ["add", "old", "--", "true"],
                                    ["rename", "other", "old"]])
def test_who_comes_next_finishes_a_removal(installation: Installation, follow: list[str]) -> None:
    """A new task of that name begins with an empty history."""
    installation.add("old")
    installation.add("other")
    add_line(installation, "old", "a", 60)
    cut_off(installation, "remove", "old")
    assert runs(installation, "old") == ["a"]
    call(installation.home, *follow)
    assert runs(installation, "old") == []
    assert unfinished(installation) == []


def test_a_removal_that_was_not_decided_removes_nothing(installation: Installation) -> None:
    """Nor does one of a task that is not there: its kept history stays."""
    installation.add("old")
    add_line(installation, "old", "a", 60)
    intent = {"old": "old", "new": None, "keepLogs": False, "slug": installation.row("old")["slug"]}

    with locks.Gate(str(installation.home), "old") as gate:
        task_files._intend(gate, json.dumps(intent))

    assert call(installation.home, "run", "old").status == 0
    assert runs(installation, "old")[0] == "a"
    assert call(installation.home, "remove", "old", "--keep-logs", "--yes").status == 0
    assert call(installation.home, "remove", "old", "--yes").status == 2
    assert runs(installation, "old")[0] == "a"


def test_histories_that_both_exist_are_joined(installation: Installation) -> None:
    """By time; a line whose clock was behind stays behind the one before it, and one without a time, too."""
    installation.add("old")

    for name, run, ago in (("new", "1", 100), ("old", "2", 90), ("new", "3", 80), ("new", "4", 8000), ("old", "5", 70),
                           ("old", "6", 60), ("new", "7", 50)):
        add_line(installation, name, run, ago)

    with open(history.path(str(installation.home), "old"), "ab") as file:
        file.write(b'{"run": "8"}\ndamage\n')

    assert call(installation.home, "rename", "old", "new").status == 0
    assert runs(installation, "new") == ["1", "2", "3", "4", "5", "6", "8", "7"]
    assert sorted(path.name for path in (installation.home / "logs").iterdir()) == ["new.jsonl"]


@pytest.mark.parametrize("step", ["both", "one"])
def test_a_join_that_was_cut_off_doubles_nothing(installation: Installation, step: str) -> None:
    """The joined file was written: the old one is there still, or was removed."""
    installation.add("old")
    add_line(installation, "new", "1", 100)
    add_line(installation, "old", "2", 90)
    cut_off(installation, "rename", "old", "new")
    logs = installation.home / "logs"
    (logs / "new.joined").write_bytes((logs / "new.jsonl").read_bytes() + (logs / "old.jsonl").read_bytes())

    if step == "one":
        (logs / "old.jsonl").unlink()

    assert call(installation.home, "run", "new").status == 0
    assert runs(installation, "new")[:2] == ["1", "2"]
    assert len(runs(installation, "new")) == 3
    assert sorted(path.name for path in logs.iterdir()) == ["new.jsonl"]


def test_limits_go_along_and_are_never_lowered(installation: Installation) -> None:
    """The last start, the highest `ts`: from whichever name knows more, also if it is done once more."""
    home = str(installation.home)
    installation.add("old")

    for name, start, ts in (("old", 1000.0, 50), ("new", 900.0, 60)):
        with locks.Gate(home, name) as gate:
            gate.last_start, gate.last_ts = start, ts
            gate.save()

    editing.rename(home, "old", "new", time.time())

    with locks.Gate(home, "new") as gate:
        assert (gate.last_start, gate.last_ts, gate.intent) == (1000.0, 60, "")
        gate.last_start = 2000.0
        gate.save()

    with locks.Gate(home, "old") as gate:  # the last step was missing
        task_files._intend(gate, json.dumps({"old": "old", "new": "new", "keepLogs": True,
                                             "slug": installation.row("new")["slug"]}))

    task_files.finish_all(home)

    with locks.Gate(home, "new") as gate:
        assert (gate.last_start, gate.last_ts, gate.intent) == (2000.0, 60, "")

    assert unfinished(installation) == []


def test_a_name_that_is_used_again(installation: Installation) -> None:
    """What is left in a gate of an earlier change touches no task that has the name since."""
    home = str(installation.home)
    installation.add("a")
    slug = installation.row("a")["slug"]
    editing.rename(home, "a", "b", time.time())
    editing.rename(home, "b", "c", time.time())
    installation.add("a")
    add_line(installation, "a", "new", 10)

    for old, new in (("a", "b"), ("a", None)):
        with locks.Gate(home, "a") as gate:
            task_files._intend(gate, json.dumps({"old": old, "new": new, "keepLogs": False,
                                                 "slug": installation.row("a")["slug"] if new is None else slug}))

        task_files.finish_all(home)
        assert unfinished(installation) == []
        assert runs(installation, "a") == ["new"]

    assert sorted(state.read(home)) == ["@due", "a", "c"]


@pytest.mark.parametrize("content", [b"1700000000.250000 1700000001 1700000002 3 0 0 0 0 0 0 0 0".ljust(255) + b"\n",
                                     b"1700000000.250000 1700000001", b"", b"damage".ljust(255) + b"\n"])
def test_a_record_of_an_earlier_version(installation: Installation, content: bytes) -> None:
    """It says what it said; and an earlier version reads the same from one that says what is to be done."""
    home = str(installation.home)
    file = installation.home / "locks" / "task.lock"
    file.write_bytes(content)

    with locks.Gate(home, "task") as gate:
        known = content.startswith(b"17")
        assert (gate.last_start, gate.last_ts) == ((1700000000.25, 1700000001) if known else (0.0, 0))
        assert gate.intent == ""
        gate.save()
        before = file.read_bytes()
        task_files._intend(gate, "something")
        assert file.read_bytes()[:256] == before


@pytest.mark.parametrize("torn", [b"\0" * 100, b"{", b"[]", b"null", b"7", b'{"old": "task"}', b"\xff\xfe"])
def test_an_intent_that_a_power_cut_tore(installation: Installation, torn: bytes) -> None:
    """Nothing was decided: it is forgotten, and the task runs."""
    installation.add()
    add_line(installation, "task", "a", 60)

    with locks.Gate(str(installation.home), "task") as gate:
        gate.save()

    with open(installation.home / "locks" / "task.lock", "ab") as file:
        file.write(torn)

    assert call(installation.home, "run", "task").status == 0
    assert runs(installation, "task")[0] == "a"
    assert unfinished(installation) == []


def test_files_that_cannot_follow_are_said_and_follow_later(installation: Installation) -> None:
    """The message says what has been done; no run of the task starts before the rest is done."""
    home = str(installation.home)
    installation.add("old")
    add_line(installation, "old", "a", 60)
    (installation.home / "logs" / "new.jsonl").mkdir()
    done = call(installation.home, "rename", "old", "new")
    assert done.status == 1 or done.status == 2
    assert done.complaint.startswith("old has been renamed, but its files could not follow (")
    assert sorted(state.read(home)) == ["@due", "new"]
    assert call(installation.home, "run", "new").status != 0
    (installation.home / "logs" / "new.jsonl").rmdir()
    assert call(installation.home, "run", "new").status == 0
    assert runs(installation, "new")[0] == "a"


def test_a_task_that_runs_is_neither_renamed_nor_removed(installation: Installation) -> None:
    home = str(installation.home)
    installation.add("old", argv=["sleep", "60"])
    installation.trigger(name="old")
    installation.command_runs()

    for act in (lambda: editing.rename(home, "old", "new", time.time()),
                lambda: editing.remove(home, "old", time.time())):
        with pytest.raises(BadInput, match="old is running"):
            act()

    assert unfinished(installation) == []
    assert sorted(state.read(home)) == ["@due", "old"]


def test_a_trigger_finishes_first(installation: Installation) -> None:
    """By URL, too: its own line comes after those of before."""
    installation.add("old")
    add_line(installation, "old", "a", 60)
    cut_off(installation, "rename", "old", "new")
    answer: Any = installation.trigger("cgi", "new")
    assert answer.document["status"] == "running"
    installation.idle()
    assert runs(installation, "new") == ["a", answer.document["run"]]
    assert not Path(history.path(str(installation.home), "old")).exists()
    assert os.stat(installation.home / "locks" / "new.lock").st_size == 256
