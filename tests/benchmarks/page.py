# SPDX-License-Identifier: LGPL-3.0-or-later
"""The table as text, the page docs/explanation/speed.md and its plot. It may import `table`."""

from __future__ import annotations

import datetime
import math
import os
import platform
import re
import tempfile
import textwrap
from pathlib import Path

from . import table
from .installed import CHECKOUT

PAGE = "docs/explanation/speed.md"
PLOT = "speed.svg"
HEAD = f"{'work':54} {'against':38} {'measured':>9} {'bar':>9} {'aim':>9}  verdict"

INTRODUCTION = """\
# What it costs

What a call, a run and a tick cost, beside the least that they could cost and beside what others cost.

This page is generated: `python -m tests.benchmarks --write-docs` measures every row, writes it and exits with 1 where a
bar is missed. A number of milliseconds belongs to one machine, so each row is a ratio to the least that the same work
could cost, or to a peer: both take turns in the same run, and the median of the pairs' ratios is what counts. *Bar* is
what must hold, *aim* what is wanted. Of requests a second, and of how often `cron` is ahead of a peer, more is better.

What needs no clock is held by `tests/test_witnesses.py` for each version of Python: the system calls, files and modules
of a refused and of an accepted trigger.

Measured on {date} with Python {pythons}, on {machine}.

## The floors

* **five-line script**: a CGI script of the same Python, started with `-IS` as ours is, that writes as many bytes with
  one `os.write` and ends. Both are executed directly, without a server, with the environment that Apache gives.
* **bare start**: `python3 -IS -c pass`. **`python3 -c pass`**: the same as people type it.
* **no-op application**: a WSGI application under the same gunicorn (one sync worker) that answers as many bytes; the
  one with `Popen` also starts /bin/true, and never looks at it again.

What is measured is the wheel in a virtual environment and the script that `init --cgi-bin` writes. Its tasks have
schedules; an accepted run is one of /bin/true, and the next pair begins when the last process of it is gone.

## The table

"""

GROWTH = """
## Growth with the number of tasks

![Times the five-line script, for 10 to 10,000 tasks](speed.svg)

Python {version}; both axes are logarithmic.
"""

PEERS = """
## The peers

They do less: none of them keeps a run from overlapping, records its outcome, or limits its time and output.

* **A script that does Popen and leaves** is what people write by hand: `subprocess.Popen` of /bin/true in a session of
  its own, then the answer.
* **Flask hello under CGI** is an application of one route under `wsgiref.handlers.CGIHandler`: what a framework costs
  per request before it does anything.
* **[adnanh/webhook](https://github.com/adnanh/webhook)** is a resident server in Go (here Debian's package): where a
  process may stay, a request costs nearly nothing. It is compared with applications that stay, too.
"""


def machine() -> str:
    """What it is measured on, without its name."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    place, kind = Path(tempfile.gettempdir()).resolve(), ""

    for line in Path("/proc/self/mounts").read_text().splitlines():  # the last one above it is the nearest
        _, above, found, *_ = line.split()
        kind = found if Path(above) in (place, *place.parents) else kind

    return (f"{os.cpu_count()} cores of {model[1] if model else platform.machine()} with {memory:.0f} GiB, Linux "
            f"{'.'.join(platform.release().split('.')[:2])}, files on {kind}")


def number(value: float | None, unit: str) -> str:
    if value is None:
        return ""

    return f"{value:.1f} MiB" if unit == "MiB" else f"{value:.2f} x"


def line(result: table.Result) -> str:
    """A row for the terminal."""
    row = result.row
    times = ""

    if result.ours is not None and result.base is not None:
        times = f"  {result.ours * 1e3:.1f} : {result.base * 1e3:.1f} ms"

    return (f"{row.work:54} {row.against:38} {number(result.value, row.unit):>9} {number(row.bar, row.unit):>9} "
            f"{number(row.aim, row.unit):>9}  {result.verdict or '-':7}{times}")  # fmt: skip


def write(measured: dict[str, list[table.Result]]) -> None:
    """Write page and plot from the results of each version of Python."""
    versions = list(measured)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    parts = [INTRODUCTION.format(date=today, machine=machine(), pythons=" and ".join(versions))]
    heads = "".join(f" {version} | |" for version in versions)
    parts.append(f"| work | against | bar | aim |{heads}\n|---|---|---|---|{'---|---|' * len(versions)}\n")
    found = {version: {result.row.work: result for result in results} for version, results in measured.items()}

    for work in dict.fromkeys(work for results in found.values() for work in results):
        row = next(results[work] for results in found.values() if work in results).row
        cells = [row.work, row.against, number(row.bar, row.unit), number(row.aim, row.unit)]

        for version in versions:
            result = found[version].get(work)
            cells += [number(result.value, row.unit), result.verdict] if result else ["not measured", ""]

        parts.append("| " + " | ".join(cells) + " |\n")

    parts += [GROWTH.format(version=versions[-1]), PEERS]
    (CHECKOUT / PAGE).write_text("".join(parts))
    (CHECKOUT / PAGE).with_name(PLOT).write_text(plot(measured[versions[-1]]))


# The plot

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 56, 190, 24, 48
COLOURS = ("#2f81c4", "#d0603f", "#3c9a58", "#9466bd")  # to be seen on white and on black
STYLE = """\
text { fill: #333 } .page { fill: #fff } .grid { stroke: #ddd }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .page { fill: #161b22 } .grid { stroke: #3a414a } }"""


def plot(results: list[table.Result]) -> str:
    """An SVG of the ratios over the number of tasks."""
    values = {result.row.work: result.value for result in results}
    lines = {work: [(tasks, values[name]) for tasks in table.COUNTS if (name := table.growing(work, tasks)) in values]
             for work in table.GROWTH}  # fmt: skip
    highest = max((value for points in lines.values() for _, value in points), default=2.0)
    top = next(limit for limit in (2, 3, 5, 10, 20, 50, 100, 1000) if limit >= highest)

    def x(tasks: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(tasks / table.COUNTS[0]) / 3

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(max(value, 1.0)) / math.log(top)

    shapes = []

    for limit in [limit for limit in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000) if limit <= top]:
        shapes.append(f'<path d="M{LEFT} {y(limit):.1f}H{WIDTH - RIGHT}" class="grid"/>'
                      f'<text x="{LEFT - 8}" y="{y(limit) + 4:.1f}" text-anchor="end">{limit:g} x</text>')

    for tasks in table.COUNTS:
        shapes.append(f'<text x="{x(tasks):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{tasks:,}</text>')

    for place, ((work, points), colour) in enumerate(zip(lines.items(), COLOURS)):
        path = "L".join(f"{x(tasks):.1f} {y(value):.1f}" for tasks, value in points)
        shapes += [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'] if points else []
        shapes += [f'<circle cx="{x(tasks):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>'
                   for tasks, value in points]  # fmt: skip
        beside = TOP + 16 + 20 * place
        shapes.append(f'<rect x="{WIDTH - RIGHT + 16}" y="{beside - 9}" width="12" height="4" fill="{colour}"/>'
                      f'<text x="{WIDTH - RIGHT + 34}" y="{beside - 3}">{work}</text>')

    return textwrap.dedent(f"""\
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
        <title>What requests cost with more and more tasks, as times what a five-line script does</title>
        <style>
        {{style}}
        </style>
        <rect width="{WIDTH}" height="{HEIGHT}" class="page"/>
        {{shapes}}
        <text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">tasks</text>
        </svg>
        """).format(style=STYLE, shapes="\n".join(shapes))
