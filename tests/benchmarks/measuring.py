# SPDX-License-Identifier: LGPL-3.0-or-later
"""Starts processes, waits for all that they leave behind, and compares two kinds of work pair by pair. A leaf."""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
WARM_UP = 2
FEWEST = 7  # pairs, where the seconds are used up


class Effort(NamedTuple):
    """How much is measured: so many pairs, but no more once the seconds are used up."""

    rounds: int
    seconds: float
    full: bool


class Pairs(NamedTuple):
    """What was measured, pair by pair: seconds, CPU seconds or MiB of ours and of what it is compared with."""

    ours: list[float]
    base: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(one / other for one, other in zip(self.ours, self.base))


class Ended(NamedTuple):
    """A process of ours that ended: how long until its output did, that output, its seconds of CPU."""

    seconds: float
    output: bytes
    pid: int
    cpu: float


class Left(NamedTuple):
    """A process that one of ours left behind. cpu: seconds, with those of its children; peak: the most memory that was
    resident, MiB. (For what `timed` itself starts it would be too much: exec(2) keeps the peak of the parent.)
    """

    pid: int
    cpu: float
    peak: float


def adopt_orphans() -> None:
    """Become the parent of whatever a child of ours leaves behind, so that its end and its use of CPU are seen."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def timed(
    argv: Sequence[str], environ: Mapping[str, str], errors: Path, until: Callable[[], object] | None = None
) -> Ended:
    """Start `argv`, by its path, and take its output until the last copy of the pipe is closed, as a server does.
    until: called then, before the process is waited for."""
    reading, writing = os.pipe()
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    ]
    parts = []
    begun = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, environ, file_actions=streams)
    os.close(writing)

    while part := os.read(reading, 65536):
        parts.append(part)

    seconds = time.perf_counter() - begun
    os.close(reading)

    if until:
        until()

    _, _, usage = os.wait4(pid, 0)
    return Ended(seconds, b"".join(parts), pid, usage.ru_utime + usage.ru_stime)


def settle() -> list[Left]:
    """Wait until everything that was left behind has ended; nothing that goes on may be running."""
    left = []

    while True:
        try:
            pid, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return left

        left.append(Left(pid, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))


def paired(
    ours: Callable[[], float], base: Callable[[], float], effort: Effort, after: Callable[[], object] = lambda: None
) -> Pairs:
    """Let both take turns, each first in every other pair; `after` follows each of ours."""
    pairs = Pairs([], [])
    end = time.monotonic() + effort.seconds

    def turn(number: int) -> tuple[float, float]:
        if number % 2:
            there = base()
            here = ours()
            after()
        else:
            here = ours()
            after()
            there = base()

        return here, there

    for number in range(-WARM_UP, effort.rounds):
        if number >= FEWEST and time.monotonic() > end:
            break

        here, there = turn(number)

        if number >= 0:
            pairs.ours.append(here)
            pairs.base.append(there)

    return pairs
