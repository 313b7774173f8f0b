# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cron expressions: when a schedule comes next, and when it came last.

The rule is crontab(5) as Debian's cron reads it, with a few signs that people know from Quartz:

    minute 0-59 | hour 0-23 | day of month 1-31 | month 1-12 or JAN-DEC | day of week 0-7 or SUN-SAT (0 and 7: Sunday)

    *  a  a-b  */n  a-b/n  and lists of these    in every field; `?` is `*` in the two fields of days
    L  15W  LW                   day of month: the last; the working day nearest to the 15th; the last working day
    5L  FRIL  5#3  FRI#3         day of week: the last Friday, the third Friday of the month
    @hourly @daily @midnight @weekly @monthly @yearly @annually

Days: if one of the two fields of days begins with `*` (or is `?`), a day must match both; otherwise, one is enough.

Daylight saving: a schedule is *wildcard* where its minute or its hour begins with `*`, else *fixed*. A wildcard
schedule follows real time: it comes in both passes of a repeated hour, and not in a skipped one. A fixed schedule comes
in the first pass of a repeated hour; slots of a skipped hour come once, at the first instant after it. Debian's cron
does this for shifts of up to three hours, this module for all.

No clock is read here: instants are arguments.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo

__all__ = ["Cron", "CronError", "parsed"]

_Slot = tuple[int, int, int, int, int]  # a minute of the wall clock: year, month, day, hour, minute

_LONGEST = 200

# How far a search goes. A month looks like another with the same length that begins on the same weekday; the rarest, a
# February of 29 days, returns within 40 years even across a century that has no leap day.
_MONTHS_SEARCHED = 12 * 42

_UTC = timezone.utc
_EPOCH = datetime(1970, 1, 1, tzinfo=_UTC)
_SECOND = timedelta(seconds=1)

# A set of minutes, hours, days, months or weekdays is an integer whose bit n stands for the value n. The next value is
# the lowest bit above the present one, which takes a shift and no loop.
_SIX_WEEKS = sum(1 << 7 * week for week in range(6))  # bits of weekdays times this: those of six weeks
_MONTH_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class _Field:
    """What a field may hold. `all` are the bits of `*`, `numbers` the values by their usual spelling."""

    def __init__(self, name: str, low: int, high: int, largest_step: int, names: tuple[str, ...] = ()) -> None:
        self.name, self.low, self.high, self.largest_step, self.names = name, low, high, largest_step, names
        self.all = (2 << high) - (1 << low)
        self.numbers = {str(value): value for value in range(low, high + 1)}


# cron takes a step beyond the field, and it never does what its writer meant: */90 is every hour, not every 90 minutes.
_MINUTES = _Field("minute", 0, 59, 60)
_HOURS = _Field("hour", 0, 23, 24)
_DATES = _Field("day-of-month", 1, 31, 31)
_MONTHS = _Field("month", 1, 12, 12,
                 ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"))
_WEEKDAYS = _Field("day-of-week", 0, 7, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))

ALIASES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
           "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}


