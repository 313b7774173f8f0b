# SPDX-License-Identifier: LGPL-3.0-or-later
"""cron: what is read, what is refused, and when it comes around the shifts of daylight saving.

Calendars beside the tests are those of the zone's own clock. Instants are literal, each with its offset.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webscheduler.schedule.cron import Cron, CronError

VECTORS = json.loads((Path(__file__).parent / "vectors" / "cron.json").read_text(encoding="utf-8"))
UTC = timezone.utc
ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Africa/Cairo",
    "America/Havana",
    "Antarctica/Troll",
    "Asia/Kolkata",
    "Pacific/Chatham",
)


def come(expression: str, zone: str, after: str, until: str) -> list[str]:
    """Every instant in (after, until], in ISO form with the zone's offset."""
    cron, tz = Cron(expression), ZoneInfo(zone)
    found = []
    instant = cron.next(datetime.fromisoformat(after), tz)
    while instant is not None and instant <= datetime.fromisoformat(until):
        assert instant.tzinfo is UTC
        found.append(instant.astimezone(tz).isoformat(timespec="minutes"))
        instant = cron.next(instant, tz)
    return found


def came(expression: str, zone: str, after: str, until: str) -> list[str]:
    """The same, found by going backwards."""
    cron, tz = Cron(expression), ZoneInfo(zone)
    found = []
    instant = cron.previous(datetime.fromisoformat(until), tz)
    while instant is not None and instant > datetime.fromisoformat(after):
        assert instant.tzinfo is UTC
        found.insert(0, instant.astimezone(tz).isoformat(timespec="minutes"))
        instant = cron.previous(instant - timedelta(microseconds=1), tz)
    return found


@pytest.mark.parametrize("vector", VECTORS["come"], ids=lambda vector: vector["expression"].strip())
def test_vectors(vector: dict[str, object]) -> None:
    """Each vector's instants follow one another forwards, and lead back to where they began."""
    cron, tz = Cron(str(vector["expression"])), ZoneInfo(str(vector["timezone"]))
    instants = [datetime.fromisoformat(text) for text in vector["come"]]  # type: ignore[attr-defined]

    at = datetime.fromisoformat(str(vector["after"]))
    for instant in instants:
        assert (at := cron.next(at, tz)) == instant  # type: ignore[assignment]

    for earlier, later in zip(instants, instants[1:]):
        assert cron.previous(later, tz) == later
        assert cron.previous(later + timedelta(seconds=59), tz) == later
        assert cron.previous(later - timedelta(microseconds=1), tz) == earlier


@pytest.mark.parametrize("expression", VECTORS["never"])
def test_never(expression: str) -> None:
    """A schedule that no calendar can meet says so, and nothing comes or came."""
    cron = Cron(expression)
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert cron.never_comes()
    assert cron.next(now, UTC) is None
    assert cron.previous(now, UTC) is None


@pytest.mark.parametrize(
    "expression", ["0 0 29 2 *", "0 0 29 2 */6", "0 0 31 * *", "0 0 30 2 1", "* * * * *", "0 0 * 2 1#5"]
)
def test_rare_is_not_never(expression: str) -> None:
    """What comes once in forty years does come, from whatever year one looks."""
    cron = Cron(expression)

    assert not cron.never_comes()
    for year in range(1970, 2370, 3):
        now = datetime(year, 3, 1, tzinfo=UTC)
        assert cron.next(now, UTC) is not None
        assert cron.previous(now, UTC) is not None


# -- what is refused ---------------------------------------------------------------------------------------------------

FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
HIGHEST = (59, 23, 31, 12, 7)
LOWEST = (0, 0, 1, 1, 0)

# Bad in every field, in every place where a value may stand.
BAD_VALUES = ("", "x", "-1", "+1", "1_0", "1.5", "0x1", "60", "99999999999999999999", "!", "~", "a-b", "**", "*5", "%")
PATTERNS = ("{}", "{},1", "1,{}", "{}-5", "1-{}", "1-{}/2", "{}/2", "1,{},3", "1-3,{}-5")
BAD_STEPS = ("", "0", "00", "-1", "+1", "1_0", "x", "61", "1/2", "*", "1-2", "L")


