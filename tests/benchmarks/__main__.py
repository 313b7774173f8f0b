# SPDX-License-Identifier: LGPL-3.0-or-later
"""Measure, print the table, and say by the exit status whether a bar was missed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import page, table
from .installed import Installed
from .measuring import Effort, adopt_orphans


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="A few rounds of most rows; never fails.")
    parser.add_argument("--python", action="append", metavar="PATH", help="Measure this Python; may be given again.")
    parser.add_argument("--row", action="append", metavar="TEXT", help="Only rows that have this in their names.")
    parser.add_argument("--list", action="store_true", help="Only print the rows' names.")
    parser.add_argument("--write-docs", action="store_true", help=f"Write {page.PAGE} and its plot.")
    args = parser.parse_args()

    if args.write_docs and (args.short or args.row):
        parser.error("the page has every row, measured in full: not with --short or --row")

    if args.list:
        print(*(row.work for row in table.ROWS), "cron", sep="\n")
        return 0

    effort = Effort(3, 3.0, False) if args.short else Effort(25, 20.0, True)
    adopt_orphans()
    measured: dict[str, list[table.Result]] = {}

    for python in args.python or [sys.executable]:
        with tempfile.TemporaryDirectory(prefix="webscheduler-benchmarks-") as folder:
            place = Installed(Path(folder), python)
            print(f"Python {place.version}\n{page.HEAD}", flush=True)
            results = measured.setdefault(place.version, [])

            for row in table.ROWS:
                if (args.short and row.heavy) or (args.row and not any(text in row.work for text in args.row)):
                    continue

                result = table.measure(row, place, effort)

                if result:
                    results.append(result)
                    print(page.line(result), flush=True)

            if not args.row or "cron" in args.row:
                for result in table.cron(place):
                    results.append(result)
                    print(page.line(result), flush=True)

    if args.write_docs:
        page.write(measured)

    missed = [f"{result.row.work} (Python {version})" for version, results in measured.items()
              for result in results if result.verdict == "missed"]
    print(f"{len(missed)} of {sum(map(len, measured.values()))} rows miss their bar", *missed, sep="\n  ")
    return int(bool(missed) and not args.short)


if __name__ == "__main__":
    raise SystemExit(main())