class CronError(ValueError):
    """An expression that cannot be read. Its text is one line; field: the name of the wrong field, or "expression"."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field


class Cron:
    """A parsed expression; raises CronError. All instants are aware datetimes; results are in UTC.

    expression: the text, with single spaces. minutes, hours, months: the values that match, in order. dates: days of
    the month; nearest: those of which the nearest working day matches; in both, 0 is the last day. weekdays: 0 is
    Sunday; nth: pairs of a weekday and its place in the month, 0 for the last. both: whether a day must match dates and
    weekdays, or one of them. wildcard: see above.
    """

    __slots__ = ("_any_weekday", "_dates", "_hours", "_minutes", "_months", "_weekdays", "both", "expression",
                 "nearest", "nth", "wildcard")

    def __init__(self, expression: str) -> None:
        # First, since messages quote the expression on terminals and pages.
        if len(expression) > _LONGEST:
            raise CronError("expression", f"is longer than {_LONGEST} characters")
        if not (expression.isascii() and expression.replace("\t", " ").isprintable()):
            raise CronError("expression", "holds a character that is not printable ASCII")

        fields = expression.split()
        self.expression = " ".join(fields)
        if self.expression[:1] == "@":
            fields = _alias(self.expression).split()
        if len(fields) != 5:
            raise CronError("expression", f"has {len(fields)} fields; cron has 5: minute hour day month weekday")

        minute, hour, dates, month, weekdays = fields
        self._minutes = _parse_values(_MINUTES, minute)
        self._hours = _parse_values(_HOURS, hour)
        self._months = _parse_values(_MONTHS, month)
        self._dates, self.nearest = _parse_dates(dates)
        bits, self.nth = _parse_weekdays(weekdays)
        self._weekdays = (bits | bits >> 7) & 0b1111111  # 7 is Sunday as well
        self._any_weekday = weekdays in ("*", "?") and not self.nearest
        self.both = dates[0] in "*?" or weekdays[0] in "*?"
        self.wildcard = minute[0] == "*" or hour[0] == "*"

    @property
    def minutes(self) -> tuple[int, ...]:
        return _values(self._minutes)

    @property
    def hours(self) -> tuple[int, ...]:
        return _values(self._hours)

    @property
    def months(self) -> tuple[int, ...]:
        return _values(self._months)

    @property
    def dates(self) -> frozenset[int]:
        return frozenset(_values(self._dates))

    @property
    def weekdays(self) -> frozenset[int]:
        return frozenset(_values(self._weekdays))

    def next(self, after: datetime, tz: tzinfo) -> datetime | None:
        """The first instant strictly later than `after`, read on the clocks of `tz`; None where it never comes."""
        try:
            after, local = _read_clocks(after, tz)
            year, month, day, hour, minute = local.year, local.month, local.day, local.hour, local.minute
            end = 12 * year + month + _MONTHS_SEARCHED
            slot = self._first_slot(year, month, day, hour, minute + 1, end)

            if slot is not None and (not self.wildcard or slot[:3] == (year, month, day)):
                # The usual case: no shift lies between. A wildcard would miss its times in a repeated hour if clocks
                # had gone back and forth meanwhile; within a day none has (the closest shifts in tzdata: four days).
                wall = datetime(*slot, tzinfo=tz)
                instant = after + (wall - local)
                shown = instant.astimezone(tz)
                if shown == wall and not shown.fold:
                    return instant

            if self.wildcard and not local.fold and (repeats := _repeat_of(local)) != after:
                # The first pass of a repeated hour: when it is over, the clock shows again what has matched already.
                second_pass = _find_shift(after, repeats, tz)
                if slot is None or datetime(*slot, tzinfo=tz).astimezone(_UTC) >= second_pass:
                    at = second_pass.astimezone(tz)
                    slot = self._first_slot(at.year, at.month, at.day, at.hour, at.minute + (at.second > 0), end)

            while slot is not None:
                for instant in self._instants(slot, tz):
                    if instant > after:
                        return instant

                year, month, day, hour, minute = slot
                slot = self._first_slot(year, month, day, hour, minute + 1, end)
        except OverflowError:
            pass  # the edge of year 9999

        return None

    def previous(self, before: datetime, tz: tzinfo) -> datetime | None:
        """The last instant not later than `before`, read on the clocks of `tz`; None where it never came."""
        try:
            before, local = _read_clocks(before, tz)
            end = 12 * local.year + local.month - _MONTHS_SEARCHED
            slot = self._last_slot(local.year, local.month, local.day, local.hour, local.minute, end)

            if local.fold:
                # The second pass of a repeated hour: in the first one the clock got further than it is now.
                second_pass = _find_shift(local.replace(fold=0).astimezone(_UTC), before, tz)
                if not self.wildcard or slot is None or _repeat_of(datetime(*slot, tzinfo=tz)) < second_pass:
                    at = (second_pass - datetime.resolution).astimezone(tz)
                    slot = self._last_slot(at.year, at.month, at.day, at.hour, at.minute, end)

            while slot is not None:
                for instant in reversed(self._instants(slot, tz)):
                    if instant <= before:
                        return instant

                year, month, day, hour, minute = slot
                slot = self._last_slot(year, month, day, hour, minute - 1, end)
        except OverflowError:
            pass  # the edge of year 1

        return None

    def never_comes(self) -> bool:
        """Whether there is no such day in any year, like the 30th of February."""
        # Within 28 years each month, and February of both lengths, begins on each weekday.
        return not any(self._days(year, month) for year in range(2000, 2028) for month in range(1, 13))

    def _first_slot(self, year: int, month: int, day: int, hour: int, minute: int, end: int) -> _Slot | None:
        """The first matching minute on the wall clock, from the given one on (60: from the next hour on). The search
        ends before the month `end`, given as 12 * year + month."""
        days = self._days(year, month) & -1 << day
        if days >> day & 1:
            hours = self._hours & -1 << hour
            if hours >> hour & 1:
                minutes = self._minutes & -1 << minute
                if minutes:
                    return year, month, day, hour, _lowest(minutes)
                hours &= -2 << hour
            if hours:
                return year, month, day, _lowest(hours), _lowest(self._minutes)
            days &= -2 << day

        while not days:
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            if 12 * year + month >= end or year > 9999:
                return None
            days = self._days(year, month)

        return year, month, _lowest(days), _lowest(self._hours), _lowest(self._minutes)

    def _last_slot(self, year: int, month: int, day: int, hour: int, minute: int, end: int) -> _Slot | None:
        """The last matching minute on the wall clock, up to the given one (-1: up to the hour before). The search ends
        after the month `end`, given as 12 * year + month."""
        days = self._days(year, month) & (2 << day) - 1
        if days >> day & 1:
            hours = self._hours & (2 << hour) - 1
            if hours >> hour & 1:
                minutes = self._minutes & (1 << minute + 1) - 1
                if minutes:
                    return year, month, day, hour, _highest(minutes)
                hours &= (1 << hour) - 1
            if hours:
                return year, month, day, _highest(hours), _highest(self._minutes)
            days &= (1 << day) - 1

        while not days:
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
            if 12 * year + month <= end or year < 1:
                return None
            days = self._days(year, month)

        return year, month, _highest(days), _highest(self._hours), _highest(self._minutes)

    def _instants(self, slot: _Slot, tz: tzinfo) -> tuple[datetime, ...]:
        """The instants at which clocks show a slot, in order: the rule for daylight saving."""
        # PEP 495: fold 0 and 1 give the offsets before and after the shift that skips or repeats this wall time.
        early = datetime(*slot, tzinfo=tz).astimezone(_UTC)
        late = datetime(*slot, tzinfo=tz, fold=1).astimezone(_UTC)
        if early == late:
            return (early,)
        if early < late:
            return (early, late) if self.wildcard else (early,)

        return () if self.wildcard else (_find_shift(late, early, tz),)

    def _days(self, year: int, month: int) -> int:
        """The days that match in a month, as bits."""
        if not self._months >> month & 1:
            return 0

        leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        length = _MONTH_LENGTHS[month] + leap
        dates = self._dates | (self._dates & 1) << length  # 0 is the last
        days_of_month = (2 << length) - 2
        if self._any_weekday:
            return dates & days_of_month

        first = date(year, month, 1).isoweekday() % 7  # the weekday of the 1st, 0: Sunday
        for day in self.nearest:
            if day <= length:
                dates |= 1 << _working_day(day or length, length, first)

        weekdays = self._weekdays * _SIX_WEEKS >> first << 1
        for weekday, place in self.nth:
            day = 1 + (weekday - first) % 7
            weekdays |= 1 << (day + 7 * (place - 1) if place else day + (length - day) // 7 * 7)

        return (dates & weekdays if self.both else dates | weekdays) & days_of_month


_parsed: dict[str, Cron] = {}


def parsed(expression: str) -> Cron:
    """The same as Cron(expression), parsed once by a process: many tasks have the same schedule. Raises CronError."""
    found = _parsed.get(expression)
    if found is None:
        if len(_parsed) >= 1000:
            _parsed.clear()

        found = _parsed[expression] = Cron(expression)

    return found


def _alias(expression: str) -> str:
    alias = expression.lower()
    if alias == "@reboot":
        raise CronError("expression", "@reboot has no time, and nothing here knows when the machine starts")
    if alias not in ALIASES:
        raise CronError("expression", f"{expression!r} is unknown; there are {' '.join(ALIASES)}")

    return ALIASES[alias]


def _parse_dates(text: str) -> tuple[int, frozenset[int]]:
    """Bits of days of the month, and those of which the nearest working day is meant. In both, 0 is the last."""
    if text == "?":
        return _DATES.all, frozenset()

    dates = 0
    nearest: set[int] = set()
    for item in text.split(","):
        sign = item.upper()
        if sign == "L":
            dates |= 1
        elif sign == "LW":
            nearest.add(0)
        elif sign.endswith("W"):
            nearest.add(_number(_DATES, item[:-1]))
        else:
            dates |= _parse_values(_DATES, item)

    return dates, frozenset(nearest)


def _parse_weekdays(text: str) -> tuple[int, frozenset[tuple[int, int]]]:
    """Bits of weekdays (0 and 7: Sunday), and pairs of such a day and its place in the month, 0 the last."""
    if text == "?":
        return _WEEKDAYS.all, frozenset()

    weekdays = 0
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
            weekdays |= _parse_values(_WEEKDAYS, item)

    return weekdays, frozenset(nth)


def _parse_values(field: _Field, text: str) -> int:
    """The values that a list of `*`, numbers, ranges and steps stands for, as bits."""
    if text == "*":
        return field.all
    if text in field.numbers:
        return 1 << field.numbers[text]

    values = 0
    for item in text.split(","):
        span, slash, step = item.partition("/")
        start, dash, end = span.partition("-")
        if span == "*":
            first, last = field.low, field.high
        else:
            first = _number(field, start)
            last = _number(field, end) if dash else first

        if first > last:
            raise CronError(field.name, f"{span!r} runs backwards; write two ranges, or a list")
        if not slash:
            values |= (2 << last) - (1 << first)
            continue
        if not dash and span != "*":
            raise CronError(field.name, f"{item!r} has a step but no range; "
                                        f"write {span}-{field.high}/{step} if you mean that")
        if not (step.isdigit() and 1 <= int(step) <= field.largest_step):
            raise CronError(field.name, f"{item!r} needs a step of 1 to {field.largest_step}")

        for value in range(first, last + 1, int(step)):
            values |= 1 << value

    return values


def _number(field: _Field, text: str) -> int:
    """One value: digits (ASCII, as the whole expression is) or a name."""
    if text in field.numbers:
        return field.numbers[text]
    if not text:
        raise CronError(field.name, "a value is missing")
    if text.isdigit():
        value = int(text)
    elif text.upper() in field.names:
        value = field.names.index(text.upper())
    else:
        raise CronError(field.name, f"{text!r} is not a number{' or name' if field.names else ''}")
    if not field.low <= value <= field.high:
        raise CronError(field.name, f"{text!r} is not within {field.low}-{field.high}")

    return value


def _values(bits: int) -> tuple[int, ...]:
    return tuple(value for value in range(bits.bit_length()) if bits >> value & 1)


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _highest(bits: int) -> int:
    return bits.bit_length() - 1


def _working_day(day: int, length: int, first: int) -> int:
    """The day from Monday to Friday nearest to `day` within its month."""
    weekday = (first + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2

    return day


def _read_clocks(moment: datetime, tz: tzinfo) -> tuple[datetime, datetime]:
    """The moment in UTC, and what the clocks of `tz` show then."""
    if moment.tzinfo is None:
        raise ValueError("an instant needs a time zone")

    # By way of UTC, since a datetime that is in `tz` already might show a wall time that does not exist.
    moment = moment.astimezone(_UTC)
    return moment, moment.astimezone(tz)


def _repeat_of(wall: datetime) -> datetime:
    """The instant at which clocks show that time again, if it is repeated; otherwise its only instant."""
    return wall.replace(fold=1).astimezone(_UTC)


def _find_shift(before: datetime, after: datetime, tz: tzinfo) -> datetime:
    """The instant, to the second, at which the clocks of `tz` shift, between two of which the first is before it."""
    low, high = (before - _EPOCH) // _SECOND, (after - _EPOCH) // _SECOND
    offset = datetime.fromtimestamp(low, tz).utcoffset()

    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, tz).utcoffset() == offset:
            low = middle
        else:
            high = middle

    return datetime.fromtimestamp(high, _UTC)
