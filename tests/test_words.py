# SPDX-License-Identifier: LGPL-3.0-or-later
"""words: what a schedule reads like, and that it reads like what it is."""

from __future__ import annotations

import string
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webscheduler.schedule.cron import Cron, CronError
from webscheduler.schedule.describe import MESSAGES, WORD_KEYS, describe, render

UTC = timezone.utc
EXPRESSIONS = {
    "* * * * *": "Every minute",
    "*/15 * * * *": "Every 15 minutes",
    "0,15,30,45 * * * *": "Every 15 minutes",
    "5-59/15 * * * *": "Every 15 minutes from 00:05 to 23:50",
    "0 * * * *": "Every hour",
    "@hourly": "Every hour",
    "7 * * * *": "Every hour at minute 7",
    "5,10 * * * *": "Every hour at minute 5, 10",
    "*/20 * * * 0": "Every 20 minutes on Sunday",
    "*/15 9-17 * * 1-5": "Every 15 minutes from 09:00 to 17:45 on weekdays",
    "0 9-17 * * MON-FRI": "Every hour from 09:00 to 17:00 on weekdays",
    "* 9 * * 6,7": "Every minute from 09:00 to 09:59 on weekends",
    "0 */2 * * *": "Every 2 hours from 00:00 to 22:00",
    "15 8-18/2 * * 1,3": "Every 2 hours from 08:15 to 18:15 on Monday, Wednesday",
    "@daily": "Every day at 00:00",
    "0 3 ? * ?": "Every day at 03:00",
    "0 9,18 * * *": "Every day at 09:00, 18:00",
    "0 4,5,6,8 * * *": "Every day at 04:00, 05:00, 06:00, 08:00",
    "30 9 * * 1-5": "Weekdays at 09:30",
    "30 9 * * mon,tue,WED-FRI": "Weekdays at 09:30",
    "0 10 * * 0,6": "Weekends at 10:00",
    "@weekly": "Every Sunday at 00:00",
    "0 3 * * 7": "Every Sunday at 03:00",
    "0 3 * * 0,1,4": "Every Monday, Thursday, Sunday at 03:00",
    "0 3 * * 5L": "On the last Friday of the month at 03:00",
    "0 3 * * FRI#3": "On the third Friday of the month at 03:00",
    "@monthly": "On day 1 of the month at 00:00",
    "0 0 1,15 * *": "On day 1, 15 of the month at 00:00",
    "0 3 L * *": "On the last day of the month at 03:00",
    "0 3 LW * *": "On the last weekday of the month (Monday to Friday) at 03:00",
    "0 3 15W * *": "On the weekday (Monday to Friday) nearest to day 15 of the month at 03:00",
    "@yearly": "On day 1 of January at 00:00",
    "0 0 * 3,4 *": "Every day in March, April at 00:00",
}
RAW = (
    "*/7 * * * *",  # 0, 7, ... 56, then 4 minutes
    "0 0 13 * 5",  # either
    "0 0 */2 * 5",  # both
    "0 0 1-31 * 1",  # every day, by the rule for two fields
    "0 0 */2 * *",  # not every second day: the 31st is followed by the 1st
    "0 9 * 6 1-5",
    "0 9 L 6 *",
    "0 9 15W 6 *",
    "4-59/8 * * * *",  # 52, then 12 minutes
    "0,1,2,3,5,8,13 * * * *",
    "17,42 3,5,8,9 * * *",
)
INVALID = (
    "",
    " ",
    "61 * * * *",
    "*/90 * * * *",
    "*/0 * * * *",
    "5/15 * * * *",
    "5/1 * * * *",
    "5-1 * * * *",
    "5-1,3 * * * *",
    "0 24 * * *",
    "0 0 0 * *",
    "0 0 32W * *",
    "0 0 1-1W * *",
    "0 0 ?/2 * *",
    "0 0 * 13 *",
    "0 0 * * 8",
    "0 0 * * */8",
    "0 0 * * 5#6",
    "0 0 * * 5#L",
    "0 0 * * 1-1L",
    "0 0 * * #1",
    "0 0 * * MONDAY",
    "0 0 * MON *",
    "\u00b9 * * * *",
    "0\u00b9 0 * * *",
    "1_0 * * * *",
    "+1 * * * *",
    "* * * *",
    "* * * * * *",
    "*\n* * * *",
    "@reboot",
    "0," * 100 + "0 * * * *",
)


def english(expression: str | None = None, interval_seconds: int | None = None) -> str:
    message, values = describe(expression, interval_seconds)
    return message.format(**values)


