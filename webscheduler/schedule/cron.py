"""Cron expressions: when a schedule comes next, and when it last came.

The rule is crontab(5) as Debian's cron reads it, plus the few signs that people bring along from Quartz:

    minute 0-59 | hour 0-23 | day of month 1-31 | month 1-12 or JAN-DEC | day of week 0-7 or SUN-SAT (0 and 7: Sunday)

    *  a  a-b  */n  a-b/n  and lists of these    in every field; `?` is `*` in the two fields of days
    L  15W  LW                   day of month: the last; the working day nearest to the 15th; the last working day
    5L  FRIL  5#3  FRI#3         day of week: the last Friday, the third Friday of the month
    @hourly @daily @midnight @weekly @monthly @yearly @annually

Days: where one of the two fields of days begins with `*` (or is `?`) a day must match both, else either is enough.

Daylight saving: a schedule is *wildcard* where its minute or its hour begins with `*`, else *fixed*. A wildcard
schedule follows real time: it comes in both passes of a repeated hour, and not in a skipped one. A fixed schedule comes
once in a repeated hour, in the first pass, and what a skipped hour would have held comes once, at the first instant
after it. Debian's cron does this for shifts of up to three hours; here it holds for every shift: no run is lost.

The only clock is the caller's argument.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    _Field = tuple[str, int, int, int, tuple[str, ...]]

__all__ = ["Cron", "CronError"]

_LONGEST = 200

# How far a search goes. A month looks like another with the same length that begins on the same weekday; the rarest, a
# February of 29 days, returns within 40 years even across a century that has no leap day.
_MONTHS_SEARCHED = 12 * 42

_SECOND = timedelta(seconds=1)
_ZERO = timedelta(0)

# Name, lowest and highest value, largest step, names. cron takes a step beyond the field, and it never does what its
# writer meant: */90 is every hour, not every 90 minutes.
_FIELDS = (
    ("minute", 0, 59, 60, ()),
    ("hour", 0, 23, 24, ()),
    ("day-of-month", 1, 31, 31, ()),
    ("month", 1, 12, 12, ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    ("day-of-week", 0, 7, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)
_MINUTES, _HOURS, _DATES, _MONTHS, _WEEKDAYS = _FIELDS

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class CronError(ValueError):
    """An expression that is not one. Its text is one line; `field` is the field's name, or "expression"."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field


