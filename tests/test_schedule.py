# SPDX-License-Identifier: LGPL-3.0-or-later
"""schedule: when a task is due, counted from its last run, and when it is due next."""

from __future__ import annotations

from typing import Any

import pytest

from webscheduler.errors import BadInput
from webscheduler.schedule import slots
from webscheduler.store.task import Task, load_task
from webscheduler.times import format_time, parse_time, time_zone

LONG_AGO = "2026-01-01T00:00:00+00:00"


def task(**fields: Any) -> Task:
    return load_task("task", {"enabled": True, "createdAt": LONG_AGO, **fields})


def slot(made: Task, now: str, last_start: str | None = None, zone: str = "UTC") -> tuple[str, int, bool] | None:
    """What it is due for at that instant, if anything; instants to the second."""
    found = slots.slot(made, zone, parse_time(last_start) if last_start else 0.0, parse_time(now))
    return None if found is None else (format_time(found.at)[:19], found.attempt, found.too_late)


def coming(made: Task, now: str, zone: str = "UTC") -> str | None:
    found = slots.next_at(made, zone, parse_time(now))
    return None if found is None else format_time(found)[:19]


@pytest.mark.parametrize(
    ("now", "last", "due"),
    [
        ("2026-03-02T03:06:59Z", "2026-03-01T03:07:00Z", None),
        ("2026-03-02T03:07:00Z", "2026-03-01T03:07:00Z", "2026-03-02T03:07:00"),
        ("2026-03-02T03:07:59Z", "2026-03-01T03:07:00Z", "2026-03-02T03:07:00"),
        ("2026-03-02T03:15:00Z", "2026-03-01T03:15:00Z", "2026-03-02T03:07:00"),  # calls that never come at :07
        ("2026-03-02T23:59:00Z", "2026-03-01T03:15:00Z", "2026-03-02T03:07:00"),  # calls that come late
        ("2026-03-02T03:15:00Z", "2026-03-02T03:07:00Z", None),  # the slot was run for
        ("2026-03-02T03:15:00Z", "2026-03-02T03:06:59Z", "2026-03-02T03:07:00"),
        ("2026-03-09T12:00:00Z", "2026-03-01T03:07:00Z", "2026-03-09T03:07:00"),  # seven days were missed: one run
    ],
)
def test_a_task_is_due_once_for_all_slots_since_its_last_run(now: str, last: str, due: str | None) -> None:
    """However late and irregular the calls are: one run, for the latest slot."""
    found = slot(task(expression="7 3 * * *", lastRunAt=last), now)
    assert (found and found[0]) == due


@pytest.mark.parametrize("field", ["lastRunAt", "createdAt", "scheduledSince", "gate"])
def test_slots_count_from_the_latest_of_all_beginnings(field: str) -> None:
    """Last start, creation, enabling and change of schedule: none of them makes up for a slot before it."""
    after, now = "2026-03-02T03:08:00Z", "2026-03-02T04:00:00Z"
    made = task(expression="7 3 * * *", **({} if field == "gate" else {field: after}))
    assert slot(made, now, after if field == "gate" else None) is None
    assert slot(made, "2026-03-03T04:00:00Z", after if field == "gate" else None) == ("2026-03-03T03:07:00", 1, False)


def test_a_task_of_which_nothing_is_known_waits_for_a_beginning() -> None:
    """A state.json of the first fields has no time of creation: its slots of the past are nobody's."""
    assert slot(task(expression="* * * * *", createdAt=None), "2026-03-02T03:07:30Z") is None


@pytest.mark.parametrize("fields", [{"expression": "* * * * *"}, {"intervalSeconds": 60}])
def test_a_disabled_task_is_not_due_and_has_no_next_run(fields: dict[str, Any]) -> None:
    made = task(enabled=False, **fields)
    assert slot(made, "2026-03-02T03:07:30Z") is None
    assert coming(made, "2026-03-02T03:07:30Z") is None


def test_a_cleared_schedule_is_never_due_and_has_no_next_run() -> None:
    made = task(lastRunAt=LONG_AGO, lastRunStatus="success")
    assert slot(made, "2026-03-02T03:07:30Z") is None
    assert coming(made, "2026-03-02T03:07:30Z") is None


@pytest.mark.parametrize(
    ("limit", "now", "late"),
    [
        (None, "2026-03-30T00:00:00Z", False),
        (3600, "2026-03-02T04:07:00Z", False),
        (3600, "2026-03-02T04:07:01Z", True),
        (0, "2026-03-02T03:07:00Z", False),
        (0, "2026-03-02T03:07:01Z", True),
    ],
)
def test_a_slot_older_than_catch_up_seconds_is_too_late(limit: int | None, now: str, late: bool) -> None:
    found = slot(task(expression="7 3 2 * *", catchUpSeconds=limit, lastRunAt="2026-02-02T03:07:00Z"), now)
    assert found == ("2026-03-02T03:07:00", 1, late)


