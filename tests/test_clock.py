# SPDX-License-Identifier: LGPL-3.0-or-later
"""A clock that is wrong: how much history it can cost, that all which is due goes in the end, and who says so.

Clock and time since boot are arguments; files and clean-ups are real. With faketime (libfaketime) the whole program
has a clock that is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import call, environment
from tests.installation import Installation
from webscheduler.host import doctor, findings
from webscheduler.runs import retention
from webscheduler.store import clock, history, history_cleaning
from webscheduler.store.settings import load_settings
from webscheduler.times import format_time

DAY, HOUR = 86400, 3600
BEGIN = 1_790_000_000.0


class Machine:
    """A machine whose time goes on as a test says, with an installation; each hour it adds a line and cleans up."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.home = installation, str(installation.home)
        installation.add("task")
        installation.configure(logRetentionDays=30)
        self.settings = load_settings(self.home)
        self.true, self.off, self.boot, self.begun = BEGIN, 0.0, "first", BEGIN - 5 * DAY
        self.written: dict[str, float] = {}  # run -> when it truly ended

    @property
    def now(self) -> float:
        """What the clock shows."""
        return self.true + self.off

    def look(self) -> None:
        """Time since boot is what nobody can set."""
        retention.clean_hourly(self.settings, self.now, (self.boot, self.true - self.begun))

    def restart(self) -> None:
        self.boot, self.begun = f"{self.boot}+", self.true

    def line(self) -> None:
        run = f"run-{len(self.written)}"
        at = format_time(self.now)
        self.written[run] = self.true
        history.append(self.home, "task", {"run": run, "status": "success", "startedAt": at, "finishedAt": at})

    def live(self, days: float, every: float = 4 * HOUR) -> None:
        """A run every few hours, and a clean-up after each."""
        for _ in range(round(days * DAY / every)):
            self.true += every
            self.line()
            self.look()

    @property
    def kept(self) -> set[str]:
        return {line["run"] for line in self.installation.history("task")}

    def lost(self) -> list[float]:
        """How old the lines were, in days, that are gone too early."""
        gone = set(self.written) - self.kept
        return sorted((self.true - self.written[run]) / DAY for run in gone if self.true - self.written[run] < 30 * DAY)

    def overdue(self) -> list[float]:
        """How old the lines are, in days, that should have gone: a clean-up comes after up to an hour."""
        ages = [(self.true - self.written[run]) / DAY for run in self.kept]
        return sorted(age for age in ages if age > 30 + 1 / 24)


@pytest.fixture
def machine(installation: Installation) -> Machine:
    made = Machine(installation)
    made.live(40, 12 * HOUR)
    assert made.lost() == [] and made.overdue() == []  # retention does its work
    return made


@pytest.mark.parametrize(("off", "days"), [(40, 1 / 6), (40, 0.9), (-40, 0.9), (4000, 0.9), (-4000, 1 / 6), (1.5, 0.5)])
def test_a_clock_that_is_wrong_for_less_than_a_day_costs_nothing(machine: Machine, off: float, days: float) -> None:
    """It is ahead or behind, and set right again: no line goes too early, meanwhile or later; then all goes that is
    due."""
    machine.off = off * DAY
    machine.live(days)
    assert machine.lost() == []
    machine.off = 0.0
    machine.live(5)
    assert machine.lost() == []
    machine.live(80, DAY)
    assert machine.lost() == [] and machine.overdue() == []


def test_a_clock_that_is_ahead_for_days_costs_a_day_for_each_clean_up(machine: Machine) -> None:
    """After a day it is believed; then each clean-up removes one day's lines more, and what it removed is all it
    costs."""
    machine.off = 40 * DAY
    machine.live(1 + 1 / 6)
    before = len(machine.kept)
    machine.true += HOUR
    machine.look()
    assert len(machine.kept) >= before - 6
    lost = machine.lost()
    assert lost and min(lost) > 30 - 2 - 1 / 6
    machine.off = 0.0
    machine.live(41)
    assert machine.lost() == [] and machine.overdue() == []


def test_true_days_remove_all_that_is_due_within_as_many_clean_ups(machine: Machine) -> None:
    """Nobody called for forty days, or the clock was ahead before them: each clean-up goes forward by a day at most."""
    machine.off = 40 * DAY
    machine.live(0.5)
    machine.off = 0.0
    machine.live(1.5)
    machine.true += 40 * DAY
    kept = []

    for _ in range(41):
        machine.true += HOUR
        machine.look()
        kept.append(len(machine.kept))

    assert machine.overdue() == [] and machine.kept == set()
    assert all(before - after <= 12 for before, after in zip(kept, kept[1:]))  # the lines of two days