class Cron:
    """A parsed expression; raises CronError. All instants are aware datetimes, those given back are in UTC.

    `expression` is the text, with single spaces. `minutes`, `hours` and `months` are the values that match, ascending.
    `dates` are days of the month, `nearest` those whose nearest working day is meant, 0 the last in both; `weekdays`
    are days of the week (0: Sunday), `nth` pairs of such a day and its place in the month, 0 the last. `both` tells
    whether a day must match dates and weekdays, or either; `wildcard` how it meets daylight saving.
    """

    __slots__ = ("_calendar", "both", "dates", "expression", "hours", "minutes", "months", "nearest", "nth", "weekdays",
                 "wildcard")

    def __init__(self, expression: str) -> None:
        # Checked before anything is quoted in a message: what follows may be printed to a terminal or a page.
        if len(expression) > _LONGEST:
            raise CronError("expression", f"is longer than {_LONGEST} characters")
        if not all(" " <= character <= "~" or character == "\t" for character in expression):
            raise CronError("expression", "holds a character that is not printable ASCII")

        fields = expression.split()
        self.expression = " ".join(fields)
        if self.expression.startswith("@"):
            fields = _alias(self.expression).split()
        if len(fields) != 5:
            raise CronError("expression", f"has {len(fields)} fields; cron has 5: minute hour day month weekday")

        minute, hour, dates, month, weekdays = fields
        self.minutes = tuple(sorted(_values(_MINUTES, minute)))
        self.hours = tuple(sorted(_values(_HOURS, hour)))
        self.months = tuple(sorted(_values(_MONTHS, month)))
        self.dates, self.nearest = _parse_dates(dates)
        self.weekdays, self.nth = _parse_weekdays(weekdays)
        self.both = dates[0] in "*?" or weekdays[0] in "*?"
        self.wildcard = minute[0] == "*" or hour[0] == "*"
        self._calendar: dict[tuple[int, int], tuple[int, ...]] = {}

    def next(self, after: datetime, tz: tzinfo) -> datetime | None:
        """The first instant strictly later than `after`, read on the clocks of `tz`; None where it never comes."""
        return self._search(after, tz, 1)

    def previous(self, before: datetime, tz: tzinfo) -> datetime | None:
        """The last instant not later than `before`, read on the clocks of `tz`; None where it never came."""
        return self._search(before, tz, -1)

    def never(self) -> bool:
        """Whether no calendar has a day for it, like the 30th of February."""
        return not any(
            self._days(length, first)
            for month in self.months
            for length in ((28, 29) if month == 2 else (_month_length(2001, month),))
            for first in range(7)
        )

    def _search(self, moment: datetime, tz: tzinfo, order: int) -> datetime | None:
        """The nearest instant after `moment` (`order` 1), or the nearest that is not after it (-1).

        Walks the wall clock, where a slot may stand for no instant, one, or two. Only within a repeated hour do wall
        clock and time disagree about what comes first: the walk then begins an hour early and takes the best it passes.
        """
        if moment.tzinfo is None:
            raise ValueError("an instant needs a time zone")

        forward = order > 0
        best = None
        try:
            # By way of UTC, since a datetime that is in `tz` already might show a wall time that does not exist.
            local = moment.astimezone(timezone.utc).astimezone(tz)
            wall = local.replace(tzinfo=None, fold=0)
            # What is repeated of the wall clock here; nothing, mostly. Never negative: what is skipped is not shown.
            overlap = _offset(wall, 0, tz) - _offset(wall, 1, tz)

            for slot in self._slots(wall - order * overlap, order):
                for instant in self._instants(slot, tz):
                    if (instant > moment) == forward and (best is None or (instant < best) == forward):
                        best = instant

                if best is not None and (slot > wall) == forward:
                    break
        except OverflowError:
            pass  # the edge of year 1 or 9999

        return best

    def _slots(self, start: datetime, order: int) -> Iterator[datetime]:
        """The matching minutes of the wall clock (naive) from `start` on, it included, forwards or backwards."""
        origin = start.year * 12 + start.month - 1
        for ordinal in range(origin, origin + order * _MONTHS_SEARCHED, order):
            year, month = ordinal // 12, ordinal % 12 + 1
            if not 1 <= year <= 9999:
                return
            if month not in self.months:
                continue

            # `on_…`: all larger units are still those of `start`, so that this one has to be compared.
            on_month = ordinal == origin
            first = date(year, month, 1).isoweekday() % 7
            for day in self._days(_month_length(year, month), first)[::order]:
                if on_month and (day - start.day) * order < 0:
                    continue

                on_day = on_month and day == start.day
                for hour in self.hours[::order]:
                    if on_day and (hour - start.hour) * order < 0:
                        continue

                    on_hour = on_day and hour == start.hour
                    for minute in self.minutes[::order]:
                        if not (on_hour and (minute - start.minute) * order < 0):
                            yield datetime(year, month, day, hour, minute)  # noqa: DTZ001 - the wall clock's

    def _instants(self, slot: datetime, tz: tzinfo) -> tuple[datetime, ...]:
        """When the wall clock's `slot` comes in real time, ascending: the daylight saving rule of the module."""
        before, after = _offset(slot, 0, tz), _offset(slot, 1, tz)
        # PEP 495: fold 0 and 1 give the offsets before and after the shift that skips or repeats this wall time.
        early = (slot - before).replace(tzinfo=timezone.utc)
        if before == after:
            return (early,)

        late = (slot - after).replace(tzinfo=timezone.utc)
        if before > after:
            return (early, late) if self.wildcard else (early,)

        return () if self.wildcard else (_shift(late, early, tz),)

    def _days(self, length: int, first: int) -> tuple[int, ...]:
        """The days that match in a month of `length` days whose first is weekday `first` (0: Sunday), ascending."""
        days = self._calendar.get((length, first))
        if days is not None:
            return days

        dates = {day or length for day in self.dates if day <= length}
        dates.update(_working_day(day or length, length, first) for day in self.nearest if day <= length)

        weekdays = {day for day in range(1, length + 1) if (first + day - 1) % 7 in self.weekdays}
        for weekday, nth in self.nth:
            those = range(1 + (weekday - first) % 7, length + 1, 7)
            if nth <= len(those):
                weekdays.add(those[nth - 1])  # nth 0 is the last

        days = tuple(sorted(dates & weekdays if self.both else dates | weekdays))
        self._calendar[length, first] = days

        return days


