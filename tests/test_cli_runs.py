# SPDX-License-Identifier: LGPL-3.0-or-later
"""Running and cancelling by hand, and what the overview says of runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import Done, call, finished, start
from tests.installation import Installation, ended, until, waits_for
from webscheduler.store import history, locks, state
from webscheduler.times import format_time

IGNORES_TERM = ["/bin/sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.05; done"]


def claimed(installation: Installation, name: str = "task") -> dict[str, Any]:
    """The facts of the one run in progress, whose command has started."""
    return installation.command_runs()


def cancel(installation: Installation, *words: str) -> Done:
    return call(installation.home, "cancel", *words)


def test_a_run_by_hand_shows_its_output_and_its_outcome(installation: Installation) -> None:
    """Standard output to standard output, errors to standard error, and status 0; the line of history is the cli's."""
    installation.add(argv=["/bin/sh", "-c", "echo out; echo err >&2"])
    done = call(installation.home, "run", "task")
    assert (done.status, done.out) == (0, "out\n")
    assert done.err.startswith("err\ntask: success after ")
    entry = installation.runs()[0]
    assert (entry["trigger"], entry["status"], entry["run"] in done.err) == ("cli", "success", True)


@pytest.mark.parametrize(("script", "fields", "status", "says"), [
    ("exit 7", {}, "failed", "exit status 7"),
    ("kill -9 $$", {}, "failed", "exit status 137"),
    ("sleep 60", {"timeout": 1}, "timeout", "timeout"),
    (None, {"argv": ["/nonexistent"]}, "failed", "not_started"),
    (None, {"argv": None, "command": "gone"}, "failed", "not_started"),
])
def test_a_run_that_does_not_succeed_is_status_1(
    script: str | None, fields: dict[str, Any], status: str, says: str, installation: Installation
) -> None:
    """The exit status tells, and the last line says why."""
    installation.add(argv=["/bin/sh", "-c", script or ""])
    installation.edit(**fields)
    done = call(installation.home, "run", "task")
    assert done.status == 1
    assert says in done.err
    assert [entry["status"] for entry in installation.runs()] == [status]
    assert call(installation.home, "status").status == 1


def test_a_run_by_hand_as_json_is_its_line_of_history(installation: Installation) -> None:
    """run --json prints what `logs` will say."""
    installation.add(argv=["echo", "\x1b[31m"])
    entry = call(installation.home, "run", "task", "--json").document
    assert entry == installation.runs()[0]
    assert call(installation.home, "logs", "task", "--json").document == [entry]


def test_what_a_command_prints_never_reaches_the_terminal_raw(installation: Installation) -> None:
    """Escape sequences and bidirectional marks are written out by `run` and by `logs --run`, on both streams."""
    evil = "\x1b]0;title\x07\u202eabc\r\x9b\x00\x7f"
    installation.add(argv=[sys.executable, "-c", f"import os\nfor n in (1, 2): os.write(n, {evil.encode()!r})"])
    done = call(installation.home, "run", "task")
    run = installation.runs()[0]["run"]
    shown = call(installation.home, "logs", "--run", run)

    for text in (done.out, done.err, shown.out):
        assert "\\x1b]0;title\\x07\\u202eabc\\r\\x9b\\x00\\x7f" in text
        assert all(c == "\n" or c.isprintable() for c in text)


def test_a_disabled_task_can_be_run_by_hand(installation: Installation) -> None:
    """`disable` is for triggers and ticks."""
    installation.add(enabled=False, minIntervalSeconds=3600, ipAllowlist=["192.0.2.1"])
    assert call(installation.home, "run", "task").status == 0
    assert call(installation.home, "run", "task").status == 0


def test_a_task_that_runs_is_not_run_again(installation: Installation, tmp_path: Path) -> None:
    """`run` says so with status 1, starts nothing, and the first run is recorded as if nothing had been."""
    installation.add(argv=waits_for(tmp_path / "go"))
    first = start(installation.home, "run", "task")
    claimed(installation)
    second = call(installation.home, "run", "task")
    assert second.status == 1
    assert "running already" in second.complaint
    (tmp_path / "go").touch()
    assert finished(first).status == 0
    assert [entry["status"] for entry in installation.runs()] == ["success"]


def test_the_keyboard_ends_a_run_and_it_is_recorded(installation: Installation, tmp_path: Path) -> None:
    """Ctrl-C on `run` ends the command with all of its group."""
    installation.add(argv=waits_for(tmp_path / "never"))
    process = start(installation.home, "run", "task")
    command = claimed(installation)["command"]
    process.send_signal(signal.SIGINT)
    assert finished(process).status == 1
    assert ended(command)
    assert [entry["status"] for entry in installation.runs()] == ["interrupted"]


