# SPDX-License-Identifier: LGPL-3.0-or-later
"""Ticks that need not look at any task: an earlier one found when the next is due, and nothing changed since.

The rule: whatever changes what is due, the next tick looks. Every tick here is a real one.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Callable

import pytest

from tests.commandline import call
from tests.installation import Installation, until
from webscheduler.runs import by_hand, indexing
from webscheduler.store import index, state
from webscheduler.store.task import DUE
from webscheduler.times import format_time, parse_time

DAY = 86400


@pytest.fixture
def idle(installation: Installation) -> Installation:
    """Ticks find nothing to do: `later` ran just now and is due in a day, `other` has no schedule."""
    installation.add("later", intervalSeconds=DAY, **ran(0))
    installation.add("other")
    rest(installation)
    return installation


def ran(ago: float) -> dict[str, Any]:
    return {"lastRunAt": format_time(time.time() - ago), "lastRunStatus": "success"}


def rest(installation: Installation) -> None:
    """Tick, starting nothing, until the index tells when the next task is due: for that it must have been valid before,
    and the last search for commands a second younger than the settings."""
    until(lambda: times(installation)[1] > 0 or tick(installation) != [], "an idle tick")
    assert times(installation)[1] > 0


def tick(installation: Installation) -> list[str]:
    """What a tick starts."""
    done = call(installation.home, "run-due", "--json")
    assert done.err == "", done.err
    return [task["name"] for task in done.document["tasks"]]


def times(installation: Installation) -> tuple[float, float]:
    found = index.open_index(str(installation.home), whole=True)
    return found.idle if found else (0.0, 0.0)


def loaded(installation: Installation, clock: Callable[[], float] = time.time) -> list[str]:
    """The tasks that a tick reads in full."""
    found = []

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "load_task":
            found.append(frame.f_locals["name"])

    sys.setprofile(note)

    try:
        assert by_hand.run_by_hand(str(installation.home), DUE, "cli", clock)
    finally:
        sys.setprofile(None)

    return sorted(set(found) - {DUE})


def test_an_idle_tick_reads_no_task(idle: Installation) -> None:
    """Nor do those after it; it is recorded like any other, and the index stays valid."""
    before = times(idle)
    assert before[1] - before[0] == 3600

    for number in range(3):
        assert loaded(idle) == []
        assert times(idle) == before
        assert len(idle.runs(DUE)) > number

    assert idle.row(DUE)["lastRunId"] in [run["run"] for run in idle.runs(DUE)]


def in_place(installation: Installation, old: str, new: str) -> None:
    file = installation.home / "state.json"
    assert len(old) == len(new)

    with file.open("r+b") as state:
        state.seek(file.read_bytes().index(old.encode()))
        state.write(new.encode())


def replaced(installation: Installation) -> None:
    file = installation.home / "state.json"
    text = file.read_text().replace(f'"intervalSeconds": {DAY}', '"intervalSeconds": 1')
    (installation.home / "new").write_text(text)
    (installation.home / "new").replace(file)


CHANGES: dict[str, Callable[[Installation], object]] = {
    "edited": lambda installation: call(installation.home, "edit", "later", "--every", "1"),
    "edited by hand": replaced,
    "edited in place": lambda installation: in_place(installation, str(DAY), "1    "),
    "by a program": lambda installation: installation.edit("later", intervalSeconds=1),
    "added": lambda installation: installation.add("new", intervalSeconds=DAY),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_task_that_becomes_due_by_a_change_starts(idle: Installation, change: str) -> None:
    CHANGES[change](idle)
    time.sleep(1.1)
    assert tick(idle) == ["new" if change == "added" else "later"]


def test_a_task_that_becomes_due_by_itself_starts(idle: Installation) -> None:
    """At its time and not a tick later."""
    idle.add("soon", intervalSeconds=60, **ran(30))
    due = parse_time(idle.row("soon")["lastRunAt"]) + 60
    rest(idle)
    assert times(idle)[1] == pytest.approx(due, abs=0.1)
    assert loaded(idle) == []
    time.sleep(max(0.0, due + 0.1 - time.time()))
    assert tick(idle) == ["soon"]


@pytest.mark.parametrize("door", ["cgi", "wsgi"])
def test_a_retry_is_due(idle: Installation, door: str) -> None:
    """A run by URL fails and is to be tried again at once."""
    once = idle.home / "failed"
    program = f"[ -e {once} ] || {{ touch {once}; exit 1; }}"
    idle.add("fails", argv=["sh", "-c", program], retries=1, retryDelaySeconds=0)
    rest(idle)
    idle.trigger(door, "fails")
    idle.idle()
    idle.gone()
    assert tick(idle) == ["fails"]


def test_a_dead_run_is_recorded(idle: Installation) -> None:
    (idle.home / "runs" / "other@20260101000000-00000000").write_text("")
    tick(idle)
    assert [run["status"] for run in idle.runs("other")] == ["interrupted"]


def test_new_commands_are_searched_for(idle: Installation) -> None:
    """Functions get a task, files in commands/ do not."""
    (idle.home.parent / "jobs.py").write_text(
        "from webscheduler import schedulable\n\n\n@schedulable('new')\ndef new(): ...\n")
    (idle.home / "commands" / "refused.sh").write_text("true\n")
    (idle.home / "commands" / "refused.sh").chmod(0o660)
    tick(idle)
    until(lambda: "refused.sh" in (idle.home / "commands.json").read_text())
    idle.configure(modules=["jobs"], environment={"PYTHONPATH": str(idle.home.parent)})
    tick(idle)
    until(lambda: "new" in state.read(str(idle.home)))
    assert idle.row("new")["command"] == "new"
    assert "refused" not in state.read(str(idle.home))


@pytest.mark.parametrize("off", [-2 * 60, 2 * 3600])
def test_another_time_of_the_clock_counts(idle: Installation, off: float) -> None:
    """Set back, or ahead by more than the hour after which schedules are read again, since zones may have changed."""
    assert loaded(idle) == []
    assert loaded(idle, lambda: time.time() + off) == ["later", "other"]


def test_a_setting_counts(idle: Installation) -> None:
    idle.configure(timezone="Asia/Tokyo")
    assert loaded(idle) == ["later", "other"]


def test_a_task_of_which_it_cannot_be_told_is_told_every_time(idle: Installation) -> None:
    idle.add("zoned", timezone="Mars/Olympus", expression="* * * * *")

    for _ in range(3):
        done = call(idle.home, "run-due")
        assert done.status == 1
        assert "zoned" in done.complaint


def test_what_another_process_changed_meanwhile_is_not_forgotten(idle: Installation) -> None:
    """A tick tells when no task is due only of the state.json that it has read."""
    home = str(idle.home)
    before = index.open_index(home, whole=True)
    assert before
    idle.edit("other", intervalSeconds=DAY)
    assert indexing.refresh(home)
    _, after = state.update_row(home, DUE, lambda row: row.update(lastRunStatus="success"))
    assert after
    assert indexing.refresh(home, after, idle=(before.sources, before.idle))
    assert times(idle) == (0.0, 0.0)
    assert tick(idle) == ["other"]
