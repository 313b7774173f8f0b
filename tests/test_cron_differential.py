# SPDX-License-Identifier: LGPL-3.0-or-later
"""cron against three witnesses: a model of cron's own loop, croniter, and Debian's crontab(1).

The model walks real time minute by minute, as the daemon does: it keeps a clock of its own that small changes do not
set back, and the distance between that and the wall clock decides which jobs may run (cron(8), on changes of less than
three hours). It reads no expression: what a field stands for is drawn together with its text.

croniter follows other rules in a few places. Each is a row of RULES: where the two disagree, the model must confirm us
*and* a row must explain it, else the test fails.

By default a sample; all of it with WEBSCHEDULER_FULL=1.
"""

from __future__ import annotations

import calendar
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Callable, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, croniter

from webscheduler.schedule.cron import Cron, CronError

UTC = timezone.utc
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
REAL_CRONTAB = shutil.which("crontab")  # looked up before the one that stands in for it in tests
FULL = os.environ.get("WEBSCHEDULER_FULL") == "1"
TRIPLES = 50_000 if FULL else 4_000
SEED = 20260101

ZONES = (
    "UTC",
    "Europe/Paris",
    "Europe/Dublin",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Antarctica/Troll",
    "Asia/Kolkata",
    "Pacific/Chatham",
)
MONTHS = ("", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


# -- drawing: a text, and apart from it what it stands for -------------------------------------------------------------


class Drawn(NamedTuple):
    """An expression, and predicates that say what it means without reading it."""

    fields: tuple[str, ...]
    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    on_date: Callable[[date], bool]
    on_weekday: Callable[[date], bool]

    @property
    def text(self) -> str:
        return " ".join(self.fields)

    @property
    def wildcard(self) -> bool:
        return self.fields[0].startswith("*") or self.fields[1].startswith("*")

    def on_day(self, day: date) -> bool:
        both = self.fields[2][0] in "*?" or self.fields[4][0] in "*?"
        combine = all if both else any
        return day.month in self.months and combine((self.on_date(day), self.on_weekday(day)))


def draw_values(
    rng: random.Random, low: int, high: int, names: tuple[str, ...] = (), often: int | None = None
) -> tuple[str, frozenset[int]]:
    """A list of a field that goes from `low` to `high`; numbers and ranges are drawn up to `often`."""
    most = high if often is None else often

    def name(value: int) -> str:
        if names and value < len(names) and names[value] and rng.random() < 0.3:
            return rng.choice((names[value], names[value].lower()))
        return str(value)

    texts, values = [], set()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.choice(("one", "one", "one", "range", "range/step", "*/step", "*"))
        first, last = sorted((rng.randint(low, most), rng.randint(low, most)))
        step = rng.choice((1, 2, 3, 5, high - low or 1))
        if kind == "one" or (first == last and kind.startswith("range") and rng.random() < 0.95):
            texts.append(name(first))
            values.add(first)
        elif kind == "range":
            texts.append(f"{name(first)}-{last}")
            values.update(range(first, last + 1))
        elif kind == "range/step":
            texts.append(f"{first}-{last}/{step}")
            values.update(range(first, last + 1, step))
        else:
            step = step if kind == "*/step" else 1
            texts.append(f"*/{step}" if kind == "*/step" else "*")
            values.update(range(low, high + 1, step))
    return ",".join(texts), frozenset(values)


def month_of(day: date) -> list[date]:
    return [day.replace(day=number) for number in range(1, calendar.monthrange(day.year, day.month)[1] + 1)]


def nearest_working_day(day: date, number: int) -> bool:
    """Whether `day` is of all working days of its month the nearest to the date `number`, where that exists."""
    days = month_of(day)
    working = [one for one in days if one.isoweekday() <= 5]
    return number <= len(days) and day == min(working, key=lambda one: abs(one.day - number))


def draw_dates(rng: random.Random) -> tuple[str, Callable[[date], bool]]:
    kind = rng.choice(("values",) * 5 + ("*",) * 8 + ("?", "L", "LW", "W", "W", "1,L"))
    number = rng.randint(1, 31)
    if kind in "*?":
        return kind, lambda day: True
    if kind == "L":
        return "L", lambda day: day == month_of(day)[-1]
    if kind == "LW":
        return "LW", lambda day: nearest_working_day(day, len(month_of(day)))
    if kind == "W":
        return f"{number}W", lambda day: nearest_working_day(day, number)
    if kind == "1,L":
        return f"{number},L", lambda day: day.day == number or day == month_of(day)[-1]
    text, values = draw_values(rng, 1, 31)
    return text, lambda day: day.day in values


def draw_weekdays(rng: random.Random) -> tuple[str, Callable[[date], bool]]:
    kind = rng.choice(("values",) * 5 + ("*",) * 8 + ("?", "#", "#", "last"))
    number, place = rng.randint(0, 7), rng.randint(1, 5)
    name = rng.choice((str(number), DAYS[number % 7]))
    if kind in "*?":
        return kind, lambda day: True
    if kind == "#":
        return f"{name}#{place}", lambda day: day.isoweekday() % 7 == number % 7 and (day.day + 6) // 7 == place
    if kind == "last":
        return f"{name}L", lambda day: day.isoweekday() % 7 == number % 7 and day.day + 7 > len(month_of(day))
    text, values = draw_values(rng, 0, 7, DAYS)
    return text, lambda day: day.isoweekday() % 7 in {value % 7 for value in values}


def draw(rng: random.Random) -> Drawn:
    minute, minutes = draw_values(rng, 0, 59)
    hour, hours = "*", frozenset(range(24))
    if rng.random() < 0.7:
        hour, hours = draw_values(rng, 0, 23, often=rng.choice((3, 23)))  # clocks shift at night
    dates, on_date = draw_dates(rng)
    month, months = ("*", frozenset(range(1, 13))) if rng.random() < 0.6 else draw_values(rng, 1, 12, MONTHS)
    weekdays, on_weekday = draw_weekdays(rng)
    return Drawn((minute, hour, dates, month, weekdays), minutes, hours, months, on_date, on_weekday)


# -- the model ---------------------------------------------------------------------------------------------------------


def model(drawn: Drawn, tz: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """The instants in [start, end) at which cron(8) starts the job. `start` must not lie in a repeated hour."""

    def matches(minute: int) -> bool:
        days, rest = divmod(minute, 1440)
        return rest % 60 in drawn.minutes and rest // 60 in drawn.hours and on_day(days)

    @cache
    def on_day(days: int) -> bool:
        return drawn.on_day(date.fromordinal(days))

    def wall(instant: datetime) -> int:
        local = instant.astimezone(tz)
        return local.toordinal() * 1440 + local.hour * 60 + local.minute

    wildcard, fixed = drawn.wildcard, not drawn.wildcard
    instant, virtual = start, wall(start) - 1
    while instant < end:
        now = wall(instant)
        distance = now - virtual
        if -180 <= distance <= 0:  # set back: wildcards only, until the wall clock has caught up
            runs = wildcard and matches(now)
        elif distance <= 180:  # as always, or put forward: nothing fixed is lost
            runs = (wildcard and matches(now)) or (fixed and any(map(matches, range(virtual + 1, now + 1))))
            virtual = now
        else:
            runs = matches(now)
            virtual = now
        if runs:
            yield instant
        instant += MINUTE


@cache
def shifts(zone: str) -> tuple[datetime, ...]:
    """The instants from 2023 to 2045 at which the zone's offset changes, found by bisection."""
    tz = ZoneInfo(zone)
    found = []
    day = datetime(2023, 1, 1, tzinfo=UTC)
    while day.year < 2045:
        low, high = day, day + timedelta(days=1)
        day = high
        if low.astimezone(tz).utcoffset() == high.astimezone(tz).utcoffset():
            continue
        while high - low > MINUTE:
            middle = low + (high - low) // MINUTE // 2 * MINUTE
            if middle.astimezone(tz).utcoffset() == low.astimezone(tz).utcoffset():
                low = middle
            else:
                high = middle
        found.append(high)
    return tuple(found)


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone not in ("UTC", "Asia/Kolkata", "America/Sao_Paulo")])
def test_around_shifts_it_is_what_cron_does(zone: str) -> None:
    """Around each shift of the clocks, forwards and backwards, exactly the starts of the daemon are found."""
    rng = random.Random(f"{SEED}{zone}")
    tz = ZoneInfo(zone)
    around = timedelta(days=14 if FULL else 1.5)
    # A release of the tz database may end the shifts of a country from some year on, as it did for Morocco.
    assert len(shifts(zone)) >= 6
    later = shifts(zone)[4:20]
    found = 0

    for shift in (*shifts(zone)[:4], *rng.sample(later, min(4, len(later)))):
        for _ in range(8 if FULL else 6):
            drawn = draw(rng)
            start, end = shift - around, shift + around
            expected = list(model(drawn, tz, start, end))
            cron = Cron(drawn.text)

            forwards = []
            instant = cron.next(start - MINUTE, tz)
            while instant is not None and instant < end:
                forwards.append(instant)
                instant = cron.next(instant, tz)

            backwards = []
            instant = cron.previous(end - MINUTE, tz)
            while instant is not None and instant >= start:
                backwards.append(instant)
                instant = cron.previous(instant - MINUTE, tz)

            assert forwards == expected, drawn.text
            assert backwards[::-1] == expected, drawn.text
            found += len(expected)

    assert found > 100