def test_a_machine_that_was_off_for_forty_days_catches_up(machine: Machine) -> None:
    """Nothing tells how long it was off; once it has been on for a day it does."""
    machine.true += 40 * DAY
    machine.restart()
    machine.live(0.9)
    assert len(machine.overdue()) > 50
    machine.live(41 / 6)
    assert machine.overdue() == [] and machine.lost() == []


def test_a_machine_that_starts_anew_each_day(machine: Machine) -> None:
    """Its clock is believed if it goes on at each start; one that is ahead at a start is not."""
    for _ in range(20):
        machine.restart()
        machine.live(0.5)
        machine.true += 0.4 * DAY

    assert len(machine.overdue()) < 6  # of the night
    assert machine.lost() == []
    machine.restart()
    machine.off = 40 * DAY
    machine.live(0.5)
    machine.restart()
    machine.off = 0.0
    machine.live(0.5)
    assert machine.lost() == []


def test_two_machines_with_one_home(machine: Machine) -> None:
    """They take turns; if one of them is wrong, nothing is removed until both agree."""
    for number in range(80):
        machine.boot = "even" if number % 2 else "odd"
        machine.live(0.25)

    assert machine.lost() == [] and machine.overdue() == []

    for number in range(80):
        machine.boot, machine.off = ("even", 0.0) if number % 2 else ("odd", 40.0 * DAY)
        machine.live(0.25)

    assert machine.lost() == []


def test_a_home_of_before(installation: Installation) -> None:
    """One that never compared clocks: the first day nothing is removed, then from where its last clean-up was."""
    machine = Machine(installation)
    mark = installation.home / "locks" / ".housekeeping"
    mark.touch()
    os.utime(mark, (BEGIN, BEGIN))

    for age in range(35):
        machine.true = BEGIN - (35 - age) * DAY
        machine.line()

    machine.true = BEGIN + 10 * DAY
    machine.live(0.9)
    assert {f"run-{number}" for number in range(35)} <= machine.kept
    machine.live(2.5)
    assert machine.overdue() == [] and machine.lost() == []


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"{}", b"\xff", b'{"id": 1}', b"[" * 65536])
def test_notes_that_make_no_sense(machine: Machine, content: bytes) -> None:
    """It begins anew: a day later it goes on."""
    (machine.installation.home / "locks" / ".housekeeping").write_bytes(content)
    assert clock.read(machine.home) is None
    machine.live(0.9)
    assert machine.overdue() != []
    machine.live(0.5)
    assert machine.overdue() == [] and machine.lost() == []


def test_each_note_is_checked(machine: Machine) -> None:
    notes = clock.read(machine.home)
    assert notes

    for key in notes:
        for value in (None, "1", {}, [[1, 2]], [["1", 2, 3]], True) if key != "id" else (None, 1, []):
            if not (value is True and key != "setBack"):
                (machine.installation.home / "locks" / ".housekeeping").write_text(json.dumps({**notes, key: value}))
                assert clock.read(machine.home) is None, (key, value)


def times_of(home: str, now: float, set_back: list[list[float]], times: list[float]) -> list[float]:
    """What lines of these times, in days, count as."""
    entries: list[Any] = [{"finishedAt": format_time(at * DAY) if at else ""} for at in times]
    Path(history.path(home, "judged")).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    judged = retention.Judged(home, "judged", now * DAY, [[part * DAY for part in each] for each in set_back])

    try:
        return [judged.time_of(entry) / DAY for entry in entries]
    finally:
        judged.close()


@pytest.mark.parametrize(("times", "judged"), [
    ([1, 2, 3], [1, 2, 3]),
    ([40, 41, 5, 6, 42], [40, 41, 41, 41, 42]),  # behind: no older than those before
    ([3, 0, 4], [3, 0, 4]),  # a line without a time
    ([3, 90, 91, 4, 5], [3, 4, 4, 4, 5]),  # later than now: no younger than those after
    ([3, 90, 91], [3, 90, 91]),
    ([90, 2, 91, 1, 3], [2, 2, 2, 2, 3]),
    ([19, 45, 46, 20.5, 22, 45, 50], [19, 20.5, 20.5, 20.5, 22, 45, 50]),  # was ahead, as noted
    ([19, 25, 26, 30], [19, 25, 26, 30]),  # such times, but nothing shows that they are from then
    ([19, 20.5, 40, 22, 45], [19, 20.5, 40, 40, 45]),  # behind, after that
])  # fmt: skip
def test_what_a_line_counts_as(installation: Installation, times: list[float], judged: list[float]) -> None:
    """Today is day 50. On day 20 the clock was set back; it had been ahead, up to day 48. On day 21 it was good."""
    assert times_of(str(installation.home), 50, [[20, 21, 48]], times) == judged


