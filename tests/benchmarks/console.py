# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the command line costs, and what it reads of a long history."""

from __future__ import annotations

import json
import time
from typing import Callable

from .installed import Installed
from .measuring import Effort, Ended, Pairs, paired, settle, timed

GIBIBYTE = 1 << 30
EVERY = 30  # seconds from one run to the next


def against_python(place: Installed, effort: Effort, call: Callable[[], Ended]) -> Pairs:
    """Seconds of a command line against `python3 -c pass`."""
    return paired(lambda: call().seconds, lambda: place.bare().seconds, effort, after=settle)


def version(place: Installed, effort: Effort) -> Pairs:
    home = place.home(10)
    return against_python(place, effort, lambda: place.call(home, "--version"))


def listing(place: Installed, effort: Effort) -> Pairs:
    home = place.home(1000)

    def call() -> Ended:
        ended = place.call(home, "list")
        assert ended.output.count(b"\n") > 1000
        return ended

    return against_python(place, effort, call)


def tick(place: Installed, effort: Effort) -> Pairs:
    """A tick that finds nothing due."""
    home = place.home(1000)

    def call() -> Ended:
        ended = place.call(home, "run-due", "--json")
        assert json.loads(ended.output)["tasks"] == [], ended.output
        return ended

    return against_python(place, effort, call)


# A long history


def _history(place: Installed, effort: Effort) -> str:
    """A history of 1 GiB (a short run: 32 MiB) of a run every half minute until now; the id of one of the first."""
    home = place.home(10, "history")
    file = home.path / "logs" / "quick.jsonl"
    stamp = home.path / "old-run"

    if stamp.exists():
        return stamp.read_text()

    place.request(home.script, home.urls["quick"])
    settle()
    line = file.read_bytes().splitlines(keepends=True)[-1]
    entry = json.loads(line)
    entry["output"] = "".join(f"line {number} of what a backup says\n" for number in range(20))
    text = json.dumps(entry).replace("%", "%%")

    for field in ("startedAt", "finishedAt", "triggeredAt"):
        text = text.replace(json.dumps(entry[field]), '"%(at)s"')

    text = text.replace(json.dumps(entry["run"]), '"%(run)s"') + "\n"
    zone = entry["finishedAt"][19:].lstrip("0123456789.")
    size = GIBIBYTE if effort.full else GIBIBYTE // 32
    count = size // len(text)
    now = int(time.time())
    assert zone in ("Z", "+00:00") or zone[0] in "+-", entry

    # Times are written with the offset that the program itself wrote; their instants must agree with the ids.
    offset = 0 if zone == "Z" else (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)

    with file.open("wb") as out:
        for number in range(count):
            at = now - (count - number) * EVERY
            run = time.strftime("%Y%m%d%H%M%S", time.gmtime(at)) + f"-{number:08x}"
            local = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at + offset))
            out.write((text % {"at": local + zone, "run": run}).encode())

            if number == count // 10:
                stamp.write_text(run)

        out.write(line)

    file.chmod(0o600)
    return stamp.read_text()


def _words(place: Installed, effort: Effort, what: str) -> tuple[str, ...]:
    run = _history(place, effort)
    return ("logs", "quick", "--limit", "50") if what == "newest" else ("logs", "quick", "--run", run)


def history(place: Installed, effort: Effort, what: str) -> Pairs:
    """The newest 50 runs, or an old one by its id, out of 1 GiB."""
    words, home = _words(place, effort, what), place.home(10, "history")

    def call() -> Ended:
        ended = place.call(home, *words)
        assert (ended.output.count(b"\n") == 51) if what == "newest" else b"of what a backup says" in ended.output
        return ended

    return against_python(place, effort, call)


def history_memory(place: Installed, effort: Effort, what: str) -> Pairs:
    """The largest resident memory of the same, MiB."""
    words, home = _words(place, effort, what), place.home(10, "history")
    program = ["/bin/sh", "-c", '"$@" &', "sh", place.program, "--home", str(home.path), *words]
    peaks = []

    for _ in range(3):
        timed(program, place.environ, place.errors)
        peaks += [left.peak for left in settle()]

    return Pairs([max(peaks)], [1.0])
