# SPDX-License-Identifier: LGPL-3.0-or-later
"""A year of ticks: each task runs exactly as often as "due since its last run, catch up once" says.

The clock is an argument; gate, claims, state and history are real files. Only the command is left out: a run succeeds
at once, in this process. What is to be expected is computed here from calendar and clock alone, without the package.
WEBSCHEDULER_FULL=1 takes the whole year for every rhythm of ticks.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable
from zoneinfo import ZoneInfo

import pytest

from tests.installation import Installation
from webscheduler.runs import due, recorder
from webscheduler.runs.admission import Cause, decide
from webscheduler.store import state
from webscheduler.store.settings import load_settings
from webscheduler.times import format_time

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
PARIS = ZoneInfo("Europe/Paris")
BEGIN = datetime(2026, 1, 1, tzinfo=PARIS)
DAY = 86400
TASKS = {
    "nightly": {"expression": "7 3 * * *", "timezone": "Europe/Paris"},
    "often": {"expression": "*/10 * * * *"},
    "monthly": {"expression": "@monthly", "timezone": "Europe/Paris"},
    "ninety": {"intervalSeconds": 5400},
}
SUCCESS = {"status": "success", "reason": None, "exitCode": 0, "signal": None, "duration": 0.0, "output": "",
           "errorOutput": ""}


@pytest.fixture
def place() -> Iterator[Path]:
    """In memory where there is some: each run writes and syncs a dozen times."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


def every(seconds: int, days: int) -> list[float]:
    begin = BEGIN.timestamp()
    return [begin + offset for offset in range(seconds, (365 if FULL else days) * DAY, seconds)]


def at_random() -> list[float]:
    """Gaps from seconds to days, to the millisecond, all year round."""
    source = random.Random(7)
    now, found = BEGIN.timestamp(), []

    while now < BEGIN.timestamp() + 365 * DAY:
        now += round(source.choice((90, 900, 3600, 6 * 3600, 3 * DAY)) * source.random() * 2 + 0.01, 3)
        found.append(now)

    return found


RHYTHMS = {
    "every minute": lambda: every(60, 2),
    "every 15 minutes": lambda: every(900, 10),
    "every hour": lambda: every(3600, 45),
    "at random": at_random,
}


def slots(name: str) -> list[float]:
    """Every instant of the year that the schedule names, by the calendar."""
    days = [BEGIN + timedelta(days=day) for day in range(366)]  # wall clock: an aware datetime adds by it

    if name == "often":
        return [BEGIN.timestamp() + offset for offset in range(0, 366 * DAY, 600)]  # the year begins at a full hour

    if name == "monthly":
        return [day.timestamp() for day in days if day.day == 1]

    return [day.replace(hour=3, minute=7).timestamp() for day in days]


def expected(name: str, ticks: list[float]) -> list[float]:
    """When it is to start: at the first tick after a slot that came since the last start."""
    last, found = BEGIN.timestamp(), []

    if name == "ninety":
        for now in ticks:
            if not found or now - found[-1] >= 5400:
                found.append(now)

        return found

    table = slots(name)

    for now in ticks:
        if bisect_right(table, now) > bisect_right(table, last):
            found.append(now)
            last = now

    return found


@pytest.mark.timeout(7200 if FULL else 300)
@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_each_task_starts_at_the_first_tick_after_a_slot_and_at_no_other(rhythm: str, place: Path) -> None:
    """However often and however irregularly the ticks come; history and state agree."""
    installation = Installation(place / "home")
    home = str(installation.home)

    for name, fields in TASKS.items():
        installation.add(name, createdAt=format_time(BEGIN.timestamp()), **fields)

    settings = load_settings(home)
    ticks = RHYTHMS[rhythm]()

    for now in ticks:
        due.tick(settings, state.read(home), started_at(home, now), 55.0, now)

    for name in TASKS:
        wanted = [format_time(at) for at in expected(name, ticks)]
        assert [line["startedAt"] for line in installation.history(name)] == wanted, name
        assert all(line["status"] == "success" and line["trigger"] == "due" for line in installation.history(name))
        assert installation.row(name)["lastRunAt"] == (wanted[-1] if wanted else None)

    assert installation.claims() == []
    assert len(expected("ninety", ticks)) > 25  # the year had something to show
    assert len(expected("nightly", ticks)) > 1


def started_at(home: str, now: float) -> Callable[..., int]:
    def start(name: str, still_due: Any, *others: object) -> int:
        decision = decide(home, name, Cause("due", still_due=still_due), now)
        assert decision.claim is not None, (name, decision.reason, now)
        recorder.mark_running(home, decision.claim)
        recorder.finish(home, decision.claim, dict(SUCCESS), "UTC", now)
        return 1 << 30  # no pid is so large: the process has ended

    return start


def test_what_the_calendar_of_this_test_says() -> None:
    """The expectation itself: 365 nights, twelve months, an hour less in March, an hour more in October."""
    assert len(slots("nightly")[:365]) == 365
    hours = [datetime.fromtimestamp(at, timezone.utc).hour for at in slots("monthly")[:12]]
    assert hours == [23] * 3 + [22] * 7 + [23] * 2
    nights = [later - earlier for earlier, later in zip(slots("nightly"), slots("nightly")[1:])]
    assert sorted(set(nights)) == [23 * 3600, DAY, 25 * 3600]
    assert all(at % 600 == 0 for at in slots("often"))
    assert time.gmtime(BEGIN.timestamp())[:5] == (2025, 12, 31, 23, 0)
