# SPDX-License-Identifier: LGPL-3.0-or-later
"""The answer of a status URL: short where index and row say it all, else by way of schedules, and the same bytes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.installation import DOORS, Installation, asking, waits_for
from tests.test_imports import imported
from webscheduler import status, trigger
from webscheduler.http import Request
from webscheduler.runs import indexing
from webscheduler.runs.health import health
from webscheduler.store import index, state
from webscheduler.store.settings import load_settings
from webscheduler.times import format_time

DAY = 86400


def rows(now: float) -> dict[str, tuple[dict[str, Any], bool]]:
    """Rows of state.json, and whether what is said of them takes no more than the index and the row. They are made by
    the time of each test: a suite takes so long that what it knew at its start is due at its end."""
    ran: dict[str, Any] = {"lastRunAt": format_time(now - 600), "lastRunStatus": "success", "lastRunDuration": 0.25,
                           "lastRunExitCode": 0, "lastRunId": "20260101000000-00000000"}  # fmt: skip
    hourly = {"expression": f"{(time.gmtime(now).tm_min + 30) % 60} * * * *", **ran}
    far = time.gmtime(now + (9 + 12) * 3600)  # half a day away in Tokyo

    return {
        "never ran": ({}, True),
        "ran": (ran, True),
        "off": ({**hourly, "enabled": False}, True),
        "off and failed": ({**ran, "lastRunStatus": "failed", "enabled": False}, True),
        "hourly": (hourly, True),
        "daily in Tokyo": ({**ran, "expression": f"{far.tm_min} {far.tm_hour} * * *", "timezone": "Asia/Tokyo"}, True),
        "interval": ({**ran, "intervalSeconds": 7200}, True),
        "interval that never ran": ({"intervalSeconds": 7200}, False),
        "failed": ({**hourly, "lastRunStatus": "failed"}, True),
        "timed out": ({**ran, "lastRunStatus": "timeout", "lastRunDuration": 300}, True),
        "waits for its retry": ({**hourly, "lastRunStatus": "failed", "retries": 2, "retryDelaySeconds": 3000}, True),
        "due for its retry": ({**hourly, "lastRunStatus": "failed", "retries": 2}, False),
        "died while running": ({**hourly, "lastRunStatus": "running", "lastRunDuration": None}, False),
        "due": ({**ran, "intervalSeconds": 300}, False),
        "late": ({**ran, "intervalSeconds": 300, "lastRunAt": format_time(now - DAY)}, False),
        "ahead of the clock": ({**hourly, "lastRunAt": format_time(now + DAY)}, False),
        "no such day": ({**ran, "expression": "0 0 30 2 *"}, False),
        "no such zone": ({**hourly, "timezone": "Nowhere"}, False),
        "breaks a rule": ({**hourly, "priority": "high"}, False),
        "a list of addresses": ({**hourly, "ipAllowlist": ["192.0.2.0/24"]}, False),
        "environment": ({**hourly, "environment": {"lastRunStatus": "failed"}}, False),
        "braces": ({**hourly, "title": "{"}, False),
        "quotes": ({**hourly, "description": 'says "lastRunStatus": "failed", "lastRunAt": 7}'}, False),
        "a field's name": ({**hourly, "title": "lastRunStatus", "argv": ["lastRunAt", "lastRunStatus"]}, True),
        "odd duration": ({**hourly, "lastRunDuration": 1e-7}, True),
        "whole duration": ({**hourly, "lastRunDuration": 7}, True),
        "a status of no kind": ({**hourly, "lastRunStatus": "é\\"}, False),
        "a status that is a list": ({**hourly, "lastRunStatus": ["failed"]}, False),
        "naïve: ü": (hourly, False),
        'a "name"': (hourly, False),
        "x" * 100: (hourly, True),
    }


@pytest.fixture
def now() -> float:
    return time.time()


@pytest.fixture
def many(installation: Installation, now: float) -> Installation:
    for name, (row, _) in rows(now).items():
        installation.add(name, **{"createdAt": format_time(now - 7 * DAY), **row})

    installation.configure(timezone="Europe/Paris")
    assert indexing.refresh(str(installation.home))
    return installation


def test_the_short_way_says_what_the_long_one_says(many: Installation, now: float) -> None:
    """Byte for byte, at any moment: now, an hour later, a day later, and by a clock that was set back."""
    home = str(many.home)
    settings, view = load_settings(home), index.open_index(home)
    assert view is not None

    for name, (_, short) in rows(now).items():
        known = view.find(many.row(name)["slug"])
        assert known is not None

        for at in (now, now + 1799, now + 3600, now + DAY, now - 300, now - 30 * DAY):
            found = None if known.unusual else status.plain_report(home, view, known, at)
            report = health(settings, {name: many.row(name)}, name, at)
            assert found in (None, (report["status"] == "healthy", json.dumps(report))), (name, at)
            assert at != now or (found is not None) == short, name


@pytest.mark.parametrize("door", DOORS)
def test_both_ways_at_the_doors(many: Installation, door: str) -> None:
    """With an index and without one, the answer is the same."""
    asked = {name: many.asking_status(name) for name in rows(0) if name != "interval that never ran"}  # it is due now
    before = {name: many.call(door, environ) for name, environ in asked.items()}
    (many.home / "index").unlink()
    after = {name: many.call(door, environ) for name, environ in asked.items()}
    assert {name: (answer.status, answer.body) for name, answer in before.items()} == {
        name: (answer.status, answer.body) for name, answer in after.items()}


def test_by_hand_counts_at_once(many: Installation, now: float) -> None:
    """What the index knows of a schedule is not believed of an edited one, nor of other settings."""
    far = (time.gmtime(now).tm_mon + 5) % 12 + 1  # half a year away
    environ, file = many.asking_status("hourly"), many.home / "state.json"
    text = file.read_text()
    first = many.cgi(environ).document["nextRunAt"]
    hourly = many.row("hourly")["expression"]
    file.write_text(text.replace(hourly, hourly.replace("* * * *", f"3 1 {far} *")))
    other = many.cgi(environ).document["nextRunAt"]
    assert other[4:10] == f"-{far:02}-01" and other != first
    assert indexing.refresh(str(many.home))
    assert many.cgi(environ).document["nextRunAt"] == other
    many.configure(timezone="Asia/Tokyo")
    tokyo = many.cgi(environ).document["nextRunAt"]
    assert tokyo != other
    assert indexing.refresh(str(many.home))
    assert many.cgi(environ).document["nextRunAt"] == tokyo


def test_a_task_that_runs(installation: Installation, tmp_path: Path) -> None:
    """Its claim counts, whatever the row says."""
    installation.add(argv=waits_for(tmp_path / "go-on"))
    installation.trigger()
    installation.command_runs()
    assert indexing.refresh(str(installation.home))
    report = installation.cgi(installation.asking_status()).document
    assert (report["running"], report["lastRunStatus"]) == (True, "running")
    (tmp_path / "go-on").touch()
    installation.idle()


def test_the_short_way_imports_as_little_as_a_refusal(many: Installation) -> None:
    """No JSON, no zones, no schedules."""
    refused = imported(many, asking("/run/" + "0" * 32))
    more = imported(many, many.asking_status("hourly"), 200) - refused
    assert more == {"webscheduler.status", "webscheduler.vocabulary"}


def test_a_row_is_read_and_not_the_file(many: Installation) -> None:
    """Also the long way parses one row, whose place the index knows."""
    file = many.home / "state.json"
    view = index.open_index(str(many.home))
    assert view is not None
    content, known = file.read_bytes(), view.find(many.row("late")["slug"])
    assert known is not None
    place = content.index(b'"late": {')
    assert (known.place, known.size) == (place, content.index(b"},\n", place) + 1 - place)
    assert trigger.answer(Request(many.asking_status("late")), str(many.home), True, time.time, print).status == 503
    assert state.read_row(str(many.home), "late") == many.row("late")