def refusal(position: int, text: str) -> CronError:
    fields = ["*"] * 5
    fields[position] = text
    with pytest.raises(CronError) as caught:
        Cron(" ".join(fields))
    return caught.value


@pytest.mark.parametrize(("position", "pattern"), list(product(range(5), PATTERNS)))
def test_bad_values_are_refused(position: int, pattern: str) -> None:
    """A bad value is refused wherever it stands, by a line that begins with the field's name."""
    for bad in BAD_VALUES:
        text = pattern.format(bad)
        if not text:
            continue  # a field fewer: the next test but one

        error = refusal(position, text)

        assert error.field == FIELDS[position], text
        assert str(error).startswith(FIELDS[position] + ": ")
        assert "\n" not in str(error)


@pytest.mark.parametrize(("position", "pattern"), list(product(range(5), ("*/{}", "1-5/{}", "1,*/{}", "*/{},1"))))
def test_bad_steps_are_refused(position: int, pattern: str) -> None:
    """A step is a number from 1 to what the field holds."""
    for bad in BAD_STEPS:
        assert refusal(position, pattern.format(bad)).field == FIELDS[position]


@pytest.mark.parametrize("position", range(5))
def test_limits_of_each_field(position: int) -> None:
    """The lowest and the highest value are taken; one beyond, a range backwards, and a step without a range are not."""
    for value in (LOWEST[position], HIGHEST[position]):
        fields = ["*"] * 5
        fields[position] = str(value)
        assert not Cron(" ".join(fields)).never_comes()

    assert refusal(position, str(HIGHEST[position] + 1)).field == FIELDS[position]
    assert refusal(position, str(LOWEST[position] - 1)).field == FIELDS[position]
    assert "backwards" in str(refusal(position, "5-4"))
    assert f"write 3-{HIGHEST[position]}/2" in str(refusal(position, "3/2"))


@pytest.mark.parametrize(
    ("position", "texts"),
    [
        (0, ("?", "L", "1W", "1#1", "1L", "JAN", "MON")),
        (1, ("?", "L", "1W", "1#1", "1L", "JAN", "MON")),
        (2, ("1#1", "1L", "L-3", "L/2", "0W", "32W", "W", "WL", "*W", "1-5W", "?,1", "?/2", "??", "MON", "LL")),
        (3, ("?", "L", "1W", "1#1", "JANUARY", "JA", "MON", "JAN-", "DEC-JAN", "13")),
        (4, ("L", "LW", "1W", "8L", "*L", "1-5L", "L5", "5#0", "5#6", "5#", "#1", "5#1#1", "5#L", "5#+1", "8#1")),
        (4, ("?#1", "MONDAY", "MO", "JAN", "FRI-SUN", "SAT-SUN", "6-0", "?,1", "?/2")),
    ],
)
def test_signs_out_of_place_are_refused(position: int, texts: tuple[str, ...]) -> None:
    """The signs for days stand only where they mean something; names are the three letters of their own field."""
    for text in texts:
        assert refusal(position, text).field == FIELDS[position], text


@pytest.mark.parametrize("expression", VECTORS["refused"]["expression"])
def test_bad_expressions_are_refused(expression: str) -> None:
    """What is wrong with the whole is said of the whole, and nothing unprintable is quoted."""
    with pytest.raises(CronError) as caught:
        Cron(expression)

    assert caught.value.field == "expression"
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


def test_length_is_bounded() -> None:
    """200 characters are read, 201 are not."""
    longest = ",".join(["1"] * 96 + ["11"]) + " * * * *"
    assert len(longest) == 202
    for text in (longest, longest[1:]):
        with pytest.raises(CronError, match="longer than 200"):
            Cron(text)

    Cron(longest[2:])