@pytest.mark.parametrize(("expression", "sentence"), EXPRESSIONS.items())
def test_expressions(expression: str, sentence: str) -> None:
    """What has a sentence reads like this."""
    assert english(expression) == sentence


@pytest.mark.parametrize("expression", RAW)
def test_what_no_sentence_says_exactly_is_shown_raw(expression: str) -> None:
    """Valid, but not put in words."""
    Cron(expression)
    assert describe(expression) == ("{expression}", {"expression": expression})


@pytest.mark.parametrize("expression", INVALID)
def test_invalid_expressions_are_shown_raw(expression: str) -> None:
    """What cron refuses is not made to sound like a schedule."""
    with pytest.raises(CronError):
        Cron(expression)

    if expression:
        assert describe(expression) == ("{expression}", {"expression": expression})


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        (1, "Every second"),
        (45, "Every 45 seconds"),
        (60, "Every minute"),
        (90, "Every 90 seconds"),
        (120, "Every 2 minutes"),
        (3600, "Every hour"),
        (5400, "Every 90 minutes"),
        (7200, "Every 2 hours"),
        (86400, "Every 24 hours"),
        (129600, "Every 36 hours"),
        (172800, "Every 2 days"),
        (604800, "Every 7 days"),
        (604801, "Every 604801 seconds"),
        (0, "Every 0 seconds"),
    ],
)
def test_intervals(seconds: int, sentence: str) -> None:
    """The largest unit that divides an interval without a rest."""
    assert english(interval_seconds=seconds) == sentence


@given(st.integers(1, 10_000_000))
def test_intervals_are_never_rounded(seconds: int) -> None:
    """Read back, the sentence is the interval."""
    words = english(interval_seconds=seconds).split()
    number = int(words[1]) if len(words) == 3 else 1
    units = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

    assert number * units[words[-1].rstrip("s")] == seconds


def test_neither_and_both() -> None:
    """Without a schedule it says so; with two, the expression counts."""
    assert english() == "No schedule"
    assert english("", None) == "No schedule"
    assert english("0 * * * *", 5400) == "Every hour"


# -- never a lie -------------------------------------------------------------------------------------------------------

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
PLACES = ("first", "second", "third", "fourth", "fifth")


