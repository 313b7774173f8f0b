"""How long `Cron.next` takes, as a ratio to croniter in the same run: `python tests/benchmarks/bench_cron.py`.

Prints a table and judges nothing: absolute times belong to the machine, ratios a little less so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from webscheduler.schedule.cron import Cron

PARIS = ZoneInfo("Europe/Paris")
CASES = (
    ("* * * * *", "2026-07-01T12:00:30+02:00"),
    ("*/15 * * * *", "2026-07-01T12:00:30+02:00"),
    ("7 3 * * *", "2026-07-01T12:00:30+02:00"),
    ("30 9 * * 1-5", "2026-07-03T12:00:30+02:00"),
    ("30 2 * * *", "2026-03-29T01:00:30+01:00"),
    ("*/15 * * * *", "2026-10-25T02:50:30+02:00"),
    ("0 0 15W * *", "2026-07-20T12:00:30+02:00"),
    ("0 0 * * 5#5", "2026-02-01T12:00:30+01:00"),
    ("0 0 29 2 *", "2026-07-01T12:00:30+02:00"),
    ("0 0 30 2 *", "2026-07-01T12:00:30+02:00"),
)


def best(function: Callable[[], object], seconds: float = 0.05) -> float:
    """Microseconds of one call, the best of several rounds."""
    function()
    rounds = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rounds) < 3:
        begin = time.perf_counter()
        for _ in range(10):
            function()
        rounds.append((time.perf_counter() - begin) / 10)
    return min(rounds) * 1e6


def theirs(expression: str, after: datetime) -> datetime | None:
    try:
        return croniter(expression, after).get_next(datetime)
    except CroniterBadDateError:
        return None


def main() -> None:
    print(f"{'expression':16} {'parse us':>9} {'next us':>9} {'both us':>9} {'croniter us':>12} {'ratio':>7}")
    for expression, text in CASES:
        local = datetime.fromisoformat(text).astimezone(PARIS)
        after = local.astimezone(timezone.utc)
        cron = Cron(expression)
        parse = best(lambda expression=expression: Cron(expression))
        search = best(lambda cron=cron, after=after: cron.next(after, PARIS))
        both = best(lambda expression=expression, after=after: Cron(expression).next(after, PARIS))
        witness = best(lambda expression=expression, local=local: theirs(expression, local))
        print(f"{expression:16} {parse:9.1f} {search:9.1f} {both:9.1f} {witness:12.1f} {witness / both:6.1f}x")


if __name__ == "__main__":
    main()