def test_reboot_is_refused_in_words() -> None:
    """@reboot has a reason of its own, as crontabs that are imported may hold it."""
    with pytest.raises(CronError, match="when the machine starts"):
        Cron("@reboot")


def test_instants_need_a_zone() -> None:
    """A naive instant is an error, not the server's local time."""
    with pytest.raises(ValueError, match="time zone"):
        Cron("* * * * *").next(datetime(2026, 1, 1), UTC)


def test_expression_is_tidied() -> None:
    """The text is kept as written but for white space."""
    assert Cron(" 5\t4  * * sun ").expression == "5 4 * * sun"
    assert Cron(" @Daily ").expression == "@Daily"


def test_edges_of_the_calendar() -> None:
    """Where years end, nothing comes; nothing breaks."""
    cron = Cron("0 0 1 1 *")

    for zone in ("UTC", "Asia/Kolkata", "America/New_York"):
        assert cron.next(datetime(9999, 12, 31, 12, tzinfo=UTC), ZoneInfo(zone)) is None
        assert cron.previous(datetime(1, 1, 1, tzinfo=UTC), ZoneInfo(zone)) in (None, datetime(1, 1, 1, tzinfo=UTC))
    assert Cron("0 0 2 1 *").previous(datetime(1, 1, 1, 12, tzinfo=UTC), UTC) is None

    last = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert Cron("59 23 31 12 *").next(datetime(9999, 1, 1, tzinfo=UTC), UTC) == last


