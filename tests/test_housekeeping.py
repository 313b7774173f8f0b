# SPDX-License-Identifier: LGPL-3.0-or-later
"""Housekeeping: history for as long as it is kept, dead runs recorded, left-over files gone, once an hour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import python_path
from tests.commandline import Done, call
from tests.installation import Installation
from webscheduler.runs import retention
from webscheduler.store import clock, history, history_cleaning
from webscheduler.store.settings import load_settings
from webscheduler.times import format_time

DAY = 86400


def entry(days: float, status: str = "success", **more: Any) -> dict[str, Any]:
    at = format_time(time.time() - days * DAY)
    return {"run": f"run-{days}-{status}", "status": status, "startedAt": at, "finishedAt": at, **more}


def fill(installation: Installation, name: str, *entries: dict[str, Any]) -> None:
    for each in entries:
        history.append(str(installation.home), name, each)


def clean(installation: Installation) -> int:
    return retention.clean(load_settings(str(installation.home)), time.time())


def kept(installation: Installation, name: str) -> list[str]:
    return [line["run"] for line in installation.history(name)]


def test_history_is_kept_for_as_many_days_as_task_or_settings_say(installation: Installation) -> None:
    """The task's own days win; 0 is for ever, and a failure may be kept longer than a success."""
    installation.configure(logRetentionDays=10, failureRetentionDays=20)
    lines = [entry(days, status) for days in (50, 15, 9) for status in ("success", "failed", "skipped", "interrupted")]
    rows: dict[str, dict[str, Any]] = {"settings": {}, "longer": {"logRetentionDays": 30},
                                       "ever": {"logRetentionDays": 0}, "short": {"logRetentionDays": 1}}

    for name, fields in rows.items():
        fill(installation, installation.add(name, **fields), *lines)

    assert clean(installation) == 6 + 4 + 0 + 8
    assert kept(installation, "settings") == ["run-15-failed", "run-15-interrupted", "run-9-success", "run-9-failed",
                                              "run-9-skipped", "run-9-interrupted"]
    assert kept(installation, "longer") == [line["run"] for line in lines[4:]]
    assert kept(installation, "ever") == [line["run"] for line in lines]
    assert kept(installation, "short") == ["run-15-failed", "run-15-interrupted", "run-9-failed", "run-9-interrupted"]


@pytest.mark.parametrize(("days", "failures", "success", "failure"), [
    (10, None, 10, 10), (10, 20, 10, 20), (20, 10, 20, 20), (0, 10, 0, 0), (10, 0, 10, 0), (0, None, 0, 0),
])  # fmt: skip
def test_a_failure_is_never_kept_for_less_time(
    installation: Installation, days: int, failures: int | None, success: int, failure: int
) -> None:
    """Days that are kept; 0: for ever."""
    installation.configure(logRetentionDays=days, failureRetentionDays=failures)
    installation.add()
    fill(installation, "task", *(entry(age, status) for age in (100, 15, 5) for status in ("success", "timeout")))
    clean(installation)
    assert set(kept(installation, "task")) == {
        f"run-{age}-{status}" for age in (100, 15, 5) for status, limit in (("success", success), ("timeout", failure))
        if not limit or age < limit}


def test_lines_without_a_time_are_kept_and_lines_that_do_not_parse_are_not(installation: Installation) -> None:
    installation.add()
    fill(installation, "task", entry(99), {"run": "none"}, {"run": "odd", "finishedAt": "yesterday"}, entry(1))
    file = Path(history.path(str(installation.home), "task"))
    file.write_bytes(file.read_bytes() + b'garbage\n{"torn": ')
    assert clean(installation) == 3
    assert kept(installation, "task") == ["none", "odd", "run-1-success"]


def test_what_is_appended_during_a_clean_up_is_not_lost(installation: Installation) -> None:
    """Two processes append while a third goes on cleaning: each fresh line is there, once, and whole."""
    installation.add()
    append = ("import sys; from webscheduler.store import history\n"
              "for n in range(200):\n"
              "    for kind in ('old', 'new'):\n"
              "        history.append(sys.argv[1], 'task', {'run': f'{sys.argv[2]}-{n}-{kind}'})\n")
    environment = {**os.environ, **python_path()}
    writers = [subprocess.Popen([sys.executable, "-c", append, str(installation.home), name], env=environment)
               for name in "ab"]
    dropped = 0

    def clean_up() -> int:
        return history_cleaning.clean(str(installation.home), "task", lambda entry: not entry["run"].endswith("-old"))

    while any(writer.poll() is None for writer in writers):
        dropped += clean_up()

    assert [writer.wait() for writer in writers] == [0, 0]
    dropped += clean_up()
    assert dropped == 400
    assert sorted(kept(installation, "task")) == sorted(f"{name}-{n}-new" for name in "ab" for n in range(200))