@pytest.mark.parametrize("door", ["cli", "cgi", "wsgi"])
@pytest.mark.parametrize("stubborn", [False, True])
def test_cancelling_ends_a_run_however_it_was_started(
    door: str, stubborn: bool, installation: Installation, tmp_path: Path
) -> None:
    """The command is gone, also one that ignores TERM; history says interrupted, cancelled, once; who accepted the
    trigger (under WSGI this very process) lives on."""
    installation.add(argv=IGNORES_TERM if stubborn else waits_for(tmp_path / "never"), strategy="fork")
    process: subprocess.Popen[bytes] | None = None

    if door == "cli":
        process = start(installation.home, "run", "task")
    else:
        installation.trigger(door)

    facts = claimed(installation)
    done = cancel(installation, "task")
    assert done.status == 0
    assert "interrupted (cancelled)" in done.out and facts["run"] in done.out
    assert ended(facts["command"])
    assert installation.claims() == []
    assert [(entry["run"], entry["status"], entry["reason"]) for entry in installation.runs()] == [
        (facts["run"], "interrupted", "cancelled")]
    assert process is None or finished(process).status == 1


def test_cancelling_a_run_whose_supervisor_is_gone(installation: Installation) -> None:
    """Nobody is there to be told: the command's group is ended and the run recorded by `cancel` itself."""
    installation.add(argv=["sleep", "60"], strategy="fork")  # one that printed now would get SIGPIPE
    installation.trigger()
    facts = claimed(installation)
    os.kill(facts["supervisor"][0], signal.SIGKILL)
    until(lambda: ended(facts["supervisor"]))
    done = cancel(installation, "task", facts["run"])
    assert done.status == 0
    assert ended(facts["command"])
    assert [(entry["status"], entry["reason"]) for entry in installation.runs()] == [("interrupted", "cancelled")]


def test_a_state_that_cannot_be_read_keeps_nobody_from_cancelling(installation: Installation, tmp_path: Path) -> None:
    """What runs can be ended although state.json and its copy are damaged."""
    installation.add(argv=waits_for(tmp_path / "never"), strategy="fork")
    installation.trigger()
    facts = claimed(installation)

    for file in ("state.json", "state.json.bak"):
        (installation.home / file).write_text("[")

    assert cancel(installation, "task").status == 0
    assert ended(facts["command"])


def test_of_several_runs_one_must_be_named(installation: Installation, tmp_path: Path) -> None:
    """Without RUN the ids are listed and all go on; with it that one ends and the other goes on."""
    installation.add(argv=waits_for(tmp_path / "go"), strategy="fork", preventOverlap=False)
    installation.trigger()
    installation.trigger()
    runs = until(lambda: len(found := [each for each in installation.facts() if locks.alive(each.get("command"))]) == 2
                 and found)
    ids = {facts["run"] for facts in runs}
    refused = cancel(installation, "task")
    assert refused.status == 2
    assert all(run in refused.complaint for run in ids)
    assert "no run 'x' in progress" in cancel(installation, "task", "x").complaint
    assert cancel(installation, "task", runs[0]["run"]).status == 0
    assert ended(runs[0]["command"]) and not ended(runs[1]["command"])
    (tmp_path / "go").touch()
    installation.idle()
    assert {entry["run"]: entry["status"] for entry in installation.runs()} == {
        runs[0]["run"]: "interrupted", runs[1]["run"]: "success"}


def test_nothing_to_cancel_is_status_1(installation: Installation) -> None:
    """A task that does not run is told so."""
    installation.add()
    done = cancel(installation, "task")
    assert (done.status, done.complaint) == (1, "task is not running")


def test_the_overview_tells_running_from_dead(installation: Installation, tmp_path: Path) -> None:
    """While it runs list, show and status say so; a run that died unrecorded is `interrupted` and unhealthy, and
    telling that writes nothing."""
    installation.add(argv=waits_for(tmp_path / "never"), strategy="fork")
    installation.trigger()
    facts = claimed(installation)
    until(lambda: installation.row()["lastRunStatus"] == "running")
    assert call(installation.home, "show", "task", "--json").document["lastRunStatus"] == "running"
    report = call(installation.home, "status", "--json")
    assert report.status == 0
    assert [(each["name"], each["run"]) for each in report.document["running"]] == [("task", facts["run"])]
    assert facts["run"] in call(installation.home, "show", "task").out

    for who in ("supervisor", "command"):
        os.kill(facts[who][0], signal.SIGKILL)
        until(lambda: ended(facts[who]))  # noqa: B023 (called at once)

    before = (installation.home / "state.json").read_bytes()
    assert call(installation.home, "show", "task", "--json").document["lastRunStatus"] == "interrupted"
    assert "interrupted" in call(installation.home, "list").out
    report = call(installation.home, "status", "--json")
    assert (report.status, report.document["status"]) == (1, "failing")
    assert [(each["name"], each["lastRunStatus"]) for each in report.document["unhealthy"]] == [("task", "interrupted")]
    assert "interrupted" in call(installation.home, "status").out
    assert before == (installation.home / "state.json").read_bytes()
    assert installation.history() == []