# -- croniter ----------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A disagreement. `ours` and `theirs` are the nearest instants after `instant`, or before it, or None."""

    drawn: Drawn
    zone: str
    instant: datetime
    ours: datetime | None
    theirs: datetime | None

    def __str__(self) -> str:
        tz = ZoneInfo(self.zone)
        instants = [instant and str(instant.astimezone(tz)) for instant in (self.instant, self.ours, self.theirs)]
        return "{!r} in {}, from {}: ours {}, theirs {}".format(self.drawn.text, self.zone, *instants)


def comes(case: Case, instant: datetime) -> bool:
    """Whether the model starts the job at `instant`."""
    return instant in model(case.drawn, ZoneInfo(case.zone), instant - 4 * HOUR, instant + MINUTE)


def confirmed(case: Case) -> bool:
    """Whether the model is with us: of the two answers the nearer comes if it is ours, and does not if it is theirs."""
    if case.ours is None:
        return case.theirs is not None and not comes(case, case.theirs)
    if case.theirs is not None and abs(case.theirs - case.instant) < abs(case.ours - case.instant):
        return comes(case, case.ours) and not comes(case, case.theirs)
    return comes(case, case.ours)


def range_of_one(case: Case) -> bool:
    numbers = {name: str(number) for names in (MONTHS, DAYS) for number, name in enumerate(names)}
    ranges = re.findall(r"(\w+)-(\w+)", case.drawn.text.upper())
    return any(numbers.get(first, first) == numbers.get(last, last) for first, last in ranges)


