# SPDX-License-Identifier: LGPL-3.0-or-later
"""How fast `Cron` reads an expression and finds what comes next, beside cronsim and croniter: a table when run as
`python -m tests.benchmarks.bench_cron`, and the rows of `python -m tests.benchmarks`.

The only module here that imports the package, since what is measured is a call. A piece of work is the constructor and
the next instant, for each of several moments; peers get these in the zone's own time, which they need, ours in UTC.
Both take turns, and the median of the pairs counts. Answers are compared before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import NamedTuple
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from webscheduler.schedule.cron import Cron

PAIRS = 25
SECONDS = 0.002  # of one side of a pair
UTC, PARIS = timezone.utc, ZoneInfo("Europe/Paris")
# Twelve moments over a year, at all times of the day.
YEAR = tuple(datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC) + number * timedelta(days=29, hours=14, minutes=37)
             for number in range(12))  # fmt: skip


class Class(NamedTuple):
    """A kind of expression. croniter: how that spells it, if it can; cronsim: whether that reads it."""

    name: str
    expression: str
    croniter: str | None
    cronsim: bool = True
    zone: ZoneInfo | timezone = PARIS
    moments: tuple[datetime, ...] = YEAR


def at(*texts: str) -> tuple[datetime, ...]:
    return tuple(datetime.fromisoformat(text).astimezone(UTC) for text in texts)


CLASSES = (
    Class("star", "* * * * *", "* * * * *"),
    Class("star in UTC", "* * * * *", "* * * * *", zone=UTC),
    Class("step", "*/15 * * * *", "*/15 * * * *"),
    Class("time of day", "7 3 * * *", "7 3 * * *"),
    Class("range", "30 9 * * 1-5", "30 9 * * 1-5"),
    Class("list", "0,20,40 8,12,18 * * *", "0,20,40 8,12,18 * * *"),
    Class("L", "0 0 L * *", "0 0 L * *"),
    Class("LW", "0 0 LW * *", None),
    Class("last Friday", "0 0 * * 5L", "0 0 * * L5"),
    Class("W", "0 0 15W * *", "0 0 15W * *", cronsim=False),
    Class("#", "0 0 * * 5#3", "0 0 * * 5#3"),
    Class("leap day", "0 0 29 2 *", "0 0 29 2 *"),
    Class("skipped hour", "30 2 * * *", None, moments=at("2026-03-29T00:30:30+01:00", "2026-03-29T01:30:30+01:00")),
    Class("repeated hour", "*/15 * * * *", "*/15 * * * *",
          moments=at("2026-10-25T02:50:30+02:00", "2026-10-25T02:20:30+02:00", "2026-10-25T02:20:30+01:00")),
    Class("repeated, fixed", "30 2 * * *", "30 2 * * *",
          moments=at("2026-10-25T01:30:30+02:00", "2026-10-25T02:20:30+02:00")),
)  # fmt: skip


def ours(kind: Class) -> list[datetime | None]:
    return [Cron(kind.expression).next(moment, kind.zone) for moment in kind.moments]


def by_cronsim(kind: Class) -> Callable[[], list[datetime]] | None:
    local = [moment.astimezone(kind.zone) for moment in kind.moments]
    return (lambda: [next(CronSim(kind.expression, moment)) for moment in local]) if kind.cronsim else None


def by_croniter(kind: Class) -> Callable[[], list[datetime]] | None:
    local = [moment.astimezone(kind.zone) for moment in kind.moments]
    return (lambda: [croniter(kind.croniter, moment).get_next(datetime) for moment in local]) if kind.croniter else None


PEERS = (("cronsim", by_cronsim, CronSim), ("croniter", by_croniter, croniter))


def times_ahead(work: Callable[[], object], peer: Callable[[], object]) -> float:
    """How many times longer the peer takes: the median of the pairs, each side of a pair for SECONDS or so."""
    rounds = []

    for function in (work, peer):
        begin = time.perf_counter()
        function()
        function()
        rounds.append(1 + int(2 * SECONDS / (time.perf_counter() - begin)))

    def seconds(function: Callable[[], object], times: int) -> float:
        begin = time.perf_counter()
        for _ in range(times):
            function()
        return (time.perf_counter() - begin) / times

    pairs = []

    for number in range(PAIRS):
        if number % 2:
            theirs = seconds(peer, rounds[1])
            pairs.append(theirs / seconds(work, rounds[0]))
        else:
            mine = seconds(work, rounds[0])
            pairs.append(seconds(peer, rounds[1]) / mine)

    return statistics.median(pairs)


def rows() -> list[tuple[str, str, float]]:
    """(work, peer, how many times ahead of it we are) for each class that the peer knows, and for the constructors."""
    found = []

    for peer, by, constructor in PEERS:
        known = [(kind, work) for kind in CLASSES if (work := by(kind))]

        for kind, work in known:
            mine, theirs = ours(kind), [moment.astimezone(UTC) for moment in work()]
            assert mine == theirs, f"{kind.expression}: {mine}, but {peer} says {theirs}"
            ahead = times_ahead(lambda kind=kind: ours(kind), work)
            found.append((f"{kind.name} `{kind.expression}`, {peer}", peer, ahead))

        spelled = [((kind.croniter if peer == "croniter" else kind.expression), kind.moments[0]) for kind, _ in known]
        ahead = times_ahead(lambda known=known: [Cron(kind.expression) for kind, _ in known],
                            lambda made=constructor, spelled=spelled: [made(*words) for words in spelled])  # fmt: skip
        found.append((f"constructors of all these, {peer}", peer, ahead))

    return found


def main() -> None:
    for work, _, ahead in rows():
        print(f"{work:48} {ahead:6.1f} times ahead")


if __name__ == "__main__":
    main()