def test_an_interval_that_never_ran_is_due_at_once() -> None:
    now = "2026-03-02T03:07:00Z"
    assert slot(task(intervalSeconds=86400, createdAt=now), now) == ("2026-03-02T03:07:00", 1, False)
    assert coming(task(intervalSeconds=86400, createdAt=now), now) == "2026-03-02T03:07:00"


@pytest.mark.parametrize("interval", [1, 20, 60, 300, 3600, 5400, 86400 * 30])
def test_an_interval_counts_from_the_last_start_to_the_second(interval: int) -> None:
    begun = parse_time("2026-03-02T03:00:00Z")
    made = task(intervalSeconds=interval, lastRunAt=format_time(begun))
    assert slots.slot(made, "UTC", 0.0, begun + interval - 0.5) is None
    found = slots.slot(made, "UTC", 0.0, begun + interval)
    assert found is not None
    assert found.at == begun + interval
    assert coming(made, format_time(begun)) == format_time(begun + interval)[:19]


@pytest.mark.parametrize("rhythm", [60, 300, 900, 3600, 21600])
def test_the_advice_for_an_interval_as_long_as_the_time_between_calls(rhythm: int) -> None:
    """The interval that it names causes no such advice, and runs at each call, though calls vary by some seconds."""
    now = parse_time("2026-03-02T03:00:00Z")

    for about in (rhythm - 2, rhythm, rhythm + 2):
        advice = slots.too_fine_for_ticks(task(intervalSeconds=about), "UTC", rhythm, now)
        assert f"has an interval of {about} s, and ticks come every {rhythm} s" in advice

    advised = int(advice.split("set an interval of ")[1].split()[0])
    assert slots.too_fine_for_ticks(task(intervalSeconds=advised), "UTC", rhythm, now) == ""

    for jitter in (-10, -1, 0, 1, 10):
        made = task(intervalSeconds=advised, lastRunAt=format_time(now))
        assert slots.slot(made, "UTC", 0.0, now + rhythm + jitter), jitter


@pytest.mark.parametrize(
    ("fields", "rhythm", "step"),
    [
        ({"intervalSeconds": 300}, 900, 300),
        ({"expression": "*/5 * * * *"}, 900, 300),
        ({"expression": "* * * * *"}, 3600, 60),
        ({"expression": "0,50 3 1 * *"}, 3600, 3000),
        ({"expression": "0 3,4 * * *"}, 21600, 3600),
        ({"expression": "0 3 * * 1-5"}, 172800, 86400),
        ({"expression": "*/15 * * * *"}, 900, None),
        ({"expression": "0 * * * *"}, 3600, None),
        ({"expression": "0 * * * *"}, 3605.5, None),
        ({"expression": "7 3 * * *"}, 3600, None),
        ({"expression": "0 3 * * 1"}, 172800, None),
        ({"expression": "* * * * *", "intervalSeconds": 60}, 60, None),  # the expression counts
        ({"intervalSeconds": 5400}, 3600, None),
        ({}, 900, None),
    ],
)
def test_a_schedule_finer_than_the_calls_is_named(
    fields: dict[str, Any], rhythm: float, step: int | None
) -> None:
    advice = slots.too_fine_for_ticks(task(**fields), "UTC", rhythm, parse_time("2026-03-02T03:00:00Z"))
    assert advice.partition(",")[0] == ("" if step is None else f"is scheduled every {step} s")


def test_an_interval_counts_from_a_change_of_schedule_that_is_later() -> None:
    made = task(intervalSeconds=3600, lastRunAt="2026-03-02T03:00:00Z", scheduledSince="2026-03-02T03:30:00Z")
    assert slot(made, "2026-03-02T04:15:00Z") is None
    assert slot(made, "2026-03-02T04:30:00Z") == ("2026-03-02T04:30:00", 1, False)


def test_an_expression_wins_over_an_interval() -> None:
    made = task(expression="7 3 * * *", intervalSeconds=60, lastRunAt="2026-03-02T03:07:00Z")
    assert slot(made, "2026-03-02T12:00:00Z") is None
    assert coming(made, "2026-03-02T12:00:00Z") == "2026-03-03T03:07:00"


@pytest.mark.parametrize(("limit", "named"), [(0, True), (300, True), (900, False), (3600, False), (None, False)])
def test_slots_that_no_call_can_catch_are_named(limit: int | None, named: bool) -> None:
    """At 03:07 nobody calls who calls at each quarter of an hour, and at 03:15 it is too late."""
    made = task(expression="7 3 * * *", catchUpSeconds=limit)
    assert bool(slots.too_fine_for_ticks(made, "UTC", 900, parse_time("2026-03-02T03:00:00Z"))) == named