def sign_beside_restricted(case: Case) -> bool:
    dates, weekdays = case.drawn.fields[2], case.drawn.fields[4]
    return dates not in "*?" and weekdays not in "*?" and ("W" in dates or "#" in weekdays or weekdays.endswith("L"))


def every_day_written_out(case: Case) -> bool:
    def whole(text: str, on: Callable[[date], bool]) -> bool:
        return text[0] not in "*?" and all(on(date(2024, 1, day)) for day in range(1, 32))

    _, _, dates, _, weekdays = case.drawn.fields
    return whole(dates, case.drawn.on_date) or whole(weekdays, case.drawn.on_weekday)


def nearest_to_no_date(case: Case) -> bool:
    dates = case.drawn.fields[2]
    return dates.endswith("W") and dates[:-1] in ("29", "30", "31")


def near_shift(case: Case) -> bool:
    seen = [instant for instant in (case.instant, case.ours, case.theirs) if instant is not None]
    return any(abs(instant - shift) <= 3 * HOUR for instant in seen for shift in shifts(case.zone))


# By crontab(5) as Debian's cron does it, and where croniter departs from that.
RULES: dict[str, Callable[[Case], bool]] = {
    "ranges: may hold one value, 3-3; croniter takes that for the whole field": range_of_one,
    "days: of two restricted fields either is enough; croniter wants both with W, # or 5L": sign_beside_restricted,
    "days: only what begins with * is unrestricted; croniter drops any field that holds all": every_day_written_out,
    "W: a month without a 31st has no day nearest to it; croniter takes its last day": nearest_to_no_date,
    "daylight saving: by the first sign of minute and hour; croniter does it its own way": near_shift,
}


