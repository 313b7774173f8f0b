# SPDX-License-Identifier: LGPL-3.0-or-later
"""A schedule in words, for people who do not read cron expressions.

`describe` returns a message and its values: `message.format(**values)` is the English sentence, `render` gives it in
any language. Values are text. Those under WORD_KEYS are words of MESSAGES, joined by ", "; the others are numbers,
times, or the expression. MESSAGES has all that needs a translation.

The rule: the words say exactly what the schedule does. Where no message is exact, and where the expression is not
valid, the expression itself is shown.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from .cron import Cron, CronError, parsed

Description = tuple[str, dict[str, str]]

__all__ = ["MESSAGES", "WORD_KEYS", "describe", "render"]

WORD_KEYS = frozenset({"weekday", "weekdays", "months", "place"})

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = ("January", "February", "March", "April", "May", "June",
           "July", "August", "September", "October", "November", "December")
_WEEKS = {(1, 2, 3, 4, 5): ("weekdays", "Weekdays at {time}"), (6, 0): ("weekends", "Weekends at {time}")}
_PLACES = ("last", "first", "second", "third", "fourth", "fifth")

_RAW = "{expression}"
_NONE = "No schedule"
_LAST_OF_LIST, _FIRST = ", ", "1"  # before the last of a list, and the first day of a month, which French says as words

# The units of intervals, largest first. A day is "24 hours": an interval does not keep the time of day.
_UNITS = (
    (86400, "days", "Every {hours} hours", "Every {days} days"),
    (3600, "hours", "Every hour", "Every {hours} hours"),
    (60, "minutes", "Every minute", "Every {minutes} minutes"),
    (1, "seconds", "Every second", "Every {seconds} seconds"),
)

# The messages for many times a day; each of them with or without weekdays.
_OFTEN = ("Every minute", "Every {minutes} minutes", "Every hour", "Every hour at minute {minutes}",
          "Every minute from {first} to {last}", "Every {minutes} minutes from {first} to {last}",
          "Every hour from {first} to {last}", "Every {hours} hours from {first} to {last}")
_FROM_TO = " from {first} to {last}"
_ON_WEEKDAYS = " on {weekdays}"

_EVERY_DAY = "Every day at {time}"
_SOME_WEEKDAYS = "Every {weekdays} at {time}"
_PLACED = "On the {place} {weekday} of the month at {time}"
_DATES = "On day {days} of the month at {time}"
_DATES_OF_MONTHS = "On day {days} of {months} at {time}"
_DAILY_IN_MONTHS = "Every day in {months} at {time}"
_LAST_DAY = "On the last day of the month at {time}"
_LAST_WORKING_DAY = "On the last weekday of the month (Monday to Friday) at {time}"
_NEAREST = "On the weekday (Monday to Friday) nearest to day {day} of the month at {time}"

MESSAGES = frozenset((
    _LAST_OF_LIST, _FIRST,
    _RAW, _NONE, _EVERY_DAY, _SOME_WEEKDAYS, _PLACED, _DATES, _DATES_OF_MONTHS, _DAILY_IN_MONTHS, _NEAREST, _LAST_DAY,
    _LAST_WORKING_DAY, *(message for _, _, *messages in _UNITS for message in messages),
    *(message + ending for message in _OFTEN for ending in ("", _ON_WEEKDAYS)),
    *(text for texts in (_WEEKDAYS, _MONTHS, _PLACES, *_WEEKS.values()) for text in texts)))


def describe(expression: str | None = None, interval_seconds: int | None = None) -> Description:
    """The message and its values for a task's schedule; the expression counts if there is an interval, too."""
    if expression:
        return _cron(expression) or (_RAW, {"expression": expression})
    if interval_seconds is None:
        return _NONE, {}

    for size, unit, one, several in _UNITS:
        if interval_seconds == size:
            return one, {"hours": "24"} if unit == "days" else {}
        if interval_seconds % size == 0 and interval_seconds > size:
            return several, {unit: str(interval_seconds // size)}

    return "Every {seconds} seconds", {"seconds": str(interval_seconds)}


def render(message: str, values: dict[str, str], translate: Callable[[str], str]) -> str:
    """The sentence in another language. translate: a function that translates the texts in MESSAGES."""
    said = {}

    for key, value in values.items():
        parts = [value] if key == "expression" else value.split(", ")

        if key in WORD_KEYS or key in ("day", "days"):
            parts = [translate(part) if part in MESSAGES else part for part in parts]

        *others, last = parts
        said[key] = ", ".join(others) + translate(_LAST_OF_LIST) * bool(others) + last

    return translate(message).format(**said)


@functools.lru_cache(1000)
def _cron(expression: str) -> Description | None:
    """An expression in words, or None if no message says exactly what it means."""
    try:
        cron = parsed(expression)
    except CronError:
        return None

    any_date, any_weekday = len(cron.dates - {0}) == 31, len(cron.weekdays) == 7
    if not cron.both or not (any_date or any_weekday):
        return None  # dates and weekdays together: no short sentence says which of them must match

    named = {"months": ", ".join(_MONTHS[month - 1] for month in cron.months)} if len(cron.months) < 12 else {}
    time: dict[str, str] = {}
    if len(cron.minutes) * len(cron.hours) <= 6:
        time = {"time": ", ".join(f"{hour:02}:{minute:02}" for hour in cron.hours for minute in cron.minutes)}
    if not any_date:
        return _by_date(cron, named, time) if time else None
    if named:
        return (_DAILY_IN_MONTHS, {**named, **time}) if any_weekday and time else None

    return _by_weekday(cron, time)


def _by_date(cron: Cron, named: dict[str, str], time: dict[str, str]) -> Description | None:
    days = sorted(cron.dates | cron.nearest)
    if not cron.nearest and days[0] and len(days) <= 6:
        return _DATES_OF_MONTHS if named else _DATES, {"days": ", ".join(map(str, days)), **named, **time}
    if len(days) > 1 or named or (cron.dates and cron.nearest):
        return None
    if days == [0]:
        return _LAST_WORKING_DAY if cron.nearest else _LAST_DAY, time

    return _NEAREST, {"day": str(days[0]), **time}


def _by_weekday(cron: Cron, time: dict[str, str]) -> Description | None:
    if cron.nth:
        if len(cron.nth) > 1 or cron.weekdays or not time:
            return None

        ((day, place),) = cron.nth
        return _PLACED, {"place": _PLACES[place], "weekday": _WEEKDAYS[day], **time}

    days = sorted(cron.weekdays, key=lambda day: (day - 1) % 7)
    names, at = _WEEKS.get(tuple(days)) or (", ".join(_WEEKDAYS[day] for day in days), "")
    often = _often(list(cron.minutes), list(cron.hours))
    if often:
        return often if len(days) == 7 else (often[0] + _ON_WEEKDAYS, {**often[1], "weekdays": names})
    if time and (len(days) == 7 or at):
        return at or _EVERY_DAY, time

    return (_SOME_WEEKDAYS, {"weekdays": names, **time}) if time else None


def _often(minutes: list[int], hours: list[int]) -> Description | None:
    """Words for more than three times a day at equal distances."""
    if len(minutes) * len(hours) <= 3:
        return None

    all_day = len(hours) == 24
    span = {"first": f"{hours[0]:02}:{minutes[0]:02}", "last": f"{hours[-1]:02}:{minutes[-1]:02}"}
    if len(minutes) > 1 and 60 % len(minutes) == 0 and hours == list(range(hours[0], hours[-1] + 1)):
        step = 60 // len(minutes)
        if minutes == list(range(minutes[0], 60, step)):  # evenly, over the end of the hour too
            message, values = ("Every minute", {}) if step == 1 else ("Every {minutes} minutes", {"minutes": str(step)})
            return (message, values) if all_day and minutes[0] == 0 else (message + _FROM_TO, {**values, **span})

    if all_day and minutes == [0]:
        return "Every hour", {}
    if all_day and len(minutes) <= 6:
        return "Every hour at minute {minutes}", {"minutes": ", ".join(map(str, minutes))}
    if len(minutes) > 1:
        return None

    pace = hours[1] - hours[0]
    if hours != list(range(hours[0], hours[-1] + 1, pace)):
        return None
    if pace == 1:
        return "Every hour" + _FROM_TO, span

    return "Every {hours} hours" + _FROM_TO, {"hours": str(pace), **span}