def test_it_is_done_at_most_once_an_hour_by_whoever_recorded_a_run(installation: Installation) -> None:
    """The first time only the clock is noted: history goes once it has been good for a day."""
    home = str(installation.home)
    settings = load_settings(home)
    fill(installation, installation.add(), entry(99))
    assert call(installation.home, "run", "task").status == 0
    assert kept(installation, "task")[0] == "run-99-success"

    mark = installation.home / "locks" / ".housekeeping"
    begun = mark.stat().st_mtime
    boot, since = clock.boot()

    def clean_up(after: float) -> bool:
        return retention.clean_hourly(settings, begun + after, (boot, since + after))

    assert not clean_up(3599)
    assert clean_up(3600)
    assert clean_up(3599)  # a mark that is ahead of the clock is none
    assert not clean_up(3600)
    assert kept(installation, "task")[0] == "run-99-success"
    assert clean_up(DAY + 60)
    assert kept(installation, "task")[0] != "run-99-success"


def test_a_home_where_it_cannot_be_done_spoils_no_run(installation: Installation) -> None:
    installation.add()
    (installation.home / "locks" / ".housekeeping").mkdir()
    (installation.home / "output").rmdir()
    assert call(installation.home, "run", "task").status == 0


def test_a_history_that_cannot_be_read_spoils_no_other(installation: Installation) -> None:
    """Whose dead run cannot be recorded for it holds up no tick and no clean-up of others."""
    installation.add("first", argv=["sleep", "60"])
    installation.add("second", intervalSeconds=60)
    fill(installation, "second", entry(99))
    installation.trigger(name="first")
    facts = installation.command_runs()
    os.kill(facts["supervisor"][0], signal.SIGKILL)
    os.kill(facts["command"][0], signal.SIGKILL)
    installation.gone()
    (installation.home / "logs" / "first.jsonl").mkdir()
    assert call(installation.home, "run-due") == Done(0, "second: success\n", "")
    clean(installation)
    assert "run-99-success" not in kept(installation, "second")
    done = call(installation.home, "run", "first")
    assert done.complaint.startswith(f"{installation.home}/logs/first.jsonl cannot be")
    (installation.home / "logs" / "first.jsonl").rmdir()
    clean(installation)
    assert [line["run"] for line in installation.history("first")] == [facts["run"]]


def test_a_dead_run_of_a_task_that_nobody_triggers_is_recorded(installation: Installation) -> None:
    """Supervisor and command were killed, and the task was disabled since."""
    installation.add(argv=["sleep", "60"])
    installation.trigger()
    facts = installation.command_runs()
    os.kill(facts["supervisor"][0], signal.SIGKILL)
    os.kill(facts["command"][0], signal.SIGKILL)
    installation.gone()
    installation.edit(enabled=False)
    clean(installation)
    assert [(line["run"], line["status"]) for line in installation.runs()] == [(facts["run"], "interrupted")]
    assert installation.claims() == []


def test_files_that_a_kill_left_behind_go_after_a_day(installation: Installation) -> None:
    """Temporary files, and output of no run in progress; nothing else."""
    home = installation.home
    installation.add(argv=["sleep", "60"])
    installation.trigger()
    run = installation.command_runs()["run"]
    gone = [home / "state.json.1.abcd.tmp", home / "logs" / "task.jsonl.1.abcd.tmp", home / "output" / "dead-run.log"]
    stay = [home / "notes.txt", home / "logs" / "other.jsonl", home / "output" / f"{run}.log"]

    for path in [*gone, *stay]:
        path.touch()
        os.utime(path, (time.time() - 86500,) * 2)

    fresh = home / "config.json.2.abcd.tmp"
    fresh.touch()
    clean(installation)
    assert [path.exists() for path in [*gone, *stay, fresh]] == [False] * 3 + [True] * 4


def test_purge_logs_asks_first(installation: Installation) -> None:
    """Nobody there to answer means no."""
    for name in ("a", "b"):
        fill(installation, installation.add(name), entry(1))

    refused = call(installation.home, "purge-logs", "a")
    assert refused.status == 2
    assert (len(kept(installation, "a")), len(kept(installation, "b"))) == (1, 1)
    assert call(installation.home, "purge-logs", "a", "--yes").status == 0
    assert (len(kept(installation, "a")), len(kept(installation, "b"))) == (0, 1)