def test_the_overview_warns_of_what_a_file_says(installation: Installation) -> None:
    """Two schedules at once, a command that is gone, a task that does not load (its field named), no tick ever."""
    installation.add("both", expression="0 3 * * *", intervalSeconds=60)
    installation.add("broken", timeout="soon")
    installation.add("orphan")
    installation.edit("orphan", argv=None, command="gone")
    state.update(str(installation.home), lambda tasks: tasks.update({"odd": []}))
    report = call(installation.home, "status", "--json")
    assert report.status == 1
    text = "\n".join(report.document["warnings"])
    assert "both has both" in text
    assert "task orphan: no command is registered as 'gone'" in text
    assert "task broken: timeout:" in text
    assert "task odd:" in text
    assert "webscheduler url @due" in text
    assert {each["name"] for each in report.document["unhealthy"]} == {"broken", "odd"}
    listed = call(installation.home, "list")
    assert listed.status == 0
    assert "timeout" in listed.err and "odd" in listed.err
    assert [task["name"] for task in call(installation.home, "list", "--json").document if "error" in task] == [
        "broken", "odd"]
    assert call(installation.home, "edit", "broken", "--timeout", "5").status == 0


def test_ticks_that_stopped_coming_are_noticed(installation: Installation) -> None:
    """Where ticks came every minute and none since an hour, `status` asks whether the panel still calls."""
    installation.add(expression="0 3 * * *")
    now = time.time()

    for minute in range(70, 60, -1):
        moment = format_time(now - 60 * minute)
        history.append(str(installation.home), "@due", {"command": "@due", "run": str(minute), "startedAt": moment,
                                                        "finishedAt": moment, "status": "success"})

    installation.edit("@due", lastRunAt=format_time(now - 60 * 61))
    document = call(installation.home, "status", "--json").document
    assert 59 < document["tickEverySeconds"] < 61
    said = next(each for each in document["warnings"] if "still call" in each)
    assert said.startswith("ticks: the last one was at ")  # it says of what
    installation.edit("@due", lastRunAt=format_time(now - 60))
    assert call(installation.home, "status", "--json").document["warnings"] == []


@pytest.mark.parametrize(("words", "moments"), [
    # Clocks go forward in Paris on 2026-03-29 at 02:00 and back on 2026-10-25 at 03:00.
    (["--cron", "30 2 * * *", "--timezone", "Europe/Paris", "--from", "2026-03-28T00:00:00Z", "--count", "3"],
     ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
    (["--cron", "30 2 * * *", "--timezone", "Europe/Paris", "--from", "2026-10-24T12:00:00+02:00", "--count", "2"],
     ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
    (["--cron", "0 0 29 2 *", "--timezone", "UTC", "--from", "2026-01-01", "--count", "2"],
     ["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00"]),
    (["--every", "5400", "--timezone", "Asia/Kolkata", "--from", "2026-01-01T00:00:00+0000", "--count", "2"],
     ["2026-01-01T07:00:00+05:30", "2026-01-01T08:30:00+05:30"]),
    (["--cron", "0 0 1 1 *", "--timezone", "UTC", "--from", "9998-06-01T00:00:00Z"], ["9999-01-01T00:00:00+00:00"]),
])
def test_next_tells_instants_with_their_offset(words: list[str], moments: list[str], tmp_path: Path) -> None:
    """In the zone asked for, over daylight saving and up to the end of the calendar, without any installation."""
    done = call(tmp_path / "none", "next", "--json", *words)
    assert done.document == moments
    assert call(tmp_path / "none", "next", *words).out.splitlines() == [moment.replace("T", " ") for moment in moments]


def test_next_of_a_task_follows_its_zone_and_its_last_start(installation: Installation) -> None:
    """The task's zone, else the installation's; an interval counts from the last start, and is due now without one."""
    installation.add("a", expression="0 3 * * *")
    installation.add("b", expression="0 3 * * *", timezone="Asia/Tokyo")
    installation.add("c", intervalSeconds=3600)
    installation.add("d", intervalSeconds=3600, lastRunAt=format_time(time.time() - 600))
    installation.configure(timezone="Europe/Lisbon")
    assert all("T03:00:00+0" in moment for moment in call(installation.home, "next", "a", "--json").document)
    assert all("T03:00:00+09:00" in moment for moment in call(installation.home, "next", "b", "--json").document)
    soon = call(installation.home, "next", "c", "--json", "--count", "1", "--timezone", "UTC").document
    later = call(installation.home, "next", "d", "--json", "--count", "1", "--timezone", "UTC").document
    assert soon[0] <= format_time(time.time()) < later[0]