def in_croniters_words(drawn: Drawn) -> str | None:
    """The expression as croniter spells it, or None: it has no LW, and writes L before the number."""
    minute, hour, dates, month, weekdays = drawn.fields
    if dates == "LW":
        return None
    if weekdays.endswith("L"):
        day = weekdays[:-1]
        weekdays = f"L{DAYS.index(day) if day in DAYS else day}"
    return " ".join((minute, hour, dates, month, weekdays))


@pytest.mark.timeout(1800)
def test_croniter_agrees_or_a_rule_says_why_not() -> None:
    """On random expressions, instants and zones, every disagreement is one that cron's rules decide in our favour."""
    rng = random.Random(SEED)
    explained: Counter[str] = Counter()
    unexplained = []
    triples = 0

    while triples < TRIPLES:
        drawn, zone = draw(rng), rng.choice(ZONES)
        spelled = in_croniters_words(drawn)
        if spelled is None:
            continue

        tz = ZoneInfo(zone)
        instant = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(6 * 365 * 86400))
        if shifts(zone) and rng.random() < 0.4:
            instant = rng.choice(shifts(zone)[:14]) + timedelta(seconds=rng.randint(-40_000, 10_000))

        cron = Cron(drawn.text)
        if not croniter.is_valid(spelled):
            continue  # an older croniter, without W

        triples += 1
        for forwards in (True, False):
            witness = croniter(spelled, instant.astimezone(tz), implement_cron_bug=True)
            try:
                theirs = (witness.get_next if forwards else witness.get_prev)(datetime).astimezone(UTC)
            except CroniterBadDateError:
                theirs = None
            # Theirs is strictly before, ours at or before; both are whole minutes, and the instant whole seconds.
            ours = cron.next(instant, tz) if forwards else cron.previous(instant - timedelta(seconds=1), tz)
            if ours == theirs:
                continue

            case = Case(drawn, zone, instant, ours, theirs)
            rules = [rule for rule, applies in RULES.items() if applies(case)]
            if rules and confirmed(case):
                explained[rules[0]] += 1
            else:
                unexplained.append(str(case))

    print(f"{triples} triples, both ways; {sum(explained.values())} disagreements explained:")
    for rule, count in explained.most_common():
        print(f"{count:6}  {rule}")
    assert not unexplained, "\n".join(unexplained)
    assert not FULL or set(explained) == set(RULES), "a rule that explains nothing is stale"


# -- Debian's crontab --------------------------------------------------------------------------------------------------


def test_debian_takes_what_we_take(tmp_path: Path) -> None:
    """Whatever is accepted here without the signs of Quartz, crontab(1) accepts as well; it names what it does not."""
    crontab = REAL_CRONTAB
    if crontab is None or "-n" not in subprocess.run([crontab, "-h"], capture_output=True, text=True).stderr:
        if os.environ.get("WEBSCHEDULER_REQUIRE_ALL"):
            pytest.fail("no crontab(1) that checks without installing")
        pytest.skip("no crontab(1) that checks without installing")

    rng = random.Random(SEED)
    texts = [draw(rng).text for _ in range(400)]
    plain = [text for text in texts if not re.search(r"[?#]|\dL|\dW|\bLW?\b|[A-Z]{3}L", text)]
    assert len(plain) > 200
    for text in plain:
        Cron(text)

    table = tmp_path / "crontab"
    table.write_text("".join(f"{text} true\n" for text in plain), encoding="ascii")
    done = subprocess.run([crontab, "-n", str(table)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    # The other way round for what looks like a slip rather than like a schedule.
    for text in ("5/15 * * * *", "60 * * * *", "*/0 * * * *", "1,,2 * * * *", "* * * january *", "5-64/30 * * * *"):
        table.write_text(f"{text} true\n", encoding="ascii")
        assert subprocess.run([crontab, "-n", str(table)], capture_output=True).returncode == 1
        with pytest.raises(CronError):
            Cron(text)
