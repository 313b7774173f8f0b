# SPDX-License-Identifier: LGPL-3.0-or-later
"""A state.json that was restored, or edited by hand: what gates and history know counts, and nothing doubles."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.commandline import Done, call
from tests.installation import DOORS, Installation, waits_for
from webscheduler import editing
from webscheduler.errors import BadInput
from webscheduler.runs import due, health
from webscheduler.store import locks, state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import new_task
from webscheduler.times import format_time, parse_time

DAY = 86400
OLD = format_time(time.time() - 3 * DAY)


@pytest.fixture
def restored(installation: Installation) -> Installation:
    """Of a task that ran today an older state.json says that it ran three days ago."""
    installation.add("task", intervalSeconds=2 * DAY, createdAt=OLD, lastRunAt=OLD, lastRunStatus="success",
                     lastRunId="before", nextRunAt=format_time(time.time() - DAY))  # fmt: skip
    copy = (installation.home / "state.json").read_bytes()
    assert call(installation.home, "run-due") == Done(0, "task: success\n", "")
    (installation.home / "state.json").write_bytes(copy)
    return installation


def test_nobody_takes_it_for_late(restored: Installation) -> None:
    """Before any tick: by every command, by URL, and by what a tick would start."""
    home = restored.home
    (line,) = restored.runs()
    shown = call(home, "show", "task", "--json").document
    assert (shown["lastRunAt"], shown["lastRunId"]) == (line["startedAt"], line["run"])
    coming = parse_time(line["startedAt"]) + 2 * DAY
    assert abs(parse_time(shown["nextRunAt"]) - coming) < 1
    (listed,) = (task for task in call(home, "list", "--json").document if task["name"] == "task")
    assert (listed["nextRunAt"], listed["lastRunStatus"]) == (shown["nextRunAt"], "success")
    assert "now" not in call(home, "list").out
    assert abs(parse_time(call(home, "next", "task", "--json").document[0]) - coming) < 2
    assert call(home, "status", "--json").document["unhealthy"] == []
    assert call(home, "run-due", "--dry-run", "--json").document["tasks"] == []
    assert (restored.row()["lastRunId"], restored.row()["lastRunAt"]) == ("before", OLD)  # readers write nothing

    for door in DOORS:
        answer = restored.call(door, restored.asking_status())
        assert (answer.status, answer.document["status"], answer.document["lastRunAt"]) == (
            200, "healthy", line["startedAt"])
        assert restored.call(door, restored.asking_status("@due")).document["unhealthy"] == []


def test_the_next_tick_adds_what_the_file_does_not_know(restored: Installation) -> None:
    """It starts nothing, and the file says what history says."""
    (line,) = restored.runs()
    settings = load_settings(str(restored.home))
    tasks = state.read(settings.home)
    report, _ = due.tick(settings, tasks, lambda *_: pytest.fail("it was started"), 1.0, time.time())
    assert (report["late"], report["left"], report["problems"]) == ([], [], [])
    row = restored.row()
    fields = ("lastRunAt", "lastRunId", "lastRunStatus", "lastRunExitCode", "lastRunAttempt")
    assert [row[field] for field in fields] == [line["startedAt"], line["run"], "success", 0, 1]
    assert parse_time(row["nextRunAt"]) > time.time() + DAY
    assert call(restored.home, "run-due") == Done(0, "", "")
    assert restored.row() == row
    assert len(restored.runs()) == 1


def test_a_failure_that_is_known_again_is_retried_once(installation: Installation) -> None:
    """As if the file had never been older: after the first attempt comes the second."""
    installation.add("task", argv=["false"], intervalSeconds=DAY, retries=1, retryDelaySeconds=0, createdAt=OLD)
    copy = (installation.home / "state.json").read_bytes()
    call(installation.home, "run-due")
    (installation.home / "state.json").write_bytes(copy)
    call(installation.home, "run-due")
    assert [line["attempt"] for line in installation.runs()] == [1, 2]
    assert installation.row()["lastRunAttempt"] == 2
    call(installation.home, "run-due")
    assert len(installation.runs()) == 2


def test_without_its_line_the_start_alone_is_known(restored: Installation) -> None:
    """History was restored, too. How that run ended is not known, so nothing is retried."""
    (line,) = restored.runs()
    (restored.home / "logs" / "task.jsonl").unlink()
    restored.edit(lastRunStatus="failed", retries=3, retryDelaySeconds=0)
    assert call(restored.home, "run-due") == Done(0, "", "")
    row = restored.row()
    assert [row[field] for field in ("lastRunAt", "lastRunId", "lastRunStatus")] == [line["startedAt"], None, None]


def test_a_run_in_progress_is_left_to_its_supervisor(installation: Installation) -> None:
    """Whoever runs says itself how it ended, in the older file, too."""
    go = installation.home.parent / "go"
    installation.add("task", argv=waits_for(go), intervalSeconds=2 * DAY, createdAt=OLD, lastRunAt=OLD, nextRunAt=OLD)
    copy = (installation.home / "state.json").read_bytes()
    run = installation.trigger().document["run"]
    installation.command_runs()
    (installation.home / "state.json").write_bytes(copy)
    assert health.forgotten(str(installation.home), state.read(str(installation.home)), ["task"], time.time()) == {}
    go.touch()
    installation.idle()
    assert (installation.row()["lastRunId"], installation.row()["lastRunStatus"]) == (run, "success")


def test_a_row_that_a_run_has_changed_meanwhile_is_not_overwritten(restored: Installation) -> None:
    """What a tick read before counts only if nobody wrote since."""
    home = str(restored.home)
    read = state.read(home)
    restored.edit(lastRunAt=format_time(time.time()), lastRunId="newer", lastRunStatus="failed")
    due._refresh(load_settings(home), read, time.time())
    assert (restored.row()["lastRunId"], restored.row()["lastRunStatus"]) == ("newer", "failed")


def test_an_edit_at_the_same_moment_stays(restored: Installation) -> None:
    """Only what is known of the last run is added: a secret that was changed since the tick read the file is kept."""
    home = str(restored.home)
    read = state.read(home)
    secret = editing.rotate_secret(home, "task")["secret"]
    restored.edit(priority=7)
    due._refresh(load_settings(home), read, time.time())
    row = restored.row()
    assert (row["secret"], row["priority"], row["lastRunId"]) == (secret, 7, restored.runs()[0]["run"])


def test_a_gate_whose_clock_was_ahead_says_nothing(installation: Installation) -> None:
    installation.add("task", intervalSeconds=DAY, createdAt=OLD, lastRunAt=OLD)
    gate_knows(installation, time.time() + 9 * DAY)
    home = str(installation.home)
    assert health.forgotten(home, state.read(home), ["task"], time.time()) == {}


def test_a_task_that_was_removed_has_left_nothing(installation: Installation) -> None:
    """Its name is used again: the new one never ran, and its interval is due at once."""
    installation.add("task", intervalSeconds=DAY, createdAt=OLD)
    call(installation.home, "run-due")
    call(installation.home, "remove", "task", "--keep-logs", "--yes")
    installation.add("task", intervalSeconds=DAY)
    assert call(installation.home, "show", "task", "--json").document["lastRunAt"] is None
    assert call(installation.home, "run-due") == Done(0, "task: success\n", "")


@pytest.mark.parametrize("record", [b"", b"\0" * 256, b"nan 0", b"x y z", b"1e999 0"])
def test_a_record_that_makes_no_sense_is_none(installation: Installation, record: bytes) -> None:
    installation.add("task", intervalSeconds=DAY, createdAt=OLD, lastRunAt=OLD)
    (installation.home / "locks" / "task.lock").write_bytes(record)
    found = health.forgotten(str(installation.home), state.read(str(installation.home)), ["task"], time.time())
    assert found == {}


def gate_knows(installation: Installation, start: float) -> None:
    with locks.Gate(str(installation.home), "task") as gate:
        gate.last_start = start
        gate.save()


# An entry of the first fields alone

FIRST_FIELDS = {"enabled": False, "expression": "0 3 * * *", "intervalSeconds": None, "lastRunAt": None,
                "lastRunDuration": None, "lastRunStatus": None, "lastRunExitCode": None, "nextRunAt": None,
                "preventOverlap": True, "priority": 100, "timeout": None, "arguments": ""}


@pytest.fixture
def first(installation: Installation) -> Installation:
    """Entries as other schedulers have them: one whose command is registered, and one whose command is not."""
    file = installation.home / "commands" / "app:backup.sh"
    file.write_text("echo backed up")
    file.chmod(0o700)
    rows = json.loads((installation.home / "state.json").read_text())
    rows.update({"app:backup": FIRST_FIELDS, "gone": FIRST_FIELDS})
    (installation.home / "state.json").write_text(json.dumps(rows))
    return installation


def test_its_command_is_its_name(first: Installation) -> None:
    """It is shown, edited, enabled, triggered and run like any other."""
    home = first.home
    assert call(home, "show", "app:backup", "--json").document["command"] == "app:backup"

    for words in (["edit", "app:backup", "--priority", "7"], ["enable", "app:backup"],
                  ["url", "app:backup", "--base", "http://x"], ["run", "app:backup"]):
        done = call(home, *words)
        assert (done.status, done.err.count("webscheduler:")) == (0, 0), (words, done)

    assert [line["output"] for line in first.runs("app:backup")] == ["backed up\n"]
    row = first.row("app:backup")
    assert (row["priority"], row["enabled"], row["lastRunStatus"]) == (7, True, "success")
    assert first.trigger("cgi", "app:backup").document["accepted"]
    first.idle()
    assert len(first.runs("app:backup")) == 2


def test_one_whose_command_is_not_registered(first: Installation) -> None:
    """Everything can be edited but what its command does, and it runs once that is there."""
    home = first.home
    assert call(home, "edit", "gone", "--priority", "7", "--title", "Still here").status == 0
    assert "'gone' is not registered" in call(home, "edit", "gone", "--arguments", "x").complaint
    assert "no command is registered as 'gone'" in call(home, "run", "gone").out + first.runs("gone")[0]["errorOutput"]
    assert "no command is registered as 'gone'" in call(home, "doctor", "--offline").out
    (home / "commands" / "gone.sh").write_text("echo here")
    (home / "commands" / "gone.sh").chmod(0o700)
    assert call(home, "run", "gone").status == 0


def test_its_command_stays_when_its_name_changes(first: Installation) -> None:
    home = first.home
    assert call(home, "rename", "app:backup", "nightly").status == 0
    assert first.row("nightly")["command"] == "app:backup"
    assert call(home, "run", "nightly").status == 0
    editing.edit(load_settings(str(home)), "gone", {"priority": 3}, time.time(), new="went")
    assert (first.row("went")["command"], first.row("went")["priority"]) == ("gone", 3)


def test_another_command_takes_its_place(first: Installation) -> None:
    home = first.home
    assert call(home, "edit", "gone", "--", "true").status == 0
    assert call(home, "run", "gone").status == 0
    assert call(home, "edit", "app:backup", "--command", "hello").status == 0
    assert first.row("app:backup")["command"] == "hello"
    assert "either" in call(home, "edit", "app:backup", "--command", "").complaint  # that was given by hand


def test_a_new_task_needs_a_command(first: Installation) -> None:
    """Its name is none: that would be a surprise."""
    assert call(first.home, "add", "hello").status == 2
    row: Any = new_task(time.time(), {})

    with pytest.raises(BadInput, match="either"):
        editing.check_task(load_settings(str(first.home)), "hello", row)


def test_it_is_exported_with_its_command(first: Installation) -> None:
    call(first.home, "enable", "app:backup", "gone")
    done = call(first.home, "export", "crontab")
    assert "app:backup.sh" in done.out or "app:backup" in done.out
