# SPDX-License-Identifier: LGPL-3.0-or-later
"""Injects the faults, all or a sample, and prints what became of them.

A place is named by its process, call, file and number, so a plan made from one run fits the next. What was done is in
the progress file, one line a fault; the same command goes on after the last of them.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import importlib
import json
import os
import pkgutil
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webscheduler
from tests import PACKAGE
from tests.faults import calls, judging, listening, scenarios
from tests.faults.calls import Place
from tests.faults.listening import Fault, perform
from webscheduler.store import state

MOST = 3  # places that differ in their number alone, where that depends on the machine (processes, say)
TRIES = 4  # which process of several is first, and so makes a call, is not the same each time
LATE = ("filelock", "encodings.idna", "subprocess", "zoneinfo", "pwd", "getpass", "tempfile", "logging")


def load() -> None:
    """Import all that an act may import: a fork of a process that has done it makes no calls for it."""
    for found in pkgutil.walk_packages(webscheduler.__path__, "webscheduler."):
        if not found.name.endswith(("__main__", "bundle_head")):
            importlib.import_module(found.name)

    for name in LATE:
        importlib.import_module(name)


class Ground:
    """Where a scenario is done, again and again, each time from the same home."""

    def __init__(self, name: str, below: str) -> None:
        self.name, self.scenario = name, scenarios.SCENARIOS[name]
        self.template, self.base = os.path.join(below, f"{name}-template"), os.path.join(below, name)
        os.mkdir(self.base)
        home = scenarios.make(self.base, self.scenario)
        tasks = state.read_strictly(home)
        Path(self.base, "slugs").write_text(json.dumps({name: row["slug"] for name, row in tasks.items()}))
        Path(self.base, "secrets").write_text(json.dumps({name: row["secret"] for name, row in tasks.items()}))
        os.rename(self.base, self.template)
        self.home = home

    def fresh(self) -> None:
        """Make the home anew."""
        shutil.rmtree(self.base, ignore_errors=True)
        shutil.copytree(self.template, self.base)
        scenarios.ready(self.home)

    def places(self) -> tuple[list[Place], dict[str, int]]:
        """The calls of the scenario without a fault, and how many others there are, by kind. Raises SystemExit if
        something is wrong without any."""
        self.fresh()
        _, problems = self.judged(None)

        if problems:
            raise SystemExit(f"{self.name}, without a fault: {problems}")

        self.fresh()
        ended = perform(self.scenario.act(self.home), self.home, imports=self.scenario.imports)
        ours = [place for place in ended.places if place.key != ("1", "execve", "python", 1)]  # else it is the server's
        return ours, ended.passed

    def judged(self, fault: Fault | None) -> tuple[bool, list[str]]:
        """(whether the fault took place, what is wrong after it)."""
        act = self.scenario.act(self.home)
        ended = perform(act, self.home, fault, fault is not None, self.scenario.imports)
        return ended.struck or fault is None, judging.judge(self.name, self.home, fault, ended)


def plan(places: list[Place], passed: collections.Counter[str]) -> Iterator[Fault]:
    """All faults of these places; counts in `passed` what it leaves out."""
    for place in places:
        if place.number > MOST and not place.about.startswith("home"):
            passed[f"that repeat another outside the home more than {MOST} times"] += 1
            continue

        yield Fault("kill", place)
        yield Fault("killall", place)

        if place.size > 1:
            yield Fault("torn", place)

        if place.ends and place.size > 1:
            yield Fault("short", place)

        for error in calls.errors_of(place.name, place.about, place.changes):
            yield Fault("once", place, error)
            yield Fault("lasting", place, error)


def one(ground: Ground, fault: Fault) -> dict[str, Any]:
    """Inject one; the line of the progress file."""
    begun = time.monotonic()

    try:
        for _ in range(TRIES):
            ground.fresh()
            struck, problems = ground.judged(fault)

            if struck or problems:
                break
    except Exception as error:  # what is there cannot even be looked at
        import traceback
        struck, problems = True, [f"raised: {type(error).__name__}: {error} {traceback.format_exc()[-600:]}"]

    return {"scenario": ground.name, "fault": str(fault), "struck": struck, "problems": problems,
            "seconds": round(time.monotonic() - begun, 3)}


def work(number: int, of: int, faults: list[tuple[str, Fault]], below: str, progress: int, end: float) -> None:
    """Inject each fault whose place in the list is ours."""
    grounds: dict[str, Ground] = {}
    folder = os.path.join(below, str(number))
    os.mkdir(folder)

    for name, fault in faults[number::of]:
        if time.monotonic() > end:
            return

        ground = grounds.get(name) or grounds.setdefault(name, Ground(name, folder))
        os.write(progress, json.dumps(one(ground, fault)).encode() + b"\n")


def version() -> str:
    """What was tested: a hash of the package and of this one."""
    found = hashlib.sha256()

    for folder in (PACKAGE, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            found.update(file.read_bytes())

    return found.hexdigest()


def table(done: list[dict[str, Any]], planned: collections.Counter[str]) -> str:
    """What became of the faults, by scenario."""
    rows = []

    for name in scenarios.SCENARIOS:
        mine = [entry for entry in done if entry["scenario"] == name]
        counts = collections.Counter(worst(entry["problems"]) for entry in mine if entry["problems"])
        struck = sum(entry["struck"] for entry in mine)
        good = sum(entry["struck"] and not entry["problems"] for entry in mine)
        lost, doubled = counts["lost"], counts["doubled"]

        if planned[name]:
            rows.append((name, planned[name], struck, good, lost, doubled, struck - good - lost - doubled,
                         len(mine) - struck))  # fmt: skip

    rows.append(("all", *(sum(column) for column in list(zip(*rows))[1:])))
    head = ("scenario", "planned", "injected", "survived", "lost", "doubled", "other", "not reached")
    return "\n".join("  ".join(str(cell).rjust(len(title)) if column else str(cell).ljust(12)
                               for column, (cell, title) in enumerate(zip(row, head))) for row in (head, *rows))


def worst(problems: list[str]) -> str:
    """What a fault counts as: lost, else doubled, else the kind of its first problem."""
    kinds = [problem.partition(":")[0] for problem in problems]
    return next((kind for kind in ("lost", "doubled") if kind in kinds), kinds[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=list(scenarios.SCENARIOS))
    parser.add_argument("--sample", type=int, default=0, help="so many faults, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="faults that begin with this text, as --list shows them")
    parser.add_argument("--workers", type=int, default=6 * (os.cpu_count() or 1))  # they wait
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--progress", default="", help="file that is continued")
    parser.add_argument("--list", action="store_true", help="only say what would be injected")
    args = parser.parse_args()
    why = listening.usable()

    if why:
        print(f"nothing can be injected: {why}", file=sys.stderr)
        return 2

    load()
    begun = time.monotonic()
    below = tempfile.mkdtemp(prefix="webscheduler-faults-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)

    try:
        return inject(args, below, begun)
    finally:
        shutil.rmtree(below, ignore_errors=True)


def inject(args: argparse.Namespace, below: str, begun: float) -> int:
    faults: list[tuple[str, Fault]] = []
    left_out: collections.Counter[str] = collections.Counter()

    for name in args.scenario or scenarios.SCENARIOS:
        if args.only and not any(only.startswith(f"{name} ") for only in args.only):
            continue

        os.mkdir(os.path.join(below, "plan-" + name))
        places, passed = Ground(name, os.path.join(below, "plan-" + name)).places()
        left_out.update(passed)
        faults += [(name, fault) for fault in plan(places, left_out)]

    if args.only:
        faults = [(name, fault) for name, fault in faults if f"{name} {fault}".startswith(tuple(args.only))]

    planned = collections.Counter(name for name, _ in faults)

    if args.sample:
        faults = random.Random(args.seed).sample(faults, min(args.sample, len(faults)))

    if args.list:
        print("\n".join(f"{name} {fault}" for name, fault in faults))
        return 0

    progress = args.progress or os.path.join(below, "progress")
    done = read_progress(progress)
    known = {(entry["scenario"], entry["fault"]) for entry in done}
    faults = [(name, fault) for name, fault in faults if (name, str(fault)) not in known]
    random.Random(args.seed).shuffle(faults)
    descriptor = os.open(progress, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    if not done:
        os.write(descriptor, json.dumps({"version": version()}).encode() + b"\n")

    children = []
    sys.stdout.flush()

    for number in range(args.workers):
        child = os.fork()

        if child == 0:
            status = 1

            try:
                work(number, args.workers, faults, below, descriptor, begun + args.minutes * 60)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)

        children.append(child)

    statuses = [os.waitpid(child, 0)[1] for child in children]
    done = read_progress(progress)
    return report(args, done, planned, left_out, statuses, time.monotonic() - begun)


def read_progress(file: str) -> list[dict[str, Any]]:
    """What was injected already; raises SystemExit if it was another version."""
    if not os.path.exists(file):
        return []

    with open(file) as source:
        entries = [json.loads(line) for line in source]

    if entries and entries[0] != {"version": version()}:
        raise SystemExit(f"{file} is about another version of the code: remove it, or name another file")

    return entries[1:]


def report(
    args: argparse.Namespace, done: list[dict[str, Any]], planned: collections.Counter[str],
    left_out: collections.Counter[str], statuses: list[int], seconds: float,
) -> int:
    for entry in done:
        for problem in entry["problems"]:
            print(f"{entry['scenario']}: {entry['fault']}\n    {problem}")

    print(table(done, planned))
    print(f"{len(done)} of {sum(planned.values())} faults, {seconds:.0f} s; seed {args.seed}")
    print("Left out, since it is not the package's own work: "
          + ", ".join(f"{count} calls {kind}" for kind, count in sorted(left_out.items()))
          + "; calls that only look at processes, memory or clocks (wait, poll, mmap, ...), which fail for bugs alone.")
    reached = sum(entry["struck"] for entry in done)
    return 1 if any(entry["problems"] for entry in done) or any(statuses) or reached < 0.95 * len(done) else 0


if __name__ == "__main__":
    raise SystemExit(main())