FAILED = {"lastRunAt": "2026-03-02T03:07:00Z", "lastRunDuration": 10.0, "lastRunStatus": "failed", "retries": 2,
          "retryDelaySeconds": 60, "expression": "7 3 * * *"}


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({}, 2),
        ({"lastRunStatus": "timeout"}, 2),
        ({"lastRunStatus": "interrupted"}, None),  # nobody knows how far it got
        ({"lastRunStatus": "success"}, None),
        ({"lastRunStatus": "running"}, None),
        ({"lastRunAttempt": 2}, 3),
        ({"lastRunAttempt": 3}, None),
        ({"retries": 0}, None),
        ({"expression": None}, 2),  # a task without schedule, run by URL
    ],
)
def test_a_run_that_failed_is_due_again_while_attempts_are_left(fields: dict[str, Any], due: int | None) -> None:
    """After the delay from its end, and not a second earlier."""
    made = task(**{**FAILED, **fields})
    assert slot(made, "2026-03-02T03:08:09Z") is None
    assert slot(made, "2026-03-02T03:08:10Z") == (due and ("2026-03-02T03:08:10", due, False))


def test_a_retry_is_off_when_the_task_was_started_since() -> None:
    """The gate knows of a start before state does."""
    assert slot(task(**FAILED), "2026-03-02T03:09:00Z", "2026-03-02T03:08:30Z") is None


def test_a_slot_comes_before_a_retry_and_is_a_first_attempt() -> None:
    assert slot(task(**FAILED, lastRunAttempt=2), "2026-03-03T03:07:00Z") == ("2026-03-03T03:07:00", 1, False)


def test_the_next_run_is_the_retry_when_that_comes_first() -> None:
    assert coming(task(**FAILED), "2026-03-02T03:07:10Z") == "2026-03-02T03:08:10"
    assert coming(task(**{**FAILED, "retries": 0}), "2026-03-02T03:07:10Z") == "2026-03-03T03:07:00"


def test_the_next_run_of_what_is_due_is_in_the_past() -> None:
    made = task(expression="7 3 * * *", lastRunAt="2026-03-01T03:07:00Z")
    assert coming(made, "2026-03-02T12:00:00Z") == "2026-03-02T03:07:00"


# Europe/Paris 2026: 29 March 02:00 +01:00 -> 03:00 +02:00, 25 October 03:00 +02:00 -> 02:00 +01:00
@pytest.mark.parametrize(
    ("expression", "instants"),
    [
        # 02:30 does not exist on the 29th: right after the gap
        ("30 2 * * *", ["2026-03-28T01:30:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00"]),
        ("*/30 2 * * *", ["2026-03-28T01:00:00", "2026-03-28T01:30:00", "2026-03-30T00:00:00", "2026-03-30T00:30:00"]),
    ],
)
def test_a_skipped_hour_in_spring(expression: str, instants: list[str]) -> None:
    """A tick each minute starts it at these instants and no others, by the zone of the task or the installation's."""
    for made, zone in ((task(expression=expression, timezone="Europe/Paris"), "UTC"),
                       (task(expression=expression), "Europe/Paris")):
        assert _starts(made, zone, "2026-03-28T00:00:00Z", 3 * 1440) == instants


@pytest.mark.parametrize(
    ("expression", "instants"),
    [
        # 02:30 comes twice on the 25th: the first
        ("30 2 * * *", ["2026-10-24T00:30:00", "2026-10-25T00:30:00", "2026-10-26T01:30:00"]),
        ("*/30 2 * * *", ["2026-10-24T00:00:00", "2026-10-24T00:30:00", "2026-10-25T00:00:00", "2026-10-25T00:30:00",
                          "2026-10-25T01:00:00", "2026-10-25T01:30:00", "2026-10-26T01:00:00", "2026-10-26T01:30:00"]),
    ],
)
def test_a_repeated_hour_in_autumn(expression: str, instants: list[str]) -> None:
    assert _starts(task(expression=expression), "Europe/Paris", "2026-10-23T12:00:00Z", 3 * 1440) == instants


def _starts(made: Task, zone: str, begin: str, minutes: int) -> list[str]:
    last, found = parse_time(begin), []

    for minute in range(minutes):
        now = parse_time(begin) + minute * 60

        if slots.slot(made, zone, last, now):
            last = now
            found.append(format_time(now)[:19])

    return found


def test_times_far_ahead_of_the_clock_are_found() -> None:
    """A minute ahead may be two clocks; more is a clock that was wrong once."""
    now = parse_time("2026-03-02T03:07:00Z")
    made = task(lastRunAt="2027-01-01T00:00:00Z", scheduledSince="2026-03-02T03:08:00Z")
    assert slots.times_ahead(made, now) == ["lastRunAt"]


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6 *", "61 * * * *", "", "* * * *"])
def test_an_expression_that_never_comes_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        slots.check_expression(text)

    assert caught.value.field == "expression"


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe/paris ", "", "UTC\0"])
def test_an_unknown_zone_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        time_zone(name)

    assert caught.value.field == "timezone"