def test_clean_up_of_a_line_that_never_ends(installation: Installation) -> None:
    """Damage of any length is removed, and takes no memory."""
    import resource

    home = str(installation.home)
    file = Path(history.path(home, "task"))
    history.append(home, "task", {"run": "before"})

    with open(file, "ab") as target:
        target.seek(512 * 1024 * 1024, os.SEEK_CUR)
        target.write(b"\n")

    history.append(home, "task", {"run": "after"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert history_cleaning.clean(home, "task", lambda entry: True) > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 65536  # KiB
    assert [line["run"] for line in installation.history()] == ["before", "after"]


def test_what_is_removed_from_many_places(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clean-up removes lines from so many places at most; the next one does the rest."""
    monkeypatch.setattr(history_cleaning, "MOST_GAPS", 3)
    home = str(installation.home)

    for number in range(10):
        history.append(home, "task", {"run": number})

    left = []

    while history_cleaning.clean(home, "task", lambda entry: entry["run"] % 2 == 1):
        left.append([line["run"] for line in installation.history()])

    assert left == [[1, 3, 5, 6, 7, 8, 9], [1, 3, 5, 7, 9]]


def needs_faketime() -> None:
    if not shutil.which("faketime"):
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("faketime is missing")


def run_at(home: Path, off: str, *words: str) -> None:
    """`webscheduler WORDS` while the clock is off; the time since boot is not."""
    import subprocess
    import sys

    # The times of files are off, too: Python would compile all modules anew, and again when the clock is right.
    variables = environment(home, FAKETIME_DONT_FAKE_MONOTONIC="1", PYTHONDONTWRITEBYTECODE="1")
    command = ["faketime", "-f", off, sys.executable, "-m", "webscheduler", *words]
    done = subprocess.run(command, env=variables, cwd=home.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("off", ["+40d", "-40d"])
def test_the_program_under_a_wrong_clock(installation: Installation, off: str) -> None:
    """One run is recorded under it, and more under the right one: no line of before or meanwhile is lost, and `doctor`
    says so while it is wrong, and when it was set right."""
    needs_faketime()
    home = installation.home
    installation.add("task")
    at = format_time(time.time() - 5 * DAY)
    history.append(str(home), "task", {"run": "old", "status": "success", "startedAt": at, "finishedAt": at})
    assert call(home, "run", "task").status == 0
    mark = home / "locks" / ".housekeeping"
    notes = json.loads(mark.read_text())

    for key in ("wall", "since", "boot"):
        notes[key] -= 2 * DAY  # the machine was seen two days ago, too

    if notes["boot"] < 0:
        notes["boot"], notes["wall"] = 0.0, notes["wall"] - notes["boot"]  # it has been on for less

    mark.write_text(json.dumps(notes))
    assert not said_of_the_clock(installation)
    run_at(home, off, "run", "task")
    assert len(installation.history()) == 3
    assert call(home, "run", "task").status == 0
    assert [line["status"] for line in installation.history()] == ["success"] * 4
    assert installation.history()[0]["run"] == "old"
    assert "h, or the machine was off so long" in said_of_the_clock(installation)


def said_of_the_clock(installation: Installation) -> str:
    found = doctor.examine(str(installation.home), time.time())
    return " ".join(each.text() for each in found if each.about == "clock" and "jumped" in each.message)


def test_doctor_says_a_jump(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """From when it is seen until a week after; as something to look at until the clock is good again."""

    def said() -> list[tuple[str, str]]:
        monkeypatch.setattr(clock, "boot", lambda: (machine.boot, machine.true - machine.begun))
        found = doctor._clock(machine.home, machine.now)
        return [(each.state, str(each.values["off"])) for each in found if "jumped" in each.message]

    assert said() == []
    machine.off = 40.0 * DAY
    assert said() == [(findings.WARNING, "+960.0")]
    machine.live(0.5)
    assert said() == [(findings.WARNING, "+960.0")]
    machine.off = 0.0
    assert said() == [(findings.WARNING, "-960.0")]
    machine.live(0.5)
    assert said() == [(findings.WARNING, "-960.0")]
    machine.live(1)
    assert said() == [(findings.OK, "-960.0")]
    machine.live(6)
    assert said() == []
