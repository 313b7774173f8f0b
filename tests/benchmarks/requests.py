# SPDX-License-Identifier: LGPL-3.0-or-later
"""What one CGI request costs, and the run that it starts."""

from __future__ import annotations

import os
import select
import statistics
import time
from pathlib import Path
from typing import Callable

from .installed import FLASK, FLOOR, POPEN, Home, Installed
from .measuring import Effort, Pairs, paired, settle, timed

ANSWERS = {"unknown": b'{"accepted": false}', "quick": b'"running"', "long": b'"locked"', "status": b'"healthy"'}


def floor(place: Installed, answer: bytes) -> Callable[[], float]:
    """The script of five lines that writes as many bytes as `answer` has."""
    script = place.script(f"floor{len(answer)}.cgi", FLOOR, answer=answer)

    def call() -> float:
        ended = place.request(script)
        assert len(ended.output) == len(answer)
        return ended.seconds

    return call


def request(place: Installed, effort: Effort, kind: str, tasks: int) -> Pairs:
    """A request (`unknown`: refused, `quick`: accepted and detached, `long`: locked, `status`) against the floor."""
    home = place.home(tasks)

    def ours() -> float:
        ended = place.request(home.script, home.urls[kind])
        assert ANSWERS[kind] in ended.output, ended.output
        return ended.seconds

    if kind == "long":
        started = place.request(home.script, home.urls["long"])
        assert b'"running"' in started.output, started.output

    try:
        answer = place.request(home.script, home.urls[kind]).output

        if kind == "long":
            return paired(ours, floor(place, answer), effort)

        settle()
        return paired(ours, floor(place, answer), effort, after=settle)
    finally:
        if kind == "long":
            place.cli(home.path, "cancel", "long")


def bundle(place: Installed, effort: Effort) -> Pairs:
    """A refusal by the bundle against one by the installed script, of the same home."""
    home = place.home(10)
    folder = place.place / "bundle" / "cgi-bin"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_name("bundle.py")
    place.cli(home.path, "bundle", "--output", str(file))
    words = [place.python, "-IS", str(file), "--home", str(home.path), "init", "--cgi-bin", str(folder)]
    made = timed(words, place.environ, place.errors)
    script = folder / "webscheduler.cgi"
    assert script.exists(), made.output

    def call(one: Path) -> float:
        ended = place.request(one, home.urls["unknown"])
        assert ANSWERS["unknown"] in ended.output, ended.output
        return ended.seconds

    return paired(lambda: call(script), lambda: call(home.script), effort)


# The run


def cpu(place: Installed, effort: Effort, tasks: int) -> Pairs:
    """CPU of request, supervisor and command of a whole run of /bin/true against that of a bare start."""
    home = place.home(tasks)

    def ours() -> float:
        ended = place.request(home.script, home.urls["quick"])
        assert ANSWERS["quick"] in ended.output, ended.output
        return ended.cpu + sum(left.cpu for left in settle())

    return paired(ours, lambda: place.bare("-IS").cpu, effort)


def first_instruction(place: Installed, effort: Effort) -> Pairs:
    """From the answer's last byte until the command has written its first, against a bare start."""
    home, fifo = _telling(place)
    descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # for writing too: no end of file between two runs
    begun: list[float] = []

    def wait() -> None:
        ready, _, _ = select.select([descriptor], [], [], 30)
        begun.append(time.perf_counter())
        assert ready and os.read(descriptor, 10) == b"\n"

    def ours() -> float:
        before = time.perf_counter()
        ended = place.request(home.script, home.urls["tells"], until=wait)
        assert ANSWERS["quick"] in ended.output, ended.output
        return max(0.0, begun.pop() - before - ended.seconds)

    try:
        return paired(ours, lambda: place.bare("-IS").seconds, effort, after=settle)
    finally:
        os.close(descriptor)


def _telling(place: Installed) -> tuple[Home, str]:
    """A home whose task `tells` writes a line into a named pipe."""
    home = place.home(10, "tells")
    fifo = str(place.place / "fifo")

    if not os.path.exists(fifo):
        os.mkfifo(fifo)
        place.cli(home.path, "add", "tells", "--strategy", "fork", "--", "/bin/sh", "-c", f"echo > {fifo}")
        home.urls["tells"] = place.target(home.path, "tells")

    return home, fifo


def memory(place: Installed, effort: Effort, tasks: int) -> Pairs:
    """The largest resident memory of a supervisor until it has recorded its run, MiB."""
    home = place.home(tasks)
    peaks = []

    for _ in range(max(3, effort.rounds // 5)):
        ended = place.request(home.script, home.urls["quick"])
        assert ANSWERS["quick"] in ended.output, ended.output
        peaks.append(max(left.peak for left in settle()))

    return Pairs([statistics.median(peaks)], [1.0])


# Peers, for information


def popen_and_leave(place: Installed, effort: Effort) -> Pairs:
    """The least that a script of one's own does: start /bin/true, leave it alone, answer."""
    answer = place.request(place.home(10).script, place.home(10).urls["quick"]).output
    settle()
    script = place.script("popen.cgi", POPEN, answer=answer)
    return paired(lambda: place.request(script).seconds, floor(place, answer), effort, after=settle)


def flask_hello(place: Installed, effort: Effort) -> Pairs:
    """A Flask application of one route under wsgiref's CGIHandler."""
    home = place.home(10)
    script = place.script("flask.cgi", FLASK, python=place.peers / "python3")
    answer = place.request(script, home.urls["unknown"]).output
    assert b'"accepted":' in answer, answer
    return paired(lambda: place.request(script, home.urls["unknown"]).seconds, floor(place, answer), effort)