def _alias(expression: str) -> str:
    alias = expression.lower()
    if alias == "@reboot":
        raise CronError("expression", "@reboot has no time; nothing here is told when the machine starts")
    if alias not in _ALIASES:
        raise CronError("expression", f"{expression!r} is unknown; there are {' '.join(_ALIASES)}")

    return _ALIASES[alias]


def _parse_dates(text: str) -> tuple[frozenset[int], frozenset[int]]:
    """Days of the month, and those of which the nearest working day is meant. In both, 0 is the last."""
    if text == "?":
        text = "*"

    dates: set[int] = set()
    nearest: set[int] = set()
    for item in text.split(","):
        sign = item.upper()
        if sign == "L":
            dates.add(0)
        elif sign == "LW":
            nearest.add(0)
        elif sign.endswith("W"):
            nearest.add(_number(_DATES, item[:-1]))
        else:
            dates.update(_values(_DATES, item))

    return frozenset(dates), frozenset(nearest)


def _parse_weekdays(text: str) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    """Days of the week (0: Sunday), and pairs of such a day and its place in the month, of which 0 is the last."""
    if text == "?":
        text = "*"

    weekdays: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for item in text.split(","):
        day, hash_, place = item.partition("#")
        if hash_:
            if place not in ("1", "2", "3", "4", "5"):
                raise CronError("day-of-week", f"{item!r} needs 1 to 5 after the #")
            nth.add((_number(_WEEKDAYS, day) % 7, int(place)))
        elif item.upper() == "L":
            raise CronError("day-of-week", "L needs a weekday before it, like 5L for the last Friday")
        elif item.upper().endswith("L"):
            nth.add((_number(_WEEKDAYS, item[:-1]) % 7, 0))
        else:
            weekdays.update(value % 7 for value in _values(_WEEKDAYS, item))

    return frozenset(weekdays), frozenset(nth)


def _values(field: _Field, text: str) -> set[int]:
    """The values that a list of `*`, numbers, ranges and steps stands for."""
    name, low, high, largest_step, _ = field
    values: set[int] = set()
    for item in text.split(","):
        span, slash, step = item.partition("/")
        start, dash, end = span.partition("-")
        if span == "*":
            first, last = low, high
        else:
            first = _number(field, start)
            last = _number(field, end) if dash else first

        if first > last:
            raise CronError(name, f"{span!r} runs backwards; write two ranges, or a list")
        if slash and not dash and span != "*":
            raise CronError(name, f"{item!r} has a step but no range; write {span}-{high}/{step} if you mean that")
        if slash and not (step.isdigit() and 1 <= int(step) <= largest_step):
            raise CronError(name, f"{item!r} needs a step of 1 to {largest_step}")

        values.update(range(first, last + 1, int(step) if slash else 1))

    return values


def _number(field: _Field, text: str) -> int:
    """One value: digits (ASCII, as the whole expression is) or a name."""
    name, low, high, _, names = field
    if not text:
        raise CronError(name, "a value is missing")
    if text.isdigit():
        value = int(text)
    elif text.upper() in names:
        value = names.index(text.upper())
    else:
        raise CronError(name, f"{text!r} is no number{' or name' if names else ''}")
    if not low <= value <= high:
        raise CronError(name, f"{text!r} is not within {low}-{high}")

    return value


def _month_length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28

    return 30 if month in (4, 6, 9, 11) else 31


def _working_day(day: int, length: int, first: int) -> int:
    """The day from Monday to Friday nearest to `day` within its month."""
    weekday = (first + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2

    return day


def _offset(wall: datetime, fold: int, tz: tzinfo) -> timedelta:
    return wall.replace(tzinfo=tz, fold=fold).utcoffset() or _ZERO


def _shift(before: datetime, after: datetime, tz: tzinfo) -> datetime:
    """The instant at which the clocks of `tz` shift, between two instants of which the first is before it."""
    offset = before.astimezone(tz).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(tz).utcoffset() == offset:
            before = middle
        else:
            after = middle

    return after