def said(message: str, values: dict[str, str], at: datetime) -> bool:
    """Whether the sentence says that the schedule comes at `at`. Knows the messages, and nothing of expressions."""
    time, clock, minutes = at.strftime("%H:%M"), at.hour * 60 + at.minute, 1
    month_length = ((at.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day
    weekday, working = DAYS[at.isoweekday() % 7], at.isoweekday() <= 5

    def of(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    if message.endswith(" on {weekdays}"):
        days = values["weekdays"].replace("weekdays", ", ".join(DAYS[1:6])).replace("weekends", "Saturday, Sunday")
        return weekday in days.split(", ") and said(message[: -len(" on {weekdays}")], values, at)
    if message.endswith(" from {first} to {last}"):
        first, last = of(values["first"]), of(values["last"])
        minutes *= int(values.get("minutes", 1)) * int(values.get("hours", 1)) * (60 if " hour" in message else 1)
        return first <= clock <= last and (clock - first) % minutes == 0
    if not message.endswith(" at {time}"):
        if message == "Every {minutes} minutes":
            return clock % int(values["minutes"]) == 0
        return {
            "Every minute": True,
            "Every hour": at.minute == 0,
            "Every hour at minute {minutes}": str(at.minute) in values.get("minutes", "").split(", "),
        }[message]

    def nearest(number: int) -> bool:
        candidates = [at.replace(day=day) for day in range(1, month_length + 1)]
        working_days = [day.day for day in candidates if day.isoweekday() <= 5]
        return number <= month_length and at.day == min(working_days, key=lambda day: abs(day - number))

    return (
        time in values["time"].split(", ")
        and {
            "Every day": True,
            "Weekdays": working,
            "Weekends": not working,
            "Every {weekdays}": weekday in values.get("weekdays", "").split(", "),
            "On the {place} {weekday} of the month": weekday == values.get("weekday")
            and (
                at.day + 7 > month_length if values["place"] == "last" else PLACES[(at.day - 1) // 7] == values["place"]
            ),
            "On day {days} of the month": str(at.day) in values.get("days", "").split(", "),
            "On day {days} of {months}": str(at.day) in values.get("days", "").split(", ")
            and MONTHS[at.month - 1] in values.get("months", "").split(", "),
            "Every day in {months}": MONTHS[at.month - 1] in values.get("months", "").split(", "),
            "On the last day of the month": at.day == month_length,
            "On the last weekday of the month (Monday to Friday)": nearest(month_length),
            "On the weekday (Monday to Friday) nearest to day {day} of the month": nearest(int(values.get("day", 1))),
        }[message[: -len(" at {time}")]]
    )


def some(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


SPOKEN = st.tuples(
    some("*", "0", "7", "*/15", "5-59/15", "*/20", "0,30", "10,40", "*/7", "5,10,15", "0-29", "*/1", "0,59", "1-59/2"),
    some("*", "3", "0", "9-17", "*/2", "*/6", "8-18/2", "9,13", "0-23", "1-23/2", "0-23/5", "22,23", "*/24", "4,5,6,8"),
    some("*", "*", "*", "*", "?", "*/1", "1-31", "1", "1,15", "31", "L", "LW", "15W", "1W", "31w", "*/2", "L,1", "*,5"),
    some("*", "*", "*", "1", "JAN", "3,4", "1-12", "*/3", "2"),
    some("*", "*", "?", "1-5", "MON-FRI", "0,6", "6-7", "5", "7", "1,3,5", "*/2", "0-6", "0-7", "5L", "FRIL", "fri#3",
         "7#1", "1#5", "*/1", "1,FRI#3"),
).map(" ".join)  # fmt: skip


@settings(max_examples=600)
@given(SPOKEN, st.datetimes(datetime(2024, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC)))
def test_sentences_come_true(expression: str, start: datetime) -> None:
    """Where there is a sentence, it says of the schedule's instants that they come, and of the minutes around not."""
    message, values = describe(expression)
    assert message in MESSAGES
    if message == "{expression}":
        return

    cron = Cron(expression)
    assert not cron.never_comes() or "{days} of {months}" in message
    for _ in range(12):
        instant = cron.next(start, UTC)
        if instant is None:
            return

        assert said(message, values, instant), (english(expression), instant)
        for offset in (1, 2, 5, 7, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7 * 1440, 14 * 1440):
            for other in (instant - timedelta(minutes=offset), instant + timedelta(minutes=offset)):
                assert said(message, values, other) == (cron.previous(other, UTC) == other), (
                    english(expression),
                    other,
                )
        start = instant + timedelta(days=1)


@settings(max_examples=400)
@given(st.text(alphabet="0123456789*/,-?LW# @JANMONdaily\t\x00\n¹é", max_size=24))
def test_no_text_breaks_it(text: str) -> None:
    """Any text is described; in words only where it is a schedule."""
    message, values = describe(text)

    if message not in ("{expression}", "No schedule"):
        Cron(text)
    elif text:
        assert message.format(**values) == text


# -- translation -------------------------------------------------------------------------------------------------------


def test_words_among_the_values_are_messages() -> None:
    """Every value under a key of WORD_KEYS is made of words of MESSAGES, and every such key is in use."""
    used = set()
    for expression in EXPRESSIONS:
        message, values = describe(expression)
        assert {name for _, name, _, _ in string.Formatter().parse(message) if name} == set(values)
        for key in WORD_KEYS & set(values):
            used.add(key)
            assert set(values[key].split(", ")) <= MESSAGES

    assert used == WORD_KEYS


def test_a_catalogue_of_all_messages_translates_everything() -> None:
    """With every message and word in capitals, nothing but numbers and names of fields is left as it was."""
    fields = {name for message in MESSAGES for _, name, _, _ in string.Formatter().parse(message) if name}

    def shout(message: str) -> str:
        assert message in MESSAGES
        for name in fields:
            message = message.replace("{" + name + "}", "\0" + name + "\1")
        parts = [part if "\1" in part else "\1" + part for part in message.split("\0")]
        return "".join(
            ("{" + name + "}" if name else "") + text.upper() for name, text in (part.split("\1") for part in parts)
        )

    assert shout("Every {weekdays} at {time}") == "EVERY {weekdays} AT {time}"
    for expression in EXPRESSIONS:
        assert render(*describe(expression), shout) == english(expression).upper()
    assert render(*describe("0 0 13 * fri"), shout) == "0 0 13 * fri"
    assert render(*describe(interval_seconds=5400), shout) == "EVERY 90 MINUTES"


def test_rendering_without_a_language_is_english() -> None:
    """`render` with nothing to translate is what `format` gives."""
    for expression in EXPRESSIONS:
        assert render(*describe(expression), str) == english(expression)
