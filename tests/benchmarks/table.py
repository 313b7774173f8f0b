# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every row: the work, what it is compared with, the bar that it must reach and the one that it aims at."""

from __future__ import annotations

import json
import statistics
from functools import partial
from typing import Callable, NamedTuple

from . import console, requests, servers
from .installed import CHECKOUT, Installed, run
from .measuring import Effort, Pairs

SCRIPT, BARE, PYTHON = "five-line script", "bare start", "`python3 -c pass`"
POPEN = '`Popen(["/bin/true"])` application'
COUNTS = (10, 100, 1000, 10000)
# The work of a request: kind, bar, aim.
GROWTH = {
    "refused": ("unknown", 1.35, 1.1),
    "accepted and detached": ("quick", 1.6, 1.35),
    "locked": ("long", 1.4, 1.15),
    "status URL": ("status", 2.2, 1.5),
}


class Row(NamedTuple):
    """unit: `x`, a ratio of times, the lower the better; `rate`, a ratio of requests a second, the higher the better;
    `MiB`. bar: None for what is shown for information. heavy: not part of a short run."""

    work: str
    against: str
    unit: str
    bar: float | None
    aim: float | None
    measure: Callable[[Installed, Effort], Pairs | None] | None
    heavy: bool = False


class Result(NamedTuple):
    """A row measured. value: in the row's unit; ours and base: medians as measured, or None."""

    row: Row
    value: float
    ours: float | None
    base: float | None

    @property
    def verdict(self) -> str:
        """`aim`, `bar`, `missed`; empty for information."""
        if self.row.bar is None or self.row.aim is None:
            return ""

        if self.row.unit == "rate":
            return "aim" if self.value >= self.row.aim else "bar" if self.value >= self.row.bar else "missed"

        return "aim" if self.value <= self.row.aim else "bar" if self.value <= self.row.bar else "missed"


def growing(work: str, tasks: int) -> str:
    """What the row of this work with so many tasks is called."""
    return f"{work}, {tasks:,} tasks"


ROWS = [
    *(Row(growing(work, tasks), SCRIPT, "x", bar, aim, partial(requests.request, kind=kind, tasks=tasks), tasks > 1000)
      for work, (kind, bar, aim) in GROWTH.items() for tasks in COUNTS),
    Row("CPU of a whole run of /bin/true, 10 tasks", BARE, "x", 6, 4.5, partial(requests.cpu, tasks=10)),
    Row("CPU of a whole run of /bin/true, 1,000 tasks", BARE, "x", 8, 4.5, partial(requests.cpu, tasks=1000)),
    Row("from the answer to the command's first instruction", BARE, "x", 6, 4, requests.first_instruction),
    Row("supervisor's memory, 10 tasks", "", "MiB", 16, 14, partial(requests.memory, tasks=10)),
    Row("supervisor's memory, 1,000 tasks", "", "MiB", 20, 14, partial(requests.memory, tasks=1000)),
    Row("gunicorn, 1,000 tasks: refusals a second", "no-op application", "rate", 0.6, 0.8, servers.refusals),
    Row("gunicorn, 1,000 tasks: accepted and detached", POPEN, "x", 1.5, 1.2, servers.accepted),
    Row("gunicorn, 1,000 tasks: `sync` of /bin/true", BARE, "x", 6, 4, servers.waited_for),
    Row("panel's list of 100 tasks", PYTHON, "x", 8, 4, partial(servers.panel, tasks=100)),
    Row("panel's list of 1,000 tasks", PYTHON, "x", 20, 6, partial(servers.panel, tasks=1000)),
    Row("API's list of 100 tasks", "panel's list of 100 tasks", "x", 3, 1, servers.api),
    Row("`webscheduler --version`", PYTHON, "x", 4, 2.5, console.version),
    Row("`webscheduler list` of 1,000 tasks", PYTHON, "x", 12, 8, console.listing),
    Row("tick, 1,000 tasks, none due", PYTHON, "x", 10, 5, console.tick),
    Row("last 50 of a history of 1 GiB", PYTHON, "x", 6, 4, partial(console.history, what="newest")),
    Row("memory of that", "", "MiB", 30, 30, partial(console.history_memory, what="newest")),
    Row("one old run of it by its id", PYTHON, "x", 6, 4, partial(console.history, what="old")),
    Row("memory of the same", "", "MiB", 30, 30, partial(console.history_memory, what="old")),
    Row("refused by the bundle", "installed script", "x", 1.15, 1.05, requests.bundle),
    Row("peer: a script that does Popen and leaves", SCRIPT, "x", None, None, requests.popen_and_leave),
    Row("peer: Flask hello under CGI", SCRIPT, "x", None, None, requests.flask_hello),
    Row("peer: adnanh/webhook (resident), accepted", POPEN, "x", None, None,
        partial(servers.webhook_peer, kind="accepted")),
    Row("peer: adnanh/webhook (resident), refusals a second", "no-op application", "rate", None, None,
        partial(servers.webhook_peer, kind="refused")),
]


def measure(row: Row, place: Installed, effort: Effort) -> Result | None:
    """The row measured; None where a peer is not here."""
    pairs = row.measure(place, effort)

    if pairs is None:
        return None

    ours, base = statistics.median(pairs.ours), statistics.median(pairs.base)

    if row.unit == "MiB":
        return Result(row, ours, None, None)

    return Result(row, 1 / pairs.ratio if row.unit == "rate" else pairs.ratio, ours, base)


def cron(place: Installed) -> list[Result]:
    """The rows of `bench_cron`, measured by the Python of `place`: its `rows()` returns (work, against, how many times
    ahead of it we are) for each."""
    program = "import json, tests.benchmarks.bench_cron as cron; print(json.dumps(getattr(cron, 'rows', list)()))"
    rows = json.loads(run(place.peers / "python3", "-c", program, cwd=CHECKOUT))
    return [Result(Row(f"cron: {work}", against, "rate", 1, 2, None), ahead, None, None)
            for work, against, ahead in rows]  # fmt: skip