def test_import_is_nearly_free() -> None:
    """Importing cron brings in no module but those of datetime."""
    code = (
        "import sys, datetime, __future__; before = set(sys.modules); import webscheduler.schedule.cron; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["webscheduler", "webscheduler.schedule", "webscheduler.schedule.cron"]


# -- daylight saving ---------------------------------------------------------------------------------------------------
#
# Europe/Paris 2026            29 March: 01:59 +01:00, then 03:00 +02:00    25 October: 02:59 +02:00, then 02:00 +01:00
# America/New_York 2026         8 March: 01:59 -05:00, then 03:00 -04:00   1 November: 01:59 -04:00, then 01:00 -05:00
# Australia/Lord_Howe 2026    4 October: 01:59 +10:30, then 02:30 +11:00      5 April: 01:59 +11:00, then 01:30 +10:30
# Africa/Casablanca 2026       22 March: 01:59 +00:00, then 03:00 +01:00  15 February: 02:59 +01:00, then 02:00 +00:00
#                              (its standard time is +01:00; Ramadan is an hour *behind*, so the year begins to shift
#                              back in February, and forward in March)
# Africa/Cairo 2026            24 April: 23:59 +02:00, then 01:00 +03:00   29 October: 23:59 +03:00, then 23:00 +02:00
#                              (the 24th has no midnight)

SHIFTS = [
    # Fixed times in a skipped hour come once, right after it, and on other days when they say.
    ("30 2 * * *", "Europe/Paris", "2026-03-28T00:00+01:00", "2026-03-30T23:59+02:00",
     ["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
    ("30 2 * * *", "America/New_York", "2026-03-07T00:00-05:00", "2026-03-09T23:59-04:00",
     ["2026-03-07T02:30-05:00", "2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00+10:30", "2026-10-05T23:59+11:00",
     ["2026-10-03T02:15+10:30", "2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
    ("30 2 * * *", "Africa/Casablanca", "2026-03-21T00:00+00:00", "2026-03-23T23:59+01:00",
     ["2026-03-21T02:30+00:00", "2026-03-22T03:00+01:00", "2026-03-23T02:30+01:00"]),
    ("0 0 * * *", "Africa/Cairo", "2026-04-22T12:00+02:00", "2026-04-25T23:59+03:00",
     ["2026-04-23T00:00+02:00", "2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"]),
    ("@daily", "Africa/Cairo", "2026-04-22T12:00+02:00", "2026-04-25T23:59+03:00",
     ["2026-04-23T00:00+02:00", "2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"]),
    # The last minute before the gap and the first after it are as always.
    ("59 1 * * *", "Europe/Paris", "2026-03-29T00:00+01:00", "2026-03-29T23:59+02:00", ["2026-03-29T01:59+01:00"]),
    ("0 3 * * *", "Europe/Paris", "2026-03-29T00:00+01:00", "2026-03-29T23:59+02:00", ["2026-03-29T03:00+02:00"]),
    ("0 2 * * *", "Europe/Paris", "2026-03-29T00:00+01:00", "2026-03-29T23:59+02:00", ["2026-03-29T03:00+02:00"]),
    # Several times in the gap, and one at its end, are one run.
    ("0,30 2 * * *", "Europe/Paris", "2026-03-29T00:00+01:00", "2026-03-29T23:59+02:00", ["2026-03-29T03:00+02:00"]),
    ("0 2,3 * * *", "Europe/Paris", "2026-03-29T00:00+01:00", "2026-03-29T23:59+02:00", ["2026-03-29T03:00+02:00"]),
    ("30 1-3 * * *", "Europe/Paris", "2026-03-29T00:00+01:00", "2026-03-29T23:59+02:00",
     ["2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"]),
    # Wildcards have nothing in the gap: they follow real time.
    ("*/30 * * * *", "Europe/Paris", "2026-03-29T01:00+01:00", "2026-03-29T03:30+02:00",
     ["2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"]),
    ("*/30 2 * * *", "Europe/Paris", "2026-03-28T00:00+01:00", "2026-03-30T02:00+02:00",
     ["2026-03-28T02:00+01:00", "2026-03-28T02:30+01:00", "2026-03-30T02:00+02:00"]),
    ("30 */2 * * *", "Europe/Paris", "2026-03-29T00:00+01:00", "2026-03-29T05:00+02:00",
     ["2026-03-29T00:30+01:00", "2026-03-29T04:30+02:00"]),
    ("*/15 * * * *", "Australia/Lord_Howe", "2026-10-04T01:30+10:30", "2026-10-04T02:45+11:00",
     ["2026-10-04T01:45+10:30", "2026-10-04T02:30+11:00", "2026-10-04T02:45+11:00"]),
    ("0 * * * *", "Australia/Lord_Howe", "2026-10-04T00:00+10:30", "2026-10-04T03:00+11:00",
     ["2026-10-04T01:00+10:30", "2026-10-04T03:00+11:00"]),
    ("@hourly", "Africa/Casablanca", "2026-03-22T00:00+00:00", "2026-03-22T04:00+01:00",
     ["2026-03-22T01:00+00:00", "2026-03-22T03:00+01:00", "2026-03-22T04:00+01:00"]),
    # Fixed times in a repeated hour come in its first pass only.
    ("30 2 * * *", "Europe/Paris", "2026-10-24T00:00+02:00", "2026-10-26T23:59+01:00",
     ["2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ("30 1 * * *", "America/New_York", "2026-10-31T00:00-04:00", "2026-11-02T23:59-05:00",
     ["2026-10-31T01:30-04:00", "2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00+11:00", "2026-04-06T23:59+10:30",
     ["2026-04-04T01:45+11:00", "2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
    ("30 2 * * *", "Africa/Casablanca", "2026-02-14T00:00+01:00", "2026-02-16T23:59+00:00",
     ["2026-02-14T02:30+01:00", "2026-02-15T02:30+01:00", "2026-02-16T02:30+00:00"]),
    ("30 23 * * *", "Africa/Cairo", "2026-10-28T00:00+03:00", "2026-10-30T23:59+02:00",
     ["2026-10-28T23:30+03:00", "2026-10-29T23:30+03:00", "2026-10-30T23:30+02:00"]),
    ("0,30 2,3 * * *", "Europe/Paris", "2026-10-25T00:00+02:00", "2026-10-25T23:59+01:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T03:00+01:00", "2026-10-25T03:30+01:00"]),
    # Wildcards come in both passes.
    ("*/30 * * * *", "Europe/Paris", "2026-10-25T01:30+02:00", "2026-10-25T03:00+01:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00",
      "2026-10-25T03:00+01:00"]),
    ("*/30 2 25 10 *", "Europe/Paris", "2026-01-01T00:00+01:00", "2027-10-25T02:00+02:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00",
      "2027-10-25T02:00+02:00"]),
    ("30 * * * *", "America/New_York", "2026-11-01T00:30-04:00", "2026-11-01T02:30-05:00",
     ["2026-11-01T01:30-04:00", "2026-11-01T01:30-05:00", "2026-11-01T02:30-05:00"]),
    ("*/20 * * * *", "Australia/Lord_Howe", "2026-04-05T01:20+11:00", "2026-04-05T02:00+10:30",
     ["2026-04-05T01:40+11:00", "2026-04-05T01:40+10:30", "2026-04-05T02:00+10:30"]),
    ("0 * * * *", "Africa/Casablanca", "2026-02-15T01:00+01:00", "2026-02-15T03:00+00:00",
     ["2026-02-15T02:00+01:00", "2026-02-15T02:00+00:00", "2026-02-15T03:00+00:00"]),
    # Written out, the same minutes are fixed: crontab(5) looks at the sign, not at what it stands for.
    ("0-59/30 2 * * *", "Europe/Paris", "2026-10-25T00:00+02:00", "2026-10-25T23:59+01:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00"]),
    ("0 0-23 * * *", "Europe/Paris", "2026-10-25T01:00+02:00", "2026-10-25T03:00+01:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "zone", "after", "until", "instants"), SHIFTS)
def test_daylight_saving(expression: str, zone: str, after: str, until: str, instants: list[str]) -> None:
    """Both directions find exactly these instants."""
    assert come(expression, zone, after, until) == instants
    assert came(expression, zone, after, until) == instants


def test_last_run_seen_from_the_second_pass() -> None:
    """Within the second pass of a repeated hour, a later wall time of the first pass is the past."""
    cron, paris = Cron("50 2 * * *"), ZoneInfo("Europe/Paris")
    inside = datetime.fromisoformat("2026-10-25T02:10+01:00")

    assert cron.previous(inside, paris) == datetime.fromisoformat("2026-10-25T02:50+02:00")
    assert cron.next(inside, paris) == datetime.fromisoformat("2026-10-26T02:50+01:00")


def test_an_instant_given_in_the_zone_itself() -> None:
    """A datetime that already carries the zone means the same instant as its UTC form, fold and gap included."""
    cron, paris = Cron("*/30 * * * *"), ZoneInfo("Europe/Paris")

    for wall in (datetime(2026, 10, 25, 2, 10), datetime(2026, 3, 29, 2, 10), datetime(2026, 7, 1, 2, 10)):
        for fold in (0, 1):
            local = wall.replace(tzinfo=paris, fold=fold)
            assert cron.next(local, paris) == cron.next(local.astimezone(UTC), paris)
            assert cron.previous(local, paris) == cron.previous(local.astimezone(UTC), paris)


def test_a_day_that_never_was() -> None:
    """Samoa left out 30 December 2011; what it would have held came at once when the 31st began."""
    assert come("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00-10:00", "2011-12-31T23:59+14:00") == [
        "2011-12-29T12:00-10:00",
        "2011-12-31T00:00+14:00",
        "2011-12-31T12:00+14:00",
    ]


def test_shifts_at_odd_seconds() -> None:
    """Liberia's clocks went back by 82 seconds in 1919, and forward by 44 minutes and a half in 1972."""
    assert come("* * * * *", "Africa/Monrovia", "1919-03-01T00:41:00+00:00", "1919-03-01T00:45:00+00:00") == (
        came("* * * * *", "Africa/Monrovia", "1919-03-01T00:41:00+00:00", "1919-03-01T00:45:00+00:00")) == [
        "1919-02-28T23:58-00:43:08",
        "1919-02-28T23:59-00:43:08",
        "1919-02-28T23:59-00:44:30",
        "1919-03-01T00:00-00:44:30",
    ]

    monrovia = ZoneInfo("Africa/Monrovia")
    skipped = Cron("0,30 0 7 1 *").next(datetime(1972, 1, 1, tzinfo=UTC), monrovia)
    assert skipped == datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC)
    assert Cron("0,30 0 7 1 *").previous(datetime(1972, 2, 1, tzinfo=UTC), monrovia) == skipped
    assert Cron("*/30 0 7 1 *").next(datetime(1972, 1, 1, tzinfo=UTC), monrovia) == datetime(1973, 1, 7, tzinfo=UTC)


def test_what_a_year_keeps_apart() -> None:
    """A wildcard in the first pass of a repeated hour comes in the second pass before it comes in another year."""
    cron, paris = Cron("*/15 2 25 10 *"), ZoneInfo("Europe/Paris")
    first_pass = datetime.fromisoformat("2026-10-25T02:45+02:00")
    second_pass = datetime.fromisoformat("2026-10-25T02:00+01:00")

    assert cron.next(first_pass, paris) == second_pass
    assert cron.previous(second_pass - timedelta(seconds=1), paris) == first_pass


# -- properties --------------------------------------------------------------------------------------------------------


def field(low: int, high: int, *signs: str) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    spans = st.tuples(value, value).map(sorted)
    item = st.one_of(
        value.map(str),
        spans.map("{0[0]}-{0[1]}".format),
        st.tuples(spans, st.integers(1, 7)).map(lambda pair: f"{pair[0][0]}-{pair[0][1]}/{pair[1]}"),
        st.integers(1, 7).map("*/{}".format),
        *([st.sampled_from(signs)] if signs else []),
    )
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(
    field(0, 59),
    st.one_of(field(0, 23), field(0, 3)),
    field(1, 31, "L", "LW", "15W", "1W", "31W"),
    st.one_of(st.just("*"), field(1, 12, "JAN", "mar")),
    field(0, 7, "5L", "FRI#3", "7#1", "monL", "SUN"),
).map(" ".join)
INSTANTS = st.one_of(
    st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
    # Close to the shifts of 2026.
    st.tuples(
        st.sampled_from(["2026-03-29T01", "2026-10-25T01", "2026-03-08T07", "2026-11-01T06", "2026-10-03T15",
                         "2026-04-04T15", "2026-03-22T02", "2026-02-15T02", "2026-04-23T22", "2026-10-29T21"]),
        st.integers(-10_000, 10_000),
    ).map(lambda pair: datetime.fromisoformat(pair[0] + ":00+00:00") + timedelta(seconds=pair[1])),
)  # fmt: skip


@settings(max_examples=400)
@given(EXPRESSIONS, INSTANTS, st.sampled_from(ZONES))
def test_next_and_previous_agree(expression: str, instant: datetime, zone: str) -> None:
    """What comes next is, when it has come, what came last, and between the two there is nothing."""
    cron, tz = Cron(expression), ZoneInfo(zone)
    following, last = cron.next(instant, tz), cron.previous(instant, tz)

    if cron.never_comes():
        assert following is None
        assert last is None
        return

    # A wildcard that names only skipped minutes may be the one thing with a day and no instant.
    if following is not None:
        assert following > instant
        assert (following.second, following.microsecond) == (0, 0)
        assert cron.previous(following, tz) == following
        assert cron.previous(following - timedelta(microseconds=1), tz) == last
    if last is not None:
        assert last <= instant
        assert cron.previous(last, tz) == last
        assert cron.next(last, tz) == following
        assert cron.next(last - timedelta(microseconds=1), tz) == last


@settings(max_examples=400)
@given(st.text(alphabet="0123456789*/,-?LW# @JANMONdaily\t\x00¹é", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes anything but a schedule or a CronError of one printable line."""
    try:
        cron = Cron(text)
    except CronError as error:
        assert str(error).isprintable()
        assert error.field in (*FIELDS, "expression")
    else:
        assert Cron(cron.expression).expression == cron.expression
